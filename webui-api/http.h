/*
 * One HTTP request as a value: what was asked, and the reply as it grows.  No socket: tests make requests by
 * hand, api.c makes them of libmicrohttpd's.
 *
 * Thread    the one that serves the request.
 * Owner     api.c; strings lie in the request's arena, NUL-terminated, and hold no control characters.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"

#define HTTP_BODY_MAX     (16 * 1024 * 1024)
#define HTTP_SEGMENTS_MAX 8
#define HTTP_PARAMS_MAX   32

enum http_method { HTTP_GET, HTTP_PUT, HTTP_POST, HTTP_DELETE };
#define HTTP_METHODS 4
const char *http_method_name(enum http_method method);
bool http_method_parse(const char *name, enum http_method *out); /* HEAD is read as GET */

struct http_field {
    struct bytes name, value;
};

/*
 * What two readers could understand in two ways is refused (RFC 9112 §3.2, §5.2, §6.3, §11.2): NULL lets the
 * request pass, else what is wrong (static).
 */
const char *http_gate(struct bytes version, const struct http_field *headers, size_t count);
/*
 * How many octets the head has that says just this in the plain form: one blank between words and after each
 * colon, CRLF at the ends of lines.  What a reader below us dropped (what follows a NUL, a folded line, a
 * bare LF) makes the head that came longer or shorter than this.
 */
size_t http_head_bytes(size_t request_line_bytes, const struct http_field *headers, size_t count);

/* The request-target: path segments and parameters, percent-decoded (RFC 3986; '+' is a blank in parameters).
 */
struct http_param {
    const char *name, *value;
};
struct http_target {
    const char *segments[HTTP_SEGMENTS_MAX];
    size_t segment_count;
    struct http_param params[HTTP_PARAMS_MAX];
    size_t param_count;
};
/* NULL: read; else what is wrong (static).  "/a/b" has two segments, "/" none. */
const char *http_target_parse(struct bytes target, struct arena *arena, struct http_target *out);

/* The body while it comes.  It may hold a password: nothing is left of it in memory afterwards. */
struct http_body {
    char *at; /* owned; a NUL follows */
    size_t len, cap;
};
bool http_body_add(struct http_body *b, struct bytes more); /* false: more than HTTP_BODY_MAX */
void http_body_fini(struct http_body *b);

struct engine;

struct request {
    struct engine *engine;
    const _Atomic(bool) *stopping; /* a handler that waits ends soon after */
    enum http_method method;
    struct http_target target;
    const char *args[2]; /* of the route's placeholders */
    struct http_body body;
    const char *user; /* of the process at the other end of the socket */
    struct arena arena;
    struct {             /* the reply */
        unsigned status; /* 0: none yet */
        const char *type;
        struct buf body;
        unsigned allow; /* BIT(method), with 405 */
        bool has_next;  /* X-Next */
        uint64_t next;
    } reply;
};
void request_fini(struct request *r);

static inline struct bytes request_body(const struct request *r)
{
    return (struct bytes){r->body.at, r->body.len};
}

/* A handler that has something to say writes r->reply.body and names its type; 200 unless it says otherwise.
 */
#define TYPE_JSON "application/json"
#define TYPE_TEXT "text/plain; charset=utf-8"
#define TYPE_CSV  "text/csv; charset=utf-8; header=present"
void reply_ok(struct request *r, const char *type);
/* Drops what the handler has written so far.  `code` is the word that programs look at (README.md). */
void reply_error(struct request *r, unsigned status, const char *code, const char *format, ...)
    PRINTF_LIKE(4, 5);
/* The same with "details", which is a JSON list. */
void reply_error_details(struct request *r, unsigned status, const char *code, struct bytes details,
                         const char *format, ...) PRINTF_LIKE(5, 6);
/* What an error of the engine or the queue means to a client; `what` is what was wanted: "the queue". */
void reply_err(struct request *r, enum err e, const char *what);
static inline bool reply_is_error(const struct request *r)
{
    return r->reply.status >= 400;
}

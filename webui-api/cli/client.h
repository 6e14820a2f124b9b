/*
 * HTTP over the daemon's Unix-domain socket (libcurl): one request after the other, and what goes wrong said
 * in a sentence on stderr.  Routes and shapes: webui-api/README.md.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/macros.h"
#include "webui-api/cli/complaint.h"

/* Exit statuses; calls return them too. */
enum { CLI_DONE = 0, CLI_REFUSED = 1, CLI_USAGE = 2, CLI_UNREACHABLE = 3 };

struct answer {
    long status; /* of HTTP; 0: there was none */
    struct buf body;
    char next[32]; /* of the header X-Next, or "" */
};
void answer_fini(struct answer *a);
#define ANSWER_LOCAL(name) __attribute__((cleanup(answer_fini))) struct answer name = {0}

struct client;
/* `socket` is borrowed. */
struct client *client_create(const char *socket);
void client_destroy(struct client *c);
DEFINE_CLEANUP(struct client *, client_destroy)
const char *client_socket(const struct client *c);
/* Errors are also printed on stdout, as the API's JSON: for programs. */
void client_errors_as_json(struct client *c);
/* What complaints with line and column are about; it is borrowed until the next call of this. */
void client_document(struct client *c, const struct document *document);
void client_quiet(struct client *c, bool quiet); /* says nothing about a daemon that cannot be reached */

/* A path with parameters, in a buffer: url_path(&url, "/api/v1/queue/messages"), url_segment, url_param. */
void url_path(struct buf *url, const char *path);
void url_segment(struct buf *url, const char *text);
void url_param(struct buf *url, const char *name, const char *value); /* NULL: nothing */
void url_param_count(struct buf *url, const char *name, uint64_t value);

/*
 * One request; `body` may be empty.  CLI_DONE: 2yz, and `out` holds it.  CLI_REFUSED and CLI_UNREACHABLE: the
 * reason is on stderr; after a refusal `out` holds the answer all the same.
 */
MUST_CHECK int client_call(struct client *c, const char *method, struct buf *url, struct bytes body,
                           struct answer *out);
/* The same for an answer in JSON; *out is the caller's (json_decref). */
MUST_CHECK int client_call_json(struct client *c, const char *method, struct buf *url, struct bytes body,
                                json_t **out);

/* ---- reading answers: a field that is missing or of another type is "", 0, false or NULL ---- */
const char *field_text(const json_t *object, const char *key);
uint64_t field_count(const json_t *object, const char *key); /* negative: 0 */
int64_t field_int(const json_t *object, const char *key);
bool field_bool(const json_t *object, const char *key);
bool field_known(const json_t *object, const char *key); /* there, and not null */

static inline void json_cleanup(json_t **j)
{
    json_decref(*j);
}
#define JSON_LOCAL(name) __attribute__((cleanup(json_cleanup))) json_t *name = NULL

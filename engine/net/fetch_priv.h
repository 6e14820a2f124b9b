/* The insides of the HTTPS client, for engine/net/fetch*.c alone.  One loop, one thread, no locks. */
#pragma once

#include <curl/curl.h>
#include <gnutls/x509.h>

#include "base/list.h"
#include "engine/net/fetch.h"

#define FETCH_HEAD_MAX      65536 /* octets of status line and header fields */
#define FETCH_ADDRESSES_MAX 16

/* ---- trust (fetch_trust.c) ---- */

struct fetch_trust {
    char *ca_file; /* owned; NULL: the system's */
    gnutls_x509_trust_list_t list;
    uint64_t loaded_ms;
};
/* The system's trust is loaded when it is first needed. */
MUST_CHECK enum err fetch_trust_init(struct fetch_trust *t, const char *ca_file, char **why);
void fetch_trust_fini(struct fetch_trust *t);
/* "" when the peer's certificate holds for `host` (a name or an address), else why not; static or in `why`.
 */
const char *fetch_trust_check(struct fetch_trust *t, gnutls_session_t session, const char *host, char *why,
                              size_t why_bytes);
bool fetch_address_is_public(const struct ip *ip);

/* ---- one request ---- */

enum fetch_state { FETCH_IN_LINE, FETCH_AT_DNS, FETCH_AT_CURL, FETCH_READY };

struct fetch {
    struct fetcher *f;
    struct list node; /* in one of the fetcher's lists, by state */
    enum fetch_state state;
    fetch_fn fn;
    void *arg;
    char *url, *host, *body_type, *want_type; /* owned */
    uint16_t port;
    bool host_is_address, post, any_certificate, public_only;
    struct buf body;
    size_t max_bytes;
    uint32_t timeout_ms;
    uint64_t deadline_ms;
    struct dns_query *query;
    struct ip addresses[FETCH_ADDRESSES_MAX]; /* the only ones that a socket is opened to */
    size_t address_count;
    CURL *curl; /* owned */
    struct curl_slist *resolve, *fields;
    char curl_why[CURL_ERROR_SIZE];
    size_t head_bytes;
    struct buf reply;
    bool judged; /* `end` and `why` say how it went, whatever libcurl makes of it */
    enum fetch_end end;
    int status;
    char why[256];
};

struct fetcher {
    uv_loop_t *loop;
    struct dns *dns;
    uint32_t at_once, under_way;
    struct fetch_trust trust;
    CURLM *multi;
    uv_timer_t timer; /* libcurl's */
    uv_idle_t idle;   /* runs while somebody is ready */
    struct list line, working, ready;
    unsigned handles;
    bool closing;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
};

void fetch_judge(struct fetch *r, enum fetch_end end, const char *format, ...)
    PRINTF_LIKE(3, 4);             /* the first stands */
void fetch_ready(struct fetch *r); /* judged: the callback comes from the loop */
void fetch_handle_closed(struct fetcher *f);

/* ---- libcurl (fetch_curl.c) ---- */

MUST_CHECK enum err fetch_curl_open(struct fetcher *f, char **why);
void fetch_curl_close(struct fetcher *f); /* no request is at libcurl any more */
void fetch_curl_start(struct fetch *r);
void fetch_curl_end(struct fetch *r);  /* also of one that never started */
bool fetch_url_parse(struct fetch *r); /* host and port of r->url; false: judged */

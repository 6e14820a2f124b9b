/*
 * HTTPS requests on a worker's loop: MTA-STS policies (RFC 8461 §3.3) and TLS reports by POST (RFC 8460
 * §5.4).
 *
 * libcurl speaks HTTP; this module decides what it may do: HTTPS only, HTTP/1.1, TLS 1.2 or newer, no
 * redirects, no proxy, no netrc, no cookies, no HTTP caching, no connection used twice, and addresses from
 * engine/dns/ alone.  The certificate is checked here, against a trust list that is loaded once: chain,
 * dates, and the exact host in subjectAltName (never the CN).
 *
 * Thread    one `struct fetcher` per loop, used on that loop only.
 * Bounds    requests on the wire, octets of a reply's head and body, and time.
 * Callbacks always come later, from the loop, never from inside fetch_…(): a cancelled request makes none.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/bytes.h"
#include "base/err.h"
#include "engine/dns/dns.h"

struct fetcher;
struct fetch; /* one request; dies with its callback */

struct fetch_config {
    const char *ca_file; /* PEM; NULL: what the system trusts */
    uint32_t at_once;    /* requests on the wire, the others wait in line; 0: 64 */
};
/* `dns` must outlive it.  ERR_INVALID: the trust file cannot be read, and *why (mem_free) says so. */
MUST_CHECK enum err fetcher_create(uv_loop_t *loop, struct dns *dns, const struct fetch_config *config,
                                   struct fetcher **out, char **why);
/* Pending callbacks are not made.  on_closed (or NULL) after the last handle; before dns_close. NULL is fine:
 * on_closed is then not called. */
void fetcher_close(struct fetcher *f, void (*on_closed)(void *arg), void *arg);

enum fetch_end {
    FETCH_OK,          /* 200 (to a POST 201 too), whole, of the type that was asked for */
    FETCH_BAD_URL,     /* not an https URL, or one with a user, or a host that is no name or address */
    FETCH_NO_ADDRESS,  /* DNS has none, or failed */
    FETCH_FORBIDDEN,   /* public_only, and no address is */
    FETCH_UNREACHABLE, /* not connected, broken off, or no HTTP */
    FETCH_TLS,         /* a handshake that failed before there was a certificate */
    FETCH_CERTIFICATE, /* one that does not hold for this host */
    FETCH_STATUS,      /* another status; a redirect is one */
    FETCH_TYPE,        /* another media type */
    FETCH_TOO_LARGE,
    FETCH_TIMEOUT,
};
const char *fetch_end_name(enum fetch_end e); /* "ok", "bad-url", "no-address", … */

/* All is copied. */
struct fetch_request {
    const char *url;       /* "https://host[:port]/path"; the host in ASCII (A-labels) or an address */
    bool post;             /* else GET */
    struct bytes body;     /* of a POST */
    const char *body_type; /* its Content-Type */
    bool any_certificate;  /* POST of a TLS report: RFC 8460 §5.4 lets the certificate be anything */
    bool public_only;      /* refuses loopback, private, link-local and other special addresses: for URLs that
                              strangers give */
    const char *want_type; /* media type of the reply, like "text/plain", with any parameters; NULL: any */
    size_t max_bytes;      /* of the reply's body; 0: 64 KiB */
    uint32_t
        timeout_ms; /* DNS, connection and reply together, from when its turn in the line has come; 0: 60 s */
};
struct fetch_result {
    enum fetch_end end;
    int status;        /* HTTP; 0: none came */
    struct bytes body; /* borrowed until the callback returns; FETCH_OK only */
    const char *why;   /* for people; "" with FETCH_OK */
};
typedef void (*fetch_fn)(void *arg, const struct fetch_result *result);
struct fetch *fetch_start(struct fetcher *f, const struct fetch_request *request, fetch_fn fn, void *arg);
void fetch_cancel(struct fetch *r); /* its callback will not be made; NULL is fine */

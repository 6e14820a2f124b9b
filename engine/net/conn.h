/*
 * One TCP connection under uv_poll: non-blocking octets in and out, in clear, then (STARTTLS) through
 * GnuTLS on the same fd.  It knows no SMTP.
 *
 * Thread    the loop's, for life.
 * Owner     whoever created it.  conn_close() ends all events at once; the memory goes after the last handle.
 * Output    is taken from the outq the owner gave (a session's); the owner calls conn_flush() after
 * appending. Events    are the conn's last act; the owner may close from within one.
 */
#pragma once

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "base/ip.h"
#include "base/outq.h"

struct conn;

struct conn_events {
    void (*on_connected)(void *arg, enum err e, const char *why); /* outbound only */
    void (*on_handshake)(void *arg, enum err e, const char *why);
    void (*on_data)(void *arg, struct bytes in); /* borrowed until return */
    /* Less than CONN_LOW_BYTES wait; the owner may append more and return: the conn goes on sending. May be
     * NULL. */
    void (*on_low)(void *arg, size_t sent);
    void (*on_lost)(void *arg, enum err e, const char *why); /* ERR_CLOSED: the peer's orderly end */
    void (*on_deadline)(void *arg);
};

#define CONN_LOW_BYTES (64 * 1024)

/* Per loop: the buffers that all its connections share. */
struct conn_pool {
    uv_loop_t *loop;
    char in[64 * 1024];     /* what recv gives */
    char raw[64 * 1024];    /* what recv gives below TLS */
    char record[16 * 1024]; /* small pieces gathered to one TLS record */
};

struct conn *conn_create(struct conn_pool *pool, const struct conn_events *events, void *arg);
/* Takes over an accepted, non-blocking fd. */
MUST_CHECK enum err conn_adopt(struct conn *c, int fd);
/* source: address to bind, or NULL.  on_connected follows, unless an error is returned. */
MUST_CHECK enum err conn_connect(struct conn *c, const struct ip *to, uint16_t port, const struct ip *source);
/* The local address that the kernel would choose for a connection to there; nothing is sent.  False: no way
 * there. */
bool conn_source_for(const struct ip *to, uint16_t port, struct ip *source);
void conn_set_output(struct conn *c, struct outq *out); /* borrowed until replaced or closed */
/*
 * Reads nothing while this much output waits, so that a peer who asks and never reads costs no memory.  For
 * servers: a client must go on reading while it writes (RFC 2920 §3.1).  0, the preset: no limit.
 */
void conn_set_output_max(struct conn *c, size_t bytes);

/* Handshakes on the session, which is theirs now (tls_session_end when closed).  Output that waits is sent in
 * clear first. */
void conn_start_tls(struct conn *c, gnutls_session_t session);
gnutls_session_t conn_tls(const struct conn *c); /* or NULL */

void conn_flush(struct conn *c); /* may call on_low, and on_lost (later, from the loop) */
/* Stops and resumes reading; octets that wait inside TLS are delivered on resume. */
void conn_pause(struct conn *c);
void conn_resume(struct conn *c);
/* on_deadline at this time of uv_now(); 0: none. Cheap to call often. */
void conn_set_deadline(struct conn *c, uint64_t at_ms);
/* Sends what waits (at most for two seconds), then closes. */
void conn_finish(struct conn *c);
/* Closes now.  No event follows. The conn frees itself. */
void conn_close(struct conn *c);

bool conn_peer(const struct conn *c, struct ip *ip, uint16_t *port);
bool conn_local(const struct conn *c, struct ip *ip, uint16_t *port);

/*
 * Delivery status notifications (RFC 3461 §6, RFC 3464, RFC 6533 for UTF-8 addresses) as octets.  Pure: what
 * is told, when and to whom is decided elsewhere; a DSN goes out from the null sender and is never answered
 * by one.
 *
 *     multipart/report; report-type=delivery-status
 *       text/plain                    what happened and what to do, in English
 *       message/delivery-status       for programs; message/global-delivery-status when an address needs
 * UTF-8 message/rfc822                the whole message: failures only, if asked for (RET=FULL), up to
 * DSN_FULL_BYTES_MAX or text/rfc822-headers      else its header; message/global, message/global-headers when
 * that is UTF-8
 *
 * What the peer said and what the sender wrote is hostile: controls never pass, lines are folded, lengths are
 * capped, the boundary occurs in no part.
 */
#pragma once

#include "base/bytes.h"
#include "policy/outcome.h"
#include "queue/message.h"

#define DSN_FULL_BYTES_MAX   (50 * 1024)
#define DSN_HEADER_BYTES_MAX (32 * 1024) /* of the original header; cut at a line end */
#define DSN_RCPTS_MAX        1000 /* told one by one; the rest only counted: the caller sends more than one */

enum dsn_action { /* RFC 3464 §2.3.3 */
                  DSN_FAILED,
                  DSN_DELAYED,
                  DSN_RELAYED, /* to a host that does not know DSN: no more will be heard */
                  DSN_DELIVERED,
                  DSN_EXPANDED,
};

struct dsn_rcpt {
    enum dsn_action action;
    const char *address;           /* as in the envelope */
    const char *orcpt;             /* xtext-decoded "rfc822;a@b", or NULL */
    const struct outcome *outcome; /* status, reason and the peer's words; EXPIRED is a failure by age */
    const char *remote_mta;        /* the host that said it, or NULL */
    int64_t last_attempt_unix;     /* 0: none */
    int64_t retry_until_unix;      /* DSN_DELAYED; 0: not told */
};

struct dsn {
    const char *reporting_mta; /* our host name */
    const char *postmaster;    /* address of From; NULL: MAILER-DAEMON@reporting_mta */
    const char *sender;        /* of the message: the reader of this */
    const char *envid;         /* or NULL */
    uint64_t id;               /* of the DSN itself: message_id_make() */
    int64_t arrival_unix, now_unix;
    enum dsn_ret ret;     /* dsn_ret_of(the message) */
    bool tls_required_no; /* the message said TLS-Required: No: this one says it too (RFC 8689 §6) */
    const struct dsn_rcpt *rcpts;
    size_t rcpt_count;
    struct bytes header; /* of the message, CRLF lines; with its empty line or without; may be empty */
    struct bytes full;   /* all of the message, header too; empty if it is not at hand */
};

/* Appends the complete message, CRLF lines, ending in CRLF.  The caller makes a body of it and measures that.
 */
void dsn_format(const struct dsn *d, struct buf *out);
/* The reader's address needs SMTPUTF8: the DSN's flags get MESSAGE_SMTPUTF8. */
bool dsn_needs_smtputf8(const struct dsn *d);
/* RFC 8689 §5: of a REQUIRETLS message never more than the header, whatever RET said. */
enum dsn_ret dsn_ret_of(const struct message *about);
/* How the DSN must travel: what its message asked of TLS (MESSAGE_REQUIRETLS, MESSAGE_TLS_REQUIRED_NO). */
uint32_t dsn_tls_flags(const struct message *about);
/* The caller need not load the body when this says no.  (message size) */
bool dsn_wants_full(enum dsn_ret ret, enum dsn_action action, uint64_t size_bytes);

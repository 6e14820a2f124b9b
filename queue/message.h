/*
 * One accepted message and its envelope, as values in memory.
 *
 * A message is immutable once accepted, except that each recipient belongs to whoever holds the job
 * that names it.  Both are counted: ref and unref from any thread.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/inbox.h"
#include "base/list.h"
#include "queue/lane.h"

/*
 * The octets that will be sent: headers added, CRLF line ends, before dot-stuffing, ending in CRLF.  In
 * memory up to spool's limit (1 MiB), else only in the segment file.
 */
enum body_flags {
    BODY_8BIT = 1,        /* an octet above 127 in the body */
    BODY_UTF8_HEADER = 2, /* an octet above 127 in the header section: needs SMTPUTF8 */
    BODY_DOTS = 4,        /* a line begins with a dot: needs stuffing */
    BODY_BINARY = 8,      /* a line longer than 998 octets: BDAT or the receiver's mercy */
};

struct body {
    atomic_uint refs;
    uint32_t flags; /* enum body_flags */
    uint64_t size_bytes;
    uint32_t header_bytes;    /* length of the header section with its empty line */
    uint32_t checksum;        /* CRC-32C of the octets */
    uint64_t segment;         /* where the spool has it, once stored; 0 before */
    uint64_t offset;          /* of the first body octet in the segment file */
    uint64_t content_segment; /* 0: all of it lies there; else what follows header_bytes lies here, */
    uint64_t content_offset;  /* where it is shared with other messages */
    char *mem;                /* owned; NULL: read it with spool_read() */
    size_t mem_bytes;         /* accounted memory, 0 without mem */
};

struct body *body_ref(struct body *b);
void body_unref(struct body *b);
/* Takes over `mem` (mem_alloc'ed, size octets).  Flags, header_bytes and checksum are the caller's to set. */
struct body *body_create(char *mem, uint64_t size_bytes);
/* Sets flags, header_bytes and checksum of a body in memory, as body_writer does on the way. */
void body_measure(struct body *b);
/* Octets of bodies held in memory by the whole process now. */
uint64_t body_memory_bytes(void);

/* RFC 3461 NOTIFY */
enum { NOTIFY_DEFAULT = 0, NOTIFY_NEVER = 1, NOTIFY_SUCCESS = 2, NOTIFY_FAILURE = 4, NOTIFY_DELAY = 8 };
enum dsn_ret { DSN_RET_DEFAULT, DSN_RET_FULL, DSN_RET_HDRS };
enum message_flags {
    MESSAGE_SMTPUTF8 = 1,         /* the envelope or header needs SMTPUTF8 (RFC 6531) */
    MESSAGE_8BITMIME = 2,         /* declared BODY=8BITMIME */
    MESSAGE_DSN = 4,              /* made by us: a DSN; its own failure makes none (RFC 5321 §4.5.5) */
    MESSAGE_REQUIRETLS = 8,       /* RFC 8689: the MAIL parameter */
    MESSAGE_TLS_REQUIRED_NO = 16, /* the header field TLS-Required: No, and no REQUIRETLS */
    MESSAGE_HIGH = 32,            /* its priority; neither: normal */
    MESSAGE_LOW = 64,
};

struct rcpt {
    uint32_t no;         /* within its message, from 0; with the message id the key of everything */
    uint16_t attempts;   /* so far */
    uint8_t notify;      /* NOTIFY_… bits */
    bool delay_notified; /* its one delay DSN was sent */
    int64_t due_unix;
    const char *address;   /* as given, U-labels and case kept */
    const char *orcpt;     /* xtext-decoded "rfc822;a@b", or NULL */
    const char *domain;    /* normalised (policy/domain.h): the destination */
    const char *last_text; /* the last attempt's reply, "450 4.2.1 text", or NULL */
};

struct message {
    atomic_uint refs;
    uint32_t flags;
    uint64_t id; /* unique for ever, ascending in time: message_id_make() */
    int64_t accepted_unix;
    int64_t expires_unix; /* not sent from then on, X-Hayauma-Expires; 0: only its group's lifetime counts */
    const char *sender;   /* "" is the null sender */
    const char *campaign; /* or NULL */
    const char *envid;    /* xtext-decoded, or NULL */
    const char *account;  /* who submitted, or NULL (trusted network, ourselves) */
    enum dsn_ret ret;
    struct body *body;   /* counted */
    uint32_t rcpt_count; /* in this copy: all of the message, or those of one page */
    uint32_t rcpt_total; /* of the message as accepted */
    uint16_t lane;       /* whose turn it takes (queue/lane.h): message_create sees to it */
    struct rcpt *rcpts;  /* sorted so that equal domains are neighbours */
};

/* Copies everything that `from` points to into one allocation, sorts by domain (stable); takes a reference to
 * from->body.  from->refs is ignored.  rcpts keep their `no`. */
struct message *message_create(const struct message *from);
static inline bool message_is_over(const struct message *m, int64_t now_unix)
{
    return m->expires_unix && now_unix >= m->expires_unix;
}
struct message *message_ref(struct message *m);
void message_unref(struct message *m);

/*
 * 63 bits: milliseconds since 2024, worker (6 bits), counter.  Ascending within a worker, unique over
 * restarts as long as the clock does not go back by more than it lasted to restart; the store refuses a
 * duplicate.
 */
uint64_t message_id_make(unsigned worker);
#define MESSAGE_ID_TEXT 16
/* 13 characters of lower-case base 32: what people see and type.  Returns out. */
char *message_id_format(uint64_t id, char out[MESSAGE_ID_TEXT]);
bool message_id_parse(struct bytes text, uint64_t *out);

/*
 * What a worker holds: the recipients of one message at one domain.  `rcpts` lies in the message; the
 * holder may change them and shrink the run.  The store has leased them to that worker
 * (queue/store.h).
 */
struct job {
    struct list node;        /* the holder's */
    struct message *message; /* counted */
    struct rcpt *rcpts;
    uint32_t rcpt_count;
    uint64_t unfit_hosts; /* the holder's: hosts that lack what it needs; in the store none are known */
};
struct job *job_create(struct message *m, struct rcpt *rcpts, uint32_t count); /* takes its own reference */
void job_destroy(struct job *j);

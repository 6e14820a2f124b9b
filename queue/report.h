/*
 * What history can tell: delivery and TLS reports, the timeline of a recipient, and the finals that
 * reconcile with what was accepted.
 *
 * Thread  any.  Each call opens its own read-only connections and closes them again; it may block on
 *         the disk for as long as `timeout_ms` allows, so never on a worker.
 * Reads   rollups (whole hours) where they suffice, else records.  Both are exact: the transaction
 *         that makes a record durable decides whether a rollup holds it, and what none holds yet is
 *         added from the records.
 * Counts  are recipients.  A message to three recipients of one domain is three.
 * Errors  ERR_TIMEOUT; ERR_FULL: more than REPORT_KEYS_MAX keys, so filter or take a shorter span;
 *         ERR_IO when DIR/history cannot be listed.  A day file that cannot be read is left out,
 *         counted in `files_skipped` and logged.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "queue/history.h"

enum report_key {
    REPORT_BY_GROUP,
    REPORT_BY_DOMAIN,
    REPORT_BY_MX,
    REPORT_BY_CAMPAIGN,
    REPORT_BY_HOUR,
    REPORT_BY_SOURCE, /* local address; "": no connection, or recorded by a version without this */
    /* How it travelled: */
    REPORT_BY_LEVEL,  /* effective */
    REPORT_BY_WANTED, /* the group's */
    REPORT_BY_WHY,
    REPORT_BY_VERSION, /* "": no TLS; so for the next two */
    REPORT_BY_CIPHER,
    REPORT_BY_KX,
    REPORT_BY_VERIFY,
    REPORT_BY_DANE,
    REPORT_BY_STS,
    REPORT_BY_FAILURE,  /* "": nothing failed */
    REPORT_BY_SESSION,  /* "resumed", "new"; "": no TLS */
    REPORT_BY_FALLBACK, /* "fallback": in clear after TLS had failed; "none" */
    REPORT_BY_EXPIRY,   /* of the receiver's certificate, seen from the end of the span: "expired", "<14d",
                         * "<30d", "<90d",   "later"; "": none was seen */
    REPORT_BY_EXPIRES,  /* its last day, "2027-01-31"; "" */
};
const char *
report_key_name(enum report_key key); /* "group", "domain", …, "level", …: the words above in small */
bool report_key_parse(struct bytes name, enum report_key *out);

enum report_sort {
    REPORT_SORT_VOLUME, /* most attempts first; by hour: oldest first, as with REPORT_SORT_KEY */
    REPORT_SORT_KEY,
    REPORT_SORT_FAILED,  /* most bounced and expired first */
    REPORT_SORT_WAITING, /* most deferrals first */
    REPORT_SORT_CLEAR,   /* most delivered in clear first (report_tls; elsewhere as VOLUME) */
    REPORT_SORT_WEAK,    /* most delivered with weak TLS first (the same) */
};

/* Which rows report_tls gives; the total counts everything. */
enum report_only { REPORT_EVERY_ROW, REPORT_ONLY_CLEAR, REPORT_ONLY_WEAK };

#define REPORT_KEYS_MAX 250000

/*
 * Times are the ends of attempts.  A span of up to two hours is read from the records and exact to the
 * second; a longer one, or one with more than two million records, is widened to whole hours: the result says
 * which span was counted.
 */
struct report_query {
    int64_t since_unix; /* 0: from the oldest record */
    int64_t until_unix; /* exclusive; 0: to the newest */
    enum report_key by;
    enum report_sort sort;
    size_t limit;          /* rows; 0: all.  The total always counts everything. */
    enum report_only only; /* report_tls */
    /* Filters, borrowed: NULL any; "" those without (no campaign; no MX known) */
    const char *group, *domain, *mx, *campaign;
    uint32_t timeout_ms; /* 0: none */
};

/* What both reports say about themselves. */
struct report_span {
    int64_t since_unix, until_unix; /* as counted; 0 as in the query */
    size_t rows_in_all;             /* before `limit` */
    size_t files_skipped;           /* day files that could not be read */
};

struct report_delivery_row {
    const char *key;   /* in the report; "" without; by hour: "2026-11-21T21:00:00Z"; total: "total" */
    int64_t hour_unix; /* by hour, else 0 */
    uint64_t attempts; /* records of any outcome, failed hosts of a walk included */
    uint64_t delivered, deferred, bounced, expired, cancelled;
    uint64_t bytes;            /* delivered: size times recipients */
    uint64_t duration_ms_mean; /* of an attempt */
};
struct report_delivery {
    struct report_span span;
    struct report_delivery_row total, *rows;
    size_t count;
    struct arena arena; /* rows and keys */
};
MUST_CHECK enum err report_delivery(const char *dir, const struct report_query *q,
                                    struct report_delivery *out);
void report_delivery_fini(struct report_delivery *r);

#define REPORT_TLS_LEVELS   (TLS_REQUIRETLS + 1)
#define REPORT_TLS_VERIFIES (TLS_VERIFY_PIN_MISMATCH + 1)

#define REPORT_TLS_DANES    (DANE_RESULT_BOGUS + 1)
#define REPORT_TLS_STSES    (STS_RESULT_CERT_BAD + 1)
#define REPORT_TLS_FAILURES (TLS_FAILURE_STS_WEBPKI_INVALID + 1)

struct report_cipher {
    const char *version, *cipher, *kx; /* "TLS1.3", "TLS_AES_256_GCM_SHA384", "ECDHE-X25519"; in the report */
    uint64_t delivered;
};
/* delivered = tls13 + tls12 + tls_older + clear_by_choice + clear_by_lack + clear_by_fallback */
struct report_tls_row {
    const char *key;
    int64_t hour_unix;
    uint64_t attempts, delivered;
    uint64_t tls13, tls12, tls_older;
    uint64_t verified;                    /* PKIX or DANE held */
    uint64_t unverified;                  /* encrypted, but not verified */
    uint64_t verify[REPORT_TLS_VERIFIES]; /* delivered with TLS, by enum tls_verify */
    uint64_t resumed;
    /* What RFC 9325 §3 and §4 want no more: delivered with any of them, and with each. */
    uint64_t weak;
    uint64_t weak_version;      /* below TLS 1.2 */
    uint64_t weak_cipher;       /* less than 128 bits, or broken */
    uint64_t weak_kx;           /* static RSA, small DH groups, anonymous */
    uint64_t weak_certificate;  /* key or signature */
    uint64_t clear_by_choice;   /* the level was off */
    uint64_t clear_by_lack;     /* STARTTLS not offered, or refused */
    uint64_t clear_not_offered; /* of these: not offered */
    uint64_t clear_by_fallback; /* TLS was tried and failed, the rule allowed clear text */
    uint64_t held_for_tls; /* deferrals because TLS was asked for and not reached: attempts, not recipients */
    uint64_t failed_for_tls; /* bounced or expired for the same reason */
    /* By the level that the group asked for: how much was delivered, and how much of it encrypted and
     * verified. */
    struct {
        uint64_t delivered, encrypted, verified, held;
    } wanted[REPORT_TLS_LEVELS];
    /* The same by the effective level. */
    struct {
        uint64_t delivered, encrypted, verified, held;
    } effective[REPORT_TLS_LEVELS];
    uint64_t dane[REPORT_TLS_DANES];       /* delivered, by enum dane_result */
    uint64_t sts[REPORT_TLS_STSES];        /* delivered, by enum sts_result */
    uint64_t failure[REPORT_TLS_FAILURES]; /* attempts, failed hosts of a walk included */
    struct report_cipher *ciphers;         /* most used first */
    size_t cipher_count;
};
struct report_tls {
    struct report_span span;
    struct report_tls_row total, *rows;
    size_t count;
    struct arena arena;
};
MUST_CHECK enum err report_tls(const char *dir, const struct report_query *q, struct report_tls *out);
void report_tls_fini(struct report_tls *r);

/* Which records; all given fields must hold. */
struct report_which {
    uint64_t message_id; /* 0: any */
    bool one_rcpt;       /* with message_id: only rcpt_no */
    uint32_t rcpt_no;
    const char *address;  /* borrowed, or NULL; compared without case in ASCII */
    const char *domain;   /* borrowed, or NULL; normalised */
    bool in_doubt;        /* only those that the peer may have taken without our knowing */
    const char *campaign; /* borrowed; NULL any, "" those without */
    int64_t since_unix;   /* ended at or after; 0: any */
    size_t newest;        /* at most that many, the newest; 0: 100 */
    uint32_t timeout_ms;  /* 0: none; what was found until then is returned, `cut_short` set */
};
struct report_attempt {
    uint64_t id;            /* ascending in the order of recording, over all files */
    struct attempt attempt; /* next is NULL; strings lie in the arena */
};
struct report_attempts {
    struct report_attempt *rows; /* oldest first */
    size_t count;
    bool cut_short; /* time ran out: older records were not looked at */
    size_t files_skipped;
    struct arena arena;
};
MUST_CHECK enum err report_attempts(const char *dir, const struct report_which *which,
                                    struct report_attempts *out);
void report_attempts_fini(struct report_attempts *r);
/* One record as one JSON object without line end, as `log follow` shows it; appended to out. */
void report_attempt_json(const struct report_attempt *a, struct buf *out);

/*
 * Finals, for reconciliation: accepted = delivered + bounced + expired + cancelled + waiting.
 * Counted by the UTC day on which the message was *accepted* (days since 1970), so that both sides speak of
 * the same recipients, whenever they ended.  Days before `oldest_day` are incomplete: their files are gone.
 */
struct report_finals_query {
    int64_t accepted_since_day; /* 0: all */
    int64_t accepted_until_day; /* exclusive; 0: no end */
    const char *campaign;       /* filter; NULL any, "" none */
    bool by_campaign;           /* rows per campaign, else the total only */
    uint32_t timeout_ms;
};
struct report_finals_row {
    const char *campaign; /* "" without; total: "total" */
    uint64_t delivered, bounced, expired, cancelled;
};
struct report_finals {
    struct report_finals_row total, *rows; /* sorted by campaign */
    size_t count;
    int64_t oldest_day; /* of the day files at hand; 0: there are none */
    size_t files_skipped;
    struct arena arena;
};
MUST_CHECK enum err report_finals(const char *dir, const struct report_finals_query *q,
                                  struct report_finals *out);
void report_finals_fini(struct report_finals *r);

/*
 * What is remembered of a destination's TLS, as a value: judged, written as JSON and read back.
 * engine/tlswatch.h says what the rules mean.  No I/O, no clock; any thread, one at a time.
 */
#pragma once

#include <jansson.h>

#include "engine/tlswatch.h"

#define TLS_STATE_HOSTS    32 /* MX hosts remembered of a domain; the oldest makes room */
#define TLS_STATE_ENTRIES  32
#define TLS_EVIDENCE_BYTES 300
#define TLS_APPROVAL_TRIAL_S                                                                                 \
    (7 * 86400)                      /* an approved host that was better for so long is held to it again */
#define TLS_OVER_KEPT_S (90 * 86400) /* entries of downgrades that are over */

enum downgrade_state { DOWNGRADE_OPEN, DOWNGRADE_APPROVED, DOWNGRADE_OVER };
const char *downgrade_state_name(enum downgrade_state s);

struct tls_state_host {
    char *mx; /* owned, as all texts here */
    enum tls_reached best;
};

struct tls_downgrade {
    char *mx, *remote /* or NULL */, *evidence /* or NULL */, *approved_by /* or NULL */;
    enum tls_reached from, to; /* to: the worst since it began */
    enum downgrade_state state;
    int64_t first_unix, last_unix;    /* sessions that were worse */
    int64_t approved_unix, over_unix; /* 0: not */
    uint64_t count;
};

struct tls_state {         /* zeroed: nothing is known */
    enum tls_reached best; /* of the domain: what a new host must reach */
    struct tls_state_host hosts[TLS_STATE_HOSTS];
    size_t host_count;
    struct tls_downgrade entries[TLS_STATE_ENTRIES];
    size_t entry_count;
};
void tls_state_fini(struct tls_state *s);

struct tls_verdict {
    enum tls_watch_says says;
    enum {
        TLS_STATE_SAME,
        TLS_STATE_WORSE,
        TLS_STATE_BETTER
    } event;                           /* WORSE: an entry was opened; BETTER: one is over */
    const struct tls_downgrade *entry; /* borrowed until the next change; NULL: none for this host */
    int open_change;                   /* of the number of open entries */
    bool seen_changed;                 /* write "tls-seen" now */
    bool entries_changed;              /* write "downgrade" now */
    bool entries_counted;              /* … soon */
};
struct tls_verdict tls_state_judge(struct tls_state *s, const struct tls_watched *what, int64_t now_unix);
enum tls_reached tls_state_expects(const struct tls_state *s, const struct tls_watched *what);
/* Return how many entries were changed (forget: entries and hosts).  mx NULL: all. */
unsigned tls_state_approve(struct tls_state *s, const char *mx, const char *author, int64_t now_unix);
unsigned tls_state_forget(struct tls_state *s, const char *mx);
size_t tls_state_open(const struct tls_state *s);

/* The values of "tls-seen" and "downgrade"; mem_free. */
char *tls_state_format_seen(const struct tls_state *s);
char *tls_state_format_entries(const struct tls_state *s);
/* Read back what was formatted; ERR_CORRUPT leaves what was there. */
MUST_CHECK enum err tls_state_parse_seen(struct tls_state *s, struct bytes value, bool *has_entries);
MUST_CHECK enum err tls_state_parse_entries(struct tls_state *s, struct bytes value, int64_t now_unix);
/* An entry as the register shows it; a new reference. */
json_t *tls_downgrade_json(const char *domain, const struct tls_downgrade *d);

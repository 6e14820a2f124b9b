/*
 * What other rules would have done with the mail that went: by the verdicts that were recorded with each
 * attempt (the shadow rules, `report shadow`), or by judging the records now (`policy whatif`).
 *
 * Thread    as queue/report.h: any but a worker; own read-only connections.
 * Counts    `delivered` and its parts are recipients, each in its one delivering attempt.  `waited` and its
 * parts are attempts that ended without mail going, for want of TLS.  Other failures are not counted: TLS
 * decided nothing there. Span      as queue/report.h: up to two hours from the records, to the second; longer
 * ones in whole hours. Errors    as queue/report.h.
 */
#pragma once

#include "policy/judge.h"
#include "queue/report.h"

enum report_shadow_by {
    SHADOW_BY_GROUP,     /* that decided */
    SHADOW_BY_NEW_GROUP, /* of the other rules */
    SHADOW_BY_DOMAIN,
    SHADOW_BY_MX,
    SHADOW_BY_CAMPAIGN,
    SHADOW_BY_REASON,    /* names of verdicts */
    SHADOW_BY_RECIPIENT, /* only those for whom anything would have been different, or is not known */
};
const char *report_shadow_by_name(enum report_shadow_by by); /* "group", "new-group", "domain", … */

/* One kind of attempt, for judging it now.  Strings are borrowed until return; mx NULL: none. */
struct report_judged {
    struct judge_facts facts;
    const char *group, *domain, *mx;
};
/* Gives the verdict and the name of the new group, which lives as long as the report is being made. */
typedef uint8_t (*report_judge_fn)(void *arg, const struct report_judged *what, const char **new_group);
/* The level of a group of the other rules; false: there is none of that name. */
typedef bool (*report_level_fn)(void *arg, const char *new_group, enum tls_level *level);

struct report_shadow_query {
    int64_t since_unix, until_unix; /* 0: no end on that side; until is exclusive */
    enum report_shadow_by by;
    bool only_changed; /* rows where something would have been held, gone in clear, or passed */
    size_t limit;      /* rows; 0: all.  The total always counts everything. */
    const char *group, *domain, *mx, *campaign; /* filters, borrowed: NULL any; "" those without */
    uint32_t timeout_ms;                        /* 0: none */
    report_judge_fn judge;                      /* NULL: the verdicts that were recorded */
    report_level_fn level;                      /* or NULL */
    void *arg;
};

struct report_reason {
    uint8_t verdict;
    uint64_t count; /* recipients or attempts, as the verdict is about the one or the other */
};
struct report_shadow_row {
    const char *key; /* first: report_row counts on it */
    uint64_t delivered;
    uint64_t same, clear, tls, held, unknown; /* of `delivered` */
    uint64_t waited;
    uint64_t pass, pass_clear, waited_unknown; /* of `waited`; the rest would have waited too */
    uint32_t old_levels, new_levels;           /* sets of BIT(enum tls_level): the groups' own */
    struct report_reason *reasons;             /* all verdicts but `same`; most first */
    size_t reason_count;
};
struct report_shadow {
    struct report_span span;
    uint64_t unjudged;                     /* delivered while there were no shadow rules; in no row */
    struct report_shadow_row total, *rows; /* most held first, then most not known */
    size_t count;
    struct arena arena;
};
MUST_CHECK enum err report_shadow(const char *dir, const struct report_shadow_query *q,
                                  struct report_shadow *out);
void report_shadow_fini(struct report_shadow *r);

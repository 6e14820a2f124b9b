/*
 * accepted = delivered + bounced + expired + cancelled + waiting, to the last recipient: the queue's tally
 * and history's finals, read one after the other until they agree.
 */
#pragma once

#include "webui-api/http.h"

struct reconciliation_row {
    const char *campaign; /* "" without; total: "total" */
    uint64_t accepted_messages, accepted, delivered, bounced, expired, cancelled, waiting;
};
struct reconciliation { /* in the request's arena */
    int64_t since_unix; /* of messages accepted from this day on */
    struct reconciliation_row total, *rows;
    size_t count;
    bool in_motion; /* mail flowed all the while: the difference is what went by between the two looks */
};
int64_t reconciliation_difference(const struct reconciliation_row *row);
/* One look, as things are: with mail in motion what ended meanwhile counts on both sides. */
MUST_CHECK enum err reconcile_once(struct request *r, const char *campaign, bool by_campaign, struct reconciliation *out);
/* campaign: NULL any, "" those without. */
MUST_CHECK enum err reconcile(struct request *r, const char *campaign, bool by_campaign,
                              struct reconciliation *out);

/*
 * Any value that may have been kept of an MTA-STS policy, of the TLS that a destination had, or of a
 * campaign: taken whole or not at all, and what was taken is kept and taken again as the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/sts/sts_priv.h"
#include "engine/tls_state.h"
#include "queue/campaigns.h"

#define NOW_UNIX INT64_C(1795420800)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool claim)
{
    if (!claim)
        abort();
}

static void try_sts(struct bytes value)
{
    struct sts_policy *policy = NULL, *again = NULL;
    struct buf text = {0};
    int64_t used = 0, used_again = 0;

    if (sts_kept_parse("a.example", value, &policy, &used))
        return;
    sts_kept_format(policy, used, &text);
    must(!sts_kept_parse("a.example", buf_bytes(&text), &again, &used_again));
    must(used == used_again && policy->fetched_unix == again->fetched_unix &&
         strcmp(policy->id, again->id) == 0);
    sts_policy_unref(again);
    sts_policy_unref(policy);
    buf_fini(&text);
}

static void try_seen(struct bytes value)
{
    struct tls_state s = {0}, again = {0};
    bool has = false, has_again = false;

    if (!tls_state_parse_seen(&s, value, &has)) {
        char *text = tls_state_format_seen(&s);
        must(s.host_count <= TLS_STATE_HOSTS && !tls_state_parse_seen(&again, bytes_of(text), &has_again));
        must(again.best == s.best && again.host_count == s.host_count);
        mem_free(text);
    }
    tls_state_fini(&again);
    tls_state_fini(&s);
}

static void try_entries(struct bytes value)
{
    struct tls_state s = {0}, again = {0};

    if (!tls_state_parse_entries(&s, value, NOW_UNIX)) {
        char *text = tls_state_format_entries(&s);
        must(s.entry_count <= TLS_STATE_ENTRIES);
        if (text) {
            must(!tls_state_parse_entries(&again, bytes_of(text), NOW_UNIX));
            must(again.entry_count == s.entry_count && tls_state_open(&again) == tls_state_open(&s));
        }
        mem_free(text);
    }
    tls_state_fini(&again);
    tls_state_fini(&s);
}

static void try_campaign(struct bytes value)
{
    struct campaign_kept k, again;
    struct buf text = {0};

    campaign_kept_parse(value, &k);
    must(strlen(k.by) <= CAMPAIGN_WORD_MAX && strlen(k.why) <= CAMPAIGN_WORD_MAX);
    campaign_kept_put(&text, &k);
    campaign_kept_parse(buf_bytes(&text), &again);
    must(again.paused_unix == k.paused_unix && again.expires_unix == k.expires_unix);
    buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes value = bytes_make(data, size);

    try_sts(value);
    try_seen(value);
    try_entries(value);
    try_campaign(value);
    return 0;
}

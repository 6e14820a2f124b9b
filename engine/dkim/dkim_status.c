/* What signing shows of itself: in status and in the metrics. */
#include "engine/dkim/dkim_priv.h"

#include "base/mem.h"
#include "engine/dkim/record.h"

void dkim_stats(const struct dkim *d, struct dkim_stats *out)
{
    struct dkim *own = (struct dkim *)(uintptr_t)d; /* the lock is all that changes */

    *out = (struct dkim_stats){
        .signed_messages = DKIM_GET(d->signed_messages),
        .unsigned_messages = DKIM_GET(d->unsigned_messages),
        .failed_messages = DKIM_GET(d->failed_messages),
        .refused_full = DKIM_GET(d->refused_full),
        .signatures = DKIM_GET(d->signatures),
        .sign_us_total = DKIM_GET(d->sign_us),
        .wait_us_total = DKIM_GET(d->wait_us),
    };
    pthread_mutex_lock(&own->lock);
    out->waiting = (uint32_t)d->waiting;
    out->waiting_max = (uint32_t)d->waiting_max;
    out->threads = d->thread_count;
    out->keys = d->ring ? (uint32_t)d->ring->count : 0;
    pthread_mutex_unlock(&own->lock);
}

json_t *dkim_key_json(const struct dkim_entry *e)
{
    enum dkim_algorithm a = dkim_key_algorithm(e->key);
    BUF_LOCAL(name);
    BUF_LOCAL(record);
    BUF_LOCAL(zone);

    dkim_record_name(e->selector, e->domain, &name);
    dkim_record_format(e->key, &record);
    dkim_record_zone(buf_str(&name), buf_bytes(&record), &zone);
    return json_pack("{s:s, s:s, s:s, s:i, s:b, s:s, s:s, s:s}", "domain", e->domain, "selector", e->selector,
                     "algorithm", dkim_algorithm_name(a), "bits", (int)dkim_key_bits(e->key), "subdomains",
                     (int)e->subdomains, "name", buf_str(&name), "record", buf_str(&record), "zone",
                     buf_str(&zone));
}

json_t *dkim_keys_json(struct dkim *d)
{
    struct dkim_keyring *ring = dkim_ring(d);
    json_t *list = json_array();

    for (size_t i = 0; ring && i < ring->count; i++)
        json_array_append_new(list, dkim_key_json(&ring->entries[i]));
    dkim_keyring_unref(ring);
    return list;
}

json_t *dkim_status_json(struct dkim *d)
{
    struct dkim_stats s;

    dkim_stats(d, &s);
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "backend",
                     dkim_backend_name(), "keys", (json_int_t)s.keys, "threads", (json_int_t)s.threads,
                     "signed", (json_int_t)s.signed_messages, "unsigned", (json_int_t)s.unsigned_messages,
                     "failed", (json_int_t)s.failed_messages, "refused_full", (json_int_t)s.refused_full,
                     "signatures", (json_int_t)s.signatures, "waiting", (json_int_t)s.waiting, "waiting_max",
                     (json_int_t)s.waiting_max, "sign_seconds", (double)s.sign_us_total / 1e6, "wait_seconds",
                     (double)s.wait_us_total / 1e6);
}

static void metric(struct buf *out, const char *name, const char *help, bool is_gauge, double value)
{
    buf_putf(out, "# HELP hayauma_dkim_%s %s\n# TYPE hayauma_dkim_%s %s\nhayauma_dkim_%s %.17g\n", name, help,
             name, is_gauge ? "gauge" : "counter", name, value);
}

void dkim_metrics(struct dkim *d, struct buf *out)
{
    struct dkim_stats s;

    dkim_stats(d, &s);
    metric(out, "keys", "private keys in force", true, s.keys);
    metric(out, "signed", "messages signed", false, (double)s.signed_messages);
    metric(out, "unsigned", "messages without a key for the domain of their From", false,
           (double)s.unsigned_messages);
    metric(out, "failed", "messages that could not be signed, and were answered with 451", false,
           (double)s.failed_messages);
    metric(out, "refused_full", "messages answered with 451 because too many waited for a signature", false,
           (double)s.refused_full);
    metric(out, "signatures", "signatures made", false, (double)s.signatures);
    metric(out, "sign_seconds", "time spent in private-key operations", false, (double)s.sign_us_total / 1e6);
    metric(out, "wait_seconds", "time that messages waited for their signatures, its making included", false,
           (double)s.wait_us_total / 1e6);
    metric(out, "waiting", "messages that wait for a signature", true, s.waiting);
    metric(out, "waiting_max", "the most that waited at one time", true, s.waiting_max);
    metric(out, "threads", "threads that sign", true, s.threads);
}

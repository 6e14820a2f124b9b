/* The addresses of a host: A and AAAA side by side, one family never held up for long by the other. */
#include "engine/dns/dns_priv.h"

#include "base/mem.h"

static bool to_ip(const struct dns_chain *c, struct bytes rdata, struct ip *out)
{
    size_t want = c->type == DNS_TYPE_A ? 4 : 16;

    if (rdata.len != want)
        return false;
    *out = (struct ip){.family = c->type == DNS_TYPE_A ? 4 : 6};
    memcpy(out->octets, rdata.at, want);
    return !ip_is_unusable(out);
}

static bool has_addresses(const struct dns_chain *c)
{
    struct ip ip;

    for (size_t i = 0; c->done && c->status == DNS_OK && i < c->answer->count; i++)
        if (to_ip(c, c->answer->records[i], &ip))
            return true;
    return false;
}

void dns_host_on_chain(struct dns_query *q)
{
    struct dns *d = q->d;
    bool all = true, any = false;

    for (size_t i = 0; i < q->chain_count; i++) {
        all = all && q->chains[i].done;
        any = any || has_addresses(&q->chains[i]);
    }
    if (all) {
        dns_query_ready(q);
    } else if (any && list_is_empty(&q->slow)) {
        q->slow_until_ms = uv_now(d->loop) + DNS_SECOND_FAMILY_MS;
        list_push_back(&d->slow, &q->slow);
        dns_slow_arm(d);
    }
}

/* ---- the result ---- */

struct family {
    struct dns_address *list;
    size_t count;
};

/* Usable addresses of one family in random order; returns how many were not. */
static size_t gather(struct dns_query *q, const struct dns_chain *c, struct family *f)
{
    if (!c->answer || c->status != DNS_OK)
        return 0;
    for (size_t i = 0; i < c->answer->count; i++) {
        struct ip ip;
        if (!to_ip(c, c->answer->records[i], &ip))
            continue;
        size_t at = dns_random_below(q->d, (uint32_t)f->count + 1); /* inside-out shuffle */
        f->list[f->count++] = f->list[at];
        f->list[at] = (struct dns_address){.ip = ip, .secure = c->secure};
    }
    return c->answer->count - f->count;
}

/* What we could not learn weighs more than what we learnt: with doubt left, nobody bounces. */
static int weight(enum dns_status s)
{
    switch (s) {
    case DNS_OK: return 6;
    case DNS_TIMEOUT: return 5;
    case DNS_SERVFAIL: return 4;
    case DNS_LOOP: return 3;
    case DNS_BAD_NAME: return 2;
    case DNS_NODATA: return 1;
    case DNS_NXDOMAIN: return 0;
    }
    return 0;
}

static enum dns_status chain_status(const struct dns_chain *c)
{
    return c->status == DNS_OK && !has_addresses(c) ? DNS_NODATA : c->status;
}

static void sum_up(const struct dns_query *q, struct dns_host *host)
{
    const struct dns_chain *best = &q->chains[0];

    for (size_t i = 1; i < q->chain_count; i++)
        if (weight(chain_status(&q->chains[i])) > weight(chain_status(best)))
            best = &q->chains[i];
    host->status = chain_status(best);
    host->canonical = best->answer && best->answer->name[0] ? best->answer->name : q->name;
    host->ttl_s = UINT32_MAX;
    for (size_t i = 0; i < q->chain_count; i++)
        if (chain_status(&q->chains[i]) == host->status)
            host->ttl_s = MIN_OF(host->ttl_s, dns_chain_ttl_s(&q->chains[i]));
}

static void interleave(const struct family *a, const struct family *b, struct dns_address *out)
{
    for (size_t i = 0; i < MAX_OF(a->count, b->count); i++) {
        if (i < a->count)
            *out++ = a->list[i];
        if (i < b->count)
            *out++ = b->list[i];
    }
}

static void tell_literal(struct dns_query *q)
{
    struct dns_address address = {.ip = q->literal};
    bool usable = !ip_is_unusable(&q->literal);
    struct dns_host host = {.status = usable ? DNS_OK : DNS_NODATA,
                            .addresses = &address,
                            .count = usable,
                            .skipped = !usable,
                            .canonical = q->name,
                            .ttl_s = q->d->config.ttl_max_s};

    q->fn.host(q->arg, &host);
}

void dns_host_deliver(struct dns_query *q)
{
    struct dns_host host = {0};
    struct family families[2] = {{0}};
    size_t total = 0;

    if (q->literal.family) {
        tell_literal(q);
        return;
    }
    for (size_t i = 0; i < q->chain_count; i++)
        total += q->chains[i].answer ? q->chains[i].answer->count : 0;
    struct dns_address few[32];
    struct dns_address *all = 2 * total > COUNT_OF(few) ? mem_alloc(2 * total * sizeof(*all)) : few;
    struct dns_address *mixed = all + total;

    for (size_t i = 0, at = 0; i < q->chain_count; i++) {
        families[i].list = all + at;
        host.skipped += gather(q, &q->chains[i], &families[i]);
        at += families[i].count;
        host.count += families[i].count;
    }
    interleave(&families[0], &families[1], mixed);
    host.addresses = mixed;
    sum_up(q, &host);
    q->fn.host(q->arg, &host);
    if (all != few)
        mem_free(all);
}

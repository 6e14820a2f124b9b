/* The hosts that take a domain's mail: RFC 5321 §5.1, RFC 7505. */
#include "engine/dns/dns_priv.h"

#include <stdlib.h>

#include "base/mem.h"

struct ranked {
    uint16_t preference;
    uint32_t lot; /* equal preferences come in the order of their lots */
    struct bytes name;
};

static int by_preference(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->preference != y->preference)
        return x->preference < y->preference ? -1 : 1;
    return x->lot < y->lot ? -1 : x->lot > y->lot;
}

static bool is_chosen(const struct dns_mx_choice *out, const char *name)
{
    for (size_t i = 0; i < out->count; i++)
        if (strcmp(out->names[i], name) == 0)
            return true;
    return false;
}

/* A host's name, or what some put in its place: the root, an address, rubbish. */
static bool take_name(struct bytes wire, char out[DNS_NAME_TEXT_BYTES])
{
    struct dns_name name;
    struct ip ip;
    size_t at = 0;

    return dns_name_read(wire, &at, &name) && at == wire.len && dns_name_format(&name, out) &&
           !ip_parse(bytes_of(out), &ip);
}

void dns_mx_choose(const struct bytes *records, size_t count, dns_random_fn random, void *arg,
                   struct dns_mx_choice *out)
{
    struct ranked few[16], *ranked = count > COUNT_OF(few) ? mem_alloc(count * sizeof(*ranked)) : few;
    size_t n = 0;

    out->count = out->skipped = 0;
    out->null_mx = count == 1 && records[0].len == 3 && records[0].at[2] == '\0';
    for (size_t i = 0; i < count && !out->null_mx; i++) {
        if (records[i].len < 3)
            continue;
        const uint8_t *p = (const uint8_t *)records[i].at;
        ranked[n++] =
            (struct ranked){(uint16_t)(p[0] << 8 | p[1]), random(arg, UINT32_MAX), bytes_skip(records[i], 2)};
    }
    qsort(ranked, n, sizeof(*ranked), by_preference);
    for (size_t i = 0; i < n && out->count < DNS_MX_MAX; i++) {
        char *name = out->names[out->count];
        if (!take_name(ranked[i].name, name)) {
            out->skipped++;
        } else if (!is_chosen(out, name)) {
            out->hosts[out->count].preference = ranked[i].preference;
            out->hosts[out->count++].name = name;
        }
    }
    if (ranked != few)
        mem_free(ranked);
}

static uint32_t random_of(void *arg, uint32_t below)
{
    return dns_random_below(arg, below);
}

static void tell_implicit(struct dns_query *q, char *name, bool secure, uint32_t ttl_s)
{
    struct dns_mx_host host = {.preference = 0, .name = name};
    struct dns_mx mx = {
        .status = DNS_OK, .implicit = true, .secure = secure, .hosts = &host, .count = 1, .ttl_s = ttl_s};

    q->fn.mx(q->arg, &mx);
}

void dns_mx_deliver(struct dns_query *q)
{
    struct dns_chain *c = &q->chains[0];

    if (q->literal.family) {
        char text[IP_TEXT_BYTES];
        tell_implicit(q, ip_format(&q->literal, text), false, q->d->config.ttl_max_s);
        return;
    }
    if (c->status == DNS_NODATA) {
        tell_implicit(q, q->name, c->secure, dns_chain_ttl_s(c));
        return;
    }
    struct dns_mx mx = {.status = c->status, .secure = c->secure, .ttl_s = dns_chain_ttl_s(c)};
    struct dns_mx_choice choice;
    if (c->status == DNS_OK) {
        dns_mx_choose(c->answer->records, c->answer->count, random_of, q->d, &choice);
        mx.null_mx = choice.null_mx;
        mx.hosts = choice.hosts;
        mx.count = choice.count;
        mx.skipped = choice.skipped;
        if (!mx.count && !mx.null_mx)
            mx.status =
                DNS_NODATA; /* RFC 5321 §5.1: MX records, none usable: never fall back to the address */
    }
    q->fn.mx(q->arg, &mx);
}

/* Follows a name through its CNAMEs: each packet brings some hops, at most DNS_HOPS_MAX in all. */
#include "engine/dns/dns_priv.h"

static void finish(struct dns_chain *c, enum dns_status status)
{
    c->status = status;
    c->done = true;
    dns_query_on_chain(c->query);
}

static void ask(struct dns_chain *c, const char *text)
{
    struct dns *d = c->query->d;
    struct dns_name name;
    struct dns_key key;

    if (c->hops == 0 && strcmp(text, ".") == 0) { /* dns_resolve_rrset() let it in */
        name = (struct dns_name){.len = 1};
    } else if (!dns_name_parse(bytes_of(text), &name)) {
        finish(c, DNS_BAD_NAME);
        return;
    }
    dns_key_make(text, c->type, &key);
    struct dns_answer *known = dns_cache_find(&d->cache, &key, uv_now(d->loop));
    if (known) {
        d->stats.cache_hits++;
        dns_chain_on_answer(c, known);
    } else {
        dns_lookup_join(d, &name, &key, c->type, &c->waiter);
    }
}

void dns_chain_start(struct dns_chain *c, struct dns_query *q, uint16_t type, const char *name)
{
    *c = (struct dns_chain){.query = q, .type = type, .secure = true, .expires_ms = UINT64_MAX};
    list_init(&c->waiter.node);
    ask(c, name);
}

void dns_chain_on_answer(struct dns_chain *c, struct dns_answer *answer)
{
    c->hops += answer->hops;
    c->secure = c->secure && answer->secure;
    c->expires_ms = MIN_OF(c->expires_ms, answer->expires_ms);
    if (c->hops > DNS_HOPS_MAX) {
        finish(c, DNS_LOOP);
    } else if (answer->unfinished) {
        /* The cache may drop the answer, and its text, while we ask. */
        CLEANUP(dns_answer_unref) struct dns_answer *held = dns_answer_ref(answer);
        ask(c, held->name);
    } else {
        c->answer = dns_answer_ref(answer);
        finish(c, answer->status);
    }
}

/*
 * A campaign brings thousands of names at once: the time in line is our doing, and is not counted against
 * them.  Only the first name of a chain is spared, so that no chain lasts for long.
 */
void dns_chain_on_turn(struct dns_chain *c)
{
    if (!c->hops)
        dns_query_restart_clock(c->query);
}

bool dns_chain_is_in_line(const struct dns_chain *c)
{
    return !c->hops && c->waiter.lookup && dns_lookup_is_in_line(c->waiter.lookup);
}

void dns_chain_end(struct dns_chain *c, enum dns_status status)
{
    if (c->done)
        return;
    dns_lookup_leave(&c->waiter, true);
    c->secure = false;
    c->expires_ms = 0;
    finish(c, status);
}

void dns_chain_fini(struct dns_chain *c)
{
    dns_lookup_leave(&c->waiter, false);
    dns_answer_unref(c->answer);
    c->answer = NULL;
}

uint32_t dns_chain_ttl_s(const struct dns_chain *c)
{
    uint64_t now = uv_now(c->query->d->loop);

    return c->expires_ms > now && c->expires_ms != UINT64_MAX ? (uint32_t)((c->expires_ms - now) / 1000) : 0;
}

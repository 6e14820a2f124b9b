/*
 * What would happen to mail for a domain, and why: its group, MTA-STS policy and hosts, asked of DNS as
 * delivery asks, and for each host what the rules make of it before any octet is sent.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"
#include "engine/deliver/explain_json.h"
#include "engine/shaping.h"
#include "engine/zones.h"

#define SHAPING_MAX 20

struct explain_call {
    struct deliver *d;
    json_t *facts;
    char *domain; /* owned */
    size_t open;  /* answers awaited, and who walks now */
    const struct group *group;
    struct policy *policy;    /* counted */
    json_t *hosts;            /* borrowed from facts */
    struct found_host *found; /* owned: hosts to be asked once MTA-STS is known */
    size_t found_count;
    struct security security;
    deliver_explain_fn fn;
    void *arg;
};

struct found_host {
    char *name; /* owned */
    unsigned preference, port;
    bool implicit_tls;
};

struct explain_host {
    struct explain_call *call;
    const struct found_host *host; /* borrowed from the call */
    json_t *json;                  /* borrowed from the call's facts */
    bool ip_secure, by_alias;
};

static void explain_done(struct explain_call *call)
{
    if (--call->open)
        return;
    call->fn(call->arg, call->facts);
    for (size_t i = 0; i < call->found_count; i++)
        mem_free(call->found[i].name);
    mem_free(call->found);
    security_fini(&call->security);
    policy_unref(call->policy);
    mem_free(call->domain);
    mem_free(call);
}

/* ---- each host ---- */

static void put_verdict(struct explain_host *h, const struct dane_records *records)
{
    struct explain_call *call = h->call;
    const struct sts_policy *sts = rule_sts(call->group, TLS_WISH_NONE, &call->security);
    struct rule_input in = {
        .group = call->group,
        .security = &call->security,
        .dane = records && records->state != DANE_ABSENT ? records : NULL,
        .implicit_tls = h->host->implicit_tls,
    };
    json_t *tls = json_object();
    struct rule rule;
    struct outcome o;
    enum tls_event event;
    unsigned step = 0;

    rule_find(&in, &rule);
    json_object_set_new(tls, "level", json_string(tls_level_name(rule.effective)));
    json_object_set_new(tls, "why", json_string(tls_why_name(rule.why)));
    json_object_set_new(tls, "clear_possible", json_boolean(tls_clear_possible(&rule.facts)));
    if (records)
        json_object_set_new(tls, "dane", dane_json(records));
    if (sts)
        json_object_set_new(tls, "named_by_mta_sts",
                            json_boolean(sts_policy_names(sts, bytes_of(h->host->name))));
    while (rule_before_connect(&in, &rule, h->host->name, records, h->ip_secure, &step, &event, &o))
        if (tls_decide(&rule.facts, event).action != TLS_DO_CONTINUE) {
            json_object_set_new(tls, "skipped", json_string(o.text));
            break;
        }
    json_object_set_new(h->json, "tls", tls);
    explain_done(call);
    mem_free(h);
}

static void explain_dane(void *arg, struct dane_records *records)
{
    put_verdict(arg, records);
}

static void explain_addresses(void *arg, const struct dns_host *found)
{
    struct explain_host *h = arg;
    json_t *list = json_array(), *without = json_array();
    char ip[IP_TEXT_BYTES];

    const struct source_pool *pool = h->call->group->pool;
    for (size_t i = 0; i < found->count; i++) {
        json_array_append_new(list, json_string(ip_format(&found->addresses[i].ip, ip)));
        if (pool && !source_pool_has(pool, found->addresses[i].ip.family))
            json_array_append_new(without, json_string(ip));
        h->ip_secure |= found->addresses[i].secure;
    }
    json_object_set_new(h->json, "status", json_string(dns_status_name(found->status)));
    json_object_set_new(h->json, "addresses", list);
    if (json_array_size(without))
        json_object_set(h->json, "without_source", without);
    json_decref(without);
    json_object_set_new(h->json, "secure", json_boolean(h->ip_secure));
    struct dane_question q = {h->host->name, found->canonical, (uint16_t)h->host->port, h->ip_secure};
    h->by_alias = !h->ip_secure && strcmp(found->canonical, h->host->name) != 0;
    if (rule_wants_dane(h->call->group, TLS_WISH_NONE, h->host->name))
        dane_lookup(h->call->d->w->dns, &q, explain_dane, h);
    else
        put_verdict(h, NULL);
}

/* What we imposed on these hosts by ourselves, whether or not mail for them is in memory. */
static void explain_shaping(struct explain_call *call)
{
    BUF_LOCAL(hosts);

    for (size_t i = 0; i < call->found_count; i++)
        buf_putf(&hosts, "%s%s:%u", i ? "," : "", call->found[i].name, call->found[i].port);
    const struct shaping_filter filter = {
        .group = call->group->name, .hosts = buf_str(&hosts), .same_set = true};
    json_object_set_new(
        call->facts, "shaping",
        shaping_json(call->d->w->shared->shaping, &filter, SHAPING_MAX, worker_now_ms(call->d->w), NULL));
}

static void explain_hosts(struct explain_call *call)
{
    explain_shaping(call);
    for (size_t i = 0; i < call->found_count; i++) {
        const struct found_host *host = &call->found[i];
        struct explain_host *h = MEM_NEW(struct explain_host);
        json_t *json = json_pack("{s:s, s:i, s:i}", "host", host->name, "preference", (int)host->preference,
                                 "port", (int)host->port);
        uint64_t failed_ms = failed_hosts_left_ms(call->d->w->shared->failed_hosts, host->name,
                                                  (uint16_t)host->port, worker_now_ms(call->d->w));
        if (failed_ms)
            json_object_set_new(json, "tried_last_seconds",
                                json_integer((json_int_t)(failed_ms + 999) / 1000));
        json_array_append_new(call->hosts, json);
        *h = (struct explain_host){.call = call, .host = host, .json = json};
        call->open++;
        dns_resolve_host(call->d->w->dns, host->name, explain_addresses, h);
    }
    explain_done(call);
}

/* ---- the destination ---- */

static void explain_sts(void *arg, const struct sts_answer *answer)
{
    struct explain_call *call = arg;

    call->security.sts_failure = answer->failure;
    if (answer->policy && answer->policy->mode != STS_MODE_NONE) {
        call->security.sts = sts_policy_ref(answer->policy);
        call->security.sts_result = STS_RESULT_FOUND;
    }
    json_object_set_new(call->facts, "mta_sts", sts_json(answer));
    explain_hosts(call);
}

static void explain_group(struct explain_call *call, const struct policy_match *m)
{
    const struct group *g = m->group;
    struct buf yaml = {0};

    call->group = g;
    json_object_set_new(call->facts, "group", json_string(g->name));
    json_object_set_new(call->facts, "match", json_string(match_how_name(m->how)));
    json_object_set_new(call->facts, "pattern", json_string(m->pattern ? m->pattern : ""));
    json_object_set_new(call->facts, "group_line", json_integer(g->line));
    if (g->file)
        json_object_set_new(call->facts, "group_file", json_string(g->file));
    if (g->base_file)
        json_object_set_new(call->facts, "group_over",
                            json_pack("{s:s, s:i}", "file", g->base_file, "line", (int)g->base_line));
    json_object_set_new(call->facts, "starttls", json_string(tls_level_name(g->starttls)));
    json_object_set_new(call->facts, "route", json_string(g->route == ROUTE_SMARTHOST ? "smarthost" : "mx"));
    if (g->quiet.on)
        json_object_set_new(call->facts, "quiet_hours",
                            zones_quiet_json(call->d->w->shared->zones, &g->quiet, clock_unix()));
    if (g->pool) {
        json_object_set_new(call->facts, "source_pool", json_string(g->pool->name));
        json_object_set_new(call->facts, "sources",
                            sources_json(call->d->w->shared->sources, call->policy, g->name));
    }
    policy_dump_group(g, &yaml);
    json_object_set_new(call->facts, "settings", json_string(buf_str(&yaml)));
    buf_fini(&yaml);
}

static void keep_hosts(struct explain_call *call, const struct dns_mx *mx)
{
    const struct group *g = call->group;
    bool smart = g->route == ROUTE_SMARTHOST;
    size_t count = smart ? g->host_count : mx->status == DNS_OK && !mx->null_mx ? mx->count : 0;

    call->found = mem_zalloc((count + 1) * sizeof(*call->found));
    call->found_count = count;
    for (size_t i = 0; i < count; i++)
        call->found[i] = smart ? (struct found_host){mem_strdup(g->hosts[i].host), (unsigned)i,
                                                     g->hosts[i].port, g->hosts[i].implicit_tls}
                               : (struct found_host){mem_strdup(mx->hosts[i].name), mx->hosts[i].preference,
                                                     g->port, false};
}

static void explain_mx(void *arg, const struct dns_mx *mx)
{
    struct explain_call *call = arg;
    struct bytes names[DNS_MX_MAX];

    json_object_set_new(call->facts, "mx_status",
                        json_string(mx->null_mx    ? "null-mx"
                                    : mx->implicit ? "implicit"
                                                   : dns_status_name(mx->status)));
    json_object_set_new(call->facts, "mx_ttl", json_integer(mx->ttl_s));
    if (!call->group) {
        for (size_t i = 0; i < mx->count; i++)
            names[i] = bytes_of(mx->hosts[i].name);
        struct policy_match m = policy_match_mx(call->policy, names, mx->count);
        explain_group(call, &m);
    }
    bool smart = call->group->route == ROUTE_SMARTHOST;
    call->security.mx_secure = smart || mx->secure;
    json_object_set_new(call->facts, "mx_secure", json_boolean(call->security.mx_secure));
    keep_hosts(call, mx);
    const char *sts_domain = smart && call->found_count ? call->found[0].name : call->domain;
    if (call->group->mta_sts == STS_TRY && call->group->starttls != TLS_OFF)
        sts_lookup(call->d->w->sts, sts_domain, explain_sts, call);
    else
        explain_hosts(call);
}

static void explain_memory(struct deliver *d, const char *domain, json_t *facts)
{
    const struct dest *dest = map_find(&d->dests, bytes_of(domain));
    uint64_t now = worker_now_ms(d->w);

    json_object_set_new(facts, "worker", json_integer(d->w->index));
    if (!dest)
        return;
    json_object_set_new(facts, "recipients_in_memory", json_integer(dest->queued));
    json_object_set_new(facts, "recipients_in_flight", json_integer(dest->flying));
    json_object_set_new(facts, "on_disk", json_boolean(dest->cold));
    if (dest->next_due_unix)
        json_object_set_new(facts, "next_due_unix", json_integer(dest->next_due_unix));
    if (dest->site) {
        json_object_set_new(facts, "connections", json_integer(dest->site->link_count));
        json_t *limited = shape_json(dest->site, now);
        if (limited)
            json_object_set_new(facts, "limited_by", limited);
    }
    if (dest->rest.until_ms > now)
        json_object_set_new(facts, "suspended", suspension_json(&dest->rest, now));
    else if (dest->site && dest->site->rest.until_ms > now)
        json_object_set_new(facts, "suspended", suspension_json(&dest->site->rest, now));
}

void deliver_explain(struct deliver *d, const char *domain, deliver_explain_fn fn, void *arg)
{
    struct explain_call *call = MEM_NEW(struct explain_call);
    struct policy_match m = policy_match_domain(d->w->policy, bytes_of(domain));

    call->d = d;
    call->domain = mem_strdup(domain);
    call->fn = fn;
    call->arg = arg;
    call->policy = policy_ref(d->w->policy);
    call->facts = json_pack("{s:s, s:I, s:[]}", "domain", domain, "policy_version",
                            (json_int_t)policy_version(d->w->policy), "hosts");
    call->hosts = json_object_get(call->facts, "hosts");
    explain_memory(d, domain, call->facts);
    if (m.group)
        explain_group(call, &m);
    call->open = 1;
    if (m.group && m.group->route == ROUTE_SMARTHOST)
        explain_mx(call, &(struct dns_mx){.status = DNS_OK});
    else
        dns_resolve_mx(d->w->dns, domain, explain_mx, call);
}

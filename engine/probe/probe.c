#include "engine/probe/probe.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/explain_json.h"
#include "engine/probe/report.h"
#include "engine/sts/sts.h"

#define HOSTS_MAX     10
#define ADDRESSES_MAX 2 /* of one host: one of each family */

struct address {
    struct ip ip;
    bool secure;
    struct probe_facts *facts; /* counted; NULL: not asked */
};

struct mail_host {
    struct domain_probe *of;
    char *name; /* owned */
    unsigned preference;
    uint16_t port;
    bool implicit_tls;
    const char *dns; /* static */
    struct address addresses[ADDRESSES_MAX];
    size_t count, at;
    struct dane_records *dane; /* counted */
    bool by_alias;             /* they hang on a signed alias: for all addresses */
    struct dns_query *query;
    struct dane_query *dane_query;
};

struct domain_probe {
    struct list node; /* w->probes */
    struct worker *w;
    char *domain; /* owned */
    enum probe_depth depth;
    struct policy *policy; /* counted */
    struct policy_match match;
    struct security security;
    struct dns_query *query;
    struct sts_query *sts_query;
    json_t *facts;
    struct mail_host hosts[HOSTS_MAX];
    size_t count, at;
    size_t under_way; /* conversations that will call back */
    bool abandoned;   /* closed: the last conversation frees it */
    probe_fn fn;
    void *arg;
};

static void free_probe(struct domain_probe *p)
{
    dns_cancel(p->query);
    sts_cancel(p->sts_query);
    for (size_t i = 0; i < p->count; i++) {
        struct mail_host *h = &p->hosts[i];
        dns_cancel(h->query);
        dane_cancel(h->dane_query);
        dane_records_unref(h->dane);
        for (size_t k = 0; k < h->count; k++)
            probe_facts_unref(h->addresses[k].facts);
        mem_free(h->name);
    }
    security_fini(&p->security);
    policy_unref(p->policy);
    json_decref(p->facts);
    list_remove(&p->node);
    mem_free(p->domain);
    mem_free(p);
}

void probes_close(struct worker *w)
{
    LIST_FOREACH_SAFE (node, &w->probes) {
        struct domain_probe *p = LIST_ENTRY(node, struct domain_probe, node);
        p->abandoned = true;
        if (!p->under_way)
            free_probe(p);
    }
    probe_hosts_close(w);
}

/* ---- the result ---- */

static struct probe_view view_of(const struct mail_host *h, const struct address *a)
{
    const struct domain_probe *p = h->of;
    bool applies = h->dane && a && (a->secure || h->by_alias) && h->dane->state != DANE_ABSENT;

    return (struct probe_view){
        .group = p->match.group,
        .security = &p->security,
        .looked_up = h->dane,
        .dane = applies ? h->dane : NULL,
        .ip_secure = a && a->secure,
        .host = h->name,
        .domain = p->domain,
        .implicit_tls = h->implicit_tls,
        .facts = a ? a->facts : NULL,
    };
}

static json_t *host_json(const struct mail_host *h)
{
    json_t *json = json_pack("{s:s, s:i, s:i, s:s, s:[]}", "host", h->name, "preference", (int)h->preference,
                             "port", (int)h->port, "status", h->dns ? h->dns : "not asked", "addresses");
    json_t *list = json_object_get(json, "addresses");
    char ip[IP_TEXT_BYTES];

    if (h->dane)
        json_object_set_new(json, "dane", dane_json(h->dane));
    if (h->of->security.sts)
        json_object_set_new(json, "named_by_mta_sts",
                            json_boolean(sts_policy_names(h->of->security.sts, bytes_of(h->name))));
    for (size_t i = 0; i < h->count; i++) {
        struct probe_view view = view_of(h, &h->addresses[i]);
        json_t *one = json_pack("{s:s, s:b}", "ip", ip_format(&h->addresses[i].ip, ip), "secure",
                                h->addresses[i].secure);
        if (h->addresses[i].facts)
            probe_put_facts(one, &view);
        probe_put_verdicts(one, &view);
        json_array_append_new(list, one);
    }
    return json;
}

/* What delivery would end with: the first host, in its order, that takes the mail; else what says most. */
static void put_live(struct domain_probe *p)
{
    struct verdict best = {.kind = VERDICT_UNREACHABLE};
    const char *host = "";
    bool found = false;

    for (size_t i = 0; i < p->count && (!found || best.kind >= VERDICT_BLOCKED); i++) {
        for (size_t k = 0; k < p->hosts[i].count; k++) {
            struct probe_view view = view_of(&p->hosts[i], &p->hosts[i].addresses[k]);
            struct verdict v;
            if (!view.facts && p->depth == PROBE_QUICK && k > p->hosts[i].at)
                continue;
            probe_judge(&view, view.group, &v);
            if (found && v.kind >= best.kind)
                continue;
            best = v;
            host = p->hosts[i].name;
            found = true;
        }
    }
    if (!p->count)
        snprintf(best.text, sizeof(best.text), "no mail host in DNS");
    else if (!found)
        snprintf(best.text, sizeof(best.text), "no address of a mail host in DNS");
    json_object_set_new(p->facts, "live", probe_verdict_json(&best));
    json_object_set_new(json_object_get(p->facts, "live"), "host", json_string(host));
}

static void done(struct domain_probe *p)
{
    json_t *hosts = json_array();

    for (size_t i = 0; i < p->count; i++)
        json_array_append_new(hosts, host_json(&p->hosts[i]));
    json_object_set_new(p->facts, "hosts", hosts);
    put_live(p);
    p->fn(p->arg, json_incref(p->facts));
    free_probe(p);
}

/* ---- host by host, address by address ---- */

static void next_host(struct domain_probe *p);

static bool takes_mail(const struct mail_host *h, const struct address *a)
{
    struct probe_view view = view_of(h, a);
    struct verdict v;

    probe_judge(&view, view.group, &v);
    return v.kind < VERDICT_BLOCKED;
}

static void ask_address(struct mail_host *h);

static void on_facts(void *arg, struct probe_facts *facts)
{
    struct mail_host *h = arg;
    struct domain_probe *p = h->of;

    p->under_way--;
    if (p->abandoned) {
        probe_facts_unref(facts);
        free_probe(p);
        return;
    }
    h->addresses[h->at].facts = facts;
    if (p->depth == PROBE_QUICK && takes_mail(h, &h->addresses[h->at])) {
        done(p);
        return;
    }
    h->at++;
    ask_address(h);
}

static void ask_address(struct mail_host *h)
{
    struct domain_probe *p = h->of;

    if (h->at >= h->count) {
        next_host(p);
        return;
    }
    const struct address *a = &h->addresses[h->at];
    bool usable = h->dane && (a->secure || h->by_alias) && h->dane->state == DANE_USABLE;
    struct probe_target target = {
        .host = h->name,
        .sni = usable ? h->dane->base : h->name,
        .policy = p->policy,
        .group = p->match.group,
        .ip = a->ip,
        .port = h->port,
        .implicit_tls = h->implicit_tls,
        .versions = p->depth == PROBE_FULL,
    };
    p->under_way++;
    probe_host(p->w, &target, on_facts, h);
}

static void on_dane(void *arg, struct dane_records *records)
{
    struct mail_host *h = arg;

    h->dane_query = NULL;
    h->dane = dane_records_ref(records);
    ask_address(h);
}

static void keep_address(struct mail_host *h, const struct dns_address *a)
{
    for (size_t i = 0; i < h->count; i++)
        if (h->addresses[i].ip.family == a->ip.family)
            return;
    if (h->count < ADDRESSES_MAX)
        h->addresses[h->count++] = (struct address){.ip = a->ip, .secure = a->secure};
}

static void on_addresses(void *arg, const struct dns_host *found)
{
    struct mail_host *h = arg;
    struct ip literal;
    bool secure = false;

    h->query = NULL;
    h->dns = dns_status_name(found->status);
    for (size_t i = 0; i < found->count; i++) {
        keep_address(h, &found->addresses[i]);
        secure |= found->addresses[i].secure;
    }
    struct dane_question q = {h->name, found->canonical, h->port, secure};
    h->by_alias = !secure && strcmp(found->canonical, h->name) != 0;
    if ((secure || h->by_alias) && !ip_parse(bytes_of(h->name), &literal))
        h->dane_query = dane_lookup(h->of->w->dns, &q, on_dane, h);
    else
        ask_address(h);
}

static void next_host(struct domain_probe *p)
{
    if (p->at >= p->count) {
        done(p);
        return;
    }
    struct mail_host *h = &p->hosts[p->at++];
    h->query = dns_resolve_host(p->w->dns, h->name, on_addresses, h);
}

/* ---- the domain ---- */

static void on_sts(void *arg, const struct sts_answer *answer)
{
    struct domain_probe *p = arg;

    p->sts_query = NULL;
    p->security.sts_asked = true;
    p->security.sts_failure = answer->failure;
    if (answer->policy && answer->policy->mode != STS_MODE_NONE) {
        p->security.sts = sts_policy_ref(answer->policy);
        p->security.sts_result = STS_RESULT_FOUND;
    }
    json_object_set_new(p->facts, "mta_sts", sts_json(answer));
    next_host(p);
}

static void add_host(struct domain_probe *p, const char *name, unsigned preference, uint16_t port,
                     bool implicit_tls)
{
    if (p->count == HOSTS_MAX)
        return;
    p->hosts[p->count++] = (struct mail_host){.of = p,
                                              .name = mem_strdup(name),
                                              .preference = preference,
                                              .port = port,
                                              .implicit_tls = implicit_tls};
}

static void put_group(struct domain_probe *p)
{
    json_object_set_new(p->facts, "group", json_string(p->match.group->name));
    json_object_set_new(p->facts, "match", json_string(match_how_name(p->match.how)));
    json_object_set_new(p->facts, "pattern", json_string(p->match.pattern ? p->match.pattern : ""));
}

static void found_hosts(struct domain_probe *p)
{
    const struct group *g = p->match.group;
    bool smart = g->route == ROUTE_SMARTHOST;

    put_group(p);
    if (g->tls_match == NAME_NEXTHOP && !smart)
        p->security.nexthop = mem_strdup(p->domain);
    for (size_t i = 0; smart && i < g->host_count; i++)
        add_host(p, g->hosts[i].host, (unsigned)i, g->hosts[i].port, g->hosts[i].implicit_tls);
    json_object_set_new(p->facts, "mx_secure", json_boolean(p->security.mx_secure));
    if (!p->count) {
        done(p);
        return;
    }
    p->sts_query = sts_lookup(p->w->sts, smart ? p->hosts[0].name : p->domain, on_sts, p);
}

static void on_mx(void *arg, const struct dns_mx *mx)
{
    struct domain_probe *p = arg;
    struct bytes names[DNS_MX_MAX];

    p->query = NULL;
    json_object_set_new(p->facts, "mx_status",
                        json_string(mx->null_mx    ? "null-mx"
                                    : mx->implicit ? "implicit"
                                                   : dns_status_name(mx->status)));
    p->security.mx_secure = mx->secure;
    for (size_t i = 0; i < mx->count; i++)
        names[i] = bytes_of(mx->hosts[i].name);
    if (!p->match.group)
        p->match = policy_match_mx(p->policy, names, mx->count);
    for (size_t i = 0; mx->status == DNS_OK && !mx->null_mx && i < mx->count; i++)
        add_host(p, mx->hosts[i].name, mx->hosts[i].preference, p->match.group->port, false);
    found_hosts(p);
}

void probe_domain(struct worker *w, const char *domain, enum probe_depth depth, probe_fn fn, void *arg)
{
    struct domain_probe *p = MEM_NEW(struct domain_probe);

    p->w = w;
    p->domain = mem_strdup(domain);
    p->depth = depth;
    p->policy = policy_ref(w->policy);
    p->match = policy_match_domain(p->policy, bytes_of(domain));
    p->fn = fn;
    p->arg = arg;
    p->facts =
        json_pack("{s:s, s:I}", "domain", domain, "policy_version", (json_int_t)policy_version(p->policy));
    list_push_back(&w->probes, &p->node);
    if (p->match.group && p->match.group->route == ROUTE_SMARTHOST) {
        p->security.mx_secure = true;
        /* Answers come later, from the loop: so does this one, through MTA-STS. */
        found_hosts(p);
        return;
    }
    p->query = dns_resolve_mx(w->dns, domain, on_mx, p);
}

/* Each server is asked by a resolver of its own, so that the others do not answer for it. */
#include "engine/dane/probe.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/dns/name.h"
#include "engine/dns/packet.h"

#define TRY_MS   1500
#define TOTAL_MS 5000

enum { TYPE_NS = 2, TYPE_SOA = 6, TYPE_DS = 43, TYPE_DNSKEY = 48 };

struct probe {
    struct dnssec_probing *probing;
    struct dnssec_server *server; /* in the report */
    struct dns *dns;              /* closes itself once it has been told to */
    uint64_t began_ms;
};
struct dnssec_probing {
    struct dnssec_report report;
    struct probe probes[DNSSEC_PROBE_SERVERS];
    size_t waiting;               /* for answers */
    size_t open;                  /* resolvers that are not closed */
    struct dns_query *no_servers; /* when there is nobody to ask */
    bool cancelled;
    dnssec_fn fn;
    void *arg;
};

const char *dnssec_probe_name(enum dnssec_probe p)
{
    switch (p) {
    case DNSSEC_UNKNOWN: return "unknown";
    case DNSSEC_WORKS: return "working";
    case DNSSEC_NOT_VALIDATING: return "not-validating";
    case DNSSEC_NOT_TRUSTED: return "not-trusted";
    case DNSSEC_UNREACHABLE: return "unreachable";
    }
    return "unknown";
}

/* ---- the question ---- */

static uint16_t type_of(struct bytes word)
{
    static const struct {
        const char *name;
        uint16_t type;
    } types[] = {{"A", DNS_TYPE_A},      {"AAAA", DNS_TYPE_AAAA}, {"MX", DNS_TYPE_MX},
                 {"NS", TYPE_NS},        {"SOA", TYPE_SOA},       {"TXT", DNS_TYPE_TXT},
                 {"DS", TYPE_DS},        {"TLSA", DNS_TYPE_TLSA}, {"CNAME", DNS_TYPE_CNAME},
                 {"DNSKEY", TYPE_DNSKEY}};

    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (bytes_ieq(word, bytes_of(types[i].name)))
            return types[i].type;
    return 0;
}

bool dnssec_question_parse(const char *text, struct dnssec_question *out)
{
    struct bytes all = bytes_trim(bytes_of(text));
    struct bytes name = bytes_first(all, bytes_find(all, ' '));
    struct bytes type = bytes_trim(bytes_skip(all, name.len));
    bool is_root = bytes_eq(name, BYTES("."));
    struct dnssec_question q = {.type = type.len ? type_of(type) : is_root ? TYPE_DNSKEY : TYPE_SOA};
    struct dns_name unused;

    if (!q.type || name.len >= sizeof(q.name) || (!is_root && !dns_name_parse(name, &unused)))
        return false;
    memcpy(q.name, name.at, name.len);
    *out = q;
    return true;
}

/* ---- the answer ---- */

void dnssec_report_sum_up(struct dnssec_report *r)
{
    r->result = r->count ? DNSSEC_UNREACHABLE : DNSSEC_UNKNOWN;
    r->mixed = false;
    for (size_t i = 0; i < r->count; i++) {
        if (r->servers[i].result == DNSSEC_UNREACHABLE)
            continue;
        if (r->result == DNSSEC_UNREACHABLE)
            r->result = r->servers[i].result;
        else if (r->result == DNSSEC_WORKS && r->servers[i].result != DNSSEC_WORKS)
            r->mixed = true;
    }
}

static enum dnssec_probe judge(const struct dns_rrset *set, bool trusted)
{
    if (set->status != DNS_OK && set->status != DNS_NODATA && set->status != DNS_NXDOMAIN)
        return DNSSEC_UNREACHABLE;
    if (!set->secure)
        return DNSSEC_NOT_VALIDATING;
    return trusted ? DNSSEC_WORKS : DNSSEC_NOT_TRUSTED;
}

static void free_when_closed(struct dnssec_probing *p)
{
    if (!p->open && !p->waiting)
        mem_free(p);
}

static void on_dns_closed(void *arg)
{
    struct dnssec_probing *p = arg;

    p->open--;
    free_when_closed(p);
}

/* Tells, when this was the last; `p` may be gone afterwards. */
static void one_less(struct dnssec_probing *p)
{
    if (--p->waiting)
        return;
    p->report.at_unix = clock_unix();
    dnssec_report_sum_up(&p->report);
    if (!p->cancelled)
        p->fn(p->arg, &p->report);
    free_when_closed(p);
}

static void on_answer(void *arg, const struct dns_rrset *set)
{
    struct probe *one = arg;

    one->server->result = judge(set, one->server->trusted);
    one->server->took_ms = (uint32_t)(clock_now_ms() - one->began_ms);
    dns_close(TAKE(one->dns), on_dns_closed, one->probing);
    one_less(one->probing);
}

static void on_no_servers(void *arg)
{
    one_less(arg);
}

static void ask(uv_loop_t *loop, struct dnssec_probing *p, struct probe *one)
{
    struct dns_config config = {
        .timeout_ms = TRY_MS, .total_ms = TOTAL_MS, .cache_entries = 10, .server_count = 1};
    char *why = NULL;

    config.servers[0].ip = one->server->ip;
    config.servers[0].port = one->server->port;
    config.servers[0].trusted_ad = true; /* to see the bit; whether it counts is another matter */
    one->probing = p;
    one->began_ms = clock_now_ms();
    if (dns_create(loop, &config, &one->dns, &why) != OK) {
        one->server->result = DNSSEC_UNREACHABLE;
        mem_free(why);
        return;
    }
    p->open++;
    p->waiting++;
    (void)dns_resolve_rrset(one->dns, p->report.question.name, p->report.question.type, on_answer, one);
}

struct dnssec_probing *dnssec_probe_start(uv_loop_t *loop, struct dns *d,
                                          const struct dnssec_question *question, dnssec_fn fn, void *arg)
{
    struct dnssec_probing *p = MEM_NEW(struct dnssec_probing);
    struct dns_server_view views[DNSSEC_PROBE_SERVERS];

    p->fn = fn;
    p->arg = arg;
    p->report.question = *question;
    p->report.count = dns_server_list(d, views);
    for (size_t i = 0; i < p->report.count; i++) {
        p->report.servers[i] =
            (struct dnssec_server){.ip = views[i].ip, .port = views[i].port, .trusted = views[i].trusted_ad};
        p->probes[i].server = &p->report.servers[i];
        ask(loop, p, &p->probes[i]);
    }
    if (p->waiting)
        return p;
    p->waiting = 1;
    p->no_servers = dns_later(d, on_no_servers, p);
    if (p->no_servers)
        return p;
    mem_free(p); /* the resolver is closing */
    return NULL;
}

void dnssec_probe_cancel(struct dnssec_probing *p)
{
    if (!p)
        return;
    if (p->no_servers) {
        dns_cancel(p->no_servers);
        mem_free(p);
        return;
    }
    p->cancelled = true;
    for (size_t i = 0; i < p->report.count; i++) {
        if (!p->probes[i].dns)
            continue;
        p->waiting--; /* its query goes with it */
        dns_close(TAKE(p->probes[i].dns), on_dns_closed, p);
    }
}

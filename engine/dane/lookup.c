/*
 * From a host's name to its TLSA records, RFC 7672 §2.2.2 and §2.2.3.
 *
 *   addresses signed?  --yes-->  TLSA of the alias chain's end  --none there-->  TLSA of the name itself
 *           \--no--> is it an alias?  --no--> ABSENT                                   ^
 *                                     --yes-> CNAME of the name  --signed--------------/
 *                                                                --not signed--> ABSENT
 *
 * A lookup that fails ends it with FAILED: whoever can make a lookup fail could otherwise switch DANE off.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "engine/dane/dane_priv.h"
#include "engine/dns/name.h"
#include "engine/dns/packet.h"

#define FAILED_TTL_S 15

struct dane_query {
    struct dns *d;
    struct dns_query *asking;
    dane_fn fn;
    void *arg;
    uint16_t port;
    bool name_itself; /* its TLSA records come next, should the present question bring none */
    char host[DNS_NAME_TEXT_BYTES];
    char base[DNS_NAME_TEXT_BYTES]; /* whose TLSA records are asked for */
    char why[160];                  /* of ABSENT, when no question was asked */
};

/* `records` is given. */
static void end(struct dane_query *q, struct dane_records *records)
{
    log_debug(NULL, "dane.lookup", LOG_STR("host", q->host), LOG_INT("port", q->port),
              LOG_STR("state", dane_state_name(records->state)), LOG_STR("base", records->base),
              LOG_INT("usable", records->count), LOG_STR("why", records->why ? records->why : ""));
    q->fn(q->arg, records);
    dane_records_unref(records);
    mem_free(q);
}

static void on_no_question(void *arg)
{
    struct dane_query *q = arg;

    end(q, dane_records_without(DANE_ABSENT, 0, q->why));
}

static void end_absent(struct dane_query *q, uint32_t ttl_s, const char *what)
{
    char why[2 * DNS_NAME_TEXT_BYTES];

    snprintf(why, sizeof(why), what, q->base);
    end(q, dane_records_without(DANE_ABSENT, ttl_s, why));
}

static void end_failed(struct dane_query *q, const char *what, const char *name, enum dns_status status)
{
    char why[2 * DNS_NAME_TEXT_BYTES];

    snprintf(why, sizeof(why), "%s lookup for %s failed: %s", what, name, dns_status_name(status));
    end(q, dane_records_without(DANE_FAILED, FAILED_TTL_S, why));
}

static void on_tlsa(void *arg, const struct dns_rrset *set);

/* false: nobody can have records there. */
static bool ask_tlsa(struct dane_query *q, const char *base)
{
    char name[DNS_NAME_TEXT_BYTES + 16];
    struct dns_name unused;

    snprintf(q->base, sizeof(q->base), "%s", base);
    snprintf(name, sizeof(name), "_%u._tcp.%s", q->port, base);
    if (!dns_name_parse(bytes_of(name), &unused))
        return false;
    q->asking = dns_resolve_rrset(q->d, name, DNS_TYPE_TLSA, on_tlsa, q);
    return true;
}

static void on_tlsa(void *arg, const struct dns_rrset *set)
{
    struct dane_query *q = arg;

    q->asking = NULL;
    if (set->status == DNS_OK && set->secure) {
        end(q, dane_records_make(q->base, set->rdata, set->count, set->ttl_s));
    } else if (set->status != DNS_OK && set->status != DNS_NXDOMAIN && set->status != DNS_NODATA) {
        end_failed(q, "TLSA", q->base, set->status);
    } else if (q->name_itself) {
        q->name_itself = false;
        if (!ask_tlsa(q, q->host))
            end_absent(q, set->ttl_s, "%s is too long a name for TLSA records");
    } else {
        end_absent(q, set->ttl_s,
                   set->status == DNS_OK ? "the TLSA records of %s are not signed"
                                         : "%s has no TLSA records");
    }
}

static void on_cname(void *arg, const struct dns_rrset *set)
{
    struct dane_query *q = arg;

    q->asking = NULL;
    if (set->status != DNS_OK && set->status != DNS_NXDOMAIN && set->status != DNS_NODATA)
        end_failed(q, "CNAME", q->host, set->status);
    else if (set->status != DNS_OK || !set->secure)
        end_absent(q, set->ttl_s, "neither the addresses of %s nor its alias record are signed");
    else if (!ask_tlsa(q, q->host))
        end_absent(q, set->ttl_s, "%s is too long a name for TLSA records");
}

static void no_question(struct dane_query *q, const char *why)
{
    snprintf(q->why, sizeof(q->why), "%s", why);
    q->asking = dns_later(q->d, on_no_question, q);
}

/* Asks the first question; NULL: go on.  Otherwise why there is none. */
static const char *reason_not_to_ask(struct dane_query *q, const struct dane_question *question)
{
    bool is_alias = question->canonical && strcmp(question->canonical, q->host) != 0;
    struct dns_name name;
    struct ip ip;

    switch ((enum dnssec_probe)dns_dnssec(q->d)) {
    case DNSSEC_NOT_VALIDATING: return "the resolver does not validate";
    case DNSSEC_NOT_TRUSTED: return "the resolver is not trusted to validate";
    default: break;
    }
    if (q->host[0] == '[' || ip_parse(bytes_of(q->host), &ip) || !dns_name_parse(bytes_of(q->host), &name))
        return "the host is not given by name";
    if (!question->secure && !is_alias)
        return "the addresses of the host are not signed";
    if (!question->secure) {
        snprintf(q->base, sizeof(q->base), "%s", q->host);
        q->asking = dns_resolve_rrset(q->d, q->host, DNS_TYPE_CNAME, on_cname, q);
        return NULL;
    }
    q->name_itself = is_alias; /* its records are signed as all of the chain is */
    if (ask_tlsa(q, is_alias ? question->canonical : q->host))
        return NULL;
    q->name_itself = false;
    return is_alias && ask_tlsa(q, q->host) ? NULL : "the host's name is too long for TLSA records";
}

static void set_host(struct dane_query *q, const char *host)
{
    size_t len = strlen(host);

    if (len && host[len - 1] == '.')
        len--;
    len = MIN_OF(len, sizeof(q->host) - 1);
    for (size_t i = 0; i < len; i++)
        q->host[i] = ascii_lower(host[i]);
    q->host[len] = '\0';
}

struct dane_query *dane_lookup(struct dns *d, const struct dane_question *question, dane_fn fn, void *arg)
{
    struct dane_query *q = MEM_NEW(struct dane_query);

    q->d = d;
    q->fn = fn;
    q->arg = arg;
    q->port = question->port;
    set_host(q, question->host);
    const char *why = reason_not_to_ask(q, question);
    if (why)
        no_question(q, why);
    if (q->asking)
        return q;
    mem_free(q); /* the resolver is closing */
    return NULL;
}

void dane_cancel(struct dane_query *q)
{
    if (!q)
        return;
    dns_cancel(q->asking);
    mem_free(q);
}

/*
 * The walk of a link: from host to host, from address to address, until one gives a session or all are used
 * up (link.c has the picture).
 */
#include <string.h>

#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"
#include "engine/shaping.h"

#define DESCRIPTORS_SAY_MS 60000
#define STS_CHANGES_MS     600000 /* a policy that changes with every look stops nothing for ever */

static void next_address(struct link *link);
static void walk_failed(struct link *link);

static bool equal_preference_run(const struct site *s, size_t from, size_t *to)
{
    *to = from;
    while (*to < s->host_count && s->hosts[*to].preference == s->hosts[from].preference)
        (*to)++;
    return *to - from > 1;
}

/* Those that failed lately go last; their order stays. */
static void failed_last(const struct site *s, uint32_t *order)
{
    uint32_t *failed = mem_alloc(MAX_OF(s->host_count, (size_t)1) * sizeof(*failed));
    struct failed_hosts *all = s->d->w->shared->failed_hosts;
    uint64_t now_ms = worker_now_ms(s->d->w);
    size_t good = 0, bad = 0;

    for (size_t i = 0; i < s->host_count; i++) {
        const struct site_host *h = &s->hosts[order[i]];
        if (failed_hosts_left_ms(all, h->name, h->port, now_ms))
            failed[bad++] = order[i];
        else
            order[good++] = order[i];
    }
    memcpy(order + good, failed, bad * sizeof(*failed));
    mem_free(failed);
}

/* Best preference first, shuffled among equals for each walk: RFC 5321 §5.1. */
uint32_t *link_host_order(const struct site *s)
{
    uint32_t *order = mem_alloc(MAX_OF(s->host_count, (size_t)1) * sizeof(*order));

    for (size_t i = 0; i < s->host_count; i++)
        order[i] = (uint32_t)i;
    for (size_t from = 0, to; from < s->host_count; from = to) {
        if (!equal_preference_run(s, from, &to))
            continue;
        for (size_t i = to - 1; i > from; i--) {
            size_t j = from + worker_random() % (i - from + 1);
            uint32_t x = order[i];
            order[i] = order[j];
            order[j] = x;
        }
    }
    if (s->host_count > 1 && failed_hosts_any(s->d->w->shared->failed_hosts))
        failed_last(s, order);
    return order;
}

/* What was seen of a session outlives it: the attempts that it failed are recorded with it. */
static void forget_session(struct link *link)
{
    struct rule rule;

    link->tls = (struct travel){0};
    link->source[0] = '\0';
    link_rule(link, &rule);
    link->tls.effective = rule.effective;
    link->tls.why = rule.why;
    if (link_wants_dane(link))
        link->tls.dane = link_dane(link) ? DANE_RESULT_FOUND : DANE_RESULT_NONE;
    if (link->dane && link->tls.dane == DANE_RESULT_FOUND && link->dane->state != DANE_USABLE)
        link->tls.dane = link->dane->state == DANE_UNUSABLE ? DANE_RESULT_UNUSABLE : DANE_RESULT_BOGUS;
    link->tls.sts = link->site->security.sts_result;
    if (link->site->security.sts && !link_sts(link))
        link->tls.sts = STS_RESULT_OFF;
}

static void remember_failure(struct link *link, const struct outcome *o)
{
    /* What was learned last tells more than a time-out before it; a permanent word never beats a temporary
     * one. */
    bool holding = link->holding;
    link->holding = false;
    if (link->have_failure && link->failure.kind == OUTCOME_DEFERRED && o->kind != OUTCOME_DEFERRED)
        return;
    link->failure = *o;
    link->failure_tls = link->tls;
    link->held = holding;
    link->have_failure = true;
}

/* MTA-STS stood in the way.  RFC 8461 §5.1: before mail may fail for good, its id is asked again. */
static bool sts_is_to_blame(const struct link *link)
{
    const struct travel *t = &link->failure_tls;

    return link->have_failure && !link->sts_rechecked && link_sts(link) && t->why == TLS_WHY_STS &&
           (t->sts == STS_RESULT_MX_MISMATCH || link->failure.stage == STAGE_STARTTLS ||
            link->failure.stage == STAGE_TLS);
}

static bool same_rule(const struct sts_policy *a, const struct sts_policy *b)
{
    BUF_LOCAL(x);
    BUF_LOCAL(y);

    sts_policy_put_key(a, &x);
    sts_policy_put_key(b, &y);
    return bytes_eq(buf_bytes(&x), buf_bytes(&y));
}

static void on_recheck(void *arg, const struct sts_answer *answer)
{
    struct link *link = arg;
    struct site *s = link->site;
    const struct sts_policy *now = answer->policy;
    struct dest *dest = map_find(&link->d->dests, bytes_of(link->domain));
    uint64_t now_ms = worker_now_ms(link->d->w);

    link_enter(link);
    link->sts_query = NULL;
    bool changed = !now || !same_rule(now, s->security.sts);
    if (changed && dest && (!dest->sts_changed_ms || dest->sts_changed_ms + STS_CHANGES_MS < now_ms)) {
        /* The mail goes by the new policy, at once and without an attempt counted: nothing uses the old one
         * again. */
        dest->sts_changed_ms = now_ms;
        LIST_FOREACH (node, &s->dests)
            dest_kick_soon(LIST_ENTRY(node, struct dest, site_node));
        site_make_stale(s);
        link_close(link);
    } else {
        walk_failed(link);
    }
    link_leave(link);
}

/* Who reads of a backup's trouble shall know why its mail is not with the others. */
static void tell_of_avoided(struct outcome *o)
{
    size_t len = strlen(o->text);

    snprintf(o->text + len, sizeof(o->text) - len,
             "; the other hosts lack what it needs: SMTPUTF8, 8BITMIME, or a larger SIZE");
}

static void walk_failed(struct link *link)
{
    struct site *s = link->site;

    if (s->stale || link->d->draining || link->d->closed) { /* given up, not failed: no recipient was tried */
        link_close(link);
        return;
    }
    if (sts_is_to_blame(link)) {
        const char *domain = s->group->route == ROUTE_SMARTHOST ? s->security.sts->domain : link->domain;
        link->sts_rechecked = true;
        link->sts_query = sts_recheck(link->d->w->sts, domain, on_recheck, link);
        return;
    }
    if (!link->have_failure && link->hosts_were_busy) { /* every host has its full number of connections */
        shape_met(s, link->busy_with, MAX_OF(link->busy_until_ms, worker_now_ms(link->d->w) + 1000));
        shape_all_busy(link);
    } else {
        if (!link->have_failure && link->without_source) {
            source_missing(link, &link->failure);
            s->rests_for_source = true;
        } else if (!link->have_failure)
            outcome_local(&link->failure, OUTCOME_DEFERRED, STAGE_CONNECT, 451, "4.4.1",
                          "no host could be tried");
        else
            s->rests_for_source = false;
        if (link->avoids)
            tell_of_avoided(&link->failure);
        COUNT(link->d->w, connects_failed);
        link->tls = link->failure_tls; /* the attempts that it failed are recorded with it */
        site_on_walk_failed(s, link, &link->failure);
    }
    link_close(link);
}

/* For all mail, that is: one without REQUIRETLS serves others (stage EHLO, but a bounce). */
static bool is_down(const struct outcome *o)
{
    return o->kind == OUTCOME_DEFERRED &&
           (o->stage == STAGE_CONNECT || o->stage == STAGE_GREETING || o->stage == STAGE_EHLO);
}

void link_host_failed(struct link *link, const struct outcome *o)
{
    remember_failure(link, o);
    link->host_down |= is_down(o);
    replies_on_failed_host(link, o);
    source_on_refused(link, o);
    log_info(&link->log, "host.failed", LOG_STR("group", link->site->group->name),
             LOG_STR("mx", link->host ? link->host->name : "-"), LOG_STR("remote", link->remote),
             LOG_STR("stage", outcome_stage_name(o->stage)), LOG_STR("text", o->text));
    link_drop_session(link);
    link->in_clear = false;
    next_address(link);
}

static void on_dane(void *arg, struct dane_records *records)
{
    struct link *link = arg;

    link_enter(link);
    link->dane_query = NULL;
    link->dane = dane_records_ref(records);
    next_address(link);
    link_leave(link);
}

/*
 * The addresses are known.  TLSA records are asked for where some of them came securely, and where the host
 * is an alias: that may be signed even if what it leads to is not (RFC 7672 §2.2).  Elsewhere the lookup only
 * says why not.
 */
static void addresses_found(struct link *link, const struct dns_host *found)
{
    struct dane_question q = {link->host->name, found->canonical, link->host->port, false};

    for (size_t i = 0; i < link->address_count; i++)
        q.secure |= link->addresses[i].secure;
    link->dane_by_alias = !q.secure && strcmp(found->canonical, link->host->name) != 0;
    if (link_wants_dane(link))
        link->dane_query = dane_lookup(link->d->w->dns, &q, on_dane, link);
    else
        next_address(link);
}

static void on_addresses(void *arg, const struct dns_host *found)
{
    struct link *link = arg;
    struct outcome o;

    link_enter(link);
    link->query = NULL;
    if (found->status == DNS_OK && found->count) {
        mem_free(link->addresses);
        link->addresses =
            (struct dns_address *)(void *)mem_dup(found->addresses, found->count * sizeof(*found->addresses));
        link->address_count = found->count;
        link->address_at = 0;
        addresses_found(link, found);
    } else {
        bool gone = found->status == DNS_NXDOMAIN || found->status == DNS_NODATA || found->status == DNS_OK;
        /* Mail hosts without a usable address are an error, RFC 5321 §5.1; any host in doubt outweighs that.
         */
        if (gone)
            outcome_local(&o, OUTCOME_BOUNCED, STAGE_DNS, 550, "5.4.4", "%s has no usable address in DNS%s",
                          link->host->name, link->site->implicit_mx ? ", and no MX" : "");
        else if (found->status == DNS_LOOP)
            outcome_local(&o, OUTCOME_BOUNCED, STAGE_DNS, 550, "5.4.4",
                          "the DNS names of host %s form a loop", link->host->name);
        else
            outcome_local(&o, OUTCOME_DEFERRED, STAGE_DNS, 451, "4.4.3", "address lookup of host %s: %s",
                          link->host->name, dns_status_name(found->status));
        o.needs_second = found->status == DNS_LOOP;
        remember_failure(link, &o);
        link_next_host(link);
    }
    link_leave(link);
}

static bool is_avoided(const struct link *link, uint32_t host)
{
    return host < 64 && link->avoids >> host & 1;
}

void link_next_host(struct link *link)
{
    struct site *s = link->site;

    if (link->dead)
        return;
    if (link->host_down)
        failed_hosts_remember(link->d->w->shared->failed_hosts, link->host->name, link->host->port,
                              worker_now_ms(link->d->w));
    link->host_down = false;
    while (link->host_at < s->host_count && is_avoided(link, link->order[link->host_at]))
        link->host_at++;
    if (link->host_at == s->host_count || s->stale || link->d->draining) {
        walk_failed(link);
        return;
    }
    link->host = &s->hosts[link->order[link->host_at++]];
    link->address_count = link->address_at = 0;
    link->remote[0] = '\0';
    dane_records_unref(TAKE(link->dane));
    link->ip_secure = link->dane_by_alias = false;
    forget_session(link);
    shape_give_connect(link); /* who looks for a host does not stand in a queue, or see to its clock */
    link->query = dns_resolve_host(link->d->w->dns, link->host->name, on_addresses, link);
}

static enum err connect_now(struct link *link)
{
    const struct group *group = link->site->group;

    link->conn = conn_create(link->d->w->pool, &link_conn_events, link);
    COUNT(link->d->w, connections_out_open);
    link->source_tried = true;
    enum err e = conn_connect(link->conn, &link->ip, link->host->port,
                              link->source_ip.family ? &link->source_ip : NULL);
    if (!e) {
        uint32_t limit_ms = group->timeouts.connect_ms;
        /* With other addresses to try, a silent one is not waited for to the end. */
        if (link->address_at < link->address_count)
            limit_ms = MIN_OF(limit_ms, 5000U);
        conn_set_deadline(link->conn, worker_now_ms(link->d->w) + limit_ms);
    }
    return e;
}

/* It has its first connection, under a connection_rate or where there was no room: the next may look for one.
 */
static void stop_walking(struct link *link)
{
    if (!link->walking)
        return;
    link->walking = false;
    link->site->walkers--;
    site_kick(link->site);
}

/* None is left to us: that says nothing about the host.  Its mail waits, and no attempt is counted. */
static void note_no_descriptor(struct link *link)
{
    struct deliver *d = link->d;
    uint64_t now_ms = worker_now_ms(d->w);

    link->hosts_were_busy = true;
    link->busy_with = "descriptors";
    if (d->descriptors_said_ms && now_ms - d->descriptors_said_ms < DESCRIPTORS_SAY_MS)
        return;
    d->descriptors_said_ms = now_ms;
    log_warn(&d->w->log, "descriptors.out",
             LOG_STR("hint", "raise LimitNOFILE= of the service (ulimit -n), or lower delivery.connections"));
}

/* Connects to the current address when the limits let it; may wait for that.  False: not to this one. */
static bool try_address(struct link *link)
{
    char source[IP_TEXT_BYTES];
    struct outcome o;

    switch (shape_take_address(link)) {
    case ADDRESS_TAKEN: break;
    case ADDRESS_BUSY: link->hosts_were_busy = true; return false;
    case ADDRESS_WITHOUT_SOURCE: return false;
    }
    uint32_t wait_ms = shape_take_connect(link);
    if (wait_ms) { /* what it holds is for others meanwhile */
        shape_give_address(link);
        alarm_set(&link->d->clock, &link->alarm, worker_now_ms(link->d->w) + wait_ms);
        return true;
    }
    enum err e = connect_now(link);
    if (e == ERR_INVALID && source_cannot_bind(link)) {
        link_drop_session(link);
        return try_address(link); /* from another one of the pool, as long as there is one */
    }
    stop_walking(link);
    if (!e)
        return true;
    if (e == ERR_FULL) {
        note_no_descriptor(link);
        link_drop_session(link);
        return false;
    }
    if (e == ERR_INVALID && link->source_ip.family)
        outcome_local(&o, OUTCOME_DEFERRED, STAGE_CONNECT, 451, "4.3.5",
                      "connect to %s[%s]: the source address %s cannot be bound: does this host have it?",
                      link->host->name, link->remote, ip_format(&link->source_ip, source));
    else
        outcome_local(&o, OUTCOME_DEFERRED, STAGE_CONNECT, 451, "4.4.1", "connect to %s[%s]: %s",
                      link->host->name, link->remote, err_text(e));
    remember_failure(link, &o);
    link_drop_session(link);
    return false;
}

static void next_address(struct link *link)
{
    struct outcome o;

    while (!link->dead && link->address_at < link->address_count) {
        link->ip_secure = link->addresses[link->address_at].secure;
        link->ip = link->addresses[link->address_at++].ip;
        ip_format_port(&link->ip, link->host->port, link->remote);
        forget_session(link);
        if (!link_may_connect(link, &o))
            remember_failure(link, &o);
        else if (try_address(link))
            return;
    }
    if (!link->dead)
        link_next_host(link);
}

void link_on_alarm(struct alarm *a)
{
    struct link *link = CONTAINER_OF(a, struct link, alarm);

    link_enter(link);
    if (link->site->stale || link->d->draining || link->d->closed) {
        walk_failed(link);
    } else if (!try_address(link)) {
        link->in_clear = false;
        next_address(link);
    }
    link_leave(link);
}

void link_again_in_clear(struct link *link, const struct outcome *o)
{
    log_info(&link->log, "tls.fallback", LOG_STR("mx", link->host->name), LOG_STR("remote", link->remote),
             LOG_STR("why", o->text));
    remember_failure(link, o);
    link_drop_session(link);
    forget_session(link);
    link->tls.sts = link->failure_tls.sts;
    link->tls.failure =
        link->failure_tls.failure; /* the mail goes, and is recorded with what TLS failed at */
    memcpy(link->tls.reason, link->failure_tls.reason, sizeof(link->tls.reason));
    link->in_clear = true;
    if (!try_address(link)) {
        link->in_clear = false;
        next_address(link);
    }
}

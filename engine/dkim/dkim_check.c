/*
 * What DNS holds for each key in force.  All lookups are under way at once, on one worker's loop; whoever
 * asks waits.
 */
#include <ldns/ldns.h>

#include "base/mem.h"
#include "engine/dkim/dkim_priv.h"
#include "engine/dkim/record.h"
#include "engine/worker.h"

struct check;

struct lookup {
    struct check *check;
    const struct dkim_entry *entry; /* borrowed: of the keyring */
    char *name;                     /* owned */
    json_t *result;                 /* owned */
};

struct check {
    struct doorbell bell;
    struct dkim_keyring *ring; /* counted */
    const char *domain;        /* normalised; NULL: all */
    const struct dns_config *server;
    struct dns *own; /* of `server`; NULL: the worker's */
    char *why;       /* it could not be made */
    struct lookup *lookups;
    size_t count, open;
};

/* The strings of a TXT record, joined (RFC 6376 §3.6.2.2).  false: they do not add up. */
static bool join_strings(struct bytes rdata, struct buf *out)
{
    while (rdata.len) {
        size_t len = (unsigned char)rdata.at[0];
        rdata = bytes_skip(rdata, 1);
        if (len > rdata.len)
            return false;
        buf_put(out, bytes_first(rdata, len));
        rdata = bytes_skip(rdata, len);
    }
    return true;
}

static void judge(struct lookup *l, const struct dns_rrset *set)
{
    struct bytes texts[2] = {{0}};
    struct buf joined[2] = {{0}};
    json_t *found = json_array();
    BUF_LOCAL(explain);
    const char *status;

    for (size_t i = 0; i < MIN_OF(set->count, COUNT_OF(joined)); i++) {
        if (!join_strings(set->rdata[i], &joined[i]))
            buf_clear(&joined[i]);
        texts[i] = buf_bytes(&joined[i]);
        json_t *text = json_stringn(texts[i].at ? texts[i].at : "", texts[i].len); /* NULL: no UTF-8 */
        json_array_append_new(found, text ? text : json_string(""));
    }
    if (set->status == DNS_OK || set->status == DNS_NXDOMAIN || set->status == DNS_NODATA) {
        size_t count = set->status == DNS_OK ? MIN_OF(set->count, COUNT_OF(texts)) : 0;
        status = dkim_verdict_name(dkim_record_compare(l->entry->key, texts, count, &explain));
    } else {
        status = "unknown";
        buf_putf(&explain, "DNS did not answer: %s", dns_status_name(set->status));
    }
    json_object_set_new(l->result, "status", json_string(status));
    json_object_set_new(l->result, "explain", json_string(buf_str(&explain)));
    json_object_set_new(l->result, "dns", json_string(dns_status_name(set->status)));
    json_object_set_new(l->result, "dnssec", json_boolean(set->secure));
    json_object_set_new(l->result, "found", found);
    for (size_t i = 0; i < COUNT_OF(joined); i++)
        buf_fini(&joined[i]);
}

static void on_dns_closed(void *arg)
{
    struct check *c = arg;

    doorbell_ring(&c->bell);
}

static void finish(struct check *c)
{
    if (c->own)
        dns_close(TAKE(c->own), on_dns_closed, c);
    else
        doorbell_ring(&c->bell);
}

static void on_answer(void *arg, const struct dns_rrset *set)
{
    struct lookup *l = arg;
    struct check *c = l->check;

    judge(l, set);
    if (--c->open == 0)
        finish(c);
}

static void start(struct worker *w, void *arg)
{
    struct check *c = arg;

    if (c->count == 0 || (c->server && dns_create(&w->loop, c->server, &c->own, &c->why) != OK)) {
        doorbell_ring(&c->bell);
        return;
    }
    c->open = c->count; /* answers never come from within dns_resolve_rrset() */
    for (size_t i = 0; i < c->count; i++)
        dns_resolve_rrset(c->own ? c->own : w->dns, c->lookups[i].name, LDNS_RR_TYPE_TXT, on_answer,
                          &c->lookups[i]);
}

static void choose(struct check *c)
{
    for (size_t i = 0; i < c->ring->count; i++) {
        const struct dkim_entry *e = &c->ring->entries[i];
        BUF_LOCAL(name);
        if (c->domain && strcmp(c->domain, e->domain) != 0)
            continue;
        dkim_record_name(e->selector, e->domain, &name);
        c->lookups[c->count++] = (struct lookup){c, e, buf_take(&name), dkim_key_json(e)};
    }
}

json_t *dkim_check(struct dkim *d, struct worker *w, const char *domain, const struct dns_config *server,
                   char **why)
{
    struct check c = {.ring = dkim_ring(d), .domain = domain, .server = server};
    json_t *list = json_array();

    *why = NULL;
    if (!c.ring)
        return list;
    c.lookups = mem_zalloc((c.ring->count + 1) * sizeof(*c.lookups));
    choose(&c);
    doorbell_init(&c.bell);
    if (worker_call(w, start, &c))
        doorbell_wait(&c.bell, -1); /* DNS answers or times out */
    else
        c.why = mem_strdup("the worker that asks DNS is stuck: see hayauma status");
    doorbell_fini(&c.bell);
    for (size_t i = 0; i < c.count; i++) {
        json_array_append_new(list, c.lookups[i].result);
        mem_free(c.lookups[i].name);
    }
    mem_free(c.lookups);
    dkim_keyring_unref(c.ring);
    *why = c.why;
    return list;
}

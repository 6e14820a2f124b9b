#include "tests/unit/engine/dns/resolver_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- results as text ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Equal preferences come in any order: sorted here, so that rows can be compared. */
static void put_sorted(struct buf *b, char **words, size_t count)
{
    qsort(words, count, sizeof(*words), by_text);
    for (size_t i = 0; i < count; i++) {
        buf_putf(b, " %s", words[i]);
        mem_free(words[i]);
    }
}

void on_mx(void *arg, const struct dns_mx *mx)
{
    struct world *w = arg;
    char *words[DNS_MX_MAX];

    w->callbacks++;
    w->failures += mx->status != DNS_OK;
    buf_clear(&w->said);
    buf_putf(&w->said, "%s%s%s%s", dns_status_name(mx->status), mx->null_mx ? " null" : "",
             mx->implicit ? " implicit" : "", mx->secure ? " secure" : "");
    if (mx->skipped)
        buf_putf(&w->said, " skipped=%zu", mx->skipped);
    for (size_t i = 0; i < mx->count; i++) {
        assert_true(i == 0 || mx->hosts[i - 1].preference <= mx->hosts[i].preference);
        words[i] = text_format("%u:%s", mx->hosts[i].preference, mx->hosts[i].name);
    }
    if (mx->count > 10)
        buf_putf(&w->said, " count=%zu", mx->count);
    put_sorted(&w->said, words, mx->count);
}

void on_host(void *arg, const struct dns_host *h)
{
    struct world *w = arg;
    char **words = mem_alloc((h->count + 1) * sizeof(*words));

    w->callbacks++;
    buf_clear(&w->said);
    buf_putf(&w->said, "%s %s", dns_status_name(h->status), h->canonical);
    if (h->skipped)
        buf_putf(&w->said, " skipped=%zu", h->skipped);
    for (size_t i = 0; i < h->count; i++) {
        char text[IP_TEXT_BYTES];
        words[i] =
            text_format("%s%s", ip_format(&h->addresses[i].ip, text), h->addresses[i].secure ? "!" : "");
    }
    put_sorted(&w->said, words, h->count);
    mem_free(words);
}

void on_rrset(void *arg, const struct dns_rrset *set)
{
    struct world *w = arg;

    w->callbacks++;
    buf_clear(&w->said);
    buf_putf(&w->said, "%s%s count=%zu", dns_status_name(set->status), set->secure ? " secure" : "",
             set->count);
    for (size_t i = 0; i < set->count && i < 3; i++) {
        buf_putc(&w->said, ' ');
        for (size_t k = 0; k < set->rdata[i].len && k < 40; k++)
            buf_putf(&w->said, "%02x", (uint8_t)set->rdata[i].at[k]);
    }
}

/* ---- the world ---- */

struct dns_config config_of(struct world *w)
{
    struct dns_config c = {.timeout_ms = 150, .total_ms = 1200, .ipv6 = true, .server_count = w->count};

    for (size_t i = 0; i < w->count; i++) {
        assert_true(ip_parse(BYTES("127.0.0.1"), &c.servers[i].ip));
        c.servers[i].port = w->servers[i].port;
        c.servers[i].trusted_ad = i == 0;
    }
    return c;
}

void world_start(struct world *w, const struct scripted_row *rows, size_t count)
{
    memset(w, 0, sizeof(*w));
    uv_loop_init(&w->loop);
    scripted_start(&w->servers[0], &w->loop, rows, count);
    w->count = 1;
}

void world_more(struct world *w, const struct scripted_row *rows, size_t count)
{
    scripted_start(&w->servers[w->count++], &w->loop, rows, count);
}

void world_resolver(struct world *w)
{
    struct dns_config c = config_of(w);
    char *why = NULL;

    assert_int_equal(dns_create(&w->loop, &c, &w->d, &why), OK);
}

void on_closed(void *arg)
{
    ((struct world *)arg)->closed = true;
}

void world_stop(struct world *w)
{
    if (w->d)
        dns_close(w->d, on_closed, w);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_true(w->closed || !w->d);
    for (size_t i = 0; i < w->count; i++)
        scripted_stop(&w->servers[i]);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w->loop), 0);
    buf_fini(&w->said);
}

const char *wait_for(struct world *w, unsigned callbacks)
{
    while (w->callbacks < callbacks && uv_run(&w->loop, UV_RUN_ONCE))
        ;
    assert_int_equal(w->callbacks, callbacks);
    return buf_str(&w->said);
}

const char *ask(struct world *w, const char *what, const char *name)
{
    unsigned before = w->callbacks;

    if (strcmp(what, "MX") == 0)
        assert_non_null(dns_resolve_mx(w->d, name, on_mx, w));
    else if (strcmp(what, "HOST") == 0)
        assert_non_null(dns_resolve_host(w->d, name, on_host, w));
    else
        assert_non_null(dns_resolve_rrset(w->d, name, scripted_type(what), on_rrset, w));
    assert_int_equal(w->callbacks, before); /* never from inside */
    return wait_for(w, before + 1);
}

/* ---- what the server of most tests knows ---- */

const struct scripted_row zone[] = {
    {"plain.test", "MX", "ad", "plain.test 300 MX 20 B.Plain.Test; plain.test 300 MX 10 a.plain.test"},
    {"a.plain.test", "A", "ad", "a.plain.test 300 A 192.0.2.1; a.plain.test 300 A 192.0.2.2"},
    {"a.plain.test", "AAAA", "", "a.plain.test 300 AAAA 2001:db8::1"},
    {"null.test", "MX", NULL, "null.test 300 MX 0 ."},
    {"half-null.test", "MX", NULL, "half-null.test 300 MX 0 .; half-null.test 300 MX 5 mx.half-null.test"},
    {"two-null.test", "MX", NULL, "two-null.test 300 MX 0 .; two-null.test 300 MX 1 ."},
    {"literal.test", "MX", NULL, "literal.test 300 MX 10 192.0.2.7; literal.test 300 MX 20 mx.literal.test"},
    {"only-literal.test", "MX", NULL, "only-literal.test 300 MX 10 192.0.2.7"},
    {"odd-name.test", "MX", NULL,
     "odd-name.test 300 MX 10 a\\032b.test; odd-name.test 300 MX 20 a\\046b.test"},
    {"twice.test", "MX", NULL, "twice.test 300 MX 10 a.test; twice.test 300 MX 20 A.test"},
    {"nomx.test", "MX", NULL, "!nomx.test 300 SOA ns.test root.test 60"},
    {"nomx-secure.test", "MX", "ad", "!nomx-secure.test 300 SOA ns.test root.test 60"},
    {"nomx-bare.test", "MX", NULL, NULL},
    {"gone.test", NULL, "nxdomain", "!test 300 SOA ns.test root.test 60"},
    {"servfail.test", NULL, "servfail", NULL},
    {"refused.test", NULL, "refused", NULL},
    {"silent.test", NULL, "silent", NULL},
    {"alias.test", "MX", NULL, "alias.test 300 CNAME plain.test"},
    {"alias-in.test", "MX", NULL, "t.test 300 MX 5 mx.t.test; alias-in.test 300 CNAME t.test"},
    {"alias-gone.test", "MX", "nxdomain",
     "alias-gone.test 300 CNAME gone.test; !test 300 SOA ns.test root.test 60"},
    {"alias-nomx.test", "MX", NULL,
     "alias-nomx.test 300 CNAME x.nomx.test; !nomx.test 300 SOA ns.test root.test 60"},
    {"alias-odd.test", "MX", NULL, "alias-odd.test 300 CNAME a\\000b.test"},
    {"self.test", NULL, NULL, "self.test 300 CNAME self.test"},
    {"ring-a.test", NULL, NULL, "ring-a.test 300 CNAME ring-b.test"},
    {"ring-b.test", NULL, NULL, "ring-b.test 300 CNAME ring-a.test"},
    {"ring0-a.test", NULL, NULL, "ring0-a.test 0 CNAME ring0-b.test"},
    {"ring0-b.test", NULL, NULL, "ring0-b.test 0 CNAME ring0-a.test"},
    {"to-alias.test", "MX", NULL, "to-alias.test 300 MX 10 mxalias.test"},
    {"mxalias.test", "A", NULL, "mxalias.test 300 CNAME elsewhere.test"},
    {"mxalias.test", "AAAA", NULL, "mxalias.test 300 CNAME elsewhere.test"},
    {"elsewhere.test", "A", NULL, "elsewhere.test 300 A 192.0.2.9"},
    {"elsewhere.test", "AAAA", NULL, "!elsewhere.test 300 SOA ns.test root.test 60"},
    {"stranger.test", "A", NULL, "other.test 300 A 192.0.2.66"}, /* does not belong to the question */
    {"unusable.test", "A", NULL,
     "unusable.test 300 A 0.0.0.0; unusable.test 300 A 224.0.0.1; unusable.test 300 A 255.255.255.255"},
    {"unusable.test", "AAAA", NULL, "unusable.test 300 AAAA ::; unusable.test 300 AAAA ff02::1"},
    {"loopback.test", "A", NULL, "loopback.test 300 A 127.0.0.1; loopback.test 300 A 0.0.0.0"},
    {"one-family.test", "A", NULL, "one-family.test 300 A 192.0.2.3"},
    {"one-family.test", "AAAA", "servfail", NULL},
    {"doubt.test", "A", NULL, "!doubt.test 300 SOA ns.test root.test 60"},
    {"doubt.test", "AAAA", "servfail", NULL},
    {"cut.test", "MX", "udp tc", NULL},
    {"cut.test", "MX", "tcp", "cut.test 300 MX 1 mx.cut.test"},
    {"cut-closes.test", "MX", "udp tc", NULL},
    {"cut-closes.test", "MX", "tcp closes", NULL},
    {"cut-silent.test", "MX", "udp tc", NULL},
    {"cut-silent.test", "MX", "tcp silent", NULL},
    {"cut-twice.test", "MX", "tc", NULL},
    {"dribble.test", "MX", "udp tc", NULL},
    {"dribble.test", "MX", "tcp dribble", "dribble.test 300 MX 1 mx.test"},
    {"big.test", "MX", "udp tc", NULL},
    {"big.test", "MX", "tcp big", "big.test 300 MX 1 mx.big.test"},
    {"wrong-id.test", "MX", "wrong-id", "wrong-id.test 300 MX 1 mx.test"},
    {"wrong-name.test", "MX", "wrong-name", "wrong-name.test 300 MX 1 mx.test"},
    {"wrong-type.test", "MX", "wrong-type", "wrong-type.test 300 MX 1 mx.test"},
    {"wrong-class.test", "MX", "wrong-class", "wrong-class.test 300 MX 1 mx.test"},
    {"wrong-opcode.test", "MX", "wrong-opcode", "wrong-opcode.test 300 MX 1 mx.test"},
    {"a-query.test", "MX", "query", "a-query.test 300 MX 1 mx.test"},
    {"wrong-port.test", "MX", "wrong-port", "wrong-port.test 300 MX 1 mx.test"},
    {"only-wrong.test", "MX", "wrong-id wrong-only", NULL},
    {"flood.test", "MX", "udp flood", NULL},
    {"flood.test", "MX", "tcp", "flood.test 300 MX 1 mx.test"},
    {"pointer-loop.test", "MX", "loop", "x.test 300 MX 1 mx.test"},
    {"old-server.test", "MX", "edns-formerr", "old-server.test 300 MX 1 mx.test"},
    {"bare-formerr.test", "MX", "formerr bare", NULL},
    {"lame.test", "MX", "nora", "!test 300 NS ns.other.test"},
    {"lost-once.test", "MX", "once silent", NULL},
    {"lost-once.test", "MX", NULL, "lost-once.test 300 MX 1 mx.test"},
    {"many.test", "MX", "udp tc", NULL},
    {"many.test", "MX", "tcp", "500* many.test 300 MX 7 mx%d.many.test; many.test 300 MX 1 best.many.test"},
    {"_25._tcp.mx.test", "TLSA", "ad",
     "_25._tcp.mx.test 300 TLSA 030101aabb; _25._tcp.mx.test 300 TLSA 0301"},
    {"txt.test", "TXT", NULL, "txt.test 300 TXT hello"},
    {"alias-c.test", "CNAME", "ad", "alias-c.test 300 CNAME plain.test"},
    {"mixed-case.test", "A", NULL, "MiXed-CASE.test 300 A 192.0.2.8"},
};
const size_t zone_count = COUNT_OF(zone);

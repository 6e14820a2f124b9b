/* Every line of T52 that a chain and records decide; the chains are made here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/dane/dane.h"
#include "tests/unit/engine/dane/matrix.h"

static size_t words(char *text, const char *by, const char **out, size_t max)
{
    size_t n = 0;
    char *save = NULL;

    for (char *w = strtok_r(text, by, &save); w; w = strtok_r(NULL, by, &save)) {
        assert_true(n < max);
        out[n++] = w;
    }
    return n;
}

static struct dane_records *records_of(const struct ca *ca, const char *text)
{
    const char *parts[8];
    struct bytes rdata[8];
    struct buf octets[8] = {{0}};
    char *copy = mem_strdup(text);
    size_t n = words(copy, ";", parts, COUNT_OF(parts));

    for (size_t i = 0; i < n; i++) {
        ca_tlsa(ca, parts[i], &octets[i]);
        rdata[i] = buf_bytes(&octets[i]);
    }
    struct dane_records *r = dane_records_make("mx.a.test", rdata, n, 300);
    for (size_t i = 0; i < n; i++)
        buf_fini(&octets[i]);
    mem_free(copy);
    return r;
}

static void judge(const struct ca *ca, const struct dane_case *row)
{
    gnutls_datum_t chain[16];
    const char *names[4];
    char *copy = mem_strdup(row->names);
    size_t name_count = words(copy, " ", names, COUNT_OF(names));
    struct dane_records *r = records_of(ca, row->records);
    struct dane_verdict v;
    unsigned count = ca_chain(ca, row->chain, chain, COUNT_OF(chain));

    dane_check(r, chain, count, names, name_count, CA_NOW, &v);
    const char *got = r->state == DANE_UNUSABLE ? "unusable" : v.check == DANE_CHECK_MATCH ? "match" : v.why;
    if (strcmp(row->want, "match") == 0 || strcmp(row->want, "unusable") == 0
            ? strcmp(got, row->want) != 0
            : strcmp(got, "match") == 0 || strcmp(got, "unusable") == 0 || !strstr(got, row->want))
        fail_msg("%s: %s, not %s", row->title, got, row->want);
    if (v.check == DANE_CHECK_MATCH && r->records[v.record].usage == 2)
        assert_string_equal(v.name, names[name_count - 1]);
    if (v.check == DANE_CHECK_MATCH && r->records[v.record].usage == 3)
        assert_null(v.name);
    dane_records_unref(r);
    mem_free(copy);
}

static void every_case_of_the_matrix_has_its_verdict(void **state)
{
    for (size_t i = 0; i < dane_case_count; i++)
        judge(*state, &dane_cases[i]);
}

/* A server that is not the attacker's may not pass by any cut of its chain. */
static void a_forged_chain_fails_in_every_order(void **state)
{
    static const char *const ids[] = {"evil", "root", "int", "bland-root", "fake-int", "leaf"};
    const struct ca *ca = *state;
    static const char *const names[] = {"mx.a.test"};
    struct dane_records *r = records_of(ca, "2 0 1 root; 2 1 1 int; 2 0 0 root; 2 1 0 root");

    for (unsigned mask = 0; mask < BIT(COUNT_OF(ids)); mask++) {
        for (unsigned turn = 0; turn < COUNT_OF(ids); turn++) {
            gnutls_datum_t chain[8] = {ca_find(ca, turn % 2 ? "evil-leaf" : "fake-int-leaf")->der};
            struct dane_verdict v;
            unsigned n = 1;
            for (unsigned i = 0; i < COUNT_OF(ids); i++)
                if (mask & BIT((i + turn) % COUNT_OF(ids)))
                    chain[n++] = ca_find(ca, ids[(i + turn) % COUNT_OF(ids)])->der;
            dane_check(r, chain, n, names, 1, CA_NOW, &v);
            assert_int_equal(v.check, DANE_CHECK_MISMATCH);
        }
    }
    dane_records_unref(r);
}

static void a_genuine_chain_passes_in_every_order(void **state)
{
    static const char *const ids[] = {"int-deep", "int", "root", "evil"};
    const struct ca *ca = *state;
    static const char *const names[] = {"mx.a.test"};
    struct dane_records *r = records_of(ca, "2 0 1 root");

    for (unsigned order = 0; order < 256; order++) {
        gnutls_datum_t chain[5] = {ca_find(ca, "leaf-deep")->der};
        unsigned seen = 0;
        struct dane_verdict v;
        for (unsigned i = 0; i < 4; i++) {
            unsigned which = order >> 2 * i & 3;
            seen |= BIT(which);
            chain[1 + i] = ca_find(ca, ids[which])->der;
        }
        dane_check(r, chain, 5, names, 1, CA_NOW, &v);
        assert_int_equal(v.check, (seen & 7) == 7 ? DANE_CHECK_MATCH : DANE_CHECK_MISMATCH);
    }
    dane_records_unref(r);
}

static void nothing_presented_matches_nothing(void **state)
{
    static const char *const names[] = {"mx.a.test"};
    gnutls_datum_t nonsense = {(unsigned char *)(uintptr_t) "nonsense", 8};
    struct dane_records *r = records_of(*state, "3 1 1 leaf; 2 0 1 root"), *absent;
    struct dane_verdict v;

    dane_check(r, NULL, 0, names, 1, CA_NOW, &v);
    assert_int_equal(v.check, DANE_CHECK_MISMATCH);
    assert_string_equal(v.why, "the server presented no certificate");
    dane_check(r, &nonsense, 1, names, 1, CA_NOW, &v);
    assert_int_equal(v.check, DANE_CHECK_MISMATCH);
    assert_string_equal(v.why, "the server's certificate cannot be read");
    absent = dane_records_without(DANE_ABSENT, 0, "none");
    dane_check(absent, &ca_find(*state, "leaf")->der, 1, names, 1, CA_NOW, &v);
    assert_int_equal(v.check, DANE_CHECK_MISMATCH);
    dane_records_unref(absent);
    dane_check(r, &ca_find(*state, "leaf")->der, 1, NULL, 0, CA_NOW, &v);
    assert_int_equal(v.check, DANE_CHECK_MATCH);
    dane_records_unref(r);
}

static double cpu_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* All of one name and without key identifiers, so that each might have signed each. */
static void a_hundred_certificates_cost_little(void **state)
{
    static const char *const names[] = {"mx.a.test"};
    static const struct ca_wish same = {"same", "Same", NULL, "same-0", "ca noids", NULL};
    static const struct ca_wish first = {"same-0", "Same", NULL, NULL, "ca noids rsa2048", NULL};
    static const struct ca_wish leaf = {"same-leaf", "leaf", "mx.a.test", "same-0", "noids", NULL};
    struct ca *ca = mem_zalloc(sizeof(*ca));
    gnutls_datum_t chain[101];
    struct bytes rdata[60];
    struct buf octets[60] = {{0}};
    struct dane_verdict v;

    (void)state;
    ca_start(ca, CA_NOW);
    ca_make(ca, &first);
    chain[0] = ca_make(ca, &leaf)->der;
    for (unsigned i = 1; i < 101; i++) /* 50 different ones, then the same again */
        chain[i] = i <= 50 ? ca_make(ca, &same)->der : chain[i - 50];
    for (unsigned i = 0; i < 60; i++) {
        buf_put(&octets[i], bytes_make(i % 2 ? "\2\0\0" : "\2\1\0", 3));
        const struct ca_made *m = &ca->made[2 + i % 50];
        buf_put(&octets[i],
                i % 2 ? bytes_make(m->der.data, m->der.size) : bytes_make(m->spki.data, m->spki.size));
        rdata[i] = buf_bytes(&octets[i]);
    }
    struct dane_records *r = dane_records_make("mx.a.test", rdata, 60, 300);
    assert_int_equal(r->state, DANE_USABLE);
    double before = cpu_ms();
    dane_check(r, chain, 101, names, 1, CA_NOW, &v);
    double took = cpu_ms() - before;
    assert_int_equal(v.check, DANE_CHECK_MISMATCH);
    if (took > 500)
        fail_msg("%.0f ms", took);
    dane_records_unref(r);
    for (unsigned i = 0; i < 60; i++)
        buf_fini(&octets[i]);
    ca_end(ca);
    mem_free(ca);
}

static int setup(void **state)
{
    struct ca *ca = mem_alloc(sizeof(*ca));

    dane_world(ca, CA_NOW);
    *state = ca;
    return 0;
}

static int teardown(void **state)
{
    ca_end(*state);
    mem_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_of_the_matrix_has_its_verdict),
        cmocka_unit_test(a_forged_chain_fails_in_every_order),
        cmocka_unit_test(a_genuine_chain_passes_in_every_order),
        cmocka_unit_test(nothing_presented_matches_nothing),
        cmocka_unit_test(a_hundred_certificates_cost_little),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}

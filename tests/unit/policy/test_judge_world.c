/* A verdict against what the other group really does: any group, any wire, a small world that plays them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "policy/judge.h"

enum peer { PEER_NO_STARTTLS, PEER_REFUSES, PEER_CLOSES, PEER_BREAKS, PEER_TLS };

struct wire {
    enum peer peer;
    enum tls_version newest;
    bool static_rsa_only;
    enum dane_result dane; /* NONE, UNUSABLE, MATCH, MISMATCH, BOGUS */
    bool mx_secure;
    enum sts_result sts; /* NONE, FAILED, MODE_NONE; FOUND: a policy */
    bool enforce, sts_names_mx;
    bool expired, name_mx, name_nexthop;
    bool later_is_due, tls_required_no;
};

static uint64_t seed;

static unsigned any(unsigned below)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(seed >> 33) % below;
}

static struct group any_group(void)
{
    static const enum tls_level levels[] = {TLS_OFF, TLS_ON, TLS_ON, TLS_REQUIRE, TLS_VERIFY};
    struct group g = {
        .port = 25,
        .starttls = levels[any(COUNT_OF(levels))],
        .clear_after_tls_failure = (enum clear_fallback)any(3),
        .dane = (enum dane_mode)any(3),
        .mta_sts = (enum sts_mode)any(2),
        .tls_match = any(3) ? NAME_MX : NAME_NEXTHOP,
        .tls_min_version = any(4) ? TLS_VERSION_1_2 : TLS_VERSION_1_3,
    };

    if (g.starttls == TLS_OFF)
        g.dane = DANE_OFF;
    if (g.starttls == TLS_ON && !any(4))
        g.tls_min_version = TLS_VERSION_1_0;
    return g;
}

static struct wire any_wire(void)
{
    static const enum tls_version versions[] = {TLS_VERSION_1_0, TLS_VERSION_1_2, TLS_VERSION_1_3,
                                                TLS_VERSION_1_3};
    static const enum dane_result danes[] = {DANE_RESULT_NONE,  DANE_RESULT_NONE,     DANE_RESULT_UNUSABLE,
                                             DANE_RESULT_MATCH, DANE_RESULT_MISMATCH, DANE_RESULT_BOGUS};
    static const enum sts_result stss[] = {STS_RESULT_NONE,  STS_RESULT_FAILED, STS_RESULT_MODE_NONE,
                                           STS_RESULT_FOUND, STS_RESULT_FOUND,  STS_RESULT_FOUND};
    struct wire w = {
        .peer = any(2) ? PEER_TLS : (enum peer)any(4),
        .newest = versions[any(COUNT_OF(versions))],
        .dane = danes[any(COUNT_OF(danes))],
        .mx_secure = any(2),
        .sts = stss[any(COUNT_OF(stss))],
        .enforce = any(2),
        .sts_names_mx = any(3),
        .expired = !any(4),
        .name_mx = any(4),
        .name_nexthop = !any(3),
        .later_is_due = any(2),
        .tls_required_no = !any(8),
    };

    w.static_rsa_only = w.newest == TLS_VERSION_1_2 && !any(3);
    return w;
}

static const char *const versions[] = {"TLS1.0", "TLS1.1", "TLS1.2", "TLS1.3"};

static enum tls_verify pkix(const struct group *g, const struct wire *w)
{
    if (w->expired)
        return TLS_VERIFY_EXPIRED;
    return (g->tls_match == NAME_MX ? w->name_mx : w->name_nexthop) ? TLS_VERIFY_PKIX : TLS_VERIFY_WRONG_NAME;
}

/* The table is asked; false: it has not decided. */
static bool settle(struct judge_facts *f, const struct tls_facts *t, enum tls_event event,
                   enum tls_failure failure)
{
    struct tls_decision d = tls_decide(t, event);

    if (d.count_failure)
        f->failure = failure;
    switch (d.action) {
    case TLS_DO_CONTINUE: return false;
    case TLS_DO_RECONNECT_CLEAR:
        f->fallback = true;
        f->version = f->cipher = NULL;
        f->verify = TLS_VERIFY_NONE;
        f->delivered = true;
        return true;
    case TLS_DO_CLEAR:
    case TLS_DO_TLS: f->delivered = true; return true;
    case TLS_DO_NEXT:
    case TLS_DO_SKIP_HOST:
    case TLS_DO_BOUNCE: f->tls_failed = true; break;
    }
    return true;
}

/* One attempt of a group, as the engine makes and records it. */
static struct judge_facts deliver(const struct group *g, const struct wire *w)
{
    struct judge_facts f = {.later_is_due = w->later_is_due, .effective = g->starttls};
    bool discovers = g->starttls != TLS_OFF && !w->tls_required_no;
    bool sts = discovers && g->mta_sts == STS_TRY, usable;
    struct tls_facts t = {
        .fallback = g->clear_after_tls_failure, .later_is_due = w->later_is_due, .mx_secure = w->mx_secure};

    if (w->tls_required_no) {
        f.effective = g->starttls == TLS_OFF ? TLS_OFF : TLS_ON;
        f.why = TLS_WHY_TLS_REQUIRED_NO;
        t.fallback = CLEAR_NOW;
    }
    t.group_level = f.effective;
    if (discovers && g->dane != DANE_OFF)
        f.dane =
            w->dane == DANE_RESULT_MATCH || w->dane == DANE_RESULT_MISMATCH ? DANE_RESULT_FOUND : w->dane;
    usable = f.dane == DANE_RESULT_FOUND;
    if (discovers && g->dane == DANE_ONLY) {
        f.effective = TLS_DANE_ONLY;
    } else if (usable) {
        f.effective = tls_level_stricter(f.effective, TLS_DANE);
        f.why = TLS_WHY_DANE;
    }
    if (usable || f.effective == TLS_DANE_ONLY)
        sts = false;
    if (sts) {
        f.sts = w->sts;
        if (w->sts == STS_RESULT_FOUND)
            f.effective = tls_level_stricter(f.effective, w->enforce ? TLS_STS_ENFORCE : TLS_STS_TESTING);
    }
    t.level = f.effective;
    t.tlsa_all_unusable = f.dane == DANE_RESULT_UNUSABLE;
    if (f.dane == DANE_RESULT_BOGUS && settle(&f, &t, TLS_EVENT_TLSA_BOGUS, TLS_FAILURE_DNSSEC_INVALID))
        return f;
    if ((f.dane == DANE_RESULT_NONE || f.dane == DANE_RESULT_UNUSABLE) &&
        settle(&f, &t, TLS_EVENT_TLSA_ABSENT, TLS_FAILURE_DANE_REQUIRED))
        return f;
    if (f.sts == STS_RESULT_FOUND && !w->sts_names_mx) {
        f.sts = STS_RESULT_MX_MISMATCH;
        if (w->enforce && settle(&f, &t, TLS_EVENT_STS_MX_MISMATCH, TLS_FAILURE_VALIDATION))
            return f;
    }
    f.offered = w->peer != PEER_NO_STARTTLS;
    if (!f.offered || g->starttls == TLS_OFF) {
        settle(&f, &t, TLS_EVENT_NOT_OFFERED, TLS_FAILURE_STARTTLS_NOT_SUPPORTED);
        return f;
    }
    if (w->peer == PEER_CLOSES) {
        settle(&f, &t, TLS_EVENT_CLOSING, TLS_FAILURE_NONE);
        return f;
    }
    if (w->peer == PEER_REFUSES) {
        settle(&f, &t, TLS_EVENT_REFUSED, TLS_FAILURE_STARTTLS_NOT_SUPPORTED);
        return f;
    }
    if (w->peer == PEER_BREAKS || w->newest < g->tls_min_version ||
        (w->static_rsa_only && (f.effective > TLS_STS_TESTING || t.tlsa_all_unusable))) {
        settle(&f, &t, TLS_EVENT_HANDSHAKE_FAILED, TLS_FAILURE_VALIDATION);
        return f;
    }
    f.version = versions[w->newest];
    f.cipher = w->static_rsa_only ? "TLS_RSA_WITH_AES_128_GCM_SHA256" : "TLS_AES_256_GCM_SHA384";
    f.verify = pkix(g, w);
    if (f.sts == STS_RESULT_FOUND)
        f.sts = !w->expired && w->name_mx ? STS_RESULT_OK : STS_RESULT_CERT_BAD;
    if (usable) {
        f.dane = w->dane;
        if (w->dane == DANE_RESULT_MATCH)
            f.verify = w->mx_secure ? TLS_VERIFY_DANE : TLS_VERIFY_DANE_HALF;
        settle(&f, &t, w->dane == DANE_RESULT_MATCH ? TLS_EVENT_TLSA_MATCH : TLS_EVENT_TLSA_MISMATCH,
               TLS_FAILURE_TLSA_INVALID);
    } else {
        bool good = f.verify == TLS_VERIFY_PKIX;

        if (f.effective == TLS_STS_ENFORCE)
            good = f.sts == STS_RESULT_OK && (good || g->starttls != TLS_VERIFY);
        settle(&f, &t, good ? TLS_EVENT_CERT_GOOD : TLS_EVENT_CERT_BAD, tls_failure_of_verify(f.verify));
    }
    return f;
}

static const char *fate(const struct judge_facts *f)
{
    return f->tls_failed ? "held" : f->version ? "tls" : "clear";
}

static void print_case(const struct group *g, const struct judge_facts *f)
{
    print_error("level %s dane %d sts %d fallback %d min %d match %d: %s, offered %d fallback %d %s verify "
                "%s dane %s "
                "sts %s failure %s effective %s\n",
                tls_level_name(g->starttls), g->dane, g->mta_sts, g->clear_after_tls_failure,
                g->tls_min_version, g->tls_match, fate(f), f->offered, f->fallback,
                f->version ? f->version : "-", tls_verify_name(f->verify), dane_result_name(f->dane),
                sts_result_name(f->sts), tls_failure_name(f->failure), tls_level_name(f->effective));
}

static void the_same_group_says_the_same(void **state)
{
    seed = 1;
    for (unsigned i = 0; i < 300000; i++) {
        struct group g = any_group();
        struct wire w = any_wire();
        struct judge_facts f = deliver(&g, &w);
        uint8_t v = (uint8_t)judge_attempt(&f, &g, &g);

        if (v != JUDGE_SAME) {
            print_case(&g, &f);
            fail_msg("round %u: %s", i, judge_verdict_name(v));
        }
    }
}

/* Is this what became of the attempt under the shadow rules? */
static bool is_true(uint8_t v, const struct judge_facts *was, const struct judge_facts *is)
{
    bool same = strcmp(fate(was), fate(is)) == 0;

    if (judge_is_unknown(v))
        return true;
    if (judge_is_held(v))
        return was->delivered && is->tls_failed;
    switch (v) {
    case JUDGE_SAME: return same;
    case JUDGE_CLEAR: return was->version && !was->tls_failed && is->delivered && !is->version;
    case JUDGE_TLS: return was->delivered && !was->version && is->delivered && is->version;
    case JUDGE_PASS: return was->tls_failed && is->delivered && is->version;
    case JUDGE_PASS_CLEAR: return was->tls_failed && is->delivered;
    default: return false;
    }
}

static void a_verdict_is_what_the_other_group_would_really_have_done(void **state)
{
    unsigned told = 0, unknown = 0, held = 0;

    seed = 2;
    for (unsigned i = 0; i < 1000000; i++) {
        struct group live = any_group(), shadow = any_group();
        struct wire w = any_wire();
        struct judge_facts was, is;
        uint8_t v;

        was = deliver(&live, &w);
        is = deliver(&shadow, &w);
        v = (uint8_t)judge_attempt(&was, &live, &shadow);
        if (v == JUDGE_PASS_CLEAR && !was.offered && w.peer == PEER_CLOSES)
            continue; /* never connected to: that it would say 421 is not about TLS */
        if (!is_true(v, &was, &is)) {
            print_case(&live, &was);
            print_case(&shadow, &is);
            fail_msg("round %u: %s", i, judge_verdict_name(v));
        }
        told += !judge_is_unknown(v);
        unknown += judge_is_unknown(v);
        held += judge_is_held(v);
    }
    /* It does tell something: most of the time it knows, and it finds what would be held. */
    assert_true(told > unknown);
    assert_true(held > 50000);
}

/* What can be told must be told: with equal discovery and names only a host that was not tried is unknown. */
static void nothing_is_unknown_without_a_reason(void **state)
{
    seed = 3;
    for (unsigned i = 0; i < 300000; i++) {
        struct group live = any_group(), shadow = any_group();
        struct wire w = any_wire();
        struct judge_facts f;
        uint8_t v;

        live.dane = shadow.dane = DANE_OFF;
        live.mta_sts = shadow.mta_sts = STS_OFF;
        live.tls_match = shadow.tls_match;
        live.tls_min_version = shadow.tls_min_version;
        f = deliver(&live, &w);
        v = (uint8_t)judge_attempt(&f, &live, &shadow);
        if (judge_is_unknown(v) && !(live.starttls == TLS_OFF && f.offered) && w.peer != PEER_CLOSES &&
            !(shadow.starttls == TLS_ON && live.starttls > TLS_ON && f.tls_failed)) {
            print_case(&live, &f);
            print_case(&shadow, &f);
            fail_msg("round %u: %s", i, judge_verdict_name(v));
        }
    }
}

/* Records of before the columns were there: less is known, nothing wrong is said. */
static void older_records_are_judged_by_what_they_hold(void **state)
{
    seed = 4;
    for (unsigned i = 0; i < 300000; i++) {
        struct group live = any_group(), shadow = any_group();
        struct wire w = any_wire();
        struct judge_facts was, is;
        uint8_t v;

        live.dane = DANE_OFF;
        live.mta_sts = STS_OFF;
        w.tls_required_no = false;
        was = deliver(&live, &w);
        was.failure = TLS_FAILURE_NONE;
        is = deliver(&shadow, &w);
        v = (uint8_t)judge_attempt(&was, &live, &shadow);
        if (!is_true(v, &was, &is)) {
            print_case(&live, &was);
            print_case(&shadow, &is);
            fail_msg("round %u: %s", i, judge_verdict_name(v));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_group_says_the_same),
        cmocka_unit_test(a_verdict_is_what_the_other_group_would_really_have_done),
        cmocka_unit_test(nothing_is_unknown_without_a_reason),
        cmocka_unit_test(older_records_are_judged_by_what_they_hold),
    };

    return cmocka_run_group_tests_name("policy/judge_world", tests, NULL, NULL);
}

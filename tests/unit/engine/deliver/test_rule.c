/* Under which rule a delivery is: every way in which something discovered meets what the group says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/deliver/rule.h"

#define NO_STS   (-1)
#define NO_DANE  (-1)
#define NO_EVENT (-1)

struct row {
    const char *what;
    /* given */
    enum tls_level starttls;
    enum dane_mode dane;
    enum sts_mode mta_sts;
    enum tls_wish wish;
    int sts;     /* enum sts_policy_mode of the policy that was found */
    int records; /* enum dane_state of the TLSA records that apply */
    bool mx_secure;
    const char *host;
    /* then */
    enum tls_level effective;
    enum tls_why why;
    enum tlsrpt_policy policy;
    bool clear;
    int event; /* before connecting */
    enum tls_action action;
};

#define NAMED   "mx1.named.test"
#define UNNAMED "mx.other.test"

/* clang-format off */
static const struct row rows[] = {
    {"the group alone", TLS_ON, DANE_OFF, STS_OFF, TLS_WISH_NONE, NO_STS, NO_DANE, false, NAMED,
     TLS_ON, TLS_WHY_RULE, TLSRPT_NO_POLICY, true, NO_EVENT, 0},
    {"off looks nothing up", TLS_OFF, DANE_TRY, STS_TRY, TLS_WISH_NONE, STS_MODE_ENFORCE, NO_DANE, true, UNNAMED,
     TLS_OFF, TLS_WHY_RULE, TLSRPT_NO_POLICY, true, NO_EVENT, 0},
    {"MTA-STS enforced raises on", TLS_ON, DANE_OFF, STS_TRY, TLS_WISH_NONE, STS_MODE_ENFORCE, NO_DANE, false, NAMED,
     TLS_STS_ENFORCE, TLS_WHY_STS, TLSRPT_STS, false, NO_EVENT, 0},
    {"MTA-STS enforced raises verify", TLS_VERIFY, DANE_OFF, STS_TRY, TLS_WISH_NONE, STS_MODE_ENFORCE, NO_DANE, false, NAMED,
     TLS_STS_ENFORCE, TLS_WHY_STS, TLSRPT_STS, false, NO_EVENT, 0},
    {"an MX that the policy does not name", TLS_ON, DANE_OFF, STS_TRY, TLS_WISH_NONE, STS_MODE_ENFORCE, NO_DANE, false, UNNAMED,
     TLS_STS_ENFORCE, TLS_WHY_STS, TLSRPT_STS, false, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_SKIP_HOST},
    {"testing lets it through", TLS_ON, DANE_OFF, STS_TRY, TLS_WISH_NONE, STS_MODE_TESTING, NO_DANE, false, UNNAMED,
     TLS_STS_TESTING, TLS_WHY_STS, TLSRPT_STS, true, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_CONTINUE},
    {"testing lets it through at require too", TLS_REQUIRE, DANE_OFF, STS_TRY, TLS_WISH_NONE, STS_MODE_TESTING, NO_DANE, false, UNNAMED,
     TLS_REQUIRE, TLS_WHY_RULE, TLSRPT_STS, false, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_CONTINUE},
    {"testing lets it through at verify too", TLS_VERIFY, DANE_OFF, STS_TRY, TLS_WISH_NONE, STS_MODE_TESTING, NO_DANE, false, UNNAMED,
     TLS_VERIFY, TLS_WHY_RULE, TLSRPT_STS, false, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_CONTINUE},
    {"testing does not lower require", TLS_REQUIRE, DANE_OFF, STS_TRY, TLS_WISH_NONE, STS_MODE_TESTING, NO_DANE, false, NAMED,
     TLS_REQUIRE, TLS_WHY_RULE, TLSRPT_STS, false, NO_EVENT, 0},
    {"a policy found for REQUIRETLS is not the group's", TLS_ON, DANE_OFF, STS_OFF, TLS_WISH_NONE, STS_MODE_ENFORCE, NO_DANE, false, UNNAMED,
     TLS_ON, TLS_WHY_RULE, TLSRPT_NO_POLICY, true, NO_EVENT, 0},
    {"usable TLSA raise on", TLS_ON, DANE_TRY, STS_OFF, TLS_WISH_NONE, NO_STS, DANE_USABLE, true, NAMED,
     TLS_DANE, TLS_WHY_DANE, TLSRPT_TLSA, false, NO_EVENT, 0},
    {"usable TLSA raise verify", TLS_VERIFY, DANE_TRY, STS_OFF, TLS_WISH_NONE, NO_STS, DANE_USABLE, false, NAMED,
     TLS_DANE, TLS_WHY_DANE, TLSRPT_TLSA, false, NO_EVENT, 0},
    {"usable TLSA replace MTA-STS", TLS_ON, DANE_TRY, STS_TRY, TLS_WISH_NONE, STS_MODE_ENFORCE, DANE_USABLE, true, UNNAMED,
     TLS_DANE, TLS_WHY_DANE, TLSRPT_TLSA, false, NO_EVENT, 0},
    {"unusable TLSA make TLS mandatory", TLS_ON, DANE_TRY, STS_OFF, TLS_WISH_NONE, NO_STS, DANE_UNUSABLE, true, NAMED,
     TLS_REQUIRE, TLS_WHY_DANE, TLSRPT_TLSA, false, NO_EVENT, 0},
    {"unusable TLSA leave MTA-STS its say", TLS_ON, DANE_TRY, STS_TRY, TLS_WISH_NONE, STS_MODE_ENFORCE, DANE_UNUSABLE, true, NAMED,
     TLS_STS_ENFORCE, TLS_WHY_STS, TLSRPT_TLSA, false, NO_EVENT, 0},
    {"a failed TLSA lookup closes the host", TLS_ON, DANE_TRY, STS_OFF, TLS_WISH_NONE, NO_STS, DANE_FAILED, true, NAMED,
     TLS_ON, TLS_WHY_RULE, TLSRPT_TLSA, true, TLS_EVENT_TLSA_BOGUS, TLS_DO_SKIP_HOST},
    {"dane-only without records", TLS_ON, DANE_ONLY, STS_OFF, TLS_WISH_NONE, NO_STS, NO_DANE, true, NAMED,
     TLS_DANE_ONLY, TLS_WHY_RULE, TLSRPT_TLSA, false, TLS_EVENT_TLSA_ABSENT, TLS_DO_SKIP_HOST},
    {"dane-only with unusable records", TLS_ON, DANE_ONLY, STS_OFF, TLS_WISH_NONE, NO_STS, DANE_UNUSABLE, true, NAMED,
     TLS_DANE_ONLY, TLS_WHY_RULE, TLSRPT_TLSA, false, TLS_EVENT_TLSA_ABSENT, TLS_DO_SKIP_HOST},
    {"dane-only with an unsigned MX", TLS_REQUIRE, DANE_ONLY, STS_OFF, TLS_WISH_NONE, NO_STS, DANE_USABLE, false, NAMED,
     TLS_DANE_ONLY, TLS_WHY_RULE, TLSRPT_TLSA, false, TLS_EVENT_TLSA_ABSENT, TLS_DO_SKIP_HOST},
    {"dane-only with all it wants", TLS_ON, DANE_ONLY, STS_TRY, TLS_WISH_NONE, STS_MODE_ENFORCE, DANE_USABLE, true, UNNAMED,
     TLS_DANE_ONLY, TLS_WHY_RULE, TLSRPT_TLSA, false, NO_EVENT, 0},
    {"REQUIRETLS over a group that is off", TLS_OFF, DANE_OFF, STS_OFF, TLS_WISH_REQUIRED, NO_STS, NO_DANE, true, NAMED,
     TLS_REQUIRETLS, TLS_WHY_REQUIRETLS, TLSRPT_NO_POLICY, false, NO_EVENT, 0},
    {"REQUIRETLS with MTA-STS", TLS_ON, DANE_OFF, STS_OFF, TLS_WISH_REQUIRED, STS_MODE_ENFORCE, NO_DANE, false, UNNAMED,
     TLS_REQUIRETLS, TLS_WHY_REQUIRETLS, TLSRPT_STS, false, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_SKIP_HOST},
    {"REQUIRETLS with DANE", TLS_ON, DANE_OFF, STS_OFF, TLS_WISH_REQUIRED, NO_STS, DANE_USABLE, true, NAMED,
     TLS_REQUIRETLS, TLS_WHY_REQUIRETLS, TLSRPT_TLSA, false, NO_EVENT, 0},
    {"TLS-Required: No forgets all that was found", TLS_VERIFY, DANE_ONLY, STS_TRY, TLS_WISH_OPTIONAL, STS_MODE_ENFORCE, NO_DANE, true, UNNAMED,
     TLS_ON, TLS_WHY_TLS_REQUIRED_NO, TLSRPT_NO_POLICY, true, NO_EVENT, 0},
    {"TLS-Required: No does not switch TLS on", TLS_OFF, DANE_OFF, STS_OFF, TLS_WISH_OPTIONAL, NO_STS, NO_DANE, true, NAMED,
     TLS_OFF, TLS_WHY_TLS_REQUIRED_NO, TLSRPT_NO_POLICY, true, NO_EVENT, 0},
};
/* clang-format on */

static struct sts_policy *policy_of(int mode)
{
    struct sts_policy *p = NULL;
    const char *why = NULL;
    BUF_LOCAL(text);

    if (mode == NO_STS)
        return NULL;
    buf_putf(&text, "version: STSv1\nmode: %s\nmx: *.named.test\nmax_age: 86400\n",
             sts_policy_mode_name((enum sts_policy_mode)mode));
    assert_int_equal(sts_policy_parse("named.test", "1", buf_bytes(&text), &p, &why), OK);
    return p;
}

static void check_row(const struct row *row, enum tls_wish wish)
{
    char nothing[] = "";
    struct group group = {.starttls = row->starttls,
                          .dane = row->dane,
                          .mta_sts = row->mta_sts,
                          .clear_after_tls_failure = CLEAR_NEVER};
    struct security security = {.mx_secure = row->mx_secure, .sts_asked = true, .sts = policy_of(row->sts)};
    struct dane_records records = {
        .state = row->records == NO_DANE ? DANE_ABSENT : (enum dane_state)row->records, .base = nothing};
    struct rule_input in = {.group = &group,
                            .wish = wish,
                            .security = &security,
                            .dane = row->records == NO_DANE ? NULL : &records};
    struct rule rule;
    struct outcome o;
    enum tls_event event = TLS_EVENT_CLOSING;
    unsigned step = 0;

    print_message("%s\n", row->what);
    rule_find(&in, &rule);
    assert_string_equal(tls_level_name(rule.effective), tls_level_name(row->effective));
    assert_string_equal(tls_why_name(rule.why), tls_why_name(row->why));
    assert_int_equal(rule.policy, row->policy);
    assert_int_equal(tls_clear_possible(&rule.facts), row->clear);
    bool asked = rule_before_connect(&in, &rule, row->host, &records, true, &step, &event, &o);
    assert_int_equal(asked, row->event != NO_EVENT);
    if (asked) {
        assert_string_equal(tls_event_name(event), tls_event_name((enum tls_event)row->event));
        assert_string_equal(tls_action_name(tls_decide(&rule.facts, event).action),
                            tls_action_name(row->action));
        assert_true(o.text[0] != '\0');
    }
    security_fini(&security);
}

static void each_discovery_meets_the_group_as_the_model_says(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        check_row(&rows[i], rows[i].wish);
}

static void dane_is_asked_for_where_it_may_decide(void **state)
{
    struct group g = {.starttls = TLS_ON, .dane = DANE_TRY};

    (void)state;
    assert_true(rule_wants_dane(&g, TLS_WISH_NONE, "mx.example"));
    assert_false(rule_wants_dane(&g, TLS_WISH_NONE, "192.0.2.1"));
    assert_false(rule_wants_dane(&g, TLS_WISH_OPTIONAL, "mx.example"));
    g.dane = DANE_OFF;
    assert_false(rule_wants_dane(&g, TLS_WISH_NONE, "mx.example"));
    assert_true(rule_wants_dane(&g, TLS_WISH_REQUIRED, "mx.example"));
    g = (struct group){.starttls = TLS_OFF, .dane = DANE_TRY};
    assert_false(rule_wants_dane(&g, TLS_WISH_NONE, "mx.example"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_discovery_meets_the_group_as_the_model_says),
        cmocka_unit_test(dane_is_asked_for_where_it_may_decide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

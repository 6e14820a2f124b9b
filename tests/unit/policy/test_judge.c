#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "policy/judge.h"

/* ---- groups ---- */

static char listed_name[] = "listed.example", relay_name[] = "relay.example", pin_a[] = "aa", pin_b[] = "bb";
static char priority[] = "SECURE256", ca_file[] = "/ca.pem", user[] = "u";
static char *listed[] = {listed_name}, *pins[] = {pin_a}, *other_pins[] = {pin_b};
static struct smarthost relay[] = {{relay_name, 587, false}}, implicit[] = {{relay_name, 465, true}};

#define GROUP_MIN(min, ...) (&(const struct group){.tls_min_version = min, __VA_ARGS__})
#define GROUP(...)          GROUP_MIN(TLS_VERSION_1_2, __VA_ARGS__)
#define OFF                 GROUP(.starttls = TLS_OFF)
#define ON                  GROUP(.starttls = TLS_ON, .clear_after_tls_failure = CLEAR_LATER)
#define ON_NEVER            GROUP(.starttls = TLS_ON, .clear_after_tls_failure = CLEAR_NEVER)
#define ON_NOW              GROUP(.starttls = TLS_ON, .clear_after_tls_failure = CLEAR_NOW)
#define ON_DANE             GROUP(.starttls = TLS_ON, .dane = DANE_TRY)
#define ON_STS              GROUP(.starttls = TLS_ON, .mta_sts = STS_TRY)
#define REQUIRE             GROUP(.starttls = TLS_REQUIRE)
#define REQUIRE_DANE        GROUP(.starttls = TLS_REQUIRE, .dane = DANE_TRY)
#define REQUIRE_STS         GROUP(.starttls = TLS_REQUIRE, .mta_sts = STS_TRY)
#define REQUIRE_13          GROUP_MIN(TLS_VERSION_1_3, .starttls = TLS_REQUIRE)
#define VERIFY              GROUP(.starttls = TLS_VERIFY)
#define VERIFY_DANE         GROUP(.starttls = TLS_VERIFY, .dane = DANE_TRY)
#define VERIFY_STS          GROUP(.starttls = TLS_VERIFY, .mta_sts = STS_TRY)
#define DANE                GROUP(.starttls = TLS_ON, .dane = DANE_ONLY)
#define LISTED                                                                                               \
    GROUP(.starttls = TLS_VERIFY, .tls_match = NAME_LISTED, .tls_names = listed, .tls_name_count = 1)
#define PINNED       GROUP(.starttls = TLS_VERIFY, .tls_pins = pins, .tls_pin_count = 1)
#define PINNED_OTHER GROUP(.starttls = TLS_VERIFY, .tls_pins = other_pins, .tls_pin_count = 1)
#define VERIFY_CA    GROUP(.starttls = TLS_VERIFY, .ca_file = ca_file)

/* ---- what happened ---- */

#define TLS(text, level, ...)                                                                                \
    {                                                                                                        \
        .delivered = true, .offered = true, .version = text, .effective = level, __VA_ARGS__                 \
    }
#define TLS13(level, ...) TLS("TLS1.3", level, __VA_ARGS__)
#define TLS12(level, ...) TLS("TLS1.2", level, __VA_ARGS__)
#define CLEAR(level, ...)                                                                                    \
    {                                                                                                        \
        .delivered = true, .effective = level, __VA_ARGS__                                                   \
    }
#define HELD(level, ...)                                                                                     \
    {                                                                                                        \
        .tls_failed = true, .effective = level, __VA_ARGS__                                                  \
    }

struct row {
    const struct judge_facts f;
    const struct group *live, *shadow;
    uint8_t verdict;
};

static void check_rows(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint8_t v = (uint8_t)judge_attempt(&rows[i].f, rows[i].live, rows[i].shadow);

        if (v != rows[i].verdict)
            fail_msg("row %zu: %s instead of %s", i, judge_verdict_name(v),
                     judge_verdict_name(rows[i].verdict));
    }
}

static void what_went_in_clear_is_held_by_stricter_rules(void **state)
{
    const struct row rows[] = {
        {CLEAR(TLS_ON), ON, ON, JUDGE_SAME},
        {CLEAR(TLS_ON), ON, OFF, JUDGE_SAME},
        {CLEAR(TLS_ON), ON, ON_NEVER, JUDGE_SAME},
        {CLEAR(TLS_ON), ON, REQUIRE, JUDGE_NO_STARTTLS},
        {CLEAR(TLS_ON), ON, VERIFY, JUDGE_NO_STARTTLS},
        {CLEAR(TLS_ON), ON, REQUIRE_DANE, JUDGE_NO_STARTTLS}, /* DANE only adds to it */
        {CLEAR(TLS_ON), ON, DANE, JUDGE_DANE_ABSENT},
        {CLEAR(TLS_ON, .offered = true), ON, REQUIRE, JUDGE_REFUSED},
        {CLEAR(TLS_ON, .offered = true), ON, ON_NEVER, JUDGE_SAME},
        {CLEAR(TLS_ON, .offered = true, .fallback = true, .later_is_due = true), ON, ON, JUDGE_SAME},
        {CLEAR(TLS_ON, .offered = true, .fallback = true, .later_is_due = true), ON, ON_NOW, JUDGE_SAME},
        {CLEAR(TLS_ON, .offered = true, .fallback = true, .later_is_due = true), ON, ON_NEVER,
         JUDGE_HANDSHAKE},
        {CLEAR(TLS_ON, .offered = true, .fallback = true, .later_is_due = true), ON, REQUIRE,
         JUDGE_HANDSHAKE},
        {CLEAR(TLS_ON, .offered = true, .fallback = true), ON_NOW, ON,
         JUDGE_HANDSHAKE}, /* five minutes longer */
        {CLEAR(TLS_ON, .offered = true, .fallback = true), ON_NOW, OFF, JUDGE_SAME},
        /* by rule: what TLS would have been like, nobody knows */
        {CLEAR(TLS_OFF, .offered = true), OFF, OFF, JUDGE_SAME},
        {CLEAR(TLS_OFF, .offered = true), OFF, ON, JUDGE_UNKNOWN_SESSION},
        {CLEAR(TLS_OFF, .offered = true), OFF, REQUIRE, JUDGE_UNKNOWN_SESSION},
        {CLEAR(TLS_OFF), OFF, ON, JUDGE_SAME},
        {CLEAR(TLS_OFF), OFF, REQUIRE, JUDGE_NO_STARTTLS},
    };

    check_rows(rows, COUNT_OF(rows));
}

static void what_went_encrypted_is_held_by_what_the_session_lacks(void **state)
{
    const struct row rows[] = {
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), ON, ON, JUDGE_SAME},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), ON, OFF, JUDGE_CLEAR},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), ON, REQUIRE, JUDGE_SAME},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), ON, VERIFY, JUDGE_SAME},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_SELF_SIGNED), ON, REQUIRE, JUDGE_SAME},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_SELF_SIGNED), ON, VERIFY, JUDGE_CERT + TLS_VERIFY_SELF_SIGNED},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_UNKNOWN_CA), ON, VERIFY, JUDGE_CERT + TLS_VERIFY_UNKNOWN_CA},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_EXPIRED), ON, VERIFY, JUDGE_CERT + TLS_VERIFY_EXPIRED},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_NOT_YET_VALID), ON, VERIFY,
         JUDGE_CERT + TLS_VERIFY_NOT_YET_VALID},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_WRONG_NAME), ON, VERIFY, JUDGE_CERT + TLS_VERIFY_WRONG_NAME},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_REVOKED), ON, VERIFY, JUDGE_CERT + TLS_VERIFY_REVOKED},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_WEAK), ON, VERIFY, JUDGE_CERT + TLS_VERIFY_WEAK},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_BAD), ON, VERIFY, JUDGE_CERT + TLS_VERIFY_BAD},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_NO_CERT), ON, VERIFY, JUDGE_CERT + TLS_VERIFY_NO_CERT},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_NO_CERT), ON, PINNED, JUDGE_CERT + TLS_VERIFY_NO_CERT},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PIN_MISMATCH), PINNED, PINNED,
         JUDGE_CERT + TLS_VERIFY_PIN_MISMATCH},
        /* versions and key exchange */
        {TLS12(TLS_ON, .verify = TLS_VERIFY_PKIX), ON, REQUIRE, JUDGE_SAME},
        {TLS12(TLS_ON, .verify = TLS_VERIFY_PKIX), ON, REQUIRE_13, JUDGE_VERSION},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), ON, REQUIRE_13, JUDGE_SAME},
        {TLS("TLS1.0", TLS_ON), GROUP_MIN(TLS_VERSION_1_0, .starttls = TLS_ON), ON_NEVER, JUDGE_VERSION},
        {TLS("TLS1.0", TLS_ON), GROUP_MIN(TLS_VERSION_1_0, .starttls = TLS_ON), ON_NOW, JUDGE_CLEAR},
        {TLS12(TLS_ON, .cipher = "TLS_RSA_WITH_AES_128_GCM_SHA256"), ON, ON_NEVER, JUDGE_SAME},
        {TLS12(TLS_ON, .cipher = "TLS_RSA_WITH_AES_128_GCM_SHA256"), ON, REQUIRE, JUDGE_WEAK_KX},
        {TLS12(TLS_ON, .cipher = "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256"), ON, REQUIRE, JUDGE_SAME},
        {TLS12(TLS_ON), ON, GROUP(.starttls = TLS_REQUIRE, .tls_priority = priority), JUDGE_UNKNOWN_SESSION},
        {TLS12(TLS_ON), GROUP(.starttls = TLS_REQUIRE, .tls_priority = priority),
         GROUP(.starttls = TLS_REQUIRE, .tls_priority = priority), JUDGE_SAME},
        {TLS12(TLS_ON), GROUP(.starttls = TLS_ON, .tls_priority = priority), REQUIRE, JUDGE_SAME},
        /* checked against something else */
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), ON, LISTED, JUDGE_UNKNOWN_CERT},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_WRONG_NAME), ON, LISTED, JUDGE_UNKNOWN_CERT},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_EXPIRED), ON, LISTED, JUDGE_CERT + TLS_VERIFY_EXPIRED},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_SELF_SIGNED), ON, LISTED, JUDGE_CERT + TLS_VERIFY_SELF_SIGNED},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), LISTED, LISTED, JUDGE_SAME},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), ON, VERIFY_CA, JUDGE_UNKNOWN_CERT},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_UNKNOWN_CA), ON, VERIFY_CA, JUDGE_UNKNOWN_CERT},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_EXPIRED), ON, VERIFY_CA, JUDGE_CERT + TLS_VERIFY_EXPIRED},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), VERIFY_CA, VERIFY_CA, JUDGE_SAME},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), ON, PINNED, JUDGE_UNKNOWN_CERT},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_EXPIRED), ON, PINNED,
         JUDGE_UNKNOWN_CERT}, /* a pin asks for no date */
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PIN), PINNED, PINNED, JUDGE_SAME},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PIN), PINNED, PINNED_OTHER, JUDGE_UNKNOWN_CERT},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PIN), PINNED, VERIFY, JUDGE_UNKNOWN_CERT},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PIN), PINNED, REQUIRE, JUDGE_SAME},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), NULL, VERIFY, JUDGE_UNKNOWN_CERT},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_EXPIRED), NULL, VERIFY, JUDGE_CERT + TLS_VERIFY_EXPIRED},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), NULL, REQUIRE, JUDGE_SAME},
    };

    check_rows(rows, COUNT_OF(rows));
}

static void discovery_decides_by_what_was_looked_up(void **state)
{
    const struct row rows[] = {
        /* DANE */
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), ON, ON_DANE, JUDGE_UNKNOWN_DANE},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), ON, DANE, JUDGE_UNKNOWN_DANE},
        {TLS13(TLS_ON, .verify = TLS_VERIFY_EXPIRED), ON, VERIFY_DANE,
         JUDGE_UNKNOWN_DANE}, /* a match would do */
        {CLEAR(TLS_ON), ON, ON_DANE, JUDGE_UNKNOWN_DANE},
        {CLEAR(TLS_ON, .dane = DANE_RESULT_NONE), ON_DANE, REQUIRE_DANE, JUDGE_NO_STARTTLS},
        {TLS13(TLS_ON, .dane = DANE_RESULT_NONE), ON_DANE, REQUIRE_DANE, JUDGE_SAME},
        {TLS13(TLS_ON, .dane = DANE_RESULT_NONE), ON_DANE, DANE, JUDGE_DANE_ABSENT},
        {TLS13(TLS_ON, .dane = DANE_RESULT_UNUSABLE), ON_DANE, DANE, JUDGE_DANE_ABSENT},
        {TLS13(TLS_ON, .dane = DANE_RESULT_NONE, .verify = TLS_VERIFY_SELF_SIGNED), ON_DANE, VERIFY_DANE,
         JUDGE_CERT + TLS_VERIFY_SELF_SIGNED},
        {TLS13(TLS_DANE, .dane = DANE_RESULT_MATCH, .verify = TLS_VERIFY_DANE), ON_DANE, DANE, JUDGE_SAME},
        {TLS13(TLS_DANE, .dane = DANE_RESULT_MATCH, .verify = TLS_VERIFY_DANE_HALF), ON_DANE, DANE,
         JUDGE_DANE_ABSENT},
        {TLS13(TLS_DANE, .dane = DANE_RESULT_MATCH, .verify = TLS_VERIFY_DANE), ON_DANE, VERIFY_DANE,
         JUDGE_SAME},
        {TLS13(TLS_DANE, .dane = DANE_RESULT_MATCH, .verify = TLS_VERIFY_DANE), ON_DANE, VERIFY,
         JUDGE_UNKNOWN_CERT},
        {TLS13(TLS_DANE, .dane = DANE_RESULT_MATCH, .verify = TLS_VERIFY_DANE), ON_DANE, REQUIRE, JUDGE_SAME},
        {TLS13(TLS_ON, .dane = DANE_RESULT_MISMATCH, .why = TLS_WHY_TLS_REQUIRED_NO), ON_DANE, ON_DANE,
         JUDGE_SAME},
        {TLS13(TLS_ON, .dane = DANE_RESULT_FOUND), ON_DANE, VERIFY_DANE, JUDGE_UNKNOWN_DANE},
        /* a mismatch or a lookup that fails goes with no level where DANE is looked up */
        {TLS13(TLS_ON, .dane = DANE_RESULT_MISMATCH), ON, ON_DANE, JUDGE_DANE_MISMATCH},
        {TLS13(TLS_ON, .dane = DANE_RESULT_BOGUS), ON, ON_DANE, JUDGE_DANE_BOGUS},
        /* MTA-STS */
        {TLS13(TLS_ON, .verify = TLS_VERIFY_PKIX), ON, ON_STS, JUDGE_UNKNOWN_STS},
        {CLEAR(TLS_ON), ON, ON_STS, JUDGE_UNKNOWN_STS},
        {CLEAR(TLS_ON), ON, REQUIRE_STS, JUDGE_NO_STARTTLS},
        {CLEAR(TLS_ON, .sts = STS_RESULT_NONE), ON_STS, ON_STS, JUDGE_SAME},
        {CLEAR(TLS_ON, .sts = STS_RESULT_FAILED), ON_STS, REQUIRE_STS, JUDGE_NO_STARTTLS},
        {CLEAR(TLS_ON, .sts = STS_RESULT_MODE_NONE), ON_STS, ON_STS, JUDGE_SAME},
        {TLS13(TLS_STS_ENFORCE, .sts = STS_RESULT_OK, .verify = TLS_VERIFY_PKIX), ON_STS, VERIFY_STS,
         JUDGE_SAME},
        {TLS13(TLS_STS_TESTING, .sts = STS_RESULT_CERT_BAD, .verify = TLS_VERIFY_EXPIRED), ON_STS,
         REQUIRE_STS, JUDGE_SAME},
        {TLS13(TLS_STS_TESTING, .sts = STS_RESULT_MX_MISMATCH, .verify = TLS_VERIFY_PKIX), ON_STS, VERIFY_STS,
         JUDGE_SAME},
        {TLS13(TLS_STS_ENFORCE, .sts = STS_RESULT_OK, .verify = TLS_VERIFY_PKIX), ON_STS, OFF, JUDGE_CLEAR},
        /* a session that only older rules let through */
        {TLS13(TLS_STS_ENFORCE, .sts = STS_RESULT_CERT_BAD, .verify = TLS_VERIFY_EXPIRED), ON_STS, ON_STS,
         JUDGE_STS_CERT},
        {TLS13(TLS_STS_ENFORCE, .sts = STS_RESULT_MX_MISMATCH, .verify = TLS_VERIFY_PKIX), ON_STS, ON_STS,
         JUDGE_STS_MX},
        /* both: DANE goes first */
        {TLS13(TLS_DANE, .dane = DANE_RESULT_MATCH, .verify = TLS_VERIFY_DANE),
         GROUP(.starttls = TLS_ON, .dane = DANE_TRY),
         GROUP(.starttls = TLS_ON, .dane = DANE_TRY, .mta_sts = STS_TRY), JUDGE_SAME},
    };

    check_rows(rows, COUNT_OF(rows));
}

static void what_was_held_may_pass_by_looser_rules(void **state)
{
    const struct row rows[] = {
        {HELD(TLS_REQUIRE, .failure = TLS_FAILURE_STARTTLS_NOT_SUPPORTED), REQUIRE, REQUIRE, JUDGE_SAME},
        {HELD(TLS_REQUIRE, .failure = TLS_FAILURE_STARTTLS_NOT_SUPPORTED), REQUIRE, VERIFY, JUDGE_SAME},
        {HELD(TLS_REQUIRE, .failure = TLS_FAILURE_STARTTLS_NOT_SUPPORTED), REQUIRE, ON, JUDGE_PASS_CLEAR},
        {HELD(TLS_REQUIRE, .failure = TLS_FAILURE_STARTTLS_NOT_SUPPORTED), REQUIRE, OFF, JUDGE_PASS_CLEAR},
        {HELD(TLS_REQUIRE, .offered = true, .failure = TLS_FAILURE_STARTTLS_NOT_SUPPORTED), REQUIRE, ON,
         JUDGE_PASS_CLEAR},
        {HELD(TLS_REQUIRE, .offered = true, .failure = TLS_FAILURE_VALIDATION), REQUIRE, VERIFY, JUDGE_SAME},
        {HELD(TLS_REQUIRE, .offered = true, .failure = TLS_FAILURE_VALIDATION), REQUIRE, ON_NOW,
         JUDGE_PASS_CLEAR},
        /* static RSA may be all it has, and only `on` offers that */
        {HELD(TLS_REQUIRE, .offered = true, .failure = TLS_FAILURE_VALIDATION), REQUIRE, ON_NEVER,
         JUDGE_UNKNOWN_SESSION},
        {HELD(TLS_ON, .offered = true, .failure = TLS_FAILURE_VALIDATION), ON_NEVER, ON, JUDGE_SAME},
        {HELD(TLS_ON, .offered = true, .failure = TLS_FAILURE_VALIDATION, .later_is_due = true), ON_NEVER, ON,
         JUDGE_PASS_CLEAR},
        {HELD(TLS_ON, .offered = true, .failure = TLS_FAILURE_VALIDATION), ON,
         GROUP_MIN(TLS_VERSION_1_0, .starttls = TLS_ON), JUDGE_UNKNOWN_SESSION},
        {HELD(TLS_ON, .offered = true, .failure = TLS_FAILURE_VALIDATION), ON_NEVER, ON_NEVER, JUDGE_SAME},
        /* older records: refused, broken and closing look alike */
        {HELD(TLS_REQUIRE, .offered = true), REQUIRE, VERIFY, JUDGE_SAME},
        {HELD(TLS_REQUIRE, .offered = true), REQUIRE, ON_NEVER, JUDGE_UNKNOWN_SESSION},
        {HELD(TLS_REQUIRE, .offered = true), REQUIRE, OFF, JUDGE_PASS_CLEAR},
        /* certificates */
        {HELD(TLS_VERIFY, .offered = true, .version = "TLS1.3", .verify = TLS_VERIFY_EXPIRED), VERIFY,
         REQUIRE, JUDGE_PASS},
        {HELD(TLS_VERIFY, .offered = true, .version = "TLS1.3", .verify = TLS_VERIFY_EXPIRED), VERIFY, VERIFY,
         JUDGE_SAME},
        {HELD(TLS_VERIFY, .offered = true, .version = "TLS1.3", .verify = TLS_VERIFY_WRONG_NAME), VERIFY,
         LISTED, JUDGE_UNKNOWN_CERT},
        {HELD(TLS_VERIFY, .offered = true, .version = "TLS1.3", .verify = TLS_VERIFY_EXPIRED), VERIFY, OFF,
         JUDGE_PASS_CLEAR},
        /* lost inside a session that was good enough: as a failed handshake */
        {HELD(TLS_REQUIRE, .offered = true, .version = "TLS1.3", .verify = TLS_VERIFY_EXPIRED), REQUIRE,
         VERIFY, JUDGE_SAME},
        {HELD(TLS_ON, .offered = true, .version = "TLS1.3", .verify = TLS_VERIFY_EXPIRED), ON, ON,
         JUDGE_SAME},
        {HELD(TLS_VERIFY, .offered = true, .version = "TLS1.3", .verify = TLS_VERIFY_PKIX), VERIFY, VERIFY,
         JUDGE_SAME},
        /* hosts that were left out: nothing is known of them */
        {HELD(TLS_ON, .dane = DANE_RESULT_BOGUS, .failure = TLS_FAILURE_DNSSEC_INVALID), ON_DANE, ON_DANE,
         JUDGE_SAME},
        {HELD(TLS_ON, .dane = DANE_RESULT_BOGUS, .failure = TLS_FAILURE_DNSSEC_INVALID), ON_DANE, ON,
         JUDGE_UNKNOWN_SESSION},
        {HELD(TLS_ON, .dane = DANE_RESULT_BOGUS, .failure = TLS_FAILURE_DNSSEC_INVALID), ON_DANE, OFF,
         JUDGE_PASS_CLEAR},
        {HELD(TLS_DANE_ONLY, .dane = DANE_RESULT_NONE, .failure = TLS_FAILURE_DANE_REQUIRED), DANE, DANE,
         JUDGE_SAME},
        {HELD(TLS_DANE_ONLY, .dane = DANE_RESULT_NONE, .failure = TLS_FAILURE_DANE_REQUIRED), DANE, REQUIRE,
         JUDGE_UNKNOWN_SESSION},
        {HELD(TLS_STS_ENFORCE, .sts = STS_RESULT_MX_MISMATCH), ON_STS, ON_STS, JUDGE_SAME},
        {HELD(TLS_STS_ENFORCE, .sts = STS_RESULT_MX_MISMATCH), ON_STS, VERIFY, JUDGE_UNKNOWN_SESSION},
        {HELD(TLS_DANE, .offered = true, .version = "TLS1.3", .verify = TLS_VERIFY_PKIX,
              .dane = DANE_RESULT_MISMATCH, .failure = TLS_FAILURE_TLSA_INVALID),
         ON_DANE, VERIFY, JUDGE_PASS},
        {HELD(TLS_DANE, .offered = true, .version = "TLS1.3", .verify = TLS_VERIFY_PKIX,
              .dane = DANE_RESULT_MISMATCH, .failure = TLS_FAILURE_TLSA_INVALID),
         ON_DANE, VERIFY_DANE, JUDGE_SAME},
        {HELD(TLS_DANE, .dane = DANE_RESULT_FOUND, .failure = TLS_FAILURE_STARTTLS_NOT_SUPPORTED), ON_DANE,
         ON, JUDGE_PASS_CLEAR},
        {HELD(TLS_DANE, .dane = DANE_RESULT_FOUND, .failure = TLS_FAILURE_STARTTLS_NOT_SUPPORTED), ON_DANE,
         ON_DANE, JUDGE_SAME},
        {HELD(TLS_STS_ENFORCE, .offered = true, .version = "TLS1.2", .sts = STS_RESULT_CERT_BAD,
              .verify = TLS_VERIFY_UNKNOWN_CA),
         ON_STS, ON, JUDGE_PASS},
        {HELD(TLS_STS_ENFORCE, .offered = true, .version = "TLS1.2", .sts = STS_RESULT_CERT_BAD,
              .verify = TLS_VERIFY_UNKNOWN_CA),
         ON_STS, VERIFY, JUDGE_SAME},
    };

    check_rows(rows, COUNT_OF(rows));
}

static void checks_are_the_same_only_where_all_that_is_asked_of_a_session_is(void **state)
{
    static char *one[] = {listed_name};
    const struct group *others[] = {
        GROUP(.starttls = TLS_VERIFY, .port = 26),
        GROUP(.starttls = TLS_VERIFY, .route = ROUTE_SMARTHOST, .hosts = relay, .host_count = 1),
        GROUP(.starttls = TLS_VERIFY, .tls_match = NAME_NEXTHOP),
        GROUP(.starttls = TLS_VERIFY, .tls_match = NAME_LISTED, .tls_names = one, .tls_name_count = 1),
        VERIFY_CA,
        PINNED,
        GROUP(.starttls = TLS_VERIFY, .tls_priority = priority),
        GROUP_MIN(TLS_VERSION_1_3, .starttls = TLS_VERIFY),
        GROUP(.starttls = TLS_VERIFY, .auth_user = user),
        GROUP(.starttls = TLS_VERIFY, .clear_after_tls_failure = CLEAR_NOW),
    };

    for (size_t i = 0; i < COUNT_OF(others); i++) {
        assert_true(judge_same_checks(others[i], others[i]));
        assert_false(judge_same_checks(others[i], VERIFY));
        assert_false(judge_same_checks(VERIFY, others[i]));
    }
    /* what was asked for is recorded with each attempt */
    assert_true(judge_same_checks(VERIFY, REQUIRE));
    assert_true(judge_same_checks(VERIFY, VERIFY_DANE));
    assert_true(judge_same_checks(VERIFY, VERIFY_STS));
}

static void other_hosts_other_requirements_and_other_failures_are_not_guessed_at(void **state)
{
    const struct row rows[] = {
        /* not about TLS */
        {{.offered = true, .version = "TLS1.3"}, ON, VERIFY, JUDGE_SAME},
        {{.effective = TLS_ON}, ON, DANE, JUDGE_SAME},
        /* routes */
        {CLEAR(TLS_ON), ON,
         GROUP(.starttls = TLS_ON, .route = ROUTE_SMARTHOST, .hosts = relay, .host_count = 1),
         JUDGE_UNKNOWN_ROUTE},
        {CLEAR(TLS_ON), NULL,
         GROUP(.starttls = TLS_ON, .route = ROUTE_SMARTHOST, .hosts = relay, .host_count = 1),
         JUDGE_UNKNOWN_ROUTE},
        {CLEAR(TLS_ON), ON, GROUP(.starttls = TLS_ON, .port = 26), JUDGE_UNKNOWN_ROUTE},
        {CLEAR(TLS_ON), GROUP(.starttls = TLS_ON, .route = ROUTE_SMARTHOST, .hosts = relay, .host_count = 1),
         GROUP(.starttls = TLS_ON, .route = ROUTE_SMARTHOST, .hosts = relay, .host_count = 1,
               .auth_user = user),
         JUDGE_NO_STARTTLS}, /* credentials never go in clear */
        {CLEAR(TLS_ON), GROUP(.starttls = TLS_ON, .route = ROUTE_SMARTHOST, .hosts = relay, .host_count = 1),
         GROUP(.starttls = TLS_ON, .route = ROUTE_SMARTHOST, .hosts = implicit, .host_count = 1),
         JUDGE_UNKNOWN_ROUTE},
        {TLS13(TLS_OFF),
         GROUP(.starttls = TLS_OFF, .route = ROUTE_SMARTHOST, .hosts = implicit, .host_count = 1),
         GROUP(.starttls = TLS_OFF, .route = ROUTE_SMARTHOST, .hosts = implicit, .host_count = 1),
         JUDGE_SAME},
        /* messages with a requirement of their own */
        {TLS13(TLS_REQUIRETLS, .why = TLS_WHY_REQUIRETLS), ON_DANE, REQUIRE_DANE, JUDGE_SAME},
        {TLS13(TLS_REQUIRETLS, .why = TLS_WHY_REQUIRETLS), ON_DANE, REQUIRE, JUDGE_UNKNOWN_REQUIRETLS},
        {HELD(TLS_REQUIRETLS), ON_DANE, ON_DANE, JUDGE_SAME},
        {TLS13(TLS_REQUIRETLS, .why = TLS_WHY_REQUIRETLS), NULL, ON, JUDGE_UNKNOWN_REQUIRETLS},
        /* TLS-Required: No asks for `on` at most, whatever the group says */
        {CLEAR(TLS_ON, .why = TLS_WHY_TLS_REQUIRED_NO), REQUIRE, VERIFY, JUDGE_SAME},
        {CLEAR(TLS_ON, .why = TLS_WHY_TLS_REQUIRED_NO), REQUIRE, DANE, JUDGE_SAME},
        {TLS13(TLS_ON, .why = TLS_WHY_TLS_REQUIRED_NO, .verify = TLS_VERIFY_EXPIRED), REQUIRE, VERIFY_DANE,
         JUDGE_SAME},
        {TLS13(TLS_ON, .why = TLS_WHY_TLS_REQUIRED_NO), REQUIRE, OFF, JUDGE_CLEAR},
    };

    check_rows(rows, COUNT_OF(rows));
}

/* ---- a small world in which every group can be asked what it really does ---- */

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

static void every_verdict_has_a_name_of_its_own_and_a_reason(void **state)
{
    for (unsigned v = 0; v <= UINT8_MAX; v++) {
        uint8_t back;

        if (strcmp(judge_verdict_name((uint8_t)v), "unknown") == 0)
            continue;
        assert_true(judge_verdict_parse(judge_verdict_name((uint8_t)v), &back));
        assert_int_equal(back, v);
        assert_true(strlen(judge_verdict_reason((uint8_t)v)) > 5);
        assert_int_equal(judge_is_held((uint8_t)v), strncmp(judge_verdict_name((uint8_t)v), "held-", 5) == 0);
        assert_int_equal(judge_is_unknown((uint8_t)v),
                         strncmp(judge_verdict_name((uint8_t)v), "unknown-", 8) == 0);
    }
    assert_false(judge_verdict_parse("held-because", &(uint8_t){0}));
    assert_string_equal(judge_verdict_name(200), "unknown");
    assert_string_equal(judge_verdict_reason(200), "not known to this version");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_went_in_clear_is_held_by_stricter_rules),
        cmocka_unit_test(what_went_encrypted_is_held_by_what_the_session_lacks),
        cmocka_unit_test(discovery_decides_by_what_was_looked_up),
        cmocka_unit_test(what_was_held_may_pass_by_looser_rules),
        cmocka_unit_test(checks_are_the_same_only_where_all_that_is_asked_of_a_session_is),
        cmocka_unit_test(other_hosts_other_requirements_and_other_failures_are_not_guessed_at),
        cmocka_unit_test(the_same_group_says_the_same),
        cmocka_unit_test(a_verdict_is_what_the_other_group_would_really_have_done),
        cmocka_unit_test(nothing_is_unknown_without_a_reason),
        cmocka_unit_test(older_records_are_judged_by_what_they_hold),
        cmocka_unit_test(every_verdict_has_a_name_of_its_own_and_a_reason),
    };

    return cmocka_run_group_tests_name("policy/judge", tests, NULL, NULL);
}

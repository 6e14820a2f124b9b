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
        cmocka_unit_test(every_verdict_has_a_name_of_its_own_and_a_reason),
    };

    return cmocka_run_group_tests_name("policy/judge", tests, NULL, NULL);
}

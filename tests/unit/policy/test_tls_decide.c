#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "policy/tls_decide.h"

#define LEVELS (TLS_REQUIRETLS + 1)
#define EVENTS (TLS_EVENT_CLOSING + 1)

/* One cell of the decision table: first attempt, fallback `later`, MX without DNSSEC, nothing special. */
struct cell {
    enum tls_level level;
    enum tls_event event;
    enum tls_action action;
    const char *enhanced;
    bool count_failure;
};

/* clang-format off */
static const struct cell cells[] = {
    {TLS_OFF, TLS_EVENT_NOT_OFFERED, TLS_DO_CLEAR, "", false},
    {TLS_OFF, TLS_EVENT_REFUSED, TLS_DO_NEXT, "4.7.4", false},
    {TLS_OFF, TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_NEXT, "4.7.5", false},
    {TLS_OFF, TLS_EVENT_CLOSING, TLS_DO_NEXT, "4.7.4", false},
    {TLS_OFF, TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5", false},
    {TLS_OFF, TLS_EVENT_CERT_BAD, TLS_DO_TLS, "", false},
    {TLS_OFF, TLS_EVENT_CERT_GOOD, TLS_DO_TLS, "", false},
    {TLS_OFF, TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, "", false},
    {TLS_OFF, TLS_EVENT_TLSA_MISMATCH, TLS_DO_NEXT, "4.7.5", false},
    {TLS_OFF, TLS_EVENT_TLSA_BOGUS, TLS_DO_CONTINUE, "", false},
    {TLS_OFF, TLS_EVENT_TLSA_ABSENT, TLS_DO_CONTINUE, "", false},
    {TLS_OFF, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_CONTINUE, "", false},

    {TLS_ON, TLS_EVENT_NOT_OFFERED, TLS_DO_CLEAR, "", true},
    {TLS_ON, TLS_EVENT_REFUSED, TLS_DO_CLEAR, "", true},
    {TLS_ON, TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_NEXT, "4.7.5", true},
    {TLS_ON, TLS_EVENT_CLOSING, TLS_DO_NEXT, "4.7.4", false},
    {TLS_ON, TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5", true},
    {TLS_ON, TLS_EVENT_CERT_BAD, TLS_DO_TLS, "", true},
    {TLS_ON, TLS_EVENT_CERT_GOOD, TLS_DO_TLS, "", false},
    {TLS_ON, TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, "", false},
    {TLS_ON, TLS_EVENT_TLSA_MISMATCH, TLS_DO_NEXT, "4.7.5", true},
    {TLS_ON, TLS_EVENT_TLSA_BOGUS, TLS_DO_SKIP_HOST, "4.7.5", true},
    {TLS_ON, TLS_EVENT_TLSA_ABSENT, TLS_DO_CONTINUE, "", false},
    {TLS_ON, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_SKIP_HOST, "4.7.5", true},

    {TLS_REQUIRE, TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4", true},
    {TLS_REQUIRE, TLS_EVENT_REFUSED, TLS_DO_NEXT, "4.7.4", true},
    {TLS_REQUIRE, TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_NEXT, "4.7.5", true},
    {TLS_REQUIRE, TLS_EVENT_CLOSING, TLS_DO_NEXT, "4.7.4", false},
    {TLS_REQUIRE, TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5", true},
    {TLS_REQUIRE, TLS_EVENT_CERT_BAD, TLS_DO_TLS, "", true},
    {TLS_REQUIRE, TLS_EVENT_CERT_GOOD, TLS_DO_TLS, "", false},
    {TLS_REQUIRE, TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, "", false},
    {TLS_REQUIRE, TLS_EVENT_TLSA_MISMATCH, TLS_DO_NEXT, "4.7.5", true},
    {TLS_REQUIRE, TLS_EVENT_TLSA_BOGUS, TLS_DO_SKIP_HOST, "4.7.5", true},
    {TLS_REQUIRE, TLS_EVENT_TLSA_ABSENT, TLS_DO_CONTINUE, "", false},
    {TLS_REQUIRE, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_SKIP_HOST, "4.7.5", true},

    {TLS_VERIFY, TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4", true},
    {TLS_VERIFY, TLS_EVENT_REFUSED, TLS_DO_NEXT, "4.7.4", true},
    {TLS_VERIFY, TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_NEXT, "4.7.5", true},
    {TLS_VERIFY, TLS_EVENT_CLOSING, TLS_DO_NEXT, "4.7.4", false},
    {TLS_VERIFY, TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5", true},
    {TLS_VERIFY, TLS_EVENT_CERT_BAD, TLS_DO_NEXT, "4.7.5", true},
    {TLS_VERIFY, TLS_EVENT_CERT_GOOD, TLS_DO_TLS, "", false},
    {TLS_VERIFY, TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, "", false},
    {TLS_VERIFY, TLS_EVENT_TLSA_MISMATCH, TLS_DO_NEXT, "4.7.5", true},
    {TLS_VERIFY, TLS_EVENT_TLSA_BOGUS, TLS_DO_SKIP_HOST, "4.7.5", true},
    {TLS_VERIFY, TLS_EVENT_TLSA_ABSENT, TLS_DO_CONTINUE, "", false},
    {TLS_VERIFY, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_SKIP_HOST, "4.7.5", true},

    {TLS_STS_ENFORCE, TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4", true},
    {TLS_STS_ENFORCE, TLS_EVENT_REFUSED, TLS_DO_NEXT, "4.7.4", true},
    {TLS_STS_ENFORCE, TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_NEXT, "4.7.5", true},
    {TLS_STS_ENFORCE, TLS_EVENT_CLOSING, TLS_DO_NEXT, "4.7.4", false},
    {TLS_STS_ENFORCE, TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5", true},
    {TLS_STS_ENFORCE, TLS_EVENT_CERT_BAD, TLS_DO_NEXT, "4.7.5", true},
    {TLS_STS_ENFORCE, TLS_EVENT_CERT_GOOD, TLS_DO_TLS, "", false},
    {TLS_STS_ENFORCE, TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, "", false},
    {TLS_STS_ENFORCE, TLS_EVENT_TLSA_MISMATCH, TLS_DO_NEXT, "4.7.5", true},
    {TLS_STS_ENFORCE, TLS_EVENT_TLSA_BOGUS, TLS_DO_SKIP_HOST, "4.7.5", true},
    {TLS_STS_ENFORCE, TLS_EVENT_TLSA_ABSENT, TLS_DO_CONTINUE, "", false},
    {TLS_STS_ENFORCE, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_SKIP_HOST, "4.7.5", true},

    {TLS_DANE, TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4", true},
    {TLS_DANE, TLS_EVENT_REFUSED, TLS_DO_NEXT, "4.7.4", true},
    {TLS_DANE, TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_NEXT, "4.7.5", true},
    {TLS_DANE, TLS_EVENT_CLOSING, TLS_DO_NEXT, "4.7.4", false},
    {TLS_DANE, TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5", true},
    {TLS_DANE, TLS_EVENT_CERT_BAD, TLS_DO_NEXT, "4.7.5", false},
    {TLS_DANE, TLS_EVENT_CERT_GOOD, TLS_DO_NEXT, "4.7.5", false},
    {TLS_DANE, TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, "", false},
    {TLS_DANE, TLS_EVENT_TLSA_MISMATCH, TLS_DO_NEXT, "4.7.5", true},
    {TLS_DANE, TLS_EVENT_TLSA_BOGUS, TLS_DO_SKIP_HOST, "4.7.5", true},
    {TLS_DANE, TLS_EVENT_TLSA_ABSENT, TLS_DO_SKIP_HOST, "4.7.5", false},
    {TLS_DANE, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_CONTINUE, "", false},

    {TLS_DANE_ONLY, TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4", true},
    {TLS_DANE_ONLY, TLS_EVENT_REFUSED, TLS_DO_NEXT, "4.7.4", true},
    {TLS_DANE_ONLY, TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_NEXT, "4.7.5", true},
    {TLS_DANE_ONLY, TLS_EVENT_CLOSING, TLS_DO_NEXT, "4.7.4", false},
    {TLS_DANE_ONLY, TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5", true},
    {TLS_DANE_ONLY, TLS_EVENT_CERT_BAD, TLS_DO_NEXT, "4.7.5", false},
    {TLS_DANE_ONLY, TLS_EVENT_CERT_GOOD, TLS_DO_NEXT, "4.7.5", false},
    {TLS_DANE_ONLY, TLS_EVENT_TLSA_MATCH, TLS_DO_NEXT, "4.7.5", false},
    {TLS_DANE_ONLY, TLS_EVENT_TLSA_MISMATCH, TLS_DO_NEXT, "4.7.5", true},
    {TLS_DANE_ONLY, TLS_EVENT_TLSA_BOGUS, TLS_DO_SKIP_HOST, "4.7.5", true},
    {TLS_DANE_ONLY, TLS_EVENT_TLSA_ABSENT, TLS_DO_SKIP_HOST, "4.7.5", true},
    {TLS_DANE_ONLY, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_CONTINUE, "", false},

    {TLS_REQUIRETLS, TLS_EVENT_NOT_OFFERED, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_REQUIRETLS, TLS_EVENT_REFUSED, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_REQUIRETLS, TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_REQUIRETLS, TLS_EVENT_CLOSING, TLS_DO_NEXT, "4.7.4", false},
    {TLS_REQUIRETLS, TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_REQUIRETLS, TLS_EVENT_CERT_BAD, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_REQUIRETLS, TLS_EVENT_CERT_GOOD, TLS_DO_BOUNCE, "5.7.30", false},
    {TLS_REQUIRETLS, TLS_EVENT_TLSA_MATCH, TLS_DO_BOUNCE, "5.7.30", false},
    {TLS_REQUIRETLS, TLS_EVENT_TLSA_MISMATCH, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_REQUIRETLS, TLS_EVENT_TLSA_BOGUS, TLS_DO_SKIP_HOST, "4.7.5", true},
    {TLS_REQUIRETLS, TLS_EVENT_TLSA_ABSENT, TLS_DO_CONTINUE, "", false},
    {TLS_REQUIRETLS, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_SKIP_HOST, "4.7.5", true},
};

/* The same with the message's REQUIRETLS flag; levels that are not here decide as `on` does. */
static const struct cell requiretls_cells[] = {
    {TLS_ON, TLS_EVENT_NOT_OFFERED, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_ON, TLS_EVENT_REFUSED, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_ON, TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_ON, TLS_EVENT_CLOSING, TLS_DO_NEXT, "4.7.4", false},
    {TLS_ON, TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_ON, TLS_EVENT_CERT_BAD, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_ON, TLS_EVENT_CERT_GOOD, TLS_DO_BOUNCE, "5.7.30", false},
    {TLS_ON, TLS_EVENT_TLSA_MATCH, TLS_DO_BOUNCE, "5.7.30", false},
    {TLS_ON, TLS_EVENT_TLSA_MISMATCH, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_ON, TLS_EVENT_TLSA_BOGUS, TLS_DO_SKIP_HOST, "4.7.5", true},
    {TLS_ON, TLS_EVENT_TLSA_ABSENT, TLS_DO_CONTINUE, "", false},
    {TLS_ON, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_SKIP_HOST, "4.7.5", true},

    {TLS_STS_ENFORCE, TLS_EVENT_NOT_OFFERED, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_STS_ENFORCE, TLS_EVENT_REFUSED, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_STS_ENFORCE, TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_STS_ENFORCE, TLS_EVENT_CLOSING, TLS_DO_NEXT, "4.7.4", false},
    {TLS_STS_ENFORCE, TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_STS_ENFORCE, TLS_EVENT_CERT_BAD, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_STS_ENFORCE, TLS_EVENT_CERT_GOOD, TLS_DO_TLS, "", false},
    {TLS_STS_ENFORCE, TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, "", false},
    {TLS_STS_ENFORCE, TLS_EVENT_TLSA_MISMATCH, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_STS_ENFORCE, TLS_EVENT_TLSA_BOGUS, TLS_DO_SKIP_HOST, "4.7.5", true},
    {TLS_STS_ENFORCE, TLS_EVENT_TLSA_ABSENT, TLS_DO_CONTINUE, "", false},
    {TLS_STS_ENFORCE, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_SKIP_HOST, "4.7.5", true},

    {TLS_DANE, TLS_EVENT_NOT_OFFERED, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_DANE, TLS_EVENT_REFUSED, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_DANE, TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_DANE, TLS_EVENT_CLOSING, TLS_DO_NEXT, "4.7.4", false},
    {TLS_DANE, TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_DANE, TLS_EVENT_CERT_BAD, TLS_DO_NEXT, "4.7.5", false},
    {TLS_DANE, TLS_EVENT_CERT_GOOD, TLS_DO_NEXT, "4.7.5", false},
    {TLS_DANE, TLS_EVENT_TLSA_MATCH, TLS_DO_BOUNCE, "5.7.30", false},
    {TLS_DANE, TLS_EVENT_TLSA_MISMATCH, TLS_DO_BOUNCE, "5.7.30", true},
    {TLS_DANE, TLS_EVENT_TLSA_BOGUS, TLS_DO_SKIP_HOST, "4.7.5", true},
    {TLS_DANE, TLS_EVENT_TLSA_ABSENT, TLS_DO_SKIP_HOST, "4.7.5", false},
    {TLS_DANE, TLS_EVENT_STS_MX_MISMATCH, TLS_DO_CONTINUE, "", false},
};
/* clang-format on */

/* What else can change a decision: the facts in full. */
struct variant {
    const char *why;
    struct tls_facts facts;
    enum tls_event event;
    enum tls_action action;
    const char *enhanced;
};

#define ON(...)                                                                                              \
    {                                                                                                        \
        .level = TLS_ON, .group_level = TLS_ON, __VA_ARGS__                                                  \
    }
#define LEVEL(l, ...)                                                                                        \
    {                                                                                                        \
        .level = (l), .group_level = TLS_ON, __VA_ARGS__                                                     \
    }
#define TESTING(l, ...)                                                                                      \
    {                                                                                                        \
        .level = TLS_STS_TESTING, .group_level = (l), .fallback = CLEAR_LATER, __VA_ARGS__                   \
    }

/* clang-format off */
static const struct variant variants[] = {
    /* clear_after_tls_failure */
    {"never means never", ON(.fallback = CLEAR_NEVER, .later_is_due = true), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5"},
    {"never still takes a server that offers nothing", ON(.fallback = CLEAR_NEVER), TLS_EVENT_NOT_OFFERED, TLS_DO_CLEAR, ""},
    {"never still takes a clean refusal", ON(.fallback = CLEAR_NEVER), TLS_EVENT_REFUSED, TLS_DO_CLEAR, ""},
    {"later is not yet", ON(.fallback = CLEAR_LATER), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5"},
    {"later is due", ON(.fallback = CLEAR_LATER, .later_is_due = true), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_RECONNECT_CLEAR, ""},
    {"now is at once", ON(.fallback = CLEAR_NOW), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_RECONNECT_CLEAR, ""},
    {"an unclean refusal is a failed handshake: not yet", ON(.fallback = CLEAR_LATER), TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_NEXT, "4.7.5"},
    {"an unclean refusal is a failed handshake: due", ON(.fallback = CLEAR_LATER, .later_is_due = true), TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_RECONNECT_CLEAR, ""},
    {"an unclean refusal is a failed handshake: now", ON(.fallback = CLEAR_NOW), TLS_EVENT_REFUSED_UNCLEAN, TLS_DO_RECONNECT_CLEAR, ""},
    {"421 is a closing host, not a refusal", ON(.fallback = CLEAR_NOW, .later_is_due = true), TLS_EVENT_CLOSING, TLS_DO_NEXT, "4.7.4"},
    {"a bad certificate is no failure of TLS", ON(.fallback = CLEAR_NOW, .later_is_due = true), TLS_EVENT_CERT_BAD, TLS_DO_TLS, ""},
    {"a fallback is for `on` only: require", LEVEL(TLS_REQUIRE, .fallback = CLEAR_NOW, .later_is_due = true), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5"},
    {"a fallback is for `on` only: verify", LEVEL(TLS_VERIFY, .fallback = CLEAR_NOW, .later_is_due = true), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5"},
    {"a fallback is for `on` only: dane", LEVEL(TLS_DANE, .fallback = CLEAR_NOW, .later_is_due = true), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5"},
    {"a TLSA mismatch is final for the host", ON(.fallback = CLEAR_NOW, .later_is_due = true), TLS_EVENT_TLSA_MISMATCH, TLS_DO_NEXT, "4.7.5"},

    /* credentials exist for the host */
    {"credentials: not offered", ON(.has_credentials = true), TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4"},
    {"credentials: refused", ON(.has_credentials = true), TLS_EVENT_REFUSED, TLS_DO_NEXT, "4.7.4"},
    {"credentials: handshake, now", ON(.has_credentials = true, .fallback = CLEAR_NOW), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5"},
    {"credentials: handshake, later is due", ON(.has_credentials = true, .fallback = CLEAR_LATER, .later_is_due = true), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5"},
    {"credentials: even at off", {.level = TLS_OFF, .group_level = TLS_OFF, .has_credentials = true}, TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4"},
    {"credentials: TLS is fine", ON(.has_credentials = true), TLS_EVENT_CERT_GOOD, TLS_DO_TLS, ""},

    /* a recipient was accepted inside TLS before the failure */
    {"accepted: handshake, now", ON(.rcpt_accepted_in_tls = true, .fallback = CLEAR_NOW), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5"},
    {"accepted: handshake, later is due", ON(.rcpt_accepted_in_tls = true, .fallback = CLEAR_LATER, .later_is_due = true), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5"},
    {"accepted: not offered after all", ON(.rcpt_accepted_in_tls = true), TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4"},

    /* TLS from the first octet */
    {"implicit: handshake, now", ON(.implicit_tls = true, .fallback = CLEAR_NOW), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5"},
    {"implicit at off: handshake", {.level = TLS_OFF, .group_level = TLS_OFF, .implicit_tls = true}, TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5"},
    {"implicit at off: certificate", {.level = TLS_OFF, .group_level = TLS_OFF, .implicit_tls = true}, TLS_EVENT_CERT_BAD, TLS_DO_TLS, ""},
    {"implicit at verify: certificate", LEVEL(TLS_VERIFY, .implicit_tls = true), TLS_EVENT_CERT_BAD, TLS_DO_NEXT, "4.7.5"},

    /* all TLSA records unusable: encryption mandatory, certificate not judged */
    {"unusable: absent is no obstacle", ON(.tlsa_all_unusable = true), TLS_EVENT_TLSA_ABSENT, TLS_DO_CONTINUE, ""},
    {"unusable: not offered", ON(.tlsa_all_unusable = true), TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4"},
    {"unusable: refused", ON(.tlsa_all_unusable = true), TLS_EVENT_REFUSED, TLS_DO_NEXT, "4.7.4"},
    {"unusable: handshake, now", ON(.tlsa_all_unusable = true, .fallback = CLEAR_NOW), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_NEXT, "4.7.5"},
    {"unusable: bad certificate", ON(.tlsa_all_unusable = true), TLS_EVENT_CERT_BAD, TLS_DO_TLS, ""},
    {"unusable under testing: not offered", TESTING(TLS_ON, .tlsa_all_unusable = true), TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4"},
    {"unusable does not lower verify", LEVEL(TLS_VERIFY, .tlsa_all_unusable = true), TLS_EVENT_CERT_BAD, TLS_DO_NEXT, "4.7.5"},
    {"unusable does not lower sts-enforce", LEVEL(TLS_STS_ENFORCE, .tlsa_all_unusable = true), TLS_EVENT_CERT_BAD, TLS_DO_NEXT, "4.7.5"},
    {"unusable is a failure of dane-only", LEVEL(TLS_DANE_ONLY, .tlsa_all_unusable = true), TLS_EVENT_TLSA_ABSENT, TLS_DO_SKIP_HOST, "4.7.5"},
    {"off looks nothing up", {.level = TLS_OFF, .group_level = TLS_OFF, .tlsa_all_unusable = true}, TLS_EVENT_NOT_OFFERED, TLS_DO_CLEAR, ""},

    /* DNSSEC of the MX */
    {"dane over an insecure MX counts by half, but counts", LEVEL(TLS_DANE), TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, ""},
    {"dane over a secure MX", LEVEL(TLS_DANE, .mx_secure = true), TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, ""},
    {"dane-only over a secure MX", LEVEL(TLS_DANE_ONLY, .mx_secure = true), TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, ""},
    {"dane-only over an insecure MX", LEVEL(TLS_DANE_ONLY), TLS_EVENT_TLSA_MATCH, TLS_DO_NEXT, "4.7.5"},

    /* REQUIRETLS: as the level, and as the message's flag at any level */
    {"requiretls: good certificate, secure MX", LEVEL(TLS_REQUIRETLS, .mx_secure = true), TLS_EVENT_CERT_GOOD, TLS_DO_TLS, ""},
    {"requiretls: good certificate, MX from anybody", LEVEL(TLS_REQUIRETLS), TLS_EVENT_CERT_GOOD, TLS_DO_BOUNCE, "5.7.30"},
    {"requiretls: TLSA match, secure MX", LEVEL(TLS_REQUIRETLS, .mx_secure = true), TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, ""},
    {"requiretls: bad certificate, secure MX", LEVEL(TLS_REQUIRETLS, .mx_secure = true), TLS_EVENT_CERT_BAD, TLS_DO_BOUNCE, "5.7.30"},
    {"flag at off", {.level = TLS_OFF, .group_level = TLS_OFF, .requiretls = true}, TLS_EVENT_NOT_OFFERED, TLS_DO_BOUNCE, "5.7.30"},
    {"flag at on", ON(.requiretls = true), TLS_EVENT_NOT_OFFERED, TLS_DO_BOUNCE, "5.7.30"},
    {"flag at on: refused", ON(.requiretls = true), TLS_EVENT_REFUSED, TLS_DO_BOUNCE, "5.7.30"},
    {"flag at on: handshake, now", ON(.requiretls = true, .fallback = CLEAR_NOW), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_BOUNCE, "5.7.30"},
    {"flag at on: bad certificate", ON(.requiretls = true, .mx_secure = true), TLS_EVENT_CERT_BAD, TLS_DO_BOUNCE, "5.7.30"},
    {"flag at on: a closing host is asked again", ON(.requiretls = true), TLS_EVENT_CLOSING, TLS_DO_NEXT, "4.7.4"},
    {"flag at require: handshake", LEVEL(TLS_REQUIRE, .requiretls = true), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_BOUNCE, "5.7.30"},
    {"flag at verify: good certificate, secure MX", LEVEL(TLS_VERIFY, .requiretls = true, .mx_secure = true), TLS_EVENT_CERT_GOOD, TLS_DO_TLS, ""},
    {"flag at sts-enforce: the policy vouches for the MX", LEVEL(TLS_STS_ENFORCE, .requiretls = true), TLS_EVENT_CERT_GOOD, TLS_DO_TLS, ""},
    {"flag at sts-enforce: TLSA match too", LEVEL(TLS_STS_ENFORCE, .requiretls = true), TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, ""},
    {"flag at sts-enforce: bad certificate", LEVEL(TLS_STS_ENFORCE, .requiretls = true), TLS_EVENT_CERT_BAD, TLS_DO_BOUNCE, "5.7.30"},
    {"flag at sts-enforce: MX not named is unreachable", LEVEL(TLS_STS_ENFORCE, .requiretls = true), TLS_EVENT_STS_MX_MISMATCH, TLS_DO_SKIP_HOST, "4.7.5"},
    {"flag at dane: match, secure MX", LEVEL(TLS_DANE, .requiretls = true, .mx_secure = true), TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, ""},
    {"flag at dane: match, MX from anybody", LEVEL(TLS_DANE, .requiretls = true), TLS_EVENT_TLSA_MATCH, TLS_DO_BOUNCE, "5.7.30"},
    {"flag at dane: mismatch", LEVEL(TLS_DANE, .requiretls = true, .mx_secure = true), TLS_EVENT_TLSA_MISMATCH, TLS_DO_BOUNCE, "5.7.30"},
    {"flag at dane: bogus defers", LEVEL(TLS_DANE, .requiretls = true), TLS_EVENT_TLSA_BOGUS, TLS_DO_SKIP_HOST, "4.7.5"},
    {"flag at dane: PKIX is not the question", LEVEL(TLS_DANE, .requiretls = true, .mx_secure = true), TLS_EVENT_CERT_GOOD, TLS_DO_NEXT, "4.7.5"},
    {"flag at dane-only: match, secure MX", LEVEL(TLS_DANE_ONLY, .requiretls = true, .mx_secure = true), TLS_EVENT_TLSA_MATCH, TLS_DO_TLS, ""},

    /* MTA-STS in testing mode: as the group, but counted */
    {"testing at off", TESTING(TLS_OFF), TLS_EVENT_NOT_OFFERED, TLS_DO_CLEAR, ""},
    {"testing at on: not offered", TESTING(TLS_ON), TLS_EVENT_NOT_OFFERED, TLS_DO_CLEAR, ""},
    {"testing at on: handshake, later is due", TESTING(TLS_ON, .later_is_due = true), TLS_EVENT_HANDSHAKE_FAILED, TLS_DO_RECONNECT_CLEAR, ""},
    {"testing at on: MX not named", TESTING(TLS_ON), TLS_EVENT_STS_MX_MISMATCH, TLS_DO_CONTINUE, ""},
    {"testing at require: not offered", TESTING(TLS_REQUIRE), TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4"},
    {"testing at require: MX not named", TESTING(TLS_REQUIRE), TLS_EVENT_STS_MX_MISMATCH, TLS_DO_CONTINUE, ""},
    {"testing under require: MX not named", LEVEL(TLS_REQUIRE, .sts_testing = true), TLS_EVENT_STS_MX_MISMATCH, TLS_DO_CONTINUE, ""},
    {"testing under verify: MX not named", LEVEL(TLS_VERIFY, .sts_testing = true), TLS_EVENT_STS_MX_MISMATCH, TLS_DO_CONTINUE, ""},
    {"testing under verify: bad certificate", LEVEL(TLS_VERIFY, .sts_testing = true), TLS_EVENT_CERT_BAD, TLS_DO_NEXT, "4.7.5"},
    {"testing under require: not offered", LEVEL(TLS_REQUIRE, .sts_testing = true), TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4"},
    {"testing at verify: bad certificate", TESTING(TLS_VERIFY), TLS_EVENT_CERT_BAD, TLS_DO_NEXT, "4.7.5"},
    {"testing with a group level that no group has stays shut", TESTING(TLS_STS_TESTING), TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4"},
};
/* clang-format on */

static void check(const char *what, const struct tls_facts *f, enum tls_event event, enum tls_action action,
                  const char *enhanced)
{
    struct tls_decision d = tls_decide(f, event);

    if (d.action != action || strcmp(d.enhanced, enhanced) != 0)
        fail_msg("%s (%s, %s): %s [%s], not %s [%s]", what, tls_level_name(f->level), tls_event_name(event),
                 tls_action_name(d.action), d.enhanced, tls_action_name(action), enhanced);
}

static void check_cells(const struct cell *rows, size_t count, bool requiretls)
{
    for (size_t i = 0; i < count; i++) {
        struct tls_facts f = {
            .level = rows[i].level, .group_level = TLS_ON, .fallback = CLEAR_LATER, .requiretls = requiretls};

        check("cell", &f, rows[i].event, rows[i].action, rows[i].enhanced);
        if (tls_decide(&f, rows[i].event).count_failure != rows[i].count_failure)
            fail_msg("%s, %s: counted wrongly", tls_level_name(rows[i].level), tls_event_name(rows[i].event));
    }
}

static void every_cell_of_the_table_is_decided_as_written(void **state)
{
    check_cells(cells, COUNT_OF(cells), false);
    check_cells(requiretls_cells, COUNT_OF(requiretls_cells), true);
}

static void the_rows_cover_every_level_and_event_once(void **state)
{
    int seen[LEVELS][EVENTS] = {0};

    for (size_t i = 0; i < COUNT_OF(cells); i++)
        seen[cells[i].level][cells[i].event]++;
    for (int level = 0; level < LEVELS; level++)
        for (int event = 0; event < EVENTS; event++)
            assert_int_equal(seen[level][event], level == TLS_STS_TESTING ? 0 : 1);
}

static void without_discovery_requiretls_leaves_one_row(void **state)
{
    static const enum tls_level levels[] = {TLS_OFF, TLS_REQUIRE, TLS_VERIFY, TLS_REQUIRETLS};

    for (size_t i = 0; i < COUNT_OF(levels); i++)
        for (int event = 0; event < EVENTS; event++) {
            struct tls_facts on = {.level = TLS_ON, .requiretls = true};
            struct tls_facts other = {.level = levels[i], .requiretls = true};
            struct tls_decision want = tls_decide(&on, (enum tls_event)event);

            check("flag", &other, (enum tls_event)event, want.action, want.enhanced);
        }
}

static void facts_beside_the_level_change_decisions_as_written(void **state)
{
    for (size_t i = 0; i < COUNT_OF(variants); i++)
        check(variants[i].why, &variants[i].facts, variants[i].event, variants[i].action,
              variants[i].enhanced);
}

static void a_policy_in_testing_decides_as_its_group_does(void **state)
{
    static const enum tls_level groups[] = {TLS_OFF, TLS_ON, TLS_REQUIRE, TLS_VERIFY};

    for (size_t g = 0; g < COUNT_OF(groups); g++) {
        for (int event = 0; event < EVENTS; event++) {
            struct tls_facts testing = {TLS_STS_TESTING, groups[g], .fallback = CLEAR_NOW};
            struct tls_facts plain = {groups[g], groups[g], .fallback = CLEAR_NOW};
            struct tls_decision d = tls_decide(&testing, (enum tls_event)event);
            struct tls_decision want = tls_decide(&plain, (enum tls_event)event);

            if (event == TLS_EVENT_STS_MX_MISMATCH)
                assert_int_equal(d.action, TLS_DO_CONTINUE);
            else
                assert_int_equal(d.action, want.action);
            assert_int_equal(d.count_failure, groups[g] == TLS_OFF ? false : want.count_failure);
        }
    }
}

/* ---- properties over the whole input space ---- */

#define FLAGS 7

typedef void (*facts_fn)(const struct tls_facts *f);

static void for_all_facts(facts_fn fn)
{
    static const enum tls_level groups[] = {TLS_OFF, TLS_ON, TLS_REQUIRE, TLS_VERIFY};

    for (int level = 0; level < LEVELS; level++)
        for (size_t g = 0; g < COUNT_OF(groups); g++)
            for (int fallback = CLEAR_NEVER; fallback <= CLEAR_NOW; fallback++)
                for (unsigned flags = 0; flags < BIT(FLAGS); flags++) {
                    struct tls_facts f = {.level = (enum tls_level)level,
                                          .group_level = groups[g],
                                          .fallback = (enum clear_fallback)fallback,
                                          .later_is_due = flags & BIT(0),
                                          .has_credentials = flags & BIT(1),
                                          .rcpt_accepted_in_tls = flags & BIT(2),
                                          .requiretls = flags & BIT(3),
                                          .tlsa_all_unusable = flags & BIT(4),
                                          .mx_secure = flags & BIT(5),
                                          .implicit_tls = flags & BIT(6)};
                    fn(&f);
                }
}

static bool goes_clear(const struct tls_facts *f, int event)
{
    enum tls_action action = tls_decide(f, (enum tls_event)event).action;

    return action == TLS_DO_CLEAR || action == TLS_DO_RECONNECT_CLEAR;
}

static void check_clear_is_exact(const struct tls_facts *f)
{
    bool ever = false;

    for (int event = 0; event < EVENTS; event++)
        ever = ever || goes_clear(f, event);
    if (ever != tls_clear_possible(f))
        fail_msg("%s at %s: clear text is %s, but tls_clear_possible says otherwise",
                 tls_level_name(f->level), tls_level_name(f->group_level),
                 ever ? "decided" : "never decided");
}

static void clear_text_is_possible_exactly_when_some_event_leads_to_it(void **state)
{
    for_all_facts(check_clear_is_exact);
}

/* P5, from the words of the promise and not from the table. */
static bool must_not_go_clear(const struct tls_facts *f)
{
    enum tls_level level = f->level == TLS_STS_TESTING ? f->group_level : f->level;

    return level >= TLS_REQUIRE || f->requiretls || f->has_credentials || f->rcpt_accepted_in_tls ||
           f->implicit_tls || (f->tlsa_all_unusable && level != TLS_OFF);
}

static void check_p5(const struct tls_facts *f)
{
    if (!must_not_go_clear(f))
        return;
    assert_false(tls_clear_possible(f));
    for (int event = 0; event < EVENTS; event++)
        assert_false(goes_clear(f, event));
}

static void no_level_of_require_or_above_ever_goes_clear(void **state)
{
    for_all_facts(check_p5);
}

static void check_reconnect(const struct tls_facts *f)
{
    enum tls_level level = f->level == TLS_STS_TESTING ? f->group_level : f->level;

    for (int event = 0; event < EVENTS; event++) {
        if (tls_decide(f, (enum tls_event)event).action != TLS_DO_RECONNECT_CLEAR)
            continue;
        assert_int_equal(level, TLS_ON);
        assert_true(event == TLS_EVENT_HANDSHAKE_FAILED || event == TLS_EVENT_REFUSED_UNCLEAN);
        assert_true(f->fallback == CLEAR_NOW || (f->fallback == CLEAR_LATER && f->later_is_due));
    }
}

static void a_host_is_called_again_in_clear_only_as_the_fallback_permits(void **state)
{
    for_all_facts(check_reconnect);
}

static void check_status(const struct tls_facts *f)
{
    bool requiretls = f->requiretls || f->level == TLS_REQUIRETLS;

    for (int event = 0; event < EVENTS; event++) {
        struct tls_decision d = tls_decide(f, (enum tls_event)event);

        switch (d.action) {
        case TLS_DO_NEXT:
        case TLS_DO_SKIP_HOST:
            assert_true(strcmp(d.enhanced, "4.7.4") == 0 || strcmp(d.enhanced, "4.7.5") == 0);
            break;
        case TLS_DO_BOUNCE:
            assert_true(requiretls);
            assert_string_equal(d.enhanced, "5.7.30");
            break;
        case TLS_DO_CLEAR:
        case TLS_DO_TLS:
        case TLS_DO_RECONNECT_CLEAR:
        case TLS_DO_CONTINUE: assert_string_equal(d.enhanced, ""); break;
        }
    }
}

static void lack_of_tls_defers_and_bounces_only_for_requiretls(void **state)
{
    for_all_facts(check_status);
}

static void check_authentication(const struct tls_facts *f)
{
    enum tls_level level = f->level == TLS_STS_TESTING ? f->group_level : f->level;
    enum tls_action bad = tls_decide(f, TLS_EVENT_CERT_BAD).action;

    if (level >= TLS_VERIFY || f->requiretls)
        assert_int_not_equal(bad, TLS_DO_TLS);
    if (level != TLS_OFF)
        assert_int_not_equal(tls_decide(f, TLS_EVENT_TLSA_MISMATCH).action, TLS_DO_TLS);
    if (level == TLS_DANE || level == TLS_DANE_ONLY)
        assert_int_not_equal(tls_decide(f, TLS_EVENT_CERT_GOOD).action, TLS_DO_TLS);
}

static void an_authenticating_level_never_takes_a_bad_peer(void **state)
{
    for_all_facts(check_authentication);
}

static void check_raising(const struct tls_facts *f)
{
    for (int level = (int)f->level + 1; level < LEVELS; level++) {
        struct tls_facts raised = *f;

        raised.level = (enum tls_level)level;
        if (level != TLS_STS_TESTING && f->level != TLS_STS_TESTING && tls_clear_possible(&raised))
            assert_true(tls_clear_possible(f));
    }
}

static void a_stricter_level_never_opens_what_a_laxer_one_shuts(void **state)
{
    for_all_facts(check_raising);
    for (int a = 0; a < LEVELS; a++)
        for (int b = 0; b < LEVELS; b++) {
            enum tls_level both = tls_level_stricter((enum tls_level)a, (enum tls_level)b);

            assert_true((int)both >= a && (int)both >= b && ((int)both == a || (int)both == b));
        }
}

static void a_number_that_is_no_event_or_level_stays_shut(void **state)
{
    struct tls_facts f = {.level = TLS_ON, .group_level = TLS_ON, .fallback = CLEAR_NOW};

    check("event", &f, (enum tls_event)EVENTS, TLS_DO_NEXT, "4.7.5");
    check("event", &f, (enum tls_event) - 1, TLS_DO_NEXT, "4.7.5");
    f.level = (enum tls_level)99;
    check("level", &f, TLS_EVENT_NOT_OFFERED, TLS_DO_NEXT, "4.7.4");
    assert_false(tls_clear_possible(&f));
}

static void every_name_is_a_word_of_its_own(void **state)
{
    for (int i = 0; i < LEVELS; i++) {
        assert_string_not_equal(tls_level_name((enum tls_level)i), "unknown");
        for (int j = 0; j < i; j++)
            assert_string_not_equal(tls_level_name((enum tls_level)i), tls_level_name((enum tls_level)j));
    }
    for (int i = 0; i < EVENTS; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(tls_event_name((enum tls_event)i), tls_event_name((enum tls_event)j));
    for (int i = 0; i <= TLS_DO_CONTINUE; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(tls_action_name((enum tls_action)i), tls_action_name((enum tls_action)j));
    for (int i = 0; i <= TLS_VERIFY_PIN_MISMATCH; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(tls_verify_name((enum tls_verify)i), tls_verify_name((enum tls_verify)j));
    for (int i = 0; i <= TLS_WHY_TLS_REQUIRED_NO; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(tls_why_name((enum tls_why)i), tls_why_name((enum tls_why)j));
    assert_string_equal(tls_level_name((enum tls_level)99), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell_of_the_table_is_decided_as_written),
        cmocka_unit_test(the_rows_cover_every_level_and_event_once),
        cmocka_unit_test(without_discovery_requiretls_leaves_one_row),
        cmocka_unit_test(facts_beside_the_level_change_decisions_as_written),
        cmocka_unit_test(a_policy_in_testing_decides_as_its_group_does),
        cmocka_unit_test(clear_text_is_possible_exactly_when_some_event_leads_to_it),
        cmocka_unit_test(no_level_of_require_or_above_ever_goes_clear),
        cmocka_unit_test(a_host_is_called_again_in_clear_only_as_the_fallback_permits),
        cmocka_unit_test(lack_of_tls_defers_and_bounces_only_for_requiretls),
        cmocka_unit_test(an_authenticating_level_never_takes_a_bad_peer),
        cmocka_unit_test(a_stricter_level_never_opens_what_a_laxer_one_shuts),
        cmocka_unit_test(a_number_that_is_no_event_or_level_stays_shut),
        cmocka_unit_test(every_name_is_a_word_of_its_own),
    };

    return cmocka_run_group_tests_name("policy/tls_decide", tests, NULL, NULL);
}

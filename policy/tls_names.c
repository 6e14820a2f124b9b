/* The words of transport security as reports, logs and the API show them. */
#include "policy/tls_decide.h"

#include "base/macros.h"

static const char *const level_names[] = {
    [TLS_OFF] = "off",
    [TLS_ON] = "on",
    [TLS_STS_TESTING] = "sts-testing",
    [TLS_REQUIRE] = "require",
    [TLS_VERIFY] = "verify",
    [TLS_STS_ENFORCE] = "sts-enforce",
    [TLS_DANE] = "dane",
    [TLS_DANE_ONLY] = "dane-only",
    [TLS_REQUIRETLS] = "requiretls",
};

static const char *const why_names[] = {
    [TLS_WHY_RULE] = "rule",
    [TLS_WHY_DANE] = "dane",
    [TLS_WHY_STS] = "sts",
    [TLS_WHY_REQUIRETLS] = "requiretls",
    [TLS_WHY_TLS_REQUIRED_NO] = "tls-required-no",
};

static const char *const event_names[] = {
    [TLS_EVENT_NOT_OFFERED] = "not-offered",
    [TLS_EVENT_REFUSED] = "refused",
    [TLS_EVENT_REFUSED_UNCLEAN] = "refused-unclean",
    [TLS_EVENT_HANDSHAKE_FAILED] = "handshake-failed",
    [TLS_EVENT_CERT_BAD] = "cert-bad",
    [TLS_EVENT_CERT_GOOD] = "cert-good",
    [TLS_EVENT_TLSA_MATCH] = "tlsa-match",
    [TLS_EVENT_TLSA_MISMATCH] = "tlsa-mismatch",
    [TLS_EVENT_TLSA_BOGUS] = "tlsa-bogus",
    [TLS_EVENT_TLSA_ABSENT] = "tlsa-absent",
    [TLS_EVENT_STS_MX_MISMATCH] = "sts-mx-mismatch",
    [TLS_EVENT_CLOSING] = "closing",
};

static const char *const action_names[] = {
    [TLS_DO_CLEAR] = "clear",
    [TLS_DO_TLS] = "tls",
    [TLS_DO_RECONNECT_CLEAR] = "reconnect-clear",
    [TLS_DO_NEXT] = "next",
    [TLS_DO_SKIP_HOST] = "skip-host",
    [TLS_DO_BOUNCE] = "bounce",
    [TLS_DO_CONTINUE] = "continue",
};

static const char *const verify_names[] = {
    [TLS_VERIFY_NONE] = "none",
    [TLS_VERIFY_PKIX] = "verified-pkix",
    [TLS_VERIFY_SELF_SIGNED] = "self-signed",
    [TLS_VERIFY_UNKNOWN_CA] = "unknown-ca",
    [TLS_VERIFY_EXPIRED] = "expired",
    [TLS_VERIFY_NOT_YET_VALID] = "not-yet-valid",
    [TLS_VERIFY_WRONG_NAME] = "wrong-name",
    [TLS_VERIFY_REVOKED] = "revoked",
    [TLS_VERIFY_WEAK] = "weak",
    [TLS_VERIFY_BAD] = "bad",
    [TLS_VERIFY_NO_CERT] = "no-cert",
    [TLS_VERIFY_DANE] = "verified-dane",
    [TLS_VERIFY_DANE_HALF] = "verified-dane-half",
};

#define NAME_OF(names, value) ((size_t)(value) < COUNT_OF(names) ? (names)[value] : "unknown")

const char *tls_level_name(enum tls_level level)
{
    return NAME_OF(level_names, level);
}

const char *tls_why_name(enum tls_why why)
{
    return NAME_OF(why_names, why);
}

const char *tls_event_name(enum tls_event event)
{
    return NAME_OF(event_names, event);
}

const char *tls_action_name(enum tls_action action)
{
    return NAME_OF(action_names, action);
}

const char *tls_verify_name(enum tls_verify v)
{
    return NAME_OF(verify_names, v);
}

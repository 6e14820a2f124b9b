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
    [TLS_VERIFY_PIN] = "verified-pin",
    [TLS_VERIFY_PIN_MISMATCH] = "pin-mismatch",
};

static const char *const dane_names[] = {
    [DANE_RESULT_OFF] = "off",           [DANE_RESULT_NONE] = "none",   [DANE_RESULT_UNUSABLE] = "unusable",
    [DANE_RESULT_FOUND] = "found",       [DANE_RESULT_MATCH] = "match", [DANE_RESULT_MISMATCH] = "mismatch",
    [DANE_RESULT_BOGUS] = "bogus",
};

static const char *const sts_names[] = {
    [STS_RESULT_OFF] = "off",
    [STS_RESULT_NONE] = "none",
    [STS_RESULT_FAILED] = "failed",
    [STS_RESULT_MODE_NONE] = "mode-none",
    [STS_RESULT_FOUND] = "found",
    [STS_RESULT_OK] = "ok",
    [STS_RESULT_MX_MISMATCH] = "mx-mismatch",
    [STS_RESULT_CERT_BAD] = "cert-bad",
};

static const char *const failure_names[] = {
    [TLS_FAILURE_NONE] = "",
    [TLS_FAILURE_STARTTLS_NOT_SUPPORTED] = "starttls-not-supported",
    [TLS_FAILURE_CERTIFICATE_HOST_MISMATCH] = "certificate-host-mismatch",
    [TLS_FAILURE_CERTIFICATE_EXPIRED] = "certificate-expired",
    [TLS_FAILURE_CERTIFICATE_NOT_TRUSTED] = "certificate-not-trusted",
    [TLS_FAILURE_VALIDATION] = "validation-failure",
    [TLS_FAILURE_TLSA_INVALID] = "tlsa-invalid",
    [TLS_FAILURE_DNSSEC_INVALID] = "dnssec-invalid",
    [TLS_FAILURE_DANE_REQUIRED] = "dane-required",
    [TLS_FAILURE_STS_POLICY_FETCH_ERROR] = "sts-policy-fetch-error",
    [TLS_FAILURE_STS_POLICY_INVALID] = "sts-policy-invalid",
    [TLS_FAILURE_STS_WEBPKI_INVALID] = "sts-webpki-invalid",
};

static const char *const tlsrpt_names[] = {
    [TLSRPT_NO_POLICY] = "no-policy-found",
    [TLSRPT_TLSA] = "tlsa",
    [TLSRPT_STS] = "sts",
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

bool tls_verify_is_good(enum tls_verify v)
{
    return v == TLS_VERIFY_PKIX || v == TLS_VERIFY_DANE || v == TLS_VERIFY_DANE_HALF || v == TLS_VERIFY_PIN;
}

const char *dane_result_name(enum dane_result r)
{
    return NAME_OF(dane_names, r);
}

const char *sts_result_name(enum sts_result r)
{
    return NAME_OF(sts_names, r);
}

const char *tls_failure_name(enum tls_failure f)
{
    return NAME_OF(failure_names, f);
}

const char *tlsrpt_policy_name(enum tlsrpt_policy p)
{
    return NAME_OF(tlsrpt_names, p);
}

enum tls_failure tls_failure_of_verify(enum tls_verify v)
{
    switch (v) {
    case TLS_VERIFY_NONE:
    case TLS_VERIFY_PKIX:
    case TLS_VERIFY_DANE:
    case TLS_VERIFY_DANE_HALF:
    case TLS_VERIFY_PIN: return TLS_FAILURE_NONE;
    case TLS_VERIFY_WRONG_NAME: return TLS_FAILURE_CERTIFICATE_HOST_MISMATCH;
    case TLS_VERIFY_EXPIRED:
    case TLS_VERIFY_NOT_YET_VALID: return TLS_FAILURE_CERTIFICATE_EXPIRED;
    case TLS_VERIFY_SELF_SIGNED:
    case TLS_VERIFY_UNKNOWN_CA:
    case TLS_VERIFY_REVOKED:
    case TLS_VERIFY_WEAK:
    case TLS_VERIFY_PIN_MISMATCH: return TLS_FAILURE_CERTIFICATE_NOT_TRUSTED;
    case TLS_VERIFY_BAD:
    case TLS_VERIFY_NO_CERT: break;
    }
    return TLS_FAILURE_VALIDATION;
}

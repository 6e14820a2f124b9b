/*
 * A fact that was not looked up may have been one of several things.  Every way it may have been is a world;
 * the table is asked in each, and only where all worlds end alike is there a verdict.
 */
#include "policy/judge.h"

#include <string.h>

#include "base/macros.h"

/* How far the way to a session led. */
enum session {
    SESSION_UNTRIED, /* nothing is known */
    SESSION_NOT_OFFERED,
    SESSION_REFUSED,
    SESSION_BROKEN,  /* the handshake failed */
    SESSION_CLOSING, /* 421 to STARTTLS: says nothing about TLS */
    SESSION_UNCLEAR, /* refused, broken or closing: older records do not say */
    SESSION_UP,
};

enum sts_mode_found { STS_FOUND_NONE, STS_FOUND_TESTING, STS_FOUND_ENFORCE };

struct world {
    enum session session; /* never UNTRIED or UNCLEAR */
    enum dane_result dane;
    enum sts_mode_found sts;
    bool sts_names_mx, sts_cert_good; /* where a policy was found */
    bool cert_good;                   /* by the shadow group's own names and authorities */
};

enum fate { FATE_TLS, FATE_CLEAR, FATE_HELD };

struct judged {
    enum fate fate;
    enum judge_verdict why; /* FATE_HELD */
};

struct question {
    const struct judge_facts *f;
    const struct group *shadow;
    bool implicit_tls, no_discovery, mx_secure;
};

/* ---- the facts ---- */

static enum tls_version version_of(const char *text)
{
    static const char *const names[] = {"TLS1.0", "TLS1.1", "TLS1.2", "TLS1.3"};

    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(text, names[i]) == 0)
            return (enum tls_version)i;
    return TLS_VERSION_1_0; /* nothing newer exists; SSL never was */
}

static bool is_static_rsa(const char *cipher)
{
    return cipher && strncmp(cipher, "TLS_RSA_WITH_", 13) == 0;
}

/* Was the session, as it stood, all that the live level asked for?  Then what failed was the connection in
 * it. */
static bool session_was_enough(const struct judge_facts *f)
{
    switch (f->effective) {
    case TLS_OFF:
    case TLS_ON:
    case TLS_STS_TESTING:
    case TLS_REQUIRE: return true;
    case TLS_VERIFY: return tls_verify_is_good(f->verify);
    case TLS_STS_ENFORCE: return f->sts == STS_RESULT_OK && tls_verify_is_good(f->verify);
    case TLS_DANE: return f->dane == DANE_RESULT_MATCH;
    case TLS_DANE_ONLY: return f->dane == DANE_RESULT_MATCH && f->verify != TLS_VERIFY_DANE_HALF;
    case TLS_REQUIRETLS: break;
    }
    return false;
}

/* Known before a connection: the host was left out, and what it offers was never seen. */
static bool was_skipped(const struct judge_facts *f)
{
    return f->tls_failed && !f->version && !f->offered &&
           (f->dane == DANE_RESULT_BOGUS || f->failure == TLS_FAILURE_DANE_REQUIRED ||
            f->failure == TLS_FAILURE_DNSSEC_INVALID ||
            (f->sts == STS_RESULT_MX_MISMATCH && f->effective == TLS_STS_ENFORCE));
}

static enum session session_of(const struct judge_facts *f)
{
    if (f->version)
        return f->tls_failed && session_was_enough(f) ? SESSION_BROKEN : SESSION_UP;
    if (was_skipped(f))
        return SESSION_UNTRIED;
    if (f->fallback)
        return SESSION_BROKEN;
    if (!f->offered)
        return SESSION_NOT_OFFERED;
    if (f->delivered) /* in clear, although it was offered: by rule, or because it was refused */
        return f->effective == TLS_OFF ? SESSION_UNTRIED : SESSION_REFUSED;
    if (f->failure == TLS_FAILURE_STARTTLS_NOT_SUPPORTED)
        return SESSION_REFUSED;
    return f->failure == TLS_FAILURE_NONE ? SESSION_UNCLEAR : SESSION_BROKEN;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_texts(char *const *a, size_t a_count, char *const *b, size_t b_count)
{
    if (a_count != b_count)
        return false;
    for (size_t i = 0; i < a_count; i++)
        if (strcmp(a[i], b[i]) != 0)
            return false;
    return true;
}

static bool same_route(const struct group *a, const struct group *b)
{
    if (a->route != b->route)
        return false;
    if (a->route == ROUTE_MX)
        return a->port == b->port;
    if (a->host_count != b->host_count)
        return false;
    for (size_t i = 0; i < a->host_count; i++)
        if (strcmp(a->hosts[i].host, b->hosts[i].host) != 0 || a->hosts[i].port != b->hosts[i].port ||
            a->hosts[i].implicit_tls != b->hosts[i].implicit_tls)
            return false;
    return true;
}

static bool same_names(const struct group *a, const struct group *b)
{
    return a->tls_match == b->tls_match &&
           same_texts(a->tls_names, a->tls_name_count, b->tls_names, b->tls_name_count);
}

bool judge_same_checks(const struct group *a, const struct group *b)
{
    return same_route(a, b) && same_names(a, b) && same_text(a->ca_file, b->ca_file) &&
           same_text(a->tls_priority, b->tls_priority) && a->tls_min_version == b->tls_min_version &&
           !a->auth_user == !b->auth_user && a->clear_after_tls_failure == b->clear_after_tls_failure &&
           same_texts(a->tls_pins, a->tls_pin_count, b->tls_pins, b->tls_pin_count);
}

/* Is the recorded result what the shadow group would have found?  Else *good is not set. */
static bool cert_is_known(const struct judge_facts *f, const struct group *live, const struct group *shadow,
                          bool *good)
{
    bool pins = shadow->tls_pin_count > 0;
    bool depends_on_ca = false, depends_on_name = false;

    switch (f->verify) {
    case TLS_VERIFY_NO_CERT: *good = false; return true;
    case TLS_VERIFY_NONE:
    case TLS_VERIFY_DANE:
    case TLS_VERIFY_DANE_HALF: return false; /* what PKIX says of it was not kept */
    case TLS_VERIFY_PIN:
    case TLS_VERIFY_PIN_MISMATCH:
        *good = f->verify == TLS_VERIFY_PIN;
        return live && pins &&
               same_texts(live->tls_pins, live->tls_pin_count, shadow->tls_pins, shadow->tls_pin_count);
    case TLS_VERIFY_PKIX: depends_on_ca = depends_on_name = true; break;
    case TLS_VERIFY_WRONG_NAME: depends_on_name = depends_on_ca = true; break;
    case TLS_VERIFY_SELF_SIGNED:
    case TLS_VERIFY_UNKNOWN_CA: depends_on_ca = true; break;
    case TLS_VERIFY_EXPIRED:
    case TLS_VERIFY_NOT_YET_VALID:
    case TLS_VERIFY_REVOKED:
    case TLS_VERIFY_WEAK:
    case TLS_VERIFY_BAD: break;
    }
    if (pins || (depends_on_ca && (!live || !same_text(live->ca_file, shadow->ca_file))) ||
        (depends_on_name && (!live || !same_names(live, shadow))))
        return false;
    *good = f->verify == TLS_VERIFY_PKIX;
    return true;
}

/* ---- one world ---- */

static enum tls_level level_in(const struct question *q, const struct world *w)
{
    enum tls_level level = q->shadow->starttls;

    if (level == TLS_OFF)
        return level;
    if (q->no_discovery)
        return TLS_ON;
    if (q->shadow->dane == DANE_ONLY)
        return TLS_DANE_ONLY;
    if (w->dane == DANE_RESULT_FOUND || w->dane == DANE_RESULT_MATCH || w->dane == DANE_RESULT_MISMATCH)
        return tls_level_stricter(level, TLS_DANE);
    if (w->sts == STS_FOUND_ENFORCE)
        return tls_level_stricter(level, TLS_STS_ENFORCE);
    return w->sts == STS_FOUND_TESTING ? tls_level_stricter(level, TLS_STS_TESTING) : level;
}

/* Asks the table; false: nothing is decided yet. */
static bool ask(const struct tls_facts *facts, enum tls_event event, enum judge_verdict why,
                struct judged *out)
{
    switch (tls_decide(facts, event).action) {
    case TLS_DO_CLEAR:
    case TLS_DO_RECONNECT_CLEAR: *out = (struct judged){FATE_CLEAR, JUDGE_NONE}; return true;
    case TLS_DO_TLS: *out = (struct judged){FATE_TLS, JUDGE_NONE}; return true;
    case TLS_DO_NEXT:
    case TLS_DO_SKIP_HOST:
    case TLS_DO_BOUNCE: *out = (struct judged){FATE_HELD, why}; return true;
    case TLS_DO_CONTINUE: break;
    }
    return false;
}

static struct judged judge_session_up(const struct question *q, const struct tls_facts *facts,
                                      const struct world *w)
{
    const struct judge_facts *f = q->f;
    struct judged out = {FATE_HELD, JUDGE_HANDSHAKE};
    bool strict = facts->level > TLS_STS_TESTING || facts->tlsa_all_unusable;

    if (f->version && !q->shadow->tls_priority && version_of(f->version) < q->shadow->tls_min_version)
        ask(facts, TLS_EVENT_HANDSHAKE_FAILED, JUDGE_VERSION, &out);
    else if (strict && !q->shadow->tls_priority && is_static_rsa(f->cipher))
        ask(facts, TLS_EVENT_HANDSHAKE_FAILED, JUDGE_WEAK_KX, &out);
    else if (facts->level == TLS_DANE || facts->level == TLS_DANE_ONLY)
        ask(facts, w->dane == DANE_RESULT_MATCH ? TLS_EVENT_TLSA_MATCH : TLS_EVENT_TLSA_MISMATCH,
            w->dane == DANE_RESULT_MATCH ? JUDGE_DANE_ABSENT : JUDGE_DANE_MISMATCH, &out);
    else if (facts->level == TLS_STS_ENFORCE && !w->sts_cert_good)
        ask(facts, TLS_EVENT_CERT_BAD, JUDGE_STS_CERT, &out);
    else if (facts->level == TLS_STS_ENFORCE && q->shadow->starttls != TLS_VERIFY)
        ask(facts, TLS_EVENT_CERT_GOOD, JUDGE_STS_CERT, &out);
    else
        ask(facts, w->cert_good ? TLS_EVENT_CERT_GOOD : TLS_EVENT_CERT_BAD,
            (enum judge_verdict)(JUDGE_CERT + (int)f->verify), &out);
    return out;
}

static struct judged judge_world(const struct question *q, const struct world *w)
{
    struct tls_facts facts = {
        .level = level_in(q, w),
        .group_level = q->no_discovery && q->shadow->starttls != TLS_OFF ? TLS_ON : q->shadow->starttls,
        .fallback = q->no_discovery ? CLEAR_NOW : q->shadow->clear_after_tls_failure, /* RFC 8689 §3 */
        .later_is_due = q->f->later_is_due,
        .has_credentials = q->shadow->auth_user != NULL,
        .tlsa_all_unusable = w->dane == DANE_RESULT_UNUSABLE,
        .mx_secure = q->mx_secure,
        .implicit_tls = q->implicit_tls,
    };
    struct judged out = {FATE_HELD, JUDGE_HANDSHAKE};

    if (facts.level == TLS_OFF && !q->implicit_tls) { /* never asked for: as if not offered */
        ask(&facts, TLS_EVENT_NOT_OFFERED, JUDGE_NO_STARTTLS, &out);
        return out;
    }
    if (w->dane == DANE_RESULT_BOGUS && ask(&facts, TLS_EVENT_TLSA_BOGUS, JUDGE_DANE_BOGUS, &out))
        return out;
    if ((w->dane == DANE_RESULT_NONE || w->dane == DANE_RESULT_UNUSABLE) &&
        ask(&facts, TLS_EVENT_TLSA_ABSENT, JUDGE_DANE_ABSENT, &out))
        return out;
    if (w->sts == STS_FOUND_ENFORCE && !w->sts_names_mx && /* testing is only counted */
        ask(&facts, TLS_EVENT_STS_MX_MISMATCH, JUDGE_STS_MX, &out))
        return out;
    switch (w->session) {
    case SESSION_NOT_OFFERED: ask(&facts, TLS_EVENT_NOT_OFFERED, JUDGE_NO_STARTTLS, &out); return out;
    case SESSION_REFUSED: ask(&facts, TLS_EVENT_REFUSED, JUDGE_REFUSED, &out); return out;
    case SESSION_CLOSING: ask(&facts, TLS_EVENT_CLOSING, JUDGE_REFUSED, &out); return out;
    case SESSION_UP: return judge_session_up(q, &facts, w);
    case SESSION_UNTRIED:
    case SESSION_UNCLEAR:
    case SESSION_BROKEN: break;
    }
    ask(&facts, TLS_EVENT_HANDSHAKE_FAILED, JUDGE_HANDSHAKE, &out);
    return out;
}

/* ---- all worlds ---- */

struct worlds {
    enum session session[4];
    enum dane_result dane[4];
    struct {
        enum sts_mode_found mode;
        bool names_mx, cert_good;
    } sts[4];
    bool cert[2];
    size_t sessions, danes, stss, certs;
};

/* The rows of the table that judge nothing but that there is a session at most. */
static bool is_lax(const struct judge_facts *f, const struct group *shadow)
{
    bool tlsa = f->dane != DANE_RESULT_OFF && f->dane != DANE_RESULT_NONE;

    return shadow->starttls == TLS_ON && shadow->dane != DANE_ONLY && !(shadow->dane == DANE_TRY && tlsa) &&
           !(shadow->mta_sts == STS_TRY && f->effective == TLS_STS_ENFORCE);
}

/* Old versions, and static RSA at `on`. */
static bool offers_more(const struct judge_facts *f, const struct group *live, const struct group *shadow)
{
    bool was_strict = f->effective > TLS_STS_TESTING || f->dane == DANE_RESULT_UNUSABLE;

    return shadow->tls_min_version < live->tls_min_version || (is_lax(f, shadow) && was_strict);
}

/* Could this have made the live group wait? */
static bool may_be_held(const struct judge_facts *f, const struct group *live, enum tls_event event)
{
    struct tls_facts facts = {.level = f->effective, .later_is_due = f->later_is_due};

    if (!live)
        return true;
    facts.group_level = live->starttls;
    facts.has_credentials = live->auth_user != NULL;
    facts.fallback = f->why == TLS_WHY_TLS_REQUIRED_NO ? CLEAR_NOW : live->clear_after_tls_failure;
    enum tls_action action = tls_decide(&facts, event).action;
    return action != TLS_DO_CLEAR && action != TLS_DO_RECONNECT_CLEAR;
}

static void put_sessions(struct worlds *w, const struct judge_facts *f, const struct group *live,
                         const struct group *shadow)
{
    enum session s = session_of(f);
    bool known = s != SESSION_UNTRIED && s != SESSION_UNCLEAR;
    bool same_ciphers = live && same_text(live->tls_priority, shadow->tls_priority);
    bool more = !live || !same_ciphers || offers_more(f, live, shadow);

    if (s == SESSION_UP) /* with a string of its own the shadow may have got another session, or none */
        known = same_ciphers || !shadow->tls_priority;
    else if (s == SESSION_BROKEN) /* it may be one that only the shadow offers enough for */
        known = !more;
    if (known) {
        w->session[w->sessions++] = s;
        return;
    }
    if (s != SESSION_UNCLEAR || may_be_held(f, live, TLS_EVENT_HANDSHAKE_FAILED))
        w->session[w->sessions++] = SESSION_BROKEN;
    if (s == SESSION_UNCLEAR && may_be_held(f, live, TLS_EVENT_REFUSED))
        w->session[w->sessions++] = SESSION_REFUSED;
    if (s == SESSION_UNCLEAR)
        w->session[w->sessions++] = SESSION_CLOSING;
    if (s != SESSION_UNCLEAR || more)
        w->session[w->sessions++] = SESSION_UP;
    if (s == SESSION_UNTRIED && !f->offered) /* the host was not even connected to */
        w->session[w->sessions++] = SESSION_NOT_OFFERED;
}

static bool may_be_up(const struct worlds *w)
{
    for (size_t i = 0; i < w->sessions; i++)
        if (w->session[i] == SESSION_UP)
            return true;
    return false;
}

static void put_danes(struct worlds *w, const struct question *q)
{
    if (q->shadow->dane == DANE_OFF || q->shadow->starttls == TLS_OFF || q->no_discovery) {
        w->dane[w->danes++] = DANE_RESULT_OFF;
        return;
    }
    if (q->f->dane == DANE_RESULT_OFF || (q->f->dane == DANE_RESULT_FOUND && may_be_up(w))) {
        if (q->f->dane == DANE_RESULT_OFF) {
            w->dane[w->danes++] = DANE_RESULT_NONE;
            w->dane[w->danes++] = DANE_RESULT_BOGUS;
        }
        w->dane[w->danes++] = DANE_RESULT_MISMATCH;
        w->dane[w->danes++] = DANE_RESULT_MATCH;
        return;
    }
    w->dane[w->danes++] = q->f->dane;
}

static void put_sts(struct worlds *w, enum sts_mode_found mode, bool names_mx, bool cert_good)
{
    w->sts[w->stss].mode = mode;
    w->sts[w->stss].names_mx = names_mx;
    w->sts[w->stss++].cert_good = cert_good;
}

/* The mode of the policy is not recorded, but `enforce` shows in the effective level. */
static void put_stss(struct worlds *w, const struct question *q)
{
    const struct judge_facts *f = q->f;
    bool mode_shows = f->effective <= TLS_STS_ENFORCE;
    enum sts_mode_found mode = f->effective == TLS_STS_ENFORCE ? STS_FOUND_ENFORCE : STS_FOUND_TESTING;

    if (q->shadow->mta_sts == STS_OFF || q->shadow->starttls == TLS_OFF || q->no_discovery ||
        f->sts == STS_RESULT_NONE || f->sts == STS_RESULT_FAILED || f->sts == STS_RESULT_MODE_NONE) {
        put_sts(w, STS_FOUND_NONE, false, false);
        return;
    }
    if (f->sts == STS_RESULT_OFF || !mode_shows) {
        put_sts(w, STS_FOUND_ENFORCE, true, true);
        put_sts(w, STS_FOUND_ENFORCE, false, false);
        put_sts(w, STS_FOUND_NONE, false, false);
        return;
    }
    if (f->sts == STS_RESULT_FOUND && may_be_up(w)) {
        put_sts(w, mode, true, true);
        put_sts(w, mode, true, false);
        return;
    }
    put_sts(w, mode, f->sts != STS_RESULT_MX_MISMATCH, f->sts == STS_RESULT_OK);
}

static enum judge_verdict unknown_for(const struct worlds *w)
{
    if (w->sessions > 1)
        return JUDGE_UNKNOWN_SESSION;
    if (w->danes > 1)
        return JUDGE_UNKNOWN_DANE;
    return w->stss > 1 ? JUDGE_UNKNOWN_STS : JUDGE_UNKNOWN_CERT;
}

/* The set of fates, as bits, and the first of them; more than one only as far as it takes to know. */
static unsigned judge_worlds(const struct question *q, const struct worlds *w, struct judged *first)
{
    const unsigned unknown = 1U << FATE_HELD;
    unsigned fates = 0;

    for (size_t s = 0; s < w->sessions; s++)
        for (size_t d = 0; d < w->danes; d++)
            for (size_t t = 0; t < w->stss; t++)
                for (size_t c = 0; c < w->certs; c++) {
                    struct world world = {w->session[s],      w->dane[d],          w->sts[t].mode,
                                          w->sts[t].names_mx, w->sts[t].cert_good, w->cert[c]};
                    struct judged j = judge_world(q, &world);

                    if (!fates)
                        *first = j;
                    fates |= 1U << j.fate;
                    if (fates & unknown && fates != unknown)
                        return fates;
                }
    return fates;
}

/* ---- the verdict ---- */

static enum judge_verdict compare(enum fate was, const struct judged *j)
{
    if (j->fate == was)
        return JUDGE_SAME;
    switch (j->fate) {
    case FATE_HELD: return j->why;
    case FATE_TLS: return was == FATE_HELD ? JUDGE_PASS : JUDGE_TLS;
    case FATE_CLEAR: break;
    }
    return was == FATE_HELD ? JUDGE_PASS_CLEAR : JUDGE_CLEAR;
}

static bool is_requiretls(const struct judge_facts *f)
{
    return f->effective == TLS_REQUIRETLS || f->why == TLS_WHY_REQUIRETLS;
}

/* A message that brings its own requirement: its fate is the same where the same things are looked up. */
static enum judge_verdict judge_requiretls(const struct group *live, const struct group *shadow)
{
    if (live && live->dane == shadow->dane && live->mta_sts == shadow->mta_sts &&
        (live->starttls == TLS_OFF) == (shadow->starttls == TLS_OFF) && judge_same_checks(live, shadow))
        return JUDGE_SAME;
    return JUDGE_UNKNOWN_REQUIRETLS;
}

enum judge_verdict judge_attempt(const struct judge_facts *f, const struct group *live,
                                 const struct group *shadow)
{
    struct question q = {
        .f = f,
        .shadow = shadow,
        .implicit_tls = shadow->host_count > 0 && shadow->hosts[0].implicit_tls,
        .no_discovery = f->why == TLS_WHY_TLS_REQUIRED_NO,
        .mx_secure = shadow->route == ROUTE_SMARTHOST || f->verify == TLS_VERIFY_DANE ||
                     f->dane != DANE_RESULT_MATCH, /* then it is part of what is not known */
    };
    enum fate was = f->tls_failed ? FATE_HELD : f->version ? FATE_TLS : FATE_CLEAR;
    struct worlds w = {0};
    struct judged j;
    unsigned fates;
    bool good;

    if (!f->delivered && !f->tls_failed)
        return JUDGE_SAME;
    if (live && !same_route(live, shadow))
        return JUDGE_UNKNOWN_ROUTE;
    if (!live && shadow->route != ROUTE_MX)
        return JUDGE_UNKNOWN_ROUTE;
    if (is_requiretls(f))
        return judge_requiretls(live, shadow);
    put_sessions(&w, f, live, shadow);
    put_danes(&w, &q);
    put_stss(&w, &q);
    if (cert_is_known(f, live, shadow, &good)) {
        w.cert[w.certs++] = good;
    } else {
        w.cert[w.certs++] = false;
        w.cert[w.certs++] = true;
    }
    fates = judge_worlds(&q, &w, &j);
    if (fates == 1U << j.fate)
        return compare(was, &j);
    return was == FATE_HELD && !(fates & 1U << FATE_HELD) ? JUDGE_PASS_CLEAR : unknown_for(&w);
}

/* ---- words ---- */

static const struct {
    uint8_t verdict;
    const char *name, *reason;
} words[] = {
    {JUDGE_NONE, "none", "there were no shadow rules"},
    {JUDGE_SAME, "same", "as it went"},
    {JUDGE_CLEAR, "clear", "went encrypted, would have gone in clear"},
    {JUDGE_TLS, "tls", "went in clear, would have gone encrypted"},
    {JUDGE_PASS, "pass", "was held for want of TLS, would have gone encrypted"},
    {JUDGE_PASS_CLEAR, "pass-clear", "was held for want of TLS, would have gone, perhaps in clear"},
    {JUDGE_NO_STARTTLS, "held-no-starttls", "the server does not offer STARTTLS"},
    {JUDGE_REFUSED, "held-refused", "the server offers STARTTLS and refuses it"},
    {JUDGE_HANDSHAKE, "held-handshake", "the TLS handshake fails"},
    {JUDGE_VERSION, "held-version", "the server has only a TLS version that is too old"},
    {JUDGE_WEAK_KX, "held-weak-kx", "the server has only static RSA key exchange"},
    {JUDGE_DANE_MISMATCH, "held-dane-mismatch", "the certificate is not the one in the TLSA records"},
    {JUDGE_DANE_BOGUS, "held-dane-bogus", "the TLSA records cannot be looked up securely"},
    {JUDGE_DANE_ABSENT, "held-dane-absent", "there is no DANE for the server, or its MX is not signed"},
    {JUDGE_STS_MX, "held-sts-mx", "the MTA-STS policy does not name the server"},
    {JUDGE_STS_CERT, "held-sts-certificate", "the certificate does not meet the MTA-STS policy"},
    {JUDGE_CERT + TLS_VERIFY_NONE, "held-certificate", "the certificate is not verified"},
    {JUDGE_CERT + TLS_VERIFY_PKIX, "held-certificate-name", "the certificate holds for another name only"},
    {JUDGE_CERT + TLS_VERIFY_SELF_SIGNED, "held-certificate-self-signed", "the certificate is self-signed"},
    {JUDGE_CERT + TLS_VERIFY_UNKNOWN_CA, "held-certificate-unknown-ca",
     "the certificate is not from a trusted authority"},
    {JUDGE_CERT + TLS_VERIFY_EXPIRED, "held-certificate-expired", "the certificate has expired"},
    {JUDGE_CERT + TLS_VERIFY_NOT_YET_VALID, "held-certificate-not-yet-valid",
     "the certificate is not valid yet"},
    {JUDGE_CERT + TLS_VERIFY_WRONG_NAME, "held-certificate-wrong-name",
     "the certificate is for another name"},
    {JUDGE_CERT + TLS_VERIFY_REVOKED, "held-certificate-revoked", "the certificate is revoked"},
    {JUDGE_CERT + TLS_VERIFY_WEAK, "held-certificate-weak", "the certificate's key or signature is weak"},
    {JUDGE_CERT + TLS_VERIFY_BAD, "held-certificate-bad", "the certificate's chain does not hold"},
    {JUDGE_CERT + TLS_VERIFY_NO_CERT, "held-certificate-none", "the server shows no certificate"},
    {JUDGE_CERT + TLS_VERIFY_PIN_MISMATCH, "held-certificate-pin", "the certificate has another fingerprint"},
    {JUDGE_UNKNOWN_SESSION, "unknown-session", "not known: TLS was not tried, or with other settings"},
    {JUDGE_UNKNOWN_DANE, "unknown-dane", "not known: TLSA records were not looked up"},
    {JUDGE_UNKNOWN_STS, "unknown-sts", "not known: the MTA-STS policy was not looked up"},
    {JUDGE_UNKNOWN_CERT, "unknown-certificate", "not known: the certificate was checked by another rule"},
    {JUDGE_UNKNOWN_ROUTE, "unknown-route", "not known: it would have gone to other hosts"},
    {JUDGE_UNKNOWN_REQUIRETLS, "unknown-requiretls", "not known: the message had REQUIRETLS"},
};

const char *judge_verdict_name(uint8_t v)
{
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (words[i].verdict == v)
            return words[i].name;
    return "unknown";
}

const char *judge_verdict_reason(uint8_t v)
{
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (words[i].verdict == v)
            return words[i].reason;
    return "not known to this version";
}

bool judge_verdict_parse(const char *name, uint8_t *out)
{
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (strcmp(words[i].name, name) == 0) {
            *out = words[i].verdict;
            return true;
        }
    }
    return false;
}

#include "policy/tls_decide.h"

#include "base/macros.h"

#define EVENT_COUNT (TLS_EVENT_CLOSING + 1)

/* What a cell of the table says.  Only the first two ever lead to clear text. */
enum cell {
    FAIL,     /* a cell that cannot be reached, or a number that is no event: next host [4.7.5] */
    CLEAR,    /* clear on this connection if anything may go clear, else next [4.7.4] */
    FALLBACK, /* next [4.7.5], or the same host again in clear if the fallback permits */
    TLS,
    TLS_IF_MX_SECURE,     /* else next [4.7.5] */
    TLS_IF_MX_SECURE_OUT, /* else out */
    NEXT_4,               /* next [4.7.4] */
    NEXT_5,               /* next [4.7.5] */
    SKIP,                 /* do not connect [4.7.5] */
    GO_ON,
    OUT, /* REQUIRETLS: this host cannot do it [5.7.30] */
};

/* The rows.  STS testing has none: it is its group's row, with failures counted. */
enum row {
    ROW_OFF,
    ROW_ON,
    ROW_REQUIRE,
    ROW_VERIFY,
    ROW_STS_ENFORCE,
    ROW_DANE,
    ROW_DANE_ONLY,
    ROW_REQUIRETLS,
    ROW_REQUIRETLS_STS,  /* MTA-STS vouches for the MX (RFC 8689 §4.2.1) */
    ROW_REQUIRETLS_DANE, /* usable TLSA records: they alone decide */
    ROW_COUNT,
};

/*
 * At `off` nothing is asked and nothing is looked up; TLS happens there only on a smart host's implicit
 * port.  A 421 is the same everywhere: the next host.  REFUSED_UNCLEAN is a failed handshake everywhere.
 */
/* clang-format off */
static const uint8_t table[ROW_COUNT][EVENT_COUNT] = {
    [ROW_OFF] = {
        [TLS_EVENT_NOT_OFFERED] = CLEAR, [TLS_EVENT_REFUSED] = NEXT_4,
        [TLS_EVENT_REFUSED_UNCLEAN] = NEXT_5, [TLS_EVENT_HANDSHAKE_FAILED] = NEXT_5,
        [TLS_EVENT_CERT_BAD] = TLS, [TLS_EVENT_CERT_GOOD] = TLS,
        [TLS_EVENT_TLSA_MATCH] = TLS, [TLS_EVENT_TLSA_MISMATCH] = NEXT_5,
        [TLS_EVENT_TLSA_BOGUS] = GO_ON, [TLS_EVENT_TLSA_ABSENT] = GO_ON,
        [TLS_EVENT_STS_MX_MISMATCH] = GO_ON, [TLS_EVENT_CLOSING] = NEXT_4,
    },
    [ROW_ON] = {
        [TLS_EVENT_NOT_OFFERED] = CLEAR, [TLS_EVENT_REFUSED] = CLEAR,
        [TLS_EVENT_REFUSED_UNCLEAN] = FALLBACK, [TLS_EVENT_HANDSHAKE_FAILED] = FALLBACK,
        [TLS_EVENT_CERT_BAD] = TLS, [TLS_EVENT_CERT_GOOD] = TLS,
        [TLS_EVENT_TLSA_MATCH] = TLS, [TLS_EVENT_TLSA_MISMATCH] = NEXT_5,
        [TLS_EVENT_TLSA_BOGUS] = SKIP, [TLS_EVENT_TLSA_ABSENT] = GO_ON,
        [TLS_EVENT_STS_MX_MISMATCH] = SKIP, [TLS_EVENT_CLOSING] = NEXT_4,
    },
    [ROW_REQUIRE] = {
        [TLS_EVENT_NOT_OFFERED] = NEXT_4, [TLS_EVENT_REFUSED] = NEXT_4,
        [TLS_EVENT_REFUSED_UNCLEAN] = NEXT_5, [TLS_EVENT_HANDSHAKE_FAILED] = NEXT_5,
        [TLS_EVENT_CERT_BAD] = TLS, [TLS_EVENT_CERT_GOOD] = TLS,
        [TLS_EVENT_TLSA_MATCH] = TLS, [TLS_EVENT_TLSA_MISMATCH] = NEXT_5,
        [TLS_EVENT_TLSA_BOGUS] = SKIP, [TLS_EVENT_TLSA_ABSENT] = GO_ON,
        [TLS_EVENT_STS_MX_MISMATCH] = SKIP, [TLS_EVENT_CLOSING] = NEXT_4,
    },
    [ROW_VERIFY] = {
        [TLS_EVENT_NOT_OFFERED] = NEXT_4, [TLS_EVENT_REFUSED] = NEXT_4,
        [TLS_EVENT_REFUSED_UNCLEAN] = NEXT_5, [TLS_EVENT_HANDSHAKE_FAILED] = NEXT_5,
        [TLS_EVENT_CERT_BAD] = NEXT_5, [TLS_EVENT_CERT_GOOD] = TLS,
        [TLS_EVENT_TLSA_MATCH] = TLS, [TLS_EVENT_TLSA_MISMATCH] = NEXT_5,
        [TLS_EVENT_TLSA_BOGUS] = SKIP, [TLS_EVENT_TLSA_ABSENT] = GO_ON,
        [TLS_EVENT_STS_MX_MISMATCH] = SKIP, [TLS_EVENT_CLOSING] = NEXT_4,
    },
    [ROW_STS_ENFORCE] = {
        [TLS_EVENT_NOT_OFFERED] = NEXT_4, [TLS_EVENT_REFUSED] = NEXT_4,
        [TLS_EVENT_REFUSED_UNCLEAN] = NEXT_5, [TLS_EVENT_HANDSHAKE_FAILED] = NEXT_5,
        [TLS_EVENT_CERT_BAD] = NEXT_5, [TLS_EVENT_CERT_GOOD] = TLS,
        [TLS_EVENT_TLSA_MATCH] = TLS, [TLS_EVENT_TLSA_MISMATCH] = NEXT_5, /* RFC 8461 §2: DANE is final */
        [TLS_EVENT_TLSA_BOGUS] = SKIP, [TLS_EVENT_TLSA_ABSENT] = GO_ON,
        [TLS_EVENT_STS_MX_MISMATCH] = SKIP, [TLS_EVENT_CLOSING] = NEXT_4,
    },
    [ROW_DANE] = {
        [TLS_EVENT_NOT_OFFERED] = NEXT_4, [TLS_EVENT_REFUSED] = NEXT_4,
        [TLS_EVENT_REFUSED_UNCLEAN] = NEXT_5, [TLS_EVENT_HANDSHAKE_FAILED] = NEXT_5,
        [TLS_EVENT_CERT_BAD] = NEXT_5, [TLS_EVENT_CERT_GOOD] = NEXT_5, /* the TLSA event is the answer */
        [TLS_EVENT_TLSA_MATCH] = TLS, [TLS_EVENT_TLSA_MISMATCH] = NEXT_5,
        [TLS_EVENT_TLSA_BOGUS] = SKIP, [TLS_EVENT_TLSA_ABSENT] = SKIP, /* the level says they exist */
        [TLS_EVENT_STS_MX_MISMATCH] = GO_ON, [TLS_EVENT_CLOSING] = NEXT_4,
    },
    [ROW_DANE_ONLY] = {
        [TLS_EVENT_NOT_OFFERED] = NEXT_4, [TLS_EVENT_REFUSED] = NEXT_4,
        [TLS_EVENT_REFUSED_UNCLEAN] = NEXT_5, [TLS_EVENT_HANDSHAKE_FAILED] = NEXT_5,
        [TLS_EVENT_CERT_BAD] = NEXT_5, [TLS_EVENT_CERT_GOOD] = NEXT_5,
        [TLS_EVENT_TLSA_MATCH] = TLS_IF_MX_SECURE, [TLS_EVENT_TLSA_MISMATCH] = NEXT_5,
        [TLS_EVENT_TLSA_BOGUS] = SKIP, [TLS_EVENT_TLSA_ABSENT] = SKIP,
        [TLS_EVENT_STS_MX_MISMATCH] = GO_ON, [TLS_EVENT_CLOSING] = NEXT_4,
    },
    [ROW_REQUIRETLS] = {
        [TLS_EVENT_NOT_OFFERED] = OUT, [TLS_EVENT_REFUSED] = OUT,
        [TLS_EVENT_REFUSED_UNCLEAN] = OUT, [TLS_EVENT_HANDSHAKE_FAILED] = OUT,
        [TLS_EVENT_CERT_BAD] = OUT, [TLS_EVENT_CERT_GOOD] = TLS_IF_MX_SECURE_OUT,
        [TLS_EVENT_TLSA_MATCH] = TLS_IF_MX_SECURE_OUT, [TLS_EVENT_TLSA_MISMATCH] = OUT,
        [TLS_EVENT_TLSA_BOGUS] = SKIP, [TLS_EVENT_TLSA_ABSENT] = GO_ON,
        [TLS_EVENT_STS_MX_MISMATCH] = SKIP, [TLS_EVENT_CLOSING] = NEXT_4,
    },
    [ROW_REQUIRETLS_STS] = {
        [TLS_EVENT_NOT_OFFERED] = OUT, [TLS_EVENT_REFUSED] = OUT,
        [TLS_EVENT_REFUSED_UNCLEAN] = OUT, [TLS_EVENT_HANDSHAKE_FAILED] = OUT,
        [TLS_EVENT_CERT_BAD] = OUT, [TLS_EVENT_CERT_GOOD] = TLS,
        [TLS_EVENT_TLSA_MATCH] = TLS, [TLS_EVENT_TLSA_MISMATCH] = OUT,
        [TLS_EVENT_TLSA_BOGUS] = SKIP, [TLS_EVENT_TLSA_ABSENT] = GO_ON,
        [TLS_EVENT_STS_MX_MISMATCH] = SKIP, [TLS_EVENT_CLOSING] = NEXT_4,
    },
    [ROW_REQUIRETLS_DANE] = {
        [TLS_EVENT_NOT_OFFERED] = OUT, [TLS_EVENT_REFUSED] = OUT,
        [TLS_EVENT_REFUSED_UNCLEAN] = OUT, [TLS_EVENT_HANDSHAKE_FAILED] = OUT,
        [TLS_EVENT_CERT_BAD] = NEXT_5, [TLS_EVENT_CERT_GOOD] = NEXT_5,
        [TLS_EVENT_TLSA_MATCH] = TLS_IF_MX_SECURE_OUT, [TLS_EVENT_TLSA_MISMATCH] = OUT,
        [TLS_EVENT_TLSA_BOGUS] = SKIP, [TLS_EVENT_TLSA_ABSENT] = SKIP,
        [TLS_EVENT_STS_MX_MISMATCH] = GO_ON, [TLS_EVENT_CLOSING] = NEXT_4,
    },
};
/* clang-format on */

static enum row row_of_level(enum tls_level level)
{
    switch (level) {
    case TLS_OFF: return ROW_OFF;
    case TLS_ON: return ROW_ON;
    case TLS_REQUIRE: return ROW_REQUIRE;
    case TLS_VERIFY: return ROW_VERIFY;
    case TLS_STS_ENFORCE: return ROW_STS_ENFORCE;
    case TLS_DANE: return ROW_DANE;
    case TLS_DANE_ONLY: return ROW_DANE_ONLY;
    case TLS_REQUIRETLS: return ROW_REQUIRETLS;
    case TLS_STS_TESTING: break; /* no group can have it */
    }
    return ROW_VERIFY; /* our own mistake must not open anything */
}

static enum row row_of(const struct tls_facts *f)
{
    enum row row = row_of_level(f->level == TLS_STS_TESTING ? f->group_level : f->level);

    /* RFC 7672 §2.2: secure but unusable records make encryption mandatory.  `off` looks nothing up. */
    if (f->tlsa_all_unusable && row == ROW_ON)
        row = ROW_REQUIRE;
    if (!f->requiretls)
        return row;
    if (row == ROW_STS_ENFORCE)
        return ROW_REQUIRETLS_STS;
    return row == ROW_DANE || row == ROW_DANE_ONLY ? ROW_REQUIRETLS_DANE : ROW_REQUIRETLS;
}

static bool row_is_clear_possible(enum row row, const struct tls_facts *f)
{
    return (row == ROW_OFF || row == ROW_ON) && !f->has_credentials && !f->rcpt_accepted_in_tls &&
           !f->implicit_tls;
}

static bool fallback_is_due(const struct tls_facts *f)
{
    return f->fallback == CLEAR_NOW || (f->fallback == CLEAR_LATER && f->later_is_due);
}

/* What a TLSRPT report counts (RFC 8460 §4.3), whatever then becomes of the mail. */
static bool is_counted(const struct tls_facts *f, enum row row, enum tls_event event)
{
    bool dane = row == ROW_DANE || row == ROW_DANE_ONLY || row == ROW_REQUIRETLS_DANE;

    if (row == ROW_OFF)
        return false;
    switch (event) {
    case TLS_EVENT_NOT_OFFERED:
    case TLS_EVENT_REFUSED:
    case TLS_EVENT_REFUSED_UNCLEAN:
    case TLS_EVENT_HANDSHAKE_FAILED:
    case TLS_EVENT_TLSA_MISMATCH:
    case TLS_EVENT_TLSA_BOGUS: return true;
    case TLS_EVENT_CERT_BAD:
    case TLS_EVENT_STS_MX_MISMATCH: return !dane;
    case TLS_EVENT_TLSA_ABSENT: return f->level == TLS_DANE_ONLY;
    case TLS_EVENT_CERT_GOOD:
    case TLS_EVENT_TLSA_MATCH:
    case TLS_EVENT_CLOSING: break;
    }
    return false;
}

static enum cell cell_of(const struct tls_facts *f, enum row row, enum tls_event event)
{
    if ((unsigned)event >= EVENT_COUNT)
        return FAIL;
    /* A policy in testing mode is reported, never enforced (RFC 8461 §5). */
    if (event == TLS_EVENT_STS_MX_MISMATCH && (f->level == TLS_STS_TESTING || f->sts_testing))
        return GO_ON;
    return (enum cell)table[row][event];
}

struct tls_decision tls_decide(const struct tls_facts *facts, enum tls_event event)
{
    enum row row = row_of(facts);
    bool clear = row_is_clear_possible(row, facts);
    struct tls_decision d = {TLS_DO_NEXT, "4.7.5", is_counted(facts, row, event)};

    switch (cell_of(facts, row, event)) {
    case CLEAR:
        if (!clear)
            d.enhanced = "4.7.4";
        else
            d.action = TLS_DO_CLEAR;
        break;
    case FALLBACK:
        if (clear && fallback_is_due(facts))
            d.action = TLS_DO_RECONNECT_CLEAR;
        break;
    case TLS: d.action = TLS_DO_TLS; break;
    case TLS_IF_MX_SECURE: d.action = facts->mx_secure ? TLS_DO_TLS : TLS_DO_NEXT; break;
    case TLS_IF_MX_SECURE_OUT: d.action = facts->mx_secure ? TLS_DO_TLS : TLS_DO_BOUNCE; break;
    case NEXT_4: d.enhanced = "4.7.4"; break;
    case NEXT_5:
    case FAIL: break;
    case SKIP: d.action = TLS_DO_SKIP_HOST; break;
    case GO_ON: d.action = TLS_DO_CONTINUE; break;
    case OUT: d.action = TLS_DO_BOUNCE; break;
    }
    if (d.action == TLS_DO_BOUNCE)
        d.enhanced = "5.7.30";
    else if (d.action != TLS_DO_NEXT && d.action != TLS_DO_SKIP_HOST)
        d.enhanced = "";
    return d;
}

bool tls_clear_possible(const struct tls_facts *facts)
{
    return row_is_clear_possible(row_of(facts), facts);
}

enum tls_level tls_level_stricter(enum tls_level a, enum tls_level b)
{
    return MAX_OF(a, b); /* the enum is in that order */
}

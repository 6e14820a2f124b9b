#include "policy/classify.h"

#include "base/macros.h"

#define HOST_STAGES                                                                                          \
    (BIT(STAGE_CONNECT) | BIT(STAGE_GREETING) | BIT(STAGE_EHLO) | BIT(STAGE_STARTTLS) | BIT(STAGE_TLS) |     \
     BIT(STAGE_AUTH))
#define MAIL_STAGES (BIT(STAGE_MAIL) | BIT(STAGE_RCPT) | BIT(STAGE_DATA) | BIT(STAGE_DOT))
#define ANY_STAGE   0U

/*
 * The first rule all of whose conditions hold gives the class.  `enhanced` is subject and detail: ".1.1"
 * is exact, ".7." any detail of that subject.  A word is found anywhere in the text, without case.
 * Subjects .0. and .7.1 say little (every spam filter and every full mailbox uses 5.7.1 somewhere),
 * so for them the words decide.
 */
struct rule {
    uint32_t stages;             /* ANY_STAGE, or bits */
    uint16_t code_min, code_max; /* 0: any */
    const char *enhanced;        /* NULL: any, or none */
    const char *word;            /* NULL: any */
    enum outcome_class class;
};

static const struct rule rules[] = {
    /* what the stage alone says; 4.7.4 is our own word for STARTTLS that is not to be had */
    {ANY_STAGE, 0, 0, ".7.4", NULL, CLASS_TLS_REQUIRED},
    {BIT(STAGE_AUTH), 0, 0, NULL, NULL, CLASS_AUTH_REQUIRED},
    {BIT(STAGE_STARTTLS) | BIT(STAGE_TLS), 0, 0, NULL, NULL, CLASS_TLS_FAILED},

    /* enhanced codes that say it all (RFC 3463 and the registry of RFC 5248) */
    {ANY_STAGE, 0, 0, ".1.1", NULL, CLASS_MAILBOX_UNKNOWN},
    {ANY_STAGE, 0, 0, ".1.0", "user unknown", CLASS_MAILBOX_UNKNOWN},
    {ANY_STAGE, 0, 0, ".1.2", NULL, CLASS_DOMAIN_UNKNOWN},
    {ANY_STAGE, 0, 0, ".1.3", NULL, CLASS_MAILBOX_UNKNOWN},
    {ANY_STAGE, 0, 0, ".1.6", NULL, CLASS_MAILBOX_UNKNOWN},
    {ANY_STAGE, 0, 0, ".1.7", NULL, CLASS_POLICY},
    {ANY_STAGE, 0, 0, ".1.8", NULL, CLASS_AUTHENTICATION},
    {ANY_STAGE, 0, 0, ".1.10", NULL, CLASS_DOMAIN_UNKNOWN},
    {ANY_STAGE, 0, 0, ".2.1", "rate", CLASS_RATE_LIMITED}, /* Gmail: "receiving mail at a rate that …" */
    {ANY_STAGE, 0, 0, ".2.1", NULL, CLASS_MAILBOX_DISABLED},
    {ANY_STAGE, 0, 0, ".2.2", NULL, CLASS_MAILBOX_FULL},
    {ANY_STAGE, 0, 0, ".2.3", NULL, CLASS_MESSAGE_TOO_BIG},
    {ANY_STAGE, 0, 0, ".3.4", NULL, CLASS_MESSAGE_TOO_BIG},
    {ANY_STAGE, 0, 0, ".3.", NULL, CLASS_SYSTEM},
    {ANY_STAGE, 0, 0, ".4.3", NULL, CLASS_DNS},
    {ANY_STAGE, 0, 0, ".4.4", NULL, CLASS_DNS},
    {ANY_STAGE, 0, 0, ".4.6", NULL, CLASS_LOOP},
    {ANY_STAGE, 0, 0, ".4.7", NULL, CLASS_EXPIRED},
    {ANY_STAGE, 0, 0, ".4.", NULL, CLASS_NETWORK},
    {ANY_STAGE, 0, 0, ".5.3", NULL, CLASS_TOO_MANY_RECIPIENTS},
    {ANY_STAGE, 0, 0, ".6.", NULL, CLASS_CONTENT},
    {ANY_STAGE, 0, 0, ".7.5", NULL, CLASS_TLS_FAILED},
    {ANY_STAGE, 0, 0, ".7.8", NULL, CLASS_AUTH_REQUIRED},
    {ANY_STAGE, 0, 0, ".7.9", "authent", CLASS_AUTHENTICATION}, /* Yahoo: "unauthenticated mail" */
    {ANY_STAGE, 0, 0, ".7.9", NULL, CLASS_POLICY},
    {ANY_STAGE, 0, 0, ".7.10", NULL, CLASS_TLS_REQUIRED},
    {ANY_STAGE, 0, 0, ".7.11", NULL, CLASS_TLS_REQUIRED},
    {ANY_STAGE, 0, 0, ".7.20", NULL, CLASS_AUTHENTICATION},
    {ANY_STAGE, 0, 0, ".7.21", NULL, CLASS_AUTHENTICATION},
    {ANY_STAGE, 0, 0, ".7.22", NULL, CLASS_AUTHENTICATION},
    {ANY_STAGE, 0, 0, ".7.23", NULL, CLASS_AUTHENTICATION},
    {ANY_STAGE, 0, 0, ".7.24", NULL, CLASS_AUTHENTICATION},
    {ANY_STAGE, 0, 0, ".7.25", NULL, CLASS_AUTHENTICATION},
    {ANY_STAGE, 0, 0, ".7.26", NULL, CLASS_AUTHENTICATION},
    {ANY_STAGE, 0, 0, ".7.27", NULL, CLASS_DOMAIN_UNKNOWN}, /* our sender's domain has a null MX */
    {ANY_STAGE, 0, 0, ".7.28", NULL, CLASS_RATE_LIMITED},
    {ANY_STAGE, 0, 0, ".7.30", NULL, CLASS_TLS_REQUIRED}, /* REQUIRETLS, RFC 8689 §4.2 */
    {ANY_STAGE, 0, 0, ".7.515", NULL, CLASS_AUTHENTICATION},

    /* basic codes that mean one thing */
    {ANY_STAGE, 556, 556, NULL, NULL, CLASS_DOMAIN_UNKNOWN}, /* RFC 7504 §4 */
    {ANY_STAGE, 530, 530, NULL, "tls", CLASS_TLS_REQUIRED},
    {ANY_STAGE, 530, 530, NULL, NULL, CLASS_AUTH_REQUIRED},
    {ANY_STAGE, 534, 535, NULL, NULL, CLASS_AUTH_REQUIRED},
    {ANY_STAGE, 538, 538, NULL, NULL, CLASS_TLS_REQUIRED},

    /* words, commonest first; for want of a code that means something */
    {ANY_STAGE, 400, 499, NULL, "greylist", CLASS_GREYLISTED},
    {ANY_STAGE, 400, 499, NULL, "graylist", CLASS_GREYLISTED},
    {ANY_STAGE, 400, 499, NULL, "grey-list", CLASS_GREYLISTED},
    {ANY_STAGE, 0, 0, NULL, "too many recipients", CLASS_TOO_MANY_RECIPIENTS},
    {ANY_STAGE, 0, 0, NULL, "rate limit", CLASS_RATE_LIMITED},
    {ANY_STAGE, 0, 0, NULL, "too many", CLASS_RATE_LIMITED},
    {ANY_STAGE, 0, 0, NULL, "throttl", CLASS_RATE_LIMITED},
    {ANY_STAGE, 0, 0, NULL, "rate of", CLASS_RATE_LIMITED},
    {ANY_STAGE, 0, 0, NULL, "unusual rate", CLASS_RATE_LIMITED},
    {ANY_STAGE, 0, 0, NULL, "deferred due to", CLASS_RATE_LIMITED}, /* Yahoo TSS04, TSS05 */
    {MAIL_STAGES, 0, 0, NULL, "over quota", CLASS_MAILBOX_FULL},
    {MAIL_STAGES, 0, 0, NULL, "quota exceeded", CLASS_MAILBOX_FULL},
    {MAIL_STAGES, 0, 0, NULL, "mailbox full", CLASS_MAILBOX_FULL},
    {MAIL_STAGES, 0, 0, NULL, "mailbox is full", CLASS_MAILBOX_FULL},
    {MAIL_STAGES, 500, 599, NULL, "user unknown", CLASS_MAILBOX_UNKNOWN},
    {MAIL_STAGES, 500, 599, NULL, "unknown user", CLASS_MAILBOX_UNKNOWN},
    {MAIL_STAGES, 500, 599, NULL, "no such user", CLASS_MAILBOX_UNKNOWN},
    {MAIL_STAGES, 500, 599, NULL, "no such recipient", CLASS_MAILBOX_UNKNOWN},
    {MAIL_STAGES, 500, 599, NULL, "mailbox unavailable", CLASS_MAILBOX_UNKNOWN},
    {MAIL_STAGES, 500, 599, NULL, "mailbox not found", CLASS_MAILBOX_UNKNOWN},
    {MAIL_STAGES, 500, 599, NULL, "does not exist", CLASS_MAILBOX_UNKNOWN},
    {MAIL_STAGES, 500, 599, NULL, "doesn't exist", CLASS_MAILBOX_UNKNOWN},
    {MAIL_STAGES, 500, 599, NULL, "unrouteable address", CLASS_MAILBOX_UNKNOWN},
    {MAIL_STAGES, 500, 599, NULL, "disabled", CLASS_MAILBOX_DISABLED},
    {MAIL_STAGES, 500, 599, NULL, "inactive", CLASS_MAILBOX_DISABLED},
    {ANY_STAGE, 0, 0, NULL, "spam", CLASS_SPAM_BLOCK},
    {ANY_STAGE, 0, 0, NULL, "blacklist", CLASS_SPAM_BLOCK},
    {ANY_STAGE, 0, 0, NULL, "blocklist", CLASS_SPAM_BLOCK},
    {ANY_STAGE, 0, 0, NULL, "block list", CLASS_SPAM_BLOCK},
    {ANY_STAGE, 0, 0, NULL, "dnsbl", CLASS_SPAM_BLOCK},
    {ANY_STAGE, 0, 0, NULL, "reputation", CLASS_SPAM_BLOCK},
    {ANY_STAGE, 0, 0, NULL, "blocked", CLASS_SPAM_BLOCK},
    {ANY_STAGE, 0, 0, NULL, "dmarc", CLASS_AUTHENTICATION},
    {ANY_STAGE, 0, 0, NULL, "dkim", CLASS_AUTHENTICATION},
    {ANY_STAGE, 0, 0, NULL, "spf ", CLASS_AUTHENTICATION},
    {ANY_STAGE, 0, 0, NULL, "reverse dns", CLASS_AUTHENTICATION},
    {ANY_STAGE, 0, 0, NULL, "ptr record", CLASS_AUTHENTICATION},
    {ANY_STAGE, 0, 0, NULL, "relay", CLASS_POLICY},

    /* whatever the code still says */
    {BIT(STAGE_RCPT), 552, 552, NULL, NULL, CLASS_TOO_MANY_RECIPIENTS},
    {BIT(STAGE_RCPT), 452, 452, NULL, NULL, CLASS_TOO_MANY_RECIPIENTS},
    {ANY_STAGE, 0, 0, ".5.", NULL, CLASS_PROTOCOL},
    {ANY_STAGE, 0, 0, ".7.", NULL, CLASS_POLICY},
    {ANY_STAGE, 0, 0, ".2.", NULL, CLASS_MAILBOX_DISABLED},
    {ANY_STAGE, 0, 0, ".1.", NULL, CLASS_MAILBOX_UNKNOWN},
    {ANY_STAGE, 500, 504, NULL, NULL, CLASS_PROTOCOL},
    {ANY_STAGE, 521, 521, NULL, NULL, CLASS_POLICY}, /* RFC 7504 §3: takes no mail at all */
    {ANY_STAGE, 552, 552, NULL, NULL, CLASS_MESSAGE_TOO_BIG},
    {ANY_STAGE, 554, 554, NULL, NULL, CLASS_POLICY},
    {BIT(STAGE_RCPT), 550, 551, NULL, NULL, CLASS_MAILBOX_UNKNOWN},
    {BIT(STAGE_RCPT), 553, 553, NULL, NULL, CLASS_MAILBOX_UNKNOWN},
    {ANY_STAGE, 550, 553, NULL, NULL, CLASS_POLICY},
    {ANY_STAGE, 421, 421, NULL, NULL, CLASS_SYSTEM},
    {ANY_STAGE, 432, 432, NULL, NULL, CLASS_AUTH_REQUIRED},
    {ANY_STAGE, 450, 459, NULL, NULL, CLASS_SYSTEM},
};

static bool has_word(struct bytes text, const char *word)
{
    struct bytes want = bytes_of(word);

    for (size_t at = 0; at + want.len <= text.len; at++)
        if (bytes_istarts(bytes_skip(text, at), want))
            return true;
    return false;
}

/* "5.7.26" against ".7.26" or ".7.". */
static bool has_enhanced(const char *enhanced, const char *pattern)
{
    struct bytes tail, want = bytes_of(pattern);

    if (enhanced[0] == '\0')
        return false;
    tail = bytes_of(enhanced + 1);
    if (want.at[want.len - 1] == '.')
        return bytes_starts(tail, want);
    return bytes_eq(tail, want);
}

static bool rule_holds(const struct rule *r, enum outcome_stage stage, uint16_t code, const char *enhanced,
                       struct bytes text)
{
    if (r->stages != ANY_STAGE && !(r->stages & BIT(stage)))
        return false;
    if (r->code_min && (code < r->code_min || code > r->code_max))
        return false;
    if (r->enhanced && !has_enhanced(enhanced, r->enhanced))
        return false;
    return !r->word || has_word(text, r->word);
}

static enum outcome_class class_of(enum outcome_stage stage, uint16_t code, const char *enhanced,
                                   struct bytes text)
{
    for (size_t i = 0; i < COUNT_OF(rules); i++)
        if (rule_holds(&rules[i], stage, code, enhanced, text))
            return rules[i].class;
    return CLASS_OTHER;
}

static enum outcome_kind kind_of_failure(enum outcome_stage stage, uint16_t code, enum outcome_class class)
{
    if (code < 500) /* 4yz; 421 is one of them wherever it stands */
        return OUTCOME_DEFERRED;
    if (!(BIT(stage) & MAIL_STAGES))
        return OUTCOME_DEFERRED; /* it speaks of the host */
    if (stage == STAGE_RCPT && code == 552)
        return OUTCOME_DEFERRED; /* RFC 5321 §4.5.3.1.10 */
    return class == CLASS_TLS_REQUIRED ? OUTCOME_DEFERRED : OUTCOME_BOUNCED;
}

struct classification classify_reply(enum outcome_stage stage, uint16_t code, const char *enhanced,
                                     struct bytes text)
{
    enum outcome_class class;

    if (code >= 200 && code <= 299 && stage == STAGE_DOT)
        return (struct classification){OUTCOME_DELIVERED, CLASS_DELIVERED};
    if (code < 400 || code > 599)
        return (struct classification){OUTCOME_DEFERRED, CLASS_PROTOCOL};
    class = class_of(stage, code, enhanced ? enhanced : "", text);
    return (struct classification){kind_of_failure(stage, code, class), class};
}

/* Our own words carry enhanced codes that we chose, so the stage is asked only where those are silent. */
static enum outcome_class class_of_local(const struct outcome *o)
{
    enum outcome_class class;

    if (o->stage == STAGE_TLS || o->stage == STAGE_STARTTLS)
        return has_enhanced(o->enhanced, ".7.5") ? CLASS_TLS_FAILED : CLASS_TLS_REQUIRED;
    class = class_of(o->stage, o->code, o->enhanced, bytes_make("", 0));
    if (o->stage == STAGE_DNS && class != CLASS_DOMAIN_UNKNOWN && class != CLASS_LOOP)
        return CLASS_DNS;
    if (o->stage == STAGE_CONNECT)
        return CLASS_NETWORK;
    return class;
}

enum outcome_class classify_outcome(const struct outcome *o)
{
    switch (o->kind) {
    case OUTCOME_DELIVERED: return CLASS_DELIVERED;
    case OUTCOME_EXPIRED: return CLASS_EXPIRED;
    case OUTCOME_CANCELLED: return CLASS_CANCELLED;
    case OUTCOME_DEFERRED:
    case OUTCOME_BOUNCED: break;
    }
    if (!o->remote)
        return class_of_local(o);
    return classify_reply(o->stage, o->code, o->enhanced, bytes_of(o->text)).class;
}

bool outcome_refuses_us(const struct outcome *o)
{
    if (!o->remote || o->kind == OUTCOME_DELIVERED)
        return false;
    if (o->code == 421)
        return true;
    switch (classify_outcome(o)) {
    case CLASS_DELIVERED:
    case CLASS_MAILBOX_UNKNOWN:
    case CLASS_MAILBOX_FULL:
    case CLASS_MAILBOX_DISABLED:
    case CLASS_DOMAIN_UNKNOWN:
    case CLASS_GREYLISTED:
    case CLASS_TOO_MANY_RECIPIENTS:
    case CLASS_AUTH_REQUIRED:
    case CLASS_TLS_REQUIRED:
    case CLASS_TLS_FAILED:
    case CLASS_MESSAGE_TOO_BIG:
    case CLASS_CONTENT:
    case CLASS_LOOP:
    case CLASS_DNS:
    case CLASS_EXPIRED:
    case CLASS_CANCELLED: return false;
    default: return true;
    }
}

static const char *const class_names[CLASS_COUNT_] = {
    [CLASS_DELIVERED] = "delivered",
    [CLASS_MAILBOX_UNKNOWN] = "mailbox-unknown",
    [CLASS_MAILBOX_FULL] = "mailbox-full",
    [CLASS_MAILBOX_DISABLED] = "mailbox-disabled",
    [CLASS_DOMAIN_UNKNOWN] = "domain-unknown",
    [CLASS_SPAM_BLOCK] = "spam-block",
    [CLASS_AUTHENTICATION] = "authentication",
    [CLASS_GREYLISTED] = "greylisted",
    [CLASS_RATE_LIMITED] = "rate-limited",
    [CLASS_TOO_MANY_RECIPIENTS] = "too-many-recipients",
    [CLASS_AUTH_REQUIRED] = "auth-required",
    [CLASS_TLS_REQUIRED] = "tls-required",
    [CLASS_TLS_FAILED] = "tls-failed",
    [CLASS_MESSAGE_TOO_BIG] = "message-too-big",
    [CLASS_CONTENT] = "content",
    [CLASS_POLICY] = "policy",
    [CLASS_LOOP] = "loop",
    [CLASS_NETWORK] = "network",
    [CLASS_DNS] = "dns",
    [CLASS_SYSTEM] = "system",
    [CLASS_PROTOCOL] = "protocol",
    [CLASS_EXPIRED] = "expired",
    [CLASS_CANCELLED] = "cancelled",
    [CLASS_OTHER] = "other",
};

const char *outcome_class_name(enum outcome_class class)
{
    return (unsigned)class < CLASS_COUNT_ ? class_names[class] : "other";
}

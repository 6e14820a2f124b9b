#include "engine/smtp/command.h"

#include "engine/smtp/xtext.h"

static const struct {
    const char *name;
    enum verb verb;
} verb_names[] = {
    {"MAIL", VERB_MAIL}, {"RCPT", VERB_RCPT},         {"DATA", VERB_DATA}, {"BDAT", VERB_BDAT},
    {"EHLO", VERB_EHLO}, {"HELO", VERB_HELO},         {"RSET", VERB_RSET}, {"NOOP", VERB_NOOP},
    {"QUIT", VERB_QUIT}, {"AUTH", VERB_AUTH},         {"HELP", VERB_HELP}, {"VRFY", VERB_VRFY},
    {"EXPN", VERB_EXPN}, {"STARTTLS", VERB_STARTTLS},
};

void smtp_command_parse(struct bytes line, struct smtp_command *out)
{
    struct bytes word = bytes_first(line, bytes_find(line, ' '));

    out->verb = VERB_UNKNOWN;
    out->arg = bytes_trim(bytes_skip(line, word.len));
    for (size_t i = 0; i < COUNT_OF(verb_names); i++)
        if (bytes_ieq(word, bytes_of(verb_names[i].name)))
            out->verb = verb_names[i].verb;
}

static bool refuse(struct smtp_refusal *why, uint16_t code, const char *enhanced, const char *text)
{
    *why = (struct smtp_refusal){code, enhanced, text};
    return false;
}

struct param {
    struct bytes name, value;
    bool has_value;
};

/* Takes one ESMTP parameter (RFC 5321 §4.1.2 esmtp-param) from the front of `rest`. */
static bool take_param(struct bytes *rest, struct param *out)
{
    struct bytes word = bytes_first(*rest, bytes_find(*rest, ' '));
    size_t eq = bytes_find(word, '=');

    *out = (struct param){bytes_first(word, eq), bytes_skip(word, eq + 1), eq < word.len};
    *rest = bytes_trim(bytes_skip(*rest, word.len));
    for (size_t i = 0; i < out->name.len; i++) {
        char c = ascii_lower(out->name.at[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && i)))
            return false;
    }
    for (size_t i = 0; i < out->value.len; i++) {
        unsigned char c = (unsigned char)out->value.at[i];
        if (c <= ' ' || c == 0x7f || c == '=')
            return false;
    }
    return out->name.len && (!out->has_value || out->value.len);
}

/* One known parameter of a command: its name, whether it has a value, and what takes it. */
struct param_row {
    const char *name;
    bool wants_value;
    bool (*take)(void *args, struct bytes value, struct smtp_refusal *why);
};

static bool take_params(struct bytes rest, const struct param_row *rows, size_t count, void *args,
                        struct smtp_refusal *why)
{
    unsigned seen = 0;

    while (rest.len) {
        struct param p;
        if (!take_param(&rest, &p))
            return refuse(why, 501, "5.5.4", "a parameter is not well-formed: NAME or NAME=value is right");
        size_t i = 0;
        while (i < count && !bytes_ieq(p.name, bytes_of(rows[i].name)))
            i++;
        if (i == count)
            return refuse(why, 555, "5.5.4", "a parameter is not one of those that EHLO offers");
        if (seen & BIT(i))
            return refuse(why, 501, "5.5.4", "a parameter stands twice");
        seen |= BIT(i);
        if (p.has_value != rows[i].wants_value)
            return refuse(why, 501, "5.5.4",
                          rows[i].wants_value ? "a parameter lacks its value"
                                              : "a parameter has a value and takes none");
        if (!rows[i].take(args, p.value, why))
            return false;
    }
    return true;
}

static bool take_size(void *args, struct bytes value, struct smtp_refusal *why)
{
    struct mail_args *m = args;

    if (value.len > 20) /* RFC 1870 §5 */
        return refuse(why, 501, "5.5.4", "SIZE has more than 20 digits");
    for (size_t i = 0; i < value.len; i++)
        if (value.at[i] < '0' || value.at[i] > '9')
            return refuse(why, 501, "5.5.4", "SIZE is a decimal number of octets");
    m->size_given = true;
    if (!bytes_parse_u64(value, &m->size_bytes))
        m->size_bytes = UINT64_MAX;
    return true;
}

static bool take_body(void *args, struct bytes value, struct smtp_refusal *why)
{
    struct mail_args *m = args;

    if (bytes_ieq(value, BYTES("BINARYMIME")))
        return refuse(why, 555, "5.5.4", "BODY=BINARYMIME is not offered; 7BIT and 8BITMIME are");
    m->body_8bit = bytes_ieq(value, BYTES("8BITMIME"));
    if (!m->body_8bit && !bytes_ieq(value, BYTES("7BIT")))
        return refuse(why, 501, "5.5.4", "BODY is 7BIT or 8BITMIME");
    return true;
}

static bool take_smtputf8(void *args, struct bytes value, struct smtp_refusal *why)
{
    (void)value, (void)why;
    ((struct mail_args *)args)->smtputf8 = true;
    return true;
}

static bool take_requiretls(void *args, struct bytes value, struct smtp_refusal *why)
{
    (void)value, (void)why;
    ((struct mail_args *)args)->requiretls = true;
    return true;
}

/* RFC 4954 §5: must be understood; what it says is not believed, for the account is known. */
static bool take_auth(void *args, struct bytes value, struct smtp_refusal *why)
{
    char mailbox[ADDRESS_PATH_MAX * 3];

    (void)args;
    if (!bytes_eq(value, BYTES("<>")) && !xtext_decode(value, true, mailbox, sizeof(mailbox)))
        return refuse(why, 501, "5.5.4", "AUTH is <> or an address in xtext");
    return true;
}

static bool take_ret(void *args, struct bytes value, struct smtp_refusal *why)
{
    struct mail_args *m = args;

    m->ret = bytes_ieq(value, BYTES("HDRS")) ? DSN_RET_HDRS : DSN_RET_FULL;
    if (m->ret == DSN_RET_FULL && !bytes_ieq(value, BYTES("FULL")))
        return refuse(why, 501, "5.5.4", "RET is FULL or HDRS");
    return true;
}

static bool take_envid(void *args, struct bytes value, struct smtp_refusal *why)
{
    struct mail_args *m = args;

    m->envid_given = true;
    if (value.len > ENVID_MAX || !xtext_decode(value, false, m->envid, sizeof(m->envid)))
        return refuse(why, 501, "5.5.4", "ENVID is xtext of at most 100 characters");
    return true;
}

static const struct param_row mail_params[] = {
    {"SIZE", true, take_size},
    {"BODY", true, take_body},
    {"SMTPUTF8", false, take_smtputf8},
    {"AUTH", true, take_auth},
    {"RET", true, take_ret},
    {"ENVID", true, take_envid},
    {"REQUIRETLS", false, take_requiretls},
};

static bool take_notify(void *args, struct bytes value, struct smtp_refusal *why)
{
    static const struct {
        const char *word;
        uint8_t bit;
    } rows[] = {
        {"NEVER", NOTIFY_NEVER},
        {"SUCCESS", NOTIFY_SUCCESS},
        {"FAILURE", NOTIFY_FAILURE},
        {"DELAY", NOTIFY_DELAY},
    };
    struct rcpt_args *r = args;
    struct bytes rest = value;
    bool more = true;

    while (more) {
        struct bytes word = bytes_first(rest, bytes_find(rest, ','));
        uint8_t bit = 0;
        for (size_t i = 0; i < COUNT_OF(rows); i++)
            if (bytes_ieq(word, bytes_of(rows[i].word)))
                bit = rows[i].bit;
        if (!bit)
            return refuse(why, 501, "5.5.4",
                          "NOTIFY is NEVER, or SUCCESS, FAILURE, DELAY with commas between");
        r->notify |= bit;
        more = word.len < rest.len;
        rest = bytes_skip(rest, word.len + 1);
    }
    if ((r->notify & NOTIFY_NEVER) && r->notify != NOTIFY_NEVER)
        return refuse(why, 501, "5.5.4", "NOTIFY=NEVER stands alone");
    return true;
}

static bool take_orcpt(void *args, struct bytes value, struct smtp_refusal *why)
{
    static const char wrong[] = "ORCPT is rfc822; or utf-8; and an address in xtext, at most 500 characters";
    struct rcpt_args *r = args;
    size_t type = bytes_find(value, ';');
    bool utf8 = bytes_ieq(bytes_first(value, type), BYTES("utf-8"));

    if (value.len > ORCPT_MAX || type == value.len || type == 0 || type + 1 == value.len)
        return refuse(why, 501, "5.5.4", wrong);
    for (size_t i = 0; i < type; i++) { /* an atom; other types are registered now and then */
        char c = ascii_lower(value.at[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'))
            return refuse(why, 501, "5.5.4", wrong);
    }
    memcpy(r->orcpt, value.at, type + 1);
    if (!xtext_decode(bytes_skip(value, type + 1), utf8, r->orcpt + type + 1, sizeof(r->orcpt) - type - 1) ||
        !address_is_utf8(bytes_of(r->orcpt)))
        return refuse(why, 501, "5.5.4", wrong);
    r->orcpt_given = true;
    return true;
}

static const struct param_row rcpt_params[] = {
    {"NOTIFY", true, take_notify},
    {"ORCPT", true, take_orcpt},
};

static bool refuse_address(struct smtp_refusal *why, bool sender, enum address_fault fault)
{
    if (fault == ADDRESS_NO_BRACKETS)
        return refuse(why, 501, "5.5.4", address_fault_text(fault));
    return refuse(why, fault == ADDRESS_NO_DOMAIN ? 550 : 501, sender ? "5.1.7" : "5.1.3",
                  address_fault_text(fault));
}

/*
 * "FROM:<path>" or "TO:<path>", then the parameters behind it.  A blank behind the colon is let pass: old
 * clients write one, and it means nothing else.
 */
static bool take_path(struct bytes *arg, struct bytes keyword, bool sender, struct address *out,
                      struct smtp_refusal *why)
{
    size_t used = 0;

    if (!bytes_istarts(*arg, keyword))
        return refuse(why, 501, "5.5.4",
                      sender ? "MAIL FROM:<address> is right" : "RCPT TO:<address> is right");
    *arg = bytes_trim(bytes_skip(*arg, keyword.len));
    enum address_fault fault = address_parse_path(*arg, out, &used);
    if (fault && !(fault == ADDRESS_LONG_LOCAL && sender))
        return refuse_address(why, sender, fault);
    *arg = bytes_skip(*arg, used);
    if (arg->len && arg->at[0] != ' ')
        return refuse(why, 501, "5.5.4", "a blank must stand between the address and its parameters");
    *arg = bytes_trim(*arg);
    return true;
}

bool smtp_mail_parse(struct bytes arg, struct mail_args *out, struct smtp_refusal *why)
{
    *out = (struct mail_args){0};
    if (!take_path(&arg, BYTES("FROM:"), true, &out->from, why))
        return false;
    out->any_param = arg.len != 0;
    if (!take_params(arg, mail_params, COUNT_OF(mail_params), out, why))
        return false;
    if (out->from.utf8 && !out->smtputf8)
        return refuse(why, 553, "5.6.7", "an address beyond ASCII needs the SMTPUTF8 parameter");
    return true;
}

bool smtp_rcpt_parse(struct bytes arg, struct rcpt_args *out, struct smtp_refusal *why)
{
    *out = (struct rcpt_args){0};
    if (!take_path(&arg, BYTES("TO:"), false, &out->to, why))
        return false;
    if (out->to.text.len == 0)
        return refuse(why, 501, "5.1.3", "a recipient is not the null address");
    out->any_param = arg.len != 0;
    return take_params(arg, rcpt_params, COUNT_OF(rcpt_params), out, why);
}

bool smtp_bdat_parse(struct bytes arg, struct bdat_args *out, bool *sized, struct smtp_refusal *why)
{
    struct bytes number = bytes_first(arg, bytes_find(arg, ' '));
    struct bytes last = bytes_trim(bytes_skip(arg, number.len));

    *out = (struct bdat_args){0};
    *sized = bytes_parse_u64(number, &out->size_bytes);
    if (!*sized)
        return refuse(why, 501, "5.5.4",
                      "BDAT needs a decimal number of octets, and LAST with the last chunk");
    out->last = bytes_ieq(last, BYTES("LAST"));
    if (last.len && !out->last)
        return refuse(why, 501, "5.5.4", "behind the number only LAST may stand");
    return true;
}

/* MAIL and RCPT: who may send what to whom. */
#include "base/mem.h"
#include "engine/smtp/server_priv.h"
#include "policy/domain.h"

#define RCPTS_KEPT  64
#define HEADER_KEPT 8192

/* An idle connection keeps some memory for its next message, and not what its largest one took. */
static void keep_little(struct server_txn *t)
{
    if (t->rcpt_cap > RCPTS_KEPT) {
        mem_free(TAKE(t->rcpts));
        t->rcpt_cap = 0;
    }
    if (t->header.text.cap > HEADER_KEPT || t->header.campaign.cap > HEADER_KEPT ||
        t->header.schedule.cap > HEADER_KEPT)
        header_fini(&t->header);
}

void server_txn_reset(struct smtp_server *s)
{
    struct server_txn *t = &s->txn;

    server_content_reset(s);
    map_fini(&t->seen);
    arena_fini(&t->arena);
    keep_little(t);
    *t =
        (struct server_txn){.header = t->header, .held = t->held, .rcpts = t->rcpts, .rcpt_cap = t->rcpt_cap};
}

/*
 * RFC 6409 §4.2: a name without a dot means another host wherever it is looked up, and one that ends in a
 * number is an address that lacks its brackets.  `domain` is normalised.
 */
static bool is_qualified(const char *domain)
{
    const char *dot = strrchr(domain, '.');

    return domain_is_literal(bytes_of(domain)) || (dot && dot[1 + strspn(dot + 1, "0123456789")]);
}

static enum server_state refuse(struct smtp_server *s, const struct smtp_refusal *why)
{
    return server_mistake(s, why->code, why->enhanced, "%s", why->text);
}

/* What keeps this session from sending at all, whatever the sender. */
static bool may_start(struct smtp_server *s, enum server_state *next)
{
    const struct smtp_listener_rules *r = s->rules;

    if (r->require_tls && !s->tls) {
        *next = server_mistake(s, 530, "5.7.0", "Must issue a STARTTLS command first");
    } else if (r->require_auth && !s->account.name && !s->config.peer.trusted) {
        *next = server_mistake(s, 530, "5.7.0", "Authentication required");
    } else if (r->messages_max && s->messages >= r->messages_max) {
        *next = server_bye(s, 421, "4.7.0", "%u messages went over this connection; please connect again",
                           s->messages);
    } else {
        return true;
    }
    return false;
}

/* "a.example, .b.example" */
static void put_domains(struct buf *out, const struct account *account)
{
    for (size_t i = 0; i < account->sender_domain_count && out->len < 200; i++)
        buf_putf(out, "%s%s", i ? ", " : "", account->sender_domains[i]);
}

static bool domain_is_listed(const struct account *account, struct bytes domain)
{
    for (size_t i = 0; i < account->sender_domain_count; i++) {
        struct bytes row = bytes_of(account->sender_domains[i]);
        if (bytes_starts(row, BYTES(".")) ? domain_has_suffix(domain, row) : bytes_ieq(domain, row))
            return true;
    }
    return false;
}

/* An account with a list of domains sends as these, and not with the null sender, under which anything could
 * hide. */
static bool sender_allowed(struct smtp_server *s, const struct address *from, enum server_state *next)
{
    const struct account *account = &s->account;
    char domain[DOMAIN_MAX_BYTES + 1] = "";

    if (from->text.len && domain_normalise(from->domain, domain)) {
        *next = server_mistake(s, 501, "5.1.7", "The sender's domain is not a domain");
        return false;
    }
    if (from->text.len && !is_qualified(domain)) {
        *next = server_mistake(s, 554, "5.1.7",
                               "The sender's domain is not fully qualified: <name@example.com> is right");
        return false;
    }
    if (!account->name || account->sender_domain_count == 0 || domain_is_listed(account, bytes_of(domain)))
        return true;
    BUF_LOCAL(domains);
    put_domains(&domains, account);
    log_info(s->config.log, "smtp.sender_refused", LOG_STR("account", account->name),
             LOG_BYTES("sender", from->text));
    server_reply(s, 550, "5.7.1", "This account may not send as <%.*s>; it may as: %s", (int)from->text.len,
                 from->text.at, buf_str(&domains));
    *next = s->state;
    return false;
}

static bool size_allowed(struct smtp_server *s, const struct mail_args *m, enum server_state *next)
{
    uint64_t max = s->rules->message_bytes_max;

    *next = s->state;
    if (m->size_given && max && m->size_bytes > max) {
        server_reply(s, 552, "5.3.4", "The message is larger than the limit of %llu octets",
                     (unsigned long long)max);
        return false;
    }
    if (s->config.spool && spool_is_full(s->config.spool)) {
        server_reply(s, 452, "4.3.1", "Insufficient storage; try again later");
        return false;
    }
    return true;
}

/* Asked last: the owner may count what it allows. */
static bool owner_allows(struct smtp_server *s, enum server_state *next)
{
    BUF_LOCAL(reply);

    if (!s->config.events.may_send || s->config.events.may_send(s->config.arg, &reply))
        return true;
    outq_put(&s->out, buf_bytes(&reply));
    outq_puts(&s->out, "\r\n");
    *next = s->state;
    return false;
}

enum server_state server_on_mail(struct smtp_server *s, struct bytes arg)
{
    struct server_txn *t = &s->txn;
    struct smtp_refusal why;
    struct mail_args m;
    enum server_state next;

    if (!may_start(s, &next))
        return next;
    if (!smtp_mail_parse(arg, &m, &why))
        return refuse(s, &why);
    if (m.any_param && !s->esmtp)
        return server_mistake(s, 555, "5.5.4", "Parameters need EHLO, not HELO");
    if (m.smtputf8 && !s->rules->smtputf8)
        return server_mistake(s, 555, "5.5.4", "SMTPUTF8 is not offered here");
    if (m.requiretls && !s->tls) /* RFC 8689 §2; 5.7.10 is its code for "encryption needed" */
        return server_mistake(s, 530, "5.7.10", "REQUIRETLS is taken inside TLS only; send STARTTLS first");
    if (!size_allowed(s, &m, &next) || !sender_allowed(s, &m.from, &next) || !owner_allows(s, &next))
        return next;
    server_txn_reset(s);
    t->sender = arena_dup(&t->arena, m.from.text);
    t->envid = m.envid_given ? arena_strdup(&t->arena, m.envid) : NULL;
    t->ret = m.ret;
    t->smtputf8 = m.smtputf8;
    t->needs_utf8 = m.from.utf8;
    t->body_8bit = m.body_8bit;
    t->requiretls = m.requiretls;
    server_reply(s, 250, "2.1.0", "Sender OK");
    return SERVER_MAIL;
}

/* local@domain with the domain normalised: what makes two addresses the same.  Only a local part's host knows
 * more. */
static struct bytes key_of(struct server_txn *t, const struct address *to, const char *domain)
{
    size_t domain_len = strlen(domain);
    char *key = arena_alloc(&t->arena, to->local.len + 1 + domain_len);

    memcpy(key, to->local.at, to->local.len);
    key[to->local.len] = '@';
    memcpy(key + to->local.len + 1, domain, domain_len);
    return bytes_make(key, to->local.len + 1 + domain_len);
}

/* True when the address was not there yet.  Most messages have one recipient, and never need the map. */
static bool first_time(struct server_txn *t, const struct address *to, const char *domain)
{
    struct bytes key = key_of(t, to, domain);

    if (t->rcpt_count == 0) {
        t->first_key = key;
        return true;
    }
    if (t->seen.count == 0)
        map_put(&t->seen, t->first_key, t);
    if (map_find(&t->seen, key))
        return false;
    map_put(&t->seen, key, t);
    return true;
}

static void add(struct server_txn *t, const struct rcpt_args *r, const char *domain)
{
    if (t->rcpt_count == t->rcpt_cap) {
        t->rcpt_cap = MAX_OF(t->rcpt_cap * 2, 4U);
        t->rcpts = mem_realloc(t->rcpts, t->rcpt_cap * sizeof(*t->rcpts));
    }
    t->rcpts[t->rcpt_count] = (struct rcpt){
        .no = t->rcpt_count,
        .notify = r->notify,
        .address = arena_dup(&t->arena, r->to.text),
        .orcpt = r->orcpt_given ? arena_strdup(&t->arena, r->orcpt) : NULL,
        .domain = arena_strdup(&t->arena, domain),
    };
    t->rcpt_count++;
    t->needs_utf8 |= r->to.utf8;
}

/*
 * What is wrong with an address counts as no mistake of the program that sends: it has its addresses from
 * people.  The same address twice is taken twice and stored once, so that nobody gets two copies.
 */
enum server_state server_on_rcpt(struct smtp_server *s, struct bytes arg)
{
    struct server_txn *t = &s->txn;
    struct smtp_refusal why;
    struct rcpt_args r;
    char domain[DOMAIN_MAX_BYTES + 1];

    if (!smtp_rcpt_parse(arg, &r, &why)) {
        server_reply(s, why.code, why.enhanced, "%s", why.text);
        return s->state;
    }
    if (r.any_param && !s->esmtp)
        return server_mistake(s, 555, "5.5.4", "Parameters need EHLO, not HELO");
    if (r.to.utf8 && !t->smtputf8) {
        server_reply(s, 553, "5.6.7", "An address beyond ASCII needs the SMTPUTF8 parameter with MAIL");
    } else if (domain_normalise(r.to.domain, domain)) {
        server_reply(s, 550, "5.1.2", "The recipient's domain is not a domain");
    } else if (!is_qualified(domain)) {
        server_reply(s, 554, "5.1.3",
                     "The recipient's domain is not fully qualified: <name@example.com> is right");
    } else if (t->rcpt_count >= s->rules->recipients_max && s->rules->recipients_max) {
        server_reply(s, 452, "4.5.3", "At most %u recipients at once; send the message to the others next",
                     s->rules->recipients_max);
    } else {
        if (first_time(t, &r.to, domain))
            add(t, &r, domain);
        server_reply(s, 250, "2.1.5", "Recipient OK");
        return SERVER_RCPT;
    }
    return s->state;
}

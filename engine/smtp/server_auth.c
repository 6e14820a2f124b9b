/* AUTH (RFC 4954): offered, exchanged, decided. */
#include "base/base64.h"
#include "base/mem.h"
#include "engine/smtp/server_priv.h"

/* One text for whatever was wrong: who asks learns nothing about which users there are. */
static const char wrong_text[] = "Authentication credentials invalid";

bool server_may_auth(const struct smtp_server *s)
{
    return s->tls || s->rules->auth_without_tls;
}

enum server_state server_auth_refuse(struct smtp_server *s, unsigned code, const char *enhanced,
                                     const char *text)
{
    enum server_state next = server_mistake(s, code, enhanced, "%s", text);

    auth_reset(&s->auth);
    return next == SERVER_OVER ? SERVER_OVER : SERVER_READY;
}

static enum server_state fail(struct smtp_server *s)
{
    if (s->config.events.on_auth_result)
        s->config.events.on_auth_result(s->config.arg, s->auth.user ? s->auth.user : "", false);
    return server_auth_refuse(s, 535, "5.7.8", wrong_text);
}

static bool may_come_from_here(const struct smtp_server *s, const struct account *account)
{
    bool listed = account->network_count == 0;

    for (size_t i = 0; i < account->network_count; i++)
        listed |= ip_net_has(&account->networks[i], &s->config.peer.ip);
    return listed && !account->disabled;
}

static bool may_try(const struct smtp_server *s, const char *user)
{
    const struct smtp_server_events *e = &s->config.events;

    return !e->may_authenticate || e->may_authenticate(s->config.arg, user);
}

/* Neither right nor wrong: whoever has the right password learns that he may come again. */
static enum server_state not_now(struct smtp_server *s)
{
    return server_auth_refuse(s, 454, "4.7.0", "Too many attempts have failed; try again in a minute");
}

static const struct account *find_account(void *server, const char *user)
{
    struct smtp_server *s = server;

    s->auth_not_now = !may_try(s, user);
    if (s->auth_not_now)
        return NULL;
    const struct account *account = s->config.events.find_account(s->config.arg, user);

    return account && may_come_from_here(s, account) ? account : NULL;
}

/* s->account is set. */
static enum server_state succeed(struct smtp_server *s)
{
    s->proved_by = s->auth.mechanism;
    auth_reset(&s->auth);
    if (s->config.events.on_auth_result)
        s->config.events.on_auth_result(s->config.arg, s->account.name, true);
    server_reply(s, 235, "2.7.0", "Authentication successful");
    return SERVER_READY;
}

static void challenge_with(struct smtp_server *s, struct bytes challenge)
{
    BUF_LOCAL(line);

    buf_puts(&line, "334 ");
    base64_encode(challenge, &line);
    buf_puts(&line, "\r\n");
    outq_put(&s->out, buf_bytes(&line));
}

/* ---- certificates ---- */

bool server_may_auth_external(const struct smtp_server *s)
{
    return s->tls && s->config.events.has_certificate && s->config.events.has_certificate(s->config.arg);
}

static const struct account *account_of_certificate(struct smtp_server *s, const char *user)
{
    const struct account *account = s->tls && s->config.events.find_by_certificate
                                        ? s->config.events.find_by_certificate(s->config.arg, user)
                                        : NULL;

    return account && may_come_from_here(s, account) ? account : NULL;
}

void server_adopt_certificate(struct smtp_server *s)
{
    if (!s->rules->certificate_suffices || !s->tls || s->account.name)
        return;
    const struct account *account = account_of_certificate(s, "");
    if (!account)
        return;
    account_copy(&s->account, account);
    s->proved_by = AUTH_NONE;
    if (s->config.events.on_auth_result)
        s->config.events.on_auth_result(s->config.arg, s->account.name, true);
}

/* The response is the name to act as; none means: whose the certificate is. */
static enum server_state hear_external(struct smtp_server *s, struct bytes user)
{
    if (bytes_find(user, '\0') < user.len || user.len > SCRAM_USER_MAX_BYTES)
        return server_auth_refuse(s, 501, "5.5.2", "The response is not well-formed");
    s->auth.user = bytes_dup(user);
    const struct account *account = account_of_certificate(s, s->auth.user);
    if (!account)
        return fail(s);
    account_fini(&s->account);
    account_copy(&s->account, account);
    return succeed(s);
}

static enum server_state hear(struct smtp_server *s, struct bytes text)
{
    BUF_LOCAL(response);
    BUF_LOCAL(challenge);
    enum server_state next = SERVER_READY;

    s->auth_not_now = false;
    if (!base64_decode(text, &response))
        return server_auth_refuse(s, 501, "5.5.2", "That is not base64");
    if (s->auth.mechanism == AUTH_EXTERNAL)
        return hear_external(s, buf_bytes(&response));
    switch (auth_hear(&s->auth, buf_bytes(&response), find_account, s, &challenge)) {
    case AUTH_SAY:
        if (s->auth_not_now)
            break;
        challenge_with(s, buf_bytes(&challenge));
        next = SERVER_AUTH;
        break;
    case AUTH_CHECK:
        s->auth_not_now = !may_try(s, s->auth.user);
        if (s->auth_not_now)
            break;
        s->event = SERVER_EVENT_CHECK;
        next = SERVER_CHECK;
        break;
    case AUTH_GOOD:
        account_fini(&s->account);
        s->account = s->auth.account;
        s->auth.account = (struct account){0};
        next = succeed(s);
        break;
    case AUTH_WRONG: next = fail(s); break;
    case AUTH_BAD: next = server_auth_refuse(s, 501, "5.5.2", "The response is not well-formed"); break;
    }
    if (response.len)
        explicit_bzero(response.at, response.len);
    return s->auth_not_now ? not_now(s) : next;
}

enum server_state server_on_auth(struct smtp_server *s, struct bytes arg)
{
    struct bytes name = bytes_first(arg, bytes_find(arg, ' '));
    struct bytes initial = bytes_trim(bytes_skip(arg, name.len));
    enum auth_mechanism mechanism;

    if (s->account.name &&
        s->proved_by != AUTH_NONE) /* a certificate's account may be another one's in the end */
        return server_mistake(s, 503, "5.5.1", "Already authenticated");
    if (!s->esmtp)
        return server_mistake(s, 503, "5.5.1", "AUTH needs EHLO, not HELO");
    if (!server_may_auth(s))
        return server_mistake(s, 538, "5.7.11", "AUTH is offered only inside TLS; send STARTTLS first");
    if (name.len == 0)
        return server_mistake(s, 501, "5.5.4", "AUTH needs a mechanism: PLAIN, LOGIN or SCRAM-SHA-256");
    if (!auth_mechanism_parse(name, &mechanism))
        return server_mistake(s, 504, "5.5.4", "The mechanisms are PLAIN, LOGIN and SCRAM-SHA-256");
    if (mechanism == AUTH_EXTERNAL && !server_may_auth_external(s))
        return server_mistake(s, 504, "5.5.4",
                              "EXTERNAL needs a client certificate that belongs to an account");
    if (!may_try(s, NULL))
        return not_now(s);
    auth_begin(&s->auth, mechanism);
    if (bytes_eq(initial, BYTES("="))) /* §4: an initial response that is empty */
        return hear(s, (struct bytes){0});
    if (initial.len)
        return hear(s, initial);
    BUF_LOCAL(prompt);
    auth_prompt(&s->auth, &prompt);
    challenge_with(s, buf_bytes(&prompt));
    return SERVER_AUTH;
}

enum server_state server_on_auth_line(struct smtp_server *s, struct bytes line)
{
    if (s->auth.mechanism == AUTH_EXTERNAL && bytes_eq(line, BYTES("="))) /* as with an initial response */
        line.len = 0;
    if (bytes_eq(line, BYTES("*")))
        return server_auth_refuse(s, 501, "5.7.0", "Authentication cancelled");
    return hear(s, line);
}

enum server_state server_auth_checked(struct smtp_server *s, const struct account *account, bool backend_down)
{
    if (backend_down) {
        auth_reset(&s->auth);
        server_reply(s, 454, "4.7.0", "Authentication is not possible now; try again later");
        return SERVER_READY;
    }
    if (!account || !may_come_from_here(s, account))
        return fail(s);
    account_fini(&s->account);
    account_copy(&s->account, account);
    return succeed(s);
}

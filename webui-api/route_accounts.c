/*
 * Who may submit.  A password comes in a PUT body only; it becomes SCRAM keys (account_body.c) and is wiped: with the
 * body (http.c) and with the JSON tree (api.c).
 */
#include "base/mem.h"
#include "engine/engine.h"
#include "webui-api/account_body.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/routes.h"

#define NAME_MAX_BYTES 64

DEFINE_CLEANUP(struct accounts *, accounts_unref)

static void put_one(struct buf *out, const char *key, const struct account *a)
{
    char net[IP_TEXT_BYTES];

    json_begin(out, key, '{');
    json_put_text(out, "name", a->name);
    json_begin(out, "sender_domains", '[');
    for (size_t i = 0; i < a->sender_domain_count; i++)
        json_put_text(out, NULL, a->sender_domains[i]);
    json_end(out, ']');
    json_begin(out, "networks", '[');
    for (size_t i = 0; i < a->network_count; i++)
        json_put_text(out, NULL, ip_net_format(&a->networks[i], net));
    json_end(out, ']');
    json_begin(out, "certificates", '[');
    for (size_t i = 0; i < a->certificate_count; i++)
        json_put_text(out, NULL, a->certificates[i]);
    json_end(out, ']');
    json_put_bool(out, "has_password", a->iterations != 0);
    json_put_count(out, "max_connections", a->max_connections);
    json_put_count(out, "messages_per_minute", a->messages_per_minute);
    json_put_text(out, "campaign", a->campaign);
    json_put_text(out, "priority", priority_name(a->priority));
    json_put_bool(out, "disabled", a->disabled);
    json_put_int(out, "created_unix", a->created_unix);
    json_end(out, '}');
}

void get_accounts(struct request *r)
{
    struct buf *out = &r->reply.body;
    CLEANUP(accounts_unref) struct accounts *all = store_accounts(engine_store(r->engine));

    json_begin(out, NULL, '{');
    json_begin(out, "accounts", '[');
    for (size_t i = 0; i < accounts_count(all); i++)
        put_one(out, NULL, accounts_at(all, i));
    json_end(out, ']');
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

static void no_such_account(struct request *r)
{
    reply_error(r, 404, "not_found", "there is no account '%s'", r->args[0]);
}

void get_account(struct request *r)
{
    CLEANUP(accounts_unref) struct accounts *all = store_accounts(engine_store(r->engine));
    const struct account *a = accounts_find(all, bytes_of(r->args[0]));

    if (!a) {
        no_such_account(r);
        return;
    }
    put_one(&r->reply.body, NULL, a);
    reply_ok(r, TYPE_JSON);
}

void delete_account(struct request *r)
{
    enum err e = engine_account_remove(r->engine, r->args[0]);

    if (e == ERR_NOT_FOUND) {
        no_such_account(r);
        return;
    }
    if (e) {
        reply_err(r, e, "the accounts");
        return;
    }
    buf_puts(&r->reply.body, "{}");
    reply_ok(r, TYPE_JSON);
}

/* ---- PUT ---- */

static bool name_is_good(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = ascii_lower(name.at[i]);
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && !strchr("._@-", c))
            return false;
    }
    return name.len >= 1 && name.len <= NAME_MAX_BYTES;
}

/* A certificate that two accounts name belongs to neither. */
static bool certificates_are_free(struct request *r, const struct account *a)
{
    CLEANUP(accounts_unref) struct accounts *all = store_accounts(engine_store(r->engine));

    for (size_t i = 0; i < accounts_count(all); i++) {
        const struct account *other = accounts_at(all, i);
        for (size_t k = 0; k < other->certificate_count && strcmp(other->name, a->name) != 0; k++)
            for (size_t j = 0; j < a->certificate_count; j++)
                if (strcmp(other->certificates[k], a->certificates[j]) == 0) {
                    reply_error(r, 409, "conflict", "the certificate %s belongs to the account '%s'",
                                a->certificates[j], other->name);
                    return false;
                }
    }
    return true;
}

static bool may_put(struct request *r, bool exists)
{
    static const char *const words[] = {"new", "existing"};
    int expect = -1;

    if (!name_is_good(bytes_of(r->args[0]))) {
        reply_error(r, 400, "invalid", "an account's name has 1 to 64 of A-Z a-z 0-9 . _ @ -");
        return false;
    }
    if (!param_word(r, "expect", words, COUNT_OF(words), &expect))
        return false;
    if (expect == 0 && exists)
        reply_error(r, 409, "conflict", "there is an account '%s' already", r->args[0]);
    else if (expect == 1 && !exists)
        no_such_account(r);
    return !reply_is_error(r);
}

static void put_body(struct request *r, const struct account *before)
{
    struct account a = {0};

    if (before)
        account_copy(&a, before);
    else
        a.name = mem_strdup(r->args[0]);
    bool good = account_body_read(r, !before, &a) && certificates_are_free(r, &a);
    enum err e = good ? engine_account_put(r->engine, &a) : OK;
    account_fini(&a);
    if (e)
        reply_err(r, e, "the account");
}

void put_account(struct request *r)
{
    struct buf *out = &r->reply.body;
    CLEANUP(accounts_unref) struct accounts *all = store_accounts(engine_store(r->engine));
    const struct account *before = accounts_find(all, bytes_of(r->args[0]));

    if (!may_put(r, before != NULL))
        return;
    put_body(r, before);
    if (reply_is_error(r))
        return;
    CLEANUP(accounts_unref) struct accounts *now = store_accounts(engine_store(r->engine));
    const struct account *a = accounts_find(now, bytes_of(r->args[0]));
    json_begin(out, NULL, '{');
    json_put_bool(out, "created", !before);
    if (a)
        put_one(out, "account", a);
    else
        json_put_null(out, "account"); /* removed meanwhile */
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

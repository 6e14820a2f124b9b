/* Our client talks to our server: what one half says, the other understands, and the message arrives as it
 * was sent. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/smtp/client.h"
#include "engine/smtp/server.h"

#define MESSAGES 5

struct row {
    const char *name;
    enum smtp_pipelining pipelining;
    bool chunking, tls, auth;
    size_t step; /* octets that travel at a time */
};

struct world {
    const struct row *row;
    struct smtp_client *client;
    struct smtp_server *server;
    struct account account;
    struct message messages[MESSAGES];
    struct rcpt rcpts[MESSAGES][2];
    struct outcome outcomes[MESSAGES][2];
    struct smtp_txn txns[MESSAGES];
    unsigned submitted, delivered, arrived;
    bool server_tls_due, client_tls_due, over;
};

static const char *const texts[MESSAGES] = {
    "From: a@s.example\r\nDate: Sat, 21 Nov 2026 22:00:00 +0000\r\nMessage-ID: <1@s.example>\r\nSubject: "
    "plain\r\n\r\nHi.\r\n",
    "From: a@s.example\r\nDate: Sat, 21 Nov 2026 22:00:00 +0000\r\nMessage-ID: "
    "<2@s.example>\r\n\r\n.\r\n..\r\n.a\r\n\r\n.\r\n",
    "From: a@s.example\r\nDate: Sat, 21 Nov 2026 22:00:00 +0000\r\nMessage-ID: "
    "<3@s.example>\r\n\r\nQUIT\r\nRSET\r\n.\r\n",
    "From: a@s.example\r\nDate: Sat, 21 Nov 2026 22:00:00 +0000\r\nMessage-ID: "
    "<4@s.example>\r\n\r\n\xe5\xb1\xb1\r\n",
    "From: a@s.example\r\nDate: Sat, 21 Nov 2026 22:00:00 +0000\r\nMessage-ID: <5@s.example>\r\nSubject: "
    "\xe5\xb1\xb1\r\n\r\nHi.\r\n",
};
static const uint32_t flags[MESSAGES] = {0, BODY_DOTS, BODY_DOTS, BODY_8BIT, BODY_UTF8_HEADER};

/* ---- the client's owner ---- */

static void on_ehlo(void *arg, const struct smtp_offer *offer)
{
    struct world *w = arg;

    if (offer->starttls && w->row->tls)
        smtp_client_go_starttls(w->client, 1);
    else if (w->row->auth)
        smtp_client_go_auth(w->client, "user", "pencil", 1);
    else
        smtp_client_go_on(w->client, 1);
}

static void on_starttls(void *arg, bool accepted, bool clean, const struct outcome *reply)
{
    struct world *w = arg;

    (void)clean;
    (void)reply;
    assert_true(accepted);
    w->client_tls_due = true;
}

static void on_auth(void *arg, bool ok, const struct outcome *reply)
{
    (void)arg;
    if (!ok)
        fail_msg("%u %s", reply->code, reply->text);
}

static void on_ready(void *arg)
{
    struct world *w = arg;

    if (w->submitted < MESSAGES)
        smtp_client_submit(w->client, &w->txns[w->submitted++], 1);
    else if (w->delivered == MESSAGES)
        smtp_client_quit(w->client, 1);
}

static void on_txn_done(void *arg, struct smtp_txn *t)
{
    struct world *w = arg;

    for (uint32_t i = 0; i < t->rcpt_count; i++)
        if (t->outcomes[i].kind != OUTCOME_DELIVERED)
            fail_msg("%s: message %u, recipient %u: %u %s", w->row->name, w->delivered, i,
                     t->outcomes[i].code, t->outcomes[i].text);
    w->delivered++;
}

static void on_over(void *arg, const struct outcome *why)
{
    struct world *w = arg;

    assert_int_equal(why->kind, OUTCOME_DELIVERED);
    w->over = true;
}

/* ---- the server's owner ---- */

static void server_starttls(void *arg)
{
    struct world *w = arg;

    w->server_tls_due = true;
}

static void server_check(void *arg, const char *user, const char *password)
{
    struct world *w = arg;
    bool right = strcmp(user, "user") == 0 && scram_check_password(&w->account, password);

    smtp_server_auth_done(w->server, right ? &w->account : NULL, false, 1);
}

static const struct account *server_find(void *arg, const char *user)
{
    struct world *w = arg;

    return strcmp(user, "user") == 0 ? &w->account : NULL;
}

static void server_message(void *arg, struct message *m, int64_t not_before_unix)
{
    struct world *w = arg;
    const char *text = texts[w->arrived];
    size_t len = strlen(text);

    (void)not_before_unix;
    assert_true(m->body->size_bytes > len);
    assert_memory_equal(m->body->mem + m->body->size_bytes - len, text, len); /* behind our Received */
    assert_int_equal(m->rcpt_count, w->messages[w->arrived].rcpt_count);
    assert_string_equal(m->sender, w->messages[w->arrived].sender);
    assert_string_equal(m->envid, "QQ+1=x");
    for (uint32_t i = 0; i < m->rcpt_count; i++) {
        assert_string_equal(m->rcpts[i].address, w->rcpts[w->arrived][i].address);
        assert_int_equal(m->rcpts[i].notify, NOTIFY_SUCCESS | NOTIFY_FAILURE);
        assert_string_equal(m->rcpts[i].orcpt, "rfc822;o+x@d.example");
    }
    w->arrived++;
    message_unref(m);
    smtp_server_accept_done(w->server, OK, 1);
}

static void server_nothing(void *arg)
{
    (void)arg;
}

/* ---- between them ---- */

/* Carries up to `step` octets; false: nothing waited. */
static bool carry(struct world *w, struct outq *from, bool to_server)
{
    struct buf octets = {0};

    while (octets.len < w->row->step && from->len) {
        struct bytes s = bytes_first(outq_front(from), w->row->step - octets.len);
        buf_put(&octets, s);
        outq_consume(from, s.len);
    }
    bool any = octets.len > 0;
    if (any && to_server)
        smtp_server_receive(w->server, buf_bytes(&octets), 1);
    else if (any)
        smtp_client_receive(w->client, buf_bytes(&octets), 1);
    buf_fini(&octets);
    return any;
}

static void handshake(struct world *w)
{
    static const struct smtp_tls_facts facts = {"TLS1.3", "TLS_AES_256_GCM_SHA384"};

    if (!w->server_tls_due || !w->client_tls_due)
        return;
    w->server_tls_due = w->client_tls_due = false;
    smtp_server_tls_done(w->server, &facts, 1);
    smtp_client_tls_done(w->client, 1);
}

static void prepare(struct world *w)
{
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct body *b = body_create(mem_strdup(texts[i]), strlen(texts[i]));
        b->flags = flags[i];
        w->rcpts[i][0] = w->rcpts[i][1] =
            (struct rcpt){.notify = NOTIFY_SUCCESS | NOTIFY_FAILURE, .orcpt = "rfc822;o+x@d.example"};
        w->rcpts[i][0].address = "r1@d.example";
        w->rcpts[i][1].address = i == 4 ? "\xe5\xb1\xb1@d.example" : "\"r 2>\"@d.example";
        w->messages[i] = (struct message){.sender = i ? "a@s.example" : "b+1=x@s.example",
                                          .envid = "QQ+1=x",
                                          .ret = DSN_RET_HDRS,
                                          .body = b,
                                          .rcpts = w->rcpts[i],
                                          .rcpt_count = 2};
        w->txns[i] = (struct smtp_txn){
            .message = &w->messages[i], .rcpts = w->rcpts[i], .rcpt_count = 2, .outcomes = w->outcomes[i]};
    }
}

static void talk(const struct row *row)
{
    struct world *w = MEM_NEW(struct world);
    struct log log = {0};
    struct smtp_listener_rules rules = {.host_name = "mx.example",
                                        .offer_starttls = true,
                                        .require_tls = row->tls,
                                        .require_auth = row->auth,
                                        .auth_without_tls = true,
                                        .message_bytes_max = 1000000,
                                        .recipients_max = 100,
                                        .header_bytes_max = 65536,
                                        .received_max = 100,
                                        .smtputf8 = true};
    struct smtp_server_config server = {.rules = &rules,
                                        .log = &log,
                                        .peer = {.trusted = true},
                                        .arg = w,
                                        .events = {.on_starttls = server_starttls,
                                                   .on_check_password = server_check,
                                                   .find_account = server_find,
                                                   .on_message = server_message,
                                                   .on_close = server_nothing}};
    struct smtp_client_config client = {
        .ehlo_name = "me.example",
        .pipelining = row->pipelining,
        .use_chunking = row->chunking,
        .arg = w,
        .events = {on_ehlo, on_starttls, on_auth, on_ready, on_txn_done, on_over}};

    w->row = row;
    server.peer.ip.family = 4;
    w->account.name = mem_strdup("user");
    w->account.iterations = 4096;
    scram_make("pencil", &w->account);
    prepare(w);
    w->client = smtp_client_create(&client);
    w->server = smtp_server_create(&server, 1);
    smtp_client_connected(w->client, 1);
    smtp_server_start(w->server, 1);
    for (bool moved = true; moved;) {
        moved = carry(w, smtp_client_output(w->client), true);
        moved = carry(w, smtp_server_output(w->server), false) || moved;
        if (moved)
            handshake(w);
    }
    assert_int_equal(w->arrived, MESSAGES);
    assert_int_equal(w->delivered, MESSAGES);
    assert_true(w->over);
    smtp_client_destroy(w->client);
    smtp_server_destroy(w->server);
    for (unsigned i = 0; i < MESSAGES; i++)
        body_unref(w->messages[i].body);
    mem_free(w->account.name);
    mem_free(w);
}

static void both_halves_understand_each_other(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {.name = "one by one", .pipelining = SMTP_PIPELINING_OFF},
        {.name = "commands", .pipelining = SMTP_PIPELINING_COMMANDS},
        {.name = "full", .pipelining = SMTP_PIPELINING_FULL},
        {.name = "chunks one by one", .pipelining = SMTP_PIPELINING_OFF, .chunking = true},
        {.name = "chunks", .pipelining = SMTP_PIPELINING_FULL, .chunking = true},
        {.name = "TLS", .pipelining = SMTP_PIPELINING_FULL, .tls = true},
        {.name = "TLS and AUTH",
         .pipelining = SMTP_PIPELINING_FULL,
         .chunking = true,
         .tls = true,
         .auth = true},
    };
    static const size_t steps[] = {100000, 1, 2, 7, 100};

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        for (size_t k = 0; k < COUNT_OF(steps); k++) {
            struct row row = rows[i];
            row.step = steps[k];
            talk(&row);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(both_halves_understand_each_other)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}

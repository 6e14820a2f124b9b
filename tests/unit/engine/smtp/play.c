#include "tests/unit/engine/smtp/play.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>

#include "base/mem.h"

static const struct smtp_tls_facts tls_facts = {"TLS1.3", "TLS_AES_256_GCM_SHA384"};

static void on_starttls(void *arg)
{
    ((struct play *)arg)->starttls_count++;
}

static void answer_check(struct play *p)
{
    bool right = strcmp(p->user, p->account.name) == 0 && strcmp(p->password, "wonderland") == 0;

    p->checking = false;
    smtp_server_auth_done(p->server, right ? &p->account : NULL, p->backend_down, p->now_ms);
}

static void on_check_password(void *arg, const char *user, const char *password)
{
    struct play *p = arg;

    p->checks++;
    p->checking = true;
    snprintf(p->user, sizeof(p->user), "%s", user);
    snprintf(p->password, sizeof(p->password), "%s", password);
    if (!p->answer_later)
        answer_check(p);
}

static const struct account *find_account(void *arg, const char *user)
{
    struct play *p = arg;

    return strcmp(user, p->account.name) == 0 ? &p->account : NULL;
}

static void on_auth_result(void *arg, const char *user, bool ok)
{
    struct play *p = arg;

    (void)user;
    p->auth_good += ok;
    p->auth_bad += !ok;
}

static bool may_send(void *arg, struct buf *reply)
{
    struct play *p = arg;

    if (p->may_send_refusal)
        buf_puts(reply, p->may_send_refusal);
    return !p->may_send_refusal;
}

static void on_message(void *arg, struct message *m, int64_t not_before_unix)
{
    struct play *p = arg;

    if (p->message_count == PLAY_MESSAGES)
        message_unref(p->messages[--p->message_count]);
    p->messages[p->message_count] = m;
    p->not_before[p->message_count++] = not_before_unix;
    p->committing = true;
    if (!p->answer_later)
        play_answer(p);
}

static bool has_certificate(void *arg)
{
    return ((struct play *)arg)->certificate_of != NULL;
}

static const struct account *find_by_certificate(void *arg, const char *user)
{
    struct play *p = arg;
    bool own = p->certificate_of && (!*user || strcmp(user, p->certificate_of) == 0);

    return own && strcmp(p->certificate_of, p->account.name) == 0 ? &p->account : NULL;
}

static void on_attack(void *arg, const char *what)
{
    struct play *p = arg;

    if (p->attack_count < PLAY_ATTACKS)
        p->attacks[p->attack_count++] = what;
}

static void on_close(void *arg)
{
    struct play *p = arg;

    p->close_count++;
    if (p->destroy_in_close)
        smtp_server_destroy(TAKE(p->server));
}

void play_answer(struct play *p)
{
    if (p->checking) {
        answer_check(p);
    } else if (p->committing) {
        p->committing = false;
        smtp_server_accept_done(p->server, p->commit_result, p->now_ms);
    }
}

void play_prepare(struct play *p)
{
    *p = (struct play){
        .rules = {.host_name = "mx.example",
                  .offer_starttls = true,
                  .auth_without_tls = true,
                  .message_bytes_max = 100000,
                  .recipients_max = 100,
                  .header_bytes_max = 4000,
                  .received_max = 50,
                  .errors_max = 20,
                  .command_timeout_ms = 300000,
                  .data_timeout_ms = 180000,
                  .smtputf8 = true},
        .now_ms = 1000,
    };
    ip_parse(BYTES("192.0.2.7"), &p->peer.ip);
    p->peer.port = 4711;
    static struct account keys; /* made once: it takes a while */
    if (!keys.iterations)
        scram_make("wonderland", &keys);
    p->account = keys;
    p->account.name = mem_strdup("alice");
    log_set_level(LOG_LEVEL_ERROR);
}

static bool may_authenticate(void *arg, const char *user)
{
    const struct play *p = arg;

    return !p->guessed || (*p->guessed && (!user || strcmp(user, p->guessed) != 0));
}

static void create(struct play *p)
{
    struct smtp_server_config config = {
        .rules = &p->rules,
        .worker = 1,
        .peer = p->peer,
        .log = &p->log,
        .events = {on_starttls, on_check_password, find_account, on_auth_result, may_send, on_message,
                   on_close, has_certificate, find_by_certificate, on_attack, may_authenticate},
        .arg = p,
    };

    p->server = smtp_server_create(&config, p->now_ms);
}

void play_begin(struct play *p)
{
    if (!p->server)
        create(p);
    smtp_server_start(p->server, p->now_ms);
}

void play_tls(struct play *p)
{
    if (!p->server)
        create(p);
    smtp_server_tls_done(p->server, &tls_facts, p->now_ms);
}

static void collect(struct play *p)
{
    struct outq *out = smtp_server_output(p->server);

    while (!outq_is_empty(out)) {
        struct bytes front = outq_front(out);
        buf_put(&p->heard, front);
        outq_consume(out, front.len);
    }
}

void play_say(struct play *p, struct bytes octets)
{
    smtp_server_receive(p->server, octets, p->now_ms);
}

void play_says(struct play *p, const char *octets)
{
    play_say(p, bytes_of(octets));
}

void play_mail(struct play *p, const char *envelope, const char *content)
{
    play_says(p, envelope);
    play_says(p, "DATA\r\n");
    play_says(p, content);
}

const char *play_hear(struct play *p)
{
    buf_clear(&p->heard);
    if (p->server)
        collect(p);
    return buf_str(&p->heard);
}

const char *play_codes(const char *heard)
{
    static char out[8192];
    size_t n = 0;

    out[0] = '\0';
    for (const char *line = heard; *line; line = strstr(line, "\r\n") + 2) {
        assert_non_null(strstr(line, "\r\n"));
        if (line[3] == '-')
            continue;
        bool enhanced = isdigit(line[4]) && line[5] == '.' && isdigit(line[6]);
        size_t code = enhanced ? 4 + strcspn(line + 4, " ") : 3;
        n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%.*s", n ? "|" : "", (int)code, line);
    }
    return out;
}

const char *play_body(struct play *p, unsigned i)
{
    static char text[1 << 20];

    if (i >= p->message_count)
        return NULL;
    struct body *b = p->messages[i]->body;
    snprintf(text, sizeof(text), "%.*s", (int)b->size_bytes, b->mem);
    return text;
}

void play_end(struct play *p)
{
    smtp_server_destroy(p->server);
    for (unsigned i = 0; i < p->message_count; i++)
        message_unref(p->messages[i]);
    account_fini(&p->account);
    buf_fini(&p->heard);
}

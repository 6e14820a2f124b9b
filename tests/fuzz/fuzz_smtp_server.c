/*
 * Whole inbound conversations.  The first octets choose rules and how the rest is cut; the owner's part is
 * played here, at once or late.  No message without its own MAIL, every reply well-formed, every body clean.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "engine/smtp/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct owner {
    struct smtp_server *server;
    struct account account;
    bool late, checking, committing, handshaking, closed;
    unsigned mails, messages;
    enum err commit;
    uint64_t now_ms;
    bool certificate; /* the client has one, and it is the account's */
};

static void answer(struct owner *o)
{
    if (o->checking) {
        o->checking = false;
        smtp_server_auth_done(o->server, o->now_ms & 1 ? &o->account : NULL, (o->now_ms & 7) == 2, o->now_ms);
    } else if (o->committing) {
        o->committing = false;
        smtp_server_accept_done(o->server, o->commit, o->now_ms);
    }
}

static void on_starttls(void *arg)
{
    ((struct owner *)arg)->handshaking = true;
}

static void on_check_password(void *arg, const char *user, const char *password)
{
    struct owner *o = arg;

    if (strlen(user) > 255 || !*user || !*password)
        abort();
    o->checking = true;
    if (!o->late)
        answer(o);
}

static const struct account *find_account(void *arg, const char *user)
{
    struct owner *o = arg;

    return strcmp(user, "user") == 0 ? &o->account : NULL;
}

static bool has_certificate(void *arg)
{
    return ((struct owner *)arg)->certificate;
}

static const struct account *find_by_certificate(void *arg, const char *user)
{
    struct owner *o = arg;

    if (strlen(user) > 255)
        abort();
    return o->certificate && (!*user || strcmp(user, "user") == 0) ? &o->account : NULL;
}

static void on_attack(void *arg, const char *what)
{
    (void)arg;
    if (!*what)
        abort();
}

static void on_auth_result(void *arg, const char *user, bool ok)
{
    (void)arg, (void)user, (void)ok;
}

static bool may_send(void *arg, struct buf *reply)
{
    struct owner *o = arg;

    if ((o->now_ms & 15) != 9)
        return true;
    buf_puts(reply, "450 4.7.1 Later");
    return false;
}

static void check_body(const struct body *b)
{
    if (b->size_bytes < 4 || memcmp(b->mem, "Received: ", 10) != 0 ||
        memcmp(b->mem + b->size_bytes - 2, "\r\n", 2) != 0)
        abort();
    for (uint64_t i = 0; i < b->size_bytes; i++) {
        bool cr = b->mem[i] == '\r', lf = b->mem[i] == '\n';
        if (b->mem[i] == '\0' || (cr && b->mem[i + 1] != '\n') || (lf && b->mem[i - 1] != '\r'))
            abort();
    }
}

static void on_message(void *arg, struct message *m, int64_t not_before_unix)
{
    struct owner *o = arg;

    (void)not_before_unix;
    o->messages++;
    if (m->rcpt_count == 0 || m->rcpt_count > 3)
        abort();
    check_body(m->body);
    message_unref(m);
    o->committing = true;
    if (!o->late)
        answer(o);
}

static void on_close(void *arg)
{
    struct owner *o = arg;

    if (o->closed)
        abort();
    o->closed = true;
}

/* Reads the output: whole lines, each a reply. */
static void hear(struct owner *o)
{
    struct outq *out = smtp_server_output(o->server);
    BUF_LOCAL(text);

    while (!outq_is_empty(out)) {
        buf_put(&text, outq_front(out));
        outq_consume(out, outq_front(out).len);
    }
    for (struct bytes rest = buf_bytes(&text); rest.len;) {
        size_t lf = bytes_find(rest, '\n');
        if (lf == rest.len || lf < 4 || lf > 511 || rest.at[lf - 1] != '\r' || rest.at[0] < '2' ||
            rest.at[0] > '5' || (rest.at[3] != ' ' && rest.at[3] != '-') || bytes_find(rest, '\r') != lf - 1)
            abort();
        o->mails += bytes_starts(rest, BYTES("250 2.1.0"));
        rest = bytes_skip(rest, lf + 1);
    }
    if (o->messages > o->mails)
        abort();
}

/* What else happens to a session, besides octets. */
static void happen(struct owner *o, uint8_t what)
{
    switch (what & 7) {
    case 0:
    case 1: answer(o); break;
    case 2: smtp_server_drain(o->server, o->now_ms); break;
    case 3: o->now_ms += 2500; break;
    case 4: o->now_ms++; break;
    default: o->late = !o->late; break;
    }
    if (smtp_server_deadline_ms(o->server) && smtp_server_deadline_ms(o->server) <= o->now_ms)
        smtp_server_on_deadline(o->server, o->now_ms);
    hear(o);
}

static void say(struct owner *o, struct bytes in)
{
    static const struct smtp_tls_facts facts = {"TLS1.3", "TLS_AES_128_GCM_SHA256"};

    smtp_server_receive(o->server, in, o->now_ms);
    hear(o);
    if (o->handshaking && !o->closed) {
        o->handshaking = false;
        smtp_server_tls_done(o->server, &facts, o->now_ms);
        hear(o);
    }
}

/* One event, or a piece of what the client says: a line, or `cut` octets.  Returns how much was used. */
static size_t step(struct owner *o, struct bytes rest, size_t cut)
{
    if ((uint8_t)rest.at[0] >= 0xf8) {
        happen(o, (uint8_t)rest.at[0]);
        return 1;
    }
    size_t n = MIN_OF(cut ? cut : bytes_find(rest, '\n') + 1, rest.len);
    say(o, bytes_first(rest, n));
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct log log;

    if (size < 2)
        return 0;
    struct smtp_listener_rules rules = {
        .host_name = "mx.example",
        .offer_starttls = true,
        .auth_without_tls = data[0] & 1,
        .require_auth = data[0] & 2,
        .require_tls = data[0] & 4,
        .bare_newline = data[0] & 8 ? BARE_NEWLINE_NORMALIZE : BARE_NEWLINE_REJECT,
        .message_bytes_max = data[0] & 16 ? 300 : 0,
        .recipients_max = 3,
        .header_bytes_max = 500,
        .received_max = 3,
        .errors_max = 50,
        .messages_max = 5,
        .command_timeout_ms = 3000,
        .data_timeout_ms = 2000,
        .data_rate_min = data[0] & 32 ? 1 : 0,
        .add_date = true,
        .add_message_id = true,
        .smtputf8 = true,
        .certificate_suffices = data[1] & 4,
    };
    struct owner o = {
        .late = data[0] & 64, .commit = data[0] & 128 ? ERR_IO : OK, .certificate = data[1] & 2};
    struct smtp_server_config config = {
        .rules = &rules,
        .peer = {.ip = {.family = 4, .octets = {127, 0, 0, 1}}},
        .log = &log,
        .events = {on_starttls, on_check_password, find_account, on_auth_result, may_send, on_message,
                   on_close, has_certificate, find_by_certificate, on_attack},
        .arg = &o,
    };
    log_set_level(LOG_LEVEL_ERROR);
    o.account.name = mem_strdup("user");
    o.account.iterations = 4096;
    o.server = smtp_server_create(&config, 0);
    smtp_server_start(o.server, 0);
    size_t cut = data[1] & 1 ? 1 + data[1] : 0; /* 0: line by line */
    for (size_t at = 2; at < size && !o.closed;)
        at += step(&o, bytes_make(data + at, size - at), cut);
    smtp_server_destroy(o.server);
    mem_free(o.account.name);
    return 0;
}

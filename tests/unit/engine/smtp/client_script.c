#include "tests/unit/engine/smtp/client_script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

const struct script_message script_plain[] = {
    {.sender = "a@s.example", .rcpts = {"r@d.example"}, .body = "Subject: hi\r\n\r\nHi.\r\n"},
    {0},
};

struct owner {
    const struct script_case *sc;
    struct smtp_client *client;
    struct message messages[SCRIPT_TXNS_MAX];
    struct rcpt rcpts[SCRIPT_TXNS_MAX][SCRIPT_RCPTS_MAX];
    struct outcome outcomes[SCRIPT_TXNS_MAX][SCRIPT_RCPTS_MAX];
    bool not_passed_on[SCRIPT_TXNS_MAX][SCRIPT_RCPTS_MAX];
    struct smtp_txn txns[SCRIPT_TXNS_MAX];
    unsigned count, submitted, reported;
    unsigned overs;
    struct buf log;
    struct buf said; /* by the client, not yet compared */
    uint64_t now_ms;
    bool hold, tls;
};

static void note(struct owner *o, const char *format, ...) PRINTF_LIKE(2, 3);
static void note(struct owner *o, const char *format, ...)
{
    va_list ap;

    if (o->log.len)
        buf_putc(&o->log, '\n');
    va_start(ap, format);
    buf_putv(&o->log, format, ap);
    va_end(ap);
}

/* "delivered dot 250 2.0.0", with "?" in doubt, "!" may be retried at once, "~" NOTIFY not passed on. */
static void note_outcome(struct owner *o, const struct outcome *out)
{
    buf_putf(&o->log, "%s %s %u", outcome_kind_name(out->kind), outcome_stage_name(out->stage), out->code);
    if (out->enhanced[0])
        buf_putf(&o->log, " %s", out->enhanced);
    if (out->in_doubt)
        buf_putc(&o->log, '?');
}

static enum err read_body(void *arg, const struct body *b, uint64_t from, size_t len, char *out)
{
    struct owner *o = arg;
    const struct script_message *sm = NULL;

    assert_true(len <= 64 * 1024);
    assert_true(from + len <= b->size_bytes);
    for (unsigned i = 0; i < o->count; i++)
        if (o->messages[i].body == b)
            sm = &o->sc->messages[i];
    if (!sm || sm->read_fails)
        return ERR_CORRUPT;
    for (size_t i = 0; i < len; i++) {
        uint64_t at = from + i;
        if (sm->pretend_bytes)
            out[i] = at % 64 == 62 ? '\r' : at % 64 == 63 ? '\n' : 'x';
        else
            out[i] = sm->body[at];
    }
    return OK;
}

static void submit_next(struct owner *o)
{
    if (o->submitted == o->count)
        return;
    smtp_client_submit(o->client, &o->txns[o->submitted++], o->now_ms);
}

static void on_ehlo(void *arg, const struct smtp_offer *offer)
{
    struct owner *o = arg;

    if (o->sc->starttls && offer->starttls && !o->tls)
        smtp_client_go_starttls(o->client, o->now_ms);
    else if (o->sc->user)
        smtp_client_go_auth(o->client, o->sc->user, o->sc->password, o->now_ms);
    else
        smtp_client_go_on(o->client, o->now_ms);
}

static void on_starttls(void *arg, bool accepted, bool clean, const struct outcome *reply)
{
    struct owner *o = arg;

    note(o, "starttls %s: %u", accepted ? "accepted" : clean ? "refused" : "unclean", reply->code);
    if (accepted)
        o->tls = true;
    if (accepted && o->sc->quits_in_handshake)
        smtp_client_quit(o->client, o->now_ms);
    else if (accepted)
        smtp_client_tls_done(o->client, o->now_ms);
    else if (clean)
        smtp_client_go_on(o->client, o->now_ms);
}

static void on_auth(void *arg, bool ok, const struct outcome *reply)
{
    struct owner *o = arg;

    note(o, "auth %s: ", ok ? "ok" : "failed");
    note_outcome(o, reply);
    if (!ok)
        smtp_client_quit(o->client, o->now_ms);
}

static void on_ready(void *arg)
{
    struct owner *o = arg;

    if (o->sc->by_hand)
        return;
    assert_true(smtp_client_room(o->client) > 0);
    if (o->submitted < o->count)
        submit_next(o);
    else if (!o->sc->stay && o->reported == o->count)
        smtp_client_quit(o->client, o->now_ms);
}

static void on_txn_done(void *arg, struct smtp_txn *t)
{
    struct owner *o = arg;
    unsigned n = (unsigned)(t - o->txns);

    assert_int_equal(n, o->reported); /* in order, each once */
    o->reported++;
    if (o->sc->keeps)
        smtp_client_hold(o->client);
    note(o, "%c%s", 'A' + n, t->body_sent ? "+" : "");
    for (uint32_t i = 0; i < t->rcpt_count; i++) {
        buf_puts(&o->log, i ? ", " : ": ");
        note_outcome(o, &t->outcomes[i]);
        if (smtp_txn_retry_at_once(t, i))
            buf_putc(&o->log, '!');
        if (smtp_txn_host_lacks(t, i))
            buf_putc(&o->log, '?');
        if (t->dsn_not_passed_on[i])
            buf_putc(&o->log, '~');
    }
}

static void on_over(void *arg, const struct outcome *why)
{
    struct owner *o = arg;

    assert_int_equal(o->overs++, 0);
    assert_int_equal(o->reported, o->submitted); /* all were reported before */
    note(o, smtp_client_turned_away(o->client) ? "turned away: " : "over: ");
    note_outcome(o, why);
}

static struct body *make_body(const struct script_message *sm)
{
    uint64_t size = sm->pretend_bytes ? sm->pretend_bytes : strlen(sm->body);
    struct body *b = body_create(sm->on_disk ? NULL : mem_dup(sm->body, size), size);

    b->flags = sm->body_flags;
    return b;
}

static void prepare(struct owner *o)
{
    const struct script_message *from = o->sc->messages ? o->sc->messages : script_plain;

    for (; from[o->count].sender; o->count++) {
        unsigned n = o->count;
        struct message *m = &o->messages[n];
        assert_true(n < SCRIPT_TXNS_MAX);
        *m = (struct message){.sender = from[n].sender,
                              .flags = from[n].flags,
                              .envid = from[n].envid,
                              .ret = from[n].ret,
                              .body = make_body(&from[n]),
                              .rcpts = o->rcpts[n]};
        while (m->rcpt_count < SCRIPT_RCPTS_MAX && from[n].rcpts[m->rcpt_count]) {
            o->rcpts[n][m->rcpt_count] = (struct rcpt){
                .address = from[n].rcpts[m->rcpt_count], .notify = from[n].notify, .orcpt = from[n].orcpt};
            m->rcpt_count++;
        }
        o->txns[n] = (struct smtp_txn){.message = m,
                                       .rcpts = m->rcpts,
                                       .rcpt_count = m->rcpt_count,
                                       .outcomes = o->outcomes[n],
                                       .dsn_not_passed_on = o->not_passed_on[n]};
    }
}

/* The socket: takes all that waits, and asks for more. */
static void drain(struct owner *o)
{
    struct outq *out = smtp_client_output(o->client);

    if (o->hold)
        return;
    for (;;) {
        if (out->len < 64 * 1024)
            smtp_client_fill(o->client, o->now_ms);
        struct bytes s = outq_front(out);
        if (!s.len)
            return;
        buf_put(&o->said, s);
        size_t n = s.len;
        outq_consume(out, n);
        smtp_client_sent(o->client, n, o->now_ms);
    }
}

static void expect_line(struct owner *o, const char *line)
{
    drain(o);
    size_t n = strlen(line);
    buf_str(&o->said);
    if (o->said.len < n + 2 || memcmp(o->said.at, line, n) != 0 || memcmp(o->said.at + n, "\r\n", 2) != 0)
        fail_msg("%s: client said \"%.200s\", not \"%s\"; log:\n%s", o->sc->name, o->said.at, line,
                 buf_str(&o->log));
    buf_consume(&o->said, n + 2);
}

static void expect_silence(struct owner *o)
{
    drain(o);
    if (o->said.len)
        fail_msg("%s: client also said \"%.300s\"", o->sc->name, buf_str(&o->said));
}

static void skip_octets(struct owner *o, const char *count)
{
    size_t n = strtoul(count, NULL, 10);

    drain(o);
    if (o->said.len < n)
        fail_msg("%s: %zu octets said, not %zu", o->sc->name, o->said.len, n);
    buf_consume(&o->said, n);
}

static void receive(struct owner *o, struct bytes in)
{
    /* A copy of its own, so that a sanitizer sees what is read behind the end or after the return. */
    char *copy = mem_dup(in.at, in.len);

    smtp_client_receive(o->client, bytes_make(copy, in.len), o->now_ms);
    mem_free(copy);
    drain(o);
}

static void receive_cut(struct owner *o, struct bytes in, size_t cut)
{
    if (cut == 0 || (cut != SIZE_MAX && cut >= in.len)) {
        receive(o, in);
    } else if (cut != SIZE_MAX) {
        receive(o, bytes_first(in, cut));
        receive(o, bytes_skip(in, cut));
    } else {
        for (size_t i = 0; i < in.len; i++)
            receive(o, bytes_first(bytes_skip(in, i), 1));
    }
}

static void do_word(struct owner *o, const char *line)
{
    if (strcmp(line, "close") == 0) {
        smtp_client_closed(o->client, ERR_CLOSED, "closed by the peer", o->now_ms);
    } else if (strcmp(line, "late") == 0) {
        assert_true(smtp_client_deadline_ms(o->client) > 0);
        o->now_ms = smtp_client_deadline_ms(o->client);
        smtp_client_on_deadline(o->client, o->now_ms - 1); /* too early: nothing happens */
        assert_int_equal(o->overs, 0);
        smtp_client_on_deadline(o->client, o->now_ms);
    } else if (strcmp(line, "submit") == 0) {
        submit_next(o);
    } else if (strcmp(line, "quit") == 0) {
        smtp_client_quit(o->client, o->now_ms);
    } else if (strcmp(line, "hold") == 0) {
        o->hold = true;
    } else if (strcmp(line, "kept") == 0) {
        expect_silence(o);
        assert_int_equal(smtp_client_deadline_ms(o->client), 0);
    } else if (strcmp(line, "release") == 0) {
        smtp_client_release(o->client, o->now_ms);
    } else {
        fail_msg("%s: unknown line \"%s\"", o->sc->name, line);
    }
}

void script_play(const struct script_case *sc, size_t cut)
{
    struct owner *o = MEM_NEW(struct owner);
    BUF_LOCAL(segment);
    struct smtp_client_config config = {
        .ehlo_name = sc->ehlo_name ? sc->ehlo_name : "me.example",
        .pipelining = sc->pipelining,
        .use_chunking = sc->use_chunking,
        .body_read = read_body,
        .body_read_arg = o,
        .events = {on_ehlo, on_starttls, on_auth, on_ready, on_txn_done, on_over},
        .arg = o,
    };

    o->sc = sc;
    o->now_ms = 1000;
    prepare(o);
    o->client = smtp_client_create(&config);
    if (sc->keeps)
        smtp_client_hold(o->client);
    smtp_client_connected(o->client, o->now_ms);
    for (const char *const *line = sc->lines; *line; line++) {
        char what = (*line)[1] == ' ' ? (*line)[0] : 0;
        if (what == 'S' || what == 'R') {
            buf_puts(&segment, *line + 2);
            if (what == 'S')
                buf_puts(&segment, "\r\n");
            if (line[1] && line[1][1] == ' ' && (line[1][0] == 'S' || line[1][0] == 'R'))
                continue;
            if (!o->hold)
                expect_silence(o);
            receive_cut(o, buf_bytes(&segment), cut);
            o->hold = false;
            buf_clear(&segment);
        } else if (what == 'C') {
            expect_line(o, *line + 2);
        } else if (what == '=') {
            skip_octets(o, *line + 2);
        } else {
            do_word(o, *line);
        }
    }
    expect_silence(o);
    if (strcmp(buf_str(&o->log), sc->want) != 0)
        fail_msg("%s (cut %zu): got\n%s\n-- not\n%s", sc->name, cut, buf_str(&o->log), sc->want);
    smtp_client_destroy(o->client);
    for (unsigned i = 0; i < o->count; i++) {
        assert_int_equal(atomic_load(&o->messages[i].body->refs), 1); /* nothing still borrows it */
        body_unref(o->messages[i].body);
    }
    buf_fini(&o->log);
    buf_fini(&o->said);
    mem_free(o);
}

void script_play_every_way(const struct script_case *sc)
{
    script_play(sc, 0);
    if (sc->one_way)
        return;
    script_play(sc, SIZE_MAX);
    for (size_t cut = 1; cut < 40; cut++)
        script_play(sc, cut);
}

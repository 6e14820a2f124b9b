/*
 * The state of a session is the reply it waits for:
 *
 *   BANNER → EHLO → [STARTTLS → (handshake) → EHLO] → [AUTH] → MAIL → RCPT × n → DATA → DOT → MAIL …
 *                                                               └── refused ──→ RSET ──┘
 *
 * With PIPELINING, MAIL, RCPTs and DATA are said together; then the same states only hear.  With CHUNKING
 * there is no DATA: the content goes as one BDAT once the recipients are answered.
 */
#include "tests/bench/source.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "tests/bench/wire.h"

#define REPLY_MAX       8192 /* a reply line longer than this ends the session */
#define CONNECT_TRIES   5    /* in a row, then the session ends, unless the options say otherwise */
#define CONNECT_WAIT_MS 200

enum state { BANNER, EHLO, STARTTLS, SHAKING, AUTH, MAIL, RCPT, DATA, DOT, RSET, RESTING, WAITING, ENDED };

struct session {
    struct source *source; /* borrowed */
    struct wire wire;
    enum state state;
    struct list node;                              /* in source->resting while RESTING */
    bool pipelining, offers_tls, chunking, spoken; /* spoken: MAIL, RCPT and DATA are under way together */
    uint64_t number;                               /* first delivery number of the message */
    unsigned heard, taken;                         /* RCPT replies, and how many said 250 */
    uint64_t done;                                 /* messages on this connection */
    unsigned failures;                             /* to connect, in a row */
    uint64_t mail_us, dot_us, heard_ms, again_ms;
};

struct source {
    const struct source_opts *opts; /* borrowed */
    struct source_result *result;   /* borrowed */
    struct session *sessions;       /* owned */
    struct wire_tls tls;
    struct list resting; /* sessions without a message, because of the rate */
    struct buf body;
    int epoll;
    uint64_t given; /* messages handed to a session */
    unsigned open;  /* sessions that have not ended */
};

static void next_message(struct session *s);
static void connect_session(struct session *s);

static void close_wire(struct session *s)
{
    if (s->source->opts->reconnect)
        wire_remember(&s->wire, &s->source->tls);
    wire_close(&s->wire);
}

static void end_session(struct session *s)
{
    if (s->wire.fd >= 0) {
        buf_puts(&s->wire.out, "QUIT\r\n");
        wire_flush(&s->wire);
        close_wire(s);
    }
    s->state = ENDED;
    s->source->open--;
}

static bool in_message(const struct session *s)
{
    return s->state >= MAIL && s->state <= DOT;
}

/* The connection is gone; what was in flight has no answer, and a later message takes a new connection. */
static void lose_session(struct session *s)
{
    const struct source_opts *o = s->source->opts;
    struct source_result *r = s->source->result;

    if (in_message(s)) {
        r->aborted++;
        r->lost_connections++;
    } else if (s->state < MAIL) {
        r->connect_failed++;
        s->failures++;
    }
    if (s->state == RESTING)
        list_remove(&s->node);
    close_wire(s);
    if (s->failures >= (o->connect_tries ? o->connect_tries : CONNECT_TRIES) ||
        s->source->given >= o->messages) {
        end_session(s);
        return;
    }
    s->state = WAITING;
    s->again_ms = clock_now_ms() + (s->failures ? CONNECT_WAIT_MS : 0);
}

static void connect_session(struct session *s)
{
    struct source *src = s->source;

    s->state = BANNER;
    s->done = 0;
    s->spoken = s->pipelining = s->offers_tls = s->chunking = false;
    s->heard_ms = clock_now_ms();
    if (!wire_connect(&s->wire, src->epoll, &src->opts->ip, src->opts->port, s))
        lose_session(s);
}

static void put_rcpt(struct session *s, unsigned i)
{
    const struct source_opts *o = s->source->opts;
    uint64_t number = s->number + i;

    if (o->domains == 1)
        buf_putf(&s->wire.out, "RCPT TO:<n%llu@example.test>\r\n", (unsigned long long)number);
    else
        buf_putf(&s->wire.out, "RCPT TO:<n%llu@d%llu.example.test>\r\n", (unsigned long long)number,
                 (unsigned long long)(number % o->domains));
}

static void put_content(const struct session *s, struct buf *out)
{
    const struct source_opts *o = s->source->opts;

    buf_putf(out,
             "From: <%s>\r\nTo: list@example.test\r\nSubject: message %llu\r\n"
             "Message-ID: <%llu.bench@example.test>\r\nMIME-Version: 1.0\r\n"
             "Content-Type: text/plain; charset=us-ascii\r\n",
             o->sender, (unsigned long long)s->number, (unsigned long long)s->number);
    if (o->campaign)
        buf_putf(out, "X-Campaign: %s\r\n", o->campaign);
    buf_puts(out, "\r\n");
    buf_put(out, buf_bytes(&s->source->body));
}

static void put_body(struct session *s)
{
    put_content(s, &s->wire.out);
    buf_puts(&s->wire.out, ".\r\n");
}

static void put_chunk(struct session *s)
{
    BUF_LOCAL(content);

    put_content(s, &content);
    buf_putf(&s->wire.out, "BDAT %zu LAST\r\n", content.len);
    buf_put(&s->wire.out, buf_bytes(&content));
}

static enum state say_mail(struct session *s)
{
    const struct source_opts *o = s->source->opts;

    s->mail_us = clock_now_us();
    s->heard = s->taken = 0;
    s->spoken = s->pipelining;
    buf_putf(&s->wire.out, "MAIL FROM:<%s>\r\n", o->sender);
    if (s->spoken) {
        for (unsigned i = 0; i < o->rcpts; i++)
            put_rcpt(s, i);
        if (!s->chunking)
            buf_puts(&s->wire.out, "DATA\r\n");
    }
    return MAIL;
}

static enum state say_ehlo(struct session *s)
{
    s->pipelining = s->offers_tls = s->chunking = false;
    buf_puts(&s->wire.out, "EHLO source.example\r\n");
    return EHLO;
}

static enum state say_auth(struct session *s)
{
    const struct source_opts *o = s->source->opts;
    BUF_LOCAL(plain);

    buf_putc(&plain, '\0');
    buf_puts(&plain, o->user);
    buf_putc(&plain, '\0');
    buf_puts(&plain, o->password);
    buf_puts(&s->wire.out, "AUTH PLAIN ");
    base64_encode(buf_bytes(&plain), &s->wire.out);
    buf_puts(&s->wire.out, "\r\n");
    explicit_bzero(plain.at, plain.len);
    return AUTH;
}

/* Messages left, and the rate allows one now.  *wait_ms says how long else. */
static bool may_start(const struct source *src, uint64_t *wait_ms)
{
    const struct source_opts *o = src->opts;
    uint64_t now_us = clock_now_us(), due_us;

    if (o->rate == 0)
        return true;
    due_us = src->result->began_us + src->given * 1000000 / o->rate;
    if (due_us <= now_us)
        return true;
    *wait_ms = (due_us - now_us + 999) / 1000;
    return false;
}

static void next_message(struct session *s)
{
    struct source *src = s->source;
    const struct source_opts *o = src->opts;
    uint64_t wait_ms;

    if (src->given >= o->messages) {
        end_session(s);
        return;
    }
    if (o->reconnect && s->done >= o->reconnect) {
        buf_puts(&s->wire.out, "QUIT\r\n");
        wire_flush(&s->wire);
        close_wire(s);
        connect_session(s);
        return;
    }
    if (!may_start(src, &wait_ms)) {
        s->state = RESTING;
        list_push_back(&src->resting, &s->node);
        return;
    }
    s->number = o->first + src->given * o->rcpts;
    src->given++;
    s->state = say_mail(s);
}

/* Which of several recipients were refused is not kept: marks are for runs in which none is. */
static void mark_accepted(const struct session *s)
{
    for (unsigned i = 0; i < s->taken; i++)
        s->source->opts->marks[s->number + i].accepted = 1;
}

static void mark_dot(const struct session *s)
{
    for (unsigned i = 0; i < s->source->opts->rcpts; i++)
        s->source->opts->marks[s->number + i].dot_us = s->dot_us;
}

static void count_answer(struct session *s, unsigned code)
{
    struct source_result *r = s->source->result;
    uint64_t now_us = clock_now_us();

    s->done++;
    if (code / 100 != 2 || s->taken == 0) {
        r->refused++;
        return;
    }
    r->accepted++;
    r->accepted_rcpts += s->taken;
    if (s->source->opts->marks)
        mark_accepted(s);
    r->ended_us = now_us;
    hist_add(&r->ack_us, now_us - s->dot_us);
    hist_add(&r->message_us, now_us - s->mail_us);
}

static void note_refusal(struct session *s, struct bytes line)
{
    struct source_result *r = s->source->result;

    if (!r->refusal[0])
        snprintf(r->refusal, sizeof r->refusal, "%.*s", (int)MIN_OF(line.len, sizeof r->refusal - 1),
                 line.at);
}

static enum state drop_message(struct session *s, unsigned code)
{
    count_answer(s, code);
    buf_puts(&s->wire.out, "RSET\r\n");
    return RSET;
}

static void mark_content_sent(struct session *s)
{
    s->dot_us = clock_now_us();
    if (s->source->opts->marks)
        mark_dot(s);
}

static enum state say_chunk(struct session *s)
{
    put_chunk(s);
    mark_content_sent(s);
    return DOT;
}

static enum state on_banner(struct session *s)
{
    s->source->result->connections++;
    return say_ehlo(s);
}

static enum state on_ready(struct session *s)
{
    s->failures = 0;
    next_message(s);
    return s->state;
}

static enum state on_ehlo(struct session *s)
{
    const struct source_opts *o = s->source->opts;

    if (o->starttls && !s->wire.tls) {
        if (!s->offers_tls)
            return ENDED;
        buf_puts(&s->wire.out, "STARTTLS\r\n");
        return STARTTLS;
    }
    return o->user ? say_auth(s) : on_ready(s);
}

static enum state on_mail(struct session *s, unsigned code)
{
    if (code / 100 != 2 && !s->spoken)
        return drop_message(s, code);
    if (!s->spoken)
        put_rcpt(s, 0);
    return RCPT;
}

static enum state on_rcpt(struct session *s, unsigned code)
{
    s->heard++;
    if (code / 100 == 2)
        s->taken++;
    else
        s->source->result->refused_rcpts++;
    if (s->heard < s->source->opts->rcpts) {
        if (!s->spoken)
            put_rcpt(s, s->heard);
        return RCPT;
    }
    if (s->spoken && !s->chunking)
        return DATA;
    if (s->taken == 0)
        return drop_message(s, code);
    if (s->chunking)
        return say_chunk(s);
    buf_puts(&s->wire.out, "DATA\r\n");
    return DATA;
}

static enum state on_data(struct session *s, unsigned code)
{
    if (code != 354)
        return drop_message(s, code);
    if (s->taken == 0)
        buf_puts(&s->wire.out,
                 ".\r\n"); /* RFC 2920 §3.1: 354 without a recipient; an empty message ends it */
    else
        put_body(s);
    mark_content_sent(s);
    return DOT;
}

static enum state on_dot(struct session *s, unsigned code)
{
    count_answer(s, code);
    next_message(s);
    return s->state;
}

static enum state on_reply(struct session *s, unsigned code)
{
    bool good = code / 100 == 2;

    switch (s->state) {
    case BANNER: return good ? on_banner(s) : ENDED;
    case EHLO: return good ? on_ehlo(s) : ENDED;
    case STARTTLS: return good ? SHAKING : ENDED;
    case AUTH: return good ? on_ready(s) : ENDED;
    case MAIL: return on_mail(s, code);
    case RCPT: return on_rcpt(s, code);
    case DATA: return on_data(s, code);
    case DOT: return on_dot(s, code);
    case RSET: next_message(s); return s->state;
    default: return ENDED;
    }
}

/* One whole line of a reply.  False: the session has ended or is lost. */
static bool on_line(struct session *s, struct bytes line)
{
    uint64_t code;

    if (line.len && line.at[line.len - 1] == '\r')
        line.len--;
    if (line.len < 3 || !bytes_parse_u64(bytes_first(line, 3), &code)) {
        lose_session(s);
        return false;
    }
    if (s->state == EHLO) {
        struct bytes word = bytes_skip(line, 4);
        s->pipelining = s->pipelining || bytes_ieq(word, BYTES("PIPELINING"));
        s->offers_tls = s->offers_tls || bytes_ieq(word, BYTES("STARTTLS"));
        s->chunking = s->chunking || (s->source->opts->chunking && bytes_ieq(word, BYTES("CHUNKING")));
    }
    if (line.len > 3 && line.at[3] == '-')
        return true;
    if (code >= 400)
        note_refusal(s, line);
    if (code == 421 || s->state == RESTING) {
        lose_session(s); /* RFC 5321 §3.8: the server is closing */
        return false;
    }
    enum state next = on_reply(s, (unsigned)code);
    if (s->wire.fd < 0 || next == BANNER)
        return false; /* it has ended, or is another connection already */
    if (next == ENDED) {
        lose_session(s);
        return false;
    }
    s->state = next;
    return true;
}

static void flush(struct session *s)
{
    if (s->wire.fd >= 0 && wire_flush(&s->wire) == WIRE_GONE)
        lose_session(s);
}

/* False: TLS starts, or the session is not there any more. */
static bool hear(struct session *s)
{
    size_t at = 0;

    while (at < s->wire.in.len) {
        struct bytes rest = bytes_skip(buf_bytes(&s->wire.in), at);
        size_t end = bytes_find(rest, '\n');
        if (end == rest.len)
            break;
        at += end + 1;
        if (!on_line(s, bytes_first(rest, end)))
            return false;
        if (s->state == SHAKING) {
            buf_clear(&s->wire.in); /* RFC 3207 §6: nothing said in clear counts after this */
            wire_start_tls(&s->wire, &s->source->tls, false);
            return false;
        }
    }
    buf_consume(&s->wire.in, at);
    if (s->wire.in.len <= REPLY_MAX)
        return true;
    lose_session(s);
    return false;
}

static bool shake(struct session *s)
{
    switch (wire_shake(&s->wire)) {
    case WIRE_WAIT: return false;
    case WIRE_GONE: lose_session(s); return false;
    case WIRE_DATA: break;
    }
    s->source->result->tls++;
    s->source->result->tls_resumed += wire_resumed(&s->wire);
    s->state = say_ehlo(s);
    flush(s);
    return s->state == EHLO;
}

static void on_event(struct session *s)
{
    s->heard_ms = clock_now_ms();
    flush(s);
    while (s->wire.fd >= 0) {
        if (s->wire.shaking && !shake(s))
            return;
        enum wire_result got = wire_read(&s->wire);
        if (got == WIRE_WAIT)
            return;
        if (got == WIRE_GONE) {
            lose_session(s);
            return;
        }
        if (!hear(s) && !s->wire.shaking)
            return;
        flush(s);
    }
}

/* What no event wakes: rested sessions, connections to make again, silent peers.  Returns the wait. */
static int look_around(struct source *src)
{
    uint64_t now_ms = clock_now_ms(), wait_ms = 500;

    while (!list_is_empty(&src->resting) && may_start(src, &wait_ms)) {
        struct session *s = CONTAINER_OF(list_pop(&src->resting), struct session, node);
        s->heard_ms = now_ms;
        next_message(s);
        flush(s);
    }
    for (unsigned i = 0; i < src->opts->sessions; i++) {
        struct session *s = &src->sessions[i];
        if (s->state == WAITING) {
            if (s->again_ms <= now_ms)
                connect_session(s);
            else
                wait_ms = MIN_OF(wait_ms, s->again_ms - now_ms);
        } else if (s->state < RESTING && now_ms - s->heard_ms > src->opts->idle_ms) {
            lose_session(s);
        }
    }
    return (int)wait_ms;
}

static void fill_body(struct buf *body, uint64_t bytes)
{
    static const char line[] =
        "An offer of the week: the quick brown fox jumps over the lazy dog, at half price";
    size_t left = bytes;

    while (left > 2) {
        size_t n = MIN_OF(left - 2, sizeof line - 1);
        buf_put(body, bytes_make(line, n));
        buf_puts(body, "\r\n");
        left -= n + 2;
    }
    /* one or two octets more than asked for are better than a line that is not ended */
    if (left)
        buf_puts(body, "\r\n");
}

void source_run(const struct source_opts *opts, struct source_result *out)
{
    struct source src = {.opts = opts, .result = out, .open = opts->sessions};
    struct epoll_event events[64];

    *out = (struct source_result){.began_us = clock_now_us()};
    out->ended_us = out->began_us;
    list_init(&src.resting);
    fill_body(&src.body, opts->body_bytes);
    src.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (src.epoll < 0 || (opts->starttls && !wire_tls_client(&src.tls))) {
        perror("hayauma-bench: source");
        exit(1);
    }
    src.sessions = mem_zalloc(opts->sessions * sizeof *src.sessions);
    for (unsigned i = 0; i < opts->sessions; i++) {
        struct session *s = &src.sessions[i];
        s->source = &src;
        s->wire.fd = -1;
        list_init(&s->node);
        connect_session(s);
    }
    while (src.open) {
        int wait_ms = look_around(&src),
            n = src.open ? epoll_wait(src.epoll, events, COUNT_OF(events), wait_ms) : 0;
        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr);
    }
    out->aborted += opts->messages - src.given; /* nobody was left to send them */
    mem_free(src.sessions);
    buf_fini(&src.body);
    wire_tls_fini(&src.tls);
    close(src.epoll);
}

void source_report(const struct source_result *result, struct report *to)
{
    double secs = (double)(result->ended_us - result->began_us) / 1e6;

    report_number(to, "accept_s", secs, 3);
    report_number(to, "accepted_per_s", secs > 0 ? (double)result->accepted / secs : 0, 1);
    report_count(to, "accepted", result->accepted);
    report_count(to, "accepted_recipients", result->accepted_rcpts);
    report_count(to, "refused", result->refused);
    report_count(to, "refused_recipients", result->refused_rcpts);
    report_count(to, "aborted", result->aborted);
    report_count(to, "source_connections", result->connections);
    report_count(to, "source_connect_failed", result->connect_failed);
    report_count(to, "source_lost", result->lost_connections);
    report_count(to, "source_tls", result->tls);
    report_count(to, "source_tls_resumed", result->tls_resumed);
    report_times(to, "ack_ms", &result->ack_us);
    report_times(to, "message_ms", &result->message_us);
    if (result->refusal[0])
        report_text(to, "first_refusal", result->refusal);
}

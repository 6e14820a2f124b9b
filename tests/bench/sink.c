/*
 * Replies to what came in one read are a group; with a delay each group waits in one line, since all wait
 * equally long.
 *
 *     COMMANDS ── DATA ──→ CONTENT ──┐         COMMANDS ── BDAT n ──→ CHUNK ──┐
 *        ↑───────── . ───────────────┘            ↑──────── n octets ─────────┘
 */
#include "tests/bench/sink.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "tests/bench/wire.h"

#define LINE_MAX_BYTES 4096
#define RCPTS_MAX      1000
#define UNNUMBERED     UINT64_MAX

enum mode { COMMANDS, CONTENT, CHUNK };

struct sink {
    struct sink_opts *opts;     /* borrowed */
    struct sink_counts *counts; /* borrowed */
    struct seen seen;
    struct wire_tls tls;
    struct list held; /* groups of replies, the oldest first */
    int epoll, signals;
    bool ending;
};

struct client {
    struct sink *sink; /* borrowed */
    struct wire wire;
    enum mode mode;
    bool mail, line_start, last_chunk;
    bool closing, tls_next; /* when the replies are out */
    uint64_t chunk_left;
    unsigned waiting; /* held groups */
    struct buf replies;
    uint64_t numbers[RCPTS_MAX];
    unsigned rcpts;
};

struct held {
    struct list node;
    struct client *client; /* borrowed; it drops its groups when it goes */
    struct buf text;
    uint64_t due_ms;
};

static void drop_held(struct held *h)
{
    list_remove(&h->node);
    buf_fini(&h->text);
    mem_free(h);
}

static void end_client(struct client *c)
{
    for (struct list *at = c->sink->held.next, *next; at != &c->sink->held; at = next) {
        struct held *h = CONTAINER_OF(at, struct held, node);
        next = at->next;
        if (h->client == c)
            drop_held(h);
    }
    if (c->mode != COMMANDS)
        c->sink->counts->lost_in_message++;
    c->sink->counts->connections_now--;
    wire_close(&c->wire);
    buf_fini(&c->replies);
    mem_free(c);
}

static void forget_message(struct client *c)
{
    c->mail = false;
    c->rcpts = 0;
    c->mode = COMMANDS;
}

/* True, and answered, when the dice say so. */
static bool refused(struct client *c, enum refuse_at at)
{
    unsigned code = refuse_roll(&c->sink->opts->refuse, at);

    if (code == 0)
        return false;
    c->sink->counts->refused++;
    buf_putf(&c->replies, "%u %u.3.0 refused as asked\r\n", code, code / 100);
    return true;
}

static void mark_taken(struct sink *sink, uint64_t number)
{
    if (number >= sink->opts->mark_count)
        return;
    struct mark *m = &sink->opts->marks[number];
    m->taken++;
    if (m->taken == 1 && m->dot_us)
        hist_add(&sink->counts->delivery_us, sink->counts->last_us - m->dot_us);
}

static void count_message(struct client *c)
{
    struct sink_counts *n = c->sink->counts;

    n->last_us = clock_now_us();
    if (n->first_us == 0)
        n->first_us = n->last_us;
    n->messages++;
    n->recipients += c->rcpts;
    for (unsigned i = 0; i < c->rcpts; i++) {
        mark_taken(c->sink, c->numbers[i]);
        switch (c->numbers[i] == UNNUMBERED ? SEEN_TOO_LARGE : seen_add(&c->sink->seen, c->numbers[i])) {
        case SEEN_FIRST: n->unique++; break;
        case SEEN_AGAIN: n->duplicates++; break;
        case SEEN_TOO_LARGE: n->unnumbered++; break;
        }
    }
}

static void end_message(struct client *c)
{
    if (!refused(c, REFUSE_DOT)) {
        count_message(c);
        buf_puts(&c->replies, "250 2.0.0 taken\r\n");
    }
    forget_message(c);
}

/* ---- commands ---- */

static void on_ehlo(struct client *c, struct bytes args)
{
    (void)args;
    forget_message(c);
    buf_puts(&c->replies, "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n");
    if (c->sink->opts->chunking)
        buf_puts(&c->replies, "250-CHUNKING\r\n");
    if (c->sink->opts->cert_file && !c->wire.tls)
        buf_puts(&c->replies, "250-STARTTLS\r\n");
    buf_puts(&c->replies, "250 ENHANCEDSTATUSCODES\r\n");
}

static void on_helo(struct client *c, struct bytes args)
{
    (void)args;
    forget_message(c);
    buf_puts(&c->replies, "250 sink.example\r\n");
}

static void on_starttls(struct client *c, struct bytes args)
{
    (void)args;
    if (!c->sink->opts->cert_file || c->wire.tls) {
        buf_puts(&c->replies, "503 5.5.1 no TLS now\r\n");
        return;
    }
    buf_puts(&c->replies, "220 2.0.0 go ahead\r\n");
    c->tls_next = true;
}

static void on_mail(struct client *c, struct bytes args)
{
    if (!bytes_istarts(args, BYTES("FROM:<")) || c->mail) {
        c->sink->counts->bad_commands++;
        buf_puts(&c->replies, "503 5.5.1 no MAIL now\r\n");
    } else if (!refused(c, REFUSE_MAIL)) {
        c->mail = true;
        buf_puts(&c->replies, "250 2.1.0 ok\r\n");
    }
}

/* "TO:<n123@d1.example.test>" */
static uint64_t number_of(struct bytes args)
{
    struct bytes text = bytes_skip(args, 4);
    uint64_t number;

    if (text.len == 0 || text.at[0] != 'n')
        return UNNUMBERED;
    text = bytes_skip(text, 1);
    return bytes_parse_u64(bytes_first(text, bytes_find(text, '@')), &number) ? number : UNNUMBERED;
}

static void on_rcpt(struct client *c, struct bytes args)
{
    if (!bytes_istarts(args, BYTES("TO:<"))) {
        c->sink->counts->bad_commands++;
        buf_puts(&c->replies, "501 5.5.4 RCPT what?\r\n");
    } else if (!c->mail) {
        /* no fault of who pipelines behind a refused MAIL */
        buf_puts(&c->replies, "503 5.5.1 no RCPT now\r\n");
    } else if (c->rcpts == RCPTS_MAX) {
        buf_puts(&c->replies, "452 4.5.3 too many recipients\r\n");
    } else if (!refused(c, REFUSE_RCPT)) {
        c->numbers[c->rcpts++] = number_of(args);
        buf_puts(&c->replies, "250 2.1.5 ok\r\n");
    }
}

static void on_data(struct client *c, struct bytes args)
{
    (void)args;
    if (c->rcpts == 0) {
        buf_puts(&c->replies, "554 5.5.1 no valid recipients\r\n");
    } else if (!refused(c, REFUSE_DATA)) {
        buf_puts(&c->replies, "354 go on\r\n");
        c->mode = CONTENT;
        c->line_start = true;
    }
}

/* RFC 3030 §2: the octets come even if the command is refused. */
static void on_bdat(struct client *c, struct bytes args)
{
    size_t blank = bytes_find(args, ' ');
    struct bytes word = bytes_trim(bytes_skip(args, blank));

    if (!c->sink->opts->chunking || !bytes_parse_u64(bytes_first(args, blank), &c->chunk_left) ||
        (word.len && !bytes_ieq(word, BYTES("LAST")))) {
        c->sink->counts->bad_commands++;
        buf_puts(&c->replies, "501 5.5.4 BDAT what?\r\n");
        c->closing = true; /* what follows may be content, which must not be read as commands */
        return;
    }
    c->last_chunk = word.len != 0;
    c->mode = CHUNK;
}

static void on_rset(struct client *c, struct bytes args)
{
    (void)args;
    forget_message(c);
    buf_puts(&c->replies, "250 2.0.0 ok\r\n");
}

static void on_noop(struct client *c, struct bytes args)
{
    (void)args;
    buf_puts(&c->replies, "250 2.0.0 ok\r\n");
}

static void on_quit(struct client *c, struct bytes args)
{
    (void)args;
    buf_puts(&c->replies, "221 2.0.0 bye\r\n");
    c->closing = true;
}

static const struct verb {
    struct bytes name;
    void (*on)(struct client *c, struct bytes args);
} verbs[] = {
    {{"MAIL", 4}, on_mail}, {{"RCPT", 4}, on_rcpt},         {{"DATA", 4}, on_data}, {{"BDAT", 4}, on_bdat},
    {{"RSET", 4}, on_rset}, {{"NOOP", 4}, on_noop},         {{"QUIT", 4}, on_quit}, {{"EHLO", 4}, on_ehlo},
    {{"HELO", 4}, on_helo}, {{"STARTTLS", 8}, on_starttls},
};

static void on_command(struct client *c, struct bytes line)
{
    size_t blank = bytes_find(line, ' ');
    struct bytes name = bytes_first(line, blank);

    for (size_t i = 0; i < COUNT_OF(verbs); i++) {
        if (bytes_ieq(name, verbs[i].name)) {
            verbs[i].on(c, bytes_skip(line, blank + 1));
            return;
        }
    }
    c->sink->counts->bad_commands++;
    buf_puts(&c->replies, "502 5.5.2 what?\r\n");
}

/* ---- what came ---- */

/* Each takes from `in` and returns how much it used; 0: more is needed. */
static size_t take_line(struct client *c, struct bytes in)
{
    size_t end = bytes_find(in, '\n');

    if (end == in.len) {
        if (in.len > LINE_MAX_BYTES) {
            c->sink->counts->bad_commands++;
            c->closing = true;
        }
        return 0;
    }
    on_command(c, bytes_first(in, end && in.at[end - 1] == '\r' ? end - 1 : end));
    return end + 1;
}

/* RFC 5321 §4.1.1.4: only CRLF . CRLF ends it; the CRLF before the dot may be that of the DATA command. */
static size_t take_content(struct client *c, struct bytes in)
{
    const char *end;

    if (c->line_start && in.len < 3)
        return 0;
    if (c->line_start && memcmp(in.at, ".\r\n", 3) == 0) {
        end_message(c);
        return 3;
    }
    c->line_start = false;
    end = memmem(in.at, in.len, "\r\n.\r\n", 5);
    if (end) {
        size_t used = (size_t)(end - in.at) + 5;
        c->sink->counts->content_bytes += used - 3;
        end_message(c);
        return used;
    }
    size_t used = in.len > 4 ? in.len - 4 : 0; /* the end may have begun */
    c->sink->counts->content_bytes += used;
    return used;
}

static size_t take_chunk(struct client *c, struct bytes in)
{
    size_t used = MIN_OF(c->chunk_left, in.len);

    c->chunk_left -= used;
    c->sink->counts->content_bytes += used;
    if (c->chunk_left)
        return used;
    c->mode = COMMANDS;
    if (c->rcpts == 0)
        buf_puts(&c->replies, "554 5.5.1 no valid recipients\r\n");
    else if (c->last_chunk)
        end_message(c);
    else
        buf_puts(&c->replies, "250 2.0.0 go on\r\n");
    return used;
}

static void take_all(struct client *c)
{
    size_t at = 0;

    while (!c->closing && !c->tls_next) {
        struct bytes rest = bytes_skip(buf_bytes(&c->wire.in), at);
        size_t used = 0;
        if (c->mode == CHUNK)
            used = take_chunk(c, rest); /* a chunk of no octets ends without any */
        else if (rest.len)
            used = c->mode == CONTENT ? take_content(c, rest) : take_line(c, rest);
        at += used;
        if (used == 0)
            break;
    }
    buf_consume(&c->wire.in, at);
}

/* ---- the connection ---- */

/* After replies are out.  False: the client is gone. */
static bool settle(struct client *c)
{
    if (wire_flush(&c->wire) == WIRE_GONE || (c->closing && c->wire.out.len == 0 && c->waiting == 0)) {
        end_client(c);
        return false;
    }
    if (c->tls_next && c->waiting == 0) {
        c->tls_next = false;
        buf_clear(&c->wire.in); /* RFC 3207 §6 */
        wire_start_tls(&c->wire, &c->sink->tls, true);
    }
    return true;
}

static void hold(struct client *c)
{
    struct held *h = MEM_NEW(struct held);

    h->client = c;
    h->due_ms = clock_now_ms() + c->sink->opts->delay_ms;
    h->text = c->replies;
    c->replies = (struct buf){0};
    c->waiting++;
    list_push_back(&c->sink->held, &h->node);
}

static bool answer(struct client *c)
{
    if (c->replies.len && c->sink->opts->delay_ms) {
        hold(c);
    } else if (c->replies.len) {
        buf_put(&c->wire.out, buf_bytes(&c->replies));
        buf_clear(&c->replies);
    }
    return settle(c);
}

static bool shake(struct client *c)
{
    switch (wire_shake(&c->wire)) {
    case WIRE_WAIT: return false;
    case WIRE_GONE:
        c->sink->counts->tls_failed++;
        end_client(c);
        return false;
    case WIRE_DATA: break;
    }
    c->sink->counts->tls++;
    c->sink->counts->tls_resumed += wire_resumed(&c->wire);
    return true;
}

static void serve(struct client *c)
{
    if (!c->wire.shaking && !settle(c))
        return;
    for (;;) {
        if (c->wire.shaking && !shake(c))
            return;
        if (c->tls_next || c->closing)
            return; /* replies are held; what comes next is read after them */
        enum wire_result got = wire_read(&c->wire);
        if (got == WIRE_WAIT)
            return;
        if (got == WIRE_GONE) {
            end_client(c);
            return;
        }
        take_all(c);
        if (!answer(c))
            return;
    }
}

/* Sends what has waited long enough; returns how long the next has to wait, or -1. */
static int release(struct sink *sink)
{
    uint64_t now_ms = clock_now_ms();
    struct list *node;

    while ((node = list_first(&sink->held)) != NULL) {
        struct held *h = CONTAINER_OF(node, struct held, node);
        struct client *c = h->client;
        if (h->due_ms > now_ms)
            return (int)(h->due_ms - now_ms);
        buf_put(&c->wire.out, buf_bytes(&h->text));
        c->waiting--;
        drop_held(h);
        serve(c);
    }
    return -1;
}

static void accept_all(struct sink *sink)
{
    struct sink_counts *n = sink->counts;
    int fd;

    while ((fd = accept4(sink->opts->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct client *c = MEM_NEW(struct client);
        c->sink = sink;
        c->wire.fd = -1;
        n->connections++;
        n->connections_now++;
        n->connections_max = MAX_OF(n->connections_max, n->connections_now);
        if (!wire_adopt(&c->wire, sink->epoll, fd, c)) {
            close(fd);
            end_client(c);
            continue;
        }
        if (refused(c, REFUSE_CONNECT))
            c->closing = true;
        else
            buf_puts(&c->replies, "220 sink.example ESMTP\r\n");
        answer(c);
    }
}

static void print_counts(struct sink *sink)
{
    struct report r = {.json = sink->opts->json};

    sink_report(sink->counts, &r);
    report_end(&r, stdout);
}

static void on_signal(struct sink *sink)
{
    struct signalfd_siginfo info;

    while (read(sink->signals, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGUSR1) {
            print_counts(sink);
        } else if (info.ssi_signo == SIGUSR2) {
            uint64_t now = sink->counts->connections_now;
            *sink->counts = (struct sink_counts){.connections_now = now, .connections_max = now};
            seen_clear(&sink->seen);
        } else {
            sink->ending = true;
        }
    }
}

static bool start(struct sink *sink)
{
    struct epoll_event on_listener = {.events = EPOLLIN, .data.ptr = &sink->opts->listener};
    struct epoll_event on_signals = {.events = EPOLLIN, .data.ptr = &sink->signals};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    list_init(&sink->held);
    sink->epoll = epoll_create1(EPOLL_CLOEXEC);
    sink->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return sink->epoll >= 0 && sink->signals >= 0 &&
           epoll_ctl(sink->epoll, EPOLL_CTL_ADD, sink->opts->listener, &on_listener) == 0 &&
           epoll_ctl(sink->epoll, EPOLL_CTL_ADD, sink->signals, &on_signals) == 0;
}

void sink_run(struct sink_opts *opts, struct sink_counts *counts)
{
    struct sink sink = {.opts = opts, .counts = counts};
    struct epoll_event events[64];

    *counts = (struct sink_counts){0};
    if (!start(&sink)) {
        perror("hayauma-bench: sink");
        exit(1);
    }
    if (opts->cert_file && !wire_tls_server(&sink.tls, opts->cert_file, opts->key_file)) {
        fprintf(stderr, "hayauma-bench: sink: certificate or key cannot be used\n");
        exit(1);
    }
    while (!sink.ending) {
        int wait_ms = release(&sink), n = epoll_wait(sink.epoll, events, COUNT_OF(events), wait_ms);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &opts->listener)
                accept_all(&sink);
            else if (events[i].data.ptr == &sink.signals)
                on_signal(&sink);
            else
                serve(events[i].data.ptr);
        }
    }
    /* connections end with the process; their peers need no answer any more */
    seen_clear(&sink.seen);
    wire_tls_fini(&sink.tls);
    close(sink.signals);
    close(sink.epoll);
    close(opts->listener);
}

void sink_report(const struct sink_counts *n, struct report *to)
{
    const struct {
        const char *key;
        uint64_t value;
    } rows[] = {
        {"messages", n->messages},
        {"recipients", n->recipients},
        {"unique", n->unique},
        {"duplicates", n->duplicates},
        {"unnumbered", n->unnumbered},
        {"content_bytes", n->content_bytes},
        {"connections", n->connections},
        {"connections_now", n->connections_now},
        {"connections_max", n->connections_max},
        {"tls", n->tls},
        {"tls_resumed", n->tls_resumed},
        {"tls_failed", n->tls_failed},
        {"sink_refused", n->refused},
        {"bad_commands", n->bad_commands},
        {"lost_in_message", n->lost_in_message},
    };
    double secs = (double)(n->last_us - n->first_us) / 1e6;

    for (size_t i = 0; i < COUNT_OF(rows); i++)
        report_count(to, rows[i].key, rows[i].value);
    report_number(to, "sink_s", secs, 3);
}

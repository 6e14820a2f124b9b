/*
 * The inbound conversation: states, input, output, time.
 *
 *          start          EHLO          MAIL         RCPT         DATA        dot
 *   silent ─────▶ hello ────────▶ ready ────▶ mail ──────▶ rcpt ───────▶ data ─────▶ commit ──▶ ready
 *                   ▲             │ │ ▲         │            │ BDAT                    ▲
 *                   │    STARTTLS │ │ │         │            ▼            LAST is in   │
 *                   └──── tls ◀───┘ │ └── RSET ─┴─────── chunk ────────────────────────┘
 *                          AUTH     │                     ▲ │ all octets are in
 *                ready ◀─▶ auth ◀───┘                BDAT │ ▼
 *                  ▲         ▼                            bdat ──RSET──▶ ready
 *                  └─────── check
 *
 * EHLO, HELO and RSET lead from every command state back to ready; QUIT, 421 and too many mistakes lead to
 * `over`. In commit, check and tls the owner is at work: octets that come meanwhile are kept.
 */
#include "engine/smtp/server_priv.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

#define LINE_MAX_BYTES  2048 /* §4.5.3.1.4: 512, and more for SIZE, AUTH=, SMTPUTF8 and DSN parameters */
#define KEPT_PAUSE      (64 * 1024)   /* from here on the owner should stop reading */
#define KEPT_MAX        (1024 * 1024) /* who does not stop is cut off */
#define SMALL_LINE_KEPT 4096
#define REPLY_MAX       512 /* §4.5.3.1.5, with code and CRLF */

enum timeout { TIMEOUT_NONE, TIMEOUT_COMMAND, TIMEOUT_DATA };

/* Takes octets and returns how many; *next is set when that was a step. */
typedef size_t take_fn(struct smtp_server *s, struct bytes in, enum server_state *next);
static take_fn take_line, take_nothing;

#define RESTING (BIT(SERVER_HELLO) | BIT(SERVER_READY))

static const struct step {
    const char *name;
    take_fn *take; /* NULL: the owner is at work */
    enum timeout timeout;
    uint32_t may_go_to; /* besides itself and `over` */
} steps[] = {
    [SERVER_SILENT] = {"silent", NULL, TIMEOUT_NONE, BIT(SERVER_HELLO)},
    [SERVER_HELLO] = {"hello", take_line, TIMEOUT_COMMAND, BIT(SERVER_READY) | BIT(SERVER_CHUNK)},
    [SERVER_READY] = {"ready", take_line, TIMEOUT_COMMAND,
                      BIT(SERVER_MAIL) | BIT(SERVER_AUTH) | BIT(SERVER_CHECK) | BIT(SERVER_TLS) |
                          BIT(SERVER_CHUNK)},
    [SERVER_MAIL] = {"mail", take_line, TIMEOUT_COMMAND, RESTING | BIT(SERVER_RCPT) | BIT(SERVER_CHUNK)},
    [SERVER_RCPT] = {"rcpt", take_line, TIMEOUT_COMMAND,
                     RESTING | BIT(SERVER_DATA) | BIT(SERVER_CHUNK) | BIT(SERVER_BDAT) | BIT(SERVER_COMMIT)},
    [SERVER_DATA] = {"data", server_take_data, TIMEOUT_DATA, RESTING | BIT(SERVER_COMMIT)},
    [SERVER_CHUNK] = {"chunk", server_take_chunk, TIMEOUT_DATA,
                      RESTING | BIT(SERVER_BDAT) | BIT(SERVER_COMMIT)},
    [SERVER_BDAT] = {"bdat", take_line, TIMEOUT_COMMAND, RESTING | BIT(SERVER_CHUNK) | BIT(SERVER_COMMIT)},
    [SERVER_COMMIT] = {"commit", NULL, TIMEOUT_NONE, RESTING},
    [SERVER_AUTH] = {"auth", take_line, TIMEOUT_COMMAND, BIT(SERVER_READY) | BIT(SERVER_CHECK)},
    [SERVER_CHECK] = {"check", NULL, TIMEOUT_NONE, BIT(SERVER_READY)},
    [SERVER_TLS] = {"tls", NULL, TIMEOUT_COMMAND, BIT(SERVER_HELLO)},
    [SERVER_OVER] = {"over", take_nothing, TIMEOUT_NONE, 0},
};

/* ---- output ---- */

static void put_reply(struct smtp_server *s, unsigned code, const char *enhanced, const char *format,
                      va_list ap)
{
    struct buf *line = &s->reply;

    buf_clear(line);
    buf_put_int(line, code);
    buf_putc(line, ' ');
    buf_puts(line, enhanced);
    if (*enhanced)
        buf_putc(line, ' ');
    buf_putv(line, format, ap);
    line->len = MIN_OF(line->len, (size_t)REPLY_MAX - 2); /* cut, if an echoed address is that long */
    log_debug(s->config.log, "smtp.reply", LOG_BYTES("line", buf_bytes(line)));
    buf_puts(line, "\r\n");
    outq_put(&s->out, buf_bytes(line));
}

void server_reply(struct smtp_server *s, unsigned code, const char *enhanced, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    put_reply(s, code, enhanced, format, ap);
    va_end(ap);
}

enum server_state server_bye(struct smtp_server *s, unsigned code, const char *enhanced, const char *format,
                             ...)
{
    va_list ap;

    va_start(ap, format);
    put_reply(s, code, enhanced, format, ap);
    va_end(ap);
    return SERVER_OVER;
}

enum server_state server_mistake(struct smtp_server *s, unsigned code, const char *enhanced,
                                 const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    put_reply(s, code, enhanced, format, ap);
    va_end(ap);
    if (++s->errors < s->rules->errors_max || s->rules->errors_max == 0)
        return s->state;
    server_attack(s, "too-many-errors");
    return server_bye(s, 421, "4.7.0", "Too many errors on this connection");
}

void server_attack(struct smtp_server *s, const char *what)
{
    if (s->config.events.on_attack)
        s->config.events.on_attack(s->config.arg, what);
    else
        log_warn(s->config.log, "smtp.attack", LOG_STR("what", what));
}

/* ---- states ---- */

enum server_state server_rest_state(const struct smtp_server *s)
{
    return s->helo[0] ? SERVER_READY : SERVER_HELLO;
}

static bool awaits_owner(const struct smtp_server *s)
{
    return !steps[s->state].take;
}

static void restart_clock(struct smtp_server *s)
{
    const struct smtp_listener_rules *r = s->rules;

    switch (steps[s->state].timeout) {
    case TIMEOUT_NONE: s->deadline_ms = 0; break;
    case TIMEOUT_COMMAND: s->deadline_ms = s->now_ms + r->command_timeout_ms; break;
    case TIMEOUT_DATA: s->deadline_ms = MIN_OF(s->now_ms + r->data_timeout_ms, server_slow_at_ms(s)); break;
    }
}

static void go(struct smtp_server *s, enum server_state next)
{
    assert(next == s->state || next == SERVER_OVER || (steps[s->state].may_go_to & BIT(next)));
    if (next != s->state)
        log_debug(s->config.log, "smtp.state", LOG_STR("from", steps[s->state].name),
                  LOG_STR("to", steps[next].name));
    s->state = next;
    restart_clock(s);
    if (s->draining && (BIT(next) & RESTING))
        s->state = server_bye(s, 421, "4.3.2", "%s is shutting down; try again soon", s->rules->host_name);
    if (s->state == SERVER_OVER) {
        server_txn_reset(s);
        s->event = SERVER_NO_EVENT;
        s->deadline_ms = 0;
    }
}

/* ---- input ---- */

static size_t take_nothing(struct smtp_server *s, struct bytes in, enum server_state *next)
{
    (void)s, (void)next;
    return in.len; /* we have said goodbye */
}

/* The longest that the line may be that began in s->line, if anything is there, and goes on with `more`. */
static size_t line_max(const struct smtp_server *s, struct bytes more)
{
    char start[5];
    size_t n = MIN_OF(s->line.len, sizeof(start));

    if (n)
        memcpy(start, s->line.at, n);
    more = bytes_first(more, sizeof(start) - n);
    if (more.len)
        memcpy(start + n, more.at, more.len);
    bool is_auth = bytes_ieq(bytes_make(start, n + more.len), BYTES("AUTH "));
    return is_auth || s->state == SERVER_AUTH ? AUTH_LINE_MAX : LINE_MAX_BYTES;
}

static enum server_state on_long_line(struct smtp_server *s)
{
    if (s->state == SERVER_AUTH)
        return server_auth_refuse(s, 500, "5.5.6", "Line too long");
    return server_mistake(s, 500, "5.5.2", "Line too long");
}

static bool has_control(struct bytes line)
{
    for (size_t i = 0; i < line.len; i++)
        if ((unsigned char)line.at[i] < ' ' || line.at[i] == 0x7f)
            return true;
    return false;
}

/* A line with its LF. */
static enum server_state on_line(struct smtp_server *s, struct bytes line)
{
    if (line.len < 2 || line.at[line.len - 2] != '\r') {
        server_attack(s, "bare-newline-in-command");
        return server_bye(s, 500, "5.5.2", "Bare LF received; lines must end in CRLF");
    }
    line.len -= 2;
    if (s->state == SERVER_AUTH)
        return server_on_auth_line(s, line);
    if (has_control(line))
        return server_mistake(s, 500, "5.5.2", "A control character stands in the line");
    return server_obey(s, line);
}

static void forget_line(struct smtp_server *s)
{
    if (s->line.len)
        explicit_bzero(s->line.at, s->line.len); /* it may be a password */
    buf_clear(&s->line);
    s->line_dropped = false;
    if (s->line.cap > SMALL_LINE_KEPT)
        buf_fini(&s->line);
}

/* The rest of an over-long line is never a command.  It ends at CRLF, and at nothing else. */
static size_t pass_over_line(struct smtp_server *s, struct bytes in, enum server_state *next)
{
    for (size_t at = 0; at < in.len; at++) {
        at += bytes_find(bytes_skip(in, at), '\n');
        if (at == in.len)
            break;
        char before = at ? in.at[at - 1] : s->line.at[0];
        if (before == '\r') {
            forget_line(s);
            *next = on_long_line(s);
            return at + 1;
        }
    }
    s->line.at[0] = in.at[in.len - 1]; /* of the line only its last octet is of interest */
    return in.len;
}

static size_t take_line(struct smtp_server *s, struct bytes in, enum server_state *next)
{
    if (s->line_dropped)
        return pass_over_line(s, in, next);
    struct bytes line = bytes_first(in, bytes_find(in, '\n') + 1);
    bool whole = line.at[line.len - 1] == '\n';
    if (s->line.len + line.len > line_max(s, line)) {
        char last = s->line.len ? s->line.at[s->line.len - 1] : '\0';
        forget_line(s);
        buf_putc(&s->line, last);
        s->line_dropped = true;
        return pass_over_line(s, in, next);
    }
    s->more_input = line.len < in.len;
    if (whole && s->line.len == 0) {
        *next = on_line(s, line);
        return line.len;
    }
    buf_put(&s->line, line);
    if (whole) {
        *next = on_line(s, buf_bytes(&s->line));
        forget_line(s);
    }
    return line.len;
}

/* ---- what the owner is told ---- */

static void tell_owner(struct smtp_server *s)
{
    const struct smtp_server_events *e = &s->config.events;
    enum server_event event = s->event;

    s->event = SERVER_NO_EVENT;
    switch (event) {
    case SERVER_NO_EVENT: break;
    case SERVER_EVENT_STARTTLS: e->on_starttls(s->config.arg); break;
    case SERVER_EVENT_CHECK: e->on_check_password(s->config.arg, s->auth.user, s->auth.password); break;
    case SERVER_EVENT_MESSAGE:
        e->on_message(s->config.arg, TAKE(s->txn.message), s->txn.not_before_unix);
        break;
    }
}

static void destroy(struct smtp_server *s)
{
    server_txn_reset(s);
    mem_free(s->txn.rcpts);
    header_fini(&s->txn.header);
    buf_fini(&s->txn.held);
    auth_reset(&s->auth);
    account_fini(&s->account);
    buf_fini(&s->reply);
    buf_fini(&s->line);
    buf_fini(&s->kept);
    outq_fini(&s->out);
    mem_free(s);
}

/* STARTTLS was granted: what stands behind it in clear was put there by somebody (RFC 3207 §4.2,
 * CVE-2011-0411). */
static void drop_input(struct smtp_server *s, size_t n)
{
    if (n)
        server_attack(s, "starttls-injection");
}

static void work_through(struct smtp_server *s, struct bytes in)
{
    while (!s->dead) {
        if (s->event == SERVER_EVENT_STARTTLS) {
            drop_input(s, in.len);
            in.len = 0;
        }
        tell_owner(s);
        if (s->dead || awaits_owner(s) || in.len == 0)
            break;
        enum server_state next = SERVER_SAME;
        in = bytes_skip(in, steps[s->state].take(s, in, &next));
        if (next != SERVER_SAME)
            go(s, next);
    }
    if (!s->dead && in.len && s->kept.len + in.len > KEPT_MAX)
        go(s, server_bye(s, 421, "4.7.0", "Too many octets sent ahead"));
    else if (!s->dead && in.len && s->state != SERVER_OVER)
        buf_put(&s->kept, in);
}

/* Calls out last: the owner may have destroyed us in an event, and may do so in on_close. */
static void work(struct smtp_server *s, struct bytes in)
{
    s->working = true;
    work_through(s, in);
    if (!s->dead && s->state == SERVER_OVER && !s->close_said) {
        s->close_said = true;
        s->config.events.on_close(s->config.arg);
    }
    s->working = false;
    if (s->dead)
        destroy(s);
}

/* An answer of the owner has been taken in: on with what was kept, unless it was given from within an event.
 */
static void work_on(struct smtp_server *s)
{
    if (s->working)
        return;
    struct buf kept = s->kept;
    s->kept = (struct buf){0};
    work(s, buf_bytes(&kept));
    buf_fini(&kept);
}

/* ---- public ---- */

struct smtp_server *smtp_server_create(const struct smtp_server_config *config, uint64_t now_ms)
{
    struct smtp_server *s = MEM_NEW(struct smtp_server);

    s->config = *config;
    s->rules = config->rules;
    s->now_ms = now_ms;
    return s;
}

void smtp_server_destroy(struct smtp_server *s)
{
    if (!s)
        return;
    if (s->working)
        s->dead = true;
    else
        destroy(s);
}

void smtp_server_start(struct smtp_server *s, uint64_t now_ms)
{
    assert(s->state == SERVER_SILENT);
    s->now_ms = now_ms;
    if (s->early) {
        server_attack(s, "early-talker");
        go(s, server_bye(s, 554, "", "%s: you spoke before the greeting", s->rules->host_name));
    } else if (s->draining) {
        go(s, server_bye(s, 421, "", "%s is shutting down; try again soon", s->rules->host_name));
    } else {
        outq_putf(&s->out, "220 %s ESMTP Hayauma\r\n", s->rules->host_name);
        go(s, SERVER_HELLO);
    }
    work_on(s);
}

void smtp_server_receive(struct smtp_server *s, struct bytes in, uint64_t now_ms)
{
    s->now_ms = now_ms;
    if (in.len == 0)
        return;
    if (s->state == SERVER_SILENT) {
        s->early = true;
    } else if (s->state == SERVER_TLS) {
        drop_input(s, in.len);
    } else {
        assert(!s->working);
        work(s, in);
    }
}

struct outq *smtp_server_output(struct smtp_server *s)
{
    return &s->out;
}

uint64_t smtp_server_deadline_ms(const struct smtp_server *s)
{
    return s->deadline_ms;
}

void smtp_server_on_deadline(struct smtp_server *s, uint64_t now_ms)
{
    if (s->deadline_ms == 0 || now_ms < s->deadline_ms)
        return;
    s->now_ms = now_ms;
    log_info(s->config.log, "smtp.timeout", LOG_STR("state", steps[s->state].name));
    if (s->state == SERVER_TLS)
        go(s, SERVER_OVER); /* nothing can be said in the middle of a handshake */
    else
        go(s, server_bye(s, 421, "4.4.2", "Timeout: nothing came in time, or too slowly"));
    work(s, (struct bytes){0});
}

bool smtp_server_wants_pause(const struct smtp_server *s)
{
    return awaits_owner(s) && s->kept.len >= KEPT_PAUSE;
}

void smtp_server_tls_done(struct smtp_server *s, const struct smtp_tls_facts *facts, uint64_t now_ms)
{
    s->now_ms = now_ms;
    s->tls = true;
    s->tls_facts = *facts;
    s->early = false; /* what came before was TLS's */
    if (s->state != SERVER_TLS)
        return;
    /* RFC 3207 §4.2: nothing that was learnt in clear is kept. */
    s->helo[0] = '\0';
    s->esmtp = false;
    account_fini(&s->account);
    s->proved_by = AUTH_NONE;
    auth_reset(&s->auth);
    buf_clear(&s->line);
    buf_clear(&s->kept);
    go(s, SERVER_HELLO);
    work_on(s);
}

void smtp_server_auth_done(struct smtp_server *s, const struct account *account, bool backend_down,
                           uint64_t now_ms)
{
    if (s->state != SERVER_CHECK)
        return; /* it was over meanwhile */
    s->now_ms = now_ms;
    bool within_event = s->working;
    s->working = true; /* on_auth_result may destroy us */
    enum server_state next = server_auth_checked(s, account, backend_down);
    s->working = within_event;
    if (s->dead) {
        if (!within_event)
            destroy(s);
        return;
    }
    go(s, next);
    work_on(s);
}

void smtp_server_accept_done(struct smtp_server *s, enum err e, uint64_t now_ms)
{
    if (s->state != SERVER_COMMIT)
        return;
    s->now_ms = now_ms;
    go(s, server_committed(s, e));
    work_on(s);
}

void smtp_server_drain(struct smtp_server *s, uint64_t now_ms)
{
    s->now_ms = now_ms;
    s->draining = true;
    if (s->state == SERVER_SILENT || s->state == SERVER_OVER)
        return;
    if (BIT(s->state) & RESTING)
        go(s, s->state);
    work_on(s);
}

void smtp_server_turn_out(struct smtp_server *s, uint64_t now_ms)
{
    s->now_ms = now_ms;
    if (s->state == SERVER_OVER)
        return;
    go(s, server_bye(s, 421, "4.7.0", "Others wait for a connection, and nothing came over this one"));
    work(s, (struct bytes){0});
}

bool smtp_server_is_idle(const struct smtp_server *s)
{
    return s->state <= SERVER_READY || s->state >= SERVER_AUTH;
}

const char *smtp_server_account(const struct smtp_server *s)
{
    return s->account.name;
}

const char *smtp_server_auth_mechanism(const struct smtp_server *s)
{
    static const char *const names[] = {
        [AUTH_NONE] = "certificate",  [AUTH_PLAIN] = "plain",
        [AUTH_LOGIN] = "login",       [AUTH_SCRAM_SHA_256] = "scram-sha-256",
        [AUTH_EXTERNAL] = "external",
    };

    return s->account.name ? names[s->proved_by] : "none";
}

const struct smtp_tls_facts *smtp_server_tls(const struct smtp_server *s)
{
    return s->tls ? &s->tls_facts : NULL;
}

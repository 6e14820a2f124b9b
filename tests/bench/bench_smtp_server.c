/*
 * What one message costs in the inbound conversation alone: no socket, no TLS, no store; header section,
 * decoding, envelope and body in memory.  `bench_smtp_server [BODY_BYTES [MESSAGES]]` prints key=value.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "engine/smtp/server.h"

struct owner {
    struct smtp_server *server;
    unsigned long messages;
};

static void on_message(void *arg, struct message *m, int64_t not_before_unix)
{
    struct owner *o = arg;

    (void)not_before_unix;
    o->messages++;
    message_unref(m);
    smtp_server_accept_done(o->server, OK, 0);
}

static void on_close(void *arg)
{
    (void)arg;
    abort(); /* the conversation below has no reason to end */
}

static void put_message(struct buf *out, size_t body_bytes)
{
    buf_puts(out, "From: Shop <news@shop.example>\r\nTo: Customer <customer@domain.example>\r\n"
                  "Subject: =?utf-8?Q?This_week_in_the_shop?=\r\nDate: Sat, 21 Nov 2026 22:00:00 +0000\r\n"
                  "Message-ID: <20261121220000.1234567@shop.example>\r\nMIME-Version: 1.0\r\n"
                  "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"
                  "List-Unsubscribe: <https://shop.example/u/0123456789abcdef>\r\n"
                  "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nX-Campaign: spring-2026\r\n\r\n");
    while (out->len < body_bytes)
        buf_puts(out, "<p>A line of a letter as shops send them, seventy-odd octets long.</p>  =\r\n");
}

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void drop_output(struct smtp_server *s)
{
    struct outq *out = smtp_server_output(s);

    outq_consume(out, out->len);
}

static void measure(const char *how, struct owner *o, struct bytes before, struct bytes content,
                    unsigned long count)
{
    double start = cpu_seconds();

    o->messages = 0;
    for (unsigned long i = 0; i < count; i++) {
        smtp_server_receive(o->server, before, 0);
        for (struct bytes rest = content; rest.len; rest = bytes_skip(rest, 16384)) /* as TLS records come */
            smtp_server_receive(o->server, bytes_first(rest, 16384), 0);
        drop_output(o->server);
    }
    double spent = cpu_seconds() - start;
    if (o->messages != count)
        abort();
    printf("mode=%s messages=%lu octets=%zu us_per_message=%.2f\n", how, count, content.len,
           spent * 1e6 / (double)count);
}

int main(int argc, char **argv)
{
    size_t body_bytes = argc > 1 ? strtoul(argv[1], NULL, 10) : 10240;
    unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 100000;
    struct smtp_listener_rules rules = {
        .host_name = "mx.example", .recipients_max = 100, .received_max = 100};
    struct owner o = {0};
    struct log log = {0};
    struct smtp_server_config config = {
        .rules = &rules, .log = &log, .events = {.on_message = on_message, .on_close = on_close}, .arg = &o};
    BUF_LOCAL(data);
    BUF_LOCAL(chunk);
    BUF_LOCAL(before);

    config.peer.ip.family = 4;
    o.server = smtp_server_create(&config, 0);
    smtp_server_start(o.server, 0);
    smtp_server_receive(o.server, BYTES("EHLO client.example\r\n"), 0);
    put_message(&data, body_bytes);
    put_message(&chunk, body_bytes);
    buf_puts(&data, ".\r\n");
    struct bytes envelope =
        BYTES("MAIL FROM:<bounce@shop.example> BODY=8BITMIME\r\nRCPT TO:<customer@domain.example>\r\n");
    buf_put(&before, envelope);
    buf_puts(&before, "DATA\r\n");
    measure("data", &o, buf_bytes(&before), buf_bytes(&data), count);
    buf_clear(&before);
    buf_put(&before, envelope);
    buf_putf(&before, "BDAT %zu LAST\r\n", chunk.len);
    measure("bdat", &o, buf_bytes(&before), buf_bytes(&chunk), count);
    smtp_server_destroy(o.server);
    return 0;
}

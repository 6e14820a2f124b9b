/*
 * What one message costs in the outbound conversation alone: commands, body, replies, outcome; no socket, no
 * TLS. The server is a string of replies.  `bench_smtp_client [BODY_BYTES [MESSAGES]]` prints key=value.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "engine/smtp/client.h"

struct owner {
    struct smtp_client *client;
    struct message message;
    struct rcpt rcpt;
    struct smtp_txn txns[2];
    struct outcome outcomes[2];
    unsigned long left, delivered;
    unsigned next;
};

static void on_ehlo(void *arg, const struct smtp_offer *offer)
{
    struct owner *o = arg;

    (void)offer;
    smtp_client_go_on(o->client, 1);
}

static void on_ready(void *arg)
{
    struct owner *o = arg;

    if (!o->left)
        return;
    struct smtp_txn *t = &o->txns[o->next];
    *t = (struct smtp_txn){
        .message = &o->message, .rcpts = &o->rcpt, .rcpt_count = 1, .outcomes = &o->outcomes[o->next]};
    o->next ^= 1;
    o->left--;
    smtp_client_submit(o->client, t, 1);
}

static void on_txn_done(void *arg, struct smtp_txn *t)
{
    struct owner *o = arg;

    o->delivered += t->outcomes[0].kind == OUTCOME_DELIVERED;
}

static void drain(struct smtp_client *c)
{
    struct outq *out = smtp_client_output(c);
    struct iovec iov[16];

    for (int n; (n = outq_iov(out, iov, 16)) > 0;) {
        size_t bytes = 0;
        for (int i = 0; i < n; i++)
            bytes += iov[i].iov_len;
        outq_consume(out, bytes);
        smtp_client_sent(c, bytes, 1);
        smtp_client_fill(c, 1);
    }
}

static void say(struct smtp_client *c, struct bytes replies)
{
    smtp_client_receive(c, replies, 1);
    drain(c);
}

static struct body *make_body(size_t size, bool dots)
{
    char *mem = mem_alloc(size);

    for (size_t i = 0; i < size; i++)
        mem[i] = i % 76 == 74 ? '\r' : i % 76 == 75 ? '\n' : dots && i % 760 == 0 ? '.' : 'x';
    memcpy(mem + size - 2, "\r\n", 2);
    struct body *b = body_create(mem, size);
    b->flags = dots ? BODY_DOTS : 0;
    return b;
}

static double cpu_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

#define GROUP "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"
#define TOOK  "250 2.0.0 Ok: queued as 4Wq8zZ1vXyz1234\r\n"

static void measure(const char *how, enum smtp_pipelining pipelining, size_t size, bool dots,
                    unsigned long count)
{
    struct owner o = {.left = count, .rcpt = {.address = "recipient.name@domain7.example"}};
    struct smtp_client_config config = {
        .ehlo_name = "mx.shop.example",
        .pipelining = pipelining,
        .events = {.on_ehlo = on_ehlo, .on_ready = on_ready, .on_txn_done = on_txn_done},
        .arg = &o,
    };

    o.message = (struct message){.sender = "bounce-1234567@shop.example",
                                 .body = make_body(size, dots),
                                 .rcpts = &o.rcpt,
                                 .rcpt_count = 1};
    o.client = smtp_client_create(&config);
    smtp_client_connected(o.client, 1);
    say(o.client, BYTES("220 mx\r\n"));
    double start = cpu_seconds();
    say(o.client,
        BYTES(
            "250-mx\r\n250-PIPELINING\r\n250-SIZE 50000000\r\n250-8BITMIME\r\n250-DSN\r\n250 SMTPUTF8\r\n"));
    say(o.client, BYTES(GROUP));
    while (o.delivered + 1 < count) {
        if (pipelining == SMTP_PIPELINING_FULL) { /* both in one segment, as a fast peer answers */
            say(o.client, BYTES(TOOK GROUP));
        } else {
            say(o.client, BYTES(TOOK));
            say(o.client, BYTES(GROUP));
        }
    }
    say(o.client, BYTES(TOOK));
    double spent = cpu_seconds() - start;
    if (o.delivered != count)
        abort();
    printf("mode=%s messages=%lu octets=%zu us_per_message=%.2f\n", how, count, size,
           spent * 1e6 / (double)count);
    smtp_client_destroy(o.client);
    body_unref(o.message.body);
}

int main(int argc, char **argv)
{
    size_t size = MAX_OF(argc > 1 ? strtoul(argv[1], NULL, 10) : 10240, 2UL);
    unsigned long count = MAX_OF(argc > 2 ? strtoul(argv[2], NULL, 10) : 500000, 1UL);

    measure("full", SMTP_PIPELINING_FULL, size, false, count);
    measure("full-dots", SMTP_PIPELINING_FULL, size, true, count);
    measure("commands", SMTP_PIPELINING_COMMANDS, size, false, count);
    return 0;
}

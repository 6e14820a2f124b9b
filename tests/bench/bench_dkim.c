/*
 * Signatures per second of the pool, and what the receiving thread pays for a message.  A new key of each
 * kind in a folder of its own; 50 messages wait at any time, as 50 sessions would.
 *
 *     bench_dkim [BODY_BYTES [SECONDS [THREADS]]]     prints key=value, one line for each set of keys
 *
 * Beside it: openssl speed -multi THREADS rsa2048 ed25519
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/dkim/dkim.h"
#include "engine/dkim/key.h"

#define SESSIONS 50

static const char header[] =
    "From: Shop <news@shop.example>\r\nTo: Customer <customer@domain.example>\r\n"
    "Subject: =?utf-8?Q?This_week_in_the_shop?=\r\nDate: Sat, 21 Nov 2026 22:00:00 +0000\r\n"
    "Message-ID: <20261121220000.1234567@shop.example>\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n"
    "List-Unsubscribe: <https://shop.example/u/0123456789abcdef>\r\n"
    "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n";

struct bench {
    struct dkim *dkim;
    struct inbox inbox;
    struct doorbell bell;
    struct buf body;
    unsigned long done;
    bool over;
    double receiving_s; /* CPU time of this thread: what a worker would spend */
    unsigned long begun;
};

struct session {
    struct dkim_request request;
    struct bench *bench;
};

static double thread_seconds(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(bool right, const char *what)
{
    if (right)
        return;
    fprintf(stderr, "bench_dkim: %s\n", what);
    exit(1);
}

static void on_signed(struct note *note, void *owner);

/* One message as the receiving side makes it. */
static void send_one(struct session *s)
{
    struct bench *b = s->bench;
    const struct bytes section = bytes_of(header);
    double start = thread_seconds(CLOCK_THREAD_CPUTIME_ID);
    struct body_writer *w = body_writer_create(NULL);
    struct dkim_signing *signing = dkim_signing_begin(b->dkim, &section, 1, NULL);
    struct body *body = NULL;

    must(signing != NULL, "no key signs");
    enum err e = body_writer_put(w, dkim_signing_fields(signing));
    if (!e)
        e = body_writer_put(w, section);
    if (!e)
        e = body_writer_put(w, BYTES("\r\n"));
    for (struct bytes rest = buf_bytes(&b->body); rest.len && !e; rest = bytes_skip(rest, 16384)) {
        dkim_signing_body(signing, bytes_first(rest, 16384));
        e = body_writer_put(w, bytes_first(rest, 16384));
    }
    must(!e && body_writer_finish(w, &body) == OK, "no memory");
    s->request =
        (struct dkim_request){.reply_to = &b->inbox, .on_reply = on_signed, .signing = signing, .body = body};
    must(dkim_post(b->dkim, &s->request) == OK, "the pool is full");
    b->receiving_s += thread_seconds(CLOCK_THREAD_CPUTIME_ID) - start;
    b->begun++;
}

static void on_signed(struct note *note, void *owner)
{
    struct session *s = CONTAINER_OF(note, struct session, request.note);
    struct bench *b = owner;

    must(s->request.result == OK, "a signature failed");
    body_unref(s->request.body);
    b->done++;
    if (!b->over)
        send_one(s);
}

static void run(struct bench *b, const char *name, uint64_t seconds)
{
    static struct session sessions[SESSIONS];
    uint64_t start_us = clock_now_us(), end_us = start_us + seconds * 1000000;
    double cpu_before = thread_seconds(CLOCK_PROCESS_CPUTIME_ID);
    struct dkim_stats stats;

    for (size_t i = 0; i < SESSIONS; i++) {
        sessions[i].bench = b;
        send_one(&sessions[i]);
    }
    while (b->done < b->begun) {
        doorbell_wait(&b->bell, 1000);
        b->over = clock_now_us() >= end_us;
        inbox_drain(&b->inbox);
    }
    double spent = (double)(clock_now_us() - start_us) / 1e6;
    double cpu = thread_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_before;
    dkim_stats(b->dkim, &stats);
    printf("keys=%s backend=\"%s\" threads=%u octets=%zu messages_per_s=%.0f signatures_per_s=%.0f "
           "sign_us=%.1f wait_ms=%.2f receiving_us=%.1f cpu_us_per_message=%.1f\n",
           name, dkim_backend_name(), stats.threads, b->body.len, (double)b->done / spent,
           (double)stats.signatures / spent, (double)stats.sign_us_total / (double)stats.signatures,
           (double)stats.wait_us_total / 1000 / (double)b->done, b->receiving_s * 1e6 / (double)b->done,
           cpu * 1e6 / (double)b->done);
}

static char *make_key(const char *dir, const char *name, enum dkim_algorithm a)
{
    char *file = text_format("%s/%s", dir, name), *why = NULL;
    BUF_LOCAL(pem);

    must(dkim_key_generate(a, &pem) == OK && dkim_key_write(file, buf_bytes(&pem), &why) == OK, "no key");
    return file;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        size_t first, count;
    } sets[] = {{"rsa2048", 0, 1}, {"ed25519", 1, 1}, {"both", 0, 2}};
    size_t octets = argc > 1 ? strtoul(argv[1], NULL, 10) : 10240;
    uint64_t seconds = argc > 2 ? strtoul(argv[2], NULL, 10) : 3;
    char dir[] = "/tmp/hayauma-bench-dkim-XXXXXX", domain[] = "shop.example", s1[] = "s1", s2[] = "s2";

    must(mkdtemp(dir) != NULL, "no folder in /tmp");
    struct conf_dkim_key keys[] = {
        {.domain = domain, .selector = s1, .key = make_key(dir, "rsa", DKIM_RSA)},
        {.domain = domain, .selector = s2, .key = make_key(dir, "ed25519", DKIM_ED25519)},
    };
    for (size_t i = 0; i < COUNT_OF(sets); i++) {
        struct conf conf = {
            .dkim = {.keys = {keys + sets[i].first, sets[i].count}, .timestamp = true, .queue = 10000}};
        struct bench b = {.dkim = dkim_create()};
        struct dkim_keyring *ring = NULL;
        char *why = NULL;
        conf.dkim.threads = argc > 3 ? atol(argv[3]) : 0;
        while (b.body.len < octets)
            buf_puts(&b.body,
                     "<p>A line of a letter as shops send them, seventy-odd octets long.</p>  =\r\n");
        doorbell_init(&b.bell);
        inbox_init(&b.inbox, &b, doorbell_ring, &b.bell);
        must(dkim_prepare(&conf, &ring, &why) == OK, why);
        dkim_use(b.dkim, ring, &conf);
        run(&b, sets[i].name, seconds);
        dkim_destroy(b.dkim);
        doorbell_fini(&b.bell);
        buf_fini(&b.body);
    }
    for (size_t i = 0; i < COUNT_OF(keys); i++) {
        unlink(keys[i].key);
        mem_free(keys[i].key);
    }
    rmdir(dir);
    return 0;
}

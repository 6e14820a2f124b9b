/*
 * What the history thread costs: posts attempts as a worker would and prints key=value.
 *
 *     bench_history [attempts] [domains] [attempts per batch] [directory] [sessions per batch]
 *
 * history_cpu_us counts the history thread alone: making the batches is the worker's.  With sessions it is
 * the cost of an attempt and its share of them, and the day's sums are read once: sums_ms.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "queue/history.h"
#include "queue/report_sessions.h"
#include "queue/store.h"

static atomic_size_t handed_on;
static int64_t last_row;

/* Stands in for the store: the bench links no store. */
void store_post_results(struct store *s, struct attempt_batch *batch, int64_t day, int64_t row)
{
    (void)s;
    (void)day;
    last_row = row;
    atomic_fetch_add(&handed_on, batch->count);
    attempt_batch_destroy(batch);
}

static double cpu_us(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void fill(struct attempt_batch *b, size_t n, size_t domains)
{
    struct attempt *a = attempt_batch_add(b);
    struct arena *m = &b->arena;
    /* A skewed choice: half of the mail goes to ten domains, as it does in life. */
    size_t d = n % 2 ? n / 2 % 10 : (n * 2654435761U) % domains;
    bool tls = d % 5 != 0;

    a->message_id = n / 4;
    a->rcpt_no = (uint32_t)(n % 4);
    a->domain = arena_printf(m, "domain%zu.example", d);
    a->address = arena_printf(m, "recipient.number.%zu@%s", n, a->domain);
    a->campaign = arena_strdup(m, n % 3 ? "spring-newsletter-2026" : "receipts");
    a->account = arena_strdup(m, "shop");
    a->sender = arena_strdup(m, "bounces@shop.example");
    a->accepted_unix = clock_unix();
    a->size_bytes = 10240;
    a->policy_version = 7;
    a->group = arena_strdup(m, d < 3 ? "mobile" : "default");
    a->match_pattern = arena_strdup(m, "");
    a->mx = arena_printf(m, "mx%zu.domain%zu.example", n % 2, d);
    a->remote = arena_printf(m, "127.0.%zu.%zu:25", d / 250 % 250, d % 250);
    a->source = arena_strdup(m, "127.0.0.1");
    a->attempts = 1;
    a->at_unix_ms = clock_unix_ms();
    a->duration_ms = 12;
    a->tls_wanted = a->tls_effective = TLS_ON;
    a->tls_offered = tls;
    if (tls) {
        a->tls_version = "TLS1.3";
        a->tls_cipher = "TLS_AES_256_GCM_SHA384";
        a->tls_verify = TLS_VERIFY_PKIX;
        a->tls_kx = "ECDHE-X25519";
        a->cert_expires_unix = (int64_t)(20500 + d % 90) * 86400 + 3600;
    }
    a->dane = DANE_RESULT_NONE;
    a->sts = d % 10 ? STS_RESULT_NONE : STS_RESULT_OK;
    a->then = n % 50 ? THEN_REMOVE : THEN_DEFER;
    a->outcome.kind = n % 50 ? OUTCOME_DELIVERED : OUTCOME_DEFERRED;
    a->outcome.stage = STAGE_DOT;
    a->outcome.code = n % 50 ? 250 : 451;
    snprintf(a->outcome.enhanced, sizeof(a->outcome.enhanced), n % 50 ? "2.0.0" : "4.7.1");
    if (n % 50)
        snprintf(a->outcome.text, sizeof(a->outcome.text), "Ok: queued as %zx4Zq", n * 7919);
    else
        snprintf(a->outcome.text, sizeof(a->outcome.text), "Greylisted, please try again later");
    a->outcome.remote = true;
}

static void fill_session(struct attempt_batch *b, size_t n, size_t domains)
{
    struct session_record *r = attempt_batch_add_session(b);
    struct arena *m = &b->arena;
    size_t d = n % 2 ? n / 2 % 10 : (n * 2654435761U) % domains;
    bool failed = d % 7 == 0;

    r->at_unix_ms = clock_unix_ms();
    r->group = arena_strdup(m, d < 3 ? "mobile" : "default");
    r->domain = arena_printf(m, "domain%zu.example", d);
    r->mx = arena_printf(m, "mx%zu.domain%zu.example", n % 2, d);
    r->remote = arena_printf(m, "127.0.%zu.%zu:25", d / 250 % 250, d % 250);
    r->source = arena_strdup(m, "127.0.0.1");
    r->helo = arena_printf(m, "host%zu.domain%zu.example", n % 2, d);
    r->tls_wanted = r->tls_effective = TLS_ON;
    r->tls_version = "TLS1.3";
    r->tls_cipher = "TLS_AES_256_GCM_SHA384";
    r->tls_kx = "ECDHE-X25519";
    r->tls_verify = failed ? TLS_VERIFY_EXPIRED : TLS_VERIFY_PKIX;
    r->tls_failure = failed ? TLS_FAILURE_CERTIFICATE_EXPIRED : TLS_FAILURE_NONE;
    r->cert_expires_unix = (int64_t)(20500 + d % 90) * 86400;
    r->counted = true;
}

static unsigned long read_sums(const char *dir, size_t *rows)
{
    struct report_sessions sums;
    uint64_t start = clock_now_us();

    if (report_sessions(dir, &(struct report_sessions_query){0}, &sums))
        return 0;
    *rows = sums.count;
    report_sessions_fini(&sums);
    return (unsigned long)((clock_now_us() - start) / 1000);
}

int main(int argc, char **argv)
{
    size_t count = argc > 1 ? strtoul(argv[1], NULL, 10) : 500000;
    size_t domains = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000;
    size_t per_batch = argc > 3 ? strtoul(argv[3], NULL, 10) : 16;
    char temporary[] = "/tmp/bench_history.XXXXXX";
    const char *dir = argc > 4 && *argv[4] ? argv[4] : mkdtemp(temporary);
    size_t sessions = argc > 5 ? strtoul(argv[5], NULL, 10) : 0, session = 0, sums = 0;
    struct history *h;
    char *why = NULL;

    if (!dir || !domains || !per_batch)
        return 2;
    log_setup(STDERR_FILENO, LOG_LEVEL_WARN, LOG_FORMAT_TEXT);
    if (history_open(dir, 0, &h, &why)) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    history_attach(h, (struct store *)(uintptr_t)&handed_on);
    uint64_t start = clock_now_us();
    double own = cpu_us(CLOCK_THREAD_CPUTIME_ID), all = cpu_us(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t n = 0; n < count;) {
        struct attempt_batch *b = attempt_batch_create();
        for (size_t i = 0; i < per_batch && n < count; i++)
            fill(b, n++, domains);
        for (size_t i = 0; i < sessions; i++)
            fill_session(b, session++, domains);
        history_post(h, b);
        while (history_backlog(h) > 2000)
            usleep(200);
    }
    while (history_backlog(h))
        usleep(200);
    double seconds = (double)(clock_now_us() - start) / 1e6;
    history_close(h, 10000);
    own = cpu_us(CLOCK_THREAD_CPUTIME_ID) - own;
    all = cpu_us(CLOCK_PROCESS_CPUTIME_ID) - all;
    printf("attempts=%zu domains=%zu per_batch=%zu seconds=%.2f per_second=%.0f history_cpu_us=%.2f "
           "worker_cpu_us=%.2f"
           " dir=%s\n",
           atomic_load(&handed_on), domains, per_batch, seconds, (double)count / seconds,
           (all - own) / (double)count, own / (double)count, dir);
    if (session) {
        unsigned long ms = read_sums(dir, &sums);
        printf("sessions=%zu sums=%zu sums_ms=%lu\n", session, sums, ms);
    }
    return atomic_load(&handed_on) == count ? 0 : 1;
}

/*
 * The store alone: accept, hand out, settle, with bodies of a given size, and what that costs the store
 * thread.
 *
 *     bench_store DIR [messages=50000] [body=10240] [window=500] [domains=10] [workers=1] [cold=0] [rcpts=1]
 * [differ=1]
 *
 * Bodies are equally long.  differ=1: each has octets of its own near its end; differ=2: where the store does
 * not look when it asks what repeats; differ=0: all contents are equal, and stored once.  Figures are per
 * message, whatever the number of its recipients.  cold=1: every domain is cold, so that all mail goes
 * through pages.  Prints key=value.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/store.h"

struct bench {
    struct store *store;
    struct inbox inbox;
    struct doorbell bell;
    uint64_t messages, body_bytes, window, domains, workers, cold, rcpts, differ;
    uint64_t sent, accepted, failed, handed, in_flight, settled;
    uint64_t *started_us, *latency_us;
    char (*names)[40];
    char *pattern;
    bool *paging, *again;
};

static uint64_t cpu_us(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void settle(struct bench *b, struct list *jobs)
{
    struct attempt_batch *batch = attempt_batch_create();

    for (struct list *node; (node = list_pop(jobs));) {
        struct job *j = LIST_ENTRY(node, struct job, node);
        for (uint32_t i = 0; i < j->rcpt_count; i++) {
            struct attempt *a = attempt_batch_add(batch);
            a->message_id = j->message->id;
            a->rcpt_no = j->rcpts[i].no;
            a->then = THEN_REMOVE;
            a->outcome.kind = OUTCOME_DELIVERED;
            b->handed++;
        }
        job_destroy(j);
    }
    store_post_results(b->store, batch, 1, (int64_t)b->handed);
}

static void on_jobs(struct note *note, void *owner)
{
    struct store_jobs *j = CONTAINER_OF(note, struct store_jobs, note);

    settle(owner, &j->jobs);
    store_jobs_destroy(j);
}

static void on_wake(struct note *note, void *owner)
{
    (void)owner;
    store_wake_destroy(CONTAINER_OF(note, struct store_wake, note));
}

static void on_final_due(struct note *note, void *owner)
{
    (void)owner;
    mem_free(note);
}

static void ask_page(struct bench *b, size_t domain);

static void on_page(struct note *note, void *owner)
{
    struct bench *b = owner;
    struct store_page *p = CONTAINER_OF(note, struct store_page, req.note);
    size_t domain = (size_t)strtoul(p->domain + 1, NULL, 10);

    settle(b, &p->jobs);
    b->paging[domain] = false;
    if (!p->more)
        store_post_cold(b->store, p->domain);
    if (p->more || b->again[domain])
        ask_page(b, domain);
    store_page_destroy(p);
}

static void ask_page(struct bench *b, size_t domain)
{
    b->again[domain] = b->paging[domain];
    if (b->paging[domain])
        return;
    struct store_page *p = MEM_NEW(struct store_page);
    p->domain = mem_strdup(b->names[domain]);
    p->limit = 500;
    p->req.reply_to = &b->inbox;
    p->req.on_reply = on_page;
    b->paging[domain] = true;
    store_post_page(b->store, p);
}

static void on_accepted(struct note *note, void *owner)
{
    struct bench *b = owner;
    struct store_accept *a = CONTAINER_OF(note, struct store_accept, req.note);
    uint64_t n = (uint64_t)strtoull(a->message->envid, NULL, 10);

    b->latency_us[b->accepted + b->failed] = clock_now_us() - b->started_us[n];
    if (a->req.result)
        b->failed++;
    else
        b->accepted++;
    b->in_flight--;
    if (b->cold)
        ask_page(b, n % b->domains);
    store_accept_destroy(a);
}

static void send_one(struct bench *b)
{
    char text[24], address[80];
    uint64_t n = b->sent++;

    snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
    snprintf(address, sizeof(address), "user%llu@%s", (unsigned long long)n, b->names[n % b->domains]);
    struct rcpt *rcpts = mem_zalloc(b->rcpts * sizeof(*rcpts));
    for (uint32_t i = 0; i < b->rcpts; i++)
        rcpts[i] = (struct rcpt){.no = i, .address = address, .domain = b->names[n % b->domains]};
    struct body *body = body_create(mem_dup(b->pattern, b->body_bytes), b->body_bytes);
    if (b->differ && b->body_bytes > 300)
        memcpy(body->mem + (b->differ == 1 ? b->body_bytes - sizeof(text) : b->body_bytes / 3), text,
               sizeof(text));
    body_measure(body);
    struct message m = {.id = message_id_make(0),
                        .accepted_unix = clock_unix(),
                        .sender = "news@sender.example",
                        .campaign = "spring",
                        .envid = text,
                        .account = "bench",
                        .body = body,
                        .rcpt_count = (uint32_t)b->rcpts,
                        .rcpt_total = (uint32_t)b->rcpts,
                        .rcpts = rcpts};
    struct store_accept *a = MEM_NEW(struct store_accept);
    a->message = message_create(&m);
    mem_free(rcpts);
    body_unref(body);
    a->req.reply_to = &b->inbox;
    a->req.on_reply = on_accepted;
    b->started_us[n] = clock_now_us();
    b->in_flight++;
    store_post_accept(b->store, a);
}

static void parse(struct bench *b, int argc, char **argv)
{
    const struct {
        const char *name;
        uint64_t *at;
    } keys[] = {{"messages", &b->messages}, {"body", &b->body_bytes}, {"window", &b->window},
                {"domains", &b->domains},   {"workers", &b->workers}, {"cold", &b->cold},
                {"rcpts", &b->rcpts},       {"differ", &b->differ}};

    for (int i = 2; i < argc; i++)
        for (size_t k = 0; k < COUNT_OF(keys); k++)
            if (strncmp(argv[i], keys[k].name, strlen(keys[k].name)) == 0 &&
                argv[i][strlen(keys[k].name)] == '=')
                *keys[k].at = strtoull(strchr(argv[i], '=') + 1, NULL, 10);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    struct bench b = {.messages = 50000,
                      .body_bytes = 10240,
                      .window = 500,
                      .domains = 10,
                      .workers = 1,
                      .rcpts = 1,
                      .differ = 1};
    char *why;

    if (argc < 2) {
        fprintf(stderr, "bench_store DIR [messages=] [body=] [window=] [domains=] [workers=] [cold=] "
                        "[rcpts=] [differ=]\n");
        return 2;
    }
    parse(&b, argc, argv);
    b.names = mem_alloc(b.domains * sizeof(*b.names));
    for (uint64_t i = 0; i < b.domains; i++)
        snprintf(b.names[i], sizeof(*b.names), "d%llu.example", (unsigned long long)i);
    b.started_us = mem_zalloc(b.messages * sizeof(uint64_t));
    b.latency_us = mem_zalloc(b.messages * sizeof(uint64_t));
    b.paging = mem_zalloc(b.domains);
    b.again = mem_zalloc(b.domains);
    b.pattern = mem_alloc(b.body_bytes);
    memset(b.pattern, 'x', b.body_bytes);
    for (uint64_t i = 0; i + 80 < b.body_bytes; i += 80)
        memcpy(b.pattern + i, "\r\n", 2);
    if (b.body_bytes > 300)
        memcpy(b.pattern, "Subject: news\r\n\r\n", 17);
    doorbell_init(&b.bell);
    inbox_init(&b.inbox, &b, doorbell_ring, &b.bell);
    struct inbox *inboxes[64];
    for (size_t i = 0; i < COUNT_OF(inboxes); i++)
        inboxes[i] = &b.inbox;
    struct store_config config = {.dir = argv[1],
                                  .segment_bytes = 64 << 20,
                                  .wal_limit_bytes = 64 << 20,
                                  .workers = (unsigned)b.workers,
                                  .inboxes = inboxes,
                                  .on_jobs = on_jobs,
                                  .on_wake = on_wake,
                                  .on_final_due = on_final_due};
    if (store_open(&config, &b.store, &why)) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    store_start(b.store);
    for (uint64_t i = 0; b.cold && i < b.domains; i++)
        store_post_cold(b.store, b.names[i]);
    uint64_t began = clock_now_us();
    uint64_t cpu_all = cpu_us(CLOCK_PROCESS_CPUTIME_ID), cpu_own = cpu_us(CLOCK_THREAD_CPUTIME_ID);
    while (b.handed < (b.messages - b.failed) * b.rcpts || b.in_flight) {
        while (b.sent < b.messages && b.in_flight < b.window)
            send_one(&b);
        doorbell_wait(&b.bell, 100);
        inbox_drain(&b.inbox);
    }
    for (struct store_stats s; store_stats(b.store, &s), s.delivered < b.accepted * b.rcpts;)
        doorbell_wait(&b.bell, 1);
    double took = (double)(clock_now_us() - began);
    double n = (double)b.messages;
    double own = (double)(cpu_us(CLOCK_THREAD_CPUTIME_ID) - cpu_own);
    double all = (double)(cpu_us(CLOCK_PROCESS_CPUTIME_ID) - cpu_all);
    struct store_stats s;
    store_stats(b.store, &s);
    qsort(b.latency_us, b.messages, sizeof(uint64_t), by_value);
    printf("messages=%llu failed=%llu body=%llu window=%llu domains=%llu cold=%llu rcpts=%llu differ=%llu\n",
           (unsigned long long)b.messages, (unsigned long long)b.failed, (unsigned long long)b.body_bytes,
           (unsigned long long)b.window, (unsigned long long)b.domains, (unsigned long long)b.cold,
           (unsigned long long)b.rcpts, (unsigned long long)b.differ);
    printf("per_second=%.0f store_cpu_us=%.2f other_cpu_us=%.2f commits=%llu batch_mean=%.0f "
           "commit_us_mean=%.0f\n",
           n / took * 1e6, (all - own) / n, own / n, (unsigned long long)s.commits, n / (double)s.commits,
           (double)s.commit_us_total / (double)s.commits);
    printf("accept_us_p50=%llu accept_us_p99=%llu accept_us_max=%llu wal_bytes=%llu waiting=%llu "
           "segments=%llu spool_bytes=%llu\n",
           (unsigned long long)b.latency_us[b.messages / 2],
           (unsigned long long)b.latency_us[b.messages * 99 / 100],
           (unsigned long long)b.latency_us[b.messages - 1], (unsigned long long)s.wal_bytes,
           (unsigned long long)s.waiting, (unsigned long long)s.segments, (unsigned long long)s.spool_bytes);
    store_close(b.store);
    return s.waiting != 0 || b.failed != 0;
}

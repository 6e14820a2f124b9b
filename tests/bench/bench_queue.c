/*
 * A long queue: how soon a start delivers, what a page costs, how long lists take.
 *
 *     bench_queue DIR [rows=1000000] [domains=1000]
 *
 * Rows are made by SQL (one recipient a message, all deferred and due), bodies are not.  Prints key=value,
 * times in ms.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/browse.h"
#include "queue/schema.h"

static struct inbox inbox;
static struct doorbell bell;
static uint64_t began_us, first_wake_us;
static size_t woken;
static bool answered;

static double ms_since(uint64_t us)
{
    return (double)(clock_now_us() - us) / 1000;
}

static void on_wake(struct note *note, void *owner)
{
    struct store_wake *w = CONTAINER_OF(note, struct store_wake, note);

    (void)owner;
    if (!woken)
        first_wake_us = clock_now_us();
    woken += w->count;
    store_wake_destroy(w);
}

static void on_jobs(struct note *note, void *owner)
{
    (void)owner;
    store_jobs_destroy(CONTAINER_OF(note, struct store_jobs, note));
}

static void on_final_due(struct note *note, void *owner)
{
    (void)owner;
    mem_free(note);
}

static void on_page(struct note *note, void *owner)
{
    (void)note;
    (void)owner;
    answered = true;
}

static void fill(const char *dir, uint64_t rows, uint64_t domains)
{
    sqlite3 *db;
    bool created;
    char *why, sql[3000];

    if (schema_open(dir, true, &db, &created, &why)) {
        fprintf(stderr, "%s\n", why);
        exit(1);
    }
    if (!created)
        return;
    snprintf(
        sql, sizeof(sql),
        "PRAGMA synchronous = OFF; BEGIN;"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %llu)"
        " INSERT INTO domain SELECT i, 'd' || i || '.example' FROM n;"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %llu)"
        " INSERT INTO message SELECT i, 0, 1700000000, 'news@sender.example', 'campaign' || (i / 5000), NULL,"
        " 'shop', 0, 1, 1, i * 64, 10000, 500, 0, 0 FROM n;"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %llu)"
        " INSERT INTO rcpt SELECT i, 0, 1 + i %% %llu, 1, 1700000000 + i / 100, 1, 0, 0,"
        " 'user' || i || '@d' || (1 + i %% %llu) || '.example', NULL, '450 try later' FROM n;"
        "INSERT INTO segment VALUES(1, %llu, %llu);"
        "UPDATE counter SET messages = %llu, ready = %llu; COMMIT; PRAGMA wal_checkpoint(TRUNCATE)",
        (unsigned long long)domains, (unsigned long long)rows, (unsigned long long)rows,
        (unsigned long long)domains, (unsigned long long)domains, (unsigned long long)rows * 10032,
        (unsigned long long)rows * 10032, (unsigned long long)rows, (unsigned long long)rows);
    if (sql_exec(db, sql)) {
        fprintf(stderr, "%s\n", sqlite3_errmsg(db));
        exit(1);
    }
    sqlite3_close(db);
}

static void page(struct store *s, const char *domain, const char *name)
{
    struct store_page *p = MEM_NEW(struct store_page);
    uint64_t from = clock_now_us();

    p->domain = mem_strdup(domain);
    p->limit = 500;
    p->req.reply_to = &inbox;
    p->req.on_reply = on_page;
    answered = false;
    store_post_page(s, p);
    while (!answered) {
        doorbell_wait(&bell, 1000);
        inbox_drain(&inbox);
    }
    printf(" %s=%.2f", name, ms_since(from));
    store_page_destroy(p);
}

static void start(const char *dir, uint64_t domains)
{
    struct inbox *inboxes[] = {&inbox};
    struct store_config config = {.dir = dir,
                                  .segment_bytes = 64 << 20,
                                  .wal_limit_bytes = 64 << 20,
                                  .workers = 1,
                                  .inboxes = inboxes,
                                  .on_jobs = on_jobs,
                                  .on_wake = on_wake,
                                  .on_final_due = on_final_due};
    struct store *s;
    char *why;

    began_us = clock_now_us();
    if (store_open(&config, &s, &why)) {
        fprintf(stderr, "%s\n", why);
        exit(1);
    }
    printf("open=%.2f", ms_since(began_us));
    store_start(s);
    while (woken < domains && ms_since(began_us) < 60000) {
        doorbell_wait(&bell, 1000);
        inbox_drain(&inbox);
    }
    printf(" first_wake=%.2f all_wakes=%.2f", (double)(first_wake_us - began_us) / 1000, ms_since(began_us));
    page(s, "d1.example", "page");
    page(s, "d1.example", "next_page");
    page(s, "d2.example", "other_page");
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    printf(" rss_mb=%ld\n", use.ru_maxrss / 1024);
    store_close(s);
}

static void list(struct browse *b, const char *name, struct browse_query q)
{
    struct arena arena = {0};
    struct browse_list out = {0};
    uint64_t from = clock_now_us();

    q.limit = 100;
    enum err e = browse_rcpts(b, &q, &arena, &out);
    printf(" %s=%.1f", name, e ? -1.0 : ms_since(from));
    arena_fini(&arena);
}

static void lists(const char *dir)
{
    char *domain[] = {mem_strdup("d7.example")};
    struct queue_selector by_domain = {.domains = domain, .domain_count = 1};
    struct queue_selector by_campaign = {.campaign = mem_strdup("campaign7")};
    struct queue_selector by_last = {.campaign = mem_strdup("none")};
    struct queue_selector by_rcpt = {.recipient = mem_strdup("nobody@d7.example")};
    struct arena arena = {0};
    struct browse_group *groups;
    struct browse *b;
    size_t count;
    uint64_t n = 0;
    char *why;

    if (browse_open(dir, &b, &why)) {
        fprintf(stderr, "%s\n", why);
        exit(1);
    }
    printf("list_ms:");
    list(b, "all", (struct browse_query){0});
    list(b, "by_due", (struct browse_query){.order = BROWSE_BY_DUE});
    list(b, "domain", (struct browse_query){.which = &by_domain});
    list(b, "domain_by_due", (struct browse_query){.which = &by_domain, .order = BROWSE_BY_DUE});
    list(b, "campaign", (struct browse_query){.which = &by_campaign});
    list(b, "campaign_by_due", (struct browse_query){.which = &by_campaign, .order = BROWSE_BY_DUE});
    list(b, "no_campaign", (struct browse_query){.which = &by_last});
    list(b, "no_recipient", (struct browse_query){.which = &by_rcpt});
    list(b, "held", (struct browse_query){.only_state = true, .state = QUEUE_HELD});
    uint64_t from = clock_now_us();
    enum err e = browse_groups(b, BROWSE_GROUP_DOMAIN, 50, &arena, &groups, &count);
    printf(" top_domains=%.1f", e ? -1.0 : ms_since(from));
    from = clock_now_us();
    e = browse_groups(b, BROWSE_GROUP_CAMPAIGN, 50, &arena, &groups, &count);
    printf(" top_campaigns=%.1f", e ? -1.0 : ms_since(from));
    from = clock_now_us();
    e = browse_count(b, &(struct browse_query){.which = &by_campaign}, &n);
    printf(" count_campaign=%.1f", e ? -1.0 : ms_since(from));
    from = clock_now_us();
    e = browse_count(b, &(struct browse_query){.which = &by_domain}, &n);
    printf(" count_domain=%.1f\n", e ? -1.0 : ms_since(from));
    browse_close(b);
    arena_fini(&arena);
}

int main(int argc, char **argv)
{
    uint64_t rows = 1000000, domains = 1000;

    if (argc < 2) {
        fprintf(stderr, "bench_queue DIR [rows=1000000] [domains=1000]\n");
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        if (strncmp(argv[i], "rows=", 5) == 0)
            rows = strtoull(argv[i] + 5, NULL, 10);
        if (strncmp(argv[i], "domains=", 8) == 0)
            domains = strtoull(argv[i] + 8, NULL, 10);
    }
    doorbell_init(&bell);
    inbox_init(&inbox, NULL, doorbell_ring, &bell);
    fill(argv[1], rows, domains);
    printf("rows=%llu domains=%llu\n", (unsigned long long)rows, (unsigned long long)domains);
    start(argv[1], domains);
    lists(argv[1]);
    return 0;
}

/*
 * The store against a plain table of what it ought to hold, under random operations and restarts: each
 * recipient is in exactly one pair of hands, comes back when it ought to with the octets that were sent, and
 * ends once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tests/unit/queue/world.h"

#define DOMAINS  7
#define ROWS_MAX 20000
#define FAR      100000 /* seconds: never due in this test */
#define CONTENTS                                                                                             \
    4 /* what messages share: the last one in files of their own; 0 is short, and never shared               \
       */

enum model_state { M_WAITS, M_HELD, M_DSN, M_BOUNCE, M_CANCEL, M_GONE };
struct model_row {
    uint64_t id;
    uint32_t no;
    int domain;
    enum model_state state;
    bool leased, later;
    unsigned ends;
    uint32_t content;
};

static struct world w;
static struct model_row rows[ROWS_MAX];
static size_t row_count;
static bool cold[DOMAINS];
static uint32_t seed;
static char domains[DOMAINS][24];
static char *contents[CONTENTS];
static const size_t content_sizes[CONTENTS] = {3, 5000, 90000, SPOOL_MEMORY_LIMIT + 1000};
static const char *const campaigns[] = {NULL, "spring", "autumn", "a", "b"};
static const uint32_t flags[] = {0, MESSAGE_HIGH, MESSAGE_LOW};

static uint32_t dice(uint32_t n)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 10) % n;
}

static struct model_row *find_row(uint64_t id, uint32_t no)
{
    for (size_t i = row_count; i-- > 0;)
        if (rows[i].id == id && rows[i].no == no)
            return &rows[i];
    fail_msg("a recipient that was never accepted");
    return NULL;
}

static struct model_row *any(bool leased)
{
    for (int tries = 0; row_count && tries < 60; tries++) {
        struct model_row *r = &rows[dice((uint32_t)row_count)];
        if (r->leased == leased && r->state != M_GONE)
            return r;
    }
    return NULL;
}

static struct body *body_of(uint32_t content)
{
    struct body_writer *writer = body_writer_create(store_spool(w.store));
    struct body *b = NULL;
    char head[80];
    int len = snprintf(head, sizeof(head), "Subject: %u\r\n\r\n", dice(1000000));

    assert_int_equal(body_writer_put(writer, bytes_make(head, (size_t)len)), OK);
    assert_int_equal(body_writer_put(writer, bytes_make(contents[content], content_sizes[content])), OK);
    assert_int_equal(body_writer_finish(writer, &b), OK);
    return b;
}

static void check_octets(struct body *b, uint32_t content)
{
    size_t len = content_sizes[content];
    char *got = mem_alloc(len);

    if (len < SPOOL_MEMORY_LIMIT)
        assert_int_equal(spool_load(store_spool(w.store), b), OK); /* and it is whole */
    assert_int_equal(b->size_bytes, b->header_bytes + len);
    assert_int_equal(spool_read(store_spool(w.store), b, b->header_bytes, len, got), OK);
    assert_memory_equal(got, contents[content], len);
    mem_free(got);
}

/* The store handed these out: each must have been free, and of that domain. */
static void take_jobs(struct list *jobs)
{
    for (struct list *node; (node = list_pop(jobs));) {
        struct job *j = LIST_ENTRY(node, struct job, node);
        for (uint32_t i = 0; i < j->rcpt_count; i++) {
            struct model_row *r = find_row(j->message->id, j->rcpts[i].no);
            assert_int_equal(r->state, M_WAITS);
            assert_false(r->leased);
            assert_false(r->later);
            assert_string_equal(j->rcpts[i].domain, domains[r->domain]);
            r->leased = true;
        }
        check_octets(j->message->body, find_row(j->message->id, j->rcpts[0].no)->content);
        job_destroy(j);
    }
}

static void do_accept(void)
{
    uint32_t count = 1 + dice(4);
    struct world_rcpt list[4];
    char addresses[4][32];
    int of[4];
    bool later = dice(8) == 0;
    uint64_t id = 0;
    uint32_t content = dice(50) == 0 ? CONTENTS - 1 : dice(CONTENTS - 1);

    if (row_count + count > ROWS_MAX)
        return;
    for (uint32_t i = 0; i < count; i++) {
        of[i] = (int)dice(DOMAINS);
        snprintf(addresses[i], sizeof(addresses[i]), "u%u@%s", dice(50), domains[of[i]]);
        list[i] = (struct world_rcpt){addresses[i], domains[of[i]]};
    }
    w.campaign = campaigns[dice(COUNT_OF(campaigns))];
    w.flags = flags[dice(COUNT_OF(flags))];
    assert_int_equal(world_accept_at(&w, list, count, later ? clock_unix() + FAR : 0, body_of(content), &id),
                     OK);
    size_t hot = 0;
    for (uint32_t i = 0; i < count; i++) {
        rows[row_count++] = (struct model_row){id, i, of[i], M_WAITS, false, later, 0, content};
        hot += !later && !cold[of[i]];
    }
    world_wait_for_jobs(&w, hot);
    assert_int_equal(world_job_count(&w.jobs), hot);
    take_jobs(&w.jobs);
}

/* Often enough not after a delivery: then several come before the rows.  Other results end a lease with the
 * commit. */
static void sync_perhaps(enum model_state now)
{
    if (!world_is_lazy(&w) || now != M_GONE || dice(4) == 0)
        world_sync(&w);
}

static void do_page(void)
{
    int d = (int)dice(DOMAINS);
    uint32_t limit = 1 + dice(30);
    size_t ready = 0, later = 0;
    struct store_page *p = world_page(&w, domains[d], limit);

    for (size_t i = 0; i < row_count; i++) {
        bool free = rows[i].domain == d && rows[i].state == M_WAITS && !rows[i].leased;
        ready += free && !rows[i].later;
        later += free && rows[i].later;
    }
    assert_int_equal(p->req.result, OK);
    assert_int_equal(world_job_count(&p->jobs), MIN_OF(ready, (size_t)limit));
    assert_int_equal(p->more, ready > limit);
    assert_int_equal(p->next_due_unix != 0, later > 0);
    cold[d] = p->more;
    take_jobs(&p->jobs);
    store_page_destroy(p);
}

static void do_result(void)
{
    struct model_row *r = any(true);
    uint32_t what = dice(10);

    if (!r)
        return;
    if (r->state == M_DSN) /* final already: only its end is left */
        what = 0;
    if (what < 5) {
        world_result(&w, r->id, r->no, domains[r->domain], THEN_REMOVE, OUTCOME_DELIVERED, 0);
        r->state = M_GONE;
        r->ends++;
    } else if (what < 8) {
        bool later = dice(2);
        world_result(&w, r->id, r->no, domains[r->domain], THEN_DEFER, OUTCOME_DEFERRED,
                     later ? clock_unix() + FAR : clock_unix() - 5);
        r->later = later;
    } else if (what < 9) {
        world_result(&w, r->id, r->no, domains[r->domain], THEN_DSN, OUTCOME_BOUNCED, 0);
        r->state = M_DSN;
    } else {
        world_result(&w, r->id, r->no, domains[r->domain], THEN_NOTHING, OUTCOME_DEFERRED, 0);
        world_sync(&w);
        return; /* still leased */
    }
    r->leased = false;
    sync_perhaps(r->state);
}

static void do_give_back(void)
{
    struct model_row *r = any(true);
    struct list jobs;

    if (!r || r->state == M_DSN)
        return;
    struct rcpt rcpt = {.no = r->no, .address = "x@y", .domain = domains[r->domain]};
    struct message m = {.id = r->id, .rcpt_count = 1, .rcpt_total = 1, .rcpts = &rcpt};
    struct message *made = message_create(&m);
    list_init(&jobs);
    list_push_back(&jobs, &job_create(made, made->rcpts, 1)->node);
    message_unref(made);
    world_give_back(&w, &jobs);
    r->leased = false;
    world_sync(&w);
}

static bool change(struct model_row *r, enum queue_op op)
{
    switch (op) {
    case QUEUE_RETRY:
        if (r->state != M_WAITS || r->leased || !r->later)
            return false;
        r->later = false;
        return true;
    case QUEUE_HOLD:
        if (r->state != M_WAITS)
            return false;
        r->state = M_HELD;
        return true;
    case QUEUE_RELEASE:
        if (r->state != M_HELD)
            return false;
        r->state = M_WAITS;
        r->later = false;
        return true;
    case QUEUE_BOUNCE:
    case QUEUE_CANCEL:
        if (r->state != M_WAITS && r->state != M_HELD)
            return false;
        r->state = op == QUEUE_BOUNCE ? M_BOUNCE : M_CANCEL;
        return true;
    case QUEUE_PAUSE:
    case QUEUE_EXPIRE:
    case QUEUE_RESUME: break; /* test_campaigns.c */
    }
    return false;
}

static void do_op(void)
{
    static const enum queue_op ops[] = {QUEUE_RETRY,   QUEUE_HOLD,   QUEUE_RELEASE,
                                        QUEUE_RELEASE, QUEUE_BOUNCE, QUEUE_CANCEL};
    enum queue_op op = ops[dice(COUNT_OF(ops))];
    struct queue_selector q = {0};
    const struct model_row *one = any(dice(2));
    int d = (int)dice(DOMAINS);
    uint64_t changed, expected = 0;
    bool by_domain = dice(2), all = op == QUEUE_RETRY || op == QUEUE_RELEASE ? dice(2) : 0;

    if (!one)
        return;
    uint64_t id = one->id;
    if (all) {
        q.all = true;
    } else if (by_domain && (op != QUEUE_BOUNCE && op != QUEUE_CANCEL)) {
        q.domains = mem_alloc(2 * sizeof(char *));
        q.domains[0] = mem_strdup("unknown.example");
        q.domains[1] = mem_strdup(domains[d]);
        q.domain_count = 2;
    } else {
        q.message_id = id;
    }
    for (size_t i = 0; i < row_count; i++)
        if (q.all || (q.domains && rows[i].domain == d) || rows[i].id == q.message_id)
            expected += change(&rows[i], op);
    assert_int_equal(world_op(&w, op, q, &changed), OK);
    assert_int_equal(changed, expected);
}

static bool final_due(const struct model_row *r)
{
    return !r->leased && (r->state == M_DSN || r->state == M_BOUNCE || r->state == M_CANCEL);
}

static void do_finals(void)
{
    uint32_t limit = 1 + dice(20);
    size_t due = 0, got = 0;

    for (size_t i = 0; i < row_count; i++)
        due += final_due(&rows[i]);
    struct store_final_page *p = world_final_page(&w, limit);
    LIST_FOREACH (node, &p->messages) {
        const struct final_message *m = LIST_ENTRY(node, struct final_message, node);
        for (uint32_t i = 0; i < m->count; i++) {
            struct model_row *r = find_row(m->message->id, m->rows[i].rcpt.no);
            assert_true(final_due(r));
            assert_int_equal(m->rows[i].kind, r->state == M_DSN      ? FINAL_DSN_OWED
                                              : r->state == M_BOUNCE ? FINAL_OPERATOR_BOUNCE
                                                                     : FINAL_OPERATOR_CANCEL);
            r->leased = true;
            got++;
        }
    }
    assert_int_equal(got, MIN_OF(due, (size_t)limit));
    store_final_page_destroy(p);
}

static uint64_t shared_bytes;

static void do_restart(void)
{
    shared_bytes += world_stats(&w).shared_bytes;
    world_close(&w);
    memset(cold, 0, sizeof(cold));
    for (size_t i = 0; i < row_count; i++)
        rows[i].leased = false;
    world_must_open(&w);
    for (int i = 0; i < 8; i++)
        world_sync(&w);
    for (int d = 0; d < DOMAINS; d++) {
        size_t waits = 0;
        for (size_t i = 0; i < row_count; i++)
            waits += rows[i].domain == d && rows[i].state == M_WAITS;
        assert_int_equal(world_woken(&w, domains[d], NULL), waits > 0);
    }
}

static void check_sums(void)
{
    struct store_stats s = world_stats(&w);
    size_t waiting = 0, held = 0, messages = 0, leased = 0;
    uint64_t last = 0;

    for (size_t i = 0; i < row_count; i++) {
        enum model_state st = rows[i].state;
        waiting += st == M_WAITS || st == M_BOUNCE || st == M_CANCEL;
        held += st == M_HELD;
        leased += rows[i].leased;
        if (st != M_GONE && rows[i].id != last) {
            last = rows[i].id; /* rows of a message are neighbours */
            messages++;
        }
        assert_true(rows[i].ends == (st == M_GONE));
    }
    assert_int_equal(s.waiting, waiting);
    assert_int_equal(s.held, held);
    assert_int_equal(s.messages, messages);
    assert_int_equal(s.leased, leased);
}

static void random_operations_agree_with_the_model(void **state)
{
    static void (*const doings[])(void) = {do_accept, do_accept,    do_accept, do_page,
                                           do_page,   do_result,    do_result, do_result,
                                           do_result, do_give_back, do_finals, do_op};
    const char *given = getenv("HAYAUMA_TEST_SEED");

    (void)state;
    seed = given ? (uint32_t)strtoul(given, NULL, 10) : (uint32_t)clock_unix_ms();
    print_message("HAYAUMA_TEST_SEED=%u\n", seed);
    for (int d = 0; d < DOMAINS; d++)
        snprintf(domains[d], sizeof(domains[d]), "d%d.example", d);
    for (uint32_t i = 0; i < CONTENTS; i++) {
        contents[i] = mem_alloc(content_sizes[i]);
        for (size_t k = 0; k < content_sizes[i]; k++)
            contents[i][k] = (char)('a' + (k / 7 + i) % 26);
        memcpy(contents[i] + content_sizes[i] - 2, "\r\n", 2);
    }
    world_init(&w);
    world_must_open(&w);
    for (int i = 0; i < 3000; i++) {
        if (dice(40) == 0) {
            int d = (int)dice(DOMAINS);
            store_post_cold(w.store, domains[d]);
            cold[d] = true;
        }
        if (dice(300) == 0)
            do_restart();
        doings[dice(COUNT_OF(doings))]();
        if (dice(100) == 0)
            check_sums();
    }
    /* Everything must be able to end. */
    do_restart();
    world_op(&w, QUEUE_RELEASE, (struct queue_selector){.all = true}, NULL);
    world_op(&w, QUEUE_RETRY, (struct queue_selector){.all = true}, NULL);
    for (size_t i = 0; i < row_count; i++) {
        rows[i].state = rows[i].state == M_HELD ? M_WAITS : rows[i].state;
        rows[i].later = false;
    }
    for (int d = 0; d < DOMAINS; d++) {
        struct store_page *p = world_page(&w, domains[d], ROWS_MAX);
        take_jobs(&p->jobs);
        store_page_destroy(p);
    }
    for (size_t i = 0; i < row_count; i++) {
        if (rows[i].state == M_GONE)
            continue;
        assert_true(rows[i].leased || final_due(&rows[i]));
        world_result(&w, rows[i].id, rows[i].no, domains[rows[i].domain], THEN_REMOVE, OUTCOME_DELIVERED, 0);
        rows[i].state = M_GONE;
        rows[i].ends++;
        rows[i].leased = false;
    }
    check_sums();
    assert_int_equal(world_stats(&w).messages, 0);
    assert_int_equal(w.wrong_owner, 0);
    assert_true(world_stats(&w).segments <= 1); /* the current one */
    assert_true(shared_bytes > 0);
    world_fini(&w);
    for (uint32_t i = 0; i < CONTENTS; i++)
        mem_free(contents[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_operations_agree_with_the_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

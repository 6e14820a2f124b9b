#include "tests/unit/queue/world.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

static struct world *current; /* notes arrive at inboxes whose owner is the index */

static void on_jobs(struct note *note, void *owner)
{
    struct store_jobs *j = CONTAINER_OF(note, struct store_jobs, note);

    LIST_FOREACH (node, &j->jobs) {
        const struct job *job = LIST_ENTRY(node, struct job, node);
        unsigned worker = (unsigned)((struct inbox *)owner - current->inboxes);
        if (store_owner(bytes_of(job->rcpts[0].domain), WORLD_WORKERS) != worker)
            current->wrong_owner++;
    }
    list_move_all(&current->jobs, &j->jobs);
    store_jobs_destroy(j);
}

static void on_wake(struct note *note, void *owner)
{
    struct store_wake *wake = CONTAINER_OF(note, struct store_wake, note);

    (void)owner;
    for (size_t i = 0; i < wake->count; i++) {
        if (current->wake_count == COUNT_OF(current->wakes))
            break;
        snprintf(current->wakes[current->wake_count].domain, 64, "%s", wake->items[i].domain);
        current->wakes[current->wake_count].lane = wake->items[i].lane;
        current->wakes[current->wake_count++].due_unix = wake->items[i].due_unix;
    }
    store_wake_destroy(wake);
}

static void on_final_due(struct note *note, void *owner)
{
    (void)owner;
    current->final_notes++;
    mem_free(note);
}

void world_init(struct world *w)
{
    memset(w, 0, sizeof(*w));
    snprintf(w->dir, sizeof(w->dir), "/tmp/hayauma-test-XXXXXX");
    if (!mkdtemp(w->dir))
        abort();
    doorbell_init(&w->bell);
    list_init(&w->jobs);
    for (unsigned i = 0; i < WORLD_WORKERS; i++) {
        inbox_init(&w->inboxes[i], &w->inboxes[i], doorbell_ring, &w->bell);
        w->inbox_list[i] = &w->inboxes[i];
    }
    w->config = (struct store_config){.dir = w->dir,
                                      .segment_bytes = 1 << 20,
                                      .wal_limit_bytes = 4 << 20,
                                      .workers = WORLD_WORKERS,
                                      .inboxes = w->inbox_list,
                                      .on_jobs = on_jobs,
                                      .on_wake = on_wake,
                                      .on_final_due = on_final_due};
    w->campaign = "spring";
    const char *settle_ms = getenv("HAYAUMA_TEST_SETTLE_MS"); /* the same tests with rows that come later */
    if (settle_ms)
        w->config.settle_ms = (unsigned)strtoul(settle_ms, NULL, 10);
    current = w;
}

enum err world_open(struct world *w, char **why)
{
    current = w;
    enum err e = store_open(&w->config, &w->store, why);
    if (!e)
        store_start(w->store);
    return e;
}

void world_must_open(struct world *w)
{
    char *why = NULL;

    if (!world_open(w, &why))
        return;
    fprintf(stderr, "store_open: %s\n", why);
    abort();
}

void world_forget_jobs(struct world *w)
{
    for (struct list *node; (node = list_pop(&w->jobs));)
        job_destroy(LIST_ENTRY(node, struct job, node));
}

static void drain(struct world *w)
{
    for (unsigned i = 0; i < WORLD_WORKERS; i++)
        inbox_drain(&w->inboxes[i]);
}

void world_close(struct world *w)
{
    store_close(w->store);
    w->store = NULL;
    drain(w);
    world_forget_jobs(w);
    w->wake_count = w->final_notes = 0;
}

static void remove_tree(const char *path)
{
    DIR *d = opendir(path);
    char name[512];

    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
        if (e->d_type == DT_DIR)
            remove_tree(name);
        else
            unlink(name);
    }
    if (d)
        closedir(d);
    rmdir(path);
}

void world_fini(struct world *w)
{
    if (w->store)
        world_close(w);
    remove_tree(w->dir);
    doorbell_fini(&w->bell);
}

struct body *world_body(const char *text)
{
    struct body *b = body_create(mem_strdup(text), strlen(text));
    body_measure(b);
    return b;
}

void world_wait(struct world *w, const bool *answered)
{
    uint64_t until = clock_now_ms() + 60000; /* by time: every answer of a burst rings */

    while (!*answered) {
        doorbell_wait(&w->bell, 1000);
        drain(w);
        if (clock_now_ms() > until)
            abort();
    }
}

/* The answer of the request under way; one at a time. */
static bool answered;

static void on_reply(struct note *note, void *owner)
{
    (void)note;
    (void)owner;
    answered = true;
}

static void prepare(struct world *w, struct store_request *r)
{
    answered = false;
    r->reply_to = &w->inboxes[0];
    r->on_reply = on_reply;
}

enum err world_accept_at(struct world *w, const struct world_rcpt *rcpts, uint32_t count,
                         int64_t not_before_unix, struct body *body, uint64_t *id)
{
    struct rcpt *list = mem_zalloc(count * sizeof(*list));

    for (uint32_t i = 0; i < count; i++)
        list[i] = (struct rcpt){.no = i, .address = rcpts[i].address, .domain = rcpts[i].domain};
    struct message m = {.id = id && *id ? *id : message_id_make(0),
                        .accepted_unix = clock_unix(),
                        .sender = "news@sender.example",
                        .flags = w->flags,
                        .campaign = w->campaign,
                        .account = "shop",
                        .body = body,
                        .rcpt_count = count,
                        .rcpt_total = count,
                        .rcpts = list};
    struct store_accept *a = MEM_NEW(struct store_accept);
    a->message = message_create(&m);
    a->not_before_unix = not_before_unix;
    mem_free(list);
    body_unref(body);
    prepare(w, &a->req);
    if (id)
        *id = m.id;
    store_post_accept(w->store, a);
    world_wait(w, &answered);
    enum err e = a->req.result;
    store_accept_destroy(a);
    if (!e && !world_is_lazy(w)) /* jobs are posted after the answers: make sure that they are here */
        world_sync(w);
    return e;
}

enum err world_accept(struct world *w, const char *address, const char *domain, uint64_t *id)
{
    return world_accept_at(w, &(struct world_rcpt){address, domain}, 1, 0,
                           world_body("Subject: x\r\n\r\nhello\r\n"), id);
}

static struct store_page *get_page(struct world *w, const char *domain, uint32_t limit, int32_t lane)
{
    struct store_page *p = MEM_NEW(struct store_page);

    p->only_lane = lane >= 0;
    p->lane = lane >= 0 ? (uint16_t)lane : 0;
    p->domain = mem_strdup(domain);
    p->limit = limit;
    prepare(w, &p->req);
    store_post_page(w->store, p);
    world_wait(w, &answered);
    return p;
}

struct store_page *world_page(struct world *w, const char *domain, uint32_t limit)
{
    return get_page(w, domain, limit, -1);
}

struct store_page *world_lane_page(struct world *w, const char *domain, uint32_t limit, uint16_t lane)
{
    return get_page(w, domain, limit, lane);
}

bool world_is_lazy(const struct world *w)
{
    return w->config.settle_ms >= 1000;
}

void world_wait_for_jobs(struct world *w, size_t rcpts)
{
    uint64_t until = clock_now_ms() + 10000;

    while (world_job_count(&w->jobs) < rcpts && clock_now_ms() < until) {
        doorbell_wait(&w->bell, 10);
        drain(w);
    }
}

void world_sync(struct world *w)
{
    /* Two rounds: what was taken into the same turn as the first is told by the second. */
    store_page_destroy(world_page(w, "sync.invalid", 1));
    store_page_destroy(world_page(w, "sync.invalid", 1));
    drain(w);
}

struct store_final_page *world_final_page(struct world *w, uint32_t limit)
{
    struct store_final_page *p = MEM_NEW(struct store_final_page);

    p->limit = limit;
    prepare(w, &p->req);
    store_post_final_page(w->store, p);
    world_wait(w, &answered);
    return p;
}

enum err world_op(struct world *w, enum queue_op op, struct queue_selector which, uint64_t *changed)
{
    struct store_op *o = MEM_NEW(struct store_op);

    o->which = which;
    o->op = op;
    prepare(w, &o->req);
    store_post_op(w->store, o);
    world_wait(w, &answered);
    enum err e = o->req.result;
    if (changed)
        *changed = o->changed;
    store_op_destroy(o);
    world_sync(w);
    return e;
}

static void add_result(struct attempt_batch *b, uint64_t id, uint32_t no, const char *domain,
                       enum attempt_then then, enum outcome_kind kind, int64_t due_unix)
{
    struct attempt *a = attempt_batch_add(b);

    a->message_id = id;
    a->rcpt_no = no;
    a->domain = arena_strdup(&b->arena, domain);
    a->mx = "mx.example";
    a->campaign = "spring";
    a->attempts = 1;
    a->then = then;
    a->due_unix = due_unix;
    a->at_unix_ms = clock_unix_ms();
    outcome_local(&a->outcome, kind, STAGE_RCPT, kind == OUTCOME_DELIVERED ? 250 : 450, "", "said the test");
}

void world_result(struct world *w, uint64_t id, uint32_t no, const char *domain, enum attempt_then then,
                  enum outcome_kind kind, int64_t due_unix)
{
    struct attempt_batch *b = attempt_batch_create();

    add_result(b, id, no, domain, then, kind, due_unix);
    store_post_results(w->store, b, 20000, ++w->row);
}

void world_results(struct world *w, uint64_t id, uint32_t first, uint32_t count, const char *domain)
{
    struct attempt_batch *b = attempt_batch_create();

    for (uint32_t i = 0; i < count; i++)
        add_result(b, id, first + i, domain, THEN_REMOVE, OUTCOME_DELIVERED, 0);
    store_post_results(w->store, b, 20000, ++w->row);
}

void world_give_back(struct world *w, struct list *jobs)
{
    store_post_give_back(w->store, jobs);
}

struct job *world_take_job(struct world *w, uint64_t id, uint32_t no)
{
    LIST_FOREACH (node, &w->jobs) {
        struct job *j = LIST_ENTRY(node, struct job, node);
        if (j->message->id != id)
            continue;
        for (uint32_t i = 0; i < j->rcpt_count; i++) {
            if (j->rcpts[i].no != no)
                continue;
            list_remove(&j->node);
            return j;
        }
    }
    return NULL;
}

size_t world_job_count(const struct list *jobs)
{
    size_t n = 0;

    LIST_FOREACH (node, jobs)
        n += LIST_ENTRY(node, struct job, node)->rcpt_count;
    return n;
}

struct store_stats world_stats(struct world *w)
{
    struct store_stats s;

    world_sync(w);
    store_stats(w->store, &s);
    return s;
}

bool world_woken(const struct world *w, const char *domain, int64_t *due_unix)
{
    for (size_t i = 0; i < w->wake_count; i++) {
        if (strcmp(w->wakes[i].domain, domain) != 0)
            continue;
        if (due_unix)
            *due_unix = w->wakes[i].due_unix;
        return true;
    }
    return false;
}

#include "tests/bench/fill.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/schema.h"
#include "queue/store.h"

#define IN_FLIGHT 4000 /* accepts that wait for their commit */

struct filling {
    const struct fill *f;
    struct store *store;
    struct inbox inbox;
    struct doorbell bell;
    uint64_t sent, answered, failed; /* messages */
    char *text;                      /* owned: a body */
    size_t text_len;
};

static void on_accepted(struct note *note, void *owner)
{
    struct filling *w = owner;
    struct store_accept *a = CONTAINER_OF(note, struct store_accept, req.note);

    w->answered++;
    w->failed += a->req.result != OK;
    store_accept_destroy(a);
}

/* Every domain is cold: nothing is handed out. */
static void on_jobs(struct note *note, void *owner)
{
    (void)owner;
    store_jobs_destroy(CONTAINER_OF(note, struct store_jobs, note));
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

static void domain_name(const struct fill *f, uint64_t number, char out[64])
{
    if (f->domain)
        snprintf(out, 64, "%s", f->domain);
    else if (f->domains == 1)
        snprintf(out, 64, "example.test");
    else
        snprintf(out, 64, "d%llu.example.test", (unsigned long long)(number % f->domains));
}

static void make_text(struct filling *w)
{
    static const char line[] = "An offer of the week: the quick brown fox jumps over the lazy dog\r\n";
    BUF_LOCAL(text);

    buf_puts(&text, "From: <sender@source.example>\r\nTo: list@example.test\r\nSubject: an offer\r\n"
                    "Message-ID: <fill.bench@example.test>\r\n\r\n");
    do
        buf_puts(&text, line);
    while (text.len < w->f->body_bytes);
    w->text_len = text.len;
    w->text = buf_take(&text);
}

static void send_one(struct filling *w, uint64_t first, uint32_t count)
{
    struct arena arena = {0};
    struct rcpt *rcpts = arena_alloc(&arena, count * sizeof *rcpts);
    struct body *body = body_create(mem_dup(w->text, w->text_len), w->text_len);

    body_measure(body);
    for (uint32_t i = 0; i < count; i++) {
        char domain[64];
        domain_name(w->f, first + i, domain);
        rcpts[i] = (struct rcpt){.no = i,
                                 .domain = arena_strdup(&arena, domain),
                                 .address = arena_printf(&arena, "%c%llu@%s", w->f->prefix,
                                                         (unsigned long long)(first + i), domain)};
    }
    struct message m = {.id = message_id_make(0),
                        .accepted_unix = clock_unix(),
                        .sender = "sender@source.example",
                        .body = body,
                        .rcpt_count = count,
                        .rcpt_total = count,
                        .rcpts = rcpts};
    struct store_accept *a = MEM_NEW(struct store_accept);
    a->message = message_create(&m);
    a->req.reply_to = &w->inbox;
    a->req.on_reply = on_accepted;
    store_post_accept(w->store, a);
    w->sent++;
    body_unref(body);
    arena_fini(&arena);
}

static void let_rest_on_disk(struct filling *w)
{
    for (uint64_t i = 0; i < (w->f->domain ? 1 : w->f->domains); i++) {
        char domain[64];
        domain_name(w->f, i, domain);
        store_post_cold(w->store, domain);
    }
}

static void send_all(struct filling *w)
{
    for (uint64_t at = 0; at < w->f->rcpts || w->answered < w->sent;) {
        while (at < w->f->rcpts && w->sent - w->answered < IN_FLIGHT) {
            uint32_t count = (uint32_t)MIN_OF(w->f->per_message, w->f->rcpts - at);
            send_one(w, at, count);
            at += count;
        }
        doorbell_wait(&w->bell, 1000);
        inbox_drain(&w->inbox);
    }
}

bool fill_queue(const struct fill *f)
{
    struct filling w = {.f = f};
    struct inbox *inboxes[] = {&w.inbox};
    struct store_config config = {.dir = f->data,
                                  .segment_bytes = 64 << 20,
                                  .wal_limit_bytes = 64 << 20,
                                  .workers = 1,
                                  .inboxes = inboxes,
                                  .on_jobs = on_jobs,
                                  .on_wake = on_wake,
                                  .on_final_due = on_final_due};
    char *why;

    if (mkdir(f->data, 0700) && errno != EEXIST) {
        perror(f->data);
        return false;
    }
    doorbell_init(&w.bell);
    inbox_init(&w.inbox, &w, doorbell_ring, &w.bell);
    if (store_open(&config, &w.store, &why)) {
        fprintf(stderr, "hayauma-bench: %s\n", why);
        mem_free(why);
        return false;
    }
    make_text(&w);
    let_rest_on_disk(&w);
    send_all(&w);
    store_close(w.store);
    inbox_drain(&w.inbox);
    mem_free(w.text);
    if (w.failed)
        fprintf(stderr, "hayauma-bench: %llu messages could not be laid into the queue\n",
                (unsigned long long)w.failed);
    return w.failed == 0;
}

int64_t fill_left(const char *data)
{
    sqlite3 *db;
    sqlite3_stmt *st = NULL;
    int64_t left = -1;
    bool row = false;
    char *why;

    if (schema_open_reader(data, &db, &why)) {
        fprintf(stderr, "hayauma-bench: %s\n", why);
        mem_free(why);
        return -1;
    }
    if (!sql_prepare(db, &st, "SELECT fresh + ready + held + dsn + bounce + cancel + paused FROM counter") &&
        !sql_step(st, &row) && row)
        left = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return left;
}

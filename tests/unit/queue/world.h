/* A store in a directory of its own, played by the test as its only thread: workers are inboxes that it
 * drains. */
#pragma once

#include "queue/browse.h"
#include "queue/store.h"

#define WORLD_WORKERS 2

struct world_rcpt {
    const char *address, *domain;
};

struct world {
    char dir[64];
    struct store *store;
    struct inbox inboxes[WORLD_WORKERS];
    struct inbox *inbox_list[WORLD_WORKERS];
    struct doorbell bell;
    struct store_config config;
    const char *campaign; /* of what is accepted: "spring" unless a test says otherwise */
    uint32_t flags;       /* of what is accepted */
    struct list jobs;     /* handed out after accept */
    size_t wrong_owner;   /* jobs that came to the wrong worker */
    struct {
        char domain[64];
        int64_t due_unix;
        int32_t lane;
    } wakes[16384];
    size_t wake_count, final_notes;
    int64_t row; /* of the last results */
};

void world_init(struct world *w); /* a new directory; nothing open */
enum err world_open(struct world *w, char **why);
void world_must_open(struct world *w);
void world_close(struct world *w); /* drops all jobs: as a stopped daemon would */
void world_fini(struct world *w);  /* closes and removes the directory */
void world_forget_jobs(struct world *w);

struct body *world_body(const char *text); /* measured */
/* Accepts one message to all of rcpts (count of them), waits for the answer. */
enum err world_accept_at(struct world *w, const struct world_rcpt *rcpts, uint32_t count,
                         int64_t not_before_unix, struct body *body, uint64_t *id);
enum err world_accept(struct world *w, const char *address, const char *domain, uint64_t *id);
/* Waits until everything posted so far was dealt with, and has its rows. */
void world_sync(struct world *w);
/* With a settle_ms of a second or more, accepts are left without rows: their jobs are waited for by their number. */
bool world_is_lazy(const struct world *w);
void world_wait_for_jobs(struct world *w, size_t rcpts);
/* The caller destroys it. */
struct store_page *world_page(struct world *w, const char *domain, uint32_t limit);
struct store_page *world_lane_page(struct world *w, const char *domain, uint32_t limit, uint16_t lane);
struct store_final_page *world_final_page(struct world *w, uint32_t limit);
enum err world_op(struct world *w, enum queue_op op, struct queue_selector which, uint64_t *changed);
/* One result; the job is not touched. */
void world_result(struct world *w, uint64_t id, uint32_t no, const char *domain, enum attempt_then then,
                  enum outcome_kind kind, int64_t due_unix);
/* Recipients [first, first + count) delivered, in one batch. */
void world_results(struct world *w, uint64_t id, uint32_t first, uint32_t count, const char *domain);
void world_give_back(struct world *w, struct list *jobs);
/* The job of that recipient taken out of w->jobs, or NULL. */
struct job *world_take_job(struct world *w, uint64_t id, uint32_t no);
size_t world_job_count(const struct list *jobs); /* recipients */
struct store_stats world_stats(struct world *w);
bool world_woken(const struct world *w, const char *domain, int64_t *due_unix);
/* Sends a request that world_wait() will see answered. */
void world_wait(struct world *w, const bool *answered);

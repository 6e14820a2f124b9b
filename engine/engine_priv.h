/* What the files engine*.c share. */
#pragma once

#include <pthread.h>

#include "base/list.h"
#include "engine/deliver/deliver.h"
#include "engine/engine.h"
#include "engine/shadow.h"
#include "engine/submit/submit.h"
#include "engine/watchdog.h"
#include "engine/worker.h"
#include "queue/browse.h"

struct conf_kept { /* a configuration that somebody may still read */
    struct conf conf;
    struct conf_kept *older;
};

struct engine {
    struct shared shared;
    struct conf_kept *confs; /* newest first */
    struct listener **listeners;
    size_t listener_count;
    struct worker **workers;
    struct inbox **inboxes; /* of the workers, for the store */
    unsigned worker_count;
    pthread_mutex_t lock;    /* of policy and of changes to it */
    struct policy *policy;   /* counted */
    struct shadow *shadow;   /* counted; NULL: no shadow rules; under the same lock */
    uint64_t shadow_version; /* the last that was given out */
    char *policy_file_text;  /* what policy_file held when it was last applied or first seen */
    char *includes_seen;     /* what the files that the policy includes held then: engine_include.c; under the
                                lock */
    struct certificate_watch *certificates; /* owned; main's thread: engine_certificates.c */
    int64_t started_unix;
    _Atomic(bool) draining;
    struct watchdog *watchdog; /* owned */
    struct pulse main_pulse;
};

/* Posts a request of the store and waits for its answer.  Not from a worker. */
typedef void (*engine_post_fn)(struct store *s, void *request);
struct engine_wait {
    struct inbox inbox;
    struct doorbell bell;
};
void engine_wait_begin(struct engine_wait *wait, struct store_request *req);
void engine_wait_end(struct engine_wait *wait);

/* `intro`, and a line for each error. */
char *engine_policy_complaint(const struct yaml_errors *errors, const char *intro);
/* ---- engine_include.c ---- */
/* Under the lock, when a policy has come into force: an edit of its included files is one from here on. */
void engine_includes_remember(struct engine *e);
/* SIGHUP: an included file that was edited since makes a new version of what is in force.  `notes` tells. */
enum err engine_includes_reload(struct engine *e, struct buf *notes);
enum err engine_load_policy(struct engine *e,
                            char **why); /* at start: the newest version, or makes version 1 */
/* ---- engine_campaigns.c ---- */
/* At start: a crash may have come between the guard's pause and its event. */
MUST_CHECK enum err engine_open_campaigns(struct engine *e);
void engine_watch_campaigns(struct engine *e); /* once a second, main's thread: what the guard caught is paused, what is over expires */
json_t *engine_campaigns_json(struct engine *e); /* for status */
void engine_campaigns_metrics(struct engine *e, struct buf *out);
/* ---- engine_sources.c ---- */
void engine_watch_sources(struct engine *e); /* once a second, main's thread */
void engine_sources_changed(struct engine *e);
json_t *engine_sources_status(struct engine *e);
void engine_sources_metrics(struct engine *e, struct buf *out);
/* ---- engine_dnssec.c ---- */
json_t *engine_dnssec_json(struct engine *e); /* for status */
void engine_dnssec_metrics(struct engine *e, struct buf *out);

/* ---- engine_shaping.c ---- */
void engine_watch_shaping(struct engine *e); /* once a second, main's thread */
json_t *engine_shaping_json(struct engine *e,
                            json_t *groups); /* for status: sums; each group's own go into `groups` */

/* ---- engine_shadow.c ---- */
json_t *engine_shadow_json(struct engine *e); /* for status: null without shadow rules */
void engine_shadow_metrics(struct engine *e, struct buf *out);

enum err engine_reload_policy_file(struct engine *e, struct buf *notes);

/* ---- engine_certificates.c; main's thread ---- */
/* Loads all first, then swaps: a bad file leaves every listener as it was. */
json_t *engine_sts_json(struct engine *e); /* numbers, for status */
void engine_sts_metrics(struct engine *e, struct buf *out);
enum err engine_set_certificates(struct engine *e, char **why);
/* Once a second: files that were renewed are loaded, what goes wrong with certificates is said once a day. */
void engine_watch_certificates(struct engine *e);
void engine_forget_certificates(struct engine *e);
/* Any thread. */
json_t *engine_certificates_json(struct listener *l);
void engine_certificates_metrics(struct engine *e, struct buf *out);

/*
 * The running engine as others steer it: the API and main.c.  All calls may come from any thread but the
 * workers; those marked "waits" post to the owner and block until it has answered.
 */
#pragma once

#include <jansson.h>

#include "base/arena.h"
#include "engine/conf.h"
#include "engine/sources.h"
#include "engine/tlswatch.h"
#include "policy/policy.h"
#include "queue/history.h"
#include "queue/store.h"

struct engine;

/*
 * Binds listeners, drops privileges, opens store and history, makes the workers.  The contents of *conf are
 * the engine's now, even on failure.  *why: a sentence that says what to do (mem_free).
 */
MUST_CHECK enum err engine_create(struct conf *conf, struct engine **out, char **why);
MUST_CHECK enum err engine_start(struct engine *e, char **why);
/* SIGTERM: 421 to clients, transactions in work end, then stops; waits up to the grace. */
void engine_drain(struct engine *e);
void engine_destroy(struct engine *e);
/* SIGHUP: what the new configuration may change live, certificates, policy file.  `notes` tells what
 * needs a restart; on failure what is wrong, and everything stays as it was.  Takes the contents of *conf. */
MUST_CHECK enum err engine_reload(struct engine *e, struct conf *conf, struct buf *notes);
/* Once a second, by main: what wants to be looked at in time. */
void engine_watch(struct engine *e);
/*
 * After engine_drain: a thread that others rely on is stuck, and would not end either.  What the others have done is on
 * stable storage when this returns true, and the process may end at once, as in a crash: nothing that was answered is lost.
 */
bool engine_must_be_left(struct engine *e);
bool engine_is_stuck(struct engine *e); /* any thread; engine/watchdog.h */

struct store *engine_store(struct engine *e);
/* browse_open() once all that was accepted before has its rows.  Not from a worker: blocks for a commit. */
struct browse;
MUST_CHECK enum err engine_browse(struct engine *e, struct browse **out, char **why);
struct history *engine_history(struct engine *e);
const struct conf *engine_conf(struct engine *e);

/* ---- policy ---- */
struct policy *engine_policy(struct engine *e); /* current snapshot, counted */
/* Checks, stores as a new version, applies to all workers at once.  Waits. ERR_INVALID: see errors; ERR_BUSY:
 * expected_version is not the current one (0: not checked). */
MUST_CHECK enum err engine_policy_apply(struct engine *e, struct bytes text, const char *author,
                                        const char *comment, uint64_t expected_version, uint64_t *version,
                                        struct yaml_errors *errors);
/* The same checks, and nothing stored or applied.  Any thread. */
MUST_CHECK enum err engine_policy_check(struct engine *e, struct bytes text, struct yaml_errors *errors);

/* ---- queue ---- */
/* Waits. Also calls matching jobs back from the workers' memory first.  group (or NULL) is resolved by the
 * current policy. */
MUST_CHECK enum err engine_queue_op(struct engine *e, struct queue_selector *which, const char *group,
                                    enum queue_op op, uint64_t *changed);
/*
 * Waits.  What waits of the campaign, and what is accepted of it from now on, is paused until it is resumed; `changed`:
 * recipients that were.  `why` may be NULL.  Both may be said twice.  ERR_INVALID: no such id can be.
 */
MUST_CHECK enum err engine_campaign_pause(struct engine *e, const char *id, const char *by, const char *why,
                                          uint64_t *changed);
MUST_CHECK enum err engine_campaign_resume(struct engine *e, const char *id, uint64_t *changed);
/*
 * Waits.  The campaign is over from `at_unix` on (0: never): what waits of it then, and what still comes, expires.
 * `changed`: recipients that did now.
 */
MUST_CHECK enum err engine_campaign_expire(struct engine *e, const char *id, int64_t at_unix, const char *by,
                                           uint64_t *changed);
/* Waits. The group of each (normalised) domain: by the current policy, or as delivery found it by the MX hosts;
 * groups[i] is NULL where that is not known yet.  The names lie in the arena. */
void engine_groups_of(struct engine *e, const char *const *domains, size_t count, struct arena *arena,
                      const char **groups);
/*
 * The same, and DNS is asked for the MX hosts of those that are not known yet; waits for that, up to half a
 * minute. NULL where DNS gives no answer.
 */
void engine_groups_find(struct engine *e, const char *const *domains, size_t count, struct arena *arena,
                        const char **groups);
/* Waits.  What binds each (normalised) domain's due mail; texts lie in the arena.  engine/deliver/deliver.h has the
 * words. */
struct binding;
void engine_bindings_of(struct engine *e, const char *const *domains, size_t count, struct arena *arena,
                        struct binding *out);
/* ---- TLS ---- */
/*
 * Waits.  Approves the open downgrades of (normalised) domains, or of one MX host of them (mx, else NULL), and lets the
 * mail that was held for them go; or forgets what is known of them.  ERR_NOT_FOUND: nothing to approve or forget.  After
 * another error *changed tells how many entries were changed nevertheless.
 */
MUST_CHECK enum err engine_downgrades_change(struct engine *e, enum tls_downgrade_op op,
                                             const char *const *domains, size_t count, const char *mx,
                                             const char *author, uint64_t *changed);

/* Waits. */
MUST_CHECK enum err engine_account_put(struct engine *e, const struct account *account);
MUST_CHECK enum err engine_account_remove(struct engine *e, const char *name);

/* ---- TLS reports (RFC 8460): engine/tlsrpt/ ---- */
/*
 * Sends the report of a domain and day now.  Waits for it, but no longer than two minutes (ERR_TIMEOUT: it goes on).
 * `head`: how it stands, as it is kept (JSON).  ERR_DENIED: no contact and organization are set.  ERR_EXISTS: sent already,
 * and not `again`.  ERR_NOT_FOUND: no sessions that day.  ERR_BUSY: it is being sent.
 */
MUST_CHECK enum err engine_tlsrpt_send(struct engine *e, const char *domain, int64_t begin_unix, bool again,
                                       struct buf *head);
/* The same report as JSON, sending nothing.  ERR_NOT_FOUND: no sessions. */
MUST_CHECK enum err engine_tlsrpt_build(struct engine *e, const char *domain, int64_t begin_unix, struct buf *json);
/* Takes in reports of others: received_take (engine/tlsrpt/received.h).  Waits. */
MUST_CHECK enum err engine_tlsrpt_take(struct engine *e, struct bytes octets, struct buf *answer, const char **why);

/* ---- shaping: what was imposed automatically (engine/shaping.h) ---- */
struct engine_shaping_filter { /* all of it holds; zeroed: everything */
    uint64_t id;
    const char *group, *domain; /* domain: normalised; waits for DNS, because its hosts are what counts */
};
/* {events: [EVENT], in_force, more}, newest first (webui-api/README.md). */
json_t *engine_shaping_list(struct engine *e, const struct engine_shaping_filter *filter, size_t max);
/* Ends them at once for all workers; `by` for the log.  Number of events. */
size_t engine_shaping_clear(struct engine *e, const struct engine_shaping_filter *filter, const char *by);

/* ---- seeing; all return new references ---- */
/* Counters, workers, listeners, certificates, limits in force, drain state; the shape is in
 * webui-api/README.md. */
json_t *engine_status(struct engine *e);

/* ---- engine_sources.c: addresses that mail leaves from ---- */
json_t *engine_sources_json(struct engine *e); /* engine/sources.h: sources_json */
uint64_t engine_sources_forecast_ms(struct engine *e, const char *group, uint64_t rcpts); /* sources_forecast_ms */
/* step counts from 1; group NULL: all that use the address.  ERR_NOT_FOUND: no ladder there. */
MUST_CHECK enum err engine_source_warmup(struct engine *e, const char *address, const char *group,
                                         enum source_op op, uint32_t step, size_t *changed);

/* Waits for DNS (up to its time-out): group, rule and where it came from, MX hosts and addresses, what would
 * be tried now, queue state of the domain, open connections, suspension and why. */
json_t *engine_explain(struct engine *e, const char *address_or_domain);
/* MTA-STS policies by domain, those after `after` (or NULL), at most `max`. */
json_t *engine_sts_list(struct engine *e, const char *after, size_t max);
/* What is known of one domain; `refresh` looks anew first, and waits for DNS and HTTPS.  ERR_INVALID: no domain;
 * ERR_NOT_FOUND: nothing is known.  ERR_CLOSED: *stopping (or NULL) became true while it waited. */
MUST_CHECK enum err engine_sts_show(struct engine *e, const char *domain, bool refresh,
                                    const _Atomic(bool) *stopping, json_t **out);
/*
 * Waits, up to minutes, or until *stopping: probes of (normalised) domains, all at the same time; an array of results in the
 * order in which they came (webui-api/README.md).  `quick`: hosts in order of preference until one takes mail.
 */
json_t *engine_probe(struct engine *e, const char *const *domains, size_t count, bool quick,
                     const _Atomic(bool) *stopping);
/*
 * Waits, some twenty seconds at most.  {checks: [{check, level: ok|warn|fail, text, advice}], ok, warn, fail};
 * connect_to: a host to try port 25 of, or NULL.
 */
json_t *engine_doctor(struct engine *e, const char *connect_to);
/* Prometheus text, appended. */
void engine_metrics(struct engine *e, struct buf *out);

/* ---- DKIM ---- */
json_t *engine_dkim_keys(struct engine *e); /* dkim_keys_json */
/*
 * dkim_check: waits for DNS.  domain NULL: all keys; dns_server NULL: the resolvers of the configuration, past their cache
 * otherwise.  NULL: *why says what was wrong with the question (mem_free).
 */
json_t *engine_dkim_check(struct engine *e, const char *domain, const char *dns_server, char **why);

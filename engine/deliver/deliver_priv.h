/* What the files of engine/deliver/ share.  Thread: the worker's. */
#pragma once

#include "base/hash.h"
#include "engine/deliver/alarm.h"
#include "engine/deliver/deliver.h"
#include "engine/deliver/final.h"
#include "engine/deliver/rule.h"
#include "engine/deliver/turns.h"
#include "engine/failed_hosts.h"
#include "engine/limits.h"
#include "engine/sources.h"
#include "engine/smtp/client.h"
#include "engine/sts/sts.h"
#include "engine/tlswatch.h"

struct finaliser;
struct link;
struct site_quiet;
struct connect_turn;
struct deliver_txn;

struct deliver {
    struct worker *w;       /* borrowed */
    struct map dests;       /* struct dest by domain */
    struct map sites;       /* struct site by key; stale ones are not in it */
    struct list all_sites;  /* also the stale */
    struct map in_line;     /* struct site by its address: those that may wait in lines for permits */
    struct list left_turns; /* struct connect_turn whose link has gone, and whose note is on its way */
    uint64_t reclaimed_ms;  /* when holders of permits without work were called on last */
    struct alarm_clock clock;
    struct list give_back;       /* jobs to be returned to the store at the end of this event */
    struct list unsafe;          /* links that wait for a batch of results: in_doubt.c */
    uint64_t closed_serial;      /* of the newest batch that a closed link had waited for */
    struct finaliser *finaliser; /* worker 0 only */
    size_t open_txns;
    size_t queued;   /* recipients in the jobs of all destinations */
    size_t busy;     /* destinations with jobs in memory, or a page under way */
    uint64_t serial; /* of the last destination made */
    bool draining, closed;
    bool stalled;                 /* history holds up results: nothing new is sent */
    uint64_t descriptors_said_ms; /* when their want was logged last */
};
bool deliver_is_stalled(struct deliver *d);
/* At start domains with mail on disk are met by and by: with so few at work there is room for more. */
bool deliver_has_room(const struct deliver *d);

/* A reason to leave a destination or site alone for a while. */
struct suspension {
    uint64_t until_ms;   /* 0: none */
    uint32_t failures;   /* in a row */
    struct outcome *why; /* owned; there while there are failures: most have none, and are many */
};

struct site_host {
    uint16_t preference, port;
    bool implicit_tls;
    char *name; /* owned */
};
struct found;

/* ---- dest.c: one destination domain ---- */
struct dest {
    struct deliver *d;
    struct strands *strands; /* owned: jobs that are not in flight; NULL: there are none, and many have none */
    uint32_t queued_jobs[JOB_CLASSES];
    uint32_t queued; /* recipients in jobs */
    uint32_t flying; /* recipients in open transactions */
    bool cold;       /* the store keeps its mail on disk */
    bool paging;
    bool busy;                 /* counted in deliver's */
    bool cold_again;           /* asked to be cold while a page was under way */
    bool page_due;             /* there is, or may be, due mail on disk */
    bool fell_due;             /* some of it only just: it has its turn before the window is empty */
    bool tls_known, tls_asked; /* the last answer about `tls` was good; there was one */
    int64_t next_due_unix; /* on disk, not due before; 0: nothing known */
    struct alarm alarm;
    struct suspension rest; /* DNS failures, and what concerns this destination alone of its site */
    /* binding to a site under the current policy */
    struct policy_match match; /* into the site's policy */
    struct site *site;         /* NULL: not bound */
    struct list site_node;     /* in site->dests */
    uint64_t bound_until_ms;
    struct dns_query *query;
    struct sts_query *sts_query;
    struct found *found;       /* what DNS said, while MTA-STS is asked; else NULL */
    uint64_t sts_changed_ms;   /* a recheck brought another policy then */
    uint64_t serial;           /* unique in this worker */
    struct tls_dest *tls;      /* what TLS it had: engine/tlswatch.h */
    char domain[];             /* its key */
};

struct dest *dest_get(struct deliver *d, const char *domain); /* made when there is none */
/* Looks what is to be done next: bind, hand to the site, page, sleep, or go away (the dest may be gone
 * afterwards). */
void dest_kick(struct dest *dest);
void dest_kick_soon(struct dest *dest);                    /* from the loop, once */
void dest_take_jobs(struct dest *dest, struct list *jobs); /* from the store: keeps or gives back */
void dest_requeue(struct dest *dest, struct job *job);     /* to the front: was not attempted */
/* Mail of this lane has come to a cold destination, and stays on disk until it is asked for. */
void dest_on_lane(struct dest *dest, uint16_t lane);
/* It has no site now: what was learned of hosts was about that one's. */
void dest_forget_unfit_hosts(struct dest *dest);
struct job *dest_pop(struct strand *strand, enum job_class class); /* the first one, or NULL */
bool dest_has_jobs(const struct dest *dest);
enum job_class job_class(const struct job *job);
enum tls_wish job_wish(const struct job *job);
void dest_unbind(struct dest *dest);
void dest_go_cold(struct dest *dest);
/* Asks MX and MTA-STS again before long; until then the old answer serves. */
void dest_rebind(struct dest *dest);
void dest_forget_queries(
    struct dest *dest); /* about hosts and MTA-STS: their answers are not wanted any more */
/* discover.c: looks for the MTA-STS policy of a destination whose hosts are known; then binds it to a site.
 */
void dest_discover(struct dest *dest, const struct policy_match *match, const struct dns_mx *mx);
void found_destroy(struct found *f); /* NULL is fine */
/* dest_bind.c, for discover.c: takes over `security`. */
void dest_bind(struct dest *dest, const struct policy_match *match, const struct site_host *hosts,
               size_t count, bool implicit_mx, uint32_t ttl_s, struct security *security);
/* dest_bind.c.  False: a lookup is under way. */
bool dest_is_bound(struct dest *dest);
/* Where mail is held on a downgrade, what the destination had must be known first. */
bool dest_may_go(struct dest *dest);
/* Every job in memory, or those for which `only` says so, gets this outcome of an attempt that began then. */
typedef bool (*job_filter_fn)(const struct job *job, void *arg);
void dest_settle_all(struct dest *dest, const struct outcome *o, struct link *link, uint64_t started_ms,
                     job_filter_fn only, void *arg);
void dest_return_campaign(struct dest *dest, const char *campaign); /* all of this campaign */
void dest_return_jobs(struct dest *dest); /* all jobs in memory back to the store, which keeps them on disk */
void dest_suspend(struct dest *dest, const struct outcome *why); /* and its mail stays on disk meanwhile */
void dest_wait_until(struct dest *dest, int64_t due_unix);
struct policy_match dest_match(struct dest *dest); /* bound, or by the domain alone, or the default */
const struct group *dest_group(struct dest *dest); /* that of the match */
void dest_destroy(struct dest *dest);
uint64_t suspension_start(struct suspension *s, const struct outcome *why, const struct retry_schedule *retry,
                          uint64_t now_ms);
void suspension_end(struct suspension *s);

json_t *suspension_json(const struct suspension *s, uint64_t now_ms); /* deliver.c */

/* ---- site.c: domains that share hosts and rules ---- */
#define TURN_KEPT_MS 1000 /* a turn at a rate may be used so late, for want of a connection */

/* A site's turn at the rates of its group. */
struct site_turn {
    struct pace_waiter waiter;
    uint64_t ask_at_ms; /* it stands in the queue, and asks again then at the latest; 0: it does not */
    bool taken;         /* one message of that size may go, until … */
    uint64_t since_ms, ends_ms;
    uint64_t size_bytes;
};

struct site {
    struct deliver *d;
    struct list node;      /* d->all_sites */
    char *key;             /* owned */
    struct policy *policy; /* counted: `group` lies in it */
    const struct group *group;
    struct site_host *hosts; /* owned; best preference first */
    size_t host_count;
    struct security security;
    bool implicit_mx; /* no MX: the domain itself */
    bool stale;       /* policy changed: drains */
    struct list dests, links, idle;
    struct fair_queue turns; /* of the destinations that have jobs and know where to */
    uint32_t queued_jobs[JOB_CLASSES], opening[JOB_CLASSES], link_count;
    struct permit_pool *pool, *global; /* borrowed: live as long as limits */
    struct permit_waiter waiter, global_waiter;
    bool waits_for_permit; /* in one of the queues, by this lane */
    uint16_t waits_lane;
    struct suspension rest;
    struct site_quiet *quiet; /* owned; NULL: the group has no quiet hours */
    struct shaped *shaped;    /* counted: what we imposed on it, over all workers */
    uint64_t window_since_ms; /* replies to this worker's mail are counted from here for a while */
    bool reply_counted;       /* of this transaction: what is said of all its recipients is one reply */
    uint32_t window_replies, window_told; /* all; those that `shaped` heard of */
    struct pace *messages, *connects;     /* borrowed, as the pools */
    struct pace_rule rules[PACE_RULES];   /* of messages */
    bool is_paced;                        /* one of them is a limit */
    struct site_turn turn;                /* of messages */
    uint64_t opened_ms;                   /* a link was, last */
    uint64_t open_after_ms; /* no connection before: all hosts, or source addresses, were full */
    uint32_t
        walkers; /* links that look for their first connection, under a connection_rate or when crowded */
    uint64_t crowded_until_ms; /* there was no room lately: links look for it one after the other */
    const void *in_line;       /* itself, while in d->in_line: the key there */
    uint64_t calls;            /* how often it was told that there is a permit for it */
    bool reclaim_due;          /* those who hold one without work have still to be called on */
    const char *bound_by;      /* static: the limit that was met last, until … */
    uint64_t bound_until_ms;   /* 0: as long as it waits for a permit */
    uint64_t bound_met_ms;
    /* Its addresses: source.c.  uses: owned, of the pool's, in their order; NULL: no pool. */
    struct source_use **uses;
    struct pace_rule source_rules[PACE_SOURCE_RULES];
    bool is_source_paced;
    struct pace
        *source_pace; /* without a pool: of the address that its links leave from; NULL: none did yet */
    uint64_t source_turn_ends_ms; /* one message of it may go, until then; 0: none */
    uint64_t spent_until_ms;      /* nothing may leave from any of them before: warm-up, or rates */
    bool rests_for_source;        /* `rest`: none can be used */
    struct alarm alarm;           /* end of suspension or wait */
    char *auth_password;          /* owned, wiped; read when first needed */
};

/* Takes over what `security` holds. */
struct site *site_find_or_create(struct deliver *d, const struct group *group, const struct site_host *hosts,
                                 size_t count, bool implicit_mx, struct security *security);
uint32_t site_queued(const struct site *s); /* jobs in memory */
void site_bind(struct site *s, struct dest *dest);
void site_unbind(struct site *s, struct dest *dest);
void site_kick(struct site *s);
/* site_links.c.  False: no permit was to be had, and nobody else will get one either. */
bool site_open_links(struct site *s, enum job_class class);
void site_maybe_free(struct site *s);
void site_make_stale(struct site *s);
/* The walk of a link over all hosts ended without a session. */
void site_on_walk_failed(struct site *s, struct link *link, const struct outcome *o);
/* A session stands: a rest is over.  Nobody else asks until a MAIL was answered on it. */
void site_on_session(struct site *s);
void site_on_alive(struct site *s); /* a MAIL was answered */
/* The next transaction for this link, or NULL: none, or not yet. */
struct deliver_txn *site_take(struct site *s, struct link *link);
/* A link of CLASS_OTHER_HOST stands: for jobs of the class that are not for its host another is opened. */
void site_on_other_link(struct site *s, struct link *link);
uint64_t site_host_bits(const struct site *s); /* of all its hosts that have one */
bool site_is_resting(const struct site *s);
uint64_t site_rest_until_ms(const struct site *s);   /* may lie in the past */
void site_set_alarm(struct site *s, uint64_t at_ms); /* unless it rings earlier anyhow */
/* May it use clear_after_tls_failure: later? */
bool job_clear_ok(const struct deliver *d, const struct job *job);

/* ---- shape.c: the limits of a group, as its sites meet them ---- */
void shape_init(struct site *s, note_fn on_turn);
/* May a message of that size go now?  If not, the site has a place in the queue of its group, by the lane. */
bool shape_take_message(struct site *s, uint16_t lane, uint64_t size_bytes);
/* It did not go after all: its turn is kept, if another try follows soon, at `until_ms`. */
void shape_give_message(struct site *s, uint64_t size_bytes, uint64_t until_ms);
void shape_keep_turn(struct site *s, uint64_t until_ms); /* it is used then, for other reasons */
bool shape_release(struct site *s);                      /* its turn is for others; is a note on its way? */
bool shape_may_send(struct site *s, uint16_t lane, uint64_t size_bytes); /* is it its turn? */
void shape_on_turn(struct site *s);                                      /* its note came, or `ask_at_ms` */
/* One of a host or source address, or a place in the line for it. */
bool shape_take_permit(struct link *link, struct permit_pool *pool, const char *limit);
/* Shall it end for somebody in the line for its host or source address? */
bool shape_yields(const struct link *link);
/* One permit per host and source address for the link's current address. */
enum address_taken {
    ADDRESS_TAKEN,
    ADDRESS_BUSY,           /* one of them is full, or may send nothing now */
    ADDRESS_WITHOUT_SOURCE, /* the pool has none for it that this host has */
};
enum address_taken shape_take_address(struct link *link);
void shape_give_address(struct link *link);
/* It found no place at an address: the site is told when there is one. */
void shape_wait_in_line(struct link *link);
void shape_leave_line(struct site *s);
void shape_give_permit(struct link *link, struct permit_pool *pool); /* and tells who is next in line */
void shape_all_busy(struct link *link);                              /* every address was full */
bool shape_is_crowded(const struct site *s);                         /* … lately */
bool shape_is_wanted(const struct link *link); /* somebody else waits for its host or source address */
double shape_messages_per_second(const struct site *s); /* by the slowest of its limits; 0: none */
/* Under a rate: so many links at a time are enough to be opened for messages of that size. */
double shape_openings(const struct site *s, uint64_t size_bytes);
void shape_met(struct site *s, const char *limit, uint64_t until_ms);
/* Which limit binds now: {limit, milliseconds_left?}, or NULL. */
json_t *shape_json(const struct site *s, uint64_t now_ms);

/* ---- connect_turn.c: connection_rate ---- */
/* 0: connect; else the link stands in the queue of its group, and is to wait by its alarm, which rings
 * earlier when its turn comes. */
uint32_t shape_take_connect(struct link *link);
void shape_give_connect(struct link *link); /* leaves the queue: its turn is for others */
void connect_turns_fini(struct deliver *d);

/* ---- source.c: where links leave from ---- */
void source_init(struct site *s);
enum address_taken source_take_address(struct link *link);
void source_give_address(struct link *link);
const char *source_ehlo_name(const struct link *link);           /* NULL: as the group says */
void source_missing(const struct link *link, struct outcome *o); /* after ADDRESS_WITHOUT_SOURCE */
bool source_cannot_bind(struct link *link); /* the bind failed: is it because the address is not there? */
bool source_may_open(struct site *s);       /* false: nothing may leave now; the alarm is set */
void source_give_turn(struct site *s);      /* its turn at the rate of an address is for others */
/* How many of a message's recipients may go now; 0: none, the alarm is set. */
uint32_t source_take_message(struct link *link, uint32_t recipients);
void source_give_message(struct link *link, uint32_t recipients); /* it did not go after all */
void source_give_recipients(struct link *link, uint32_t recipients);
void source_on_message(struct link *link);
void source_on_outcome(struct link *link, const struct outcome *o);
void source_on_refused(struct link *link, const struct outcome *o); /* the host, before any recipient */

/* ---- quiet.c: hours in which no mail is begun ---- */
void quiet_init(struct site *s);
void quiet_fini(struct site *s);
uint64_t quiet_until_ms(const struct site *s); /* 0: it is not quiet; else the end, in the future */
void quiet_rest(struct site *s);               /* it rests: what is in memory goes back to disk, soon */
void quiet_on_alarm(struct site *s);
bool quiet_holds_back(
    struct site *s); /* the end was a while ago: no further connection yet; the alarm is set */
/* How much of the age of what was accepted then does not count. */
int64_t quiet_age_off_s(const struct dest *dest, const struct group *group, int64_t accepted_unix);
int64_t quiet_due(const struct dest *dest, const struct group *group,
                  int64_t due_unix); /* not in quiet hours */

/* ---- replies.c: what replies and refusals impose ---- */
void replies_init(struct site *s);
void replies_fini(struct site *s);
/* Every outcome of a conversation comes here; that of a refused recipient may change.  Seconds to wait for
 * the next attempt; 0: by the schedule. */
uint32_t replies_judge(const struct link *link, struct outcome *o);
/* A host refused before any recipient, or ended a connection that had worked: only what concerns the site. */
void replies_on_failed_host(struct link *link, const struct outcome *o);
/* Do its hosts serve us at another worker, so that a connection that came to nothing is one too many? */
bool replies_have_sessions(const struct link *link, const struct outcome *o);
/* A connection came to nothing, while others of the site stand. */
void replies_on_refused(struct site *s, const struct outcome *o);
void replies_on_rest(struct site *s, const struct outcome *o); /* s->rest has begun */
bool replies_may_open(struct site *s); /* true: one connection is counted, until shaped_give_connection */
bool replies_may_send(struct site *s); /* false: the alarm is set */
bool replies_are_too_many(const struct site *s);
bool replies_want_it_closed(const struct site *s); /* an idle link */
void replies_on_alarm(struct site *s);
void replies_rest(struct site *s);       /* it rests: to be woken at the end */
void replies_clear(struct site *s);      /* by hand */
void replies_look_again(struct site *s); /* another worker may have imposed something */

/* ---- link.c, link_session.c, link_tls.c: one connection and its way there ---- */
struct deliver_txn {
    struct smtp_txn txn;
    struct list node;  /* link->txns */
    struct job *job;   /* owned */
    struct dest *dest; /* stays while it has recipients in flight */
    uint64_t started_ms;
};

/* What is known of how the session with the current host travels: for records, whatever came of it. */
struct travel {
    enum tls_level effective;
    enum tls_why why;
    const char *version, *cipher, *kx; /* static */
    enum tls_verify verify;
    enum dane_result dane;
    enum sts_result sts;
    enum tls_failure failure;
    bool resumed, offered;
    int64_t cert_expires_unix;
    char reason[128]; /* of the failure */
};

struct link {
    struct list node, idle_node; /* site->links, site->idle */
    struct site *site;
    struct deliver *d;
    struct conn *conn; /* NULL while looking up */
    struct smtp_client *client;
    struct log log;
    unsigned depth; /* inside events: the memory stays */
    bool dead, ready, quitting;
    /* the walk: host by host, address by address */
    enum job_class class;
    enum tls_wish wish;  /* of every job that it may carry */
    bool clear_ok;       /* later_is_due of the job it was opened for */
    uint64_t avoids;     /* hosts that it passes over: the unfit_hosts of that job */
    uint64_t opened_ms;  /* the walk began */
    char *domain;        /* owned: the destination it was opened for */
    uint64_t watched[8]; /* serials of destinations whose downgrades were looked at here; direct-mapped */
    /* This failure, and the one remembered, concerns `domain` alone: a downgrade, or a certificate without
     * its name. */
    bool holding, held;
    bool reached;     /* some host of the walk answered */
    bool only_domain; /* the certificate was good for that one's name: no other may use it */
    uint32_t *order;  /* owned: host indexes */
    size_t host_at;   /* next */
    struct dns_query *query;
    struct dns_address *addresses; /* owned */
    size_t address_count, address_at;
    const struct site_host *host; /* current */
    struct dane_query *dane_query;
    struct dane_records *dane; /* counted: of the current host, for its secure addresses; or NULL */
    bool dane_by_alias; /* they hang on the host's own name, a signed alias: for all its addresses (RFC 7672
                           §2.2.3) */
    struct sts_query *sts_query;
    bool sts_rechecked;
    struct ip ip;
    bool ip_secure;
    bool in_clear;                               /* this try is the clear-text fallback */
    struct ip source_ip;                         /* to be bound, when its family is set */
    struct permit_pool *host_pool, *source_pool; /* a permit is held; the host's pool is open */
    struct source_use *use;                      /* of its pool's address, counted; or NULL */
    size_t source_index;                         /* in the pool */
    uint32_t source_messages;                    /* over it, in this session */
    bool source_tried;                           /* a connection from it was begun */
    uint64_t source_until_ms;                    /* not before, when it gave none last */
    bool source_spent;                           /* its address may send no more just now: it ends */
    struct pace *source_pace;                    /* of its address, when there are rates; borrowed */
    bool without_source;                         /* an address of the walk had none to be reached from */
    uint64_t busy_until_ms;                      /* hosts_were_busy until then; 0: not known */
    uint64_t calls_heard;                        /* by the site, when the walk met the first one full */
    struct alarm alarm;                          /* waits for connection_rate */
    struct connect_turn *connect_turn;           /* in its queue, or granted; else NULL */
    uint16_t lane;                               /* of what it was opened for */
    bool walking;                                /* counted in site->walkers */
    bool host_down;                              /* no address of the current host gave a session */
    struct outcome failure;                      /* worst so far, when have_failure */
    struct travel failure_tls;                   /* and how it came to that */
    bool have_failure, hosts_were_busy;
    const char *busy_with; /* static: the limit */
    /* the session */
    char remote[IP_TEXT_BYTES], source[IP_TEXT_BYTES];
    bool tls_up, mail_answered;
    bool session_pending; /* stands, and is not counted yet: it could still fail before its first MAIL */
    struct travel tls;
    struct list txns;
    struct list unsafe_node;   /* d->unsafe: no message ends here before … */
    uint64_t unsafe_serial;    /* … this batch of results is on disk */
    uint32_t messages;         /* submitted so far */
    uint64_t idle_deadline_ms; /* looked at then, if it is still idle */
    uint64_t turn_since_ms;    /* others who wait for its permit were last looked for */
    bool turn_over;            /* there are some: it ends after what it carries */
    uint64_t idle_end_ms;      /* closed then */
};

struct link *link_open(struct site *s, enum job_class class, uint16_t lane, const char *domain,
                       const struct job *first);
void link_feed(struct link *link);  /* as long as it has room and the site has work */
void link_quit(struct link *link);  /* after what it carries */
void link_close(struct link *link); /* now; open transactions go back as not sent */
bool link_has_room(struct link *link);
void link_on_idle(struct link *link); /* an idle one: closed, or looked at later */
const char *link_ehlo_name(const struct link *link);

/* link_session.c */
extern const struct smtp_client_events link_client_events;

/* link.c, for the other two */
void link_enter(struct link *link); /* brackets of an event: the memory stays until the last leave */
void link_leave(struct link *link);
void link_pass_on(struct link *link); /* sends what waits, sets the deadline */
void link_txn_destroy(struct deliver_txn *t);
/* The bit of its current host in struct job's unfit_hosts.  A site's first 64 have one; else 0. */
uint64_t link_host_bit(const struct link *link);
/* What was not attempted, to the front of its destination's jobs. */
void link_requeue(struct link *link, struct dest *dest, struct job *job);

void link_drop_session(struct link *link); /* with its connection and permits of the address */
extern const struct conn_events link_conn_events;

/* link_walk.c */
uint32_t *link_host_order(const struct site *s); /* indexes, the caller's (mem_free) */
void link_next_host(struct link *link);
void link_on_alarm(struct alarm *a);

/* link_rule.c: the same for a link, at its current host */
void link_rule(const struct link *link, struct rule *out);
/* Usable, unusable or failed records for the current address, or NULL: then there is no DANE. */
const struct dane_records *link_dane(const struct link *link);
bool link_wants_dane(const struct link *link);
/* MTA-STS of the destination, if this link heeds it. */
struct sts_policy *link_sts(const struct link *link);
/* Before connecting to the current address.  False: this host is not for us; *o says why. */
bool link_may_connect(struct link *link, struct outcome *o);
/* One session (or one host that was left out) for history and TLSRPT. */
void link_record_session(struct link *link, bool counted);
void link_session_settled(struct link *link); /* what was pending is counted as it stands */

/* link_tls.c */
void link_start_tls(struct link *link);
void link_on_handshake(struct link *link, enum err e, const char *why);
/* Carries the decision for what has happened out: go on in clear, next host, again in clear.  `o` is the
 * failure. */
void link_decide(struct link *link, enum tls_event event, const struct outcome *o);
/* The session is as the rule wants it: REQUIRETLS last, then AUTH and mail. */
void link_stands(struct link *link, const struct smtp_offer *offer);

/* link_watch.c */
struct dest *link_opened_for(const struct link *link); /* NULL when it has gone */
/* The table refused the host: that it has less than it had is worth knowing all the same. */
void link_watch_refused(struct link *link, enum tls_event event, const struct outcome *o);
/* Has this destination less TLS here than it had, and does its group hold mail then?  *o says so. */
bool link_holds_back(struct link *link, struct dest *dest, struct outcome *o);
/* link.c, for link_tls.c */
void link_host_failed(struct link *link, const struct outcome *o);
void link_again_in_clear(struct link *link, const struct outcome *o);
void link_go_on(struct link *link); /* session set-up is done but for AUTH */

/* ---- in_doubt.c: one message in doubt per connection ---- */
void in_doubt_open(struct link *link);      /* a new link */
void in_doubt_begin(struct link *link);     /* its client is there */
void in_doubt_delivered(struct link *link); /* by this turn's batch */
void in_doubt_close(struct link *link);

/* ---- record.c: outcomes become history ---- */
/* One recipient's attempt: decides what follows (retry, DSN), posts the record.  link NULL: nothing was
 * connected. */
void record_attempt(struct dest *dest, const struct link *link, const struct job *job, struct rcpt *rcpt,
                    struct outcome *o, uint64_t started_ms, bool dsn_not_passed_on);

/* ---- final.c: engine/deliver/final.h ---- */

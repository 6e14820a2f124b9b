/*
 * The insides of the resolver, for engine/dns/ alone.  One loop, one thread, no locks.
 *
 *   dns_query    one asker: its deadline, and a chain for each type it asks for            dns.c host.c mx.c
 *   dns_chain    follows one name through its CNAMEs, one lookup after another             chain.c
 *   dns_lookup   one (name, type) on the wire, shared by all chains that wait for it       lookup.c
 *   dns_wire     one socket of a lookup: one question to one server over UDP or TCP        wire.c
 *
 * User callbacks are made from one place (on_idle in dns.c): nothing else in here calls out, so an object may
 * not vanish under the function that uses it.
 */
#pragma once

#include "base/list.h"
#include "engine/dns/cache.h"
#include "engine/dns/dns.h"
#include "engine/dns/packet.h"
#include "engine/dns/resolvconf.h"

#define DNS_LOOKUPS_MAX 512 /* on the wire at once; the others wait in line */
/*
 * A server's socket holds some 270 questions by the presets of Linux; more in a burst are lost, and cost a
 * time-out each. So at most this many are out that are younger than the time; older ones were surely read,
 * and are being worked on.
 */
#define DNS_BURST_MAX        100
#define DNS_BURST_MS         100
#define DNS_FAILURE_TTL_S    15   /* SERVFAIL and time-outs, so that a dead domain makes no storm */
#define DNS_NEGATIVE_TTL_S   3600 /* RFC 2308 §5 lets us cap it */
#define DNS_SECOND_FAMILY_MS 2000 /* how long usable addresses wait for those of the other family */
#define DNS_SOCKET_RETRY_MS  100  /* after EMFILE and its like */
#define DNS_STRAYS_MAX       64   /* packets that answer something else, before we change to TCP */

/* ---- servers (server.c) ---- */

struct dns_server {
    struct ip ip;
    uint16_t port;
    bool trusted_ad;
    bool reported;     /* as silent */
    unsigned failures; /* questions in a row */
    uint64_t answered_ms;
    uint32_t penalty_ms;     /* grows while it stays silent */
    uint64_t last_until_ms;  /* asked after the others until then */
    uint64_t plain_until_ms; /* does not know EDNS */
};
struct dns_servers {
    struct dns_server list[DNS_SERVERS_MAX];
    size_t count;
    bool from_file;
    const char *file;                /* borrowed */
    const struct dns_config *config; /* borrowed: who is trusted */
    uint64_t checked_ms;
    struct {
        int64_t mtime_s, mtime_ns, size;
        uint64_t inode;
    } seen;
};
void dns_servers_load(struct dns_servers *s, const struct dns_config *config);
/* Reads resolv.conf again when it has changed; looks at most every ten seconds. */
void dns_servers_refresh(struct dns_servers *s, uint64_t now_ms);
/* Indexes, healthy ones first, otherwise as configured. */
size_t dns_servers_order(const struct dns_servers *s, uint64_t now_ms, uint8_t order[DNS_SERVERS_MAX]);
/* `same_question`: it failed this one before, which tells nothing new about its health. */
void dns_server_failed(struct dns_server *s, const char *why, bool same_question, uint64_t now_ms);
void dns_server_answered(struct dns_server *s, uint64_t now_ms);

/* ---- sockets (wire.c) ---- */

struct dns_lookup;
struct dns_wire;
enum dns_wire_event {
    DNS_WIRE_PACKET, /* `packet` is borrowed */
    DNS_WIRE_FAILED, /* refused, unreachable, closed early */
};
/*
 * Opens a socket (its port is the kernel's random choice) connected to `server`, and sends `query`.  Events
 * go to dns_lookup_on_wire().  ERR_FULL: no descriptor to be had; ERR_IO: the server cannot be reached.
 */
MUST_CHECK enum err dns_wire_open(struct dns *d, struct dns_lookup *owner, const struct dns_server *server,
                                  bool tcp, struct bytes query, struct dns_wire **out);
void dns_wire_close(struct dns_wire *w); /* no event comes after; NULL is fine */

/* ---- lookups (lookup.c) ---- */

struct dns_waiter {
    struct list node;
    struct dns_lookup *lookup; /* NULL: waits for nothing */
};
/* Starts waiting for (name, type).  The lookup ends later, never from inside. */
void dns_lookup_join(struct dns *d, const struct dns_name *name, const struct dns_key *key, uint16_t type,
                     struct dns_waiter *waiter);
/* `let_finish`: without waiters too, so that its result, perhaps a time-out, comes to be known. */
void dns_lookup_leave(struct dns_waiter *waiter, bool let_finish);
bool dns_lookup_is_in_line(const struct dns_lookup *l);
void dns_lookup_abort_all(struct dns *d);
void dns_lookup_on_turn(uv_timer_t *timer); /* d->turn_timer */
void dns_lookup_on_wire(struct dns_lookup *l, enum dns_wire_event event, struct bytes packet);

/* ---- chains (chain.c) ---- */

struct dns_chain {
    struct dns_query *query;
    struct dns_waiter waiter;
    uint16_t type;
    unsigned hops;
    bool secure, done;
    uint64_t expires_ms;
    enum dns_status status;    /* valid when done */
    struct dns_answer *answer; /* counted; NULL until done */
};
void dns_chain_start(struct dns_chain *c, struct dns_query *q, uint16_t type, const char *name);
void dns_chain_on_answer(struct dns_chain *c, struct dns_answer *answer);
void dns_chain_on_turn(struct dns_chain *c); /* its lookup stood in line, and begins now */
bool dns_chain_is_in_line(const struct dns_chain *c);
void dns_chain_end(struct dns_chain *c, enum dns_status status); /* without an answer */
void dns_chain_fini(struct dns_chain *c);
uint32_t dns_chain_ttl_s(const struct dns_chain *c);

/* ---- askers ---- */

enum dns_query_kind { DNS_QUERY_MX, DNS_QUERY_HOST, DNS_QUERY_RRSET, DNS_QUERY_NONE };
struct dns_query {
    struct dns *d;
    struct list all;   /* d->queries, in the order of deadlines */
    struct list ready; /* d->ready once there is a result */
    struct list slow;  /* d->slow while waiting for the second family */
    enum dns_query_kind kind;
    bool is_ready, is_delivered;
    union {
        dns_mx_fn mx;
        dns_host_fn host;
        dns_rrset_fn rrset;
        dns_later_fn later;
    } fn;
    void *arg;
    uint64_t deadline_ms, slow_until_ms;
    struct ip literal; /* family 0: a name */
    struct dns_chain chains[2];
    size_t chain_count;
    char name[DNS_NAME_TEXT_BYTES];
};
void dns_query_restart_clock(struct dns_query *q);
void dns_query_on_chain(struct dns_query *q); /* one of its chains is done */
void dns_query_ready(struct dns_query *q);
void dns_slow_arm(struct dns *d);
void dns_host_on_chain(struct dns_query *q);
void dns_mx_deliver(struct dns_query *q);
void dns_host_deliver(struct dns_query *q);

struct dns {
    uv_loop_t *loop;
    struct dns_config config;
    struct dns_servers servers;
    struct dns_cache cache;
    struct map lookups;  /* struct dns_lookup by key */
    struct list active;  /* on the wire */
    struct list waiting; /* for their turn */
    struct list young;   /* asked less than DNS_BURST_MS ago, and not answered */
    size_t young_count;
    size_t active_count;
    struct list queries, ready, delivering, slow;
    uv_idle_t idle; /* runs while something is ready */
    uv_timer_t deadline_timer, slow_timer, turn_timer;
    size_t handles; /* that still must close */
    bool closing;
    void (*on_closed)(void *arg);
    void *on_closed_arg;
    struct dns_stats stats;
    size_t random_left;
    uint8_t random[256];
    uint8_t packet[DNS_PACKET_BYTES + 1]; /* where UDP is received */
};
uint32_t dns_random(struct dns *d);
uint32_t dns_random_below(struct dns *d, uint32_t n);
void dns_handle_closed(struct dns *d); /* each on_close calls it, last */

/* ---- choices over values, for tests (mx.c) ---- */

typedef uint32_t (*dns_random_fn)(void *arg, uint32_t below);
struct dns_mx_choice {
    struct dns_mx_host hosts[DNS_MX_MAX];
    char names[DNS_MX_MAX][DNS_NAME_TEXT_BYTES];
    size_t count, skipped;
    bool null_mx;
};
/* Takes the rdata of an MX answer; equal preferences come in random order. */
void dns_mx_choose(const struct bytes *records, size_t count, dns_random_fn random, void *arg,
                   struct dns_mx_choice *out);

/*
 * Asynchronous DNS: ldns builds and reads the packets, libuv moves them.
 *
 * Thread    one `struct dns` per worker, used on its loop only; shares nothing.
 * Queries   UDP with EDNS (1232 octets), TCP on truncation, every configured server in turn with growing
 *           time-outs, random id and source port, answers matched on server, id and question. One query on the wire per
 *           (name, type) at a time; later askers join it.
 * Cache     positive answers by TTL (capped), NXDOMAIN and NODATA by SOA minimum (RFC 2308), SERVFAIL briefly;
 *           bounded in entries, oldest out first.
 * Callbacks always come later, from the loop, never from inside dns_…(): a cancelled query makes none.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/ip.h"

struct dns;
struct dns_query; /* one asker; dies with its callback */

struct dns_config {
    struct { struct ip ip; uint16_t port; bool trusted_ad; } servers[8]; /* trusted_ad: its AD bit counts */
    size_t server_count;     /* 0: from /etc/resolv.conf (loopback ones are trusted) */
    uint32_t timeout_ms;     /* first try of one server: 1500 */
    uint32_t total_ms;       /* a query ends with DNS_TIMEOUT by then: 15000; waiting in line for its turn is not counted */
    uint32_t cache_entries;  /* 20000 */
    uint32_t ttl_max_s;      /* 86400 */
    bool ipv6;               /* ask for AAAA */
    /* Networks whose servers are believed as those on loopback are: servers[].trusted_ad of what resolv.conf names. */
    struct ip_net trusted[16];
    size_t trusted_count;
    /* Borrowed: what is known of the servers' validation (enum dnssec_probe, engine/dane/dane.h); NULL: nothing. */
    const atomic_int *dnssec;
};

enum dns_status {
    DNS_OK,
    DNS_NXDOMAIN,
    DNS_NODATA,
    DNS_SERVFAIL, /* also REFUSED, bogus, malformed: every server answered, none usefully */
    DNS_TIMEOUT,
    DNS_LOOP,     /* CNAME loop or more than 16 hops */
    DNS_BAD_NAME, /* not a name that can be asked for */
};
const char *dns_status_name(enum dns_status s);

MUST_CHECK enum err dns_create(uv_loop_t *loop, const struct dns_config *config, struct dns **out, char **why);
/* Pending callbacks are not made.  on_closed after the last handle. */
void dns_close(struct dns *d, void (*on_closed)(void *arg), void *arg);
void dns_flush(struct dns *d); /* empties the cache */
struct dns_stats { uint64_t queries, cache_hits, timeouts, servfails, tcp, cache_entries; };
void dns_stats(const struct dns *d, struct dns_stats *out);
int dns_dnssec(const struct dns *d); /* *config.dnssec as it is now */
/* The servers in use, as of now: those of the configuration, or of resolv.conf. */
bool dns_config_trusts(const struct dns_config *config, const struct ip *server); /* loopback, or in `trusted` */
struct dns_server_view { struct ip ip; uint16_t port; bool trusted_ad; };
size_t dns_server_list(struct dns *d, struct dns_server_view out[8]);

#define DNS_MX_MAX 100 /* hosts kept of one MX answer, best preference first */

struct dns_mx_host {
    uint16_t preference;
    char *name; /* lower case, no trailing dot */
};
/*
 * The mail hosts of a domain, RFC 5321 §5.1, RFC 7505.
 *   DNS_OK        hosts sorted by preference, shuffled among equals anew at each call; `implicit` when
 *                 there is no MX and the domain itself is the host (its address was not looked up yet)
 *   null_mx       exactly one MX, ".": bounce 5.1.10
 *   NXDOMAIN      5.1.2
 *   others        defer 4.4.3; DNS_LOOP 5.4.4
 * An MX "." beside others is skipped; names that are address text ("192.0.2.1") are skipped and counted.
 */
struct dns_mx {
    enum dns_status status;
    bool null_mx, implicit, secure;
    struct dns_mx_host *hosts; /* borrowed until the callback returns */
    size_t count, skipped;
    uint32_t ttl_s;
};
typedef void (*dns_mx_fn)(void *arg, const struct dns_mx *mx);
struct dns_query *dns_resolve_mx(struct dns *d, const char *domain, dns_mx_fn fn, void *arg);

/* A and AAAA together, CNAMEs followed; IPv6 and IPv4 alternate, shuffled within a family. */
struct dns_address {
    struct ip ip;
    bool secure;
};
struct dns_host {
    enum dns_status status; /* DNS_OK when at least one address of either family is there */
    struct dns_address *addresses; /* borrowed; unusable ones (0.0.0.0, multicast) are left out */
    size_t count, skipped;
    const char *canonical;  /* last name of the CNAME chain; the name itself without one */
    uint32_t ttl_s;
};
typedef void (*dns_host_fn)(void *arg, const struct dns_host *host);
/* An address literal answers itself.  One family failing does not stop the other. */
struct dns_query *dns_resolve_host(struct dns *d, const char *name, dns_host_fn fn, void *arg);

/* Any type, raw rdata in wire form: TXT, TLSA.  "." may be asked for here, and only here. */
struct dns_rrset {
    enum dns_status status;
    bool secure;
    struct bytes *rdata; /* borrowed */
    size_t count;
    uint32_t ttl_s;
};
typedef void (*dns_rrset_fn)(void *arg, const struct dns_rrset *set);
struct dns_query *dns_resolve_rrset(struct dns *d, const char *name, uint16_t type, dns_rrset_fn fn, void *arg);

/* No question at all: `fn` is called from the loop, as answers are. */
typedef void (*dns_later_fn)(void *arg);
struct dns_query *dns_later(struct dns *d, dns_later_fn fn, void *arg);

void dns_cancel(struct dns_query *q); /* its callback will not be made; NULL is fine */

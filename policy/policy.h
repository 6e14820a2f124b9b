/*
 * The policy document: all destination groups and their rules, compiled into an immutable, counted
 * snapshot.  Parsing and matching are pure.  Thread: a snapshot may be read from any thread.
 *
 *     groups:
 *       - name: docomo
 *         match: [docomo.ne.jp, .docomo.ne.jp]   # exact domain, .suffix (sub-domains only)
 *         mx: [.mail.docomo.ne.jp]               # MX-host suffix or exact host
 *         starttls: require                      # off | on | require | verify
 *         clear_after_tls_failure: later         # never | later | now
 *         limits: {connections: 20, connections_per_host: 5, messages_per_connection: 100,
 *                  recipients_per_transaction: 50, messages_per_second: 200}
 *       - name: default                          # the group for what nothing else matches
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/yaml.h"
#include "policy/quiet.h"
#include "policy/reply_rule.h"
#include "policy/retry.h"
#include "policy/sources.h"
#include "policy/tls_decide.h"

enum route_kind { ROUTE_MX, ROUTE_SMARTHOST };
enum dane_mode { DANE_OFF, DANE_TRY, DANE_ONLY };
enum sts_mode { STS_OFF, STS_TRY };
/* Which name the certificate must have at `verify`. */
enum name_match {
    NAME_MX,      /* the MX host (or smart host) that was connected to */
    NAME_NEXTHOP, /* the recipient domain (or smart host): an MX that DNS invents does not help */
    NAME_LISTED,  /* one of tls_names */
};
/* What becomes of mail when a destination had TLS (or authenticated TLS) before and now has not. */
/* How much is said to a host before it answers.  AUTO: as delivery.pipelining_full of the configuration says.
 */
enum pipelining_mode { PIPELINING_AUTO, PIPELINING_OFF, PIPELINING_COMMANDS, PIPELINING_FULL };
enum downgrade_mode { DOWNGRADE_DELIVER, DOWNGRADE_HOLD };

/* One next hop of a smart-host route, in the order to be tried. */
struct smarthost {
    char *host; /* name (A/AAAA looked up, never MX) or address literal without brackets */
    uint16_t port;
    bool implicit_tls; /* TLS from the first octet (RFC 8314 §3.3) */
};

struct frequency {    /* "30/m" */
    double count;     /* 0: no limit */
    uint32_t seconds; /* 1, 60 or 3600 */
};

struct group_limits { /* over all workers */
    uint32_t connections;
    uint32_t connections_per_host;   /* per remote address */
    uint32_t connections_per_source; /* per local address; 0: no limit */
    double source_per_second, source_per_minute, source_per_hour; /* messages per local address */
    struct frequency connection_rate;
    uint32_t messages_per_connection;
    uint32_t recipients_per_transaction;
    double messages_per_second, messages_per_minute, messages_per_hour; /* 0: no limit */
    uint32_t burst;          /* messages at once after a pause, by the slowest of the rates */
    double bytes_per_second; /* 0: no limit */
};

/* What is done without a rule when a receiver does not keep up: engine/shaping.h. */
enum adaptive_mode { ADAPTIVE_OFF, ADAPTIVE_ON };
struct group_adaptive {
    enum adaptive_mode mode;
    uint32_t storm_replies;  /* so many replies that ask to slow down … */
    uint32_t storm_share;    /* … and such a share of all, in percent … */
    uint32_t storm_window_s; /* … within so long are a storm */
    uint32_t step_percent;   /* what a step leaves of connections and rate */
    uint32_t recover_after_s;
    uint32_t min_connections; /* no step goes below these two */
    double min_rate;          /* messages a second */
};

struct group {
    char *name;              /* owned by the snapshot, as all below */
    uint32_t index;          /* position in the snapshot */
    enum tls_level starttls; /* TLS_OFF, TLS_ON, TLS_REQUIRE or TLS_VERIFY */
    enum clear_fallback clear_after_tls_failure;
    enum dane_mode dane;
    enum sts_mode mta_sts;
    enum downgrade_mode on_downgrade;
    enum name_match tls_match;
    char **tls_names; /* NAME_LISTED: host names, `.suffix` for exactly one more label; normalised */
    size_t tls_name_count;
    enum tls_version tls_min_version; /* TLS_VERSION_1_2 unless the document says otherwise */
    char *tls_priority; /* GnuTLS priority string; NULL: the engine's, by level and tls_min_version */
    char *ca_file;      /* trust for this group; NULL: the system's */
    char *tls_certificate, *tls_key; /* shown to servers that ask; PEM files, both or neither */
    /*
     * Fingerprints, any of which the leaf must have at `verify`, in place of chain and name: lower-case hex
     * SHA-256 (64 digits) of the certificate, or with "spki:" in front of its public key.
     */
    char **tls_pins;
    size_t tls_pin_count;
    enum route_kind route;
    struct smarthost *hosts; /* ROUTE_SMARTHOST */
    size_t host_count;
    uint16_t port;            /* ROUTE_MX: 25 unless a test world says otherwise */
    char *auth_user;          /* NULL: no AUTH */
    char *auth_password_file; /* path; the secret itself is never in the document */
    struct group_limits limits;
    enum pipelining_mode pipelining;
    struct group_adaptive adaptive;
    struct retry_schedule retry;
    struct quiet_hours quiet;
    struct reply_rule *replies; /* its own rules, in their order */
    size_t reply_count;
    char *ehlo_name;             /* NULL: the daemon's host name */
    char *source_v4, *source_v6; /* addresses to bind, or NULL */
    const struct source_pool *pool; /* then these two are NULL; or NULL */
    struct {                     /* client-side timeouts, RFC 5321 §4.5.3.2, milliseconds */
        uint32_t connect_ms, greeting_ms, ehlo_ms, mail_ms, rcpt_ms, data_ms, block_ms, dot_ms, idle_ms;
    } timeouts;
    const char *file;      /* the included file in which it stands; NULL: the document itself */
    uint32_t line;         /* where it stands there */
    const char *base_file; /* the document's keys lie over a group of this file; NULL: they do not */
    uint32_t base_line;
};

/* A file that the document includes, as it was when the version was made. */
struct policy_include {
    const char *name, *file; /* as `include` has it; where it was found */
    const char *date;        /* "2026-11-22", or "" */
    uint32_t groups;
};

struct policy; /* opaque: groups plus matching tables */

/*
 * Compiles `text`, which holds what it includes (policy/policy_include.h).  All errors are collected in
 * `errors` (file:line:column, what would be right, "did you mean"), not only the first; notices (warnings)
 * too.  ERR_INVALID when there is any error. `name` is what messages call the document.  *out has one
 * reference.
 */
MUST_CHECK enum err policy_parse(const char *name, struct bytes text, uint64_t version, struct policy **out,
                                 struct yaml_errors *errors);
struct policy *policy_ref(struct policy *p);
void policy_unref(struct policy *p);

uint64_t policy_version(const struct policy *p);
struct bytes policy_text(const struct policy *p); /* exactly what was parsed */
size_t policy_group_count(const struct policy *p);
const struct group *policy_group(const struct policy *p, size_t index);
const struct group *policy_group_by_name(const struct policy *p, const char *name);
size_t policy_include_count(const struct policy *p);
const struct policy_include *policy_include(const struct policy *p, size_t index);
size_t policy_pool_count(const struct policy *p);
const struct source_pool *policy_pool(const struct policy *p, size_t index);

/* How a group was found; `pattern` is the entry of the document that matched. */
enum match_how { MATCH_EXACT, MATCH_SUFFIX, MATCH_MX, MATCH_DEFAULT };
struct policy_match {
    const struct group *group; /* borrowed from the snapshot; NULL: needs the MX hosts */
    enum match_how how;
    const char *pattern; /* borrowed; "" for the default */
};
/*
 * Exact domain, then longest suffix.  When neither matches: the default, or group NULL if the document has
 * MX patterns and so the MX hosts must be known (policy_match_mx).  `domain` is normalised
 * (policy/domain.h).
 */
struct policy_match policy_match_domain(const struct policy *p, struct bytes domain);
/* The group of the best-preference host that matches (exact host, longest suffix), else the default. */
struct policy_match policy_match_mx(const struct policy *p, const struct bytes *hosts, size_t count);
const char *match_how_name(enum match_how how);
/* The rule for a reply to mail of that group: its own first, then the document's; NULL: none matches. */
const struct reply_rule *policy_reply_rule(const struct policy *p, const struct group *g,
                                           const struct outcome *o);

/*
 * The effective settings of a group, as YAML that policy_parse takes back as one group (for `explain`): every
 * key but `match` and `mx`.  No secrets: credentials are named by their file.
 */
void policy_dump_group(const struct group *g, struct buf *yaml);
/* Markdown reference of all keys: policy/DOCUMENT.md is this text. */
void policy_reference(struct buf *out);

/* The document that a new installation starts with (one default group, commented). */
extern const char policy_default_text[];
/* Line-wise differences of two documents in unified form, appended to `out`. */
void policy_diff(struct bytes before, struct bytes after, const char *name_before, const char *name_after,
                 struct buf *out);

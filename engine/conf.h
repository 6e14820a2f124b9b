/* The daemon's configuration file: the table is in conf.c; this is what it fills. */
#pragma once

#include "base/conf.h"
#include "base/ip.h"
#include "base/log.h"

enum listener_tls { LISTENER_TLS_STARTTLS, LISTENER_TLS_IMPLICIT, LISTENER_TLS_NONE };

/* See conf_listener_admits_all for who may submit without AUTH. */
enum listener_auth {
    LISTENER_AUTH_REQUIRED,
    LISTENER_AUTH_OPTIONAL,
    LISTENER_AUTH_NONE,
    LISTENER_AUTH_CERTIFICATE, /* as required, but a client certificate that belongs to an account is enough
                                */
};

struct conf_listener {
    char *address;                        /* "0.0.0.0:587", "[::]:465" */
    int tls;                              /* enum listener_tls */
    int auth;                             /* enum listener_auth */
    struct conf_strings trusted_networks; /* may submit without AUTH */
    bool auth_without_tls;
    bool require_tls;
    int bare_newline;             /* enum smtp_bare_newline */
    char *certificate, *key;      /* paths; NULL: those of tls.certificate, else self-signed */
    char *min_version, *priority; /* NULL: those of tls */
    int client_certificates;      /* enum tls_client_certificates */
    char *client_ca;              /* path */
};

struct conf_certificate {          /* an entry of tls.certificates */
    char *certificate, *key;       /* paths */
    struct conf_strings names;     /* of SNI; empty: those of the certificate */
    struct conf_strings listeners; /* addresses; empty: all */
};

struct conf_dkim_key {
    char *domain, *selector;
    char *key; /* path */
    bool subdomains;
};

struct conf {
    char *host_name; /* NULL: gethostname */
    char *data_dir;
    char *user, *group;           /* dropped to when started as root; NULL: stay */
    int64_t workers;              /* 0: one per core */
    struct conf_tables listeners; /* struct conf_listener */
    struct {
        char *certificate, *key, *priority, *min_version, *crl;
        struct conf_tables certificates; /* struct conf_certificate */
    } tls;
    struct {
        uint64_t message_bytes;
        int64_t recipients;
        int64_t connections, connections_per_address, connection_rate_per_address; /* per minute */
        int64_t messages_per_minute_per_address;
        int64_t messages_per_connection, errors_per_connection, received_hops;
        uint64_t command_timeout_ms, data_timeout_ms;
        int64_t data_rate_min;
        int64_t auth_failures_per_minute; /* per address and per user */
        bool convert_8bit;
    } submission;
    struct {
        struct conf_tables keys; /* struct conf_dkim_key */
        struct conf_strings headers, oversign;
        bool timestamp;
        uint64_t expire_ms;     /* x=; 0: none */
        int64_t threads, queue; /* threads 0: one per core */
    } dkim;
    struct {
        int64_t connections;        /* outbound, whole process */
        int64_t jobs_per_domain;    /* window in memory */
        int64_t jobs_in_memory;     /* of all destinations and workers */
        uint64_t body_memory_bytes; /* over all workers */
        bool ipv6;
        bool pipelining_full;
        uint64_t clear_fallback_after_ms; /* age from which `later` permits clear text at the 2nd attempt */
    } delivery;
    struct {
        struct conf_strings servers; /* "127.0.0.1:53"; empty: resolv.conf */
        struct conf_strings trusted; /* addresses or networks whose AD bit counts as loopback's does */
        char *validation_probe;      /* dnssec_question_parse */
        uint64_t timeout_ms, total_timeout_ms;
        int64_t cache_entries;
    } dns;
    struct {
        char *ca_file; /* NULL: the system's */
        int64_t port;
    } mta_sts;
    struct {
        bool enabled;
        char *organization, *contact;
        char *from; /* conf_check fills it in: the contact */
        uint64_t delay_max_ms, retry_ms;
        bool private_addresses;
        char *receive; /* NULL: no address of ours takes reports */
        enum conf_unsigned { CONF_UNSIGNED_REFUSE, CONF_UNSIGNED_MARK } receive_unsigned;
    } tlsrpt;
    struct {
        uint64_t segment_bytes, wal_bytes, reserve_bytes, settle_ms;
        int64_t history_days;
        bool share_contents;
    } store;
    struct {
        int64_t after, unknown_percent, blocked_percent; /* engine/campaign_guard.h; 0: not looked at */
    } guard;
    struct {
        char *socket;
        char *listen; /* "127.0.0.1:8025" or NULL */
    } api;
    struct {
        int level, format;
    } log;             /* enum log_level, enum log_format */
    struct {
        uint64_t stuck_after_ms, abort_after_ms; /* engine/watchdog.h; whole seconds; abort 0: never */
    } watchdog;
    uint64_t drain_ms; /* grace after SIGTERM */
    bool core_dumps;
    char *policy_file; /* applied as version 1 when the store has no policy yet; NULL: the built-in default */
    char *policy_include_dir; /* NULL: HAYAUMA_SHARE_DIR */
    char *postmaster;         /* From of DSNs: "MAILER-DAEMON@host_name" if NULL */
};

/*
 * May a client outside of trusted_networks submit without AUTH?  Only on a loopback address, with auth
 * optional or none, and without trusted_networks: never over a network, whatever the file says.
 */
bool conf_listener_admits_all(const struct conf_listener *l);

extern const struct conf_key conf_keys[];
extern const struct conf_key conf_listener_keys[];    /* of one entry of `listeners` */
extern const struct conf_key conf_certificate_keys[]; /* of one entry of `tls.certificates` */
extern const struct conf_key conf_dkim_key_keys[];    /* of one entry of `dkim.keys` */

/*
 * Reads FILE.  Also checks what a table cannot: addresses, TLS key without certificate, open relays, unknown
 * users, unreadable files, …; all complaints at once, sorted by place.  Fills in what follows from other
 * values: the one listener of an empty list, api.socket, require_tls false where there is no TLS.
 * ERR_NOT_FOUND, ERR_DENIED or ERR_IO when the file cannot be read (the complaint says so), ERR_INVALID for
 * the rest.
 */
MUST_CHECK enum err conf_load(const char *file, struct conf *out, struct yaml_errors *errors);
/* The same; mistakes in policy_file, and in what it includes and names, are in `errors` too. */
MUST_CHECK enum err conf_load_with_policy(const char *file, struct conf *out, struct yaml_errors *errors);
/* The same for text, without looking at users and files: pure.  FILE names it and is where relative paths
 * start. */
MUST_CHECK enum err conf_load_text(const char *file, struct bytes text, struct conf *out,
                                   struct yaml_errors *errors);
void conf_free(struct conf *c); /* frees what it owns; the struct is the caller's */

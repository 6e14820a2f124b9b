/* Who may submit: an immutable counted snapshot of all accounts.  Any thread. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/ip.h"
#include "queue/lane.h"

#define SCRAM_KEY_BYTES 32

struct account {
    char *name; /* owned, as all pointers here */
    /* SCRAM-SHA-256 (RFC 5803): PLAIN and LOGIN are checked against the same keys.  iterations 0: no
     * password, only certificates. */
    uint8_t salt[16];
    uint32_t iterations;
    uint8_t stored_key[SCRAM_KEY_BYTES], server_key[SCRAM_KEY_BYTES];
    char **sender_domains; /* normalised; ".example.com" for sub-domains; empty: any */
    size_t sender_domain_count;
    struct ip_net *networks; /* where it may come from; empty: anywhere */
    size_t network_count;
    uint32_t max_connections;     /* 0: no limit of its own */
    uint32_t messages_per_minute; /* 0: no limit */
    char **certificates; /* client certificates that are as good as the password: engine/net/tls_server.h says
                            how */
    size_t certificate_count;
    char *campaign; /* of its mail without X-Campaign; NULL: none */
    enum priority priority; /* of its mail without X-Hayauma-Priority */
    bool disabled;
    int64_t created_unix;
};
void account_fini(struct account *a);
void account_copy(struct account *to, const struct account *from);

struct accounts; /* snapshot */
struct accounts *accounts_ref(struct accounts *a);
void accounts_unref(struct accounts *a);
size_t accounts_count(const struct accounts *a);
const struct account *accounts_at(const struct accounts *a, size_t i);
const struct account *accounts_find(const struct accounts *a, struct bytes name); /* borrowed, or NULL */
uint64_t accounts_generation(const struct accounts *a); /* changes with every snapshot: for caches */

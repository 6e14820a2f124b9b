/*
 * All keys in force, as one immutable counted snapshot.  Thread: any.
 */
#pragma once

#include <stdatomic.h>

#include "base/hash.h"
#include "engine/conf.h"
#include "engine/dkim/key.h"
#include "engine/dkim/record.h"
#include "policy/domain.h"

#define DKIM_NAME_MAX 40 /* of a field that may be signed, in octets */

struct dkim_entry {
    char domain[DOMAIN_MAX_BYTES + 1]; /* A-labels, lower case */
    char *selector;                    /* owned */
    bool subdomains;                   /* signs for what lies below its domain too */
    struct dkim_key *key;              /* owned */
};

/* What may sign for one domain: at most one key of each kind. */
struct dkim_signers {
    const char *domain;
    const struct dkim_entry *by_algorithm[DKIM_ALGORITHMS]; /* or NULL */
};

enum dkim_oversign {
    OVERSIGN_NO,
    OVERSIGN_PRESENT, /* named once more than it stands there, if it does */
    OVERSIGN_ALWAYS,
};
struct dkim_field {
    const char *name; /* as it will stand in h= */
    size_t len;
    enum dkim_oversign oversign;
};

struct dkim_keyring {
    atomic_uint refs;
    struct dkim_entry *entries; /* owned */
    size_t count;
    struct map domains;        /* struct dkim_signers by domain */
    struct dkim_field *fields; /* owned */
    size_t field_count;
    char **names; /* owned: those of `fields` that come from the configuration */
    size_t name_count;
    bool timestamp;    /* t= */
    uint64_t expire_s; /* x=; 0: none */
};

/* Reads the files.  *why: a sentence (mem_free). */
MUST_CHECK enum err dkim_keyring_load(const struct conf *conf, struct dkim_keyring **out, char **why);
struct dkim_keyring *dkim_keyring_ref(struct dkim_keyring *r);
void dkim_keyring_unref(struct dkim_keyring *r);
/* Who signs for this domain (normalised): its own keys, else those of the nearest domain above that has
 * `subdomains`. */
const struct dkim_signers *dkim_keyring_find(const struct dkim_keyring *r, const char *domain);

/* A field name that h= may hold (RFC 5322 §3.6.8), of at most DKIM_NAME_MAX octets. */
bool dkim_field_name_is_valid(struct bytes name);

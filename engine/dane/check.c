/* Does what the server presented satisfy the records?  Any one that matches is enough. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "engine/dane/dane_priv.h"
#include "engine/net/certificate.h"

struct check {
    struct dane_chain *chain;
    const char *const *names;
    size_t name_count;
    int64_t now_unix;
    bool name_known;
    const char *name; /* the leaf has it; NULL: none of them */
};

static const char *name_of_leaf(struct check *c)
{
    if (!c->name_known && dane_chain_leaf(c->chain))
        c->name = certificate_find_name(dane_chain_leaf(c->chain), c->names, c->name_count);
    c->name_known = true;
    return c->name;
}

/* RFC 7672 §3.1.1: nothing but the certificate or its key. */
static bool end_entity(struct check *c, const struct tlsa *t, const char **why)
{
    struct bytes certificate, spki;

    if (dane_chain_at(c->chain, 0, &certificate, &spki) && tlsa_matches(t, certificate, spki))
        return true;
    *why = t->selector == DANE_SELECTOR_KEY ? "not the key of the server's certificate"
                                            : "not the server's certificate";
    return false;
}

static bool path_to_presented(struct check *c, const struct tlsa *t, bool *presented, const char **why)
{
    struct bytes certificate, spki;

    for (size_t i = 1; i < dane_chain_count(c->chain); i++) {
        if (!dane_chain_at(c->chain, i, &certificate, &spki) || !tlsa_matches(t, certificate, spki))
            continue;
        *presented = true;
        if (dane_path_to_presented(c->chain, i, c->now_unix, why))
            return true;
    }
    return false;
}

/* RFC 7672 §3.1.2: a path to the anchor, and one of our names. */
static bool trust_anchor(struct check *c, const struct tlsa *t, const char **why)
{
    bool presented = false;

    *why = "no certificate of the chain is the anchor";
    bool found = path_to_presented(c, t, &presented, why);
    if (!found && t->matching == DANE_MATCHING_FULL)
        found = t->selector == DANE_SELECTOR_KEY
                    ? dane_path_to_key(c->chain, t->data, c->now_unix, why)
                    : !presented && dane_path_to_certificate(c->chain, t->data, c->now_unix, why);
    if (found && !name_of_leaf(c)) {
        *why = "the certificate is for another name";
        found = false;
    }
    return found;
}

static void mismatch(struct dane_verdict *out, const struct tlsa *t, const char *why)
{
    char text[TLSA_SHORT_BYTES];

    out->check = DANE_CHECK_MISMATCH;
    out->name = NULL;
    if (t)
        snprintf(out->why, sizeof(out->why), "TLSA %s: %s", tlsa_format_short(t, text), why);
    else
        snprintf(out->why, sizeof(out->why), "%s", why);
}

void dane_check(const struct dane_records *records, const gnutls_datum_t *chain, unsigned count,
                const char *const *names, size_t name_count, int64_t now_unix, struct dane_verdict *out)
{
    struct check c = {.names = names, .name_count = name_count, .now_unix = now_unix};
    const char *why = "no TLSA record is usable";

    *out = (struct dane_verdict){.check = DANE_CHECK_MISMATCH};
    c.chain = dane_chain_create(chain, chain ? count : 0, &why);
    if (!c.chain || records->state != DANE_USABLE) {
        mismatch(out, NULL, why);
        dane_chain_destroy(c.chain);
        return;
    }
    /* Usage 3 first: it costs next to nothing, and is what most publish. */
    for (int usage = DANE_USAGE_EE; usage >= DANE_USAGE_TA; usage--) {
        for (size_t i = 0; i < records->count; i++) {
            const struct tlsa *t = &records->records[i];
            if (t->usage != usage)
                continue;
            if (usage == DANE_USAGE_EE ? end_entity(&c, t, &why) : trust_anchor(&c, t, &why)) {
                *out = (struct dane_verdict){
                    .check = DANE_CHECK_MATCH, .record = i, .name = usage == DANE_USAGE_TA ? c.name : NULL};
                dane_chain_destroy(c.chain);
                return;
            }
            mismatch(out, t, why);
        }
    }
    dane_chain_destroy(c.chain);
}

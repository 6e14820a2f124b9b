#include "engine/dkim/keyring.h"

#include "base/mem.h"

/*
 * What is signed when the configuration names nothing.  Fields that a reader is shown, or that say how to
 * read the body, are oversigned (RFC 6376 §8.15), so that none can be added on the way.  A List-Unsubscribe
 * that is not there is not: mailing lists add theirs.
 */
static const struct dkim_field preset_fields[] = {
#define FIELD(name, oversign)                                                                                \
    {                                                                                                        \
        (name), sizeof(name) - 1, (oversign)                                                                 \
    }
    FIELD("From", OVERSIGN_ALWAYS),
    FIELD("To", OVERSIGN_ALWAYS),
    FIELD("Cc", OVERSIGN_ALWAYS),
    FIELD("Subject", OVERSIGN_ALWAYS),
    FIELD("Date", OVERSIGN_ALWAYS),
    FIELD("Message-ID", OVERSIGN_ALWAYS),
    FIELD("Reply-To", OVERSIGN_ALWAYS),
    FIELD("Content-Type", OVERSIGN_ALWAYS),
    FIELD("Content-Transfer-Encoding", OVERSIGN_PRESENT),
    FIELD("MIME-Version", OVERSIGN_PRESENT),
    FIELD("Sender", OVERSIGN_NO),
    FIELD("In-Reply-To", OVERSIGN_NO),
    FIELD("References", OVERSIGN_NO),
    FIELD("List-Unsubscribe", OVERSIGN_PRESENT),
    FIELD("List-Unsubscribe-Post", OVERSIGN_PRESENT),
    FIELD("List-Id", OVERSIGN_NO),
    FIELD("List-Help", OVERSIGN_NO),
    FIELD("List-Subscribe", OVERSIGN_NO),
    FIELD("List-Post", OVERSIGN_NO),
    FIELD("List-Owner", OVERSIGN_NO),
    FIELD("List-Archive", OVERSIGN_NO),
    FIELD("Feedback-ID", OVERSIGN_NO),
    FIELD("Auto-Submitted", OVERSIGN_NO),
    FIELD("TLS-Required", OVERSIGN_PRESENT),
    FIELD("TLS-Report-Domain", OVERSIGN_PRESENT),
    FIELD("TLS-Report-Submitter", OVERSIGN_PRESENT),
#undef FIELD
};

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool dkim_field_name_is_valid(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!is_alnum(name.at[i]) && name.at[i] != '-' && name.at[i] != '_')
            return false;
    return name.len > 0 && name.len <= DKIM_NAME_MAX && !bytes_ieq(name, BYTES("DKIM-Signature"));
}

/* ---- which fields ---- */

static void add_field(struct dkim_keyring *r, const char *name, enum dkim_oversign oversign)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < r->field_count; i++)
        if (bytes_ieq(bytes_make(r->fields[i].name, r->fields[i].len), bytes_make(name, len))) {
            r->fields[i].oversign = MAX_OF(r->fields[i].oversign, oversign);
            return;
        }
    r->fields[r->field_count++] = (struct dkim_field){name, len, oversign};
}

/* `headers` replaces the presets, `oversign` adds to what is oversigned; From is always both (RFC 6376 §5.4).
 */
static void set_fields(struct dkim_keyring *r, const struct conf *conf)
{
    const struct conf_strings *headers = &conf->dkim.headers, *oversign = &conf->dkim.oversign;
    size_t max = COUNT_OF(preset_fields) + headers->count + oversign->count + 1;

    r->fields = mem_zalloc(max * sizeof(*r->fields));
    r->names = mem_zalloc((headers->count + oversign->count + 1) * sizeof(*r->names));
    for (size_t i = 0; i < COUNT_OF(preset_fields) && !headers->count; i++)
        add_field(r, preset_fields[i].name, preset_fields[i].oversign);
    add_field(r, "From", OVERSIGN_ALWAYS);
    for (size_t i = 0; i < headers->count; i++)
        add_field(r, r->names[r->name_count++] = mem_strdup(headers->items[i]), OVERSIGN_NO);
    for (size_t i = 0; i < oversign->count; i++)
        add_field(r, r->names[r->name_count++] = mem_strdup(oversign->items[i]), OVERSIGN_ALWAYS);
}

/* ---- keys ---- */

static enum err add_key(struct dkim_keyring *r, const struct conf_dkim_key *conf, char **why)
{
    struct dkim_entry *e = &r->entries[r->count];

    if (domain_normalise(bytes_of(conf->domain), e->domain) != OK ||
        domain_is_literal(bytes_of(conf->domain))) {
        *why = text_format("dkim.keys: '%s' is not a domain", conf->domain);
        return ERR_INVALID;
    }
    enum err err = dkim_key_read(conf->key, &e->key, why);
    if (err)
        return err;
    e->selector = mem_strdup(conf->selector);
    e->subdomains = conf->subdomains;
    r->count++;
    return OK;
}

static enum err index_key(struct dkim_keyring *r, const struct dkim_entry *e, char **why)
{
    struct dkim_signers *s = map_find(&r->domains, bytes_of(e->domain));
    enum dkim_algorithm a = dkim_key_algorithm(e->key);

    if (!s) {
        s = MEM_NEW(struct dkim_signers);
        s->domain = e->domain;
        map_put(&r->domains, bytes_of(s->domain), s);
    }
    if (s->by_algorithm[a]) {
        *why = text_format("dkim.keys: %s has two %s keys, %s and %s: one of each kind signs", e->domain,
                           dkim_algorithm_key_type(a), s->by_algorithm[a]->selector, e->selector);
        return ERR_INVALID;
    }
    s->by_algorithm[a] = e;
    return OK;
}

enum err dkim_keyring_load(const struct conf *conf, struct dkim_keyring **out, char **why)
{
    const struct conf_dkim_key *keys = conf->dkim.keys.items;
    struct dkim_keyring *r = MEM_NEW(struct dkim_keyring);
    enum err e = OK;

    atomic_init(&r->refs, 1);
    r->timestamp = conf->dkim.timestamp;
    r->expire_s = conf->dkim.expire_ms / 1000;
    set_fields(r, conf);
    r->entries = mem_zalloc((conf->dkim.keys.count + 1) * sizeof(*r->entries));
    for (size_t i = 0; i < conf->dkim.keys.count && !e; i++)
        e = add_key(r, &keys[i], why);
    for (size_t i = 0; i < r->count && !e; i++)
        e = index_key(r, &r->entries[i], why);
    if (e)
        dkim_keyring_unref(r);
    else
        *out = r;
    return e;
}

struct dkim_keyring *dkim_keyring_ref(struct dkim_keyring *r)
{
    if (r)
        atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

void dkim_keyring_unref(struct dkim_keyring *r)
{
    struct dkim_signers *s;

    if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t at = 0; (s = map_next(&r->domains, &at));)
        mem_free(s);
    map_fini(&r->domains);
    for (size_t i = 0; i < r->count; i++) {
        dkim_key_destroy(r->entries[i].key);
        mem_free(r->entries[i].selector);
    }
    for (size_t i = 0; i < r->name_count; i++)
        mem_free(r->names[i]);
    mem_free(r->names);
    mem_free(r->fields);
    mem_free(r->entries);
    mem_free(r);
}

static bool reaches_below(const struct dkim_signers *s)
{
    for (size_t a = 0; a < DKIM_ALGORITHMS; a++)
        if (s->by_algorithm[a] && s->by_algorithm[a]->subdomains)
            return true;
    return false;
}

const struct dkim_signers *dkim_keyring_find(const struct dkim_keyring *r, const char *domain)
{
    const struct dkim_signers *s = map_find(&r->domains, bytes_of(domain));

    while (!s && (domain = strchr(domain, '.'))) {
        domain++;
        s = map_find(&r->domains, bytes_of(domain));
        if (s && !reaches_below(s))
            s = NULL;
    }
    return s;
}

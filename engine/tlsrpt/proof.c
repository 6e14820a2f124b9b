#include "engine/tlsrpt/proof.h"

#include <string.h>

#include "engine/dkim/canon.h"
#include "engine/dkim/from.h"
#include "engine/dkim/record.h"

const char *proof_verdict_name(enum proof_verdict v)
{
    static const char *const names[] = {"", "good", "none", "bad", "unknown"};

    return names[v];
}

/* One From, as RFC 5322 §3.6 has it: of several nobody knows which is meant. */
static bool from_of(struct bytes mail, char out[DOMAIN_MAX_BYTES + 1])
{
    struct bytes field, from = {NULL, 0};

    for (size_t i = 0; i < DKIM_FIELDS_MAX && dkim_field_next(&mail, &field); i++) {
        if (!bytes_ieq(dkim_field_name(field), BYTES("From")))
            continue;
        if (from.at)
            return false;
        from = field;
    }
    return from.at && dkim_from_domain(bytes_skip(from, bytes_find(from, ':') + 1), out);
}

/* The same, or one below the other: who may sign for example.com may report for mail.example.com. */
static bool is_of(struct bytes a, struct bytes b)
{
    BUF_LOCAL(suffix);

    if (a.len < b.len)
        return is_of(b, a);
    buf_putc(&suffix, '.');
    buf_put(&suffix, b);
    return bytes_ieq(a, b) || bytes_iends(a, buf_bytes(&suffix));
}

void proof_begin(struct proof *p, struct bytes mail)
{
    struct bytes fields[DKIM_CHECKED_MAX];
    char from[DOMAIN_MAX_BYTES + 1];
    size_t found = dkim_signatures_find(mail, fields);

    p->domain = "";
    p->why = found ? "its signatures are of other domains than From" : "it is not signed";
    if (!from_of(mail, from)) {
        p->why = "it does not say who it is from";
        return;
    }
    for (size_t i = 0; i < found; i++) {
        struct proof_asked *a = &p->asked[p->count];
        const char *why;
        BUF_LOCAL(name);
        if (dkim_signature_parse(fields[i], &p->arena, &a->signature, &why) != OK) {
            p->why = why;
            continue;
        }
        if (!is_of(bytes_of(from), bytes_of(a->signature.domain)))
            continue;
        dkim_record_name(a->signature.selector, a->signature.domain, &name);
        a->name = arena_strdup(&p->arena, buf_str(&name));
        p->count++;
    }
}

/* RFC 6376 §3.6.2.2: the strings of a record are joined. */
static struct bytes joined(struct bytes rdata, struct arena *arena)
{
    BUF_LOCAL(text);

    while (rdata.len) {
        size_t len = (unsigned char)rdata.at[0];
        rdata = bytes_skip(rdata, 1);
        buf_put(&text, bytes_first(rdata, len));
        rdata = bytes_skip(rdata, len);
    }
    return bytes_make(arena_dup(arena, buf_bytes(&text)), text.len);
}

void proof_take_answer(struct proof *p, size_t at, const struct dns_rrset *set)
{
    struct proof_asked *a = &p->asked[at];

    a->unanswered = set->status == DNS_SERVFAIL || set->status == DNS_TIMEOUT || set->status == DNS_LOOP;
    for (size_t i = 0; set->status == DNS_OK && i < set->count && a->text_count < PROOF_TEXTS_MAX; i++)
        a->texts[a->text_count++] = joined(set->rdata[i], &p->arena);
}

void proof_end(struct proof *p, struct bytes mail, int64_t now_unix)
{
    bool unanswered = false;

    p->verdict = p->count ? PROOF_BAD : PROOF_NONE;
    for (size_t i = 0; i < p->count && p->verdict != PROOF_GOOD; i++) {
        const struct proof_asked *a = &p->asked[i];
        p->domain = a->signature.domain;
        unanswered = unanswered || a->unanswered;
        p->why =
            dkim_signature_check(&a->signature, mail, a->texts, a->text_count, BYTES("tlsrpt"), now_unix);
        if (!p->why)
            p->verdict = PROOF_GOOD;
    }
    if (p->verdict == PROOF_GOOD) {
        p->why = "";
    } else if (unanswered) {
        p->verdict = PROOF_UNKNOWN;
        p->why = "DNS did not answer about its key";
    }
}

void proof_fini(struct proof *p)
{
    arena_fini(&p->arena);
}

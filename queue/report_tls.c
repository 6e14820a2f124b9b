#include "queue/report_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct tally {
    struct report_tls report;
    struct map by_key; /* struct report_tls_row, in the report's arena */
};

static void count_cipher(struct arena *arena, struct report_tls_row *row, const struct report_cell *c)
{
    for (size_t i = 0; i < row->cipher_count; i++) {
        struct report_cipher *known = &row->ciphers[i];
        if (bytes_eq(bytes_of(known->version), c->version) && bytes_eq(bytes_of(known->cipher), c->cipher) &&
            bytes_eq(bytes_of(known->kx), c->kx)) {
            known->delivered += c->attempts;
            return;
        }
    }
    size_t n = row->cipher_count;
    if ((n & (n - 1)) == 0) { /* a power of two, or none: it is full */
        struct report_cipher *more = arena_alloc(arena, MAX_OF(n * 2, (size_t)1) * sizeof(*more));
        if (n)
            memcpy(more, row->ciphers, n * sizeof(*more));
        row->ciphers = more;
    }
    row->ciphers[row->cipher_count++] = (struct report_cipher){
        arena_dup(arena, c->version), arena_dup(arena, c->cipher), arena_dup(arena, c->kx), c->attempts};
}

static bool is_verified(const struct report_cell *c)
{
    return tls_verify_is_good(c->verify);
}

static bool has_word(struct bytes text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t at = 0; at < text.len; at++)
            if (bytes_starts(bytes_skip(text, at), bytes_of(words[i])))
                return true;
    return false;
}

/* RFC 9325 §3.1.1, §4.1; names as IANA and GnuTLS write them. */
static void count_weak(struct report_tls_row *row, const struct report_cell *c)
{
    static const char *const ciphers[] = {"_NULL", "RC4",  "ARCFOUR", "3DES", "_DES_",
                                          "RC2",   "IDEA", "EXPORT",  "MD5"};
    static const char *const exchanges[] = {"DHE-WEAK", "ANONYMOUS"};
    uint64_t n = c->attempts;
    bool version = !bytes_eq(c->version, BYTES("TLS1.3")) && !bytes_eq(c->version, BYTES("TLS1.2"));
    bool cipher = has_word(c->cipher, ciphers, COUNT_OF(ciphers));
    bool kx = bytes_eq(c->kx, BYTES("RSA")) || bytes_starts(c->cipher, BYTES("TLS_RSA_")) ||
              has_word(c->kx, exchanges, COUNT_OF(exchanges));
    bool certificate = c->verify == TLS_VERIFY_WEAK;

    row->weak_version += version ? n : 0;
    row->weak_cipher += cipher ? n : 0;
    row->weak_kx += kx ? n : 0;
    row->weak_certificate += certificate ? n : 0;
    row->weak += version || cipher || kx || certificate ? n : 0;
}

static void count_encrypted(struct arena *arena, struct report_tls_row *row, const struct report_cell *c)
{
    uint64_t n = c->attempts;

    if (bytes_eq(c->version, BYTES("TLS1.3")))
        row->tls13 += n;
    else if (bytes_eq(c->version, BYTES("TLS1.2")))
        row->tls12 += n;
    else
        row->tls_older += n;
    if (is_verified(c))
        row->verified += n;
    else
        row->unverified += n;
    if ((size_t)c->verify < REPORT_TLS_VERIFIES)
        row->verify[c->verify] += n;
    if (c->resumed)
        row->resumed += n;
    count_weak(row, c);
    count_cipher(arena, row, c);
}

static void count_clear(struct report_tls_row *row, const struct report_cell *c)
{
    uint64_t n = c->attempts;

    if (c->fallback) {
        row->clear_by_fallback += n;
    } else if (c->effective == TLS_OFF) {
        row->clear_by_choice += n;
    } else {
        row->clear_by_lack += n;
        if (!c->offered)
            row->clear_not_offered += n;
    }
}

static void count_delivered(struct arena *arena, struct report_tls_row *row, const struct report_cell *c)
{
    bool encrypted = c->version.len > 0;

    row->delivered += c->attempts;
    if (encrypted)
        count_encrypted(arena, row, c);
    else
        count_clear(row, c);
    if ((size_t)c->dane < REPORT_TLS_DANES)
        row->dane[c->dane] += c->attempts;
    if ((size_t)c->sts < REPORT_TLS_STSES)
        row->sts[c->sts] += c->attempts;
    if ((size_t)c->wanted < REPORT_TLS_LEVELS) {
        row->wanted[c->wanted].delivered += c->attempts;
        row->wanted[c->wanted].encrypted += encrypted ? c->attempts : 0;
        row->wanted[c->wanted].verified += encrypted && is_verified(c) ? c->attempts : 0;
    }
    if ((size_t)c->effective < REPORT_TLS_LEVELS) {
        row->effective[c->effective].delivered += c->attempts;
        row->effective[c->effective].encrypted += encrypted ? c->attempts : 0;
        row->effective[c->effective].verified += encrypted && is_verified(c) ? c->attempts : 0;
    }
}

static void count(struct arena *arena, struct report_tls_row *row, const struct report_cell *c)
{
    row->attempts += c->attempts;
    if ((size_t)c->failure < REPORT_TLS_FAILURES)
        row->failure[c->failure] += c->attempts;
    if (c->then == THEN_NOTHING)
        return;
    if (c->outcome == OUTCOME_DELIVERED) {
        count_delivered(arena, row, c);
    } else if (c->tls_failed && c->outcome == OUTCOME_DEFERRED) {
        row->held_for_tls += c->attempts;
        if ((size_t)c->wanted < REPORT_TLS_LEVELS)
            row->wanted[c->wanted].held += c->attempts;
        if ((size_t)c->effective < REPORT_TLS_LEVELS)
            row->effective[c->effective].held += c->attempts;
    } else if (c->tls_failed) {
        row->failed_for_tls += c->attempts;
    }
}

static enum err on_cell(void *arg, const struct report_cell *c)
{
    struct tally *t = arg;
    struct report_tls_row *row = report_row(&t->by_key, &t->report.arena, c->key, sizeof(*row));

    if (!row)
        return ERR_FULL;
    row->hour_unix = c->hour * 3600;
    count(&t->report.arena, row, c);
    count(&t->report.arena, &t->report.total, c);
    return OK;
}

static int by_use(const void *a, const void *b)
{
    const struct report_cipher *x = a, *y = b;
    int c = report_compare(x->delivered, y->delivered);

    if (!c)
        c = strcmp(x->version, y->version);
    if (!c)
        c = strcmp(x->cipher, y->cipher);
    return c ? c : strcmp(x->kx, y->kx);
}

static int by_volume(const void *a, const void *b)
{
    const struct report_tls_row *x = *(void *const *)a, *y = *(void *const *)b;
    int c = report_compare(x->attempts, y->attempts);

    return c ? c : report_by_key(a, b);
}

static int by_failed(const void *a, const void *b)
{
    const struct report_tls_row *x = *(void *const *)a, *y = *(void *const *)b;
    int c = report_compare(x->failed_for_tls, y->failed_for_tls);

    return c ? c : by_volume(a, b);
}

static int by_waiting(const void *a, const void *b)
{
    const struct report_tls_row *x = *(void *const *)a, *y = *(void *const *)b;
    int c = report_compare(x->held_for_tls, y->held_for_tls);

    return c ? c : by_volume(a, b);
}

static uint64_t clear_of(const struct report_tls_row *r)
{
    return r->clear_by_choice + r->clear_by_lack + r->clear_by_fallback;
}

static int by_clear(const void *a, const void *b)
{
    const struct report_tls_row *x = *(void *const *)a, *y = *(void *const *)b;
    int c = report_compare(clear_of(x), clear_of(y));

    return c ? c : by_volume(a, b);
}

static int by_weak(const void *a, const void *b)
{
    const struct report_tls_row *x = *(void *const *)a, *y = *(void *const *)b;
    int c = report_compare(x->weak, y->weak);

    return c ? c : by_volume(a, b);
}

static bool is_wanted(const void *row, enum report_only only)
{
    const struct report_tls_row *r = row;

    return only == REPORT_ONLY_CLEAR ? clear_of(r) > 0 : only == REPORT_ONLY_WEAK ? r->weak > 0 : true;
}

static void sort_ciphers(void *of)
{
    struct report_tls_row *row = of;

    if (row->cipher_count)
        qsort(row->ciphers, row->cipher_count, sizeof(*row->ciphers), by_use);
}

static void take_rows(struct tally *t, const struct report_query *q)
{
    static const report_order_fn orders[] = {
        [REPORT_SORT_VOLUME] = by_volume, [REPORT_SORT_KEY] = report_by_key,
        [REPORT_SORT_FAILED] = by_failed, [REPORT_SORT_WAITING] = by_waiting,
        [REPORT_SORT_CLEAR] = by_clear,   [REPORT_SORT_WEAK] = by_weak,
    };
    static const struct report_shape shape = {sizeof(struct report_tls_row), orders, is_wanted, sort_ciphers};
    struct report_tls *r = &t->report;

    r->rows = report_rows(&t->by_key, q, &shape, &r->arena, &r->span, &r->count);
    sort_ciphers(&r->total);
}

enum err report_tls(const char *dir, const struct report_query *q, struct report_tls *out)
{
    struct tally t = {.report.total.key = "total"};
    struct report_tls *r = &t.report;
    const struct report_scan what = {.query = q, .on_cell = on_cell, .arg = &t, .tls = true};
    enum err e = report_scan(dir, &what, &r->span);

    if (!e)
        take_rows(&t, q);
    map_fini(&t.by_key);
    if (e) {
        arena_fini(&r->arena);
        return e;
    }
    *out = *r;
    return OK;
}

void report_tls_fini(struct report_tls *r)
{
    arena_fini(&r->arena);
    *r = (struct report_tls){0};
}

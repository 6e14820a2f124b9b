/* The sums of queue/intake.c, added up by what is asked for.  SQLite groups; we spread TLS and proof over
 * columns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "queue/intake.h"
#include "queue/sql.h"

#define BUSY_MS 2000
#define HOUR_S  3600

/* ---- rows ---- */

static void row_fini(struct intake_row *row)
{
    mem_free(row->key);
    for (size_t i = 0; i < row->cipher_count; i++) {
        mem_free(row->ciphers[i].version);
        mem_free(row->ciphers[i].cipher);
    }
    mem_free(row->ciphers);
    for (size_t i = 0; i < row->auth_count; i++)
        mem_free(row->auths[i].name);
}

void intake_report_fini(struct intake_report *r)
{
    for (size_t i = 0; i < r->count; i++)
        row_fini(&r->rows[i]);
    mem_free(r->rows);
    row_fini(&r->total);
    *r = (struct intake_report){0};
}

/* One group of the query. */
struct part {
    const char *key, *version, *cipher, *auth;
    uint64_t messages, recipients, bytes;
    int64_t last;
};

static void add_cipher(struct intake_row *row, const struct part *p)
{
    for (size_t i = 0; i < row->cipher_count; i++)
        if (strcmp(row->ciphers[i].version, p->version) == 0 &&
            strcmp(row->ciphers[i].cipher, p->cipher) == 0) {
            row->ciphers[i].messages += p->messages;
            return;
        }
    row->ciphers = mem_realloc(row->ciphers, (row->cipher_count + 1) * sizeof(*row->ciphers));
    row->ciphers[row->cipher_count++] =
        (struct intake_cipher){mem_strdup(p->version), mem_strdup(p->cipher), p->messages};
}

static void add_auth(struct intake_row *row, const struct part *p)
{
    for (size_t i = 0; i < row->auth_count; i++)
        if (strcmp(row->auths[i].name, p->auth) == 0) {
            row->auths[i].messages += p->messages;
            return;
        }
    if (row->auth_count == INTAKE_AUTHS)
        return;
    row->auths[row->auth_count].name = mem_strdup(p->auth);
    row->auths[row->auth_count++].messages = p->messages;
}

static void add(struct intake_row *row, const struct part *p)
{
    row->messages += p->messages;
    row->recipients += p->recipients;
    row->bytes += p->bytes;
    row->last_unix = MAX_OF(row->last_unix, p->last);
    if (!*p->version)
        row->clear += p->messages;
    else if (strcmp(p->version, "TLS1.3") == 0)
        row->tls13 += p->messages;
    else if (strcmp(p->version, "TLS1.2") == 0)
        row->tls12 += p->messages;
    else
        row->older += p->messages;
    if (*p->version)
        add_cipher(row, p);
    add_auth(row, p);
}

/* ---- sorting ---- */

static int by_cipher(const void *a, const void *b)
{
    const struct intake_cipher *x = a, *y = b;

    return x->messages != y->messages ? (x->messages < y->messages ? 1 : -1) : strcmp(x->cipher, y->cipher);
}

static int by_number(uint64_t x, uint64_t y)
{
    return x == y ? 0 : x < y ? 1 : -1;
}

static int by_key(const void *a, const void *b)
{
    const struct intake_row *x = a, *y = b;

    return x->hour_unix != y->hour_unix ? (x->hour_unix < y->hour_unix ? -1 : 1) : strcmp(x->key, y->key);
}

static int by_volume(const void *a, const void *b)
{
    return by_number(((const struct intake_row *)a)->messages, ((const struct intake_row *)b)->messages)
               ?: by_key(a, b);
}

static int by_clear(const void *a, const void *b)
{
    return by_number(((const struct intake_row *)a)->clear, ((const struct intake_row *)b)->clear)
               ?: by_volume(a, b);
}

/* What is not TLS 1.3. */
static int by_old(const void *a, const void *b)
{
    const struct intake_row *x = a, *y = b;

    return by_number(x->messages - x->tls13, y->messages - y->tls13) ?: by_volume(a, b);
}

static void finish(struct intake_report *r, const struct intake_query *q)
{
    static int (*const orders[])(const void *, const void *) = {
        [INTAKE_SORT_VOLUME] = by_volume,
        [INTAKE_SORT_KEY] = by_key,
        [INTAKE_SORT_CLEAR] = by_clear,
        [INTAKE_SORT_OLD] = by_old,
    };

    if (r->count > 1)
        qsort(r->rows, r->count, sizeof(*r->rows), q->by == INTAKE_BY_HOUR ? by_key : orders[q->sort]);
    r->rows_in_all = r->count;
    while (q->limit && r->count > q->limit)
        row_fini(&r->rows[--r->count]);
    for (size_t i = 0; i < r->count; i++)
        if (r->rows[i].cipher_count > 1)
            qsort(r->rows[i].ciphers, r->rows[i].cipher_count, sizeof(struct intake_cipher), by_cipher);
    if (r->total.cipher_count > 1)
        qsort(r->total.ciphers, r->total.cipher_count, sizeof(struct intake_cipher), by_cipher);
}

/* ---- the query ---- */

static void mask(struct ip *ip, size_t octets)
{
    memset(ip->octets + octets, 0, sizeof(ip->octets) - octets);
}

/* network("192.0.2.7") → "192.0.2.0/24" */
static void sql_network(sqlite3_context *context, int count, sqlite3_value **values)
{
    const char *text = (const char *)sqlite3_value_text(values[0]);
    struct ip ip;
    char out[IP_TEXT_BYTES];

    (void)count;
    if (!text || !ip_parse(bytes_of(text), &ip)) {
        sqlite3_result_text(context, "", 0, SQLITE_STATIC);
        return;
    }
    struct ip_net net = {.base = ip, .prefix = ip.family == 4 ? 24 : 64};
    mask(&net.base, net.prefix / 8);
    sqlite3_result_text(context, ip_net_format(&net, out), -1, SQLITE_TRANSIENT);
}

/* within("192.0.2.7"): the network of the query has it */
static void sql_within(sqlite3_context *context, int count, sqlite3_value **values)
{
    const struct ip_net *net = sqlite3_user_data(context);
    const char *text = (const char *)sqlite3_value_text(values[0]);
    struct ip ip;

    (void)count;
    sqlite3_result_int(context, !net || (text && ip_parse(bytes_of(text), &ip) && ip_net_has(net, &ip)));
}

static enum err open_file(const char *dir, const struct intake_query *q, sqlite3 **out)
{
    BUF_LOCAL(path);

    buf_putf(&path, "%s/intake.db", dir);
    sql_setup();
    int rc = sqlite3_open_v2(buf_str(&path), out, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_create_function(*out, "network", 1, SQLITE_UTF8 | SQLITE_DETERMINISTIC, NULL,
                                     sql_network, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_create_function(*out, "within", 1, SQLITE_UTF8 | SQLITE_DETERMINISTIC,
                                     (void *)(uintptr_t)q->source, sql_within, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_busy_timeout(*out, BUSY_MS);
    return sql_err(rc);
}

/* The keys are a closed list: no text of the asker's gets into the statement. */
static enum err prepare(sqlite3 *db, const struct intake_query *q, sqlite3_stmt **out)
{
    static const char *const keys[] = {
        [INTAKE_BY_ACCOUNT] = "account",
        [INTAKE_BY_SOURCE] = "source",
        [INTAKE_BY_NETWORK] = "network(source)",
        [INTAKE_BY_LISTENER] = "listener",
        [INTAKE_BY_VERSION] = "version",
        [INTAKE_BY_CIPHER] = "cipher",
        [INTAKE_BY_AUTH] = "auth",
        [INTAKE_BY_HOUR] = "hour",
    };
    char sql[640];

    snprintf(
        sql, sizeof(sql),
        "SELECT %s, version, cipher, auth, sum(messages), sum(recipients), sum(bytes), max(last) FROM intake"
        " WHERE hour > ?1 AND hour < ?2 AND (?3 IS NULL OR account = ?3) AND (?4 IS NULL OR listener = ?4)"
        " AND (?5 IS NULL OR auth = ?5) AND within(source) GROUP BY 1, 2, 3, 4 ORDER BY 1",
        keys[q->by]);
    enum err e = sql_prepare(db, out, sql);
    if (e)
        return e;
    sql_bind_int(*out, 1, q->since_unix ? q->since_unix - HOUR_S : -1);
    sql_bind_int(*out, 2, q->until_unix ? q->until_unix : INT64_MAX);
    sql_bind_text(*out, 3, q->account);
    sql_bind_text(*out, 4, q->listener);
    sql_bind_text(*out, 5, q->auth);
    return OK;
}

static struct intake_row *row_of(struct intake_report *r, size_t *cap, const char *key, bool hour)
{
    /* Rows come grouped by the key, so that a new key is always the next row. */
    if (r->count && strcmp(r->rows[r->count - 1].key, key) == 0)
        return &r->rows[r->count - 1];
    if (r->count == *cap) {
        *cap = MAX_OF(*cap * 2, (size_t)16);
        r->rows = mem_realloc(r->rows, *cap * sizeof(*r->rows));
    }
    r->rows[r->count] = (struct intake_row){.key = mem_strdup(key), .hour_unix = hour ? atoll(key) : 0};
    return &r->rows[r->count++];
}

enum err intake_report(const char *dir, const struct intake_query *q, struct intake_report *out)
{
    struct intake_report r = {.total = {.key = mem_strdup("")}};
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    size_t cap = 0;
    bool more;
    enum err e = open_file(dir, q, &db);

    if (!e)
        e = prepare(db, q, &st);
    while (!e && !(e = sql_step(st, &more)) && more) {
        struct part p = {sql_text(st, 0),
                         sql_text(st, 1),
                         sql_text(st, 2),
                         sql_text(st, 3),
                         (uint64_t)sqlite3_column_int64(st, 4),
                         (uint64_t)sqlite3_column_int64(st, 5),
                         (uint64_t)sqlite3_column_int64(st, 6),
                         sqlite3_column_int64(st, 7)};
        add(row_of(&r, &cap, p.key, q->by == INTAKE_BY_HOUR), &p);
        add(&r.total, &p);
    }
    sqlite3_finalize(st);
    sqlite3_close(db);
    if (e) {
        intake_report_fini(&r);
        return e;
    }
    finish(&r, q);
    *out = r;
    return OK;
}

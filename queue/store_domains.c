/*
 * Destinations known to the store thread: name, row id, owner, hot or cold.  A cache with a bound: a hot
 * domain can always be looked up again; a cold one must stay, being cold is only written here.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/store_priv.h"

#define DOMAINS_MAX 65536
#define SWEEP_STEP  512

unsigned store_owner(struct bytes domain, unsigned workers)
{
    return workers > 1 ? (unsigned)(hash_stable(domain) % workers) : 0;
}

struct store_domain *store_domain(struct store *s, struct bytes name)
{
    struct store_domain *d = map_find(&s->domains, name);

    if (d)
        return d;
    d = mem_zalloc(sizeof(*d) + name.len + 1);
    d->owner = (uint16_t)store_owner(name, s->config.workers);
    d->name_len = (uint32_t)name.len;
    memcpy(d->name, name.at, name.len);
    map_put(&s->domains, bytes_make(d->name, d->name_len), d);
    return d;
}

enum err store_domain_find(struct store *s, struct store_domain *d)
{
    sqlite3_stmt *st = s->st[ST_DOMAIN_FIND];
    bool row;

    if (d->id)
        return OK;
    sql_bind_bytes(st, 1, bytes_make(d->name, d->name_len));
    enum err e = sql_step(st, &row);
    if (!e && row)
        d->id = sqlite3_column_int64(st, 0);
    (void)sqlite3_reset(st);
    return e;
}

enum err store_domain_need(struct store *s, struct store_domain *d)
{
    sqlite3_stmt *st = s->st[ST_DOMAIN_ADD];
    enum err e = store_domain_find(s, d);

    if (e || d->id)
        return e;
    sql_bind_bytes(st, 1, bytes_make(d->name, d->name_len));
    e = sql_run(st);
    if (e)
        return e;
    d->id = sqlite3_last_insert_rowid(s->db);
    if (s->new_domain_count == s->new_domain_cap) {
        s->new_domain_cap = MAX_OF(s->new_domain_cap * 2, (size_t)64);
        s->new_domains = mem_realloc(s->new_domains, s->new_domain_cap * sizeof(struct store_domain *));
    }
    s->new_domains[s->new_domain_count++] = d;
    return OK;
}

enum err store_domain_by_id(struct store *s, int64_t id, struct store_domain **out)
{
    sqlite3_stmt *st = s->st[ST_DOMAIN_NAME];
    bool row;

    sql_bind_int(st, 1, id);
    enum err e = sql_step(st, &row);
    if (e)
        return e;
    if (!row)
        return ERR_NOT_FOUND;
    *out = store_domain(s, bytes_make(sqlite3_column_text(st, 0), (size_t)sqlite3_column_bytes(st, 0)));
    (*out)->id = id;
    (void)sqlite3_reset(st);
    return OK;
}

/* Ids given in a transaction that was rolled back are free again. */
void store_domains_taken_back(struct store *s)
{
    for (size_t i = 0; i < s->new_domain_count; i++)
        s->new_domains[i]->id = 0;
    s->new_domain_count = 0;
}

void store_set_cold(struct store *s, struct store_domain *d, bool cold)
{
    if (d->cold != cold)
        s->cold_domains += cold ? 1 : (size_t)-1;
    if (d->cold != cold)
        store_forget_told(d);
    d->cold = cold;
}

/* ---- which lanes of a cold domain its worker knows of ---- */

static uint16_t *find_told(struct store_domain *d, uint16_t lane)
{
    bool high = lane_priority(lane) == PRIORITY_HIGH;
    uint16_t *at = high ? d->told + TOLD_LANES : d->told;
    size_t count = high ? d->told_high_count : d->told_count;

    for (size_t i = 0; i < count; i++)
        if (at[i] == lane)
            return &at[i];
    return NULL;
}

void store_forget_told(struct store_domain *d)
{
    d->told_count = d->told_high_count = 0;
}

static bool add_told(struct store_domain *d, uint16_t lane)
{
    if (lane_priority(lane) == PRIORITY_HIGH) {
        if (d->told_high_count < TOLD_HIGH)
            d->told[TOLD_LANES + d->told_high_count++] = lane;
        else
            d->told[TOLD_LANES + d->told_high_at++ % TOLD_HIGH] = lane;
        return true;
    }
    if (d->told_count == TOLD_LANES)
        return false; /* the next page of the domain has something of each */
    d->told[d->told_count++] = lane;
    return true;
}

void store_set_told(struct store_domain *d, uint16_t lane, bool told)
{
    uint16_t *at = find_told(d, lane);
    bool high = lane_priority(lane) == PRIORITY_HIGH;

    if (told && !at)
        (void)add_told(d, lane);
    else if (!told && at && high)
        *at = d->told[TOLD_LANES + --d->told_high_count];
    else if (!told && at)
        *at = d->told[--d->told_count];
}

void store_tell_lane(struct store *s, struct store_domain *d, uint16_t lane)
{
    if (d->cold && !find_told(d, lane) && add_told(d, lane))
        store_add_lane_wake(s, d, lane);
}

/* Between transactions: a few at a time, so that no turn is long. */
void store_domains_sweep(struct store *s)
{
    if (s->domains.count - s->cold_domains <= DOMAINS_MAX)
        return;
    for (int i = 0; i < SWEEP_STEP; i++) {
        struct store_domain *d = map_next(&s->domains, &s->sweep_at);
        if (!d) {
            s->sweep_at = 0;
            return;
        }
        if (d->cold)
            continue;
        map_remove(&s->domains, bytes_make(d->name, d->name_len));
        mem_free(d);
    }
}

/* ---- rows that no recipient refers to any more ---- */

#define FORGET_ROWS 500
#define FORGET_OTHERS                                                                                        \
    2000 /* with more rows that are not READY the look is put off: it would take too long                    \
          */

static int by_id(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static enum err find_others(struct store *s, int64_t *ids, size_t *count)
{
    sqlite3_stmt *st = s->st[ST_DOMAIN_OTHERS];
    enum err e;
    bool row;

    *count = 0;
    while (!(e = sql_step(st, &row)) && row) {
        if (*count == FORGET_OTHERS) {
            (void)sqlite3_reset(st);
            return ERR_FULL;
        }
        ids[(*count)++] = sqlite3_column_int64(st, 0);
    }
    return e;
}

static enum err forget(struct store *s, int64_t id, struct bytes name)
{
    sqlite3_stmt *ready = s->st[ST_DOMAIN_IS_READY], *gone = s->st[ST_DOMAIN_DELETE];
    struct store_domain *d = map_find(&s->domains, name);
    bool used;

    sql_bind_int(ready, 1, id);
    enum err e = sql_step(ready, &used);
    if (e)
        return e;
    (void)sqlite3_reset(ready);
    if (used)
        return OK;
    if (d)
        d->id = 0; /* whatever becomes of this transaction: it is looked up again */
    sql_bind_int(gone, 1, id);
    return sql_run(gone);
}

void store_domains_forget_step(struct store *s)
{
    sqlite3_stmt *st = s->st[ST_DOMAIN_AFTER];
    int64_t others[FORGET_OTHERS], ids[FORGET_ROWS];
    char *names[FORGET_ROWS];
    size_t other_count = 0, count = 0;
    int64_t not_ready = 0;
    bool row;

    for (int i = 0; i < ROW_STATES; i++)
        not_ready += i == ROW_READY ? 0 : s->counts[i] + s->count_change[i];
    if (!s->forget_wanted)
        return;
    s->forget_wanted = false;
    if (not_ready > FORGET_OTHERS || !list_is_empty(&s->ops)) /* an operation holds ids over several turns */
        return;
    store_begin(s);
    if (s->failed)
        return;
    enum err e = find_others(s, others, &other_count);
    if (e == ERR_FULL)
        return;
    sql_bind_int(st, 1, s->forget_after_id);
    sql_bind_int(st, 2, FORGET_ROWS);
    while (!e && !(e = sql_step(st, &row)) && row) {
        ids[count] = sqlite3_column_int64(st, 0);
        names[count++] = mem_dup(sqlite3_column_text(st, 1), (size_t)sqlite3_column_bytes(st, 1));
    }
    for (size_t i = 0; i < count; i++) {
        if (!e && !bsearch(&ids[i], others, other_count, sizeof(*others), by_id))
            e = forget(s, ids[i], bytes_of(names[i]));
        mem_free(names[i]);
    }
    if (e) {
        store_fail(s, e);
        return;
    }
    s->forget_after_id = count ? ids[count - 1] : 0;
    if (count < FORGET_ROWS) {
        s->forget_after_id = 0;
        s->forgot_all_ms = clock_now_ms();
    }
}

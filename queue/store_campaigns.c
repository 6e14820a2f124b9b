/* Campaigns as the store thread knows them: what is kept, in memory, as it was committed. */
#include "queue/campaigns.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "queue/keep.h"
#include "queue/store_priv.h"

static void copy_word(char *to, struct bytes from)
{
    size_t n = MIN_OF(from.len, (size_t)CAMPAIGN_WORD_MAX);

    while (n < from.len && n && ((unsigned char)from.at[n] & 0xc0) == 0x80)
        n--; /* not in the middle of a character */
    if (n)
        memcpy(to, from.at, n);
    to[n] = '\0';
}

void campaign_kept_parse(struct bytes value, struct campaign_kept *out)
{
    uint64_t n;

    *out = (struct campaign_kept){0};
    while (value.len) {
        struct bytes line = bytes_first(value, bytes_find(value, '\n'));
        size_t blank = bytes_find(line, ' ');
        struct bytes key = bytes_first(line, blank), rest = bytes_skip(line, blank + 1);
        value = bytes_skip(value, line.len + 1);
        if (bytes_eq(key, BYTES("paused")) && bytes_parse_u64(rest, &n) && n <= INT64_MAX)
            out->paused_unix = (int64_t)n;
        else if (bytes_eq(key, BYTES("expires")) && bytes_parse_u64(rest, &n) && n <= INT64_MAX)
            out->expires_unix = (int64_t)n;
        else if (bytes_eq(key, BYTES("by")))
            copy_word(out->by, rest);
        else if (bytes_eq(key, BYTES("why")))
            copy_word(out->why, rest);
    }
}

static void put_word(struct buf *out, const char *key, const char *word)
{
    if (!*word)
        return;
    buf_putf(out, "%s ", key);
    for (; *word; word++)
        buf_putc(out, (unsigned char)*word < ' ' ? ' ' : *word); /* a line each */
    buf_putc(out, '\n');
}

void campaign_kept_put(struct buf *out, const struct campaign_kept *k)
{
    if (k->expires_unix)
        buf_putf(out, "expires %lld\n", (long long)k->expires_unix);
    if (!k->paused_unix)
        return;
    buf_putf(out, "paused %lld\n", (long long)k->paused_unix);
    put_word(out, "by", k->by);
    put_word(out, "why", k->why);
}

/* ---- in memory ---- */

struct campaign_entry { /* the store thread's; expires_unix and settled under shared_lock */
    bool paused, settled;
    int64_t expires_unix;
    uint32_t len;
    char id[];
};

enum row_state store_campaign_state(const struct store *s, const char *campaign)
{
    if (!s->campaigns.count || !campaign)
        return ROW_READY;
    const struct campaign_entry *c = map_find(&s->campaigns, bytes_of(campaign));
    if (c && c->expires_unix && c->expires_unix <= s->now_unix)
        return ROW_EXPIRE;
    return c && c->paused ? ROW_PAUSED : ROW_READY;
}

char *store_campaign_over(struct store *s)
{
    int64_t now = clock_unix();
    const struct campaign_entry *c;
    char *id = NULL;

    pthread_mutex_lock(&s->shared_lock);
    for (size_t at = 0; s->over_campaigns && !id && (c = map_next(&s->campaigns, &at));)
        if (c->expires_unix && !c->settled && c->expires_unix <= now)
            id = mem_strdup(c->id);
    pthread_mutex_unlock(&s->shared_lock);
    return id;
}

void store_campaign_settled(struct store *s, const char *id)
{
    pthread_mutex_lock(&s->shared_lock);
    struct campaign_entry *c = map_find(&s->campaigns, bytes_of(id));
    if (c && c->expires_unix && !c->settled) {
        c->settled = true;
        s->over_campaigns--;
    }
    pthread_mutex_unlock(&s->shared_lock);
}

static void set(struct store *s, const char *id, const struct campaign_kept *k)
{
    struct campaign_entry *c = map_find(&s->campaigns, bytes_of(id));

    if (!c && !k->paused_unix && !k->expires_unix)
        return;
    if (!c) {
        size_t len = strlen(id);
        c = mem_zalloc(sizeof(*c) + len + 1);
        c->len = (uint32_t)len;
        memcpy(c->id, id, len);
        map_put(&s->campaigns, bytes_make(c->id, c->len), c);
    }
    s->paused_campaigns -= c->paused;
    c->paused = k->paused_unix != 0;
    s->paused_campaigns += c->paused;
    s->over_campaigns -= c->expires_unix && !c->settled;
    c->settled = c->settled && c->expires_unix == k->expires_unix;
    c->expires_unix = k->expires_unix;
    s->over_campaigns += c->expires_unix && !c->settled;
    if (!c->paused && !c->expires_unix) {
        map_remove(&s->campaigns, bytes_make(c->id, c->len));
        mem_free(c);
    }
}

void store_campaign_changed(struct store *s, const struct store_keep *keep)
{
    struct campaign_kept k = {0};

    if (strcmp(keep->kind, CAMPAIGN_KIND) != 0)
        return;
    if (!keep->remove)
        campaign_kept_parse(buf_bytes(&keep->value), &k);
    pthread_mutex_lock(&s->shared_lock);
    set(s, keep->key, &k);
    pthread_mutex_unlock(&s->shared_lock);
}

enum err store_load_campaigns(struct store *s)
{
    sqlite3_stmt *st = NULL;
    bool row;
    enum err e = sql_prepare(s->db, &st, "SELECT key, value FROM keep WHERE kind = '" CAMPAIGN_KIND "'");

    while (!e && !(e = sql_step(st, &row)) && row) {
        struct campaign_kept k;
        campaign_kept_parse(bytes_make(sqlite3_column_blob(st, 1), (size_t)sqlite3_column_bytes(st, 1)), &k);
        set(s, sql_text(st, 0), &k);
    }
    sqlite3_finalize(st);
    return e;
}

/* A pause or a resumption that a crash cut short is carried on. */
void store_settle_campaigns(struct store *s)
{
    const enum queue_op ops[] = {QUEUE_PAUSE, QUEUE_RESUME};
    const bool wanted[] = {s->paused_campaigns > 0, s->counts[ROW_PAUSED] > 0};

    for (size_t i = 0; i < COUNT_OF(ops); i++) {
        if (!wanted[i])
            continue;
        struct store_op *op = MEM_NEW(struct store_op);
        op->op = ops[i];
        op->which.all = true;
        store_post_op(s, op);
    }
}

void store_forget_campaigns(struct store *s)
{
    struct campaign_entry *c;

    for (size_t at = 0; (c = map_next(&s->campaigns, &at));)
        mem_free(c);
    map_fini(&s->campaigns);
}

/*
 * Unified differences by Myers' greedy algorithm ("An O(ND) Difference Algorithm", 1986): the furthest
 * point on each diagonal for 0, 1, 2, … edits; the rows are kept to walk back.  Documents with more edits
 * than EDITS_MAX are shown as one replacement of all between their common start and end.
 */
#include <inttypes.h>

#include "base/hash.h"
#include "base/mem.h"
#include "policy/policy.h"

#define EDITS_MAX 1500
#define CONTEXT   3

struct lines {
    struct bytes *at; /* owned; each with its newline, if it has one */
    uint64_t *hash;   /* owned */
    size_t count;
};

/* What the comparison found: a run of equal lines before each change. */
struct change {
    size_t old_at, old_count, new_at, new_count; /* 0-based */
};

struct changes {
    struct change *at; /* owned, from last to first */
    size_t count, cap;
};

static struct lines split(struct bytes text)
{
    struct lines l = {0};
    size_t cap = 0;

    while (text.len > 0) {
        size_t end = bytes_find(text, '\n');
        struct bytes line = bytes_first(text, end + 1);

        if (l.count == cap) {
            cap = MAX_OF(cap * 2, (size_t)64);
            l.at = mem_realloc(l.at, cap * sizeof(*l.at));
            l.hash = mem_realloc(l.hash, cap * sizeof(*l.hash));
        }
        l.at[l.count] = line;
        l.hash[l.count++] = hash_bytes(line);
        text = bytes_skip(text, line.len);
    }
    return l;
}

static void lines_fini(struct lines *l)
{
    mem_free(l->at);
    mem_free(l->hash);
}

static bool same(const struct lines *a, size_t i, const struct lines *b, size_t j)
{
    return a->hash[i] == b->hash[j] && bytes_eq(a->at[i], b->at[j]);
}

/* From the last to the first; neighbours melt into one change. */
static void prepend(struct changes *c, struct change next)
{
    struct change *first = c->count ? &c->at[c->count - 1] : NULL;

    if (first && next.old_at + next.old_count == first->old_at &&
        next.new_at + next.new_count == first->new_at) {
        first->old_at = next.old_at;
        first->new_at = next.new_at;
        first->old_count += next.old_count;
        first->new_count += next.new_count;
        return;
    }
    if (c->count == c->cap) {
        c->cap = MAX_OF(c->cap * 2, (size_t)16);
        c->at = mem_realloc(c->at, c->cap * sizeof(*c->at));
    }
    c->at[c->count++] = next;
}

/*
 * One comparison of a[lo..a_hi) with b[lo..b_hi).  reach[d] holds the furthest x of diagonals -d … d
 * (x - y = k) after d edits, at index k + d.
 */
struct myers {
    const struct lines *a, *b;
    size_t lo, n, m;
    int32_t *reach[EDITS_MAX + 1]; /* owned */
};

static bool is_inside(const struct myers *my, int32_t x, int32_t k)
{
    return x >= 0 && x <= (int32_t)my->n && x - k >= 0 && x - k <= (int32_t)my->m;
}

/* The furthest x on diagonal k that the d-th edit leads to, before equal lines are followed; or -1. */
static int32_t step_to(const struct myers *my, int32_t d, int32_t k)
{
    const int32_t *before = d ? my->reach[d - 1] : NULL;
    int32_t down = -1, right = -1; /* by an insertion from diagonal k + 1, by a deletion from k - 1 */

    if (!before)
        return 0;
    if (k + 1 <= d - 1)
        down = before[k + 1 + d - 1];
    if (k - 1 >= -(d - 1) && before[k - 1 + d - 1] >= 0)
        right = before[k - 1 + d - 1] + 1;
    if (!is_inside(my, down, k))
        down = -1;
    if (!is_inside(my, right, k))
        right = -1;
    return MAX_OF(down, right);
}

/* How many edits lead from a to b, or -1 for more than EDITS_MAX. */
static int32_t search(struct myers *my)
{
    int32_t n = (int32_t)my->n, m = (int32_t)my->m;

    for (int32_t d = 0; d <= EDITS_MAX; d++) {
        my->reach[d] = mem_alloc((size_t)(2 * d + 1) * sizeof(int32_t));
        for (int32_t k = -d; k <= d; k++)
            my->reach[d][k + d] = -1; /* not reached */
        for (int32_t k = -d; k <= d; k += 2) {
            int32_t x = step_to(my, d, k), y = x - k;

            if (x < 0)
                continue;
            while (x < n && y < m && same(my->a, my->lo + (size_t)x, my->b, my->lo + (size_t)y)) {
                x++;
                y++;
            }
            my->reach[d][k + d] = x;
            if (x == n && y == m)
                return d;
        }
    }
    return -1;
}

static void walk_back(const struct myers *my, int32_t d, struct changes *out)
{
    int32_t k = (int32_t)my->n - (int32_t)my->m;

    for (; d > 0; d--) {
        const int32_t *before = my->reach[d - 1];
        int32_t x = step_to(my, d, k);
        bool inserted = k + 1 <= d - 1 && before[k + 1 + d - 1] == x;
        int32_t y = x - k; /* where the edit ends */

        prepend(out, (struct change){.old_at = my->lo + (size_t)(inserted ? x : x - 1),
                                     .old_count = inserted ? 0 : 1,
                                     .new_at = my->lo + (size_t)(inserted ? y - 1 : y),
                                     .new_count = inserted ? 1 : 0});
        k = inserted ? k + 1 : k - 1;
    }
}

static void compare(const struct lines *a, const struct lines *b, struct changes *out)
{
    size_t lo = 0, a_hi = a->count, b_hi = b->count;
    struct myers *my;
    int32_t d;

    while (lo < a_hi && lo < b_hi && same(a, lo, b, lo))
        lo++;
    while (a_hi > lo && b_hi > lo && same(a, a_hi - 1, b, b_hi - 1)) {
        a_hi--;
        b_hi--;
    }
    my = MEM_NEW(struct myers);
    *my = (struct myers){.a = a, .b = b, .lo = lo, .n = a_hi - lo, .m = b_hi - lo};
    d = search(my);
    if (d < 0)
        prepend(out, (struct change){lo, a_hi - lo, lo, b_hi - lo});
    else
        walk_back(my, d, out);
    for (size_t i = 0; i <= EDITS_MAX; i++)
        mem_free(my->reach[i]);
    mem_free(my);
}

/* ---- output ---- */

static void put_line(struct buf *out, char mark, struct bytes line)
{
    buf_putc(out, mark);
    buf_put(out, line);
    if (line.len == 0 || line.at[line.len - 1] != '\n')
        buf_puts(out, "\n\\ No newline at end of file\n");
}

/* "12,3"; an empty range names the line before it. */
static void put_place(struct buf *out, char sign, size_t at, size_t count)
{
    buf_putf(out, "%c%zu", sign, count ? at + 1 : at);
    if (count != 1)
        buf_putf(out, ",%zu", count);
}

/* changes[last … first] of one hunk, in document order: indices fall. */
static void put_hunk(struct buf *out, const struct lines *a, const struct lines *b, const struct changes *c,
                     size_t first, size_t last)
{
    const struct change *head = &c->at[first], *tail = &c->at[last];
    size_t lead = MIN_OF(head->old_at, (size_t)CONTEXT);
    size_t trail = MIN_OF(a->count - (tail->old_at + tail->old_count), (size_t)CONTEXT);
    size_t old_from = head->old_at - lead, new_from = head->new_at - lead;
    size_t old_to = tail->old_at + tail->old_count + trail, new_to = tail->new_at + tail->new_count + trail;
    size_t at = old_from;

    buf_puts(out, "@@ ");
    put_place(out, '-', old_from, old_to - old_from);
    buf_putc(out, ' ');
    put_place(out, '+', new_from, new_to - new_from);
    buf_puts(out, " @@\n");
    for (size_t i = first + 1; i-- > last;) {
        const struct change *ch = &c->at[i];

        for (; at < ch->old_at; at++)
            put_line(out, ' ', a->at[at]);
        for (; at < ch->old_at + ch->old_count; at++)
            put_line(out, '-', a->at[at]);
        for (size_t j = 0; j < ch->new_count; j++)
            put_line(out, '+', b->at[ch->new_at + j]);
    }
    for (; at < old_to; at++)
        put_line(out, ' ', a->at[at]);
}

void policy_diff(struct bytes before, struct bytes after, const char *name_before, const char *name_after,
                 struct buf *out)
{
    struct lines a = split(before), b = split(after);
    struct changes c = {0};

    compare(&a, &b, &c);
    if (c.count > 0)
        buf_putf(out, "--- %s\n+++ %s\n", name_before, name_after);
    for (size_t first = c.count; first > 0;) {
        size_t last = --first;

        /* Changes whose context would touch share a hunk. */
        while (last > 0 && c.at[last - 1].old_at - (c.at[last].old_at + c.at[last].old_count) <= 2 * CONTEXT)
            last--;
        put_hunk(out, &a, &b, &c, first, last);
        first = last;
    }
    mem_free(c.at);
    lines_fini(&a);
    lines_fini(&b);
}

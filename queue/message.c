#include "queue/message.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

#define EPOCH_2024_MS 1704067200000LL
#define WORKER_BITS   6
#define COUNTER_BITS  16

uint64_t message_id_make(unsigned worker)
{
    static _Atomic uint64_t last[1 << WORKER_BITS]; /* ms and counter, without the worker */
    _Atomic uint64_t *mine = &last[worker & (BIT(WORKER_BITS) - 1)];
    int64_t since = clock_unix_ms() - EPOCH_2024_MS;
    uint64_t now = (uint64_t)MAX_OF(since, 1) << COUNTER_BITS;
    uint64_t before = atomic_load_explicit(mine, memory_order_relaxed);
    uint64_t next;

    do {
        next = MAX_OF(now, before + 1);
    } while (!atomic_compare_exchange_weak_explicit(mine, &before, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    uint64_t ms = next >> COUNTER_BITS;
    return (ms << (COUNTER_BITS + WORKER_BITS) | (uint64_t)(worker & (BIT(WORKER_BITS) - 1)) << COUNTER_BITS |
            (next & (BIT(COUNTER_BITS) - 1))) &
           INT64_MAX;
}

/* Crockford's alphabet: nothing that is mistaken for something else when read aloud. */
static const char base32[] = "0123456789abcdefghjkmnpqrstvwxyz";

char *message_id_format(uint64_t id, char out[MESSAGE_ID_TEXT])
{
    for (int i = 12; i >= 0; i--) {
        out[i] = base32[id & 31];
        id >>= 5;
    }
    out[13] = '\0';
    return out;
}

bool message_id_parse(struct bytes text, uint64_t *out)
{
    uint64_t id = 0;

    if (text.len != 13)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = ascii_lower(text.at[i]);
        const char *at = c ? strchr(base32, c) : NULL;
        if (!at || (i == 0 && at - base32 > 7)) /* 63 bits in 65 */
            return false;
        id = id << 5 | (uint64_t)(at - base32);
    }
    if (id == 0)
        return false;
    *out = id;
    return true;
}

/* Stable merge sort of recipient positions by domain. */
static void sort_by_domain(const struct rcpt *rcpts, uint32_t *order, uint32_t *spare, uint32_t count)
{
    if (count < 2)
        return;
    uint32_t half = count / 2;
    sort_by_domain(rcpts, order, spare, half);
    sort_by_domain(rcpts, order + half, spare, count - half);
    if (strcmp(rcpts[order[half - 1]].domain, rcpts[order[half]].domain) <= 0)
        return; /* sorted already: the usual list of one domain costs nothing */
    memcpy(spare, order, half * sizeof(*order));
    for (uint32_t left = 0, right = half, at = 0; left < half; at++) {
        if (right < count && strcmp(rcpts[order[right]].domain, rcpts[spare[left]].domain) < 0)
            order[at] = order[right++];
        else
            order[at] = spare[left++];
    }
}

static size_t room(const char *s)
{
    return s ? strlen(s) + 1 : 0;
}

static const char *place(char **at, const char *s)
{
    if (!s)
        return NULL;
    size_t n = strlen(s) + 1;
    char *copy = memcpy(*at, s, n);
    *at += n;
    return copy;
}

static size_t room_for(const struct message *m)
{
    size_t n = sizeof(*m) + m->rcpt_count * sizeof(struct rcpt) + room(m->sender ? m->sender : "") +
               room(m->campaign) + room(m->envid) + room(m->account);

    for (uint32_t i = 0; i < m->rcpt_count; i++) {
        const struct rcpt *r = &m->rcpts[i];
        n += room(r->address) + room(r->orcpt) + room(r->domain) + room(r->last_text);
    }
    return n;
}

static void copy_rcpts(struct message *to, const struct message *from, char **at)
{
    uint32_t small[64];
    uint32_t *order = from->rcpt_count > 32 ? mem_alloc(from->rcpt_count * 2 * sizeof(*order)) : small;

    for (uint32_t i = 0; i < from->rcpt_count; i++)
        order[i] = i;
    sort_by_domain(from->rcpts, order, order + from->rcpt_count, from->rcpt_count);
    for (uint32_t i = 0; i < from->rcpt_count; i++) {
        const struct rcpt *r = &from->rcpts[order[i]];
        struct rcpt *copy = &to->rcpts[i];
        *copy = *r;
        copy->address = place(at, r->address);
        copy->orcpt = place(at, r->orcpt);
        copy->last_text = place(at, r->last_text);
        copy->domain = i && strcmp(to->rcpts[i - 1].domain, r->domain) == 0 ? to->rcpts[i - 1].domain
                                                                            : place(at, r->domain);
    }
    if (order != small)
        mem_free(order);
}

static enum priority priority_of(uint32_t flags)
{
    return flags & MESSAGE_HIGH ? PRIORITY_HIGH : flags & MESSAGE_LOW ? PRIORITY_LOW : PRIORITY_NORMAL;
}

struct message *message_create(const struct message *from)
{
    struct message *m = mem_alloc(room_for(from));
    char *at = (char *)(m + 1);

    /* refs is atomic: set apart, the plain members copied one by one */
    memset((void *)m, 0, sizeof(*m));
    atomic_init(&m->refs, 1);
    m->flags = from->flags;
    m->id = from->id;
    m->accepted_unix = from->accepted_unix;
    m->expires_unix = from->expires_unix;
    m->ret = from->ret;
    m->rcpt_count = from->rcpt_count;
    m->rcpt_total = from->rcpt_total;
    m->rcpts = (struct rcpt *)(void *)at;
    at += from->rcpt_count * sizeof(struct rcpt);
    m->sender = place(&at, from->sender ? from->sender : "");
    m->campaign = place(&at, from->campaign);
    m->envid = place(&at, from->envid);
    m->account = place(&at, from->account);
    m->body = from->body ? body_ref(from->body) : NULL;
    m->lane = lane_of(priority_of(m->flags), m->account, m->campaign);
    copy_rcpts(m, from, &at);
    return m;
}

struct message *message_ref(struct message *m)
{
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    return m;
}

void message_unref(struct message *m)
{
    if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
        return;
    body_unref(m->body);
    mem_free(m);
}

struct job *job_create(struct message *m, struct rcpt *rcpts, uint32_t count)
{
    struct job *j = mem_alloc(sizeof(*j));

    list_init(&j->node);
    j->message = message_ref(m);
    j->rcpts = rcpts;
    j->rcpt_count = count;
    j->unfit_hosts = 0;
    return j;
}

void job_destroy(struct job *j)
{
    if (!j)
        return;
    message_unref(j->message);
    mem_free(j);
}

#include "engine/deliver/turns.h"

#include "base/mem.h"

static struct bytes key_of(const uint16_t *lane)
{
    return bytes_make(lane, sizeof(*lane));
}

static struct strand *strand_at(struct list *node)
{
    return LIST_ENTRY(node, struct strand, place.node);
}

/* ---- turns ---- */

void turns_join(struct strands *all)
{
    struct list *node;

    while ((node = list_pop(&all->unready))) {
        struct strand *strand = strand_at(node);
        fair_put(all->turns, &strand->place, strand->lane);
    }
}

void turns_leave(struct strands *all)
{
    struct strand *strand;

    for (size_t at = 0; (strand = strand_next(all, &at));) {
        if (!strand->place.flow)
            continue;
        fair_remove(all->turns, &strand->place);
        list_push_back(&all->unready, &strand->place.node);
    }
}

struct question {
    strand_fn fits;
    const void *arg;
};

static bool strand_fits(struct fair_entry *e, const void *arg)
{
    const struct question *q = arg;

    return q->fits(CONTAINER_OF(e, struct strand, place), q->arg);
}

struct strand *turns_next(const struct fair_queue *turns, strand_fn fits, const void *arg)
{
    const struct question q = {fits, arg};
    struct fair_entry *e = fair_next(turns, strand_fits, &q);

    return e ? CONTAINER_OF(e, struct strand, place) : NULL;
}

/* ---- strands ---- */

static void strand_init(struct strand *strand, struct strands *all)
{
    strand->all = all;
    list_init(&strand->place.node);
    for (int class = 0; class < JOB_CLASSES; class ++)
        list_init(&strand->jobs[class]);
}

void strands_init(struct strands *all, struct dest *dest)
{
    all->dest = dest;
    strand_init(&all->own, all);
    list_init(&all->unready);
    list_init(&all->emptied);
    list_init(&all->wanted);
}

void strands_fini(struct strands *all)
{
    struct strand *strand;

    for (size_t at = 0; (strand = map_next(&all->others, &at));) {
        list_remove(&strand->place.node);
        mem_free(strand);
    }
    map_fini(&all->others);
    list_remove(&all->own.place.node);
}

bool strands_are_used(const struct strands *all)
{
    return all->own.used || all->others.count;
}

struct strand *strand_find(struct strands *all, uint16_t lane)
{
    if (all->own.used && all->own.lane == lane)
        return &all->own;
    return all->others.count ? map_find(&all->others, key_of(&lane)) : NULL;
}

struct strand *strand_need(struct strands *all, uint16_t lane)
{
    struct strand *strand = strand_find(all, lane);

    if (strand)
        return strand;
    strand = &all->own;
    if (strand->used) {
        strand = MEM_NEW(struct strand);
        strand_init(strand, all);
    }
    strand->lane = lane;
    strand->used = true;
    strand->more = false;
    list_push_back(&all->emptied, &strand->place.node);
    if (strand != &all->own)
        map_put(&all->others, key_of(&strand->lane), strand);
    return strand;
}

struct strand *strand_next(struct strands *all, size_t *at)
{
    if (!all)
        return NULL;
    if (*at == 0) {
        *at = 1;
        if (all->own.used)
            return &all->own;
    }
    size_t place = *at - 1;
    struct strand *strand = map_next(&all->others, &place);
    *at = place + 1;
    return strand;
}

void strand_free(struct strand *strand)
{
    struct strands *all = strand->all;

    list_remove(&strand->place.node);
    strand->used = false;
    if (strand == &all->own)
        return;
    map_remove(&all->others, key_of(&strand->lane));
    mem_free(strand);
}

void strand_put(struct strand *strand, struct job *job, enum job_class class, bool first)
{
    if (first)
        list_push_front(&strand->jobs[class], &job->node);
    else
        list_push_back(&strand->jobs[class], &job->node);
    if (!strand->queued) {
        list_remove(&strand->place.node);
        list_push_back(&strand->all->unready, &strand->place.node);
    }
    strand->queued += job->rcpt_count;
}

void strand_remove(struct strand *strand, struct job *job)
{
    list_remove(&job->node);
    strand->queued -= job->rcpt_count;
    if (strand->queued)
        return;
    if (strand->place.flow)
        fair_remove(strand->all->turns, &strand->place);
    else
        list_remove(&strand->place.node);
    list_push_back(&strand->all->emptied, &strand->place.node);
}

void strand_want(struct strand *strand)
{
    list_remove(&strand->place.node);
    list_push_back(&strand->all->wanted, &strand->place.node);
}

bool strand_has_class(const struct strand *strand, const void *arg)
{
    return !list_is_empty(&strand->jobs[*(const enum job_class *)arg]);
}

const struct job *strand_first(const struct strand *strand, enum job_class class)
{
    return LIST_ENTRY(list_first(&strand->jobs[class]), struct job, node);
}

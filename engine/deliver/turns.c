#include "engine/deliver/turns.h"

#include "base/mem.h"

static struct bytes key_of(const uint16_t *lane)
{
    return bytes_make(lane, sizeof(*lane));
}

/* ---- flows ---- */

void turns_init(struct turns *t)
{
    for (int p = 0; p < PRIORITIES; p++)
        list_init(&t->flows[p]);
    list_init(&t->own.node);
    list_init(&t->own.strands);
}

void turns_fini(struct turns *t)
{
    map_fini(&t->others);
}

static struct flow *flow_need(struct turns *t, uint16_t lane)
{
    if (t->own.used && t->own.lane == lane)
        return &t->own;
    struct flow *flow = t->others.count ? map_find(&t->others, key_of(&lane)) : NULL;
    if (flow)
        return flow;
    flow = &t->own;
    if (flow->used) {
        flow = MEM_NEW(struct flow);
        list_init(&flow->node);
        list_init(&flow->strands);
    }
    flow->lane = lane;
    flow->used = true;
    list_push_back(&t->flows[lane_priority(lane)], &flow->node);
    t->ready++;
    if (flow != &t->own)
        map_put(&t->others, key_of(&flow->lane), flow);
    return flow;
}

/* The strand goes from its flow, and the flow with its last one. */
static void leave_flow(struct turns *t, struct strand *strand)
{
    struct flow *flow = TAKE(strand->flow);

    list_remove(&strand->node);
    if (!list_is_empty(&flow->strands))
        return;
    list_remove(&flow->node);
    flow->used = false;
    t->ready--;
    if (flow == &t->own)
        return;
    map_remove(&t->others, key_of(&flow->lane));
    mem_free(flow);
}

void turns_join(struct strands *all)
{
    struct list *node;

    while ((node = list_pop(&all->unready))) {
        struct strand *strand = LIST_ENTRY(node, struct strand, node);
        strand->flow = flow_need(all->turns, strand->lane);
        list_push_back(&strand->flow->strands, node);
    }
}

void turns_leave(struct strands *all)
{
    struct strand *strand;

    for (size_t at = 0; (strand = strand_next(all, &at));) {
        if (!strand->flow)
            continue;
        leave_flow(all->turns, strand);
        list_push_back(&all->unready, &strand->node);
    }
}

struct strand *turns_next(const struct turns *t, strand_fn fits, const void *arg)
{
    enum priority order[PRIORITIES];

    if (!t->ready)
        return NULL;
    priority_order(t->count, order);
    for (int p = 0; p < PRIORITIES; p++) {
        LIST_FOREACH (flow_node, &t->flows[order[p]]) {
            const struct flow *flow = LIST_ENTRY(flow_node, struct flow, node);
            LIST_FOREACH (node, &flow->strands) {
                struct strand *strand = LIST_ENTRY(node, struct strand, node);
                if (fits(strand, arg))
                    return strand;
            }
        }
    }
    return NULL;
}

void turns_took(struct turns *t, struct strand *strand)
{
    struct flow *flow = strand->flow;

    t->count++;
    list_remove(&strand->node);
    list_push_back(&flow->strands, &strand->node);
    list_remove(&flow->node);
    list_push_back(&t->flows[lane_priority(flow->lane)], &flow->node);
}

/* ---- strands ---- */

static void strand_init(struct strand *strand, struct strands *all)
{
    strand->all = all;
    list_init(&strand->node);
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
        list_remove(&strand->node);
        mem_free(strand);
    }
    map_fini(&all->others);
    list_remove(&all->own.node);
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
    list_push_back(&all->emptied, &strand->node);
    if (strand != &all->own)
        map_put(&all->others, key_of(&strand->lane), strand);
    return strand;
}

struct strand *strand_next(struct strands *all, size_t *at)
{
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

    list_remove(&strand->node);
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
        list_remove(&strand->node);
        list_push_back(&strand->all->unready, &strand->node);
    }
    strand->queued += job->rcpt_count;
}

void strand_remove(struct strand *strand, struct job *job)
{
    list_remove(&job->node);
    strand->queued -= job->rcpt_count;
    if (strand->queued)
        return;
    if (strand->flow)
        leave_flow(strand->all->turns, strand);
    else
        list_remove(&strand->node);
    list_push_back(&strand->all->emptied, &strand->node);
}

void strand_want(struct strand *strand)
{
    list_remove(&strand->node);
    list_push_back(&strand->all->wanted, &strand->node);
}

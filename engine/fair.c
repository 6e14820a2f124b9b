#include "engine/fair.h"

#include "base/mem.h"

static struct bytes key_of(const uint16_t *lane)
{
    return bytes_make(lane, sizeof(*lane));
}

void fair_init(struct fair_queue *q)
{
    for (int p = 0; p < PRIORITIES; p++)
        list_init(&q->flows[p]);
    list_init(&q->own.node);
    list_init(&q->own.entries);
}

void fair_fini(struct fair_queue *q)
{
    map_fini(&q->others);
}

static struct fair_flow *flow_need(struct fair_queue *q, uint16_t lane)
{
    if (q->own.used && q->own.lane == lane)
        return &q->own;
    struct fair_flow *flow = q->others.count ? map_find(&q->others, key_of(&lane)) : NULL;
    if (flow)
        return flow;
    flow = &q->own;
    if (flow->used) {
        flow = MEM_NEW(struct fair_flow);
        list_init(&flow->node);
        list_init(&flow->entries);
    }
    flow->lane = lane;
    flow->used = true;
    list_push_back(&q->flows[lane_priority(lane)], &flow->node);
    q->ready++;
    if (flow != &q->own)
        map_put(&q->others, key_of(&flow->lane), flow);
    return flow;
}

void fair_put(struct fair_queue *q, struct fair_entry *e, uint16_t lane)
{
    e->flow = flow_need(q, lane);
    list_push_back(&e->flow->entries, &e->node);
}

void fair_remove(struct fair_queue *q, struct fair_entry *e)
{
    struct fair_flow *flow = TAKE(e->flow);

    list_remove(&e->node);
    if (!list_is_empty(&flow->entries))
        return;
    list_remove(&flow->node);
    flow->used = false;
    q->ready--;
    if (flow == &q->own)
        return;
    map_remove(&q->others, key_of(&flow->lane));
    mem_free(flow);
}

struct fair_entry *fair_next(const struct fair_queue *q, fair_fn fits, const void *arg)
{
    enum priority order[PRIORITIES];

    if (!q->ready)
        return NULL;
    priority_order(q->count, order);
    for (int p = 0; p < PRIORITIES; p++) {
        LIST_FOREACH (flow_node, &q->flows[order[p]]) {
            const struct fair_flow *flow = LIST_ENTRY(flow_node, struct fair_flow, node);
            LIST_FOREACH (node, &flow->entries) {
                struct fair_entry *e = LIST_ENTRY(node, struct fair_entry, node);
                if (!fits || fits(e, arg))
                    return e;
            }
        }
    }
    return NULL;
}

void fair_took(struct fair_queue *q, struct fair_entry *e)
{
    struct fair_flow *flow = e->flow;

    q->count++;
    list_remove(&e->node);
    list_push_back(&flow->entries, &e->node);
    list_remove(&flow->node);
    list_push_back(&q->flows[lane_priority(flow->lane)], &flow->node);
}

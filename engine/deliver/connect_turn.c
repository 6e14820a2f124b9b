/*
 * connection_rate: links stand in the queue of their group, by lanes, and connect when they are granted a
 * turn.  Nothing is taken ahead of its time, so that a new policy, under which all of them ask anew, finds
 * what really went.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"

/* Memory of its own, because a note that is on its way may find the link gone, and its site too. */
struct connect_turn {
    struct list node; /* d->left_turns, when its link has gone */
    struct pace_waiter waiter;
    struct pace_rule rule;
    struct pace *pace; /* borrowed: lives as long as limits */
    struct link *link; /* NULL: gone */
};

/* It is granted, or it is to see to the clock. */
static void on_note(struct note *note, void *owner)
{
    struct connect_turn *t = CONTAINER_OF(note, struct connect_turn, waiter.note);
    (void)owner;

    pace_heard(t->pace, &t->waiter);
    if (!t->link) {
        list_remove(&t->node);
        mem_free(t);
    } else if (alarm_is_set(&t->link->alarm)) {
        alarm_clear(&t->link->d->clock, &t->link->alarm);
        link_on_alarm(&t->link->alarm);
    }
}

static struct connect_turn *create(struct link *link)
{
    const struct frequency *f = &link->site->group->limits.connection_rate;
    struct connect_turn *t = MEM_NEW(struct connect_turn);

    list_init(&t->node);
    t->rule = (struct pace_rule){f->count, f->seconds, 1};
    t->pace = link->site->connects;
    t->link = link;
    pace_waiter_init(&t->waiter, &link->d->w->inbox, on_note, &t->rule, 1);
    return t;
}

uint32_t shape_take_connect(struct link *link)
{
    const double one = 1;
    size_t which;

    if (!(link->site->group->limits.connection_rate.count > 0))
        return 0;
    if (!link->connect_turn)
        link->connect_turn = create(link);
    struct connect_turn *t = link->connect_turn;
    uint32_t wait_ms = pace_turn(t->pace, &t->waiter, link->lane, &one, clock_now_us(), &which);
    if (wait_ms)
        shape_met(link->site, "connection_rate", worker_now_ms(link->d->w) + wait_ms);
    else
        shape_give_connect(link); /* it is used: nothing is left to be given back */
    return wait_ms;
}

void shape_give_connect(struct link *link)
{
    struct connect_turn *t = TAKE(link->connect_turn);

    if (!t)
        return;
    t->link = NULL;
    if (pace_leave(t->pace, &t->waiter, clock_now_us()))
        list_push_back(&link->d->left_turns, &t->node);
    else
        mem_free(t);
}

void connect_turns_fini(struct deliver *d)
{
    struct list *node;

    while ((node = list_pop(&d->left_turns)))
        mem_free(LIST_ENTRY(node, struct connect_turn, node));
}

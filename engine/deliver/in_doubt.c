/*
 * One message in doubt per connection.  When the daemon dies, a message goes twice if its end was said and
 * its result is not on disk.  So no message ends on a connection before the results of those before it are in
 * history; it is prepared meanwhile, and a sync lasts less than most round trips.
 *
 *     on_txn_done, delivered ─► d->unsafe (oldest first) ─history has synced─► smtp_client_release
 *
 * A connection that ends does not take its doubt with it: those opened after it wait as it would have.
 */
#include "engine/deliver/deliver_priv.h"

static bool is_safe(struct deliver *d, uint64_t serial)
{
    return safe_mark_has(&d->w->results_safe, serial);
}

static void wait_for(struct link *link, uint64_t serial)
{
    link->unsafe_serial = serial;
    list_remove(&link->unsafe_node);
    list_push_back(&link->d->unsafe, &link->unsafe_node);
    if (link->client)
        smtp_client_hold(link->client);
}

void in_doubt_open(struct link *link)
{
    struct deliver *d = link->d;

    list_init(&link->unsafe_node);
    if (d->closed_serial && !is_safe(d, d->closed_serial))
        wait_for(link, d->closed_serial);
}

void in_doubt_begin(struct link *link)
{
    if (!list_is_empty(&link->unsafe_node))
        smtp_client_hold(link->client);
}

void in_doubt_delivered(struct link *link)
{
    uint64_t serial = worker_batch_serial(link->d->w);

    wait_for(link, serial);
    (void)is_safe(link->d, serial); /* it is not: this asks for the note */
}

void in_doubt_close(struct link *link)
{
    if (list_is_empty(&link->unsafe_node))
        return;
    list_remove(&link->unsafe_node);
    link->d->closed_serial = MAX_OF(link->d->closed_serial, link->unsafe_serial);
}

void deliver_on_results_safe(struct note *note, void *worker)
{
    struct worker *w = worker;
    struct deliver *d = w->deliver;

    (void)note; /* of w->results_safe */
    w->results_safe.asked = false;
    while (!list_is_empty(&d->unsafe)) {
        struct link *link = LIST_ENTRY(d->unsafe.next, struct link, unsafe_node);
        if (!is_safe(d, link->unsafe_serial))
            break;
        list_remove(&link->unsafe_node);
        link_enter(link);
        if (link->client)
            smtp_client_release(link->client, worker_now_ms(w));
        link_pass_on(link);
        link_leave(link);
    }
}

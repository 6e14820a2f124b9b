/*
 * One (name, type), asked of one server after another until somebody knows.
 *
 *   WAITING --turn--> ASKING --answer--> ended
 *                     |   ^  \--SERVFAIL, REFUSED, nonsense, time-out: next server (ASKING)
 *                     v   |
 *                    PAUSING    no socket to be had, too much out already, or every server failed at once
 *
 * A round asks each server once; a try of round n may take timeout_ms * 2^n.  Servers that answered without
 * use are not asked again.  Nothing ends from inside dns_lookup_join(): a first round that cannot even send
 * pauses.
 */
#include "engine/dns/dns_priv.h"

#include "base/log.h"
#include "base/mem.h"

#define PLAIN_FOR_MS         600000
#define ROUNDS_AFTER_USELESS 1 /* the silent servers get one more chance */

enum { RCODE_FORMERR = 1, RCODE_NOTIMP = 4, RCODE_BADVERS = 16 };
enum lookup_state { LOOKUP_WAITING, LOOKUP_ASKING, LOOKUP_PAUSING, LOOKUP_ENDED };

struct dns_lookup {
    struct dns *d;
    struct list node;  /* d->waiting or d->active */
    struct list young; /* d->young */
    struct list waiters;
    struct dns_key key;
    struct dns_question question;
    enum lookup_state state;
    uv_timer_t timer;
    struct dns_wire *wire; /* owned; NULL between tries */
    uint64_t deadline_ms, round_ms, asked_ms;
    uint8_t order[DNS_SERVERS_MAX];
    size_t order_count, at;
    unsigned round, strays;
    uint8_t server;          /* the one being asked */
    uint8_t useless, failed; /* a bit for each that answered without use; that did not answer */
    bool same_again;         /* after the pause: it could not be sent */
    bool sent;               /* at least one question left */
    bool tcp, plain, plain_after_refusal, trusted, let_finish;
};

static void ask_next(struct dns_lookup *l);

static struct dns_server *server_of(struct dns_lookup *l)
{
    return &l->d->servers.list[l->server];
}

static uint64_t try_ms(const struct dns_lookup *l)
{
    return ((uint64_t)l->d->config.timeout_ms << MIN_OF(l->round, 8U)) * (l->tcp ? 2 : 1);
}

static void on_timer(uv_timer_t *timer);

static void arm(struct dns_lookup *l, uint64_t after_ms)
{
    uint64_t now = uv_now(l->d->loop);
    uint64_t left = l->deadline_ms > now ? l->deadline_ms - now : 0;

    uv_timer_start(&l->timer, on_timer, MIN_OF(after_ms, left), 0);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct dns_lookup *l = CONTAINER_OF((uv_timer_t *)handle, struct dns_lookup, timer);
    struct dns *d = l->d;

    mem_free(l);
    dns_handle_closed(d);
}

static void no_longer_young(struct dns_lookup *l)
{
    if (list_is_empty(&l->young))
        return;
    list_remove(&l->young);
    l->d->young_count--;
}

static void now_young(struct dns_lookup *l)
{
    no_longer_young(l);
    l->asked_ms = uv_now(l->d->loop);
    list_push_back(&l->d->young, &l->young);
    l->d->young_count++;
}

/* Takes it off every list; the memory goes when the timer has closed. */
static void retire(struct dns_lookup *l)
{
    struct dns *d = l->d;

    map_remove(&d->lookups, dns_key_bytes(&l->key));
    list_remove(&l->node);
    no_longer_young(l);
    if (l->state != LOOKUP_WAITING)
        d->active_count--;
    l->state = LOOKUP_ENDED;
    dns_wire_close(TAKE(l->wire));
    uv_close((uv_handle_t *)&l->timer, on_timer_closed);
}

static void begin(struct dns_lookup *l);

static bool has_room(const struct dns *d)
{
    return d->active_count < DNS_LOOKUPS_MAX && d->young_count < DNS_BURST_MAX;
}

static void give_turns(struct dns *d)
{
    struct list *node;

    while (!d->closing && has_room(d) && (node = list_pop(&d->waiting)))
        begin(LIST_ENTRY(node, struct dns_lookup, node));
    if (!d->closing && !list_is_empty(&d->waiting) && !uv_is_active((uv_handle_t *)&d->turn_timer))
        uv_timer_start(&d->turn_timer, dns_lookup_on_turn, DNS_BURST_MS, 0);
}

void dns_lookup_on_turn(uv_timer_t *timer)
{
    struct dns *d = CONTAINER_OF(timer, struct dns, turn_timer);
    struct list *node;

    while ((node = list_first(&d->young))) {
        struct dns_lookup *l = LIST_ENTRY(node, struct dns_lookup, young);
        uint64_t grown_ms = l->asked_ms + DNS_BURST_MS, now = uv_now(d->loop);
        if (grown_ms > now) {
            uv_timer_start(timer, dns_lookup_on_turn, grown_ms - now, 0);
            break;
        }
        no_longer_young(l);
    }
    give_turns(d);
}

static uint32_t ttl_cap_s(const struct dns *d, const struct dns_answer *a)
{
    return a->status == DNS_OK ? d->config.ttl_max_s : MIN_OF(d->config.ttl_max_s, DNS_NEGATIVE_TTL_S);
}

/* Remembers the answer and tells all who wait; `answer` is given. */
static void end(struct dns_lookup *l, struct dns_answer *answer)
{
    struct dns *d = l->d;
    struct list told, *node;

    answer->ttl_s = MIN_OF(answer->ttl_s, ttl_cap_s(d, answer));
    answer->expires_ms = uv_now(d->loop) + answer->ttl_s * 1000ULL;
    if (answer->ttl_s)
        dns_cache_put(&d->cache, &l->key, answer);
    retire(l);
    list_init(&told);
    list_move_all(&told, &l->waiters);
    while ((node = list_pop(&told))) {
        struct dns_waiter *w = LIST_ENTRY(node, struct dns_waiter, node);
        w->lookup = NULL;
        dns_chain_on_answer(CONTAINER_OF(w, struct dns_chain, waiter), answer);
    }
    dns_answer_unref(answer);
    give_turns(d);
}

static void end_with(struct dns_lookup *l, enum dns_status status)
{
    bool telling = l->sent; /* when nothing left this machine, it is not the domain that is dead */

    l->d->stats.servfails += status == DNS_SERVFAIL;
    log_debug(NULL, "dns.lookup.failed", LOG_STR("name", l->key.octets + 2),
              LOG_INT("type", l->question.type), LOG_STR("status", dns_status_name(status)));
    end(l, dns_answer_create(status, l->key.octets + 2, telling ? DNS_FAILURE_TTL_S : 0));
}

static void pause_for(struct dns_lookup *l, uint64_t ms)
{
    l->state = LOOKUP_PAUSING;
    arm(l, ms);
}

static void server_failed(struct dns_lookup *l, const char *why)
{
    bool before = l->failed & BIT(l->server);

    l->failed |= (uint8_t)BIT(l->server);
    dns_server_failed(server_of(l), why, before, uv_now(l->d->loop));
    ask_next(l);
}

static void server_useless(struct dns_lookup *l)
{
    l->useless |= (uint8_t)BIT(l->server);
    ask_next(l);
}

/* To l->server, by l->tcp and l->plain, with a fresh socket and id. */
static void ask(struct dns_lookup *l)
{
    struct dns *d = l->d;
    BUF_LOCAL(query);

    dns_wire_close(TAKE(l->wire));
    if (d->young_count >= 2 * DNS_BURST_MAX) { /* those in line leave this room to retries */
        l->same_again = true;
        pause_for(l, DNS_SOCKET_RETRY_MS);
        return;
    }
    l->state = LOOKUP_ASKING;
    l->trusted = server_of(l)->trusted_ad;
    l->question.id = (uint16_t)dns_random(d);
    l->strays = 0;
    enum err e = dns_packet_build(&l->question, !l->plain, &query);
    if (!e)
        e = dns_wire_open(d, l, server_of(l), l->tcp, buf_bytes(&query), &l->wire);
    if (e == ERR_FULL) {
        l->same_again = true;
        pause_for(l, DNS_SOCKET_RETRY_MS);
        return;
    }
    if (e) {
        server_failed(l, "unreachable");
        return;
    }
    l->sent = true;
    now_young(l);
    d->stats.queries++;
    d->stats.tcp += l->tcp;
    arm(l, try_ms(l));
}

static void begin_round(struct dns_lookup *l)
{
    uint64_t now = uv_now(l->d->loop);

    l->order_count = dns_servers_order(&l->d->servers, now, l->order);
    l->at = 0;
    l->round_ms = now;
}

static bool nobody_left(const struct dns_lookup *l)
{
    if (!l->useless)
        return false;
    if (l->round >= ROUNDS_AFTER_USELESS)
        return true;
    for (size_t i = 0; i < l->order_count; i++)
        if (!(l->useless & BIT(l->order[i])))
            return false;
    return true;
}

static void ask_next(struct dns_lookup *l)
{
    uint64_t now = uv_now(l->d->loop);

    dns_wire_close(TAKE(l->wire));
    while (l->at < l->order_count) {
        uint8_t s = l->order[l->at++];
        if (l->useless & BIT(s))
            continue;
        l->server = s;
        l->tcp = l->plain_after_refusal = false;
        l->plain = server_of(l)->plain_until_ms > now;
        ask(l);
        return;
    }
    if (nobody_left(l)) {
        end_with(l, DNS_SERVFAIL);
        return;
    }
    l->tcp = false;
    uint64_t next_ms = l->round_ms + try_ms(l); /* servers that refuse at once are not hammered */
    l->round++;
    pause_for(l, next_ms > now ? next_ms - now : 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct dns_lookup *l = CONTAINER_OF(timer, struct dns_lookup, timer);

    if (uv_now(l->d->loop) >= l->deadline_ms) {
        l->d->stats.timeouts += l->state == LOOKUP_ASKING;
        end_with(l, l->useless ? DNS_SERVFAIL : DNS_TIMEOUT);
    } else if (l->state == LOOKUP_ASKING) {
        l->d->stats.timeouts++;
        server_failed(l, "time-out");
    } else if (l->state == LOOKUP_PAUSING && l->same_again) {
        l->same_again = false;
        ask(l);
    } else if (l->state == LOOKUP_PAUSING) {
        begin_round(l);
        ask_next(l);
    }
}

static void over_tcp(struct dns_lookup *l)
{
    l->tcp = true;
    ask(l);
}

static void on_rcode(struct dns_lookup *l, unsigned rcode)
{
    bool dislikes_edns = rcode == RCODE_FORMERR || rcode == RCODE_NOTIMP || rcode == RCODE_BADVERS;

    if (!l->plain && dislikes_edns) { /* RFC 6891 §7 */
        l->plain = l->plain_after_refusal = true;
        ask(l);
        return;
    }
    server_useless(l);
}

static void on_answer(struct dns_lookup *l, struct dns_answer *answer)
{
    if (l->plain_after_refusal) /* so it was EDNS, not the question */
        server_of(l)->plain_until_ms = uv_now(l->d->loop) + PLAIN_FOR_MS;
    answer->secure = answer->secure && l->trusted;
    end(l, answer);
}

static void on_stray(struct dns_lookup *l)
{
    if (l->tcp)
        server_failed(l, "answers something else");
    else if (++l->strays > DNS_STRAYS_MAX)
        over_tcp(l); /* somebody guesses our id: a TCP connection is harder to guess */
}

void dns_lookup_on_wire(struct dns_lookup *l, enum dns_wire_event event, struct bytes packet)
{
    struct dns_answer *answer = NULL;
    unsigned rcode = 0;

    if (event == DNS_WIRE_FAILED) {
        server_failed(l, "unreachable");
        return;
    }
    no_longer_young(l);
    enum dns_reading reading = dns_packet_read(packet, &l->question, &answer, &rcode);
    if (reading == DNS_READING_OTHER) {
        on_stray(l);
        return;
    }
    dns_server_answered(server_of(l), uv_now(l->d->loop));
    switch (reading) {
    case DNS_READING_ANSWER: on_answer(l, answer); break;
    case DNS_READING_RCODE: on_rcode(l, rcode); break;
    case DNS_READING_TRUNCATED:
        if (l->tcp)
            server_useless(l);
        else
            over_tcp(l);
        break;
    case DNS_READING_OTHER:
    case DNS_READING_BAD:
    case DNS_READING_LAME: server_useless(l); break;
    }
}

bool dns_lookup_is_in_line(const struct dns_lookup *l)
{
    return l->state == LOOKUP_WAITING;
}

static void begin(struct dns_lookup *l)
{
    struct dns *d = l->d;

    list_push_back(&d->active, &l->node);
    d->active_count++;
    l->deadline_ms = uv_now(d->loop) + d->config.total_ms;
    LIST_FOREACH (node, &l->waiters)
        dns_chain_on_turn(CONTAINER_OF(node, struct dns_chain, waiter.node));
    dns_servers_refresh(&d->servers, uv_now(d->loop));
    begin_round(l);
    ask_next(l);
}

static struct dns_lookup *create(struct dns *d, const struct dns_name *name, const struct dns_key *key,
                                 uint16_t type)
{
    struct dns_lookup *l = MEM_NEW(struct dns_lookup);

    l->d = d;
    l->key = *key;
    l->question.name = *name;
    l->question.type = type;
    list_init(&l->node);
    list_init(&l->young);
    list_init(&l->waiters);
    uv_timer_init(d->loop, &l->timer);
    d->handles++;
    map_put(&d->lookups, dns_key_bytes(&l->key), l);
    list_push_back(&d->waiting, &l->node);
    give_turns(d);
    return l;
}

void dns_lookup_join(struct dns *d, const struct dns_name *name, const struct dns_key *key, uint16_t type,
                     struct dns_waiter *waiter)
{
    struct dns_lookup *l = map_find(&d->lookups, dns_key_bytes(key));

    if (!l)
        l = create(d, name, key, type);
    waiter->lookup = l;
    list_push_back(&l->waiters, &waiter->node);
}

void dns_lookup_leave(struct dns_waiter *waiter, bool let_finish)
{
    struct dns_lookup *l = waiter->lookup;

    if (!l)
        return;
    waiter->lookup = NULL;
    list_remove(&waiter->node);
    if (let_finish)
        l->let_finish = true;
    if (l->state == LOOKUP_ENDED || l->let_finish || !list_is_empty(&l->waiters))
        return;
    struct dns *d = l->d;
    retire(l);
    give_turns(d);
}

void dns_lookup_abort_all(struct dns *d)
{
    struct list *node;

    while ((node = list_first(&d->active)) || (node = list_first(&d->waiting)))
        retire(LIST_ENTRY(node, struct dns_lookup, node));
}

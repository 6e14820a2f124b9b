/*
 * Who may come in.  Every address has its limits, and all together have one.  When that is reached, the
 * stranger who has been here longest without a word that counts makes room: idle connections from ever so
 * many addresses keep nobody out who has mail to hand in.
 */
#include "engine/submit/submission.h"

#include "base/clock.h"

#define REFUSALS_LOGGED 10 /* a minute and worker */
#define LOOKED_AT       8
#define STRANGER_MIN_MS 1000 /* nobody has to go sooner: a handshake and AUTH take a while */

struct client_limits client_limits_of(const struct worker *w)
{
    const struct conf *conf = worker_conf(w);

    return (struct client_limits){
        .connections = (uint32_t)conf->submission.connections_per_address,
        .connections_per_minute = (uint32_t)conf->submission.connection_rate_per_address,
        .messages_per_minute = (uint32_t)conf->submission.messages_per_minute_per_address,
        .auth_failures_per_minute = (uint32_t)conf->submission.auth_failures_per_minute,
    };
}

static struct permit_pool *permits(const struct worker *w)
{
    return permit_pool(w->shared->limits, "in", (uint32_t)worker_conf(w)->submission.connections);
}

/* ---- strangers ---- */

void admission_begin(struct submission *c)
{
    c->since_ms = worker_now_ms(c->submit->w);
    c->stranger = !c->peer.trusted;
    if (c->stranger)
        list_push_back(&c->submit->strangers, &c->stranger_node);
}

void admission_known(struct submission *c)
{
    if (c->stranger)
        list_remove(&c->stranger_node);
    c->stranger = false;
}

static void turn_out(struct submission *c)
{
    COUNT(c->submit->w, connections_refused);
    if (attack_is_worth_a_line(c->submit, "client.turned_out", REFUSALS_LOGGED))
        log_warn(
            &c->log, "client.turned_out",
            LOG_STR("why",
                    "submission.connections is reached, and it has neither proved an account nor sent mail"));
    submission_enter(c);
    if (c->handshake_until_ms)
        submission_close(c); /* nothing can be said in the middle of it */
    else
        smtp_server_turn_out(c->server, worker_now_ms(c->submit->w));
    submission_leave(c);
}

/* One who is in the middle of a message stays, and is looked at again when the others have been. */
static bool make_room(struct submit *s)
{
    for (unsigned i = 0; i < LOOKED_AT && !list_is_empty(&s->strangers); i++) {
        struct list *first = list_first(&s->strangers);
        struct submission *c = LIST_ENTRY(first, struct submission, stranger_node);
        if (worker_now_ms(s->w) < c->since_ms + STRANGER_MIN_MS)
            return false;
        if (c->handshake_until_ms || smtp_server_is_idle(c->server)) {
            turn_out(c);
            return true;
        }
        list_remove(first);
        list_push_back(&s->strangers, first);
    }
    return false;
}

/* ---- at the door ---- */

/* Another worker may be quicker to take the place that was made here. */
static bool find_room(struct submit *s)
{
    bool found = permit_take(permits(s->w), NULL, 0);

    for (unsigned i = 0; !found && i < LOOKED_AT && make_room(s); i++)
        found = permit_take(permits(s->w), NULL, 0);
    return found;
}

static bool refuse(struct submit *s, const char *address_key, const char *reason, const char *line,
                   const char **why)
{
    if (attack_is_worth_a_line(s, "client.limited", REFUSALS_LOGGED))
        log_warn(&s->w->log, "client.limited", LOG_STR("address", address_key + 3), LOG_STR("why", reason));
    *why = line;
    return false;
}

bool admission_take(struct submit *s, const char *address_key, bool trusted, int fd, const char **why)
{
    struct limits *all = s->w->shared->limits;
    struct client_limits limits = client_limits_of(s->w);

    if (trusted) /* the operator's own injectors: only the total counts */
        limits.connections = limits.connections_per_minute = 0;
    if (s->draining) {
        *why = "421 4.3.2 the server is shutting down\r\n";
        return false;
    }
    if (fd >= s->fd_limit) {
        make_room(s); /* for the next one: the descriptor is free in the next turn of the loop */
        return refuse(s, address_key, "too few file descriptors are left",
                      "421 4.3.1 too many connections, try again later\r\n", why);
    }
    if (!client_may(all, address_key, &limits, CLIENT_CONNECT, clock_now_ms()))
        return refuse(s, address_key, "too many connections of this address",
                      "421 4.7.0 too many connections from your address, try again later\r\n", why);
    if (find_room(s))
        return true;
    client_gone(all, address_key, clock_now_ms());
    return refuse(s, address_key, "submission.connections is reached",
                  "421 4.7.0 too many connections, try again later\r\n", why);
}

void admission_give(struct submit *s, const char *address_key)
{
    client_gone(s->w->shared->limits, address_key, clock_now_ms());
    permit_give(permits(s->w));
}

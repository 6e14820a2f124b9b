/* What one client of submission may do, by its address or account. */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "engine/limits_priv.h"

#define WINDOW_MS        60000
#define CLIENTS_SWEEP_AT 4096

struct client {
    char *key; /* owned */
    uint32_t connections;
    uint64_t window_start_ms;
    uint32_t counts[3]; /* by enum client_event, in this window of a minute */
    uint32_t before[3]; /* in the window before */
};

void limits_forget_clients(struct limits *l)
{
    struct client *c;

    for (size_t at = 0; (c = map_next(&l->clients, &at));) {
        mem_free(c->key);
        mem_free(c);
    }
    map_fini(&l->clients);
}

char *client_key_of(const struct ip *ip, char out[CLIENT_KEY_BYTES])
{
    struct ip_net net = {.base = *ip, .prefix = 64};
    char text[IP_TEXT_BYTES];

    if (ip->family == 6)
        memset(net.base.octets + 8, 0, 8);
    snprintf(out, CLIENT_KEY_BYTES, "ip:%s",
             ip->family == 6 ? ip_net_format(&net, text) : ip_format(ip, text));
    return out;
}

static void turn_window(struct client *c, uint64_t now_ms)
{
    uint64_t age = now_ms - c->window_start_ms;

    if (age < WINDOW_MS)
        return;
    for (size_t i = 0; i < COUNT_OF(c->counts); i++) {
        c->before[i] = age < 2 * WINDOW_MS ? c->counts[i] : 0;
        c->counts[i] = 0;
    }
    c->window_start_ms = age < 2 * WINDOW_MS ? c->window_start_ms + WINDOW_MS : now_ms;
}

/* Sliding estimate over the last minute: what is left of the window before counts in proportion. */
static uint32_t recent(const struct client *c, enum client_event event, uint64_t now_ms)
{
    uint64_t left = WINDOW_MS - MIN_OF(now_ms - c->window_start_ms, (uint64_t)WINDOW_MS);

    return c->counts[event] + (uint32_t)(c->before[event] * left / WINDOW_MS);
}

/* Addresses come from outside: those that did nothing for two minutes are forgotten. */
static void sweep(struct limits *l, uint64_t now_ms)
{
    struct client *c;

    for (size_t at = 0; (c = map_next(&l->clients, &at));) {
        if (c->connections || now_ms - c->window_start_ms < 2 * WINDOW_MS)
            continue;
        map_remove(&l->clients, bytes_of(c->key));
        mem_free(c->key);
        mem_free(c);
    }
}

static struct client *client_of(struct limits *l, const char *key, uint64_t now_ms)
{
    struct client *c = map_find(&l->clients, bytes_of(key));

    if (!c) {
        if (l->clients.count && l->clients.count % CLIENTS_SWEEP_AT == 0)
            sweep(l, now_ms);
        c = MEM_NEW(struct client);
        c->key = mem_strdup(key);
        c->window_start_ms = now_ms;
        map_put(&l->clients, bytes_of(c->key), c);
    }
    turn_window(c, now_ms);
    return c;
}

static uint32_t limit_of(const struct client_limits *limits, enum client_event event)
{
    switch (event) {
    case CLIENT_CONNECT: return limits->connections_per_minute;
    case CLIENT_MESSAGE: return limits->messages_per_minute;
    case CLIENT_AUTH_FAILURE: break; /* client_may_authenticate */
    }
    return 0;
}

bool client_may(struct limits *l, const char *key, const struct client_limits *limits,
                enum client_event event, uint64_t now_ms)
{
    pthread_mutex_lock(&l->lock);
    struct client *c = client_of(l, key, now_ms);
    uint32_t limit = limit_of(limits, event);
    bool may = !limit || recent(c, event, now_ms) < limit;
    if (event == CLIENT_CONNECT && limits->connections && c->connections >= limits->connections)
        may = false;
    if (may && event == CLIENT_CONNECT)
        c->connections++;
    if (may)
        c->counts[event]++;
    pthread_mutex_unlock(&l->lock);
    return may;
}

/* Users are counted in so many classes: names come from outside, and most are guessed. */
#define USER_CLASSES 4096

static char *user_key(const char *user, char out[CLIENT_KEY_BYTES])
{
    snprintf(out, CLIENT_KEY_BYTES, "user:%u", (unsigned)(hash_bytes(bytes_of(user)) % USER_CLASSES));
    return out;
}

static uint32_t auth_failures(struct limits *l, const char *key, uint64_t now_ms)
{
    return recent(client_of(l, key, now_ms), CLIENT_AUTH_FAILURE, now_ms);
}

bool client_may_authenticate(struct limits *l, const char *key, const char *user,
                             const struct client_limits *limits, uint64_t now_ms)
{
    uint32_t most = limits->auth_failures_per_minute;
    char text[CLIENT_KEY_BYTES];

    if (!most)
        return true;
    pthread_mutex_lock(&l->lock);
    uint32_t failed = auth_failures(l, key, now_ms);
    bool may = failed < most && (!user || !failed || auth_failures(l, user_key(user, text), now_ms) < most);
    pthread_mutex_unlock(&l->lock);
    return may;
}

void client_auth_failed(struct limits *l, const char *key, const char *user, uint64_t now_ms)
{
    char text[CLIENT_KEY_BYTES];

    pthread_mutex_lock(&l->lock);
    client_of(l, key, now_ms)->counts[CLIENT_AUTH_FAILURE]++;
    client_of(l, user_key(user, text), now_ms)->counts[CLIENT_AUTH_FAILURE]++;
    pthread_mutex_unlock(&l->lock);
}

void client_gone(struct limits *l, const char *key, uint64_t now_ms)
{
    pthread_mutex_lock(&l->lock);
    struct client *c = client_of(l, key, now_ms);
    if (c->connections)
        c->connections--;
    pthread_mutex_unlock(&l->lock);
}

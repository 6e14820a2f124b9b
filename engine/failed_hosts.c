#include "engine/failed_hosts.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/mem.h"

#define REMEMBER_MS 300000
#define HOSTS_MAX   4096

struct failed_host {
    struct list node;
    char *key; /* owned: "mx.example.com:25" */
    uint64_t until_ms;
};

struct failed_hosts {
    pthread_mutex_t lock;
    struct map hosts;
    struct list by_age; /* all are remembered for as long: the first one is over first */
    atomic_size_t count;
};

struct failed_hosts *failed_hosts_create(void)
{
    struct failed_hosts *f = MEM_NEW(struct failed_hosts);

    pthread_mutex_init(&f->lock, NULL);
    list_init(&f->by_age);
    return f;
}

void failed_hosts_destroy(struct failed_hosts *f)
{
    if (!f)
        return;
    failed_hosts_clear(f);
    map_fini(&f->hosts);
    pthread_mutex_destroy(&f->lock);
    mem_free(f);
}

static void drop(struct failed_hosts *f, struct failed_host *h)
{
    map_remove(&f->hosts, bytes_of(h->key));
    atomic_store_explicit(&f->count, f->hosts.count, memory_order_relaxed);
    list_remove(&h->node);
    mem_free(h->key);
    mem_free(h);
}

static struct failed_host *oldest(const struct failed_hosts *f)
{
    struct list *node = list_first(&f->by_age);

    return node ? LIST_ENTRY(node, struct failed_host, node) : NULL;
}

static void put_key(struct buf *key, const char *name, uint16_t port)
{
    buf_putf(key, "%s:%u", name, port);
}

static struct failed_host *make(struct failed_hosts *f, struct bytes key, uint64_t now_ms)
{
    struct failed_host *h;

    while ((h = oldest(f)) && (h->until_ms <= now_ms || f->hosts.count >= HOSTS_MAX))
        drop(f, h);
    h = MEM_NEW(struct failed_host);
    h->key = bytes_dup(key);
    list_init(&h->node);
    map_put(&f->hosts, bytes_of(h->key), h);
    atomic_store_explicit(&f->count, f->hosts.count, memory_order_relaxed);
    return h;
}

void failed_hosts_remember(struct failed_hosts *f, const char *name, uint16_t port, uint64_t now_ms)
{
    BUF_LOCAL(key);

    put_key(&key, name, port);
    pthread_mutex_lock(&f->lock);
    struct failed_host *h = map_find(&f->hosts, buf_bytes(&key));
    if (!h)
        h = make(f, buf_bytes(&key), now_ms);
    list_remove(&h->node);
    list_push_back(&f->by_age, &h->node);
    h->until_ms = now_ms + REMEMBER_MS;
    pthread_mutex_unlock(&f->lock);
}

void failed_hosts_forget(struct failed_hosts *f, const char *name, uint16_t port)
{
    BUF_LOCAL(key);

    if (!failed_hosts_any(f))
        return;
    put_key(&key, name, port);
    pthread_mutex_lock(&f->lock);
    struct failed_host *h = map_find(&f->hosts, buf_bytes(&key));
    if (h)
        drop(f, h);
    pthread_mutex_unlock(&f->lock);
}

void failed_hosts_clear(struct failed_hosts *f)
{
    struct failed_host *h;

    pthread_mutex_lock(&f->lock);
    while ((h = oldest(f)))
        drop(f, h);
    pthread_mutex_unlock(&f->lock);
}

bool failed_hosts_any(const struct failed_hosts *f)
{
    return atomic_load_explicit(&f->count, memory_order_relaxed) > 0;
}

uint64_t failed_hosts_left_ms(struct failed_hosts *f, const char *name, uint16_t port, uint64_t now_ms)
{
    BUF_LOCAL(key);
    uint64_t until_ms = 0;

    if (!failed_hosts_any(f))
        return 0;
    put_key(&key, name, port);
    pthread_mutex_lock(&f->lock);
    struct failed_host *h = map_find(&f->hosts, buf_bytes(&key));
    if (h) {
        until_ms = h->until_ms;
        if (until_ms <= now_ms)
            drop(f, h);
    }
    pthread_mutex_unlock(&f->lock);
    return until_ms > now_ms ? until_ms - now_ms : 0;
}

/*
 * PLAIN and LOGIN cost a PBKDF2: on the thread pool, a bounded number at a time, and a campaign sender's many
 * connections ask a cache first.  The cache holds no password: its keys are HMACs under a per-worker secret.
 */
#include <gnutls/crypto.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/smtp/scram.h"
#include "engine/submit/submission.h"

#define CACHE_LIFE_MS 300000
#define CACHE_MAX     1000
#define KEY_BYTES     32
#define NICENESS      10

struct password_work {
    uv_work_t work;
    struct submission *client; /* NULL: it has gone */
    struct submit *submit;
    struct account account;
    char *password; /* owned, wiped */
    unsigned char key[KEY_BYTES];
    bool right;
};

struct cached {
    unsigned char key[KEY_BYTES];
    uint64_t until_ms;
};

static void make_key(const struct submit *s, const char *user, const char *password, uint64_t generation,
                     unsigned char key[KEY_BYTES])
{
    struct buf text = {0};

    buf_putf(&text, "%zu:%s:%llu:", strlen(user), user, (unsigned long long)generation);
    buf_puts(&text, password);
    gnutls_hmac_fast(GNUTLS_MAC_SHA256, s->cache_secret, sizeof(s->cache_secret), text.at, text.len, key);
    explicit_bzero(text.at, text.cap);
    buf_fini(&text);
}

void password_cache_clear(struct submit *s)
{
    struct cached *e;

    for (size_t at = 0; (e = map_next(&s->passwords, &at));)
        mem_free(e);
    map_fini(&s->passwords);
}

static bool is_cached(struct submit *s, const unsigned char key[KEY_BYTES])
{
    struct cached *e = map_find(&s->passwords, bytes_make(key, KEY_BYTES));

    return e && e->until_ms > clock_now_ms();
}

static void cache(struct submit *s, const unsigned char key[KEY_BYTES])
{
    if (s->passwords.count >= CACHE_MAX)
        password_cache_clear(s);
    struct cached *e = MEM_NEW(struct cached);
    memcpy(e->key, key, KEY_BYTES);
    e->until_ms = clock_now_ms() + CACHE_LIFE_MS;
    mem_free(map_put(&s->passwords, bytes_make(e->key, KEY_BYTES), e));
}

/* Who guesses passwords buys our time with a few octets: mail goes before. */
static void give_way(void)
{
    static _Thread_local bool given;

    if (!given)
        setpriority(PRIO_PROCESS, (id_t)gettid(), NICENESS);
    given = true;
}

static void do_check(uv_work_t *work)
{
    struct password_work *p = CONTAINER_OF(work, struct password_work, work);

    give_way();
    p->right = scram_check_password(&p->account, p->password);
}

static void on_checked(uv_work_t *work, int status)
{
    struct password_work *p = CONTAINER_OF(work, struct password_work, work);
    struct submission *c = p->client;

    if (!status && p->right)
        cache(p->submit, p->key);
    if (c) {
        struct worker *w = c->submit->w;
        c->work = NULL;
        submission_enter(c);
        const struct account *a =
            !status && p->right ? accounts_find(c->accounts, bytes_of(p->account.name)) : NULL;
        smtp_server_auth_done(c->server, a, status != 0, worker_now_ms(w));
        submission_leave(c);
    }
    account_fini(&p->account);
    mem_wipe_free(p->password, strlen(p->password));
    mem_free(p);
}

/* An unknown user costs what a known one does, and is told the same. */
static void fake_account(struct account *a)
{
    *a = (struct account){.name = mem_strdup(""), .iterations = SCRAM_ITERATIONS};
}

void password_check(struct submission *c, const char *user, const char *password)
{
    struct submit *s = c->submit;
    struct worker *w = s->w;
    unsigned char key[KEY_BYTES];

    const struct account *account = submission_find_account(c, user);
    if (account) {
        make_key(s, user, password, accounts_generation(c->accounts), key);
        if (is_cached(s, key)) {
            smtp_server_auth_done(c->server, account, false, worker_now_ms(w));
            return;
        }
    }
    struct password_work *p = MEM_NEW(struct password_work);
    p->client = c;
    p->submit = s;
    p->password = mem_strdup(password);
    if (account) {
        account_copy(&p->account, account);
        memcpy(p->key, key, KEY_BYTES);
    } else {
        fake_account(&p->account);
    }
    c->work = p;
    if (uv_queue_work(&w->loop, &p->work, do_check, on_checked) != 0)
        on_checked(&p->work, -1);
}

void password_abandon(struct submission *c)
{
    if (c->work)
        c->work->client = NULL;
    c->work = NULL;
}

/*
 * A probe of one host: a conversation with the engine's own client and connection, and if asked for one more
 * for each version of TLS.
 */
#include "engine/probe/host.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/smtp/client.h"

#define CONNECT_MS   20000
#define REPLY_MS     30000
#define HANDSHAKE_MS 30000
#define AGAIN_MS     100 /* until we look whether somebody else has asked the host meanwhile */
#define MAIN_ROUND   (-1)

static const char *const only_version[] = {
    [TLS_VERSION_1_0] = "NORMAL:-VERS-ALL:+VERS-TLS1.0:+SIGN-RSA-SHA1:%VERIFY_ALLOW_SIGN_WITH_SHA1",
    [TLS_VERSION_1_1] = "NORMAL:-VERS-ALL:+VERS-TLS1.1:+SIGN-RSA-SHA1:%VERIFY_ALLOW_SIGN_WITH_SHA1",
    [TLS_VERSION_1_2] = "NORMAL:-VERS-ALL:+VERS-TLS1.2",
    [TLS_VERSION_1_3] = "NORMAL:-VERS-ALL:+VERS-TLS1.3",
};

struct probe {
    struct list node; /* w->host_probes */
    struct worker *w;
    char *host, *sni, *key; /* owned */
    struct policy *policy;  /* counted */
    const struct group *group;
    struct ip ip;
    uint16_t port;
    bool implicit_tls, versions;
    int round; /* MAIN_ROUND, then enum tls_version */
    struct probe_facts *facts;
    struct conn *conn;
    struct smtp_client *client;
    uint64_t began_ms;
    bool tls_up, over, greeted, taken;
    uv_timer_t timer;
    probe_host_fn fn;
    void *arg;
};

static void begin_round(struct probe *p);

static bool is_main(const struct probe *p)
{
    return p->round == MAIN_ROUND;
}

static void on_timer_closed(uv_handle_t *h)
{
    struct probe *p = h->data;

    mem_free(p->host);
    mem_free(p->sni);
    mem_free(p->key);
    policy_unref(p->policy);
    probe_facts_unref(p->facts);
    mem_free(p);
}

static void finish(struct probe *p)
{
    if (p->taken)
        probe_cache_put(p->w->shared->probe_cache, p->key, p->facts);
    list_remove(&p->node);
    p->fn(p->arg, probe_facts_ref(p->facts));
    uv_close((uv_handle_t *)&p->timer, on_timer_closed);
}

void probe_hosts_close(struct worker *w)
{
    LIST_FOREACH_SAFE (node, &w->host_probes) {
        struct probe *p = LIST_ENTRY(node, struct probe, node);
        p->over = true;
        if (p->client)
            smtp_client_destroy(TAKE(p->client));
        if (p->conn)
            conn_close(TAKE(p->conn));
        snprintf(p->facts->error, PROBE_TEXT, "the daemon ends");
        finish(p); /* who asked has been told to expect nothing good */
    }
}

static void on_next(uv_timer_t *t)
{
    struct probe *p = t->data;

    if (is_main(p))
        p->facts->ms = (uint32_t)(worker_now_ms(p->w) - p->began_ms);
    /* The versions say why a handshake failed; without STARTTLS there is nothing to ask. */
    bool more = p->versions && (p->facts->version || p->facts->event == TLS_EVENT_HANDSHAKE_FAILED) &&
                p->facts->connected && p->round < TLS_VERSION_1_3;
    if (!more) {
        finish(p);
        return;
    }
    p->round++;
    p->facts->versions[p->round] = 0;
    begin_round(p);
}

/* The conversation is over, whatever came of it; the next one begins from the loop. */
static void end_round(struct probe *p)
{
    if (p->over)
        return;
    p->over = true;
    if (p->client)
        smtp_client_destroy(TAKE(p->client));
    if (p->conn)
        conn_close(TAKE(p->conn));
    uv_timer_start(&p->timer, on_next, 0, 0);
}

static void say(char out[PROBE_TEXT], const char *text)
{
    snprintf(out, PROBE_TEXT, "%.*s", PROBE_TEXT - 1, text);
}

static void pass_on(struct probe *p)
{
    if (p->over || !p->conn || !p->client)
        return;
    conn_flush(p->conn);
    if (p->over || (conn_tls(p->conn) && !p->tls_up))
        return;
    conn_set_deadline(p->conn, smtp_client_deadline_ms(p->client));
}

/* ---- what the peer says ---- */

static void start_tls(struct probe *p)
{
    char why[160] = "";
    struct tls_client_options options = {
        .level = TLS_ON,
        .priority = is_main(p) ? p->group->tls_priority : only_version[p->round],
        .min_version = p->group->tls_min_version,
        .ca_file = p->group->ca_file,
        .certificate = p->group->tls_certificate,
        .key = p->group->tls_key,
        .sni = p->sni,
        .names = (const char *const *)&p->host,
        .name_count = 1,
    };
    gnutls_session_t session = tls_client_session(p->w->shared->tls_client, &options, why, sizeof(why));

    if (!session) {
        say(p->facts->tls_error, why);
        end_round(p);
        return;
    }
    conn_set_deadline(p->conn, worker_now_ms(p->w) + HANDSHAKE_MS);
    conn_start_tls(p->conn, session);
}

static void on_ehlo(void *arg, const struct smtp_offer *offer)
{
    struct probe *p = arg;

    if (is_main(p)) {
        p->facts->offered |= offer->starttls;
        p->facts->requiretls = offer->requiretls;
    }
    if (p->tls_up || !offer->starttls)
        smtp_client_quit(p->client, worker_now_ms(p->w));
    else
        smtp_client_go_starttls(p->client, worker_now_ms(p->w));
}

static void on_starttls(void *arg, bool accepted, bool clean, const struct outcome *reply)
{
    struct probe *p = arg;

    if (accepted) {
        start_tls(p);
        return;
    }
    if (is_main(p)) {
        p->facts->event = clean                ? TLS_EVENT_REFUSED
                          : reply->code == 421 ? TLS_EVENT_CLOSING
                                               : TLS_EVENT_REFUSED_UNCLEAN;
        snprintf(p->facts->reply, PROBE_TEXT, "%u %.*s", reply->code, PROBE_TEXT - 8, reply->text);
    }
    end_round(p);
}

static void on_over(void *arg, const struct outcome *why)
{
    struct probe *p = arg;

    if (is_main(p) && !p->tls_up && why->kind != OUTCOME_DELIVERED) {
        snprintf(p->facts->error, PROBE_TEXT, "%s%.*s", why->remote ? "it said: " : "", PROBE_TEXT - 12,
                 why->text);
        if (!p->facts->offered)
            p->facts->connected = p->greeted && why->stage > STAGE_GREETING;
    }
    end_round(p);
}

static void on_ready(void *arg)
{
    struct probe *p = arg;

    smtp_client_quit(p->client, worker_now_ms(p->w));
}

static void on_auth(void *arg, bool ok, const struct outcome *reply)
{
    (void)arg, (void)ok, (void)reply; /* never asked for */
}

static void on_txn_done(void *arg, struct smtp_txn *txn)
{
    (void)arg, (void)txn; /* nothing is ever sent */
}

static const struct smtp_client_events client_events = {
    .on_ehlo = on_ehlo,
    .on_starttls = on_starttls,
    .on_auth = on_auth,
    .on_ready = on_ready,
    .on_txn_done = on_txn_done,
    .on_over = on_over,
};

/* ---- the socket ---- */

static void start_client(struct probe *p)
{
    struct smtp_client_config config = {
        .ehlo_name = p->w->shared->host_name,
        .timeouts = {REPLY_MS, REPLY_MS, REPLY_MS, REPLY_MS, REPLY_MS, REPLY_MS, REPLY_MS, 5000},
        .events = client_events,
        .arg = p,
    };

    p->client = smtp_client_create(&config);
    conn_set_output(p->conn, smtp_client_output(p->client));
}

static void on_connected(void *arg, enum err e, const char *why)
{
    struct probe *p = arg;

    if (e) {
        if (is_main(p))
            say(p->facts->error, why);
        end_round(p);
        return;
    }
    if (is_main(p))
        p->facts->connected = true;
    start_client(p);
    if (p->implicit_tls) {
        p->facts->offered = true;
        start_tls(p);
    } else {
        smtp_client_connected(p->client, worker_now_ms(p->w));
    }
    pass_on(p);
}

static void keep_chain(struct probe_facts *f, gnutls_session_t session)
{
    unsigned count = 0;
    const gnutls_datum_t *chain = tls_client_chain(session, &count);

    f->chain = mem_zalloc((count + 1) * sizeof(*f->chain));
    for (unsigned i = 0; i < count; i++)
        f->chain[i] = (gnutls_datum_t){(void *)mem_dup(chain[i].data, chain[i].size), chain[i].size};
    f->chain_count = count;
}

static void on_handshake(void *arg, enum err e, const char *why)
{
    struct probe *p = arg;
    struct probe_facts *f = p->facts;

    if (e) {
        if (is_main(p)) {
            f->event = TLS_EVENT_HANDSHAKE_FAILED;
            say(f->tls_error, why);
        }
        end_round(p);
        return;
    }
    gnutls_session_t session = conn_tls(p->conn);
    p->tls_up = true;
    if (!is_main(p)) {
        f->versions[p->round] = 1;
        end_round(p); /* that it was taken is all we wanted to know */
        return;
    }
    f->version = tls_version_name(session);
    f->cipher = tls_cipher_name(session);
    f->kx = tls_kx_name(session);
    f->verify = tls_client_verify(session);
    f->expires_unix = tls_client_expires_unix(session);
    f->event = f->verify == TLS_VERIFY_PKIX ? TLS_EVENT_CERT_GOOD : TLS_EVENT_CERT_BAD;
    keep_chain(f, session);
    if (p->implicit_tls)
        smtp_client_connected(p->client, worker_now_ms(p->w));
    else
        smtp_client_tls_done(p->client, worker_now_ms(p->w));
    pass_on(p);
}

static void keep_banner(struct probe *p, struct bytes in)
{
    char *out = p->facts->banner;
    size_t n = MIN_OF(bytes_find(in, '\n'), in.len);

    if (p->greeted || !is_main(p))
        return;
    p->greeted = true;
    n = MIN_OF(n, (size_t)PROBE_TEXT - 1);
    for (size_t i = 0; i < n; i++)
        out[i] = in.at[i] >= ' ' && in.at[i] < 127 ? in.at[i] : ' ';
    while (n && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
}

static void on_data(void *arg, struct bytes in)
{
    struct probe *p = arg;

    keep_banner(p, in);
    if (p->client)
        smtp_client_receive(p->client, in, worker_now_ms(p->w));
    pass_on(p);
}

static void on_lost(void *arg, enum err e, const char *why)
{
    struct probe *p = arg;

    if (p->client)
        smtp_client_closed(p->client, e, why, worker_now_ms(p->w));
    else
        end_round(p);
}

static void on_deadline(void *arg)
{
    struct probe *p = arg;
    bool in_handshake = p->conn && conn_tls(p->conn) && !p->tls_up;

    if (!p->client || in_handshake) {
        if (is_main(p)) {
            say(in_handshake ? p->facts->tls_error : p->facts->error, "timed out");
            if (in_handshake)
                p->facts->event = TLS_EVENT_HANDSHAKE_FAILED;
        }
        end_round(p);
        return;
    }
    smtp_client_on_deadline(p->client, worker_now_ms(p->w));
    pass_on(p);
}

static const struct conn_events conn_events = {
    .on_connected = on_connected,
    .on_handshake = on_handshake,
    .on_data = on_data,
    .on_lost = on_lost,
    .on_deadline = on_deadline,
};

static void begin_round(struct probe *p)
{
    p->over = p->tls_up = false;
    p->conn = conn_create(p->w->pool, &conn_events, p);
    enum err e = conn_connect(p->conn, &p->ip, p->port, NULL);
    if (e) {
        if (is_main(p))
            say(p->facts->error, err_text(e));
        end_round(p);
        return;
    }
    conn_set_deadline(p->conn, worker_now_ms(p->w) + CONNECT_MS);
}

static void on_begin(uv_timer_t *t)
{
    struct probe *p = t->data;
    struct probe_facts *known = NULL;

    switch (probe_cache_take(p->w->shared->probe_cache, p->key, &known)) {
    case PROBE_KNOWN:
        probe_facts_unref(p->facts);
        p->facts = known;
        finish(p);
        return;
    case PROBE_UNDER_WAY: uv_timer_start(&p->timer, on_begin, AGAIN_MS, 0); return;
    case PROBE_YOURS: break;
    }
    p->taken = true;
    p->began_ms = worker_now_ms(p->w);
    begin_round(p);
}

void probe_host(struct worker *w, const struct probe_target *target, probe_host_fn fn, void *arg)
{
    struct probe *p = MEM_NEW(struct probe);
    char ip[IP_TEXT_BYTES];
    BUF_LOCAL(key);

    buf_putf(&key, "%s|%s|%s|%u|%d|%d|%llu|%s", target->host, target->sni, ip_format(&target->ip, ip),
             target->port, target->implicit_tls, target->versions,
             (unsigned long long)policy_version(target->policy), target->group->name);
    p->policy = policy_ref(target->policy);
    p->group = target->group;
    p->w = w;
    p->host = mem_strdup(target->host);
    p->sni = mem_strdup(target->sni);
    p->key = buf_take(&key);
    p->ip = target->ip;
    p->port = target->port;
    p->implicit_tls = target->implicit_tls;
    p->versions = target->versions;
    p->round = MAIN_ROUND;
    p->facts = MEM_NEW(struct probe_facts);
    atomic_init(&p->facts->refs, 1);
    p->facts->event = TLS_EVENT_NOT_OFFERED;
    for (int i = 0; i < 4; i++)
        p->facts->versions[i] = -1;
    p->fn = fn;
    p->arg = arg;
    uv_timer_init(&w->loop, &p->timer);
    p->timer.data = p;
    list_push_back(&w->host_probes, &p->node);
    uv_timer_start(&p->timer, on_begin, 0, 0);
}

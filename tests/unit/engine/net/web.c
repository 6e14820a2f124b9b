#include "tests/unit/engine/net/web.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

#define DAY_S 86400

/* ---- certificates ---- */

struct web_keys {
    gnutls_x509_privkey_t key, weak_key, ca_key, stranger_key;
    gnutls_x509_crt_t ca, stranger;
};

static void must(int result)
{
    if (result < 0) {
        fprintf(stderr, "web: %s\n", gnutls_strerror(result));
        abort();
    }
}

static gnutls_x509_privkey_t make_key(gnutls_pk_algorithm_t kind, unsigned bits)
{
    gnutls_x509_privkey_t key;

    must(gnutls_x509_privkey_init(&key));
    must(gnutls_x509_privkey_generate(key, kind, bits, 0));
    return key;
}

static gnutls_x509_crt_t make_crt(const char *cn, gnutls_x509_privkey_t key, time_t from, time_t until)
{
    static atomic_uint made;
    unsigned n = atomic_fetch_add(&made, 1);
    unsigned char serial[] = {1, (unsigned char)(n >> 8), (unsigned char)n};
    gnutls_x509_crt_t crt;

    must(gnutls_x509_crt_init(&crt));
    must(gnutls_x509_crt_set_version(crt, 3));
    must(gnutls_x509_crt_set_serial(crt, serial, sizeof(serial)));
    must(gnutls_x509_crt_set_activation_time(crt, from));
    must(gnutls_x509_crt_set_expiration_time(crt, until));
    must(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, cn, (unsigned)strlen(cn)));
    must(gnutls_x509_crt_set_key(crt, key));
    return crt;
}

static gnutls_x509_crt_t make_ca(const char *name, gnutls_x509_privkey_t key)
{
    time_t now = time(NULL);
    gnutls_x509_crt_t ca = make_crt(name, key, now - DAY_S, now + 100 * DAY_S);

    must(gnutls_x509_crt_set_basic_constraints(ca, 1, -1));
    must(gnutls_x509_crt_set_key_usage(ca, GNUTLS_KEY_KEY_CERT_SIGN));
    must(gnutls_x509_crt_sign2(ca, ca, key, GNUTLS_DIG_SHA256, 0));
    return ca;
}

static bool is(const char *word, const char *wanted)
{
    return word && strcmp(word, wanted) == 0;
}

static gnutls_certificate_credentials_t make_credentials(const struct web_keys *k, const struct web_row *row)
{
    const char *kind = row->certificate, *name = is(kind, "other") ? "other.example" : row->host;
    time_t now = time(NULL);
    time_t from = is(kind, "future") ? now + 10 * DAY_S : now - 50 * DAY_S;
    time_t until = is(kind, "expired") ? now - DAY_S : now + 50 * DAY_S;
    gnutls_x509_privkey_t key = is(kind, "weak") ? k->weak_key : k->key;
    gnutls_x509_crt_t crt = make_crt(name, key, from, until);
    gnutls_certificate_credentials_t credentials;

    if (!is(kind, "cn"))
        must(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name, (unsigned)strlen(name),
                                                  GNUTLS_FSAN_SET));
    must(gnutls_x509_crt_set_key_purpose_oid(
        crt, is(kind, "client") ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER, 0));
    if (is(kind, "self"))
        must(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0));
    else if (is(kind, "stranger"))
        must(gnutls_x509_crt_sign2(crt, k->stranger, k->stranger_key, GNUTLS_DIG_SHA256, 0));
    else
        must(gnutls_x509_crt_sign2(crt, k->ca, k->ca_key, GNUTLS_DIG_SHA256, 0));
    must(gnutls_certificate_allocate_credentials(&credentials));
    must(gnutls_certificate_set_x509_key(credentials, &crt, 1, key));
    gnutls_x509_crt_deinit(crt);
    return credentials;
}

static struct web_keys *make_keys(char ca_file[64])
{
    struct web_keys *k = MEM_NEW(struct web_keys);
    gnutls_datum_t pem;

    k->key = make_key(GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1));
    k->ca_key = make_key(GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1));
    k->stranger_key = make_key(GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1));
    k->weak_key = make_key(GNUTLS_PK_RSA, 1024);
    k->ca = make_ca("authority of the test", k->ca_key);
    k->stranger = make_ca("authority that nobody trusts", k->stranger_key);
    must(gnutls_x509_crt_export2(k->ca, GNUTLS_X509_FMT_PEM, &pem));
    snprintf(ca_file, 64, "/tmp/test-web-ca-XXXXXX");
    int fd = mkstemp(ca_file);
    if (fd < 0 || write(fd, pem.data, pem.size) != (ssize_t)pem.size)
        abort();
    close(fd);
    gnutls_free(pem.data);
    return k;
}

static void free_keys(struct web_keys *k)
{
    gnutls_x509_crt_deinit(k->ca);
    gnutls_x509_crt_deinit(k->stranger);
    gnutls_x509_privkey_deinit(k->key);
    gnutls_x509_privkey_deinit(k->weak_key);
    gnutls_x509_privkey_deinit(k->ca_key);
    gnutls_x509_privkey_deinit(k->stranger_key);
    mem_free(k);
}

/* ---- one connection ---- */

struct visit {
    struct web *web;
    int fd;
    pthread_t thread;
    struct visit *next;
    gnutls_session_t tls;
    gnutls_certificate_credentials_t credentials;
    struct web_row row; /* by SNI */
    size_t row_index;
    bool found;
};

static bool does(const struct visit *v, const char *word)
{
    const char *at = v->row.does ? strstr(v->row.does, word) : NULL;

    return at && (at[strlen(word)] == ' ' || !at[strlen(word)]);
}

static bool row_of(struct visit *v, const char *host)
{
    struct web *w = v->web;

    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->count && !v->found; i++) {
        if (strcmp(w->rows[i].host, host) != 0)
            continue;
        v->row = w->rows[i];
        v->row_index = i;
        v->found = true;
    }
    pthread_mutex_unlock(&w->lock);
    return v->found;
}

static void hit(struct visit *v)
{
    pthread_mutex_lock(&v->web->lock);
    v->web->hits[v->row_index]++;
    pthread_mutex_unlock(&v->web->lock);
}

static bool is_stopping(struct web *w)
{
    pthread_mutex_lock(&w->lock);
    bool stopping = w->stopping;
    pthread_mutex_unlock(&w->lock);
    return stopping;
}

static void linger(struct visit *v) /* until the client goes or the test ends */
{
    struct pollfd p[2] = {{.fd = v->fd, .events = POLLRDHUP}, {.fd = v->web->stop[0], .events = POLLIN}};

    (void)poll(p, 2, 20000);
}

static int on_hello(gnutls_session_t tls)
{
    struct visit *v = gnutls_session_get_ptr(tls);
    char name[256];
    size_t len = sizeof(name);
    unsigned kind;

    if (gnutls_server_name_get(tls, name, &len, &kind, 0) < 0 || !row_of(v, name))
        return GNUTLS_E_UNRECOGNIZED_NAME;
    if (does(v, "hangup") || does(v, "mute")) {
        hit(v);
        if (does(v, "mute"))
            linger(v);
        return GNUTLS_E_PUSH_ERROR;
    }
    v->credentials = make_credentials(v->web->keys, &v->row);
    if (does(v, "tls1.1"))
        must(gnutls_priority_set_direct(tls, "NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT", NULL));
    return gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, v->credentials);
}

static void send_all(struct visit *v, const char *at, size_t len)
{
    while (len) {
        ssize_t n = gnutls_record_send(v->tls, at, len);
        if (n <= 0)
            return;
        at += n;
        len -= (size_t)n;
    }
}

static bool read_request(struct visit *v)
{
    BUF_LOCAL(in);
    size_t want = 0;

    for (;;) {
        char part[4096];
        ssize_t n = gnutls_record_recv(v->tls, part, sizeof(part));
        if (n <= 0)
            return false;
        buf_put(&in, bytes_make(part, (size_t)n));
        const char *end = strstr(buf_str(&in), "\r\n\r\n");
        if (!end)
            continue;
        const char *length = strcasestr(in.at, "content-length:");
        want = (size_t)(end + 4 - in.at) + (length && length < end ? strtoul(length + 15, NULL, 10) : 0);
        if (in.len >= want)
            break;
    }
    pthread_mutex_lock(&v->web->lock);
    buf_clear(&v->web->request);
    buf_put(&v->web->request, buf_bytes(&in));
    pthread_mutex_unlock(&v->web->lock);
    hit(v);
    return true;
}

static void reply(struct visit *v)
{
    const char *text = v->row.reply ? v->row.reply : "";
    char chunk[1100] = "400\r\n";

    if (does(v, "slow"))
        usleep(300000);
    if (does(v, "dribble"))
        for (; *text; text++, usleep(2000))
            send_all(v, text, 1);
    else
        send_all(v, text, strlen(text));
    memset(chunk + 5, 'x', 1024);
    memcpy(chunk + 5 + 1024, "\r\n", 2);
    for (int i = 0; does(v, "endless") && i < 100000 && !is_stopping(v->web); i++)
        if (gnutls_record_send(v->tls, chunk, 5 + 1024 + 2) < 0)
            return;
    for (int i = 0; does(v, "heads") && i < 100000 && !is_stopping(v->web); i++)
        if (gnutls_record_send(v->tls, "X-More: and more\r\n", 18) < 0)
            return;
    if (!does(v, "cut"))
        gnutls_bye(v->tls, GNUTLS_SHUT_WR);
}

static void *visit_run(void *arg)
{
    struct visit *v = arg;
    struct timeval timeout = {.tv_sec = 5};

    setsockopt(v->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(v->fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    must(gnutls_init(&v->tls, GNUTLS_SERVER | GNUTLS_NO_SIGNAL));
    must(gnutls_priority_set_direct(v->tls, "NORMAL:+VERS-TLS1.1:%COMPAT", NULL));
    gnutls_session_set_ptr(v->tls, v);
    gnutls_handshake_set_post_client_hello_function(v->tls, on_hello);
    gnutls_transport_set_int(v->tls, v->fd);
    int result;
    do
        result = gnutls_handshake(v->tls);
    while (result < 0 && !gnutls_error_is_fatal(result));
    if (result == 0 && read_request(v)) {
        if (does(v, "silent"))
            linger(v);
        else
            reply(v);
    }
    gnutls_deinit(v->tls);
    if (v->credentials)
        gnutls_certificate_free_credentials(v->credentials);
    close(v->fd);
    return NULL;
}

/* ---- the server ---- */

static void *web_run(void *arg)
{
    struct web *w = arg;
    struct visit *visits = NULL, *next;

    for (;;) {
        struct pollfd p[2] = {{.fd = w->listener, .events = POLLIN}, {.fd = w->stop[0], .events = POLLIN}};
        if (poll(p, 2, -1) < 0 || p[1].revents)
            break;
        int fd = accept(w->listener, NULL, NULL);
        if (fd < 0)
            continue;
        struct visit *v = MEM_NEW(struct visit);
        v->web = w;
        v->fd = fd;
        v->next = visits;
        visits = v;
        if (pthread_create(&v->thread, NULL, visit_run, v) != 0)
            abort();
    }
    for (; visits; visits = next) {
        next = visits->next;
        pthread_join(visits->thread, NULL);
        mem_free(visits);
    }
    return NULL;
}

void web_start(struct web *w, const struct web_row *rows, size_t count)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);

    memset(w, 0, sizeof(*w));
    pthread_mutex_init(&w->lock, NULL);
    w->keys = make_keys(w->ca_file);
    for (; w->count < count; w->count++)
        w->rows[w->count] = rows[w->count];
    w->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (w->listener < 0 || bind(w->listener, (struct sockaddr *)&at, sizeof(at)) != 0 ||
        listen(w->listener, 64) != 0 || getsockname(w->listener, (struct sockaddr *)&at, &len) != 0 ||
        pipe(w->stop) != 0)
        abort();
    w->port = ntohs(at.sin_port);
    if (pthread_create(&w->thread, NULL, web_run, w) != 0)
        abort();
}

void web_stop(struct web *w)
{
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_mutex_unlock(&w->lock);
    close(w->stop[1]);
    pthread_join(w->thread, NULL);
    close(w->stop[0]);
    close(w->listener);
    unlink(w->ca_file);
    free_keys(w->keys);
    buf_fini(&w->request);
    pthread_mutex_destroy(&w->lock);
}

void web_set(struct web *w, const struct web_row *row)
{
    size_t i = 0;

    pthread_mutex_lock(&w->lock);
    while (i < w->count && strcmp(w->rows[i].host, row->host) != 0)
        i++;
    if (i == w->count && ++w->count > WEB_ROWS_MAX)
        abort();
    w->rows[i] = *row;
    pthread_mutex_unlock(&w->lock);
}

unsigned web_hits(struct web *w, const char *host)
{
    unsigned hits = 0;

    pthread_mutex_lock(&w->lock);
    for (size_t i = 0; i < w->count; i++)
        if (strcmp(w->rows[i].host, host) == 0)
            hits = w->hits[i];
    pthread_mutex_unlock(&w->lock);
    return hits;
}

char *web_request(struct web *w)
{
    pthread_mutex_lock(&w->lock);
    char *text = bytes_dup(buf_bytes(&w->request));
    pthread_mutex_unlock(&w->lock);
    return text;
}

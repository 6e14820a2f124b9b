/*
 * AUTH as a client (RFC 4954): SCRAM-SHA-256 (RFC 5802, 7677), else PLAIN (RFC 4616), else LOGIN.  The owner
 * asks for it only inside TLS that its policy trusts.
 *
 * The password lives in one heap block until the exchange ends, and in output runs that wipe themselves once
 * they were sent; it stands in no buffer that is reused.
 */
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "base/base64.h"
#include "base/mem.h"
#include "engine/smtp/client_priv.h"
#include "engine/smtp/scram_client.h"

#define KEY_BYTES        32
#define NONCE_BYTES      24     /* of randomness; in base64 on the wire */
#define ITERATIONS_MIN   4096   /* RFC 7677 §4 */
#define ITERATIONS_MAX   600000 /* some tenths of a second of this thread; a hostile server asks for hours */
#define CREDENTIAL_MAX   1024
#define COMMAND_LINE_MAX 512 /* RFC 4954 §4: an initial response must fit into it */

enum mechanism { MECHANISM_PLAIN, MECHANISM_LOGIN, MECHANISM_SCRAM };

struct client_auth {
    enum mechanism mechanism;
    unsigned step;  /* challenges heard */
    bool proved;    /* SCRAM: the server's signature was right */
    bool cancelled; /* "*" was said; c->asked says why */
    char *user;     /* owned */
    char *password; /* owned, wiped */
    size_t password_len;
    struct scram_client scram;
};

/* ---- octets that wipe themselves ---- */

struct secret {
    size_t len;
    char octets[];
};

static void wipe_secret(void *arg)
{
    struct secret *s = arg;

    mem_wipe_free(s, sizeof(*s) + s->len);
}

/* One line to the peer; `line` is wiped and emptied. */
static void put_secret_line(struct smtp_client *c, struct buf *line)
{
    struct secret *s = mem_alloc(sizeof(*s) + line->len + 2);

    s->len = line->len + 2;
    if (line->len)
        memcpy(s->octets, line->at, line->len);
    memcpy(s->octets + line->len, "\r\n", 2);
    if (line->at)
        gnutls_memset(line->at, 0, line->cap);
    buf_fini(line);
    client_flush(c);
    outq_ref(&c->out, bytes_make(s->octets, s->len), wipe_secret, s);
    c->put_total += s->len;
    c->unanswered++;
}

/* base64_encode() of a buffer that never moves: no stale copy is left behind by growing. */
static void put_base64(struct buf *out, struct bytes s)
{
    (void)buf_reserve(out, s.len / 3 * 4 + 8);
    base64_encode(s, out);
}

/* ---- begin and end ---- */

static bool give_up(struct smtp_client *c, const char *why)
{
    outcome_local(&c->asked, OUTCOME_DEFERRED, STAGE_AUTH, 451, "4.7.0", "%s", why);
    return false;
}

bool client_auth_begin(struct smtp_client *c, const char *user, const char *password)
{
    const struct smtp_offer *o = &c->offer;

    if (!user || !*user || !password || !*password || strlen(user) > CREDENTIAL_MAX ||
        strlen(password) > CREDENTIAL_MAX)
        return give_up(c,
                       "the credentials of this route cannot be sent: name or password is empty or too long");
    if (!o->auth_scram_sha256 && !o->auth_plain && !o->auth_login)
        return give_up(c, "the host offers no AUTH mechanism that we know (SCRAM-SHA-256, PLAIN, LOGIN)");
    struct client_auth *a = MEM_NEW(struct client_auth);
    a->mechanism = o->auth_scram_sha256 ? MECHANISM_SCRAM : o->auth_plain ? MECHANISM_PLAIN : MECHANISM_LOGIN;
    a->user = mem_strdup(user);
    a->password = mem_strdup(password);
    a->password_len = strlen(password);
    c->auth = a;
    return true;
}

void client_auth_end(struct smtp_client *c)
{
    struct client_auth *a = c->auth;

    if (!a)
        return;
    c->auth = NULL;
    mem_wipe_free(a->password, a->password_len);
    mem_free(a->user);
    scram_client_fini(&a->scram);
    mem_free(a);
}

/* ---- PLAIN and LOGIN ---- */

static void put_plain(const struct client_auth *a, struct buf *out)
{
    size_t user_len = strlen(a->user), len = user_len + a->password_len + 2;
    char *text = mem_zalloc(len);

    memcpy(text + 1, a->user, user_len);
    memcpy(text + 2 + user_len, a->password, a->password_len);
    put_base64(out, bytes_make(text, len));
    mem_wipe_free(text, len);
}

static void say_plain(struct smtp_client *c)
{
    struct buf line = {0};
    size_t len = 2 + strlen(c->auth->user) + c->auth->password_len;
    bool fits = (len + 2) / 3 * 4 + sizeof("AUTH PLAIN \r\n") <= COMMAND_LINE_MAX;

    (void)buf_reserve(&line, len / 3 * 4 + 64);
    buf_puts(&line, fits ? "AUTH PLAIN " : "AUTH PLAIN");
    if (fits)
        put_plain(c->auth, &line);
    put_secret_line(c, &line);
}

/* ---- SCRAM ---- */

static void say_scram_first(struct smtp_client *c)
{
    struct client_auth *a = c->auth;
    char random[NONCE_BYTES];
    BUF_LOCAL(nonce);
    BUF_LOCAL(message);
    struct buf line = {0};

    gnutls_rnd(GNUTLS_RND_NONCE, random, sizeof(random));
    base64_encode(bytes_make(random, sizeof(random)), &nonce);
    scram_client_init(&a->scram, buf_bytes(&nonce));
    scram_client_first(&a->scram, a->user, &message);
    buf_puts(&line, "AUTH SCRAM-SHA-256");
    if ((message.len + 2) / 3 * 4 + line.len + 3 <= COMMAND_LINE_MAX) {
        buf_putc(&line, ' ');
        base64_encode(buf_bytes(&message), &line);
    }
    put_secret_line(c, &line);
}

static void put_encoded_line(struct smtp_client *c, const struct buf *message)
{
    struct buf line = {0};

    put_base64(&line, buf_bytes(message));
    put_secret_line(c, &line);
}

/* ---- the exchange ---- */

enum client_state client_enter_auth(struct smtp_client *c)
{
    if (c->unanswered)
        return CLIENT_AUTH;
    if (c->auth->mechanism == MECHANISM_PLAIN) {
        say_plain(c);
    } else if (c->auth->mechanism == MECHANISM_SCRAM) {
        say_scram_first(c);
    } else {
        buf_puts(&c->cmd, "AUTH LOGIN\r\n");
        c->unanswered++;
        client_flush(c);
    }
    return CLIENT_AUTH;
}

static const char *answer_login(struct smtp_client *c)
{
    struct client_auth *a = c->auth;
    struct buf line = {0};

    if (a->step > 2)
        return "the host asks for more than name and password";
    put_base64(&line, a->step == 1 ? bytes_of(a->user) : bytes_make(a->password, a->password_len));
    put_secret_line(c, &line);
    return NULL;
}

static const char *answer_plain(struct smtp_client *c)
{
    struct buf line = {0};

    if (c->auth->step > 1)
        return "the host asks for more than PLAIN gives";
    put_plain(c->auth, &line);
    put_secret_line(c, &line);
    return NULL;
}

static const char *answer_scram(struct smtp_client *c, struct bytes challenge)
{
    struct client_auth *a = c->auth;
    const char *wrong = NULL;
    BUF_LOCAL(text);
    BUF_LOCAL(message);

    if (!base64_decode(challenge, &text))
        return "the host's SCRAM challenge is not base64";
    if (a->scram.proved)
        return "the host asks for more after SCRAM ended";
    if (!text.len && a->step == 1) /* it did not take the initial response: say it again */
        scram_client_first(&a->scram, a->user, &message);
    else if (!a->scram.has_signature)
        wrong = scram_client_final(&a->scram, a->password, buf_bytes(&text), &message);
    else
        wrong = scram_client_prove(&a->scram, buf_bytes(&text)); /* an empty response ends it */
    if (!wrong)
        put_encoded_line(c, &message);
    return wrong;
}

static enum client_state answer(struct smtp_client *c, struct bytes challenge)
{
    struct client_auth *a = c->auth;
    const char *wrong = NULL;

    if (a->cancelled)
        return client_fail_protocol(c, "AUTH goes on after it was cancelled");
    if (c->more_input)
        return client_fail_protocol(c, "a reply too many");
    a->step++;
    switch (a->mechanism) {
    case MECHANISM_PLAIN: wrong = answer_plain(c); break;
    case MECHANISM_LOGIN: wrong = answer_login(c); break;
    case MECHANISM_SCRAM: wrong = answer_scram(c, challenge); break;
    }
    if (wrong) { /* RFC 4954 §4: "*" cancels, the server says 501 */
        (void)give_up(c, wrong);
        a->cancelled = true;
        buf_puts(&c->cmd, "*\r\n");
        c->unanswered++;
        client_flush(c);
    }
    return CLIENT_AUTH;
}

enum client_state client_on_auth(struct smtp_client *c, const struct smtp_reply *r)
{
    struct client_auth *a = c->auth;
    bool unproved = a->mechanism == MECHANISM_SCRAM && !a->scram.proved;

    if (r->code == 334)
        return answer(c, bytes_trim(buf_bytes(&r->text)));
    if (r->code / 100 == 3 || (r->code / 100 == 2 && r->code != 235))
        return client_fail_protocol(c, "AUTH was answered by neither 235 nor 334 nor a refusal");
    c->ask_ok = r->code == 235 && !unproved && !a->cancelled;
    if (r->code == 235 && !a->cancelled && unproved)
        (void)give_up(c, "the host accepted SCRAM without proving that it knows the password");
    else if (!a->cancelled)
        outcome_from_reply(&c->asked, STAGE_AUTH, r->code, client_reply_text(c));
    c->ask = ASK_AUTH;
    c->ready_due = c->ask_ok;
    client_auth_end(c);
    return c->ask_ok ? CLIENT_READY : CLIENT_CHOOSE;
}

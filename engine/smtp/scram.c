#include "engine/smtp/scram.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/base64.h"
#include "base/mem.h"
#include "engine/smtp/server.h"

static void hmac(const uint8_t key[SCRAM_KEY_BYTES], struct bytes text, uint8_t out[SCRAM_KEY_BYTES])
{
    if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, SCRAM_KEY_BYTES, text.at, text.len, out))
        abort(); /* only when the library is broken */
}

static void sha256(const uint8_t in[SCRAM_KEY_BYTES], uint8_t out[SCRAM_KEY_BYTES])
{
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, in, SCRAM_KEY_BYTES, out))
        abort();
}

/* ---- keys ---- */

void scram_salted_password(const char *password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
                           uint8_t out[SCRAM_KEY_BYTES])
{
    gnutls_datum_t prepared = {0};
    gnutls_datum_t key = {(unsigned char *)(uintptr_t)password, (unsigned)strlen(password)};
    gnutls_datum_t salt_datum = {(unsigned char *)(uintptr_t)salt, (unsigned)salt_len};

    /* What cannot be prepared is taken as it is: the same octets give the same key. */
    if (key.size && gnutls_utf8_password_normalize(key.data, key.size, &prepared, 0) == 0)
        key = prepared;
    if (gnutls_pbkdf2(GNUTLS_MAC_SHA256, &key, &salt_datum, iterations, out, SCRAM_KEY_BYTES))
        abort();
    if (prepared.data)
        gnutls_memset(prepared.data, 0, prepared.size);
    gnutls_free(prepared.data);
}

void scram_keys(const uint8_t salted[SCRAM_KEY_BYTES], uint8_t stored_key[SCRAM_KEY_BYTES],
                uint8_t server_key[SCRAM_KEY_BYTES])
{
    uint8_t client_key[SCRAM_KEY_BYTES];

    hmac(salted, BYTES("Client Key"), client_key);
    sha256(client_key, stored_key);
    hmac(salted, BYTES("Server Key"), server_key);
    gnutls_memset(client_key, 0, sizeof(client_key));
}

void scram_make(const char *password, struct account *account)
{
    uint8_t salted[SCRAM_KEY_BYTES];

    if (gnutls_rnd(GNUTLS_RND_RANDOM, account->salt, sizeof(account->salt)))
        abort();
    account->iterations = MAX_OF(account->iterations, (uint32_t)SCRAM_ITERATIONS);
    scram_salted_password(password, account->salt, sizeof(account->salt), account->iterations, salted);
    scram_keys(salted, account->stored_key, account->server_key);
    gnutls_memset(salted, 0, sizeof(salted));
}

bool scram_check_password(const struct account *account, const char *password)
{
    uint8_t salted[SCRAM_KEY_BYTES], stored[SCRAM_KEY_BYTES], server[SCRAM_KEY_BYTES];

    scram_salted_password(password, account->salt, sizeof(account->salt), MAX_OF(account->iterations, 1U),
                          salted);
    scram_keys(salted, stored, server);
    bool same = gnutls_memcmp(stored, account->stored_key, sizeof(stored)) == 0;
    gnutls_memset(salted, 0, sizeof(salted));
    return same;
}

/* ---- the exchange ---- */

void scram_server_init(struct scram_server *s)
{
    uint8_t random[SCRAM_NONCE_BYTES / 4 * 3];
    struct buf text = {0};

    *s = (struct scram_server){0};
    if (gnutls_rnd(GNUTLS_RND_NONCE, random, sizeof(random)))
        abort();
    base64_encode(bytes_make(random, sizeof(random)), &text);
    memcpy(s->nonce, text.at, SCRAM_NONCE_BYTES);
    buf_fini(&text);
}

void scram_server_fini(struct scram_server *s)
{
    buf_fini(&s->exchanged);
    buf_fini(&s->gs2);
    buf_fini(&s->full_nonce);
    gnutls_memset(s, 0, sizeof(*s));
}

/* "name=value" up to the next comma. */
static bool take_attribute(struct bytes *rest, char name, struct bytes *value)
{
    if (rest->len < 2 || rest->at[0] != name || rest->at[1] != '=')
        return false;
    *rest = bytes_skip(*rest, 2);
    *value = bytes_first(*rest, bytes_find(*rest, ','));
    *rest = bytes_skip(*rest, value->len + 1);
    return true;
}

/* RFC 5802 §5.1: "=2C" is a comma and "=3D" an equals sign; no other "=" may stand in a name. */
static bool unescape_user(struct bytes in, char out[SCRAM_USER_MAX_BYTES + 1])
{
    size_t n = 0;

    for (size_t i = 0; i < in.len; i++) {
        char c = in.at[i];
        if (c == '=') {
            struct bytes escape = bytes_first(bytes_skip(in, i), 3);
            if (!bytes_ieq(escape, BYTES("=2C")) && !bytes_ieq(escape, BYTES("=3D")))
                return false;
            c = bytes_ieq(escape, BYTES("=2C")) ? ',' : '=';
            i += 2;
        }
        if (c == '\0' || n == SCRAM_USER_MAX_BYTES)
            return false;
        out[n++] = c;
    }
    out[n] = '\0';
    return n > 0;
}

static bool is_nonce(struct bytes s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.at[i] <= ' ' || s.at[i] > '~')
            return false;
    return s.len > 0;
}

bool scram_server_first(struct scram_server *s, struct bytes message, char user[SCRAM_USER_MAX_BYTES + 1])
{
    char authzid[SCRAM_USER_MAX_BYTES + 1] = "";
    struct bytes rest = message, name, value, nonce;

    /* GS2 header: no channel binding is offered, so "p=" is refused; "y" and "n" are fine. */
    if (!bytes_starts(rest, BYTES("n,")) && !bytes_starts(rest, BYTES("y,")))
        return false;
    rest = bytes_skip(rest, 2);
    bool has_authzid = rest.len && rest.at[0] == 'a';
    if (has_authzid && (!take_attribute(&rest, 'a', &value) || !unescape_user(value, authzid)))
        return false;
    if (!has_authzid) {
        if (rest.len == 0 || rest.at[0] != ',')
            return false;
        rest = bytes_skip(rest, 1);
    }
    buf_put(&s->gs2, bytes_first(message, message.len - rest.len));
    buf_put(&s->exchanged, rest);
    /* An "m=" extension would stand first; we know none, and must refuse. */
    if (!take_attribute(&rest, 'n', &name) || !take_attribute(&rest, 'r', &nonce))
        return false;
    if (!unescape_user(name, user) || !is_nonce(nonce))
        return false;
    if (has_authzid && strcmp(authzid, user) != 0)
        return false; /* nobody acts for somebody else */
    buf_put(&s->full_nonce, nonce);
    buf_puts(&s->full_nonce, s->nonce);
    return true;
}

static uint8_t fake_secret[SCRAM_KEY_BYTES];

static void make_fake_secret(void)
{
    if (gnutls_rnd(GNUTLS_RND_RANDOM, fake_secret, sizeof(fake_secret)))
        abort();
}

/* The same name gets the same salt, as long as the process lives, on whatever worker. */
static void fake_salt(const char *user, uint8_t salt[16])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    uint8_t mac[SCRAM_KEY_BYTES];

    pthread_once(&once, make_fake_secret);
    hmac(fake_secret, bytes_of(user), mac);
    memcpy(salt, mac, 16);
}

void scram_server_challenge(struct scram_server *s, const char *user, const struct account *account,
                            struct buf *out)
{
    struct buf first = {0};
    uint8_t salt[sizeof(account->salt)];

    fake_salt(user, salt);
    if (account) {
        memcpy(salt, account->salt, sizeof(salt));
        memcpy(s->stored_key, account->stored_key, SCRAM_KEY_BYTES);
        memcpy(s->server_key, account->server_key, SCRAM_KEY_BYTES);
    } else if (gnutls_rnd(GNUTLS_RND_NONCE, s->stored_key, SCRAM_KEY_BYTES)) { /* no proof fits it */
        abort();
    }
    buf_puts(&first, "r=");
    buf_put(&first, buf_bytes(&s->full_nonce));
    buf_puts(&first, ",s=");
    base64_encode(bytes_make(salt, sizeof(salt)), &first);
    buf_putf(&first, ",i=%u", account ? account->iterations : SCRAM_ITERATIONS);
    buf_putc(&s->exchanged, ',');
    buf_put(&s->exchanged, buf_bytes(&first));
    buf_put(out, buf_bytes(&first));
    buf_fini(&first);
}

/* The GS2 header must come back as it was sent: else somebody on the way changed it. */
static bool is_binding(const struct scram_server *s, struct bytes text)
{
    BUF_LOCAL(gs2);

    return base64_decode(text, &gs2) && bytes_eq(buf_bytes(&gs2), buf_bytes(&s->gs2));
}

static bool proof_fits(struct scram_server *s, struct bytes without_proof, const uint8_t *proof,
                       uint8_t server_signature[SCRAM_KEY_BYTES])
{
    uint8_t signature[SCRAM_KEY_BYTES], client_key[SCRAM_KEY_BYTES], stored[SCRAM_KEY_BYTES];

    buf_putc(&s->exchanged, ',');
    buf_put(&s->exchanged, without_proof);
    hmac(s->stored_key, buf_bytes(&s->exchanged), signature);
    for (size_t i = 0; i < SCRAM_KEY_BYTES; i++)
        client_key[i] = signature[i] ^ proof[i];
    sha256(client_key, stored);
    hmac(s->server_key, buf_bytes(&s->exchanged), server_signature);
    return gnutls_memcmp(stored, s->stored_key, SCRAM_KEY_BYTES) == 0;
}

bool scram_server_final(struct scram_server *s, struct bytes message, struct buf *out)
{
    uint8_t signature[SCRAM_KEY_BYTES];
    struct bytes rest = message, binding, nonce, proof_text = {0};
    size_t proof_at = 0;
    BUF_LOCAL(proof);

    if (!take_attribute(&rest, 'c', &binding) || !take_attribute(&rest, 'r', &nonce))
        return false;
    while (rest.len && proof_text.len == 0) { /* extensions may stand before the proof, which is last */
        proof_at = (size_t)(rest.at - message.at) - 1;
        if (!take_attribute(&rest, 'p', &proof_text))
            rest = bytes_skip(rest, bytes_find(rest, ',') + 1);
    }
    if (rest.len || !base64_decode(proof_text, &proof) || proof.len != SCRAM_KEY_BYTES)
        return false;
    bool right = is_binding(s, binding) && bytes_eq(nonce, buf_bytes(&s->full_nonce));
    right &= proof_fits(s, bytes_first(message, proof_at), (const uint8_t *)proof.at, signature);
    if (!right)
        return false;
    buf_puts(out, "v=");
    base64_encode(bytes_make(signature, sizeof(signature)), out);
    return true;
}

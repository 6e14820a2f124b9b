#include "engine/smtp/scram_client.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>

#include "base/base64.h"
#include "engine/smtp/scram.h"

static void hmac(const uint8_t key[SCRAM_KEY_BYTES], struct bytes text, uint8_t out[SCRAM_KEY_BYTES])
{
    if (gnutls_hmac_fast(GNUTLS_MAC_SHA256, key, SCRAM_KEY_BYTES, text.at, text.len, out))
        abort(); /* only when the library is broken */
}

void scram_client_init(struct scram_client *s, struct bytes nonce)
{
    *s = (struct scram_client){0};
    buf_put(&s->nonce, nonce);
}

void scram_client_fini(struct scram_client *s)
{
    buf_fini(&s->nonce);
    buf_fini(&s->first);
    gnutls_memset(s, 0, sizeof(*s));
}

/* "=" and "," would end the name: RFC 5802 §5.1. */
static void put_saslname(struct buf *out, const char *name)
{
    for (; *name; name++) {
        if (*name == '=')
            buf_puts(out, "=3D");
        else if (*name == ',')
            buf_puts(out, "=2C");
        else
            buf_putc(out, *name);
    }
}

void scram_client_first(struct scram_client *s, const char *user, struct buf *out)
{
    buf_clear(&s->first);
    buf_puts(&s->first, "n=");
    put_saslname(&s->first, user);
    buf_puts(&s->first, ",r=");
    buf_put(&s->first, buf_bytes(&s->nonce));
    buf_puts(out, "n,,"); /* no channel binding */
    buf_put(out, buf_bytes(&s->first));
}

struct server_first {
    struct bytes nonce, salt;
    uint64_t iterations;
};

/* r=…,s=…,i=…[,extensions]; an m= in front demands what we do not know (RFC 5802 §5.1). */
static bool parse_server_first(struct bytes text, struct server_first *out)
{
    static const char order[] = "rsi";
    struct bytes value[3];

    for (size_t i = 0; i < COUNT_OF(value); i++) {
        struct bytes field = bytes_first(text, bytes_find(text, ','));
        if (field.len < 3 || field.at[0] != order[i] || field.at[1] != '=')
            return false;
        value[i] = bytes_skip(field, 2);
        text = bytes_skip(text, field.len + 1);
    }
    out->nonce = value[0];
    out->salt = value[1];
    return bytes_parse_u64(value[2], &out->iterations);
}

/* RFC 5802 §3: appends the proof, and keeps the signature that the server must show. */
static void compute(struct scram_client *s, const char *password, struct bytes salt, uint32_t iterations,
                    struct bytes auth_message, struct buf *out)
{
    uint8_t salted[SCRAM_KEY_BYTES], client_key[SCRAM_KEY_BYTES], stored[SCRAM_KEY_BYTES];
    uint8_t server_key[SCRAM_KEY_BYTES], proof[SCRAM_KEY_BYTES];

    scram_salted_password(password, (const uint8_t *)salt.at, salt.len, iterations, salted);
    scram_keys(salted, stored, server_key);
    hmac(salted, BYTES("Client Key"), client_key);
    hmac(stored, auth_message, proof);
    for (size_t i = 0; i < SCRAM_KEY_BYTES; i++)
        proof[i] ^= client_key[i];
    hmac(server_key, auth_message, s->signature);
    s->has_signature = true;
    base64_encode(bytes_make(proof, sizeof(proof)), out);
    gnutls_memset(salted, 0, sizeof(salted));
    gnutls_memset(client_key, 0, sizeof(client_key));
    gnutls_memset(stored, 0, sizeof(stored));
    gnutls_memset(server_key, 0, sizeof(server_key));
}

const char *scram_client_final(struct scram_client *s, const char *password, struct bytes challenge,
                               struct buf *out)
{
    struct server_first server;
    BUF_LOCAL(salt);
    BUF_LOCAL(auth_message);

    if (!parse_server_first(challenge, &server) || !base64_decode(server.salt, &salt))
        return "the host's SCRAM challenge cannot be read";
    if (server.nonce.len <= s->nonce.len || !bytes_starts(server.nonce, buf_bytes(&s->nonce)))
        return "the host's SCRAM challenge does not continue our nonce";
    if (server.iterations < SCRAM_ITERATIONS_MIN || server.iterations > SCRAM_ITERATIONS_MAX)
        return "the host's SCRAM iteration count is out of bounds";
    size_t from = out->len;
    buf_puts(out, "c=biws,r="); /* biws: "n,," */
    buf_put(out, server.nonce);
    buf_put(&auth_message, buf_bytes(&s->first));
    buf_putc(&auth_message, ',');
    buf_put(&auth_message, challenge);
    buf_putc(&auth_message, ',');
    buf_put(&auth_message, bytes_skip(buf_bytes(out), from));
    buf_puts(out, ",p=");
    compute(s, password, buf_bytes(&salt), (uint32_t)server.iterations, buf_bytes(&auth_message), out);
    return NULL;
}

const char *scram_client_prove(struct scram_client *s, struct bytes message)
{
    BUF_LOCAL(shown);

    if (!s->has_signature || !bytes_starts(message, BYTES("v=")))
        return "the host ended SCRAM without its signature";
    message = bytes_skip(message, 2);
    if (!base64_decode(bytes_first(message, bytes_find(message, ',')), &shown) ||
        shown.len != SCRAM_KEY_BYTES || gnutls_memcmp(shown.at, s->signature, SCRAM_KEY_BYTES) != 0)
        return "the host's SCRAM signature is wrong: it does not know the password";
    s->proved = true;
    return NULL;
}

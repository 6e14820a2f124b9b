/*
 * Both sides of SCRAM-SHA-256 against any peer.  The input is a message of the server, and behind the first
 * line end one more; the same two are then what a client says.  Nobody is let in who does not know the
 * password, and no server is believed that does not.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/smtp/scram.h"
#include "engine/smtp/scram_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NONCE "rOprNGfwEbeRWgbNEkqO"

/* So many rounds that a run takes seconds are refused, and their limit has a test of its own. */
static bool is_costly(struct bytes challenge)
{
    for (size_t i = 0, digits = 0; i < challenge.len; i++) {
        digits = challenge.at[i] >= '0' && challenge.at[i] <= '9' ? digits + 1 : 0;
        if (digits > 4)
            return true;
    }
    return false;
}

static void play_client(struct bytes challenge, struct bytes proof)
{
    struct scram_client c;
    struct buf said = {0};

    scram_client_init(&c, BYTES(NONCE));
    scram_client_first(&c, "us=er,", &said);
    buf_clear(&said);
    const char *wrong = scram_client_final(&c, "pencil", challenge, &said);
    if (!wrong && (!c.has_signature || bytes_find(buf_bytes(&said), 'p') == said.len))
        abort();
    if (wrong && said.len)
        abort(); /* a proof for a challenge that was refused */
    if (!scram_client_prove(&c, proof) && !(c.proved && c.has_signature))
        abort();
    buf_fini(&said);
    scram_client_fini(&c);
}

static void play_server(struct bytes first, struct bytes final)
{
    static const struct account account = {.name = (char *)(uintptr_t) "user",
                                           .iterations = SCRAM_ITERATIONS};
    char user[SCRAM_USER_MAX_BYTES + 1];
    struct scram_server s;
    struct buf said = {0};

    scram_server_init(&s);
    memcpy(s.nonce, NONCE "abcd", SCRAM_NONCE_BYTES + 1);
    if (scram_server_first(&s, first, user)) {
        if (!*user || strlen(user) > SCRAM_USER_MAX_BYTES)
            abort();
        scram_server_challenge(&s, user, strcmp(user, "user") == 0 ? &account : NULL, &said);
        if (!said.len)
            abort();
        buf_clear(&said);
        if (scram_server_final(&s, final, &said) != (said.len > 0))
            abort();
    }
    buf_fini(&said);
    scram_server_fini(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes all = bytes_make(data, size), one = bytes_first(all, bytes_find(all, '\n'));
    struct bytes two = bytes_skip(all, one.len + 1);

    if (!is_costly(one))
        play_client(one, two);
    play_server(one, two);
    return 0;
}

#include "engine/smtp/auth.h"

#include "base/mem.h"

static const struct {
    const char *name;
    enum auth_mechanism mechanism;
} mechanisms[] = {
    {"PLAIN", AUTH_PLAIN},
    {"LOGIN", AUTH_LOGIN},
    {"SCRAM-SHA-256", AUTH_SCRAM_SHA_256},
    {"EXTERNAL", AUTH_EXTERNAL},
};

bool auth_mechanism_parse(struct bytes name, enum auth_mechanism *out)
{
    for (size_t i = 0; i < COUNT_OF(mechanisms); i++) {
        if (bytes_ieq(name, bytes_of(mechanisms[i].name))) {
            *out = mechanisms[i].mechanism;
            return true;
        }
    }
    return false;
}

void auth_begin(struct auth *a, enum auth_mechanism mechanism)
{
    auth_reset(a);
    a->mechanism = mechanism;
    if (mechanism == AUTH_SCRAM_SHA_256)
        scram_server_init(&a->scram);
}

void auth_reset(struct auth *a)
{
    mem_free(a->user);
    if (a->password)
        mem_wipe_free(a->password, strlen(a->password));
    scram_server_fini(&a->scram);
    account_fini(&a->account);
    *a = (struct auth){0};
}

void auth_prompt(const struct auth *a, struct buf *challenge)
{
    if (a->mechanism == AUTH_LOGIN)
        buf_puts(challenge, "Username:");
}

static bool has_nul(struct bytes s)
{
    return bytes_find(s, '\0') < s.len;
}

/* RFC 4616 §2: [authzid] NUL authcid NUL passwd */
static enum auth_step hear_plain(struct auth *a, struct bytes response)
{
    struct bytes authzid = bytes_first(response, bytes_find(response, '\0'));
    struct bytes rest = bytes_skip(response, authzid.len + 1);
    struct bytes user = bytes_first(rest, bytes_find(rest, '\0'));

    if (authzid.len == response.len || user.len == rest.len)
        return AUTH_BAD;
    struct bytes password = bytes_skip(rest, user.len + 1);
    if (has_nul(password))
        return AUTH_BAD;
    a->user = bytes_dup(user);
    if (authzid.len && !bytes_eq(authzid, user))
        return AUTH_WRONG; /* nobody acts for somebody else */
    a->password = bytes_dup(password);
    return AUTH_CHECK;
}

static enum auth_step hear_login(struct auth *a, struct bytes response, struct buf *challenge)
{
    if (has_nul(response))
        return AUTH_BAD;
    if (a->turn == 1) {
        a->user = bytes_dup(response);
        buf_puts(challenge, "Password:");
        return AUTH_SAY;
    }
    a->password = bytes_dup(response);
    return AUTH_CHECK;
}

static enum auth_step hear_scram(struct auth *a, struct bytes response, auth_find_fn find, void *arg,
                                 struct buf *challenge)
{
    char user[SCRAM_USER_MAX_BYTES + 1];

    switch (a->turn) {
    case 1:
        if (!scram_server_first(&a->scram, response, user))
            return AUTH_BAD;
        a->user = mem_strdup(user);
        const struct account *account = find(arg, user);
        if (account)
            account_copy(&a->account, account);
        scram_server_challenge(&a->scram, user, account ? &a->account : NULL, challenge);
        return AUTH_SAY;
    case 2:
        if (!scram_server_final(&a->scram, response, challenge) || !a->account.name)
            return AUTH_WRONG;
        return AUTH_SAY; /* the client checks us by this, and answers with nothing */
    default: return response.len ? AUTH_BAD : AUTH_GOOD;
    }
}

enum auth_step auth_hear(struct auth *a, struct bytes response, auth_find_fn find, void *arg,
                         struct buf *challenge)
{
    enum auth_step step;

    a->turn++;
    switch (a->mechanism) {
    case AUTH_PLAIN: step = hear_plain(a, response); break;
    case AUTH_LOGIN: step = hear_login(a, response, challenge); break;
    case AUTH_SCRAM_SHA_256: step = hear_scram(a, response, find, arg, challenge); break;
    default: step = AUTH_BAD; break;
    }
    if (step == AUTH_CHECK && (!a->user[0] || !a->password[0] || strlen(a->user) > SCRAM_USER_MAX_BYTES))
        step = AUTH_WRONG; /* no account is like that: no need to count rounds for it */
    return step;
}

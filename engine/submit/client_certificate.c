/* Whose a client's certificate is, by what the accounts name (queue/accounts.h). */
#include "base/clock.h"
#include "engine/submit/submission.h"

/* May it be used from here, and is the certificate one of those it names? */
static bool fits(const struct submission *c, const struct account *a)
{
    bool listed = a->network_count == 0;

    if (a->disabled || a->certificate_count == 0)
        return false;
    for (size_t i = 0; i < a->network_count; i++)
        listed |= ip_net_has(&a->networks[i], &c->peer.ip);
    for (size_t i = 0; i < a->certificate_count && listed; i++)
        if (tls_peer_matches(&c->tls_peer, a->certificates[i]))
            return true;
    return false;
}

/* Up to two of those that fit: more than one is as good as none, unless the client says which. */
static size_t find(struct submission *c, const struct account *found[2])
{
    struct accounts *all = c->submit->w->accounts;
    size_t count = 0;

    if (!c->tls_peer.leaf)
        return 0;
    if (all != c->accounts) {
        accounts_unref(c->accounts);
        c->accounts = accounts_ref(all);
    }
    for (size_t i = 0; i < accounts_count(c->accounts) && count < 2; i++)
        if (fits(c, accounts_at(c->accounts, i)))
            found[count++] = accounts_at(c->accounts, i);
    return count;
}

bool client_certificate_is_known(struct submission *c)
{
    const struct account *found[2];

    return find(c, found) > 0;
}

const struct account *client_certificate_account(struct submission *c, const char *user)
{
    const struct account *found[2];
    size_t count = find(c, found);

    if (*user) {
        const struct account *a = count ? accounts_find(c->accounts, bytes_of(user)) : NULL;
        return a && fits(c, a) ? a : NULL;
    }
    if (count > 1)
        log_warn(&c->log, "certificate.ambiguous", LOG_STR("fingerprint", c->tls_peer.fingerprint),
                 LOG_STR("account", found[0]->name), LOG_STR("and", found[1]->name),
                 LOG_STR("hint", "take it away from all accounts but one"));
    return count == 1 ? found[0] : NULL;
}

bool client_certificate_admits(struct submission *c, const char **why)
{
    if (tls_peer_is_asked(conn_tls(c->conn)))
        tls_peer_read(conn_tls(c->conn), &c->tls_peer);
    if (!tls_peer_is_required(conn_tls(c->conn)))
        return true;
    if (c->tls_peer.verified || client_certificate_is_known(c))
        return true;
    *why = !c->tls_peer.leaf && !c->tls_peer.why[0] ? "no client certificate"
           : c->tls_peer.why[0]                     ? c->tls_peer.why
                                                    : "the client's certificate belongs to no account";
    return false;
}

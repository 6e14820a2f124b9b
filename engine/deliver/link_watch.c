/* Downgrades as delivery meets them: who had TLS before and now has less.  The register is engine/tlswatch.h.
 */
#include "base/mem.h"
#include "engine/deliver/deliver_priv.h"

struct dest *link_opened_for(const struct link *link)
{
    return map_find(&link->d->dests, bytes_of(link->domain));
}

static bool is_watched(const struct link *link, const struct dest *dest)
{
    return dest && dest->tls && link->wish != TLS_WISH_OPTIONAL && link->site->group->starttls != TLS_OFF;
}

static struct tls_watched watched(const struct link *link)
{
    return (struct tls_watched){.mx = link->host->name,
                                .remote = link->remote,
                                .smarthost = link->site->group->route == ROUTE_SMARTHOST};
}

/* The table refused the host: that it has less than it had is worth knowing all the same. */
void link_watch_refused(struct link *link, enum tls_event event, const struct outcome *o)
{
    struct dest *dest = link_opened_for(link);
    struct tls_watched what = watched(link);

    what.evidence = o->text;
    if (event == TLS_EVENT_NOT_OFFERED || event == TLS_EVENT_REFUSED)
        what.reached = TLS_REACHED_CLEAR;
    else if (event == TLS_EVENT_CERT_BAD || event == TLS_EVENT_TLSA_MISMATCH)
        what.reached = TLS_REACHED_ENCRYPTED;
    else
        return;
    if (is_watched(link, dest))
        tls_watch_session(dest->tls, &what);
}

bool link_holds_back(struct link *link, struct dest *dest, struct outcome *o)
{
    uint64_t *seen = &link->watched[dest->serial % COUNT_OF(link->watched)];
    struct tls_watched what = watched(link);
    BUF_LOCAL(text);

    if (*seen == dest->serial || !is_watched(link, dest))
        return false;
    what.reached = tls_reached_of(link->tls.version, link->tls.verify);
    what.evidence = link->tls.reason;
    enum tls_watch_says says = tls_watch_session(dest->tls, &what);
    if (says == TLS_WATCH_OK || link->site->group->on_downgrade != DOWNGRADE_HOLD) {
        *seen = dest->serial;
        return false;
    }
    tls_watch_text(dest->tls, &what, &text);
    outcome_local(o, OUTCOME_DEFERRED, STAGE_TLS, 451, "4.7.5", "held: %s", buf_str(&text));
    return true;
}

/* What one key of a group says about another: contradictions are errors, keys without effect are notices. */
#include "base/ip.h"
#include "policy/policy_priv.h"

static const struct yaml_node *given(const struct policy_reader *r, const char *key)
{
    return r->at[policy_key_index(key)];
}

/* Where to point: at the key if the group gives it, else at the group that inherits it. */
static const struct yaml_node *place(const struct policy_reader *r, const char *key,
                                     const struct yaml_node *group)
{
    return given(r, key) ? given(r, key) : group;
}

static void check_identity(struct policy_reader *r, const struct yaml_node *group)
{
    const struct group *g = &r->draft->g;

    if (!given(r, "name"))
        yaml_error(r->errors, group, "the group has no 'name'");
    if (g->name[0] == '\0' || r->over)
        return; /* complained about; or it has what the group has that it is laid over */
    if (!given(r, "match") && !given(r, "mx") && strcmp(g->name, "default") != 0)
        yaml_error(
            r->errors, group,
            "group '%s' matches nothing: give it 'match' or 'mx' (only the group 'default' needs neither)",
            g->name);
    else if (r->patterns == 0 && (given(r, "match") || given(r, "mx")) && strcmp(g->name, "default") != 0)
        yaml_error(r->errors, group, "group '%s' matches nothing: its lists are empty", g->name);
}

static void check_discovery(struct policy_reader *r, const struct yaml_node *group)
{
    const struct group *g = &r->draft->g;

    if (g->starttls != TLS_OFF)
        return;
    if (g->dane == DANE_ONLY)
        yaml_error(r->errors, place(r, "dane", group), "'dane: only' contradicts 'starttls: off'");
    else if (g->dane != DANE_OFF || g->mta_sts != STS_OFF)
        yaml_notice(r->errors, place(r, "starttls", group),
                    "'starttls: off' turns discovery off: 'dane' and 'mta_sts' have no effect");
}

/* A smart host that is given by its address has no name to look a policy up by. */
static const char *host_by_address(const struct group *g)
{
    struct ip ip;

    for (size_t i = 0; g->route == ROUTE_SMARTHOST && i < g->host_count; i++)
        if (g->hosts[i].host && ip_parse(bytes_of(g->hosts[i].host), &ip))
            return g->hosts[i].host;
    return NULL;
}

static void check_host_names(struct policy_reader *r, const struct yaml_node *group)
{
    const struct group *g = &r->draft->g;
    const char *address = host_by_address(g);

    if (!address || g->starttls == TLS_OFF)
        return;
    if (g->dane == DANE_ONLY)
        yaml_error(r->errors, place(r, "dane", group),
                   "'dane: only' can never be met by the smart host %s: an address has no TLSA records",
                   address);
    else if (g->dane == DANE_TRY)
        yaml_notice(r->errors, place(r, "dane", group),
                    "there is no DANE for the smart host %s: an address has no TLSA records", address);
    if (g->mta_sts != STS_OFF)
        yaml_notice(r->errors, place(r, "mta_sts", group),
                    "there is no MTA-STS for the smart host %s: an address has no policy", address);
    if (g->starttls == TLS_VERIFY && g->tls_match != NAME_LISTED && g->tls_pin_count == 0)
        yaml_notice(r->errors, place(r, "starttls", group),
                    "the certificate of %s must name that address: give 'tls.match' the name it has",
                    address);
}

/* The keys that say how a certificate is judged, where none is. */
static void check_certificate(struct policy_reader *r)
{
    const struct group *g = &r->draft->g;
    const struct yaml_node *match = given(r, "tls.match"), *pins = given(r, "tls.pins");
    const struct yaml_node *ca_file = given(r, "tls.ca_file");
    bool judged = g->starttls == TLS_VERIFY;

    if (match && !judged)
        yaml_notice(r->errors, match,
                    "'tls.match' decides nothing at 'starttls: %s': the certificate's name is only recorded",
                    tls_level_name(g->starttls));
    else if (match && g->tls_pin_count > 0)
        yaml_notice(r->errors, match, "'tls.match' decides nothing: 'tls.pins' stand in place of the name");
    else if (match && g->tls_match == NAME_NEXTHOP && g->route == ROUTE_SMARTHOST)
        yaml_notice(r->errors, match, "the next hop is the smart host itself: the same as 'mx'");
    else if (match && g->tls_match == NAME_NEXTHOP)
        yaml_notice(
            r->errors, match,
            "few MX hosts have a certificate for the recipient's domain: what this would hold back is "
            "told by 'hayauma policy whatif'");
    if (pins && !judged)
        yaml_notice(r->errors, pins, "'tls.pins' has no effect at 'starttls: %s', only at 'verify'",
                    tls_level_name(g->starttls));
    else if (pins && g->dane != DANE_OFF)
        yaml_notice(r->errors, pins, "where TLSA records are found they decide, not 'tls.pins'");
    if (ca_file && judged && g->tls_pin_count > 0)
        yaml_notice(r->errors, ca_file,
                    "'tls.ca_file' decides nothing: 'tls.pins' stand in place of authorities");
}

/* TLS that attackers can break is better than clear text, and nothing more (RFC 8996, RFC 9325 §5.2). */
static void check_version(struct policy_reader *r, const struct yaml_node *group)
{
    const struct group *g = &r->draft->g;
    const struct yaml_node *at = given(r, "tls.min_version");

    if (r->in_defaults) {
        if (g->tls_min_version < TLS_VERSION_1_2)
            yaml_error(
                r->errors, at,
                "TLS 1.0 and 1.1 are allowed group by group: 'tls.min_version' below 1.2 cannot stand in "
                "'defaults'");
        return;
    }
    if (g->tls_min_version < TLS_VERSION_1_2 && g->starttls > TLS_ON)
        yaml_error(r->errors, place(r, "tls.min_version", group),
                   "TLS 1.0 and 1.1 are not what 'starttls: %s' promises: only 'on' may go below 1.2",
                   tls_level_name(g->starttls));
    else if (g->tls_min_version < TLS_VERSION_1_2 && g->dane == DANE_ONLY)
        yaml_error(r->errors, place(r, "tls.min_version", group),
                   "TLS 1.0 and 1.1 are not what 'dane: only' promises");
    else if (at && g->tls_min_version < TLS_VERSION_1_2 && (g->dane != DANE_OFF || g->mta_sts != STS_OFF))
        yaml_notice(
            r->errors, at,
            "TLS 1.0 and 1.1 then also do where DANE or MTA-STS ask for encryption: RFC 8996 says not to");
    else if (at && g->tls_priority)
        yaml_notice(r->errors, at, "'tls.min_version' has no effect: 'tls.priority' says the versions");
    else if (at && g->starttls == TLS_OFF && !r->draft->implicit_tls)
        yaml_notice(r->errors, at, "'tls.min_version' has no effect at 'starttls: off'");
}

static void check_client_certificate(struct policy_reader *r, const struct yaml_node *group)
{
    const struct group *g = &r->draft->g;
    const struct yaml_node *at =
        given(r, "tls.certificate") ? given(r, "tls.certificate") : place(r, "tls.key", group);

    if (!g->tls_certificate != !g->tls_key)
        yaml_error(r->errors, at, "'tls.certificate' and 'tls.key' need each other");
    else if (at != group && g->starttls == TLS_OFF && !r->draft->implicit_tls)
        yaml_notice(r->errors, at, "the client certificate has no effect at 'starttls: off'");
}

static void check_downgrade(struct policy_reader *r)
{
    const struct group *g = &r->draft->g;
    const struct yaml_node *at = given(r, "on_downgrade");
    bool hold = g->on_downgrade == DOWNGRADE_HOLD;

    if (!at || !hold)
        return;
    if (g->starttls == TLS_OFF)
        yaml_notice(r->errors, at, "'on_downgrade' has no effect at 'starttls: off'");
    else if (g->starttls == TLS_VERIFY)
        yaml_notice(r->errors, at,
                    "'on_downgrade: hold' has no effect at 'starttls: verify': nothing less is ever used");
    else if (g->dane == DANE_ONLY)
        yaml_notice(r->errors, at,
                    "'on_downgrade: hold' has no effect at 'dane: only': nothing less is ever used");
}

static void check_fallback(struct policy_reader *r)
{
    const struct group *g = &r->draft->g;
    const struct yaml_node *at = given(r, "clear_after_tls_failure");

    if (!at || g->clear_after_tls_failure == CLEAR_NEVER || g->starttls == TLS_ON)
        return;
    yaml_notice(r->errors, at, "'clear_after_tls_failure' has no effect at 'starttls: %s'",
                tls_level_name(g->starttls));
}

/* A password is for the server that it belongs to: only where the group says so itself does anybody get it
 * who answers. */
static void settle_auth_level(struct policy_reader *r)
{
    struct group *g = &r->draft->g;

    if (g->route == ROUTE_SMARTHOST && g->auth_user && g->starttls == TLS_ON && !given(r, "starttls"))
        g->starttls = TLS_VERIFY;
}

/* Credentials in clear text, or given to whoever answers. */
static void check_auth(struct policy_reader *r, const struct yaml_node *group)
{
    const struct group *g = &r->draft->g;
    const struct yaml_node *at = place(r, "route", group);

    if (!g->auth_user != !g->auth_password_file) {
        yaml_error(r->errors, at, "'route.auth' needs both 'user' and 'password_file'");
        return;
    }
    if (!g->auth_user)
        return;
    if (g->starttls == TLS_OFF && !r->draft->implicit_tls)
        yaml_error(
            r->errors, at,
            "credentials never go in clear: set 'starttls: verify' or 'require', or 'implicit_tls: true'");
    else if (g->starttls != TLS_VERIFY && !r->in_defaults)
        yaml_notice(
            r->errors, at,
            "the password goes to a server whose certificate is not verified: consider 'starttls: verify'");
}

static void check_route(struct policy_reader *r, const struct yaml_node *group)
{
    struct group *g = &r->draft->g;

    if (g->route != ROUTE_SMARTHOST)
        return;
    if (g->host_count == 0 && !given(r, "route.smarthost"))
        yaml_error(r->errors, place(r, "route", group), "the route has no 'smarthost'");
    check_auth(r, group);
    if (given(r, "port"))
        yaml_notice(r->errors, given(r, "port"),
                    "'port' is for MX hosts; the smart hosts have their own: host:port");
}

/* What a group gives takes the place of what it inherits. */
static void settle_sources(struct policy_reader *r)
{
    const struct yaml_node *pool = given(r, "source.pool");
    bool single = given(r, "source.ipv4") || given(r, "source.ipv6");
    struct group *g = &r->draft->g;

    if (pool && g->pool && single)
        yaml_error(r->errors, pool, "'source.pool' stands in place of 'source.ipv4' and 'source.ipv6'");
    else if (single)
        g->pool = NULL;
    if (g->pool)
        g->source_v4 = g->source_v6 = NULL;
}

static void check_times(struct policy_reader *r, const struct yaml_node *group)
{
    const struct group *g = &r->draft->g;

    if (g->retry.delay_notice_s >= g->retry.lifetime_s && given(r, "retry.delay_notice"))
        yaml_notice(r->errors, given(r, "retry.delay_notice"),
                    "no delay notice is ever sent: 'retry.lifetime' ends first");
    if (g->retry.lifetime_s < g->retry.step_s[0] &&
        (given(r, "retry.lifetime") || given(r, "retry.schedule")))
        yaml_notice(r->errors, place(r, "retry.lifetime", group),
                    "there is only one attempt: 'retry.lifetime' ends before the first wait does");
}

static void check_quiet(struct policy_reader *r, const struct yaml_node *group)
{
    const struct quiet_hours *q = &r->draft->g.quiet;
    const struct yaml_node *at = place(r, "quiet_hours", group);

    if (!q->on || r->in_defaults)
        return;
    if (q->from_s == QUIET_UNSET || q->to_s == QUIET_UNSET || !q->time_zone)
        yaml_error(r->errors, at, "'quiet_hours' needs 'from', 'to' and 'time_zone'");
    else if (q->from_s % 86400 == q->to_s % 86400)
        yaml_error(r->errors, at, "'quiet_hours' begins and ends at the same time: is it never or always?");
}

/* Both fields of the document are known now. */
static void settle_hosts(struct group_draft *d)
{
    for (size_t i = 0; i < d->g.host_count; i++) {
        d->g.hosts[i].implicit_tls = d->implicit_tls;
        if (d->g.hosts[i].port == 0)
            d->g.hosts[i].port = d->implicit_tls ? 465 : 25;
    }
}

void policy_check_group(struct policy_reader *r, const struct yaml_node *group)
{
    if (!r->in_defaults) {
        settle_auth_level(r);
        if (group)
            check_identity(r, group);
        check_discovery(r, group);
        check_fallback(r);
        check_host_names(r, group);
        check_certificate(r);
        check_downgrade(r);
    }
    check_version(r, group);
    check_client_certificate(r, group);
    check_route(r, group);
    check_times(r, group);
    check_quiet(r, group);
    settle_hosts(r->draft);
    settle_sources(r);
}

/* What one key of a group says about another: contradictions are errors, keys without effect are notices. */
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
    if (g->name[0] == '\0')
        return; /* complained about */
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

static void check_fallback(struct policy_reader *r)
{
    const struct group *g = &r->draft->g;
    const struct yaml_node *at = given(r, "clear_after_tls_failure");

    if (!at || g->clear_after_tls_failure == CLEAR_NEVER || g->starttls == TLS_ON)
        return;
    yaml_notice(r->errors, at, "'clear_after_tls_failure' has no effect at 'starttls: %s'",
                tls_level_name(g->starttls));
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
    else if (g->starttls != TLS_VERIFY)
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
        check_identity(r, group);
        check_discovery(r, group);
        check_fallback(r);
    }
    check_route(r, group);
    check_times(r, group);
    settle_hosts(r->draft);
}

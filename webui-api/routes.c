#include "webui-api/routes.h"

#include "webui-api/params.h"

#define FILTERS "message recipient domain group campaign sender account state"
#define REPORT  "since until by sort limit group domain mx campaign format"
#define SHADOW  "since until by changed limit group domain mx campaign format"

const struct route routes[] = {
    {HTTP_GET, "/healthz", get_healthz, "", true},
    {HTTP_GET, "/metrics", get_metrics, "", true},
    {HTTP_GET, "/api/v1/status", get_status, "", false},
    {HTTP_GET, "/api/v1/explain/{what}", get_explain, "", false},
    {HTTP_GET, "/api/v1/doctor", get_doctor, "connect", false},

    {HTTP_GET, "/api/v1/accounts", get_accounts, "", false},
    {HTTP_GET, "/api/v1/accounts/{name}", get_account, "", false},
    {HTTP_PUT, "/api/v1/accounts/{name}", put_account, "expect", false},
    {HTTP_DELETE, "/api/v1/accounts/{name}", delete_account, "", false},

    {HTTP_GET, "/api/v1/queue/recipients", get_queue_recipients, FILTERS " order limit after", false},
    {HTTP_GET, "/api/v1/queue/count", get_queue_count, FILTERS, false},
    {HTTP_GET, "/api/v1/queue/summary", get_queue_summary, "by limit", false},
    {HTTP_GET, "/api/v1/queue/messages/{id}", get_queue_message, "", false},
    {HTTP_POST, "/api/v1/queue/ops", post_queue_ops, "", false},

    {HTTP_GET, "/api/v1/campaigns", get_campaigns, "limit active", false},
    {HTTP_GET, "/api/v1/campaigns/{id}", get_campaign, "", false},
    {HTTP_POST, "/api/v1/campaigns/{id}", post_campaign, "", false},

    {HTTP_GET, "/api/v1/sources", get_sources, "", false},
    {HTTP_POST, "/api/v1/sources/warmup", post_source_warmup, "op address step group", false},
    {HTTP_GET, "/api/v1/shaping", get_shaping, "id group domain limit", false},
    {HTTP_POST, "/api/v1/shaping/clear", post_shaping_clear, "id group domain all", false},

    {HTTP_GET, "/api/v1/policy", get_policy, "", false},
    {HTTP_GET, "/api/v1/policy/versions", get_policy_versions, "before limit", false},
    {HTTP_GET, "/api/v1/policy/versions/{n}", get_policy_version, "", false},
    {HTTP_POST, "/api/v1/policy/check", post_policy_check, "", false},
    {HTTP_POST, "/api/v1/policy/diff", post_policy_diff, "from to", false},
    {HTTP_POST, "/api/v1/policy", post_policy, "comment expected", false},
    {HTTP_GET, "/api/v1/policy/shadow", get_policy_shadow, "", false},
    {HTTP_POST, "/api/v1/policy/shadow", post_policy_shadow, "comment", false},
    {HTTP_DELETE, "/api/v1/policy/shadow", delete_policy_shadow, "", false},
    {HTTP_POST, "/api/v1/policy/whatif", post_policy_whatif, SHADOW, false},
    {HTTP_GET, "/api/v1/policy/receivers", get_policy_receivers, "", false},
    {HTTP_POST, "/api/v1/policy/refresh", post_policy_refresh, "comment expected", false},
    {HTTP_POST, "/api/v1/policy/rollback", post_policy_rollback, "to comment expected", false},

    {HTTP_GET, "/api/v1/reports/delivery", get_report_delivery, REPORT, false},
    {HTTP_GET, "/api/v1/reports/tls", get_report_tls, REPORT " only", false},
    {HTTP_GET, "/api/v1/reports/certificates", get_report_certificates, "within since limit format", false},
    {HTTP_GET, "/api/v1/reports/submission-tls", get_report_submission_tls,
     "since until by sort limit account source listener auth format", false},
    {HTTP_GET, "/api/v1/reports/shadow", get_report_shadow, SHADOW, false},
    {HTTP_GET, "/api/v1/reports/reconcile", get_report_reconcile, "campaign by", false},
    {HTTP_GET, "/api/v1/audit", get_audit, "campaign limit", false},

    {HTTP_GET, "/api/v1/tls/downgrades", get_downgrades, "domain state format", false},
    {HTTP_POST, "/api/v1/tls/downgrades", post_downgrades, "op domain mx all", false},

    {HTTP_GET, "/api/v1/dkim/keys", get_dkim_keys, "", false},
    {HTTP_GET, "/api/v1/dkim/check", get_dkim_check, "domain dns", false},

    {HTTP_POST, "/api/v1/tls/probe", post_tls_probe, "", false},
    {HTTP_GET, "/api/v1/tls/sts", get_sts_policies, "limit after", false},
    {HTTP_GET, "/api/v1/tls/sts/{domain}", get_sts_policy, "", false},
    {HTTP_POST, "/api/v1/tls/sts/{domain}/refresh", post_sts_refresh, "", false},

    {HTTP_GET, "/api/v1/tls/reports", get_tls_reports, "since until by domain sender limit format", false},
    {HTTP_POST, "/api/v1/tls/reports", post_tls_reports, "", false},
    {HTTP_GET, "/api/v1/tls/reports/{day}/{id}", get_tls_report, "", false},
    {HTTP_GET, "/api/v1/tls/reports-out", get_tls_reports_out, "since domain state limit", false},
    {HTTP_GET, "/api/v1/tls/reports-out/{domain}", get_tls_report_out, "day", false},
    {HTTP_POST, "/api/v1/tls/reports-out/{domain}", post_tls_report_out, "day again", false},

    {HTTP_GET, "/api/v1/log/follow", get_log_follow, "after wait_ms limit events", false},
};
const size_t route_count = COUNT_OF(routes);

bool route_matches(const char *pattern, const struct http_target *target, const char *args[2])
{
    struct bytes rest = bytes_skip(bytes_of(pattern), 1);
    size_t arg = 0;

    for (size_t i = 0; i < target->segment_count; i++) {
        struct bytes part = bytes_first(rest, bytes_find(rest, '/'));
        const char *segment = target->segments[i];
        if (!part.len)
            return false; /* the pattern is shorter */
        if (*part.at == '{' && *segment)
            args[arg++] = segment;
        else if (!bytes_eq(part, bytes_of(segment)))
            return false;
        rest = bytes_skip(rest, part.len + 1);
    }
    return rest.len == 0;
}

const struct route *route_find(enum http_method method, const struct http_target *target, const char *args[2],
                               unsigned *allow)
{
    const struct route *found = NULL;

    *allow = 0;
    for (size_t i = 0; i < route_count; i++) {
        const char *here[2] = {NULL, NULL};
        if (!route_matches(routes[i].pattern, target, here))
            continue;
        *allow |= BIT(routes[i].method);
        if (routes[i].method != method)
            continue;
        found = &routes[i];
        args[0] = here[0];
        args[1] = here[1];
    }
    return found;
}

void route_serve(struct request *r, bool anybody)
{
    unsigned allow;
    const struct route *route = route_find(r->method, &r->target, r->args, &allow);

    if (!route && allow) {
        r->reply.allow = allow;
        reply_error(r, 405, "method", "%s is not what this address takes", http_method_name(r->method));
    } else if (!route) {
        reply_error(r, 404, "not_found", "there is nothing at this address");
    } else if (anybody && !route->for_anybody) {
        reply_error(r, 403, "denied", "here are /metrics and /healthz only: use api.socket");
    } else if (params_known(r, route->parameters)) {
        route->handler(r);
    }
}

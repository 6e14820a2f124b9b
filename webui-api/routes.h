/* All routes as one table: method, pattern, handler, parameters.  What each answers stands in README.md. */
#pragma once

#include "webui-api/http.h"

typedef void (*route_fn)(struct request *r);

struct route {
    enum http_method method;
    const char *pattern; /* "/api/v1/accounts/{name}" */
    route_fn handler;
    const char *parameters; /* blank-separated */
    bool for_anybody;       /* also on api.listen, which knows nobody */
};
extern const struct route routes[];
extern const size_t route_count;

/* Does the path fit?  args[] are the placeholders' values (borrowed from the target). */
bool route_matches(const char *pattern, const struct http_target *target, const char *args[2]);
/* The route, or NULL; *allow has BIT(method) of every route whose path fits. */
const struct route *route_find(enum http_method method, const struct http_target *target, const char *args[2],
                               unsigned *allow);
/* Finds the route, checks the parameters, calls the handler; there is a reply afterwards. */
void route_serve(struct request *r, bool anybody);

/* route_status.c */
void get_healthz(struct request *r);
void get_metrics(struct request *r);
void get_status(struct request *r);
void get_explain(struct request *r);
void get_doctor(struct request *r);
/* route_accounts.c */
void get_accounts(struct request *r);
void get_account(struct request *r);
void put_account(struct request *r);
void delete_account(struct request *r);
/* route_campaigns.c */
void get_campaigns(struct request *r);
void get_campaign(struct request *r);
void post_campaign(struct request *r);
/* route_queue.c, route_queue_ops.c, route_message.c */
void get_queue_recipients(struct request *r);
void get_queue_count(struct request *r);
void get_queue_summary(struct request *r);
void post_queue_ops(struct request *r);
void get_queue_message(struct request *r);
/* route_policy.c */
void get_policy(struct request *r);
void get_policy_versions(struct request *r);
void get_policy_version(struct request *r);
void post_policy_check(struct request *r);
void post_policy_diff(struct request *r);
void post_policy(struct request *r);
void post_policy_rollback(struct request *r);
void post_policy_refresh(struct request *r);
void get_policy_receivers(struct request *r);
/* route_sources.c */
void get_sources(struct request *r);
void post_source_warmup(struct request *r);
/* route_shaping.c */
void get_shaping(struct request *r);
void post_shaping_clear(struct request *r);

/* route_shadow.c */
void get_policy_shadow(struct request *r);
void post_policy_shadow(struct request *r);
void delete_policy_shadow(struct request *r);
void post_policy_whatif(struct request *r);
void get_report_shadow(struct request *r);
/* route_reports.c, route_reconcile.c */
void get_report_delivery(struct request *r);
void get_report_tls(struct request *r);
void get_report_reconcile(struct request *r);
void get_audit(struct request *r);
/* route_submission.c */
void get_report_submission_tls(struct request *r);
/* route_tls.c */
void get_report_certificates(struct request *r);
void get_downgrades(struct request *r);
void post_downgrades(struct request *r);
/* route_dkim.c */
void get_dkim_keys(struct request *r);
void get_dkim_check(struct request *r);
/* route_sts.c */
void get_sts_policies(struct request *r);
void get_sts_policy(struct request *r);
void post_sts_refresh(struct request *r);
/* route_tlsrpt.c */
void get_tls_reports(struct request *r);
void get_tls_report(struct request *r);
void post_tls_reports(struct request *r);
void get_tls_reports_out(struct request *r);
void get_tls_report_out(struct request *r);
void post_tls_report_out(struct request *r);
/* route_probe.c */
void post_tls_probe(struct request *r);
/* route_log.c */
void get_log_follow(struct request *r);

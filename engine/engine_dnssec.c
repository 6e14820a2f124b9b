/* What status, metrics and the doctor say of DNSSEC. */
#include "engine/dnssec_watch.h"
#include "engine/engine_priv.h"

static bool dane_is_wanted(struct engine *e)
{
    struct policy *p = engine_policy(e);
    bool wanted = false;

    for (size_t i = 0; i < policy_group_count(p); i++)
        wanted = wanted || policy_group(p, i)->dane != DANE_OFF;
    policy_unref(p);
    return wanted;
}

json_t *engine_dnssec_json(struct engine *e)
{
    struct dnssec_report r;
    json_t *servers = json_array();
    char address[IP_TEXT_BYTES];

    dnssec_watch_report(e->shared.dnssec, &r);
    for (size_t i = 0; i < r.count; i++)
        json_array_append_new(servers,
                              json_pack("{s:s, s:s, s:b, s:i}", "address",
                                        ip_format_port(&r.servers[i].ip, r.servers[i].port, address), "state",
                                        dnssec_probe_name(r.servers[i].result), "trusted",
                                        (int)r.servers[i].trusted, "took_ms", (int)r.servers[i].took_ms));
    return json_pack("{s:s, s:b, s:b, s:I, s:s, s:s, s:o}", "state", dnssec_probe_name(r.result), "mixed",
                     (int)r.mixed, "dane_wanted", (int)dane_is_wanted(e), "asked_unix", (json_int_t)r.at_unix,
                     "probe", r.question.name, "hint", dnssec_watch_hint(r.result), "servers", servers);
}

void engine_dnssec_metrics(struct engine *e, struct buf *out)
{
    struct dnssec_report r;
    char address[IP_TEXT_BYTES];

    dnssec_watch_report(e->shared.dnssec, &r);
    buf_putf(out,
             "# HELP hayauma_dnssec_validating 1 while the resolver validates and is trusted: DANE works\n"
             "# TYPE hayauma_dnssec_validating gauge\nhayauma_dnssec_validating %d\n",
             r.result == DNSSEC_WORKS);
    buf_puts(out, "# HELP hayauma_dnssec_server_validating the same of each resolver\n"
                  "# TYPE hayauma_dnssec_server_validating gauge\n");
    for (size_t i = 0; i < r.count; i++)
        buf_putf(out, "hayauma_dnssec_server_validating{server=\"%s\"} %d\n",
                 ip_format_port(&r.servers[i].ip, r.servers[i].port, address),
                 r.servers[i].result == DNSSEC_WORKS);
}

#include "engine/deliver/explain_json.h"

json_t *dane_json(const struct dane_records *records)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "state", dane_state_name(records->state), "base",
                     records->base ? records->base : "", "records", records->text ? records->text : "", "why",
                     records->why ? records->why : "");
}

json_t *sts_json(const struct sts_answer *answer)
{
    const struct sts_policy *p = answer->policy;
    json_t *json = json_object();

    json_object_set_new(json, "state",
                        json_string(p                 ? sts_policy_mode_name(p->mode)
                                    : answer->failure ? "failed"
                                                      : "none"));
    if (answer->failure)
        json_object_set_new(json, "failure", json_string(tls_failure_name(answer->failure)));
    if (answer->failure || (answer->why && *answer->why))
        json_object_set_new(json, "why", json_string(answer->why ? answer->why : ""));
    if (p) {
        json_t *mx = json_array();
        for (size_t i = 0; i < p->mx_count; i++)
            json_array_append_new(mx, json_string(p->mx[i]));
        json_object_set_new(json, "domain", json_string(p->domain));
        json_object_set_new(json, "id", json_string(p->id));
        json_object_set_new(json, "mx", mx);
        json_object_set_new(json, "max_age_s", json_integer(p->max_age_s));
        json_object_set_new(json, "fetched_unix", json_integer(p->fetched_unix));
    }
    return json;
}

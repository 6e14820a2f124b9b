/* Probes of destinations: what they offer, and what the policy would make of it. */
#include "base/mem.h"
#include "engine/engine.h"
#include "policy/domain.h"
#include "webui-api/json_write.h"
#include "webui-api/routes.h"

#define DOMAINS_MAX 64

DEFINE_CLEANUP(json_t *, json_decref)

/* What is no domain is said beside the others' results: a list of a thousand is not refused for one line. */
static void put_wrong(json_t *wrong, const char *text)
{
    json_array_append_new(
        wrong, json_pack("{s:s, s:s}", "domain", text ? text : "", "error", "that is not a domain"));
}

/* The normalised names, in the request's arena. */
static size_t read_domains(struct request *r, const json_t *list, const char **domains, json_t *wrong)
{
    char domain[DOMAIN_MAX_BYTES + 1];
    size_t count = 0, i;
    json_t *value;

    json_array_foreach(list, i, value)
    {
        const char *text = json_string_value(value);
        if (text && text[0] != '[' && domain_normalise(bytes_of(text), domain) == OK)
            domains[count++] = arena_strdup(&r->arena, domain);
        else
            put_wrong(wrong, text);
    }
    return count;
}

void post_tls_probe(struct request *r)
{
    const char *domains[DOMAINS_MAX];
    json_error_t error;

    CLEANUP(json_decref)
    json_t *body = json_loadb(r->body.at ? r->body.at : "", r->body.len, JSON_REJECT_DUPLICATES, &error);
    json_t *list = json_object_get(body, "domains");
    if (!json_array_size(list) || json_array_size(list) > DOMAINS_MAX) {
        reply_error(r, 400, "invalid",
                    "the body must be a JSON object like {\"domains\": [\"example.com\"], \"quick\": false}, "
                    "with 1 to "
                    "%d domains%s%s",
                    DOMAINS_MAX, body ? "" : ": ", body ? "" : error.text);
        return;
    }
    CLEANUP(json_decref) json_t *wrong = json_array();
    size_t count = read_domains(r, list, domains, wrong);
    bool quick = json_is_true(json_object_get(body, "quick"));
    CLEANUP(json_decref) json_t *results = engine_probe(r->engine, domains, count, quick, r->stopping);
    json_array_extend(results, wrong);
    json_begin(&r->reply.body, NULL, '{');
    json_put_tree(&r->reply.body, "results", results);
    json_end(&r->reply.body, '}');
    reply_ok(r, TYPE_JSON);
}

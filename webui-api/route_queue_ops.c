/* What an operator does to queued mail: one JSON object says what and to which. */
#include "base/mem.h"
#include "base/yaml.h"
#include "engine/engine.h"
#include "policy/domain.h"
#include "webui-api/json_write.h"
#include "webui-api/routes.h"

#define DOMAINS_MAX 10000

DEFINE_CLEANUP(json_t *, json_decref)

struct wish {
    enum queue_op op;
    bool has_op;
    struct queue_selector which; /* owned */
    const char *group;           /* borrowed from the body */
    size_t narrowed;             /* by how many fields */
};

static const char *const op_words[] = {"retry", "hold", "release", "bounce", "cancel"};

static bool field_error(struct request *r, const char *field, const char *right)
{
    reply_error(r, 400, "invalid", "'%s': %s", field, right);
    return false;
}

static bool take_op(struct request *r, const json_t *v, struct wish *w)
{
    const char *word = json_string_value(v);

    for (size_t i = 0; word && i < COUNT_OF(op_words); i++) {
        if (strcmp(word, op_words[i]) != 0)
            continue;
        w->op = (enum queue_op)i;
        w->has_op = true;
        return true;
    }
    const char *meant = word ? yaml_did_you_mean(bytes_of(word), op_words, COUNT_OF(op_words)) : NULL;
    reply_error(r, 400, "invalid", "'op' is retry, hold, release, bounce or cancel%s%s%s",
                meant ? " (did you mean '" : "", meant ? meant : "", meant ? "'?)" : "");
    return false;
}

static bool add_domain(struct request *r, const json_t *v, struct queue_selector *which)
{
    char normal[DOMAIN_MAX_BYTES + 1];

    if (domain_normalise(bytes_of(json_string_value(v)), normal) != OK)
        return field_error(r, "domain", "expected a domain like example.com, or a list of them");
    which->domains[which->domain_count++] = mem_strdup(normal);
    return true;
}

static bool take_domains(struct request *r, const json_t *v, struct queue_selector *which)
{
    size_t count = json_is_array(v) ? json_array_size(v) : 1;

    if (!count || count > DOMAINS_MAX)
        return field_error(r, "domain", "expected a domain like example.com, or a list of up to 10000");
    which->domains = mem_zalloc(count * sizeof(*which->domains));
    for (size_t i = 0; i < count; i++)
        if (!add_domain(r, json_is_array(v) ? json_array_get(v, i) : v, which))
            return false;
    return true;
}

static bool take_text(struct request *r, const char *field, const json_t *v, bool may_be_empty, char **out)
{
    const char *text = json_string_value(v);

    if (!text || (!*text && !may_be_empty) || strlen(text) != json_string_length(v))
        return field_error(r, field, "expected a text");
    *out = mem_strdup(text);
    return true;
}

static bool take_field(struct request *r, const char *field, const json_t *v, struct wish *w)
{
    static const char *const fields[] = {"op",    "all",      "message", "recipient", "domain",
                                         "group", "campaign", "sender",  "account"};
    struct queue_selector *which = &w->which;

    if (strcmp(field, "op") == 0)
        return take_op(r, v, w);
    if (strcmp(field, "all") == 0) {
        which->all = json_is_true(v);
        return json_is_boolean(v) || field_error(r, field, "expected true");
    }
    w->narrowed++;
    if (strcmp(field, "message") == 0)
        return message_id_parse(bytes_of(json_string_value(v)), &which->message_id) ||
               field_error(r, field, "expected a message id of 13 characters");
    if (strcmp(field, "domain") == 0)
        return take_domains(r, v, which);
    if (strcmp(field, "group") == 0) {
        w->group = json_string_value(v);
        return w->group || field_error(r, field, "expected a group's name");
    }
    if (strcmp(field, "recipient") == 0)
        return take_text(r, field, v, false, &which->recipient);
    if (strcmp(field, "campaign") == 0)
        return take_text(r, field, v, false, &which->campaign);
    if (strcmp(field, "sender") == 0)
        return take_text(r, field, v, true, &which->sender);
    if (strcmp(field, "account") == 0)
        return take_text(r, field, v, false, &which->account);
    const char *meant = yaml_did_you_mean(bytes_of(field), fields, COUNT_OF(fields));
    reply_error(r, 400, "invalid", "there is no field '%s'%s%s%s", field, meant ? " (did you mean '" : "",
                meant ? meant : "", meant ? "'?)" : "");
    return false;
}

/* "All" is said, never what is left when a client forgot its selector. */
static bool makes_sense(struct request *r, const struct wish *w)
{
    if (!w->has_op)
        return field_error(r, "op", "is missing: retry, hold, release, bounce or cancel");
    if (w->which.all && w->narrowed)
        return field_error(r, "all", "it goes with no other selector");
    if (!w->which.all && !w->narrowed)
        return field_error(
            r, "all", "name message, recipient, domain, group, campaign, sender or account; or all: true");
    if (w->group && w->which.domain_count)
        return field_error(r, "group", "'group' and 'domain': one of the two");
    return true;
}

static void carry_out(struct request *r, struct wish *w)
{
    struct buf *out = &r->reply.body;
    uint64_t changed = 0;
    enum err e = engine_queue_op(r->engine, &w->which, w->group, w->op, &changed);

    if (e == ERR_NOT_FOUND && w->group) {
        reply_error(r, 404, "not_found", "the policy has no group '%s'", w->group);
        return;
    }
    if (e) {
        reply_err(r, e, "the operation");
        return;
    }
    json_begin(out, NULL, '{');
    json_put_text(out, "op", op_words[w->op]);
    json_put_count(out, "changed", changed);
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

void post_queue_ops(struct request *r)
{
    json_error_t error;
    struct wish w = {0};
    const char *field;
    json_t *value;
    bool good = true;
    CLEANUP(json_decref)
    json_t *body = json_loadb(r->body.at ? r->body.at : "", r->body.len,
                              JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);

    if (!json_is_object(body)) {
        reply_error(
            r, 400, "invalid",
            "the body must be a JSON object like {\"op\": \"retry\", \"domain\": \"example.com\"}%s%s",
            body ? "" : ": ", body ? "" : error.text);
        return;
    }
    json_object_foreach(body, field, value) good = good && take_field(r, field, value, &w);
    if (good && makes_sense(r, &w))
        carry_out(r, &w);
    queue_selector_fini(&w.which);
}

/* One JSON object says what and to which. */
#include "webui-api/queue_wish.h"

#include <jansson.h>

#include "base/mem.h"
#include "base/yaml.h"
#include "policy/domain.h"

#define DOMAINS_MAX 10000

DEFINE_CLEANUP(json_t *, json_decref)

static const char *const op_words[] = {"retry", "hold", "release", "bounce", "cancel"};

const char *queue_wish_op_name(enum queue_op op)
{
    return op_words[op];
}

/* NULL: not a text, or one with a NUL, of which all that follows would be lost. */
static const char *text_of(const json_t *v)
{
    const char *text = json_string_value(v);

    return text && strlen(text) == json_string_length(v) ? text : NULL;
}

static bool field_error(struct request *r, const char *field, const char *right)
{
    reply_error(r, 400, "invalid", "'%s': %s", field, right);
    return false;
}

static bool take_op(struct request *r, const json_t *v, struct queue_wish *w)
{
    const char *word = text_of(v);

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

    if (domain_normalise(bytes_of(text_of(v)), normal) != OK)
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
    const char *text = text_of(v);

    if (!text || (!*text && !may_be_empty))
        return field_error(r, field, "expected a text");
    *out = mem_strdup(text);
    return true;
}

static bool take_field(struct request *r, const char *field, const json_t *v, struct queue_wish *w)
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
        return message_id_parse(bytes_of(text_of(v)), &which->message_id) ||
               field_error(r, field, "expected a message id of 13 characters");
    if (strcmp(field, "domain") == 0)
        return take_domains(r, v, which);
    if (strcmp(field, "group") == 0) {
        return take_text(r, field, v, false, &w->group);
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
static bool makes_sense(struct request *r, const struct queue_wish *w)
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

bool queue_wish_read(struct request *r, struct queue_wish *w)
{
    json_error_t error;
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
        return false;
    }
    json_object_foreach(body, field, value) good = good && take_field(r, field, value, w);
    return good && makes_sense(r, w);
}

void queue_wish_fini(struct queue_wish *w)
{
    queue_selector_fini(&w->which);
    mem_free(w->group);
}

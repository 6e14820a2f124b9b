/* The fields of an account as a JSON object. */
#include "webui-api/account_body.h"

#include <jansson.h>

#include "base/mem.h"
#include "base/yaml.h"
#include "engine/net/tls_server.h"
#include "engine/smtp/schedule.h"
#include "engine/smtp/server.h"
#include "policy/domain.h"
#include "webui-api/json_write.h"

#define PASSWORD_MIN       8
#define PASSWORD_MAX_BYTES 1024
#define LIST_MAX           1000
#define NUMBER_MAX         1000000

DEFINE_CLEANUP(json_t *, json_decref)

/* Says which field is wrong, and never what a password was. */
static bool field_error(struct request *r, const char *field, const char *right)
{
    BUF_LOCAL(details);

    json_begin(&details, NULL, '[');
    json_begin(&details, NULL, '{');
    json_put_text(&details, "field", field);
    json_put_text(&details, "text", right);
    json_end(&details, '}');
    json_end(&details, ']');
    reply_error_details(r, 400, "invalid", buf_bytes(&details), "'%s': %s", field, right);
    return false;
}

/* NULL: not a text, or one with a NUL, of which all that follows would be lost. */
static const char *text_of(const json_t *v)
{
    const char *text = json_string_value(v);

    return text && strlen(text) == json_string_length(v) ? text : NULL;
}

static size_t characters(const char *s)
{
    size_t n = 0;

    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static bool take_password(struct request *r, const json_t *v, struct account *a)
{
    const char *text = text_of(v);

    if (json_is_null(v)) { /* certificates only: put_body sees that there are some */
        explicit_bzero(a->stored_key, sizeof(a->stored_key));
        explicit_bzero(a->server_key, sizeof(a->server_key));
        a->iterations = 0;
        return true;
    }
    if (!text)
        return field_error(r, "password", "expected a text without NUL");
    if (characters(text) < PASSWORD_MIN)
        return field_error(r, "password", "it must have 8 characters or more");
    if (strlen(text) > PASSWORD_MAX_BYTES)
        return field_error(r, "password", "it may have 1024 octets at most");
    for (const char *c = text; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            return field_error(r, "password", "it may not hold control characters, not even a line end");
    scram_make(text, a);
    return true;
}

static bool take_domains(struct request *r, const json_t *v, struct account *a)
{
    static const char right[] =
        "expected a list of domains like [\"example.com\", \".example.com\"], where a leading "
        "dot means all sub-domains";

    if (!json_is_array(v) || json_array_size(v) > LIST_MAX)
        return field_error(r, "sender_domains", right);
    for (size_t i = 0; i < a->sender_domain_count; i++)
        mem_free(a->sender_domains[i]);
    mem_free(a->sender_domains);
    a->sender_domain_count = 0;
    a->sender_domains = mem_zalloc((json_array_size(v) + 1) * sizeof(*a->sender_domains));
    for (size_t i = 0; i < json_array_size(v); i++) {
        char normal[DOMAIN_MAX_BYTES + 1];
        struct bytes text = bytes_of(text_of(json_array_get(v, i)));
        bool dot = text.len && *text.at == '.';
        if (domain_normalise(bytes_skip(text, dot), normal) != OK)
            return field_error(r, "sender_domains", right);
        a->sender_domains[a->sender_domain_count++] = text_format("%s%s", dot ? "." : "", normal);
    }
    return true;
}

static bool take_networks(struct request *r, const json_t *v, struct account *a)
{
    static const char right[] = "expected a list of networks like [\"192.0.2.0/24\", \"2001:db8::1\"]";

    if (!json_is_array(v) || json_array_size(v) > LIST_MAX)
        return field_error(r, "networks", right);
    mem_free(a->networks);
    a->network_count = 0;
    a->networks = mem_zalloc((json_array_size(v) + 1) * sizeof(*a->networks));
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!ip_net_parse(bytes_of(text_of(json_array_get(v, i))), &a->networks[a->network_count++]))
            return field_error(r, "networks", right);
    return true;
}

static bool take_certificates(struct request *r, const json_t *v, struct account *a)
{
    static const char right[] =
        "expected a list of certificates: sha256:FINGERPRINT, a certificate as PEM, or, of one "
        "that client_ca vouches for, dns:NAME, email:ADDRESS, uri:URI or subject:DN";

    if (!json_is_array(v) || json_array_size(v) > LIST_MAX)
        return field_error(r, "certificates", right);
    for (size_t i = 0; i < a->certificate_count; i++)
        mem_free(a->certificates[i]);
    mem_free(a->certificates);
    a->certificate_count = 0;
    a->certificates = mem_zalloc((json_array_size(v) + 1) * sizeof(*a->certificates));
    for (size_t i = 0; i < json_array_size(v); i++) {
        const char *text = text_of(json_array_get(v, i));
        char *spec = text ? tls_peer_spec_normalise(text) : NULL;
        if (!spec)
            return field_error(r, "certificates", right);
        a->certificates[a->certificate_count++] = spec;
    }
    return true;
}

static bool take_campaign(struct request *r, const json_t *v, struct account *a)
{
    const char *id = text_of(v);

    if (!json_is_null(v) && (!id || !campaign_is_valid(bytes_of(id))))
        return field_error(r, "campaign", "expected 1 to 64 of A-Z a-z 0-9 . _ : -, or null for none");
    mem_free(a->campaign);
    a->campaign = id ? mem_strdup(id) : NULL;
    return true;
}

static bool take_priority(struct request *r, const json_t *v, struct account *a)
{
    return priority_parse(bytes_of(text_of(v)), &a->priority) ||
           field_error(r, "priority", "expected \"high\", \"normal\" or \"low\"");
}

static bool take_number(struct request *r, const char *field, const json_t *v, uint32_t *out)
{
    json_int_t n = json_integer_value(v);

    if (!json_is_integer(v) || n < 0 || n > NUMBER_MAX)
        return field_error(r, field, "expected a whole number from 0 (no limit) to 1000000");
    *out = (uint32_t)n;
    return true;
}

static bool take_field(struct request *r, const char *field, const json_t *v, struct account *a)
{
    static const char *const fields[] = {
        "password",        "sender_domains",      "networks", "certificates", "campaign", "priority",
        "max_connections", "messages_per_minute", "disabled"};

    if (strcmp(field, "password") == 0)
        return take_password(r, v, a);
    if (strcmp(field, "sender_domains") == 0)
        return take_domains(r, v, a);
    if (strcmp(field, "networks") == 0)
        return take_networks(r, v, a);
    if (strcmp(field, "certificates") == 0)
        return take_certificates(r, v, a);
    if (strcmp(field, "campaign") == 0)
        return take_campaign(r, v, a);
    if (strcmp(field, "priority") == 0)
        return take_priority(r, v, a);
    if (strcmp(field, "max_connections") == 0)
        return take_number(r, field, v, &a->max_connections);
    if (strcmp(field, "messages_per_minute") == 0)
        return take_number(r, field, v, &a->messages_per_minute);
    if (strcmp(field, "disabled") == 0) {
        a->disabled = json_is_true(v);
        return json_is_boolean(v) || field_error(r, field, "expected true or false");
    }
    const char *meant = yaml_did_you_mean(bytes_of(field), fields, COUNT_OF(fields));
    BUF_LOCAL(right);
    buf_puts(&right, "there is no such field");
    if (meant)
        buf_putf(&right, " (did you mean '%s'?)", meant);
    return field_error(r, field, buf_str(&right));
}

/* jansson's own words may quote what stands there, and that may be a password. */
static json_t *read_object(struct request *r)
{
    json_error_t error;
    json_t *body = json_loadb(r->body.at ? r->body.at : "", r->body.len,
                              JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);

    if (!body)
        reply_error(r, 400, "invalid", "the body is not JSON (line %d, column %d), or says a name twice",
                    error.line, error.column);
    else if (!json_is_object(body))
        reply_error(r, 400, "invalid", "the body must be an object like {\"password\": …}");
    if (json_is_object(body))
        return body;
    json_decref(body);
    return NULL;
}

bool account_body_read(struct request *r, bool is_new, struct account *a)
{
    CLEANUP(json_decref) json_t *body = read_object(r);
    const char *field;
    json_t *value;

    if (!body)
        return false;
    json_object_foreach(body, field, value)
    {
        if (!take_field(r, field, value, a))
            return false;
    }
    return a->iterations || a->certificate_count ||
           field_error(r, "password",
                       is_new ? "a new account needs one, or certificates"
                              : "without certificates the account needs one");
}

/* The section dkim: of the configuration, and the keys that it names. */
#include "base/mem.h"
#include "engine/conf_check.h"
#include "engine/dkim/keyring.h"
#include "policy/domain.h"

#define QUEUE_TIME_MS ((uint64_t)5 * 86400 * 1000) /* RFC 5321 §4.5.4.1 */

static void check_field_names(const struct conf_strings *names, const char *key, const struct yaml_node *root,
                              struct yaml_errors *errors)
{
    for (size_t i = 0; i < names->count; i++)
        if (!dkim_field_name_is_valid(bytes_of(names->items[i])))
            yaml_error(errors, conf_near(root, "%s.%zu", key, i),
                       "expected the name of a header field, like Reply-To, found '%s'", names->items[i]);
}

void conf_check_dkim(const struct conf *c, const struct yaml_node *root, struct yaml_errors *errors)
{
    const struct conf_dkim_key *keys = c->dkim.keys.items;
    char name[DOMAIN_MAX_BYTES + 1];

    for (size_t i = 0; i < c->dkim.keys.count; i++) {
        const char *domain = keys[i].domain, *selector = keys[i].selector;
        if (domain && (domain_is_literal(bytes_of(domain)) || domain_normalise(bytes_of(domain), name) != OK))
            yaml_error(errors, conf_near(root, "dkim.keys.%zu.domain", i),
                       "expected a domain like example.com, found '%s'", domain);
        if (selector && !dkim_selector_is_valid(bytes_of(selector)))
            yaml_error(errors, conf_near(root, "dkim.keys.%zu.selector", i),
                       "expected a selector like s2026 (letters, digits, '-', '_', '.'), found '%s'",
                       selector);
    }
    check_field_names(&c->dkim.headers, "dkim.headers", root, errors);
    check_field_names(&c->dkim.oversign, "dkim.oversign", root, errors);
    if (c->dkim.expire_ms && !c->dkim.timestamp)
        yaml_error(errors, conf_near(root, "dkim.expire"), "dkim.expire needs dkim.timestamp: true");
    else if (c->dkim.expire_ms && c->dkim.expire_ms < QUEUE_TIME_MS)
        yaml_notice(
            errors, conf_near(root, "dkim.expire"),
            "mail may wait in the queue for longer than this, and its signature would be dead on arrival");
}

/* What the files hold, not only that they are there: a broken key would be found out by the first message. */
void conf_check_dkim_host(const struct conf *c, const struct yaml_node *root, struct yaml_errors *errors)
{
    const struct conf_dkim_key *keys = c->dkim.keys.items;
    struct dkim_keyring *ring = NULL;
    size_t before = errors->errors;
    char *why = NULL;

    for (size_t i = 0; i < c->dkim.keys.count; i++)
        if (!keys[i].key || !keys[i].domain || !keys[i].selector)
            return; /* complained about before */
    if (c->dkim.keys.count == 0 || dkim_keyring_load(c, &ring, &why) == OK) {
        dkim_keyring_unref(ring);
        return;
    }
    for (size_t i = 0; i < c->dkim.keys.count; i++) { /* all of them, each with its place */
        struct dkim_key *key = NULL;
        char *what = NULL;
        if (dkim_key_read(keys[i].key, &key, &what) != OK)
            yaml_error(errors, conf_near(root, "dkim.keys.%zu.key", i), "%s", what);
        dkim_key_destroy(key);
        mem_free(what);
    }
    if (errors->errors == before)
        yaml_error(errors, conf_near(root, "dkim.keys"), "%s", why);
    mem_free(why);
}

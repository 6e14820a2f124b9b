/* The section tlsrpt: of the configuration. */
#include "base/mem.h"
#include "engine/conf_check.h"
#include "engine/tlsrpt/record.h"
#include "policy/domain.h"

static bool check_address(const char *address, const char *key, const struct yaml_node *root,
                          struct yaml_errors *errors)
{
    if (!address || tlsrpt_is_address(bytes_of(address)))
        return address != NULL;
    yaml_error(errors, conf_near(root, "%s", key),
               "expected a mail address like tls-reports@example.com, found '%s'", address);
    return false;
}

static bool same_domain(const char *a, const char *b)
{
    char x[DOMAIN_MAX_BYTES + 1], y[DOMAIN_MAX_BYTES + 1];

    return domain_normalise(domain_of_address(bytes_of(a)), x) == OK &&
           domain_normalise(domain_of_address(bytes_of(b)), y) == OK && strcmp(x, y) == 0;
}

static bool signs_for(const struct conf *c, const char *address)
{
    const struct conf_dkim_key *keys = c->dkim.keys.items;
    char domain[DOMAIN_MAX_BYTES + 1], key[DOMAIN_MAX_BYTES + 1];

    if (domain_normalise(domain_of_address(bytes_of(address)), domain) != OK)
        return false;
    for (size_t i = 0; i < c->dkim.keys.count; i++)
        if (keys[i].domain && domain_normalise(bytes_of(keys[i].domain), key) == OK &&
            strcmp(key, domain) == 0)
            return true;
    return false;
}

static bool names(const struct conf_strings *list, const char *field)
{
    for (size_t i = 0; i < list->count; i++)
        if (bytes_ieq(bytes_of(list->items[i]), bytes_of(field)))
            return true;
    return false;
}

/* RFC 8460 §3 and §5.3: both fields are signed, by the domain of the contact. */
static void check_signature(const struct conf *c, const struct yaml_node *root, struct yaml_errors *errors)
{
    if (!signs_for(c, c->tlsrpt.contact))
        yaml_notice(
            errors, conf_near(root, "tlsrpt.contact"),
            "dkim.keys has no key for the domain of %s: receivers must ignore report mail without its "
            "signature (RFC 8460 section 3); reports by HTTPS need none",
            c->tlsrpt.contact);
    else if (c->dkim.headers.count && (!names(&c->dkim.headers, "TLS-Report-Domain") ||
                                       !names(&c->dkim.headers, "TLS-Report-Submitter")))
        yaml_notice(
            errors, conf_near(root, "dkim.headers"),
            "TLS-Report-Domain and TLS-Report-Submitter are missing: report mail must have them signed "
            "(RFC 8460 section 5.3)");
}

void conf_check_tlsrpt(struct conf *c, const struct yaml_node *root, struct yaml_errors *errors)
{
    bool contact = check_address(c->tlsrpt.contact, "tlsrpt.contact", root, errors);
    bool from = check_address(c->tlsrpt.from, "tlsrpt.from", root, errors);

    check_address(c->tlsrpt.receive, "tlsrpt.receive", root, errors);
    if (contact && from && !same_domain(c->tlsrpt.contact, c->tlsrpt.from))
        yaml_error(errors, conf_near(root, "tlsrpt.from"), "it must be at the domain of tlsrpt.contact, %s",
                   c->tlsrpt.contact);
    if (contact && !c->tlsrpt.from)
        c->tlsrpt.from = mem_strdup(c->tlsrpt.contact);
    if (!c->tlsrpt.enabled)
        return;
    if (!c->tlsrpt.contact || !c->tlsrpt.organization)
        yaml_error(errors, conf_near(root, "tlsrpt.enabled"),
                   "reports must say who sends them: '%s' is missing",
                   c->tlsrpt.contact ? "tlsrpt.organization" : "tlsrpt.contact");
    else if (contact)
        check_signature(c, root, errors);
}

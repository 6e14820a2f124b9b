#include "engine/conf_check.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/dane/probe.h"
#include "engine/net/tls.h"
#include "engine/net/tls_server.h"
#include "engine/privileges.h"
#include "policy/domain.h"

/* ---- listeners ---- */

bool conf_listener_admits_all(const struct conf_listener *l)
{
    struct ip ip;
    uint16_t port;

    return (l->auth == LISTENER_AUTH_OPTIONAL || l->auth == LISTENER_AUTH_NONE) &&
           l->trusted_networks.count == 0 && l->address &&
           ip_parse_port(bytes_of(l->address), 0, &ip, &port) && ip_is_loopback(&ip);
}

struct listener_check {
    struct conf_listener *l;
    const struct yaml_node *root;
    size_t index;
    struct yaml_errors *errors;
    struct ip ip; /* family 0: the address is wrong */
    uint16_t port;
};

static const struct yaml_node *near(const struct listener_check *k, const char *name)
{
    return conf_near(k->root, "listeners.%zu.%s", k->index, name);
}

static bool is_given(const struct listener_check *k, const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "listeners.%zu.%s", k->index, name);
    return conf_where(k->root, path) != NULL;
}

static void check_address(struct listener_check *k)
{
    if (!k->l->address) /* missing, or no text: complained about before */
        return;
    if (!ip_parse_port(bytes_of(k->l->address), 0, &k->ip, &k->port)) {
        k->ip.family = 0;
        yaml_error(k->errors, near(k, "address"),
                   "expected an address and a port, like 0.0.0.0:587 or [::]:465, found '%s'", k->l->address);
    }
}

static void check_networks(const struct listener_check *k)
{
    bool open_to_world = k->ip.family && !ip_is_loopback(&k->ip);

    for (size_t i = 0; i < k->l->trusted_networks.count; i++) {
        const char *text = k->l->trusted_networks.items[i];
        const struct yaml_node *at = conf_near(k->root, "listeners.%zu.trusted_networks.%zu", k->index, i);
        struct ip_net net;
        if (!ip_net_parse(bytes_of(text), &net))
            yaml_error(k->errors, at, "expected a network like 10.0.0.0/8 or 2001:db8::/32, found '%s'",
                       text);
        else if (net.prefix == 0 && open_to_world)
            yaml_error(k->errors, at, "'%s' trusts the whole world: that would be an open relay", text);
    }
}

static void check_auth(const struct listener_check *k)
{
    const struct conf_listener *l = k->l;
    bool loopback = k->ip.family && ip_is_loopback(&k->ip);
    bool alone = l->trusted_networks.count == 0;

    if (l->auth == LISTENER_AUTH_NONE && alone && k->ip.family && !loopback)
        yaml_error(k->errors, near(k, "auth"),
                   "auth: none on %s without trusted_networks would be an open relay: name the networks, or "
                   "listen on "
                   "a loopback address",
                   l->address);
    if (l->tls == LISTENER_TLS_NONE && l->auth != LISTENER_AUTH_NONE && alone && !l->auth_without_tls &&
        !conf_listener_admits_all(l))
        yaml_error(k->errors, near(k, "auth"),
                   "nobody could submit here: AUTH is offered inside TLS only, and there is neither TLS nor "
                   "a network in "
                   "trusted_networks");
    if (!l->auth_without_tls)
        return;
    if (k->ip.family && !loopback)
        yaml_error(k->errors, near(k, "auth_without_tls"),
                   "auth_without_tls would send passwords in clear over a network: allowed on a loopback "
                   "address only");
    if (l->auth == LISTENER_AUTH_NONE || l->tls == LISTENER_TLS_IMPLICIT)
        yaml_error(k->errors, near(k, "auth_without_tls"), "auth_without_tls has no meaning with %s",
                   l->auth == LISTENER_AUTH_NONE ? "auth: none" : "tls: implicit");
    else if (l->require_tls)
        yaml_error(k->errors, near(k, "auth_without_tls"),
                   "auth_without_tls needs require_tls: false beside it");
}

static void check_listener_tls(const struct listener_check *k)
{
    struct conf_listener *l = k->l;

    if (l->tls == LISTENER_TLS_NONE) {
        if (l->require_tls && is_given(k, "require_tls"))
            yaml_error(k->errors, near(k, "require_tls"), "require_tls: true contradicts tls: none");
        if (l->certificate || l->key)
            yaml_error(k->errors, near(k, l->certificate ? "certificate" : "key"),
                       "a certificate has no meaning with tls: none");
        if (l->client_certificates)
            yaml_error(k->errors, near(k, "client_certificates"),
                       "client certificates have no meaning with tls: none");
        if (l->min_version || l->priority)
            yaml_error(k->errors, near(k, l->min_version ? "min_version" : "priority"),
                       "%s has no meaning with tls: none", l->min_version ? "min_version" : "priority");
        l->require_tls = false;
    }
    if (!l->certificate != !l->key)
        yaml_error(k->errors, near(k, l->certificate ? "certificate" : "key"),
                   "'%s' is missing: they go together", l->certificate ? "key" : "certificate");
}

static void check_client_certificates(const struct listener_check *k)
{
    const struct conf_listener *l = k->l;

    if (l->client_ca && !l->client_certificates)
        yaml_error(
            k->errors, near(k, "client_ca"),
            "client_ca has no meaning with client_certificates: off; request or require asks for them");
    if (l->auth == LISTENER_AUTH_CERTIFICATE && !l->client_certificates && l->tls != LISTENER_TLS_NONE)
        yaml_error(k->errors, near(k, "auth"),
                   "auth: certificate needs client_certificates: request or require beside it");
    if (l->client_certificates == TLS_CLIENT_CERTIFICATES_REQUIRE && !l->require_tls &&
        l->tls == LISTENER_TLS_STARTTLS)
        yaml_error(k->errors, near(k, "client_certificates"),
                   "client_certificates: require needs require_tls: true: in clear there are none");
}

static void check_priority(const struct yaml_node *at, const char *priority, struct yaml_errors *errors)
{
    const char *bad_from = NULL;

    if (priority && !tls_priority_is_valid(priority, &bad_from))
        yaml_error(errors, at, "GnuTLS does not understand this from '%s' on",
                   bad_from ? bad_from : priority);
}

static void check_listeners(struct conf *c, const struct yaml_node *root, struct yaml_errors *errors)
{
    struct listener_check checks[64]; /* the table's maximum */
    struct conf_listener *listeners = c->listeners.items;
    struct ip api_ip = {0};
    uint16_t api_port = 0;

    if (c->api.listen && !ip_parse_port(bytes_of(c->api.listen), 0, &api_ip, &api_port))
        api_ip.family = 0; /* check_api complains */
    for (size_t i = 0; i < c->listeners.count; i++) {
        struct listener_check *k = &checks[i];
        *k = (struct listener_check){&listeners[i], root, i, errors, {0}, 0};
        check_address(k);
        check_networks(k);
        check_listener_tls(k);
        check_auth(k);
        check_client_certificates(k);
        check_priority(near(k, "priority"), k->l->priority, errors);
        for (size_t j = 0; j < i && k->ip.family; j++)
            if (checks[j].port == k->port && ip_eq(&checks[j].ip, &k->ip))
                yaml_error(errors, near(k, "address"), "%s is listened on twice", k->l->address);
        if (k->ip.family && api_ip.family && api_port == k->port && ip_eq(&api_ip, &k->ip))
            yaml_error(errors, near(k, "address"), "%s is api.listen too", k->l->address);
    }
}

static void add_default_listener(struct conf *c)
{
    struct conf_listener *l = MEM_NEW(struct conf_listener);

    conf_defaults(conf_listener_keys, l);
    l->address = mem_strdup("0.0.0.0:587");
    mem_free(c->listeners.items);
    c->listeners = (struct conf_tables){l, 1};
}

/* ---- names and addresses ---- */

static void check_host_name(struct conf *c, const struct yaml_node *root, struct yaml_errors *errors)
{
    char name[DOMAIN_MAX_BYTES + 1];

    if (!c->host_name)
        return;
    if (domain_is_literal(bytes_of(c->host_name)) || domain_normalise(bytes_of(c->host_name), name) != OK) {
        yaml_error(errors, conf_near(root, "host_name"),
                   "expected a host name like mail.example.com, found '%s'", c->host_name);
        return;
    }
    mem_free(c->host_name);
    c->host_name = mem_strdup(name); /* A-labels: it is said in EHLO */
}

static bool is_mailbox(struct bytes address)
{
    struct bytes domain = domain_of_address(address);
    char name[DOMAIN_MAX_BYTES + 1];

    if (domain.len == 0 || address.len < domain.len + 2 || address.len - domain.len - 1 > 64)
        return false;
    for (size_t i = 0; i < address.len; i++)
        if (address.at[i] <= ' ' || address.at[i] >= 0x7f || strchr("<>()[]\\,;:\"", address.at[i]))
            return false;
    return bytes_find(address, '@') == address.len - domain.len - 1 && domain_normalise(domain, name) == OK;
}

static void check_trusted(const struct conf *c, const struct yaml_node *root, struct yaml_errors *errors)
{
    struct dnssec_question question;

    for (size_t i = 0; i < c->dns.trusted.count; i++) {
        struct ip_net net;
        if (!ip_net_parse(bytes_of(c->dns.trusted.items[i]), &net))
            yaml_error(errors, conf_near(root, "dns.trusted.%zu", i),
                       "expected an address or a network like 10.0.0.0/24, found '%s'",
                       c->dns.trusted.items[i]);
        else if (net.prefix == 0)
            yaml_error(errors, conf_near(root, "dns.trusted.%zu", i), "'%s' is everybody: name the resolvers",
                       c->dns.trusted.items[i]);
    }
    if (!dnssec_question_parse(c->dns.validation_probe, &question))
        yaml_error(errors, conf_near(root, "dns.validation_probe"),
                   "expected a name, and perhaps a type after a blank, like 'example.com MX', found '%s'",
                   c->dns.validation_probe);
}

static void check_dns(const struct conf *c, const struct yaml_node *root, struct yaml_errors *errors)
{
    for (size_t i = 0; i < c->dns.servers.count; i++) {
        struct ip ip;
        uint16_t port;
        if (!ip_parse_port(bytes_of(c->dns.servers.items[i]), 53, &ip, &port) || ip_is_unusable(&ip))
            yaml_error(errors, conf_near(root, "dns.servers.%zu", i),
                       "expected the address of a DNS server, like 127.0.0.1 or [::1]:5353, found '%s'",
                       c->dns.servers.items[i]);
    }
    check_trusted(c, root, errors);
    if (c->dns.timeout_ms > c->dns.total_timeout_ms)
        yaml_error(errors,
                   conf_near(root, conf_where(root, "dns.timeout") ? "dns.timeout" : "dns.total_timeout"),
                   "dns.timeout is longer than dns.total_timeout");
}

static void check_api(struct conf *c, const struct yaml_node *root, struct yaml_errors *errors)
{
    struct ip ip;
    uint16_t port;

    if (!c->api.socket && c->data_dir) {
        BUF_LOCAL(path);
        buf_putf(&path, "%s/hayauma.sock", c->data_dir);
        c->api.socket = buf_take(&path);
    }
    if (c->api.socket && strlen(c->api.socket) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        yaml_error(errors, conf_near(root, conf_where(root, "api.socket") ? "api.socket" : "data_dir"),
                   "the path of the API socket, %s, is longer than the %zu octets that the system allows",
                   c->api.socket, sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
    if (!c->api.listen)
        return;
    if (!ip_parse_port(bytes_of(c->api.listen), 0, &ip, &port))
        yaml_error(errors, conf_near(root, "api.listen"),
                   "expected an address and a port, like 127.0.0.1:8025, found '%s'", c->api.listen);
    else if (!ip_is_loopback(&ip))
        yaml_error(errors, conf_near(root, "api.listen"),
                   "api.listen takes a loopback address only: it asks nobody who they are");
}

/* The listeners that a certificate names must be there, and its names must be names. */
static void check_certificate(const struct conf *c, const struct conf_certificate *one, size_t at,
                              const struct yaml_node *root, struct yaml_errors *errors)
{
    const struct conf_listener *listeners = c->listeners.items;
    char name[DOMAIN_MAX_BYTES + 1];

    for (size_t i = 0; i < one->listeners.count; i++) {
        bool known = false;
        for (size_t j = 0; j < c->listeners.count; j++)
            known |= listeners[j].address && strcmp(listeners[j].address, one->listeners.items[i]) == 0;
        if (!known)
            yaml_error(errors, conf_near(root, "tls.certificates.%zu.listeners.%zu", at, i),
                       "no listener has the address '%s'", one->listeners.items[i]);
    }
    for (size_t i = 0; i < one->names.count; i++) {
        struct bytes text = bytes_of(one->names.items[i]);
        if (domain_normalise(bytes_skip(text, bytes_starts(text, BYTES("*.")) ? 2 : 0), name) != OK)
            yaml_error(errors, conf_near(root, "tls.certificates.%zu.names.%zu", at, i),
                       "expected a host name, or one that begins with *., found '%s'", one->names.items[i]);
    }
}

static void check_tls(const struct conf *c, const struct yaml_node *root, struct yaml_errors *errors)
{
    const struct conf_certificate *more = c->tls.certificates.items;

    if (!c->tls.certificate != !c->tls.key)
        yaml_error(errors, conf_near(root, c->tls.certificate ? "tls.certificate" : "tls.key"),
                   "'%s' is missing: they go together", c->tls.certificate ? "tls.key" : "tls.certificate");
    check_priority(conf_near(root, "tls.priority"), c->tls.priority, errors);
    for (size_t i = 0; i < c->tls.certificates.count; i++)
        check_certificate(c, &more[i], i, root, errors);
}

void conf_check(struct conf *c, const struct yaml_node *root, struct yaml_errors *errors)
{
    if (!c->data_dir)
        yaml_error(errors, conf_near(root, "data_dir"), "a data folder is needed");
    if (c->group && !c->user)
        yaml_error(errors, conf_near(root, "group"), "'user' is missing: they go together");
    check_host_name(c, root, errors);
    check_listeners(c, root, errors);
    if (c->listeners.count == 0 && !conf_where(root, "listeners.0"))
        add_default_listener(c);
    check_tls(c, root, errors);
    check_dns(c, root, errors);
    conf_check_dkim(c, root, errors);
    conf_check_tlsrpt(c, root, errors);
    check_api(c, root, errors);
    if (c->postmaster && !is_mailbox(bytes_of(c->postmaster)))
        yaml_error(errors, conf_near(root, "postmaster"),
                   "expected an address like postmaster@example.com, found '%s'", c->postmaster);
}

/* ---- this host ---- */

static void check_readable(const struct conf *c, const char *path, const struct yaml_node *at,
                           struct yaml_errors *errors)
{
    struct stat st;
    int code;

    if (!path)
        return;
    if (stat(path, &st) != 0)
        yaml_error(errors, at, "%s cannot be read: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        yaml_error(errors, at, "%s is no file", path);
    else if ((code = privileges_readable(c, path)) != 0)
        yaml_error(errors, at, "%s cannot be read%s%s: %s", path, c->user ? " by user " : "",
                   c->user ? c->user : "", strerror(code));
}

/* What the two files hold, not only that they are there. */
static void check_pair(const struct conf *c, const char *certificate, const char *key,
                       const struct yaml_node *at_certificate, const struct yaml_node *at_key,
                       struct yaml_errors *errors)
{
    const struct tls_server_pair pair = {.certificate = certificate, .key = key};
    const struct tls_server_options options = {
        .pairs = &pair, .pair_count = 1, .min_version = TLS_VERSION_1_2};
    struct tls_server *loaded = NULL;
    size_t before = errors->errors;
    char *why = NULL;

    check_readable(c, certificate, at_certificate, errors);
    check_readable(c, key, at_key, errors);
    if (certificate && key && errors->errors == before && tls_server_load(&options, &loaded, &why) != OK)
        yaml_error(errors, at_certificate, "%s", why);
    tls_server_unref(loaded);
    mem_free(why);
}

static void check_dkim_readable(const struct conf *c, const struct yaml_node *root,
                                struct yaml_errors *errors)
{
    const struct conf_dkim_key *keys = c->dkim.keys.items;
    size_t before = errors->errors;

    conf_check_dkim_host(c, root, errors);
    for (size_t i = 0; i < c->dkim.keys.count && errors->errors == before; i++)
        check_readable(c, keys[i].key, conf_near(root, "dkim.keys.%zu.key", i), errors);
}

void conf_check_host(const struct conf *c, const struct yaml_node *root, struct yaml_errors *errors)
{
    const struct conf_listener *listeners = c->listeners.items;

    if (c->user && !getpwnam(c->user))
        yaml_error(errors, conf_near(root, "user"), "there is no user '%s' on this host", c->user);
    if (c->group && !getgrnam(c->group))
        yaml_error(errors, conf_near(root, "group"), "there is no group '%s' on this host", c->group);
    check_pair(c, c->tls.certificate, c->tls.key, conf_near(root, "tls.certificate"),
               conf_near(root, "tls.key"), errors);
    check_readable(c, c->tls.crl, conf_near(root, "tls.crl"), errors);
    const struct conf_certificate *more = c->tls.certificates.items;
    for (size_t i = 0; i < c->tls.certificates.count; i++)
        check_pair(c, more[i].certificate, more[i].key,
                   conf_near(root, "tls.certificates.%zu.certificate", i),
                   conf_near(root, "tls.certificates.%zu.key", i), errors);
    check_readable(c, c->policy_file, conf_near(root, "policy_file"), errors);
    check_readable(c, c->mta_sts.ca_file, conf_near(root, "mta_sts.ca_file"), errors);
    for (size_t i = 0; i < c->listeners.count; i++) {
        check_pair(c, listeners[i].certificate, listeners[i].key,
                   conf_near(root, "listeners.%zu.certificate", i), conf_near(root, "listeners.%zu.key", i),
                   errors);
        check_readable(c, listeners[i].client_ca, conf_near(root, "listeners.%zu.client_ca", i), errors);
    }
    check_dkim_readable(c, root, errors);
}

/* Keys as the API asks for them. */
#include "base/mem.h"
#include "engine/dkim/dkim.h"
#include "engine/engine_priv.h"
#include "policy/domain.h"

json_t *engine_dkim_keys(struct engine *e)
{
    return dkim_keys_json(e->shared.dkim);
}

json_t *engine_dkim_check(struct engine *e, const char *domain, const char *dns_server, char **why)
{
    const struct conf *conf = engine_conf(e);
    struct dns_config server = {
        .server_count = 1,
        .timeout_ms = (uint32_t)conf->dns.timeout_ms,
        .total_ms = (uint32_t)conf->dns.total_timeout_ms,
        .cache_entries = 1000,
        .ttl_max_s = 1,
    };
    char name[DOMAIN_MAX_BYTES + 1];

    if (domain && (domain_is_literal(bytes_of(domain)) || domain_normalise(bytes_of(domain), name) != OK)) {
        *why = text_format("'%s' is not a domain", domain);
        return NULL;
    }
    if (dns_server &&
        (!ip_parse_port(bytes_of(dns_server), 53, &server.servers[0].ip, &server.servers[0].port) ||
         ip_is_unusable(&server.servers[0].ip))) {
        *why = text_format("'%s' is not the address of a DNS server, like 192.0.2.53 or [2001:db8::53]:5353",
                           dns_server);
        return NULL;
    }
    json_t *list =
        dkim_check(e->shared.dkim, e->workers[0], domain ? name : NULL, dns_server ? &server : NULL, why);
    if (*why) {
        json_decref(list);
        return NULL;
    }
    return list;
}

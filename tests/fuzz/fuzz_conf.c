/* Any octets as the daemon's configuration file: refused with complaints, or a configuration that is no open
 * relay. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_listener(const struct conf_listener *l)
{
    struct ip ip;
    uint16_t port;

    assert(ip_parse_port(bytes_of(l->address), 0, &ip, &port));
    if (ip_is_loopback(&ip))
        return;
    assert(l->auth != LISTENER_AUTH_NONE || l->trusted_networks.count > 0);
    assert(!l->auth_without_tls);
    for (size_t i = 0; i < l->trusted_networks.count; i++) {
        struct ip_net net;
        assert(ip_net_parse(bytes_of(l->trusted_networks.items[i]), &net) && net.prefix > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct yaml_errors errors = {0};
    struct conf c;
    BUF_LOCAL(names);

    if (conf_load_text("/etc/fuzz.yaml", bytes_make(data, size), &c, &errors) == OK) {
        assert(errors.errors == 0 && c.listeners.count > 0 && c.data_dir && c.api.socket);
        for (size_t i = 0; i < c.listeners.count; i++)
            check_listener((const struct conf_listener *)c.listeners.items + i);
        assert(!conf_needs_restart(conf_keys, &c, &c, &names));
        conf_free(&c);
    } else {
        assert(errors.errors > 0 && errors.count > 0);
    }
    yaml_errors_fini(&errors);
    return 0;
}

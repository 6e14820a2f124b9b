#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/conf.h"

static char *complaints(const struct yaml_errors *e)
{
    struct buf all = {0};

    for (size_t i = 0; i < e->count; i++)
        buf_putf(&all, "%s\n", e->items[i].text);
    return buf_take(&all);
}

static struct conf load_well(const char *text)
{
    struct yaml_errors errors = {0};
    struct conf c;
    enum err e = conf_load_text("/etc/hayauma/h.yaml", bytes_of(text), &c, &errors);
    char *got = complaints(&errors);

    assert_string_equal(got, "");
    assert_int_equal(e, OK);
    mem_free(got);
    yaml_errors_fini(&errors);
    return c;
}

static void assert_refused(const char *text, const char *want)
{
    struct yaml_errors errors = {0};
    struct conf c;

    assert_int_equal(conf_load_text("h", bytes_of(text), &c, &errors), ERR_INVALID);
    char *got = complaints(&errors);
    assert_string_equal(got, want);
    mem_free(got);
    yaml_errors_fini(&errors);
}

/* ---- the table itself ---- */

static void assert_preset_is_allowed(const struct conf_key *k)
{
    struct yaml_errors errors = {.name = k->name};
    BUF_LOCAL(text);
    const char *dot = strrchr(k->name, '.');
    struct conf_key one[2] = {*k, {0}};
    void *into;

    if (!k->preset)
        return;
    one[0].name = dot ? dot + 1 : k->name;
    one[0].offset = 0;
    buf_putf(&text, "%s: \"%s\"\n", one[0].name, k->preset);
    assert_int_equal(conf_parse(one, "preset", buf_bytes(&text), &into, &errors), OK);
    conf_fini(one, &into);
}

static void every_preset_is_within_its_own_bounds_and_every_key_explained(void **state)
{
    static const struct conf_key *const tables[] = {conf_keys, conf_listener_keys};

    for (size_t t = 0; t < COUNT_OF(tables); t++) {
        for (const struct conf_key *k = tables[t]; k->name; k++) {
            assert_preset_is_allowed(k);
            assert_non_null(k->help);
            assert_true(strlen(k->help) > 20 && k->help[strlen(k->help) - 1] == '.');
            if (k->type == CONF_INT || k->type == CONF_DURATION || k->type == CONF_SIZE)
                assert_true(k->preset && k->min && k->max);
            if (k->type == CONF_BOOL || k->type == CONF_WORD)
                assert_non_null(k->preset);
        }
    }
}

static void no_two_keys_share_a_field_or_a_name(void **state)
{
    for (const struct conf_key *a = conf_keys; a->name; a++) {
        for (const struct conf_key *b = a + 1; b->name; b++) {
            assert_int_not_equal(a->offset, b->offset);
            assert_string_not_equal(a->name, b->name);
        }
    }
}

static void no_field_is_without_a_key(void **state)
{
    uint64_t words[sizeof(struct conf) / 8], untouched = 0xa5a5a5a5a5a5a5a5;
    struct conf *c = (struct conf *)words;

    for (size_t i = 0; i < COUNT_OF(words); i++)
        words[i] = untouched;
    conf_defaults(conf_keys, c);
    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (words[i] == untouched)
            fail_msg("the field at offset %zu has no preset", i * 8);
    conf_fini(conf_keys, c);
}

/* ---- values ---- */

static void an_empty_file_gives_a_safe_daemon(void **state)
{
    struct conf c = load_well("");
    const struct conf_listener *l = c.listeners.items;

    assert_string_equal(c.data_dir, "/var/lib/hayauma");
    assert_string_equal(c.api.socket, "/var/lib/hayauma/hayauma.sock");
    assert_null(c.api.listen);
    assert_int_equal(c.listeners.count, 1);
    assert_string_equal(l->address, "0.0.0.0:587");
    assert_int_equal(l->tls, LISTENER_TLS_STARTTLS);
    assert_int_equal(l->auth, LISTENER_AUTH_REQUIRED);
    assert_true(l->require_tls);
    assert_false(l->auth_without_tls);
    assert_int_equal(l->bare_newline, 0); /* reject */
    assert_int_equal(c.submission.message_bytes, 50 << 20);
    assert_int_equal(c.submission.recipients, 1000);
    assert_int_equal(c.submission.command_timeout_ms, 300000);
    assert_int_equal(c.submission.data_timeout_ms, 180000);
    assert_int_equal(c.delivery.connections, 2000);
    assert_int_equal(c.delivery.jobs_per_domain, 10000);
    assert_int_equal(c.delivery.jobs_in_memory, 50000);
    assert_int_equal(c.delivery.body_memory_bytes, 32 << 20);
    assert_true(c.delivery.ipv6 && c.delivery.pipelining_full);
    assert_int_equal(c.delivery.clear_fallback_after_ms, 300000);
    assert_int_equal(c.dns.timeout_ms, 1500);
    assert_int_equal(c.dns.total_timeout_ms, 15000);
    assert_int_equal(c.dns.cache_entries, 20000);
    assert_int_equal(c.store.segment_bytes, 8 << 20);
    assert_int_equal(c.store.wal_bytes, 64 << 20);
    assert_int_equal(c.store.reserve_bytes, 64 << 20);
    assert_int_equal(c.store.history_days, 90);
    assert_int_equal(c.drain_ms, 30000);
    assert_false(c.core_dumps);
    assert_int_equal(c.log.level, LOG_LEVEL_INFO);
    assert_int_equal(c.log.format, LOG_FORMAT_TEXT);
    assert_string_equal(c.tls.min_version, "1.2");
    conf_free(&c);
}

static void a_full_file_is_read(void **state)
{
    struct conf c = load_well("host_name: Mail.Example.COM\n"
                              "data_dir: data\n"
                              "workers: 2\n"
                              "listeners:\n"
                              "  - address: 127.0.0.1:2525\n"
                              "    tls: none\n"
                              "    auth: none\n"
                              "  - {address: \"[::]:465\", tls: implicit, certificate: a.pem, key: /k.pem}\n"
                              "  - address: 0.0.0.0:25\n"
                              "    auth: none\n"
                              "    trusted_networks: [10.0.0.0/8, \"2001:db8::/32\"]\n"
                              "    bare_newline: normalize\n"
                              "tls: {certificate: c.pem, key: k.pem, min_version: 1.3}\n"
                              "dns: {servers: [127.0.0.1, \"127.0.0.1:5353\", \"[::1]:53\"]}\n"
                              "api: {listen: \"127.0.0.1:8025\"}\n"
                              "log: {level: debug, format: json}\n"
                              "postmaster: post.master+x@example.com\n");
    const struct conf_listener *l = c.listeners.items;

    assert_string_equal(c.host_name, "mail.example.com");
    assert_string_equal(c.data_dir, "/etc/hayauma/data");
    assert_string_equal(c.api.socket, "/etc/hayauma/data/hayauma.sock");
    assert_int_equal(c.listeners.count, 3);
    assert_false(l[0].require_tls);
    assert_int_equal(l[1].tls, LISTENER_TLS_IMPLICIT);
    assert_string_equal(l[1].certificate, "/etc/hayauma/a.pem");
    assert_string_equal(l[1].key, "/k.pem");
    assert_int_equal(l[2].trusted_networks.count, 2);
    assert_int_equal(l[2].bare_newline, 1);
    assert_string_equal(c.tls.min_version, "1.3");
    assert_int_equal(c.dns.servers.count, 3);
    assert_int_equal(c.log.level, LOG_LEVEL_DEBUG);
    assert_int_equal(c.log.format, LOG_FORMAT_JSON);
    conf_free(&c);
}

static void what_does_not_go_together_is_refused_at_its_line(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"listeners: [{address: 0.0.0.0:25, auth: none}]\n",
         "h:1:41: auth: none on 0.0.0.0:25 without trusted_networks would be an open relay: name the "
         "networks, or "
         "listen on a loopback address\n"},
        {"listeners:\n  - auth: none\n    address: \"[::]:25\"\n    trusted_networks:\n      - 10.0.0.0/8\n"
         "      - ::/0\n      - 10.0.0.0/40\n",
         "h:6:9: '::/0' trusts the whole world: that would be an open relay\n"
         "h:7:9: expected a network like 10.0.0.0/8 or 2001:db8::/32, found '10.0.0.0/40'\n"},
        {"listeners: [{address: 0.0.0.0:25, trusted_networks: [0.0.0.0/0]}]\n",
         "h:1:54: '0.0.0.0/0' trusts the whole world: that would be an open relay\n"},
        {"listeners: [{address: 10.0.0.1:25, auth_without_tls: true, require_tls: false}]\n",
         "h:1:54: auth_without_tls would send passwords in clear over a network: allowed on a loopback "
         "address only\n"},
        {"listeners: [{address: 127.0.0.1:25, auth_without_tls: true}]\n",
         "h:1:55: auth_without_tls needs require_tls: false beside it\n"},
        {"listeners: [{address: 127.0.0.1:25, auth_without_tls: true, tls: implicit}]\n",
         "h:1:55: auth_without_tls has no meaning with tls: implicit\n"},
        {"listeners: [{address: 127.0.0.1:25, tls: none}]\n",
         "h:1:13: nobody could submit here: AUTH is offered inside TLS only, and there is neither TLS nor a "
         "network "
         "in trusted_networks\n"},
        {"listeners: [{address: 127.0.0.1:25, tls: none, auth: none, require_tls: true}]\n",
         "h:1:73: require_tls: true contradicts tls: none\n"},
        {"listeners: [{address: 127.0.0.1:25, tls: none, auth: none, certificate: c, key: k}]\n",
         "h:1:73: a certificate has no meaning with tls: none\n"},
        {"listeners: [{address: 127.0.0.1:25, key: k}]\n",
         "h:1:42: 'certificate' is missing: they go together\n"},
        {"listeners:\n  - address: 127.0.0.1:25\n  - address: 127.0.0.1:25\n",
         "h:3:14: 127.0.0.1:25 is listened on twice\n"},
        {"listeners: [{address: localhost:25}, {address: 127.0.0.1}, {address: \"::1:25\"}, {}]\n",
         "h:1:23: expected an address and a port, like 0.0.0.0:587 or [::]:465, found 'localhost:25'\n"
         "h:1:48: expected an address and a port, like 0.0.0.0:587 or [::]:465, found '127.0.0.1'\n"
         "h:1:70: expected an address and a port, like 0.0.0.0:587 or [::]:465, found '::1:25'\n"
         "h:1:81: 'address' is missing here\n"},
        {"listeners: [{address: 127.0.0.1:8025}]\napi: {listen: \"127.0.0.1:8025\"}\n",
         "h:1:23: 127.0.0.1:8025 is api.listen too\n"},
        {"api: {listen: \"0.0.0.0:8025\"}\n",
         "h:1:15: api.listen takes a loopback address only: it asks nobody who they are\n"},
        {"api: {listen: 8025}\n",
         "h:1:15: expected an address and a port, like 127.0.0.1:8025, found '8025'\n"},
        {"tls: {key: k.pem}\n", "h:1:12: 'tls.certificate' is missing: they go together\n"},
        {"tls: {certificate: c.pem}\n", "h:1:20: 'tls.key' is missing: they go together\n"},
        {"tls: {priority: \"NORMAL:+NONSENSE\"}\n",
         "h:1:17: GnuTLS does not understand this from '+NONSENSE' on\n"},
        {"dns: {servers: [127.0.0.1, dns.example, \"0.0.0.0\"]}\n",
         "h:1:28: expected the address of a DNS server, like 127.0.0.1 or [::1]:5353, found 'dns.example'\n"
         "h:1:41: expected the address of a DNS server, like 127.0.0.1 or [::1]:5353, found '0.0.0.0'\n"},
        {"dns:\n  timeout: 20s\n", "h:2:12: dns.timeout is longer than dns.total_timeout\n"},
        {"host_name: \"[127.0.0.1]\"\n",
         "h:1:12: expected a host name like mail.example.com, found '[127.0.0.1]'\n"},
        {"host_name: a b\n", "h:1:12: expected a host name like mail.example.com, found 'a b'\n"},
        {"postmaster: nobody\n", "h:1:13: expected an address like postmaster@example.com, found 'nobody'\n"},
        {"postmaster: \"<a@example.com>\"\n",
         "h:1:13: expected an address like postmaster@example.com, found '<a@example.com>'\n"},
        {"dkim: {keys: [{domain: \"a b\", selector: s, key: k}, {domain: \"[192.0.2.1]\", selector: s, key: "
         "k}]}\n",
         "h:1:24: expected a domain like example.com, found 'a b'\n"
         "h:1:62: expected a domain like example.com, found '[192.0.2.1]'\n"},
        {"dkim: {keys: [{domain: example.com, selector: \"a..b\", key: k}]}\n",
         "h:1:47: expected a selector like s2026 (letters, digits, '-', '_', '.'), found 'a..b'\n"},
        {"dkim: {headers: [Subject, \"X:Y\"], oversign: [DKIM-Signature]}\n",
         "h:1:27: expected the name of a header field, like Reply-To, found 'X:Y'\n"
         "h:1:46: expected the name of a header field, like Reply-To, found 'DKIM-Signature'\n"},
        {"dkim: {timestamp: false, expire: 30d}\n", "h:1:34: dkim.expire needs dkim.timestamp: true\n"},
        {"tlsrpt: {enabled: true}\n",
         "h:1:19: reports must say who sends them: 'tlsrpt.contact' is missing\n"},
        {"tlsrpt: {enabled: true, contact: tls@a.test}\n",
         "h:1:19: reports must say who sends them: 'tlsrpt.organization' is missing\n"},
        {"tlsrpt: {contact: nobody, receive: \"a b@c.test\"}\n",
         "h:1:19: expected a mail address like tls-reports@example.com, found 'nobody'\n"
         "h:1:36: expected a mail address like tls-reports@example.com, found 'a b@c.test'\n"},
        {"tlsrpt: {contact: tls@a.test, from: tls@b.test}\n",
         "h:1:37: it must be at the domain of tlsrpt.contact, tls@a.test\n"},
        {"group: mail\n", "h:1:8: 'user' is missing: they go together\n"},
        {"data_dir: \"\"\n", "h:1:11: a data folder is needed\n"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        assert_refused(cases[i].text, cases[i].want);
}

static void only_local_clients_ever_submit_without_auth_or_trust(void **state)
{
    static const struct {
        const char *listener;
        bool all;
    } cases[] = {
        {"address: 127.0.0.1:25, tls: none, auth: none", true},
        {"address: \"[::1]:25\", auth: optional", true},
        {"address: 127.0.0.1:25, tls: none, auth: optional", true},
        {"address: 127.0.0.1:25, auth: none, trusted_networks: [127.0.0.2]", false},
        {"address: 127.0.0.1:25, auth: required", false},
        {"address: 127.0.0.1:25", false},
        {"address: 0.0.0.0:25, auth: optional", false},
        {"address: 0.0.0.0:25, auth: none, trusted_networks: [127.0.0.1]", false},
        {"address: 192.0.2.1:25, auth: optional, trusted_networks: [10.0.0.0/8]", false},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(text);
        buf_putf(&text, "listeners: [{%s}]\n", cases[i].listener);
        struct conf c = load_well(buf_str(&text));
        assert_int_equal(conf_listener_admits_all(c.listeners.items), cases[i].all);
        conf_free(&c);
    }
}

static void mistakes_of_form_and_of_sense_come_together_in_order(void **state)
{
    assert_refused("postmaster: x\n"
                   "tls:\n"
                   "  key: k.pem\n"
                   "  min_versoin: 1.2\n"
                   "workers: many\n"
                   "listners: []\n"
                   "dns: {servers: [x]}\n",
                   "h:1:13: expected an address like postmaster@example.com, found 'x'\n"
                   "h:3:8: 'tls.certificate' is missing: they go together\n"
                   "h:4:3: unknown key 'min_versoin' (did you mean 'min_version'?)\n"
                   "h:5:10: expected a whole number from 0 to 256, found 'many'\n"
                   "h:6:1: unknown key 'listners' (did you mean 'listeners'?)\n"
                   "h:7:17: expected the address of a DNS server, like 127.0.0.1 or [::1]:5353, found 'x'\n");
}

static void a_socket_path_too_long_for_the_system_is_refused(void **state)
{
    BUF_LOCAL(text);
    struct yaml_errors errors = {0};
    struct conf c;

    buf_puts(&text, "data_dir: /");
    for (int i = 0; i < 100; i++)
        buf_putc(&text, 'd');
    assert_int_equal(conf_load_text("h", buf_bytes(&text), &c, &errors), ERR_INVALID);
    assert_int_equal(errors.errors, 1);
    assert_non_null(strstr(errors.items[0].text, "h:1:11: the path of the API socket"));
    yaml_errors_fini(&errors);
}

static void the_defaults_file_loads_to_the_defaults(void **state)
{
    BUF_LOCAL(dump);
    BUF_LOCAL(names);
    struct conf_key all[128];
    size_t count = 0;

    conf_dump_defaults(conf_keys, &dump);
    struct conf from_dump = load_well(buf_str(&dump)), from_nothing = load_well("");
    for (const struct conf_key *k = conf_keys; k->name; k++) {
        assert_in_range(count, 0, COUNT_OF(all) - 2);
        all[count] = *k;
        all[count++].reload = CONF_RESTART;
    }
    all[count] = (struct conf_key){0};
    conf_needs_restart(all, &from_nothing, &from_dump, &names);
    assert_string_equal(buf_str(&names), "");
    conf_free(&from_dump);
    conf_free(&from_nothing);
}

/* ---- files ---- */

static void write_file(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void files_and_users_must_be_there(void **state)
{
    char dir[] = "/tmp/hayauma-conf-XXXXXX";
    struct yaml_errors errors = {0};
    struct conf c;

    assert_non_null(mkdtemp(dir));
    BUF_LOCAL(file);
    buf_putf(&file, "%s/h.yaml", dir);
    BUF_LOCAL(cert);
    buf_putf(&cert, "%s/c.pem", dir);
    write_file(buf_str(&file),
               "user: no-such-user-here\npolicy_file: /\ntls: {certificate: c.pem, key: k.pem}\n", 0600);
    write_file(buf_str(&cert), "", 0600);
    assert_int_equal(conf_load(buf_str(&file), &c, &errors), ERR_INVALID);
    assert_int_equal(errors.errors, 3);
    assert_non_null(strstr(errors.items[0].text, ":1:7: there is no user 'no-such-user-here' on this host"));
    assert_non_null(strstr(errors.items[1].text, ":2:14: / is no file"));
    assert_non_null(strstr(errors.items[2].text, ":3:32: /tmp/"));
    assert_non_null(strstr(errors.items[2].text, "k.pem cannot be read: No such file or directory"));
    yaml_errors_fini(&errors);

    write_file(buf_str(&file), "workers: 1\n", 0600);
    assert_int_equal(conf_load(buf_str(&file), &c, &errors), OK);
    assert_int_equal(c.workers, 1);
    conf_free(&c);

    errors.name = NULL;
    assert_int_equal(conf_load("/nowhere/h.yaml", &c, &errors), ERR_NOT_FOUND);
    assert_string_equal(errors.items[0].text, "/nowhere/h.yaml: cannot be read: No such file or directory");
    yaml_errors_fini(&errors);
    errors.name = NULL;
    assert_int_not_equal(conf_load(dir, &c, &errors), OK);
    assert_non_null(strstr(errors.items[0].text, "cannot be read: Is a directory"));
    yaml_errors_fini(&errors);
    unlink(buf_str(&file));
    unlink(buf_str(&cert));
    rmdir(dir);
}

static void a_file_beyond_the_cap_is_not_read_to_its_end(void **state)
{
    struct yaml_errors errors = {0};
    struct conf c;

    assert_int_equal(conf_load("/dev/zero", &c, &errors), ERR_INVALID);
    assert_string_equal(errors.items[0].text, "/dev/zero: larger than 4 MiB");
    yaml_errors_fini(&errors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_preset_is_within_its_own_bounds_and_every_key_explained),
        cmocka_unit_test(no_two_keys_share_a_field_or_a_name),
        cmocka_unit_test(no_field_is_without_a_key),
        cmocka_unit_test(an_empty_file_gives_a_safe_daemon),
        cmocka_unit_test(a_full_file_is_read),
        cmocka_unit_test(what_does_not_go_together_is_refused_at_its_line),
        cmocka_unit_test(only_local_clients_ever_submit_without_auth_or_trust),
        cmocka_unit_test(mistakes_of_form_and_of_sense_come_together_in_order),
        cmocka_unit_test(a_socket_path_too_long_for_the_system_is_refused),
        cmocka_unit_test(the_defaults_file_loads_to_the_defaults),
        cmocka_unit_test(files_and_users_must_be_there),
        cmocka_unit_test(a_file_beyond_the_cap_is_not_read_to_its_end),
    };

    return cmocka_run_group_tests_name("engine/conf", tests, NULL, NULL);
}

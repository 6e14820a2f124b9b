#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "policy/policy.h"

/* The document, or NULL; the complaints stay in `errors`. */
static struct policy *parse(const char *text, struct yaml_errors *errors)
{
    struct policy *p = NULL;

    *errors = (struct yaml_errors){0};
    (void)!policy_parse("doc", bytes_of(text), 7, &p, errors);
    return p;
}

static struct policy *parse_good(const char *text)
{
    struct yaml_errors errors;
    struct policy *p = parse(text, &errors);

    if (!p)
        fail_msg("%s", errors.count ? errors.items[0].text : "no complaint");
    yaml_errors_fini(&errors);
    return p;
}

static bool has_complaint(const struct yaml_errors *e, const char *text, bool is_notice)
{
    for (size_t i = 0; i < e->count; i++)
        if (e->items[i].is_notice == is_notice && strstr(e->items[i].text, text))
            return true;
    return false;
}

static void print_complaints(const struct yaml_errors *e)
{
    for (size_t i = 0; i < e->count; i++)
        print_error("%s\n", e->items[i].text);
}

/* A fingerprint but for its last digit, or its last two. */
#define HEX62 "00112233445566778899aabbccddeeff00112233445566778899aabbccddee"
#define HEX63 HEX62 "f"
#define PIN_UPPER                                                                                            \
    "AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89"
#define PIN_LOWER   "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
#define GROUP(keys) "groups:\n- name: a\n  match: [a.example]\n" keys "- name: default\n"

struct wrong {
    const char *text, *complaint;
};

static void expect_refusals(const struct wrong *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct yaml_errors errors;
        struct policy *p = parse(rows[i].text, &errors);

        if (p || !has_complaint(&errors, rows[i].complaint, false)) {
            print_complaints(&errors);
            fail_msg("row %zu: no error '%s'", i, rows[i].complaint);
        }
        yaml_errors_fini(&errors);
    }
}

static void a_wrong_document_is_refused_with_place_and_reason(void **state)
{
    static const struct wrong rows[] = {
        /* YAML and the outermost level */
        {"groups: [", "doc:"},
        {"- a\n", "doc:1:1: expected a map with 'groups'"},
        {"group:\n- name: default\n", "doc:1:1: unknown key 'group' (did you mean 'groups'?)"},
        {"default: {}\n", "did you mean 'defaults'?"},
        {"groups: yes\n", "doc:1:9: expected a list of groups"},
        {"groups: {name: default}\n", "doc:1:9: expected a list of groups"},
        {"defaults: [1]\n", "doc:1:11: 'defaults' holds keys"},
        {"groups:\n- default\n", "doc:2:3: expected a group: a map"},
        /* keys */
        {GROUP("  startls: on\n"), "doc:4:3: unknown key 'startls' (did you mean 'starttls'?)"},
        {GROUP("  limits: {conections: 1}\n"),
         "doc:4:12: unknown key 'limits.conections' (did you mean 'connections'?)"},
        {GROUP("  limits.connections: 1\n"), "doc:4:3: unknown key 'limits.connections'"},
        {GROUP("  route: {auth: {usr: x}}\n"), "unknown key 'route.auth.usr' (did you mean 'user'?)"},
        {GROUP("  xyzzy: 1\n"), "doc:4:3: unknown key 'xyzzy'"},
        {GROUP("  limits: 5\n"), "doc:4:11: 'limits' holds keys of its own: expected a map"},
        {GROUP("  limits: {}\n"), "doc:4:11: 'limits' is empty"},
        {GROUP("  starttls: on\n  starttls: off\n"), "doc:5:3: key 'starttls' stands twice"},
        {"defaults: {name: x}\n", "doc:1:12: 'name' belongs to a group"},
        {"defaults: {match: [x.example]}\n", "'match' belongs to a group"},
        {"defaults: {mx: [x.example]}\n", "'mx' belongs to a group"},
        {"defaults: {startls: on}\n", "did you mean 'starttls'?"},
        {"defaults: {starttls: always}\n", "expected off, on, require or verify"},
        /* groups */
        {"groups:\n- match: [a.example]\n", "doc:2:3: the group has no 'name'"},
        {"groups:\n- name: a\n", "doc:2:3: group 'a' matches nothing"},
        {"groups:\n- name: a\n  match: []\n", "doc:2:3: group 'a' matches nothing: its lists are empty"},
        {"groups:\n- name: default\n- name: default\n",
         "doc:3:9: there is a group 'default' already, in line 2"},
        {"groups:\n- name: a b\n  match: [x.example]\n", "doc:2:9: a group's name has letters"},
        {"groups:\n- name: ''\n  match: [x.example]\n", "doc:2:9: expected the name of the group"},
        {"groups:\n- name: [x]\n  match: [x.example]\n",
         "doc:2:9: expected the name of the group, found a list"},
    };

    expect_refusals(rows, COUNT_OF(rows));
}

static void a_wrong_pattern_is_refused(void **state)
{
    static const struct wrong rows[] = {
        {GROUP("- name: b\n  match: [b.example, A.example]\n"),
         "doc:5:22: 'A.example' is in group 'a' already, in line 3"},
        {"groups:\n- {name: a, mx: [.x.example]}\n- {name: b, mx: [.X.example.]}\n",
         "'.X.example.' is in group 'a' already, in line 2: a host"},
        {GROUP("- name: b\n  match: ['*.b.example']\n"),
         "doc:5:11: '*.b.example' is not a pattern (did you mean '.b.example'"},
        {GROUP("- name: b\n  match: [x@b.example]\n"), "is an address: groups match domains"},
        {GROUP("- name: b\n  match: ['b example']\n"), "doc:5:11: 'b example' is not a domain"},
        {GROUP("- name: b\n  match: [..b.example]\n"), "is not a domain"},
        {GROUP("- name: b\n  match: ['.']\n"), "'.' is not a domain"},
        {GROUP("- name: b\n  match: ['.[192.0.2.1]']\n"), "is not a domain"},
        {GROUP("- name: b\n  match: {b.example: 1}\n"), "doc:5:10: expected a list of domains, found a map"},
        {GROUP("- name: b\n  match: [[b.example]]\n"), "doc:5:11: expected a domain, found a list"},
        {GROUP("- name: b\n  match: [ok.example, ~, '']\n"), "doc:5:26: expected a domain, found nothing"},
    };

    expect_refusals(rows, COUNT_OF(rows));
}

static void a_wrong_word_is_refused_with_what_would_be_right(void **state)
{
    static const struct wrong rows[] = {
        {GROUP("  starttls: requier\n"),
         "doc:4:13: expected off, on, require or verify, found 'requier' (did you mean 'require'?)"},
        {GROUP("  starttls: dane\n"), "doc:4:13: expected off, on, require or verify"},
        {GROUP("  starttls: 1\n"), "doc:4:13: expected off"},
        {GROUP("  clear_after_tls_failure: always\n"), "doc:4:28: expected never, later or now"},
        {GROUP("  dane: on\n"), "doc:4:9: expected off, try or only"},
        {GROUP("  mta_sts: only\n"), "doc:4:12: expected off or try"},
        {GROUP("  on_downgrade: wait\n"), "doc:4:17: expected deliver or hold"},
        {GROUP("  starttls: off\n  dane: only\n"), "doc:5:9: 'dane: only' contradicts 'starttls: off'"},
        {"defaults: {dane: only}\ngroups:\n- name: default\n  starttls: off\n",
         "doc:3:3: 'dane: only' contradicts"},
        {"defaults: {dane: only, starttls: off}\n", "doc: 'dane: only' contradicts 'starttls: off'"},
        {GROUP("  dane: only\n  route: {smarthost: [relay.example, '[::1]:25']}\n"),
         "doc:4:9: 'dane: only' can never be met by the smart host ::1"},
    };

    expect_refusals(rows, COUNT_OF(rows));
}

static void wrong_settings_of_tls_are_refused(void **state)
{
    static const struct wrong rows[] = {
        /* TLS: versions */
        {GROUP("  tls: {min_version: 1}\n"), "expected 1.0, 1.1, 1.2 or 1.3, found '1'"},
        {GROUP("  tls: {min_version: TLS1.2}\n"), "expected 1.0, 1.1, 1.2 or 1.3"},
        {GROUP("  starttls: require\n  tls: {min_version: 1.1}\n"),
         "doc:5:22: TLS 1.0 and 1.1 are not what 'starttls: require' promises"},
        {GROUP("  tls: {min_version: 1.0}\n  starttls: verify\n"),
         "doc:4:22: TLS 1.0 and 1.1 are not what 'starttls: verify' promises"},
        {GROUP("  tls: {min_version: 1.0}\n  dane: only\n"), "are not what 'dane: only' promises"},
        {"defaults: {tls: {min_version: 1.1}}\ngroups: [{name: default}]\n",
         "doc:1:31: TLS 1.0 and 1.1 are allowed group by group"},
        /* TLS: names */
        {GROUP("  tls: {match: nexthp}\n"),
         "expected mx or nexthop, found 'nexthp' (did you mean 'nexthop'?)"},
        {GROUP("  tls: {match: ''}\n"), "expected mx or nexthop"},
        {GROUP("  tls: {match: []}\n"), "doc:4:16: expected 1 to 256 names"},
        {GROUP("  tls: {match: {a.example: 1}}\n"), "expected the name of a certificate, found a map"},
        {GROUP("  tls: {match: ['*.a.example']}\n"),
         "did you mean '.a.example', for exactly one more label?"},
        {GROUP("  tls: {match: [a.example, 'a b']}\n"), "doc:4:28: 'a b' is not a name"},
        {GROUP("  tls: {match: ['.']}\n"), "'.' is not a name"},
        {GROUP("  tls: {match: ['[192.0.2.1]']}\n"), "is not a name"},
        {GROUP("  tls: {match: ['.[192.0.2.1]']}\n"), "is not a name"},
        {GROUP("  tls: {match: [a.example, '']}\n"), "expected the name of a certificate, found nothing"},
        /* TLS: the certificate shown */
        {GROUP("  tls: {certificate: c.pem, key: /k.pem}\n"), "expected an absolute path, found 'c.pem'"},
        {GROUP("  tls: {certificate: /c.pem}\n"),
         "doc:4:22: 'tls.certificate' and 'tls.key' need each other"},
        {GROUP("  tls: {key: /k.pem}\n"), "doc:4:14: 'tls.certificate' and 'tls.key' need each other"},
        {"defaults: {tls: {key: /k.pem}}\n", "need each other"},
        /* TLS: fingerprints */
        {GROUP("  tls: {pins: []}\n"), "expected 1 to 64 fingerprints"},
        {GROUP("  tls: {pins: abc}\n"), "doc:4:15: 'abc' is not a fingerprint"},
        {GROUP("  tls: {pins: [" HEX63 "]}\n"), "is not a fingerprint"},
        {GROUP("  tls: {pins: [" HEX63 "00]}\n"), "is not a fingerprint"},
        {GROUP("  tls: {pins: [" HEX63 "g]}\n"), "is not a fingerprint"},
        {GROUP("  tls: {pins: ['sha1:" HEX63 "0']}\n"), "is not a fingerprint"},
        {GROUP("  tls: {pins: [':" HEX63 "0']}\n"), "is not a fingerprint"},
        {GROUP("  tls: {pins: ['" HEX63 "0:']}\n"), "is not a fingerprint"},
        {GROUP("  tls: {pins: ['a:a" HEX62 "']}\n"), "is not a fingerprint"},
        {GROUP("  tls: {pins: ['aa::" HEX62 "']}\n"), "is not a fingerprint"},
        {GROUP("  tls: {pins: ['spki:']}\n"), "'spki:' is not a fingerprint"},
        {GROUP("  tls: {pins: {a: b}}\n"), "expected a fingerprint, found a map"},
    };

    expect_refusals(rows, COUNT_OF(rows));
}

static void wrong_numbers_times_and_shares_are_refused(void **state)
{
    static const struct wrong rows[] = {
        {GROUP("  port: 0\n"), "doc:4:9: expected a whole number from 1 to 65535, found '0'"},
        {GROUP("  port: 65536\n"), "from 1 to 65535"},
        {GROUP("  limits: {connections: 0}\n"), "from 1 to 100000"},
        {GROUP("  limits: {connections: -1}\n"), "from 1 to 100000"},
        {GROUP("  limits: {connections: many}\n"), "found 'many'"},
        {GROUP("  limits: {connections_per_host: 0}\n"), "from 1 to 100000"},
        {GROUP("  limits: {messages_per_connection: 1000001}\n"), "from 0 to 1000000"},
        {GROUP("  limits: {recipients_per_transaction: 0}\n"), "from 1 to 10000"},
        {GROUP("  limits: {messages_per_second: -1}\n"), "expected a number from 0 to 1000000"},
        {GROUP("  limits: {messages_per_second: nan}\n"), "expected a number from 0 to 1000000"},
        {GROUP("  retry: {schedule: 5m}\n"), "doc:4:21: expected a list of 1 to 16 waits"},
        {GROUP("  retry: {schedule: []}\n"), "expected a list of 1 to 16 waits"},
        {GROUP("  retry: {schedule: [1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s]}\n"),
         "1 to 16 waits"},
        {GROUP("  retry: {schedule: [5m, soon]}\n"), "doc:4:26: expected a duration"},
        {GROUP("  retry: {schedule: [0]}\n"), "from 1s to 7d"},
        {GROUP("  retry: {schedule: [8d]}\n"), "from 1s to 7d"},
        {GROUP("  retry: {jitter: 101%}\n"), "doc:4:19: expected a share from 0% to 100%"},
        {GROUP("  retry: {jitter: '%'}\n"), "expected a share"},
        {GROUP("  retry: {jitter: [1]}\n"), "expected a share"},
        {GROUP("  retry: {lifetime: 0}\n"), "from 1s to 60d"},
        {GROUP("  retry: {lifetime: 1500ms}\n"), "expected whole seconds"},
        {GROUP("  retry: {delay_notice: 61d}\n"), "from 0 to 60d"},
        {GROUP("  timeouts: {connect: 0}\n"), "from 100ms to 1h"},
        {GROUP("  timeouts: {dot: 2h}\n"), "from 100ms to 1h"},
    };

    expect_refusals(rows, COUNT_OF(rows));
}

static void wrong_texts_and_routes_are_refused(void **state)
{
    static const struct wrong rows[] = {
        /* texts */
        {GROUP("  ehlo_name: not a name\n"), "doc:4:14: 'not a name' is not a host name"},
        {GROUP("  source: {ipv4: '::1'}\n"), "'::1' is not an IPv4 address"},
        {GROUP("  source: {ipv6: 192.0.2.1}\n"), "'192.0.2.1' is not an IPv6 address"},
        {GROUP("  source: {ipv4: host.example}\n"), "is not an IPv4 address"},
        {GROUP("  tls: {ca_file: ca.pem}\n"), "expected an absolute path, found 'ca.pem'"},
        {GROUP("  tls: {priority: ''}\n"), "expected a text, found nothing"},
        {GROUP("  tls: {priority: \"a\\nb\"}\n"), "found a control character"},
        /* routes */
        {GROUP("  route: smarthost\n"), "doc:4:10: expected mx, found 'smarthost'"},
        {GROUP("  route: [x.example]\n"), "doc:4:10: 'route' holds keys of its own"},
        {GROUP("  route: {implicit_tls: true}\n"), "doc:4:10: the route has no 'smarthost'"},
        {GROUP("  route: {smarthost: []}\n"), "expected 1 to 64 smart hosts"},
        {GROUP("  route: {smarthost: ['x.example:0']}\n"), "is not a smart host"},
        {GROUP("  route: {smarthost: ['x.example:65536']}\n"), "is not a smart host"},
        {GROUP("  route: {smarthost: ['x.example:']}\n"), "is not a smart host"},
        {GROUP("  route: {smarthost: ['x.example:smtp']}\n"), "is not a smart host"},
        {GROUP("  route: {smarthost: ['::1']}\n"), "is not a smart host"},
        {GROUP("  route: {smarthost: ['[::1']}\n"), "is not a smart host"},
        {GROUP("  route: {smarthost: ['[::1]x']}\n"), "is not a smart host"},
        {GROUP("  route: {smarthost: ['[x.example]']}\n"), "is not a smart host"},
        {GROUP("  route: {smarthost: x.example, implicit_tls: maybe}\n"), "expected true or false"},
        {GROUP("  route: {smarthost: x.example, auth: {}}\n"), "'route.auth' is empty"},
        {GROUP("  route: {smarthost: x.example, auth: {user: u}}\n"),
         "needs both 'user' and 'password_file'"},
        {GROUP("  route: {smarthost: x.example, auth: {password_file: /p}}\n"), "needs both"},
        {GROUP("  route: {smarthost: x.example, auth: {user: u, password_file: p}}\n"),
         "expected an absolute path"},
        {GROUP("  starttls: off\n  route: {smarthost: x.example, auth: {user: u, password_file: /p}}\n"),
         "credentials never go in clear"},
    };

    expect_refusals(rows, COUNT_OF(rows));
}

struct noticed {
    const char *text, *notice; /* NULL: none at all */
};

static void expect_notices(const struct noticed *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct yaml_errors errors;
        struct policy *p = parse(rows[i].text, &errors);

        if (!p || (rows[i].notice ? !has_complaint(&errors, rows[i].notice, true) : errors.count > 0)) {
            print_complaints(&errors);
            fail_msg("row %zu: notice '%s'", i, rows[i].notice ? rows[i].notice : "(none)");
        }
        yaml_errors_fini(&errors);
        policy_unref(p);
    }
}

static void what_has_no_effect_is_noticed_and_accepted(void **state)
{
    static const struct noticed rows[] = {
        {"groups:\n- name: default\n", NULL},
        {"", "there is no group 'default'"},
        {"groups:\n", "there is no group 'default'"},
        {"groups:\n- name: a\n  match: [a.example]\n", "there is no group 'default'"},
        {"defaults:\ngroups:\n- name: default\n", NULL},
        {GROUP(""), NULL},
        {"groups:\n- {name: default, match: [x.example, X.EXAMPLE]}\n",
         "doc:2:38: note: 'X.EXAMPLE' stands twice in this group"},
        {GROUP("  starttls: require\n  clear_after_tls_failure: now\n"),
         "doc:5:28: note: 'clear_after_tls_failure' has no effect at 'starttls: require'"},
        {GROUP("  starttls: off\n  clear_after_tls_failure: later\n"), "has no effect at 'starttls: off'"},
        {GROUP("  starttls: require\n  clear_after_tls_failure: never\n"), NULL},
        {GROUP("  starttls: on\n  clear_after_tls_failure: now\n"), NULL},
        {GROUP("  starttls: verify\n"), NULL},
    };

    expect_notices(rows, COUNT_OF(rows));
}

static void settings_of_tls_without_effect_are_noticed(void **state)
{
    static const struct noticed rows[] = {
        /* discovery */
        {GROUP("  dane: try\n  mta_sts: try\n"), NULL},
        {GROUP("  dane: only\n"), NULL},
        {GROUP("  starttls: off\n  mta_sts: try\n"),
         "doc:4:13: note: 'starttls: off' turns discovery off: 'dane' and 'mta_sts' have no effect"},
        {GROUP("  starttls: off\n  dane: try\n"), "turns discovery off"},
        {GROUP("  dane: try\n  route: {smarthost: relay.example}\n"), NULL},
        {GROUP("  dane: try\n  route: {smarthost: [relay.example, 192.0.2.1]}\n"),
         "there is no DANE for the smart host 192.0.2.1"},
        {GROUP("  mta_sts: try\n  route: {smarthost: '[::1]'}\n"),
         "there is no MTA-STS for the smart host ::1"},
        {GROUP("  starttls: verify\n  route: {smarthost: 192.0.2.1}\n"),
         "the certificate of 192.0.2.1 must name that address"},
        {GROUP("  starttls: verify\n  tls: {match: relay.example}\n  route: {smarthost: 192.0.2.1}\n"), NULL},
        {GROUP("  starttls: verify\n  tls: {pins: " HEX63 "0}\n  route: {smarthost: 192.0.2.1}\n"), NULL},
        /* certificates */
        {GROUP("  tls: {match: nexthop}\n"), "'tls.match' decides nothing at 'starttls: on'"},
        {GROUP("  starttls: verify\n  tls: {match: mx}\n"), NULL},
        {GROUP("  starttls: verify\n  tls: {match: [mx.a.example, MX.A.example.]}\n"),
         "'MX.A.example.' stands twice"},
        {GROUP("  starttls: verify\n  tls: {match: nexthop}\n"), "few MX hosts have a certificate"},
        {GROUP("  starttls: verify\n  tls: {match: nexthop}\n  route: {smarthost: relay.example}\n"),
         "the next hop is the smart host itself"},
        {GROUP("  starttls: verify\n  tls: {match: a.example, pins: " HEX63 "0}\n"),
         "'tls.pins' stand in place of the name"},
        {GROUP("  starttls: verify\n  tls: {pins: " HEX63 "0, ca_file: /ca.pem}\n"),
         "'tls.ca_file' decides nothing"},
        {GROUP("  starttls: verify\n  tls: {pins: " HEX63 "0}\n"), NULL},
        {GROUP("  starttls: require\n  tls: {pins: " HEX63 "0}\n"),
         "doc:5:15: note: 'tls.pins' has no effect at 'starttls: require', only at 'verify'"},
        {GROUP("  starttls: verify\n  dane: try\n  tls: {pins: " HEX63 "0}\n"),
         "where TLSA records are found they decide"},
        {GROUP("  tls: {certificate: /c.pem, key: /k.pem}\n"), NULL},
        {GROUP("  starttls: off\n  tls: {certificate: /c.pem, key: /k.pem}\n"),
         "the client certificate has no effect at 'starttls: off'"},
        {"defaults: {tls: {certificate: /c.pem, key: /k.pem}}\ngroups: [{name: default, starttls: off}]\n",
         NULL},
        /* versions */
        {GROUP("  tls: {min_version: 1.0}\n"), NULL},
        {GROUP("  starttls: require\n  tls: {min_version: 1.3}\n"), NULL},
        {GROUP("  starttls: off\n  tls: {min_version: 1.3}\n"),
         "'tls.min_version' has no effect at 'starttls: off'"},
        {GROUP("  tls: {min_version: 1.3, priority: NORMAL}\n"), "'tls.priority' says the versions"},
        /* downgrades */
        {GROUP("  on_downgrade: hold\n"), NULL},
        {GROUP("  starttls: require\n  on_downgrade: hold\n"), NULL},
        {GROUP("  starttls: off\n  on_downgrade: hold\n"), "'on_downgrade' has no effect at 'starttls: off'"},
        {GROUP("  starttls: verify\n  on_downgrade: hold\n"), "nothing less is ever used"},
        {GROUP("  dane: only\n  on_downgrade: hold\n"), "nothing less is ever used"},
        {GROUP("  starttls: off\n  on_downgrade: deliver\n"), NULL},
        {GROUP("  retry: {lifetime: 1h, delay_notice: 2h}\n"), "no delay notice is ever sent"},
        {GROUP("  retry: {lifetime: 1m}\n"), "there is only one attempt"},
        {GROUP("  route: {smarthost: x.example}\n  port: 26\n"), "the smart hosts have their own"},
        {GROUP("  route: {smarthost: x.example, auth: {user: u, password_file: /p}}\n"),
         "certificate is not verified"},
        {GROUP("  starttls: verify\n  route: {smarthost: x.example, auth: {user: u, password_file: /p}}\n"),
         NULL},
        {GROUP("  starttls: off\n  route: {smarthost: x.example, implicit_tls: true, auth: {user: u, "
               "password_file: /p}}\n"),
         "certificate is not verified"},
    };

    expect_notices(rows, COUNT_OF(rows));
}

static void names_and_fingerprints_of_certificates_are_kept_in_one_form(void **state)
{
    struct policy *p = parse_good(
        "defaults: {starttls: verify, tls: {match: [Mail.A.example., .例え.jp], min_version: 1.3}}\n"
        "groups:\n"
        "- {name: inherits, match: [a.example]}\n"
        "- {name: mx, match: [b.example], tls: {match: mx}}\n"
        "- {name: pinned, match: [c.example], tls: {match: one.example, pins: [\"" PIN_UPPER "\", "
        "\"SPKI:" HEX63 "0\"]}}\n"
        "- {name: default, dane: try, mta_sts: try, on_downgrade: hold, tls: {match: nexthop, min_version: "
        "1.2,"
        " certificate: /c.pem, key: /k.pem}}\n");
    const struct group *g = policy_group_by_name(p, "inherits");

    assert_int_equal(g->tls_match, NAME_LISTED);
    assert_int_equal(g->tls_name_count, 2);
    assert_string_equal(g->tls_names[0], "mail.a.example");
    assert_string_equal(g->tls_names[1], ".xn--r8jz45g.jp");
    assert_int_equal(g->tls_min_version, TLS_VERSION_1_3);
    assert_int_equal(g->on_downgrade, DOWNGRADE_DELIVER);
    g = policy_group_by_name(p, "mx");
    assert_int_equal(g->tls_match, NAME_MX);
    assert_int_equal(g->tls_name_count, 0);
    g = policy_group_by_name(p, "pinned");
    assert_int_equal(g->tls_match, NAME_LISTED);
    assert_int_equal(g->tls_name_count, 1);
    assert_string_equal(g->tls_names[0], "one.example");
    assert_int_equal(g->tls_pin_count, 2);
    assert_string_equal(g->tls_pins[0], PIN_LOWER);
    assert_string_equal(g->tls_pins[1], "spki:" HEX63 "0");
    g = policy_group_by_name(p, "default");
    assert_int_equal(g->tls_match, NAME_NEXTHOP);
    assert_int_equal(g->dane, DANE_TRY);
    assert_int_equal(g->mta_sts, STS_TRY);
    assert_int_equal(g->on_downgrade, DOWNGRADE_HOLD);
    assert_int_equal(g->tls_min_version, TLS_VERSION_1_2);
    assert_string_equal(g->tls_certificate, "/c.pem");
    assert_string_equal(g->tls_key, "/k.pem");
    policy_unref(p);
}

static void all_complaints_come_at_once_in_the_order_of_the_document(void **state)
{
    struct yaml_errors errors;
    struct policy *p = parse("defaults: {starttls: x}\n"
                             "groups:\n"
                             "- name: a\n"
                             "  port: 0\n"
                             "  ehlo_name: '?'\n"
                             "- name: a\n"
                             "  match: ['?']\n"
                             "grups: 1\n",
                             &errors);
    uint32_t lines[] = {0, 1, 3, 4, 5, 6, 7, 8}; /* the first is about the missing default */

    assert_null(p);
    if (errors.count != COUNT_OF(lines))
        print_complaints(&errors);
    assert_int_equal(errors.count, COUNT_OF(lines));
    assert_int_equal(errors.errors, COUNT_OF(lines) - 1);
    for (size_t i = 0; i < COUNT_OF(lines); i++)
        assert_int_equal(errors.items[i].line, lines[i]);
    yaml_errors_fini(&errors);
}

static void complaints_stay_valid_text_when_they_cut_a_long_value(void **state)
{
    static const char *const texts[] = {
        "groups:\n- name: a\n  match: ['!%s']\n",
        "groups:\n- name: a\n  match: ['!!%s']\n",
        "groups:\n- name: a\n  %s: 1\n",
        "groups:\n- name: a\n  x%s: 1\n",
        "groups:\n- name: a\n  ehlo_name: '%s!'\n",
        "groups:\n- name: a\n  ehlo_name: '!%s!'\n",
    };

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct buf text = {0}, accents = {0};
        struct yaml_errors errors;
        bool was_cut = false;

        for (size_t n = 0; n < 100; n++) /* two octets each: every second cut would split one */
            buf_puts(&accents, "\xc3\xa9");
        buf_putf(&text, texts[i], buf_str(&accents));
        assert_null(parse(buf_str(&text), &errors));
        for (size_t j = 0; j < errors.count; j++)
            for (const char *c = errors.items[j].text; *c; c++)
                if (*c == '\xc3') {
                    assert_int_equal((unsigned char)c[1], 0xa9);
                    was_cut = true;
                }
        assert_true(was_cut);
        yaml_errors_fini(&errors);
        buf_fini(&text);
        buf_fini(&accents);
    }
}

static void groups_lie_over_defaults_and_defaults_over_presets(void **state)
{
    struct policy *p = parse_good("defaults:\n"
                                  "  starttls: require\n"
                                  "  limits: {connections: 7, messages_per_second: 2.5}\n"
                                  "  retry: {schedule: [1m, 2m], jitter: 20}\n"
                                  "  timeouts: {connect: 5s}\n"
                                  "groups:\n"
                                  "- name: a\n"
                                  "  match: [a.example]\n"
                                  "  limits: {connections: 9}\n"
                                  "  retry: {lifetime: 2d}\n"
                                  "- name: default\n"
                                  "  starttls: off\n");
    const struct group *a = policy_group_by_name(p, "a"), *d = policy_group_by_name(p, "default");

    assert_int_equal(policy_version(p), 7);
    assert_int_equal(policy_group_count(p), 2);
    assert_ptr_equal(policy_group(p, 0), a);
    assert_ptr_equal(policy_group(p, 1), d);
    assert_null(policy_group(p, 2));
    assert_null(policy_group_by_name(p, "b"));
    assert_int_equal(a->index, 0);
    assert_int_equal(d->index, 1);
    assert_int_equal(a->line, 7);
    assert_int_equal(a->starttls, TLS_REQUIRE);
    assert_int_equal(d->starttls, TLS_OFF);
    assert_int_equal(a->limits.connections, 9);
    assert_int_equal(d->limits.connections, 7);
    assert_int_equal(a->limits.connections_per_host, 20);
    assert_true(a->limits.messages_per_second == 2.5);
    assert_int_equal(a->retry.steps, 2);
    assert_int_equal(a->retry.step_s[1], 120);
    assert_int_equal(a->retry.jitter_percent, 20);
    assert_int_equal(a->retry.lifetime_s, 2 * 86400);
    assert_int_equal(d->retry.lifetime_s, 5 * 86400);
    assert_int_equal(a->timeouts.connect_ms, 5000);
    policy_unref(p);
}

static void the_presets_are_those_that_are_documented(void **state)
{
    struct policy *p = parse_good("groups:\n- name: default\n");
    const struct group *g = policy_group_by_name(p, "default");

    assert_int_equal(g->starttls, TLS_ON);
    assert_int_equal(g->clear_after_tls_failure, CLEAR_LATER);
    assert_int_equal(g->dane, DANE_OFF);
    assert_int_equal(g->mta_sts, STS_OFF);
    assert_int_equal(g->on_downgrade, DOWNGRADE_DELIVER);
    assert_int_equal(g->tls_match, NAME_MX);
    assert_int_equal(g->tls_name_count, 0);
    assert_int_equal(g->tls_min_version, TLS_VERSION_1_2);
    assert_null(g->tls_priority);
    assert_null(g->ca_file);
    assert_null(g->tls_certificate);
    assert_null(g->tls_key);
    assert_int_equal(g->tls_pin_count, 0);
    assert_int_equal(g->route, ROUTE_MX);
    assert_int_equal(g->host_count, 0);
    assert_int_equal(g->port, 25);
    assert_null(g->auth_user);
    assert_null(g->auth_password_file);
    assert_int_equal(g->limits.connections, 50);
    assert_int_equal(g->limits.connections_per_host, 20);
    assert_int_equal(g->limits.messages_per_connection, 500);
    assert_int_equal(g->limits.recipients_per_transaction, 100);
    assert_true(g->limits.messages_per_second == 0);
    assert_memory_equal(&g->retry, &retry_default, sizeof(retry_default));
    assert_null(g->ehlo_name);
    assert_null(g->source_v4);
    assert_null(g->source_v6);
    assert_int_equal(g->timeouts.connect_ms, 30000);
    assert_int_equal(g->timeouts.greeting_ms, 300000);
    assert_int_equal(g->timeouts.ehlo_ms, 300000);
    assert_int_equal(g->timeouts.mail_ms, 300000);
    assert_int_equal(g->timeouts.rcpt_ms, 300000);
    assert_int_equal(g->timeouts.data_ms, 120000);
    assert_int_equal(g->timeouts.block_ms, 180000);
    assert_int_equal(g->timeouts.dot_ms, 600000);
    assert_int_equal(g->timeouts.idle_ms, 15000);
    policy_unref(p);
}

static void a_smart_host_route_is_read_in_full(void **state)
{
    struct policy *p = parse_good(
        "groups:\n"
        "- name: default\n"
        "  starttls: verify\n"
        "  route:\n"
        "    smarthost: [Relay.Example, '[2001:DB8::1]:26', 192.0.2.1:2525, '[::1]', 例え.jp:587]\n"
        "    auth: {user: campaigns, password_file: /etc/secret}\n"
        "- name: tls\n"
        "  match: [tls.example]\n"
        "  route: {implicit_tls: true, smarthost: relay.example}\n");
    static const struct {
        const char *host;
        uint16_t port;
    } want[] = {{"relay.example", 25},
                {"2001:db8::1", 26},
                {"192.0.2.1", 2525},
                {"::1", 25},
                {"xn--r8jz45g.jp", 587}};
    const struct group *g = policy_group_by_name(p, "default"), *t = policy_group_by_name(p, "tls");

    assert_int_equal(g->route, ROUTE_SMARTHOST);
    assert_int_equal(g->host_count, COUNT_OF(want));
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        assert_string_equal(g->hosts[i].host, want[i].host);
        assert_int_equal(g->hosts[i].port, want[i].port);
        assert_false(g->hosts[i].implicit_tls);
    }
    assert_string_equal(g->auth_user, "campaigns");
    assert_string_equal(g->auth_password_file, "/etc/secret");
    assert_int_equal(t->hosts[0].port, 465);
    assert_true(t->hosts[0].implicit_tls);
    policy_unref(p);
}

static void a_route_replaces_an_inherited_one_as_a_whole(void **state)
{
    struct policy *p = parse_good(
        "defaults:\n"
        "  starttls: verify\n"
        "  route: {smarthost: relay.example, implicit_tls: true, auth: {user: u, password_file: /p}}\n"
        "groups:\n"
        "- {name: inherits, match: [a.example]}\n"
        "- {name: other, match: [b.example], route: {smarthost: other.example}}\n"
        "- {name: default, route: mx}\n");
    const struct group *inherits = policy_group_by_name(p, "inherits"),
                       *other = policy_group_by_name(p, "other"), *d = policy_group_by_name(p, "default");

    assert_string_equal(inherits->hosts[0].host, "relay.example");
    assert_int_equal(inherits->hosts[0].port, 465);
    assert_string_equal(inherits->auth_user, "u");
    assert_string_equal(other->hosts[0].host, "other.example");
    assert_int_equal(other->hosts[0].port, 25);
    assert_false(other->hosts[0].implicit_tls);
    assert_null(other->auth_user); /* the password of one host never goes to another */
    assert_int_equal(d->route, ROUTE_MX);
    assert_int_equal(d->host_count, 0);
    assert_null(d->auth_user);
    policy_unref(p);
}

static void the_text_is_kept_to_the_octet(void **state)
{
    static const char text[] = "# a comment\ngroups:\n- name: default # another\n\n\n";
    struct policy *p = parse_good(text);

    assert_true(bytes_eq(policy_text(p), bytes_of(text)));
    policy_unref(p);
}

static void the_document_of_a_new_installation_says_what_the_presets_say(void **state)
{
    struct yaml_errors errors;
    struct policy *p = parse(policy_default_text, &errors), *plain;
    struct buf a = {0}, b = {0};

    assert_non_null(p);
    assert_int_equal(errors.count, 0);
    plain = parse_good("groups:\n- name: default\n");
    policy_dump_group(policy_group(p, 0), &a);
    policy_dump_group(policy_group(plain, 0), &b);
    assert_string_equal(buf_str(&a), buf_str(&b));
    buf_fini(&a);
    buf_fini(&b);
    policy_unref(p);
    policy_unref(plain);
}

/* Its examples are comments; with the marks taken away they are a document too. */
static void the_examples_of_the_first_document_are_good_ones(void **state)
{
    struct buf text = {0};
    struct yaml_errors errors;
    struct policy *p;
    struct bytes rest = bytes_of(policy_default_text);

    while (rest.len > 0) {
        struct bytes line = bytes_first(rest, bytes_find(rest, '\n') + 1);
        size_t mark = bytes_find(line, '#');
        bool is_key = mark + 1 < line.len && line.at[mark + 1] != ' ' && line.at[mark + 1] != '\n';
        bool continues = mark + 2 < line.len && line.at[mark + 1] == ' ' && line.at[mark + 2] == ' ';

        rest = bytes_skip(rest, line.len);
        if (is_key || continues) {
            buf_put(&text, bytes_first(line, mark));
            buf_put(&text, bytes_skip(line, mark + 1));
        } else {
            buf_put(&text, line);
        }
    }
    p = parse(buf_str(&text), &errors);
    if (!p || errors.count > 0)
        print_complaints(&errors);
    assert_non_null(p);
    assert_int_equal(errors.count, 0);
    assert_int_equal(policy_group_count(p), 4);
    yaml_errors_fini(&errors);
    buf_fini(&text);
    policy_unref(p);
}

static void a_dumped_group_reads_back_as_the_same_group(void **state)
{
    static const char *const groups[] = {
        "  starttls: on\n",
        "  starttls: verify\n  tls: {priority: \"A:\\\"B\\\\C\", ca_file: '/a b#c: d'}\n"
        "  route: {smarthost: [r.example, '[::1]:26'], implicit_tls: true, auth: {user: 'off', "
        "password_file: /p}}\n",
        "  starttls: off\n  limits: {connections: 1, messages_per_second: 0.25}\n  source: {ipv4: 192.0.2.1, "
        "ipv6: '2001:db8::1'}\n"
        "  retry: {schedule: [90s, 25h], jitter: 0, lifetime: 36h, delay_notice: 0}\n  ehlo_name: "
        "out.example\n",
        "  timeouts: {connect: 1500ms, idle: 0}\n  port: 2525\n  clear_after_tls_failure: never\n",
        "  dane: only\n  mta_sts: try\n  on_downgrade: hold\n  tls: {match: nexthop, min_version: 1.3}\n",
        "  starttls: verify\n  tls: {match: [mx, .a.example, 例え.jp], certificate: /c, key: /k,"
        " pins: ['SPKI:" HEX63 "0', '" PIN_UPPER "']}\n",
        "  tls: {min_version: 1.0}\n",
    };

    for (size_t i = 0; i < COUNT_OF(groups); i++) {
        struct buf text = {0}, dump = {0}, nested = {0}, again = {0};
        struct policy *p, *q;

        buf_putf(&text, "groups:\n- name: default\n%s", groups[i]);
        p = parse_good(buf_str(&text));
        policy_dump_group(policy_group(p, 0), &dump);
        buf_puts(&nested, "groups:\n- ");
        for (struct bytes rest = buf_bytes(&dump); rest.len > 0;) {
            struct bytes line = bytes_first(rest, bytes_find(rest, '\n') + 1);

            rest = bytes_skip(rest, line.len);
            buf_put(&nested, line);
            if (rest.len > 0)
                buf_puts(&nested, "  ");
        }
        q = parse_good(buf_str(&nested));
        policy_dump_group(policy_group(q, 0), &again);
        assert_string_equal(buf_str(&dump), buf_str(&again));
        assert_null(strstr(buf_str(&dump), "\nmatch:")); /* `tls.match` is indented */
        buf_fini(&text);
        buf_fini(&dump);
        buf_fini(&nested);
        buf_fini(&again);
        policy_unref(p);
        policy_unref(q);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_document_is_refused_with_place_and_reason),
        cmocka_unit_test(a_wrong_pattern_is_refused),
        cmocka_unit_test(a_wrong_word_is_refused_with_what_would_be_right),
        cmocka_unit_test(wrong_settings_of_tls_are_refused),
        cmocka_unit_test(wrong_numbers_times_and_shares_are_refused),
        cmocka_unit_test(wrong_texts_and_routes_are_refused),
        cmocka_unit_test(what_has_no_effect_is_noticed_and_accepted),
        cmocka_unit_test(settings_of_tls_without_effect_are_noticed),
        cmocka_unit_test(names_and_fingerprints_of_certificates_are_kept_in_one_form),
        cmocka_unit_test(all_complaints_come_at_once_in_the_order_of_the_document),
        cmocka_unit_test(complaints_stay_valid_text_when_they_cut_a_long_value),
        cmocka_unit_test(groups_lie_over_defaults_and_defaults_over_presets),
        cmocka_unit_test(the_presets_are_those_that_are_documented),
        cmocka_unit_test(a_smart_host_route_is_read_in_full),
        cmocka_unit_test(a_route_replaces_an_inherited_one_as_a_whole),
        cmocka_unit_test(the_text_is_kept_to_the_octet),
        cmocka_unit_test(the_document_of_a_new_installation_says_what_the_presets_say),
        cmocka_unit_test(the_examples_of_the_first_document_are_good_ones),
        cmocka_unit_test(a_dumped_group_reads_back_as_the_same_group),
    };

    return cmocka_run_group_tests_name("policy/policy_parse", tests, NULL, NULL);
}

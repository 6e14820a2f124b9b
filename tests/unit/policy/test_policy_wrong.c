/* Documents that are refused, and what is noticed in those that are not. */
#include "tests/unit/policy/parse_help.h"

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
        {GROUP("  limits: ''\n"), "doc:4:11: 'limits' holds keys of its own: expected a map"},
        {GROUP("  limits: []\n"), "doc:4:11: 'limits' holds keys of its own: expected a map"},
        {GROUP("  adaptive: ''\n"), "doc:4:13: expected off or on, found an empty text"},
        {GROUP("  limits: {connections: }\n"),
         "doc:4:25: expected a whole number from 1 to 100000, found nothing"},
        {GROUP("  starttls: on\n  starttls: off\n"), "doc:5:3: key 'starttls' stands twice"},
        {"defaults: {name: x}\n", "doc:1:12: 'name' belongs to a group"},
        {"defaults: {match: [x.example]}\n", "'match' belongs to a group"},
        {"defaults: {mx: [x.example]}\n", "'mx' belongs to a group"},
        {"defaults: {startls: on}\n", "did you mean 'starttls'?"},
        {"defaults: {starttls: always}\n", "expected off, on, require or verify"},
        /* groups */
        {"groups:\n- match: [a.example]\n", "doc:2:3: the group has no 'name'"},
        {"groups:\n- name: a\n", "doc:2:3: group 'a' matches nothing"},
        {"groups:\n- name: a\n  match:\n", "doc:2:3: group 'a' matches nothing: give it"},
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
        {GROUP("  limits: {connection_rate: 5}\n"), "expected 5/s, 30/m, 100/h or 0, found '5'"},
        {GROUP("  limits: {connection_rate: 5/d}\n"), "expected 5/s, 30/m, 100/h or 0, found '5/d'"},
        {GROUP("  limits: {connection_rate: x/s}\n"), "expected a number from 0 to 1000000"},
        {GROUP("  limits: {connection_rate: [5/s]}\n"), "expected 5/s, 30/m, 100/h or 0"},
        {GROUP("  limits: {burst: 0}\n"), "from 1 to 1000000"},
        {GROUP("  pipelining: fast\n"), "auto, off, commands or full"},
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

static void a_dash_with_nothing_behind_it_is_refused_with_its_place(void **state)
{
    static const struct wrong rows[] = {
        {"groups:\n- name: default\n-\n", "doc:3:2: expected a group: a map that begins with 'name: …'"},
        {"replies:\n-\n", "doc:2:2: expected a rule: a map like {code: 421, suspend: 10m}"},
        {"sources:\n-\n", "doc:2:2: expected a pool: a map that begins with 'name: …'"},
        {"sources:\n- name: a\n  addresses:\n  -\n", "doc:4:4: expected an address, found nothing"},
        {"sources:\n- name: a\n  addresses: [192.0.2.1]\n  warmup:\n    steps:\n    -\n",
         "doc:6:6: expected a whole number from 1 to 1000000000, found nothing"},
        {"include:\n-\n", "doc:2:2: expected a name like receivers"},
        {GROUP("  replies:\n  -\n"), "doc:5:4: expected a rule: a map like {code: 421, suspend: 10m}"},
        {GROUP("  replies:\n  - code: 421\n    suspend: 1m\n    stage:\n    -\n"),
         "doc:8:6: expected connect, greeting, ehlo"},
        {GROUP("  mx:\n  -\n"), "doc:5:4: expected a domain, found nothing"},
        {GROUP("  retry:\n    schedule:\n    - 1m\n    -\n"), "doc:7:6: expected a duration like"},
        {GROUP("  tls:\n    pins:\n    -\n"), "doc:6:6: expected a fingerprint, found nothing"},
        {GROUP("  tls:\n    match:\n    -\n"), "doc:6:6: expected the name of a certificate, found nothing"},
        {GROUP("  route:\n    smarthost:\n    -\n"),
         "doc:6:6: expected a smart host like relay.example.com:587"},
        /* Lists that must have an item. */
        {GROUP("  retry: {schedule: []}\n"), "doc:4:21: expected a list of 1 to 16 waits, like [5m, 10m"},
        {GROUP("  tls: {pins: []}\n"), "doc:4:15: expected 1 to 64 fingerprints"},
        {GROUP("  tls: {match: []}\n"), "doc:4:16: expected 1 to 256 names"},
    };

    expect_refusals(rows, COUNT_OF(rows));
}

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
        {GROUP("  tls: {min_version: 1.0}\n  dane: try\n"), "then also do where DANE or MTA-STS ask"},
        {GROUP("  tls: {min_version: 1.1}\n  mta_sts: try\n"), "then also do where DANE or MTA-STS ask"},
        {GROUP("  tls: {min_version: 1.2}\n  mta_sts: try\n"), NULL},
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
        {GROUP("  starttls: on\n  route: {smarthost: x.example, auth: {user: u, password_file: /p}}\n"),
         "certificate is not verified"},
        {GROUP("  starttls: verify\n  route: {smarthost: x.example, auth: {user: u, password_file: /p}}\n"),
         NULL},
        {GROUP("  route: {smarthost: x.example, auth: {user: u, password_file: /p}}\n"), NULL},
        {GROUP("  starttls: off\n  route: {smarthost: x.example, implicit_tls: true, auth: {user: u, "
               "password_file: /p}}\n"),
         "certificate is not verified"},
    };

    expect_notices(rows, COUNT_OF(rows));
}

#define POOLS(pool) "sources:\n" pool "groups:\n- name: default\n"

static void wrong_pools_of_source_addresses_are_refused(void **state)
{
    static const struct wrong rows[] = {
        {"sources: {a: 1}\n", "doc:1:10: expected a list of pools"},
        {POOLS("- marketing\n"), "doc:2:3: expected a pool: a map"},
        {POOLS("- {addresses: [192.0.2.1]}\n"), "doc:2:3: the pool has no 'name'"},
        {POOLS("- {name: a b, addresses: [192.0.2.1]}\n"), "doc:2:10: a pool's name has letters"},
        {POOLS("- {name: none, addresses: [192.0.2.1]}\n"), "is not 'none'"},
        {POOLS("- {name: a, addresses: [192.0.2.1]}\n- {name: a, addresses: [192.0.2.1]}\n"),
         "doc:3:10: there is a pool 'a' already, in line 2"},
        {POOLS("- {name: a}\n"), "doc:2:3: pool 'a' has no 'addresses'"},
        {POOLS("- {name: a, addresses: []}\n"), "expected a list of 1 to 256 source addresses"},
        {POOLS("- {name: a, adresses: []}\n"),
         "unknown key 'adresses' of a pool (did you mean 'addresses'?)"},
        {POOLS("- {name: a, addresses: [192.0.2.256]}\n"), "'192.0.2.256' is not an IP address"},
        {POOLS("- {name: a, addresses: [0.0.0.0]}\n"), "mail cannot leave from '0.0.0.0'"},
        {POOLS("- {name: a, addresses: ['fe80::1']}\n"), "'fe80::1': it is of one link only"},
        {POOLS("- {name: a, addresses: [192.0.2.1, {address: 192.0.2.1}]}\n"), "192.0.2.1 stands twice"},
        {POOLS("- {name: a, addresses: [{weight: 2}]}\n"), "the source address has no 'address'"},
        {POOLS("- {name: a, addresses: [{address: 192.0.2.1, weight: 0}]}\n"), "doc:2:"},
        {POOLS("- {name: a, addresses: [{address: 192.0.2.1, wieght: 1}]}\n"), "did you mean 'weight'?"},
        {POOLS("- {name: a, addresses: [{address: 192.0.2.1, ehlo_name: -x-}]}\n"), "is not a host name"},
        {POOLS("- {name: a, addresses: [192.0.2.1], warmup: {per: day}}\n"), "the warm-up has no 'steps'"},
        {POOLS("- {name: a, addresses: [192.0.2.1], warmup: {steps: []}}\n"),
         "expected a list of 1 to 64 numbers"},
        {POOLS("- {name: a, addresses: [192.0.2.1], warmup: {steps: [0]}}\n"), "doc:2:"},
        {POOLS("- {name: a, addresses: [192.0.2.1], warmup: {steps: [5], per: month}}\n"),
         "expected day, hour, or"},
        {POOLS("- {name: a, addresses: [192.0.2.1], warmup: {steps: [5], start: 2026-02-30}}\n"),
         "expected a day, like 2026-12-01"},
        {POOLS("- {name: a, addresses: [192.0.2.1], warmup: {steps: [5], max_refused: 101%}}\n"),
         "0% to 100%"},
        {POOLS("- {name: a, addresses: [{address: 192.0.2.1, warmup: on}]}\n"), "expected off, or a ladder"},
        {GROUP("  source: {pool: b}\n"), "doc:4:18: there is no pool 'b' in 'sources'"},
        {"sources:\n- {name: p, addresses: [192.0.2.1]}\n" GROUP("  source: {pool: p, ipv4: 192.0.2.2}\n"),
         "'source.pool' stands in place of 'source.ipv4'"},
    };
    static const struct noticed noticed[] = {
        {POOLS("- {name: a, addresses: [192.0.2.1]}\n"), "no group sends from pool 'a'"},
    };
    (void)state;

    expect_refusals(rows, COUNT_OF(rows));
    expect_notices(noticed, COUNT_OF(noticed));
}

static void a_pool_is_inherited_and_what_a_group_gives_takes_its_place(void **state)
{
    struct policy *p = parse_good(
        "sources:\n"
        "- name: big\n"
        "  addresses: [192.0.2.1, {address: '2001:db8::1', ehlo_name: Out.Example, weight: 3, warmup: off}]\n"
        "  warmup: {steps: [50, 100], per: 12h, start: 2026-12-01, max_refused: 7%, on_refused: back, "
        "min_attempts: 9}\n"
        "defaults: {source: {pool: big}}\n"
        "groups:\n"
        "- {name: a, match: [a.example], source: {ipv4: 192.0.2.9}}\n"
        "- {name: b, match: [b.example], source: {pool: none}}\n"
        "- {name: default}\n");
    const struct group *a = policy_group_by_name(p, "a"), *b = policy_group_by_name(p, "b");
    const struct source_pool *pool = policy_group_by_name(p, "default")->pool;
    (void)state;

    assert_true(!a->pool && !b->pool && !b->source_v4 && pool == policy_pool(p, 0));
    assert_string_equal(a->source_v4, "192.0.2.9");
    assert_int_equal(pool->count, 2);
    assert_int_equal(pool->addresses[1].weight, 3);
    assert_string_equal(pool->addresses[1].ehlo_name, "out.example");
    assert_null(pool->addresses[1].warmup);
    const struct warmup_ladder *l = pool->addresses[0].warmup;
    assert_true(l->count == 2 && l->steps[1] == 100 && l->period_s == 43200 && l->start_unix == 1796083200);
    assert_true(l->max_refused_percent == 7 && l->min_attempts == 9 && l->back);
    assert_true(source_pool_has(pool, 4) && source_pool_has(pool, 6));
    policy_unref(p);
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
        cmocka_unit_test(a_dash_with_nothing_behind_it_is_refused_with_its_place),
        cmocka_unit_test(what_has_no_effect_is_noticed_and_accepted),
        cmocka_unit_test(settings_of_tls_without_effect_are_noticed),
        cmocka_unit_test(wrong_pools_of_source_addresses_are_refused),
        cmocka_unit_test(a_pool_is_inherited_and_what_a_group_gives_takes_its_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

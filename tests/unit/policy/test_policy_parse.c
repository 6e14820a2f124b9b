/* What a good document means. */
#include "base/mem.h"
#include "policy/policy_include.h"
#include "tests/unit/policy/parse_help.h"

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
                                  "  limits: {connections: 9, connection_rate: 30/m}\n"
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
    assert_true(a->limits.connection_rate.count == 30 && a->limits.connection_rate.seconds == 60);
    assert_int_equal(a->retry.steps, 2);
    assert_int_equal(a->retry.step_s[1], 120);
    assert_int_equal(a->retry.jitter_percent, 20);
    assert_int_equal(a->retry.lifetime_s, 2 * 86400);
    assert_int_equal(d->retry.lifetime_s, 5 * 86400);
    assert_int_equal(a->timeouts.connect_ms, 5000);
    policy_unref(p);
}

static void a_map_turns_adaptive_on_and_a_word_off(void **state)
{
    struct policy *p =
        parse_good("defaults: {adaptive: off}\n"
                   "groups:\n"
                   "- name: a\n"
                   "  match: [a.example]\n"
                   "  adaptive: {storm_replies: 3, storm_share: 20%, storm_window: 1m, step: 75%,\n"
                   "             recover_after: 90s, min_connections: 2, min_rate: 0.5}\n"
                   "- name: b\n"
                   "  match: [b.example]\n"
                   "  adaptive: on\n"
                   "- name: default\n");
    const struct group_adaptive *a = &policy_group_by_name(p, "a")->adaptive,
                                *b = &policy_group_by_name(p, "b")->adaptive;

    assert_int_equal(a->mode, ADAPTIVE_ON);
    assert_int_equal(a->storm_replies, 3);
    assert_int_equal(a->storm_share, 20);
    assert_int_equal(a->storm_window_s, 60);
    assert_int_equal(a->step_percent, 75);
    assert_int_equal(a->recover_after_s, 90);
    assert_int_equal(a->min_connections, 2);
    assert_true(a->min_rate == 0.5);
    assert_int_equal(b->mode, ADAPTIVE_ON);
    assert_int_equal(b->storm_replies, 10);
    assert_int_equal(policy_group_by_name(p, "default")->adaptive.mode, ADAPTIVE_OFF);
    policy_unref(p);
}

static void a_map_without_keys_and_a_key_with_nothing_behind_it_say_nothing(void **state)
{
    /* What "on" as a map, or a route of its own, would be seen by. */
    static const char head[] = "defaults: {limits: {connections: 7}, adaptive: off, retry: {lifetime: 1d}, "
                               "tls: {min_version: 1.3},\n"
                               "  route: {smarthost: relay.example, auth: {user: u, password_file: /p}}}\n"
                               "groups:\n- name: a\n  match: [a.example]\n";
    static const char *const maps[] = {"limits", "retry", "tls",         "timeouts",
                                       "source", "route", "quiet_hours", "adaptive"};
    static const char *const lists[] = {"mx", "replies"};
    struct buf text = {0}, with = {0}, without = {0};

    (void)state;
    struct policy *p = parse_good(head);
    policy_dump_group(policy_group_by_name(p, "a"), &without);
    policy_unref(p);
    for (size_t i = 0; i < 2 * COUNT_OF(maps) + COUNT_OF(lists); i++) {
        buf_clear(&text);
        buf_clear(&with);
        buf_puts(&text, head);
        if (i < 2 * COUNT_OF(maps))
            buf_putf(&text, "  %s:%s\n", maps[i / 2], i % 2 ? "" : " {}");
        else
            buf_putf(&text, "  %s:\n", lists[i - 2 * COUNT_OF(maps)]);
        print_message("%s", buf_str(&text) + sizeof(head) - 1);
        p = parse_good(buf_str(&text));
        policy_dump_group(policy_group_by_name(p, "a"), &with);
        assert_string_equal(buf_str(&with), buf_str(&without));
        assert_true(bytes_eq(policy_text(p), buf_bytes(&text))); /* what is exported */
        policy_unref(p);
    }
    p = parse_good("include:\nsources:\nreplies:\ndefaults:\ngroups: [{name: b, match: [b.example], route: "
                   "{smarthost: x.example, auth: {}}}]\n");
    assert_null(policy_group_by_name(p, "b")->auth_user);
    policy_unref(p);
    buf_fini(&text);
    buf_fini(&with);
    buf_fini(&without);
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
    assert_true(g->limits.messages_per_minute == 0 && g->limits.messages_per_hour == 0);
    assert_true(g->limits.bytes_per_second == 0 && g->limits.connection_rate.count == 0);
    assert_int_equal(g->limits.connections_per_source, 0);
    assert_int_equal(g->limits.burst, 1);
    assert_int_equal(g->pipelining, PIPELINING_AUTO);
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

static void a_password_is_for_a_verified_server_unless_the_group_says_otherwise(void **state)
{
    static const struct {
        const char *defaults, *group;
        enum tls_level want;
    } cases[] = {
        {"", "", TLS_VERIFY},
        {"starttls: on", "", TLS_VERIFY}, /* said of all, and not of this one */
        {"starttls: require", "", TLS_REQUIRE},
        {"starttls: verify", "", TLS_VERIFY},
        {"", "starttls: on, ", TLS_ON},
        {"", "starttls: require, ", TLS_REQUIRE},
        {"starttls: verify", "starttls: on, ", TLS_ON},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *text = text_format("defaults: {%s}\ngroups:\n"
                                 "- {name: with, match: [a.example], %sroute: {smarthost: h.example, "
                                 "auth: {user: u, password_file: /p}}}\n"
                                 "- {name: without, match: [b.example], %sroute: {smarthost: h.example}}\n",
                                 cases[i].defaults, cases[i].group, cases[i].group);
        struct policy *p = parse_good(text);
        assert_int_equal(policy_group_by_name(p, "with")->starttls, cases[i].want);
        if (!*cases[i].defaults && !*cases[i].group)
            assert_int_equal(policy_group_by_name(p, "without")->starttls, TLS_ON);
        policy_unref(p);
        mem_free(text);
    }
    struct policy *inherited =
        parse_good("defaults:\n  route: {smarthost: h.example, auth: {user: u, password_file: /p}}\n"
                   "groups:\n- {name: g, match: [a.example]}\n- {name: mx, match: [b.example], route: mx}\n");
    assert_int_equal(policy_group_by_name(inherited, "g")->starttls, TLS_VERIFY);
    assert_int_equal(policy_group_by_name(inherited, "default")->starttls, TLS_VERIFY);
    assert_int_equal(policy_group_by_name(inherited, "mx")->starttls, TLS_ON);
    policy_unref(inherited);
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
    policy_put_part(&text, "receivers", "/receivers.yaml", BYTES("groups: []\n"));
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
        "  pipelining: off\n  limits: {connection_rate: 30/m, connections_per_source: 4, "
        "messages_per_minute: 90,"
        " messages_per_hour: 0.5, burst: 7, bytes_per_second: 1000000}\n",
        "  pipelining: full\n  limits: {connection_rate: 0.25/s}\n",
        "  pipelining: commands\n  limits: {connection_rate: 100/h}\n",
        "  adaptive: off\n",
        "  adaptive: {step: 0, min_rate: 0.001, recover_after: 1d}\n",
        "  quiet_hours: {from: '21:00', to: '08:00:05', time_zone: '+09:00', spread: 0}\n",
        "  quiet_hours: {from: '21:00', to: '24:00', time_zone: Asia/Tokyo}\n",
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
        cmocka_unit_test(names_and_fingerprints_of_certificates_are_kept_in_one_form),
        cmocka_unit_test(all_complaints_come_at_once_in_the_order_of_the_document),
        cmocka_unit_test(complaints_stay_valid_text_when_they_cut_a_long_value),
        cmocka_unit_test(groups_lie_over_defaults_and_defaults_over_presets),
        cmocka_unit_test(a_map_turns_adaptive_on_and_a_word_off),
        cmocka_unit_test(a_map_without_keys_and_a_key_with_nothing_behind_it_say_nothing),
        cmocka_unit_test(the_presets_are_those_that_are_documented),
        cmocka_unit_test(a_smart_host_route_is_read_in_full),
        cmocka_unit_test(a_route_replaces_an_inherited_one_as_a_whole),
        cmocka_unit_test(a_password_is_for_a_verified_server_unless_the_group_says_otherwise),
        cmocka_unit_test(the_text_is_kept_to_the_octet),
        cmocka_unit_test(the_document_of_a_new_installation_says_what_the_presets_say),
        cmocka_unit_test(the_examples_of_the_first_document_are_good_ones),
        cmocka_unit_test(a_dumped_group_reads_back_as_the_same_group),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

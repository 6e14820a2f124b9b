/* Documents that include others, and the file of large receivers that comes with the program. */
#include "policy/policy_include.h"
#include "tests/unit/policy/parse_help.h"

#include <stdio.h>

#define WORLD "--- # included: world /w.yaml\n"

static const char world[] = "date: 2026-11-22\n"
                            "groups:\n"
                            "- name: big\n"
                            "  match: [big.example, .big.example]\n"
                            "  mx: [.mx.big.example]\n"
                            "  limits: {connections: 9, messages_per_connection: 20}\n"
                            "  replies: [{code: 421, back_off: 5m}]\n"
                            "- {name: small, match: [small.example]}\n"
                            "replies:\n"
                            "- {code: 450, retry_after: 1m}\n";

/* A document that includes `world`, parsed; the caller frees both. */
static struct policy *with_world(const char *document, struct yaml_errors *errors)
{
    struct buf text = {0};
    struct policy *p;

    buf_puts(&text, document);
    policy_put_part(&text, "world", "/w.yaml", bytes_of(world));
    p = parse(buf_str(&text), errors);
    buf_fini(&text);
    return p;
}

static struct policy *good_with_world(const char *document)
{
    struct yaml_errors errors;
    struct policy *p = with_world(document, &errors);

    if (!p)
        fail_msg("%s", errors.count ? errors.items[0].text : "no complaint");
    yaml_errors_fini(&errors);
    return p;
}

static const char *group_of(const struct policy *p, const char *domain)
{
    struct policy_match m = policy_match_domain(p, bytes_of(domain));

    return m.group ? m.group->name : "(by MX)";
}

static const char *group_of_mx(const struct policy *p, const char *host)
{
    struct bytes name = bytes_of(host);

    return policy_match_mx(p, &name, 1).group->name;
}

static uint32_t line_of_rule(const struct policy *p, const char *group, uint16_t code, const char **file)
{
    struct outcome o;

    outcome_from_reply(&o, STAGE_MAIL, code, bytes_of("no"));
    const struct reply_rule *rule = policy_reply_rule(p, policy_group_by_name(p, group), &o);
    *file = rule ? rule->file : NULL;
    return rule ? rule->line : 0;
}

static void groups_of_an_included_file_follow_the_defaults_of_the_document(void **state)
{
    struct policy *p = good_with_world("include: [world]\n"
                                       "defaults: {limits: {connections: 3, burst: 7}}\n"
                                       "groups: [{name: default}]\n");
    const struct group *g = policy_group_by_name(p, "big");

    assert_string_equal(group_of(p, "big.example"), "big");
    assert_string_equal(group_of(p, "x.big.example"), "big");
    assert_string_equal(group_of(p, "other.example"), "(by MX)");
    assert_string_equal(group_of_mx(p, "a.mx.big.example"), "big");
    assert_int_equal(g->limits.connections, 9);
    assert_int_equal(g->limits.burst, 7);
    assert_int_equal(policy_group_by_name(p, "small")->limits.connections, 3);
    assert_string_equal(g->file, "/w.yaml");
    assert_int_equal(g->line, 3);
    assert_null(g->base_file);
    assert_null(policy_group_by_name(p, "default")->file);
    assert_int_equal(policy_include_count(p), 1);
    assert_string_equal(policy_include(p, 0)->name, "world");
    assert_string_equal(policy_include(p, 0)->date, "2026-11-22");
    assert_int_equal(policy_include(p, 0)->groups, 2);
    policy_unref(p);
}

static void a_group_of_the_document_lies_over_that_of_the_file_key_by_key(void **state)
{
    struct policy *p = good_with_world("include: [world]\n"
                                       "groups:\n"
                                       "- name: big\n"
                                       "  starttls: require\n"
                                       "  limits: {connections: 4}\n"
                                       "  replies: [{code: 450, suspend: 1m}]\n"
                                       "- name: default\n");
    const struct group *g = policy_group_by_name(p, "big");
    const char *file;

    assert_int_equal(policy_group_count(p), 3);
    assert_int_equal(g->starttls, TLS_REQUIRE);
    assert_int_equal(g->limits.connections, 4);
    assert_int_equal(g->limits.messages_per_connection, 20);
    assert_string_equal(group_of(p, "big.example"), "big");
    assert_string_equal(group_of_mx(p, "a.mx.big.example"), "big");
    assert_null(g->file);
    assert_int_equal(g->line, 3);
    assert_string_equal(g->base_file, "/w.yaml");
    assert_int_equal(g->base_line, 3);
    assert_int_equal(g->reply_count, 2);
    assert_int_equal(line_of_rule(p, "big", 450, &file), 6);
    assert_null(file);
    assert_int_equal(line_of_rule(p, "big", 421, &file), 7);
    assert_string_equal(file, "/w.yaml");
    policy_unref(p);
}

static void quiet_hours_are_laid_over_too_and_can_be_turned_off(void **state)
{
    static const char included[] =
        "groups:\n- {name: a, match: [a.example], quiet_hours: {from: '21:00', to: '08:00', time_zone: "
        "Asia/Tokyo}}\n"
        "- {name: b, match: [b.example], quiet_hours: {from: '21:00', to: '08:00', time_zone: Asia/Tokyo}}\n";
    struct buf text = {0};
    struct yaml_errors errors;

    buf_puts(&text,
             "include: w\ngroups: [{name: a, quiet_hours: {to: '09:30'}}, {name: b, quiet_hours: off}, "
             "{name: default}]\n");
    policy_put_part(&text, "w", "/w.yaml", bytes_of(included));
    struct policy *p = parse(buf_str(&text), &errors);
    assert_non_null(p);
    const struct quiet_hours *a = &policy_group_by_name(p, "a")->quiet;
    assert_true(a->on);
    assert_int_equal(a->from_s, 21 * 3600);
    assert_int_equal(a->to_s, 9 * 3600 + 1800);
    assert_string_equal(a->time_zone, "Asia/Tokyo");
    assert_int_equal(a->spread_s, 600);
    assert_false(policy_group_by_name(p, "b")->quiet.on);
    assert_false(policy_group_by_name(p, "default")->quiet.on);
    yaml_errors_fini(&errors);
    policy_unref(p);
    buf_fini(&text);
}

static void lists_stand_in_place_of_the_files_and_an_empty_list_of_rules_takes_them_away(void **state)
{
    struct policy *p = good_with_world("include: world\n"
                                       "groups:\n"
                                       "- {name: big, match: [.big.example], replies: []}\n"
                                       "- {name: default, match: [new.example]}\n");
    const char *file;

    assert_string_equal(group_of(p, "big.example"), "(by MX)");
    assert_string_equal(group_of(p, "x.big.example"), "big");
    assert_string_equal(group_of_mx(p, "a.mx.big.example"), "big");
    assert_int_equal(line_of_rule(p, "big", 421, &file), 0);
    policy_unref(p);
    /* Nothing behind the key is no empty list: the file's stay. */
    p = good_with_world(
        "include: world\ngroups:\n- name: big\n  match:\n  mx:\n  replies:\n- name: default\n");
    assert_string_equal(group_of(p, "big.example"), "big");
    assert_string_equal(group_of_mx(p, "a.mx.big.example"), "big");
    assert_int_not_equal(line_of_rule(p, "big", 421, &file), 0);
    policy_unref(p);
}

static void what_the_document_matches_goes_to_its_own_group(void **state)
{
    struct policy *p = good_with_world("include: [world]\n"
                                       "groups:\n"
                                       "- {name: mine, match: [big.example], mx: [.mx.big.example]}\n"
                                       "- name: default\n");

    assert_string_equal(group_of(p, "big.example"), "mine");
    assert_string_equal(group_of(p, "x.big.example"), "big");
    assert_string_equal(group_of_mx(p, "a.mx.big.example"), "mine");
    policy_unref(p);
}

static void rules_of_the_document_are_asked_before_those_of_the_file(void **state)
{
    struct policy *p =
        good_with_world("include: [world]\n"
                        "groups: [{name: default}]\n"
                        "replies: [{code: 450, enhanced: 4.7, suspend: 1m}, {code: 451, suspend: 1m}]\n");
    struct outcome o;

    outcome_from_reply(&o, STAGE_RCPT, 450, bytes_of("4.7.1 no"));
    const struct reply_rule *rule = policy_reply_rule(p, policy_group_by_name(p, "small"), &o);
    assert_non_null(rule);
    assert_int_equal(rule->suspend_s, 60);
    outcome_from_reply(&o, STAGE_RCPT, 450, bytes_of("4.2.1 no"));
    rule = policy_reply_rule(p, policy_group_by_name(p, "small"), &o);
    assert_non_null(rule);
    assert_int_equal(rule->retry_after_s, 60);
    assert_string_equal(rule->file, "/w.yaml");
    policy_unref(p);
}

static void a_later_file_lies_over_an_earlier_one(void **state)
{
    struct buf text = {0};
    struct yaml_errors errors;

    buf_puts(&text, "include: [world, /mine.yaml]\ngroups: [{name: default}]");
    policy_put_part(&text, "/mine.yaml", "/mine.yaml",
                    BYTES("groups: [{name: small, match: [big.example], limits: {connections: 2}}]\n"));
    policy_put_part(&text, "world", "/w.yaml", bytes_of(world));
    struct policy *p = parse(buf_str(&text), &errors);
    assert_non_null(p);
    assert_string_equal(group_of(p, "big.example"), "small");
    assert_string_equal(group_of(p, "small.example"), "(by MX)");
    assert_int_equal(policy_group_by_name(p, "small")->limits.connections, 2);
    assert_string_equal(policy_group_by_name(p, "small")->base_file, "/w.yaml");
    yaml_errors_fini(&errors);
    policy_unref(p);
    buf_fini(&text);
}

static void complaints_name_the_file_and_its_line(void **state)
{
    struct yaml_errors errors;
    struct policy *p = parse("include: [world]\n"
                             "groups: [{name: default, port: 0}]\n" WORLD "groups:\n"
                             "- {name: a, match: [a.example], prot: 1}\n",
                             &errors);

    assert_null(p);
    assert_int_equal(errors.count, 2);
    assert_null(errors.items[0].file);
    assert_int_equal(errors.items[0].line, 2);
    assert_non_null(strstr(errors.items[0].text, "doc:2:32: "));
    assert_string_equal(errors.items[1].file, "/w.yaml");
    assert_int_equal(errors.items[1].line, 2);
    if (!strstr(errors.items[1].text, "/w.yaml:2:33: "))
        print_complaints(&errors);
    assert_non_null(strstr(errors.items[1].text, "/w.yaml:2:33: unknown key 'prot'"));
    yaml_errors_fini(&errors);
}

static void a_wrong_include_is_refused_with_what_would_be_right(void **state)
{
    static const struct {
        const char *text, *error;
    } rows[] = {
        {"include: [world]\n", "doc:1:11: the file 'world' does not follow"},
        {"include: [../x]\n", "expected a name like receivers, or an absolute path"},
        {"include: ['a b']\n", "expected a name"},
        {"include: {a: 1}\n", "expected a list of 16 names"},
        {"include: [a, a]\n", "'a' stands twice"},
        {"groups: []\n" WORLD "groups: []\n", "doc:2:1: 'world' follows here and 'include' does not name it"},
        {"include: world\n" WORLD WORLD, "doc:3:1: 'world' follows here once more"},
        {"include: world\n" WORLD "include: other\n", "/w.yaml:1:1: 'include' belongs to the document"},
        {"include: world\n" WORLD "defaults: {port: 1}\n", "/w.yaml:1:1: 'defaults' belongs to the document"},
        {"include: world\n" WORLD "date: today\n", "/w.yaml:1:7: expected a date like 2026-11-22"},
        {"include: world\n" WORLD "- a\n", "/w.yaml:1:1: expected a map"},
        {"include: world\n" WORLD "a: [\n", "/w.yaml:"},
        {"include: world\n" WORLD "groups: [{name: a, match: [a.example]}, {name: a, match: [b.example]}]\n",
         "there is a group 'a' already, in line 1"},
        {"include: world\ngroups: [{name: a, port: 1}, {name: a}]\n" WORLD
         "groups: [{name: a, match: [a.example]}]\n",
         "doc:2:37: there is a group 'a' already, in line 2"},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct yaml_errors errors;
        struct policy *p = parse(rows[i].text, &errors);

        if (p || !has_complaint(&errors, rows[i].error, false)) {
            print_complaints(&errors);
            fail_msg("row %zu: %s", i, rows[i].error);
        }
        yaml_errors_fini(&errors);
    }
}

static void what_is_missing_is_told_and_what_was_put_is_found(void **state)
{
    struct policy_part parts[POLICY_INCLUDES_MAX + 1];
    struct policy_missing missing[POLICY_INCLUDES_MAX];
    struct yaml_errors errors = {0};
    struct arena arena = {0};
    struct buf text = {0};
    size_t count;

    buf_puts(&text, "# one\ninclude: [a, /b/c.yaml,\n  d]");
    assert_int_equal(policy_missing_includes("doc", buf_bytes(&text), &arena, missing, &count, &errors), OK);
    assert_int_equal(count, 3);
    assert_string_equal(missing[1].name, "/b/c.yaml");
    assert_int_equal(missing[2].line, 3);
    assert_int_equal(missing[2].column, 3);
    assert_false(policy_has_parts(buf_bytes(&text)));
    policy_put_part(&text, "/b/c.yaml", "/b/c.yaml", BYTES("x: 1")); /* without an end of line */
    policy_put_part(&text, "a", "/usr/a b.yaml", BYTES("y: 1\n"));
    assert_int_equal(policy_missing_includes("doc", buf_bytes(&text), &arena, missing, &count, &errors), OK);
    assert_int_equal(count, 1);
    assert_string_equal(missing[0].name, "d");
    assert_int_equal(policy_split(buf_bytes(&text), parts), 3);
    assert_true(bytes_eq(policy_own_text(buf_bytes(&text)), BYTES("# one\ninclude: [a, /b/c.yaml,\n  d]\n")));
    assert_true(bytes_eq(parts[1].text, BYTES("x: 1\n")));
    assert_int_equal(parts[1].line, 4);
    assert_true(bytes_eq(parts[2].file, BYTES("/usr/a b.yaml")));
    assert_int_equal(parts[2].line, 6);
    buf_fini(&text);
    arena_fini(&arena);
    yaml_errors_fini(&errors);
}

/* ---- policy/receivers.yaml ---- */

static struct policy *receivers(void)
{
    static const char path[] = SOURCE_ROOT "/policy/receivers.yaml";
    struct buf text = {0}, file = {0};
    struct yaml_errors errors;
    FILE *f = fopen(path, "r");
    size_t n;

    if (!f)
        fail_msg("cannot read %s", path);
    while ((n = fread(buf_reserve(&file, 65536), 1, 65536, f)) > 0)
        file.len += n;
    fclose(f);
    buf_puts(&text, "include: [receivers]\ngroups: [{name: default}]\n");
    policy_put_part(&text, "receivers", path, buf_bytes(&file));
    struct policy *p = parse(buf_str(&text), &errors);
    if (!p || errors.count) {
        print_complaints(&errors);
        fail_msg("the file is not as it should be");
    }
    yaml_errors_fini(&errors);
    buf_fini(&text);
    buf_fini(&file);
    return p;
}

static void every_large_receiver_is_known_by_its_domains_and_mail_hosts(void **state)
{
    static const struct {
        const char *domain, *group;
    } domains[] = {
        {"gmail.com", "gmail"},           {"hotmail.co.jp", "microsoft"},    {"yahoo.com", "yahoo"},
        {"icloud.com", "apple"},          {"docomo.ne.jp", "docomo"},        {"au.com", "au"},
        {"x.ezweb.ne.jp", "au"},          {"i.softbank.jp", "softbank"},     {"t.vodafone.ne.jp", "softbank"},
        {"ymobile.ne.jp", "ymobile"},     {"rakumail.jp", "rakuten"},        {"yahoo.co.jp", "yahoo-japan"},
        {"yahoo.ne.jp", "ymobile"},       {"violet.plala.ocn.ne.jp", "ocn"}, {"nifty.com", "nifty"},
        {"kcc.biglobe.ne.jp", "biglobe"}, {"jcom.home.ne.jp", "jcom"},       {"hct.zaq.ne.jp", "jcom"},
        {"example.com", "(by MX)"},
    };
    static const struct {
        const char *host, *group;
    } hosts[] = {
        {"aspmx.l.google.com", "gmail"},
        {"smtp.google.com", "gmail"},
        {"hotmail-com.olc.protection.outlook.com", "microsoft"},
        {"example-com.mail.protection.outlook.com", "microsoft-365"},
        {"example-com.p-v1.mx.microsoft", "microsoft-365"},
        {"mta7.am0.yahoodns.net", "yahoo"},
        {"mx01.mail.icloud.com", "apple"},
        {"mfsmax.docomo.ne.jp", "docomo"},
        {"lsean.ezweb.ne.jp", "au"},
        {"mx.softbank.ne.jp", "softbank"},
        {"mx5.mail.yahoo.co.jp", "yahoo-japan"},
        {"smmx.nifty.com", "nifty"},
        {"mgw1.mx.zaq.ne.jp", "jcom"},
        {"mx.google.com.example", "default"},
    };
    struct policy *p = receivers();

    for (size_t i = 0; i < COUNT_OF(domains); i++)
        if (strcmp(group_of(p, domains[i].domain), domains[i].group) != 0)
            fail_msg("%s: %s", domains[i].domain, group_of(p, domains[i].domain));
    for (size_t i = 0; i < COUNT_OF(hosts); i++)
        if (strcmp(group_of_mx(p, hosts[i].host), hosts[i].group) != 0)
            fail_msg("%s: %s", hosts[i].host, group_of_mx(p, hosts[i].host));
    assert_int_equal(strlen(policy_include(p, 0)->date), 10);
    assert_int_equal(policy_include(p, 0)->groups, 15);
    policy_unref(p);
}

/* What receivers say, as senders have it in their logs. */
static void what_receivers_are_known_to_say_meets_the_rule_that_was_meant(void **state)
{
    static const struct {
        const char *group;
        enum outcome_stage stage;
        uint16_t code;
        const char *text;
        enum reply_treat treat;
        uint32_t retry_after_s, suspend_s, back_off_s;
    } rows[] = {
        {"gmail", STAGE_DOT, 421,
         "4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP "
         "address.",
         TREAT_AS_SAID, 900, 0, 900},
        {"gmail", STAGE_DOT, 421,
         "4.7.0 [192.0.2.1] Our system has detected that this message is suspicious due to the very low "
         "reputation",
         TREAT_AS_SAID, 3600, 0, 900},
        {"gmail", STAGE_RCPT, 450, "4.2.1 The user you are trying to contact is receiving mail too quickly.",
         TREAT_AS_SAID, 1800, 0, 0},
        {"gmail", STAGE_RCPT, 452, "4.2.2 The email account that you tried to reach is over quota.",
         TREAT_AS_SAID, 21600, 0, 0},
        {"gmail", STAGE_DOT, 421,
         "4.7.27 Your email has been rate limited because SPF authentication didn't pass", TREAT_AS_SAID,
         3600, 0, 0},
        {"microsoft", STAGE_MAIL, 451,
         "4.7.650 The mail server [192.0.2.5] has been temporarily rate limited due to IP reputation. (S775)",
         TREAT_AS_SAID, 1200, 0, 1200},
        {"microsoft", STAGE_GREETING, 421, "RP-001 Unfortunately, some messages from 192.0.2.5 weren't sent.",
         TREAT_AS_SAID, 1200, 0, 1200},
        {"microsoft", STAGE_MAIL, 550,
         "5.7.1 Unfortunately, messages from [192.0.2.5] weren't sent. part of their network is on our block "
         "list (S3150).",
         TREAT_AS_TEMPORARY, 7200, 3600, 0},
        {"microsoft-365", STAGE_RCPT, 451,
         "4.7.500 Server busy. Please try again later from [192.0.2.5]. (S77719)", TREAT_AS_SAID, 1200, 0,
         1200},
        {"microsoft-365", STAGE_MAIL, 550, "5.7.606 Access denied, banned sending IP [192.0.2.5].",
         TREAT_AS_TEMPORARY, 14400, 3600, 0},
        {"yahoo", STAGE_MAIL, 421,
         "4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred due to unexpected volume or user "
         "complaints",
         TREAT_AS_SAID, 1800, 0, 1800},
        {"yahoo", STAGE_MAIL, 553,
         "5.7.2 [TSS09] All messages from 192.0.2.25 will be permanently deferred; Retrying will NOT "
         "succeed.",
         TREAT_AS_TEMPORARY, 14400, 7200, 0},
        {"yahoo", STAGE_GREETING, 553, "5.7.1 [BL21] Connections will not be accepted from 192.0.2.25",
         TREAT_AS_TEMPORARY, 14400, 3600, 0},
        {"yahoo", STAGE_MAIL, 421, "Max message per connection reached, closing transmission channel",
         TREAT_AS_SAID, 60, 0, 0},
        {"apple", STAGE_RCPT, 421, "4.7.1 Messages to a@icloud.com deferred due to excessive volume.",
         TREAT_AS_SAID, 3600, 0, 0},
        {"apple", STAGE_DOT, 550, "5.7.1 [HM08] Message rejected due to local policy.", TREAT_AS_SAID, 0, 0,
         900},
        {"docomo", STAGE_DOT, 552, "Too much mail data a@docomo.ne.jp", TREAT_AS_TEMPORARY, 14400, 0, 0},
        {"docomo", STAGE_GREETING, 421, "Service not available", TREAT_AS_SAID, 900, 0, 900},
        {"au", STAGE_MAIL, 450, "busy", TREAT_AS_SAID, 900, 0, 900},
        {"jcom", STAGE_MAIL, 421, "#4.x.2 Too many messages for this session", TREAT_AS_SAID, 60, 0, 0},
        /* what is the recipient's own stays what it is */
        {"gmail", STAGE_RCPT, 550, "5.1.1 The email account that you tried to reach does not exist.", 0, 0, 0,
         0},
        {"docomo", STAGE_RCPT, 550, "Unknown user a@docomo.ne.jp", 0, 0, 0, 0},
        {"docomo", STAGE_RCPT, 450, "try later", 0, 0, 0, 0},
        {"yahoo-japan", STAGE_DOT, 554, "delivery error: dd This user doesn't have a yahoo.co.jp account", 0,
         0, 0, 0},
    };
    struct policy *p = receivers();

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        static const struct reply_rule nothing;
        struct outcome o;

        outcome_from_reply(&o, rows[i].stage, rows[i].code, bytes_of(rows[i].text));
        const struct reply_rule *rule = policy_reply_rule(p, policy_group_by_name(p, rows[i].group), &o);
        rule = rule ? rule : &nothing;
        if (rule->treat != rows[i].treat || rule->retry_after_s != rows[i].retry_after_s ||
            rule->suspend_s != rows[i].suspend_s || rule->back_off_s != rows[i].back_off_s)
            fail_msg("row %zu: rule of line %u: retry after %u, suspend %u, back off %u", i, rule->line,
                     rule->retry_after_s, rule->suspend_s, rule->back_off_s);
    }
    policy_unref(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_of_an_included_file_follow_the_defaults_of_the_document),
        cmocka_unit_test(a_group_of_the_document_lies_over_that_of_the_file_key_by_key),
        cmocka_unit_test(quiet_hours_are_laid_over_too_and_can_be_turned_off),
        cmocka_unit_test(lists_stand_in_place_of_the_files_and_an_empty_list_of_rules_takes_them_away),
        cmocka_unit_test(what_the_document_matches_goes_to_its_own_group),
        cmocka_unit_test(rules_of_the_document_are_asked_before_those_of_the_file),
        cmocka_unit_test(a_later_file_lies_over_an_earlier_one),
        cmocka_unit_test(complaints_name_the_file_and_its_line),
        cmocka_unit_test(a_wrong_include_is_refused_with_what_would_be_right),
        cmocka_unit_test(what_is_missing_is_told_and_what_was_put_is_found),
        cmocka_unit_test(every_large_receiver_is_known_by_its_domains_and_mail_hosts),
        cmocka_unit_test(what_receivers_are_known_to_say_meets_the_rule_that_was_meant),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* policy/DOCUMENT.md is what the table of keys says.  To write it anew: run this test with WRITE_DOCUMENT=1.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/policy_priv.h"

static const char path[] = SOURCE_ROOT "/policy/DOCUMENT.md";

static void read_file(struct buf *out)
{
    FILE *f = fopen(path, "r");
    size_t n;

    if (!f)
        fail_msg("cannot read %s", path);
    while ((n = fread(buf_reserve(out, 4096), 1, 4096, f)) > 0)
        out->len += n;
    fclose(f);
}

static void the_reference_in_the_repository_is_the_one_the_table_makes(void **state)
{
    struct buf want = {0}, have = {0};

    policy_reference(&want);
    if (getenv("WRITE_DOCUMENT")) {
        FILE *f = fopen(path, "w");

        assert_non_null(f);
        assert_int_equal(fwrite(want.at, 1, want.len, f), want.len);
        assert_int_equal(fclose(f), 0);
    }
    read_file(&have);
    if (strcmp(buf_str(&have), buf_str(&want)) != 0) {
        struct buf diff = {0};

        policy_diff(buf_bytes(&have), buf_bytes(&want), "policy/DOCUMENT.md", "the table", &diff);
        print_error("%s", buf_str(&diff));
        buf_fini(&diff);
        fail_msg(
            "policy/DOCUMENT.md is not what policy/policy_keys.c says: run this test with WRITE_DOCUMENT=1");
    }
    buf_fini(&want);
    buf_fini(&have);
}

static void every_key_has_words_and_a_preset_or_an_example(void **state)
{
    struct buf text = {0};

    policy_reference(&text);
    for (size_t i = 0; i < policy_key_count; i++) {
        const struct policy_key *key = &policy_keys[i];
        char heading[80];

        snprintf(heading, sizeof(heading), "\n## `%s`\n", key->name);
        assert_non_null(strstr(buf_str(&text), heading));
        assert_true(strlen(key->help) > 20);
        assert_true(!key->preset != !key->example);
        assert_true(policy_key_index(key->name) == i); /* no name twice */
    }
    buf_fini(&text);
}

/* What quiet hours need beside the key in question. */
static void put_quiet_rest(struct buf *text, const char *given)
{
    static const char *const keys[][2] = {{"from", "01:00"}, {"to", "02:00"}, {"time_zone", "UTC"}};

    for (size_t i = 0; i < COUNT_OF(keys); i++)
        if (strcmp(keys[i][0], given) != 0)
            buf_putf(text, "    %s: \"%s\"\n", keys[i][0], keys[i][1]);
}

/* A key of the table that no reader knew would be a promise that nobody keeps. */
static void every_example_is_accepted_where_it_stands(void **state)
{
    for (size_t i = 0; i < policy_key_count; i++) {
        const struct policy_key *key = &policy_keys[i];
        const char *value = key->preset ? key->preset : key->example, *name = key->name;
        struct buf text = {0};
        struct yaml_errors errors = {0};
        struct policy *p = NULL;
        int indent = 2;

        buf_puts(&text, "groups:\n- ");
        if (key->type != KEY_NAME)
            buf_puts(&text, "name: default\n  ");
        for (const char *dot; (dot = strchr(name, '.')) != NULL; name = dot + 1) {
            indent += 2;
            buf_putf(&text, "%.*s:\n%*s", (int)(dot - name), name, indent, "");
        }
        buf_putf(&text, "%s: %s\n", name, value);
        if (strcmp(key->name, "tls.certificate") == 0)
            buf_puts(&text, "    key: /k.pem\n");
        if (strcmp(key->name, "tls.key") == 0)
            buf_puts(&text, "    certificate: /c.pem\n");
        /* what a route needs beside the key in question */
        if (strcmp(key->name, "route.auth.user") == 0)
            buf_puts(&text, "      password_file: /p\n");
        if (strcmp(key->name, "route.auth.password_file") == 0)
            buf_puts(&text, "      user: u\n");
        if (strncmp(key->name, "route.", 6) == 0 && key->type != KEY_HOSTS)
            buf_puts(&text, "    smarthost: relay.example\n");
        if (strncmp(key->name, "quiet_hours.", 12) == 0)
            put_quiet_rest(&text, key->name + 12);
        if (key->type == KEY_NAME)
            buf_puts(&text, "  match: [a.example]\n");
        if (policy_parse("doc", buf_bytes(&text), 1, &p, &errors) != OK)
            fail_msg("%s\n%s", errors.items[0].text, buf_str(&text));
        yaml_errors_fini(&errors);
        policy_unref(p);
        buf_fini(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reference_in_the_repository_is_the_one_the_table_makes),
        cmocka_unit_test(every_key_has_words_and_a_preset_or_an_example),
        cmocka_unit_test(every_example_is_accepted_where_it_stands),
    };

    return cmocka_run_group_tests_name("policy/policy_reference", tests, NULL, NULL);
}

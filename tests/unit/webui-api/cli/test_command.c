/* webui-api/cli/command.c and the table of all commands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "webui-api/cli/cli.h"
#include "webui-api/cli/format.h"
#include "webui-api/cli/socket.h"

#define WORDS_MAX 16

/* Splits at blanks; what stands in 'quotes' is one word, without them. */
struct line {
    char text[256];
    char *argv[WORDS_MAX];
    int argc;
};

static void split(struct line *l, const char *text)
{
    char *p = l->text;

    assert_true(strlen(text) < sizeof(l->text));
    strcpy(l->text, text);
    l->argc = 0;
    while (*p) {
        char end = ' ';
        if (*p == '\'') {
            end = '\'';
            p++;
        }
        l->argv[l->argc++] = p;
        while (*p && *p != end)
            p++;
        if (*p)
            *p++ = '\0';
        while (*p == ' ')
            p++;
    }
}

static void what_is_written_is_understood(void **state)
{
    static const struct {
        const char *line, *command, *option, *value, *arg;
    } cases[] = {
        {"hayauma status", "status", NULL, NULL, NULL},
        {"hayauma --socket /s status", "status", "socket", "/s", NULL},
        {"hayauma status --socket=/s", "status", "socket", "/s", NULL},
        {"hayauma -c /f status", "status", "config", "/f", NULL},
        {"hayauma status -c/f", "status", "config", "/f", NULL},
        {"hayauma queue --json list --domain a.example", "queue list", "domain", "a.example", NULL},
        {"hayauma queue list --domain=a=b", "queue list", "domain", "a=b", NULL},
        {"hayauma queue list --domain ''", "queue list", "domain", "", NULL},
        {"hayauma queue list --domain --json", "queue list", "domain", "--json", NULL}, /* as getopt does */
        {"hayauma queue cancel -y --all", "queue cancel", "all", "", NULL},
        {"hayauma account add x --network 10.0.0.0/8 --network ::1", "account add", "network", "10.0.0.0/8",
         "x"},
        {"hayauma policy check -- --file", "policy check", NULL, NULL, "--file"},
        {"hayauma policy check -", "policy check", NULL, NULL, "-"},
        {"hayauma report tls --by mx --csv", "report tls", "by", "mx", NULL},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct invocation in;
        struct line l;
        BUF_LOCAL(complaint);
        split(&l, cases[i].line);
        if (strstr(cases[i].line, "''"))
            assert_string_equal(l.argv[l.argc - 1], "");
        assert_true(command_parse(commands, l.argc, l.argv, &in, &complaint));
        assert_string_equal(in.command->name, cases[i].command);
        if (cases[i].option)
            assert_string_equal(invocation_text(&in, cases[i].option), cases[i].value);
        if (cases[i].arg)
            assert_string_equal(in.args[0], cases[i].arg);
        assert_int_equal(in.arg_count, cases[i].arg ? 1 : 0);
        invocation_fini(&in);
    }
}

static void what_is_wrong_is_named_with_what_would_be_right(void **state)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"hayauma statsu", "did you mean 'status'?"},
        {"hayauma acount list", "did you mean 'account'?"},
        {"hayauma queue lst", "did you mean 'list'?"},
        {"hayauma queue list --doman x", "did you mean '--domain'?"},
        {"hayauma queue list --jsno", "did you mean '--json'?"},
        {"hayauma --domain x queue list", "unknown option '--domain'"},
        {"hayauma queue list -z", "unknown option '-z'"},
        {"hayauma queue list --domain", "--domain DOMAIN"},
        {"hayauma queue list --json=1", "--json takes no value"},
        {"hayauma queue list --limit many", "--limit wants a number, not 'many'"},
        {"hayauma queue list --limit -1", "--limit wants a number, not '-1'"},
        {"hayauma queue list --limit 99999999999999999999", "--limit wants a number"},
        {"hayauma queue list --state wait", "waiting|held|"},
        {"hayauma queue list --domain a --domain b", "--domain is given twice"},
        {"hayauma queue list extra", "has no use for 'extra'"},
        {"hayauma queue show", "hayauma queue show ID"},
        {"hayauma account add", "hayauma account add NAME"},
        {"hayauma account add a b", "has no use for 'b'"},
        {"hayauma account add a --password x", "unknown option '--password'"}, /* never an argument */
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct invocation in;
        struct line l;
        BUF_LOCAL(complaint);
        split(&l, cases[i].line);
        assert_false(command_parse(commands, l.argc, l.argv, &in, &complaint));
        if (!strstr(buf_str(&complaint), cases[i].says))
            fail_msg("%s: %s", cases[i].line, buf_str(&complaint));
        invocation_fini(&in);
    }
}

static void help_is_asked_for_anywhere_and_wants_no_arguments(void **state)
{
    static const struct {
        const char *line, *command, *family;
    } cases[] = {
        {"hayauma --help", NULL, ""},
        {"hayauma", NULL, ""},
        {"hayauma queue -h", NULL, "queue"},
        {"hayauma queue", NULL, "queue"},
        {"hayauma queue show --help", "queue show", "queue"},
        {"hayauma -h account add", "account add", "account"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct invocation in;
        struct line l;
        BUF_LOCAL(complaint);
        split(&l, cases[i].line);
        assert_true(command_parse(commands, l.argc, l.argv, &in, &complaint));
        assert_int_equal(in.help, strstr(cases[i].line, "-h") != NULL);
        assert_true(bytes_eq(in.family, bytes_of(cases[i].family)));
        if (cases[i].command)
            assert_string_equal(in.command->name, cases[i].command);
        else
            assert_null(in.command);
        invocation_fini(&in);
    }
}

static void repeated_options_keep_their_order(void **state)
{
    struct invocation in;
    struct line l;
    BUF_LOCAL(complaint);
    size_t at = 0;

    split(&l, "hayauma account add x --network 10.0.0.0/8 --sender-domain a.example --network=::1");
    assert_true(command_parse(commands, l.argc, l.argv, &in, &complaint));
    assert_string_equal(invocation_next(&in, "network", &at), "10.0.0.0/8");
    assert_string_equal(invocation_next(&in, "network", &at), "::1");
    assert_null(invocation_next(&in, "network", &at));
    assert_int_equal(invocation_count(&in, "max-connections", 77), 77);
    invocation_fini(&in);
}

/* ---- the table itself ---- */

static void options_are_clear(const struct command *c)
{
    for (const struct command_option *o = c->options; o && o->name; o++) {
        assert_true(o->help && *o->help);
        assert_int_equal(o->value == NULL, o->kind == OPTION_FLAG);
        for (const struct command_option *p = o + 1; p->name; p++)
            assert_string_not_equal(o->name, p->name);
        for (const struct command_option *p = command_common_options; p->name; p++) {
            assert_string_not_equal(o->name, p->name);
            assert_true(!o->letter || o->letter != p->letter);
        }
    }
}

static void every_command_has_a_handler_help_and_options_of_its_own_names(void **state)
{
    for (const struct command *c = commands; c->name; c++) {
        BUF_LOCAL(help);
        assert_non_null(c->run);
        assert_true(c->summary && *c->summary);
        assert_null(strchr(".?!", c->summary[strlen(c->summary) - 1])); /* help and manual end the sentence */
        assert_true(c->args_min <= c->args_max);
        assert_int_equal(c->args_max > 0, *c->arguments != '\0');
        assert_ptr_equal(command_find(commands, bytes_of(c->name)), c);
        options_are_clear(c);
        command_help(c, &help);
        assert_non_null(strstr(buf_str(&help), c->name));
        for (const struct command_option *o = c->options; o && o->name; o++)
            assert_non_null(strstr(buf_str(&help), o->name));
    }
}

static void completion_knows_every_command_and_option(void **state)
{
    void (*const makers[])(const struct command *, struct buf *) = {command_completion_bash,
                                                                    command_completion_zsh};

    for (size_t i = 0; i < COUNT_OF(makers); i++) {
        BUF_LOCAL(out);
        makers[i](commands, &out);
        for (const struct command *c = commands; c->name; c++) {
            assert_non_null(strstr(buf_str(&out), c->name));
            for (const struct command_option *o = c->options; o && o->name; o++)
                assert_non_null(strstr(buf_str(&out), o->name));
        }
    }
}

/* A name that is too long, or has an ellipsis of three octets, pushes nothing out of its column. */
static void what_help_says_of_names_begins_in_one_column(void **state)
{
    (void)state;
    for (const struct command *c = commands; c->name; c++) {
        BUF_LOCAL(out);
        command_help(c, &out);
        struct bytes rest = buf_bytes(&out);
        while (rest.len && bytes_find(rest, '\n') < rest.len) {
            struct bytes line = bytes_first(rest, bytes_find(rest, '\n'));
            rest = bytes_skip(rest, line.len + 1);
            assert_true(!bytes_starts(line, BYTES("    ")) || format_width(line) <= 100);
            size_t at = 2;
            while (at + 1 < line.len && !(line.at[at] == ' ' && line.at[at + 1] == ' '))
                at++;
            if (!bytes_starts(line, BYTES("  -")) || at + 1 >= line.len)
                continue; /* a continued sentence; a name that fills its line */
            struct bytes name = bytes_first(line, at);
            while (at < line.len && line.at[at] == ' ')
                at++;
            assert_int_equal(format_width(name) + (at - name.len), 30);
        }
    }
}

static void the_manual_tells_of_every_command_and_no_text_becomes_a_request(void **state)
{
    BUF_LOCAL(out);

    command_manual(commands, &out);
    for (const struct command *c = commands; c->name; c++) {
        BUF_LOCAL(heading);
        buf_puts(&heading, ".SS hayauma ");
        for (const char *at = c->name; *at; at++) {
            if (*at == '-')
                buf_putc(&heading, '\\'); /* a hyphen that can be copied */
            buf_putc(&heading, *at);
        }
        assert_non_null(strstr(buf_str(&out), buf_str(&heading)));
    }
    for (struct bytes rest = buf_bytes(&out); rest.len;) {
        struct bytes line = bytes_first(rest, bytes_find(rest, '\n'));
        if (line.len && *line.at == '.')
            assert_true(line.len > 1 && line.at[1] >= 'A' && line.at[1] <= 'Z');
        assert_true(!line.len || *line.at != '\'');
        rest = bytes_skip(rest, line.len + 1);
    }
}

/* ---- the socket ---- */

static void the_socket_follows_the_daemons_configuration(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", "/var/lib/hayauma/hayauma.sock"},
        {"data_dir: /srv/mail\n", "/srv/mail/hayauma.sock"},
        {"data_dir: mail\n", "/etc/hayauma/mail/hayauma.sock"},
        {"data_dir: /srv/mail\napi: {socket: /run/h.sock}\n", "/run/h.sock"},
        {"api:\n  socket: h.sock\n", "/etc/hayauma/h.sock"},
        {"api:\n  socket: /run/h.sock\nworkres: many\n", "/run/h.sock"}, /* errors are the daemon's to tell */
        {"a: [", NULL},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char *socket = NULL;
        bool good = socket_of_conf("/etc/hayauma/hayauma.yaml", bytes_of(cases[i].text), &socket);
        assert_int_equal(good, cases[i].want != NULL);
        if (cases[i].want)
            assert_string_equal(socket, cases[i].want);
        mem_free(socket);
    }
}

static void addresses_are_encoded(void **state)
{
    BUF_LOCAL(url);

    url_path(&url, "/api/v1/accounts");
    url_segment(&url, "a/b?c d日");
    url_param(&url, "one", NULL);
    url_param(&url, "campaign", "x&y=z+%");
    url_param_count(&url, "limit", 100000);
    url_param(&url, "mx", "");
    assert_string_equal(buf_str(&url), "http://hayauma/api/v1/accounts/a%2Fb%3Fc%20d%E6%97%A5"
                                       "?campaign=x%26y%3Dz%2B%25&limit=100000&mx=");
}

static void json_for_a_terminal_stays_json(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"{\"a\":\"日本\"}", "{\"a\":\"日本\"}"},
        {"\"\x7f\"", "\"\\u007f\""},
        {"\"\xc2\x9b\"", "\"\\u009b\""},
        {"\"\xc2\xa0\"", "\"\xc2\xa0\""},
        {"\"\xe2\x80\xae\"", "\"\\u202e\""},
        {"\"\xe2\x80\xa6\"", "\"\xe2\x80\xa6\""},
        {"\"\xe2\x81\xa9\"", "\"\\u2069\""},
        {"\"\xef\xbb\xbf\"", "\"\\ufeff\""},
        {"\"\xf3\xa0\x80\x81\"", "\"\\udb40\\udc01\""},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(out);
        put_json_safe(&out, bytes_of(cases[i].text));
        assert_string_equal(buf_str(&out), cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_understood),
        cmocka_unit_test(what_is_wrong_is_named_with_what_would_be_right),
        cmocka_unit_test(help_is_asked_for_anywhere_and_wants_no_arguments),
        cmocka_unit_test(repeated_options_keep_their_order),
        cmocka_unit_test(every_command_has_a_handler_help_and_options_of_its_own_names),
        cmocka_unit_test(completion_knows_every_command_and_option),
        cmocka_unit_test(what_help_says_of_names_begins_in_one_column),
        cmocka_unit_test(the_manual_tells_of_every_command_and_no_text_becomes_a_request),
        cmocka_unit_test(the_socket_follows_the_daemons_configuration),
        cmocka_unit_test(addresses_are_encoded),
        cmocka_unit_test(json_for_a_terminal_stays_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* webui-api/cli/table.c: columns, widths, what gives way, colours. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "webui-api/cli/format.h"
#include "webui-api/cli/table.h"

static const struct column columns[] = {
    {"NAME", COLUMN_LEFT},
    {"COUNT", COLUMN_RIGHT},
    {"RARE", COLUMN_RIGHT | COLUMN_OPTIONAL},
    {"REPLY", COLUMN_GIVES},
};

static void add(struct table *t, const char *name, uint64_t count, uint64_t rare, const char *reply)
{
    table_text(t, STYLE_PLAIN, name);
    table_count(t, STYLE_PLAIN, count);
    table_count(t, STYLE_PLAIN, rare);
    table_text(t, STYLE_DIM, reply);
}

static void columns_line_up_also_with_wide_characters(void **state)
{
    const struct term term = {0};
    struct table t;
    BUF_LOCAL(out);

    table_init(&t, columns, COUNT_OF(columns));
    add(&t, "日本語", 1234567, 0, "ok");
    add(&t, "a", 5, 0, "a longer reply");
    table_print(&t, &term, &out);
    table_fini(&t);
    assert_string_equal(buf_str(&out), "NAME        COUNT  REPLY\n"
                                       "日本語  1,234,567  ok\n"
                                       "a               5  a longer reply\n");
}

static void an_optional_column_is_shown_as_soon_as_it_says_something(void **state)
{
    const struct term term = {0};
    struct table t;
    BUF_LOCAL(out);

    table_init(&t, columns, COUNT_OF(columns));
    add(&t, "a", 1, 0, "x");
    table_rule(&t);
    add(&t, "total", 1, 2, "");
    table_print(&t, &term, &out);
    table_fini(&t);
    assert_string_equal(buf_str(&out), "NAME   COUNT  RARE  REPLY\n"
                                       "a          1     0  x\n"
                                       "─────────────────────────\n"
                                       "total      1     2  \n");
}

static void lines_fit(struct buf *out, size_t width)
{
    for (struct bytes rest = buf_bytes(out); rest.len;) {
        size_t end = bytes_find(rest, '\n');
        assert_true(format_width(bytes_first(rest, end)) <= width);
        rest = bytes_skip(rest, end + 1);
    }
}

static void on_a_narrow_terminal_the_reply_gives_way_and_no_line_is_longer(void **state)
{
    for (size_t width = 36; width < 90; width++) {
        const struct term term = {.terminal = true, .width = width};
        struct table t;
        BUF_LOCAL(out);
        table_init(&t, columns, COUNT_OF(columns));
        add(&t, "one", 1, 0, "450 4.2.0 あとで please, and much more that nobody reads to its end");
        add(&t, "two", 2, 0, "ok");
        table_print(&t, &term, &out);
        table_fini(&t);
        lines_fit(&out, width);
        assert_non_null(strstr(buf_str(&out), "ok\n"));
    }
}

static void what_gives_is_cut_from_the_right_and_then_spare_columns_go(void **state)
{
    static const struct column four[] = {
        {"FIRST", COLUMN_GIVES}, {"SPARE", COLUMN_SPARE}, {"MORE", COLUMN_SPARE}, {"LAST", COLUMN_GIVES}};
    static const char text[] = "thirty columns of one long text"; /* 31 */
    static const struct {
        size_t width;
        bool first_whole, last_whole, spare, more;
    } cases[] = {
        {0, true, true, true, true},      {77, true, true, true, true},    {76, true, false, true, true},
        {66, true, false, true, true},    {65, false, false, true, true},  {55, false, false, true, true},
        {54, false, false, true, false},  {49, false, false, true, false}, {48, false, false, false, false},
        {42, false, false, false, false},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const struct term term = {.width = cases[i].width};
        struct table t;
        BUF_LOCAL(out);
        table_init(&t, four, COUNT_OF(four));
        for (size_t k = 0; k < COUNT_OF(four); k++)
            table_text(&t, STYLE_PLAIN, k == 0 || k == 3 ? text : k == 1 ? "s" : "m");
        table_print(&t, &term, &out);
        const char *row = strchr(buf_str(&out), '\n') + 1, *cut_mark = strstr(row, "…");
        assert_int_equal(strncmp(row, text, sizeof(text) - 1) == 0, cases[i].first_whole);
        assert_int_equal(strcmp(out.at + out.len - sizeof("text\n") + 1, "text\n") == 0, cases[i].last_whole);
        assert_int_equal(cut_mark == NULL, cases[i].first_whole && cases[i].last_whole);
        assert_int_equal(strstr(buf_str(&out), "SPARE") != NULL, cases[i].spare);
        assert_int_equal(strstr(buf_str(&out), "MORE") != NULL, cases[i].more);
        if (cases[i].width)
            lines_fit(&out, cases[i].width);
        table_fini(&t);
    }
}

static void pages_share_one_head_and_its_columns(void **state)
{
    const struct term term = {0};
    struct table t;
    BUF_LOCAL(out);

    table_init(&t, columns, COUNT_OF(columns));
    add(&t, "a long name", 1, 0, "x");
    table_print(&t, &term, &out);
    add(&t, "b", 22222, 3, "y"); /* RARE has no head above it: it stays away */
    table_print(&t, &term, &out);
    assert_int_equal(table_rows(&t), 0);
    table_fini(&t);
    assert_string_equal(buf_str(&out), "NAME         COUNT  REPLY\n"
                                       "a long name      1  x\n"
                                       "b            22,222  y\n");
}

static void colours_are_there_only_when_asked_for_and_always_end(void **state)
{
    static const struct column one[] = {{"X", COLUMN_LEFT}};
    const struct term plain = {.terminal = true}, colour = {.terminal = true, .colour = true};
    const struct term *terms[] = {&plain, &colour};
    static const char *const want[] = {"X\nbad\n", "\033[1mX\033[0m\n\033[31mbad\033[0m\n"};

    for (size_t i = 0; i < COUNT_OF(terms); i++) {
        struct table t;
        BUF_LOCAL(out);
        table_init(&t, one, 1);
        table_text(&t, STYLE_BAD, "bad");
        table_print(&t, terms[i], &out);
        table_fini(&t);
        assert_string_equal(buf_str(&out), want[i]);
    }
}

static void text_of_strangers_is_escaped_in_cells(void **state)
{
    static const struct column one[] = {{"X", COLUMN_LEFT}};
    const struct term term = {0};
    struct table t;
    BUF_LOCAL(out);

    table_init(&t, one, 1);
    table_text(&t, STYLE_PLAIN, "a\033[2Jb\nc");
    table_print(&t, &term, &out);
    table_fini(&t);
    assert_string_equal(buf_str(&out), "X\na\\x1b[2Jb\\nc\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_line_up_also_with_wide_characters),
        cmocka_unit_test(an_optional_column_is_shown_as_soon_as_it_says_something),
        cmocka_unit_test(on_a_narrow_terminal_the_reply_gives_way_and_no_line_is_longer),
        cmocka_unit_test(what_gives_is_cut_from_the_right_and_then_spare_columns_go),
        cmocka_unit_test(pages_share_one_head_and_its_columns),
        cmocka_unit_test(colours_are_there_only_when_asked_for_and_always_end),
        cmocka_unit_test(text_of_strangers_is_escaped_in_cells),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/yaml.h"

static char *complaints(const struct yaml_errors *e)
{
    struct buf all = {0};

    for (size_t i = 0; i < e->count; i++)
        buf_putf(&all, "%s\n", e->items[i].text);
    return buf_take(&all);
}

static void a_tree_keeps_texts_and_positions(void **state)
{
    struct yaml_errors errors = {.name = "t.yaml"};
    struct yaml_doc *doc;

    assert_int_equal(yaml_parse(BYTES("# note\n"
                                      "a: one\n"
                                      "list: [x, \"no\", '']\n"
                                      "map:\n"
                                      "  ä: |\n"
                                      "    two\n"
                                      "    lines\n"
                                      "  none:\n"),
                                &doc, &errors),
                     OK);
    const struct yaml_node *root = yaml_root(doc);
    assert_int_equal(root->type, YAML_MAP);
    assert_int_equal(root->count, 3);
    assert_string_equal(root->keys[0]->text.at, "a");
    const struct yaml_node *a = yaml_find(root, "a");
    assert_string_equal(a->text.at, "one");
    assert_int_equal(a->line, 2);
    assert_int_equal(a->column, 4);
    const struct yaml_node *list = yaml_find(root, "list");
    assert_int_equal(list->type, YAML_LIST);
    assert_int_equal(list->count, 3);
    assert_false(list->items[0]->quoted);
    assert_true(list->items[1]->quoted);
    assert_true(list->items[2]->quoted);
    assert_int_equal(list->items[2]->text.len, 0);
    assert_int_equal(list->items[1]->column, 11);
    const struct yaml_node *map = yaml_find(root, "map");
    assert_string_equal(yaml_find(map, "ä")->text.at, "two\nlines\n");
    assert_int_equal(yaml_find(map, "none")->text.len, 0);
    assert_false(yaml_find(map, "none")->quoted);
    assert_null(yaml_find(map, "missing"));
    assert_null(yaml_find(a, "not a map"));
    yaml_doc_destroy(doc);
    yaml_errors_fini(&errors);
}

static void an_empty_document_is_an_empty_map(void **state)
{
    static const char *const texts[] = {"",      "\n\n",       "# only a comment\n",
                                        "---\n", "---\n...\n", "\xef\xbb\xbf"};

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct yaml_errors errors = {.name = "t"};
        struct yaml_doc *doc;
        assert_int_equal(yaml_parse(bytes_of(texts[i]), &doc, &errors), OK);
        assert_int_equal(yaml_root(doc)->type, YAML_MAP);
        assert_int_equal(yaml_root(doc)->count, 0);
        yaml_doc_destroy(doc);
        yaml_errors_fini(&errors);
    }
}

static void what_is_too_clever_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"a: &x 1\nb: *x\n", "t:1:4: anchors (&name) are not used here: write the value out\n"
                             "t:2:4: aliases (*name) are not used here: write the value out\n"},
        {"a: &x 1\n", "t:1:4: anchors (&name) are not used here: write the value out\n"},
        {"a: !!int 1\n", "t:1:4: tags (!type) are not used here: remove it, or put the text in quotes\n"},
        {"a: ! 1\n", "t:1:4: tags (!type) are not used here: remove it, or put the text in quotes\n"},
        {"a: !x [1]\n", "t:1:4: tags (!type) are not used here: remove it, or put the text in quotes\n"},
        {"a: 1\nb: 2\na: 3\n", "t:3:1: key 'a' stands twice: first in line 1\n"},
        {"x:\n  - {k: 1, k: 2}\n", "t:2:12: key 'k' stands twice: first in line 2\n"},
        {"a: 1\n---\nb: 2\n", "t:2:1: a second document (---) begins here: one file holds one\n"},
        {"%YAML 1.1\n---\na: 1\n", "t:1:1: directives (%…) are not used here: remove the line\n"},
        {"? [a, b]\n: 1\n", "t:1:3: a key must be a word, not a list or a map\n"},
        {"a: \"x\\0y\"\n", "t:1:4: the text contains a NUL character\n"},
        {"\"a\\nb\": 1\n\"a\\nb\": 2\n", "t:2:1: key 'a?b' stands twice: first in line 1\n"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct yaml_errors errors = {.name = "t"};
        struct yaml_doc *doc;
        assert_int_equal(yaml_parse(bytes_of(cases[i].text), &doc, &errors), ERR_INVALID);
        char *got = complaints(&errors);
        assert_string_equal(got, cases[i].want);
        mem_free(got);
        yaml_errors_fini(&errors);
    }
}

static void a_key_that_stands_twice_does_not_hide_the_rest(void **state)
{
    struct yaml_errors errors = {.name = "t"};
    struct yaml_errors other = {.name = "u"};
    struct yaml_doc *doc;

    (void)state;
    assert_int_equal(yaml_read(BYTES("a: 1\na: 2\n? [x]\n: 3\nb: 4\n"), &doc, &errors), OK);
    assert_int_equal(errors.errors, 2);
    const struct yaml_node *root = yaml_root(doc);
    assert_int_equal(root->count, 2);
    assert_true(bytes_eq(yaml_find(root, "a")->text, BYTES("1")));
    assert_true(bytes_eq(yaml_find(root, "b")->text, BYTES("4")));
    yaml_error(&errors, yaml_find(root, "b"), "wrong too");
    yaml_doc_destroy(doc);
    assert_int_equal(yaml_read(BYTES("a: *b\n"), &doc, &other),
                     ERR_INVALID); /* not as it is meant: no tree */
    yaml_errors_append(&errors, &other);
    yaml_errors_sort(&errors);
    char *got = complaints(&errors);
    assert_string_equal(got, "t:2:1: key 'a' stands twice: first in line 1\n"
                             "t:3:3: a key must be a word, not a list or a map\n"
                             "t:5:4: wrong too\n"
                             "u:1:4: aliases (*name) are not used here: write the value out\n");
    assert_int_equal(errors.errors, 4);
    assert_int_equal(other.count, 0);
    mem_free(got);
    yaml_errors_fini(&errors);
    yaml_errors_fini(&other);
}

static void broken_syntax_is_reported_where_it_breaks(void **state)
{
    static const struct {
        const char *text, *place;
    } cases[] = {
        {"a: 1\n\tb: 2\n", "t:2:1: "},  {"a: [1, 2\nb: 3\n", "t:2:2: "},  {"a: 'open\n", "t:2:1: "},
        {"a: b: c\n", "t:1:5: "},       {"a: \"\\q\"\n", "t:1:5: "},      {"a: @x\n", "t:1:4: "},
        {"a: 1\nb: \xff\n", "t:2:4: "}, {"ok: 1\nb\x01: 2\n", "t:2:2: "}, {"a: *nowhere\n", "t:1:4: "},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct yaml_errors errors = {.name = "t"};
        struct yaml_doc *doc;
        assert_int_equal(yaml_parse(bytes_of(cases[i].text), &doc, &errors), ERR_INVALID);
        assert_int_equal(errors.errors, 1);
        assert_memory_equal(errors.items[0].text, cases[i].place, strlen(cases[i].place));
        yaml_errors_fini(&errors);
    }
}

static struct buf nested(size_t levels)
{
    struct buf text = {0};

    for (size_t i = 0; i < levels; i++)
        buf_putc(&text, '[');
    for (size_t i = 0; i < levels; i++)
        buf_putc(&text, ']');
    return text;
}

static void depth_size_and_number_of_values_are_capped(void **state)
{
    struct yaml_errors errors = {.name = "t"};
    struct yaml_doc *doc;
    struct buf text = nested(20);

    assert_int_equal(yaml_parse(buf_bytes(&text), &doc, &errors), OK);
    yaml_doc_destroy(doc);
    buf_fini(&text);
    text = nested(21);
    assert_int_equal(yaml_parse(buf_bytes(&text), &doc, &errors), ERR_INVALID);
    assert_string_equal(errors.items[0].text, "t:1:21: nested more than 20 levels deep");
    yaml_errors_fini(&errors);

    buf_clear(&text);
    for (int i = 0; i < 200000; i++)
        buf_puts(&text, "- x\n");
    assert_int_equal(yaml_parse(buf_bytes(&text), &doc, &errors), ERR_INVALID);
    assert_string_equal(errors.items[0].text, "t:200000:3: more than 200000 values");
    yaml_errors_fini(&errors);

    buf_clear(&text);
    memset(buf_reserve(&text, (4 << 20) + 1), ' ', (4 << 20) + 1);
    text.len = (4 << 20) + 1;
    assert_int_equal(yaml_parse(buf_bytes(&text), &doc, &errors), ERR_INVALID);
    assert_string_equal(errors.items[0].text, "t: larger than 4 MiB");
    yaml_errors_fini(&errors);
    buf_fini(&text);
}

static void complaints_are_capped_but_counted_and_sort_by_place(void **state)
{
    struct yaml_errors errors = {.name = "t"};

    for (uint32_t i = 0; i < 150; i++) {
        struct yaml_node at = {.line = 1000 - i, .column = 1};
        yaml_error(&errors, &at, "number %u", i);
    }
    yaml_error(&errors, NULL, "about all");
    yaml_notice(&errors, NULL, "only a notice");
    assert_int_equal(errors.errors, 151);
    assert_int_equal(errors.count, 101);
    yaml_errors_sort(&errors);
    assert_string_equal(errors.items[0].text, "t:901:1: number 99");
    assert_string_equal(errors.items[99].text, "t:1000:1: number 0");
    assert_string_equal(errors.items[100].text, "t: there is more; mend these first");
    yaml_errors_fini(&errors);
    yaml_notice(&errors, NULL, "only a notice");
    assert_int_equal(errors.errors, 0);
    assert_true(errors.items[0].is_notice);
    assert_string_equal(errors.items[0].text, "t: note: only a notice");
    yaml_errors_fini(&errors);
}

static void the_nearest_word_is_offered_only_when_it_is_near(void **state)
{
    static const char *const words[] = {"timeout", "total",           "starttls", "on",
                                        "off",     "command_timeout", "tls"};
    static const struct {
        const char *word, *want;
    } cases[] = {
        {"tiemout", "timeout"},
        {"Timeout", "timeout"},
        {"time-out", "timeout"},
        {"command-timeout", "command_timeout"},
        {"startls", "starttls"},
        {"STARTTLS", "starttls"},
        {"of", "off"},
        {"onn", "on"},
        {"no", "on"},
        {"banana", NULL},
        {"", NULL},
        {"x", NULL},
        {"totla", "total"},
        {"comand_timout", "command_timeout"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *got = yaml_did_you_mean(bytes_of(cases[i].word), words, COUNT_OF(words));
        if (cases[i].want)
            assert_string_equal(got, cases[i].want);
        else
            assert_null(got);
    }
}

static struct yaml_node scalar(const char *text)
{
    return (struct yaml_node){.type = YAML_SCALAR, .line = 3, .column = 7, .text = bytes_of(text)};
}

static void durations_and_sizes_have_units_and_never_overflow(void **state)
{
    static const struct {
        const char *text;
        uint64_t duration_ms, size_bytes; /* UINT64_MAX: refused */
    } cases[] = {
        {"0", 0, 0},
        {"90", 90000, 90},
        {"90s", 90000, UINT64_MAX},
        {"250ms", 250, UINT64_MAX},
        {"5m", 300000, 5 << 20},
        {"2h", 7200000, UINT64_MAX},
        {"5d", 432000000, UINT64_MAX},
        {"64k", UINT64_MAX, 65536},
        {"64K", UINT64_MAX, 65536},
        {"1G", UINT64_MAX, 1 << 30},
        {"2T", UINT64_MAX, (uint64_t)2 << 40},
        {"5M", UINT64_MAX, 5 << 20}, /* not minutes: a size in the wrong place */
        {"", UINT64_MAX, UINT64_MAX},
        {"s", UINT64_MAX, UINT64_MAX},
        {"-5s", UINT64_MAX, UINT64_MAX},
        {"1.5h", UINT64_MAX, UINT64_MAX},
        {"5 m", UINT64_MAX, UINT64_MAX},
        {"50MB", UINT64_MAX, UINT64_MAX},
        {"18446744073709551615", UINT64_MAX, UINT64_MAX},
        {"213503982335d", UINT64_MAX, UINT64_MAX},
        {"16777216T", UINT64_MAX, UINT64_MAX},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        uint64_t got = UINT64_MAX;
        bool ok = yaml_parse_duration_ms(bytes_of(cases[i].text), &got);
        assert_true(got == cases[i].duration_ms);
        assert_int_equal(ok, cases[i].duration_ms != UINT64_MAX);
        got = UINT64_MAX;
        yaml_parse_size(bytes_of(cases[i].text), &got);
        assert_true(got == cases[i].size_bytes);
    }
}

static void what_is_put_reads_back(void **state)
{
    static const uint64_t values[] = {
        0, 1, 250, 999, 1000, 1500, 90000, 86400000, 65536, 1025, (uint64_t)3 << 40};

    for (size_t i = 0; i < COUNT_OF(values); i++) {
        BUF_LOCAL(text);
        uint64_t got;
        yaml_put_duration_ms(&text, values[i]);
        assert_true(yaml_parse_duration_ms(buf_bytes(&text), &got) && got == values[i]);
        buf_clear(&text);
        yaml_put_size(&text, values[i]);
        assert_true(yaml_parse_size(buf_bytes(&text), &got) && got == values[i]);
    }
}

static void wrong_values_are_told_what_would_be_right(void **state)
{
    static const char *const words[] = {"starttls", "implicit", "none"};
    struct yaml_errors e = {.name = "f"};
    struct yaml_node list = {.type = YAML_LIST, .line = 1, .column = 2, .text = BYTES("")};
    struct yaml_node bad = scalar("maybe"), big = scalar("70000"), odd = scalar("startls"), none = scalar("");
    struct yaml_node five = scalar("5"), control = scalar("a\nb");
    bool b = true;
    int64_t n = 7;
    uint64_t u = 7;
    double d = 7;
    int w = 7;

    assert_false(yaml_get_bool(&bad, &b, &e));
    assert_false(yaml_get_bool(&list, &b, &e));
    assert_false(yaml_get_int(&big, 1, 65535, &n, &e));
    assert_false(yaml_get_int(&none, 0, INT64_MAX, &n, &e));
    assert_false(yaml_get_double(&bad, 0, 2.5, &d, &e));
    assert_false(yaml_get_duration_ms(&five, 30000, 3600000, &u, &e));
    assert_false(yaml_get_size(&five, 1024, UINT64_MAX, &u, &e));
    assert_false(yaml_get_word(&odd, words, COUNT_OF(words), &w, &e));
    assert_false(yaml_get_word(&control, words, COUNT_OF(words), &w, &e));
    assert_true(b && n == 7 && u == 7 && d == 7 && w == 7);
    char *got = complaints(&e);
    assert_string_equal(
        got, "f:3:7: expected true or false, found 'maybe'\n"
             "f:1:2: expected true or false, found a list\n"
             "f:3:7: expected a whole number from 1 to 65535, found '70000'\n"
             "f:3:7: expected a whole number, 0 or more, found nothing\n"
             "f:3:7: expected a number from 0 to 2.5, found 'maybe'\n"
             "f:3:7: expected a duration like 250ms, 30s, 5m, 2h or 5d from 30s to 1h, found '5'\n"
             "f:3:7: expected a size like 64k, 50M or 1G, 1k or more, found '5'\n"
             "f:3:7: expected starttls, implicit or none, found 'startls' (did you mean 'starttls'?)\n"
             "f:3:7: expected starttls, implicit or none, found 'a?b'\n");
    mem_free(got);
    yaml_errors_fini(&e);
}

static void right_values_are_read(void **state)
{
    struct yaml_errors e = {.name = "f"};
    struct yaml_node yes = scalar("Yes"), off = scalar("off"), minus = scalar("-12"), half = scalar("-0.5");
    struct yaml_node most = scalar("9223372036854775807"), over = scalar("9223372036854775808");
    bool b = false;
    int64_t n = 0;
    double d = 0;

    assert_true(yaml_get_bool(&yes, &b, &e) && b);
    assert_true(yaml_get_bool(&off, &b, &e) && !b);
    assert_true(yaml_get_int(&minus, -12, 0, &n, &e) && n == -12);
    assert_true(yaml_get_int(&most, 0, INT64_MAX, &n, &e) && n == INT64_MAX);
    assert_int_equal(e.errors, 0);
    assert_false(yaml_get_int(&over, 0, INT64_MAX, &n, &e));
    assert_true(yaml_get_double(&half, -1, 1, &d, &e) && d == -0.5);
    static const char *const wrong[] = {"nan", "inf", "1e3", "0x1", ".5", "1.", "1,5", "+1", "", "1.2.3"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct yaml_node bad = scalar(wrong[i]);
        assert_false(yaml_get_double(&bad, -1000, 1000, &d, &e));
    }
    yaml_errors_fini(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_keeps_texts_and_positions),
        cmocka_unit_test(an_empty_document_is_an_empty_map),
        cmocka_unit_test(what_is_too_clever_is_refused_with_its_place),
        cmocka_unit_test(a_key_that_stands_twice_does_not_hide_the_rest),
        cmocka_unit_test(broken_syntax_is_reported_where_it_breaks),
        cmocka_unit_test(depth_size_and_number_of_values_are_capped),
        cmocka_unit_test(complaints_are_capped_but_counted_and_sort_by_place),
        cmocka_unit_test(the_nearest_word_is_offered_only_when_it_is_near),
        cmocka_unit_test(durations_and_sizes_have_units_and_never_overflow),
        cmocka_unit_test(what_is_put_reads_back),
        cmocka_unit_test(wrong_values_are_told_what_would_be_right),
        cmocka_unit_test(right_values_are_read),
    };

    return cmocka_run_group_tests_name("base/yaml", tests, NULL, NULL);
}

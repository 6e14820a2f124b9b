#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/conf.h"
#include "base/mem.h"

struct horse {
    char *name;
    int64_t legs;
    struct conf_strings riders;
};

struct stable {
    bool open;
    int64_t doors;
    char *owner, *deed, *rank;
    int mood;
    struct {
        uint64_t wait_ms, hay_bytes;
        struct {
            char *sign;
        } gate;
    } yard;
    struct conf_strings towns;
    struct conf_tables horses;
};

#define AT(field)       offsetof(struct stable, field)
#define HORSE_AT(field) offsetof(struct horse, field)

static const char *const moods[] = {"calm", "lively", "wild", NULL};
static const char *const ranks[] = {"1.2", "1.3", NULL};

static const struct conf_key horse_keys[] = {
    {.name = "name",
     .type = CONF_STRING,
     .offset = HORSE_AT(name),
     .max = "12",
     .help = "Its name.",
     .required = true},
    {.name = "legs",
     .type = CONF_INT,
     .offset = HORSE_AT(legs),
     .preset = "4",
     .min = "0",
     .max = "4",
     .help = "Legs."},
    {.name = "riders", .type = CONF_STRINGS, .offset = HORSE_AT(riders), .max = "2", .help = "Who rides."},
    {0},
};

static const struct conf_key keys[] = {
    {.name = "open", .type = CONF_BOOL, .offset = AT(open), .preset = "true", .help = "Whether."},
    {.name = "doors",
     .type = CONF_INT,
     .offset = AT(doors),
     .preset = "-2",
     .min = "-10",
     .max = "10",
     .help = "Doors.",
     .reload = CONF_RESTART},
    {.name = "owner",
     .type = CONF_STRING,
     .offset = AT(owner),
     .preset = "a \"b\" \\ : c",
     .help = "Says \"who\"."},
    {.name = "deed", .type = CONF_PATH, .offset = AT(deed), .help = "Where.", .reload = CONF_RESTART},
    {.name = "rank",
     .type = CONF_STRING,
     .offset = AT(rank),
     .preset = "1.2",
     .words = ranks,
     .help = "Rank."},
    {.name = "mood",
     .type = CONF_WORD,
     .offset = AT(mood),
     .preset = "lively",
     .words = moods,
     .help = "Mood."},
    {.name = "yard.wait",
     .type = CONF_DURATION,
     .offset = AT(yard.wait_ms),
     .preset = "1500ms",
     .min = "1s",
     .max = "1h",
     .help = "Wait.",
     .reload = CONF_RESTART},
    {.name = "yard.hay",
     .type = CONF_SIZE,
     .offset = AT(yard.hay_bytes),
     .preset = "50M",
     .min = "1k",
     .help = "Hay."},
    {.name = "yard.gate.sign", .type = CONF_STRING, .offset = AT(yard.gate.sign), .help = "Sign."},
    {.name = "towns", .type = CONF_STRINGS, .offset = AT(towns), .help = "Towns.", .reload = CONF_RESTART},
    {.name = "horses",
     .type = CONF_TABLES,
     .offset = AT(horses),
     .sub = horse_keys,
     .sub_bytes = sizeof(struct horse),
     .max = "3",
     .help = "Horses.",
     .reload = CONF_RESTART},
    {0},
};

static struct stable parse_well(const char *text)
{
    struct yaml_errors errors = {0};
    struct stable s;
    enum err e = conf_parse(keys, "/etc/stable/conf.yaml", bytes_of(text), &s, &errors);

    if (errors.count)
        print_message("%s\n", errors.items[0].text);
    assert_int_equal(e, OK);
    assert_int_equal(errors.count, 0);
    yaml_errors_fini(&errors);
    return s;
}

static void nothing_gives_the_presets(void **state)
{
    struct stable s = parse_well("");

    assert_true(s.open);
    assert_int_equal(s.doors, -2);
    assert_string_equal(s.owner, "a \"b\" \\ : c");
    assert_null(s.deed);
    assert_string_equal(s.rank, "1.2");
    assert_int_equal(s.mood, 1);
    assert_int_equal(s.yard.wait_ms, 1500);
    assert_int_equal(s.yard.hay_bytes, 50 << 20);
    assert_null(s.yard.gate.sign);
    assert_int_equal(s.towns.count, 0);
    assert_int_equal(s.horses.count, 0);
    conf_fini(keys, &s);
    assert_null(s.owner);
    conf_fini(keys, &s); /* twice is fine */
}

static void every_type_is_read(void **state)
{
    struct stable s =
        parse_well("open: no\ndoors: 10\nowner: \"\"\ndeed: papers/deed.txt\nrank: 1.3\nmood: wild\n"
                   "yard: {wait: 2m, hay: 1G, gate: {sign: 早馬}}\n"
                   "towns:\n  - Edo\n  - \"Kyoto\"\n"
                   "horses:\n  - name: one\n  - {legs: 3, name: two, riders: [a, b]}\n");
    const struct horse *horses = s.horses.items;

    assert_false(s.open);
    assert_int_equal(s.doors, 10);
    assert_null(s.owner);
    assert_string_equal(s.deed, "/etc/stable/papers/deed.txt");
    assert_string_equal(s.rank, "1.3");
    assert_int_equal(s.mood, 2);
    assert_int_equal(s.yard.wait_ms, 120000);
    assert_int_equal(s.yard.hay_bytes, 1 << 30);
    assert_string_equal(s.yard.gate.sign, "早馬");
    assert_int_equal(s.towns.count, 2);
    assert_string_equal(s.towns.items[1], "Kyoto");
    assert_int_equal(s.horses.count, 2);
    assert_string_equal(horses[0].name, "one");
    assert_int_equal(horses[0].legs, 4);
    assert_string_equal(horses[1].name, "two");
    assert_int_equal(horses[1].legs, 3);
    assert_string_equal(horses[1].riders.items[1], "b");
    conf_fini(keys, &s);
}

static void absolute_paths_stay_and_empty_groups_are_fine(void **state)
{
    struct stable s = parse_well("deed: /srv/deed\nyard:\n  # wait: 5s\nhorses:\ntowns:\n");

    assert_string_equal(s.deed, "/srv/deed");
    assert_int_equal(s.yard.wait_ms, 1500);
    conf_fini(keys, &s);
}

static void all_errors_come_at_once_with_their_places(void **state)
{
    static const char text[] = "opne: true\n"
                               "doors: 11\n"
                               "mood: livly\n"
                               "rank: 1.1\n"
                               "owner:\n"
                               "deed: [x]\n"
                               "yard:\n"
                               "  wiat: 3s\n"
                               "  wait: soon\n"
                               "  hay: 50MB\n"
                               "  doors: 1\n"
                               "  gate: x\n"
                               "wait: 3s\n"
                               "yard.hay: 1M\n"
                               "banana: 1\n"
                               "towns: [a, \"\", [b], \"c\\nd\"]\n"
                               "horses:\n"
                               "  - legs: 5\n"
                               "  - name: muchtoolonganame\n"
                               "  - just text\n"
                               "  - {name: x, riders: [a, b, c], leg: 1}\n";
    static const char *const want[] = {
        "f.yaml:1:1: unknown key 'opne' (did you mean 'open'?)",
        "f.yaml:2:8: expected a whole number from -10 to 10, found '11'",
        "f.yaml:3:7: expected calm, lively or wild, found 'livly' (did you mean 'lively'?)",
        "f.yaml:4:7: expected 1.2 or 1.3, found '1.1' (did you mean '1.2'?)",
        "f.yaml:5:7: expected a text, found nothing (\"\" means: not set)",
        "f.yaml:6:7: expected a text, found a list",
        "f.yaml:8:3: unknown key 'wiat' (did you mean 'wait'?)",
        "f.yaml:9:9: expected a duration like 250ms, 30s, 5m, 2h or 5d from 1s to 1h, found 'soon'",
        "f.yaml:10:8: expected a size like 64k, 50M or 1G, 1k or more, found '50MB'",
        "f.yaml:11:3: unknown key 'doors' (did you mean 'doors' outside of 'yard'?)",
        "f.yaml:12:9: expected keys and values (\"key: value\"), found a text",
        "f.yaml:13:1: unknown key 'wait' (did you mean 'wait' inside 'yard'?)",
        "f.yaml:14:1: unknown key 'yard.hay' (did you mean 'hay' inside 'yard'?)",
        "f.yaml:15:1: unknown key 'banana'",
        "f.yaml:16:12: expected a text, found an empty one",
        "f.yaml:16:16: expected a text, found a list",
        "f.yaml:16:21: the text contains a line break or another control character",
        "f.yaml:18:5: 'name' is missing here",
        "f.yaml:18:11: expected a whole number from 0 to 4, found '5'",
        "f.yaml:19:11: the text is longer than 12 octets",
        "f.yaml:20:5: expected keys and values (\"key: value\"), found a text",
    };
    struct yaml_errors errors = {0};
    struct stable s;

    /* The fourth horse is one too many: the list is complained about as a whole. */
    assert_int_equal(conf_parse(keys, "f.yaml", bytes_make(text, sizeof(text) - 1), &s, &errors),
                     ERR_INVALID);
    yaml_errors_sort(&errors);
    assert_int_equal(errors.errors, 18);
    assert_string_equal(errors.items[17].text, "f.yaml:18:3: the list has 4 items; 3 are allowed");
    yaml_errors_fini(&errors);

    /* Without it, and with its mistakes elsewhere. */
    struct bytes shorter = bytes_make(text, (size_t)(strstr(text, "  - {name") - text));
    assert_int_equal(conf_parse(keys, "f.yaml", shorter, &s, &errors), ERR_INVALID);
    yaml_errors_sort(&errors);
    for (size_t i = 0; i < MIN_OF(errors.count, COUNT_OF(want)); i++)
        assert_string_equal(errors.items[i].text, want[i]);
    assert_int_equal(errors.count, COUNT_OF(want));
    assert_null(s.owner); /* empty again */
    yaml_errors_fini(&errors);

    assert_int_equal(
        conf_parse(keys, "f.yaml", BYTES("horses:\n  - {name: x, riders: [a, b, c], leg: 1}\n"), &s, &errors),
        ERR_INVALID);
    assert_string_equal(errors.items[0].text, "f.yaml:2:23: the list has 3 items; 2 are allowed");
    assert_string_equal(errors.items[1].text, "f.yaml:2:34: unknown key 'leg' (did you mean 'legs'?)");
    yaml_errors_fini(&errors);

    /* A dash with nothing behind it is no horse without a name. */
    assert_int_equal(conf_parse(keys, "f.yaml", BYTES("horses:\n  - name: x\n  -\ndoors: 1\n"), &s, &errors),
                     ERR_INVALID);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.items[0].text,
                        "f.yaml:3:4: expected keys and values (\"key: value\"), found nothing");
    yaml_errors_fini(&errors);
}

static void a_file_that_is_no_map_or_no_yaml_is_refused(void **state)
{
    static const char *const texts[] = {"just text\n", "- a\n- b\n", "a: [\n"};

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct yaml_errors errors = {0};
        struct stable s;
        assert_int_equal(conf_parse(keys, "f", bytes_of(texts[i]), &s, &errors), ERR_INVALID);
        assert_int_equal(errors.errors, 1);
        conf_fini(keys, &s);
        yaml_errors_fini(&errors);
    }
}

static void only_changes_that_need_a_restart_are_named(void **state)
{
    static const struct {
        const char *before, *after, *want;
    } cases[] = {
        {"", "", ""},
        {"", "open: false\nowner: x\nyard: {hay: 1M}\n", ""},
        {"", "doors: 3\n", "doors"},
        {"doors: 3\n", "doors: 3\ndeed: /x\n", "deed"},
        {"deed: /x\n", "deed: /y\nyard: {wait: 9s}\n", "deed, yard.wait"},
        {"towns: [a, b]\n", "towns: [a]\n", "towns"},
        {"towns: [a, b]\n", "towns: [a, c]\n", "towns"},
        {"towns: [a, b]\n", "towns: [a, b]\n", ""},
        {"horses: [{name: a}]\n", "horses: [{name: a, legs: 4}]\n", ""},
        {"horses: [{name: a}]\n", "horses: [{name: a, legs: 3}]\n", "horses"},
        {"horses: [{name: a, riders: [x]}]\n", "horses: [{name: a, riders: [y]}]\n", "horses"},
        {"horses: [{name: a}]\n", "", "horses"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct stable before = parse_well(cases[i].before), after = parse_well(cases[i].after);
        BUF_LOCAL(names);
        assert_int_equal(conf_needs_restart(keys, &before, &after, &names), cases[i].want[0] != '\0');
        assert_string_equal(buf_str(&names), cases[i].want);
        conf_fini(keys, &before);
        conf_fini(keys, &after);
    }
}

static void the_dump_reads_back_to_the_presets_and_names_every_key(void **state)
{
    BUF_LOCAL(dump);
    BUF_LOCAL(names);
    struct stable presets;

    conf_dump_defaults(keys, &dump);
    struct stable s = parse_well(buf_str(&dump));
    conf_defaults(keys, &presets);
    struct conf_key all_restart[COUNT_OF(keys)];
    memcpy(all_restart, keys, sizeof(keys));
    for (size_t i = 0; i < COUNT_OF(keys); i++)
        all_restart[i].reload = CONF_RESTART;
    if (conf_needs_restart(all_restart, &presets, &s, &names))
        fail_msg("differ: %s\n%s", buf_str(&names), buf_str(&dump));
    conf_fini(keys, &s);
    conf_fini(keys, &presets);
    for (const struct conf_key *k = keys; k->name; k++) {
        const char *dot = strrchr(k->name, '.');
        assert_non_null(strstr(buf_str(&dump), dot ? dot + 1 : k->name));
        assert_non_null(strstr(buf_str(&dump), k->help));
    }
    assert_non_null(strstr(buf_str(&dump), "# - name: …"));
}

static void the_entry_in_the_dump_is_right_when_uncommented(void **state)
{
    BUF_LOCAL(dump);
    BUF_LOCAL(text);

    conf_dump_defaults(keys, &dump);
    struct bytes rest = bytes_of(strstr(buf_str(&dump), "# An entry:"));
    buf_puts(&text, "horses:\n");
    while (rest.len) {
        struct bytes line = bytes_first(rest, bytes_find(rest, '\n'));
        rest = bytes_skip(rest, line.len + 1);
        if (bytes_starts(line, BYTES("#   #")) || bytes_starts(line, BYTES("# An")))
            continue;
        line = bytes_skip(line, 1);
        const char *mark = strstr(line.at, "…");
        if (mark && (size_t)(mark - line.at) < line.len)
            buf_putf(&text, "%.*sx\n", (int)(mark - line.at), line.at);
        else
            buf_putf(&text, "%.*s\n", (int)line.len, line.at);
    }
    struct stable s = parse_well(buf_str(&text));
    assert_int_equal(s.horses.count, 1);
    assert_int_equal(((struct horse *)s.horses.items)[0].legs, 4);
    conf_fini(keys, &s);
}

static void reference_and_schema_name_every_key(void **state)
{
    BUF_LOCAL(reference);
    BUF_LOCAL(schema);
    BUF_LOCAL(manual);

    conf_manual(keys, &manual);
    assert_non_null(strstr(buf_str(&manual),
                           ".TP\n\\fByard.wait\\fR\nWait.\n.br\n"
                           "A duration from 1s to 1h. Default: 1500ms. A change needs a restart.\n"));
    assert_non_null(
        strstr(buf_str(&manual), ".TP\n\\fBhorses[].name\\fR\nIts name.\n.br\nA text; required.\n"));
    conf_reference(keys, &reference);
    conf_schema(keys, &schema);
    assert_non_null(strstr(buf_str(&reference),
                           "### `yard.wait`\n\nWait.\n\nA duration from 1s to 1h. Default: "
                           "`1500ms`. A change needs a restart.\n"));
    assert_non_null(strstr(buf_str(&reference), "### `horses[].name`\n\nIts name.\n\nA text; required."));
    assert_non_null(strstr(buf_str(&reference),
                           "One of `calm`, `lively` or `wild`. Default: `lively`. A reload applies it."));
    assert_non_null(strstr(buf_str(&schema), "\"description\":\"Says \\\"who\\\".\""));
    assert_non_null(strstr(buf_str(&schema), "\"required\":[\"name\"]"));
    assert_non_null(strstr(buf_str(&schema), "\"minimum\":-10,\"maximum\":10,\"default\":-2"));
}

static void a_place_is_found_by_its_path(void **state)
{
    struct yaml_errors errors = {0};
    struct yaml_doc *doc;

    assert_int_equal(yaml_parse(BYTES("a:\n  b: [{c: x}, {c: y}]\n"), &doc, &errors), OK);
    const struct yaml_node *root = yaml_root(doc);
    assert_string_equal(conf_where(root, "a.b.1.c")->text.at, "y");
    assert_int_equal(conf_where(root, "a.b")->type, YAML_LIST);
    assert_null(conf_where(root, "a.b.2.c"));
    assert_null(conf_where(root, "a.b.x"));
    assert_null(conf_where(root, "a.b.1.c.d"));
    assert_null(conf_where(root, "z"));
    yaml_doc_destroy(doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_gives_the_presets),
        cmocka_unit_test(every_type_is_read),
        cmocka_unit_test(absolute_paths_stay_and_empty_groups_are_fine),
        cmocka_unit_test(all_errors_come_at_once_with_their_places),
        cmocka_unit_test(a_file_that_is_no_map_or_no_yaml_is_refused),
        cmocka_unit_test(only_changes_that_need_a_restart_are_named),
        cmocka_unit_test(the_dump_reads_back_to_the_presets_and_names_every_key),
        cmocka_unit_test(the_entry_in_the_dump_is_right_when_uncommented),
        cmocka_unit_test(reference_and_schema_name_every_key),
        cmocka_unit_test(a_place_is_found_by_its_path),
    };

    return cmocka_run_group_tests_name("base/conf", tests, NULL, NULL);
}

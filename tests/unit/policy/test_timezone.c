/* Time zones against the C library, which reads the same files and rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "policy/timezone.h"

static int32_t libc_offset(int64_t at)
{
    time_t t = (time_t)at;
    struct tm tm;

    localtime_r(&t, &tm);
    return (int32_t)tm.tm_gmtoff;
}

static void compare(const char *name, const struct timezone *tz, int64_t from)
{
    setenv("TZ", name, 1);
    tzset();
    for (int64_t at = from; at < INT64_C(6000000000); at += 40000)
        if (timezone_offset_s(tz, at) != libc_offset(at))
            fail_msg("%s at %lld: %d, not %d", name, (long long)at, timezone_offset_s(tz, at),
                     libc_offset(at));
    for (int64_t at = 1792800000; at < 1793400000; at += 60) /* to the minute around an end of summer time */
        assert_int_equal(timezone_offset_s(tz, at), libc_offset(at));
}

static struct buf read_zone(const char *name)
{
    char path[256];
    struct buf file = {0};
    FILE *f;

    snprintf(path, sizeof(path), "/usr/share/zoneinfo/%s", name);
    f = fopen(path, "r");
    if (!f)
        skip();
    file.len = fread(buf_reserve(&file, TIMEZONE_FILE_MAX), 1, TIMEZONE_FILE_MAX, f);
    fclose(f);
    return file;
}

static void files_of_tzdata_say_what_the_c_library_says(void **state)
{
    static const char *const names[] = {
        "Asia/Tokyo",   "UTC",          "Europe/Berlin", "America/New_York",    "America/Sao_Paulo",
        "Asia/Kolkata", "Africa/Cairo", "Europe/Dublin", "Australia/Lord_Howe", "Asia/Kathmandu"};

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        struct buf file = read_zone(names[i]);
        struct timezone *tz = timezone_parse(buf_bytes(&file));

        assert_non_null(tz);
        compare(names[i], tz, -INT64_C(2000000000));
        timezone_destroy(tz);
        buf_fini(&file);
    }
}

static void rules_say_what_the_c_library_says(void **state)
{
    static const char *const rules[] = {"JST-9",
                                        "<+0545>-5:45",
                                        "CET-1CEST,M3.5.0,M10.5.0/3",
                                        "EST5EDT,M3.2.0,M11.1.0",
                                        "NZST-12NZDT,M9.5.0,M4.1.0/3",
                                        "<-03>3<-02>,M3.5.0/-2,M10.5.0/-1",
                                        "AAA4BBB,J60/0,J300",
                                        "AAA4BBB,59/0,299/3:30:15"};

    for (size_t i = 0; i < COUNT_OF(rules); i++) {
        struct timezone *tz = timezone_parse_rule(bytes_of(rules[i]));

        assert_non_null(tz);
        compare(rules[i], tz, 40000000); /* glibc has no summer time by rules before 1970 */
        timezone_destroy(tz);
    }
}

static void what_is_no_rule_is_refused(void **state)
{
    static const char *const rules[] = {"",
                                        "JST",
                                        "J9",
                                        "JST-9x",
                                        "JST-25",
                                        "<+09-9",
                                        "<>0",
                                        "CET-1CEST",
                                        "CET-1CEST,M3.5.0",
                                        "CET-1CEST,M13.5.0,M10.5.0",
                                        "CET-1CEST,M3.6.0,M10.5.0",
                                        "CET-1CEST,M3.5.7,M10.5.0",
                                        "CET-1CEST,J0,J1",
                                        "CET-1CEST,366,1",
                                        "CET-1CEST,M3.5.0/168,M10.5.0",
                                        "JST-9:60",
                                        "CET-1CEST,M3.5.0,M10.5.0,"};

    for (size_t i = 0; i < COUNT_OF(rules); i++) {
        struct timezone *tz = timezone_parse_rule(bytes_of(rules[i]));

        if (tz)
            fail_msg("'%s' was taken", rules[i]);
    }
}

static void a_file_that_ends_early_or_is_damaged_is_refused_or_harmless(void **state)
{
    struct buf file = read_zone("Europe/Berlin");

    for (size_t len = 0; len < file.len; len++) {
        char *copy = mem_alloc(len + 1); /* so that one octet too far is seen */

        memcpy(copy, file.at, len);
        struct timezone *tz = timezone_parse(bytes_make(copy, len));
        assert_null(tz);
        mem_free(copy);
    }
    for (size_t at = 0; at < file.len; at++) {
        char was = file.at[at];

        file.at[at] = (char)(was ^ 0xff);
        struct timezone *tz = timezone_parse(buf_bytes(&file));
        if (tz)
            for (int64_t t = -INT64_C(5000000000); t < INT64_C(9000000000); t += 1000000007)
                (void)timezone_offset_s(tz, t);
        timezone_destroy(tz);
        file.at[at] = was;
    }
    buf_fini(&file);
}

static void names_and_offsets_are_told_from_anything_else(void **state)
{
    static const struct {
        const char *text;
        bool name, is_offset;
        int32_t offset;
    } rows[] = {
        {"Asia/Tokyo", true, false, 0},     {"UTC", true, true, 0},
        {"+09:00", false, true, 32400},     {"-03:30", false, true, -12600},
        {"Etc/GMT+9", true, false, 0},      {"America/Argentina/Buenos_Aires", true, false, 0},
        {"../etc/passwd", false, false, 0}, {"/etc/passwd", false, false, 0},
        {"Asia/../x", false, false, 0},     {"Asia/", false, false, 0},
        {"+9:00", false, false, 0},         {"+24:00", false, false, 0},
        {"+09:60", false, false, 0},        {"09:00", false, false, 0},
        {"+0900", false, false, 0},         {"", false, false, 0},
        {"Asia//Tokyo", false, false, 0},   {"Asia/Tokyo ", false, false, 0},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        int32_t offset = 0;

        if (timezone_is_name(bytes_of(rows[i].text)) != rows[i].name ||
            timezone_parse_offset(bytes_of(rows[i].text), &offset) != rows[i].is_offset ||
            offset != rows[i].offset)
            fail_msg("'%s': %d", rows[i].text, offset);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_tzdata_say_what_the_c_library_says),
        cmocka_unit_test(rules_say_what_the_c_library_says),
        cmocka_unit_test(what_is_no_rule_is_refused),
        cmocka_unit_test(a_file_that_ends_early_or_is_damaged_is_refused_or_harmless),
        cmocka_unit_test(names_and_offsets_are_told_from_anything_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

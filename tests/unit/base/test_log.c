#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/notice.h"

static int out_fd, in_fd; /* a pipe: the log writes, the test reads */

static int open_pipe(void **state)
{
    int fds[2];

    if (pipe(fds) != 0)
        return -1;
    in_fd = fds[0];
    out_fd = fds[1];
    return 0;
}

static int close_pipe(void **state)
{
    close(in_fd);
    close(out_fd);
    return 0;
}

/* What was written since the last call, without the time at the front and the newline at the end. */
static const char *line(void)
{
    static char text[16384];
    ssize_t n = read(in_fd, text, sizeof(text) - 1);

    assert_true(n > 0);
    assert_int_equal(text[n - 1], '\n');
    text[n - 1] = '\0';
    assert_null(strchr(text, '\n')); /* one line, whatever the values */
    return text[0] == '{' ? text : text + 25;
}

static void a_line_has_level_event_context_and_fields(void **state)
{
    struct log log;

    log_setup(out_fd, LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_context(&log, "worker=%d session=%s", 2, "9f3c");
    log_info(&log, "rcpt.reply", LOG_STR("rcpt", "a@b.example"), LOG_INT("code", -250));
    assert_string_equal(line(), "info  rcpt.reply worker=2 session=9f3c rcpt=a@b.example code=-250");
    log_error(NULL, "bare");
    assert_string_equal(line(), "error bare");
    log_warn(NULL, "e", LOG_ERR(ERR_NOSPACE));
    assert_string_equal(line(), "warn  e error=\"no space left on device\"");
}

static void no_value_forges_a_field_or_a_line(void **state)
{
    static const struct {
        const char *value, *want;
    } cases[] = {
        {"plain", "plain"},
        {"", "\"\""},
        {"a b", "\"a b\""},
        {"a=b", "\"a=b\""},
        {"x\nerror forged", "\"x\\nerror forged\""},
        {"x\r\n", "\"x\\r\\n\""},
        {"quote\" level=error", "\"quote\\\" level=error\""},
        {"back\\", "\"back\\\\\""},
        {"\x1b[31mred", "\"\\u001b[31mred\""},
        {"\x7f", "\"\\u007f\""},
        {"早馬", "\"早馬\""},
        {"\xff\xfe", "\"\\u00ff\\u00fe\""},
        {"\xc2\x85next", "\"\\u00c2\\u0085next\""},              /* C1 newline */
        {"\xe2\x80\xa8sep", "\"\\u00e2\\u0080\\u00a8sep\""},     /* U+2028 */
        {"\xe2\x80\xaeright", "\"\\u00e2\\u0080\\u00aeright\""}, /* U+202E turns the text */
        {"\xc0\x8a", "\"\\u00c0\\u008a\""},                      /* overlong newline */
        {"\xe0\x80\x8a", "\"\\u00e0\\u0080\\u008a\""},
        {"\xed\xa0\x80", "\"\\u00ed\\u00a0\\u0080\""}, /* surrogate */
        {"cut\xe6\x97", "\"cut\\u00e6\\u0097\""},
        {"\xf0\x9f\x90\x8e", "\"\xf0\x9f\x90\x8e\""},
        {"\xf4\x90\x80\x80", "\"\\u00f4\\u0090\\u0080\\u0080\""}, /* beyond Unicode */
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char want[200];
        log_setup(out_fd, LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
        log_info(NULL, "e", LOG_STR("v", cases[i].value), LOG_INT("n", 1));
        snprintf(want, sizeof(want), "info  e v=%s n=1", cases[i].want);
        assert_string_equal(line(), want);
    }
    log_info(NULL, "e", LOG_BYTES("v", bytes_make("a\0b", 3)));
    assert_string_equal(line(), "info  e v=\"a\\u0000b\"");
}

static void every_octet_makes_sound_json(void **state)
{
    struct log log;

    log_setup(out_fd, LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_context(&log, "x=\"%s", "\n\\");
    for (int c = 0; c < 256; c++) {
        char value[2] = {(char)c, 'x'};
        log_info(&log, "e", LOG_BYTES("v", bytes_make(value, 2)), LOG_INT("n", INT64_MIN));
        json_error_t error;
        json_t *parsed = json_loads(line(), JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
        if (!parsed)
            fail_msg("octet %d: %s", c, error.text);
        assert_string_equal(json_string_value(json_object_get(parsed, "level")), "info");
        assert_string_equal(json_string_value(json_object_get(parsed, "event")), "e");
        assert_string_equal(json_string_value(json_object_get(parsed, "x")), "\"?\\");
        assert_true(json_integer_value(json_object_get(parsed, "n")) == INT64_MIN);
        if (c > 0 && c < 0x80)
            assert_memory_equal(json_string_value(json_object_get(parsed, "v")), value, 2);
        json_decref(parsed);
    }
}

static void a_context_is_members_in_json_and_a_field_goes_before_it(void **state)
{
    struct log log;

    (void)state;
    log_setup(out_fd, LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    log_context(&log, "worker=%d client=%s id=007 n=1", 2, "2001:db8::1");
    log_info(&log, "e", LOG_INT("n", 5));
    json_t *parsed = json_loads(line(), JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(parsed);
    assert_int_equal(json_integer_value(json_object_get(parsed, "worker")), 2);
    assert_string_equal(json_string_value(json_object_get(parsed, "client")), "2001:db8::1");
    assert_string_equal(json_string_value(json_object_get(parsed, "id")), "007");
    assert_int_equal(json_integer_value(json_object_get(parsed, "n")), 5);
    json_decref(parsed);
}

static void long_values_are_cut(void **state)
{
    char value[5000];

    memset(value, 'x', sizeof(value));
    log_setup(out_fd, LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_info(NULL, "e", LOG_BYTES("v", bytes_make(value, sizeof(value))), LOG_INT("n", 1));
    const char *got = line();
    assert_in_range(strlen(got), 2000, 2100);
    assert_string_equal(got + strlen(got) - strlen("xx…\" n=1"), "xx…\" n=1");
}

static bool nothing_is_written(void)
{
    struct pollfd p = {.fd = in_fd, .events = POLLIN};

    return poll(&p, 1, 0) == 0;
}

static void gathered_lines_are_written_together_and_in_order(void **state)
{
    char text[4096];

    log_setup(out_fd, LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    log_gather(true);
    log_info(NULL, "first", LOG_INT("n", INT64_MIN));
    log_info(NULL, "second");
    assert_true(nothing_is_written());
    log_flush();
    ssize_t n = read(in_fd, text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "first n=-9223372036854775808\n"));
    assert_true(strstr(text, "second\n") > strstr(text, "first"));
    log_info(NULL, "before");
    log_warn(NULL, "now"); /* what went wrong is seen at once, and what led to it */
    n = read(in_fd, text, sizeof(text) - 1);
    text[n] = '\0';
    assert_true(strstr(text, "warn  now\n") > strstr(text, "info  before\n"));
    for (int i = 0; i < 400; i++) /* more than is gathered: written on the way, nothing lost */
        log_info(NULL, "many", LOG_INT("i", i));
    log_gather(false);
    size_t lines = 0;
    while (!nothing_is_written()) {
        n = read(in_fd, text, sizeof(text));
        for (ssize_t i = 0; i < n; i++)
            lines += text[i] == '\n';
    }
    assert_int_equal(lines, 400);
}

static void levels_are_named_and_filter(void **state)
{
    enum log_level level;

    log_setup(out_fd, LOG_LEVEL_WARN, LOG_FORMAT_TEXT);
    assert_false(log_enabled(LOG_LEVEL_INFO));
    log_info(NULL, "hidden");
    log_warn(NULL, "seen");
    assert_string_equal(line(), "warn  seen");
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug(NULL, "now");
    assert_string_equal(line(), "debug now");
    assert_true(log_level_parse("debug", &level) && level == LOG_LEVEL_DEBUG);
    assert_true(log_level_parse("error", &level) && level == LOG_LEVEL_ERROR);
    assert_false(log_level_parse("Debug", &level));
    assert_false(log_level_parse("", &level));
}

static void a_notice_is_kept_whatever_the_level_and_the_oldest_goes(void **state)
{
    struct buf out = {0};
    uint64_t before = notices_newest();

    log_setup(out_fd, LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    notice_info(NULL, "limit.end", LOG_INT("id", 7), LOG_STR("why", "\"enough\"\n"));
    assert_int_equal(notices_newest(), before + 1);
    assert_int_equal(notices_read(before, 10, &out), before + 1);
    assert_non_null(strstr(buf_str(&out), "{\"event\":\"limit.end\",\"event_id\":1,\"at\":\"2"));
    assert_non_null(strstr(buf_str(&out), "\"id\":7,\"why\":\"\\\"enough\\\"\\n\"}\n"));
    buf_clear(&out);
    for (int i = 0; i < NOTICES_MAX + 5; i++)
        notice_warn(NULL, "limit.begin", LOG_INT("id", i));
    assert_int_equal(notices_read(before, 1, &out), before + 7); /* six have gone */
    assert_non_null(strstr(buf_str(&out), "\"id\":5}\n"));
    buf_clear(&out);
    assert_int_equal(notices_read(notices_newest(), 10, &out), notices_newest());
    assert_int_equal(out.len, 0);
    assert_int_equal(notices_read(before + 999999, 1, &out), before + 7); /* of another run */
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_level_event_context_and_fields),
        cmocka_unit_test(no_value_forges_a_field_or_a_line),
        cmocka_unit_test(every_octet_makes_sound_json),
        cmocka_unit_test(a_context_is_members_in_json_and_a_field_goes_before_it),
        cmocka_unit_test(long_values_are_cut),
        cmocka_unit_test(gathered_lines_are_written_together_and_in_order),
        cmocka_unit_test(levels_are_named_and_filter),
        cmocka_unit_test(a_notice_is_kept_whatever_the_level_and_the_oldest_goes),
    };

    return cmocka_run_group_tests_name("base/log", tests, open_pipe, close_pipe);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <string.h>

#include "base/mem.h"
#include "webui-api/http.h"

/* ---- the gate ---- */

#define HEADERS_MAX 4

static const char *gate(const char *version, const char *const headers[HEADERS_MAX][2])
{
    struct http_field fields[HEADERS_MAX];
    size_t count = 0;

    for (; count < HEADERS_MAX && headers[count][0]; count++)
        fields[count] = (struct http_field){bytes_of(headers[count][0]), bytes_of(headers[count][1])};
    return http_gate(bytes_of(version), fields, count);
}

static void what_can_be_read_in_one_way_only_passes(void **state)
{
    static const struct {
        const char *version;
        const char *headers[HEADERS_MAX][2];
        bool pass;
    } cases[] = {
        {"HTTP/1.1", {{"Host", "x"}}, true},
        {"HTTP/1.1", {{"host", ""}}, true},
        {"HTTP/1.0", {{NULL, NULL}}, true},
        {"HTTP/1.1", {{NULL, NULL}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Host", "x"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"hOST", "y"}}, false},
        {"HTTP/1.0", {{"Host", "x"}, {"Host", "y"}}, false},
        {"HTTP/2.0", {{"Host", "x"}}, false},
        {"HTTP/1.2", {{"Host", "x"}}, false},
        {"HTTP/1.1 ", {{"Host", "x"}}, false},
        {"", {{"Host", "x"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Content-Length", "5"}}, true},
        {"HTTP/1.1", {{"Host", "x"}, {"Content-Length", "5"}, {"Content-Length", "5"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Content-Length", "5"}, {"content-length", "6"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Content-Length", "+5"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Content-Length", "5, 5"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Content-Length", "-1"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Content-Length", ""}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Content-Length", "0x10"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Content-Length", "99999999999999999999999"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Transfer-Encoding", "chunked"}}, true},
        {"HTTP/1.1", {{"Host", "x"}, {"Transfer-Encoding", "Chunked"}}, true},
        {"HTTP/1.1", {{"Host", "x"}, {"Transfer-Encoding", "gzip, chunked"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Transfer-Encoding", "xchunked"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Transfer-Encoding", "identity"}}, false},
        {"HTTP/1.0", {{"Host", "x"}, {"Transfer-Encoding", "chunked"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Transfer-Encoding", "chunked"}, {"Content-Length", "5"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Content-Length", "0"}, {"Transfer-Encoding", "chunked"}}, false},
        {"HTTP/1.1",
         {{"Host", "x"}, {"Transfer-Encoding", "chunked"}, {"Transfer-Encoding", "chunked"}},
         false},
        {"HTTP/1.1", {{"Host", "x"}, {"X-A", "tab\tis fine"}}, true},
        {"HTTP/1.1", {{"Host", "x"}, {"X-A", "a\rb"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"X-A", "a\nb"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"X-A", "a\x7f"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"X-A", "\x01"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"X-A", "\xc3\xa9 is not ours to judge"}}, true},
        {"HTTP/1.1", {{"Host", "x"}, {"Content-Length ", "5"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"Content\tLength", "5"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"", "5"}}, false},
        {"HTTP/1.1", {{"Host", "x"}, {"X(A)", "5"}}, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        const char *why = gate(cases[i].version, cases[i].headers);
        if (!why != cases[i].pass)
            fail_msg("row %zu: %s", i, why ? why : "passes");
    }
}

static void a_nul_in_a_header_is_refused(void **state)
{
    static const struct http_field value[] = {{{"Host", 4}, {"x", 1}}, {{"X-A", 3}, {"a\0b", 3}}};
    static const struct http_field name[] = {{{"Host", 4}, {"x", 1}}, {{"X\0A", 3}, {"a", 1}}};

    (void)state;
    assert_non_null(http_gate(BYTES("HTTP/1.1"), value, 2));
    assert_non_null(http_gate(BYTES("HTTP/1.1"), name, 2));
}

static void the_plain_form_of_a_head_has_one_length(void **state)
{
    static const char head[] = "GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-A: \r\n\r\n";
    static const struct http_field fields[] = {{{"Host", 4}, {"x", 1}}, {{"X-A", 3}, {"", 0}}};

    (void)state;
    assert_int_equal(http_head_bytes(strlen("GET /a?b=c HTTP/1.1"), fields, 2), strlen(head));
}

/* ---- the target ---- */

/* "a|b?c=d&e=" or NULL */
static void show(const struct http_target *t, struct buf *out)
{
    for (size_t i = 0; i < t->segment_count; i++)
        buf_putf(out, "%s%s", i ? "|" : "", t->segments[i]);
    for (size_t i = 0; i < t->param_count; i++)
        buf_putf(out, "%s%s=%s", i ? "&" : "?", t->params[i].name, t->params[i].value);
}

static void targets_become_segments_and_parameters(void **state)
{
    static const struct {
        const char *target, *want; /* NULL: refused */
    } cases[] = {
        {"/", ""},
        {"/a", "a"},
        {"/a/b", "a|b"},
        {"/a/", "a|"},
        {"//a", "|a"},
        {"/a//b", "a||b"},
        {"/api/v1/explain/a%40b.example", "api|v1|explain|a@b.example"},
        {"/api/v1/accounts/a%2Fb", "api|v1|accounts|a/b"},
        {"/a%2f..%2fb", "a/../b"},
        {"/a+b", "a+b"},
        {"/a?b+c=d+e", "a?b c=d e"},
        {"/a?b=c&d=e", "a?b=c&d=e"},
        {"/a?b", "a?b="},
        {"/a?b=", "a?b="},
        {"/a?b=c=d", "a?b=c=d"},
        {"/a?&&b=c&", "a?b=c"},
        {"/a?", "a"},
        {"/a?b=%3D%26%25", "a?b==&%"},
        {"/a?b=?c", "a?b=?c"},
        {"/\xe4\xbe\x8b", "\xe4\xbe\x8b"},
        {"/%E4%BE%8B", "\xe4\xbe\x8b"},
        {"/1/2/3/4/5/6/7/8", "1|2|3|4|5|6|7|8"},
        {"/1/2/3/4/5/6/7/8/9", NULL},
        {"/1/2/3/4/5/6/7/8/", NULL},
        {"", NULL},
        {"a", NULL},
        {"*", NULL},
        {"http://x/a", NULL},
        {"?a=b", NULL},
        {"/a%", NULL},
        {"/a%4", NULL},
        {"/a%zz", NULL},
        {"/a%4", NULL},
        {"/a?b=%", NULL},
        {"/a?%=b", NULL},
        {"/a%00", NULL},
        {"/a%0d%0ab", NULL},
        {"/a?b=%1f", NULL},
        {"/a?b=%7f", NULL},
        {"/a?b=c&b=c", NULL},
        {"/a?b=c&%62=d", NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct arena arena = {0};
        struct http_target t = {0};
        BUF_LOCAL(text);
        const char *why = http_target_parse(bytes_of(cases[i].target), &arena, &t);
        show(&t, &text);
        if (!why != !!cases[i].want || (!why && strcmp(buf_str(&text), cases[i].want) != 0))
            fail_msg("'%s' became '%s' (%s)", cases[i].target, buf_str(&text), why ? why : "read");
        arena_fini(&arena);
    }
}

static void parameters_have_a_bound(void **state)
{
    (void)state;
    for (unsigned count = HTTP_PARAMS_MAX - 1; count <= HTTP_PARAMS_MAX + 1; count++) {
        struct arena arena = {0};
        struct http_target t;
        BUF_LOCAL(text);
        buf_puts(&text, "/a?");
        for (unsigned i = 0; i < count; i++)
            buf_putf(&text, "p%u=%u&", i, i);
        assert_int_equal(http_target_parse(buf_bytes(&text), &arena, &t) == NULL, count <= HTTP_PARAMS_MAX);
        arena_fini(&arena);
    }
}

/* ---- the body and the reply ---- */

static void a_body_is_whole_however_it_comes_and_ends_at_its_limit(void **state)
{
    static char block[1024 * 1024];
    struct http_body b = {0};

    (void)state;
    memset(block, 'x', sizeof(block));
    assert_true(http_body_add(&b, BYTES("abc")));
    assert_true(http_body_add(&b, (struct bytes){0}));
    assert_true(http_body_add(&b, BYTES("def")));
    assert_string_equal(b.at, "abcdef");
    assert_int_equal(b.len, 6);
    http_body_fini(&b);
    for (int i = 0; i < 16; i++)
        assert_true(http_body_add(&b, bytes_make(block, sizeof(block))));
    assert_int_equal(b.len, HTTP_BODY_MAX);
    assert_false(http_body_add(&b, BYTES("y")));
    assert_int_equal(b.len, HTTP_BODY_MAX);
    http_body_fini(&b);
}

static void an_error_replaces_what_was_written_so_far(void **state)
{
    struct request r = {0};
    json_error_t error;

    (void)state;
    buf_puts(&r.reply.body, "{\"rows\": [");
    reply_error(&r, 404, "not_found", "no \"%s\" here", "a\nb");
    assert_true(reply_is_error(&r));
    json_t *body = json_loads(buf_str(&r.reply.body), 0, &error), *e = json_object_get(body, "error");
    assert_string_equal(json_string_value(json_object_get(e, "code")), "not_found");
    assert_string_equal(json_string_value(json_object_get(e, "message")), "no \"a\nb\" here");
    assert_true(json_is_array(json_object_get(e, "details")));
    json_decref(body);
    request_fini(&r);
}

static void errors_have_the_status_that_says_who_must_act(void **state)
{
    static const struct {
        enum err e;
        unsigned status;
    } cases[] = {{ERR_NOT_FOUND, 404}, {ERR_BUSY, 409},  {ERR_EXISTS, 409}, {ERR_INVALID, 400},
                 {ERR_TIMEOUT, 503},   {ERR_FULL, 503},  {ERR_IO, 503},     {ERR_NOSPACE, 503},
                 {ERR_CORRUPT, 503},   {ERR_CLOSED, 503}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct request r = {0};
        reply_err(&r, cases[i].e, "it");
        assert_int_equal(r.reply.status, cases[i].status);
        request_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_can_be_read_in_one_way_only_passes),
        cmocka_unit_test(a_nul_in_a_header_is_refused),
        cmocka_unit_test(the_plain_form_of_a_head_has_one_length),
        cmocka_unit_test(targets_become_segments_and_parameters),
        cmocka_unit_test(parameters_have_a_bound),
        cmocka_unit_test(a_body_is_whole_however_it_comes_and_ends_at_its_limit),
        cmocka_unit_test(an_error_replaces_what_was_written_so_far),
        cmocka_unit_test(errors_have_the_status_that_says_who_must_act),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

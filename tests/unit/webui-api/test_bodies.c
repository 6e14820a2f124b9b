#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "webui-api/account_body.h"
#include "webui-api/queue_wish.h"

#define HEX32 "0f0e0d0c0b0a09080706050403020100"

/* ---- what is to be done to queued mail ---- */

static void every_selector_is_taken_as_it_was_said(void **state)
{
    struct request r = {0};
    struct queue_wish w = {0};

    (void)state;
    assert_true(http_body_add(
        &r.body, BYTES("{\"op\": \"cancel\", \"message\": \"0akzw8hrm2000\", \"recipient\": \"a@b.example\", "
                       "\"domain\": [\"B\\u00fccher.EXAMPLE.\", \"x.example\"], \"campaign\": \"c\", "
                       "\"sender\": \"\", \"account\": \"shop\"}")));
    assert_true(queue_wish_read(&r, &w));
    assert_int_equal(r.reply.status, 0);
    assert_string_equal(queue_wish_op_name(w.op), "cancel");
    assert_true(w.which.message_id != 0 && !w.which.all && w.narrowed == 6);
    assert_int_equal(w.which.domain_count, 2);
    assert_string_equal(w.which.domains[0], "xn--bcher-kva.example");
    assert_string_equal(w.which.domains[1], "x.example");
    assert_string_equal(w.which.recipient, "a@b.example");
    assert_string_equal(w.which.campaign, "c");
    assert_string_equal(w.which.sender, "");
    assert_string_equal(w.which.account, "shop");
    queue_wish_fini(&w);
    request_fini(&r);
}

static void a_wish_that_makes_no_sense_is_refused_with_what_would(void **state)
{
    static const struct {
        struct bytes body;
        const char *says;
    } cases[] = {
        {BYTES(""), "the body must be a JSON object"},
        {BYTES("[]"), "the body must be a JSON object"},
        {BYTES("{\"op\": \"hold\", \"op\": \"retry\", \"all\": true}"), "duplicate"},
        {BYTES("{\"all\": true}"), "'op': is missing"},
        {BYTES("{\"op\": \"hold\"}"), "or all: true"},
        {BYTES("{\"op\": \"hold\", \"all\": false}"), "or all: true"},
        {BYTES("{\"op\": \"hold\", \"all\": 1}"), "'all': expected true"},
        {BYTES("{\"op\": \"hold\", \"all\": true, \"campaign\": \"c\"}"), "it goes with no other selector"},
        {BYTES("{\"op\": \"hlod\", \"all\": true}"), "did you mean 'hold'?"},
        {BYTES("{\"op\": \"hold\\u0000\", \"all\": true}"), "'op' is retry, hold"},
        {BYTES("{\"op\": \"hold\", \"domian\": \"a.example\"}"), "did you mean 'domain'?"},
        {BYTES("{\"op\": \"hold\", \"domain\": \"a.example\\u0000.b.example\"}"),
         "'domain': expected a domain"},
        {BYTES("{\"op\": \"hold\", \"domain\": []}"), "'domain': expected a domain"},
        {BYTES("{\"op\": \"hold\", \"domain\": [1]}"), "'domain': expected a domain"},
        {BYTES("{\"op\": \"hold\", \"message\": 7}"), "'message': expected a message id"},
        {BYTES("{\"op\": \"hold\", \"recipient\": \"\"}"), "'recipient': expected a text"},
        {BYTES("{\"op\": \"hold\", \"campaign\": \"c\\u0000d\"}"), "'campaign': expected a text"},
        {BYTES("{\"op\": \"hold\", \"group\": null}"), "'group': expected a text"},
        {BYTES("{\"op\": \"hold\", \"group\": \"g\", \"domain\": \"a.example\"}"), "one of the two"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct request r = {0};
        struct queue_wish w = {0};
        assert_true(http_body_add(&r.body, cases[i].body));
        assert_false(queue_wish_read(&r, &w));
        assert_int_equal(r.reply.status, 400);
        if (!strstr(buf_str(&r.reply.body), cases[i].says))
            fail_msg("%s: %s", cases[i].body.at, buf_str(&r.reply.body));
        queue_wish_fini(&w);
        request_fini(&r);
    }
}

/* ---- accounts ---- */

static bool read_account(const char *body, bool is_new, struct account *a, struct request *r)
{
    assert_true(http_body_add(&r->body, bytes_of(body)));
    return account_body_read(r, is_new, a);
}

static void a_change_keeps_what_it_does_not_name(void **state)
{
    struct account a = {.name = mem_strdup("shop")};
    struct request first = {0}, second = {0};

    (void)state;
    assert_true(read_account(
        "{\"password\": \"correct horse\", \"sender_domains\": [\".Example.com\"], \"networks\": "
        "[\"192.0.2.0/24\"],"
        " \"certificates\": [\"DNS:Shop.example.com\"], \"campaign\": \"c\", \"priority\": \"low\","
        " \"max_connections\": 3, \"messages_per_minute\": 60}",
        true, &a, &first));
    assert_true(a.iterations >= 4096);
    assert_string_equal(a.sender_domains[0], ".example.com");
    assert_string_equal(a.certificates[0], "dns:shop.example.com");
    assert_true(read_account("{\"disabled\": true, \"password\": null, \"campaign\": null, \"networks\": []}",
                             false, &a, &second));
    assert_true(a.disabled && a.iterations == 0 && !a.campaign && a.network_count == 0);
    assert_true(a.sender_domain_count == 1 && a.certificate_count == 1 && a.max_connections == 3 &&
                a.messages_per_minute == 60);
    assert_int_equal(a.priority, PRIORITY_LOW);
    account_fini(&a);
    request_fini(&first);
    request_fini(&second);
}

static void a_bad_field_is_named_and_a_password_never_is(void **state)
{
    static const struct {
        const char *body, *says;
    } cases[] = {
        {"", "the body is not JSON"},
        {"[\"sesame!!\"]", "must be an object"},
        {"{}", "'password': a new account needs one, or certificates"},
        {"{\"password\": null}", "'password': a new account needs one, or certificates"},
        {"{\"password\": \"sesame!\"}", "8 characters or more"},
        {"{\"password\": \"sesame!!\\u0000\"}", "without NUL"},
        {"{\"password\": \"sesame!!\\n\"}", "control characters"},
        {"{\"password\": [\"sesame!!\"]}", "'password': expected a text"},
        {"{\"password\": \"sesame!!\" x}", "line 1, column"},
        {"{\"pasword\": \"sesame!!\"}", "did you mean 'password'?"},
        {"{\"password\": \"sesame!!\", \"sender_domains\": \"a.example\"}",
         "'sender_domains': expected a list"},
        {"{\"password\": \"sesame!!\", \"sender_domains\": [\"..\"]}", "'sender_domains': expected a list"},
        {"{\"password\": \"sesame!!\", \"sender_domains\": [\"a.example\\u0000\"]}",
         "'sender_domains': expected a list"},
        {"{\"password\": \"sesame!!\", \"networks\": [\"192.0.2.0/33\"]}", "'networks': expected a list"},
        {"{\"password\": \"sesame!!\", \"networks\": [\"0.0.0.0/0\\u0000\"]}", "'networks': expected a list"},
        {"{\"password\": \"sesame!!\", \"certificates\": [\"sha256:" HEX32 "\"]}",
         "'certificates': expected a list"},
        {"{\"password\": \"sesame!!\", \"certificates\": [\"dns:a\\u0000b\"]}",
         "'certificates': expected a list"},
        {"{\"password\": \"sesame!!\", \"campaign\": \"a b\"}", "'campaign': expected"},
        {"{\"password\": \"sesame!!\", \"priority\": \"urgent\"}", "'priority': expected"},
        {"{\"password\": \"sesame!!\", \"max_connections\": -1}",
         "'max_connections': expected a whole number"},
        {"{\"password\": \"sesame!!\", \"messages_per_minute\": 1.5}",
         "'messages_per_minute': expected a whole number"},
        {"{\"password\": \"sesame!!\", \"disabled\": \"yes\"}", "'disabled': expected true or false"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct account a = {.name = mem_strdup("app")};
        struct request r = {0};
        assert_false(read_account(cases[i].body, true, &a, &r));
        assert_int_equal(r.reply.status, 400);
        if (!strstr(buf_str(&r.reply.body), cases[i].says) || strstr(buf_str(&r.reply.body), "sesame"))
            fail_msg("%s: %s", cases[i].body, buf_str(&r.reply.body));
        account_fini(&a);
        request_fini(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_selector_is_taken_as_it_was_said),
        cmocka_unit_test(a_wish_that_makes_no_sense_is_refused_with_what_would),
        cmocka_unit_test(a_change_keeps_what_it_does_not_name),
        cmocka_unit_test(a_bad_field_is_named_and_a_password_never_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

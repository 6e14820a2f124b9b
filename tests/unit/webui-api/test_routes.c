#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "webui-api/routes.h"

static const struct route *find(struct request *r, enum http_method method, const char *target,
                                unsigned *allow)
{
    *r = (struct request){.method = method};
    assert_null(http_target_parse(bytes_of(target), &r->arena, &r->target));
    return route_find(method, &r->target, r->args, allow);
}

static void every_route_is_found_by_its_own_pattern_and_by_no_other_method(void **state)
{
    (void)state;
    for (size_t i = 0; i < route_count; i++) {
        struct request r;
        unsigned allow;
        assert_ptr_equal(find(&r, routes[i].method, routes[i].pattern, &allow), &routes[i]);
        assert_true(allow & BIT(routes[i].method));
        request_fini(&r);
        for (int m = 0; m < HTTP_METHODS; m++) {
            const struct route *other = find(&r, (enum http_method)m, routes[i].pattern, &allow);
            assert_int_equal(other != NULL, (allow & BIT(m)) != 0);
            request_fini(&r);
        }
    }
}

static void paths_match_segment_by_segment(void **state)
{
    static const struct {
        const char *target, *pattern, *arg; /* pattern NULL: nothing there */
    } cases[] = {
        {"/healthz", "/healthz", NULL},
        {"/healthz/", NULL, NULL},
        {"//healthz", NULL, NULL},
        {"/Healthz", NULL, NULL},
        {"/", NULL, NULL},
        {"/api", NULL, NULL},
        {"/api/v1", NULL, NULL},
        {"/api/v2/status", NULL, NULL},
        {"/api/v1/status?x=y", "/api/v1/status", NULL},
        {"/api/v1/status/x", NULL, NULL},
        {"/api/v1/accounts", "/api/v1/accounts", NULL},
        {"/api/v1/accounts/", NULL, NULL},
        {"/api/v1/accounts/app", "/api/v1/accounts/{name}", "app"},
        {"/api/v1/accounts/a%2Fb", "/api/v1/accounts/{name}", "a/b"},
        {"/api/v1/accounts/a/b", NULL, NULL},
        {"/api/v1/accounts/{name}", "/api/v1/accounts/{name}", "{name}"},
        {"/api/v1/explain/x%40y.example", "/api/v1/explain/{what}", "x@y.example"},
        {"/api/v1/policy", "/api/v1/policy", NULL},
        {"/api/v1/policy/versions", "/api/v1/policy/versions", NULL},
        {"/api/v1/policy/versions/12", "/api/v1/policy/versions/{n}", "12"},
        {"/api/v1/queue/messages/0akw21evc0000", "/api/v1/queue/messages/{id}", "0akw21evc0000"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct request r;
        unsigned allow;
        const struct route *route = find(&r, HTTP_GET, cases[i].target, &allow);
        if (!route != !cases[i].pattern || (route && strcmp(route->pattern, cases[i].pattern) != 0))
            fail_msg("%s found %s", cases[i].target, route ? route->pattern : "nothing");
        if (cases[i].arg)
            assert_string_equal(r.args[0], cases[i].arg);
        request_fini(&r);
    }
}

static void serve(struct request *r, enum http_method method, const char *target, bool anybody)
{
    *r = (struct request){.method = method};
    assert_null(http_target_parse(bytes_of(target), &r->arena, &r->target));
    route_serve(r, anybody);
}

static void what_is_not_there_is_said_without_a_handler(void **state)
{
    struct request r;

    (void)state;
    serve(&r, HTTP_GET, "/api/v1/nothing", false);
    assert_int_equal(r.reply.status, 404);
    request_fini(&r);
    serve(&r, HTTP_POST, "/api/v1/status", false);
    assert_int_equal(r.reply.status, 405);
    assert_int_equal(r.reply.allow, BIT(HTTP_GET));
    request_fini(&r);
    serve(&r, HTTP_POST, "/api/v1/accounts/app", false);
    assert_int_equal(r.reply.status, 405);
    assert_int_equal(r.reply.allow, BIT(HTTP_GET) | BIT(HTTP_PUT) | BIT(HTTP_DELETE));
    request_fini(&r);
    serve(&r, HTTP_GET, "/api/v1/status?x=1", false);
    assert_int_equal(r.reply.status, 400);
    request_fini(&r);
}

static void the_address_that_knows_nobody_has_health_and_metrics_only(void **state)
{
    size_t open = 0;

    (void)state;
    for (size_t i = 0; i < route_count; i++) {
        struct request r;
        open += routes[i].for_anybody;
        if (routes[i].for_anybody)
            continue;
        serve(&r, routes[i].method, routes[i].pattern, true);
        assert_int_equal(r.reply.status, 403);
        request_fini(&r);
    }
    assert_int_equal(open, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_route_is_found_by_its_own_pattern_and_by_no_other_method),
        cmocka_unit_test(paths_match_segment_by_segment),
        cmocka_unit_test(what_is_not_there_is_said_without_a_handler),
        cmocka_unit_test(the_address_that_knows_nobody_has_health_and_metrics_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

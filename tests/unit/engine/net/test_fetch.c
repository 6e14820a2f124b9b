/* The HTTPS client against servers that are good, bad, slow and endless. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/net/fetch_priv.h"
#include "tests/unit/engine/dns/resolver_world.h"
#include "tests/unit/engine/net/web.h"

#define HELLO "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"

static const struct scripted_row names[] = {
    {"gone.test", NULL, "nxdomain", "!test 300 SOA ns.test root.test 60"},
    {"broken.test", NULL, "servfail", NULL},
    {"two.test", "A", NULL, "two.test 300 A 127.0.0.9; two.test 300 A 127.0.0.1"},
    {"two.test", "AAAA", NULL, "!test 300 SOA ns.test root.test 60"},
    {"dead.test", "A", NULL, "dead.test 300 A 127.0.0.9"},
    {"alias.test", "A", NULL, "alias.test 300 CNAME good.test; good.test 300 A 127.0.0.1"},
    {"inside.test", "A", NULL, "inside.test 300 A 10.0.0.1; inside.test 300 A 169.254.169.254"},
    {"*", "AAAA", NULL, "!test 300 SOA ns.test root.test 60"},
    {"*", "A", NULL, "@ 300 A 127.0.0.1"},
};

static const struct web_row hosts[] = {
    {"good.test", "good", NULL, HELLO},
    {"alias.test", "good", NULL, HELLO},
    {"two.test", "good", NULL, HELLO},
    {"expired.test", "expired", NULL, HELLO},
    {"future.test", "future", NULL, HELLO},
    {"other.test", "other", NULL, HELLO},
    {"self.test", "self", NULL, HELLO},
    {"stranger.test", "stranger", NULL, HELLO},
    {"cn.test", "cn", NULL, HELLO},
    {"weak.test", "weak", NULL, HELLO},
    {"client.test", "client", NULL, HELLO},
    {"hangup.test", NULL, "hangup", NULL},
    {"mute.test", NULL, "mute", NULL},
    {"silent.test", NULL, "silent", NULL},
    {"tls11.test", NULL, "tls1.1", HELLO},
    {"slow.test", NULL, "slow", HELLO},
    {"dribble.test", NULL, "dribble", HELLO},
    {"redirect.test", NULL, NULL,
     "HTTP/1.1 301 Moved\r\nLocation: https://good.test/\r\nContent-Type: text/plain\r\nContent-Length: "
     "5\r\n\r\nhello"},
    {"missing.test", NULL, NULL,
     "HTTP/1.1 404 No\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"},
    {"empty-404.test", NULL, NULL, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"},
    {"created.test", NULL, NULL, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"},
    {"html.test", NULL, NULL, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello"},
    {"binary.test", NULL, NULL,
     "HTTP/1.1 200 OK\r\nContent-Type: text/\x01\xff\r\nContent-Length: 5\r\n\r\nhello"},
    {"typeless.test", NULL, NULL, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"},
    {"charset.test", NULL, NULL,
     "HTTP/1.1 200 OK\r\nContent-Type: Text/Plain ; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello"},
    {"empty.test", NULL, NULL, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n"},
    {"long.test", NULL, NULL,
     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 65537\r\n\r\nhello"},
    {"short.test", NULL, NULL,
     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nhello"},
    {"until-close.test", NULL, NULL, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"},
    {"cut.test", NULL, "cut", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"},
    {"endless.test", NULL, "endless",
     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {"heads.test", NULL, "heads", "HTTP/1.1 200 OK\r\n"},
    {"noise.test", NULL, NULL, "SSH-2.0-none\r\n"},
    {"gzip.test", NULL, NULL,
     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: "
     "5\r\n\r\nhello"},
};

struct net {
    struct world w;
    struct web web;
    struct fetcher *f;
};

static void net_start(struct net *n, uint32_t at_once)
{
    char *why = NULL;

    web_start(&n->web, hosts, COUNT_OF(hosts));
    world_start(&n->w, names, COUNT_OF(names));
    world_resolver(&n->w);
    const struct fetch_config config = {.ca_file = n->web.ca_file, .at_once = at_once};
    assert_int_equal(fetcher_create(&n->w.loop, n->w.d, &config, &n->f, &why), OK);
}

static void on_fetcher_closed(void *arg)
{
    *(bool *)arg = true;
}

static void net_stop(struct net *n)
{
    bool closed = false;

    fetcher_close(n->f, on_fetcher_closed, &closed);
    world_stop(&n->w);
    assert_true(closed);
    web_stop(&n->web);
}

struct said {
    unsigned count;
    enum fetch_end end;
    int status;
    char body[100], why[300];
};

static void on_fetched(void *arg, const struct fetch_result *r)
{
    struct said *s = arg;

    s->count++;
    s->end = r->end;
    s->status = r->status;
    snprintf(s->body, sizeof(s->body), "%.*s", (int)r->body.len, r->body.at ? r->body.at : "");
    snprintf(s->why, sizeof(s->why), "%s", r->why);
}

static void turn_until(struct net *n, const struct said *s, unsigned count)
{
    while (s->count < count)
        assert_true(uv_run(&n->w.loop, UV_RUN_ONCE) || s->count >= count);
}

static struct said fetch(struct net *n, struct fetch_request request)
{
    struct said s = {0};

    assert_non_null(fetch_start(n->f, &request, on_fetched, &s));
    assert_int_equal(s.count, 0); /* never from inside */
    turn_until(n, &s, 1);
    assert_int_equal(s.count, 1);
    return s;
}

static struct said get(struct net *n, const char *host)
{
    BUF_LOCAL(url);

    buf_putf(&url, "https://%s:%u/.well-known/mta-sts.txt", host, n->web.port);
    return fetch(n,
                 (struct fetch_request){.url = buf_str(&url), .want_type = "text/plain", .timeout_ms = 1500});
}

/* ---- */

static void every_kind_of_server_gives_its_own_result(void **state)
{
    static const struct {
        const char *host;
        enum fetch_end end;
        int status;
        const char *body, *why;
    } rows[] = {
        {"good.test", FETCH_OK, 200, "hello", ""},
        {"GOOD.test", FETCH_OK, 200, "hello", ""},
        {"alias.test", FETCH_OK, 200, "hello", ""},
        {"two.test", FETCH_OK, 200, "hello", ""}, /* the dead address first or not */
        {"charset.test", FETCH_OK, 200, "hello", ""},
        {"empty.test", FETCH_OK, 200, "", ""},
        {"slow.test", FETCH_OK, 200, "hello", ""},
        {"dribble.test", FETCH_OK, 200, "hello", ""},
        {"until-close.test", FETCH_OK, 200, "hello", ""},
        {"gzip.test", FETCH_OK, 200, "hello", ""}, /* nothing is unpacked: a bomb stays small */
        {"expired.test", FETCH_CERTIFICATE, 0, "", "expired"},
        {"future.test", FETCH_CERTIFICATE, 0, "", "not valid yet"},
        {"other.test", FETCH_CERTIFICATE, 0, "", "not for other.test"},
        {"self.test", FETCH_CERTIFICATE, 0, "", "no authority"},
        {"stranger.test", FETCH_CERTIFICATE, 0, "", "no authority"},
        {"cn.test", FETCH_CERTIFICATE, 0, "", "not for cn.test"},
        {"weak.test", FETCH_CERTIFICATE, 0, "", "weak"},
        {"client.test", FETCH_CERTIFICATE, 0, "", "does not hold"},
        {"tls11.test", FETCH_TLS, 0, "", ""},
        {"hangup.test", FETCH_TLS, 0, "", ""},
        {"mute.test", FETCH_TIMEOUT, 0, "", ""},
        {"silent.test", FETCH_TIMEOUT, 0, "", ""},
        {"redirect.test", FETCH_STATUS, 301, "", "redirect"},
        {"missing.test", FETCH_STATUS, 404, "", "404"},
        {"empty-404.test", FETCH_STATUS, 404, "", "404"},
        {"created.test", FETCH_STATUS, 201, "", "201"},
        {"html.test", FETCH_TYPE, 200, "", "text/html"},
        {"binary.test", FETCH_TYPE, 200, "", "text/??"},
        {"typeless.test", FETCH_TYPE, 200, "", "missing"},
        {"long.test", FETCH_TOO_LARGE, 0, "", ""},
        {"endless.test", FETCH_TOO_LARGE, 200, "", "65536"},
        {"heads.test", FETCH_TOO_LARGE, 0, "", "head"},
        {"short.test", FETCH_UNREACHABLE, 200, "", ""},
        {"cut.test", FETCH_UNREACHABLE, 200, "", ""},
        {"noise.test", FETCH_UNREACHABLE, 0, "", ""},
        {"dead.test", FETCH_UNREACHABLE, 0, "", ""},
        {"gone.test", FETCH_NO_ADDRESS, 0, "", "nxdomain"},
        {"broken.test", FETCH_NO_ADDRESS, 0, "", "servfail"},
    };
    struct net n;

    (void)state;
    net_start(&n, 0);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct said s = get(&n, rows[i].host);
        if (s.end != rows[i].end || strcmp(s.body, rows[i].body) != 0 || s.status != rows[i].status ||
            !strstr(s.why, rows[i].why) || (s.end == FETCH_OK) != !s.why[0])
            fail_msg("%s: %s, %d, '%s', '%s'", rows[i].host, fetch_end_name(s.end), s.status, s.body, s.why);
    }
    assert_int_equal(web_hits(&n.web, "good.test"), 2); /* nobody followed the redirect */
    net_stop(&n);
}

static void a_certificate_is_judged_before_the_request_is_sent(void **state)
{
    struct net n;

    (void)state;
    net_start(&n, 0);
    assert_int_equal(get(&n, "other.test").end, FETCH_CERTIFICATE);
    assert_int_equal(web_hits(&n.web, "other.test"), 0);
    net_stop(&n);
}

static void a_body_of_just_the_limit_is_taken_and_one_octet_more_is_not(void **state)
{
    struct net n;
    struct buf replies[6] = {0}; /* the server may still read one when we have stopped listening */
    size_t count = 0;

    (void)state;
    net_start(&n, 0);
    for (size_t size = 65535; size <= 65537; size++) {
        for (int chunked = 0; chunked < 2; chunked++) {
            struct buf *reply = &replies[count++];
            buf_puts(reply, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n");
            if (chunked)
                buf_putf(reply, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", size);
            else
                buf_putf(reply, "Content-Length: %zu\r\n\r\n", size);
            memset(buf_reserve(reply, size), 'x', size);
            reply->len += size;
            buf_puts(reply, chunked ? "\r\n0\r\n\r\n" : "");
            const struct web_row row = {"size.test", NULL, NULL, buf_str(reply)};
            web_set(&n.web, &row);
            assert_int_equal(get(&n, "size.test").end, size > 65536 ? FETCH_TOO_LARGE : FETCH_OK);
        }
    }
    net_stop(&n);
    for (size_t i = 0; i < count; i++)
        buf_fini(&replies[i]);
}

static void urls_that_are_not_ours_to_fetch_are_refused(void **state)
{
    static const char *const urls[] = {
        "http://good.test/",
        "ftp://good.test/",
        "file:///etc/passwd",
        "https://user@good.test/",
        "https://u:p@good.test/",
        "https:///",
        "https://good.test:0/",
        "https://good.test:65536/",
        "https://good.test./",
        "good.test",
        "",
        "https://good test/",
        "https://g\303\266\303\266d.test/",
        "https://[::1/",
        "https://a..b.test/",
    };
    struct net n;

    (void)state;
    net_start(&n, 0);
    for (size_t i = 0; i < COUNT_OF(urls); i++) {
        struct said s = fetch(&n, (struct fetch_request){.url = urls[i]});
        if (s.end != FETCH_BAD_URL)
            fail_msg("%s: %s", urls[i], fetch_end_name(s.end));
    }
    net_stop(&n);
}

static void the_environment_does_not_lead_elsewhere(void **state)
{
    struct net n;

    (void)state;
    setenv("https_proxy", "http://127.0.0.1:9", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:9", 1);
    net_start(&n, 0);
    assert_int_equal(get(&n, "good.test").end, FETCH_OK);
    net_stop(&n);
    unsetenv("https_proxy");
    unsetenv("ALL_PROXY");
}

static void a_post_sends_its_body_and_may_pass_over_certificates(void **state)
{
    struct net n;
    BUF_LOCAL(url);

    (void)state;
    net_start(&n, 0);
    const struct web_row created = {"reports.test", "self", NULL,
                                    "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"};
    web_set(&n.web, &created);
    buf_putf(&url, "https://reports.test:%u/v1/tlsrpt", n.web.port);
    struct fetch_request request = {.url = buf_str(&url),
                                    .post = true,
                                    .body = bytes_make("a\0b", 3),
                                    .body_type = "application/tlsrpt+gzip",
                                    .timeout_ms = 1500};
    assert_int_equal(fetch(&n, request).end, FETCH_CERTIFICATE);
    request.any_certificate = true;
    struct said s = fetch(&n, request);
    assert_int_equal(s.end, FETCH_OK);
    assert_int_equal(s.status, 201);
    assert_int_equal(web_hits(&n.web, "reports.test"), 1);
    char *text = web_request(&n.web);
    assert_true(bytes_starts(bytes_of(text), BYTES("POST /v1/tlsrpt HTTP/1.1\r\n")));
    assert_non_null(strcasestr(text, "\r\nContent-Type: application/tlsrpt+gzip\r\n"));
    assert_non_null(strcasestr(text, "\r\nContent-Length: 3\r\n"));
    assert_null(strcasestr(text, "\r\nExpect:"));
    assert_memory_equal(strstr(text, "\r\n\r\n") + 4, "a\0b", 3);
    mem_free(text);
    net_stop(&n);
}

static void strangers_cannot_send_us_into_our_own_network(void **state)
{
    static const char *const urls[] = {"https://good.test/",         "https://inside.test/",
                                       "https://127.0.0.1/",         "https://[::1]/",
                                       "https://[::ffff:10.0.0.1]/", "https://0x7f.1/"};
    struct net n;

    (void)state;
    net_start(&n, 0);
    for (size_t i = 0; i < COUNT_OF(urls); i++) {
        struct said s = fetch(&n, (struct fetch_request){.url = urls[i], .public_only = true});
        if (s.end != FETCH_FORBIDDEN)
            fail_msg("%s: %s", urls[i], fetch_end_name(s.end));
    }
    net_stop(&n);
}

static void only_addresses_of_the_internet_are_public(void **state)
{
    static const struct {
        const char *text;
        bool is_public;
    } rows[] = {
        {"8.8.8.8", true},
        {"172.15.255.255", true},
        {"172.32.0.0", true},
        {"100.63.255.255", true},
        {"2606:4700::1", true},
        {"2001:200::1", true},
        {"0.0.0.0", false},
        {"10.1.2.3", false},
        {"100.64.0.1", false},
        {"127.0.0.1", false},
        {"169.254.169.254", false},
        {"172.16.0.1", false},
        {"172.31.255.255", false},
        {"192.0.0.1", false},
        {"192.168.1.1", false},
        {"198.18.0.1", false},
        {"224.0.0.1", false},
        {"255.255.255.255", false},
        {"::", false},
        {"::1", false},
        {"fe80::1", false},
        {"fc00::1", false},
        {"ff02::1", false},
        {"::ffff:8.8.8.8", false},
        {"64:ff9b::7f00:1", false},
        {"2001:db8::1", false},
        {"2002:7f00:1::", false},
        {"2001:0:1::", false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct ip ip;
        assert_true(ip_parse(bytes_of(rows[i].text), &ip));
        if (fetch_address_is_public(&ip) != rows[i].is_public)
            fail_msg("%s", rows[i].text);
    }
}

/* ---- life ---- */

static void many_at_once_wait_in_line_and_all_are_answered(void **state)
{
    struct net n;
    struct said s = {0};
    BUF_LOCAL(url);

    (void)state;
    net_start(&n, 3);
    buf_putf(&url, "https://slow.test:%u/", n.web.port);
    const struct fetch_request request = {.url = buf_str(&url), .timeout_ms = 2000};
    for (int i = 0; i < 12; i++)
        assert_non_null(fetch_start(n.f, &request, on_fetched, &s));
    assert_int_equal(n.f->under_way, 3);
    while (s.count < 12) {
        assert_true(n.f->under_way <= 3);
        uv_run(&n.w.loop, UV_RUN_ONCE);
        assert_int_equal(s.end, FETCH_OK);
    }
    assert_int_equal(n.f->under_way, 0);
    assert_int_equal(web_hits(&n.web, "slow.test"), 12);
    net_stop(&n);
}

static void a_cancelled_request_makes_no_callback_in_any_state(void **state)
{
    struct net n;
    struct said never = {0};
    BUF_LOCAL(url);

    (void)state;
    net_start(&n, 2);
    buf_putf(&url, "https://silent.test:%u/", n.web.port);
    const struct fetch_request request = {.url = buf_str(&url), .timeout_ms = 5000};
    for (int turns = 0; turns < 40; turns++) {
        struct fetch *r[4]; /* the last two wait in line */
        for (size_t i = 0; i < COUNT_OF(r); i++)
            r[i] = fetch_start(n.f, &request, on_fetched, &never);
        for (int k = 0; k < turns; k++)
            uv_run(&n.w.loop, UV_RUN_NOWAIT);
        for (size_t i = 0; i < COUNT_OF(r); i++)
            fetch_cancel(r[turns % 2 ? i : COUNT_OF(r) - 1 - i]);
        assert_int_equal(n.f->under_way, 0);
    }
    assert_int_equal(get(&n, "good.test").end, FETCH_OK);
    const struct fetch_request bad = {.url = "ftp://x/"}; /* ready, and not told yet */
    fetch_cancel(fetch_start(n.f, &bad, on_fetched, &never));
    uv_run(&n.w.loop, UV_RUN_NOWAIT);
    assert_int_equal(never.count, 0);
    net_stop(&n);
}

static void closing_in_the_middle_leaves_nothing_behind(void **state)
{
    (void)state;
    for (int turns = 0; turns < 12; turns++) {
        struct net n;
        struct said never = {0};
        BUF_LOCAL(url);
        net_start(&n, 2);
        buf_putf(&url, "https://%s:%u/", turns % 2 ? "silent.test" : "mute.test", n.web.port);
        const struct fetch_request request = {.url = buf_str(&url), .timeout_ms = 5000};
        for (int i = 0; i < 4; i++)
            assert_non_null(fetch_start(n.f, &request, on_fetched, &never));
        for (int k = 0; k < turns * 3; k++)
            uv_run(&n.w.loop, UV_RUN_NOWAIT);
        net_stop(&n);
        assert_int_equal(never.count, 0);
    }
}

struct closer {
    struct net *n;
    unsigned calls;
    bool closed;
};

static void close_from_inside(void *arg, const struct fetch_result *r)
{
    struct closer *c = arg;

    (void)r;
    c->calls++;
    fetcher_close(c->n->f, on_fetcher_closed, &c->closed);
}

static void a_callback_may_close_the_client(void **state)
{
    struct net n;
    struct closer c = {.n = &n};

    (void)state;
    net_start(&n, 0);
    const struct fetch_request bad = {.url = "ftp://x/"};
    for (int i = 0; i < 3; i++)
        assert_non_null(fetch_start(n.f, &bad, close_from_inside, &c));
    world_stop(&n.w);
    assert_true(c.closed);
    assert_int_equal(c.calls, 1);
    web_stop(&n.web);
}

static void a_trust_file_that_cannot_be_read_is_said_at_once(void **state)
{
    struct world w;
    struct fetcher *f = NULL;
    char *why = NULL;

    (void)state;
    world_start(&w, names, COUNT_OF(names));
    world_resolver(&w);
    const struct fetch_config config = {.ca_file = "/nonexistent/ca.pem"};
    assert_int_equal(fetcher_create(&w.loop, w.d, &config, &f, &why), ERR_INVALID);
    assert_non_null(strstr(why, "/nonexistent/ca.pem"));
    mem_free(why);
    world_stop(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_server_gives_its_own_result),
        cmocka_unit_test(a_certificate_is_judged_before_the_request_is_sent),
        cmocka_unit_test(a_body_of_just_the_limit_is_taken_and_one_octet_more_is_not),
        cmocka_unit_test(urls_that_are_not_ours_to_fetch_are_refused),
        cmocka_unit_test(the_environment_does_not_lead_elsewhere),
        cmocka_unit_test(a_post_sends_its_body_and_may_pass_over_certificates),
        cmocka_unit_test(strangers_cannot_send_us_into_our_own_network),
        cmocka_unit_test(only_addresses_of_the_internet_are_public),
        cmocka_unit_test(many_at_once_wait_in_line_and_all_are_answered),
        cmocka_unit_test(a_cancelled_request_makes_no_callback_in_any_state),
        cmocka_unit_test(closing_in_the_middle_leaves_nothing_behind),
        cmocka_unit_test(a_callback_may_close_the_client),
        cmocka_unit_test(a_trust_file_that_cannot_be_read_is_said_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* MTA-STS against scripted DNS and real HTTPS servers, with a clock of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/sts/sts_priv.h"
#include "tests/unit/engine/dns/resolver_world.h"
#include "tests/unit/engine/net/web.h"

#define HEAD    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
#define ENFORCE HEAD "version: STSv1\nmode: enforce\nmx: mx.a.test\nmax_age: 604800\n"
#define TESTING HEAD "version: STSv1\nmode: testing\nmx: mx.a.test\nmax_age: 604800\n"
#define NONE    HEAD "version: STSv1\nmode: none\nmax_age: 604800\n"

#define DAY 86400
#define A   "mta-sts.a.test"

static int64_t now;

static int64_t test_now(void)
{
    return now;
}

struct here {
    struct world w;
    struct web web;
    struct fetcher *f;
    struct sts *s;
    struct scripted_row rows[32];
    char names[32][300], texts[32][1200];
    size_t count;
};

/* `records` are texts split by '|', each of strings split by '+'; or a word of scripted.h after '!'. */
static void txt(struct here *h, const char *domain, const char *records)
{
    BUF_LOCAL(out);
    BUF_LOCAL(string);
    size_t i = 0;
    char name[300];

    snprintf(name, sizeof(name), "_mta-sts.%s", domain);
    while (i < h->count && strcmp(h->names[i], name) != 0)
        i++;
    assert_true(i < COUNT_OF(h->rows) - 2);
    strcpy(h->names[i], name);
    if (records[0] != '!') {
        BUF_LOCAL(hex);
        for (const char *at = records;; at++) {
            if (*at && *at != '|' && *at != '+') {
                buf_putf(&string, "%02x", (uint8_t)*at);
                continue;
            }
            buf_putf(&hex, "%02zx%s", string.len / 2, string.len ? buf_str(&string) : "");
            buf_clear(&string);
            if (*at == '+')
                continue;
            buf_putf(&out, "%s@ 0 TYPE16 %s", out.len ? "; " : "", buf_str(&hex));
            buf_clear(&hex);
            if (!*at)
                break;
        }
    }
    assert_true(out.len < sizeof(h->texts[i]));
    strcpy(h->texts[i], records[0] == '!' ? records + 1 : buf_str(&out));
    if (i == h->count) {
        h->rows[i + 2] = h->rows[i + 1]; /* the rows for every name stay at the end */
        h->rows[i + 1] = h->rows[i];
        h->count++;
        h->w.servers[0].count++;
    }
    h->rows[i] = (struct scripted_row){h->names[i], "TXT", records[0] == '!' ? h->texts[i] : NULL,
                                       records[0] == '!' ? NULL : h->texts[i]};
    dns_flush(h->w.d);
}

static void web(struct here *h, const char *host, const char *certificate, const char *does,
                const char *reply)
{
    const struct web_row row = {host, certificate, does, reply};

    web_set(&h->web, &row);
}

static void open_sts(struct here *h, size_t entries_max)
{
    char *why = NULL;
    const struct sts_setup setup = {
        .loop = &h->w.loop,
        .dns = h->w.d,
        .fetcher = h->f,
        .workers = 1,
        .port = h->web.port,
        .fetch_ms = 1000,
        .tick_ms = 1000000, /* the tests tick by hand */
        .entries_max = entries_max,
        .bytes_max = 1 << 20,
        .now_unix = test_now,
    };
    assert_int_equal(sts_open(&setup, &h->s, &why), OK);
}

static struct here *start(void)
{
    struct here *h = MEM_NEW(struct here);
    char *why = NULL;

    now = 1800000000;
    h->rows[0] = (struct scripted_row){"*", "A", NULL, "@ 300 A 127.0.0.1"};
    h->rows[1] = (struct scripted_row){"*", NULL, "nxdomain", "!test 0 SOA ns.test root.test 0"};
    web_start(&h->web, NULL, 0);
    world_start(&h->w, h->rows, 2);
    world_resolver(&h->w);
    const struct fetch_config config = {.ca_file = h->web.ca_file};
    assert_int_equal(fetcher_create(&h->w.loop, h->w.d, &config, &h->f, &why), OK);
    open_sts(h, 1000);
    return h;
}

static void stop(struct here *h)
{
    sts_close(h->s, NULL, NULL);
    fetcher_close(h->f, NULL, NULL);
    world_stop(&h->w);
    web_stop(&h->web);
    mem_free(h);
}

struct said {
    unsigned count;
    char text[400]; /* policy, id, failure: "enforce 20260101 sts-webpki-invalid"; "several", "malformed": TXT
                       that is ignored */
};

static void on_answer(void *arg, const struct sts_answer *a)
{
    struct said *s = arg;

    s->count++;
    const char *ignored = a->failure || !a->why[0]      ? ""
                          : strstr(a->why, "several")   ? " several"
                          : strstr(a->why, "malformed") ? " malformed"
                                                        : "?";
    snprintf(s->text, sizeof(s->text), "%s%s%s%s%s%s",
             a->policy ? sts_policy_mode_name(a->policy->mode) : "no policy", a->policy ? " " : "",
             a->policy ? a->policy->id : "", a->failure ? " " : "", tls_failure_name(a->failure), ignored);
    assert_true(!a->failure || a->why[0]);
}

static void turn_until(struct here *h, const struct said *s, unsigned count)
{
    while (s->count < count)
        assert_true(uv_run(&h->w.loop, UV_RUN_ONCE) || s->count >= count);
}

typedef struct sts_query *(*ask_fn)(struct sts *s, const char *domain, sts_fn fn, void *arg);

static const char *ask_by(struct here *h, ask_fn how, const char *domain)
{
    static struct said s;

    s = (struct said){0};
    assert_non_null(how(h->s, domain, on_answer, &s));
    assert_int_equal(s.count, 0); /* never from inside */
    turn_until(h, &s, 1);
    return s.text;
}

static const char *lookup(struct here *h, const char *domain)
{
    return ask_by(h, sts_lookup, domain);
}

static const char *recheck(struct here *h, const char *domain)
{
    return ask_by(h, sts_recheck, domain);
}

static struct sts_entry *entry(struct here *h, const char *domain)
{
    return map_find(&h->s->entries, bytes_of(domain));
}

/* What TXT said is over: the next lookup asks again. */
static void forget_txt(struct here *h, const char *domain)
{
    if (entry(h, domain))
        entry(h, domain)->txt_until_ms = 0;
}

/* A tick, and all that it began. */
static void tick(struct here *h)
{
    sts_cache_tick(h->s);
    while (h->s->refreshing)
        uv_run(&h->w.loop, UV_RUN_ONCE);
    sts_cache_tick(h->s);
}

static struct sts_stats stats(struct here *h)
{
    struct sts_stats s;

    sts_stats(h->s, &s);
    return s;
}

/* ---- finding ---- */

static void a_policy_is_found_once_and_then_known(void **state)
{
    struct here *h = start();

    (void)state;
    txt(h, "a.test", "v=STSv1; id=20270101;");
    web(h, A, NULL, NULL, ENFORCE);
    assert_string_equal(lookup(h, "a.test"), "enforce 20270101");
    assert_string_equal(lookup(h, "a.test"), "enforce 20270101");
    forget_txt(h, "a.test");
    assert_string_equal(lookup(h, "a.test"), "enforce 20270101"); /* TXT again, the id is the same */
    assert_int_equal(web_hits(&h->web, A), 1);
    struct sts_view view;
    assert_true(sts_find(h->s, "a.test", &view));
    assert_string_equal(view.policy->mx[0], "mx.a.test");
    assert_int_equal(view.policy->fetched_unix, now);
    char *request = web_request(&h->web);
    assert_true(bytes_starts(bytes_of(request), BYTES("GET /.well-known/mta-sts.txt HTTP/1.1\r\n")));
    mem_free(request);
    stop(h);
}

static void only_one_good_txt_record_counts(void **state)
{
    static const struct {
        const char *records, *want;
    } rows[] = {
        {"v=STSv1; id=1;", "enforce 1"},
        {"v=STSv1;id=1", "enforce 1"},
        {"v=STSv1; +id=20270+101;", "enforce 20270101"},
        {"other text|v=STSv1; id=2;|v=spf1 -all", "enforce 2"},
        {"v=STSv1; id=12345678901234567890123456789012;", "enforce 12345678901234567890123456789012"},
        {"v=STSv1; id=123456789012345678901234567890123;", "no policy malformed"},
        {"v=STSv1; id=1;|v=STSv1; id=1;", "no policy several"},
        {"v=STSv1; id=1;|v=STSv1; bad", "no policy several"},
        {"v=STSv1;", "no policy malformed"},
        {"v=STSv1; id=a-b;", "no policy malformed"},
        {"v=STSv2; id=1;", "no policy"},
        {" v=STSv1; id=1;", "no policy"},
        {"nothing of ours", "no policy"},
        {"", "no policy"},
        {"!nxdomain", "no policy"},
        {"!", "no policy"}, /* NODATA */
        {"!servfail", "no policy sts-policy-fetch-error"},
        {"!silent", "no policy sts-policy-fetch-error"},
    };
    struct here *h = start();

    (void)state;
    web(h, A, NULL, NULL, ENFORCE);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        txt(h, "a.test", rows[i].records);
        const char *said = lookup(h, "a.test");
        if (strcmp(said, rows[i].want) != 0)
            fail_msg("%s: %s, wanted %s", rows[i].records, said, rows[i].want);
        if (entry(h, "a.test"))
            sts_entry_free(h->s, entry(h, "a.test"));
    }
    assert_int_equal(h->s->entries.count, 0);
    assert_int_equal(h->s->bytes, 0);
    stop(h);
}

static void rdata_of_txt_that_lies_about_its_lengths_is_bad(void **state)
{
    static const struct {
        struct bytes rdata;
        enum sts_txt want;
    } rows[] = {
        {{"\x0cv=STSv1;id=1", 13}, STS_TXT_GOOD},
        {{"\x08v=STSv1;\x04id=1", 14}, STS_TXT_GOOD},
        {{"\x00\x0cv=STSv1;id=1\x00", 15}, STS_TXT_GOOD},
        {{"\x0dv=STSv1;id=1", 13}, STS_TXT_NONE}, /* more than there is */
        {{"\x08v=STSv1;\x05id=1", 14}, STS_TXT_NONE},
        {{"", 0}, STS_TXT_NONE},
    };
    char id[STS_ID_MAX + 1];
    const char *why = "";

    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++)
        if (sts_txt_choose(&rows[i].rdata, 1, id, &why) != rows[i].want)
            fail_msg("row %zu", i);
}

static void every_failure_of_the_policy_host_is_told_apart(void **state)
{
    static const struct {
        const char *certificate, *does, *reply, *want;
    } rows[] = {
        {NULL, NULL, ENFORCE, "enforce 1"},
        {NULL, NULL, TESTING, "testing 1"},
        {NULL, NULL, NONE, "none 1"},
        {NULL, "dribble", NONE, "none 1"},
        {NULL, NULL, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "no policy sts-policy-fetch-error"},
        {NULL, NULL, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "no policy sts-policy-fetch-error"},
        {NULL, NULL, "HTTP/1.1 302 There\r\nLocation: https://mta-sts.b.test/.well-known/mta-sts.txt\r\n\r\n",
         "no policy sts-policy-fetch-error"},
        {NULL, "silent", NULL, "no policy sts-policy-fetch-error"},
        {NULL, "hangup", NULL, "no policy sts-policy-fetch-error"},
        {NULL, "cut", ENFORCE, "no policy sts-policy-fetch-error"}, /* somebody may have shortened it */
        {"other", NULL, ENFORCE, "no policy sts-webpki-invalid"},
        {"self", NULL, ENFORCE, "no policy sts-webpki-invalid"},
        {"stranger", NULL, ENFORCE, "no policy sts-webpki-invalid"},
        {"expired", NULL, ENFORCE, "no policy sts-webpki-invalid"},
        {"cn", NULL, ENFORCE, "no policy sts-webpki-invalid"},
        {NULL, NULL,
         "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\nversion: STSv1\nmode: none\nmax_age: 1\n",
         "no policy sts-policy-invalid"},
        {NULL, "endless", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
         "no policy sts-policy-invalid"},
        {NULL, NULL, HEAD "version: STSv1\nmode: enforce\nmax_age: 604800\n", "no policy sts-policy-invalid"},
        {NULL, NULL, HEAD "version: STSv2\nmode: none\nmax_age: 604800\n", "no policy sts-policy-invalid"},
        {NULL, NULL, HEAD, "no policy sts-policy-invalid"},
    };
    struct here *h = start();

    (void)state;
    txt(h, "a.test", "v=STSv1; id=1;");
    web(h, "mta-sts.b.test", NULL, NULL, ENFORCE);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        web(h, A, rows[i].certificate, rows[i].does, rows[i].reply);
        const char *said = lookup(h, "a.test");
        if (strcmp(said, rows[i].want) != 0)
            fail_msg("row %zu: %s, wanted %s", i, said, rows[i].want);
        sts_entry_free(h->s, entry(h, "a.test"));
    }
    assert_int_equal(web_hits(&h->web, "mta-sts.b.test"), 0);
    stop(h);
}

static void names_that_cannot_have_a_policy_have_none(void **state)
{
    char name[300];
    struct here *h = start();

    (void)state;
    memset(name, 'a', sizeof(name));
    for (size_t i = 50; i < 245; i += 50)
        name[i] = '.';
    name[245] = '\0'; /* a name, but not with _mta-sts. before it */
    assert_string_equal(lookup(h, name), "no policy");
    assert_string_equal(lookup(h, "[192.0.2.1]"), "no policy");
    assert_int_equal(h->s->entries.count, 0);
    stop(h);
}

/* ---- failing ---- */

static void a_failed_fetch_is_waited_out_for_that_id(void **state)
{
    struct here *h = start();

    (void)state;
    txt(h, "a.test", "v=STSv1; id=1;");
    web(h, A, "expired", NULL, ENFORCE);
    assert_string_equal(lookup(h, "a.test"), "no policy sts-webpki-invalid");
    web(h, A, NULL, NULL, ENFORCE);
    forget_txt(h, "a.test");
    assert_string_equal(lookup(h, "a.test"), "no policy sts-webpki-invalid");
    now += 299;
    forget_txt(h, "a.test");
    assert_string_equal(recheck(h, "a.test"), "no policy sts-webpki-invalid");
    assert_int_equal(stats(h).fetches, 1);
    now += 1;
    assert_string_equal(recheck(h, "a.test"), "enforce 1");
    assert_int_equal(stats(h).fetches, 2);
    assert_int_equal(stats(h).fetch_failures, 1);
    /* Another id need not wait. */
    web(h, A, "expired", NULL, ENFORCE);
    txt(h, "a.test", "v=STSv1; id=2;");
    assert_string_equal(recheck(h, "a.test"), "enforce 1 sts-webpki-invalid");
    web(h, A, NULL, NULL, TESTING);
    txt(h, "a.test", "v=STSv1; id=3;");
    assert_string_equal(recheck(h, "a.test"), "testing 3");
    stop(h);
}

static void the_wait_doubles_while_fetches_go_on_failing(void **state)
{
    static const int64_t waits[] = {300, 600, 1200, 2400, 4800, 9600, 19200, 21600, 21600};
    struct here *h = start();

    (void)state;
    txt(h, "a.test", "v=STSv1; id=1;");
    web(h, A, "expired", NULL, ENFORCE);
    for (size_t i = 0; i < COUNT_OF(waits); i++) {
        assert_string_equal(recheck(h, "a.test"), "no policy sts-webpki-invalid");
        assert_int_equal(stats(h).fetches, i + 1);
        now += waits[i] - 1;
        assert_string_equal(recheck(h, "a.test"), "no policy sts-webpki-invalid");
        assert_int_equal(stats(h).fetches, i + 1);
        now++;
    }
    stop(h);
}

static void what_is_cached_stays_in_force_whatever_goes_wrong(void **state)
{
    static const struct {
        const char *records, *certificate, *does, *want;
    } rows[] = {
        {"!servfail", NULL, NULL, "enforce 1 sts-policy-fetch-error"},
        {"!silent", NULL, NULL, "enforce 1 sts-policy-fetch-error"},
        {"!nxdomain", NULL, NULL, "enforce 1"},
        {"!", NULL, NULL, "enforce 1"},
        {"no record of ours", NULL, NULL, "enforce 1"},
        {"v=STSv1; id=!;", NULL, NULL, "enforce 1 malformed"},
        {"v=STSv1; id=1;|v=STSv1; id=2;", NULL, NULL, "enforce 1 several"},
        {"v=STSv1; id=3;", "other", NULL, "enforce 1 sts-webpki-invalid"},
        {"v=STSv1; id=4;", NULL, "silent", "enforce 1 sts-policy-fetch-error"},
        {"v=STSv1; id=1;", "expired", NULL, "enforce 1"}, /* nothing new: nobody looks */
    };
    struct here *h = start();

    (void)state;
    txt(h, "a.test", "v=STSv1; id=1;");
    web(h, A, NULL, NULL, ENFORCE);
    assert_string_equal(lookup(h, "a.test"), "enforce 1");
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        txt(h, "a.test", rows[i].records);
        web(h, A, rows[i].certificate, rows[i].does, NONE);
        const char *said = recheck(h, "a.test");
        if (strcmp(said, rows[i].want) != 0)
            fail_msg("%s: %s, wanted %s", rows[i].records, said, rows[i].want);
    }
    now += 604800 - 1;
    txt(h, "a.test", "!servfail");
    assert_string_equal(recheck(h, "a.test"), "enforce 1 sts-policy-fetch-error");
    now++; /* and not a second longer than max_age */
    assert_string_equal(lookup(h, "a.test"), "no policy sts-policy-fetch-error");
    stop(h);
}

/* ---- changing ---- */

static void a_new_id_brings_the_new_policy(void **state)
{
    struct here *h = start();

    (void)state;
    txt(h, "a.test", "v=STSv1; id=1;");
    web(h, A, NULL, NULL, ENFORCE);
    assert_string_equal(lookup(h, "a.test"), "enforce 1");
    web(h, A, NULL, NULL, TESTING);
    assert_string_equal(recheck(h, "a.test"), "enforce 1"); /* the same id: not even asked for */
    txt(h, "a.test", "v=STSv1; id=2;");
    assert_string_equal(lookup(h, "a.test"), "enforce 1"); /* TXT is known for a minute at least */
    assert_string_equal(recheck(h, "a.test"), "testing 2");
    web(h, A, NULL, NULL, NONE);
    txt(h, "a.test", "v=STSv1; id=3;");
    assert_string_equal(recheck(h, "a.test"), "none 3");
    web(h, A, NULL, NULL, ENFORCE);
    txt(h, "a.test", "v=STSv1; id=4;");
    assert_string_equal(recheck(h, "a.test"), "enforce 4");
    stop(h);
}

static void an_id_that_changes_while_the_policy_is_fetched_is_seen_next_time(void **state)
{
    struct here *h = start();
    struct said s = {0};

    (void)state;
    txt(h, "a.test", "v=STSv1; id=1;");
    web(h, A, NULL, "slow", ENFORCE);
    assert_non_null(sts_lookup(h->s, "a.test", on_answer, &s));
    while (web_hits(&h->web, A) == 0)
        uv_run(&h->w.loop, UV_RUN_NOWAIT);
    txt(h, "a.test", "v=STSv1; id=2;");
    turn_until(h, &s, 1);
    assert_string_equal(s.text, "enforce 1"); /* the id it was fetched under, so that the difference shows */
    web(h, A, NULL, NULL, TESTING);
    assert_string_equal(recheck(h, "a.test"), "testing 2");
    stop(h);
}

static void max_age_zero_serves_who_asked_and_nobody_later(void **state)
{
    struct here *h = start();

    (void)state;
    txt(h, "a.test", "v=STSv1; id=1;");
    web(h, A, NULL, NULL, HEAD "version: STSv1\nmode: enforce\nmx: mx.a.test\nmax_age: 0\n");
    assert_string_equal(lookup(h, "a.test"), "enforce 1");
    assert_int_equal(entry(h, "a.test")->refresh_unix, 0);
    web(h, A, "expired", NULL, NULL);
    now += 60;
    forget_txt(h, "a.test");
    assert_string_equal(lookup(h, "a.test"), "no policy sts-webpki-invalid");
    now += STS_WAIT_S;
    forget_txt(h, "a.test");
    tick(h);
    assert_int_equal(h->s->entries.count, 0);
    stop(h);
}

/* ---- time ---- */

static void policies_are_refreshed_daily_without_any_traffic(void **state)
{
    struct here *h = start();

    (void)state;
    txt(h, "a.test", "v=STSv1; id=1;");
    web(h, A, NULL, NULL, ENFORCE);
    assert_string_equal(lookup(h, "a.test"), "enforce 1");
    for (int day = 1; day <= 30; day++) { /* max_age is a week */
        int64_t due = entry(h, "a.test")->refresh_unix;
        assert_in_range(due - now, DAY * 3 / 4, DAY);
        now = due - 1;
        tick(h);
        assert_int_equal(web_hits(&h->web, A), day);
        now = due;
        tick(h);
        assert_int_equal(web_hits(&h->web, A), day + 1);
        assert_int_equal(entry(h, "a.test")->policy->fetched_unix, now);
    }
    assert_int_equal(stats(h).refreshes, 30);
    assert_int_equal(stats(h).policies, 1);
    assert_int_equal(stats(h).enforced, 1);
    now = entry(h, "a.test")->refresh_unix;
    web(h, A, NULL, NULL, TESTING); /* by the same id: it is authenticated, so it counts */
    tick(h);
    assert_int_equal(entry(h, "a.test")->policy->mode, STS_MODE_TESTING);
    now = entry(h, "a.test")->refresh_unix;
    txt(h, "a.test", "!servfail"); /* the policy is fetched nevertheless */
    tick(h);
    assert_int_equal(entry(h, "a.test")->policy->fetched_unix, now);
    assert_string_equal(entry(h, "a.test")->policy->id, "1");
    stop(h);
}

static void a_domain_that_nobody_asks_for_is_let_go(void **state)
{
    struct here *h = start();

    (void)state;
    txt(h, "a.test", "v=STSv1; id=1;");
    web(h, A, NULL, NULL, ENFORCE);
    assert_string_equal(lookup(h, "a.test"), "enforce 1");
    for (int64_t end = now + STS_UNUSED_S + 8 * DAY; now < end; now += DAY / 2)
        tick(h);
    assert_int_equal(h->s->entries.count, 0);
    assert_int_equal(h->s->bytes, 0);
    stop(h);
}

static void a_refresh_that_goes_on_failing_is_counted_and_the_policy_dies_in_the_end(void **state)
{
    struct here *h = start();
    unsigned failed = 0;

    (void)state;
    txt(h, "a.test", "v=STSv1; id=1;");
    txt(h, "n.test", "v=STSv1; id=1;");
    web(h, A, NULL, NULL, ENFORCE);
    web(h, "mta-sts.n.test", NULL, NULL, NONE);
    assert_string_equal(lookup(h, "a.test"), "enforce 1");
    assert_string_equal(lookup(h, "n.test"), "none 1");
    web(h, A, "expired", NULL, ENFORCE);
    web(h, "mta-sts.n.test", "expired", NULL, NONE);
    int64_t fetched = now;
    while (now < fetched + 604800) {
        tick(h);
        assert_int_equal(stats(h).failing, failed >= STS_ALARM_FAILURES);
        assert_string_equal(lookup(h, "a.test"), failed ? "enforce 1 sts-webpki-invalid" : "enforce 1");
        now = entry(h, "a.test")->refresh_unix;
        forget_txt(h, "a.test");
        failed = entry(h, "a.test")->refresh_failures;
        tick(h);
        if (now < fetched + 604800)
            assert_int_equal(entry(h, "a.test")->refresh_failures, failed + 1);
        failed++;
    }
    assert_in_range(failed, 20, 60); /* backed off, not given up */
    tick(h);
    assert_int_equal(stats(h).failing, 0);
    assert_int_equal(stats(h).policies, 0);
    web(h, A, NULL, NULL, ENFORCE);
    now += STS_WAIT_MAX_S;
    assert_string_equal(recheck(h, "a.test"), "enforce 1");
    stop(h);
}

static void a_refresh_does_not_keep_mail_waiting(void **state)
{
    struct here *h = start();
    struct said s = {0};

    (void)state;
    txt(h, "a.test", "v=STSv1; id=1;");
    web(h, A, NULL, NULL, ENFORCE);
    assert_string_equal(lookup(h, "a.test"), "enforce 1");
    web(h, A, NULL, "silent", NULL);
    now = entry(h, "a.test")->refresh_unix;
    forget_txt(h, "a.test");
    sts_cache_tick(h->s);
    assert_int_equal(h->s->refreshing, 1);
    assert_non_null(
        sts_lookup(h->s, "a.test", on_answer, &s)); /* joins, until TXT has said that nothing changed */
    turn_until(h, &s, 1);
    assert_int_equal(h->s->refreshing, 1);
    assert_string_equal(s.text, "enforce 1");
    assert_non_null(sts_recheck(h->s, "a.test", on_answer, &s));
    turn_until(h, &s, 2);
    assert_int_equal(h->s->refreshing, 1);
    stop(h);
}

static void a_person_may_refresh_without_waiting_out_a_failure(void **state)
{
    struct here *h = start();

    (void)state;
    txt(h, "a.test", "v=STSv1; id=1;");
    web(h, A, "expired", NULL, ENFORCE);
    assert_string_equal(lookup(h, "a.test"), "no policy sts-webpki-invalid");
    web(h, A, NULL, NULL, ENFORCE);
    assert_string_equal(ask_by(h, sts_refresh, "a.test"), "enforce 1");
    web(h, A, NULL, NULL, TESTING);
    assert_string_equal(ask_by(h, sts_refresh, "a.test"), "testing 1");
    assert_string_equal(ask_by(h, sts_refresh, "nothing.test"), "no policy");
    stop(h);
}

/* ---- many ---- */

static void many_askers_share_one_lookup(void **state)
{
    struct here *h = start();
    struct said s = {0};
    struct sts_query *q[20];

    (void)state;
    txt(h, "a.test", "v=STSv1; id=1;");
    web(h, A, NULL, "slow", ENFORCE);
    for (size_t i = 0; i < COUNT_OF(q); i++)
        q[i] = sts_lookup(h->s, "a.test", on_answer, &s);
    for (size_t i = 0; i < COUNT_OF(q); i += 2)
        sts_cancel(q[i]);
    turn_until(h, &s, 10);
    uv_run(&h->w.loop, UV_RUN_NOWAIT);
    assert_int_equal(s.count, 10);
    assert_int_equal(web_hits(&h->web, A), 1);
    assert_int_equal(h->w.servers[0].udp_questions, 3); /* TXT, A, AAAA */
    stop(h);
}

static void the_cache_is_bounded_and_drops_what_was_not_used_longest(void **state)
{
    struct here *h = start();
    char domain[20], host[40];

    (void)state;
    sts_close(h->s, NULL, NULL);
    open_sts(h, 4);
    for (int i = 0; i < 10; i++) {
        snprintf(domain, sizeof(domain), "d%d.test", i);
        snprintf(host, sizeof(host), "mta-sts.d%d.test", i);
        char *kept = mem_strdup(host); /* rows borrow */
        txt(h, domain, "v=STSv1; id=1;");
        web(h, kept, NULL, NULL, ENFORCE);
        assert_string_equal(lookup(h, domain), "enforce 1");
        assert_string_equal(lookup(h, "d0.test"), "enforce 1"); /* used again and again: stays */
        assert_true(h->s->entries.count <= 5);
    }
    assert_int_equal(web_hits(&h->web, "mta-sts.d0.test"), 1);
    assert_null(entry(h, "d1.test"));
    assert_non_null(entry(h, "d9.test"));
    struct sts_view views[10];
    size_t count = sts_list(h->s, NULL, views, COUNT_OF(views));
    assert_int_equal(count, h->s->entries.count);
    for (size_t i = 1; i < count; i++)
        assert_true(strcmp(views[i - 1].domain, views[i].domain) < 0);
    assert_int_equal(sts_list(h->s, "d0.test", views, 2), 2);
    assert_string_not_equal(views[0].domain, "d0.test");
    char *hosts[10];
    for (size_t i = 0; i < 10; i++) {
        pthread_mutex_lock(&h->web.lock);
        hosts[i] = (char *)(uintptr_t)h->web.rows[i].host;
        pthread_mutex_unlock(&h->web.lock);
    }
    stop(h);
    for (size_t i = 0; i < 10; i++)
        mem_free(hosts[i]);
}

static void cancelling_and_closing_are_clean_at_any_time(void **state)
{
    (void)state;
    for (int turns = 0; turns < 16; turns++) {
        struct here *h = start();
        struct said never = {0};
        txt(h, "a.test", "v=STSv1; id=1;");
        web(h, A, NULL, "silent", NULL);
        struct sts_query *q = sts_lookup(h->s, "a.test", on_answer, &never);
        assert_non_null(sts_lookup(h->s, "a.test", on_answer, &never));
        for (int k = 0; k < turns * 2; k++)
            uv_run(&h->w.loop, UV_RUN_NOWAIT);
        if (turns % 2)
            sts_cancel(q);
        stop(h);
        assert_int_equal(never.count, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_policy_is_found_once_and_then_known),
        cmocka_unit_test(only_one_good_txt_record_counts),
        cmocka_unit_test(rdata_of_txt_that_lies_about_its_lengths_is_bad),
        cmocka_unit_test(every_failure_of_the_policy_host_is_told_apart),
        cmocka_unit_test(names_that_cannot_have_a_policy_have_none),
        cmocka_unit_test(a_failed_fetch_is_waited_out_for_that_id),
        cmocka_unit_test(the_wait_doubles_while_fetches_go_on_failing),
        cmocka_unit_test(what_is_cached_stays_in_force_whatever_goes_wrong),
        cmocka_unit_test(a_new_id_brings_the_new_policy),
        cmocka_unit_test(an_id_that_changes_while_the_policy_is_fetched_is_seen_next_time),
        cmocka_unit_test(max_age_zero_serves_who_asked_and_nobody_later),
        cmocka_unit_test(policies_are_refreshed_daily_without_any_traffic),
        cmocka_unit_test(a_domain_that_nobody_asks_for_is_let_go),
        cmocka_unit_test(a_refresh_that_goes_on_failing_is_counted_and_the_policy_dies_in_the_end),
        cmocka_unit_test(a_refresh_does_not_keep_mail_waiting),
        cmocka_unit_test(a_person_may_refresh_without_waiting_out_a_failure),
        cmocka_unit_test(many_askers_share_one_lookup),
        cmocka_unit_test(the_cache_is_bounded_and_drops_what_was_not_used_longest),
        cmocka_unit_test(cancelling_and_closing_are_clean_at_any_time),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tests/unit/queue/world.h"

#define MESSAGES 120
#define DOMAINS  5

static struct world w;
static struct browse *b;
static const char *const campaigns[] = {"spring", "autumn", NULL};

struct known {
    uint64_t id;
    uint32_t no;
    int domain, campaign;
    enum queue_state state;
};
static struct known rows[MESSAGES * 3];
static size_t row_count;

static const char *domain_name(int d)
{
    static char names[DOMAINS][24];
    snprintf(names[d], sizeof(names[d]), "d%d.example", d);
    return names[d];
}

static void put(int i)
{
    struct rcpt list[3];
    char addresses[3][40];
    uint32_t count = 1 + (uint32_t)i % 3;
    struct body *body = world_body("Subject: x\r\n\r\nhello\r\n");

    for (uint32_t k = 0; k < count; k++) {
        int d = (i + (int)k) % DOMAINS;
        snprintf(addresses[k], sizeof(addresses[k]), "u%d@%s", i % 10, domain_name(d));
        list[k] = (struct rcpt){.no = k, .address = addresses[k], .domain = domain_name(d)};
    }
    struct message m = {.id = message_id_make(0),
                        .accepted_unix = clock_unix(),
                        .sender = i % 2 ? "" : "x@s.example",
                        .campaign = campaigns[i % 3],
                        .account = i % 4 ? "shop" : NULL,
                        .body = body,
                        .rcpt_count = count,
                        .rcpt_total = count,
                        .rcpts = list};
    struct store_accept *a = MEM_NEW(struct store_accept);
    a->message = message_create(&m);
    a->not_before_unix = i % 5 == 0 ? clock_unix() + 100 + i : 0;
    body_unref(body);
    store_post_accept(w.store, a);
    for (uint32_t k = 0; k < count; k++)
        rows[row_count++] = (struct known){m.id, k, (i + (int)k) % DOMAINS, i % 3, QUEUE_WAITING};
}

static int setup(void **state)
{
    char *why;

    (void)state;
    world_init(&w);
    world_must_open(&w);
    for (int i = 0; i < MESSAGES; i++)
        put(i);
    world_sync(&w);
    world_forget_jobs(&w);
    for (size_t i = 0; i < row_count; i++) {
        const char *d = domain_name(rows[i].domain);
        if (i % 7 == 1) {
            world_result(&w, rows[i].id, rows[i].no, d, THEN_DEFER, OUTCOME_DEFERRED,
                         clock_unix() + (int64_t)i);
        } else if (i % 7 == 2) {
            world_result(&w, rows[i].id, rows[i].no, d, THEN_DSN, OUTCOME_BOUNCED, 0);
            rows[i].state = QUEUE_DSN_OWED;
        }
    }
    world_sync(&w);
    world_op(&w, QUEUE_HOLD, (struct queue_selector){.message_id = rows[30].id}, NULL);
    world_op(&w, QUEUE_CANCEL, (struct queue_selector){.message_id = rows[60].id}, NULL);
    for (size_t i = 0; i < row_count; i++) {
        if (rows[i].state != QUEUE_WAITING)
            continue;
        if (rows[i].id == rows[30].id)
            rows[i].state = QUEUE_HELD;
        if (rows[i].id == rows[60].id)
            rows[i].state = QUEUE_CANCELLING;
    }
    assert_int_equal(browse_open(w.dir, &b, &why), OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    browse_close(b);
    world_fini(&w);
    row_count = 0;
    return 0;
}

static bool matches(const struct known *r, size_t index, const struct browse_query *q, const int *domains,
                    size_t n)
{
    const struct queue_selector *s = q->which;
    size_t message = 0;
    char address[40];

    for (size_t i = 0; i < index; i++)
        message += rows[i].no == 0;
    message -= r->no != 0; /* which one it is, from 0 */
    snprintf(address, sizeof(address), "u%zu@%s", message % 10, domain_name(r->domain));
    if (q->only_state && r->state != q->state)
        return false;
    if (q->order == BROWSE_BY_DUE && r->state != QUEUE_WAITING)
        return false;
    if (!s)
        return true;
    if (s->message_id && s->message_id != r->id)
        return false;
    if (s->campaign && strcmp(s->campaign, campaigns[r->campaign] ? campaigns[r->campaign] : "") != 0)
        return false;
    if (s->sender && strcmp(s->sender, message % 2 ? "" : "x@s.example") != 0)
        return false;
    if (s->account && message % 4 == 0)
        return false;
    if (s->recipient && strcasecmp(s->recipient, address) != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (domains[i] == r->domain)
            return true;
    return n == 0;
}

static void check(const struct browse_query *base, const int *domains, size_t domain_count)
{
    struct arena arena = {0};
    struct browse_query q = *base;
    size_t expected = 0, got = 0;
    int64_t last_due = INT64_MIN;
    uint64_t last_id = 0, counted = 0;
    uint32_t last_no = 0;
    bool more = true;

    for (size_t i = 0; i < row_count; i++)
        expected += matches(&rows[i], i, &q, domains, domain_count);
    q.limit = 7;
    for (int pages = 0; more; pages++) {
        struct browse_list list;
        char text[BROWSE_POSITION_TEXT];
        assert_int_equal(browse_rcpts(b, &q, &arena, &list), OK);
        assert_true(list.count <= 7 && pages < 100);
        for (size_t i = 0; i < list.count; i++, got++) {
            const struct browse_row *r = &list.rows[i];
            if (q.order == BROWSE_BY_DUE)
                assert_true(r->due_unix > last_due || (r->due_unix == last_due &&
                                                       (r->message_id > last_id ||
                                                        (r->message_id == last_id && r->rcpt_no > last_no))));
            else
                assert_true(r->message_id > last_id || (r->message_id == last_id && r->rcpt_no > last_no));
            last_due = r->due_unix;
            last_id = r->message_id;
            last_no = r->rcpt_no;
            size_t k = 0;
            while (k < row_count && (rows[k].id != r->message_id || rows[k].no != r->rcpt_no))
                k++;
            assert_true(k < row_count && matches(&rows[k], k, &q, domains, domain_count));
            assert_int_equal(r->state, rows[k].state);
            assert_string_equal(r->domain, domain_name(rows[k].domain));
        }
        more = list.more;
        browse_position_format(&list.end, text);
        if (more)
            assert_true(browse_position_parse(bytes_of(text), &q.after));
    }
    assert_int_equal(got, expected);
    if (q.order == BROWSE_BY_ID) {
        assert_int_equal(browse_count(b, base, &counted), OK);
        assert_int_equal(counted, expected);
    }
    arena_fini(&arena);
}

static void every_selector_pages_through_exactly_its_rows(void **state)
{
    char *two[] = {(char[]){"d1.example"}, (char[]){"d3.example"}}, *none[] = {(char[]){"unknown.example"}};
    int two_numbers[] = {1, 3}, none_number[] = {-1};
    char spring[] = "spring", sender[] = "x@s.example", empty[] = "", account[] = "shop",
         rcpt[] = "U3@d3.example";
    struct {
        struct queue_selector s;
        const int *domains;
        size_t count;
    } selectors[] = {
        {{.all = true}, NULL, 0},
        {{.message_id = rows[30].id}, NULL, 0},
        {{.message_id = 12345}, NULL, 0},
        {{.campaign = spring}, NULL, 0},
        {{.campaign = empty}, NULL, 0}, /* mail without one */
        {{.sender = sender}, NULL, 0},
        {{.sender = empty, .campaign = spring}, NULL, 0},
        {{.account = account}, NULL, 0},
        {{.recipient = rcpt}, NULL, 0},
        {{.recipient = rcpt, .account = account}, NULL, 0},
        {{.domains = two, .domain_count = 2}, two_numbers, 2},
        {{.domains = two, .domain_count = 1, .campaign = spring}, two_numbers, 1},
        {{.domains = none, .domain_count = 1}, none_number, 1},
        {{.domains = none, .domain_count = 0}, none_number, 1}, /* a group without domains has no rows */
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(selectors); i++) {
        struct browse_query q = {.which = &selectors[i].s};
        check(&q, selectors[i].domains, selectors[i].count);
        q.order = BROWSE_BY_DUE;
        check(&q, selectors[i].domains, selectors[i].count);
        q.order = BROWSE_BY_ID;
        q.only_state = true;
        for (int st = 0; st < QUEUE_STATES; st++) {
            q.state = (enum queue_state)st;
            check(&q, selectors[i].domains, selectors[i].count);
        }
    }
    check(&(struct browse_query){0}, NULL, 0);
    struct arena arena = {0};
    struct browse_list all;
    assert_int_equal(browse_rcpts(b, &(struct browse_query){.limit = UINT32_MAX}, &arena, &all), OK);
    assert_int_equal(all.count, row_count);
    arena_fini(&arena);
}

static void sums_and_groups_add_up(void **state)
{
    struct browse_totals t;
    struct arena arena = {0};
    struct browse_group *groups;
    size_t count, waiting = 0, held = 0;

    (void)state;
    assert_int_equal(browse_totals(b, &t), OK);
    assert_int_equal(t.messages, MESSAGES);
    for (int st = 0; st < QUEUE_STATES; st++) {
        size_t n = 0;
        for (size_t i = 0; i < row_count; i++)
            n += rows[i].state == (enum queue_state)st;
        assert_int_equal(t.by_state[st], n);
    }
    for (int by = 0; by < 2; by++) {
        assert_int_equal(browse_groups(b, (enum browse_by)by, 100, &arena, &groups, &count), OK);
        assert_int_equal(count, by ? 3 : DOMAINS);
        waiting = held = 0;
        for (size_t i = 0; i < count; i++) {
            waiting += groups[i].waiting;
            held += groups[i].held;
            if (i)
                assert_true(groups[i - 1].waiting + groups[i - 1].held >= groups[i].waiting + groups[i].held);
            assert_true(groups[i].next_due_unix > 1700000000);
        }
        assert_int_equal(held, t.by_state[QUEUE_HELD]);
        assert_int_equal(waiting, t.by_state[QUEUE_WAITING] + t.by_state[QUEUE_CANCELLING]);
        assert_int_equal(browse_groups(b, (enum browse_by)by, 2, &arena, &groups, &count), OK);
        assert_int_equal(count, 2);
    }
    arena_fini(&arena);
}

static void a_message_is_shown_with_its_recipients_and_header(void **state)
{
    struct arena arena = {0};
    struct browse_message m;

    (void)state;
    assert_int_equal(browse_message(b, rows[3].id, &arena, &m), OK);
    assert_int_equal(m.rcpt_count, 3);
    assert_int_equal(m.rcpt_total, 3);
    assert_string_equal(m.rcpts[1].domain, domain_name(rows[4].domain));
    assert_int_equal(browse_message(b, 99, &arena, &m), ERR_NOT_FOUND);
    struct buf text = {0};
    assert_int_equal(browse_header(b, store_spool(w.store), rows[3].id, 9999, &text), OK);
    assert_string_equal(buf_str(&text), "Subject: x\r\n\r\n");
    buf_fini(&text);
    arena_fini(&arena);
}

static void a_reader_does_not_stay_and_positions_are_checked(void **state)
{
    struct arena arena = {0};
    struct browse_group *groups;
    struct browse_position p;
    size_t count;
    static const char *const bad[] = {
        "", "x", "0000000000001", "0000000000001.1", "0000000000001.4294967296.1", "0000000000001.1.-1"};

    (void)state;
    browse_set_limit_ms(b, 0); /* every call of more than a moment is over its time */
    assert_int_equal(browse_groups(b, BROWSE_GROUP_CAMPAIGN, 10, &arena, &groups, &count), ERR_TIMEOUT);
    browse_set_limit_ms(b, 10000);
    assert_int_equal(browse_groups(b, BROWSE_GROUP_CAMPAIGN, 10, &arena, &groups, &count), OK);
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(browse_position_parse(bytes_of(bad[i]), &p));
    assert_true(browse_position_parse(BYTES("0000000000001.7.42"), &p));
    assert_true(p.set && p.message_id == 1 && p.rcpt_no == 7 && p.due_unix == 42);
    arena_fini(&arena);
}

int main(void)
{
#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        ROW(every_selector_pages_through_exactly_its_rows),
        ROW(sums_and_groups_add_up),
        ROW(a_message_is_shown_with_its_recipients_and_header),
        ROW(a_reader_does_not_stay_and_positions_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

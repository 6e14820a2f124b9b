/* Followers of the log and reports beside the writer. */
#include "tests/unit/queue/history_help.h"

#include <jansson.h>

static size_t check_lines(struct buf *text, uint64_t *first_message)
{
    size_t lines = 0;

    *first_message = 0;
    for (char *line = text->at, *end; lines < 100000 && line < text->at + text->len; line = end + 1) {
        json_error_t error;
        end = memchr(line, '\n', (size_t)(text->at + text->len - line));
        assert_non_null(end);
        json_t *json = json_loadb(line, (size_t)(end - line), JSON_REJECT_DUPLICATES, &error);
        if (!json)
            fail_msg("%s: %.*s", error.text, (int)(end - line), line);
        if (lines++ == 0)
            assert_true(message_id_parse(bytes_of(json_string_value(json_object_get(json, "message"))),
                                         first_message));
        json_decref(json);
    }
    return lines;
}

static void *post_later(void *arg)
{
    struct world *w = arg;

    usleep(100000);
    history_post(w->h, batch_of(500, 3));
    return NULL;
}

static void a_follower_sees_every_record_once_as_json(void **state)
{
    struct world *w = *state;
    BUF_LOCAL(out);
    uint64_t first;

    world_open(w, 0);
    assert_int_equal(check_lines(&out, &first), 0);
    uint64_t at = history_follow(w->h, HISTORY_FOLLOW_NOW, 5000, 100, &out);
    assert_int_equal(out.len, 0);
    struct attempt_batch *b = batch_of(1, 10);
    struct attempt *a = add_attempt(b, 11);
    snprintf(a->outcome.text, sizeof(a->outcome.text),
             "quote \" back\\ tab\t utf \xc3\xa9 bad \xff\xc3( \xed\xa0\x80 end\xe2\x82");
    a->address = "\"we\\\"ird\"@d.example";
    a->then = THEN_DEFER;
    a->due_unix = NOON + 600;
    post_and_wait(w, b);
    at = history_follow(w->h, at, 5000, 4, &out);
    assert_int_equal(check_lines(&out, &first), 4);
    assert_int_equal(first, 1);
    buf_clear(&out);
    at = history_follow(w->h, at, 5000, 100, &out);
    assert_int_equal(check_lines(&out, &first), 7);
    assert_int_equal(first, 5);
    buf_clear(&out);
    uint64_t start = clock_now_ms();
    assert_int_equal(history_follow(w->h, at, 50, 100, &out), at);
    assert_true(clock_now_ms() - start >= 50);
    /* Waits until there is something. */
    pthread_t thread;
    pthread_create(&thread, NULL, post_later, w);
    start = clock_now_ms();
    at = history_follow(w->h, at, 8000, 100, &out);
    assert_true(clock_now_ms() - start < 7000);
    pthread_join(thread, NULL);
    assert_int_equal(check_lines(&out, &first), 3);
    assert_int_equal(first, 500);
    /* Over midnight. */
    buf_clear(&out);
    post_and_wait(w, batch_of(600, 2));
    pass_time(MS_PER_DAY);
    post_and_wait(w, batch_of(700, 2));
    at = history_follow(w->h, at, 1000, 100, &out);
    assert_int_equal(check_lines(&out, &first), 4);
    assert_int_equal(first, 600);
    /* From nothing: the newest. */
    buf_clear(&out);
    assert_int_equal(history_follow(w->h, 0, 0, 1, &out), at);
    assert_int_equal(check_lines(&out, &first), 1);
    assert_int_equal(first, 701);
}

static void *post_many(void *arg)
{
    struct world *w = arg;

    for (uint64_t i = 0; i < 100; i++)
        history_post(w->h, batch_of(i * 50, 50));
    return NULL;
}

static void *read_reports(void *arg)
{
    struct world *w = arg;
    uint64_t before = 0;

    for (int i = 0; i < 15; i++) {
        struct report_delivery r;
        BUF_LOCAL(out);
        if (report_delivery(w->dir, &(struct report_query){.by = REPORT_BY_DOMAIN}, &r))
            return (void *)(uintptr_t) "the report failed";
        if (r.total.attempts < before)
            return (void *)(uintptr_t) "a count went down";
        before = r.total.attempts;
        report_delivery_fini(&r);
        history_follow(w->h, 0, 0, 10, &out);
    }
    return NULL;
}

static void threads_may_post_and_read_at_the_same_time(void **state)
{
    struct world *w = *state;
    pthread_t posters[3], readers[2];
    void *complaint;

    world_open(w, 0);
    for (size_t i = 0; i < COUNT_OF(posters); i++)
        pthread_create(&posters[i], NULL, post_many, w);
    for (size_t i = 0; i < COUNT_OF(readers); i++)
        pthread_create(&readers[i], NULL, read_reports, w);
    for (size_t i = 0; i < COUNT_OF(posters); i++)
        pthread_join(posters[i], NULL);
    for (size_t i = 0; i < COUNT_OF(readers); i++) {
        pthread_join(readers[i], &complaint);
        assert_null(complaint);
    }
    history_close(w->h, 10000);
    w->h = NULL;
    assert_int_equal(heard_attempts(), 3 * 100 * 50);
    struct report_delivery r;
    assert_int_equal(report_delivery(w->dir, &(struct report_query){.by = REPORT_BY_GROUP}, &r), OK);
    assert_int_equal(r.total.delivered, 3 * 100 * 50);
    report_delivery_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_WORLD(a_follower_sees_every_record_once_as_json),
        IN_WORLD(threads_may_post_and_read_at_the_same_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

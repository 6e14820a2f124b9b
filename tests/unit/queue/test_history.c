#include "tests/unit/queue/history_help.h"

static void file_names_are_days_with_a_number(void **state)
{
    static const struct {
        const char *name;
        bool ok;
        int64_t day;
        unsigned number;
    } cases[] = {
        {"1970-01-01.db", true, 0, 0},      {"2026-11-21.db", true, DAY0, 0},
        {"2026-11-21.1.db", true, DAY0, 1}, {"2026-11-21.12.db", true, DAY0, 12},
        {"2024-02-29.db", true, 19782, 0},  {"2026-02-29.db", false, 0, 0},
        {"2026-11-21.db-wal", false, 0, 0}, {"2026-11-21.0.db", false, 0, 0},
        {"2026-11-21..db", false, 0, 0},    {"2026-11-21", false, 0, 0},
        {"queue.db", false, 0, 0},          {"2026-13-01.db", false, 0, 0},
        {"2026-1-2.db", false, 0, 0},       {"", false, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        int64_t day = -1;
        unsigned number = 99;
        if (history_file_parse(cases[i].name, &day, &number) != cases[i].ok)
            fail_msg("%s", cases[i].name);
        if (!cases[i].ok)
            continue;
        assert_int_equal(day, cases[i].day);
        assert_int_equal(number, cases[i].number);
        char *path = history_file_path("/d", day, number);
        assert_string_equal(path + strlen("/d/history/"), cases[i].name);
        mem_free(path);
    }
}

static uint64_t number_hash(uint64_t n)
{
    return known_hash(bytes_make(&n, sizeof(n)));
}

static void words_stay_known_while_they_are_used_and_memory_is_bounded(void **state)
{
    struct knowns k = {0};
    static struct seen seen;

    (void)state;
    for (uint32_t i = 1; i <= 5 * KNOWN_GENERATION; i++) {
        assert_null(knowns_find(&k, number_hash(i)));
        knowns_put(&k, number_hash(i), i)->delta = i * 3;
        if (i % 1000 == 0) { /* in use all the time */
            assert_int_equal(knowns_find(&k, number_hash(1))->id, 1);
            assert_int_equal(knowns_find(&k, number_hash(1))->delta, 3);
        }
        assert_true(k.young.cap <= KNOWN_GENERATION * 4 / 3 && k.old.cap <= KNOWN_GENERATION * 4 / 3);
    }
    for (uint32_t i = 5 * KNOWN_GENERATION; i > 4 * KNOWN_GENERATION + 1000; i -= 7)
        assert_int_equal(knowns_find(&k, number_hash(i))->id, i);
    assert_null(knowns_find(&k, number_hash(2)));
    knowns_fini(&k);
    assert_null(knowns_find(&k, number_hash(1)));
    assert_false(seen_before(&seen, number_hash(7)));
    assert_true(seen_before(&seen, number_hash(7)));
}

static void a_filter_never_denies_what_was_added_and_seldom_claims_what_was_not(void **state)
{
    static uint8_t filter[FILTER_BYTES];
    size_t wrong = 0;
    char text[48];

    (void)state;
    for (unsigned i = 0; i < BLOCK_ROWS; i++) {
        snprintf(text, sizeof(text), "user%u@domain%u.example", i, i % 900);
        filter_add(filter, filter_hash_message(1000 + i));
        filter_add(filter, filter_hash_address(bytes_of(text)));
        filter_add(filter,
                   filter_hash_domain(bytes_skip(bytes_of(text), bytes_find(bytes_of(text), '@') + 1)));
    }
    for (unsigned i = 0; i < BLOCK_ROWS; i++) {
        snprintf(text, sizeof(text), "User%u@DOMAIN%u.example", i, i % 900);
        assert_true(filter_has(filter, filter_hash_message(1000 + i)));
        assert_true(filter_has(filter, filter_hash_address(bytes_of(text))));
        wrong += filter_has(filter, filter_hash_message(100000 + i));
    }
    assert_true(wrong < BLOCK_ROWS / 50);
}

static void batches_are_handed_on_in_order_with_the_place_of_their_last_record(void **state)
{
    struct world *w = *state;
    int64_t row = 0;

    world_open(w, 0);
    for (uint64_t i = 0; i < 200; i++)
        history_post(w->h, batch_of(i * 10, i % 3)); /* every third is empty */
    assert_true(wait_until_heard(199));              /* 0+1+2 of each three, and 0+1 at the end */
    while (history_backlog(w->h))
        usleep(1000);
    history_close(w->h, 5000);
    w->h = NULL;
    assert_int_equal(store_heard.count, 200);
    for (size_t i = 0; i < 200; i++) {
        assert_int_equal(store_heard.items[i].count, i % 3);
        if (i % 3)
            assert_int_equal(store_heard.items[i].message_id, i * 10);
        assert_int_equal(store_heard.items[i].day, DAY0);
        if (i)
            assert_int_equal(store_heard.items[i].row - row, i % 3);
        row = store_heard.items[i].row;
    }
    assert_int_equal(ask(w, DAY0, 0, "SELECT max(id) FROM attempt"), row);
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(*) FROM attempt"), 199);
}

static void hear_of_safety(struct note *note, void *told)
{
    CONTAINER_OF(note, struct safe_mark, note)->asked = false;
    (*(unsigned *)told)++;
}

static void a_poster_is_told_once_when_what_it_waits_for_is_safe(void **state)
{
    struct world *w = *state;
    struct doorbell bell;
    struct inbox inbox;
    unsigned told = 0, waits = 0;
    struct safe_mark mark = {.inbox = &inbox, .note.run = hear_of_safety};

    world_open(w, 0);
    doorbell_init(&bell);
    inbox_init(&inbox, &told, doorbell_ring, &bell);
    for (uint64_t i = 1; i <= 300; i++) {
        struct attempt_batch *b = batch_of(i, 1);
        b->mark = &mark;
        b->serial = i;
        history_post(w->h, b);
        if (i % 3 == 0)
            continue; /* nobody asks for this one */
        unsigned before = told;
        while (!safe_mark_has(&mark, i)) {
            assert_false(safe_mark_has(&mark, i + 1000)); /* another question, the same answer */
            assert_true(doorbell_wait(&bell, 10000));
            waits += inbox_drain(&inbox) > 0;
        }
        assert_true(told - before <= 3); /* one each for what was posted before it, and for itself */
    }
    assert_true(waits > 50);
    history_close(TAKE(w->h), 5000);
    inbox_drain(&inbox);
    assert_true(told < 300 * 2);
    assert_int_equal(mark.serial, 300);
    doorbell_fini(&bell);
}

static void files_are_for_nobody_else(void **state)
{
    struct world *w = *state;
    struct stat st;

    umask(0);
    world_open(w, 0);
    post_and_wait(w, batch_of(1, 1));
    char *path = history_file_path(w->dir, DAY0, 0);
    BUF_LOCAL(wal);
    buf_putf(&wal, "%s-wal", path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(buf_str(&wal), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    mem_free(path);
    umask(022);
}

static void rollups_equal_a_recount_of_the_records_at_any_time(void **state)
{
    struct world *w = *state;

    world_open(w, 0);
    for (unsigned round = 0; round < 60; round++) {
        struct attempt_batch *b = attempt_batch_create();
        for (unsigned i = 0; i < 40; i++) {
            struct attempt *a = add_attempt(b, round * 100 + i);
            a->outcome.kind = (enum outcome_kind)(i % 5);
            a->then = (enum attempt_then)(i / 5 % 4);
            a->fallback = round % 2;
            a->at_unix_ms += (int64_t)(i % 3) * MS_PER_HOUR - MS_PER_HOUR; /* three hours mixed */
            a->duration_ms = round;
        }
        post_and_wait(w, b);
        if (round % 7 == 0)
            pass_time(400);
        if (round % 20 == 19) { /* what was pending must survive a restart */
            history_close(w->h, 5000);
            world_open(w, 0);
        }
        assert_rollups_are_exact(w, DAY0);
    }
    assert_true(ask(w, DAY0, 0, "SELECT count(*) FROM rollup") > 0);
    pass_time(1100);
    for (int i = 0;
         i < 5000 && ask(w, DAY0, 0, "SELECT value = (SELECT max(id) FROM attempt) FROM state") != 1; i++)
        usleep(1000); /* idle, the thread rolls up by itself */
    assert_int_equal(ask(w, DAY0, 0, "SELECT value = (SELECT max(id) FROM attempt) FROM state"), 1);
    assert_int_equal(ask(w, DAY0, 0, "SELECT sum(attempts) FROM rollup"), 2400);
    assert_rollups_are_exact(w, DAY0);
}

static void texts_are_kept_once_when_they_repeat_and_in_the_record_when_they_do_not(void **state)
{
    struct world *w = *state;
    struct attempt_batch *b = attempt_batch_create();

    for (unsigned i = 0; i < 100; i++) {
        struct attempt *a = add_attempt(b, i);
        if (i % 2)
            snprintf(a->outcome.text, sizeof(a->outcome.text), "try again later");
        a->sender = arena_printf(&b->arena, "bounce+%u@sender.example", i); /* VERP: never repeats */
    }
    world_open(w, 0);
    post_and_wait(w, b);
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(*) FROM attempt WHERE typeof(text) = 'integer'"), 49);
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(*) FROM attempt WHERE typeof(text) = 'text'"), 51);
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(*) FROM attempt WHERE typeof(sender) = 'text'"), 100);
    assert_int_equal(
        ask(w, DAY0, 0, "SELECT count(*) FROM word WHERE text LIKE 'queued%' OR text LIKE 'bounce+%'"), 0);
    assert_true(ask(w, DAY0, 0, "SELECT count(*) FROM shape") < 60);
}

static void midnight_begins_a_new_file_and_ends_the_old_one_without_a_wal(void **state)
{
    struct world *w = *state;

    world_open(w, 0);
    pass_time((int64_t)12 * MS_PER_HOUR - 1000);
    post_and_wait(w, batch_of(1, 10));
    assert_true(file_exists(w, DAY0, 0, "-wal"));
    pass_time(2000);
    post_and_wait(w, batch_of(11, 10));
    assert_false(file_exists(w, DAY0, 0, "-wal"));
    assert_true(file_exists(w, DAY0 + 1, 0, "-wal"));
    assert_int_equal(store_heard.items[0].day, DAY0);
    assert_int_equal(store_heard.items[1].day, DAY0 + 1);
    assert_true(store_heard.items[1].row == store_heard.items[0].row + 10); /* ids go on over files */
    assert_int_equal(ask(w, DAY0, 0, "SELECT sum(attempts) FROM rollup"), 10);
    assert_false(file_exists(w, DAY0, 0, "-wal")); /* and reading made none */
}

static void an_idle_day_ends_at_midnight_and_a_day_without_mail_has_no_file(void **state)
{
    struct world *w = *state;

    world_open(w, 0);
    post_and_wait(w, batch_of(1, 3));
    pass_time((int64_t)MS_PER_DAY);
    for (int i = 0; i < 5000 && file_exists(w, DAY0, 0, "-wal"); i++)
        usleep(1000);
    assert_false(file_exists(w, DAY0, 0, "-wal"));
    assert_false(file_exists(w, DAY0 + 1, 0, ""));
    assert_rollups_are_exact(w, DAY0);
}

static void a_clock_that_goes_back_never_makes_ids_go_back(void **state)
{
    struct world *w = *state;
    static const struct {
        int64_t to_day, in_day;
    } steps[] = {
        {0, 0},
        {1, 1},
        {0, 1} /* by a day: the newer file stays in use */,
        {3650, 3650} /* ten years ahead … */,
        {0, 0} /* … and back */,
        {1, 1},
        {-3650, -3650},
        {0, 0},
    };

    world_open(w, 0);
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        test_wall_ms = (int64_t)NOON * 1000 + steps[i].to_day * MS_PER_DAY;
        post_and_wait(w, batch_of(i * 10 + 1, 5));
        assert_int_equal(store_heard.items[i].day, DAY0 + steps[i].in_day);
        if (i)
            assert_int_equal(store_heard.items[i].row, store_heard.items[i - 1].row + 5);
    }
    history_close(w->h, 5000);
    world_open(w, 0); /* and a restart goes on above all of them */
    post_and_wait(w, batch_of(1000, 1));
    assert_true(store_heard.items[COUNT_OF(steps)].row > store_heard.items[COUNT_OF(steps) - 1].row);
}

static void wait_for_house_keeping(struct world *w, int64_t day, bool exists)
{
    (void)w;
    for (int i = 0; i < 5000 && file_exists(w, day, 0, "") != exists; i++)
        usleep(1000);
}

static void old_files_go_once_the_clock_has_been_steady_for_an_hour(void **state)
{
    struct world *w = *state;

    world_open(w, 7);
    for (int day = 0; day < 10; day++) {
        test_wall_ms = (int64_t)NOON * 1000 + (int64_t)day * MS_PER_DAY;
        test_steady_ms += MS_PER_DAY;
        post_and_wait(w, batch_of((uint64_t)day * 10 + 1, 2));
    }
    /* Steady all the time: days 0 and 1 are more than seven days before day 9. */
    pass_time(1000);
    pass_time(MS_PER_HOUR);
    wait_for_house_keeping(w, DAY0 + 1, false);
    assert_false(file_exists(w, DAY0, 0, ""));
    assert_false(file_exists(w, DAY0 + 1, 0, ""));
    assert_true(file_exists(w, DAY0 + 2, 0, ""));
    assert_true(file_exists(w, DAY0 + 9, 0, ""));
    /* Ten years ahead by mistake, for a quarter of an hour: nothing is deleted. */
    test_wall_ms += (int64_t)3650 * MS_PER_DAY;
    usleep(1200000);
    pass_time((int64_t)15 * 60000);
    usleep(1200000);
    test_wall_ms -= (int64_t)3650 * MS_PER_DAY;
    usleep(1200000);
    assert_true(file_exists(w, DAY0 + 3, 0, ""));
    assert_true(file_exists(w, DAY0 + 9, 0, ""));
}

static void a_file_that_cannot_be_used_is_left_alone_and_mail_goes_on_in_another(void **state)
{
    struct world *w = *state;
    char *path = history_file_path(w->dir, DAY0, 0);
    static char garbage[8192];
    enum { GARBAGE, TRUNCATED, FOREIGN, NEWER, CASES };

    memset(garbage, 'x', sizeof(garbage));
    for (int what = 0; what < CASES; what++) {
        BUF_LOCAL(command);
        buf_putf(&command, "rm -rf '%s/history'", w->dir);
        assert_int_equal(system(buf_str(&command)), 0);
        world_open(w, 0);
        post_and_wait(w, batch_of(1, 100));
        history_close(w->h, 5000);
        if (what == GARBAGE)
            write_file(path, garbage, sizeof(garbage));
        else if (what == TRUNCATED)
            assert_int_equal(truncate(path, 4096), 0);
        else if (what == FOREIGN)
            sql_on(path, "PRAGMA application_id = 7");
        else
            sql_on(path, "PRAGMA user_version = 1000");
        pass_time(1000); /* ids of a file that nobody can read are avoided by the clock */
        world_open(w, 0);
        int64_t before = store_heard.items[store_heard.count - 1].row;
        post_and_wait(w, batch_of(200, 10));
        post_and_wait(w, batch_of(300, 10));
        assert_true(store_heard.items[store_heard.count - 1].row > before);
        assert_int_equal(ask(w, DAY0, 1, "SELECT count(*) FROM attempt"), 20);
        assert_false(file_exists(w, DAY0, 2, ""));
        history_close(w->h, 5000);
        w->h = NULL;
    }
    mem_free(path);
}

static void assert_records(const struct world *w, size_t count)
{
    struct report_attempts r;
    struct report_tls t;

    assert_int_equal(report_attempts(w->dir, &(struct report_which){.newest = 1000}, &r), OK);
    assert_int_equal(r.count, count);
    assert_int_equal(r.files_skipped, 0);
    for (size_t i = 0; i < r.count; i++)
        assert_true(!r.rows[i].attempt.tls_kx && r.rows[i].attempt.dane == DANE_RESULT_OFF &&
                    r.rows[i].attempt.cert_expires_unix == 0 && !r.rows[i].attempt.shadow_group);
    report_attempts_fini(&r);
    assert_int_equal(report_tls(w->dir, &(struct report_query){0}, &t), OK);
    assert_int_equal(t.total.delivered, count);
    report_tls_fini(&t);
}

static void read_and_write_on(struct world *w, const char *back, int version)
{
    char *path = history_file_path(w->dir, DAY0, 0);

    world_open(w, 0);
    post_and_wait(w, batch_of(1, 100));
    history_close(w->h, 5000);
    w->h = NULL;
    sql_on(path, back);
    assert_records(w, 100);
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(*) FROM session"), 0);
    assert_int_equal(ask(w, DAY0, 0, "PRAGMA user_version"), version); /* reading changes nothing */
    world_open(w, 0);
    post_and_wait(w, batch_of(200, 50));
    assert_int_equal(ask(w, DAY0, 0, "PRAGMA user_version"), HISTORY_USER_VERSION);
    assert_false(file_exists(w, DAY0, 1, ""));
    assert_records(w, 150);
    assert_rollups_are_exact(w, DAY0);
    mem_free(path);
}

static void a_file_of_version_1_is_read_as_it_is_and_written_on_after_an_update(void **state)
{
    read_and_write_on(*state, BACK_TO_VERSION_1, 1);
}

static void a_file_of_version_2_is_read_as_it_is_and_written_on_after_an_update(void **state)
{
    read_and_write_on(*state, BACK_TO_VERSION_2, 2);
}

static void a_file_that_breaks_while_in_use_is_left_and_nothing_is_lost(void **state)
{
    struct world *w = *state;
    char *path = history_file_path(w->dir, DAY0, 0), *next = history_file_path(w->dir, DAY0, 1);

    world_open(w, 0);
    post_and_wait(w, batch_of(1, 100));
    /* Its table of marks now begins on a page that the file does not have: SQLITE_CORRUPT, left at once. */
    sql_on(path,
           "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 999999 WHERE name = 'mark';"
           "PRAGMA schema_version = 4711");
    pass_time(61000);
    post_and_wait(w, batch_of(1000, 100));
    assert_int_equal(ask(w, DAY0, 1, "SELECT count(*) FROM attempt"), 100);
    assert_true(store_heard.items[1].row > store_heard.items[0].row);
    /* Any other error: after ten tries. */
    sql_on(next, "DROP TABLE mark");
    pass_time(61000);
    history_post(w->h, batch_of(2000, 100));
    for (int i = 0; i < 400 && history_backlog(w->h); i++) {
        usleep(20000);
        pass_time(500);
    }
    assert_int_equal(history_backlog(w->h), 0);
    assert_int_equal(heard_attempts(), 300);
    assert_int_equal(ask(w, DAY0, 2, "SELECT count(*) FROM attempt"), 100);
    mem_free(path);
    mem_free(next);
}

static void a_file_deleted_under_us_is_made_anew(void **state)
{
    struct world *w = *state;
    char *path = history_file_path(w->dir, DAY0, 0);

    world_open(w, 0);
    post_and_wait(w, batch_of(1, 5));
    assert_int_equal(unlink(path), 0);
    post_and_wait(w, batch_of(10, 7));
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(*) FROM attempt"), 7);
    assert_true(store_heard.items[1].row > store_heard.items[0].row);
    mem_free(path);
}

static void a_full_disk_delays_and_loses_nothing(void **state)
{
    struct world *w = *state;
    BUF_LOCAL(filler);
    uint64_t posted = 0;

    if (geteuid() != 0 || mount("none", w->dir, "tmpfs", 0, "size=3m") != 0)
        skip();
    buf_putf(&filler, "%s/filler", w->dir);
    world_open(w, 0);
    history_post(w->h, batch_of(1, 50));
    posted += 50;
    assert_true(wait_until_heard(posted));
    int fd = open(buf_str(&filler), O_WRONLY | O_CREAT, 0600);
    static char block[65536];
    while (write(fd, block, sizeof(block)) > 0)
        ;
    while (write(fd, block, 1) > 0)
        ;
    close(fd);
    for (int i = 0; i < 40; i++, posted += 100)
        history_post(w->h, batch_of(1000 + posted, 100));
    for (int i = 0; i < 30; i++) {
        usleep(20000);
        pass_time(500);
    }
    size_t waiting = history_backlog(w->h);
    assert_true(waiting > 0);
    assert_int_equal(heard_attempts() + waiting, posted);
    assert_int_equal(unlink(buf_str(&filler)), 0);
    for (int i = 0; i < 200 && history_backlog(w->h); i++) {
        usleep(20000);
        pass_time(500);
    }
    assert_int_equal(history_backlog(w->h), 0);
    assert_int_equal(heard_attempts(), posted);
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(*) FROM attempt"), posted);
    assert_int_equal(ask(w, DAY0, 0, "SELECT count(DISTINCT message) FROM attempt"), posted);
    assert_rollups_are_exact(w, DAY0);
    assert_false(file_exists(w, DAY0, 1, "")); /* a full disk is no reason for another file */
    history_close(w->h, 1000);
    w->h = NULL;
    assert_int_equal(umount(w->dir), 0);
}

static void a_folder_that_cannot_be_written_is_explained(void **state)
{
    struct world *w = *state;
    char *why = NULL;
    BUF_LOCAL(dir);

    buf_putf(&dir, "%s/not/there", w->dir);
    assert_int_not_equal(history_open(buf_str(&dir), 0, &w->h, &why), OK);
    assert_non_null(strstr(why, "not/there"));
    mem_free(why);
    w->h = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file_names_are_days_with_a_number),
        cmocka_unit_test(words_stay_known_while_they_are_used_and_memory_is_bounded),
        cmocka_unit_test(a_filter_never_denies_what_was_added_and_seldom_claims_what_was_not),
        IN_WORLD(batches_are_handed_on_in_order_with_the_place_of_their_last_record),
        IN_WORLD(a_poster_is_told_once_when_what_it_waits_for_is_safe),
        IN_WORLD(files_are_for_nobody_else),
        IN_WORLD(rollups_equal_a_recount_of_the_records_at_any_time),
        IN_WORLD(texts_are_kept_once_when_they_repeat_and_in_the_record_when_they_do_not),
        IN_WORLD(midnight_begins_a_new_file_and_ends_the_old_one_without_a_wal),
        IN_WORLD(an_idle_day_ends_at_midnight_and_a_day_without_mail_has_no_file),
        IN_WORLD(a_clock_that_goes_back_never_makes_ids_go_back),
        IN_WORLD(old_files_go_once_the_clock_has_been_steady_for_an_hour),
        IN_WORLD(a_file_that_cannot_be_used_is_left_alone_and_mail_goes_on_in_another),
        IN_WORLD(a_file_of_version_1_is_read_as_it_is_and_written_on_after_an_update),
        IN_WORLD(a_file_of_version_2_is_read_as_it_is_and_written_on_after_an_update),
        IN_WORLD(a_file_that_breaks_while_in_use_is_left_and_nothing_is_lost),
        IN_WORLD(a_file_deleted_under_us_is_made_anew),
        IN_WORLD(a_full_disk_delays_and_loses_nothing),
        IN_WORLD(a_folder_that_cannot_be_written_is_explained),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

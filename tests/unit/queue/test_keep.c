/* Small things that must outlive the process: put, got, walked, dropped, and there again after a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/mem.h"
#include "queue/keep.h"
#include "world.h"

struct heard {
    bool answered;
    enum err result;
    struct buf value;
    int64_t at_unix;
};
static struct heard heard;

static void on_answer(struct note *note, void *owner)
{
    struct store_keep *k = CONTAINER_OF(note, struct store_keep, req.note);

    (void)owner;
    heard.answered = true;
    heard.result = k->req.result;
    heard.at_unix = k->at_unix;
    buf_clear(&heard.value);
    buf_put(&heard.value, buf_bytes(&k->value));
    store_keep_destroy(k);
}

static enum err ask(struct world *w, const char *kind, const char *key)
{
    struct store_keep *k = store_keep_make(kind, key, (struct bytes){0});

    k->req.reply_to = &w->inboxes[0];
    k->req.on_reply = on_answer;
    heard.answered = false;
    store_post_keep_get(w->store, k);
    world_wait(w, &heard.answered);
    return heard.result;
}

static int setup(void **state)
{
    struct world *w = MEM_NEW(struct world);

    world_init(w);
    world_must_open(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_fini(*state);
    mem_free(*state);
    buf_fini(&heard.value);
    return 0;
}

static void a_value_is_found_by_kind_and_key_and_the_newest_counts(void **state)
{
    struct world *w = *state;

    store_keep_set(w->store, "sts", "a.example", BYTES("one"));
    store_keep_set(w->store, "downgrade", "a.example", BYTES("other kind"));
    store_keep_set(w->store, "sts", "a.example", BYTES("two"));
    assert_int_equal(ask(w, "sts", "a.example"), OK);
    assert_string_equal(buf_str(&heard.value), "two");
    assert_true(heard.at_unix > 0);
    assert_int_equal(ask(w, "sts", "b.example"), ERR_NOT_FOUND);
    store_keep_drop(w->store, "sts", "a.example");
    assert_int_equal(ask(w, "sts", "a.example"), ERR_NOT_FOUND);
    assert_int_equal(ask(w, "downgrade", "a.example"), OK);
}

static void octets_of_every_value_and_none_at_all_come_back(void **state)
{
    struct world *w = *state;
    char all[256];

    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    store_keep_set(w->store, "x", "all", bytes_make(all, sizeof(all)));
    store_keep_set(w->store, "x", "empty", (struct bytes){0});
    assert_int_equal(ask(w, "x", "all"), OK);
    assert_true(bytes_eq(buf_bytes(&heard.value), bytes_make(all, sizeof(all))));
    assert_int_equal(ask(w, "x", "empty"), OK);
    assert_int_equal(heard.value.len, 0);
}

static void what_is_too_large_is_refused_and_leaves_what_was_there(void **state)
{
    struct world *w = *state;
    struct buf big = {0};

    store_keep_set(w->store, "x", "k", BYTES("small"));
    memset(buf_reserve(&big, KEEP_VALUE_MAX + 1), 'x', KEEP_VALUE_MAX + 1);
    struct store_keep *k = store_keep_make("x", "k", bytes_make(big.at, KEEP_VALUE_MAX + 1));
    k->req.reply_to = &w->inboxes[0];
    k->req.on_reply = on_answer;
    heard.answered = false;
    store_post_keep_put(w->store, k);
    world_wait(w, &heard.answered);
    assert_int_equal(heard.result, ERR_INVALID);
    assert_int_equal(ask(w, "x", "k"), OK);
    assert_string_equal(buf_str(&heard.value), "small");
    buf_fini(&big);
}

static bool gather(void *arg, const struct kept *k)
{
    buf_putf(arg, "%s=%.*s ", k->key, (int)k->value.len, k->value.at);
    return strcmp(k->key, "stop") != 0;
}

static void a_restart_keeps_all_and_a_walk_goes_by_key(void **state)
{
    struct world *w = *state;
    BUF_LOCAL(text);

    store_keep_set(w->store, "sts", "b", BYTES("2"));
    store_keep_set(w->store, "sts", "a", BYTES("1"));
    store_keep_set(w->store, "sts", "stop", BYTES("3"));
    store_keep_set(w->store, "sts", "z", BYTES("4"));
    store_keep_set(w->store, "other", "c", BYTES("5"));
    world_sync(w);
    world_close(w);
    world_must_open(w);
    assert_int_equal(keep_read(w->dir, "sts", NULL, gather, &text), OK);
    assert_string_equal(buf_str(&text), "a=1 b=2 stop=3 ");
    buf_clear(&text);
    assert_int_equal(keep_read(w->dir, "sts", "a", gather, &text), OK);
    assert_string_equal(buf_str(&text), "b=2 stop=3 ");
}

/* As if `key` had been put so many days ago. */
static void age(struct world *w, const char *key, int days)
{
    sqlite3 *db = NULL;
    BUF_LOCAL(path);
    BUF_LOCAL(sql);

    buf_putf(&path, "%s/queue.db", w->dir);
    buf_putf(&sql, "UPDATE keep SET at = at - %d * 86400 WHERE key GLOB '%s'", days, key);
    assert_int_equal(sqlite3_open(buf_str(&path), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, buf_str(&sql), NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void what_tls_was_not_seen_for_long_is_dropped_page_by_page(void **state)
{
    enum { ROWS = 1100 }; /* three steps */
    struct world *w = *state;
    char key[32];

    for (int i = 0; i < ROWS; i++) {
        snprintf(key, sizeof(key), "%s%04d.example", i % 2 ? "new" : "old", i);
        store_keep_set(w->store, KEEP_TLS_SEEN, key, BYTES("x"));
    }
    store_keep_set(w->store, KEEP_TLS_SEEN, "old-registered.example", BYTES("x"));
    store_keep_set(w->store, KEEP_DOWNGRADE, "old-registered.example", BYTES("y"));
    store_keep_set(w->store, "sts", "old-other.example", BYTES("z"));
    world_sync(w);
    world_close(w);
    age(w, "old*", 401);
    age(w, "new*", 399);
    w->config.history_days = 90;
    world_must_open(w);
    store_start(w->store);
    for (int i = 0; i < 1000 && ask(w, KEEP_TLS_SEEN, "old1098.example") != ERR_NOT_FOUND; i++)
        usleep(20000);
    BUF_LOCAL(left);
    assert_int_equal(keep_read(w->dir, KEEP_TLS_SEEN, "new1099.example", gather, &left), OK);
    assert_string_equal(buf_str(&left), "old-registered.example=x ");
    assert_int_equal(ask(w, KEEP_TLS_SEEN, "new0001.example"), OK);
    assert_int_equal(ask(w, KEEP_TLS_SEEN, "new1099.example"), OK);
    assert_int_equal(ask(w, "sts", "old-other.example"), OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_value_is_found_by_kind_and_key_and_the_newest_counts, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(octets_of_every_value_and_none_at_all_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_too_large_is_refused_and_leaves_what_was_there, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_restart_keeps_all_and_a_walk_goes_by_key, setup, teardown),
        cmocka_unit_test_setup_teardown(what_tls_was_not_seen_for_long_is_dropped_page_by_page, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

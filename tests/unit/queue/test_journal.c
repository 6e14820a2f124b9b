/*
 * Messages that were answered and had no rows when the process died: the next start finds them in the spool,
 * once. A child process accepts and dies without a word; settling lies so far ahead that no row was written.
 */
#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "queue/crc32c.h"
#include "queue/spool_priv.h"
#include "queue/sql.h"
#include "tests/unit/queue/world.h"

#define FAR_MS 3600000

static struct world w;

static int setup(void **state)
{
    (void)state;
    world_init(&w);
    w.config.settle_ms = FAR_MS;
    world_must_open(&w); /* makes the database */
    world_close(&w);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    world_fini(&w);
    return 0;
}

/* What a child does with its open store before it dies; ids go to the parent. */
typedef void (*deeds_fn)(uint64_t *ids);
#define IDS 16

static void in_a_child_that_dies(deeds_fn deeds, uint64_t ids[IDS])
{
    int pipe_fds[2], status;

    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    if (child == 0) {
        memset(ids, 0, IDS * sizeof(*ids));
        world_must_open(&w);
        for (int i = 0; i < 4; i++) /* what a start does in steps is settled with whatever comes then */
            world_sync(&w);
        deeds(ids);
        if (write(pipe_fds[1], ids, IDS * sizeof(*ids)) < 0)
            abort();
        kill(getpid(), SIGKILL);
    }
    close(pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], ids, IDS * sizeof(*ids)), (ssize_t)(IDS * sizeof(*ids)));
    close(pipe_fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
}

static bool is_there(uint64_t id, struct arena *arena, struct browse_message *out)
{
    struct browse *b;
    char *why;

    store_settle(w.store);
    assert_int_equal(browse_open(w.dir, &b, &why), OK);
    enum err e = browse_message(b, id, arena, out);
    browse_close(b);
    assert_true(e == OK || e == ERR_NOT_FOUND);
    return e == OK;
}

static void check(const uint64_t *ids, size_t count, bool there)
{
    struct arena arena = {0};
    struct browse_message m;

    for (size_t i = 0; i < count; i++)
        assert_int_equal(is_there(ids[i], &arena, &m), there);
    arena_fini(&arena);
}

static void accept_five(uint64_t *ids)
{
    static const struct world_rcpt two[] = {{"a@one.example", "one.example"},
                                            {"b@two.example", "two.example"}};

    for (int i = 0; i < 4; i++)
        if (world_accept(&w, "a@b.example", "b.example", &ids[i]))
            abort();
    if (world_accept_at(&w, two, 2, 0, world_body("Subject: x\r\n\r\nhello\r\n"), &ids[4]))
        abort();
}

static void what_was_answered_has_its_rows_after_the_next_start(void **state)
{
    uint64_t ids[IDS];
    struct arena arena = {0};
    struct browse_message m;

    (void)state;
    in_a_child_that_dies(accept_five, ids);
    world_must_open(&w);
    struct store_stats s = world_stats(&w);
    assert_int_equal(s.messages, 5);
    assert_int_equal(s.waiting, 6);
    check(ids, 5, true);
    assert_true(is_there(ids[4], &arena, &m));
    assert_int_equal(m.rcpt_count, 2);
    assert_string_equal(m.rcpts[0].address, "a@one.example");
    assert_string_equal(m.campaign, "spring");
    assert_string_equal(m.sender, "news@sender.example");
    struct store_page *p = world_page(&w, "b.example", 10); /* nobody has them */
    assert_int_equal(world_job_count(&p->jobs), 4);
    store_page_destroy(p);
    arena_fini(&arena);
}

static void a_second_start_does_not_find_them_again(void **state)
{
    uint64_t ids[IDS];

    (void)state;
    in_a_child_that_dies(accept_five, ids);
    world_must_open(&w);
    for (int i = 0; i < 4; i++)
        world_result(&w, ids[i], 0, "b.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    assert_int_equal(world_stats(&w).messages, 1);
    world_close(&w);
    world_must_open(&w);
    assert_int_equal(world_stats(&w).messages, 1);
    check(ids, 4, false);
    check(ids + 4, 1, true);
}

static void accept_and_deliver_some(uint64_t *ids)
{
    accept_five(ids);
    for (int i = 0; i < 3; i++)
        world_result(&w, ids[i], 0, "b.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    world_result(&w, ids[4], 1, "two.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    store_settle(w.store); /* the others get rows now */
    if (world_accept(&w, "late@b.example", "b.example", &ids[5]))
        abort();
}

static void what_was_delivered_before_it_had_rows_never_gets_any(void **state)
{
    uint64_t ids[IDS];
    struct arena arena = {0};
    struct browse_message m;

    (void)state;
    in_a_child_that_dies(accept_and_deliver_some, ids);
    world_must_open(&w);
    struct store_stats s = world_stats(&w);
    assert_int_equal(s.messages, 3);
    assert_int_equal(s.waiting, 3);
    check(ids, 3, false);
    check(ids + 3, 3, true);
    assert_true(is_there(ids[4], &arena, &m));
    assert_int_equal(m.rcpt_count, 1);
    assert_string_equal(m.rcpts[0].address, "a@one.example");
    assert_int_equal(m.rcpt_total, 2);
    arena_fini(&arena);
}

static void accept_a_big_one(uint64_t *ids)
{
    struct body_writer *writer = body_writer_create(store_spool(w.store));
    struct body *body = NULL;
    char block[8192];

    memset(block, 'x', sizeof(block));
    memcpy(block, "a: b\r\n\r\n", 8);
    memcpy(block + sizeof(block) - 2, "\r\n", 2);
    for (int i = 0; i < 200; i++)
        if (body_writer_put(writer, bytes_make(block, sizeof(block))))
            abort();
    if (body_writer_finish(writer, &body) ||
        world_accept_at(&w, &(struct world_rcpt){"a@b.example", "b.example"}, 1, 0, body, &ids[0]))
        abort();
}

static void a_body_in_its_own_file_is_kept_with_its_message(void **state)
{
    uint64_t ids[IDS];
    struct arena arena = {0};
    struct browse_message m;
    char end[2];

    (void)state;
    in_a_child_that_dies(accept_a_big_one, ids);
    world_must_open(&w);
    assert_true(is_there(ids[0], &arena, &m));
    struct store_page *p = world_page(&w, "b.example", 10);
    struct job *j = LIST_ENTRY(list_first(&p->jobs), struct job, node);
    assert_int_equal(j->message->body->size_bytes, 200 * 8192);
    assert_int_equal(spool_read(store_spool(w.store), j->message->body, 200 * 8192 - 2, 2, end), OK);
    assert_memory_equal(end, "\r\n", 2);
    store_page_destroy(p);
    world_result(&w, ids[0], 0, "b.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    assert_int_equal(world_stats(&w).messages, 0);
    arena_fini(&arena);
}

/* ---- a spool that a power failure cut short ---- */

static uint64_t segment;

static void note_segment(void *arg, uint64_t id)
{
    (void)arg;
    segment = MAX_OF(segment, id);
}

static void segment_path(char out[256])
{
    struct spool *s;
    char *why;

    segment = 0;
    assert_int_equal(spool_open(w.dir, 1 << 20, &s, &why), OK);
    assert_int_equal(spool_list(s, note_segment, NULL), OK);
    spool_close(s);
    assert_true(segment > 0);
    snprintf(out, 256, "%s/spool/%016llx.seg", w.dir, (unsigned long long)segment);
}

static void an_end_that_is_missing_costs_the_last_message_alone(void **state)
{
    (void)state;
    for (off_t cut = 1; cut < 900; cut += 37) {
        uint64_t ids[IDS];
        char path[256];
        struct stat st;
        in_a_child_that_dies(accept_five, ids);
        segment_path(path);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(truncate(path, st.st_size - cut), 0);
        world_must_open(&w);
        struct arena arena = {0};
        struct browse_message m;
        assert_false(is_there(ids[4], &arena, &m));
        size_t left = 0;
        for (int i = 0; i < 4; i++) /* each record is there as a whole or not at all, in order */
            left += is_there(ids[i], &arena, &m);
        assert_true(left == 4 || cut > 200);
        for (size_t i = 0; i < left; i++)
            assert_true(is_there(ids[i], &arena, &m));
        arena_fini(&arena);
        assert_int_equal(world_stats(&w).messages, left);
        world_fini(&w);
        setup(NULL);
    }
}

static void an_envelope_that_was_changed_is_none(void **state)
{
    uint64_t ids[IDS];
    char path[256], octet;

    (void)state;
    in_a_child_that_dies(accept_five, ids);
    segment_path(path);
    int fd = open(path, O_RDWR);
    off_t end = lseek(fd, 0, SEEK_END);
    assert_int_equal(pread(fd, &octet, 1, end - 5), 1);
    octet ^= 1;
    assert_int_equal(pwrite(fd, &octet, 1, end - 5), 1);
    close(fd);
    world_must_open(&w);
    check(ids, 4, true);
    check(ids + 4, 1, false);
}

/* As if the file had been written over and its old octets stood behind the new ones. */
static void envelopes_of_another_segment_are_none(void **state)
{
    uint64_t ids[IDS];
    char path[256], other[256];

    (void)state;
    in_a_child_that_dies(accept_five, ids);
    segment_path(path);
    snprintf(other, sizeof(other), "%s/spool/%016llx.seg", w.dir, (unsigned long long)segment + 1);
    assert_int_equal(rename(path, other), 0);
    world_must_open(&w);
    assert_int_equal(world_stats(&w).messages, 0);
    check(ids, 5, false);
}

/* Envelopes of the file, all or the last one, get the sum that anybody can make who knows where they lie, but
 * no key. */
static void seal_without_key(bool all)
{
    char path[256];
    struct stat st;

    segment_path(path);
    int fd = open(path, O_RDWR);
    assert_int_equal(fstat(fd, &st), 0);
    char *octets = mem_alloc((size_t)st.st_size);
    assert_int_equal(pread(fd, octets, (size_t)st.st_size, 0), st.st_size);
    unsigned sealed = 0;
    for (off_t at = st.st_size - SPOOL_RECORD_BYTES; at >= 0 && (all || !sealed); at--) {
        if (memcmp(octets + at, "HYE1", 4) != 0)
            continue;
        uint64_t number = htole64(segment), size;
        memcpy(&size, octets + at + 8, 8);
        uint32_t sum = crc32c(0, &number, sizeof(number));
        sum = htole32(crc32c(sum, octets + at + SPOOL_RECORD_BYTES, le64toh(size)));
        assert_memory_not_equal(octets + at + 4, &sum, 4);
        memcpy(octets + at + 4, &sum, 4);
        sum = htole32(crc32c(0, octets + at, 24));
        memcpy(octets + at + 24, &sum, 4);
        sealed++;
    }
    assert_int_equal(sealed, all ? 5 : 1);
    assert_int_equal(pwrite(fd, octets, (size_t)st.st_size, 0), st.st_size);
    close(fd);
    mem_free(octets);
}

static void what_somebody_made_look_like_an_envelope_is_none(void **state)
{
    uint64_t ids[IDS];

    (void)state;
    in_a_child_that_dies(accept_five, ids);
    seal_without_key(false);
    world_must_open(&w);
    check(ids, 4, true);
    check(ids + 4, 1, false);
}

static void envelopes_of_a_version_without_keys_are_read(void **state)
{
    uint64_t ids[IDS];
    char path[256];
    sqlite3 *db;

    (void)state;
    in_a_child_that_dies(accept_five, ids);
    seal_without_key(true);
    snprintf(path, sizeof(path), "%s/queue.db", w.dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
        sqlite3_exec(db, "UPDATE meta SET value = x'' WHERE key = 'spool_key'", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    world_must_open(&w);
    check(ids, 5, true);
}

int main(void)
{
    log_setup(open("/dev/null", O_WRONLY), LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
#define ROW(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        ROW(what_was_answered_has_its_rows_after_the_next_start),
        ROW(a_second_start_does_not_find_them_again),
        ROW(what_was_delivered_before_it_had_rows_never_gets_any),
        ROW(a_body_in_its_own_file_is_kept_with_its_message),
        ROW(an_end_that_is_missing_costs_the_last_message_alone),
        ROW(an_envelope_that_was_changed_is_none),
        ROW(envelopes_of_another_segment_are_none),
        ROW(what_somebody_made_look_like_an_envelope_is_none),
        ROW(envelopes_of_a_version_without_keys_are_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

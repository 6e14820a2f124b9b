/*
 * What follows the header section, stored once for the messages that share it: octets are compared for what
 * is there, and files on the disk for what is not.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/log.h"
#include "base/mem.h"
#include "queue/spool_priv.h"
#include "tests/unit/queue/faults.h"
#include "tests/unit/queue/world.h"

#define SHORT_BYTES (140U * 1000)  /* the second of them pays */
#define LONG_BYTES  (1100U * 1000) /* streams to a file of its own */
#define FAR_MS      3600000

static struct world w;

static int setup(void **state)
{
    (void)state;
    faults_heal();
    world_init(&w);
    world_must_open(&w);
    return 0;
}

static int setup_lazy(void **state)
{
    (void)state;
    faults_heal();
    world_init(&w);
    w.config.settle_ms = FAR_MS;
    world_must_open(&w); /* makes the database */
    world_close(&w);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    faults_heal();
    assert_int_equal(w.wrong_owner, 0);
    world_fini(&w);
    return 0;
}

/* ---- messages whose octets are known by three numbers ---- */

struct mail {
    uint64_t id;
    unsigned header;  /* is in the header section, so that no two are equal */
    unsigned content; /* those with the same number share it */
    uint32_t size;    /* of the content */
    bool gone;
};

static void put_octets(const struct mail *m, struct buf *out)
{
    buf_putf(out, "Subject: %u\r\nX-Long: %*s\r\n\r\n", m->header, (int)(m->header % 50), "");
    size_t from = out->len;
    while (out->len < from + m->size)
        buf_putf(out, "%u.%zu says the same to everybody, line by line\r\n", m->content, out->len - from);
    out->len = from + m->size;
    memcpy(out->at + out->len - 2, "\r\n", 2);
}

static struct body *body_of(struct bytes octets)
{
    struct body_writer *writer = body_writer_create(store_spool(w.store));
    struct body *b = NULL;

    for (size_t at = 0; at < octets.len; at += 65536)
        if (body_writer_put(writer, bytes_make(octets.at + at, MIN_OF(octets.len - at, (size_t)65536))))
            abort();
    if (body_writer_finish(writer, &b))
        abort();
    return b;
}

static enum err send_octets(struct mail *m, struct bytes octets)
{
    enum err e =
        world_accept_at(&w, &(struct world_rcpt){"a@b.example", "b.example"}, 1, 0, body_of(octets), &m->id);

    world_forget_jobs(&w);
    return e;
}

static enum err send_mail(struct mail *m)
{
    BUF_LOCAL(octets);

    put_octets(m, &octets);
    return send_octets(m, buf_bytes(&octets));
}

/* `count` of one content, each under a header of its own. */
static void send_all(struct mail *mails, unsigned count, unsigned content, uint32_t size)
{
    for (unsigned i = 0; i < count; i++) {
        mails[i] = (struct mail){.header = i, .content = content, .size = size};
        assert_int_equal(send_mail(&mails[i]), OK);
    }
}

static void end(struct mail *m)
{
    world_result(&w, m->id, 0, "b.example", THEN_REMOVE, OUTCOME_DELIVERED, 0);
    m->gone = true;
}

/* ---- what is on the disk ---- */

static sqlite3_stmt *ask(sqlite3 **db, const char *sql, uint64_t id)
{
    sqlite3_stmt *st;
    char path[100];

    snprintf(path, sizeof(path), "%s/queue.db", w.dir);
    assert_int_equal(sqlite3_open_v2(path, db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    sqlite3_busy_timeout(*db, 5000);
    assert_int_equal(sqlite3_prepare_v2(*db, sql, -1, &st, NULL), SQLITE_OK);
    if (sqlite3_bind_parameter_count(st))
        assert_int_equal(sqlite3_bind_int64(st, 1, (sqlite3_int64)id), SQLITE_OK);
    return st;
}

static int64_t number(const char *sql)
{
    sqlite3 *db;

    store_settle(w.store);
    sqlite3_stmt *st = ask(&db, sql, 0);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    int64_t n = sqlite3_column_int64(st, 0);
    sqlite3_finalize(st);
    sqlite3_close(db);
    return n;
}

static int64_t sharers(void)
{
    return number("SELECT count(*) FROM message WHERE content_segment > 0");
}

static int64_t shared_files(void)
{
    return number("SELECT count(DISTINCT content_segment) FROM message WHERE content_segment > 0");
}

/* Its body as the row tells where it lies, or NULL. */
static struct body *stored(uint64_t id)
{
    sqlite3 *db;
    struct body *b = NULL;

    store_settle(w.store);
    sqlite3_stmt *st =
        ask(&db,
            "SELECT size, segment, offset, header_bytes, checksum, content_segment, content_offset"
            " FROM message WHERE id = ?1",
            id);
    if (sqlite3_step(st) == SQLITE_ROW) {
        b = body_create(NULL, (uint64_t)sqlite3_column_int64(st, 0));
        b->segment = (uint64_t)sqlite3_column_int64(st, 1);
        b->offset = (uint64_t)sqlite3_column_int64(st, 2);
        b->header_bytes = (uint32_t)sqlite3_column_int64(st, 3);
        b->checksum = (uint32_t)sqlite3_column_int64(st, 4);
        b->content_segment = (uint64_t)sqlite3_column_int64(st, 5);
        b->content_offset = (uint64_t)sqlite3_column_int64(st, 6);
    }
    sqlite3_finalize(st);
    sqlite3_close(db);
    return b;
}

static void check_octets(const struct mail *m, struct bytes want)
{
    struct body *b = stored(m->id);

    if (!b)
        fail_msg("message %u has no row", m->header);
    assert_int_equal(b->size_bytes, want.len);
    char *got = mem_alloc(want.len);
    size_t step = 5000 + m->header * 977 % 70000; /* over the border at many places */
    for (size_t at = 0; at < want.len; at += step)
        assert_int_equal(spool_read(store_spool(w.store), b, at, MIN_OF(step, want.len - at), got + at), OK);
    assert_memory_equal(got, want.at, want.len);
    for (size_t at = b->header_bytes - 8; at <= b->header_bytes; at += 4) { /* before, over and behind it */
        assert_int_equal(spool_read(store_spool(w.store), b, at, 8, got), OK);
        assert_memory_equal(got, want.at + at, 8);
    }
    if (want.len <= SPOOL_MEMORY_LIMIT)
        assert_int_equal(spool_load(store_spool(w.store), b), OK); /* the checksum is right, too */
    mem_free(got);
    body_unref(b);
}

static void check_mail(const struct mail *mails, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        BUF_LOCAL(want);
        put_octets(&mails[i], &want);
        if (!mails[i].gone)
            check_octets(&mails[i], buf_bytes(&want));
    }
}

/* Octets of all segment files, without holes. */
static uint64_t spool_bytes(void)
{
    char path[400];
    uint64_t sum = 0;

    snprintf(path, sizeof(path), "%s/spool", w.dir);
    DIR *d = opendir(path);
    for (struct dirent *e; (e = readdir(d));) {
        struct stat st;
        snprintf(path, sizeof(path), "%s/spool/%s", w.dir, e->d_name);
        if (strstr(e->d_name, ".seg") && stat(path, &st) == 0)
            sum += (uint64_t)st.st_size;
    }
    closedir(d);
    return sum;
}

/* The octets that rows count for are those that are there: no later start reads from a wrong place. */
static void check_sums(void)
{
    assert_int_equal(number("SELECT coalesce(sum(live_bytes), 0) FROM segment"),
                     number("SELECT coalesce(sum(size + 32 + 32 * (content_segment > 0)), 0) FROM message"));
    assert_int_equal(number("SELECT sum(total_bytes) + 16 * count(*) FROM segment"), spool_bytes());
}

/* ---- sharing ---- */

static void many_messages_with_one_content_store_it_once(void **state)
{
    static struct mail mails[300];

    (void)state;
    store_post_cold(w.store, "b.example");
    send_all(mails, 300, 7, 66000);
    assert_int_equal(sharers(), 300 - 3); /* what comes seldom is stored like any other */
    assert_int_equal(shared_files(), 1);
    assert_in_range(spool_bytes(), 4 * 66000, 4 * 66000 + 300 * 600);
    check_sums();
    for (int i = 0; i < 300; i += 33)
        check_mail(mails + i, 1);
}

static void small_contents_share_once_that_pays(void **state)
{
    static struct mail mails[100];

    (void)state;
    send_all(mails, 100, 1, 10000);
    assert_int_equal(sharers(), 100 - 26); /* 27 times 10,000 are more than 256 KiB */
    check_mail(mails, 100);
    check_sums();
}

static void long_bodies_share_the_file_of_the_first(void **state)
{
    struct mail mails[5];

    (void)state;
    send_all(mails, 5, 3, LONG_BYTES);
    assert_int_equal(sharers(), 4);
    assert_in_range(spool_bytes(), LONG_BYTES, LONG_BYTES + 10000);
    check_mail(mails, 5);
    check_sums();
}

static void nothing_is_shared_where_copies_are_kept(void **state)
{
    struct mail mails[5];

    (void)state;
    world_close(&w);
    w.config.keeps_copies = true;
    world_must_open(&w);
    send_all(mails, 5, 3, LONG_BYTES);
    assert_int_equal(sharers(), 0);
    assert_true(spool_bytes() > 5 * LONG_BYTES);
    check_mail(mails, 5);
    check_sums();
}

static void contents_of_their_own_are_not_shared(void **state)
{
    struct mail mails[23];
    BUF_LOCAL(octets);

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        mails[i] = (struct mail){.header = 1, .content = 2, .size = SHORT_BYTES};
        buf_clear(&octets);
        put_octets(&mails[i], &octets);
        octets.at[octets.len - 1 - (size_t)i * (SHORT_BYTES / 20)] ^= 0x55; /* one octet, somewhere */
        assert_int_equal(send_octets(&mails[i], buf_bytes(&octets)), OK);
        check_octets(&mails[i], buf_bytes(&octets));
    }
    for (unsigned i = 20; i < 23; i++) {
        mails[i] = (struct mail){.header = 1, .content = i, .size = LONG_BYTES};
        assert_int_equal(send_mail(&mails[i]), OK);
    }
    check_mail(mails + 20, 3);
    assert_int_equal(sharers(), 0);
    check_sums();
}

/* The sum stays the same when the generator of CRC-32C is added to five octets. */
static void add_generator(char *at)
{
    uint64_t generator = 0x11EDC6F41; /* 33 bits, the first one first */

    for (int bit = 0; bit < 33; bit++)
        if (generator >> (32 - bit) & 1)
            at[bit / 8] = (char)(at[bit / 8] ^ 1 << bit % 8);
}

static void equal_sums_are_not_taken_for_equal_octets(void **state)
{
    static const uint32_t sizes[] = {SHORT_BYTES, LONG_BYTES};

    (void)state;
    for (size_t k = 0; k < COUNT_OF(sizes); k++) {
        struct mail mails[4], others[4];
        BUF_LOCAL(octets);
        send_all(mails, 4, (unsigned)k, sizes[k]);
        int64_t before = sharers();
        for (unsigned i = 0; i < 4; i++) {
            others[i] = mails[i];
            others[i].id = 0;
            buf_clear(&octets);
            put_octets(&others[i], &octets);
            char *at = octets.at + octets.len - sizes[k] / 3; /* where no look for what repeats sees it */
            add_generator(at);
            assert_int_equal(send_octets(&others[i], buf_bytes(&octets)), OK);
            check_octets(&others[i], buf_bytes(&octets));
        }
        struct body *one = stored(mails[1].id), *other = stored(others[1].id);
        assert_int_equal(one->checksum, other->checksum); /* or this would show nothing */
        body_unref(one);
        body_unref(other);
        check_mail(mails, 4);
        assert_int_equal(sharers(), before);
    }
}

/* ---- ending ---- */

static void shuffle(struct mail *mails, size_t count, unsigned seed)
{
    for (size_t i = count; i > 1; i--) {
        seed = seed * 1664525 + 1013904223;
        size_t other = (seed >> 10) % i;
        struct mail m = mails[i - 1];
        mails[i - 1] = mails[other];
        mails[other] = m;
    }
}

static void a_content_is_there_until_its_last_message_ends(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed < 3; seed++) {
        struct mail mails[8];
        send_all(mails, 4, seed, SHORT_BYTES);
        send_all(mails + 4, 4, seed, LONG_BYTES);
        shuffle(mails, 8, seed);
        for (size_t i = 0; i < 8; i++) {
            check_mail(mails, 8);
            end(&mails[i]);
            if (i == 3) { /* and across a restart */
                world_close(&w);
                world_must_open(&w);
            }
        }
        assert_int_equal(world_stats(&w).messages, 0);
        check_sums();
    }
    world_close(&w);
    world_must_open(&w);
    store_settle(w.store);
    assert_int_equal(world_stats(&w).segments, 0);
    assert_int_equal(spool_bytes(), 0);
}

static void a_campaign_that_leaves_at_once_makes_one_file(void **state)
{
    struct mail mails[10];
    uint64_t segment = 0;

    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        mails[i] = (struct mail){.header = i, .content = 1, .size = SHORT_BYTES};
        assert_int_equal(send_mail(&mails[i]), OK);
        struct body *b = stored(mails[i].id);
        if (i == 1)
            segment = b->content_segment;
        assert_int_equal(b->content_segment, i == 0 ? 0 : segment);
        body_unref(b);
        end(&mails[i]);
        world_sync(&w);
    }
    assert_true(segment > 0);
}

static void what_is_shared_is_not_moved_and_header_sections_are(void **state)
{
    struct mail shared[3];
    static struct mail others[200];

    (void)state;
    send_all(shared, 3, 1, SHORT_BYTES);
    for (unsigned i = 0; i < 200; i++) { /* twelve segments of a mebibyte */
        others[i] = (struct mail){.header = i, .content = 100 + i, .size = 60000};
        assert_int_equal(send_mail(&others[i]), OK);
    }
    struct body *before = stored(shared[2].id);
    assert_true(before->content_segment > 0);
    end(&shared[0]); /* it has its octets in the first segment */
    for (unsigned i = 0; i < 200; i++)
        end(&others[i]);
    for (unsigned i = 1; i < 3; i++) /* nobody holds them: they may move */
        world_result(&w, shared[i].id, 0, "b.example", THEN_DEFER, OUTCOME_DEFERRED, 0);
    for (int i = 0; i < 100; i++) {
        struct body *now = stored(shared[2].id);
        bool moved = now->segment != before->segment;
        assert_int_equal(now->content_segment, before->content_segment);
        assert_int_equal(now->content_offset, before->content_offset);
        body_unref(now);
        if (moved)
            break;
        assert_true(i < 99);
        usleep(50000);
    }
    body_unref(before);
    check_mail(shared, 3);
    world_close(&w);
    world_must_open(&w);
    check_mail(shared, 3);
}

/* ---- dying and failing ---- */

static struct mail told[40]; /* by a child */

static void in_a_child_that_dies(void (*deeds)(void))
{
    int pipe_fds[2], status;

    assert_int_equal(pipe(pipe_fds), 0);
    pid_t child = fork();
    if (child == 0) {
        memset(told, 0, sizeof(told));
        world_must_open(&w);
        for (int i = 0; i < 4; i++) /* what a start does in steps is settled with whatever comes then */
            world_sync(&w);
        deeds();
        if (write(pipe_fds[1], told, sizeof(told)) < 0)
            abort();
        kill(getpid(), SIGKILL);
    }
    close(pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], told, sizeof(told)), (ssize_t)sizeof(told));
    close(pipe_fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
}

static void send_both_sorts(void)
{
    send_all(told, 5, 1, SHORT_BYTES);
    send_all(told + 5, 5, 2, LONG_BYTES);
}

static void what_was_answered_has_its_content_after_the_next_start(void **state)
{
    (void)state;
    in_a_child_that_dies(send_both_sorts);
    for (int start = 0; start < 2; start++) {
        world_must_open(&w);
        assert_int_equal(world_stats(&w).messages, 10);
        check_mail(told, 10);
        assert_int_equal(sharers(), 8);
        check_sums();
        world_close(&w);
    }
    world_must_open(&w);
    for (int i = 0; i < 10; i++)
        end(&told[i]);
    assert_int_equal(world_stats(&w).messages, 0);
}

/* All rows that refer to the content go, and more comes. */
static void end_all_but_what_comes_late(void)
{
    send_both_sorts();
    store_settle(w.store);
    for (int i = 0; i < 10; i++)
        end(&told[i]);
    for (unsigned i = 10; i < 14; i++) {
        told[i] =
            (struct mail){.header = i, .content = i < 12 ? 1 : 2, .size = i < 12 ? SHORT_BYTES : LONG_BYTES};
        if (send_mail(&told[i]))
            abort();
        if (i % 2 == 0)
            store_settle(w.store); /* some with rows, some without when it dies */
    }
}

static void a_content_whose_messages_ended_is_there_for_one_that_came_late(void **state)
{
    (void)state;
    in_a_child_that_dies(end_all_but_what_comes_late);
    world_must_open(&w);
    assert_int_equal(world_stats(&w).messages, 4);
    check_mail(told, 14);
    check_sums();
}

static void deliver_unsettled(void)
{
    send_both_sorts();
    for (int i = 0; i < 10; i++)
        if (i != 4 && i != 9)
            end(&told[i]);
    store_settle(w.store); /* eight never get rows */
    told[10] = (struct mail){.header = 10, .content = 1, .size = SHORT_BYTES};
    told[11] = (struct mail){.header = 11, .content = 2, .size = LONG_BYTES};
    if (send_mail(&told[10]) || send_mail(&told[11]))
        abort();
}

static void what_was_delivered_before_it_had_rows_takes_no_content_along(void **state)
{
    (void)state;
    in_a_child_that_dies(deliver_unsettled);
    world_must_open(&w);
    assert_int_equal(world_stats(&w).messages, 4);
    check_mail(told, 12);
    check_sums();
}

static enum err send_if_it_can_be_written(struct mail *m)
{
    struct body_writer *writer = body_writer_create(store_spool(w.store));
    struct body *b = NULL;
    BUF_LOCAL(octets);

    put_octets(m, &octets);
    enum err e = body_writer_put(writer, buf_bytes(&octets));
    if (e) {
        body_writer_destroy(writer);
        return e;
    }
    e = body_writer_finish(writer, &b);
    if (!e)
        e = world_accept_at(&w, &(struct world_rcpt){"a@b.example", "b.example"}, 1, 0, b, &m->id);
    world_forget_jobs(&w);
    return e;
}

/* The fourth makes a file for the short content, the third and those after it share. */
static void a_disk_that_fails_leaves_no_message_without_its_content(void **state)
{
    int met = 0, refused = 0;

    (void)state;
    for (int round = 0; round < FAULT_CALLS * 2 * 3; round++) {
        struct mail mails[6] = {{0}};
        unsigned from = 2 + (unsigned)round % 2;
        for (unsigned i = 0; i < COUNT_OF(mails); i++) {
            bool is_short = i % 2;
            if (i == from)
                faults_set((enum fault_call)(round / 6), 1 + round / 2 % 3, EIO, false);
            mails[i] =
                (struct mail){.header = i, .content = is_short, .size = is_short ? SHORT_BYTES : LONG_BYTES};
            mails[i].gone = send_if_it_can_be_written(&mails[i]) != OK;
            refused += mails[i].gone;
        }
        faults_heal();
        met += faults_met();
        world_close(&w);
        world_must_open(&w);
        check_mail(mails, COUNT_OF(mails));
        world_fini(&w);
        world_init(&w);
        world_must_open(&w);
    }
    assert_true(met >= 12);
    assert_true(refused >= 5);
}

int main(void)
{
    log_setup(open("/dev/null", O_WRONLY), LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
#define ROW(name)  cmocka_unit_test_setup_teardown(name, setup, teardown)
#define LAZY(name) cmocka_unit_test_setup_teardown(name, setup_lazy, teardown)
    const struct CMUnitTest tests[] = {
        ROW(many_messages_with_one_content_store_it_once),
        ROW(small_contents_share_once_that_pays),
        ROW(long_bodies_share_the_file_of_the_first),
        ROW(nothing_is_shared_where_copies_are_kept),
        ROW(contents_of_their_own_are_not_shared),
        ROW(equal_sums_are_not_taken_for_equal_octets),
        ROW(a_content_is_there_until_its_last_message_ends),
        ROW(a_campaign_that_leaves_at_once_makes_one_file),
        ROW(what_is_shared_is_not_moved_and_header_sections_are),
        LAZY(what_was_answered_has_its_content_after_the_next_start),
        LAZY(a_content_whose_messages_ended_is_there_for_one_that_came_late),
        LAZY(what_was_delivered_before_it_had_rows_takes_no_content_along),
        ROW(a_disk_that_fails_leaves_no_message_without_its_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

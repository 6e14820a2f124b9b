#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "queue/crc32c.h"
#include "queue/spool_priv.h"

static void the_checksum_is_castagnolis(void **state)
{
    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283); /* the check value of the algorithm */
    for (size_t cut = 0; cut <= 9; cut++)
        assert_int_equal(crc32c(crc32c(0, "123456789", cut), &"123456789"[cut], 9 - cut), 0xe3069283);
}

static void the_checksum_of_much_is_that_of_its_octets(void **state)
{
    char text[4000];
    uint32_t by_octets = 0, seed = 1;

    (void)state;
    for (size_t len = 0; len < sizeof(text); len++) {
        if (len % 37 == 0 || len % 768 < 2)
            assert_int_equal(crc32c(0, text, len), by_octets);
        seed = seed * 1664525U + 1013904223U;
        text[len] = (char)(seed >> 24);
        by_octets = crc32c(by_octets, &text[len], 1);
    }
    for (size_t cut = 0; cut <= 3000; cut += 77) /* the rest of a sum, when its beginning is known */
        assert_int_equal(crc32c_last(crc32c(0, text, 3000), crc32c(0, text, cut), 3000 - cut),
                         crc32c(0, text + cut, 3000 - cut));
    assert_int_equal(crc32c(0, text + 1, 3000), crc32c(crc32c(0, text + 1, 1500), text + 1501, 1500));
}

struct measured {
    const char *text;
    uint32_t header_bytes, flags;
};
static const struct measured cases[] = {
    {"", 0, 0},
    {"Subject: x\r\n\r\nbody\r\n", 14, 0},
    {"\r\nbody\r\n", 2, 0},
    {"Subject: only a header\r\n", 24, 0},
    {"A: b\r\n\r\n.dot\r\n", 8, BODY_DOTS},
    {"A: b\r\n\r\nnot.a dot\r\n", 8, 0},
    {".A: b\r\n\r\nx\r\n", 9, BODY_DOTS},
    {"A: \xc3\xa9\r\n\r\nx\r\n", 9, BODY_UTF8_HEADER},
    {"A: b\r\n\r\n\xc3\xa9\r\n", 8, BODY_8BIT},
    {"A: \xc3\xa9\r\n\r\n\xc3\xa9\r\n", 9, BODY_8BIT | BODY_UTF8_HEADER},
    {"A: b\r\n\r\none\r\n\r\n..two\r\n", 8, BODY_DOTS},
};

static void a_body_measures_the_same_however_it_is_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        size_t len = strlen(cases[i].text);
        for (size_t cut = 0; cut <= len; cut++) {
            struct body_scan scan = {0};
            body_scan_put(&scan, bytes_make(cases[i].text, cut));
            body_scan_put(&scan, bytes_make(cases[i].text + cut, len - cut));
            body_scan_finish(&scan);
            assert_int_equal(scan.size_bytes, len);
            assert_int_equal(scan.header_bytes, cases[i].header_bytes);
            assert_int_equal(scan.flags, cases[i].flags);
            assert_int_equal(scan.checksum, crc32c(0, cases[i].text, len));
        }
    }
}

static void a_long_body_measures_as_octet_by_octet(void **state)
{
    static const char others[] = {'\r', '\n', '.', '\xe9', '\n', 'x', 'y'};
    char text[3000] = "A: b\r\n\r\n";
    uint32_t seed = 3;

    (void)state;
    for (unsigned round = 0; round < 2000; round++) {
        struct body_scan whole = {0}, single = {0};
        for (size_t i = 8; i < sizeof(text); i++) {
            seed = seed * 1664525U + 1013904223U;
            text[i] = (seed >> 10) % (2 + round % 1500) == 0 ? others[(seed >> 4) % (2 + round % 6)] : 'x';
        }
        size_t cut = round % sizeof(text);
        body_scan_put(&whole, bytes_make(text, cut));
        body_scan_put(&whole, bytes_make(text + cut, sizeof(text) - cut));
        for (size_t i = 0; i < sizeof(text); i++)
            body_scan_put(&single, bytes_make(&text[i], 1));
        body_scan_finish(&whole);
        body_scan_finish(&single);
        assert_int_equal(whole.size_bytes, single.size_bytes);
        assert_int_equal(whole.header_bytes, single.header_bytes);
        assert_int_equal(whole.flags, single.flags);
        assert_int_equal(whole.checksum, single.checksum);
    }
}

static void a_line_of_998_octets_is_text_and_one_more_is_binary(void **state)
{
    (void)state;
    for (size_t len = 997; len <= 1000; len++) {
        char line[1100] = "A: b\r\n\r\n";
        memset(line + 8, 'x', len);
        memcpy(line + 8 + len, "\r\n", 3);
        struct body *b = body_create(mem_strdup(line), strlen(line));
        body_measure(b);
        assert_int_equal(b->flags, len > 998 ? BODY_BINARY : 0);
        body_unref(b);
    }
}

struct place {
    char dir[40];
    struct spool *spool;
};

static int open_place(void **state)
{
    struct place *p = MEM_NEW(struct place);
    char *why;

    snprintf(p->dir, sizeof(p->dir), "/tmp/hayauma-body-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    assert_int_equal(spool_open(p->dir, 1 << 20, &p->spool, &why), OK);
    *state = p;
    return 0;
}

static void count_file(void *arg, uint64_t segment)
{
    (void)segment;
    ++*(int *)arg;
}

static int files(struct place *p)
{
    int n = 0;
    assert_int_equal(spool_list(p->spool, count_file, &n), OK);
    return n;
}

static int close_place(void **state)
{
    struct place *p = *state;
    char command[80];

    spool_close(p->spool);
    snprintf(command, sizeof(command), "rm -r %s", p->dir);
    int rc = system(command);
    mem_free(p);
    return rc;
}

static char pattern(uint64_t at)
{
    return at % 64 == 62 ? '\r' : at % 64 == 63 ? '\n' : (char)('a' + at / 64 % 26);
}

static struct body *write_body(struct spool *spool, uint64_t size, size_t piece)
{
    struct body_writer *w = body_writer_create(spool);
    struct body *b = NULL;
    char *chunk = mem_alloc(piece);

    for (uint64_t at = 0; at < size;) {
        size_t n = (size_t)MIN_OF((uint64_t)piece, size - at);
        for (size_t i = 0; i < n; i++)
            chunk[i] = pattern(at + i);
        assert_int_equal(body_writer_put(w, bytes_make(chunk, n)), OK);
        at += n;
        assert_int_equal(body_writer_size(w), at);
    }
    mem_free(chunk);
    assert_int_equal(body_writer_finish(w, &b), OK);
    return b;
}

static void check_body(struct spool *spool, struct body *b, uint64_t size)
{
    uint32_t sum = 0;

    assert_int_equal(b->size_bytes, size);
    for (uint64_t at = 0; at < size; at += 4096) {
        char got[4096];
        size_t n = (size_t)MIN_OF((uint64_t)4096, size - at);
        assert_int_equal(spool_read(spool, b, at, n, got), OK);
        for (size_t i = 0; i < n; i++)
            if (got[i] != pattern(at + i))
                fail_msg("octet %llu differs", (unsigned long long)(at + i));
        sum = crc32c(sum, got, n);
    }
    assert_int_equal(sum, b->checksum);
}

static void a_small_body_stays_in_memory_and_a_large_one_gets_a_file(void **state)
{
    struct place *p = *state;
    static const struct {
        uint64_t size;
        size_t piece;
        bool memory;
    } rows[] = {
        {0, 1, true},
        {1, 1, true},
        {70000, 977, true},
        {SPOOL_MEMORY_LIMIT, 65536, true},
        {SPOOL_MEMORY_LIMIT + 1, 4096, false},
        {SPOOL_MEMORY_LIMIT + 1, 3 << 20, false},
        {5000000, 60000, false},
    };
    uint64_t before = body_memory_bytes();

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct body *b = write_body(p->spool, rows[i].size, rows[i].piece);
        assert_int_equal(b->mem != NULL, rows[i].memory);
        assert_int_equal(body_memory_bytes() - before, rows[i].memory ? rows[i].size : 0);
        assert_int_equal(files(p), rows[i].memory ? 0 : 1);
        check_body(p->spool, b, rows[i].size);
        body_unref(b);
        assert_int_equal(files(p), 0); /* nobody accepted it: its file goes with it */
        assert_int_equal(body_memory_bytes(), before);
    }
}

static void a_writer_given_up_leaves_nothing(void **state)
{
    struct place *p = *state;
    struct body_writer *w = body_writer_create(p->spool);
    char block[65536] = {0};
    uint64_t before = body_memory_bytes();

    for (int i = 0; i < 40; i++)
        assert_int_equal(body_writer_put(w, bytes_make(block, sizeof(block))), OK);
    assert_int_equal(files(p), 1);
    body_writer_destroy(w);
    body_writer_destroy(NULL);
    assert_int_equal(files(p), 0);
    assert_true(body_memory_bytes() <= before);
}

static void without_a_spool_a_large_body_is_refused(void **state)
{
    struct body_writer *w = body_writer_create(NULL);
    struct body *b = NULL;
    char block[65536] = {0};

    (void)state;
    for (int i = 0; i < 16; i++)
        assert_int_equal(body_writer_put(w, bytes_make(block, sizeof(block))), OK);
    assert_int_equal(body_writer_put(w, bytes_make(block, 1)), ERR_NOSPACE);
    assert_int_equal(body_writer_put(w, bytes_make(block, 1)), ERR_NOSPACE);
    assert_int_equal(body_writer_finish(w, &b), ERR_NOSPACE);
    assert_null(b);
}

static void a_batch_is_read_back_and_walked(void **state)
{
    struct place *p = *state;
    struct spool_place at[5];
    struct body *b[5];

    for (uint64_t i = 0; i < 5; i++) {
        b[i] = write_body(p->spool, 1000 * i, 512);
        assert_int_equal(spool_put(p->spool, 100 + i, b[i], &at[i]), OK);
    }
    assert_int_equal(spool_sync(p->spool), OK);
    spool_keep(p->spool);
    uint64_t walk = 0;
    for (uint64_t i = 0; i < 5; i++) {
        struct spool_record r;
        assert_int_equal(spool_next_record(p->spool, at[0].segment, UINT64_MAX, &walk, &r), OK);
        assert_int_equal(r.message_id, 100 + i);
        assert_int_equal(r.offset, at[i].offset);
        assert_int_equal(r.size_bytes, 1000 * i);
        struct body *again = body_create(NULL, r.size_bytes);
        again->segment = at[i].segment;
        again->offset = r.offset;
        again->checksum = r.checksum;
        check_body(p->spool, again, r.size_bytes);
        assert_int_equal(spool_load(p->spool, again), OK);
        assert_memory_equal(again->mem, b[i]->mem, r.size_bytes);
        again->checksum ^= 1;
        mem_free(TAKE(again->mem));
        assert_int_equal(spool_load(p->spool, again), ERR_CORRUPT);
        again->mem_bytes = r.size_bytes; /* what was freed by hand above is accounted still */
        body_unref(again);
        body_unref(b[i]);
    }
    struct spool_record end;
    assert_int_equal(spool_next_record(p->spool, at[0].segment, UINT64_MAX, &walk, &end), ERR_NOT_FOUND);
}

static void an_undone_batch_is_cut_and_the_next_begins_a_new_segment(void **state)
{
    struct place *p = *state;
    struct body *b = write_body(p->spool, 5000, 512);
    struct spool_place kept, undone, after;
    uint64_t walk = 0;
    struct spool_record r;

    assert_int_equal(spool_put(p->spool, 1, b, &kept), OK);
    assert_int_equal(spool_sync(p->spool), OK);
    spool_keep(p->spool);
    assert_int_equal(spool_put(p->spool, 2, b, &undone), OK);
    assert_int_equal(spool_flush(p->spool), OK);
    spool_undo(p->spool, false);
    assert_int_equal(spool_next_record(p->spool, kept.segment, UINT64_MAX, &walk, &r), OK);
    assert_int_equal(spool_next_record(p->spool, kept.segment, UINT64_MAX, &walk, &r), ERR_NOT_FOUND);
    assert_int_equal(spool_put(p->spool, 3, b, &after), OK);
    assert_int_equal(spool_sync(p->spool), OK);
    spool_keep(p->spool);
    assert_true(after.segment > kept.segment);
    body_unref(b);
}

static void a_file_that_is_deleted_while_it_is_open_is_gone_for_the_next_reader(void **state)
{
    struct place *p = *state;
    struct body *b = write_body(p->spool, 3000000, 65536);
    char c;

    assert_int_equal(spool_read(p->spool, b, 0, 1, &c), OK);
    spool_delete(p->spool, b->segment);
    assert_int_equal(spool_read(p->spool, b, 0, 1, &c), ERR_NOT_FOUND);
    assert_int_equal(spool_read(p->spool, b, 2999999, 2, &c), ERR_INVALID);
    body_unref(b);
}

static void a_replaced_part_gives_the_sum_of_the_new_whole(void **state)
{
    static char text[70000], part[600];
    (void)state;

    srand(20261122);
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)rand();
    for (unsigned round = 0; round < 500; round++) {
        size_t size = (size_t)rand() % sizeof(text) + 1, at = (size_t)rand() % size;
        size_t len = (size_t)rand() % sizeof(part);
        len = MIN_OF(len, size - at);
        uint32_t before = crc32c(0, text, size);
        for (size_t i = 0; i < len; i++)
            part[i] = (char)rand();
        uint32_t after = crc32c_replaced(before, text + at, part, len, size - at - len);
        memcpy(text + at, part, len);
        assert_int_equal(after, crc32c(0, text, size));
    }
}

static void part_of_a_body_is_replaced_in_memory_and_in_its_file(void **state)
{
    static const size_t sizes[] = {100, SPOOL_MEMORY_LIMIT + 5};
    struct place *p = *state;

    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct body_writer *w = body_writer_create(p->spool);
        char *text = mem_alloc(sizes[i]);
        struct body *b = NULL;
        memset(text, 'a', sizes[i]);
        assert_int_equal(body_writer_put(w, bytes_make(text, sizes[i])), OK);
        assert_int_equal(body_writer_finish(w, &b), OK);
        assert_int_equal(spool_replace(p->spool, b, 10, BYTES("later")), OK);
        assert_int_equal(spool_replace(p->spool, b, sizes[i] - 1, BYTES("\n")), OK);
        assert_int_equal(spool_replace(p->spool, b, sizes[i] - 1, BYTES("too long")), ERR_INVALID);
        memcpy(text + 10, "later", 5);
        text[sizes[i] - 1] = '\n';
        char *got = mem_alloc(sizes[i]);
        assert_int_equal(spool_read(p->spool, b, 0, sizes[i], got), OK);
        assert_memory_equal(got, text, sizes[i]);
        assert_int_equal(b->checksum, crc32c(0, text, sizes[i]));
        mem_free(got);
        mem_free(text);
        body_unref(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checksum_is_castagnolis),
        cmocka_unit_test(the_checksum_of_much_is_that_of_its_octets),
        cmocka_unit_test(a_replaced_part_gives_the_sum_of_the_new_whole),
        cmocka_unit_test_setup_teardown(part_of_a_body_is_replaced_in_memory_and_in_its_file, open_place,
                                        close_place),
        cmocka_unit_test(a_body_measures_the_same_however_it_is_split),
        cmocka_unit_test(a_long_body_measures_as_octet_by_octet),
        cmocka_unit_test(a_line_of_998_octets_is_text_and_one_more_is_binary),
        cmocka_unit_test_setup_teardown(a_small_body_stays_in_memory_and_a_large_one_gets_a_file, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(a_writer_given_up_leaves_nothing, open_place, close_place),
        cmocka_unit_test(without_a_spool_a_large_body_is_refused),
        cmocka_unit_test_setup_teardown(a_batch_is_read_back_and_walked, open_place, close_place),
        cmocka_unit_test_setup_teardown(an_undone_batch_is_cut_and_the_next_begins_a_new_segment, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(a_file_that_is_deleted_while_it_is_open_is_gone_for_the_next_reader,
                                        open_place, close_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

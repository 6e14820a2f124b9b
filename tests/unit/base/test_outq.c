#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/outq.h"

/* A borrowed run that notes its release. */
struct lent {
    const char *text;
    int released;
};

static void release(void *arg)
{
    ((struct lent *)arg)->released++;
}

static struct bytes all_of(const struct outq *q, struct buf *out)
{
    struct iovec iov[4096];
    int n = outq_iov(q, iov, COUNT_OF(iov));

    buf_clear(out);
    for (int i = 0; i < n; i++) {
        assert_true(iov[i].iov_len > 0);
        buf_put(out, bytes_make(iov[i].iov_base, iov[i].iov_len));
    }
    return buf_bytes(out);
}

static void copies_and_borrowed_runs_come_out_in_order(void **state)
{
    struct outq q = {0};
    struct lent body = {"BODY", 0};
    char text[] = "DATA\r\n";
    BUF_LOCAL(got);

    assert_true(outq_is_empty(&q));
    assert_int_equal(outq_front(&q).len, 0);
    outq_puts(&q, text);
    memset(text, 'x', sizeof(text) - 1); /* it was copied */
    outq_ref(&q, bytes_of(body.text), release, &body);
    outq_putf(&q, ".%s%d\r\n", "", 7);
    assert_int_equal(q.len, 6 + 4 + 4);
    assert_true(bytes_eq(all_of(&q, &got), BYTES("DATA\r\nBODY.7\r\n")));
    assert_true(bytes_eq(outq_front(&q), BYTES("DATA\r\n")));
    outq_fini(&q);
    assert_int_equal(body.released, 1);
}

static void a_run_is_released_once_and_only_when_consumed(void **state)
{
    struct outq q = {0};
    struct lent a = {"aaaa", 0}, b = {"bbbb", 0};

    outq_ref(&q, bytes_of(a.text), release, &a);
    outq_ref(&q, bytes_of(b.text), release, &b);
    outq_consume(&q, 3);
    assert_int_equal(a.released, 0);
    outq_consume(&q, 1);
    assert_int_equal(a.released, 1);
    outq_consume(&q, 2);
    assert_int_equal(b.released, 0);
    assert_true(bytes_eq(outq_front(&q), BYTES("bb")));
    outq_consume(&q, 2);
    assert_int_equal(b.released, 1);
    assert_true(outq_is_empty(&q));
    outq_fini(&q);
    assert_int_equal(a.released + b.released, 2);
}

static void an_empty_run_is_released_at_once(void **state)
{
    struct outq q = {0};
    struct lent none = {"", 0};

    outq_ref(&q, bytes_of(none.text), release, &none);
    assert_int_equal(none.released, 1);
    outq_ref(&q, (struct bytes){0}, NULL, NULL);
    outq_put(&q, (struct bytes){0});
    assert_true(outq_is_empty(&q));
    outq_fini(&q);
    assert_int_equal(none.released, 1);
}

static void any_consumption_agrees_with_a_plain_buffer(void **state)
{
    static char lent_text[20000];
    struct outq q = {0};
    struct lent lent = {0};
    unsigned seed = 11;
    int borrowed = 0;
    BUF_LOCAL(model);
    BUF_LOCAL(got);

    for (size_t i = 0; i < sizeof(lent_text); i++)
        lent_text[i] = (char)('a' + i % 26);
    for (int step = 0; step < 3000; step++) {
        size_t len = (size_t)rand_r(&seed) % (rand_r(&seed) % 8 ? 60 : 9000);
        struct bytes s = bytes_make(lent_text + rand_r(&seed) % 10000, len);
        if (rand_r(&seed) % 3 == 0) {
            outq_ref(&q, s, release, &lent);
            borrowed++;
        } else {
            outq_put(&q, s);
        }
        buf_put(&model, s);
        size_t n = (size_t)rand_r(&seed) % (model.len + 1);
        if (rand_r(&seed) % 3 == 0 || model.len > 100000) {
            outq_consume(&q, n);
            buf_consume(&model, n);
        }
        assert_int_equal(q.len, model.len);
        if (step % 16 == 0)
            assert_true(bytes_eq(all_of(&q, &got), buf_bytes(&model)));
    }
    assert_true(bytes_eq(all_of(&q, &got), buf_bytes(&model)));
    outq_fini(&q);
    assert_int_equal(lent.released, borrowed);
}

static void long_formats_are_not_cut(void **state)
{
    struct outq q = {0};
    BUF_LOCAL(got);

    for (int len = 505; len < 520; len++) {
        outq_putf(&q, "%*d", len, 7);
        assert_int_equal(q.len, len);
        assert_int_equal(all_of(&q, &got).at[len - 1], '7');
        outq_consume(&q, (size_t)len);
    }
    outq_fini(&q);
}

static void the_spare_chunk_is_used_again(void **state)
{
    struct outq q = {0};

    outq_puts(&q, "one");
    outq_consume(&q, 3);
    struct outq_chunk *spare = q.spare;
    assert_non_null(spare);
    assert_null(q.first);
    outq_puts(&q, "two");
    assert_ptr_equal(q.first, spare);
    assert_null(q.spare);
    outq_fini(&q);
    assert_null(q.spare);
}

static void iov_gives_no_more_than_asked_for(void **state)
{
    struct outq q = {0};
    struct iovec iov[2];

    for (int i = 0; i < 5; i++)
        outq_ref(&q, BYTES("x"), NULL, NULL);
    assert_int_equal(outq_iov(&q, iov, 2), 2);
    assert_int_equal(outq_iov(&q, iov, 0), 0);
    outq_fini(&q);
}

/* A release that writes to the same queue, as a session does when its body is gone. */
static void write_more(void *q)
{
    outq_puts(q, "QUIT\r\n");
}

static void a_release_may_append(void **state)
{
    struct outq q = {0};

    outq_ref(&q, BYTES("body"), write_more, &q);
    outq_consume(&q, 4);
    assert_true(bytes_eq(outq_front(&q), BYTES("QUIT\r\n")));
    outq_fini(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_and_borrowed_runs_come_out_in_order),
        cmocka_unit_test(a_run_is_released_once_and_only_when_consumed),
        cmocka_unit_test(an_empty_run_is_released_at_once),
        cmocka_unit_test(any_consumption_agrees_with_a_plain_buffer),
        cmocka_unit_test(long_formats_are_not_cut),
        cmocka_unit_test(the_spare_chunk_is_used_again),
        cmocka_unit_test(iov_gives_no_more_than_asked_for),
        cmocka_unit_test(a_release_may_append),
    };

    return cmocka_run_group_tests_name("base/outq", tests, NULL, NULL);
}

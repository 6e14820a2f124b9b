#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "policy/policy.h"

static void differences_are_shown_as_every_patch_tool_reads_them(void **state)
{
    static const struct {
        const char *before, *after, *want; /* without the two lines of names */
    } cases[] = {
        {"", "", ""},
        {"a\n", "a\n", ""},
        {"a\nb\nc\n", "a\nB\nc\n", "@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"},
        {"", "a\nb\n", "@@ -0,0 +1,2 @@\n+a\n+b\n"},
        {"a\nb\n", "", "@@ -1,2 +0,0 @@\n-a\n-b\n"},
        {"", "a\n", "@@ -0,0 +1 @@\n+a\n"},
        {"a\n", "a\nb\n", "@@ -1 +1,2 @@\n a\n+b\n"},
        {"b\n", "a\nb\n", "@@ -1 +1,2 @@\n+a\n b\n"},
        {"a", "a\n", "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n"},
        {"a\nb", "a\nc",
         "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n\\ No newline at end of file\n"},
        /* three lines of context; changes further apart than six lines are hunks of their own */
        {"1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nX\n6\n7\n8\n9\n",
         "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+X\n 6\n 7\n 8\n"},
        {"1\n2\n3\n4\n5\n6\n7\n8\n", "X\n2\n3\n4\n5\n6\n7\nY\n",
         "@@ -1,8 +1,8 @@\n-1\n+X\n 2\n 3\n 4\n 5\n 6\n 7\n-8\n+Y\n"},
        {"1\n2\n3\n4\n5\n6\n7\n8\n9\n", "X\n2\n3\n4\n5\n6\n7\n8\nY\n",
         "@@ -1,4 +1,4 @@\n-1\n+X\n 2\n 3\n 4\n@@ -6,4 +6,4 @@\n 6\n 7\n 8\n-9\n+Y\n"},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf got = {0}, want = {0};

        if (cases[i].want[0])
            buf_putf(&want, "--- old\n+++ new\n%s", cases[i].want);
        policy_diff(bytes_of(cases[i].before), bytes_of(cases[i].after), "old", "new", &got);
        assert_string_equal(buf_str(&got), buf_str(&want));
        buf_fini(&got);
        buf_fini(&want);
    }
}

/* Applies a unified diff; NULL when a line of it does not fit. */
static bool apply(struct bytes before, struct bytes diff, struct buf *out)
{
    size_t line = 0; /* of `before`, 0-based */
    struct bytes rest = before;

    while (diff.len > 0) {
        struct bytes d = bytes_first(diff, bytes_find(diff, '\n') + 1);

        diff = bytes_skip(diff, d.len);
        if (bytes_starts(d, BYTES("--- ")) && line == 0 && rest.len == before.len)
            continue;
        if (bytes_starts(d, BYTES("+++ ")) && line == 0 && rest.len == before.len)
            continue;
        if (bytes_starts(d, BYTES("@@ -"))) {
            unsigned long start = strtoul(d.at + 4, NULL, 10);
            bool is_empty = bytes_starts(bytes_skip(d, 4 + strspn(d.at + 4, "0123456789")), BYTES(",0"));

            for (; line + 1 < start + is_empty; line++) {
                struct bytes l = bytes_first(rest, bytes_find(rest, '\n') + 1);

                buf_put(out, l);
                rest = bytes_skip(rest, l.len);
            }
            continue;
        }
        if (d.at[0] == '+') {
            buf_put(out, bytes_skip(d, 1));
            continue;
        }
        struct bytes l = bytes_first(rest, bytes_find(rest, '\n') + 1);

        if (!bytes_eq(l, bytes_skip(d, 1)))
            return false;
        if (d.at[0] == ' ')
            buf_put(out, l);
        rest = bytes_skip(rest, l.len);
        line++;
    }
    buf_put(out, rest);
    return true;
}

static size_t count_changes(struct bytes diff)
{
    size_t count = 0;

    for (size_t at = 0; at < diff.len; at++)
        if ((at == 0 || diff.at[at - 1] == '\n') && (diff.at[at] == '+' || diff.at[at] == '-'))
            count++;
    return count - (count ? 2 : 0); /* the names */
}

/* Length of the longest common subsequence of lines of one letter each, the slow and obvious way. */
static size_t common(const char *a, size_t n, const char *b, size_t m)
{
    size_t table[41][41] = {0};

    for (size_t i = n; i-- > 0;)
        for (size_t j = m; j-- > 0;)
            table[i][j] = a[i] == b[j]                        ? table[i + 1][j + 1] + 1
                          : table[i + 1][j] > table[i][j + 1] ? table[i + 1][j]
                                                              : table[i][j + 1];
    return table[0][0];
}

static void random_documents_differ_by_as_little_as_they_can(void **state)
{
    uint32_t seed = 1;

    for (int round = 0; round < 4000; round++) {
        char a[40], b[40];
        size_t n, m;
        struct buf before = {0}, after = {0}, diff = {0}, out = {0};

#define NEXT(below) ((seed = seed * 1664525U + 1013904223U) >> 8) % (below)
        n = NEXT(41);
        m = NEXT(41);
        unsigned letters = 1 + NEXT(6);
        for (size_t i = 0; i < n; i++)
            buf_putf(&before, "%c\n", a[i] = (char)('a' + NEXT(letters)));
        for (size_t i = 0; i < m; i++)
            buf_putf(&after, "%c\n", b[i] = (char)('a' + NEXT(letters)));
        policy_diff(buf_bytes(&before), buf_bytes(&after), "x", "y", &diff);
        if (!apply(buf_bytes(&before), buf_bytes(&diff), &out))
            fail_msg("does not apply:\n%s", buf_str(&diff));
        assert_string_equal(buf_str(&out), buf_str(&after));
        assert_int_equal(count_changes(buf_bytes(&diff)), n + m - 2 * common(a, n, b, m));
        buf_fini(&before);
        buf_fini(&after);
        buf_fini(&diff);
        buf_fini(&out);
    }
}

static void documents_with_nothing_in_common_are_replaced_in_bounded_time(void **state)
{
    struct buf before = {0}, after = {0}, diff = {0}, out = {0};

    buf_puts(&before, "same\n");
    buf_puts(&after, "same\n");
    for (int i = 0; i < 50000; i++) {
        buf_putf(&before, "old %d\n", i);
        buf_putf(&after, "new %d\n", i);
    }
    buf_puts(&before, "end\n");
    buf_puts(&after, "end\n");
    policy_diff(buf_bytes(&before), buf_bytes(&after), "x", "y", &diff);
    assert_true(apply(buf_bytes(&before), buf_bytes(&diff), &out));
    assert_true(bytes_eq(buf_bytes(&out), buf_bytes(&after)));
    assert_int_equal(count_changes(buf_bytes(&diff)), 100000);
    buf_fini(&before);
    buf_fini(&after);
    buf_fini(&diff);
    buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(differences_are_shown_as_every_patch_tool_reads_them),
        cmocka_unit_test(random_documents_differ_by_as_little_as_they_can),
        cmocka_unit_test(documents_with_nothing_in_common_are_replaced_in_bounded_time),
    };

    return cmocka_run_group_tests_name("policy/diff", tests, NULL, NULL);
}

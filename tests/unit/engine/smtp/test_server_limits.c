/* What outsiders can make grow is bounded; what cannot be stored is refused, and nothing of it stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "tests/unit/engine/smtp/play.h"

/* ---- a spool that fails when it is told to ---- */

struct body_writer {
    struct buf text;
    unsigned puts;
};

static unsigned fail_at; /* the n-th put or the finish; 0: never */
static enum err fail_with;
static unsigned writers;

struct body_writer *body_writer_create(struct spool *s)
{
    (void)s;
    writers++;
    return MEM_NEW(struct body_writer);
}

enum err body_writer_put(struct body_writer *w, struct bytes octets)
{
    if (++w->puts == fail_at)
        return fail_with;
    buf_put(&w->text, octets);
    return OK;
}

uint64_t body_writer_size(const struct body_writer *w)
{
    return w->text.len;
}

void body_writer_destroy(struct body_writer *w)
{
    if (!w)
        return;
    writers--;
    buf_fini(&w->text);
    mem_free(w);
}

enum err body_writer_finish(struct body_writer *w, struct body **out)
{
    bool fails = ++w->puts == fail_at;
    uint64_t size = w->text.len;

    if (!fails)
        *out = body_create(buf_take(&w->text), size);
    body_writer_destroy(w);
    return fails ? fail_with : OK;
}

static unsigned full_spool;
bool spool_is_full(const struct spool *s)
{
    (void)s;
    return full_spool;
}

/* Nothing is signed here; without this the linker would bring in the spool that these stand for. */
enum err spool_replace(struct spool *s, struct body *b, uint64_t at, struct bytes octets)
{
    (void)s;
    (void)b;
    (void)at;
    (void)octets;
    return ERR_IO;
}

/* ---- the tests ---- */

static void begin(struct play *p)
{
    play_prepare(p);
    play_begin(p);
    play_says(p, "EHLO c.example\r\n");
    play_hear(p);
}

static const char *last_line(const char *text)
{
    const char *last = text;

    for (const char *at = text; (at = strstr(at, "\r\n")) && at[2]; at += 2)
        last = at + 2;
    return last;
}

static void a_failing_spool_gives_a_4xx_and_leaves_nothing(void **state)
{
    static const struct {
        enum err e;
        const char *code;
    } cases[] = {{ERR_NOSPACE, "452 4.3.1"}, {ERR_IO, "451 4.3.0"}};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (fail_at = 1; fail_at <= 5; fail_at++) { /* Received, fields, ours, body, finish */
            struct play p;
            fail_with = cases[i].e;
            begin(&p);
            play_says(&p, ENVELOPE "DATA\r\n");
            play_hear(&p);
            play_says(&p, "To: x\r\n\r\nbody\r\n.\r\n" ENVELOPE "BDAT 5 LAST\r\n\r\na\r\n");
            const char *heard = play_hear(&p);
            assert_memory_equal(heard, cases[i].code,
                                9);          /* the whole message was passed over, then refused */
            bool second_fails = fail_at < 5; /* it has no fields, so it is one put shorter */
            assert_memory_equal(last_line(heard), second_fails ? cases[i].code : "250 2.0.0", 9);
            assert_int_equal(p.message_count, !second_fails);
            assert_int_equal(writers, 0);
            play_end(&p);
        }
    }
    fail_at = 0;
}

static void an_unfinished_message_leaves_nothing_behind(void **state)
{
    static const char *const lasts[] = {"BDAT 100\r\nabc", "BDAT 3\r\nabc", "BDAT 3\r\nabcRSET\r\n",
                                        "BDAT 3\r\nabcEHLO c.example\r\n", "BDAT 3\r\nabcQUIT\r\n"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(lasts); i++) {
        struct play p;
        begin(&p);
        play_says(&p, ENVELOPE);
        play_says(&p, lasts[i]);
        if (i >= 2)
            assert_int_equal(writers, 0);
        play_end(&p);
        assert_int_equal(writers, 0);
    }
}

static void a_full_spool_refuses_before_the_content(void **state)
{
    struct play p;
    static char somewhere;
    struct smtp_server_config config = {.spool = (struct spool *)&somewhere, .log = &p.log};

    (void)state;
    play_prepare(&p);
    config.rules = &p.rules;
    p.server = smtp_server_create(&config, 0);
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    full_spool = 1;
    play_says(&p, "MAIL FROM:<a@b.example>\r\n");
    assert_memory_equal(last_line(play_hear(&p)), "452 4.3.1", 9);
    full_spool = 0;
    play_says(&p, "MAIL FROM:<a@b.example>\r\n");
    assert_memory_equal(last_line(play_hear(&p)), "250 2.1.0", 9);
    play_end(&p);
}

/* T33 */
static void a_million_chunks_are_refused_and_counted_exactly(void **state)
{
    struct play p;
    BUF_LOCAL(chunks);

    (void)state;
    begin(&p);
    play_says(&p, ENVELOPE "BDAT 2\r\n\r\n"); /* no header section */
    for (unsigned i = 0; i < 1000; i++)
        buf_puts(&chunks, "BDAT 1\r\nQ");
    play_hear(&p);
    unsigned taken = 0, refused = 0, wrong = 0;
    for (unsigned i = 0; i < 70 && !p.close_count; i++) {
        play_say(&p, buf_bytes(&chunks));
        for (const char *at = play_hear(&p); *at; at = strstr(at, "\r\n") + 2) {
            taken += strncmp(at, "250 ", 4) == 0;
            refused += strncmp(at, "552 5.3.4", 9) == 0;
            wrong += strncmp(at, "503 5.5.1", 9) == 0;
        }
    }
    assert_int_equal(taken, 65535); /* and the one before */
    assert_int_equal(refused, 1);
    assert_int_equal(wrong, p.rules.errors_max); /* the transaction is gone, and the patience too */
    assert_int_equal(p.close_count, 1);
    assert_int_equal(writers, 0);
    play_end(&p);
}

/* T36 */
static void recipients_beyond_the_limit_wait_for_the_next_transaction(void **state)
{
    struct play p;
    unsigned taken = 0, later = 0;
    char line[80];

    (void)state;
    begin(&p);
    p.rules.recipients_max = 1000;
    play_says(&p, "MAIL FROM:<a@b.example>\r\n");
    play_hear(&p);
    for (unsigned i = 0; i < 100000; i++) {
        snprintf(line, sizeof(line), "RCPT TO:<r%u@d%u.example>\r\n", i, i % 7);
        play_says(&p, line);
        const char *heard = play_hear(&p);
        taken += strncmp(heard, "250 2.1.5", 9) == 0;
        later += strncmp(heard, "452 4.5.3", 9) == 0;
    }
    assert_int_equal(taken, 1000);
    assert_int_equal(later, 99000);
    play_says(&p, "DATA\r\n");
    play_says(&p, "x\r\n.\r\n");
    assert_memory_equal(last_line(play_hear(&p)), "250 2.0.0", 9);
    assert_int_equal(p.messages[0]->rcpt_count, 1000);
    for (uint32_t i = 1; i < 1000; i++)
        assert_true(strcmp(p.messages[0]->rcpts[i - 1].domain, p.messages[0]->rcpts[i].domain) <= 0);
    play_end(&p);
}

/* T24 */
static void endless_lines_and_headers_stop_at_their_limits(void **state)
{
    static char flood[1 << 20];
    struct play p;

    (void)state;
    memset(flood, 'a', sizeof(flood));
    begin(&p);
    for (unsigned i = 0; i < 10; i++) /* 10 MiB without CRLF */
        play_say(&p, bytes_make(flood, sizeof(flood)));
    play_says(&p, "\r\nNOOP\r\n");
    assert_memory_equal(play_hear(&p), "500 5.5.2", 9);
    assert_memory_equal(last_line(buf_str(&p.heard)), "250 2.0.0", 9);
    p.rules.message_bytes_max = 0;
    play_says(&p, ENVELOPE "DATA\r\n");
    play_hear(&p);
    play_says(&p, "X: ");
    for (unsigned i = 0; i < 10; i++) /* one header line of 10 MiB */
        play_say(&p, bytes_make(flood, sizeof(flood)));
    assert_int_equal(writers, 0);
    play_says(&p, "\r\n\r\n.\r\n");
    assert_memory_equal(play_hear(&p), "552 5.3.4", 9);
    play_says(&p, ENVELOPE "DATA\r\n");
    play_hear(&p);
    for (unsigned i = 0; i < 1000000; i++)
        play_says(&p, "X: y\r\n");
    play_says(&p, "\r\n.\r\n");
    assert_memory_equal(play_hear(&p), "552 5.3.4", 9);
    assert_int_equal(p.message_count, 0);
    play_end(&p);
}

static void newlines_without_end_take_linear_time(void **state)
{
    static char flood[4 << 20];
    static const char octets[] = {'\r', '\n', '.'};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(octets); i++) { /* quadratic code would take minutes here */
        struct play p;
        memset(flood, octets[i], sizeof(flood));
        begin(&p);
        p.rules.message_bytes_max = 0;
        p.rules.bare_newline = BARE_NEWLINE_NORMALIZE;
        play_says(&p, ENVELOPE "DATA\r\n");
        play_hear(&p);
        play_says(&p, "\r\n");
        play_say(&p, bytes_make(flood, sizeof(flood)));
        play_says(&p, "\r\n.\r\n");
        assert_memory_equal(play_hear(&p), "250 2.0.0", 9);
        play_end(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_failing_spool_gives_a_4xx_and_leaves_nothing),
        cmocka_unit_test(an_unfinished_message_leaves_nothing_behind),
        cmocka_unit_test(a_full_spool_refuses_before_the_content),
        cmocka_unit_test(a_million_chunks_are_refused_and_counted_exactly),
        cmocka_unit_test(recipients_beyond_the_limit_wait_for_the_next_transaction),
        cmocka_unit_test(endless_lines_and_headers_stop_at_their_limits),
        cmocka_unit_test(newlines_without_end_take_linear_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

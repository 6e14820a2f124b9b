/* The message on the wire: dot-stuffing, BDAT, bodies that are read from disk, and the memory it takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/smtp/client_priv.h"
#include "tests/unit/engine/smtp/client_script.h"

#define HELLO     "S 220 mx.example", "C EHLO me.example"
#define PIPELINES HELLO, "S 250-mx.example", "S 250 PIPELINING"
#define CHUNKS    HELLO, "S 250-mx.example", "S 250-PIPELINING", "S 250 CHUNKING"
#define MAIL_A    "C MAIL FROM:<a@s.example>"
#define MAIL_B    "C MAIL FROM:<b@s.example>"
#define RCPT_R    "C RCPT TO:<r@d.example>"
#define GROUP_A   MAIL_A, RCPT_R, "C DATA"
#define YES3      "S 250 ok", "S 250 ok", "S 354 go"
#define BYE       "C QUIT", "S 221 bye"
#define ORDERLY   "\nover: delivered queue 0"
#define SENT_A    "A+: delivered dot 250" ORDERLY

static void play(const struct script_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        script_play_every_way(&cases[i]);
}

/* ---- stuffing ---- */

static const struct {
    const char *body, *wire;
} stuffed[] = {
    {"", ""},
    {".", ".."},
    {"..", "..."},
    {".\r\n", "..\r\n"},
    {"a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n"},
    {".\r\n.\r\n.\r\n", "..\r\n..\r\n..\r\n"},
    {"a.b\r\n..c\r\n. \r\n.d.", "a.b\r\n...c\r\n.. \r\n..d."},
    {"\r\n.", "\r\n.."},
    {"\n.\n", "\n..\n"}, /* no such line may leave us; if one did, its dot would not stand alone */
    {"a\r.b\r\n", "a\r.b\r\n"},
};

static void dots_are_doubled_however_the_body_is_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(stuffed); i++) {
        size_t len = strlen(stuffed[i].body);
        for (size_t cut = 0; cut <= len; cut++) {
            for (size_t cut2 = cut; cut2 <= len; cut2++) {
                BUF_LOCAL(out);
                bool line_start = true;
                client_stuff(&out, bytes_make(stuffed[i].body, cut), &line_start);
                client_stuff(&out, bytes_make(stuffed[i].body + cut, cut2 - cut), &line_start);
                client_stuff(&out, bytes_of(stuffed[i].body + cut2), &line_start);
                assert_string_equal(buf_str(&out), stuffed[i].wire);
            }
        }
    }
}

static void dots_are_doubled_on_the_way(void **state)
{
    (void)state;
    static const struct script_message mem[] = {
        {.sender = "a@s.example",
         .rcpts = {"r@d.example"},
         .body = ".\r\n.a\r\nb.\r\n..\r\n",
         .body_flags = BODY_DOTS},
        {0},
    };
    static const struct script_message disk[] = {
        {.sender = "a@s.example",
         .rcpts = {"r@d.example"},
         .body = ".\r\n.a\r\nb.\r\n..\r\n",
         .body_flags = BODY_DOTS,
         .on_disk = true},
        {0},
    };
    static const struct script_message empty[] = {
        {.sender = "a@s.example", .rcpts = {"r@d.example"}, .body = ""},
        {0},
    };
    static const struct script_message no_end[] = {
        {.sender = "a@s.example", .rcpts = {"r@d.example"}, .body = "no line end"},
        {0},
    };
    const struct script_case cases[] = {
        {.name = "in memory",
         .messages = mem,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, YES3, "C ..", "C ..a", "C b.", "C ...", "C .", "S 250 ok", BYE),
         .want = SENT_A},
        {.name = "on disk",
         .messages = disk,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, YES3, "C ..", "C ..a", "C b.", "C ...", "C .", "S 250 ok", BYE),
         .want = SENT_A},
        {.name = "BDAT does not double them",
         .messages = mem,
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "C BDAT 15 LAST", "C .", "C .a", "C b.", "C ..", "S 250 ok",
                        "S 250 ok", "S 250 ok", BYE),
         .want = SENT_A},
        {.name = "an empty body",
         .messages = empty,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, YES3, "C .", "S 250 ok", BYE),
         .want = SENT_A},
        {.name = "an empty body by BDAT",
         .messages = empty,
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "C BDAT 0 LAST", "S 250 ok", "S 250 ok", "S 250 ok", BYE),
         .want = SENT_A},
        {.name = "a body that lost its last line end",
         .messages = no_end,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(PIPELINES, GROUP_A, YES3, "C no line end", "C .", "S 250 ok", BYE),
         .want = SENT_A},
    };
    play(cases, COUNT_OF(cases));
}

/* ---- a pretend connection for what a script cannot show: steps, memory, octets ---- */

struct pretend {
    struct smtp_client *c;
    struct smtp_txn txn;
    struct message m;
    struct rcpt rcpt;
    struct outcome outcome;
    bool done;
    const char *octets; /* of a body on disk */
    size_t read_most;
    uint64_t fail_at;
};

static void pretend_ehlo(void *arg, const struct smtp_offer *offer)
{
    struct pretend *p = arg;

    (void)offer;
    smtp_client_go_on(p->c, 1);
}

static void pretend_done(void *arg, struct smtp_txn *t)
{
    struct pretend *p = arg;

    (void)t;
    p->done = true;
}

static enum err pretend_read(void *arg, const struct body *b, uint64_t from, size_t len, char *out)
{
    struct pretend *p = arg;

    assert_true(from + len <= b->size_bytes);
    assert_true(len <= CLIENT_FILL_BYTES);
    if (p->fail_at && from + len > p->fail_at)
        return ERR_CORRUPT;
    memcpy(out, p->octets + from, len);
    p->read_most = MAX_OF(p->read_most, len);
    return OK;
}

static void pretend_open(struct pretend *p, struct body *body, bool chunking)
{
    struct smtp_client_config config = {.ehlo_name = "me.example",
                                        .pipelining = SMTP_PIPELINING_COMMANDS,
                                        .use_chunking = chunking,
                                        .body_read = pretend_read,
                                        .body_read_arg = p,
                                        .events = {.on_ehlo = pretend_ehlo, .on_txn_done = pretend_done},
                                        .arg = p};

    p->rcpt.address = "r@d.example";
    p->m = (struct message){.sender = "a@s.example", .body = body, .rcpts = &p->rcpt, .rcpt_count = 1};
    p->txn = (struct smtp_txn){.message = &p->m, .rcpts = &p->rcpt, .rcpt_count = 1, .outcomes = &p->outcome};
    p->c = smtp_client_create(&config);
    smtp_client_connected(p->c, 1);
    smtp_client_receive(p->c, BYTES("220 mx\r\n"), 1);
    smtp_client_receive(p->c, BYTES("250-mx\r\n250-CHUNKING\r\n250 PIPELINING\r\n"), 1);
    smtp_client_submit(p->c, &p->txn, 1);
    outq_consume(smtp_client_output(p->c), smtp_client_output(p->c)->len);
    smtp_client_receive(p->c, BYTES("250 ok\r\n250 ok\r\n"), 1);
}

/* Takes at most `step` octets at a time, fills as an owner does; returns the most that ever waited. */
static size_t drain_by(struct pretend *p, size_t step, struct buf *said)
{
    struct outq *out = smtp_client_output(p->c);
    size_t most = 0;

    for (;;) {
        if (out->len < CLIENT_FILL_BYTES)
            smtp_client_fill(p->c, 1);
        most = MAX_OF(most, out->len);
        struct bytes s = bytes_first(outq_front(out), step);
        if (!s.len)
            return most;
        buf_put(said, s);
        size_t n = s.len;
        outq_consume(out, n);
        smtp_client_sent(p->c, n, 1);
    }
}

static char *make_octets(size_t size)
{
    char *octets = mem_alloc(size);

    for (size_t i = 0; i < size; i++)
        octets[i] = "abc\r\n.x\r\n..\r\n"[i % 13];
    memcpy(octets + size - 2, "\r\n", 2);
    return octets;
}

static void bodies_of_every_size_go_whole_in_bounded_memory(void **state)
{
    (void)state;
    static const size_t sizes[] = {2, 3, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 131073, 300001};
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        for (unsigned way = 0; way < 6; way++) {
            bool disk = way & 1, dots = way < 4, chunking = way >= 4;
            char *octets = make_octets(sizes[i]);
            if (!dots)
                for (size_t k = 0; k < sizes[i]; k++)
                    octets[k] = octets[k] == '.' ? 'o' : octets[k];
            struct body *body = body_create(disk ? NULL : mem_dup(octets, sizes[i]), sizes[i]);
            body->flags = dots ? BODY_DOTS : 0;
            struct pretend p = {.octets = octets};
            BUF_LOCAL(said);
            BUF_LOCAL(want);
            pretend_open(&p, body, chunking);
            if (!chunking)
                smtp_client_receive(p.c, BYTES("354 go\r\n"), 1);
            size_t most = drain_by(&p, way & 2 ? 1 + sizes[i] / 7 : 100000, &said);
            bool line_start = true;
            if (chunking && !disk) {
                assert_int_equal(said.len, 0); /* it went together with MAIL and RCPT */
            } else if (chunking) {
                buf_putf(&want, "BDAT %zu LAST\r\n", sizes[i]);
                buf_put(&want, bytes_make(octets, sizes[i]));
                assert_true(bytes_eq(buf_bytes(&said), buf_bytes(&want)));
            } else {
                client_stuff(&want, bytes_make(octets, sizes[i]), &line_start);
                buf_puts(&want, ".\r\n");
                assert_true(bytes_eq(buf_bytes(&said), buf_bytes(&want)));
            }
            if (disk || dots)
                assert_true(most <= 4 * CLIENT_FILL_BYTES);
            smtp_client_receive(p.c, BYTES("250 ok\r\n"), 1);
            assert_true(p.done);
            assert_int_equal(p.outcome.kind, OUTCOME_DELIVERED);
            assert_true(p.txn.body_sent);
            smtp_client_destroy(p.c);
            assert_int_equal(atomic_load(&body->refs), 1);
            body_unref(body);
            mem_free(octets);
        }
    }
}

static const struct script_message big[] = {
    {.sender = "a@s.example",
     .rcpts = {"r@d.example"},
     .body = "",
     .on_disk = true,
     .pretend_bytes = 3000000},
    {0},
};
static const struct script_message even[] = {
    {.sender = "a@s.example",
     .rcpts = {"r@d.example"},
     .body = "",
     .on_disk = true,
     .pretend_bytes = 2097152},
    {0},
};

static void big_bodies_go_in_chunks_of_a_mebibyte(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "pipelined once the recipients are known",
         .messages = big,
         .use_chunking = true,
         .one_way = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "S 250 ok", "S 250 ok", "C BDAT 1048576", "= 1048576",
                        "C BDAT 1048576", "= 1048576", "C BDAT 902848 LAST", "= 902848", "S 250 got",
                        "S 250 got", "S 250 ok", BYE),
         .want = SENT_A},
        {.name = "one at a time without PIPELINING",
         .messages = big,
         .use_chunking = true,
         .one_way = true,
         .lines = LINES(HELLO, "S 250-mx", "S 250 CHUNKING", MAIL_A, "S 250 ok", RCPT_R, "S 250 ok",
                        "C BDAT 1048576", "= 1048576", "S 250 got", "C BDAT 1048576", "= 1048576",
                        "S 250 got", "C BDAT 902848 LAST", "= 902848", "S 250 ok", BYE),
         .want = SENT_A},
        {.name = "the last chunk is not empty",
         .messages = even,
         .use_chunking = true,
         .one_way = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "S 250 ok", "S 250 ok", "C BDAT 1048576", "= 1048576",
                        "C BDAT 1048576 LAST", "= 1048576", "S 250 got", "S 250 ok", BYE),
         .want = SENT_A},
        {.name = "no recipient: no octet",
         .messages = big,
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "S 250 ok", "S 550 no", BYE),
         .want = "A: bounced rcpt 550" ORDERLY},
    };
    play(cases, COUNT_OF(cases));
}

static void a_refused_chunk_settles_the_message(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "a chunk refused, the rest being said",
         .messages = big,
         .use_chunking = true,
         .one_way = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "S 250 ok", "S 250 ok", "C BDAT 1048576", "= 1048576",
                        "C BDAT 1048576", "= 1048576", "C BDAT 902848 LAST", "= 902848",
                        "S 552 5.3.4 too big", "S 503 no", "S 503 no", BYE),
         .want = "A+: bounced data 552 5.3.4" ORDERLY},
        {.name = "a chunk refused while it is being said: its rest cannot be unsaid",
         .messages = big,
         .use_chunking = true,
         .one_way = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "hold", "S 250 ok", "S 250 ok", "hold", "S 552 5.3.4 too big",
                        "C BDAT 1048576", "= 65536"),
         .want = "A: bounced data 552 5.3.4\nover: deferred dot 451 4.5.0"},
        {.name = "3yz to a chunk",
         .messages = big,
         .use_chunking = true,
         .one_way = true,
         .lines = LINES(HELLO, "S 250-mx", "S 250 CHUNKING", MAIL_A, "S 250 ok", RCPT_R, "S 250 ok",
                        "C BDAT 1048576", "= 1048576", "S 354 go"),
         .want = "A: deferred dot 451 4.5.0\nover: deferred dot 451 4.5.0"},
        {.name = "a chunk refused without PIPELINING: no further one",
         .messages = big,
         .use_chunking = true,
         .one_way = true,
         .lines = LINES(HELLO, "S 250-mx", "S 250 CHUNKING", MAIL_A, "S 250 ok", RCPT_R, "S 250 ok",
                        "C BDAT 1048576", "= 1048576", "S 452 4.3.1 no room", BYE),
         .want = "A: deferred data 452 4.3.1" ORDERLY},
    };
    play(cases, COUNT_OF(cases));
}

static const struct script_message two[] = {
    {.sender = "a@s.example", .rcpts = {"r@d.example"}, .body = "First.\r\n"},
    {.sender = "b@s.example", .rcpts = {"r@d.example"}, .body = "Second.\r\n"},
    {0},
};
static const struct script_message mixed[] = {
    {.sender = "a@s.example", .rcpts = {"r1@d.example", "r2@d.example"}, .body = "First.\r\n"},
    {0},
};

static void bdat_goes_with_its_commands(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "the first in one write and one round trip, the next by DATA",
         .messages = two,
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines =
             LINES(CHUNKS, MAIL_A, RCPT_R, "C BDAT 8 LAST", "C First.", "S 250 ok", "S 250 ok",
                   "S 250 took A", MAIL_B, RCPT_R, "C DATA", YES3, "C Second.", "C .", "S 250 took B", BYE),
         .want = "A+: delivered dot 250\nB+: delivered dot 250" ORDERLY},
        {.name = "without PIPELINING it saves the DATA of each",
         .messages = two,
         .use_chunking = true,
         .lines = LINES(HELLO, "S 250-mx", "S 250 CHUNKING", MAIL_A, "S 250 ok", RCPT_R, "S 250 ok",
                        "C BDAT 8 LAST", "C First.", "S 250 took A", MAIL_B, "S 250 ok", RCPT_R, "S 250 ok",
                        "C BDAT 9 LAST", "C Second.", "S 250 took B", BYE),
         .want = "A+: delivered dot 250\nB+: delivered dot 250" ORDERLY},
        {.name = "a binary one by BDAT wherever it stands, once the recipients are known",
         .messages = (const struct script_message[]){two[0],
                                                     {.sender = "b@s.example",
                                                      .rcpts = {"r@d.example"},
                                                      .body = "Second.\r\n",
                                                      .body_flags = BODY_BINARY},
                                                     {0}},
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(HELLO, "S 250-mx", "S 250-PIPELINING", "S 250-BINARYMIME", "S 250 CHUNKING", MAIL_A,
                        RCPT_R, "C BDAT 8 LAST", "C First.", "S 250 ok", "S 250 ok", "S 250 took A",
                        MAIL_B " BODY=BINARYMIME", RCPT_R, "S 250 ok", "S 250 ok", "C BDAT 9 LAST",
                        "C Second.", "S 250 took B", BYE),
         .want = "A+: delivered dot 250\nB+: delivered dot 250" ORDERLY},
        {.name = "CHUNKING offered but not to be used",
         .messages = mixed,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(CHUNKS, MAIL_A, "C RCPT TO:<r1@d.example>", "C RCPT TO:<r2@d.example>", "C DATA",
                        "S 250 ok", "S 250 ok", "S 550 no", "S 354 go", "C First.", "C .", "S 250 ok", BYE),
         .want = "A+: delivered dot 250, bounced rcpt 550" ORDERLY},
    };
    play(cases, COUNT_OF(cases));
}

static const struct script_message long_one[] = {
    /* two blocks and a line */
    {.sender = "a@s.example",
     .rcpts = {"r@d.example"},
     .body = "",
     .on_disk = true,
     .pretend_bytes = 2 * 65536 + 64},
    {0},
};

static void an_end_that_is_held_waits_and_the_rest_goes_on(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "the message goes with its dot, and the next commands behind it",
         .messages = two,
         .keeps = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines =
             LINES(PIPELINES, GROUP_A, YES3, "kept", "release", "C First.", "C .", MAIL_B, RCPT_R, "C DATA",
                   "S 250 took A", YES3, "kept", "release", "C Second.", "C .", "S 250 took B", BYE),
         .want = "A+: delivered dot 250\nB+: delivered dot 250" ORDERLY},
        {.name = "released before the 354, nothing is late",
         .messages = two,
         .keeps = true,
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 250 ok", "release", RCPT_R, "S 250 ok", "C DATA",
                        "S 354 go", "C First.", "C .", "S 250 took A", MAIL_B, "S 250 ok", RCPT_R, "S 250 ok",
                        "C DATA", "S 354 go", "kept", "release", "C Second.", "C .", "S 250 took B", BYE),
         .want = "A+: delivered dot 250\nB+: delivered dot 250" ORDERLY},
        {.name = "of a long one all goes but the last block",
         .messages = long_one,
         .keeps = true,
         .one_way = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines =
             LINES(PIPELINES, GROUP_A, YES3, "= 131072", "kept", "release", "= 64", "C .", "S 250 ok", BYE),
         .want = SENT_A},
        {.name = "no BDAT LAST",
         .messages = two,
         .keeps = true,
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "S 250 ok", "S 250 ok", "kept", "release", "C BDAT 8 LAST",
                        "C First.", "S 250 took A", MAIL_B, RCPT_R, "C DATA", YES3, "kept", "release",
                        "C Second.", "C .", "S 250 took B", BYE),
         .want = "A+: delivered dot 250\nB+: delivered dot 250" ORDERLY},
        {.name = "of many chunks all but the last",
         .messages = even,
         .keeps = true,
         .use_chunking = true,
         .one_way = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "S 250 ok", "S 250 ok", "C BDAT 1048576", "= 1048576",
                        "S 250 got", "kept", "release", "C BDAT 1048576 LAST", "= 1048576", "S 250 ok", BYE),
         .want = SENT_A},
        {.name = "lost meanwhile: the peer cannot have it",
         .keeps = true,
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 250 ok", RCPT_R, "S 250 ok", "C DATA", "S 354 go",
                        "kept", "close"),
         .want = "A: deferred data 421 4.4.2\nover: deferred data 421 4.4.2"},
        {.name = "a peer that closes out of turn is heard",
         .keeps = true,
         .lines = LINES(HELLO, "S 250 mx", MAIL_A, "S 250 ok", RCPT_R, "S 250 ok", "C DATA", "S 354 go",
                        "kept", "S 421 4.4.2 too slow"),
         .want = "A: deferred data 421 4.4.2\nover: deferred data 421 4.4.2"},
    };
    play(cases, COUNT_OF(cases));
}

static void the_replies_to_bdat_tell_about_each_recipient(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "nobody accepted",
         .messages = mixed,
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines =
             LINES(CHUNKS, MAIL_A, "C RCPT TO:<r1@d.example>", "C RCPT TO:<r2@d.example>", "C BDAT 8 LAST",
                   "C First.", "S 250 ok", "S 550 no", "S 450 no", "S 503 5.5.1 no recipients", BYE),
         .want = "A+: bounced rcpt 550, deferred rcpt 450" ORDERLY},
        {.name = "MAIL refused",
         .messages = mixed,
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines =
             LINES(CHUNKS, MAIL_A, "C RCPT TO:<r1@d.example>", "C RCPT TO:<r2@d.example>", "C BDAT 8 LAST",
                   "C First.", "S 550 5.7.1 no", "S 503 no", "S 503 no", "S 503 no", BYE),
         .want = "A+: bounced mail 550 5.7.1, bounced mail 550 5.7.1" ORDERLY},
        {.name = "the last reply is the message's",
         .messages = mixed,
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .lines =
             LINES(CHUNKS, MAIL_A, "C RCPT TO:<r1@d.example>", "C RCPT TO:<r2@d.example>", "C BDAT 8 LAST",
                   "C First.", "S 250 ok", "S 550 no", "S 250 ok", "S 554 5.7.1 spam", BYE),
         .want = "A+: bounced rcpt 550, bounced dot 554 5.7.1" ORDERLY},
    };
    play(cases, COUNT_OF(cases));
}

static void after_503_to_bdat_the_same_goes_by_data(void **state)
{
    (void)state;
    const struct script_case cases[] = {
        {.name = "without PIPELINING, 503 is remembered",
         .messages = two,
         .use_chunking = true,
         .lines =
             LINES(HELLO, "S 250-mx", "S 250 CHUNKING", MAIL_A, "S 250 ok", RCPT_R, "S 250 ok",
                   "C BDAT 8 LAST", "C First.", "S 503 no", "C RSET", "S 250 ok", MAIL_A, "S 250 ok", RCPT_R,
                   "S 250 ok", "C DATA", "S 354 go", "C First.", "C .", "S 250 took A", MAIL_B, "S 250 ok",
                   RCPT_R, "S 250 ok", "C DATA", "S 354 go", "C Second.", "C .", "S 250 took B", BYE),
         .want = "A+: delivered dot 250\nB+: delivered dot 250" ORDERLY},
        {.name = "503 to BDAT: the same by DATA, and so from then on",
         .messages = two,
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines =
             LINES(CHUNKS, MAIL_A, RCPT_R, "C BDAT 8 LAST", "C First.", "S 250 ok", "S 250 ok",
                   "S 503 5.5.1 no", "C RSET", GROUP_A, "S 250 ok", YES3, "C First.", "C .", "S 250 took A",
                   MAIL_B, RCPT_R, "C DATA", YES3, "C Second.", "C .", "S 250 took B", BYE),
         .want = "A+: delivered dot 250\nB+: delivered dot 250" ORDERLY},
        {.name = "503, with a refused recipient, which is not asked again",
         .messages = mixed,
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(CHUNKS, MAIL_A, "C RCPT TO:<r1@d.example>", "C RCPT TO:<r2@d.example>",
                        "C BDAT 8 LAST", "C First.", "S 250 ok", "S 550 no", "S 250 ok", "S 503 no", "C RSET",
                        MAIL_A, "C RCPT TO:<r2@d.example>", "C DATA", "S 250 ok", YES3, "C First.", "C .",
                        "S 250 ok", BYE),
         .want = "A+: bounced rcpt 550, delivered dot 250" ORDERLY},
        {.name = "503 twice is an answer",
         .messages = mixed,
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_COMMANDS,
         .lines = LINES(CHUNKS, MAIL_A, "C RCPT TO:<r1@d.example>", "C RCPT TO:<r2@d.example>",
                        "C BDAT 8 LAST", "C First.", "S 250 ok", "S 250 ok", "S 250 ok", "S 503 no", "C RSET",
                        MAIL_A, "C RCPT TO:<r1@d.example>", "C RCPT TO:<r2@d.example>", "C DATA", "S 250 ok",
                        "S 250 ok", "S 250 ok", "S 250 ok", "S 503 no", BYE),
         .want = "A: bounced data 503, bounced data 503" ORDERLY},
        {.name = "502: the body is being read as commands, so away",
         .messages = two,
         .use_chunking = true,
         .pipelining = SMTP_PIPELINING_FULL,
         .one_way = true,
         .lines = LINES(CHUNKS, MAIL_A, RCPT_R, "C BDAT 8 LAST", "C First.", "S 250 ok", "S 250 ok",
                        "S 502 5.5.1 what?", "S 500 5.5.1 First?"),
         .want = "A+: deferred data 502 5.5.1!\nB: deferred queue 0!\nover: deferred dot 451 4.5.0"},
    };
    play(cases, COUNT_OF(cases));
}

static void what_cannot_be_read_never_gets_its_end(void **state)
{
    (void)state;
    for (unsigned chunking = 0; chunking < 2; chunking++) {
        char *octets = make_octets(200000);
        struct body *body = body_create(NULL, 200000);
        struct pretend p = {.octets = octets, .fail_at = 150000};
        BUF_LOCAL(said);
        pretend_open(&p, body, chunking);
        if (!chunking)
            smtp_client_receive(p.c, BYTES("354 go\r\n"), 1);
        drain_by(&p, 100000, &said);
        assert_true(p.done);
        assert_int_equal(p.outcome.kind, OUTCOME_DEFERRED);
        assert_string_equal(p.outcome.enhanced, "4.3.0");
        assert_false(p.txn.body_sent);
        assert_false(p.outcome.in_doubt);
        assert_true(said.len < 200000);
        assert_string_equal(smtp_client_state_name(p.c), "over");
        smtp_client_destroy(p.c);
        body_unref(body);
        mem_free(octets);
    }
}

static void a_destroyed_client_gives_back_what_it_borrowed(void **state)
{
    (void)state;
    char *octets = make_octets(100000);
    struct body *body = body_create(octets, 100000);
    struct pretend p = {0};

    pretend_open(&p, body, false);
    smtp_client_receive(p.c, BYTES("354 go\r\n"), 1);
    assert_int_equal(atomic_load(&body->refs), 2); /* lent to the output, not copied */
    smtp_client_destroy(p.c);
    assert_int_equal(atomic_load(&body->refs), 1);
    body_unref(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dots_are_doubled_however_the_body_is_cut),
        cmocka_unit_test(dots_are_doubled_on_the_way),
        cmocka_unit_test(bodies_of_every_size_go_whole_in_bounded_memory),
        cmocka_unit_test(big_bodies_go_in_chunks_of_a_mebibyte),
        cmocka_unit_test(a_refused_chunk_settles_the_message),
        cmocka_unit_test(bdat_goes_with_its_commands),
        cmocka_unit_test(an_end_that_is_held_waits_and_the_rest_goes_on),
        cmocka_unit_test(the_replies_to_bdat_tell_about_each_recipient),
        cmocka_unit_test(after_503_to_bdat_the_same_goes_by_data),
        cmocka_unit_test(what_cannot_be_read_never_gets_its_end),
        cmocka_unit_test(a_destroyed_client_gives_back_what_it_borrowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

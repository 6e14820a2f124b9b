/* Content on its way through the conversation: room for signatures, conversion to 7-bit, and what comes of
 * both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/engine/dkim/verify.h"
#include "base/mem.h"
#include "engine/dkim/dkim.h"
#include "engine/smtp/server.h"

#define ENVELOPE "MAIL FROM:<x@y.example>\r\nRCPT TO:<c@d.example>\r\n"
#define HEADER   "From: a@example.com\r\nX-Campaign: c1\r\nSubject:\r\n x\r\n"
#define ZWOELF   "Zw\xc3\xb6lf Boxk\xc3\xa4mpfer\r\n"

static char dir[] = "/tmp/hayauma-signing-XXXXXX";
static char *file;
static struct dkim_key *key;
static struct dkim *dkim;

static int make_world(void **state)
{
    char domain[] = "example.com", selector[] = "s1";
    struct dkim_keyring *ring = NULL;
    char *why = NULL;
    (void)state;

    assert_non_null(mkdtemp(dir));
    file = make_key_file(dir, "k", DKIM_ED25519, &key);
    struct conf_dkim_key one = {.domain = domain, .selector = selector, .key = file};
    struct conf conf = {.dkim = {.keys = {&one, 1}, .timestamp = true, .queue = 10, .threads = 1}};
    dkim = dkim_create();
    assert_int_equal(dkim_prepare(&conf, &ring, &why), OK);
    dkim_use(dkim, ring, &conf);
    return 0;
}

static int drop_world(void **state)
{
    (void)state;
    dkim_destroy(dkim);
    dkim_key_destroy(key);
    unlink(file);
    mem_free(file);
    return rmdir(dir);
}

/* The owner of a session: it has every message signed at once. */
struct owner {
    struct smtp_server *server;
    struct smtp_listener_rules rules;
    struct log log;
    struct inbox inbox;
    struct doorbell bell;
    struct buf message; /* the last one */
    unsigned messages, signed_messages;
};

static void on_signed(struct note *note, void *owner)
{
    (void)note;
    (void)owner;
}

static void on_message(void *arg, struct message *m, int64_t not_before_unix)
{
    struct owner *o = arg;
    struct dkim_request r = {.reply_to = &o->inbox, .on_reply = on_signed, .body = m->body};
    (void)not_before_unix;

    o->messages++;
    r.signing = smtp_server_take_signing(o->server);
    if (r.signing) {
        o->signed_messages++;
        assert_int_equal(dkim_post(dkim, &r), OK);
        do
            assert_true(doorbell_wait(&o->bell, 20000));
        while (inbox_drain(&o->inbox) == 0);
        assert_int_equal(r.result, OK);
    }
    assert_null(smtp_server_take_signing(o->server));
    buf_clear(&o->message);
    buf_put(&o->message, bytes_make(m->body->mem, m->body->size_bytes));
    message_unref(m);
    smtp_server_accept_done(o->server, OK, 0);
}

static void on_close(void *arg)
{
    (void)arg;
}

static void owner_init(struct owner *o, bool convert)
{
    *o = (struct owner){.rules = {.host_name = "mx.example",
                                  .message_bytes_max = 4 << 20,
                                  .recipients_max = 10,
                                  .header_bytes_max = 65536,
                                  .errors_max = 100,
                                  .add_date = true,
                                  .add_message_id = true,
                                  .smtputf8 = true,
                                  .convert_8bit = convert}};
    doorbell_init(&o->bell);
    inbox_init(&o->inbox, o, doorbell_ring, &o->bell);
    struct smtp_server_config config = {
        .rules = &o->rules,
        .dkim = dkim,
        .peer = {.trusted = true},
        .log = &o->log,
        .events = {.on_message = on_message, .on_close = on_close},
        .arg = o,
    };
    o->server = smtp_server_create(&config, 0);
    smtp_server_start(o->server, 0);
    smtp_server_receive(o->server, BYTES("EHLO c.example\r\n"), 0);
}

static void owner_fini(struct owner *o)
{
    smtp_server_destroy(o->server);
    buf_fini(&o->message);
    doorbell_fini(&o->bell);
}

static void say(struct owner *o, struct bytes octets, size_t cut)
{
    smtp_server_receive(o->server, bytes_first(octets, cut), 0);
    smtp_server_receive(o->server, bytes_skip(octets, cut), 0);
}

static void check_signed(struct owner *o)
{
    assert_int_equal(verify_message(buf_bytes(&o->message), &key, 1), 1);
    assert_true(bytes_starts(buf_bytes(&o->message), BYTES("DKIM-Signature: v=1; a=ed25519-sha256;")));
    assert_null(strstr(buf_str(&o->message), "X-Campaign"));
    assert_non_null(strstr(buf_str(&o->message), "\r\nReceived: from c.example"));
    assert_non_null(strstr(buf_str(&o->message), "\r\nDate: "));
    assert_non_null(strstr(buf_str(&o->message), "\r\nMessage-ID: <"));
}

static void a_message_is_signed_however_its_octets_came(void **state)
{
    static const char text[] =
        ENVELOPE "DATA\r\n" HEADER "\r\n..dot\r\n  text \t here\r\n\r\n" ZWOELF "\r\n\r\n.\r\n";
    (void)state;

    for (int convert = 0; convert < 2; convert++) {
        for (size_t cut = 0; cut < sizeof(text) - 1; cut++) {
            struct owner o;
            owner_init(&o, convert);
            say(&o, bytes_of(text), cut);
            assert_int_equal(o.messages, 1);
            check_signed(&o);
            assert_non_null(strstr(buf_str(&o.message), "\r\n\r\n.dot\r\n"));
            assert_int_equal(strstr(buf_str(&o.message), ZWOELF) == NULL, convert);
            assert_int_equal(strstr(buf_str(&o.message), "Zw=C3=B6lf Boxk=C3=A4mpfer\r\n") != NULL, convert);
            owner_fini(&o);
        }
    }
}

static void chunks_are_signed_and_the_next_message_begins_anew(void **state)
{
    static const struct {
        const char *said;
        unsigned messages, signed_messages;
    } rows[] = {
        {ENVELOPE "BDAT 29\r\nFrom: a@example.com\r\nX: 1\r\n\r\nBDAT 7 LAST\r\nbody \r\n", 1, 1},
        {ENVELOPE "BDAT 0 LAST\r\n", 2, 1},                            /* nothing, so no From */
        {ENVELOPE "DATA\r\nFrom: a@other.example\r\n\r\n.\r\n", 3, 1}, /* no key */
        {ENVELOPE "DATA\r\nFrom: a@example.com\r\n.\r\n", 4, 2},       /* no body */
        {ENVELOPE "DATA\r\nFrom: a@example.com\r\n\r\n\0\r\n.\r\n", 4,
         2}, /* refused behind its header section */
        {ENVELOPE "BDAT 23\r\nFrom: a@example.com\r\n\r\nRSET\r\n", 4, 2},
        {ENVELOPE "DATA\r\nFrom: a@example.com\r\n\r\nx\r\n.\r\n", 5, 3},
    };
    (void)state;

    for (int convert = 0; convert < 2; convert++) {
        struct owner o;
        owner_init(&o, convert);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
            struct bytes said = bytes_of(rows[i].said);
            if (i == 4)
                said.len = sizeof(ENVELOPE "DATA\r\nFrom: a@example.com\r\n\r\n\0\r\n.\r\n") - 1;
            say(&o, said, said.len / 2);
            assert_int_equal(o.messages, rows[i].messages);
            assert_int_equal(o.signed_messages, rows[i].signed_messages);
        }
        assert_int_equal(verify_message(buf_bytes(&o.message), &key, 1), 1);
        owner_fini(&o);
    }
}

static void what_is_too_large_to_be_held_goes_as_it_is(void **state)
{
    static const size_t sizes[] = {1000, SPOOL_MEMORY_LIMIT - 60, SPOOL_MEMORY_LIMIT - 20,
                                   SPOOL_MEMORY_LIMIT - 1};
    (void)state;

    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        struct owner o;
        BUF_LOCAL(content);
        owner_init(&o, true);
        say(&o, BYTES(ENVELOPE "DATA\r\nFrom: a@example.com\r\n\r\n" ZWOELF), 10);
        while (content.len + strlen(ZWOELF) + 50 < sizes[i])
            buf_puts(&content, "0123456789abcdef0123456789abcdef0123456789abcdef\r\n");
        say(&o, buf_bytes(&content), 12345 % content.len);
        say(&o, BYTES(".\r\n"), 1);
        if (o.messages == 0) { /* no spool to stream to here: it was let go, and found no place */
            assert_true(sizes[i] > SPOOL_MEMORY_LIMIT - 1000);
        } else {
            assert_int_equal(verify_message(buf_bytes(&o.message), &key, 1), 1);
            assert_non_null(strstr(buf_str(&o.message), "Zw=C3=B6lf"));
        }
        owner_fini(&o);
    }
}

static void a_session_that_ends_in_the_middle_leaves_nothing(void **state)
{
    static const char text[] = ENVELOPE "DATA\r\n" HEADER "\r\n" ZWOELF "more\r\n";
    (void)state;

    for (int convert = 0; convert < 2; convert++) {
        for (size_t cut = 0; cut < sizeof(text); cut++) {
            struct owner o;
            owner_init(&o, convert);
            say(&o, bytes_first(bytes_of(text), cut), cut / 2);
            assert_int_equal(o.messages, 0);
            owner_fini(&o);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_signed_however_its_octets_came),
        cmocka_unit_test(chunks_are_signed_and_the_next_message_begins_anew),
        cmocka_unit_test(what_is_too_large_to_be_held_goes_as_it_is),
        cmocka_unit_test(a_session_that_ends_in_the_middle_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, make_world, drop_world);
}

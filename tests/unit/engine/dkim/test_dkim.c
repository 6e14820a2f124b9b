/* From a configuration to signed messages: which are signed, by which keys, over which fields; and the pool.
 */
#include "engine/dkim/dkim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/dkim/keyring.h"
#include "engine/dkim/signing.h"
#include "queue/crc32c.h"
#include "queue/spool_priv.h"
#include "tests/unit/engine/dkim/verify.h"

enum { RSA_1, ED_1, ED_SUB, ED_OTHER, KEYS };

static char dir[] = "/tmp/hayauma-dkim-XXXXXX";
static struct dkim_key *keys[KEYS];
static char *files[KEYS];

static int make_world(void **state)
{
    static const struct {
        const char *name;
        enum dkim_algorithm a;
    } rows[KEYS] = {{"r", DKIM_RSA}, {"e", DKIM_ED25519}, {"s", DKIM_ED25519}, {"o", DKIM_ED25519}};
    (void)state;

    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < KEYS; i++)
        files[i] = make_key_file(dir, rows[i].name, rows[i].a, &keys[i]);
    return 0;
}

static int drop_world(void **state)
{
    (void)state;
    for (int i = 0; i < KEYS; i++) {
        dkim_key_destroy(keys[i]);
        unlink(files[i]);
        mem_free(files[i]);
    }
    return rmdir(dir);
}

/* example.com has two keys, sub.example.com one of its own, other.example one that reaches below it. */
static void load_conf(struct conf *conf, const char *more)
{
    struct yaml_errors errors = {0};
    BUF_LOCAL(text);

    buf_putf(&text,
             "data_dir: /tmp\ndkim:\n  threads: 2\n%s  keys:\n"
             "    - {domain: Example.COM, selector: s1, key: %s}\n"
             "    - {domain: example.com, selector: s2, key: %s}\n"
             "    - {domain: sub.example.com, selector: s3, key: %s}\n"
             "    - {domain: other.example, selector: s4, key: %s, subdomains: true}\n",
             more, files[RSA_1], files[ED_1], files[ED_SUB], files[ED_OTHER]);
    if (conf_load_text("test.yaml", buf_bytes(&text), conf, &errors) != OK)
        fail_msg("%s", errors.items[0].text);
    yaml_errors_fini(&errors);
}

static struct dkim *dkim_with(const char *more)
{
    struct dkim *d = dkim_create();
    struct dkim_keyring *ring = NULL;
    struct conf conf;
    char *why = NULL;

    load_conf(&conf, more);
    assert_int_equal(dkim_prepare(&conf, &ring, &why), OK);
    dkim_use(d, ring, &conf);
    conf_free(&conf);
    return d;
}

#define BODY "\r\nHello  there \r\n\r\n\r\n"

static enum err sign(struct dkim *d, const char *text, struct buf *message)
{
    buf_clear(message);
    buf_puts(message, text);
    return dkim_sign_message(d, message);
}

/* ---- who signs ---- */

static void the_domain_of_from_says_who_signs(void **state)
{
    static const struct {
        const char *header;
        int count;     /* of signatures */
        const char *d; /* of each */
        int keys[2];
    } rows[] = {
        {"From: a@example.com\r\n", 2, "example.com", {RSA_1, ED_1}},
        {"from : A <a@EXAMPLE.com>\r\n", 2, "example.com", {RSA_1, ED_1}},
        {"From: a@sub.example.com\r\n", 1, "sub.example.com", {ED_SUB, ED_SUB}},
        {"From: a@deep.sub.example.com\r\n", 0, "", {0}}, /* neither reaches below */
        {"From: a@else.example.com\r\n", 0, "", {0}},
        {"From: a@other.example\r\n", 1, "other.example", {ED_OTHER, ED_OTHER}},
        {"From: a@b.c.other.example\r\n", 1, "other.example", {ED_OTHER, ED_OTHER}},
        {"From: a@another.example\r\n", 0, "", {0}},
        {"From: a@example\r\n", 0, "", {0}},
        {"Sender: a@example.com\r\n", 0, "", {0}},
        {"From: a@example.com\r\nFrom: b@example.com\r\n", 0, "", {0}}, /* which would a reader be shown? */
        {"", 0, "", {0}},
    };
    struct dkim *d = dkim_with("");
    uint64_t signed_messages = 0, unsigned_messages = 0;
    struct dkim_stats stats;
    (void)state;

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        BUF_LOCAL(text);
        BUF_LOCAL(message);
        BUF_LOCAL(tag);
        buf_putf(&text, "%sSubject: x\r\n%s", rows[i].header, BODY);
        enum err e = sign(d, buf_str(&text), &message);
        assert_int_equal(e, rows[i].count ? OK : ERR_NOT_FOUND);
        *(rows[i].count ? &signed_messages : &unsigned_messages) += 1;
        assert_true(bytes_iends(buf_bytes(&message), buf_bytes(&text)));
        if (e) {
            assert_int_equal(message.len, text.len);
            continue;
        }
        struct dkim_key *const mine[] = {keys[rows[i].keys[0]], keys[rows[i].keys[1]]};
        assert_int_equal(verify_message(buf_bytes(&message), mine, 2), rows[i].count);
        message_tag(buf_bytes(&message), 0, "d", &tag);
        assert_string_equal(buf_str(&tag), rows[i].d);
    }
    dkim_stats(d, &stats);
    assert_int_equal(stats.signed_messages, signed_messages);
    assert_int_equal(stats.unsigned_messages, unsigned_messages);
    assert_int_equal(stats.failed_messages, 0);
    assert_int_equal(stats.keys, KEYS);
    dkim_destroy(d);
}

static void an_account_signs_for_its_own_domains_only(void **state)
{
    static const struct {
        const char *domain;
        bool allowed;
    } rows[] = {{NULL, true},
                {"example.com", true},
                {"other.example", false},
                {".com", true},
                {".example.com", false}};
    static const struct bytes header = BYTES("From: a@example.com\r\n");
    struct dkim *d = dkim_with("");
    (void)state;

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char *domain = mem_strdup(rows[i].domain);
        char name[] = "app";
        struct account account = {
            .name = name, .sender_domains = &domain, .sender_domain_count = domain != NULL};
        struct dkim_signing *s = dkim_signing_begin(d, &header, 1, &account);
        assert_int_equal(s != NULL, rows[i].allowed);
        dkim_signing_destroy(s);
        mem_free(domain);
    }
    dkim_destroy(d);
}

static void a_daemon_without_keys_signs_nothing(void **state)
{
    struct dkim *d = dkim_create();
    struct dkim_stats stats;
    BUF_LOCAL(message);
    (void)state;

    assert_int_equal(sign(d, "From: a@example.com\r\n\r\n", &message), ERR_NOT_FOUND);
    dkim_stats(d, &stats);
    assert_int_equal(stats.unsigned_messages, 1);
    assert_int_equal(stats.threads, 0);
    dkim_destroy(d);
}

/* ---- what is signed ---- */

static void fields_are_named_as_they_stand_and_some_once_more(void **state)
{
    static const struct {
        const char *more, *header, *want;
    } rows[] = {
        {"", "From: a@example.com\r\n", "From:From:To:Cc:Subject:Date:Message-ID:Reply-To:Content-Type"},
        {"", "To: b\r\nTo: c\r\nFrom: a@example.com\r\nX-Other: y\r\nReceived: z\r\n",
         "From:From:To:To:To:Cc:Subject:Date:Message-ID:Reply-To:Content-Type"},
        {"",
         "From: a@example.com\r\nLIST-UNSUBSCRIBE: <https://x.example>\r\n"
         "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nList-Id: <x>\r\nSender: b\r\n",
         "From:From:To:Cc:Subject:Date:Message-ID:Reply-To:Content-Type:Sender:List-Unsubscribe:List-"
         "Unsubscribe:"
         "List-Unsubscribe-Post:List-Unsubscribe-Post:List-Id"},
        {"  headers: [Subject, X-Shop]\n", "Subject: x\r\nFrom: a@example.com\r\nx-shop: 1\r\nTo: b\r\n",
         "From:From:Subject:X-Shop"},
        {"  headers: [subject]\n  oversign: [SUBJECT, Cc]\n", "Subject: x\r\nFrom: a@example.com\r\n",
         "From:From:subject:subject:Cc"},
        {"  oversign: [Sender]\n", "From: a@example.com\r\n",
         "From:From:To:Cc:Subject:Date:Message-ID:Reply-To:Content-Type:Sender"},
    };
    struct dkim_key *const mine[] = {keys[RSA_1], keys[ED_1]};
    (void)state;

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct dkim *d = dkim_with(rows[i].more);
        BUF_LOCAL(text);
        BUF_LOCAL(message);
        BUF_LOCAL(h);
        buf_putf(&text, "%s" BODY, rows[i].header);
        assert_int_equal(sign(d, buf_str(&text), &message), OK);
        assert_int_equal(verify_message(buf_bytes(&message), mine, 2), 2);
        message_tag(buf_bytes(&message), 1, "h", &h);
        assert_string_equal(buf_str(&h), rows[i].want);
        dkim_destroy(d);
    }
}

static void times_are_told_as_configured(void **state)
{
    static const struct {
        const char *more;
        bool t, x;
    } rows[] = {{"", true, false}, {"  timestamp: false\n", false, false}, {"  expire: 7d\n", true, true}};
    (void)state;

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct dkim *d = dkim_with(rows[i].more);
        BUF_LOCAL(message);
        BUF_LOCAL(t);
        BUF_LOCAL(x);
        BUF_LOCAL(l);
        assert_int_equal(sign(d, "From: a@example.com\r\n" BODY, &message), OK);
        message_tag(buf_bytes(&message), 0, "t", &t);
        message_tag(buf_bytes(&message), 0, "x", &x);
        message_tag(buf_bytes(&message), 0, "l", &l);
        assert_int_equal(t.len > 0, rows[i].t);
        assert_int_equal(x.len > 0, rows[i].x);
        assert_int_equal(l.len, 0);
        if (rows[i].x)
            assert_int_equal(atoll(buf_str(&x)) - atoll(buf_str(&t)), 7 * 86400);
        dkim_destroy(d);
    }
}

static void no_line_of_ours_is_long_or_begins_with_a_dot(void **state)
{
    struct dkim *d = dkim_with("");
    BUF_LOCAL(text);
    BUF_LOCAL(message);
    (void)state;

    buf_puts(&text, "From: a@example.com\r\n");
    for (int i = 0; i < 300; i++)
        buf_puts(&text, "Cc: b\r\n");
    buf_puts(&text, BODY);
    assert_int_equal(sign(d, buf_str(&text), &message), OK);
    struct dkim_key *const mine[] = {keys[RSA_1], keys[ED_1]};
    assert_int_equal(verify_message(buf_bytes(&message), mine, 2), 2);
    for (struct bytes rest = bytes_first(buf_bytes(&message), message.len - text.len); rest.len;) {
        size_t line = bytes_find(rest, '\n') + 1;
        assert_in_range(line, 3, 80);
        assert_true(rest.at[0] == 'D' || rest.at[0] == '\t');
        assert_true(rest.at[line - 2] == '\r');
        rest = bytes_skip(rest, line);
    }
    dkim_destroy(d);
}

static void a_header_section_of_a_thousand_recipients_fields_goes_unsigned(void **state)
{
    struct dkim *d = dkim_with("");
    BUF_LOCAL(text);
    BUF_LOCAL(message);
    (void)state;

    for (int i = 0; i < 1000; i++)
        buf_puts(&text, "To: b\r\n");
    buf_puts(&text, "From: a@example.com\r\n" BODY);
    assert_int_equal(sign(d, buf_str(&text), &message), ERR_NOT_FOUND);
    assert_int_equal(message.len, text.len);
    dkim_destroy(d);
}

/* ---- keys that are changed or wrong ---- */

static void a_bad_key_is_told_and_the_old_ones_stay(void **state)
{
    struct dkim *d = dkim_with("");
    struct dkim_keyring *ring = NULL;
    struct conf conf;
    char *why = NULL, *file;
    BUF_LOCAL(message);
    (void)state;

    load_conf(&conf, "");
    struct conf_dkim_key *entries = conf.dkim.keys.items;
    file = entries[1].key;
    entries[1].key = text_format("%s/none.pem", dir);
    assert_int_equal(dkim_prepare(&conf, &ring, &why), ERR_NOT_FOUND);
    assert_non_null(strstr(why, "none.pem"));
    mem_free(why);
    mem_free(entries[1].key);
    entries[1].key = mem_strdup(entries[0].key); /* two RSA keys of one domain */
    assert_int_equal(dkim_prepare(&conf, &ring, &why), ERR_INVALID);
    assert_non_null(strstr(why, "example.com has two rsa keys, s1 and s2"));
    mem_free(why);
    mem_free(entries[1].key);
    entries[1].key = file;
    assert_null(ring);
    assert_int_equal(sign(d, "From: a@example.com\r\n" BODY, &message), OK);
    conf_free(&conf);
    dkim_destroy(d);
}

static void a_message_keeps_the_keys_it_began_with(void **state)
{
    static const struct bytes header = BYTES("From: a@example.com\r\n");
    struct dkim *d = dkim_with("");
    struct dkim_signing *s = dkim_signing_begin(d, &header, 1, NULL);
    struct dkim_keyring *ring = NULL;
    struct conf conf;
    char *why = NULL;
    BUF_LOCAL(message);
    (void)state;

    load_conf(&conf, "");
    struct conf_tables all = conf.dkim.keys;
    conf.dkim.keys.count = 0;
    assert_int_equal(dkim_prepare(&conf, &ring, &why), OK);
    dkim_use(d, ring, &conf);
    conf.dkim.keys = all;
    conf_free(&conf);
    assert_int_equal(sign(d, "From: a@example.com\r\n" BODY, &message), ERR_NOT_FOUND);
    dkim_signing_body(s, BYTES("Hello\r\n"));
    dkim_signing_seal(s);
    assert_int_equal(dkim_signing_sign(s), OK);
    buf_clear(&message);
    buf_put(&message, dkim_signing_fields(s));
    buf_puts(&message, "From: a@example.com\r\n\r\nHello\r\n");
    struct dkim_key *const mine[] = {keys[RSA_1], keys[ED_1]};
    assert_int_equal(verify_message(buf_bytes(&message), mine, 2), 2);
    dkim_signing_destroy(s);
    dkim_destroy(d);
}

/* ---- the pool ---- */

struct asker {
    struct inbox inbox;
    struct doorbell bell;
    size_t answered;
};

struct order {
    struct dkim_request request;
    struct asker *asker;
};

static void on_reply(struct note *note, void *owner)
{
    struct asker *a = owner;
    (void)note;

    a->answered++;
}

static void asker_init(struct asker *a)
{
    *a = (struct asker){.answered = 0};
    doorbell_init(&a->bell);
    inbox_init(&a->inbox, a, doorbell_ring, &a->bell);
}

static void wait_for(struct asker *a, size_t count)
{
    while (a->answered < count) {
        assert_true(doorbell_wait(&a->bell, 20000));
        inbox_drain(&a->inbox);
    }
}

/* A message as the receiving side makes it: room first, and then the octets run by run. */
static void begin_order(struct dkim *d, struct spool *spool, size_t body_bytes, struct order *o,
                        struct asker *a)
{
    static const struct bytes header = BYTES("From: a@example.com\r\nSubject:\r\n x\r\n");
    struct body_writer *w = body_writer_create(spool);
    struct body *body = NULL;
    char line[] = "line 0000000 of  the body \t\r\n"; /* as long as those that are printed over it */

    *o = (struct order){.asker = a};
    struct dkim_signing *s = dkim_signing_begin(d, &header, 1, NULL);
    assert_non_null(s);
    assert_int_equal(body_writer_put(w, dkim_signing_fields(s)), OK);
    assert_int_equal(body_writer_put(w, header), OK);
    assert_int_equal(body_writer_put(w, BYTES("\r\n")), OK);
    for (size_t n = 0; n < body_bytes; n += sizeof(line) - 1) {
        snprintf(line, sizeof(line), "line %07u of  the body \t\r\n", (unsigned)(n % 10000000));
        dkim_signing_body(s, bytes_of(line));
        assert_int_equal(body_writer_put(w, bytes_of(line)), OK);
    }
    assert_int_equal(body_writer_finish(w, &body), OK);
    o->request = (struct dkim_request){
        .reply_to = &a->inbox, .on_reply = on_reply, .signing = s, .body = body, .spool = spool};
}

static void check_order(struct spool *spool, struct order *o)
{
    struct dkim_key *const mine[] = {keys[RSA_1], keys[ED_1]};
    struct body *body = o->request.body;
    char *octets = mem_alloc(body->size_bytes);

    assert_int_equal(o->request.result, OK);
    assert_null(o->request.signing);
    assert_int_equal(spool_read(spool, body, 0, body->size_bytes, octets), OK);
    assert_int_equal(crc32c(0, octets, body->size_bytes), body->checksum);
    assert_int_equal(verify_message(bytes_make(octets, body->size_bytes), mine, 2), 2);
    mem_free(octets);
    body_unref(body);
}

static void fifty_sessions_get_their_signatures_at_once(void **state)
{
    enum { SESSIONS = 50, ROUNDS = 4 };
    static struct order orders[SESSIONS * ROUNDS];
    struct dkim *d = dkim_with("");
    struct dkim_stats stats;
    struct asker a;
    (void)state;

    asker_init(&a);
    for (size_t i = 0; i < COUNT_OF(orders); i++) {
        begin_order(d, NULL, i * 37, &orders[i], &a);
        assert_int_equal(dkim_post(d, &orders[i].request), OK);
    }
    wait_for(&a, COUNT_OF(orders));
    for (size_t i = 0; i < COUNT_OF(orders); i++)
        check_order(NULL, &orders[i]);
    dkim_stats(d, &stats);
    assert_int_equal(stats.signed_messages, COUNT_OF(orders));
    assert_int_equal(stats.signatures, 2 * COUNT_OF(orders));
    assert_int_equal(stats.waiting, 0);
    assert_int_equal(stats.threads, 2);
    assert_true(stats.sign_us_total > 0 && stats.wait_us_total > 0);
    dkim_destroy(d);
    doorbell_fini(&a.bell);
}

static void a_message_in_a_file_gets_its_signature_where_room_was_left(void **state)
{
    static const size_t sizes[] = {100, SPOOL_MEMORY_LIMIT - 2000, SPOOL_MEMORY_LIMIT, 5 << 20};
    struct dkim *d = dkim_with("");
    struct spool *spool = NULL;
    struct order o;
    struct asker a;
    char *why = NULL;
    BUF_LOCAL(command);
    char place[] = "/tmp/hayauma-spool-XXXXXX";
    (void)state;

    assert_non_null(mkdtemp(place));
    buf_putf(&command, "mkdir -p %s/spool", place);
    assert_int_equal(system(buf_str(&command)), 0);
    assert_int_equal(spool_open(place, 64 << 20, &spool, &why), OK);
    asker_init(&a);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        begin_order(d, spool, sizes[i], &o, &a);
        assert_int_equal(o.request.body->mem == NULL, sizes[i] >= SPOOL_MEMORY_LIMIT);
        assert_int_equal(dkim_post(d, &o.request), OK);
        wait_for(&a, i + 1);
        check_order(spool, &o);
    }
    dkim_destroy(d);
    spool_close(spool);
    doorbell_fini(&a.bell);
    buf_clear(&command);
    buf_putf(&command, "rm -rf %s", place);
    assert_int_equal(system(buf_str(&command)), 0);
}

static void own_messages_are_signed_by_the_pool_too(void **state)
{
    struct dkim *d = dkim_with("");
    struct dkim_request r = {.on_reply = on_reply};
    struct asker a;
    (void)state;

    asker_init(&a);
    r.reply_to = &a.inbox;
    buf_puts(&r.message, "From: a@other.example\r\nSubject: report\r\n" BODY);
    assert_int_equal(dkim_post(d, &r), OK);
    wait_for(&a, 1);
    assert_int_equal(r.result, OK);
    assert_int_equal(verify_message(buf_bytes(&r.message), &keys[ED_OTHER], 1), 1);
    buf_clear(&r.message);
    buf_puts(&r.message, "From: a@nobody.example\r\n" BODY);
    assert_int_equal(dkim_post(d, &r), OK);
    wait_for(&a, 2);
    assert_int_equal(r.result, ERR_NOT_FOUND);
    assert_int_equal(r.message.len, strlen("From: a@nobody.example\r\n" BODY));
    buf_fini(&r.message);
    dkim_destroy(d);
    doorbell_fini(&a.bell);
}

static void a_full_queue_says_so_and_what_was_taken_is_answered_even_at_the_end(void **state)
{
    static struct order orders[400];
    struct dkim *d = dkim_with("  queue: 3\n");
    struct dkim_stats stats;
    size_t taken = 0, refused = 0;
    struct asker a;
    (void)state;

    asker_init(&a);
    for (size_t i = 0; i < COUNT_OF(orders); i++)
        begin_order(d, NULL, 10, &orders[i], &a);
    for (size_t i = 0; i < COUNT_OF(orders); i++) {
        enum err e = dkim_post(d, &orders[i].request);
        if (!e) {
            taken++;
            continue;
        }
        assert_int_equal(e, ERR_FULL);
        assert_non_null(orders[i].request.signing); /* still ours */
        dkim_signing_destroy(orders[i].request.signing);
        refused++;
    }
    assert_true(refused > 0 && taken >= 3);
    dkim_stats(d, &stats);
    assert_int_equal(stats.refused_full, refused);
    assert_true(stats.waiting_max <= 3);
    struct dkim_request own[20] = {{.result = OK}}; /* these are never refused */
    for (size_t i = 0; i < COUNT_OF(own); i++, taken++) {
        own[i].reply_to = &a.inbox;
        own[i].on_reply = on_reply;
        own[i].result = ERR_CANCELLED;
        buf_puts(&own[i].message, "From: a@example.com\r\n" BODY);
        dkim_post_always(d, &own[i]);
    }
    dkim_destroy(d);
    inbox_drain(&a.inbox);
    assert_int_equal(a.answered, taken);
    for (size_t i = 0; i < COUNT_OF(own); i++) {
        assert_int_equal(own[i].result, OK);
        buf_fini(&own[i].message);
    }
    for (size_t i = 0; i < COUNT_OF(orders); i++)
        body_unref(orders[i].request.body);
    doorbell_fini(&a.bell);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_domain_of_from_says_who_signs),
        cmocka_unit_test(an_account_signs_for_its_own_domains_only),
        cmocka_unit_test(a_daemon_without_keys_signs_nothing),
        cmocka_unit_test(fields_are_named_as_they_stand_and_some_once_more),
        cmocka_unit_test(times_are_told_as_configured),
        cmocka_unit_test(no_line_of_ours_is_long_or_begins_with_a_dot),
        cmocka_unit_test(a_header_section_of_a_thousand_recipients_fields_goes_unsigned),
        cmocka_unit_test(a_bad_key_is_told_and_the_old_ones_stay),
        cmocka_unit_test(a_message_keeps_the_keys_it_began_with),
        cmocka_unit_test(fifty_sessions_get_their_signatures_at_once),
        cmocka_unit_test(a_message_in_a_file_gets_its_signature_where_room_was_left),
        cmocka_unit_test(own_messages_are_signed_by_the_pool_too),
        cmocka_unit_test(a_full_queue_says_so_and_what_was_taken_is_answered_even_at_the_end),
    };
    return cmocka_run_group_tests(tests, make_world, drop_world);
}

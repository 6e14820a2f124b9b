#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "queue/accounts_priv.h"
#include "queue/leases.h"
#include "queue/message.h"

#include "base/mem.h"

static void ids_ascend_within_a_worker_and_differ_between_workers(void **state)
{
    uint64_t last[3] = {0};

    (void)state;
    for (int i = 0; i < 200000; i++) {
        uint64_t id = message_id_make((unsigned)i % 3);
        assert_true(id > last[i % 3] && id <= INT64_MAX);
        assert_int_equal(id >> 16 & 63, i % 3);
        last[i % 3] = id;
    }
}

static void an_id_is_thirteen_characters_and_reads_back(void **state)
{
    static const uint64_t ids[] = {1, 31, 32, 0x123456789abcdef, INT64_MAX};
    static const char *const bad[] = {"",
                                      "0",
                                      "00000000000001",
                                      "000000000000u",
                                      "8000000000000",
                                      "000000000000l",
                                      "0000000000000",
                                      "00000000000 1"};
    char text[MESSAGE_ID_TEXT];
    uint64_t back;

    (void)state;
    for (size_t i = 0; i < COUNT_OF(ids); i++) {
        assert_int_equal(strlen(message_id_format(ids[i], text)), 13);
        assert_true(message_id_parse(bytes_of(text), &back));
        assert_true(back == ids[i]);
    }
    assert_string_equal(message_id_format(33, text), "0000000000011");
    for (size_t i = 0; i < COUNT_OF(bad); i++)
        assert_false(message_id_parse(bytes_of(bad[i]), &back));
    assert_true(message_id_parse(BYTES("000000000000Z"), &back) && back == 31);
}

static void a_message_is_one_copy_with_equal_domains_side_by_side(void **state)
{
    struct rcpt rcpts[100];
    char addresses[100][40];
    static const char *const domains[] = {"c.example", "a.example", "b.example"};
    struct message from = {.id = 7,
                           .sender = NULL,
                           .campaign = "spring",
                           .rcpt_count = 100,
                           .rcpt_total = 100,
                           .rcpts = rcpts,
                           .body = body_create(mem_strdup("x"), 1)};

    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        snprintf(addresses[i], sizeof(addresses[i]), "user%u@%s", i, domains[i % 3]);
        rcpts[i] = (struct rcpt){
            .no = i, .address = addresses[i], .domain = domains[i % 3], .orcpt = i == 5 ? "o" : NULL};
    }
    struct message *m = message_create(&from);
    body_unref(from.body);
    memset(addresses, '#', sizeof(addresses)); /* nothing may point back */
    assert_string_equal(m->sender, "");
    assert_null(m->envid);
    for (uint32_t i = 0; i < 100; i++) {
        const struct rcpt *r = &m->rcpts[i];
        char want[40];
        snprintf(want, sizeof(want), "user%u@%s", r->no, domains[r->no % 3]);
        assert_string_equal(r->address, want);
        assert_string_equal(r->domain, domains[r->no % 3]);
        if (i && r->domain == m->rcpts[i - 1].domain)
            assert_true(r->no > m->rcpts[i - 1].no); /* stable */
        else if (i)
            assert_true(strcmp(r->domain, m->rcpts[i - 1].domain) > 0);
        assert_int_equal(r->orcpt != NULL, r->no == 5);
    }
    struct job *j = job_create(m, m->rcpts, 34);
    message_unref(m);
    assert_string_equal(j->message->campaign, "spring");
    job_destroy(j);
    job_destroy(NULL);
}

static void leases_agree_with_a_plain_table(void **state)
{
    enum { MESSAGES = 300, RCPTS = 200 };
    static bool held[MESSAGES][RCPTS];
    struct leases l = {0};
    uint32_t seed = 1;
    size_t count = 0;

    (void)state;
    for (int i = 0; i < 300000; i++) {
        seed = seed * 1664525 + 1013904223;
        uint32_t m = (seed >> 8) % MESSAGES, no = (seed >> 20) % RCPTS;
        no = m % 2 ? no % 3 : no; /* half of the messages stay within one word */
        uint64_t id = ((uint64_t)m + 1) << 22;
        assert_int_equal(leases_has(&l, id, no), held[m][no]);
        if ((seed >> 5) % 5 < (i / 50000 % 2 ? 1U : 4U)) {
            struct lease *e = leases_take(&l, id, no);
            assert_true(e->message_id == id && e->count > 0);
            count += !held[m][no];
            held[m][no] = true;
        } else {
            assert_int_equal(leases_drop(&l, id, no), held[m][no]);
            count -= held[m][no];
            held[m][no] = false;
        }
        assert_int_equal(l.rcpts, count);
    }
    for (uint32_t m = 0; m < MESSAGES; m++)
        for (uint32_t no = 0; no < RCPTS; no++)
            assert_int_equal(leases_drop(&l, ((uint64_t)m + 1) << 22, no), held[m][no]);
    assert_int_equal(l.messages, 0);
    leases_fini(&l);
}

static void accounts_are_found_by_name_and_live_as_long_as_a_reader(void **state)
{
    struct account *list = mem_zalloc(3 * sizeof(*list));
    static const char *const names[] = {"zoe", "amy", "bob"};

    (void)state;
    for (size_t i = 0; i < 3; i++)
        list[i].name = mem_strdup(names[i]);
    struct accounts *a = accounts_create(list, 3, 9);
    struct accounts *mine = accounts_ref(a);
    accounts_unref(a);
    assert_int_equal(accounts_count(mine), 3);
    assert_string_equal(accounts_at(mine, 0)->name, "amy");
    assert_string_equal(accounts_find(mine, BYTES("zoe"))->name, "zoe");
    assert_null(accounts_find(mine, BYTES("zo")));
    assert_int_equal(accounts_generation(mine), 9);
    accounts_unref(mine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_ascend_within_a_worker_and_differ_between_workers),
        cmocka_unit_test(an_id_is_thirteen_characters_and_reads_back),
        cmocka_unit_test(a_message_is_one_copy_with_equal_domains_side_by_side),
        cmocka_unit_test(leases_agree_with_a_plain_table),
        cmocka_unit_test(accounts_are_found_by_name_and_live_as_long_as_a_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

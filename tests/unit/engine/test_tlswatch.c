/* The watch with a real store behind it; the test plays the worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "engine/tlswatch.h"
#include "queue/keep.h"
#include "tests/unit/queue/world.h"

struct watching {
    struct world world;
    struct tls_watch *watch;
    atomic_long open;
};

static void begin(struct watching *t)
{
    world_must_open(&t->world);
    atomic_store(&t->open, tls_downgrades_count(t->world.dir));
    t->watch = tls_watch_create(t->world.store, &t->world.inboxes[0], &t->open);
}

static void end(struct watching *t)
{
    if (!t->watch)
        return;
    tls_watch_flush(t->watch);
    world_close(&t->world);
    tls_watch_destroy(t->watch);
    t->watch = NULL;
}

static int set_up(void **state)
{
    struct watching *t = MEM_NEW(struct watching);

    log_setup(getenv("TEST_LOG") ? 2 : -1, LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
    world_init(&t->world);
    begin(t);
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct watching *t = *state;

    end(t);
    world_fini(&t->world);
    mem_free(t);
    return 0;
}

struct answer {
    bool given;
    enum err e;
    unsigned changed;
    unsigned calls;
};

static void on_known(void *arg, enum err e)
{
    struct answer *a = arg;

    a->given = true;
    a->e = e;
    a->calls++;
}

static void on_changed(void *arg, enum err e, unsigned changed)
{
    on_known(arg, e);
    ((struct answer *)arg)->changed = changed;
}

static struct tls_dest *look_up(struct watching *t, const char *domain)
{
    struct answer a = {0};
    struct tls_dest *d = tls_watch_lookup(t->watch, domain, on_known, &a);

    assert_false(a.given); /* never out of the call itself */
    world_wait(&t->world, &a.given);
    assert_int_equal(a.e, OK);
    assert_int_equal(a.calls, 1);
    return d;
}

static enum tls_watch_says tell(struct tls_dest *d, const char *mx, enum tls_reached reached)
{
    return tls_watch_session(
        d,
        &(struct tls_watched){.mx = mx, .remote = "192.0.2.1:25", .reached = reached, .evidence = "proof"});
}

static enum err change(struct watching *t, enum tls_downgrade_op op, const char *domain, const char *mx,
                       unsigned *changed)
{
    struct answer a = {0};

    tls_downgrades_change(t->watch, op, domain, mx, "operator", on_changed, &a);
    world_wait(&t->world, &a.given);
    *changed = a.changed;
    return a.e;
}

/* From disk, as the API does. */
static char *listed(struct watching *t, const char *domain)
{
    json_t *list;
    BUF_LOCAL(out);

    world_sync(&t->world);
    assert_int_equal(tls_downgrades_list(t->world.dir, domain, &list), OK);
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *o = json_array_get(list, i);
        buf_putf(&out, "%s %s %s>%s %s x%d; ", json_string_value(json_object_get(o, "domain")),
                 json_string_value(json_object_get(o, "mx")), json_string_value(json_object_get(o, "from")),
                 json_string_value(json_object_get(o, "to")), json_string_value(json_object_get(o, "state")),
                 (int)json_integer_value(json_object_get(o, "count")));
    }
    json_decref(list);
    return mem_strdup(buf_str(&out));
}

static void assert_listed(struct watching *t, const char *domain, const char *want)
{
    char *text = listed(t, domain);

    assert_string_equal(text, want);
    mem_free(text);
}

static void nothing_is_said_before_the_state_is_known(void **state)
{
    struct watching *t = *state;
    struct answer a = {0};
    struct tls_dest *d = tls_watch_lookup(t->watch, "a.example", on_known, &a);

    assert_int_equal(tell(d, "mx", TLS_REACHED_CLEAR), TLS_WATCH_UNKNOWN);
    assert_int_equal(tls_watch_expects(d, &(struct tls_watched){.mx = "mx"}), TLS_REACHED_NOTHING);
    world_wait(&t->world, &a.given);
    assert_int_equal(tell(d, "mx", TLS_REACHED_CLEAR), TLS_WATCH_OK);
    tls_watch_release(d);
}

static void a_downgrade_is_in_the_register_and_survives_a_restart(void **state)
{
    struct watching *t = *state;
    struct tls_dest *d = look_up(t, "a.example");
    BUF_LOCAL(text);

    assert_int_equal(tell(d, "mx1", TLS_REACHED_AUTHENTICATED), TLS_WATCH_OK);
    assert_int_equal(tell(d, "mx1", TLS_REACHED_CLEAR), TLS_WATCH_DOWNGRADED);
    assert_int_equal(atomic_load(&t->open), 1);
    assert_listed(t, NULL, "a.example mx1 authenticated>clear open x1; ");
    assert_int_equal(tell(d, "mx1", TLS_REACHED_CLEAR), TLS_WATCH_DOWNGRADED); /* counted, written later */
    tls_watch_text(d, &(struct tls_watched){.mx = "mx1", .reached = TLS_REACHED_CLEAR, .evidence = "502 no"},
                   &text);
    assert_string_equal(buf_str(&text),
                        "mx1 had authenticated TLS before and now has no TLS (502 no); held until "
                        "it is back or `hayauma tls downgrades approve a.example`");
    tls_watch_release(d);
    end(t);

    begin(t);
    assert_int_equal(atomic_load(&t->open), 1);
    assert_listed(t, NULL, "a.example mx1 authenticated>clear open x2; ");
    d = look_up(t, "a.example");
    assert_int_equal(tls_watch_expects(d, &(struct tls_watched){.mx = "mx1"}), TLS_REACHED_AUTHENTICATED);
    assert_int_equal(tell(d, "mx1", TLS_REACHED_ENCRYPTED), TLS_WATCH_DOWNGRADED);
    assert_int_equal(tell(d, "mx1", TLS_REACHED_AUTHENTICATED), TLS_WATCH_OK);
    assert_int_equal(atomic_load(&t->open), 0);
    assert_listed(t, NULL, "a.example mx1 authenticated>clear over x3; ");
    tls_watch_release(d);
}

static void what_was_seen_survives_without_an_entry_too(void **state)
{
    struct watching *t = *state;
    struct tls_dest *d = look_up(t, "b.example");

    assert_int_equal(tell(d, "mx", TLS_REACHED_ENCRYPTED), TLS_WATCH_OK);
    tls_watch_release(d);
    end(t);
    begin(t);
    assert_int_equal(atomic_load(&t->open), 0);
    d = look_up(t, "b.example");
    assert_int_equal(tls_watch_expects(d, &(struct tls_watched){.mx = "mx"}), TLS_REACHED_ENCRYPTED);
    assert_int_equal(tell(d, "mx", TLS_REACHED_CLEAR), TLS_WATCH_DOWNGRADED);
    tls_watch_release(d);
}

static void operators_approve_and_forget_while_delivery_has_the_domain_and_while_not(void **state)
{
    struct watching *t = *state;
    struct tls_dest *d = look_up(t, "c.example");
    unsigned changed;

    (void)tell(d, "mx1", TLS_REACHED_AUTHENTICATED);
    (void)tell(d, "mx1", TLS_REACHED_ENCRYPTED);
    (void)tell(d, "mx2", TLS_REACHED_CLEAR);
    assert_int_equal(change(t, TLS_DOWNGRADE_APPROVE, "c.example", "mx9", &changed), ERR_NOT_FOUND);
    assert_int_equal(change(t, TLS_DOWNGRADE_APPROVE, "c.example", "mx1", &changed), OK);
    assert_int_equal(changed, 1);
    assert_int_equal(tell(d, "mx1", TLS_REACHED_ENCRYPTED), TLS_WATCH_OK); /* the same state, at once */
    assert_int_equal(tell(d, "mx2", TLS_REACHED_CLEAR), TLS_WATCH_DOWNGRADED);
    tls_watch_release(d);
    assert_listed(
        t, "c.example",
        "c.example mx1 authenticated>encrypted approved x2; c.example mx2 authenticated>clear open x2; ");
    assert_int_equal(change(t, TLS_DOWNGRADE_APPROVE, "c.example", NULL, &changed), OK);
    assert_int_equal(changed, 1);
    assert_int_equal(atomic_load(&t->open), 0);
    assert_int_equal(change(t, TLS_DOWNGRADE_APPROVE, "c.example", NULL, &changed), ERR_NOT_FOUND);
    assert_int_equal(change(t, TLS_DOWNGRADE_FORGET, "c.example", NULL, &changed), OK);
    assert_int_equal(change(t, TLS_DOWNGRADE_FORGET, "c.example", NULL, &changed), ERR_NOT_FOUND);
    assert_listed(t, NULL, "");
    d = look_up(t, "c.example");
    assert_int_equal(tell(d, "mx1", TLS_REACHED_CLEAR), TLS_WATCH_OK);
    tls_watch_release(d);
}

static void the_list_is_by_domain_and_one_can_be_asked_for(void **state)
{
    static const char *const domains[] = {"c.example", "a.example", "b.example"};
    struct watching *t = *state;

    for (size_t i = 0; i < COUNT_OF(domains); i++) {
        struct tls_dest *d = look_up(t, domains[i]);
        (void)tell(d, "mx", TLS_REACHED_ENCRYPTED);
        (void)tell(d, "mx", TLS_REACHED_CLEAR);
        tls_watch_release(d);
    }
    assert_listed(t, NULL,
                  "a.example mx encrypted>clear open x1; b.example mx encrypted>clear open x1; "
                  "c.example mx encrypted>clear open x1; ");
    assert_listed(t, "b.example", "b.example mx encrypted>clear open x1; ");
    assert_listed(t, "d.example", "");
    assert_int_equal(tls_downgrades_count(t->world.dir), 3);
}

static void a_handle_that_is_released_is_not_called_back(void **state)
{
    struct watching *t = *state;
    struct answer gone = {0}, there = {0}, again = {0};
    struct tls_dest *first = tls_watch_lookup(t->watch, "d.example", on_known, &gone);
    struct tls_dest *second = tls_watch_lookup(t->watch, "d.example", on_known, &there);

    tls_watch_release(first);
    world_wait(&t->world, &there.given);
    struct tls_dest *third = tls_watch_lookup(t->watch, "d.example", on_known, &again); /* known by now */
    assert_false(again.given);
    world_wait(&t->world, &again.given);
    assert_int_equal(gone.calls, 0);
    assert_int_equal(there.calls, 1);
    assert_int_equal(again.calls, 1);
    tls_watch_release(second);
    tls_watch_release(third);
    tls_watch_release(tls_watch_lookup(t->watch, "e.example", NULL, NULL)); /* under way, and nobody waits */
    world_sync(&t->world);
}

static void a_state_that_cannot_be_read_is_unknown_and_not_absent(void **state)
{
    struct watching *t = *state;
    struct answer a = {0};
    unsigned changed;

    store_keep_set(t->world.store, "tls-seen", "f.example", BYTES("{\"best\":"));
    struct tls_dest *d = tls_watch_lookup(t->watch, "f.example", on_known, &a);
    world_wait(&t->world, &a.given);
    assert_int_equal(a.e, ERR_CORRUPT);
    assert_int_equal(tell(d, "mx", TLS_REACHED_CLEAR), TLS_WATCH_UNKNOWN);
    assert_int_equal(change(t, TLS_DOWNGRADE_APPROVE, "f.example", NULL, &changed), ERR_CORRUPT);
    store_keep_set(t->world.store, "tls-seen", "f.example", BYTES("{\"best\":\"encrypted\"}"));
    tls_watch_release(d);
    d = look_up(t, "f.example"); /* anew */
    assert_int_equal(tell(d, "mx", TLS_REACHED_CLEAR), TLS_WATCH_DOWNGRADED);
    tls_watch_release(d);
}

static void an_end_answers_who_waits(void **state)
{
    struct watching *t = *state;
    struct answer a = {0}, b = {0};
    struct tls_dest *d = tls_watch_lookup(t->watch, "g.example", on_known, &a);

    tls_downgrades_change(t->watch, TLS_DOWNGRADE_FORGET, "h.example", NULL, "operator", on_changed, &b);
    tls_watch_flush(t->watch);
    world_close(&t->world); /* drains the inbox as the engine does */
    assert_false(a.given);  /* delivery is over */
    assert_true(b.given);   /* a person waits */
    assert_true(b.e != OK);
    tls_watch_release(d);
    tls_watch_destroy(t->watch);
    t->watch = NULL;
}

#define WATCHING(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

static enum tls_watch_says relayed(struct tls_dest *d, enum tls_reached reached)
{
    return tls_watch_session(d, &(struct tls_watched){.mx = "relay", .smarthost = true, .reached = reached});
}

static void a_smart_host_is_known_by_what_it_carried_for_others(void **state)
{
    struct watching *t = *state;
    struct tls_dest *a = look_up(t, "a.example"), *b = look_up(t, "b.example"), *c = look_up(t, "c.example");
    unsigned changed;

    assert_int_equal(relayed(a, TLS_REACHED_ENCRYPTED), TLS_WATCH_OK);
    assert_int_equal(tell(b, "relay", TLS_REACHED_CLEAR),
                     TLS_WATCH_OK); /* an MX host of this name is another thing */
    assert_int_equal(relayed(c, TLS_REACHED_CLEAR), TLS_WATCH_DOWNGRADED);
    assert_int_equal(change(t, TLS_DOWNGRADE_APPROVE, "c.example", "relay", &changed), OK);
    assert_int_equal(changed, 1);
    struct tls_dest *d = look_up(t, "d.example");
    assert_int_equal(relayed(d, TLS_REACHED_CLEAR), TLS_WATCH_OK);
    assert_int_equal(relayed(a, TLS_REACHED_CLEAR),
                     TLS_WATCH_DOWNGRADED); /* this one has had better itself */
    struct tls_dest *const all[] = {a, b, c, d};
    for (size_t i = 0; i < COUNT_OF(all); i++)
        tls_watch_release(all[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCHING(a_smart_host_is_known_by_what_it_carried_for_others),
        WATCHING(nothing_is_said_before_the_state_is_known),
        WATCHING(a_downgrade_is_in_the_register_and_survives_a_restart),
        WATCHING(what_was_seen_survives_without_an_entry_too),
        WATCHING(operators_approve_and_forget_while_delivery_has_the_domain_and_while_not),
        WATCHING(the_list_is_by_domain_and_one_can_be_asked_for),
        WATCHING(a_handle_that_is_released_is_not_called_back),
        WATCHING(a_state_that_cannot_be_read_is_unknown_and_not_absent),
        WATCHING(an_end_answers_who_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

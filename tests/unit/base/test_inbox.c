#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/inbox.h"
#include "base/macros.h"

#define SENDERS 4
#define NOTES   20000

struct letter {
    struct note note;
    int sender, number;
};

struct reader {
    struct inbox inbox;
    struct doorbell bell;
    int next[SENDERS]; /* the number that must come next */
    int heard;
    bool in_order;
};

static struct letter letters[SENDERS][NOTES];

static void on_letter(struct note *note, void *owner)
{
    struct letter *l = CONTAINER_OF(note, struct letter, note);
    struct reader *r = owner;

    r->in_order = r->in_order && l->number == r->next[l->sender];
    r->next[l->sender]++;
    r->heard++;
}

static void reader_init(struct reader *r)
{
    *r = (struct reader){.in_order = true};
    doorbell_init(&r->bell);
    inbox_init(&r->inbox, r, doorbell_ring, &r->bell);
}

struct sender {
    struct reader *reader;
    int index;
};

static void *send_all(void *arg)
{
    struct sender *s = arg;

    for (int i = 0; i < NOTES; i++) {
        struct letter *l = &letters[s->index][i];
        *l = (struct letter){{.run = on_letter}, s->index, i};
        inbox_post(&s->reader->inbox, &l->note);
    }
    return NULL;
}

static void notes_of_many_senders_all_arrive_each_senders_in_order(void **state)
{
    struct reader r;
    pthread_t threads[SENDERS];
    struct sender senders[SENDERS];

    reader_init(&r);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){&r, i};
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, &senders[i]), 0);
    }
    while (r.heard < SENDERS * NOTES) {
        /* A lost wake-up would leave notes in the box of a sleeper. */
        if (!doorbell_wait(&r.bell, 20000))
            fail_msg("asleep with %d notes unheard, box %s", SENDERS * NOTES - r.heard,
                     inbox_is_empty(&r.inbox) ? "empty" : "full");
        inbox_drain(&r.inbox);
    }
    assert_true(r.in_order);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    assert_true(inbox_is_empty(&r.inbox));
    doorbell_fini(&r.bell);
}

static int wakes;

static void count_wake(void *arg)
{
    wakes++;
}

static void wake_ups_coalesce(void **state)
{
    struct reader r = {.in_order = true};
    struct letter l[3];

    inbox_init(&r.inbox, &r, count_wake, NULL);
    wakes = 0;
    for (int i = 0; i < 3; i++) {
        l[i] = (struct letter){{.run = on_letter}, 0, i};
        inbox_post(&r.inbox, &l[i].note);
    }
    assert_int_equal(wakes, 1);
    assert_int_equal(inbox_drain(&r.inbox), 3);
    assert_true(r.in_order);
    l[0].number = 3;
    inbox_post(&r.inbox, &l[0].note);
    assert_int_equal(wakes, 2);
    struct note *chain = inbox_take(&r.inbox);
    assert_ptr_equal(chain, &l[0].note);
    assert_null(chain->next);
    assert_null(inbox_take(&r.inbox));
    assert_int_equal(inbox_drain(&r.inbox), 0);
}

static void post_back(struct note *note, void *owner)
{
    struct reader *r = owner;

    if (++r->heard < 5)
        inbox_post(&r->inbox, note); /* the note is ours while it runs */
}

static void a_note_may_be_posted_again_from_its_own_run(void **state)
{
    struct reader r = {.heard = 0};
    struct note note = {.run = post_back};

    inbox_init(&r.inbox, &r, count_wake, NULL);
    inbox_post(&r.inbox, &note);
    assert_int_equal(inbox_drain(&r.inbox), 5);
    assert_int_equal(r.heard, 5);
}

static void a_bell_keeps_its_ring_and_times_out_without(void **state)
{
    struct doorbell d;

    doorbell_init(&d);
    doorbell_ring(&d);
    doorbell_ring(&d);
    assert_true(doorbell_wait(&d, 0));
    assert_false(doorbell_wait(&d, 0));
    uint64_t start_ms = clock_now_ms();
    assert_false(doorbell_wait(&d, 30));
    assert_in_range(clock_now_ms() - start_ms, 29, 5000);
    doorbell_fini(&d);
}

static void *ring_later(void *bell)
{
    usleep(20000);
    doorbell_ring(bell);
    return NULL;
}

static void a_sleeper_is_woken(void **state)
{
    struct doorbell d;
    pthread_t thread;

    doorbell_init(&d);
    assert_int_equal(pthread_create(&thread, NULL, ring_later, &d), 0);
    assert_true(doorbell_wait(&d, -1));
    pthread_join(thread, NULL);
    doorbell_fini(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notes_of_many_senders_all_arrive_each_senders_in_order),
        cmocka_unit_test(wake_ups_coalesce),
        cmocka_unit_test(a_note_may_be_posted_again_from_its_own_run),
        cmocka_unit_test(a_bell_keeps_its_ring_and_times_out_without),
        cmocka_unit_test(a_sleeper_is_woken),
    };

    return cmocka_run_group_tests_name("base/inbox", tests, NULL, NULL);
}

/*
 * What clients do that no program does by mistake: each is counted, and of each kind only some are logged a
 * minute, so that who sends rubbish fills no disk.
 */
#include "engine/submit/submission.h"

#include <string.h>

#define LOGGED_A_MINUTE 10
#define MINUTE_MS       60000

struct attack_kind *attack_kind_of(struct submit *s, const char *what)
{
    for (size_t i = 0; i < COUNT_OF(s->attacks) - 1; i++) {
        if (!s->attacks[i].what)
            s->attacks[i].what = what;
        if (strcmp(s->attacks[i].what, what) == 0)
            return &s->attacks[i];
    }
    struct attack_kind *others = &s->attacks[COUNT_OF(s->attacks) - 1];
    others->what = "other";
    return others;
}

void attack_report(struct submission *c, const char *what, const char *detail)
{
    struct worker *w = c->submit->w;
    struct attack_kind *k = attack_kind_of(c->submit, what);
    uint64_t now = worker_now_ms(w);

    COUNT(w, attacks_in);
    if (now >= k->until_ms) {
        if (k->count > LOGGED_A_MINUTE)
            log_warn(&w->log, "attack.more", LOG_STR("what", what),
                     LOG_INT("not_logged", k->count - LOGGED_A_MINUTE));
        k->until_ms = now + MINUTE_MS;
        k->count = 0;
    }
    if (++k->count <= LOGGED_A_MINUTE)
        log_warn(&c->log, "attack", LOG_STR("what", what), LOG_STR("detail", detail));
}

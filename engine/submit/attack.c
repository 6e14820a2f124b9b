/*
 * What clients do that no program does by mistake: each is counted, and of each kind only some are logged a
 * minute, so that who sends rubbish fills no disk.
 */
#include "engine/submit/submission.h"

#include <string.h>

#include "engine/net/tls.h"

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

bool attack_is_worth_a_line(struct submit *s, const char *what, unsigned most)
{
    struct worker *w = s->w;
    struct attack_kind *k = attack_kind_of(s, what);
    uint64_t now = worker_now_ms(w);

    if (now >= k->until_ms) {
        if (k->count > most)
            log_warn(&w->log, "not_logged", LOG_STR("what", what), LOG_INT("times", k->count - most));
        k->until_ms = now + MINUTE_MS;
        k->count = 0;
    }
    return ++k->count <= most;
}

void attack_report(struct submission *c, const char *what, const char *detail)
{
    COUNT(c->submit->w, attacks_in);
    if (attack_is_worth_a_line(c->submit, what, LOGGED_A_MINUTE))
        log_warn(&c->log, "attack", LOG_STR("what", what), LOG_STR("detail", detail));
}

/* A client that will have no TLS with us (our certificate, its version), or that went away, means no harm. */
static bool is_harmless(const char *why)
{
    return strncmp(why, "TLS alert", 9) == 0 || strcmp(why, HANDSHAKE_TOO_SLOW) == 0 ||
           strstr(why, gnutls_strerror(GNUTLS_E_PREMATURE_TERMINATION)) ||
           strstr(why, gnutls_strerror(GNUTLS_E_PULL_ERROR));
}

void attack_report_handshake(struct submission *c, const char *why)
{
    if (!is_harmless(why))
        attack_report(c, "tls-handshake", why);
    else if (attack_is_worth_a_line(c->submit, "tls.failed", LOGGED_A_MINUTE))
        log_info(&c->log, "tls.failed", LOG_STR("why", why));
}

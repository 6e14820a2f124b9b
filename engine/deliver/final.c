#include "engine/deliver/final.h"
struct finaliser *finaliser_create(struct deliver *d)
{
    (void)d;
    return NULL;
}
void finaliser_destroy(struct finaliser *f)
{
    (void)f;
}
#include "base/mem.h"
void finaliser_on_due(struct note *note, void *worker)
{
    (void)worker;
    mem_free(note);
}
void deliver_delay_notice(struct deliver *d, const struct message *m, const struct rcpt *rcpt,
                          const struct outcome *o, const char *remote_mx, int64_t until_unix)
{
    (void)d;
    (void)m;
    (void)rcpt;
    (void)o;
    (void)remote_mx;
    (void)until_unix;
}

/* TLS reports, as operators steer them. */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine_priv.h"
#include "engine/tlsrpt/received.h"
#include "engine/tlsrpt/tlsrpt.h"

#define SEND_WAIT_MS                                                                                         \
    120000 /* DNS, history, and ten URIs at their worst are longer: then it goes on alone                    \
            */
#define HISTORY_LIMIT_MS 60000
#define DAY_SECONDS      86400

enum err engine_tlsrpt_send(struct engine *e, const char *domain, int64_t begin_unix, bool again,
                            struct buf *head)
{
    const struct conf *conf = engine_conf(e);

    if (!conf->tlsrpt.contact || !conf->tlsrpt.organization)
        return ERR_DENIED;
    struct tlsrpt_order *o = tlsrpt_order_create(domain, begin_unix);
    o->again = again;
    o->part = clock_unix() < begin_unix + DAY_SECONDS;
    worker_post(e->workers[0], tlsrpt_order_begin, o);
    enum err err = doorbell_wait(&o->done, SEND_WAIT_MS) ? o->result : ERR_TIMEOUT;
    if (err != ERR_TIMEOUT)
        buf_put(head, buf_bytes(&o->answer));
    tlsrpt_order_unref(o);
    return err;
}

enum err engine_tlsrpt_build(struct engine *e, const char *domain, int64_t begin_unix, struct buf *json)
{
    const struct conf *conf = engine_conf(e);

    return tlsrpt_build(conf->data_dir, e->shared.host_name, conf, domain, begin_unix, HISTORY_LIMIT_MS,
                        json);
}

enum err engine_tlsrpt_take(struct engine *e, struct bytes octets, struct buf *answer, const char **why)
{
    const struct conf *conf = engine_conf(e);
    const struct received_from from = {.store = e->shared.store,
                                       .dir = conf->data_dir,
                                       .days = (unsigned)conf->store.history_days,
                                       .via = "file"};

    return received_take(&from, octets, answer, why);
}

/*
 * Mail for the address tlsrpt.receive: its TLS reports are taken in, and it goes no further.
 *
 * Thread    the worker's; the mail is read and unpacked on the thread pool.
 */
#pragma once

#include "base/err.h"
#include "engine/worker.h"
#include "queue/message.h"

/* Is one of the recipients that address? */
bool reports_are_for_us(const struct conf *conf, const struct message *m);
/*
 * Takes the reports in; fn is called later, from the loop, even while it ends: ERR_PROTOCOL for a mail that
 * holds none, ERR_DENIED for one without the signature that tlsrpt.receive_unsigned asks for.  `m` is borrowed until then, and nobody may write to its body.
 */
typedef void (*reports_fn)(void *arg, enum err e);
void reports_take(struct worker *w, const struct message *m, reports_fn fn, void *arg);
void reports_close(struct worker *w); /* before DNS: nobody waits for its answers any more */
/* The same message for the other recipients; NULL: there are none. */
struct message *reports_rest(const struct conf *conf, const struct message *m);

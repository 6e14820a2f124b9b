/*
 * A name server of the bench: every name has one MX, which is where the sink is.  No cache, no validation,
 * UDP. Thread    one; nameserver_run() does not return.
 */
#pragma once

#include <netinet/in.h>
#include <stdint.h>

#include "base/bytes.h"

#define NAMESERVER_MX "mx.example.test"

/* On 127.0.0.1; *port says which port.  -1 on failure. */
int nameserver_listen(uint16_t *port);
_Noreturn void nameserver_run(int fd, struct in_addr mx, volatile uint64_t *queries);
/* Pure.  The answer to one datagram; nothing is put when it deserves none. */
void nameserver_answer(struct bytes query, struct in_addr mx, struct buf *out);

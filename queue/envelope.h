/*
 * What a message's rows in queue.db say, as octets: written into the spool behind the body, so that one sync
 * makes the message safe and the rows may follow later, or never when it has been delivered by then
 * (store_txn.c).
 *
 * Pure; any thread.  Decoding is bounded by the octets given and refuses whatever encoding does not make.
 */
#pragma once

#include "base/arena.h"
#include "queue/message.h"

/* Where the body lies, and what is known of it; the rows keep the same. */
struct envelope_body {
    uint64_t segment, offset, size_bytes;
    uint32_t header_bytes, flags, checksum;
    uint64_t content_segment, content_offset; /* 0: as a whole at `segment`; else all behind the header section is here */
};

/* `states` has the row state (schema.h) of each recipient; due_unix is that of all. */
void envelope_put(struct buf *out, const struct message *m, const struct envelope_body *body,
                  const uint8_t *states, int64_t due_unix);

struct envelope {
    struct message message; /* without body; strings lie in the octets, recipients in the arena */
    struct envelope_body body;
    uint8_t *states; /* arena */
    int64_t due_unix;
};
/* False: not an envelope.  `octets` must live as long as what is made of them. */
bool envelope_parse(struct bytes octets, struct arena *arena, struct envelope *out);
/* Two facts of octets that envelope_put made, without reading the rest. */
const char *envelope_campaign(struct bytes octets); /* in the octets, or NULL */
int64_t envelope_accepted_unix(struct bytes octets);

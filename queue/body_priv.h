/*
 * What queue/ knows of a body beyond message.h: how it is measured while it arrives, and the segment
 * file that goes with it when nobody accepted it.
 */
#pragma once

#include "queue/message.h"

/* The facts of enum body_flags, the header's length and the checksum, gathered run by run. */
struct body_scan {
    uint64_t size_bytes;
    uint32_t header_bytes; /* 0 while the empty line has not come */
    uint32_t line_len;     /* octets of the current line so far, without its end */
    uint32_t flags;
    uint32_t checksum;
    bool cr;               /* the last octet was CR: it may belong to the line's end */
};
/* A zeroed struct is the start. */
void body_scan_put(struct body_scan *scan, struct bytes octets);
void body_scan_finish(struct body_scan *scan); /* without an empty line all is header */

/* Memory that body_memory_bytes() should know of, before a body owns it. */
void body_memory_add(int64_t bytes);

/*
 * A body whose octets lie in a segment file of its own: when the last reference goes before the store
 * has committed it (body_keep_file), `drop` removes the file.
 */
struct body *body_create_on_disk(uint64_t segment, uint64_t offset, uint64_t size_bytes,
                                 void (*drop)(void *arg, uint64_t segment), void *arg);
void body_keep_file(struct body *b);
/* The file of a body that is not committed goes now: its octets lie elsewhere. */
void body_drop_file(struct body *b);
/* True for a body of body_create_on_disk that is not committed yet. */
bool body_is_new_file(const struct body *b);

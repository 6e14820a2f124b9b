/*
 * Bodies on disk: append-only segment files.  Layout is drawn at the top of spool.c.
 *
 * Thread: the store thread owns appending, syncing and deleting; spool_read() and body_writer work on any
 * thread.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "queue/message.h"

struct spool;

/* Bodies above this stream to a segment of their own instead of memory. */
#define SPOOL_MEMORY_LIMIT (1024 * 1024)

/*
 * Reads body octets [from, from+len) into `out`; from memory if the body is there.  Checks nothing; a
 * short file is ERR_CORRUPT.  Any thread; may block on the disk.
 */
MUST_CHECK enum err spool_read(struct spool *s, const struct body *b, uint64_t from, size_t len, char *out);
/* The whole body into memory (b->mem), checksum compared; for bodies of at most SPOOL_MEMORY_LIMIT. */
MUST_CHECK enum err spool_load(struct spool *s, struct body *b);

/*
 * Writes other octets over a part of a finished body that the store does not have yet, and corrects its checksum: a
 * signature, which is known last and stands first.  No one else may use the body meanwhile.  What it says in `flags`
 * must stay true.  Any thread; may block on the disk.
 */
MUST_CHECK enum err spool_replace(struct spool *s, struct body *b, uint64_t at, struct bytes octets);

/* A body while it arrives.  Any thread, one at a time. */
struct body_writer;
/* Without a spool (NULL: tests) a body must stay below SPOOL_MEMORY_LIMIT: ERR_NOSPACE above. */
struct body_writer *body_writer_create(struct spool *s);
/* ERR_NOSPACE, ERR_IO: the body cannot be stored; the writer is then only good for destroy. */
MUST_CHECK enum err body_writer_put(struct body_writer *w, struct bytes octets);
uint64_t body_writer_size(const struct body_writer *w);
/* Ends the body; flags and checksum are computed on the way.  The writer is gone either way. */
MUST_CHECK enum err body_writer_finish(struct body_writer *w, struct body **out);
void body_writer_destroy(struct body_writer *w); /* NULL is fine; what was written is removed */

/*
 * True while the last accept failed for want of space, or free space is below the reserve: new mail
 * gets 452.  Any thread.
 */
bool spool_is_full(const struct spool *s);

/*
 * The store thread's side of the spool: appending batches, syncing, taking back, deleting.
 * Thread: the store thread, except where a line says otherwise.
 */
#pragma once

#include "queue/body_priv.h"
#include "queue/spool.h"

#define SPOOL_RECORD_BYTES 32 /* before each body */
#define SPOOL_FILE_BYTES   16 /* at the start of each segment */

/*
 * Opens DIR/spool/, making it when `create`.  *why: a sentence (mem_free).  Segments are numbered from
 * spool_first_segment() on; nothing is appended to the segments of an earlier run.
 */
MUST_CHECK enum err spool_open(const char *dir, uint64_t segment_bytes, struct spool **out, char **why);
void spool_close(struct spool *s); /* NULL is fine */
#define SPOOL_KEY_BYTES 16
/*
 * Sums of envelopes, as they are written and read from now on, begin with these octets (SPOOL_KEY_BYTES, or none): who
 * does not know them cannot write a body that a start would take for an envelope.
 */
void spool_set_key(struct spool *s, struct bytes key);
/* Before the first append: no new segment has a number up to this. */
void spool_number_after(struct spool *s, uint64_t last_segment);
/* Calls fn with the number of every segment file there is. */
MUST_CHECK enum err spool_list(struct spool *s, void (*fn)(void *arg, uint64_t segment), void *arg);

/* Where a body will lie once its batch is committed. */
struct spool_place {
    uint64_t segment, offset;
};
/*
 * A batch: any number of puts, one sync, then keep or undo.  A body must live until the sync.  A put may write
 * early when much has gathered.  After an error only undo is left.
 */
MUST_CHECK enum err spool_put(struct spool *s, uint64_t message_id, const struct body *b, struct spool_place *out);
/* The same for octets that tell how the message before them is to be sent (queue/envelope.h); they must live until the sync. */
MUST_CHECK enum err spool_put_envelope(struct spool *s, uint64_t message_id, struct bytes octets,
                                       struct spool_place *out);
/* The same for the header section of a message whose content is shared. */
MUST_CHECK enum err spool_put_header(struct spool *s, uint64_t message_id, struct bytes octets, uint32_t checksum,
                                     struct spool_place *out);
/*
 * What messages are to share, in a file of its own: written at once, synced with the batch.  An error says that there
 * is no such file, and leaves the batch as it was.
 */
MUST_CHECK enum err spool_put_content(struct spool *s, uint64_t message_id, struct bytes octets, uint32_t checksum,
                                      struct spool_place *out);
MUST_CHECK enum err spool_flush(struct spool *s); /* hands everything to the kernel and starts its writing */
MUST_CHECK enum err spool_sync_begin(struct spool *s); /* flushes, and lets another thread begin the sync */
MUST_CHECK enum err spool_sync(struct spool *s);  /* after that it is on stable storage, directory entries too */
void spool_keep(struct spool *s);
/*
 * Takes the batch back: the file is cut to where the batch began, and the next batch begins a new segment; what it put
 * into files of their own goes.  With keep_octets all stays: after a failed COMMIT a crash might still bring the rows
 * back.
 */
void spool_undo(struct spool *s, bool keep_octets);
uint64_t spool_current(const struct spool *s); /* never delete this one */

void spool_delete(struct spool *s, uint64_t segment); /* any thread; never waits for the disk to free it */
void spool_retire(struct spool *s, uint64_t segment); /* the same for one of full size: it may be written over */
void spool_drop_spares(struct spool *s);
void spool_set_full(struct spool *s, bool full);

/* Walks the records of a closed segment. */
enum spool_kind { SPOOL_BODY, SPOOL_HEADER, SPOOL_CONTENT, SPOOL_ENVELOPE };
struct spool_record {
    uint64_t message_id, offset /* of the octets */, size_bytes;
    uint32_t checksum;
    enum spool_kind kind;
};
/* ERR_NOT_FOUND: the end, or end_bytes reached; ERR_CORRUPT: not a record.  *at starts as 0. */
MUST_CHECK enum err spool_next_record(struct spool *s, uint64_t segment, uint64_t end_bytes, uint64_t *at,
                                      struct spool_record *out);
/* The record whose octets begin there, which are not many: ERR_CORRUPT if they are not those that were written. */
MUST_CHECK enum err spool_check(struct spool *s, uint64_t segment, uint64_t offset);
/* The octets of an envelope; ERR_CORRUPT: they are not what was written in this segment. */
MUST_CHECK enum err spool_read_envelope(struct spool *s, uint64_t segment, const struct spool_record *r,
                                        struct buf *out);

/* For body_writer; any thread: a new segment file of its own, open for writing. */
MUST_CHECK enum err spool_create_file(struct spool *s, uint64_t *segment, int *fd);
void spool_format_header(char out[SPOOL_RECORD_BYTES], uint64_t message_id, uint64_t size_bytes, uint32_t checksum);

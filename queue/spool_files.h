/* The spool's inside, for spool.c (files, reading), spool_append.c (batches) and spool_spare.c (dead files)
 * alone. */
#pragma once

#include <pthread.h>
#include <sys/uio.h>

#include "queue/spool_priv.h"

#define SPOOL_RECORD_MAGIC   0x31425948U /* "HYB1" */
#define SPOOL_HEADER_MAGIC   0x31485948U /* "HYH1" */
#define SPOOL_CONTENT_MAGIC  0x31435948U /* "HYC1" */
#define SPOOL_ENVELOPE_MAGIC 0x31455948U /* "HYE1" */
#define SPOOL_NAME_BYTES   40
#define OPEN_FILES         48
#define RUNS_MAX           512 /* records gathered for one pwritev: two runs each, IOV_MAX is 1024 */
#define SPARES_MAX         2
#define DEAD_MAX           256

struct open_file {
    uint64_t segment; /* 0: free */
    int fd;
    unsigned users;
    bool doomed; /* deleted while being read */
    uint64_t used_at;
};

struct syncer {
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t cond;
    enum { SYNC_IDLE, SYNC_ASKED, SYNC_DONE } state;
    int fd, error;
    bool closing;
    pthread_t thread;
    bool runs;
};

struct spool {
    char *path;
    int dir_fd;
    uint64_t segment_bytes;
    _Atomic uint64_t next_segment;
    atomic_bool full;

    pthread_mutex_t lock; /* guards what follows */
    struct open_file files[OPEN_FILES];
    uint64_t clock;
    uint64_t spares[SPARES_MAX]; /* dead segments kept to be written over */
    size_t spare_count;
    uint64_t dead[DEAD_MAX]; /* to be unlinked by the sweeper */
    size_t dead_count;
    pthread_cond_t dead_cond;
    pthread_t sweeper;
    bool sweeper_runs, closing;

    struct syncer syncer;

    /* The store thread's: */
    char key[SPOOL_KEY_BYTES]; /* of envelopes' sums, secret */
    size_t key_bytes;          /* 0: none, as before there were keys */
    uint64_t current; /* segment that is appended to; 0: none yet */
    int fd;
    uint64_t end_bytes;     /* where the next octet goes, gathered ones counted */
    uint64_t written_bytes; /* of these, handed to the kernel */
    uint64_t kept_bytes;    /* as of the last keep */
    bool is_new;            /* begun in this batch */
    bool dir_changed, wrote;
    uint64_t alone[64]; /* files of single bodies and contents in this batch, to be synced */
    size_t alone_count;
    uint64_t contents[64]; /* files of contents that were made in this batch */
    size_t content_count;
    size_t runs;
    struct iovec iov[RUNS_MAX * 2];
    char headers[RUNS_MAX][SPOOL_RECORD_BYTES];
};

/* spool.c */
/* Begins with key and segment: in a file that is written over, an envelope of its earlier life is none. */
uint32_t spool_envelope_sum(const struct spool *s, uint64_t segment, struct bytes octets);
void spool_name(char out[SPOOL_NAME_BYTES], uint64_t segment, const char *suffix);
MUST_CHECK enum err spool_take_file(struct spool *s, uint64_t segment, int *fd, struct open_file **place);
void spool_give_file(struct spool *s, int fd, struct open_file *place);
void spool_forget_file(struct spool *s, uint64_t segment); /* no later read finds it open */

/* spool_syncer.c; the descriptor must stay open until the wait */
MUST_CHECK enum err spool_syncer_start(struct spool *s);
void spool_syncer_stop(struct spool *s);
void spool_sync_ask(struct spool *s, int fd);
MUST_CHECK enum err spool_sync_wait(struct spool *s); /* OK when nothing was asked */

/* spool_spare.c */
MUST_CHECK enum err spool_sweeper_start(struct spool *s);
void spool_sweeper_stop(struct spool *s); /* after it has unlinked what waits */
/* A spare (there must be one) as the new `segment`: its blocks are there, its pages in memory.  -1: not to be had. */
int spool_take_spare(struct spool *s, uint64_t segment);

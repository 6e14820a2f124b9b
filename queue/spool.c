/*
 * DIR/spool/<16 hex digits>.seg: a segment.  Numbers ascend and are never used again.
 *
 *     file    "HYSEG\0\0\1"  u64 segment                              16 octets
 *     record  u32 magic "HYB1"  u32 CRC-32C of the body               32 octets
 *             u64 body length   u64 message id
 *             u32 CRC-32C of the 24 octets before   u32 zero
 *             body: the octets as they will be sent, before dot-stuffing
 *     record  u32 magic "HYE1"  u32 CRC-32C of the run's key, the segment's number and the envelope; else as
 * above envelope (queue/envelope.h) of the body before it, or of one alone in its file record  u32 magic
 * "HYH1"  as "HYB1", of a message that shares its content: its header section only record  u32 magic "HYC1"
 * as "HYB1", of a content that is shared: alone in its file record  … (little-endian throughout)
 *
 * A body over SPOOL_MEMORY_LIMIT lies alone in its file.  The rows in queue.db name segment and offset.  What
 * stands behind the end that the row of `segment` tells (total_bytes) has no rows yet: recovery reads the
 * envelopes there (store_journal.c), and a body without one is the rest of a batch that was never answered.
 * No later run appends to a segment.  The record headers serve the copying of stragglers too (store_mover.c),
 * and whoever must rescue mail without a database.
 *
 * What follows the header section may be shared by messages (store_contents.c): it lies in a "HYC1", or in
 * the file of a long body, and the others' rows and envelopes name it too.  Such a file is never moved.
 *
 * A dead segment of full size may be written over as a new one (spool_spare.c), so behind all that older
 * octets may stand; an envelope among them has a sum for another segment, and what somebody sent in the shape
 * of an envelope has none that fits, because the key is random and secret (meta.spool_key, new at each
 * start). <…>.spare waits to be written over, <…>.dead to be unlinked.
 *
 * Segments are deleted when the last row that lies in one is gone.  A body moves only while none of its
 * recipients is leased, so that whoever holds a job can read where the job says until the lease ends; the
 * cache of open files keeps a file readable for a read that is under way.
 */
#include "queue/spool_files.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "queue/crc32c.h"

#define ENVELOPE_MAX (64U * 1024 * 1024) /* more is none: not even 100,000 long addresses take as much */

void spool_name(char out[SPOOL_NAME_BYTES], uint64_t segment, const char *suffix)
{
    snprintf(out, SPOOL_NAME_BYTES, "%016" PRIx64 ".%s", segment, suffix);
}

static void fail_open(char **why, const char *path, const char *what)
{
    BUF_LOCAL(text);
    buf_putf(&text, "%s %s: %s; make the directory readable and writable for the user that runs the daemon",
             what, path, strerror(errno));
    *why = buf_take(&text);
}

enum err spool_open(const char *dir, uint64_t segment_bytes, struct spool **out, char **why)
{
    BUF_LOCAL(path);
    buf_putf(&path, "%s/spool", dir);
    if (mkdir(buf_str(&path), 0700) && errno != EEXIST) {
        fail_open(why, buf_str(&path), "cannot make");
        return err_from_errno(errno);
    }
    int fd = open(buf_str(&path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        fail_open(why, buf_str(&path), "cannot open");
        return err_from_errno(errno);
    }
    struct spool *s = MEM_NEW(struct spool);
    s->path = buf_take(&path);
    s->dir_fd = fd;
    s->segment_bytes = segment_bytes;
    s->fd = -1;
    atomic_init(&s->next_segment, 1);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->dead_cond, NULL);
    enum err e = spool_syncer_start(s);
    if (!e)
        e = spool_sweeper_start(s);
    if (e) {
        fail_open(why, s->path, "cannot clean up");
        spool_close(s);
        return e;
    }
    *out = s;
    return OK;
}

void spool_close(struct spool *s)
{
    if (!s)
        return;
    spool_sweeper_stop(s);
    spool_syncer_stop(s);
    for (size_t i = 0; i < OPEN_FILES; i++)
        if (s->files[i].segment)
            close(s->files[i].fd);
    if (s->fd >= 0)
        close(s->fd);
    close(s->dir_fd);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->dead_cond);
    mem_free(s->path);
    mem_free(s);
}

void spool_number_after(struct spool *s, uint64_t last_segment)
{
    uint64_t next = atomic_load(&s->next_segment);

    if (last_segment + 1 > next)
        atomic_store(&s->next_segment, last_segment + 1);
}

enum err spool_list(struct spool *s, void (*fn)(void *arg, uint64_t segment), void *arg)
{
    DIR *d = opendir(s->path);

    if (!d)
        return err_from_errno(errno);
    for (struct dirent *entry; (entry = readdir(d));) {
        char *end;
        uint64_t segment = strtoull(entry->d_name, &end, 16);
        if (end == entry->d_name + 16 && strcmp(end, ".seg") == 0 && segment)
            fn(arg, segment);
    }
    closedir(d);
    return OK;
}

bool spool_is_full(const struct spool *s)
{
    return s && atomic_load_explicit(&s->full, memory_order_relaxed);
}

void spool_set_full(struct spool *s, bool full)
{
    atomic_store_explicit(&s->full, full, memory_order_relaxed);
    if (full)
        spool_drop_spares(s);
}

/* ---- reading: any thread ---- */

static struct open_file *find_file(struct spool *s, uint64_t segment)
{
    for (size_t i = 0; i < OPEN_FILES; i++)
        if (s->files[i].segment == segment && !s->files[i].doomed)
            return &s->files[i];
    return NULL;
}

/* The least recently used place that nobody reads from, or NULL: then the file is opened for one read only.
 */
static struct open_file *free_place(struct spool *s)
{
    struct open_file *best = NULL;

    for (size_t i = 0; i < OPEN_FILES; i++) {
        struct open_file *f = &s->files[i];
        if (!f->segment)
            return f;
        if (!f->users && (!best || f->used_at < best->used_at))
            best = f;
    }
    if (best)
        close(best->fd);
    return best;
}

enum err spool_take_file(struct spool *s, uint64_t segment, int *fd, struct open_file **place)
{
    pthread_mutex_lock(&s->lock);
    struct open_file *f = find_file(s, segment);
    enum err e = OK;
    if (!f) {
        char name[SPOOL_NAME_BYTES];
        spool_name(name, segment, "seg");
        int opened = openat(s->dir_fd, name, O_RDONLY | O_CLOEXEC);
        if (opened < 0)
            e = err_from_errno(errno);
        else if ((f = free_place(s)))
            *f = (struct open_file){.segment = segment, .fd = opened};
        *fd = opened;
    }
    if (f) {
        f->users++;
        f->used_at = ++s->clock;
        *fd = f->fd;
    }
    *place = f;
    pthread_mutex_unlock(&s->lock);
    return e;
}

void spool_give_file(struct spool *s, int fd, struct open_file *f)
{
    if (!f) {
        close(fd);
        return;
    }
    pthread_mutex_lock(&s->lock);
    if (--f->users == 0 && f->doomed) {
        close(f->fd);
        *f = (struct open_file){0};
    }
    pthread_mutex_unlock(&s->lock);
}

void spool_forget_file(struct spool *s, uint64_t segment)
{
    pthread_mutex_lock(&s->lock);
    struct open_file *f = find_file(s, segment);
    if (f && f->users)
        f->doomed = true;
    else if (f) {
        close(f->fd);
        *f = (struct open_file){0};
    }
    pthread_mutex_unlock(&s->lock);
}

static enum err read_all(int fd, char *out, size_t len, uint64_t at)
{
    while (len) {
        ssize_t n = pread(fd, out, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_from_errno(errno);
        if (n == 0)
            return ERR_CORRUPT;
        out += n;
        at += (uint64_t)n;
        len -= (size_t)n;
    }
    return OK;
}

static enum err read_segment(struct spool *s, uint64_t segment, uint64_t at, char *out, size_t len)
{
    struct open_file *f;
    int fd;
    enum err e = spool_take_file(s, segment, &fd, &f);

    if (e)
        return e;
    e = read_all(fd, out, len, at);
    spool_give_file(s, fd, f);
    return e;
}

enum err spool_read(struct spool *s, const struct body *b, uint64_t from, size_t len, char *out)
{
    if (from > b->size_bytes || len > b->size_bytes - from)
        return ERR_INVALID;
    if (b->mem) {
        memcpy(out, b->mem + from, len);
        return OK;
    }
    if (!s || !b->segment)
        return ERR_NOT_FOUND;
    if (!b->content_segment)
        return read_segment(s, b->segment, b->offset + from, out, len);
    size_t own = from < b->header_bytes ? MIN_OF(len, (size_t)(b->header_bytes - from)) : 0;
    enum err e = own ? read_segment(s, b->segment, b->offset + from, out, own) : OK;
    if (e || own == len)
        return e;
    return read_segment(s, b->content_segment, b->content_offset + (from + own - b->header_bytes), out + own,
                        len - own);
}

enum err spool_load(struct spool *s, struct body *b)
{
    if (b->mem)
        return OK;
    if (b->size_bytes > SPOOL_MEMORY_LIMIT)
        return ERR_INVALID;
    char *mem = mem_alloc(b->size_bytes + 1);
    enum err e = spool_read(s, b, 0, b->size_bytes, mem);
    if (!e && crc32c(0, mem, b->size_bytes) != b->checksum)
        e = ERR_CORRUPT;
    if (e) {
        mem_free(mem);
        return e;
    }
    b->mem = mem;
    b->mem_bytes = b->size_bytes;
    body_memory_add((int64_t)b->mem_bytes);
    return OK;
}

static bool kind_of(uint32_t magic, enum spool_kind *out)
{
    switch (magic) {
    case SPOOL_RECORD_MAGIC: *out = SPOOL_BODY; return true;
    case SPOOL_HEADER_MAGIC: *out = SPOOL_HEADER; return true;
    case SPOOL_CONTENT_MAGIC: *out = SPOOL_CONTENT; return true;
    case SPOOL_ENVELOPE_MAGIC: *out = SPOOL_ENVELOPE; return true;
    default: return false;
    }
}

enum err spool_next_record(struct spool *s, uint64_t segment, uint64_t end_bytes, uint64_t *at,
                           struct spool_record *out)
{
    char head[SPOOL_RECORD_BYTES];
    uint64_t from = *at ? *at : SPOOL_FILE_BYTES;

    if (from >= end_bytes)
        return ERR_NOT_FOUND;
    enum err e = read_segment(s, segment, from, head, sizeof(head));
    uint32_t magic, sum, head_sum;
    uint64_t size, id;

    if (e)
        return e == ERR_CORRUPT ? ERR_NOT_FOUND : e; /* a short read: the end */
    memcpy(&magic, head, 4);
    memcpy(&sum, head + 4, 4);
    memcpy(&size, head + 8, 8);
    memcpy(&id, head + 16, 8);
    memcpy(&head_sum, head + 24, 4);
    enum spool_kind kind;
    if (!kind_of(le32toh(magic), &kind) || le32toh(head_sum) != crc32c(0, head, 24) ||
        le64toh(size) > INT64_MAX - from - SPOOL_RECORD_BYTES)
        return ERR_CORRUPT;
    *out = (struct spool_record){le64toh(id), from + SPOOL_RECORD_BYTES, le64toh(size), le32toh(sum), kind};
    *at = out->offset + out->size_bytes;
    return OK;
}

enum err spool_check(struct spool *s, uint64_t segment, uint64_t offset)
{
    uint64_t at = offset - SPOOL_RECORD_BYTES;
    struct spool_record r;
    BUF_LOCAL(octets);

    enum err e = offset < SPOOL_FILE_BYTES + SPOOL_RECORD_BYTES
                     ? ERR_CORRUPT
                     : spool_next_record(s, segment, UINT64_MAX, &at, &r);
    if (!e && r.size_bytes > ENVELOPE_MAX)
        e = ERR_CORRUPT;
    if (!e)
        e = read_segment(s, segment, r.offset, buf_reserve(&octets, r.size_bytes), r.size_bytes);
    if (!e && crc32c(0, octets.at, r.size_bytes) != r.checksum)
        e = ERR_CORRUPT;
    return e;
}

void spool_set_key(struct spool *s, struct bytes key)
{
    s->key_bytes = MIN_OF(key.len, sizeof(s->key));
    if (s->key_bytes)
        memcpy(s->key, key.at, s->key_bytes);
}

uint32_t spool_envelope_sum(const struct spool *s, uint64_t segment, struct bytes octets)
{
    uint64_t stored = htole64(segment);
    uint32_t sum = crc32c(crc32c(0, s->key, s->key_bytes), &stored, sizeof(stored));

    return crc32c(sum, octets.at, octets.len);
}

enum err spool_read_envelope(struct spool *s, uint64_t segment, const struct spool_record *r, struct buf *out)
{
    buf_clear(out);
    if (r->size_bytes > ENVELOPE_MAX)
        return ERR_CORRUPT;
    enum err e = read_segment(s, segment, r->offset, buf_reserve(out, r->size_bytes), r->size_bytes);
    if (e)
        return e;
    out->len = r->size_bytes;
    return spool_envelope_sum(s, segment, buf_bytes(out)) == r->checksum ? OK : ERR_CORRUPT;
}

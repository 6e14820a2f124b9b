/* A body while it arrives: in memory up to SPOOL_MEMORY_LIMIT, then in a segment file of its own. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "queue/spool_priv.h"

#define FIRST_BYTES 16384

struct body_writer {
    struct spool *spool; /* borrowed; NULL: memory only */
    struct body_scan scan;
    char *mem; /* owned: the body, or once it has a file what is not written yet */
    size_t len, cap;
    int fd; /* -1: in memory */
    uint64_t segment;
    uint64_t written_bytes; /* of the body, in the file */
    enum err failed;
};

struct body_writer *body_writer_create(struct spool *s)
{
    struct body_writer *w = MEM_NEW(struct body_writer);

    w->spool = s;
    w->fd = -1;
    return w;
}

static void set_capacity(struct body_writer *w, size_t cap)
{
    w->mem = mem_realloc(w->mem, cap);
    body_memory_add((int64_t)cap - (int64_t)w->cap);
    w->cap = cap;
}

static enum err write_out(struct body_writer *w, const char *p, size_t len)
{
    while (len) {
        ssize_t n = pwrite(w->fd, p, len, (off_t)(SPOOL_FILE_BYTES + SPOOL_RECORD_BYTES + w->written_bytes));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? err_from_errno(errno) : ERR_IO;
        /* The kernel writes as we go, so that the store's sync at the end has little left to wait for. */
        (void)sync_file_range(w->fd, (off_t)(SPOOL_FILE_BYTES + SPOOL_RECORD_BYTES + w->written_bytes), n,
                              SYNC_FILE_RANGE_WRITE);
        w->written_bytes += (uint64_t)n;
        p += n;
        len -= (size_t)n;
    }
    return OK;
}

static enum err flush(struct body_writer *w)
{
    enum err e = write_out(w, w->mem, w->len);

    w->len = 0;
    return e;
}

static enum err begin_file(struct body_writer *w)
{
    if (!w->spool)
        return ERR_NOSPACE;
    return spool_create_file(w->spool, &w->segment, &w->fd);
}

static enum err put(struct body_writer *w, struct bytes octets)
{
    enum err e = OK;

    if (w->fd < 0 && w->len + octets.len > SPOOL_MEMORY_LIMIT)
        e = begin_file(w);
    if (!e && w->fd >= 0 && w->len + octets.len > w->cap) {
        e = flush(w);
        if (!e && octets.len > w->cap)
            return write_out(w, octets.at, octets.len);
    }
    if (e)
        return e;
    if (w->len + octets.len > w->cap) {
        size_t cap = w->cap ? w->cap : FIRST_BYTES;
        while (cap < w->len + octets.len)
            cap *= 2;
        set_capacity(w, cap);
    }
    memcpy(w->mem + w->len, octets.at, octets.len);
    w->len += octets.len;
    return OK;
}

enum err body_writer_put(struct body_writer *w, struct bytes octets)
{
    if (w->failed || !octets.len)
        return w->failed;
    body_scan_put(&w->scan, octets);
    w->failed = put(w, octets);
    return w->failed;
}

uint64_t body_writer_size(const struct body_writer *w)
{
    return w->scan.size_bytes;
}

static void drop_file(void *spool, uint64_t segment)
{
    spool_delete(spool, segment);
}

static struct body *finish_in_memory(struct body_writer *w)
{
    char *mem =
        mem_realloc(TAKE(w->mem), MAX_OF(w->len, (size_t)1)); /* gives back what growing took too much */

    body_memory_add(-(int64_t)w->cap);
    w->cap = 0;
    return body_create(mem, w->len);
}

static enum err finish_file(struct body_writer *w, struct body **out)
{
    enum err e = flush(w);

    if (e)
        return e;
    close(w->fd);
    w->fd = -1;
    *out = body_create_on_disk(w->segment, SPOOL_FILE_BYTES + SPOOL_RECORD_BYTES, w->scan.size_bytes,
                               drop_file, w->spool);
    return OK;
}

enum err body_writer_finish(struct body_writer *w, struct body **out)
{
    enum err e = w->failed;
    struct body *b = NULL;

    body_scan_finish(&w->scan);
    if (!e && w->fd < 0)
        b = finish_in_memory(w);
    else if (!e)
        e = finish_file(w, &b);
    if (b) {
        b->flags = w->scan.flags;
        b->header_bytes = w->scan.header_bytes;
        b->checksum = w->scan.checksum;
        *out = b;
    }
    body_writer_destroy(w);
    return e;
}

void body_writer_destroy(struct body_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0) {
        close(w->fd);
        spool_delete(w->spool, w->segment);
    }
    body_memory_add(-(int64_t)w->cap);
    mem_free(w->mem);
    mem_free(w);
}

/* Batches: gathered, written by few large calls, synced once, kept or undone.  The layout is drawn in
 * spool.c. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "queue/crc32c.h"
#include "queue/spool_files.h"

#define GATHER_BYTES (8U * 1024 * 1024)

static const char file_magic[8] = {'H', 'Y', 'S', 'E', 'G', 0, 0, 1};

static void format_header(char out[SPOOL_RECORD_BYTES], uint32_t kind, uint64_t message_id,
                          uint64_t size_bytes, uint32_t checksum)
{
    uint32_t magic = htole32(kind), sum = htole32(checksum);
    uint64_t size = htole64(size_bytes), id = htole64(message_id);

    memset(out, 0, SPOOL_RECORD_BYTES);
    memcpy(out, &magic, 4);
    memcpy(out + 4, &sum, 4);
    memcpy(out + 8, &size, 8);
    memcpy(out + 16, &id, 8);
    sum = htole32(crc32c(0, out, 24));
    memcpy(out + 24, &sum, 4);
}

void spool_format_header(char out[SPOOL_RECORD_BYTES], uint64_t message_id, uint64_t size_bytes,
                         uint32_t checksum)
{
    format_header(out, SPOOL_RECORD_MAGIC, message_id, size_bytes, checksum);
}

static enum err write_all(int fd, struct iovec *iov, int count, uint64_t at)
{
    while (count) {
        ssize_t n = pwritev(fd, iov, MIN_OF(count, 1024), (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? err_from_errno(errno) : ERR_IO;
        at += (uint64_t)n;
        for (; count && (size_t)n >= iov->iov_len; iov++, count--)
            n -= (ssize_t)iov->iov_len;
        if (count) {
            iov->iov_base = (char *)iov->iov_base + n;
            iov->iov_len -= (size_t)n;
        }
    }
    return OK;
}

static enum err write_file_header(int fd, uint64_t segment)
{
    char head[SPOOL_FILE_BYTES];
    uint64_t stored = htole64(segment);
    struct iovec iov = {head, sizeof(head)};

    memcpy(head, file_magic, 8);
    memcpy(head + 8, &stored, 8);
    return write_all(fd, &iov, 1, 0);
}

enum err spool_create_file(struct spool *s, uint64_t *segment, int *fd)
{
    uint64_t number = atomic_fetch_add(&s->next_segment, 1);
    char name[SPOOL_NAME_BYTES];

    spool_name(name, number, "seg");
    int opened = openat(s->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (opened < 0)
        return err_from_errno(errno);
    enum err e = write_file_header(opened, number);
    if (e) {
        unlinkat(s->dir_fd, name, 0);
        close(opened);
        return e;
    }
    *segment = number;
    *fd = opened;
    return OK;
}

/* Written over, a file costs neither blocks nor pages nor a change of its inode: its sync is the cheapest
 * there is. */
static enum err begin_segment(struct spool *s)
{
    if (!s->spare_count)
        return spool_create_file(s, &s->current, &s->fd);
    uint64_t number = atomic_fetch_add(&s->next_segment, 1);
    int fd = spool_take_spare(s, number);
    if (fd >= 0 && write_file_header(fd, number)) {
        close(fd);
        spool_delete(s, number);
        fd = -1;
    }
    if (fd < 0)
        return spool_create_file(s, &s->current, &s->fd);
    s->current = number;
    s->fd = fd;
    return OK;
}

static void close_current(struct spool *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->current = 0;
}

/* The current segment is full: it is synced now, as one batch syncs one file. */
static enum err roll_over(struct spool *s)
{
    enum err e = spool_sync_wait(s);

    if (!e)
        e = spool_flush(s);
    if (!e && s->wrote && fdatasync(s->fd))
        e = err_from_errno(errno);
    if (e)
        return e;
    if (s->current)
        close_current(s);
    e = begin_segment(s);
    if (e)
        return e;
    s->end_bytes = s->written_bytes = SPOOL_FILE_BYTES;
    s->kept_bytes = 0;
    s->is_new = s->dir_changed = true;
    return OK;
}

/* A body that has its own file already: the record header gets its message id now. */
static enum err put_alone(struct spool *s, uint64_t message_id, const struct body *b)
{
    char name[SPOOL_NAME_BYTES], head[SPOOL_RECORD_BYTES];
    enum err e;

    if (s->alone_count == COUNT_OF(s->alone)) {
        e = spool_sync(s);
        if (e)
            return e;
    }
    spool_name(name, b->segment, "seg");
    int fd = openat(s->dir_fd, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return err_from_errno(errno);
    spool_format_header(head, message_id, b->size_bytes, b->checksum);
    struct iovec iov = {head, sizeof(head)};
    e = write_all(fd, &iov, 1, SPOOL_FILE_BYTES);
    close(fd);
    s->alone[s->alone_count++] = b->segment;
    s->dir_changed = true;
    return e;
}

static enum err write_over(struct spool *s, const struct body *b, uint64_t at, struct bytes octets)
{
    char name[SPOOL_NAME_BYTES];
    struct iovec iov = {(char *)(uintptr_t)octets.at, octets.len};

    spool_name(name, b->segment, "seg");
    int fd = openat(s->dir_fd, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return err_from_errno(errno);
    enum err e = write_all(fd, &iov, 1, b->offset + at);
    close(fd);
    return e;
}

enum err spool_replace(struct spool *s, struct body *b, uint64_t at, struct bytes octets)
{
    BUF_LOCAL(old);
    if (b->content_segment) /* the store has it, and others read it */
        return ERR_INVALID;
    enum err e = spool_read(s, b, at, octets.len, buf_reserve(&old, octets.len));

    if (e)
        return e;
    if (b->mem)
        memcpy(b->mem + at, octets.at, octets.len);
    else
        e = write_over(s, b, at, octets);
    if (!e)
        b->checksum =
            crc32c_replaced(b->checksum, old.at, octets.at, octets.len, b->size_bytes - at - octets.len);
    return e;
}

static enum err write_content(int fd, uint64_t message_id, struct bytes octets, uint32_t checksum)
{
    char head[SPOOL_RECORD_BYTES];
    struct iovec iov[2] = {{head, sizeof(head)}, {(char *)(uintptr_t)octets.at, octets.len}};

    format_header(head, SPOOL_CONTENT_MAGIC, message_id, octets.len, checksum);
    return write_all(fd, iov, 2, SPOOL_FILE_BYTES);
}

enum err spool_put_content(struct spool *s, uint64_t message_id, struct bytes octets, uint32_t checksum,
                           struct spool_place *out)
{
    uint64_t segment;
    int fd;

    if (s->alone_count == COUNT_OF(s->alone) || s->content_count == COUNT_OF(s->contents))
        return ERR_FULL;
    enum err e = spool_create_file(s, &segment, &fd);
    if (e)
        return e;
    e = write_content(fd, message_id, octets, checksum);
    close(fd);
    if (e) {
        spool_delete(s, segment);
        return e;
    }
    s->alone[s->alone_count++] = segment;
    s->contents[s->content_count++] = segment;
    s->dir_changed = true;
    *out = (struct spool_place){segment, SPOOL_FILE_BYTES + SPOOL_RECORD_BYTES};
    return OK;
}

/* Room for one more record with `need` octets. */
static enum err make_room(struct spool *s, uint64_t need)
{
    if (!s->current || (s->end_bytes + need > s->segment_bytes && s->end_bytes > SPOOL_FILE_BYTES))
        return roll_over(s);
    if (s->runs == RUNS_MAX || s->end_bytes - s->written_bytes > GATHER_BYTES)
        return spool_flush(s);
    return OK;
}

/* Its header is in s->headers. */
static void gather(struct spool *s, const char *octets, uint64_t len, struct spool_place *out)
{
    s->iov[s->runs * 2] = (struct iovec){s->headers[s->runs], SPOOL_RECORD_BYTES};
    s->iov[s->runs * 2 + 1] = (struct iovec){(char *)(uintptr_t)octets, len};
    s->runs++;
    *out = (struct spool_place){s->current, s->end_bytes + SPOOL_RECORD_BYTES};
    s->end_bytes += SPOOL_RECORD_BYTES + len;
}

enum err spool_put(struct spool *s, uint64_t message_id, const struct body *b, struct spool_place *out)
{
    if (b->segment && !b->mem) {
        *out = (struct spool_place){b->segment, b->offset};
        return body_is_new_file(b) ? put_alone(s, message_id, b) : OK;
    }
    if (!b->mem && b->size_bytes)
        return ERR_INVALID;
    enum err e = make_room(s, SPOOL_RECORD_BYTES + b->size_bytes);
    if (e)
        return e;
    spool_format_header(s->headers[s->runs], message_id, b->size_bytes, b->checksum);
    gather(s, b->mem, b->size_bytes, out);
    return OK;
}

enum err spool_put_header(struct spool *s, uint64_t message_id, struct bytes octets, uint32_t checksum,
                          struct spool_place *out)
{
    enum err e = make_room(s, SPOOL_RECORD_BYTES + octets.len);

    if (e)
        return e;
    format_header(s->headers[s->runs], SPOOL_HEADER_MAGIC, message_id, octets.len, checksum);
    gather(s, octets.at, octets.len, out);
    return OK;
}

enum err spool_put_envelope(struct spool *s, uint64_t message_id, struct bytes octets,
                            struct spool_place *out)
{
    enum err e = make_room(s, SPOOL_RECORD_BYTES + octets.len);

    if (e)
        return e;
    format_header(s->headers[s->runs], SPOOL_ENVELOPE_MAGIC, message_id, octets.len,
                  spool_envelope_sum(s, s->current, octets));
    gather(s, octets.at, octets.len, out);
    return OK;
}

static enum err write_gathered(struct spool *s)
{
    if (!s->runs)
        return OK;
    enum err e = write_all(s->fd, s->iov, (int)s->runs * 2, s->written_bytes);
    s->runs = 0;
    if (e)
        return e;
    s->wrote = true;
    s->written_bytes = s->end_bytes;
    return OK;
}

enum err spool_flush(struct spool *s)
{
    uint64_t from = s->written_bytes;
    enum err e = write_gathered(s);

    /* Writing begins while SQLite works; the sync then waits for less.  Only a hint: its result does not
     * count. */
    if (!e && s->written_bytes > from)
        (void)sync_file_range(s->fd, (off_t)from, (off_t)(s->written_bytes - from), SYNC_FILE_RANGE_WRITE);
    return e;
}

enum err spool_sync_begin(struct spool *s)
{
    enum err e = spool_sync_wait(s);

    if (!e)
        e = spool_flush(s);
    if (e || !s->wrote)
        return e;
    s->wrote = false;
    spool_sync_ask(s, s->fd);
    return OK;
}

enum err spool_sync(struct spool *s)
{
    enum err e = write_gathered(s);

    if (e)
        return e;
    for (size_t i = 0; i < s->alone_count; i++) {
        struct open_file *f;
        int fd;
        e = spool_take_file(s, s->alone[i], &fd, &f);
        if (e)
            return e;
        if (fdatasync(fd))
            e = err_from_errno(errno);
        spool_give_file(s, fd, f);
        if (e)
            return e;
    }
    s->alone_count = 0;
    e = spool_sync_wait(s);
    if (e)
        return e;
    if (s->wrote && fdatasync(s->fd)) /* small batches, and what came after the begin */
        return err_from_errno(errno);
    s->wrote = false;
    if (s->dir_changed && fsync(s->dir_fd))
        return err_from_errno(errno);
    s->dir_changed = false;
    return OK;
}

void spool_keep(struct spool *s)
{
    s->kept_bytes = s->end_bytes;
    s->is_new = false;
    s->content_count = 0;
}

void spool_undo(struct spool *s, bool keep_octets)
{
    if (spool_sync_wait(s)) /* its descriptor is about to be closed */
        log_debug(NULL, "spool.undo");
    s->runs = 0;
    s->alone_count = 0;
    s->wrote = false;
    if (s->current) {
        uint64_t doomed = s->is_new && !keep_octets ? s->current : 0;
        /* Best effort: what stays behind is referred to by nothing. */
        if (!doomed && !keep_octets && ftruncate(s->fd, (off_t)s->kept_bytes))
            log_warn(NULL, "spool.truncate", LOG_STR("error", strerror(errno)));
        close_current(s);
        if (doomed)
            spool_delete(s, doomed);
    }
    s->is_new = false;
    while (s->content_count) {
        uint64_t content = s->contents[--s->content_count];
        if (!keep_octets)
            spool_delete(s, content);
    }
}

uint64_t spool_current(const struct spool *s)
{
    return s->current;
}

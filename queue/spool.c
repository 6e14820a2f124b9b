/*
 * DIR/spool/<16 hex digits>.seg: a segment.  Numbers ascend and are never used again.
 *
 *     file    "HYSEG\0\0\1"  u64 segment                              16 octets
 *     record  u32 magic "HYB1"  u32 CRC-32C of the body               32 octets
 *             u64 body length   u64 message id
 *             u32 CRC-32C of the 24 octets before   u32 zero
 *             body: the octets as they will be sent, before dot-stuffing
 *     record  …                                                       (little-endian throughout)
 *
 * A body over SPOOL_MEMORY_LIMIT lies alone in its file.  What stands behind the last committed record is the
 * rest of a batch that was never answered; nothing refers to it, and no later run appends behind it.  The
 * rows in queue.db name segment and offset, so recovery reads no segment; the record headers serve the
 * copying of stragglers (store_mover.c) and whoever must rescue mail without a database.
 *
 * Segments are deleted when the last row that lies in one is gone.  A body moves only while none of its
 * recipients is leased, so that whoever holds a job can read where the job says until the lease ends; the
 * cache of open files keeps a file readable for a read that is under way.
 */
#include "queue/spool_priv.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "queue/crc32c.h"

#define RECORD_MAGIC 0x31425948U /* "HYB1" */
#define OPEN_FILES   48
#define RUNS_MAX     512 /* records gathered for one pwritev: two runs each, IOV_MAX is 1024 */
#define GATHER_BYTES (8U * 1024 * 1024)

static const char file_magic[8] = {'H', 'Y', 'S', 'E', 'G', 0, 0, 1};

struct open_file {
    uint64_t segment; /* 0: free */
    int fd;
    unsigned users;
    bool doomed; /* deleted while being read */
    uint64_t used_at;
};

struct spool {
    char *path;
    int dir_fd;
    uint64_t segment_bytes;
    _Atomic uint64_t next_segment;
    atomic_bool full;

    pthread_mutex_t lock; /* guards files */
    struct open_file files[OPEN_FILES];
    uint64_t clock;

    /* The store thread's: */
    uint64_t current; /* segment that is appended to; 0: none yet */
    int fd;
    uint64_t end_bytes;     /* where the next octet goes, gathered ones counted */
    uint64_t written_bytes; /* of these, handed to the kernel */
    uint64_t kept_bytes;    /* as of the last keep */
    bool is_new;            /* begun in this batch */
    bool dir_changed, wrote;
    uint64_t alone[64]; /* files of single bodies in this batch, to be synced */
    size_t alone_count;
    size_t runs;
    struct iovec iov[RUNS_MAX * 2];
    char headers[RUNS_MAX][SPOOL_RECORD_BYTES];
};

static void file_name(char out[32], uint64_t segment)
{
    snprintf(out, 32, "%016" PRIx64 ".seg", segment);
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
    *out = s;
    return OK;
}

void spool_close(struct spool *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < OPEN_FILES; i++)
        if (s->files[i].segment)
            close(s->files[i].fd);
    if (s->fd >= 0)
        close(s->fd);
    close(s->dir_fd);
    pthread_mutex_destroy(&s->lock);
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

static enum err take_file(struct spool *s, uint64_t segment, int *fd, struct open_file **place)
{
    pthread_mutex_lock(&s->lock);
    struct open_file *f = find_file(s, segment);
    enum err e = OK;
    if (!f) {
        char name[32];
        file_name(name, segment);
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

static void give_file(struct spool *s, int fd, struct open_file *f)
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
    enum err e = take_file(s, segment, &fd, &f);

    if (e)
        return e;
    e = read_all(fd, out, len, at);
    give_file(s, fd, f);
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
    return read_segment(s, b->segment, b->offset + from, out, len);
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

enum err spool_next_record(struct spool *s, uint64_t segment, uint64_t *at, struct spool_record *out)
{
    char head[SPOOL_RECORD_BYTES];
    uint64_t from = *at ? *at : SPOOL_FILE_BYTES;
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
    if (le32toh(magic) != RECORD_MAGIC || le32toh(head_sum) != crc32c(0, head, 24))
        return ERR_CORRUPT;
    *out = (struct spool_record){le64toh(id), from + SPOOL_RECORD_BYTES, le64toh(size), le32toh(sum)};
    *at = out->offset + out->size_bytes;
    return OK;
}

/* ---- writing ---- */

void spool_format_header(char out[SPOOL_RECORD_BYTES], uint64_t message_id, uint64_t size_bytes,
                         uint32_t checksum)
{
    uint32_t magic = htole32(RECORD_MAGIC), sum = htole32(checksum);
    uint64_t size = htole64(size_bytes), id = htole64(message_id);

    memset(out, 0, SPOOL_RECORD_BYTES);
    memcpy(out, &magic, 4);
    memcpy(out + 4, &sum, 4);
    memcpy(out + 8, &size, 8);
    memcpy(out + 16, &id, 8);
    sum = htole32(crc32c(0, out, 24));
    memcpy(out + 24, &sum, 4);
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

enum err spool_create_file(struct spool *s, uint64_t *segment, int *fd)
{
    uint64_t number = atomic_fetch_add(&s->next_segment, 1);
    char name[32], head[SPOOL_FILE_BYTES];
    uint64_t stored = htole64(number);

    file_name(name, number);
    int opened = openat(s->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (opened < 0)
        return err_from_errno(errno);
    memcpy(head, file_magic, 8);
    memcpy(head + 8, &stored, 8);
    struct iovec iov = {head, sizeof(head)};
    enum err e = write_all(opened, &iov, 1, 0);
    if (e) {
        unlinkat(s->dir_fd, name, 0);
        close(opened);
        return e;
    }
    *segment = number;
    *fd = opened;
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
    enum err e = spool_flush(s);

    if (!e && s->wrote && fdatasync(s->fd))
        e = err_from_errno(errno);
    if (e)
        return e;
    if (s->current)
        close_current(s);
    e = spool_create_file(s, &s->current, &s->fd);
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
    char name[32], head[SPOOL_RECORD_BYTES];
    enum err e;

    if (s->alone_count == COUNT_OF(s->alone)) {
        e = spool_sync(s);
        if (e)
            return e;
    }
    file_name(name, b->segment);
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

enum err spool_put(struct spool *s, uint64_t message_id, const struct body *b, struct spool_place *out)
{
    uint64_t need = SPOOL_RECORD_BYTES + b->size_bytes;
    enum err e = OK;

    if (b->segment && !b->mem) {
        *out = (struct spool_place){b->segment, b->offset};
        return body_is_new_file(b) ? put_alone(s, message_id, b) : OK;
    }
    if (!b->mem && b->size_bytes)
        return ERR_INVALID;
    if (!s->current || (s->end_bytes + need > s->segment_bytes && s->end_bytes > SPOOL_FILE_BYTES))
        e = roll_over(s);
    else if (s->runs == RUNS_MAX || s->end_bytes - s->written_bytes > GATHER_BYTES)
        e = spool_flush(s);
    if (e)
        return e;
    spool_format_header(s->headers[s->runs], message_id, b->size_bytes, b->checksum);
    s->iov[s->runs * 2] = (struct iovec){s->headers[s->runs], SPOOL_RECORD_BYTES};
    s->iov[s->runs * 2 + 1] = (struct iovec){b->mem, b->size_bytes};
    s->runs++;
    *out = (struct spool_place){s->current, s->end_bytes + SPOOL_RECORD_BYTES};
    s->end_bytes += need;
    return OK;
}

enum err spool_flush(struct spool *s)
{
    if (!s->runs)
        return OK;
    enum err e = write_all(s->fd, s->iov, (int)s->runs * 2, s->written_bytes);
    s->runs = 0;
    if (e)
        return e;
    s->wrote = true;
    /* Writing begins while SQLite works; the sync then waits for less.  Only a hint: its result does not
     * count. */
    (void)sync_file_range(s->fd, (off_t)s->written_bytes, (off_t)(s->end_bytes - s->written_bytes),
                          SYNC_FILE_RANGE_WRITE);
    s->written_bytes = s->end_bytes;
    return OK;
}

enum err spool_sync(struct spool *s)
{
    enum err e = spool_flush(s);

    if (e)
        return e;
    for (size_t i = 0; i < s->alone_count; i++) {
        struct open_file *f;
        int fd;
        e = take_file(s, s->alone[i], &fd, &f);
        if (e)
            return e;
        if (fdatasync(fd))
            e = err_from_errno(errno);
        give_file(s, fd, f);
        if (e)
            return e;
    }
    s->alone_count = 0;
    if (s->wrote && fdatasync(s->fd))
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
}

void spool_undo(struct spool *s, bool keep_octets)
{
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
}

uint64_t spool_current(const struct spool *s)
{
    return s->current;
}

void spool_delete(struct spool *s, uint64_t segment)
{
    char name[32];

    file_name(name, segment);
    if (unlinkat(s->dir_fd, name, 0) && errno != ENOENT)
        log_warn(NULL, "spool.delete", LOG_STR("file", name), LOG_STR("error", strerror(errno)));
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

/*
 * DIR/flight, in the octet order of the host; a line is 64 octets, so that no two threads write to the same:
 *
 *     line 0, 1   struct flight_head
 *     line 2      recipients whose results are on disk
 *     line 3 …    one for each worker: recipients that it began to send, without those that it gave back
 */
#include "queue/flight.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/mem.h"

#define MAGIC       "hayauma flight 1"
#define LINE        64
#define WORKERS_MAX 1024
#define BOOT_ID     "/proc/sys/kernel/random/boot_id"

struct flight_line {
    _Atomic uint64_t rcpts;
    char fill[LINE - sizeof(uint64_t)];
};
struct flight_head {
    char magic[16], boot[48];
    int64_t run;
    uint64_t device, inode; /* of the file itself: a copy has others */
    uint32_t workers;
    char fill[2 * LINE - 16 - 48 - 3 * 8 - 4];
};
struct flight_file {
    struct flight_head head;
    struct flight_line safe, begun[];
};
_Static_assert(sizeof(struct flight_head) == 2 * LINE && sizeof(struct flight_line) == LINE, "lines");

struct flight {
    struct flight_file *file;
    size_t mapped_bytes; /* 0: it is ordinary memory */
    unsigned workers;
};

static size_t bytes_for(unsigned workers)
{
    return sizeof(struct flight_file) + workers * sizeof(struct flight_line);
}

static bool read_boot(char out[48])
{
    int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, 47);

    if (fd >= 0)
        close(fd);
    memset(out + MAX_OF(n, (ssize_t)0), 0, 48 - (size_t)MAX_OF(n, (ssize_t)0));
    return n > 0;
}

static bool make_head(int fd, int64_t run, unsigned workers, struct flight_head *out)
{
    struct stat st;

    *out = (struct flight_head){.magic = MAGIC, .run = run, .workers = workers};
    if (fstat(fd, &st) != 0 || !read_boot(out->boot))
        return false;
    out->device = st.st_dev;
    out->inode = st.st_ino;
    return true;
}

static int open_file(const char *dir, int flags)
{
    BUF_LOCAL(path);

    buf_putf(&path, "%s/flight", dir);
    return open(buf_str(&path), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
}

/* ---- what was left ---- */

static int64_t read_left(int fd, int64_t run)
{
    struct flight_head head, want;
    struct flight_line line;
    uint64_t begun = 0, safe;

    if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) || head.workers > WORKERS_MAX ||
        !make_head(fd, run, head.workers, &want) || memcmp(&head, &want, sizeof(head)) != 0)
        return -1;
    for (uint32_t i = 0; i <= head.workers; i++) {
        if (pread(fd, &line, sizeof(line), (off_t)(sizeof(head) + i * sizeof(line))) != (ssize_t)sizeof(line))
            return -1;
        if (i == 0)
            safe = line.rcpts;
        else
            begun += line.rcpts;
    }
    return begun >= safe && begun - safe <= INT64_MAX ? (int64_t)(begun - safe) : -1;
}

int64_t flight_left(const char *dir, int64_t run)
{
    int fd = open_file(dir, O_RDONLY);
    int64_t left = fd < 0 ? -1 : read_left(fd, run);

    if (fd >= 0)
        close(fd);
    return left;
}

/* ---- counting ---- */

/* Its blocks are taken now: a page without one could not be written to on a full disk. */
static struct flight_file *map_file(int fd, int64_t run, unsigned workers)
{
    size_t bytes = bytes_for(workers);
    struct flight_head head;
    char *zeros = mem_zalloc(bytes);
    bool good = ftruncate(fd, 0) == 0 && posix_fallocate(fd, 0, (off_t)bytes) == 0 &&
                pwrite(fd, zeros, bytes, 0) == (ssize_t)bytes && make_head(fd, run, workers, &head);

    mem_free(zeros);
    if (!good)
        return NULL;
    struct flight_file *file = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (file == MAP_FAILED)
        return NULL;
    file->head = head;
    return file;
}

struct flight *flight_start(const char *dir, int64_t run, unsigned workers)
{
    struct flight *f = MEM_NEW(struct flight);
    int fd = open_file(dir, O_RDWR | O_CREAT);

    f->workers = MAX_OF(MIN_OF(workers, WORKERS_MAX), 1U);
    f->mapped_bytes = bytes_for(f->workers);
    f->file = fd < 0 ? NULL : map_file(fd, run, f->workers);
    if (!f->file) {
        log_warn(NULL, "store.flight", LOG_STR("file", "flight"), LOG_STR("why", strerror(errno)),
                 LOG_STR("effect", "after a crash it will not be known how many may get a second copy"));
        f->file = mem_zalloc(f->mapped_bytes);
        f->mapped_bytes = 0;
    }
    if (fd >= 0)
        close(fd);
    return f;
}

void flight_close(struct flight *f)
{
    if (!f)
        return;
    if (f->mapped_bytes)
        munmap(f->file, f->mapped_bytes);
    else
        mem_free(f->file);
    mem_free(f);
}

/* One writer a line, so that no locked addition is needed. */
static void add(struct flight_line *line, uint64_t n)
{
    uint64_t now = atomic_load_explicit(&line->rcpts, memory_order_relaxed);

    atomic_store_explicit(&line->rcpts, now + n, memory_order_relaxed);
}

void flight_begin(struct flight *f, unsigned worker, uint32_t rcpts)
{
    add(&f->file->begun[worker % f->workers], rcpts);
}

void flight_end(struct flight *f, unsigned worker, uint32_t rcpts)
{
    add(&f->file->begun[worker % f->workers], -(uint64_t)rcpts);
}

void flight_safe(struct flight *f, uint64_t rcpts)
{
    add(&f->file->safe, rcpts);
}

#undef _FILE_OFFSET_BITS /* else pwrite and pwrite64 below become one symbol, defined twice */
#include "tests/unit/queue/faults.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int countdown[FAULT_CALLS]; /* 0: well; n: the n-th call from now fails */
static atomic_bool stuck;
static atomic_int fail_errno, failed_calls;

static bool fails(enum fault_call c)
{
    int left = atomic_load(&countdown[c]);

    if (left == 0)
        return false;
    if (left > 1) {
        atomic_fetch_sub(&countdown[c], 1);
        return false;
    }
    if (!atomic_load(&stuck))
        atomic_store(&countdown[c], 0);
    atomic_fetch_add(&failed_calls, 1);
    errno = atomic_load(&fail_errno);
    return true;
}

int fdatasync(int fd)
{
    return fails(FAULT_SYNC) ? -1 : (int)syscall(SYS_fdatasync, fd);
}
int fsync(int fd)
{
    return fails(FAULT_SYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}
ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t at)
{
    return fails(FAULT_BODY_WRITE) ? -1 : syscall(SYS_pwritev, fd, iov, count, at, 0);
}
ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t at)
{
    return fails(FAULT_BODY_WRITE) ? -1 : syscall(SYS_pwritev, fd, iov, count, at, 0);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
    return fails(FAULT_WRITE) ? -1 : syscall(SYS_pwrite64, fd, p, n, at);
}
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
    return fails(FAULT_WRITE) ? -1 : syscall(SYS_pwrite64, fd, p, n, at);
}

void faults_set(enum fault_call call, int nth, int error, bool stays)
{
    atomic_store(&failed_calls, 0);
    atomic_store(&fail_errno, error);
    atomic_store(&stuck, stays);
    atomic_store(&countdown[call], nth);
}

int faults_met(void)
{
    return atomic_load(&failed_calls);
}

void faults_heal(void)
{
    for (int c = 0; c < FAULT_CALLS; c++)
        atomic_store(&countdown[c], 0);
    atomic_store(&stuck, false);
}

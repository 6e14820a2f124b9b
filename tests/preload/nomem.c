/*
 * A malloc that fails when a test says so: LD_PRELOAD, with HAYAUMA_TEST_NOMEM naming a file of eight octets.
 * As long as the number in it is above 0 each allocation of the process takes one off, and the one that takes
 * the last fails.
 *
 * Some libraries do not look at what malloc gives them (libtasn1 4.19: asn1_create_element).  Where one of
 * them reads through NULL, the process ends with status 77 instead of SIGSEGV, so that a test can tell that
 * from a fault of ours.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

static _Atomic int64_t *left;

static void *where(const ucontext_t *c)
{
#if defined(__x86_64__)
    return (void *)c->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (void *)c->uc_mcontext.pc;
#else
    (void)c;
    return NULL;
#endif
}

/* What the C library reads, it reads for its caller: that may be us. */
static void on_fault(int number, siginfo_t *info, void *context)
{
    Dl_info object;

    if ((uintptr_t)info->si_addr < 65536 && dladdr(where(context), &object) && object.dli_fname &&
        !strstr(object.dli_fname, "hayauma") && !strstr(object.dli_fname, "/libc."))
        _exit(77);
    signal(number, SIG_DFL); /* it faults again */
}

__attribute__((constructor)) static void begin(void)
{
    const struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    const char *path = getenv("HAYAUMA_TEST_NOMEM");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0)
        abort();
    void *map = mmap(NULL, sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        abort();
    left = map;
    (void)sigaction(SIGSEGV, &fault, NULL);
}

static int fails(void)
{
    if (!left || atomic_load_explicit(left, memory_order_relaxed) <= 0 || atomic_fetch_sub(left, 1) != 1)
        return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t n)
{
    return fails() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t each)
{
    return fails() ? NULL : __libc_calloc(n, each);
}

void *realloc(void *p, size_t n)
{
    return fails() ? NULL : __libc_realloc(p, n);
}

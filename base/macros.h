/* Small words that all folders use.  None of them hides a return or a goto. */
#pragma once

#include <stddef.h>

#define MUST_CHECK      __attribute__((warn_unused_result))
#define PRINTF_LIKE(a, b) __attribute__((format(printf, a, b)))
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define BIT(n)          (1U << (n))
#define MIN_OF(a, b)    ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b)    ((a) > (b) ? (a) : (b))

/* The struct that holds `member` at `ptr`. */
#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/*
 * CLEANUP(fn) before a local pointer calls fn(pointer) when the block ends.  fn must accept NULL,
 * and DEFINE_CLEANUP(type, fn) must stand once at file level.  TAKE(p) moves the pointer out, so
 * that nothing is cleaned up.
 */
#define DEFINE_CLEANUP(type, fn)                                                                             \
    static inline void fn##_cleanup_(type *p)                                                                \
    {                                                                                                        \
        fn(*p);                                                                                              \
    }
#define CLEANUP(fn) __attribute__((cleanup(fn##_cleanup_)))
#define TAKE(p)                                                                                              \
    __extension__({                                                                                          \
        __typeof__(p) taken_ = (p);                                                                          \
        (p) = NULL;                                                                                          \
        taken_;                                                                                              \
    })

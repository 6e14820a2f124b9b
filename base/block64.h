/*
 * Sixty-four octets looked at together: a mask with one bit per octet, the first octet in bit 0.  For loops
 * that see every octet of every message; who uses it keeps a way that goes octet by octet, for the ends and
 * for other machines. BLOCK64 is defined where this can be compiled; block64_usable() says whether this
 * processor can do it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>

#define BLOCK64         64
#define BLOCK64_CODE    __attribute__((target("avx2"))) /* of every function that uses what follows */
#define BLOCK64_INLINE_ __attribute__((target("avx2"), always_inline)) static inline

static inline bool block64_usable(void)
{
    return __builtin_cpu_supports("avx2");
}

BLOCK64_INLINE_ __m256i block64_half_(const char *at)
{
    return _mm256_loadu_si256((const __m256i_u *)(const void *)at);
}

BLOCK64_INLINE_ uint64_t block64_join_(__m256i low, __m256i high)
{
    return (uint64_t)(uint32_t)_mm256_movemask_epi8(low) | (uint64_t)(uint32_t)_mm256_movemask_epi8(high)
                                                               << 32;
}

/* Where `c` stands. */
BLOCK64_INLINE_ uint64_t block64_of(const char *at, char c)
{
    const __m256i all = _mm256_set1_epi8(c);

    return block64_join_(_mm256_cmpeq_epi8(block64_half_(at), all),
                         _mm256_cmpeq_epi8(block64_half_(at + 32), all));
}

/* Where the highest bit is set. */
BLOCK64_INLINE_ uint64_t block64_of_8bit(const char *at)
{
    return block64_join_(block64_half_(at), block64_half_(at + 32));
}
#endif

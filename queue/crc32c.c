#include "queue/crc32c.h"

#include <pthread.h>
#include <string.h>

#define POLY_REFLECTED 0x82f63b78U

static uint32_t table[8][256];
static pthread_once_t made = PTHREAD_ONCE_INIT;

static void make_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++)
            c = c & 1 ? (c >> 1) ^ POLY_REFLECTED : c >> 1;
        table[0][i] = c;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int t = 1; t < 8; t++)
            table[t][i] = (table[t - 1][i] >> 8) ^ table[0][table[t - 1][i] & 0xff];
}

static uint32_t sum_by_table(uint32_t c, const unsigned char *p, size_t len)
{
    pthread_once(&made, make_tables);
    for (; len >= 8; p += 8, len -= 8) {
        uint32_t low =
            c ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        c = table[7][low & 0xff] ^ table[6][low >> 8 & 0xff] ^ table[5][low >> 16 & 0xff] ^
            table[4][low >> 24] ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    while (len--)
        c = (c >> 8) ^ table[0][(c ^ *p++) & 0xff];
    return c;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t sum_by_instruction(uint32_t c, const unsigned char *p,
                                                                     size_t len)
{
    uint64_t wide = c;

    for (; len >= 8; p += 8, len -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    c = (uint32_t)wide;
    while (len--)
        c = __builtin_ia32_crc32qi(c, *p++);
    return c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *octets, size_t len)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2"))
        return ~sum_by_instruction(~crc, octets, len);
#endif
    return ~sum_by_table(~crc, octets, len);
}

/* a * b modulo the polynomial; bit 31 is x^0. */
static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;

    for (; a; a <<= 1) {
        if (a & 0x80000000U)
            product ^= b;
        b = b & 1 ? (b >> 1) ^ POLY_REFLECTED : b >> 1;
    }
    return product;
}

/* The sum is linear: what differs, moved on over the octets behind it, is all that changes. */
uint32_t crc32c_replaced(uint32_t crc, const void *old, const void *new, size_t len, uint64_t after)
{
    uint32_t difference = crc32c(0, old, len) ^ crc32c(0, new, len);
    uint32_t power = 0x00800000U; /* x^8: one octet */

    for (; after; after >>= 1) {
        if (after & 1)
            difference = multiply(difference, power);
        power = multiply(power, power);
    }
    return crc ^ difference;
}

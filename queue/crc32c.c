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

/* x^(8n): what a sum is multiplied with when n octets of 0 follow. */
static uint32_t power(uint64_t n)
{
    uint32_t result = 0x80000000U, square = 0x00800000U;

    for (; n; n >>= 1) {
        if (n & 1)
            result = multiply(result, square);
        square = multiply(square, square);
    }
    return result;
}

#if defined(__x86_64__)
/*
 * The instruction gives a result every cycle, but only after three: three parts are summed side by side, and
 * joined through tables that say what a sum becomes when PART octets (or two times that many) follow.
 */
#define PART 256

static uint32_t behind_part[2][4][256];
static pthread_once_t parts_made = PTHREAD_ONCE_INIT;

static void make_parts(void)
{
    for (unsigned parts = 0; parts < 2; parts++) {
        uint32_t factor = power((uint64_t)PART * (2 - parts));
        for (unsigned octet = 0; octet < 4; octet++)
            for (uint32_t i = 0; i < 256; i++)
                behind_part[parts][octet][i] = multiply(i << 8 * octet, factor);
    }
}

static uint32_t moved(const uint32_t table_of[4][256], uint32_t c)
{
    return table_of[0][c & 0xff] ^ table_of[1][c >> 8 & 0xff] ^ table_of[2][c >> 16 & 0xff] ^
           table_of[3][c >> 24];
}

static uint64_t word_at(const unsigned char *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof(word));
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t sum_by_instruction(uint32_t c, const unsigned char *p,
                                                                     size_t len)
{
    uint64_t wide = c;

    if (len >= 3 * (size_t)PART)
        pthread_once(&parts_made, make_parts);
    for (; len >= 3 * (size_t)PART; p += 3 * (size_t)PART, len -= 3 * (size_t)PART) {
        uint64_t second = 0, third = 0;
        for (size_t i = 0; i < PART; i += 8) {
            wide = __builtin_ia32_crc32di(wide, word_at(p + i));
            second = __builtin_ia32_crc32di(second, word_at(p + PART + i));
            third = __builtin_ia32_crc32di(third, word_at(p + 2 * PART + i));
        }
        wide = moved(behind_part[0], (uint32_t)wide) ^ moved(behind_part[1], (uint32_t)second) ^ third;
    }
    for (; len >= 8; p += 8, len -= 8)
        wide = __builtin_ia32_crc32di(wide, word_at(p));
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

/* The sum is linear: what differs, moved on over the octets behind it, is all that changes. */
uint32_t crc32c_replaced(uint32_t crc, const void *old, const void *new, size_t len, uint64_t after)
{
    uint32_t difference = crc32c(0, old, len) ^ crc32c(0, new, len);

    return crc ^ multiply(difference, power(after));
}

/* What comes before adds to the sum as if it stood there with zeros behind it. */
uint32_t crc32c_last(uint32_t whole, uint32_t before, uint64_t len)
{
    return whole ^ multiply(before, power(len));
}

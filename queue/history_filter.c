#include "queue/history_priv.h"

#include "base/hash.h"

/*
 * A Bloom filter per BLOCK_ROWS rows, at most three keys a row: more than ten bits a key, seven probes, about
 * one wrong block in a hundred.  The hashes are stored, so they are the same in every process.
 */
#define FILTER_BITS   (FILTER_BYTES * 8U)
#define FILTER_PROBES 7U

static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ULL;
    return h ^ (h >> 33);
}

uint64_t filter_hash_message(uint64_t message_id)
{
    return mix(message_id + 1);
}

uint64_t filter_hash_address(struct bytes address)
{
    uint64_t h = 0xcbf29ce484222325ULL; /* FNV-1a over the folded octets */

    for (size_t i = 0; i < address.len; i++)
        h = (h ^ (unsigned char)ascii_lower(address.at[i])) * 0x100000001b3ULL;
    return mix(h ^ 0xaddULL);
}

uint64_t filter_hash_domain(struct bytes domain)
{
    return mix(hash_stable(domain) ^ 0xd0ULL);
}

static uint32_t probe(uint64_t hash, uint32_t i)
{
    return ((uint32_t)hash + i * ((uint32_t)(hash >> 32) | 1)) % FILTER_BITS;
}

void filter_add(uint8_t filter[FILTER_BYTES], uint64_t hash)
{
    for (uint32_t i = 0; i < FILTER_PROBES; i++) {
        uint32_t bit = probe(hash, i);
        filter[bit / 8] = (uint8_t)(filter[bit / 8] | (1U << (bit % 8)));
    }
}

bool filter_has(const uint8_t *filter, uint64_t hash)
{
    for (uint32_t i = 0; i < FILTER_PROBES; i++) {
        uint32_t bit = probe(hash, i);
        if (!(filter[bit / 8] & (1U << (bit % 8))))
            return false;
    }
    return true;
}

/* CRC-32C (Castagnoli), the checksum of bodies and record headers.  Pure; any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Continue a sum: start with crc 0, feed the octets in any number of runs. */
uint32_t crc32c(uint32_t crc, const void *octets, size_t len);
/*
 * The sum of a run in which `old` was replaced by `new`, both of `len` octets, with `after` octets behind them; the run
 * itself is not needed.
 */
uint32_t crc32c_replaced(uint32_t crc, const void *old, const void *new, size_t len, uint64_t after);
/* The sum of the last `len` octets of a run with the sum `whole`, where `before` is the sum of those before them. */
uint32_t crc32c_last(uint32_t whole, uint32_t before, uint64_t len);

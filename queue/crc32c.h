/* CRC-32C (Castagnoli), the checksum of bodies and record headers.  Pure; any thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Continue a sum: start with crc 0, feed the octets in any number of runs. */
uint32_t crc32c(uint32_t crc, const void *octets, size_t len);

/* Any octets as domain: what is accepted is a key (clean, bounded, unchanged by a second pass). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/domain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_make(data, size);
    char once[DOMAIN_MAX_BYTES + 1], twice[DOMAIN_MAX_BYTES + 1];
    size_t len;

    if (domain_of_address(text).len > size)
        abort();
    if (domain_normalise(text, once) != OK)
        return 0;
    len = strnlen(once, sizeof(once));
    if (len == 0 || len > DOMAIN_MAX_BYTES)
        abort();
    for (size_t i = 0; i < len; i++)
        if (once[i] <= ' ' || once[i] >= 0x7f || (once[i] >= 'A' && once[i] <= 'Z') ||
            strchr("@/\\\"<>*,;%", once[i]))
            abort();
    if (!domain_is_literal(bytes_of(once)) && (once[0] == '.' || once[len - 1] == '.' || strchr(once, ':')))
        abort();
    if (domain_normalise(bytes_of(once), twice) != OK || strcmp(once, twice) != 0)
        abort();
    return 0;
}

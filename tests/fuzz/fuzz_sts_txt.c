/*
 * Any octets as rdata of TXT records of _mta-sts.DOMAIN: split at 0xff into records.  What is chosen is an id
 * of letters and digits, and the same record twice is never chosen.
 */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>

#include "engine/sts/sts_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest = bytes_make(data, size), records[16];
    char id[STS_ID_MAX + 1];
    const char *why = "";
    size_t count = 0;

    for (; rest.len && count < COUNT_OF(records); count++) {
        records[count] = bytes_first(rest, bytes_find(rest, (char)0xff));
        rest = bytes_skip(rest, records[count].len + 1);
    }
    enum sts_txt found = sts_txt_choose(records, count, id, &why);
    if (found == STS_TXT_BAD && !*why)
        abort();
    if (found != STS_TXT_GOOD)
        return 0;
    size_t len = strnlen(id, sizeof(id));
    if (len == 0 || len > STS_ID_MAX)
        abort();
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)id[i]))
            abort();
    const struct bytes twice[] = {records[0], records[0]};
    if (count == 1 && sts_txt_choose(twice, 2, id, &why) != STS_TXT_BAD)
        abort();
    return 0;
}

/* Any octets as TXT rdata: what is accepted is an https URI or a clean address, and reads back the same. */
#include <stdint.h>
#include <stdlib.h>

#include "engine/tlsrpt/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_rua(const struct tlsrpt_rua *rua)
{
    struct arena arena = {0};
    struct tlsrpt_rua again;
    BUF_LOCAL(uri);

    if (!rua->https && !tlsrpt_is_address(bytes_of(rua->to)))
        abort();
    for (const char *c = rua->to; *c; c++)
        if (*c <= ' ' || *c == 0x7f)
            abort();
    buf_putf(&uri, "%s%s", rua->https ? "" : "mailto:", rua->to);
    bool reserved =
        !rua->https && strpbrk(rua->to, "%?!"); /* decoded, these would need their escapes again */
    if (!reserved && uri.len <= TLSRPT_URI_BYTES &&
        (!tlsrpt_uri_parse(buf_bytes(&uri), &arena, &again) || strcmp(again.to, rua->to) != 0))
        abort();
    arena_fini(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes set[2];
    struct arena arena = {0};
    struct tlsrpt_record r = {0};
    size_t half = size ? data[0] % size : 0;

    set[0] = bytes_make(data, half);
    set[1] = bytes_make(data + half, size - half);
    if (tlsrpt_record_parse(set, 2, &arena, &r) == TLSRPT_RECORD_FOUND) {
        if (!r.count || r.count > TLSRPT_RUA_MAX)
            abort();
        for (size_t i = 0; i < r.count; i++)
            check_rua(&r.rua[i]);
    }
    if (tlsrpt_record_parse_text(bytes_make(data, size), &arena, &r))
        for (size_t i = 0; i < r.count; i++)
            check_rua(&r.rua[i]);
    arena_fini(&arena);
    return 0;
}

/* Paths of the envelope: what is taken reads the same again, and holds nothing that could end a line or a
 * path. */
#include <stdint.h>
#include <stdlib.h>

#include "engine/smtp/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct address *a, enum address_fault fault)
{
    struct address again;

    for (size_t i = 0; i < a->text.len; i++)
        if ((unsigned char)a->text.at[i] < ' ' || a->text.at[i] == 0x7f)
            abort();
    if (a->text.len == 0)
        return;
    if (a->text.len > ADDRESS_PATH_MAX - 2 || a->local.len + 1 + a->domain.len != a->text.len)
        abort();
    if (address_parse_mailbox(a->text, &again) != fault || !bytes_eq(again.domain, a->domain))
        abort();
    if (bytes_find(a->domain, '>') < a->domain.len || bytes_find(a->domain, ' ') < a->domain.len)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_make(data, size);
    struct address a;
    size_t used;

    enum address_fault fault = address_parse_path(in, &a, &used);
    if (fault == ADDRESS_OK || fault == ADDRESS_LONG_LOCAL) {
        if (used > size || in.at[0] != '<' || in.at[used - 1] != '>')
            abort();
        check(&a, fault);
    }
    if (address_is_helo(in) && (size > 257 || memchr(data, ' ', size) || !address_is_utf8(in)))
        abort();
    return 0;
}

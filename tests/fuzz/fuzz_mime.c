/* A message on its way to 7-bit: its header section up to the first octet 0, then its body. */
#include <assert.h>
#include <stdlib.h>

#include "engine/smtp/mime.h"

static int has_8bit(struct bytes s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((signed char)s.at[i] < 0)
            return 1;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes all = bytes_make(data, size);
    size_t header = bytes_find(all, '\0');
    struct bytes fields = bytes_first(all, header), body = bytes_skip(all, header + 1);
    BUF_LOCAL(fields_out);
    BUF_LOCAL(body_out);

    bool done = mime_to_7bit(fields, body, &fields_out, &body_out);
    assert(done || (fields_out.len == 0 && body_out.len == 0));
    assert(!done || has_8bit(body));
    if (done) { /* a second time there is nothing left to do, or the same stays undone */
        BUF_LOCAL(again_fields);
        BUF_LOCAL(again_body);
        if (!has_8bit(buf_bytes(&body_out)))
            assert(!mime_to_7bit(buf_bytes(&fields_out), buf_bytes(&body_out), &again_fields, &again_body));
    }
    return 0;
}

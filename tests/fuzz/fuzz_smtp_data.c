/* Content of DATA: ends where a plain search for CRLF "." CRLF says, however it is split; what comes out has
 * no bare newline. */
#include <stdint.h>
#include <stdlib.h>

#include "engine/smtp/data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void collect(void *arg, struct bytes run)
{
    buf_put(arg, run);
}

static size_t decode(struct bytes in, size_t piece, struct data_decoder *d, struct buf *out)
{
    size_t used = 0;

    data_decoder_init(d, true);
    while (used < in.len && d->at != DATA_AT_END)
        used += data_decode(d, bytes_first(bytes_skip(in, used), piece), collect, out);
    return used;
}

/* The DATA command's own CRLF stands before the content. */
static size_t end_by_search(struct bytes in)
{
    BUF_LOCAL(all);

    buf_puts(&all, "\r\n");
    buf_put(&all, in);
    const char *end = memmem(all.at, all.len, "\r\n.\r\n", 5);
    return end ? (size_t)(end - all.at) + 3 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_make(data, size);
    struct data_decoder whole, cut;
    BUF_LOCAL(out);
    BUF_LOCAL(out_cut);

    size_t used = decode(in, SIZE_MAX, &whole, &out);
    size_t used_cut = decode(in, size ? 1 + data[0] % 5 : 1, &cut, &out_cut);
    size_t end = end_by_search(in);
    if (used != used_cut || whole.at != cut.at || whole.bare_newline != cut.bare_newline ||
        whole.nul != cut.nul || !bytes_eq(buf_bytes(&out), buf_bytes(&out_cut)))
        abort();
    if ((whole.at == DATA_AT_END) != (end != 0) || (end && used != end))
        abort();
    for (size_t i = 0; i < out.len; i++) {
        if (out.at[i] == '\n' && (i == 0 || out.at[i - 1] != '\r'))
            abort();
        if (out.at[i] == '\r' && (i + 1 == out.len || out.at[i + 1] != '\n'))
            abort();
    }
    return 0;
}

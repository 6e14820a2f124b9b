/* Header sections: read in one piece and in many they are the same, and nothing but steering fields is lost.
 */
#include <stdint.h>
#include <stdlib.h>

#include "engine/smtp/data.h"
#include "engine/smtp/header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEADER_MAX 4096

struct reading {
    struct header h;
    struct buf body;
    enum header_step step;
    size_t piece;
};

static void collect(void *arg, struct bytes run)
{
    buf_put(arg, run);
}

static void read_all(struct reading *r, struct bytes content)
{
    header_init(&r->h, HEADER_MAX);
    r->step = HEADER_MORE;
    while (content.len && r->step != HEADER_TOO_LARGE) {
        struct bytes piece = bytes_first(content, r->piece);
        size_t used = 0;
        if (r->step == HEADER_MORE)
            r->step = header_take(&r->h, piece, &used);
        if (r->step == HEADER_DONE)
            buf_put(&r->body, bytes_skip(piece, used));
        content = bytes_skip(content, piece.len);
    }
    if (r->step == HEADER_MORE)
        header_end(&r->h);
}

static void check_same(const struct reading *a, const struct reading *b)
{
    if (a->step != b->step)
        abort();
    if (a->step == HEADER_TOO_LARGE)
        return;
    BUF_LOCAL(body_a);
    BUF_LOCAL(body_b);
    buf_put(&body_a, header_overrun(&a->h));
    buf_put(&body_a, buf_bytes(&a->body));
    buf_put(&body_b, header_overrun(&b->h));
    buf_put(&body_b, buf_bytes(&b->body));
    if (!bytes_eq(header_fields(&a->h), header_fields(&b->h)) ||
        !bytes_eq(buf_bytes(&body_a), buf_bytes(&body_b)) ||
        !bytes_eq(buf_bytes(&a->h.campaign), buf_bytes(&b->h.campaign)) || a->h.received != b->h.received)
        abort();
}

/* Fields that stay begin and end as fields do. */
static void check_fields(const struct reading *r)
{
    struct bytes fields = header_fields(&r->h);

    if (r->step == HEADER_TOO_LARGE || fields.len == 0)
        return;
    if (fields.len > HEADER_MAX || fields.at[0] == ' ' || fields.at[0] == '\t' || fields.at[0] == ':')
        abort();
    if (fields.at[fields.len - 1] != '\n' || bytes_starts(fields, BYTES("\r\n")))
        abort();
    if (memmem(fields.at, fields.len, "\r\n\r\n", 4) || bytes_istarts(fields, BYTES("X-Campaign:")))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct data_decoder d;
    struct reading whole = {.piece = SIZE_MAX}, cut = {.piece = size ? 1 + data[0] % 7 : 1};
    BUF_LOCAL(content);

    data_decoder_init(&d, false);
    data_decode(&d, bytes_make(data, size), collect, &content);
    data_decode_last(&d, collect, &content);
    read_all(&whole, buf_bytes(&content));
    read_all(&cut, buf_bytes(&content));
    check_same(&whole, &cut);
    check_fields(&whole);
    header_fini(&whole.h);
    header_fini(&cut.h);
    buf_fini(&whole.body);
    buf_fini(&cut.body);
    return 0;
}

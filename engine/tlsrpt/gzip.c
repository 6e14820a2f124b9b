#include "engine/tlsrpt/gzip.h"

#define ZLIB_CONST /* next_in is not written through */
#include <stdlib.h>
#include <zlib.h>

#define GZIP_WINDOW (15 + 16) /* the largest window, in gzip's frame */
#define STEP        65536

bool gzip_is(struct bytes in)
{
    return in.len >= 3 && memcmp(in.at, "\x1f\x8b\x08", 3) == 0;
}

static const unsigned char *octets(struct bytes in)
{
    return (const unsigned char *)in.at;
}

void gzip_pack(struct bytes in, struct buf *out)
{
    z_stream z = {.next_in = octets(in), .avail_in = (uInt)in.len};

    if (deflateInit2(&z, 9, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        abort(); /* no memory: as our own allocations */
    size_t bound = deflateBound(&z, (uLong)in.len);
    z.next_out = (unsigned char *)buf_reserve(out, bound);
    z.avail_out = (uInt)bound;
    if (deflate(&z, Z_FINISH) != Z_STREAM_END)
        abort(); /* there was room for any input */
    out->len += bound - z.avail_out;
    deflateEnd(&z);
}

/* One member, or what is left of it: Z_STREAM_END at its end, Z_BUF_ERROR when `max` is reached. */
static int unpack_member(z_stream *z, size_t room, struct buf *out)
{
    int rc = Z_OK;

    while (rc == Z_OK) {
        size_t step = MIN_OF(room + 1, (size_t)STEP); /* one more than allowed: to see that there is more */
        z->next_out = (unsigned char *)buf_reserve(out, step);
        z->avail_out = (uInt)step;
        rc = inflate(z, Z_NO_FLUSH);
        size_t made = step - z->avail_out;
        if (made > room)
            return Z_BUF_ERROR;
        out->len += made;
        room -= made;
        if (rc == Z_BUF_ERROR || (rc == Z_OK && !made && !z->avail_in))
            return Z_DATA_ERROR; /* cut off */
    }
    return rc;
}

enum err gzip_unpack(struct bytes in, size_t max, struct buf *out)
{
    z_stream z = {.next_in = octets(in), .avail_in = (uInt)in.len};
    size_t before = out->len;
    int rc;

    if (!gzip_is(in))
        return ERR_INVALID;
    if (inflateInit2(&z, GZIP_WINDOW) != Z_OK)
        abort();
    do {
        rc = unpack_member(&z, max - (out->len - before), out);
        if (rc == Z_STREAM_END && gzip_is(bytes_make(z.next_in, z.avail_in)))
            rc = inflateReset(&z); /* another member */
    } while (rc == Z_OK);
    inflateEnd(&z);
    if (rc == Z_STREAM_END)
        return OK;
    out->len = before;
    return rc == Z_BUF_ERROR ? ERR_FULL : ERR_INVALID;
}

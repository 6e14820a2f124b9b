#include "webui-api/json_write.h"

static int take_chunk(const char *text, size_t len, void *out)
{
    buf_put(out, bytes_make(text, len));
    return 0;
}

void json_put_tree(struct buf *out, const char *key, const json_t *tree)
{
    json_put_raw(out, key, (struct bytes){0}); /* the key alone */
    if (!tree || json_dump_callback(tree, take_chunk, out, JSON_COMPACT | JSON_ENCODE_ANY) != 0)
        buf_puts(out, "null");
}

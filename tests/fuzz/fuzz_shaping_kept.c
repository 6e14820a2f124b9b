/* Any value that may have been kept of an event: taken whole or not at all, and what was taken is kept and
 * taken again. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/shaping_priv.h"

#define NOW_UNIX_MS INT64_C(1795420800000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct event_kept k, again;
    struct buf text = {0};
    uint64_t left_ms;
    json_t *json = event_kept_parse(bytes_make(data, size), 1, &k);

    if (!json)
        return 0;
    if (!isfinite(k.event.value) || k.event.value < 0 || !k.group)
        abort();
    event_kept_put(&text, &k);
    json_t *second = event_kept_parse(buf_bytes(&text), 1, &again);
    if (!second || again.what != k.what || again.until_unix_ms != k.until_unix_ms ||
        strcmp(again.event.text, k.event.text) != 0)
        abort();
    if (event_kept_resume(&k, NOW_UNIX_MS, &left_ms) && k.until_unix_ms && k.until_unix_ms <= NOW_UNIX_MS)
        abort();
    buf_fini(&text);
    json_decref(second);
    json_decref(json);
    return 0;
}

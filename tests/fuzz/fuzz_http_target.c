/* Any octets as a request-target: what is accepted is bounded, NUL-terminated text without control
 * characters. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "webui-api/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_clean(const char *s, size_t most)
{
    size_t len = strlen(s);

    if (len > most)
        abort();
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    struct http_target t = {0};

    if (!http_target_parse(bytes_make(data, size), &arena, &t)) {
        if (!size || data[0] != '/' || t.segment_count > HTTP_SEGMENTS_MAX || t.param_count > HTTP_PARAMS_MAX)
            abort();
        for (size_t i = 0; i < t.segment_count; i++)
            expect_clean(t.segments[i], size);
        for (size_t i = 0; i < t.param_count; i++) {
            expect_clean(t.params[i].name, size);
            expect_clean(t.params[i].value, size);
            for (size_t k = 0; k < i; k++)
                if (strcmp(t.params[k].name, t.params[i].name) == 0)
                    abort();
        }
    }
    arena_fini(&arena);

    /* The same octets as headers: "name:value" lines. */
    struct http_field fields[16];
    size_t count = 0;
    for (struct bytes rest = bytes_make(data, size); rest.len && count < 16;) {
        struct bytes line = bytes_first(rest, bytes_find(rest, '\n'));
        size_t colon = bytes_find(line, ':');
        fields[count++] = (struct http_field){bytes_first(line, colon), bytes_skip(line, colon + 1)};
        rest = bytes_skip(rest, line.len + 1);
    }
    if (!http_gate(BYTES("HTTP/1.1"), fields, count)) {
        size_t lengths = 0, codings = 0;
        for (size_t i = 0; i < count; i++) {
            lengths += bytes_ieq(fields[i].name, BYTES("content-length"));
            codings += bytes_ieq(fields[i].name, BYTES("transfer-encoding"));
        }
        if (lengths + codings > 1)
            abort();
    }
    return 0;
}

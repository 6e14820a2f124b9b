/*
 * Any octets as a report that somebody sent: file, gzip or mail.  What is accepted is bounded, and as the
 * standard writes it reads back the same, with no new deviation.
 */
#include <stdint.h>
#include <stdlib.h>

#include "engine/tlsrpt/extract.h"
#include "engine/tlsrpt/incoming.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_json(void *arg, struct bytes json)
{
    struct arena arena = {0}, arena2 = {0};
    struct tlsrpt_in in = {0}, again = {0};
    const char *why = NULL;
    BUF_LOCAL(text);
    BUF_LOCAL(text2);
    size_t *count = arg;

    if (++*count > TLSRPT_REPORTS_MAX)
        abort();
    if (tlsrpt_in_parse(json, &arena, &in, &why) != OK) {
        if (!why)
            abort();
        arena_fini(&arena);
        return;
    }
    if (in.policy_count > TLSRPT_POLICIES_MAX || in.end_unix < in.begin_unix || in.failed > (uint64_t)1 << 53)
        abort();
    tlsrpt_in_format(&in, &text);
    if (tlsrpt_in_parse(buf_bytes(&text), &arena2, &again, &why) != OK) {
        if (text.len <= TLSRPT_JSON_MAX)
            abort();
    } else {
        if (again.successful != in.successful || again.failed != in.failed ||
            again.policy_count != in.policy_count)
            abort();
        tlsrpt_in_format(&again, &text2);
        if (!bytes_eq(buf_bytes(&text), buf_bytes(&text2)))
            abort();
    }
    arena_fini(&arena);
    arena_fini(&arena2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *why = NULL;
    size_t count = 0;

    if (tlsrpt_extract(bytes_make(data, size), check_json, &count, &why) != OK && !why)
        abort();
    return 0;
}

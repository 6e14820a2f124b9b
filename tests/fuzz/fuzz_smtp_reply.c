/* Replies: whatever comes and however it is cut, the result is the same and the memory bounded. */
#include <stdlib.h>

#include "engine/smtp/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool claim)
{
    if (!claim)
        abort();
}

/* Number of complete replies, or of what was read before the first bad one; `sum` tells their content. */
static int parse_all(struct bytes in, size_t step, uint64_t *sum)
{
    struct smtp_reply r = {0};
    int done = 0;

    *sum = 0;
    while (in.len) {
        struct bytes piece = bytes_first(in, step);
        in = bytes_skip(in, piece.len);
        while (piece.len) {
            enum smtp_parse p = smtp_reply_parse(&r, &piece);
            must(r.text.len <= SMTP_REPLY_TEXT_MAX + SMTP_REPLY_LINES_MAX);
            if (p == SMTP_PARSE_BAD) {
                must(r.why != NULL);
                smtp_reply_fini(&r);
                return ~done;
            }
            if (p == SMTP_PARSE_MORE) {
                must(piece.len == 0);
                continue;
            }
            must(r.code >= 200 && r.code <= 599 && r.lines >= 1 && r.lines <= SMTP_REPLY_LINES_MAX);
            struct bytes line;
            size_t at = 0;
            while (smtp_reply_line(&r, &at, &line))
                for (size_t i = 0; i < line.len; i++)
                    *sum = *sum * 31 + (unsigned char)line.at[i];
            *sum = *sum * 31 + r.code;
            done++;
            smtp_reply_reset(&r);
        }
    }
    smtp_reply_fini(&r);
    return done;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t steps[] = {1, 2, 3, 7, 64};
    struct bytes in = bytes_make(data, size);
    uint64_t whole, pieces;
    int want = parse_all(in, size ? size : 1, &whole);

    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        must(parse_all(in, steps[i], &pieces) == want);
        must(pieces == whole);
    }
    return 0;
}

/*
 * DSNs out of hostile words: the octets are cut at NULs into what the peer said, the addresses, the envelope
 * id and the original.  However they read, our own header keeps its fields, the boundary stands three times
 * and once at the end, and no control passes but in what the sender wrote himself.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "engine/smtp/dsn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool claim)
{
    if (!claim)
        abort();
}

static char *take_string(const uint8_t **data, size_t *size)
{
    const uint8_t *end = *size ? memchr(*data, 0, *size) : NULL;
    size_t n = end ? (size_t)(end - *data) : *size;
    char *s = mem_dup(*data, n);

    n = MIN_OF(n + 1, *size);
    *data += n;
    *size -= n;
    return s;
}

static unsigned count(struct bytes where, const char *what)
{
    unsigned n = 0;
    size_t len = strlen(what);

    for (const char *hit; where.len && (hit = memmem(where.at, where.len, what, len)); n++)
        where = bytes_skip(where, (size_t)(hit - where.at) + len);
    return n;
}

static void check(struct bytes all)
{
    char boundary[64];
    const char *end = memmem(all.at, all.len, "\r\n\r\n", 4);

    must(end && all.len > 2 && memcmp(all.at + all.len - 2, "\r\n", 2) == 0);
    struct bytes top = bytes_first(all, (size_t)(end - all.at) + 2);
    must(count(top, "\r\n") >= 8 && count(top, "\r\n") <= 10);
    for (size_t i = 0; i < top.len; i++) {
        if (top.at[i] == '\r' && top.at[i + 1] == '\n')
            i++;
        else
            must((unsigned char)top.at[i] >= 0x20 && top.at[i] != 0x7f);
    }
    static const char *const once[] = {"Date: ",
                                       "\r\nFrom: ",
                                       "\r\nTo: ",
                                       "\r\nSubject: ",
                                       "\r\nMessage-ID: ",
                                       "\r\nMIME-Version: ",
                                       "\r\nAuto-Submitted: ",
                                       "\r\nContent-Type: "};
    for (size_t i = 0; i < COUNT_OF(once); i++)
        must(count(top, once[i]) == 1 || i == 0);
    const char *b = memmem(top.at, top.len, "\r\n    boundary=\"", 16); /* not one in an address */
    must(b != NULL);
    snprintf(boundary, sizeof(boundary), "\r\n--%.*s", (int)strcspn(b + 16, "\""), b + 16);
    must(count(all, boundary) == 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    uint8_t mode = data[0];
    data++;
    size--;
    char *words = take_string(&data, &size), *address = take_string(&data, &size),
         *orcpt = take_string(&data, &size);
    char *envid = take_string(&data, &size), *host = take_string(&data, &size),
         *sender = take_string(&data, &size);
    struct outcome outcomes[2];
    outcome_from_reply(&outcomes[0], STAGE_RCPT, (uint16_t)(mode & 1 ? 550 : 451), bytes_of(words));
    outcomes[1] =
        (struct outcome){.kind = OUTCOME_BOUNCED, .stage = STAGE_DOT, .code = 554, .remote = mode & 2};
    snprintf(outcomes[1].text, sizeof(outcomes[1].text), "%s", words);
    snprintf(outcomes[1].enhanced, sizeof(outcomes[1].enhanced), "%s", host);
    struct dsn_rcpt rcpts[] = {
        {.action = (enum dsn_action)(mode >> 2) % 5,
         .address = address,
         .orcpt = mode & 32 ? orcpt : NULL,
         .outcome = &outcomes[0],
         .remote_mta = host,
         .last_attempt_unix = 1790000000,
         .retry_until_unix = 1790000000},
        {.action = DSN_FAILED,
         .address = address,
         .orcpt = orcpt,
         .outcome = &outcomes[1],
         .remote_mta = NULL},
    };
    struct dsn d = {.reporting_mta = host,
                    .postmaster = mode & 64 ? sender : NULL,
                    .sender = sender,
                    .envid = envid,
                    .id = 42,
                    .arrival_unix = 1790000000,
                    .now_unix = 1790000000,
                    .ret = mode & 128 ? DSN_RET_FULL : DSN_RET_HDRS,
                    .rcpts = rcpts,
                    .rcpt_count = 2,
                    .header = bytes_make(data, size),
                    .full = mode & 2 ? bytes_make(data, size) : (struct bytes){0}};
    BUF_LOCAL(out);
    dsn_format(&d, &out);
    check(buf_bytes(&out));
    mem_free(words);
    mem_free(address);
    mem_free(orcpt);
    mem_free(envid);
    mem_free(host);
    mem_free(sender);
    return 0;
}

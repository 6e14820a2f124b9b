/* Any octets as a request-target: what is accepted is bounded, NUL-terminated text without control
 * characters. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/domain.h"
#include "webui-api/params.h"

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

/* False: there is a reply, which is what a param_… that fails must leave. */
static bool refused(struct request *r)
{
    bool is_error = reply_is_error(r);

    if (is_error && (r->reply.status != 400 || !r->reply.body.len))
        abort();
    r->reply.status = 0;
    buf_clear(&r->reply.body);
    return is_error;
}

/* Each parameter as every type that a route may take it for. */
static void read_as(struct request *r, const char *name)
{
    static const char *const words[] = {"group", "domain", "mx"};
    char normal[DOMAIN_MAX_BYTES + 1];
    const char *domain = NULL;
    uint64_t number = 0, id = 0;
    int64_t at = 0; /* up to the end of the year 9999, and the hours of a time zone */
    int word = -1;

    if (param_count(r, name, 1, 1000, &number) == refused(r) || (number && number > 1000))
        abort();
    if (param_time(r, name, &at) == refused(r) || at < 0 || at > INT64_C(253402387200))
        abort();
    if (param_word(r, name, words, COUNT_OF(words), &word) == refused(r) || word >= (int)COUNT_OF(words))
        abort();
    if (param_message(r, name, &id) == refused(r))
        abort();
    if (param_domain(r, name, &domain) == refused(r))
        abort();
    if (domain && (domain_normalise(bytes_of(domain), normal) != OK || strcmp(domain, normal) != 0))
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
    if (t.param_count) {
        struct request r = {.target = t};
        for (size_t i = 0; i < t.param_count; i++)
            read_as(&r, t.params[i].name);
        (void)params_known(&r, "since until by");
        request_fini(&r);
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

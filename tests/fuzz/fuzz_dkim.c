/* What DKIM reads of others: bodies and fields to be hashed, From, and records from DNS. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/dkim/canon.h"
#include "engine/dkim/from.h"
#include "engine/dkim/record.h"

static void gather(void *out, struct bytes run)
{
    buf_put(out, run);
}

static void canon(struct bytes body, size_t cut, struct buf *out)
{
    struct dkim_canon_body c = {0};

    dkim_canon_body_put(&c, bytes_first(body, cut), gather, out);
    dkim_canon_body_put(&c, bytes_skip(body, cut), gather, out);
    dkim_canon_body_end(&c, gather, out);
}

/* The form does not depend on how the body came, and is its own form. */
static void check_body(struct bytes body, size_t cut)
{
    BUF_LOCAL(whole);
    BUF_LOCAL(split);
    BUF_LOCAL(twice);

    canon(body, body.len, &whole);
    canon(body, cut, &split);
    assert(bytes_eq(buf_bytes(&whole), buf_bytes(&split)));
    canon(buf_bytes(&whole), whole.len / 2, &twice);
    assert(bytes_eq(buf_bytes(&whole), buf_bytes(&twice)));
    assert(whole.len <= body.len + 2);
}

static void check_fields(struct bytes section)
{
    struct bytes field;
    char domain[DOMAIN_MAX_BYTES + 1];

    while (dkim_field_next(&section, &field)) {
        BUF_LOCAL(form);
        assert(field.len > 0);
        dkim_canon_field(field, true, &form);
        assert(form.len <= field.len + 3);
        if (dkim_from_domain(bytes_skip(field, bytes_find(field, ':') + 1), domain))
            assert(strlen(domain) > 0 && strlen(domain) <= DOMAIN_MAX_BYTES);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct bytes rest = bytes_make(data + 2, size - 2);
    struct dkim_record record;
    const char *why;

    check_body(rest, rest.len ? (size_t)(data[0] << 8 | data[1]) % (rest.len + 1) : 0);
    check_fields(rest);
    if (dkim_record_parse(rest, &record, &why) == OK) {
        assert(record.has_key && record.revoked == (record.key.len == 0));
        dkim_record_fini(&record);
    }
    return 0;
}

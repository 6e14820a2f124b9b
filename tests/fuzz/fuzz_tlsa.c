/*
 * TLSA rdata as DNS brings it, and certificates as a server presents them, both from the same octets: a
 * length octet pair in front of each record, then those of the chain.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "engine/dane/dane.h"
#include "engine/net/certificate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next run: two octets of length, then so many as are there. */
static struct bytes take(struct bytes *in)
{
    size_t want = in->len < 2 ? 0 : (size_t)(uint8_t)in->at[0] << 8 | (uint8_t)in->at[1];
    struct bytes rest = bytes_skip(*in, 2), run = bytes_first(rest, want);

    *in = bytes_skip(rest, run.len);
    return run;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"mx.a.test", ".a.test", "192.0.2.1"};
    struct bytes in = bytes_make(data, size), rdata[DANE_RECORDS_MAX + 2];
    gnutls_datum_t chain[40];
    struct certificate_parts parts;
    struct dane_verdict v;
    size_t records;
    unsigned certificates;

    if (size < 2)
        return 0;
    records = data[0] % (COUNT_OF(rdata) + 1);
    certificates = data[1] % (COUNT_OF(chain) + 1);
    in = bytes_skip(in, 2);
    for (size_t i = 0; i < records; i++)
        rdata[i] = take(&in);
    for (unsigned i = 0; i < certificates; i++) {
        struct bytes one = take(&in);
        chain[i] = (gnutls_datum_t){(unsigned char *)(uintptr_t)one.at, (unsigned)one.len};
        if (certificate_split(one, &parts) &&
            (parts.tbs.at < one.at || parts.spki.at + parts.spki.len > one.at + one.len))
            abort();
    }
    struct dane_records *r = dane_records_make("mx.a.test", rdata, records, 300);
    if (r->count > records || (r->state == DANE_USABLE) != (r->count > 0))
        abort();
    dane_check(r, chain, certificates, names, COUNT_OF(names), 1800000000, &v);
    if (v.check == DANE_CHECK_MATCH && v.record >= r->count)
        abort();
    dane_records_unref(r);
    (void)certificate_dns_name_matches(in, ".a.test");
    (void)certificate_dns_name_matches(in, "mx.a.test");
    return 0;
}

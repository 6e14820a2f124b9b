/* A mail of strangers whose signatures are looked at: whatever stands there, bounded work and no signature
 * that holds by chance. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tlsrpt/proof.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* The key of RFC 8032 section 7.1, test 1: whose private half is public, but hard to hit upon. */
    static const char text[] = "\x42v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    struct bytes rdata = bytes_make(text, sizeof(text) - 1), mail = bytes_make(data, size);
    const struct dns_rrset key = {.status = DNS_OK, .rdata = &rdata, .count = 1};
    struct proof p = {.count = 0};

    proof_begin(&p, mail);
    if (p.count > DKIM_CHECKED_MAX)
        abort();
    for (size_t i = 0; i < p.count; i++) {
        const struct dkim_signature *s = &p.asked[i].signature;
        if (s->b_at + s->b_len > s->field.len || !*s->domain || !*s->selector || !s->signature.len)
            abort();
        proof_take_answer(&p, i, &key);
    }
    proof_end(&p, mail, 1800000000);
    if ((p.verdict == PROOF_GOOD) != !*p.why)
        abort();
    proof_fini(&p);
    return 0;
}

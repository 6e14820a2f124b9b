/*
 * Domain names as text and as wire octets (RFC 1035 §3.1, §4.1.4).  Pure; any thread.
 *
 * Text     lower case, no trailing dot, NUL-terminated, at most 253 octets; only names that can be asked for:
 *          labels of letters, digits and - _ / + = *.  IDNs come as A-labels.
 * Wire     uncompressed, lower case, with the root's zero octet.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

#define DNS_NAME_TEXT_BYTES 254
#define DNS_NAME_WIRE_BYTES 255

struct dns_name {
    uint8_t len;
    uint8_t octets[DNS_NAME_WIRE_BYTES];
};

/* One trailing dot is dropped.  false: empty, the root, too long, an empty label, or an octet we do not ask
 * for. */
bool dns_name_parse(struct bytes text, struct dns_name *out);
/*
 * Reads the name at *at of a packet and moves *at behind it.  Every pointer must lead to before the run of
 * labels that holds it, so a loop is impossible and the work is bounded.
 */
bool dns_name_read(struct bytes packet, size_t *at, struct dns_name *out);
/* false: not a name that can be asked for (the root, a blank, a control octet, a dot within a label). */
bool dns_name_format(const struct dns_name *name, char out[DNS_NAME_TEXT_BYTES]);
bool dns_name_eq(const struct dns_name *a, const struct dns_name *b);
/* `name` is `zone` or lies below it. */
bool dns_name_within(const struct dns_name *name, const struct dns_name *zone);

/* Domains as keys: A-labels (IDNA 2008, libidn2), lower case, without the trailing dot.  Pure. */
#pragma once

#include <stdbool.h>

#include "base/bytes.h"
#include "base/err.h"

#define DOMAIN_MAX_BYTES 255

/*
 * Normalises a domain of an address (U-labels or A-labels) into `out` (NUL-terminated).  An address
 * literal "[192.0.2.1]" or "[IPv6:…]" is kept as it is, lower-cased.  ERR_INVALID: not a domain.
 */
MUST_CHECK enum err domain_normalise(struct bytes domain, char out[DOMAIN_MAX_BYTES + 1]);
bool domain_is_literal(struct bytes domain);
/* `suffix` starts with a dot and matches sub-domains only: ".example.com" matches "a.example.com". */
bool domain_has_suffix(struct bytes domain, struct bytes suffix);
/* The part after the last '@', or empty. */
struct bytes domain_of_address(struct bytes address);

/*
 * Whose message it is: the domain of the first mailbox of a From field (RFC 5322 §3.4, §3.6.2).  Pure.
 */
#pragma once

#include "base/bytes.h"
#include "policy/domain.h"

/* `value` is what follows the colon, folded or not.  false: there is no domain, or only an address literal.
 */
bool dkim_from_domain(struct bytes value, char out[DOMAIN_MAX_BYTES + 1]);

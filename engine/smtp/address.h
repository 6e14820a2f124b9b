/*
 * Addresses of the envelope (RFC 5321 §4.1.2, RFC 6531 §3.3) and the names that EHLO gives.  Pure: results point into
 * the input.
 *
 * One rule is looser than the RFC: a local part may hold dots anywhere ("a..b.@docomo.example").  Japanese mobile carriers
 * gave out such addresses, and their owners want their mail.
 */
#pragma once

#include <stdbool.h>

#include "base/bytes.h"

#define ADDRESS_LOCAL_MAX 64   /* of a recipient; a sender's may be longer (VERP) as long as the path fits */
#define ADDRESS_PATH_MAX  256  /* with the angle brackets, RFC 5321 §4.5.3.1.3 */

struct address {
    struct bytes text;   /* local@domain, without brackets and source route; empty: the null reverse-path */
    struct bytes local;  /* quotes kept */
    struct bytes domain; /* as given: not normalised (policy/domain.h) */
    bool utf8;           /* an octet above 127: needs SMTPUTF8 */
};

enum address_fault {
    ADDRESS_OK,
    ADDRESS_NO_BRACKETS,
    ADDRESS_BAD_LOCAL,
    ADDRESS_LONG_LOCAL, /* longer than ADDRESS_LOCAL_MAX; `out` is written all the same */
    ADDRESS_NO_DOMAIN,
    ADDRESS_BAD_DOMAIN,
    ADDRESS_TOO_LONG,
    ADDRESS_BAD_UTF8,
};
/* A phrase for the reply: says what is wrong. */
const char *address_fault_text(enum address_fault fault);

/* "<local@domain>", "<@route:local@domain>" (the route is dropped, §4.1.1.3) or "<>" at the start of `in`; `used`: its length. */
enum address_fault address_parse_path(struct bytes in, struct address *out, size_t *used);
/* All of `in` is "local@domain". */
enum address_fault address_parse_mailbox(struct bytes in, struct address *out);
/* A host name or an address literal, as EHLO has it.  Underscores and a final dot are let pass. */
bool address_is_helo(struct bytes in);
bool address_is_utf8(struct bytes in); /* well-formed, RFC 3629 §4 */

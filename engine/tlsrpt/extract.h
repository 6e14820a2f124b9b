/*
 * Finds the TLS reports in what somebody sent us: JSON, gzipped JSON, or a mail that has them as parts (RFC
 * 8460 §5.3: application/tlsrpt+json, application/tlsrpt+gzip).  Pure and bounded.
 *
 * Senders name the parts as they please, so the name only says which parts are looked at
 * (application/gzip, application/json, application/octet-stream, *.json, *.gz too); the octets say what they
 * are. Forwarded mails (message/rfc822) are opened.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"

#define TLSRPT_REPORTS_MAX 20  /* of one mail; further ones are passed over */
#define TLSRPT_PARTS_MAX   200 /* of one mail, of any type */

/* `json` is borrowed until return. */
typedef void (*tlsrpt_json_fn)(void *arg, struct bytes json);

/*
 * Calls fn for each report's text.  ERR_INVALID: there is none (`why`, static).  ERR_FULL: one unpacks to
 * more than TLSRPT_JSON_MAX (`why`); those before it were told.
 */
MUST_CHECK enum err tlsrpt_extract(struct bytes octets, tlsrpt_json_fn fn, void *arg, const char **why);

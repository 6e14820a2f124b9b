/*
 * The mail that carries a report, RFC 8460 §5.3: multipart/report; report-type="tlsrpt", a part for people
 * and the gzipped JSON.  It says TLS-Required: No (RFC 8689 §3): what it tells of may be in its own way.
 * Pure.
 */
#pragma once

#include <stdint.h>

#include "base/bytes.h"
#include "engine/tlsrpt/report.h"

struct tlsrpt_mail {
    const struct tlsrpt_about *about;
    const char *from, *to; /* addresses */
    const char *host_name; /* ours */
    const char *file_name;
    const char *message_id; /* unique, without brackets and domain */
    int64_t now_unix;
    struct tlsrpt_totals totals;
    struct bytes gz;
};

/* Appends the complete message, CRLF lines, 7-bit. */
void tlsrpt_mail_format(const struct tlsrpt_mail *m, struct buf *out);

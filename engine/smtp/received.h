/* The Received field that we put before a message (RFC 5321 §4.4, RFC 3848, RFC 6531 §4.3, RFC 8314 §4.3).  Pure. */
#pragma once

#include <stdbool.h>

#include "base/bytes.h"
#include "base/ip.h"

struct received {
    const char *helo;        /* as the client said it: checked by address_is_helo */
    struct ip ip;
    const char *account;     /* or NULL */
    const char *host_name;   /* ours */
    bool esmtp;              /* EHLO, not HELO */
    bool smtputf8;           /* the transaction said SMTPUTF8 */
    const char *tls_version; /* or NULL: in clear */
    const char *tls_cipher;
    const char *id;
    const char *only_recipient; /* or NULL: none or several, who need not know of each other */
    const char *date;        /* RFC 5322 date-time */
};

/* Appends the field with its final CRLF. */
void received_format(const struct received *r, struct buf *out);

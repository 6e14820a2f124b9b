#include "engine/smtp/received.h"

/* Text for a comment or a clause: nothing that ends it, escapes, folds or is not printable ASCII. */
static void put_clean(struct buf *out, const char *s)
{
    char *at = buf_reserve(out, strlen(s));

    for (; *s; s++, out->len++)
        *at++ = *s <= ' ' || *s > '~' || strchr("()\\\"<>;", *s) ? '?' : *s;
}

/* RFC 3848 §1, RFC 6531 §4.3 */
static void put_protocol(struct buf *out, const struct received *r)
{
    if (!r->esmtp) {
        buf_puts(out, "SMTP");
        return;
    }
    buf_puts(out, r->smtputf8 ? "UTF8SMTP" : "ESMTP");
    if (r->tls_version)
        buf_putc(out, 'S');
    if (r->account)
        buf_putc(out, 'A');
}

void received_format(const struct received *r, struct buf *out)
{
    char ip[IP_TEXT_BYTES];

    buf_reserve(out, 512); /* rarely more */
    buf_puts(out, "Received: from ");
    put_clean(out, r->helo);
    buf_puts(out, r->ip.family == 6 ? " ([IPv6:" : " ([");
    buf_puts(out, ip_format(&r->ip, ip));
    buf_puts(out, "])");
    if (r->account) {
        buf_puts(out, "\r\n\t(authenticated as ");
        put_clean(out, r->account);
        buf_putc(out, ')');
    }
    buf_puts(out, "\r\n\tby ");
    put_clean(out, r->host_name);
    buf_puts(out, " (Hayauma) with ");
    put_protocol(out, r);
    if (r->tls_version) {
        buf_puts(out, "\r\n\t(version=");
        put_clean(out, r->tls_version);
        buf_puts(out, " cipher=");
        put_clean(out, r->tls_cipher);
        buf_putc(out, ')');
    }
    buf_puts(out, " id ");
    buf_puts(out, r->id);
    if (r->only_recipient) {
        buf_puts(out, "\r\n\tfor <");
        buf_puts(out, r->only_recipient);
        buf_putc(out, '>');
    }
    if (r->tls_version && strncmp(r->tls_cipher, "TLS_", 4) == 0) { /* RFC 8314 §4.3: the name IANA gave it */
        buf_puts(out, "\r\n\ttls ");
        put_clean(out, r->tls_cipher);
    }
    buf_puts(out, ";\r\n\t");
    buf_puts(out, r->date);
    buf_puts(out, "\r\n");
}

#include "engine/tlsrpt/mail.h"

#include "base/base64.h"
#include "base/clock.h"
#include "policy/domain.h"

#define BASE64_LINE 76

static void put_header(const struct tlsrpt_mail *m, const char *submitter, const char *boundary,
                       struct buf *out)
{
    char date[CLOCK_TEXT_BYTES];
    const struct tlsrpt_about *a = m->about;

    buf_putf(out, "From: <%s>\r\n", m->from);
    buf_putf(out, "To: <%s>\r\n", m->to);
    buf_putf(out, "Date: %s\r\n", clock_format_mail(m->now_unix, date));
    /* Folded: two domains of full length would not fit into one line. */
    buf_putf(out, "Subject: Report Domain: %s\r\n Submitter: %s\r\n Report-ID: <%s>\r\n", a->domain,
             submitter, a->report_id);
    buf_putf(out, "Message-ID: <%s@%s>\r\n", m->message_id, m->host_name);
    buf_putf(out, "TLS-Report-Domain: %s\r\n", a->domain);
    buf_putf(out, "TLS-Report-Submitter: %s\r\n", submitter);
    buf_puts(out, "TLS-Required: No\r\n");
    buf_puts(out, "Auto-Submitted: auto-generated\r\n");
    buf_puts(out, "MIME-Version: 1.0\r\n");
    buf_putf(out, "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n boundary=\"%s\"\r\n\r\n",
             boundary);
}

static void put_text(const struct tlsrpt_mail *m, struct buf *out)
{
    char begin[CLOCK_TEXT_BYTES], end[CLOCK_TEXT_BYTES];
    const struct tlsrpt_about *a = m->about;

    buf_puts(out, "Content-Type: text/plain; charset=us-ascii\r\n\r\n");
    buf_putf(out,
             "This is a report about TLS on the way to the mail hosts of\r\n%s (SMTP TLS Reporting, RFC "
             "8460).\r\n\r\n",
             a->domain);
    buf_putf(out, "From:        %s\r\nTo:          %s\r\n", clock_format_utc(a->begin_unix, begin),
             clock_format_utc(a->end_unix, end));
    buf_putf(out, "Successful:  %llu sessions\r\nFailed:      %llu sessions\r\n",
             (unsigned long long)m->totals.successful, (unsigned long long)m->totals.failed);
    buf_putf(out, "Contact:     %s\r\n\r\nThe attached file has the details, for programs.\r\n", a->contact);
}

static void put_attachment(const struct tlsrpt_mail *m, struct buf *out)
{
    BUF_LOCAL(text);

    buf_puts(out, "Content-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n");
    buf_putf(out, "Content-Disposition: attachment;\r\n filename=\"%s\"\r\n\r\n", m->file_name);
    base64_encode(m->gz, &text);
    for (struct bytes rest = buf_bytes(&text); rest.len; rest = bytes_skip(rest, BASE64_LINE)) {
        buf_put(out, bytes_first(rest, BASE64_LINE));
        buf_puts(out, "\r\n");
    }
}

void tlsrpt_mail_format(const struct tlsrpt_mail *m, struct buf *out)
{
    char submitter[DOMAIN_MAX_BYTES + 1] = "";
    BUF_LOCAL(boundary);

    if (!tlsrpt_submitter(m->about->contact, submitter))
        submitter[0] = '\0'; /* the configuration's check lets none pass */
    /* Base64 and the sentences above have no "=_" at the start of a line. */
    buf_putf(&boundary, "=_tlsrpt_%s", m->message_id);
    const char *line = buf_str(&boundary);
    put_header(m, submitter, line, out);
    buf_putf(out, "--%s\r\n", line);
    put_text(m, out);
    buf_putf(out, "--%s\r\n", line);
    put_attachment(m, out);
    buf_putf(out, "--%s--\r\n", line);
}

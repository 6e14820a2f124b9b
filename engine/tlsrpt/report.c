#include "engine/tlsrpt/report.h"

#include <gnutls/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "policy/domain.h"

_Static_assert(DOMAIN_MAX_BYTES + 1 == 256, "tlsrpt_submitter's out");

/* ---- one policy ---- */

/* The fields are optional in the schema, and "" would be no address. */
static void put_known(struct buf *out, const char *key, const char *value)
{
    if (value && *value)
        json_put_text(out, key, value);
}

static void put_detail(struct buf *out, const struct report_session_sum *row)
{
    json_begin(out, NULL, '{');
    json_put_text(out, "result-type", tls_failure_name(row->failure));
    put_known(out, "sending-mta-ip", row->sending_ip);
    put_known(out, "receiving-mx-hostname", row->mx);
    put_known(out, "receiving-mx-helo", row->helo);
    put_known(out, "receiving-ip", row->receiving_ip);
    json_put_count(out, "failed-session-count", row->count);
    put_known(out, "failure-reason-code", row->reason);
    json_end(out, '}');
}

static void put_lines(struct buf *out, const char *key, const char *lines)
{
    struct bytes rest = bytes_of(lines);

    json_begin(out, key, '[');
    while (rest.len) {
        struct bytes line = bytes_first(rest, bytes_find(rest, '\n'));
        rest = bytes_skip(rest, line.len + 1);
        if (line.len && line.at[line.len - 1] == '\r')
            line.len--;
        if (line.len)
            json_put_bytes(out, NULL, line);
    }
    json_end(out, ']');
}

/* mx-host is an array, and of MTA-STS alone: §4.4 and erratum 6241. */
static void put_policy(struct buf *out, const struct report_session_sum *first)
{
    json_begin(out, "policy", '{');
    json_put_text(out, "policy-type", tlsrpt_policy_name(first->policy_type));
    if (first->policy_type != TLSRPT_NO_POLICY && *first->policy_text)
        put_lines(out, "policy-string", first->policy_text);
    json_put_text(out, "policy-domain", first->domain);
    if (first->policy_type == TLSRPT_STS && *first->policy_mx)
        put_lines(out, "mx-host", first->policy_mx);
    json_end(out, '}');
}

static bool same_policy(const struct report_session_sum *a, const struct report_session_sum *b)
{
    return a->policy_type == b->policy_type && strcmp(a->policy_text, b->policy_text) == 0 &&
           strcmp(a->policy_mx, b->policy_mx) == 0;
}

static int by_count(const void *a, const void *b)
{
    const struct report_session_sum *const *x = a, *const *y = b;

    if ((*x)->count != (*y)->count)
        return (*x)->count > (*y)->count ? -1 : 1;
    return *x < *y ? -1 : *x > *y; /* as they came */
}

/* The largest one by one; the rest as one line a result type, so that the sum stays true. */
static void put_some_details(struct buf *out, const struct report_session_sum *rows, size_t count, size_t max)
{
    const struct report_session_sum **sorted = mem_alloc((count + 1) * sizeof(*sorted));
    struct report_session_sum rest[TLS_FAILURE_STS_WEBPKI_INVALID + 1] = {0};
    size_t failed = 0;

    for (size_t i = 0; i < count; i++)
        if (rows[i].failure)
            sorted[failed++] = &rows[i];
    qsort(sorted, failed, sizeof(*sorted), by_count);
    for (size_t i = 0; i < failed; i++) {
        if (i < max)
            put_detail(out, sorted[i]);
        else
            rest[sorted[i]->failure].count += sorted[i]->count;
    }
    for (size_t i = 0; i < COUNT_OF(rest); i++) {
        rest[i].failure = (enum tls_failure)i;
        if (rest[i].count)
            put_detail(out, &rest[i]);
    }
    mem_free(sorted);
}

static void put_one_policy(struct buf *out, const struct report_session_sum *rows, size_t count,
                           size_t *details_left, struct tlsrpt_totals *all)
{
    struct tlsrpt_totals sum = {0};
    size_t details = 0;

    for (size_t i = 0; i < count; i++) {
        *(rows[i].failure ? &sum.failed : &sum.successful) += rows[i].count;
        details += rows[i].failure != TLS_FAILURE_NONE;
    }
    json_begin(out, NULL, '{');
    put_policy(out, rows);
    json_begin(out, "summary", '{');
    json_put_count(out, "total-successful-session-count", sum.successful);
    json_put_count(out, "total-failure-session-count", sum.failed);
    json_end(out, '}');
    if (details) {
        json_begin(out, "failure-details", '[');
        put_some_details(out, rows, count, *details_left);
        json_end(out, ']');
    }
    json_end(out, '}');
    *details_left -= MIN_OF(details, *details_left);
    all->successful += sum.successful;
    all->failed += sum.failed;
}

void tlsrpt_report_format(const struct tlsrpt_about *about, const struct report_session_sum *rows,
                          size_t count, size_t details_max, struct buf *out, struct tlsrpt_totals *totals)
{
    char time[CLOCK_TEXT_BYTES];

    *totals = (struct tlsrpt_totals){0};
    json_begin(out, NULL, '{');
    json_put_text(out, "organization-name", about->organization);
    json_begin(out, "date-range", '{');
    json_put_text(out, "start-datetime", clock_format_utc(about->begin_unix, time));
    json_put_text(out, "end-datetime", clock_format_utc(about->end_unix, time));
    json_end(out, '}');
    json_put_text(out, "contact-info", about->contact);
    json_put_text(out, "report-id", about->report_id);
    json_begin(out, "policies", '[');
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && same_policy(&rows[i], &rows[end]);)
            end++;
        put_one_policy(out, rows + i, end - i, &details_max, totals);
    }
    json_end(out, ']');
    json_end(out, '}');
}

/* ---- names ---- */

bool tlsrpt_day_parse(struct bytes text, int64_t *begin_unix)
{
    char copy[TLSRPT_DAY_BYTES], again[TLSRPT_DAY_BYTES];
    struct tm tm = {0};

    if (text.len != TLSRPT_DAY_BYTES - 1)
        return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    const char *end = strptime(copy, "%Y-%m-%d", &tm);
    if (!end || *end)
        return false;
    int64_t begin = timegm(&tm);
    if (strcmp(tlsrpt_day_format(begin, again), copy) != 0)
        return false; /* the 31st of November */
    *begin_unix = begin;
    return true;
}

char *tlsrpt_day_format(int64_t unix_seconds, char out[TLSRPT_DAY_BYTES])
{
    char text[CLOCK_TEXT_BYTES];

    memcpy(out, clock_format_utc(unix_seconds, text), TLSRPT_DAY_BYTES - 1);
    out[TLSRPT_DAY_BYTES - 1] = '\0';
    return out;
}

char *tlsrpt_unique_id(const char *host, const char *domain, int64_t begin_unix,
                       char out[TLSRPT_UNIQUE_BYTES])
{
    unsigned char digest[32];
    BUF_LOCAL(text);

    buf_putf(&text, "%s %s %lld", host, domain, (long long)begin_unix);
    if (gnutls_hash_fast(GNUTLS_DIG_SHA256, text.at, text.len, digest) != 0)
        abort(); /* there is SHA-256 in any GnuTLS */
    for (size_t i = 0; i < (TLSRPT_UNIQUE_BYTES - 1) / 2; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
    return out;
}

bool tlsrpt_submitter(const char *contact, char out[256])
{
    struct bytes domain = domain_of_address(bytes_of(contact));

    return domain.len && domain_normalise(domain, out) == OK;
}

void tlsrpt_file_name(const struct tlsrpt_about *about, const char *unique, struct buf *out)
{
    char submitter[DOMAIN_MAX_BYTES + 1];

    if (!tlsrpt_submitter(about->contact, submitter))
        snprintf(submitter, sizeof(submitter),
                 "unknown.invalid"); /* the configuration's check lets none pass */
    buf_putf(out, "%s!%s!%lld!%lld!%s.json.gz", submitter, about->domain, (long long)about->begin_unix,
             (long long)about->end_unix, unique);
}

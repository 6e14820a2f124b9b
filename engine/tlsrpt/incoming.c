#include "engine/tlsrpt/incoming.h"

#include <jansson.h>
#include <math.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "policy/tls_decide.h"

enum deviation {
    DEV_POLICIES_OBJECT,
    DEV_POLICY_FLAT,
    DEV_STRING_FOR_LIST,
    DEV_MX_HOST_PATTERN,
    DEV_COUNT_AS_TEXT,
    DEV_NO_SUMMARY,
    DEV_FAILURES_OBJECT,
    DEV_OLD_NAME,
    DEV_DATE_FORM,
    DEV_BOM,
    DEV_NO_ORGANIZATION,
    DEV_NO_REPORT_ID,
    DEV_NO_CONTACT,
    DEV_POLICY_TYPE,
    DEV_RESULT_TYPE,
    DEV_SUMS_DIFFER,
};

const char *tlsrpt_deviation_name(unsigned n)
{
    static const char *const names[] = {
        [DEV_POLICIES_OBJECT] = "policies-object",
        [DEV_POLICY_FLAT] = "policy-flat",
        [DEV_STRING_FOR_LIST] = "string-for-list",
        [DEV_MX_HOST_PATTERN] = "mx-host-pattern",
        [DEV_COUNT_AS_TEXT] = "count-as-text",
        [DEV_NO_SUMMARY] = "no-summary",
        [DEV_FAILURES_OBJECT] = "failure-details-object",
        [DEV_OLD_NAME] = "old-field-name",
        [DEV_DATE_FORM] = "date-form",
        [DEV_BOM] = "byte-order-mark",
        [DEV_NO_ORGANIZATION] = "no-organization",
        [DEV_NO_REPORT_ID] = "no-report-id",
        [DEV_NO_CONTACT] = "no-contact",
        [DEV_POLICY_TYPE] = "unknown-policy-type",
        [DEV_RESULT_TYPE] = "unknown-result-type",
        [DEV_SUMS_DIFFER] = "sums-differ",
    };

    return n < COUNT_OF(names) ? names[n] : NULL;
}

struct reading {
    struct arena *arena;
    struct tlsrpt_in *out;
    size_t failures; /* of the whole report so far */
};

static void note(struct reading *r, enum deviation d)
{
    r->out->deviations |= BIT(d);
}

/* ---- values ---- */

/* A text in the arena, without control characters and not too long; "" for anything else. */
static const char *text_of(struct reading *r, const json_t *v)
{
    struct bytes text = bytes_trim(bytes_first(bytes_of(json_string_value(v)), TLSRPT_TEXT_MAX));
    char *copy = arena_dup(r->arena, text);

    for (char *c = copy; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    return copy;
}

static const char *lower_of(struct reading *r, const json_t *v)
{
    char *copy = (char *)(uintptr_t)text_of(r, v);

    for (char *c = copy; *c; c++)
        *c = ascii_lower(*c);
    return copy;
}

/* The first of these names that the object has; all but the first are of drafts. */
static const json_t *get(struct reading *r, const json_t *object, const char *const *names)
{
    for (size_t i = 0; names[i]; i++) {
        const json_t *v = json_object_get(object, names[i]);
        if (v && !json_is_null(v)) {
            if (i)
                note(r, DEV_OLD_NAME);
            return v;
        }
    }
    return NULL;
}

static uint64_t count_of(struct reading *r, const json_t *v)
{
    uint64_t n = 0;

    if (json_is_integer(v))
        return json_integer_value(v) > 0 ? (uint64_t)json_integer_value(v) : 0;
    if (json_is_real(v) && json_real_value(v) > 0 && json_real_value(v) < 9e15)
        n = (uint64_t)llround(json_real_value(v));
    else if (!json_is_string(v) || !bytes_parse_u64(bytes_trim(bytes_of(json_string_value(v))), &n) ||
             n > INT64_MAX)
        return 0;
    note(r, DEV_COUNT_AS_TEXT);
    return n;
}

/* Sums of what strangers say stop at the end of what JSON can hold (RFC 7493 §2.2). */
static uint64_t sum_of(uint64_t a, uint64_t b)
{
    const uint64_t most = (uint64_t)1 << 53;

    return a > most || b > most || a + b > most ? most : a + b;
}

static const char **list_of(struct reading *r, const json_t *v, size_t *count)
{
    size_t n = json_is_array(v) ? MIN_OF(json_array_size(v), (size_t)TLSRPT_STRINGS_MAX) : 1;
    const char **list = arena_zalloc(r->arena, (n + 1) * sizeof(*list));

    *count = 0;
    if (json_is_string(v)) {
        note(r, DEV_STRING_FOR_LIST);
        list[(*count)++] = text_of(r, v);
        return list;
    }
    for (size_t i = 0; json_is_array(v) && i < n; i++)
        if (json_is_string(json_array_get(v, i)))
            list[(*count)++] = text_of(r, json_array_get(v, i));
    return list;
}

/* ---- dates ---- */

static bool take_digits(struct bytes *s, size_t n, int *out)
{
    int value = 0;

    if (s->len < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (s->at[i] < '0' || s->at[i] > '9')
            return false;
        value = value * 10 + (s->at[i] - '0');
    }
    *s = bytes_skip(*s, n);
    *out = value;
    return true;
}

static bool take_char(struct bytes *s, const char *any)
{
    if (!s->len || !s->at[0] || !strchr(any, s->at[0]))
        return false;
    *s = bytes_skip(*s, 1);
    return true;
}

/* "Z", "+09:00", "+0900", "+09", or nothing, which is UTC. */
static bool take_zone(struct bytes s, int *seconds, bool *odd)
{
    int hours = 0, minutes = 0;
    bool minus = s.len && s.at[0] == '-';

    *seconds = 0;
    if (take_char(&s, "Zz"))
        return s.len == 0;
    *odd |= s.len == 0;
    if (s.len == 0)
        return true;
    if (!take_char(&s, "+-") || !take_digits(&s, 2, &hours))
        return false;
    *odd |= !take_char(&s, ":");
    if (s.len && !take_digits(&s, 2, &minutes))
        return false;
    *seconds = (hours * 60 + minutes) * 60 * (minus ? -1 : 1);
    return s.len == 0 && hours < 24 && minutes < 60;
}

static bool take_date(struct bytes *s, struct tm *tm)
{
    if (!take_digits(s, 4, &tm->tm_year) || !take_char(s, "-") || !take_digits(s, 2, &tm->tm_mon) ||
        !take_char(s, "-") || !take_digits(s, 2, &tm->tm_mday))
        return false;
    bool good =
        tm->tm_year >= 1970 && tm->tm_mon >= 1 && tm->tm_mon <= 12 && tm->tm_mday >= 1 && tm->tm_mday <= 31;
    tm->tm_year -= 1900;
    tm->tm_mon--;
    return good;
}

static bool take_clock(struct bytes *s, struct tm *tm, bool *odd)
{
    int digit;

    if (!take_digits(s, 2, &tm->tm_hour) || !take_char(s, ":") || !take_digits(s, 2, &tm->tm_min))
        return false;
    if (take_char(s, ":") && !take_digits(s, 2, &tm->tm_sec))
        return false;
    if (take_char(s, ".,")) {
        *odd = true;
        if (!take_digits(s, 1, &digit))
            return false;
        while (take_digits(s, 1, &digit))
            continue;
    }
    return tm->tm_hour < 25 && tm->tm_min < 60 && tm->tm_sec < 61;
}

bool tlsrpt_time_parse(struct bytes text, bool end, int64_t *out, bool *odd)
{
    struct tm tm = {0};
    uint64_t number;
    int zone = 0;

    text = bytes_trim(text);
    if (bytes_parse_u64(text, &number) && number > 99999999 && number < (uint64_t)1 << 40) {
        *odd = true;
        *out = (int64_t)number;
        return true;
    }
    if (!take_date(&text, &tm))
        return false;
    if (text.len == 0) {
        *odd = true;
        *out = timegm(&tm) + (end ? 86399 : 0);
        return true;
    }
    *odd |= text.at[0] != 'T';
    if (!take_char(&text, "Tt ") || !take_clock(&text, &tm, odd))
        return false;
    *odd |= text.len && text.at[0] == ' ';
    if (!take_zone(bytes_trim(text), &zone, odd))
        return false;
    *out = timegm(&tm) - zone;
    return true;
}

static bool time_of(struct reading *r, const json_t *v, bool end, int64_t *out)
{
    bool odd = false, good;

    if (json_is_integer(v) && json_integer_value(v) > 0 && json_integer_value(v) < (json_int_t)1 << 40) {
        *out = json_integer_value(v);
        good = odd = true;
    } else {
        good = tlsrpt_time_parse(bytes_of(json_string_value(v)), end, out, &odd);
    }
    if (good && odd)
        note(r, DEV_DATE_FORM);
    return good;
}

/* ---- failures ---- */

static bool is_result_type(const char *word)
{
    for (int f = TLS_FAILURE_NONE + 1; f <= TLS_FAILURE_STS_WEBPKI_INVALID; f++)
        if (strcmp(word, tls_failure_name((enum tls_failure)f)) == 0)
            return true;
    return false;
}

static void read_failure(struct reading *r, const json_t *v, struct tlsrpt_in_failure *out)
{
    static const char *const results[] = {"result-type", "failure-type", NULL};
    static const char *const senders[] = {"sending-mta-ip", "sending-mta", NULL};
    static const char *const hosts[] = {"receiving-mx-hostname", "receiving-mx-host-name", "mx-hostname",
                                        NULL};
    static const char *const helos[] = {"receiving-mx-helo", "mx-host-helo", NULL};
    static const char *const addresses[] = {"receiving-ip", "receiving-mta-ip", NULL};
    static const char *const counts[] = {"failed-session-count", "session-count", NULL};
    static const char *const reasons[] = {"failure-reason-code", "failure-error-code", NULL};
    static const char *const infos[] = {"additional-information", "additional-info-uri", NULL};

    *out = (struct tlsrpt_in_failure){
        .result = lower_of(r, get(r, v, results)),
        .sending_ip = text_of(r, get(r, v, senders)),
        .mx = lower_of(r, get(r, v, hosts)),
        .helo = text_of(r, get(r, v, helos)),
        .receiving_ip = text_of(r, get(r, v, addresses)),
        .reason = text_of(r, get(r, v, reasons)),
        .info = text_of(r, get(r, v, infos)),
        .count = count_of(r, get(r, v, counts)),
    };
    if (!is_result_type(out->result))
        note(r, DEV_RESULT_TYPE);
    if (!*out->result)
        out->result = "unknown";
}

static bool read_failures(struct reading *r, const json_t *v, struct tlsrpt_in_policy *p)
{
    bool one = json_is_object(v);
    size_t count = one ? 1 : json_array_size(v);

    if (one)
        note(r, DEV_FAILURES_OBJECT);
    if (count > TLSRPT_FAILURES_MAX - r->failures)
        return false;
    r->failures += count;
    p->failures = arena_zalloc(r->arena, (count + 1) * sizeof(*p->failures));
    for (size_t i = 0; i < count; i++) {
        const json_t *item = one ? v : json_array_get(v, i);
        if (json_is_object(item) && json_object_size(item))
            read_failure(r, item, &p->failures[p->failure_count++]);
    }
    return true;
}

/* ---- policies ---- */

static void read_summary(struct reading *r, const json_t *v, struct tlsrpt_in_policy *p)
{
    static const char *const summaries[] = {"summary", "report-summary", NULL};
    static const char *const good[] = {"total-successful-session-count", "total-success-session-count",
                                       "success-aggregate", NULL};
    static const char *const bad[] = {"total-failure-session-count", "total-failed-session-count",
                                      "failure-aggregate", NULL};
    const json_t *summary = get(r, v, summaries);
    uint64_t detailed = 0;

    for (size_t i = 0; i < p->failure_count; i++)
        detailed = sum_of(detailed, p->failures[i].count);
    if (!json_is_object(summary)) {
        note(r, DEV_NO_SUMMARY);
        p->failed = detailed;
        return;
    }
    p->successful = sum_of(0, count_of(r, get(r, summary, good)));
    p->failed = sum_of(0, count_of(r, get(r, summary, bad)));
    if (detailed > p->failed)
        note(r, DEV_SUMS_DIFFER); /* §4.5 lets one session fail in several ways: both numbers are kept */
}

static bool read_policy(struct reading *r, const json_t *v, struct tlsrpt_in_policy *p)
{
    static const char *const types[] = {"policy-type", NULL};
    static const char *const strings[] = {"policy-string", NULL};
    static const char *const domains[] = {"policy-domain", NULL};
    static const char *const details[] = {"failure-details", NULL};
    const json_t *inner = json_object_get(v, "policy");
    const json_t *hosts;

    if (!json_is_object(inner)) {
        inner = v;
        note(r, DEV_POLICY_FLAT);
    }
    p->type = lower_of(r, get(r, inner, types));
    if (strcmp(p->type, "no-policy") == 0)
        p->type = "no-policy-found";
    if (strcmp(p->type, "sts") != 0 && strcmp(p->type, "tlsa") != 0 &&
        strcmp(p->type, "no-policy-found") != 0)
        note(r, DEV_POLICY_TYPE);
    if (!*p->type)
        p->type = "unknown";
    p->domain = lower_of(r, get(r, inner, domains));
    p->strings = list_of(r, get(r, inner, strings), &p->string_count);
    hosts = json_object_get(inner, "mx-host");
    if (!hosts && (hosts = json_object_get(inner, "mx-host-pattern")))
        note(r, DEV_MX_HOST_PATTERN);
    p->mx_hosts = list_of(r, hosts, &p->mx_count);
    if (!read_failures(r, get(r, v, details), p))
        return false;
    read_summary(r, v, p);
    return true;
}

static const char *read_policies(struct reading *r, const json_t *v)
{
    bool one = json_is_object(v);
    size_t count = one ? 1 : json_array_size(v);
    struct tlsrpt_in *in = r->out;

    if (!one && !json_is_array(v))
        return "it has no list \"policies\"";
    if (one)
        note(r, DEV_POLICIES_OBJECT);
    if (count > TLSRPT_POLICIES_MAX)
        return "it has more than 10000 policies";
    in->policies = arena_zalloc(r->arena, (count + 1) * sizeof(*in->policies));
    for (size_t i = 0; i < count; i++) {
        const json_t *item = one ? v : json_array_get(v, i);
        if (!json_is_object(item))
            return "a policy is no object";
        struct tlsrpt_in_policy *p = &in->policies[in->policy_count++];
        if (!read_policy(r, item, p))
            return "it has more than 100000 failure-details";
        in->successful = sum_of(in->successful, p->successful);
        in->failed = sum_of(in->failed, p->failed);
    }
    return NULL;
}

static const char *read_report(struct reading *r, const json_t *root)
{
    static const char *const organizations[] = {"organization-name", "organization", NULL};
    static const char *const contacts[] = {"contact-info", "email-address", NULL};
    static const char *const ids[] = {"report-id", "report_id", NULL};
    const json_t *range = json_object_get(root, "date-range");
    struct tlsrpt_in *in = r->out;

    if (!json_is_object(root))
        return "it is no JSON object";
    if (!time_of(r, json_object_get(range, "start-datetime"), false, &in->begin_unix) ||
        !time_of(r, json_object_get(range, "end-datetime"), true, &in->end_unix))
        return "\"date-range\" has no start-datetime and end-datetime";
    if (in->end_unix < in->begin_unix)
        return "its date-range ends before it begins";
    in->organization = text_of(r, get(r, root, organizations));
    in->contact = text_of(r, get(r, root, contacts));
    in->report_id = text_of(r, get(r, root, ids));
    if (!*in->organization)
        note(r, DEV_NO_ORGANIZATION);
    if (!*in->contact)
        note(r, DEV_NO_CONTACT);
    if (!*in->report_id)
        note(r, DEV_NO_REPORT_ID);
    return read_policies(r, json_object_get(root, "policies"));
}

enum err tlsrpt_in_parse(struct bytes json, struct arena *arena, struct tlsrpt_in *out, const char **why)
{
    struct tlsrpt_in in = {0};
    struct reading r = {.arena = arena, .out = &in};
    json_error_t error;

    if (bytes_starts(json, BYTES("\xef\xbb\xbf"))) {
        json = bytes_skip(json, 3);
        note(&r, DEV_BOM);
    }
    if (json.len > TLSRPT_JSON_MAX) {
        *why = "it is larger than 10 MiB";
        return ERR_INVALID;
    }
    json_t *root = json_loadb(json.at ? json.at : "", json.len, 0, &error);
    *why = root ? read_report(&r, root) : "it is no JSON";
    json_decref(root);
    if (*why)
        return ERR_INVALID;
    *out = in;
    return OK;
}

/* ---- as the standard writes it ---- */

static void put_list(struct buf *out, const char *key, const char **list, size_t count)
{
    if (!count)
        return;
    json_begin(out, key, '[');
    for (size_t i = 0; i < count; i++)
        json_put_text(out, NULL, list[i]);
    json_end(out, ']');
}

static void put_known(struct buf *out, const char *key, const char *value)
{
    if (*value)
        json_put_text(out, key, value);
}

static void put_failure(struct buf *out, const struct tlsrpt_in_failure *f)
{
    json_begin(out, NULL, '{');
    json_put_text(out, "result-type", f->result);
    put_known(out, "sending-mta-ip", f->sending_ip);
    put_known(out, "receiving-mx-hostname", f->mx);
    put_known(out, "receiving-mx-helo", f->helo);
    put_known(out, "receiving-ip", f->receiving_ip);
    json_put_count(out, "failed-session-count", f->count);
    put_known(out, "additional-information", f->info);
    put_known(out, "failure-reason-code", f->reason);
    json_end(out, '}');
}

static void put_policy(struct buf *out, const struct tlsrpt_in_policy *p)
{
    json_begin(out, NULL, '{');
    json_begin(out, "policy", '{');
    json_put_text(out, "policy-type", p->type);
    put_list(out, "policy-string", p->strings, p->string_count);
    json_put_text(out, "policy-domain", p->domain);
    put_list(out, "mx-host", p->mx_hosts, p->mx_count);
    json_end(out, '}');
    json_begin(out, "summary", '{');
    json_put_count(out, "total-successful-session-count", p->successful);
    json_put_count(out, "total-failure-session-count", p->failed);
    json_end(out, '}');
    if (p->failure_count) {
        json_begin(out, "failure-details", '[');
        for (size_t i = 0; i < p->failure_count; i++)
            put_failure(out, &p->failures[i]);
        json_end(out, ']');
    }
    json_end(out, '}');
}

void tlsrpt_in_format(const struct tlsrpt_in *in, struct buf *out)
{
    char time[CLOCK_TEXT_BYTES];

    json_begin(out, NULL, '{');
    json_put_text(out, "organization-name", in->organization);
    json_begin(out, "date-range", '{');
    json_put_text(out, "start-datetime", clock_format_utc(in->begin_unix, time));
    json_put_text(out, "end-datetime", clock_format_utc(in->end_unix, time));
    json_end(out, '}');
    put_known(out, "contact-info", in->contact);
    put_known(out, "report-id", in->report_id);
    json_begin(out, "policies", '[');
    for (size_t i = 0; i < in->policy_count; i++)
        put_policy(out, &in->policies[i]);
    json_end(out, ']');
    json_end(out, '}');
}

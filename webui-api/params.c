#include "webui-api/params.h"

#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/yaml.h"
#include "policy/domain.h"
#include "queue/message.h"

#define KNOWN_MAX 24
#define LAST_UNIX                                                                                            \
    253402300799 /* of the year 9999: in milliseconds too it is a number that can be calculated with */

const char *param_text(const struct request *r, const char *name)
{
    for (size_t i = 0; i < r->target.param_count; i++)
        if (strcmp(r->target.params[i].name, name) == 0)
            return r->target.params[i].value;
    return NULL;
}

bool param_count(struct request *r, const char *name, uint64_t min, uint64_t max, uint64_t *out)
{
    const char *text = param_text(r, name);
    uint64_t n;

    if (!text)
        return true;
    if (!bytes_parse_u64(bytes_of(text), &n) || n < min || n > max) {
        reply_error(r, 400, "invalid", "'%s' takes a number from %llu to %llu, not '%s'", name,
                    (unsigned long long)min, (unsigned long long)max, text);
        return false;
    }
    *out = n;
    return true;
}

/* ---- times ---- */

static bool digits(struct bytes *s, size_t n, int *out)
{
    uint64_t value;

    if (s->len < n || !bytes_parse_u64(bytes_first(*s, n), &value))
        return false;
    *out = (int)value;
    *s = bytes_skip(*s, n);
    return true;
}

static bool mark(struct bytes *s, char c)
{
    if (!s->len || ascii_lower(*s->at) != c)
        return false;
    *s = bytes_skip(*s, 1);
    return true;
}

/* RFC 3339 §5.6; "Z", "+09:00"; seconds may be missing, fractions are dropped. */
static bool read_clock(struct bytes s, struct tm *tm, int *offset_s)
{
    int hours, minutes, sign;

    if (!digits(&s, 2, &tm->tm_hour) || !mark(&s, ':') || !digits(&s, 2, &tm->tm_min))
        return false;
    if (mark(&s, ':') && !digits(&s, 2, &tm->tm_sec))
        return false;
    if (mark(&s, '.')) {
        size_t n = 0;
        while (n < s.len && s.at[n] >= '0' && s.at[n] <= '9')
            n++;
        if (!n)
            return false;
        s = bytes_skip(s, n);
    }
    if (tm->tm_hour > 23 || tm->tm_min > 59 || tm->tm_sec > 60)
        return false;
    if (mark(&s, 'z'))
        return s.len == 0;
    sign = mark(&s, '+') ? 1 : mark(&s, '-') ? -1 : 0;
    if (!sign || !digits(&s, 2, &hours) || !mark(&s, ':') || !digits(&s, 2, &minutes) || s.len ||
        hours > 23 || minutes > 59)
        return false;
    *offset_s = sign * (hours * 3600 + minutes * 60);
    return true;
}

static bool read_rfc3339(struct bytes s, int64_t *out)
{
    struct tm tm = {0};
    int offset_s = 0, year, month;

    if (!digits(&s, 4, &year) || !mark(&s, '-') || !digits(&s, 2, &month) || !mark(&s, '-') ||
        !digits(&s, 2, &tm.tm_mday) || year < 1970 || month < 1 || month > 12 || tm.tm_mday < 1)
        return false;
    if (s.len && !((mark(&s, 't') || mark(&s, ' ')) && read_clock(s, &tm, &offset_s)))
        return false;
    tm.tm_year = year - 1900;
    tm.tm_mon = month - 1;
    struct tm asked = tm;
    int64_t value = (int64_t)timegm(&tm);
    if (tm.tm_mday != asked.tm_mday && asked.tm_sec < 60)
        return false; /* 30 February */
    *out = MAX_OF(value - offset_s, (int64_t)0);
    return true;
}

bool time_parse(struct bytes text, int64_t now_unix, int64_t *out)
{
    uint64_t n;

    if (bytes_parse_u64(text, &n)) {
        if (n > LAST_UNIX)
            return false;
        *out = (int64_t)n;
        return true;
    }
    if (yaml_parse_duration_ms(text, &n)) {
        *out = n / 1000 > (uint64_t)now_unix ? 0 : now_unix - (int64_t)(n / 1000);
        return true;
    }
    return read_rfc3339(text, out);
}

bool param_time(struct request *r, const char *name, int64_t *out)
{
    const char *text = param_text(r, name);

    if (!text || time_parse(bytes_of(text), clock_unix(), out))
        return true;
    reply_error(
        r, 400, "invalid",
        "'%s' takes a span like 7d, 2h or 30m, a time like 2026-11-21T21:00:00Z, a date, or Unix seconds, "
        "not '%s'",
        name, text);
    return false;
}

/* ---- words and names ---- */

bool param_word(struct request *r, const char *name, const char *const *words, size_t count, int *out)
{
    const char *text = param_text(r, name);
    BUF_LOCAL(list);

    if (!text)
        return true;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(words[i], text) == 0) {
            *out = (int)i;
            return true;
        }
        buf_putf(&list, "%s%s", i == 0 ? "" : i + 1 < count ? ", " : " or ", words[i]);
    }
    const char *meant = yaml_did_you_mean(bytes_of(text), words, count);
    reply_error(r, 400, "invalid", "'%s' takes %s, not '%s'%s%s%s", name, buf_str(&list), text,
                meant ? " (did you mean '" : "", meant ? meant : "", meant ? "'?)" : "");
    return false;
}

bool param_domain(struct request *r, const char *name, const char **out)
{
    const char *text = param_text(r, name);
    char normal[DOMAIN_MAX_BYTES + 1];

    if (!text)
        return true;
    if (domain_normalise(bytes_of(text), normal) != OK) {
        reply_error(r, 400, "invalid", "'%s' takes a domain like example.com, not '%s'", name, text);
        return false;
    }
    *out = arena_strdup(&r->arena, normal);
    return true;
}

bool param_message(struct request *r, const char *name, uint64_t *out)
{
    const char *text = param_text(r, name);

    if (!text || message_id_parse(bytes_of(text), out))
        return true;
    reply_error(r, 400, "invalid", "'%s' takes a message id of 13 characters, not '%s'", name, text);
    return false;
}

bool params_known(struct request *r, const char *known)
{
    const char *names[KNOWN_MAX];
    size_t count = 0;

    for (struct bytes rest = bytes_of(known); rest.len && count < KNOWN_MAX;) {
        struct bytes one = bytes_first(rest, bytes_find(rest, ' '));
        names[count++] = arena_dup(&r->arena, one);
        rest = bytes_skip(rest, one.len + 1);
    }
    for (size_t i = 0; i < r->target.param_count; i++) {
        const char *name = r->target.params[i].name;
        bool found = false;
        for (size_t k = 0; k < count && !found; k++)
            found = strcmp(names[k], name) == 0;
        if (found)
            continue;
        const char *meant = yaml_did_you_mean(bytes_of(name), names, count);
        reply_error(r, 400, "invalid", "there is no parameter '%s' here%s%s%s", name,
                    meant ? " (did you mean '" : "", meant ? meant : "", meant ? "'?)" : "");
        return false;
    }
    return true;
}

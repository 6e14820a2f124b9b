/* TZif files and POSIX rules.  Only offsets are kept: what a zone is called in summer concerns nobody here.
 */
#include "policy/timezone.h"

#include "base/mem.h"

#define HEADER_BYTES 44
#define DAY_S        INT64_C(86400)

/* When summer time begins or ends: POSIX.1, "Environment Variables", TZ. */
enum rule_kind { RULE_MONTH, RULE_JULIAN, RULE_DAY };
struct rule {
    enum rule_kind kind;
    int32_t month, week, day; /* RULE_MONTH: Mm.w.d; else day alone: Jn is 1 … 365, n is 0 … 365 */
    int32_t time_s;
};

struct tail { /* from the last transition on */
    bool known, summer;
    int32_t standard_s, summer_s;
    struct rule begin, end;
};

struct timezone {
    int64_t *at;     /* owned; rising */
    int32_t *offset; /* owned; from at[i] on */
    size_t count;
    int32_t before_s; /* before at[0] */
    struct tail tail;
};

/* ---- dates ---- */

/* Days since 1970-01-01, in the Gregorian calendar for ever (Howard Hinnant, "chrono-Compatible Low-Level
 * Date Algorithms"). */
static int64_t days_of(int64_t year, int32_t month, int32_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400, y = year - era * 400;
    int64_t d = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + y * 365 + y / 4 - y / 100 + d - 719468;
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int64_t year_of(int64_t days)
{
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, d = z - era * 146097;
    int64_t y = (d - d / 1460 + d / 36524 - d / 146096) / 365, in_year = d - (365 * y + y / 4 - y / 100);

    return y + era * 400 + (in_year >= 306); /* the year of this count begins in March */
}

static int64_t floor_days(int64_t seconds)
{
    return seconds / DAY_S - (seconds % DAY_S < 0);
}

/* Seconds since 1970 of local time at which the rule takes effect in that year. */
static int64_t rule_time(const struct rule *r, int64_t year)
{
    int64_t day;

    if (r->kind == RULE_MONTH) {
        static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        int64_t first = days_of(year, r->month, 1), weekday = ((first + 4) % 7 + 7) % 7;
        int64_t length = lengths[r->month - 1] + (r->month == 2 && is_leap(year));
        int64_t in_month = (r->day - weekday + 7) % 7 + (r->week - 1) * 7;

        day = first + (in_month >= length ? in_month - 7 : in_month);
    } else {
        day = days_of(year, 1, 1) + r->day;
        if (r->kind == RULE_JULIAN) /* 29 February is never counted */
            day += is_leap(year) && r->day >= 60 ? 0 : -1;
    }
    return day * DAY_S + r->time_s;
}

static int32_t tail_offset(const struct tail *t, int64_t unix_s)
{
    if (!t->summer)
        return t->standard_s;
    int64_t year = year_of(floor_days(unix_s + t->standard_s));
    int64_t begin = rule_time(&t->begin, year) - t->standard_s, end = rule_time(&t->end, year) - t->summer_s;
    bool summer = begin < end ? unix_s >= begin && unix_s < end : !(unix_s >= end && unix_s < begin);

    return summer ? t->summer_s : t->standard_s;
}

int32_t timezone_offset_s(const struct timezone *tz, int64_t unix_s)
{
    size_t low = 0, high = tz->count; /* at[low - 1] <= unix_s < at[high] */

    if (unix_s > INT64_MAX / 4 || unix_s < INT64_MIN / 4)
        return tz->before_s;
    if (tz->tail.known && (tz->count == 0 || unix_s >= tz->at[tz->count - 1]))
        return tail_offset(&tz->tail, unix_s);
    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (tz->at[mid] <= unix_s)
            low = mid + 1;
        else
            high = mid;
    }
    return low == 0 ? tz->before_s : tz->offset[low - 1];
}

/* ---- POSIX rules ---- */

static bool take_char(struct bytes *s, char c)
{
    if (s->len == 0 || s->at[0] != c)
        return false;
    *s = bytes_skip(*s, 1);
    return true;
}

static bool take_number(struct bytes *s, int32_t min, int32_t max, int32_t *out)
{
    int32_t n = 0;
    size_t digits = 0;

    while (digits < s->len && digits < 4 && s->at[digits] >= '0' && s->at[digits] <= '9')
        n = n * 10 + (s->at[digits++] - '0');
    *s = bytes_skip(*s, digits);
    *out = n;
    return digits > 0 && n >= min && n <= max;
}

/* "[+-]hh[:mm[:ss]]" */
static bool take_time(struct bytes *s, int32_t max_hours, int32_t *out)
{
    bool negative = take_char(s, '-');
    int32_t h, m = 0, sec = 0;

    if (!negative)
        take_char(s, '+');
    if (!take_number(s, 0, max_hours, &h))
        return false;
    if (take_char(s, ':') &&
        (!take_number(s, 0, 59, &m) || (take_char(s, ':') && !take_number(s, 0, 59, &sec))))
        return false;
    *out = (h * 3600 + m * 60 + sec) * (negative ? -1 : 1);
    return true;
}

static bool is_letter(char c)
{
    c = ascii_lower(c);
    return c >= 'a' && c <= 'z';
}

/* "JST" or "<+09>" */
static bool take_name(struct bytes *s)
{
    size_t len = 0;

    if (take_char(s, '<')) {
        len = bytes_find(*s, '>');
        if (len < 3 || len == s->len)
            return false;
        *s = bytes_skip(*s, len + 1);
        return true;
    }
    while (len < s->len && is_letter(s->at[len]))
        len++;
    *s = bytes_skip(*s, len);
    return len >= 3;
}

static bool take_rule(struct bytes *s, struct rule *r)
{
    *r = (struct rule){.time_s = 2 * 3600};
    if (!take_char(s, ','))
        return false;
    if (take_char(s, 'M')) {
        if (!take_number(s, 1, 12, &r->month) || !take_char(s, '.') || !take_number(s, 1, 5, &r->week) ||
            !take_char(s, '.') || !take_number(s, 0, 6, &r->day))
            return false;
    } else {
        r->kind = take_char(s, 'J') ? RULE_JULIAN : RULE_DAY;
        if (!take_number(s, r->kind == RULE_JULIAN, 365, &r->day))
            return false;
    }
    return !take_char(s, '/') || take_time(s, 167, &r->time_s);
}

static bool parse_tail(struct bytes s, struct tail *t)
{
    int32_t west;

    *t = (struct tail){.known = true};
    if (!take_name(&s) || !take_time(&s, 24, &west))
        return false;
    t->standard_s = -west;
    if (s.len == 0)
        return true;
    t->summer = true;
    t->summer_s = t->standard_s + 3600;
    if (!take_name(&s))
        return false;
    if (s.len > 0 && s.at[0] != ',') {
        if (!take_time(&s, 24, &west))
            return false;
        t->summer_s = -west;
    }
    return take_rule(&s, &t->begin) && take_rule(&s, &t->end) && s.len == 0;
}

struct timezone *timezone_parse_rule(struct bytes rule)
{
    struct tail tail;

    if (!parse_tail(rule, &tail))
        return NULL;
    struct timezone *tz = MEM_NEW(struct timezone);
    tz->tail = tail;
    tz->before_s = tail.standard_s;
    return tz;
}

struct timezone *timezone_fixed(int32_t offset_s)
{
    struct timezone *tz = MEM_NEW(struct timezone);

    tz->tail = (struct tail){.known = true, .standard_s = offset_s};
    tz->before_s = offset_s;
    return tz;
}

/* ---- TZif ---- */

struct header {
    char version;
    uint32_t isut, isstd, leap, times, types, chars;
};

static uint64_t big_endian(const char *at, size_t octets)
{
    uint64_t n = 0;

    for (size_t i = 0; i < octets; i++)
        n = n << 8 | (unsigned char)at[i];
    return n;
}

static bool take_header(struct bytes *s, struct header *h)
{
    if (s->len < HEADER_BYTES || memcmp(s->at, "TZif", 4) != 0)
        return false;
    h->version = s->at[4];
    h->isut = (uint32_t)big_endian(s->at + 20, 4);
    h->isstd = (uint32_t)big_endian(s->at + 24, 4);
    h->leap = (uint32_t)big_endian(s->at + 28, 4);
    h->times = (uint32_t)big_endian(s->at + 32, 4);
    h->types = (uint32_t)big_endian(s->at + 36, 4);
    h->chars = (uint32_t)big_endian(s->at + 40, 4);
    *s = bytes_skip(*s, HEADER_BYTES);
    return h->types > 0 && h->types <= 256;
}

/* Octets of the data that follow the header; times have `width`.  Counts are below 2^32: no overflow. */
static uint64_t data_bytes(const struct header *h, unsigned width)
{
    return (uint64_t)h->times * (width + 1) + (uint64_t)h->types * 6 + h->chars +
           (uint64_t)h->leap * (width + 4) + h->isstd + h->isut;
}

static bool read_type(const struct header *h, const char *types, uint8_t index, int32_t *offset)
{
    if (index >= h->types)
        return false;
    *offset = (int32_t)(uint32_t)big_endian(types + (size_t)index * 6, 4);
    return *offset > -DAY_S * 2 && *offset < DAY_S * 2;
}

static bool read_data(struct timezone *tz, const struct header *h, unsigned width, const char *data)
{
    const char *indexes = data + (size_t)h->times * width, *types = indexes + h->times;

    tz->count = h->times;
    tz->at = mem_alloc((h->times + 1) * sizeof(*tz->at));
    tz->offset = mem_alloc((h->times + 1) * sizeof(*tz->offset));
    if (!read_type(h, types, 0, &tz->before_s))
        return false;
    for (size_t i = 0; i < h->times; i++) {
        uint64_t at = big_endian(data + i * width, width);

        tz->at[i] = width == 4 ? (int32_t)(uint32_t)at : (int64_t)at;
        if ((i > 0 && tz->at[i] <= tz->at[i - 1]) ||
            !read_type(h, types, (uint8_t)indexes[i], &tz->offset[i]))
            return false;
    }
    return true;
}

/* "\n", the rule, "\n"; nothing between the two: none. */
static bool read_footer(struct timezone *tz, struct bytes s)
{
    if (!take_char(&s, '\n'))
        return false;
    struct bytes rule = bytes_first(s, bytes_find(s, '\n'));
    if (rule.len == s.len)
        return false;
    return rule.len == 0 || parse_tail(rule, &tz->tail);
}

struct timezone *timezone_parse(struct bytes s)
{
    unsigned width = 4;
    struct header h;

    if (s.len > TIMEZONE_FILE_MAX || !take_header(&s, &h) || data_bytes(&h, width) > s.len)
        return NULL;
    if (h.version >= '2') { /* the same again, with 64 bits */
        s = bytes_skip(s, (size_t)data_bytes(&h, width));
        width = 8;
        if (!take_header(&s, &h) || data_bytes(&h, width) > s.len)
            return NULL;
    }
    struct timezone *tz = MEM_NEW(struct timezone);
    bool good = read_data(tz, &h, width, s.at) &&
                (width == 4 || read_footer(tz, bytes_skip(s, (size_t)data_bytes(&h, width))));
    if (good)
        return tz;
    timezone_destroy(tz);
    return NULL;
}

void timezone_destroy(struct timezone *tz)
{
    if (!tz)
        return;
    mem_free(tz->at);
    mem_free(tz->offset);
    mem_free(tz);
}

/* ---- names ---- */

bool timezone_parse_offset(struct bytes text, int32_t *offset_s)
{
    int32_t h, m;

    if (bytes_eq(text, BYTES("UTC"))) {
        *offset_s = 0;
        return true;
    }
    if (text.len != 6 || (text.at[0] != '+' && text.at[0] != '-'))
        return false;
    struct bytes rest = bytes_skip(text, 1);
    struct bytes hours = bytes_first(rest, 2), minutes = bytes_skip(rest, 3);
    if (!take_number(&hours, 0, 23, &h) || hours.len || rest.at[2] != ':' ||
        !take_number(&minutes, 0, 59, &m) || minutes.len)
        return false;
    *offset_s = (h * 3600 + m * 60) * (text.at[0] == '-' ? -1 : 1);
    return true;
}

bool timezone_is_name(struct bytes text)
{
    bool part = false; /* has the part after the last '/' an octet yet? */

    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];

        if (c == '/') {
            if (!part)
                return false;
            part = false;
        } else if (is_letter(c) || (part && ((c >= '0' && c <= '9') || c == '_' || c == '-' || c == '+'))) {
            part = true;
        } else {
            return false;
        }
    }
    return part && text.len <= TIMEZONE_NAME_BYTES;
}

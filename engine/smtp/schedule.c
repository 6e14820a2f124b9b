#include "engine/smtp/schedule.h"

struct civil {
    int64_t year, month, day, hour, minute, second;
    int64_t offset_minutes; /* east of UTC */
};

static bool take_number(struct bytes *s, size_t min, size_t max, int64_t *out)
{
    size_t n = 0;
    int64_t v = 0;

    while (n < s->len && n < max && s->at[n] >= '0' && s->at[n] <= '9')
        v = v * 10 + (s->at[n++] - '0');
    if (n < min)
        return false;
    *s = bytes_skip(*s, n);
    *out = v;
    return true;
}

static bool take_char(struct bytes *s, char c)
{
    if (s->len == 0 || ascii_lower(s->at[0]) != ascii_lower(c))
        return false;
    *s = bytes_skip(*s, 1);
    return true;
}

static bool take_blanks(struct bytes *s)
{
    size_t before = s->len;

    while (s->len && (s->at[0] == ' ' || s->at[0] == '\t'))
        *s = bytes_skip(*s, 1);
    return s->len < before;
}

/* Days since 1970-01-01 in the Gregorian calendar. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    int64_t y = year - (month <= 2);
    int64_t era = y / 400, of_era = y - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool to_unix(const struct civil *c, int64_t *out)
{
    static const int64_t month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (c->year % 4 == 0 && c->year % 100) || c->year % 400 == 0;

    if (c->year < 1970 || c->month < 1 || c->month > 12 || c->day < 1 || c->hour > 23 || c->minute > 59 ||
        c->second > 60)
        return false;
    if (c->day > month_days[c->month - 1] + (c->month == 2 && leap))
        return false;
    *out = days_of(c->year, c->month, c->day) * 86400 + c->hour * 3600 + c->minute * 60 + c->second -
           c->offset_minutes * 60;
    return true;
}

/* "+09:00" or "+0900" */
static bool take_offset(struct bytes *s, bool colon, int64_t *out)
{
    int64_t hours, minutes, sign = take_char(s, '-') ? -1 : 1;

    if (sign > 0 && !take_char(s, '+'))
        return false;
    if (!take_number(s, 2, 2, &hours) || (colon && !take_char(s, ':')) || !take_number(s, 2, 2, &minutes))
        return false;
    *out = sign * (hours * 60 + minutes);
    return hours < 24 && minutes < 60;
}

/* RFC 3339 §5.6 */
static bool parse_3339(struct bytes s, int64_t *out)
{
    struct civil c = {0};
    int64_t fraction;

    if (!take_number(&s, 4, 4, &c.year) || !take_char(&s, '-') || !take_number(&s, 2, 2, &c.month) ||
        !take_char(&s, '-') || !take_number(&s, 2, 2, &c.day) ||
        (!take_char(&s, 't') && !take_char(&s, ' ')) || !take_number(&s, 2, 2, &c.hour) ||
        !take_char(&s, ':') || !take_number(&s, 2, 2, &c.minute) || !take_char(&s, ':') ||
        !take_number(&s, 2, 2, &c.second))
        return false;
    if (take_char(&s, '.') && !take_number(&s, 1, 9, &fraction))
        return false;
    if (!take_char(&s, 'z') && !take_offset(&s, true, &c.offset_minutes))
        return false;
    return s.len == 0 && to_unix(&c, out);
}

static bool take_month(struct bytes *s, int64_t *out)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

    for (int64_t m = 0; m < 12; m++) {
        if (bytes_istarts(*s, bytes_make(months + 3 * m, 3))) {
            *s = bytes_skip(*s, 3);
            *out = m + 1;
            return true;
        }
    }
    return false;
}

/* RFC 5322 §3.3 and §4.3: numbers, or the names that mean UTC or a North American time. */
static bool take_zone(struct bytes *s, int64_t *out)
{
    static const struct {
        const char *name;
        int64_t hours;
    } rows[] = {{"GMT", 0},  {"UTC", 0},  {"UT", 0},   {"Z", 0},    {"EST", -5}, {"EDT", -4},
                {"CST", -6}, {"CDT", -5}, {"MST", -7}, {"MDT", -6}, {"PST", -8}, {"PDT", -7}};

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct bytes name = bytes_of(rows[i].name);
        if (bytes_istarts(*s, name)) {
            *s = bytes_skip(*s, name.len);
            *out = rows[i].hours * 60;
            return true;
        }
    }
    return take_offset(s, false, out);
}

static bool parse_5322(struct bytes s, int64_t *out)
{
    struct civil c = {0};
    size_t comma = bytes_find(s, ',');

    if (comma < s.len) {
        if (comma != 3)
            return false;
        s = bytes_skip(s, comma + 1);
        take_blanks(&s);
    }
    if (!take_number(&s, 1, 2, &c.day) || !take_blanks(&s) || !take_month(&s, &c.month) || !take_blanks(&s) ||
        !take_number(&s, 4, 4, &c.year) || !take_blanks(&s) || !take_number(&s, 2, 2, &c.hour) ||
        !take_char(&s, ':') || !take_number(&s, 2, 2, &c.minute))
        return false;
    if (take_char(&s, ':') && !take_number(&s, 2, 2, &c.second))
        return false;
    if (!take_blanks(&s) || !take_zone(&s, &c.offset_minutes))
        return false;
    take_blanks(&s);
    if (s.len && s.at[0] == '(' && s.at[s.len - 1] == ')') /* "(JST)": a comment */
        s.len = 0;
    return s.len == 0 && to_unix(&c, out);
}

bool schedule_parse(struct bytes text, int64_t *out_unix)
{
    uint64_t seconds;

    if (bytes_parse_u64(text, &seconds)) {
        if (seconds > INT64_MAX)
            return false;
        *out_unix = (int64_t)seconds;
        return true;
    }
    return parse_3339(text, out_unix) || parse_5322(text, out_unix);
}

bool campaign_is_valid(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = ascii_lower(text.at[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == ':' ||
              c == '-'))
            return false;
    }
    return text.len >= 1 && text.len <= 64;
}

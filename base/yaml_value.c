/* What a scalar means: typed reading, and the nearest word to a mistyped one. */
#include "base/yaml.h"

#include <inttypes.h>
#include <stdio.h>

#define WORD_MAX 64 /* no key or word of ours is longer */

/* ---- did you mean ---- */

static char folded(char c)
{
    return c == '-' ? '_' : ascii_lower(c);
}

/* Insertions, deletions, replacements and swaps of neighbours that lead from a to b. */
static size_t distance(struct bytes a, struct bytes b)
{
    size_t rows[3][WORD_MAX + 1];
    size_t *two_up = rows[0], *up = rows[1], *row = rows[2];

    for (size_t j = 0; j <= b.len; j++)
        up[j] = two_up[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            char x = folded(a.at[i - 1]), y = folded(b.at[j - 1]);
            size_t best = up[j - 1] + (x != y);
            best = MIN_OF(best, up[j] + 1);
            best = MIN_OF(best, row[j - 1] + 1);
            if (i > 1 && j > 1 && x == folded(b.at[j - 2]) && folded(a.at[i - 2]) == y)
                best = MIN_OF(best, two_up[j - 2] + 1);
            row[j] = best;
        }
        size_t *oldest = two_up;
        two_up = up;
        up = row;
        row = oldest;
    }
    return up[b.len];
}

static size_t common_start(struct bytes a, struct bytes b)
{
    size_t n = 0;

    while (n < a.len && n < b.len && folded(a.at[n]) == folded(b.at[n]))
        n++;
    return n;
}

const char *yaml_did_you_mean(struct bytes word, const char *const *candidates, size_t count)
{
    const char *nearest = NULL;
    size_t least = MAX_OF(word.len / 3, (size_t)1); /* more differences than this make another word */
    size_t same_best = 0;                           /* of equally near ones, that which begins alike */

    if (word.len == 0 || word.len > WORD_MAX)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        struct bytes candidate = bytes_of(candidates[i]);
        if (candidate.len > WORD_MAX)
            continue;
        size_t far = distance(word, candidate), same = common_start(word, candidate);
        if (far >= MAX_OF(word.len, candidate.len) || far > least ||
            (far == least && nearest && same <= same_best))
            continue;
        nearest = candidates[i];
        least = far;
        same_best = same;
    }
    return nearest;
}

/* ---- what is shown of a wrong value ---- */

struct shown {
    char text[80];
};

static struct shown show(const struct yaml_node *n)
{
    struct shown s;
    int len = (int)MIN_OF(n->text.len, (size_t)60);

    if (n->type != YAML_SCALAR) {
        snprintf(s.text, sizeof(s.text), "a %s", n->type == YAML_LIST ? "list" : "map");
        return s;
    }
    if (n->text.len == 0) {
        snprintf(s.text, sizeof(s.text), n->quoted ? "an empty text" : "nothing");
        return s;
    }
    while (len > 0 && (size_t)len < n->text.len && ((unsigned char)n->text.at[len] & 0xc0) == 0x80)
        len--; /* never half a character */
    snprintf(s.text, sizeof(s.text), "'%.*s%s'", len, n->text.at, (size_t)len < n->text.len ? "…" : "");
    return s;
}

/* ---- numbers with units ---- */

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit durations[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {"", 1000},
};
static const struct unit sizes[] = {
    {"T", (uint64_t)1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"k", 1 << 10}, {"", 1},
};

static bool parse_with_unit(struct bytes text, const struct unit *units, size_t count, bool fold,
                            uint64_t *out)
{
    size_t digits = 0;
    uint64_t number;

    while (digits < text.len && text.at[digits] >= '0' && text.at[digits] <= '9')
        digits++;
    struct bytes unit = bytes_skip(text, digits);
    if (!bytes_parse_u64(bytes_first(text, digits), &number))
        return false;
    for (size_t i = 0; i < count; i++) {
        struct bytes name = bytes_of(units[i].name);
        if (!(fold ? bytes_ieq(unit, name) : bytes_eq(unit, name)))
            continue;
        if (number > UINT64_MAX / units[i].factor)
            return false;
        *out = number * units[i].factor;
        return true;
    }
    return false;
}

/* `units` are ordered from the largest. */
static void put_with_unit(struct buf *out, uint64_t value, const struct unit *units, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (value % units[i].factor || (value == 0 && units[i].factor != 1))
            continue;
        buf_putf(out, "%" PRIu64 "%s", value / units[i].factor, value ? units[i].name : "");
        return;
    }
}

bool yaml_parse_duration_ms(struct bytes text, uint64_t *out)
{
    return parse_with_unit(text, durations, COUNT_OF(durations), false, out);
}

bool yaml_parse_size(struct bytes text, uint64_t *out)
{
    return parse_with_unit(text, sizes, COUNT_OF(sizes), true, out);
}

void yaml_put_duration_ms(struct buf *out, uint64_t ms)
{
    put_with_unit(out, ms, durations, COUNT_OF(durations));
}

void yaml_put_size(struct buf *out, uint64_t size_bytes)
{
    put_with_unit(out, size_bytes, sizes, COUNT_OF(sizes));
}

/* ---- getters ---- */

bool yaml_get_bool(const struct yaml_node *n, bool *out, struct yaml_errors *e)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};

    for (size_t i = 0; n->type == YAML_SCALAR && i < COUNT_OF(words); i++) {
        if (bytes_ieq(n->text, bytes_of(words[i]))) {
            *out = i % 2;
            return true;
        }
    }
    yaml_error(e, n, "expected true or false, found %s", show(n).text);
    return false;
}

static bool parse_i64(struct bytes text, int64_t *out)
{
    bool negative = text.len && text.at[0] == '-';
    uint64_t number;

    if (!bytes_parse_u64(bytes_skip(text, negative), &number) || number > INT64_MAX)
        return false;
    *out = negative ? -(int64_t)number : (int64_t)number;
    return true;
}

bool yaml_get_int(const struct yaml_node *n, int64_t min, int64_t max, int64_t *out, struct yaml_errors *e)
{
    int64_t value;

    if (n->type == YAML_SCALAR && parse_i64(n->text, &value) && value >= min && value <= max) {
        *out = value;
        return true;
    }
    if (max == INT64_MAX)
        yaml_error(e, n, "expected a whole number, %" PRId64 " or more, found %s", min, show(n).text);
    else
        yaml_error(e, n, "expected a whole number from %" PRId64 " to %" PRId64 ", found %s", min, max,
                   show(n).text);
    return false;
}

/* Digits with an optional sign and fraction; no exponent, "nan" or "inf", and no locale. */
static bool parse_decimal(struct bytes text, double *out)
{
    bool negative = text.len && text.at[0] == '-';
    struct bytes number = bytes_skip(text, negative);
    size_t dot = bytes_find(number, '.');
    struct bytes fraction = bytes_skip(number, dot + 1);
    uint64_t whole, parts = 0;
    double scale = 1;

    if (!bytes_parse_u64(bytes_first(number, dot), &whole) || fraction.len > 18)
        return false;
    if (dot < number.len && !bytes_parse_u64(fraction, &parts))
        return false;
    for (size_t i = 0; i < fraction.len; i++)
        scale *= 10;
    *out = ((double)whole + (double)parts / scale) * (negative ? -1 : 1);
    return true;
}

bool yaml_get_double(const struct yaml_node *n, double min, double max, double *out, struct yaml_errors *e)
{
    double value;

    if (n->type == YAML_SCALAR && parse_decimal(n->text, &value) && value >= min && value <= max) {
        *out = value;
        return true;
    }
    yaml_error(e, n, "expected a number from %.15g to %.15g, found %s", min, max, show(n).text);
    return false;
}

typedef bool (*parse_fn)(struct bytes text, uint64_t *out);
typedef void (*put_fn)(struct buf *out, uint64_t value);

static bool get_with_unit(const struct yaml_node *n, uint64_t min, uint64_t max, uint64_t *out,
                          struct yaml_errors *e, parse_fn parse, put_fn put, const char *what)
{
    uint64_t value;
    BUF_LOCAL(range);

    if (n->type == YAML_SCALAR && parse(n->text, &value) && value >= min && value <= max) {
        *out = value;
        return true;
    }
    if (min || max != UINT64_MAX) {
        buf_puts(&range, max == UINT64_MAX ? ", " : " from ");
        put(&range, min);
        buf_puts(&range, max == UINT64_MAX ? " or more" : " to ");
        if (max != UINT64_MAX)
            put(&range, max);
    }
    yaml_error(e, n, "expected %s%s, found %s", what, buf_str(&range), show(n).text);
    return false;
}

bool yaml_get_duration_ms(const struct yaml_node *n, uint64_t min, uint64_t max, uint64_t *out,
                          struct yaml_errors *e)
{
    return get_with_unit(n, min, max, out, e, yaml_parse_duration_ms, yaml_put_duration_ms,
                         "a duration like 250ms, 30s, 5m, 2h or 5d");
}

bool yaml_get_size(const struct yaml_node *n, uint64_t min, uint64_t max, uint64_t *out,
                   struct yaml_errors *e)
{
    return get_with_unit(n, min, max, out, e, yaml_parse_size, yaml_put_size, "a size like 64k, 50M or 1G");
}

bool yaml_get_word(const struct yaml_node *n, const char *const *words, size_t count, int *out,
                   struct yaml_errors *e)
{
    BUF_LOCAL(list);

    for (size_t i = 0; n->type == YAML_SCALAR && i < count; i++) {
        if (bytes_eq(n->text, bytes_of(words[i]))) {
            *out = (int)i;
            return true;
        }
    }
    for (size_t i = 0; i < count; i++)
        buf_putf(&list, "%s%s", i == 0 ? "" : i + 1 < count ? ", " : " or ", words[i]);
    const char *meant = n->type == YAML_SCALAR ? yaml_did_you_mean(n->text, words, count) : NULL;
    yaml_error(e, n, "expected %s, found %s%s%s%s", buf_str(&list), show(n).text,
               meant ? " (did you mean '" : "", meant ? meant : "", meant ? "'?)" : "");
    return false;
}

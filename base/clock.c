#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t clock_now_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t clock_now_ms(void)
{
    return clock_now_us() / 1000;
}

int64_t clock_unix_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t clock_unix(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec;
}

char *clock_format_utc(int64_t unix_seconds, char *out)
{
    struct tm tm;
    time_t t = (time_t)unix_seconds;

    if (!gmtime_r(&t, &tm) || !strftime(out, CLOCK_TEXT_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm))
        snprintf(out, CLOCK_TEXT_BYTES, "@%lld", (long long)unix_seconds);
    return out;
}

char *clock_format_mail(int64_t unix_seconds, char *out)
{
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct tm tm;
    time_t t = (time_t)unix_seconds;

    if (!localtime_r(&t, &tm))
        tm = (struct tm){.tm_mday = 1, .tm_year = 70};
    long offset_minutes = tm.tm_gmtoff / 60;
    long minutes = labs(offset_minutes);
    snprintf(out, CLOCK_TEXT_BYTES, "%.3s, %d %.3s %d %02d:%02d:%02d %c%02d%02d", days[tm.tm_wday % 7],
             tm.tm_mday % 100, months[tm.tm_mon % 12], (tm.tm_year + 1900) % 100000, tm.tm_hour % 100, tm.tm_min % 100,
             tm.tm_sec % 100, offset_minutes < 0 ? '-' : '+', (int)(minutes / 60 % 100), (int)(minutes % 60));
    return out;
}

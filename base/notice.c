#include "base/notice.h"

#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/macros.h"
#include "base/mem.h"

#define LINE_MAX 2048 /* a longer one loses its last fields */

static struct {
    pthread_mutex_t lock;
    uint64_t newest;
    char *lines[NOTICES_MAX]; /* owned; number n stands at n % NOTICES_MAX */
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void put_field(struct buf *line, const struct log_field *f)
{
    size_t before = line->len;

    if (f->type == LOG_FIELD_INT)
        json_put_int(line, f->key, f->number);
    else
        json_put_bytes(line, f->key, f->text);
    if (line->len > LINE_MAX)
        line->len = before;
}

static void keep(const char *event, const struct log_field *fields, size_t count)
{
    char at[CLOCK_TEXT_BYTES];
    BUF_LOCAL(line);

    pthread_mutex_lock(&kept.lock);
    json_begin(&line, NULL, '{');
    json_put_text(&line, "event", event);
    json_put_count(&line, "event_id", ++kept.newest);
    json_put_text(&line, "at", clock_format_utc(clock_unix(), at));
    for (size_t i = 0; i < count; i++)
        put_field(&line, &fields[i]);
    json_end(&line, '}');
    char **place = &kept.lines[kept.newest % NOTICES_MAX];
    mem_free(*place);
    *place = mem_strdup(buf_str(&line));
    pthread_mutex_unlock(&kept.lock);
}

void notice_write(enum log_level level, const struct log *log, const char *event,
                  const struct log_field *fields, size_t count)
{
    keep(event, fields, count);
    if (log_enabled(level))
        log_write(level, log, event, fields, count);
}

uint64_t notices_newest(void)
{
    pthread_mutex_lock(&kept.lock);
    uint64_t newest = kept.newest;
    pthread_mutex_unlock(&kept.lock);
    return newest;
}

uint64_t notices_read(uint64_t after, size_t max, struct buf *out)
{
    pthread_mutex_lock(&kept.lock);
    uint64_t last = after > kept.newest ? 0 : after;
    if (kept.newest - last > NOTICES_MAX)
        last = kept.newest - NOTICES_MAX;
    for (; max && last < kept.newest; max--) {
        buf_puts(out, kept.lines[++last % NOTICES_MAX]);
        buf_putc(out, '\n');
    }
    pthread_mutex_unlock(&kept.lock);
    return last;
}

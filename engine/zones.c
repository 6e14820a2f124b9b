#include "engine/zones.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"

#define FOLDER "/usr/share/zoneinfo"

struct zone {
    char *name;          /* owned */
    struct timezone *tz; /* owned */
};

struct zones {
    pthread_mutex_t lock;
    struct map names; /* struct zone */
};

/* For hosts without tzdata: it has had no summer time since 1951. */
static const struct {
    const char *name, *rule;
} built_in[] = {{"Asia/Tokyo", "JST-9"}, {"Japan", "JST-9"}};

struct zones *zones_create(void)
{
    struct zones *z = MEM_NEW(struct zones);

    pthread_mutex_init(&z->lock, NULL);
    return z;
}

void zones_destroy(struct zones *z)
{
    struct zone *zone;

    if (!z)
        return;
    for (size_t at = 0; (zone = map_next(&z->names, &at)) != NULL;) {
        timezone_destroy(zone->tz);
        mem_free(zone->name);
        mem_free(zone);
    }
    map_fini(&z->names);
    pthread_mutex_destroy(&z->lock);
    mem_free(z);
}

static struct timezone *read_zone(const char *name)
{
    struct buf path = {0}, file = {0};
    struct timezone *tz = NULL;
    struct stat st;
    ssize_t n = 1;

    buf_putf(&path, "%s/%s", FOLDER, name);
    int fd = open(buf_str(&path), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        while (file.len <= TIMEZONE_FILE_MAX && (n = read(fd, buf_reserve(&file, 8192), 8192)) > 0)
            file.len += (size_t)n;
        if (n == 0)
            tz = timezone_parse(buf_bytes(&file));
    }
    if (fd >= 0)
        close(fd);
    buf_fini(&path);
    buf_fini(&file);
    return tz;
}

static struct timezone *make(const char *name)
{
    struct timezone *tz = NULL;
    int32_t offset;

    if (timezone_parse_offset(bytes_of(name), &offset))
        return timezone_fixed(offset);
    if (timezone_is_name(bytes_of(name)))
        tz = read_zone(name);
    for (size_t i = 0; !tz && i < COUNT_OF(built_in); i++)
        if (strcmp(built_in[i].name, name) == 0)
            tz = timezone_parse_rule(bytes_of(built_in[i].rule));
    return tz;
}

const struct timezone *zones_find(struct zones *z, const char *name)
{
    pthread_mutex_lock(&z->lock);
    struct zone *zone = map_find(&z->names, bytes_of(name));
    if (!zone) {
        struct timezone *tz = make(name);
        if (tz) {
            zone = MEM_NEW(struct zone);
            zone->name = mem_strdup(name);
            zone->tz = tz;
            map_put(&z->names, bytes_of(zone->name), zone);
        }
    }
    pthread_mutex_unlock(&z->lock);
    return zone ? zone->tz : NULL;
}

json_t *zones_quiet_json(struct zones *z, const struct quiet_hours *q, int64_t now_unix)
{
    const struct timezone *tz = zones_find(z, q->time_zone);
    struct buf from = {0}, to = {0};

    quiet_put_time(&from, q->from_s);
    quiet_put_time(&to, q->to_s);
    json_t *json =
        json_pack("{s:s, s:s, s:s}", "from", buf_str(&from), "to", buf_str(&to), "time_zone", q->time_zone);
    buf_fini(&from);
    buf_fini(&to);
    if (tz) {
        struct quiet_now now = quiet_look(q, tz, now_unix);
        json_object_set_new(json, "quiet", json_boolean(now.quiet));
        json_object_set_new(json, "changes_unix", json_integer((json_int_t)now.changes_unix));
    } else {
        json_object_set_new(json, "quiet", json_null());
    }
    return json;
}

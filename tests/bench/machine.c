#include "tests/bench/machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/macros.h"

static uint64_t usage_us(int who)
{
    struct rusage u;

    if (getrusage(who, &u))
        return 0;
    return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

struct machine_times machine_times(void)
{
    struct machine_times t = {.ours_us = usage_us(RUSAGE_SELF) + usage_us(RUSAGE_CHILDREN)};
    uint64_t tick_us = 1000000 / (uint64_t)sysconf(_SC_CLK_TCK);
    unsigned long long v[8] = {0}; /* user nice system idle iowait irq softirq steal */
    FILE *f = fopen("/proc/stat", "re");

    if (!f)
        return t;
    if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5],
               &v[6], &v[7]) == 8) {
        for (size_t i = 0; i < COUNT_OF(v); i++)
            t.all_us += v[i] * tick_us;
        t.busy_us = t.all_us - (v[3] + v[4]) * tick_us;
    }
    fclose(f);
    return t;
}

double machine_others_percent(const struct machine_times *from, const struct machine_times *to)
{
    uint64_t all = to->all_us - from->all_us, busy = to->busy_us - from->busy_us,
             ours = to->ours_us - from->ours_us;

    return all && busy > ours ? (double)(busy - ours) * 100 / (double)all : 0;
}

static void processor(char *out, size_t size)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");

    snprintf(out, size, "unknown");
    if (!f)
        return;
    while (fgets(line, sizeof line, f)) {
        char *value = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !value)
            continue;
        value[strcspn(value, "\n")] = 0;
        snprintf(out, size, "%s", value + 1 + strspn(value + 1, " "));
        break;
    }
    fclose(f);
}

static const char *filesystem(const char *folder)
{
    static const struct {
        unsigned long type; /* statfs(2) */
        const char *name;
    } known[] = {
        {0xef53, "ext4"},
        {0x58465342, "xfs"},
        {0x9123683e, "btrfs"},
        {0x2fc12fc1, "zfs"},
        {0x794c7630, "overlay"},
        {0x6969, "nfs"},
        {0x01021994, "tmpfs: memory, not stable storage"},
    };
    struct statfs st;

    if (statfs(folder, &st))
        return "unknown";
    for (size_t i = 0; i < COUNT_OF(known); i++)
        if ((unsigned long)st.f_type == known[i].type)
            return known[i].name;
    return "unknown";
}

void machine_report(const char *folder, double load, struct report *to)
{
    struct utsname os = {0};
    char model[128], text[256];
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);

    (void)uname(&os);
    processor(model, sizeof model);
    report_section(to, "machine");
    report_text(to, "processor", model);
    report_count(to, "cores", (uint64_t)sysconf(_SC_NPROCESSORS_ONLN));
    report_count(to, "memory_mb", memory >> 20);
    snprintf(text, sizeof text, "%.60s %.60s %.60s", os.sysname, os.release, os.machine);
    report_text(to, "system", text);
    report_text(to, "filesystem", filesystem(folder));
    report_number(to, "load_average_before", load, 2);
}

#include "engine/descriptors.h"

#include <sys/resource.h>

#include "base/log.h"

#define FILES_PER_JOB   2   /* a connection and a body */
#define FILES_BESIDE    200 /* databases, segments, DNS, the API, loops */
#define FILES_KEPT      100 /* of these, what is always there: connections take no more than the rest */
#define CONNECTIONS_MIN 8

uint64_t descriptors_wanted(const struct conf *conf)
{
    return (uint64_t)(conf->delivery.connections + conf->submission.connections) * FILES_PER_JOB +
           FILES_BESIDE;
}

bool descriptors_allowed(uint64_t *out)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return false;
    *out = limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : (uint64_t)limit.rlim_cur;
    return true;
}

uint32_t descriptors_connections(const struct conf *conf)
{
    uint64_t allowed;

    if (!descriptors_allowed(&allowed))
        return (uint32_t)conf->delivery.connections;
    uint64_t most = allowed > FILES_KEPT + CONNECTIONS_MIN ? allowed - FILES_KEPT : CONNECTIONS_MIN;
    return (uint32_t)MIN_OF((uint64_t)conf->delivery.connections, most);
}

void descriptors_check(const struct conf *conf)
{
    uint64_t allowed, wanted = descriptors_wanted(conf);

    if (!descriptors_allowed(&allowed) || allowed >= wanted)
        return;
    log_warn(
        NULL, "descriptors.few", LOG_INT("allowed", (long long)allowed), LOG_INT("wanted", (long long)wanted),
        LOG_STR("hint", "connections beyond that wait: raise LimitNOFILE= of the service (ulimit -n), or "
                        "lower delivery.connections and submission.connections"));
}

#include "policy/retry.h"

#include "base/macros.h"

const struct retry_schedule retry_default = {
    .step_s = {5 * 60, 10 * 60, 20 * 60, 30 * 60, 60 * 60, 2 * 60 * 60, 4 * 60 * 60},
    .steps = 7,
    .jitter_percent = 10,
    .lifetime_s = 5 * 24 * 60 * 60,
    .delay_notice_s = 4 * 60 * 60,
};

uint32_t retry_wait_s(const struct retry_schedule *r, uint32_t attempts, uint32_t random)
{
    uint32_t steps = MIN_OF(r->steps, (uint32_t)RETRY_STEPS_MAX);
    uint64_t step, swing, wait;

    if (steps == 0)
        return retry_wait_s(&retry_default, attempts, random);
    step = r->step_s[MIN_OF(MAX_OF(attempts, 1U), steps) - 1];
    swing = step * MIN_OF(r->jitter_percent, 100U) / 100;
    /* The whole range [step - swing, step + swing] evenly, from all 32 bits of the number. */
    wait = step - swing + ((uint64_t)random * (2 * swing + 1) >> 32);
    wait = MAX_OF(wait, 1U); /* never at once: RFC 5321 §4.5.4.1 */
    return (uint32_t)MIN_OF(wait, (uint64_t)UINT32_MAX);
}

bool retry_is_expired(const struct retry_schedule *r, int64_t accepted_unix, int64_t now_unix)
{
    if (now_unix <= accepted_unix)
        return false;
    /* The difference of two int64_t may not fit into one, but it always fits into a uint64_t. */
    return (uint64_t)now_unix - (uint64_t)accepted_unix >= r->lifetime_s;
}

#include "queue/lane.h"

#include <string.h>

#include "base/hash.h"

#define FLOWS       ((1U << LANE_FLOW_BITS) - 1)
#define LOWER_EVERY 8

uint16_t lane_of(enum priority p, const char *account, const char *campaign)
{
    uint64_t a = account && *account ? hash_stable(bytes_of(account)) : 0;
    uint64_t c = campaign && *campaign ? hash_stable(bytes_of(campaign)) : 0;
    uint64_t both = (a * 3 + c) * 0x9e3779b97f4a7c15; /* not symmetric; its high bits depend on all others */

    return (uint16_t)((unsigned)p << LANE_FLOW_BITS | (a | c ? 1 + (unsigned)((both >> 32) % FLOWS) : 0));
}

void priority_order(uint32_t turn, enum priority out[PRIORITIES])
{
    static const enum priority orders[][PRIORITIES] = {{PRIORITY_HIGH, PRIORITY_NORMAL, PRIORITY_LOW},
                                                       {PRIORITY_NORMAL, PRIORITY_LOW, PRIORITY_HIGH},
                                                       {PRIORITY_LOW, PRIORITY_NORMAL, PRIORITY_HIGH}};
    size_t which = turn % LOWER_EVERY ? 0 : 1 + turn / LOWER_EVERY % 2;

    memcpy(out, orders[which], sizeof(orders[0]));
}

bool lane_goes_before(uint16_t lane, uint16_t other)
{
    static const uint8_t rank[PRIORITIES] = {[PRIORITY_HIGH] = 0, [PRIORITY_NORMAL] = 1, [PRIORITY_LOW] = 2};

    return rank[lane_priority(lane)] < rank[lane_priority(other)];
}

static const char *const names[PRIORITIES] = {
    [PRIORITY_NORMAL] = "normal", [PRIORITY_HIGH] = "high", [PRIORITY_LOW] = "low"};

const char *priority_name(enum priority p)
{
    return names[p];
}

bool priority_parse(struct bytes text, enum priority *out)
{
    for (unsigned i = 0; i < PRIORITIES; i++) {
        if (bytes_ieq(text, bytes_of(names[i]))) {
            *out = (enum priority)i;
            return true;
        }
    }
    return false;
}

#include "tests/bench/refuse.h"

static const struct bytes stages[REFUSE_STAGES] = {
    [REFUSE_CONNECT] = {"connect", 7}, [REFUSE_MAIL] = {"mail", 4}, [REFUSE_RCPT] = {"rcpt", 4},
    [REFUSE_DATA] = {"data", 4},       [REFUSE_DOT] = {"dot", 3},
};

bool refuse_parse(struct refuse *r, struct bytes text)
{
    size_t equals = bytes_find(text, '=');
    struct bytes stage = bytes_first(text, equals), rest = bytes_skip(text, equals + 1);
    size_t colon = bytes_find(rest, ':');
    struct bytes share = bytes_skip(rest, colon + 1);
    uint64_t code, percent;

    if (equals == text.len || colon == rest.len)
        return false;
    if (share.len < 2 || share.at[share.len - 1] != '%')
        return false;
    if (!bytes_parse_u64(bytes_first(rest, colon), &code) || code < 400 || code > 599)
        return false;
    if (!bytes_parse_u64(bytes_first(share, share.len - 1), &percent) || percent > 100)
        return false;
    for (size_t i = 0; i < REFUSE_STAGES; i++) {
        if (!bytes_eq(stage, stages[i]))
            continue;
        r->at[i].code = (unsigned)code;
        r->at[i].percent = (unsigned)percent;
        return true;
    }
    return false;
}

/* splitmix64 */
static uint64_t roll(uint64_t *dice)
{
    uint64_t z = (*dice += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

unsigned refuse_roll(struct refuse *r, enum refuse_at at)
{
    if (r->at[at].code == 0)
        return 0;
    return roll(&r->dice) % 100 < r->at[at].percent ? r->at[at].code : 0;
}

/* Any reply at any stage: the stored text is clean UTF-8 that ends in time, and no word overrules a code. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/classify.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const struct outcome *o)
{
    size_t len = strnlen(o->text, OUTCOME_TEXT_BYTES);

    if (len >= OUTCOME_TEXT_BYTES)
        abort();
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)o->text[i];
        size_t follow = c < 0x80 ? 0 : c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;

        if (c < ' ' || c == 0x7f || (c >= 0x80 && c < 0xc2) || c > 0xf4 || i + follow >= len + (follow == 0))
            abort();
        for (; follow > 0; follow--)
            if (((unsigned char)o->text[++i] & 0xc0) != 0x80)
                abort();
    }
}

static void check_enhanced(const struct outcome *o)
{
    if (strnlen(o->enhanced, sizeof(o->enhanced)) >= sizeof(o->enhanced))
        abort();
    if (o->enhanced[0] && o->enhanced[0] - '0' != o->code / 100)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome o, again;
    enum outcome_stage stage;
    uint16_t code;

    if (size < 3)
        return 0;
    stage = (enum outcome_stage)(data[0] % (STAGE_DOT + 1));
    code = (uint16_t)((data[1] << 8 | data[2]) % 700);
    outcome_from_reply(&o, stage, code, bytes_make(data + 3, size - 3));
    check_text(&o);
    check_enhanced(&o);
    if (o.kind == OUTCOME_DELIVERED && (stage != STAGE_DOT || code / 100 != 2))
        abort();
    if (o.kind == OUTCOME_BOUNCED && (stage < STAGE_MAIL || code / 100 != 5))
        abort();
    if (outcome_class_name(classify_outcome(&o)) == NULL)
        abort();
    outcome_from_reply(&again, stage, code, bytes_of(o.text)); /* what is stored is clean already */
    if (!o.enhanced[0] && !again.enhanced[0] && strcmp(o.text, again.text) != 0 && o.text[0] != ' ' &&
        o.text[strlen(o.text) - 1] != ' ')
        abort();
    return 0;
}

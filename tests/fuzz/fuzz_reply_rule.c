/* Any pattern on any reply: no crash, and an end in bounded time.  The first line is the pattern. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/reply_rule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes all = bytes_make(data, size), text = bytes_first(all, bytes_find(all, '\n'));
    struct reply_rule rule = {.code_from = 400, .code_to = 599};
    struct outcome o;
    char why[128];
    size_t at;

    outcome_from_reply(&o, STAGE_RCPT, 450, bytes_skip(all, text.len + 1 > size ? size : text.len + 1));
    rule.pattern = reply_pattern_compile(text, why, &at);
    if (rule.pattern) {
        bool first = reply_rule_matches(&rule, "g", &o);

        if (first != reply_rule_matches(&rule, "g", &o))
            abort();
        rule.code_from = rule.code_to = 550;
        if (reply_rule_matches(&rule, "g", &o))
            abort();
    } else if (at > text.len || strlen(why) == 0) {
        abort(); /* refused without a reason */
    }
    reply_pattern_free(rule.pattern);
    return 0;
}

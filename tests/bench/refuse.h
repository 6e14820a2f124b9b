/*
 * What the sink refuses: "rcpt=450:5%" answers five of a hundred RCPT commands with 450.  Pure; the dice are
 * seeded the same in every run, so that runs can be compared.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum refuse_at { REFUSE_CONNECT, REFUSE_MAIL, REFUSE_RCPT, REFUSE_DATA, REFUSE_DOT, REFUSE_STAGES };

struct refuse {
    struct {
        unsigned code; /* 0: never */
        unsigned percent;
    } at[REFUSE_STAGES];
    uint64_t dice;
};

/* Adds one rule; false, and nothing changed, when the text is not STAGE=CODE:PERCENT% with 400 <= CODE <=
 * 599. */
bool refuse_parse(struct refuse *r, struct bytes text);
/* The code to answer with, or 0 to accept. */
unsigned refuse_roll(struct refuse *r, enum refuse_at at);

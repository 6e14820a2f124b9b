/*
 * Rules of the policy document about replies: when a receiver says this at that stage, treat it so.
 *
 *     replies:
 *       - code: 4xx
 *         text: 'too many connections'
 *         group: gmail
 *         limit_connections: 2
 *         for: 10m
 *
 * The rules of the recipient's group are asked first, then those of the document; the first that matches
 * decides. Asked about are replies, never what was delivered; connections that did not come about (stage
 * connect) and refused STARTTLS only where a rule names the stage, and such a rule judges no recipient. Pure:
 * matching takes bounded time (PCRE2 with limits; a pattern that reaches them does not match).  A snapshot's
 * rules never change. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "policy/outcome.h"

struct pcre2_real_code_8;

enum reply_treat { TREAT_AS_SAID, TREAT_AS_PERMANENT, TREAT_AS_TEMPORARY };

struct reply_rule {
    uint32_t line;    /* of the document */
    const char *file; /* the included file of which it is; NULL: the document itself */
    /* when; what is not set matches everything */
    uint16_t code_from, code_to;       /* 0: any */
    char *enhanced;                    /* "4.7": that and all below it; NULL: any */
    char *text;                        /* the pattern as written; NULL: any */
    struct pcre2_real_code_8 *pattern; /* owned */
    uint32_t stages;                   /* bits 1 << enum outcome_stage; 0: any */
    char *group;                       /* NULL: any, or that which holds the rule */
    /* then */
    enum reply_treat treat;
    uint32_t retry_after_s;     /* 0: by the schedule */
    uint32_t suspend_s;         /* no mail to the site for so long */
    uint32_t back_off_s;        /* half of the connections; doubled again each time this has passed */
    uint32_t limit_connections; /* to the site, over all workers; 0: not limited */
    double slow_to;             /* messages a second to the site, over all workers; 0: not slowed */
    uint32_t for_s;             /* how long limit_connections and slow_to hold */
};

/* Has it an action that concerns the site, not only this recipient? */
bool reply_rule_shapes(const struct reply_rule *rule);
bool reply_rule_matches(const struct reply_rule *rule, const char *group, const struct outcome *o);
/* The first of `count` rules that matches, or NULL. */
const struct reply_rule *reply_rule_find(const struct reply_rule *rules, size_t count, const char *group,
                                         const struct outcome *o);

/*
 * For the parser: compiles `text` (case does not count, UTF-8).  NULL: *why (128 octets) says what is wrong,
 * *at in front of which octet.
 */
struct pcre2_real_code_8 *reply_pattern_compile(struct bytes text, char why[128], size_t *at);
void reply_pattern_free(struct pcre2_real_code_8 *pattern); /* NULL is fine */

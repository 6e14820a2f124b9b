/* Policy documents in tests. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "policy/policy.h"

/* The document, or NULL; the complaints stay in `errors`. */
static inline struct policy *parse(const char *text, struct yaml_errors *errors)
{
    struct policy *p = NULL;

    *errors = (struct yaml_errors){0};
    (void)!policy_parse("doc", bytes_of(text), 7, &p, errors);
    return p;
}

static inline struct policy *parse_good(const char *text)
{
    struct yaml_errors errors;
    struct policy *p = parse(text, &errors);

    if (!p)
        fail_msg("%s", errors.count ? errors.items[0].text : "no complaint");
    yaml_errors_fini(&errors);
    return p;
}

static inline bool has_complaint(const struct yaml_errors *e, const char *text, bool is_notice)
{
    for (size_t i = 0; i < e->count; i++)
        if (e->items[i].is_notice == is_notice && strstr(e->items[i].text, text))
            return true;
    return false;
}

static inline void print_complaints(const struct yaml_errors *e)
{
    for (size_t i = 0; i < e->count; i++)
        print_error("%s\n", e->items[i].text);
}

/* A fingerprint but for its last digit, or its last two. */
#define HEX62 "00112233445566778899aabbccddeeff00112233445566778899aabbccddee"
#define HEX63 HEX62 "f"
#define PIN_UPPER                                                                                            \
    "AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89:AB:CD:EF:01:23:45:67:89"
#define PIN_LOWER   "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
#define GROUP(keys) "groups:\n- name: a\n  match: [a.example]\n" keys "- name: default\n"

/* Any octets as policy document: no crash, and what is accepted dumps, matches and reads back the same. */
#include <stdint.h>
#include <stdlib.h>

#include "policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Pools with their addresses alone. */
static void dump_pools(const struct policy *p, struct buf *out)
{
    for (size_t i = 0; i < policy_pool_count(p); i++) {
        const struct source_pool *pool = policy_pool(p, i);
        buf_putf(out, "%s- name: %s\n  addresses:\n", i ? "" : "sources:\n", pool->name);
        for (size_t k = 0; k < pool->count; k++)
            buf_putf(out, "  - \"%s\"\n", pool->addresses[k].text);
    }
}

/* The groups of a snapshot as one document. */
static void dump_all(const struct policy *p, struct buf *out)
{
    dump_pools(p, out);
    buf_puts(out, "groups:\n");
    for (size_t i = 0; i < policy_group_count(p); i++) {
        struct buf group = {0};
        const char *lead = "- ";

        policy_dump_group(policy_group(p, i), &group);
        for (struct bytes rest = buf_bytes(&group); rest.len > 0; lead = "  ") {
            struct bytes line = bytes_first(rest, bytes_find(rest, '\n') + 1);

            buf_puts(out, lead);
            buf_put(out, line);
            rest = bytes_skip(rest, line.len);
        }
        buf_putf(out, "  match: [g%zu.example]\n", i);
        buf_fini(&group);
    }
}

static void check_accepted(const struct policy *p, struct bytes text)
{
    struct buf dump = {0}, again = {0}, diff = {0};
    struct yaml_errors errors = {0};
    struct policy *q = NULL;

    if (!policy_match_mx(p, &text, 1).group)
        abort(); /* there is always a default */
    (void)policy_match_domain(p, text);
    dump_all(p, &dump);
    if (policy_parse("dump", buf_bytes(&dump), 2, &q, &errors) != OK)
        abort();
    dump_all(q, &again);
    if (!bytes_eq(buf_bytes(&dump), buf_bytes(&again)))
        abort();
    policy_diff(text, buf_bytes(&dump), "a", "b", &diff);
    yaml_errors_fini(&errors);
    policy_unref(q);
    buf_fini(&dump);
    buf_fini(&again);
    buf_fini(&diff);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_make(data, size);
    struct yaml_errors errors = {0};
    struct policy *p = NULL;

    if (policy_parse("fuzz", text, 1, &p, &errors) == OK)
        check_accepted(p, text);
    else if (errors.errors == 0)
        abort(); /* refused without a reason */
    yaml_errors_fini(&errors);
    policy_unref(p);
    return 0;
}

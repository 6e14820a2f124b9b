/* Any octets as TXT record and as policy file of MTA-STS: what is accepted is clean, and reads back the same.
 */
#include <stdint.h>
#include <stdlib.h>

#include "policy/domain.h"
#include "policy/sts_policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_txt(struct bytes text)
{
    char id[STS_ID_MAX + 1];
    bool ours = false;
    size_t len;

    if (!sts_txt_parse(text, id, &ours))
        return;
    len = strnlen(id, sizeof(id));
    if (!ours || len == 0 || len > STS_ID_MAX)
        abort();
    for (size_t i = 0; i < len; i++)
        if (!((id[i] >= '0' && id[i] <= '9') || (ascii_lower(id[i]) >= 'a' && ascii_lower(id[i]) <= 'z')))
            abort();
}

static void check_accepted(const struct sts_policy *p)
{
    struct sts_policy *again = NULL;
    const char *why;

    if (p->max_age_s > STS_MAX_AGE_MAX || p->mx_count > STS_PATTERNS_MAX ||
        (p->mode != STS_MODE_NONE && p->mx_count == 0))
        abort();
    /* Its lines are a policy that says the same; one blank after each colon may have made it too large. */
    if (sts_policy_parse("b.example", "2", bytes_of(p->text), &again, &why) == OK) {
        struct buf a = {0}, b = {0};

        sts_policy_put_key(p, &a);
        sts_policy_put_key(again, &b);
        if (!bytes_eq(buf_bytes(&a), buf_bytes(&b)) || p->max_age_s != again->max_age_s)
            abort();
        buf_fini(&a);
        buf_fini(&b);
        sts_policy_unref(again);
    } else if (strlen(p->text) <= STS_POLICY_BYTES) {
        abort();
    }
    for (size_t i = 0; i < p->mx_count; i++) {
        bool star = p->mx[i][0] == '*';
        char host[DOMAIN_MAX_BYTES + 3] = "x";

        memcpy(host + star, p->mx[i] + star, strlen(p->mx[i] + star) + 1);
        if (!sts_policy_names(p, bytes_of(host)))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_make(data, size);
    struct sts_policy *p = NULL;
    const char *why = NULL;

    check_txt(text);
    if (sts_policy_parse("a.example", "1", text, &p, &why) == OK)
        check_accepted(p);
    else if (p || !why)
        abort();
    sts_policy_unref(p);
    return 0;
}

/* Command lines, with all their parameters. */
#include <stdint.h>
#include <stdlib.h>

#include "engine/smtp/command.h"
#include "engine/smtp/schedule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_refusal(const struct smtp_refusal *why)
{
    if (why->code < 500 || why->code > 559 || why->enhanced[0] != '5' || !why->text[0])
        abort();
}

static void check_text(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct smtp_command c;
    struct smtp_refusal why;
    struct mail_args m;
    struct rcpt_args r;
    struct bdat_args b;
    int64_t when;
    bool sized;

    smtp_command_parse(bytes_make(data, size), &c);
    if (c.arg.len > size)
        abort();
    if (!smtp_mail_parse(c.arg, &m, &why))
        check_refusal(&why);
    else
        check_text(m.envid);
    if (!smtp_rcpt_parse(c.arg, &r, &why)) {
        check_refusal(&why);
    } else {
        check_text(r.orcpt);
        if (r.to.domain.len == 0 || (r.notify & NOTIFY_NEVER && r.notify != NOTIFY_NEVER))
            abort();
    }
    if (!smtp_bdat_parse(c.arg, &b, &sized, &why))
        check_refusal(&why);
    else if (!sized)
        abort();
    (void)schedule_parse(c.arg, &when);
    return 0;
}

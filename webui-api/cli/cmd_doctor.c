/* `hayauma doctor`: what the daemon found when it looked at itself and at its host. */
#include "webui-api/cli/cli.h"

static enum style style_of_level(const char *level)
{
    return strcmp(level, "ok") == 0 ? STYLE_GOOD : strcmp(level, "warn") == 0 ? STYLE_WARN : STYLE_BAD;
}

static void put_check(struct buf *out, const struct cli *cli, const json_t *check)
{
    const char *level = field_text(check, "level"), *advice = field_text(check, "advice");

    buf_putf(out, "%s%-4s%s  %s", term_on(&cli->term, style_of_level(level)), level, term_off(&cli->term),
             term_on(&cli->term, STYLE_DIM));
    buf_putf(out, "%-11s%s ", field_text(check, "check"), term_off(&cli->term));
    format_safe(out, bytes_of(field_text(check, "text")));
    buf_putc(out, '\n');
    if (!*advice)
        return;
    buf_puts(out, "                  → ");
    format_safe(out, bytes_of(advice));
    buf_putc(out, '\n');
}

/* What is wrong stands last: that is where the eye is. */
static void put_checks(struct buf *out, const struct cli *cli, const json_t *found)
{
    static const char *const levels[] = {"ok", "warn", "fail"};
    const json_t *check;
    size_t k;

    for (size_t i = 0; i < COUNT_OF(levels); i++)
        json_array_foreach(json_object_get(found, "checks"), k,
                           check) if (strcmp(field_text(check, "level"), levels[i]) == 0)
            put_check(out, cli, check);
    buf_putc(out, '\n');
    put_plural(out, field_count(found, "fail"), "failure", "failures");
    buf_puts(out, ", ");
    put_plural(out, field_count(found, "warn"), "warning", "warnings");
    buf_putc(out, '\n');
}

int cmd_doctor(struct cli *cli)
{
    JSON_LOCAL(found);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    url_path(&url, "/api/v1/doctor");
    url_param(&url, "connect", cli_text(cli, "connect"));
    int code = client_call_json(cli->client, "GET", &url, (struct bytes){0}, &found);
    if (code)
        return code;
    if (cli->json) {
        code = cli_write_tree(cli, found);
    } else {
        put_checks(&out, cli, found);
        code = cli_write(buf_bytes(&out));
    }
    return code ? code : field_count(found, "fail") ? CLI_REFUSED : CLI_DONE;
}

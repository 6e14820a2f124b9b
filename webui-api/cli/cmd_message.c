/* One message: envelope, header, recipients, attempts. */
#include "webui-api/cli/attempt.h"

static void put_label(struct buf *out, const struct cli *cli, const char *label)
{
    buf_putf(out, "%s%-10s%s ", term_on(&cli->term, STYLE_DIM), label, term_off(&cli->term));
}

static void put_field(struct buf *out, const struct cli *cli, const json_t *m, const char *label,
                      const char *field)
{
    if (!*field_text(m, field))
        return;
    put_label(out, cli, label);
    format_safe(out, bytes_of(field_text(m, field)));
    buf_putc(out, '\n');
}

static void put_envelope(struct buf *out, const struct cli *cli, const json_t *m)
{
    json_t *flag;
    size_t i;

    put_label(out, cli, "message");
    buf_putf(out, "%s", term_on(&cli->term, STYLE_STRONG));
    format_safe(out, bytes_of(field_text(m, "message")));
    buf_putf(out, "%s%s\n", term_off(&cli->term), field_bool(m, "in_queue") ? "" : ", has left the queue");
    if (field_known(m, "accepted_unix")) {
        put_label(out, cli, "accepted");
        format_local(out, field_int(m, "accepted_unix"));
        buf_puts(out, ", ");
        format_relative(out, field_int(m, "accepted_unix"), cli->now_unix);
        buf_putc(out, '\n');
    }
    put_label(out, cli, "sender");
    if (*field_text(m, "sender"))
        format_safe(out, bytes_of(field_text(m, "sender")));
    else
        buf_puts(out, "<> (a notification)");
    buf_putc(out, '\n');
    put_field(out, cli, m, "account", "account");
    put_field(out, cli, m, "campaign", "campaign");
    put_field(out, cli, m, "ENVID", "envid");
    if (field_known(m, "size")) {
        put_label(out, cli, "size");
        format_size(out, field_count(m, "size"));
        if (field_known(m, "recipients_total")) {
            buf_puts(out, ", ");
            put_plural(out, field_count(m, "recipients_total"), "recipient", "recipients");
        }
        json_array_foreach(json_object_get(m, "flags"), i, flag)
        {
            buf_puts(out, ", ");
            format_safe(out, bytes_of(json_string_value(flag)));
        }
        buf_putc(out, '\n');
    }
}

static void put_header(struct buf *out, const struct cli *cli, const json_t *m)
{
    struct bytes text = bytes_of(field_text(m, "header"));

    if (!text.len)
        return;
    buf_putc(out, '\n');
    while (text.len) {
        size_t end = bytes_find(text, '\n');
        struct bytes line = bytes_first(text, end);
        if (line.len && line.at[line.len - 1] == '\r')
            line.len--;
        if (line.len) {
            BUF_LOCAL(safe);
            for (; line.len && *line.at == '\t'; line = bytes_skip(line, 1)) /* a folded line */
                buf_puts(&safe, "        ");
            format_safe(&safe, line);
            if (cli->term.width)
                format_cut(out, buf_bytes(&safe), cli->term.width);
            else
                buf_put(out, buf_bytes(&safe));
            buf_putc(out, '\n');
        }
        text = bytes_skip(text, end + 1);
    }
    if (field_bool(m, "header_cut"))
        buf_puts(out, "…\n");
}

static void put_recipients(struct buf *out, const struct cli *cli, const json_t *m)
{
    static const struct column columns[] = {
        {"RECIPIENT", COLUMN_LEFT},
        {"STATE", COLUMN_LEFT},
        {"TRIES", COLUMN_RIGHT},
        {"NEXT TRY", COLUMN_RIGHT},
        {"LAST REPLY", COLUMN_GIVES | COLUMN_OPTIONAL},
    };
    const json_t *list = json_object_get(m, "recipients");
    struct table t;
    json_t *r;
    size_t i;

    if (!json_array_size(list))
        return;
    table_init(&t, columns, COUNT_OF(columns));
    json_array_foreach((json_t *)(uintptr_t)list, i, r)
    {
        bool waits = strcmp(field_text(r, "state"), "waiting") == 0;
        table_text(&t, STYLE_PLAIN, field_text(r, "recipient"));
        table_text(&t, waits ? STYLE_PLAIN : STYLE_WARN, field_text(r, "state"));
        table_count(&t, STYLE_PLAIN, field_count(r, "attempts"));
        struct buf *due = table_cell(&t, waits ? STYLE_PLAIN : STYLE_DIM);
        if (waits)
            format_relative(due, MAX_OF(field_int(r, "due_unix"), cli->now_unix), cli->now_unix);
        else
            buf_puts(due, "–");
        table_text(&t, STYLE_DIM, field_text(r, "last_outcome"));
    }
    buf_puts(out, "\nIn the queue:\n");
    table_print(&t, &cli->term, out);
    table_fini(&t);
}

int cmd_queue_show(struct cli *cli)
{
    JSON_LOCAL(m);
    BUF_LOCAL(url);
    BUF_LOCAL(out);

    url_path(&url, "/api/v1/queue/messages");
    url_segment(&url, cli_arg(cli, 0));
    int code = cli_ask(cli, "GET", &url, (struct bytes){0}, &m);
    if (code || cli->json)
        return code;
    put_envelope(&out, cli, m);
    put_header(&out, cli, m);
    put_recipients(&out, cli, m);
    if (json_array_size(json_object_get(m, "attempts"))) {
        buf_puts(&out, field_bool(m, "attempts_cut") ? "\nAttempts (the newest):\n" : "\nAttempts:\n");
        attempt_table(&out, cli, json_object_get(m, "attempts"));
    } else {
        buf_puts(&out, "\nNo attempt yet.\n");
    }
    return cli_write(buf_bytes(&out));
}

/* Keys for DKIM: made here, checked against DNS by the daemon. */
#include <stdio.h>

#include "base/mem.h"
#include "engine/dkim/key.h"
#include "engine/dkim/record.h"
#include "webui-api/cli/cli.h"

#define DOMAIN_MAX 253

/* ---- generate ---- */

/* ASCII only: the record's name in DNS has A-labels. */
static bool domain_is_plain(struct bytes domain)
{
    size_t label = 0;

    for (size_t i = 0; i < domain.len; i++) {
        char c = ascii_lower(domain.at[i]);
        if (c == '.' && label == 0)
            return false;
        if (c != '.' && c != '-' && c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9'))
            return false;
        label = c == '.' ? 0 : label + 1;
        if (label > 63)
            return false;
    }
    return label > 0 && domain.len <= DOMAIN_MAX;
}

static int show_new_key(struct cli *cli, const char *file, const char *domain, const char *selector,
                        const struct dkim_key *key)
{
    BUF_LOCAL(name);
    BUF_LOCAL(record);
    BUF_LOCAL(zone);
    BUF_LOCAL(out);

    dkim_record_name(selector, domain, &name);
    dkim_record_format(key, &record);
    dkim_record_zone(buf_str(&name), buf_bytes(&record), &zone);
    if (cli->json) {
        JSON_LOCAL(tree);
        tree =
            json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "file", file, "domain", domain, "selector", selector,
                      "name", buf_str(&name), "record", buf_str(&record), "zone", buf_str(&zone));
        return cli_write_tree(cli, tree);
    }
    buf_putf(&out, "The private key is in %s (mode 0600): give it to the user that runs hayaumad.\n\n", file);
    buf_putf(&out, "Publish this record:\n\n%s\n\n", buf_str(&zone));
    buf_putf(&out,
             "Then name the key in the configuration, and reload it (SIGHUP):\n\n"
             "dkim:\n  keys:\n    - domain: %s\n      selector: %s\n      key: %s\n\n"
             "\"hayauma dkim check %s\" tells when DNS has it.\n",
             domain, selector, file, domain);
    return cli_write(buf_bytes(&out));
}

int cmd_dkim_generate(struct cli *cli)
{
    const char *selector = cli_arg(cli, 1), *type = cli_text(cli, "type"), *output = cli_text(cli, "output");
    enum dkim_algorithm algorithm = type && strcmp(type, "ed25519") == 0 ? DKIM_ED25519 : DKIM_RSA;
    struct dkim_key *key = NULL;
    const char *unfit;
    char *why = NULL;
    struct buf pem = {0};
    BUF_LOCAL(domain);
    BUF_LOCAL(file);

    for (const char *c = cli_arg(cli, 0); *c; c++)
        buf_putc(&domain, ascii_lower(*c));
    if (!domain_is_plain(buf_bytes(&domain)))
        return cli_fail(CLI_USAGE,
                        "'%s' is not a domain as DNS has it, like example.com or xn--bcher-kva.example",
                        cli_arg(cli, 0));
    if (!dkim_selector_is_valid(bytes_of(selector)))
        return cli_fail(CLI_USAGE, "'%s' is not a selector: letters, digits, '-', '_' and '.', like s2026",
                        selector);
    if (output)
        buf_puts(&file, output);
    else
        buf_putf(&file, "%s.%s.pem", selector, buf_str(&domain));
    int code = CLI_DONE;
    if (dkim_key_generate(algorithm, &pem) != OK || dkim_key_parse(buf_bytes(&pem), &key, &unfit) != OK)
        code = cli_fail(CLI_REFUSED, "%s cannot make a key here", dkim_backend_name());
    else if (dkim_key_write(buf_str(&file), buf_bytes(&pem), &why) != OK)
        code = cli_fail(CLI_REFUSED, "%s", why);
    else
        code = show_new_key(cli, buf_str(&file), buf_str(&domain), selector, key);
    dkim_key_destroy(key);
    mem_free(why);
    mem_wipe_free(pem.at, pem.cap);
    return code;
}

/* ---- check ---- */

static bool is_good(const json_t *key)
{
    return strcmp(field_text(key, "status"), "good") == 0;
}

static void put_key(struct cli *cli, const json_t *key, struct buf *out)
{
    json_t *found;
    size_t i;
    bool good = is_good(key);

    put_styled(out, cli, good ? STYLE_GOOD : STYLE_BAD, field_text(key, "status"));
    buf_puts(out, "  ");
    format_safe(out, bytes_of(field_text(key, "name")));
    buf_putf(out, "  %s", field_text(key, "algorithm"));
    if (field_count(key, "bits") > 256)
        buf_putf(out, " %llu", (unsigned long long)field_count(key, "bits"));
    buf_puts(out, field_bool(key, "dnssec") ? "  DNSSEC\n" : "\n");
    if (good)
        return;
    buf_puts(out, "  ");
    format_safe(out, bytes_of(field_text(key, "explain")));
    buf_puts(out, "\n  publish: ");
    format_safe(out, bytes_of(field_text(key, "zone")));
    buf_putc(out, '\n');
    json_array_foreach(json_object_get(key, "found"), i, found)
    {
        buf_puts(out, "  found:   ");
        format_safe(out, bytes_of(json_string_value(found)));
        buf_putc(out, '\n');
    }
}

static int ask(struct cli *cli, const char *domain, json_t *all)
{
    JSON_LOCAL(answer);
    BUF_LOCAL(url);

    url_path(&url, "/api/v1/dkim/check");
    url_param(&url, "domain", domain);
    url_param(&url, "dns", cli_text(cli, "dns"));
    int code = client_call_json(cli->client, "GET", &url, (struct bytes){0}, &answer);
    if (!code)
        json_array_extend(all, json_object_get(answer, "keys"));
    return code;
}

int cmd_dkim_check(struct cli *cli)
{
    JSON_LOCAL(tree);
    BUF_LOCAL(out);
    json_t *key, *all = json_array();
    size_t i;
    bool good = true;
    int code = cli->in->arg_count ? CLI_DONE : ask(cli, NULL, all);

    tree = json_pack("{s:o}", "keys", all);
    for (i = 0; i < cli->in->arg_count && !code; i++)
        code = ask(cli, cli_arg(cli, i), all);
    if (code)
        return code;
    json_array_foreach(all, i, key)
    {
        good = good && is_good(key);
        put_key(cli, key, &out);
    }
    if (cli->json) {
        code = cli_write_tree(cli, tree);
    } else if (json_array_size(all) == 0) {
        puts("no keys: mail goes unsigned; hayauma dkim generate makes one");
    } else {
        code = cli_write(buf_bytes(&out));
    }
    return code ? code : good ? CLI_DONE : CLI_REFUSED;
}

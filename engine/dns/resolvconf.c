#include "engine/dns/resolvconf.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct bytes take_word(struct bytes *line)
{
    size_t from = 0, to;

    while (from < line->len && is_blank(line->at[from]))
        from++;
    for (to = from; to < line->len && !is_blank(line->at[to]);)
        to++;
    struct bytes word = bytes_make(line->at + from, to - from);
    *line = bytes_skip(*line, to);
    return word;
}

static bool is_known(const struct ip *list, size_t count, const struct ip *ip)
{
    for (size_t i = 0; i < count; i++)
        if (ip_eq(&list[i], ip))
            return true;
    return false;
}

size_t dns_resolvconf_parse(struct bytes text, struct ip out[DNS_SERVERS_MAX])
{
    size_t count = 0;

    while (text.len && count < DNS_SERVERS_MAX) {
        struct bytes line = bytes_first(text, bytes_find(text, '\n'));
        struct ip ip;
        text = bytes_skip(text, line.len + 1);
        if (bytes_eq(take_word(&line), BYTES("nameserver")) && ip_parse(take_word(&line), &ip) &&
            !is_known(out, count, &ip))
            out[count++] = ip;
    }
    if (!count && ip_parse(BYTES("127.0.0.1"), &out[0]))
        count = 1;
    return count;
}

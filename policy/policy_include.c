/* Included files inside of one text: taken apart, put together. */
#include "policy/policy_include.h"

#include "policy/policy_priv.h"

#define NAME_BYTES_MAX 1024

static const char marker[] = "--- # included: ";

/* Where the next line with the marker begins, or text.len. */
static size_t find_marker(struct bytes text)
{
    size_t at = 0;

    while (at < text.len && !bytes_starts(bytes_skip(text, at), BYTES(marker)))
        at = MIN_OF(at + bytes_find(bytes_skip(text, at), '\n') + 1, text.len);
    return at;
}

static uint32_t count_lines(struct bytes text)
{
    uint32_t lines = 0;

    for (size_t i = 0; i < text.len; i++)
        lines += text.at[i] == '\n';
    return lines;
}

size_t policy_split(struct bytes text, struct policy_part parts[POLICY_INCLUDES_MAX + 1])
{
    size_t end = find_marker(text), count = 1;
    uint32_t line = 1;

    parts[0] = (struct policy_part){.text = bytes_first(text, end)};
    while (end < text.len) {
        struct policy_part part = {0};
        line += count_lines(bytes_first(text, end));
        text = bytes_skip(text, end);
        struct bytes head = bytes_first(text, bytes_find(text, '\n'));
        text = bytes_skip(text, head.len + 1);
        head = bytes_trim(bytes_skip(head, sizeof(marker) - 1));
        part.name = bytes_first(head, bytes_find(head, ' '));
        part.file = bytes_trim(bytes_skip(head, part.name.len));
        part.line = line++;
        end = find_marker(text);
        part.text = bytes_first(text, end);
        if (count <= POLICY_INCLUDES_MAX)
            parts[count] = part;
        count++;
    }
    return count;
}

struct bytes policy_own_text(struct bytes text)
{
    return bytes_first(text, find_marker(text));
}

bool policy_has_parts(struct bytes text)
{
    return find_marker(text) < text.len;
}

void policy_put_part(struct buf *document, const char *name, const char *file, struct bytes text)
{
    if (document->len && document->at[document->len - 1] != '\n')
        buf_putc(document, '\n');
    buf_putf(document, "%s%s %s\n", marker, name, file);
    buf_put(document, text);
}

bool policy_include_is_name(struct bytes text)
{
    bool path = text.len > 0 && text.at[0] == '/';

    for (size_t i = 0; i < text.len; i++) {
        char c = ascii_lower(text.at[i]);

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
              (c == '.' && i > 0) || (c == '/' && path)))
            return false;
    }
    return text.len > 0 && text.len <= NAME_BYTES_MAX && text.at[text.len - 1] != '/';
}

bool policy_is_date(struct bytes text)
{
    static const char form[] = "dddd-dd-dd";

    if (text.len != sizeof(form) - 1)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (form[i] == '-' ? text.at[i] != '-' : text.at[i] < '0' || text.at[i] > '9')
            return false;
    return true;
}

void policy_date(struct bytes text, char date[POLICY_DATE_BYTES])
{
    struct yaml_errors errors = {.name = "policy"};
    struct yaml_doc *doc = NULL;

    date[0] = '\0';
    if (yaml_parse(text, &doc, &errors) == OK) {
        const struct yaml_node *root = yaml_root(doc);
        const struct yaml_node *n = root->type == YAML_MAP ? yaml_find(root, "date") : NULL;
        if (n && n->type == YAML_SCALAR && policy_is_date(n->text))
            memcpy(date, n->text.at, POLICY_DATE_BYTES); /* with its NUL */
        yaml_doc_destroy(doc);
    }
    yaml_errors_fini(&errors);
}

bool policy_includes_read(const struct yaml_node *root, struct yaml_errors *errors,
                          const struct yaml_node *list[POLICY_INCLUDES_MAX], size_t *count)
{
    const struct yaml_node *n = root->type == YAML_MAP ? yaml_find(root, "include") : NULL;
    struct yaml_node *const *items = n && n->type == YAML_LIST ? n->items : NULL;
    size_t given = items ? n->count : n ? 1 : 0;
    bool good = true;

    *count = 0;
    if (n && yaml_is_nothing(n))
        return true;
    if (given > POLICY_INCLUDES_MAX || (n && n->type == YAML_MAP)) {
        yaml_error(errors, n, "expected a list of %d names or absolute paths at most, like [receivers]",
                   POLICY_INCLUDES_MAX);
        return false;
    }
    for (size_t i = 0; i < given; i++) {
        const struct yaml_node *item = items ? items[i] : n;
        bool twice = false;

        if (item->type != YAML_SCALAR || !policy_include_is_name(item->text)) {
            yaml_error(
                errors, item,
                "expected a name like receivers, or an absolute path, of letters, digits, '-', '_' and '.'");
            good = false;
            continue;
        }
        for (size_t k = 0; k < *count; k++)
            twice |= bytes_eq(list[k]->text, item->text);
        if (twice) {
            yaml_error(errors, item, "'%.*s' stands twice", SHOWN(item->text));
            good = false;
        } else {
            list[(*count)++] = item;
        }
    }
    return good;
}

enum err policy_missing_includes(const char *name, struct bytes text, struct arena *arena,
                                 struct policy_missing missing[POLICY_INCLUDES_MAX], size_t *count,
                                 struct yaml_errors *errors)
{
    struct policy_part parts[POLICY_INCLUDES_MAX + 1];
    size_t part_count = MIN_OF(policy_split(text, parts), (size_t)POLICY_INCLUDES_MAX + 1), listed = 0;
    const struct yaml_node *list[POLICY_INCLUDES_MAX];
    struct yaml_doc *doc = NULL;
    enum err err;

    if (!errors->name)
        errors->name = name;
    struct yaml_errors later = {
        0}; /* what does not hide the list is for policy_parse to say, with all the rest */
    err = yaml_read(parts[0].text, &doc, &later);
    yaml_errors_fini(&later);
    if (err)
        err = yaml_parse(parts[0].text, &doc, errors);
    if (!err && !policy_includes_read(yaml_root(doc), errors, list, &listed))
        err = ERR_INVALID;
    *count = 0;
    for (size_t i = 0; !err && i < listed; i++) {
        bool there = false;

        for (size_t k = 1; k < part_count; k++)
            there |= bytes_eq(parts[k].name, list[i]->text);
        if (!there)
            missing[(*count)++] =
                (struct policy_missing){arena_dup(arena, list[i]->text), list[i]->line, list[i]->column};
    }
    if (doc)
        yaml_doc_destroy(doc);
    return err;
}

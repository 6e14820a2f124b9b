/* Any octets: a tree within its caps, or complaints that are each one line. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const words[] = {"timeout", "starttls", "on", "off", "require", "verify"};

static void read_scalar(const struct yaml_node *n, struct yaml_errors *e)
{
    bool b;
    int64_t i;
    double d;
    uint64_t u;
    int w;

    assert(n->text.at[n->text.len] == '\0' && strlen(n->text.at) == n->text.len);
    (void)yaml_get_bool(n, &b, e);
    (void)yaml_get_int(n, -1000, INT64_MAX, &i, e);
    (void)yaml_get_word(n, words, COUNT_OF(words), &w, e);
    if (yaml_get_double(n, -5, 5, &d, e))
        assert(d >= -5 && d <= 5);
    BUF_LOCAL(again);
    uint64_t back;
    if (yaml_get_duration_ms(n, 0, UINT64_MAX, &u, e)) {
        yaml_put_duration_ms(&again, u);
        assert(yaml_parse_duration_ms(buf_bytes(&again), &back) && back == u);
    }
    buf_clear(&again);
    if (yaml_get_size(n, 0, UINT64_MAX, &u, e)) {
        yaml_put_size(&again, u);
        assert(yaml_parse_size(buf_bytes(&again), &back) && back == u);
    }
}

static void walk(const struct yaml_node *n, int depth, struct yaml_errors *e)
{
    assert(depth <= 20 && n->line > 0 && n->column > 0);
    if (n->type == YAML_SCALAR)
        read_scalar(n, e);
    for (size_t i = 0; n->type != YAML_SCALAR && i < n->count; i++) {
        if (n->type == YAML_MAP) {
            assert(n->keys[i]->type == YAML_SCALAR);
            assert(yaml_find(n, n->keys[i]->text.at) == n->items[i]); /* no key stands twice */
            (void)yaml_did_you_mean(n->keys[i]->text, words, COUNT_OF(words));
        }
        walk(n->items[i], depth + 1, e);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct yaml_errors errors = {.name = "fuzz"};
    struct yaml_doc *doc;

    if (yaml_parse(bytes_make(data, size), &doc, &errors) == OK) {
        assert(errors.errors == 0);
        walk(yaml_root(doc), 1, &errors);
        yaml_doc_destroy(doc);
    } else {
        assert(errors.errors > 0);
    }
    yaml_errors_sort(&errors);
    assert(errors.count <= 101);
    for (size_t i = 0; i < errors.count; i++)
        assert(strpbrk(errors.items[i].text, "\r\n\x1b") == NULL);
    yaml_errors_fini(&errors);
    return 0;
}

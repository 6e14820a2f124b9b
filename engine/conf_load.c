/* From a file to a checked configuration. */
#include "engine/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/conf_check.h"
#include "engine/policy_files.h"

#define FILE_MAX ((size_t)4 << 20)

const struct yaml_node *conf_near(const struct yaml_node *root, const char *format, ...)
{
    char path[128];
    const struct yaml_node *n;
    va_list ap;

    va_start(ap, format);
    vsnprintf(path, sizeof(path), format, ap);
    va_end(ap);
    while (!(n = conf_where(root, path))) {
        char *dot = strrchr(path, '.');
        if (!dot)
            return NULL;
        *dot = '\0';
    }
    return n;
}

typedef void (*check_host_fn)(const struct conf *c, const struct yaml_node *root, struct yaml_errors *errors);

static enum err load(const char *file, struct bytes text, check_host_fn check_host, struct conf *out,
                     struct yaml_errors *errors)
{
    struct yaml_doc *doc;
    struct conf c;
    size_t errors_before = errors->errors;
    enum err e = yaml_read(text, &doc, errors);

    if (e)
        return e;
    conf_defaults(conf_keys, &c);
    conf_read(conf_keys, file, yaml_root(doc), &c, errors);
    /* Checked although something was wrong: what was is at its preset, and the operator wants to see all. */
    conf_check(&c, yaml_root(doc), errors);
    if (check_host)
        check_host(&c, yaml_root(doc), errors);
    yaml_doc_destroy(doc);
    yaml_errors_sort(errors);
    if (errors->errors > errors_before) {
        conf_free(&c);
        return ERR_INVALID;
    }
    *out = c;
    return OK;
}

enum err conf_load_text(const char *file, struct bytes text, struct conf *out, struct yaml_errors *errors)
{
    if (!errors->name)
        errors->name = file;
    return load(file, text, NULL, out, errors);
}

/* Mistakes in the policy file count as mistakes of the file that names it. */
static void check_host_and_policy(const struct conf *c, const struct yaml_node *root,
                                  struct yaml_errors *errors)
{
    size_t before = errors->errors;

    conf_check_host(c, root, errors);
    if (!c->policy_file || (errors->errors > before && access(c->policy_file, R_OK) != 0))
        return;
    struct yaml_errors policy = {.name = c->policy_file};
    policy_files_check_conf(c, &policy);
    yaml_errors_append(errors, &policy);
}

static enum err read_file(int fd, struct buf *text)
{
    ssize_t n;

    do {
        n = read(fd, buf_reserve(text, 65536), 65536);
        if (n > 0)
            text->len += (size_t)n;
    } while ((n > 0 && text->len <= FILE_MAX) || (n < 0 && errno == EINTR));
    return n < 0 ? err_from_errno(errno) : OK;
}

static enum err load_file(const char *file, check_host_fn check_host, struct conf *out,
                          struct yaml_errors *errors)
{
    BUF_LOCAL(text);

    if (!errors->name)
        errors->name = file;
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    enum err e = fd < 0 ? err_from_errno(errno) : read_file(fd, &text);
    if (e)
        yaml_error(errors, NULL, "cannot be read: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    if (e)
        return e;
    return load(file, buf_bytes(&text), check_host, out, errors); /* too long a text is refused there */
}

enum err conf_load(const char *file, struct conf *out, struct yaml_errors *errors)
{
    return load_file(file, conf_check_host, out, errors);
}

enum err conf_load_with_policy(const char *file, struct conf *out, struct yaml_errors *errors)
{
    return load_file(file, check_host_and_policy, out, errors);
}

void conf_free(struct conf *c)
{
    conf_fini(conf_keys, c);
}

/* Files that a policy document includes: found, read, and put behind it. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/engine_priv.h"
#include "policy/policy_include.h"

#define INCLUDE_MAX ((size_t)4 << 20) /* what base/yaml.h reads */

static const char *dir_of(struct engine *e)
{
    const char *dir = engine_conf(e)->policy_include_dir;

    return dir ? dir : HAYAUMA_SHARE_DIR;
}

/* NULL: read; else what is wrong. */
static const char *read_all(int fd, struct buf *out)
{
    struct stat st;
    ssize_t n = 0;

    if (fstat(fd, &st) != 0)
        return strerror(errno);
    if (!S_ISREG(st.st_mode))
        return "not a regular file";
    while (out->len <= INCLUDE_MAX && (n = read(fd, buf_reserve(out, 65536), 65536)) > 0)
        out->len += (size_t)n;
    if (n < 0)
        return strerror(errno);
    if (out->len > INCLUDE_MAX)
        return "larger than 4 MiB";
    if (memchr(out->at ? out->at : "", '\0', out->len))
        return "it holds a NUL";
    return policy_has_parts(buf_bytes(out)) ? "it has files of its own behind it: it is an exported policy"
                                            : NULL;
}

enum err engine_policy_read_include(struct engine *e, const char *name, struct buf *out, char **file,
                                    char **why)
{
    char *path = name[0] == '/' ? mem_strdup(name) : text_format("%s/%s.yaml", dir_of(e), name);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hold us up */
    const char *wrong = fd < 0 ? strerror(errno) : read_all(fd, out);

    if (fd >= 0)
        close(fd);
    *file = path;
    if (!wrong)
        return OK;
    *why = text_format("cannot read %s: %s%s", path, wrong,
                       name[0] == '/' ? "" : " (policy_include_dir says where included files lie)");
    return ERR_IO;
}

enum err engine_policy_complete(struct engine *e, struct bytes text, struct buf *out,
                                struct yaml_errors *errors)
{
    struct policy_missing missing[POLICY_INCLUDES_MAX];
    struct arena arena = {0};
    size_t count = 0;
    enum err err = policy_missing_includes(errors->name ? errors->name : "policy", text, &arena, missing,
                                           &count, errors);

    buf_put(out, text);
    for (size_t i = 0; !err && i < count; i++) {
        const struct yaml_node at = {.line = missing[i].line, .column = missing[i].column};
        struct buf part = {0};
        char *file = NULL, *why = NULL;

        if (engine_policy_read_include(e, missing[i].name, &part, &file, &why) == OK)
            policy_put_part(out, missing[i].name, file, buf_bytes(&part));
        else
            yaml_error(errors, &at, "include: %s", why);
        buf_fini(&part);
        mem_free(file);
        mem_free(why);
    }
    arena_fini(&arena);
    return err || errors->errors ? ERR_INVALID : OK;
}

/* ---- edited files ---- */

/* What they hold on disk now, for a document without them; else "!" and why they cannot be had. */
static char *read_now(struct engine *e, struct bytes own)
{
    struct yaml_errors errors = {.name = "policy"};
    BUF_LOCAL(whole);
    struct buf now = {0};

    if (engine_policy_complete(e, own, &whole, &errors) == OK)
        buf_put(&now, bytes_skip(buf_bytes(&whole), own.len));
    else
        now.at = engine_policy_complaint(&errors, "!the files that the policy includes have errors:");
    yaml_errors_fini(&errors);
    return now.at ? buf_take(&now) : mem_strdup("");
}

void engine_includes_remember(struct engine *e)
{
    mem_free(e->includes_seen);
    e->includes_seen = read_now(e, policy_own_text(policy_text(e->policy)));
}

static bool were_edited(struct engine *e, const char *now)
{
    pthread_mutex_lock(&e->lock);
    bool edited = !e->includes_seen || strcmp(e->includes_seen, now) != 0;
    pthread_mutex_unlock(&e->lock);
    return edited;
}

enum err engine_includes_reload(struct engine *e, struct buf *notes)
{
    struct policy *p = engine_policy(e);
    struct bytes own = policy_own_text(policy_text(p));
    struct yaml_errors errors = {.name = "policy"};
    char *now = read_now(e, own), *why = NULL;
    uint64_t version = 0;
    enum err err = OK;

    if (were_edited(e, now)) {
        err = now[0] == '!' ? ERR_INVALID
                            : engine_policy_apply(e, own, "SIGHUP", "an included file was edited",
                                                  policy_version(p), &version, &errors);
        if (!err)
            buf_putf(notes, "policy version %llu applied, with its included files as they are now; ",
                     (unsigned long long)version);
        else if (now[0] == '!')
            buf_puts(notes, now + 1);
        else
            buf_puts(
                notes,
                why = errors.errors
                          ? engine_policy_complaint(
                                &errors, "with its included files the policy has errors, it stays as it was:")
                          : text_format("the policy could not be stored: %s", err_text(err)));
    }
    yaml_errors_fini(&errors);
    policy_unref(p);
    mem_free(now);
    mem_free(why);
    return err;
}

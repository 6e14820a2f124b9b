/* Policy versions: loaded at start, checked, stored, and handed to all workers at once. */
#include <stdio.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "engine/engine_priv.h"

#define POLICY_FILE_MAX (16 * 1024 * 1024)

struct policy *engine_policy(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    struct policy *p = policy_ref(e->policy);
    pthread_mutex_unlock(&e->lock);
    return p;
}

static void take_policy(struct worker *w, void *arg)
{
    struct policy *old = w->policy;

    w->policy = policy_ref(arg);
    deliver_policy_changed(w->deliver);
    policy_unref(old);
}

/* Relative paths in the document would depend on where the daemon was started: the parser refuses them. */
static enum err save(struct engine *e, struct bytes text, const char *author, const char *comment,
                     uint64_t expected_version, uint64_t *version)
{
    struct store_policy_save req = {
        .text = bytes_dup(text),
        .author = mem_strdup(author),
        .comment = mem_strdup(comment ? comment : ""),
        .expected_version = expected_version,
    };
    struct engine_wait wait;

    engine_wait_begin(&wait, &req.req);
    store_post_policy_save(e->shared.store, &req);
    engine_wait_end(&wait);
    mem_free(req.text);
    mem_free(req.author);
    mem_free(req.comment);
    *version = req.version;
    return req.req.result;
}

enum err engine_policy_apply(struct engine *e, struct bytes text, const char *author, const char *comment,
                             uint64_t expected_version, uint64_t *version, struct yaml_errors *errors)
{
    struct policy *p = NULL;

    pthread_mutex_lock(&e->lock);
    uint64_t current = policy_version(e->policy);
    /* The number is only certain once it is stored: parse twice rather than store what does not parse. */
    enum err err = policy_parse(errors->name ? errors->name : "policy", text, current + 1, &p, errors);
    if (!err)
        err = save(e, text, author, comment, expected_version, version);
    if (!err && *version != current + 1) {
        policy_unref(p);
        struct yaml_errors again = {.name = "policy"};
        err = policy_parse("policy", text, *version, &p, &again);
        yaml_errors_fini(&again);
    }
    if (!err) {
        struct policy *old = e->policy;
        e->policy = policy_ref(p);
        for (unsigned i = 0; i < e->worker_count; i++)
            if (e->workers[i]->thread)
                worker_call(e->workers[i], take_policy, p);
        policy_unref(old);
        log_info(NULL, "policy.applied", LOG_INT("version", *version), LOG_STR("author", author),
                 LOG_STR("comment", comment ? comment : ""));
    }
    policy_unref(p);
    pthread_mutex_unlock(&e->lock);
    return err;
}

static enum err read_file(const char *path, struct buf *out, char **why)
{
    FILE *f = fopen(path, "re");
    size_t n;

    if (!f) {
        *why = text_format("cannot read the policy file %s: %m", path);
        return ERR_IO;
    }
    while ((n = fread(buf_reserve(out, 65536), 1, 65536, f)) > 0 && out->len < POLICY_FILE_MAX)
        out->len += n;
    bool bad = ferror(f) != 0 || out->len >= POLICY_FILE_MAX;
    fclose(f);
    if (bad) {
        *why = text_format("cannot read the policy file %s, or it is larger than 16 MiB", path);
        return ERR_IO;
    }
    return OK;
}

static char *join_errors(const struct yaml_errors *errors, const char *intro)
{
    struct buf text = {0};

    buf_puts(&text, intro);
    for (size_t i = 0; i < errors->count; i++)
        if (!errors->items[i].is_notice)
            buf_putf(&text, "\n  %s", errors->items[i].text);
    return buf_take(&text);
}

static enum err compile(struct engine *e, const char *name, struct bytes text, uint64_t version,
                        const char *intro, char **why)
{
    struct yaml_errors errors = {.name = name};
    enum err err = policy_parse(name, text, version, &e->policy, &errors);

    if (err)
        *why = join_errors(&errors, intro);
    for (size_t i = 0; i < errors.count; i++)
        if (errors.items[i].is_notice)
            log_warn(NULL, "policy.notice", LOG_STR("text", errors.items[i].text));
    yaml_errors_fini(&errors);
    return err;
}

enum err engine_load_policy(struct engine *e, char **why)
{
    const struct conf *conf = engine_conf(e);
    struct arena arena = {0};
    struct browse *b = NULL;
    struct browse_policy info;
    char *text = NULL;
    struct buf file = {0};
    uint64_t version = 0;
    enum err err = OK;

    if (conf->policy_file)
        err = read_file(conf->policy_file, &file, why);
    if (!err && conf->policy_file)
        e->policy_file_text = mem_strdup(buf_str(&file));
    if (!err)
        err = browse_open(conf->data_dir, &b, why);
    if (!err) {
        err = browse_policy_text(b, 0, &arena, &info, &text);
        if (!err) {
            err = compile(e, "stored policy", bytes_of(text), info.version,
                          "the stored policy does not compile:", why);
        } else if (err == ERR_NOT_FOUND) {
            struct bytes first = conf->policy_file ? buf_bytes(&file) : bytes_of(policy_default_text);
            err = compile(e, conf->policy_file ? conf->policy_file : "built-in policy", first, 1,
                          "the policy file has errors:", why);
            if (!err)
                err = save(e, first, "start", conf->policy_file ? conf->policy_file : "built-in default", 0,
                           &version);
            if (err && !*why)
                *why = text_format("cannot store the first policy: %s", err_text(err));
        } else {
            *why = text_format("cannot read the stored policy: %s", err_text(err));
        }
    }
    mem_free(text);
    browse_close(b);
    arena_fini(&arena);
    buf_fini(&file);
    return err;
}

/* SIGHUP: an edited file is a new version; an untouched one undoes nothing that was applied since. */
enum err engine_reload_policy_file(struct engine *e, struct buf *notes)
{
    const struct conf *conf = engine_conf(e);
    struct buf file = {0};
    struct yaml_errors errors = {.name = conf->policy_file};
    uint64_t version = 0;
    char *why = NULL;

    if (!conf->policy_file)
        return OK;
    enum err err = read_file(conf->policy_file, &file, &why);
    if (err) {
        buf_puts(notes, why);
    } else if (!e->policy_file_text || strcmp(e->policy_file_text, buf_str(&file)) != 0) {
        err = engine_policy_apply(e, buf_bytes(&file), "SIGHUP", conf->policy_file, 0, &version, &errors);
        if (err) {
            why = errors.errors
                      ? join_errors(&errors, "the policy file has errors, the policy stays as it was:")
                      : text_format("the policy could not be stored: %s", err_text(err));
            buf_puts(notes, why);
        } else {
            mem_free(e->policy_file_text);
            e->policy_file_text = mem_strdup(buf_str(&file));
            buf_putf(notes, "policy version %llu applied; ", (unsigned long long)version);
        }
    }
    mem_free(why);
    yaml_errors_fini(&errors);
    buf_fini(&file);
    return err;
}

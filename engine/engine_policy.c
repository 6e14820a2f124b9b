/* Policy versions: loaded at start, checked, stored, and handed to all workers at once. */
#include "base/mem.h"
#include "engine/engine_priv.h"
#include "engine/policy_files.h"
#include "engine/sources.h"
#include "policy/policy_include.h"

struct policy *engine_policy(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    struct policy *p = policy_ref(e->policy);
    pthread_mutex_unlock(&e->lock);
    return p;
}

static enum err parse_and_check(struct engine *e, const char *name, struct bytes text, uint64_t version,
                                struct policy **out, struct yaml_errors *errors)
{
    struct policy *p = NULL;
    enum err err = policy_parse(name, text, version, &p, errors);

    if (!err)
        err = policy_files_check(e->shared.zones, p, errors);
    if (err)
        policy_unref(p);
    else
        *out = p;
    return err;
}

enum err engine_policy_check(struct engine *e, struct bytes text, struct yaml_errors *errors)
{
    struct policy *p = NULL;
    BUF_LOCAL(whole);
    enum err err = policy_files_complete(engine_conf(e), text, &whole, errors);

    if (!err)
        err = parse_and_check(e, errors->name ? errors->name : "policy", buf_bytes(&whole), 1, &p, errors);
    policy_unref(p);
    return err;
}

static void take_policy(struct worker *w, void *arg)
{
    struct policy *old = w->policy;

    w->policy = policy_ref(arg);
    deliver_policy_changed(w->deliver);
    policy_unref(old);
}

static void take_policy_late(struct worker *w, void *arg)
{
    take_policy(w, arg);
    policy_unref(arg);
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
    BUF_LOCAL(whole);
    enum err err = policy_files_complete(engine_conf(e), text, &whole, errors);

    if (err)
        return err;
    text = buf_bytes(&whole);
    pthread_mutex_lock(&e->lock);
    uint64_t current = policy_version(e->policy);
    /* The number is only certain once it is stored: parse twice rather than store what does not parse. */
    err = parse_and_check(e, errors->name ? errors->name : "policy", text, current + 1, &p, errors);
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
        sources_check(e->shared.sources, p);
        e->policy = policy_ref(p);
        for (unsigned i = 0; i < e->worker_count; i++)
            if (e->workers[i]->thread)
                if (!worker_call(e->workers[i], take_policy, p))
                    worker_post(e->workers[i], take_policy_late, policy_ref(p));
        policy_unref(old);
        engine_includes_remember(e);
        log_info(NULL, "policy.applied", LOG_INT("version", *version), LOG_STR("author", author),
                 LOG_STR("comment", comment ? comment : ""));
    }
    policy_unref(p);
    pthread_mutex_unlock(&e->lock);
    return err;
}

char *engine_policy_complaint(const struct yaml_errors *errors, const char *intro)
{
    struct buf text = {0};

    buf_puts(&text, intro);
    for (size_t i = 0; i < errors->count; i++)
        if (!errors->items[i].is_notice)
            buf_putf(&text, "\n  %s", errors->items[i].text);
    return buf_take(&text);
}

/* A stored policy was good once: a file that has gone since keeps its group's mail waiting, not the daemon
 * from starting. */
static enum err compile(struct engine *e, const char *name, struct bytes text, uint64_t version, bool stored,
                        const char *intro, char **why)
{
    struct yaml_errors errors = {.name = name};
    enum err err = stored ? policy_parse(name, text, version, &e->policy, &errors)
                          : parse_and_check(e, name, text, version, &e->policy, &errors);

    if (!err && stored && policy_files_check(e->shared.zones, e->policy, &errors))
        for (size_t i = 0; i < errors.count; i++)
            if (!errors.items[i].is_notice)
                log_error(NULL, "policy.file", LOG_STR("text", errors.items[i].text));

    if (err)
        *why = engine_policy_complaint(&errors, intro);
    for (size_t i = 0; i < errors.count; i++)
        if (errors.items[i].is_notice)
            log_warn(NULL, "policy.notice", LOG_STR("text", errors.items[i].text));
    yaml_errors_fini(&errors);
    return err;
}

/* The first version, and one of a file that was edited while no daemon ran: that of policy_file, or the
 * built-in one. */
static enum err begin_with(struct engine *e, const char *name, struct bytes text, uint64_t version,
                           char **why)
{
    struct yaml_errors errors = {.name = name};
    BUF_LOCAL(whole);
    enum err err = policy_files_complete(engine_conf(e), text, &whole, &errors);

    if (err)
        *why = engine_policy_complaint(&errors, "the policy file has errors:");
    else
        err = compile(e, name, buf_bytes(&whole), version, false, "the policy file has errors:", why);
    if (!err)
        err = save(e, buf_bytes(&whole), "start", name, version - 1, &version);
    if (err && !*why)
        *why = text_format("cannot store the policy: %s", err_text(err));
    yaml_errors_fini(&errors);
    return err;
}

/*
 * Was policy_file edited since it was last taken?  Versions that came of it name it as their comment.  One
 * that was never taken was named in the configuration when other versions were there already.
 */
static bool file_was_edited(struct browse *b, const char *path, const struct buf *file)
{
    struct arena arena = {0};
    struct browse_policy *list, info;
    uint64_t before = 0;
    bool found = false, edited = false;
    size_t count = 1;

    while (!found && count && browse_policies(b, before, 100, &arena, &list, &count) == OK) {
        for (size_t i = 0; i < count && !found; i++) {
            char *text = NULL;
            before = list[i].version;
            found = list[i].comment && strcmp(list[i].comment, path) == 0;
            if (found && browse_policy_text(b, before, &arena, &info, &text) == OK)
                edited = !bytes_eq(policy_own_text(bytes_of(text)), policy_own_text(buf_bytes(file)));
            mem_free(text);
        }
    }
    if (!found)
        log_warn(NULL, "policy.file_not_taken", LOG_STR("file", path),
                 LOG_STR("why", "the stored policy is in force; \"hayauma policy apply\" takes the file"));
    arena_fini(&arena);
    return edited;
}

/* With errors in it mail goes on under the stored version: a start is no time to find out. */
static bool takes_edited_file(struct engine *e, struct browse *b, const struct buf *file,
                              struct bytes in_force, uint64_t version)
{
    const char *path = engine_conf(e)->policy_file;
    char *why = NULL;

    if (!path || bytes_eq(policy_own_text(in_force), policy_own_text(buf_bytes(file))) ||
        !file_was_edited(b, path, file))
        return false;
    log_info(NULL, "policy.file_edited", LOG_STR("file", path), LOG_INT("instead_of", version));
    if (begin_with(e, path, buf_bytes(file), version + 1, &why) == OK)
        return true;
    log_error(NULL, "policy.file_refused", LOG_STR("why", why), LOG_INT("in_force", version));
    mem_free(why);
    policy_unref(TAKE(e->policy));
    return false;
}

enum err engine_load_policy(struct engine *e, char **why)
{
    const struct conf *conf = engine_conf(e);
    struct arena arena = {0};
    struct browse *b = NULL;
    struct browse_policy info;
    char *text = NULL;
    struct buf file = {0};
    enum err err = OK;

    if (conf->policy_file)
        err = policy_files_read(conf->policy_file, &file, why);
    if (!err && conf->policy_file)
        e->policy_file_text = mem_strdup(buf_str(&file));
    if (!err)
        err = browse_open(conf->data_dir, &b, why);
    if (!err) {
        err = browse_policy_text(b, 0, &arena, &info, &text);
        if (!err) {
            if (!takes_edited_file(e, b, &file, bytes_of(text), info.version))
                err = compile(e, "stored policy", bytes_of(text), info.version, true,
                              "the stored policy does not compile:", why);
        } else if (err == ERR_NOT_FOUND) {
            err = begin_with(e, conf->policy_file ? conf->policy_file : "built-in policy",
                             conf->policy_file ? buf_bytes(&file) : bytes_of(policy_default_text), 1, why);
        } else {
            *why = text_format("cannot read the stored policy: %s", err_text(err));
        }
    }
    if (!err) {
        sources_check(e->shared.sources, e->policy);
        engine_includes_remember(e);
    }
    mem_free(text);
    browse_close(b);
    arena_fini(&arena);
    buf_fini(&file);
    return err;
}

/* SIGHUP: an edited file is a new version; an untouched one undoes nothing that was applied since.  So it is
 * with the files that it includes. */
enum err engine_reload_policy_file(struct engine *e, struct buf *notes)
{
    const struct conf *conf = engine_conf(e);
    struct buf file = {0};
    struct yaml_errors errors = {.name = conf->policy_file};
    uint64_t version = 0;
    char *why = NULL;

    if (!conf->policy_file)
        return engine_includes_reload(e, notes);
    enum err err = policy_files_read(conf->policy_file, &file, &why);
    if (err) {
        buf_puts(notes, why);
    } else if (!e->policy_file_text || strcmp(e->policy_file_text, buf_str(&file)) != 0) {
        err = engine_policy_apply(e, buf_bytes(&file), "SIGHUP", conf->policy_file, 0, &version, &errors);
        if (err) {
            why = errors.errors ? engine_policy_complaint(
                                      &errors, "the policy file has errors, the policy stays as it was:")
                                : text_format("the policy could not be stored: %s", err_text(err));
            buf_puts(notes, why);
        } else {
            mem_free(e->policy_file_text);
            e->policy_file_text = mem_strdup(buf_str(&file));
            buf_putf(notes, "policy version %llu applied; ", (unsigned long long)version);
        }
    } else {
        err = engine_includes_reload(e, notes);
    }
    mem_free(why);
    yaml_errors_fini(&errors);
    buf_fini(&file);
    return err;
}

/* Policy versions: loaded at start, checked, stored, and handed to all workers at once. */
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/engine_priv.h"
#include "engine/net/tls.h"
#include "engine/zones.h"
#include "engine/sources.h"

#define POLICY_FILE_MAX (16 * 1024 * 1024)

struct policy *engine_policy(struct engine *e)
{
    pthread_mutex_lock(&e->lock);
    struct policy *p = policy_ref(e->policy);
    pthread_mutex_unlock(&e->lock);
    return p;
}

/* Where complaints about a group point: into the file that has it. */
struct place {
    struct yaml_errors *errors;
    const char *name;
    uint32_t part;
};

static struct place enter_file(struct yaml_errors *errors, const struct policy *p, const struct group *g)
{
    struct place before = {errors, errors->name, errors->part};

    for (size_t i = 0; g->file && i < policy_include_count(p); i++) {
        if (policy_include(p, i)->file == g->file) {
            errors->name = g->file;
            errors->part = (uint32_t)i + 1;
        }
    }
    return before;
}

static void leave_file(const struct place *before)
{
    before->errors->name = before->name;
    before->errors->part = before->part;
}

/* What a document names but cannot hold: files, and what only GnuTLS can judge. */
static void check_readable(struct yaml_errors *errors, const struct group *g, const char *key,
                           const char *path)
{
    const struct yaml_node at = {.line = g->line, .column = 1};

    if (path && access(path, R_OK) != 0)
        yaml_error(errors, &at, "group '%s': %s: cannot read %s: %m", g->name, key, path);
}

/* Others who can read a private key are no error: a container may have its own ways. */
static void check_secret(struct yaml_errors *errors, const struct group *g, const char *key, const char *path)
{
    const struct yaml_node at = {.line = g->line, .column = 1};
    struct stat st;

    if (path && stat(path, &st) == 0 && st.st_mode & S_IROTH)
        yaml_notice(errors, &at, "group '%s': %s: everybody on this host can read %s", g->name, key, path);
}

static void check_client_certificate(struct yaml_errors *errors, const struct group *g)
{
    const struct yaml_node at = {.line = g->line, .column = 1};
    gnutls_certificate_credentials_t pair;

    check_readable(errors, g, "tls.certificate", g->tls_certificate);
    check_readable(errors, g, "tls.key", g->tls_key);
    if (!g->tls_certificate || access(g->tls_certificate, R_OK) != 0 || access(g->tls_key, R_OK) != 0)
        return;
    check_secret(errors, g, "tls.key", g->tls_key);
    if (gnutls_certificate_allocate_credentials(&pair) < 0)
        return;
    int rc = gnutls_certificate_set_x509_key_file(pair, g->tls_certificate, g->tls_key, GNUTLS_X509_FMT_PEM);
    if (rc == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
        yaml_error(errors, &at, "group '%s': tls.key: %s is not the key of %s", g->name, g->tls_key,
                   g->tls_certificate);
    else if (rc < 0)
        yaml_error(errors, &at, "group '%s': tls.certificate: %s with %s: %s", g->name, g->tls_certificate,
                   g->tls_key, gnutls_strerror(rc));
    gnutls_certificate_free_credentials(pair);
}

static enum err check_files(struct engine *e, const struct policy *p, struct yaml_errors *errors)
{
    size_t before = errors->errors;

    for (size_t i = 0; i < policy_group_count(p); i++) {
        const struct group *g = policy_group(p, i);
        const struct yaml_node at = {.line = g->line, .column = 1};
        const char *bad_from = NULL;
        const struct place from = enter_file(errors, p, g);
        check_readable(errors, g, "tls.ca_file", g->ca_file);
        check_readable(errors, g, "route.auth.password_file", g->auth_password_file);
        check_secret(errors, g, "route.auth.password_file", g->auth_password_file);
        check_client_certificate(errors, g);
        if (g->quiet.on && !zones_find(e->shared.zones, g->quiet.time_zone))
            yaml_error(errors, &at,
                       "group '%s': quiet_hours.time_zone: this host knows no zone %s (is tzdata installed?)",
                       g->name, g->quiet.time_zone);
        if (g->tls_priority && !tls_priority_is_valid(g->tls_priority, &bad_from))
            yaml_error(errors, &at, "group '%s': tls.priority: GnuTLS does not understand this from '%s' on",
                       g->name, bad_from ? bad_from : g->tls_priority);
        leave_file(&from);
    }
    return errors->errors > before ? ERR_INVALID : OK;
}

static enum err parse_and_check(struct engine *e, const char *name, struct bytes text, uint64_t version,
                                struct policy **out, struct yaml_errors *errors)
{
    struct policy *p = NULL;
    enum err err = policy_parse(name, text, version, &p, errors);

    if (!err)
        err = check_files(e, p, errors);
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
    enum err err = engine_policy_complete(e, text, &whole, errors);

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
    enum err err = engine_policy_complete(e, text, &whole, errors);

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

    if (!err && stored && check_files(e, e->policy, &errors))
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

/* The first version: that of policy_file, or the built-in one. */
static enum err begin_with(struct engine *e, const char *name, struct bytes text, char **why)
{
    struct yaml_errors errors = {.name = name};
    uint64_t version = 0;
    BUF_LOCAL(whole);
    enum err err = engine_policy_complete(e, text, &whole, &errors);

    if (err)
        *why = engine_policy_complaint(&errors, "the policy file has errors:");
    else
        err = compile(e, name, buf_bytes(&whole), 1, false, "the policy file has errors:", why);
    if (!err)
        err = save(e, buf_bytes(&whole), "start", name, 0, &version);
    if (err && !*why)
        *why = text_format("cannot store the first policy: %s", err_text(err));
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
            err = compile(e, "stored policy", bytes_of(text), info.version, true,
                          "the stored policy does not compile:", why);
        } else if (err == ERR_NOT_FOUND) {
            err = begin_with(e, conf->policy_file ? conf->policy_file : "built-in policy",
                             conf->policy_file ? buf_bytes(&file) : bytes_of(policy_default_text), why);
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
    enum err err = read_file(conf->policy_file, &file, &why);
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

#include "engine/policy_files.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/net/tls.h"
#include "policy/policy_include.h"

#define INCLUDE_MAX ((size_t)4 << 20) /* what base/yaml.h reads */

static const char *dir_of(const struct conf *conf)
{
    return conf->policy_include_dir ? conf->policy_include_dir : HAYAUMA_SHARE_DIR;
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

enum err policy_files_read_include(const struct conf *conf, const char *name, struct buf *out, char **file,
                                   char **why)
{
    char *path = name[0] == '/' ? mem_strdup(name) : text_format("%s/%s.yaml", dir_of(conf), name);
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

enum err policy_files_complete(const struct conf *conf, struct bytes text, struct buf *out,
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

        if (policy_files_read_include(conf, missing[i].name, &part, &file, &why) == OK)
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

/* ---- what a document names ---- */

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

enum err policy_files_check(struct zones *zones, const struct policy *p, struct yaml_errors *errors)
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
        if (g->quiet.on && !zones_find(zones, g->quiet.time_zone))
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

/* ---- the file that the configuration names ---- */

#define POLICY_FILE_MAX (16 * 1024 * 1024)

enum err policy_files_read(const char *path, struct buf *out, char **why)
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

void policy_files_check_conf(const struct conf *conf, struct yaml_errors *errors)
{
    struct zones *zones = zones_create();
    struct policy *p = NULL;
    char *why = NULL;
    BUF_LOCAL(text);
    BUF_LOCAL(whole);
    enum err err = policy_files_read(conf->policy_file, &text, &why);

    if (err)
        yaml_error(errors, NULL, "%s", why);
    else
        err = policy_files_complete(conf, buf_bytes(&text), &whole, errors);
    if (!err)
        err = policy_parse(conf->policy_file, buf_bytes(&whole), 1, &p, errors);
    if (!err)
        err = policy_files_check(zones, p, errors);
    policy_unref(p);
    zones_destroy(zones);
    mem_free(why);
}

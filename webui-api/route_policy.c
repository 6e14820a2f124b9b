/* The policy document: versions, checks, differences, and what makes a new version. */
#include "base/mem.h"
#include "engine/policy_files.h"
#include "policy/policy_include.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/policy_reply.h"
#include "webui-api/queue_view.h"
#include "webui-api/routes.h"

#define VERSIONS_PRESET 50
#define VERSIONS_MAX    1000
#define COMMENT_MAX     1000

DEFINE_CLEANUP(struct policy *, policy_unref)

struct document {
    char *text; /* owned */
    struct browse_policy info;
};

static void document_drop(struct document *d)
{
    mem_free(d->text);
    d->text = NULL;
}
#define DOCUMENT_LOCAL(name) __attribute__((cleanup(document_drop))) struct document name = {0}

/* version 0: the current one. */
static bool read_version(struct request *r, uint64_t version, struct document *out)
{
    CLEANUP(browse_close) struct browse *b = view_open(r);

    if (!b)
        return false;
    enum err e = browse_policy_text(b, version, &r->arena, &out->info, &out->text);
    if (e == ERR_NOT_FOUND)
        reply_error(r, 404, "not_found", "there is no policy version %llu", (unsigned long long)version);
    else if (e)
        reply_err(r, e, "the policy");
    return !e;
}

static void put_info(struct buf *out, const struct browse_policy *p)
{
    json_put_count(out, "version", p->version);
    json_put_text(out, "author", p->author);
    json_put_text(out, "comment", p->comment);
    json_put_int(out, "at_unix", p->at_unix);
}

/* The files that the document includes, as they were then; none of a version that this program does not
 * understand. */
static void put_includes(struct buf *out, struct bytes text)
{
    struct yaml_errors errors = {.name = POLICY_NAME};
    struct policy *p = NULL;

    json_begin(out, "includes", '[');
    if (policy_parse(POLICY_NAME, text, 1, &p, &errors) == OK) {
        for (size_t i = 0; i < policy_include_count(p); i++) {
            const struct policy_include *in = policy_include(p, i);
            json_begin(out, NULL, '{');
            json_put_text(out, "name", in->name);
            json_put_text(out, "file", in->file);
            json_put_text(out, "date", in->date);
            json_put_count(out, "groups", in->groups);
            json_end(out, '}');
        }
    }
    json_end(out, ']');
    policy_unref(p);
    yaml_errors_fini(&errors);
}

static void show_version(struct request *r, uint64_t version)
{
    struct buf *out = &r->reply.body;
    DOCUMENT_LOCAL(d);

    if (!read_version(r, version, &d))
        return;
    json_begin(out, NULL, '{');
    put_info(out, &d.info);
    json_put_text(out, "text", d.text);
    json_put_count(out, "own_bytes", policy_own_text(bytes_of(d.text)).len);
    put_includes(out, bytes_of(d.text));
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

void get_policy(struct request *r)
{
    show_version(r, 0);
}

void get_policy_version(struct request *r)
{
    uint64_t version;

    if (!bytes_parse_u64(bytes_of(r->args[0]), &version) || !version || version > INT64_MAX)
        reply_error(r, 400, "invalid", "a policy version is a number from 1, not '%s'", r->args[0]);
    else
        show_version(r, version);
}

void get_policy_versions(struct request *r)
{
    struct buf *out = &r->reply.body;
    struct browse_policy *list = NULL;
    uint64_t before = 0, limit = VERSIONS_PRESET;
    size_t count = 0;

    if (!param_count(r, "before", 1, INT64_MAX, &before) || !param_count(r, "limit", 1, VERSIONS_MAX, &limit))
        return;
    CLEANUP(browse_close) struct browse *b = view_open(r);
    if (!b)
        return;
    enum err e = browse_policies(b, before, (uint32_t)limit + 1, &r->arena, &list, &count);
    if (e) {
        reply_err(r, e, "the policy's history");
        return;
    }
    json_begin(out, NULL, '{');
    json_begin(out, "versions", '[');
    for (size_t i = 0; i < count && i < limit; i++) {
        json_begin(out, NULL, '{');
        put_info(out, &list[i]);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_put_bool(out, "more", count > limit);
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

/* ---- complaints ---- */

/* Without "policy:LINE:COLUMN: " in front: that stands in fields of its own. */
static const char *bare(const struct yaml_error *e)
{
    struct bytes rest = bytes_of(e->text);
    struct bytes name = e->file ? bytes_of(e->file) : BYTES(POLICY_NAME);

    if (bytes_starts(rest, name))
        rest = bytes_skip(rest, name.len);
    while (rest.len > 1 && *rest.at == ':' && rest.at[1] >= '0' && rest.at[1] <= '9') {
        rest = bytes_skip(rest, 1);
        rest = bytes_skip(rest, bytes_find(rest, ':'));
    }
    if (bytes_starts(rest, BYTES(": ")))
        rest = bytes_skip(rest, 2);
    if (bytes_starts(rest, BYTES("note: ")))
        rest = bytes_skip(rest, 6);
    return rest.at;
}

void policy_put_complaints(struct buf *out, const char *key, const struct yaml_errors *errors, bool notices)
{
    json_begin(out, key, '[');
    for (size_t i = 0; i < errors->count; i++) {
        const struct yaml_error *e = &errors->items[i];
        if (e->is_notice != notices)
            continue;
        json_begin(out, NULL, '{');
        if (e->file)
            json_put_text(out, "file", e->file);
        json_put_count(out, "line", e->line);
        json_put_count(out, "column", e->column);
        json_put_text(out, "text", bare(e));
        json_end(out, '}');
    }
    json_end(out, ']');
}

void policy_reply_errors(struct request *r, const struct yaml_errors *errors, const char *what)
{
    BUF_LOCAL(details);

    policy_put_complaints(&details, NULL, errors, false);
    reply_error_details(r, 400, "invalid_policy", buf_bytes(&details), "the document has %zu error%s; %s",
                        errors->errors, errors->errors == 1 ? "" : "s", what);
}

/* ---- the document in the body ---- */

bool policy_body(struct request *r, struct bytes *out)
{
    *out = request_body(r);
    if (out->len && !memchr(out->at, '\0', out->len))
        return true;
    reply_error(r, 400, "invalid",
                out->len ? "the document holds a NUL"
                         : "the body must be the policy document, and it is empty");
    return false;
}

void post_policy_check(struct request *r)
{
    struct buf *out = &r->reply.body;
    struct yaml_errors errors = {.name = POLICY_NAME};
    struct bytes text;

    if (!policy_body(r, &text))
        return;
    enum err e = engine_policy_check(r->engine, text, &errors);
    json_begin(out, NULL, '{');
    json_put_bool(out, "ok", !e);
    policy_put_complaints(out, "errors", &errors, false);
    policy_put_complaints(out, "notices", &errors, true);
    json_end(out, '}');
    yaml_errors_fini(&errors);
    reply_ok(r, TYPE_JSON);
}

static bool read_side(struct request *r, const char *param, bool body_allowed, struct document *out,
                      const char **name)
{
    uint64_t version = 0;

    if (!param_count(r, param, 1, INT64_MAX, &version))
        return false;
    if (!version && body_allowed && r->body.len) {
        struct bytes text;
        struct yaml_errors errors = {.name = POLICY_NAME};
        struct buf whole = {0};
        *name = "the new document";
        if (!policy_body(r, &text))
            return false;
        bool good = policy_files_complete(engine_conf(r->engine), text, &whole, &errors) == OK;
        if (good)
            out->text = buf_take(&whole);
        else
            policy_reply_errors(r, &errors, "nothing was compared");
        buf_fini(&whole);
        yaml_errors_fini(&errors);
        return good;
    }
    if (!read_version(r, version, out))
        return false;
    *name = arena_printf(&r->arena, "version %llu", (unsigned long long)out->info.version);
    return true;
}

void post_policy_diff(struct request *r)
{
    DOCUMENT_LOCAL(from);
    DOCUMENT_LOCAL(to);
    const char *from_name, *to_name;

    if (param_text(r, "to") && r->body.len) {
        reply_error(r, 400, "invalid", "'to' and a document in the body: one of the two");
        return;
    }
    if (!read_side(r, "from", false, &from, &from_name) || !read_side(r, "to", true, &to, &to_name))
        return;
    policy_diff(bytes_of(from.text), bytes_of(to.text), from_name, to_name, &r->reply.body);
    reply_ok(r, TYPE_TEXT);
}

/* ---- a new version ---- */

void policy_reply_version(struct request *r, uint64_t version, const struct yaml_errors *errors)
{
    struct buf *out = &r->reply.body;

    json_begin(out, NULL, '{');
    json_put_count(out, "version", version);
    policy_put_complaints(out, "notices", errors, true);
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

static void apply(struct request *r, struct bytes text, const char *comment, uint64_t expected)
{
    struct yaml_errors errors = {.name = POLICY_NAME};
    uint64_t version = 0;

    enum err e = engine_policy_apply(r->engine, text, r->user, comment, expected, &version, &errors);
    if (e == ERR_INVALID && errors.errors) {
        policy_reply_errors(r, &errors, "the policy stays as it was");
    } else if (e == ERR_BUSY) {
        reply_error(r, 409, "conflict",
                    "version %llu is not the current one any more: look at the newest first",
                    (unsigned long long)expected);
    } else if (e) {
        reply_err(r, e, "the policy");
    } else {
        policy_reply_version(r, version, &errors);
    }
    yaml_errors_fini(&errors);
}

bool policy_comment(struct request *r, const char **comment)
{
    const char *text = param_text(r, "comment");

    if (text && strlen(text) > COMMENT_MAX) {
        reply_error(r, 400, "invalid", "'comment' may have 1000 octets at most");
        return false;
    }
    *comment = text ? text : *comment;
    return true;
}

static bool read_comment(struct request *r, const char **comment, uint64_t *expected)
{
    return policy_comment(r, comment) && param_count(r, "expected", 1, INT64_MAX, expected);
}

void post_policy(struct request *r)
{
    const char *comment = "";
    uint64_t expected = 0;
    struct bytes text;

    if (read_comment(r, &comment, &expected) && policy_body(r, &text))
        apply(r, text, comment, expected);
}

void post_policy_refresh(struct request *r)
{
    const char *comment = "included files read anew";
    uint64_t expected = 0;
    DOCUMENT_LOCAL(now);

    if (!read_comment(r, &comment, &expected) || !read_version(r, 0, &now))
        return;
    struct bytes own = policy_own_text(bytes_of(now.text));
    apply(r, own, comment, expected ? expected : now.info.version);
}

/* ---- the file that comes with the program ---- */

/* Of the included one in force: its date, or NULL. */
static const char *date_in_force(struct request *r, const char *name)
{
    CLEANUP(policy_unref) struct policy *p = engine_policy(r->engine);

    for (size_t i = 0; i < policy_include_count(p); i++)
        if (strcmp(policy_include(p, i)->name, name) == 0)
            return arena_strdup(&r->arena, policy_include(p, i)->date);
    return NULL;
}

void get_policy_receivers(struct request *r)
{
    static const char name[] = "receivers";
    struct buf *out = &r->reply.body;
    char *file = NULL, *why = NULL, date[POLICY_DATE_BYTES];
    BUF_LOCAL(text);

    if (policy_files_read_include(engine_conf(r->engine), name, &text, &file, &why) != OK) {
        reply_error(r, 404, "not_found", "%s", why);
    } else {
        const char *in_force = date_in_force(r, name);
        json_begin(out, NULL, '{');
        json_put_text(out, "name", name);
        json_put_text(out, "file", file);
        policy_date(buf_bytes(&text), date);
        json_put_text(out, "date", date);
        if (in_force)
            json_put_text(out, "date_in_force", in_force);
        json_put_text(out, "text", buf_str(&text));
        json_end(out, '}');
        reply_ok(r, TYPE_JSON);
    }
    mem_free(file);
    mem_free(why);
}

void post_policy_rollback(struct request *r)
{
    uint64_t to = 0, expected = 0;
    DOCUMENT_LOCAL(old);

    if (!param_count(r, "to", 1, INT64_MAX, &to))
        return;
    if (!to) {
        reply_error(r, 400, "invalid", "'to' is missing: the version whose text is to be applied again");
        return;
    }
    const char *comment = arena_printf(&r->arena, "rollback to version %llu", (unsigned long long)to);
    if (read_comment(r, &comment, &expected) && read_version(r, to, &old))
        apply(r, bytes_of(old.text), comment, expected);
}

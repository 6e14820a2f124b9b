/* SIGHUP: files that the policy in force includes, and that were edited since. */
#include <string.h>

#include "base/mem.h"
#include "engine/engine_priv.h"
#include "engine/policy_files.h"
#include "policy/policy_include.h"

/* What they hold on disk now, for a document without them; else "!" and why they cannot be had. */
static char *read_now(struct engine *e, struct bytes own)
{
    struct yaml_errors errors = {.name = "policy"};
    BUF_LOCAL(whole);
    struct buf now = {0};

    if (policy_files_complete(engine_conf(e), own, &whole, &errors) == OK)
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

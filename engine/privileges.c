/* Root is needed for ports below 1024 at most: bound first, then given up. */
#include "engine/privileges.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

static enum err drop_capabilities(char **why)
{
    cap_t none = cap_init();
    int rc = none ? cap_set_proc(none) : -1;

    if (none)
        cap_free(none);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (rc == 0)
        return OK;
    *why = text_format("cannot give up capabilities: %m");
    return ERR_DENIED;
}

/* Who the daemon is to be: the groups of the user are his too, so that one of them may be what reads a key.
 */
struct identity {
    uid_t uid;
    gid_t gid, groups[64];
    int group_count;
};

static bool identity_find(const struct conf *conf, struct identity *id)
{
    const struct passwd *user = getpwnam(conf->user);
    const struct group *group = user && conf->group ? getgrnam(conf->group) : NULL;

    if (!user || (conf->group && !group))
        return false;
    id->uid = user->pw_uid;
    id->gid = group ? group->gr_gid : user->pw_gid;
    id->group_count = COUNT_OF(id->groups);
    if (getgrouplist(conf->user, id->gid, id->groups, &id->group_count) < 0)
        id->group_count = COUNT_OF(id->groups); /* more than anybody has: the first ones */
    return true;
}

static bool identity_become(const struct identity *id)
{
    return setgroups((size_t)id->group_count, id->groups) == 0 && setresgid(id->gid, id->gid, id->gid) == 0 &&
           setresuid(id->uid, id->uid, id->uid) == 0;
}

/* A limit of core's size alone does not hold for dumps that go to a program.  A change of user resets this:
 * so it comes last. */
static void settle_core_dumps(bool wanted)
{
    struct rlimit limit;

    prctl(PR_SET_DUMPABLE, wanted ? 1 : 0, 0, 0, 0);
    if (wanted && getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_CORE, &limit);
    }
}

static enum err become_user(const struct conf *conf, char **why)
{
    if (geteuid() != 0) {
        const struct passwd *user = conf->user ? getpwnam(conf->user) : NULL;
        if (user && user->pw_uid != geteuid())
            log_warn(
                NULL, "start.user", LOG_STR("user", conf->user), LOG_INT("uid", geteuid()),
                LOG_STR("hint", "only root can become `user`: started as somebody else, stays who it is"));
        return drop_capabilities(why); /* CAP_NET_BIND_SERVICE of the file has done its work */
    }
    if (!conf->user) {
        log_warn(NULL, "start.root", LOG_STR("hint", "runs as root: set `user` in the configuration"));
        return OK;
    }
    struct identity id;
    if (!identity_find(conf, &id)) {
        *why = text_format(
            "there is no user %s or no group %s on this machine; make it, or change `user` and `group`",
            conf->user, conf->group ? conf->group : "of that user");
        return ERR_NOT_FOUND;
    }
    if (mkdir(conf->data_dir, 0700) == 0 && chown(conf->data_dir, id.uid, id.gid) != 0) {
        *why = text_format("cannot give %s to %s: %m", conf->data_dir, conf->user);
        return ERR_DENIED;
    }
    if (!identity_become(&id)) {
        *why = text_format("cannot become user %s: %m", conf->user);
        return ERR_DENIED;
    }
    return drop_capabilities(why);
}

enum err privileges_drop(const struct conf *conf, char **why)
{
    enum err e = become_user(conf, why);

    if (!e)
        settle_core_dumps(conf->core_dumps);
    return e;
}

int privileges_readable(const struct conf *conf, const char *path)
{
    struct identity id;
    int status = 0;

    if (geteuid() != 0 || !conf->user || !identity_find(conf, &id))
        return faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) == 0 ? 0 : errno;
    pid_t child = fork();
    if (child == 0)
        _exit(!identity_become(&id) || access(path, R_OK) != 0 ? errno : 0);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 0; /* not known: the start will tell */
}

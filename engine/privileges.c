/* Root is needed for ports below 1024 at most: bound first, then given up. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/privileges.h"

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

enum err privileges_drop(const struct conf *conf, char **why)
{
    if (geteuid() != 0)
        return drop_capabilities(why); /* CAP_NET_BIND_SERVICE of the file has done its work */
    if (!conf->user) {
        log_warn(NULL, "start.root", LOG_STR("hint", "runs as root: set `user` in the configuration"));
        return OK;
    }
    struct passwd *user = getpwnam(conf->user);
    gid_t gid;
    if (!user) {
        *why = text_format("there is no user %s on this machine; make it, or change `user`", conf->user);
        return ERR_NOT_FOUND;
    }
    gid = user->pw_gid;
    if (mkdir(conf->data_dir, 0700) == 0 && chown(conf->data_dir, user->pw_uid, gid) != 0) {
        *why = text_format("cannot give %s to %s: %m", conf->data_dir, conf->user);
        return ERR_DENIED;
    }
    if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 ||
        setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0) {
        *why = text_format("cannot become user %s: %m", conf->user);
        return ERR_DENIED;
    }
    return drop_capabilities(why);
}

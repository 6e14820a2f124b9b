#include "webui-api/listen.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/ip.h"
#include "base/mem.h"

#define BACKLOG 64

static bool answers(const struct sockaddr_un *at)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool refused =
        fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof(*at)) != 0 && errno == ECONNREFUSED;

    if (fd >= 0)
        close(fd);
    return !refused; /* EAGAIN: its backlog is full, so somebody is there */
}

static enum err clear_path(const struct sockaddr_un *at, char **why)
{
    struct stat st;

    if (lstat(at->sun_path, &st) != 0)
        return OK;
    if (!S_ISSOCK(st.st_mode)) {
        *why =
            text_format("%s is not a socket: move it away, or set api.socket to another path", at->sun_path);
        return ERR_EXISTS;
    }
    if (answers(at)) {
        *why =
            text_format("somebody answers on %s already: stop that daemon, or set api.socket to another path",
                        at->sun_path);
        return ERR_BUSY;
    }
    if (unlink(at->sun_path) != 0) {
        *why = text_format("cannot remove the old socket %s: %m", at->sun_path);
        return ERR_DENIED;
    }
    return OK;
}

enum err listen_unix(const char *path, struct listen_socket *out, int *fd, char **why)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct stat st;

    if (strlen(path) >= sizeof(at.sun_path)) {
        *why = text_format("the path of api.socket, %s, is too long", path);
        return ERR_INVALID;
    }
    memcpy(at.sun_path, path, strlen(path));
    enum err e = clear_path(&at, why);
    if (e)
        return e;
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    /* Nobody can connect before listen(), so the mode is right in time. */
    if (s < 0 || bind(s, (struct sockaddr *)&at, sizeof(at)) != 0 || chmod(path, 0600) != 0 ||
        listen(s, BACKLOG) != 0 || lstat(path, &st) != 0) {
        *why = text_format(
            "cannot listen on the API socket %s: %m: its folder must exist and be writable, or set "
            "api.socket to another path",
            path);
        if (s >= 0)
            close(s);
        return ERR_IO;
    }
    *out = (struct listen_socket){mem_strdup(path), st.st_dev, st.st_ino};
    *fd = s;
    return OK;
}

void listen_unix_fini(struct listen_socket *s)
{
    struct stat st;

    if (s->path && lstat(s->path, &st) == 0 && st.st_dev == s->device && st.st_ino == s->inode)
        unlink(s->path);
    mem_free(s->path);
    s->path = NULL;
}

enum err listen_loopback(const char *address, int *fd, char **why)
{
    struct sockaddr_storage to;
    struct ip ip;
    uint16_t port;
    int one = 1;

    if (!ip_parse_port(bytes_of(address), 0, &ip, &port) || !ip_is_loopback(&ip)) {
        *why = text_format("api.listen takes a loopback address and a port, like 127.0.0.1:8025, not %s",
                           address);
        return ERR_INVALID;
    }
    socklen_t len = ip_to_sockaddr(&ip, port, &to);
    int s = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0 || setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        bind(s, (struct sockaddr *)&to, len) != 0 || listen(s, BACKLOG) != 0) {
        *why = text_format("cannot listen on api.listen, %s: %m", address);
        if (s >= 0)
            close(s);
        return ERR_IO;
    }
    *fd = s;
    return OK;
}

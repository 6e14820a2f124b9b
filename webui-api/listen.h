/* The sockets of the API.  Each *why is a sentence that says what to do (mem_free). */
#pragma once

#include <sys/types.h>

#include "base/err.h"
#include "base/macros.h"

struct listen_socket { /* the file that we made, to take away only that one */
    char *path;        /* owned; NULL: none */
    dev_t device;
    ino_t inode;
};
/* Mode 0600.  A socket on which nobody answers is taken away; anything else at its path is left alone. */
MUST_CHECK enum err listen_unix(const char *path, struct listen_socket *out, int *fd, char **why);
void listen_unix_fini(struct listen_socket *s);
/* "127.0.0.1:8025" */
MUST_CHECK enum err listen_loopback(const char *address, int *fd, char **why);

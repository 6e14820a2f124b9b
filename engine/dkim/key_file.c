/* Keys as files: who may read them, and how they are made. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/dkim/key.h"

#define FILE_MAX 65536

const char *dkim_algorithm_name(enum dkim_algorithm a)
{
    return a == DKIM_RSA ? "rsa-sha256" : "ed25519-sha256";
}

const char *dkim_algorithm_key_type(enum dkim_algorithm a)
{
    return a == DKIM_RSA ? "rsa" : "ed25519";
}

static char *why_not_ours(int fd, const char *file)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return text_format("the DKIM key %s cannot be read: %m", file);
    if (!S_ISREG(st.st_mode))
        return text_format("the DKIM key %s is no file", file);
    if (st.st_mode & 077)
        return text_format("the DKIM key %s may be read by others than its owner (mode %04o): chmod 600 %s",
                           file, (unsigned)(st.st_mode & 07777), file);
    if (st.st_size > FILE_MAX)
        return text_format("the DKIM key %s is larger than a key can be", file);
    return NULL;
}

enum err dkim_key_read(const char *file, struct dkim_key **out, char **why)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const char *unfit;
    char *complaint = NULL, *text;
    ssize_t n = 0;
    size_t len = 0;

    if (fd < 0) {
        *why = text_format("the DKIM key %s cannot be read: %m", file);
        return errno == ENOENT ? ERR_NOT_FOUND : ERR_DENIED;
    }
    complaint = why_not_ours(fd, file);
    text = mem_zalloc(FILE_MAX);
    while (!complaint && len < FILE_MAX && (n = read(fd, text + len, FILE_MAX - len)) > 0)
        len += (size_t)n;
    if (n < 0)
        complaint = text_format("the DKIM key %s cannot be read: %m", file);
    close(fd);
    enum err e = complaint ? ERR_DENIED : dkim_key_parse(bytes_make(text, len), out, &unfit);
    mem_wipe_free(text, FILE_MAX);
    if (e)
        *why = complaint ? complaint : text_format("the DKIM key %s %s", file, unfit);
    return e;
}

enum err dkim_key_write(const char *file, struct bytes pem, char **why)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0) {
        *why = errno == EEXIST ? text_format("%s is there already: a key is never written over", file)
                               : text_format("%s cannot be made: %m", file);
        return errno == EEXIST ? ERR_EXISTS : ERR_DENIED;
    }
    while (pem.len) {
        ssize_t n = write(fd, pem.at, pem.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        pem = bytes_skip(pem, (size_t)n);
    }
    bool kept = pem.len == 0 && fsync(fd) == 0;
    int code = errno;
    kept = close(fd) == 0 && kept;
    if (kept)
        return OK;
    unlink(file);
    *why = text_format("%s cannot be written: %s", file, strerror(code));
    return ERR_IO;
}

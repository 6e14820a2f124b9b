#include "base/err.h"

#include <errno.h>

const char *err_text(enum err e)
{
    switch (e) {
    case OK: return "no error";
    case ERR_NOMEM: return "memory limit reached";
    case ERR_FULL: return "full";
    case ERR_NOSPACE: return "no space left on device";
    case ERR_IO: return "input/output error";
    case ERR_CORRUPT: return "stored data is damaged";
    case ERR_NOT_FOUND: return "not found";
    case ERR_EXISTS: return "exists already";
    case ERR_INVALID: return "not valid";
    case ERR_PROTOCOL: return "protocol error";
    case ERR_CLOSED: return "closed";
    case ERR_TIMEOUT: return "timed out";
    case ERR_AGAIN: return "not ready";
    case ERR_DENIED: return "permission denied";
    case ERR_BUSY: return "in use";
    case ERR_VERSION: return "made by another or a newer program";
    case ERR_CANCELLED: return "cancelled";
    case ERR_TLS: return "TLS failed";
    }
    return "unknown error";
}

enum err err_from_errno(int code)
{
    switch (code) {
    case 0: return OK;
    case ENOMEM: return ERR_NOMEM;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return ERR_NOSPACE;
    case ENOENT: return ERR_NOT_FOUND;
    case EEXIST: return ERR_EXISTS;
    case EINVAL: return ERR_INVALID;
    case EPIPE:
    case ECONNRESET:
    case ESHUTDOWN: return ERR_CLOSED;
    case ETIMEDOUT: return ERR_TIMEOUT;
    case EAGAIN:
    case EINTR: return ERR_AGAIN;
    case EACCES:
    case EPERM: return ERR_DENIED;
    case EBUSY:
    case EADDRINUSE: return ERR_BUSY;
    case EMFILE:
    case ENFILE: return ERR_FULL;
    default: return ERR_IO;
    }
}

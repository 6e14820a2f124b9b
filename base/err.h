/*
 * Errors are ours and steer control flow; what the world said about a recipient is an outcome
 * (policy/outcome.h).  Codes of libuv, GnuTLS, SQLite and errno are translated once, where we call.
 */
#pragma once

enum err {
    OK = 0,
    ERR_NOMEM = -1,    /* a cap on memory that outsiders can fill was reached */
    ERR_FULL = -2,     /* a bounded queue, table or buffer is full */
    ERR_NOSPACE = -3,  /* the disk is full, or a quota is */
    ERR_IO = -4,       /* a read, write or fsync failed */
    ERR_CORRUPT = -5,  /* stored bytes fail their checksum or do not parse */
    ERR_NOT_FOUND = -6,
    ERR_EXISTS = -7,
    ERR_INVALID = -8,  /* an argument or input is not of the required form */
    ERR_PROTOCOL = -9, /* the peer broke its protocol */
    ERR_CLOSED = -10,  /* the other side, or this object, has closed */
    ERR_TIMEOUT = -11,
    ERR_AGAIN = -12,   /* not now: would block, or try later */
    ERR_DENIED = -13,
    ERR_BUSY = -14,    /* in use by somebody else */
    ERR_VERSION = -15, /* made by a newer or foreign program */
    ERR_CANCELLED = -16,
    ERR_TLS = -17,
};

/* A short lower-case phrase, static storage. */
const char *err_text(enum err e);

/* From errno; what has no better name is ERR_IO. */
enum err err_from_errno(int code);

/*
 * A hayaumad of our own, in a fresh folder: configured, started, measured and stopped.
 * Thread    one.  Owner: the caller; daemon_stop() ends the process and daemon_remove() the folder.
 * Relays    from loopback without AUTH to one smart host on loopback; at most 100 connections; no DNS.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct daemon_opts {
    const char *build; /* the folder with hayaumad.  Borrowed */
    uint16_t sink_port;
    bool tls_in, tls_out;
};

struct daemon {
    char folder[128]; /* config, data, log and certificates */
    pid_t pid;        /* 0: not running */
    uint16_t port;    /* where it takes mail, on 127.0.0.1 */
};

struct daemon_usage {
    uint64_t user_us, system_us; /* of CPU, so far; the kernel counts in ticks of 10 ms */
    uint64_t pss_bytes;          /* now */
};

/* Makes the folder with certificates (cert.pem, key.pem) for the name peer.example. */
bool daemon_prepare(struct daemon *d);
/* Returns when it answers, false (and the reason on stderr) when it ends or stays silent for 20 s. */
bool daemon_start(struct daemon *d, const struct daemon_opts *opts);
bool daemon_usage(const struct daemon *d, struct daemon_usage *out);
/* SIGTERM, and SIGKILL after 30 s.  True when it ended with status 0. */
bool daemon_stop(struct daemon *d);
void daemon_remove(struct daemon *d); /* also what it left on disk */

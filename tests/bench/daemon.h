/*
 * A hayaumad of our own, in a fresh folder: configured, started, measured and stopped.
 * Thread    one.  Owner: the caller; daemon_stop() ends the process and daemon_remove() the folder.
 * Relays    from loopback without AUTH, at most 100 connections: to one smart host on loopback without DNS,
 * or by MX records of a name server on loopback.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DAEMON_CONNECTIONS 100 /* at most to the sink */

struct daemon_opts {
    const char *build; /* the folder with hayaumad.  Borrowed */
    uint16_t sink_port;
    bool tls_in, tls_out;
    uint16_t dns_port; /* not 0: no smart host; destinations are found there, and the sink's port is that of
                          all MX */
};

struct daemon {
    char folder[128]; /* config, data, log and certificates */
    pid_t pid;        /* 0: not running */
    uint16_t port;    /* where it takes mail, on 127.0.0.1; 0: the first start chooses, later ones keep it */
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
/* SIGKILL: as a crash, with what the kernel has of its files kept. */
void daemon_kill(struct daemon *d);
/* `queue retry --all`: what waits for another try goes now, as an operator does when a receiver is back. */
bool daemon_retry_all(const struct daemon *d, const char *build);
/* The first line of hayaumad --version, "unknown" if it says none. */
void daemon_version(const char *build, char *out, size_t size);
void daemon_remove(struct daemon *d); /* also what it left on disk */

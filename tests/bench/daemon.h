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

#define DAEMON_CONNECTIONS 100 /* at most to the sink, unless the options say more */
#define DAEMON_TRAP_DOMAIN "trap.example.test"

struct daemon_opts {
    const char *build; /* the folder with hayaumad.  Borrowed */
    uint16_t sink_port;
    unsigned connections; /* to the sink at most */
    unsigned workers;
    bool tls_in, tls_out;
    bool share_contents; /* a bench's bodies are all alike: each is stored, as personal ones are, unless this
                            is set */
    bool dkim;           /* signs what comes from source.example with a new RSA-2048 key */
    uint16_t trap_port;  /* not 0: where DAEMON_TRAP_DOMAIN is delivered, by a group of its own */
    uint16_t dns_port;   /* not 0: no smart host; destinations are found there, and the sink's port is that of
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
/* The same of any process; PSS stays 0. */
bool process_cpu(pid_t pid, struct daemon_usage *out);
/* What the daemon had written to its files so far, and what its spool holds on the disk. */
uint64_t daemon_written_bytes(const struct daemon *d);
uint64_t daemon_spool_bytes(const struct daemon *d);
/* Runs `hayauma ARGS…` against the daemon; args end with NULL and begin with the command's first word.  Its
 * output's beginning is in out. */
bool daemon_cli(const struct daemon *d, const char *build, char *const args[], char *out, size_t size);
/* SIGTERM, and SIGKILL after 30 s.  True when it ended with status 0. */
bool daemon_stop(struct daemon *d);
/* SIGKILL: as a crash, with what the kernel has of its files kept. */
void daemon_kill(struct daemon *d);
/* `queue retry --all`: what waits for another try goes now, as an operator does when a receiver is back. */
bool daemon_retry_all(const struct daemon *d, const char *build);
/* The first line of hayaumad --version, "unknown" if it says none. */
void daemon_version(const char *build, char *out, size_t size);
void daemon_remove(struct daemon *d); /* also what it left on disk */

/*
 * Does a resolver validate?  A question whose answer is signed goes to each server by itself, and the AD bit tells.
 *
 * Thread    a probe belongs to the loop it was started on; what it finds is a value.
 */
#pragma once

#include <stdint.h>
#include <uv.h>

#include "engine/dane/dane.h"

#define DNSSEC_PROBE_SERVERS 8

struct dnssec_question {
    char name[256];
    uint16_t type;
};
/* "." or "example.test", and perhaps a type after a blank: "example.test MX".  Without one DNSKEY for ".", SOA for others. */
bool dnssec_question_parse(const char *text, struct dnssec_question *out);

struct dnssec_server {
    struct ip ip;
    uint16_t port;
    bool trusted;
    enum dnssec_probe result;
    uint32_t took_ms;
};
struct dnssec_report {
    enum dnssec_probe result; /* of the first server that answers: the one that is asked while it is well */
    bool mixed;               /* others that answer are worse: DANE is lost whenever they are asked */
    struct dnssec_question question;
    int64_t at_unix;
    struct dnssec_server servers[DNSSEC_PROBE_SERVERS];
    size_t count;
};
/* Of servers[]: fills result and mixed. */
void dnssec_report_sum_up(struct dnssec_report *r);

struct dnssec_probing; /* dies with its callback */
typedef void (*dnssec_fn)(void *arg, const struct dnssec_report *report);
/* Probes the servers that `d` uses now; the callback comes later, from the loop, after 5 seconds at most. */
struct dnssec_probing *dnssec_probe_start(uv_loop_t *loop, struct dns *d, const struct dnssec_question *question,
                                          dnssec_fn fn, void *arg);
/* The callback is not made; its handles close by themselves.  NULL is fine. */
void dnssec_probe_cancel(struct dnssec_probing *p);

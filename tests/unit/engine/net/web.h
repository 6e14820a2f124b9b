/*
 * HTTPS servers for tests, in threads of their own: one port of 127.0.0.1, many hosts told apart by SNI, each
 * good or bad in one way, with certificates of an authority that is made on the spot.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "base/bytes.h"

/*
 * certificate  NULL or "good"; "expired", "future", "other" (another name), "self" (self-signed), "stranger"
 * (an authority that nobody trusts), "cn" (the name in the CN alone), "weak" (RSA of 1024 bits), "client"
 * (not for servers) does         words: hangup      closes before the handshake     clear     answers in
 * clear text mute        never says a word of TLS        silent    handshake, then no reply tls1.1 speaks
 * nothing newer            slow      replies after 300 ms cut         closes without close_notify     dribble
 * one octet every 2 ms endless     after the reply sends chunks for ever     heads  sends header fields for
 * ever reply        all octets of it, head and body
 */
struct web_row {
    const char *host;
    const char *certificate;
    const char *does;
    const char *reply;
};

#define WEB_ROWS_MAX 64
struct web {
    pthread_mutex_t lock;
    struct web_row rows[WEB_ROWS_MAX];
    unsigned hits[WEB_ROWS_MAX]; /* requests read, or, where none is, connections */
    size_t count;
    struct buf request; /* the newest */
    int listener, stop[2];
    unsigned short port;
    pthread_t thread;
    bool stopping;
    char ca_file[64];
    struct web_keys *keys;
};

void web_start(struct web *w, const struct web_row *rows, size_t count);
void web_stop(struct web *w);
/* From now on the host behaves like this. */
void web_set(struct web *w, const struct web_row *row);
unsigned web_hits(struct web *w, const char *host);
char *web_request(struct web *w); /* mem_free */

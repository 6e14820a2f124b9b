/*
 * Mail hosts that failed lately: whoever looks for a connection tries them last, and a session with one ends
 * that. What one worker finds out the others know at once. Thread    any; one lock.  While no host is known
 * to have failed, asking costs one load. Bounds    4,096 hosts; one more, and the oldest failure is
 * forgotten.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct failed_hosts;
struct failed_hosts *failed_hosts_create(void);
void failed_hosts_destroy(struct failed_hosts *f); /* NULL is fine */
/* From now on, for five minutes.  `now_ms` of all calls: clock_now_ms() and the loops agree. */
void failed_hosts_remember(struct failed_hosts *f, const char *name, uint16_t port, uint64_t now_ms);
void failed_hosts_forget(struct failed_hosts *f, const char *name, uint16_t port);
void failed_hosts_clear(struct failed_hosts *f);
bool failed_hosts_any(const struct failed_hosts *f); /* false: none has failed */
/* For how long it is still tried last; 0: it is as good as any. */
uint64_t failed_hosts_left_ms(struct failed_hosts *f, const char *name, uint16_t port, uint64_t now_ms);

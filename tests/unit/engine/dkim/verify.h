/* Verifying by another library than the one that signs: GnuTLS, from what a DNS record would say. */
#pragma once

#include "engine/dkim/key.h"

bool verify_digest(const struct dkim_key *k, const unsigned char digest[SHA256_BYTES],
                   struct bytes signature);
/*
 * Every signature of a message, by the plain words of RFC 6376 §6.1; `keys` are tried by their algorithm.
 * Returns how many hold, or -1 when one does not.
 */
int verify_message(struct bytes message, struct dkim_key *const *keys, size_t key_count);
/* The text of a tag in the nth signature, without white space; "" if it is not there. */
void message_tag(struct bytes message, size_t nth, const char *tag, struct buf *out);
/* A key of this kind in a new file of `dir`; returns the path (mem_free). */
char *make_key_file(const char *dir, const char *name, enum dkim_algorithm a, struct dkim_key **key);

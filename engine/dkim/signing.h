/*
 * The signatures of one message, from its header section to the finished fields.  Pure but for the
 * private-key operation and the clock.  Thread: one at a time; it may move from one to another.
 */
#pragma once

#include "engine/dkim/canon.h"
#include "engine/dkim/digest.h"
#include "engine/dkim/dkim.h"
#include "engine/dkim/keyring.h"

/* A header section with more than this many fields to sign is no mail that people write. */
#define DKIM_FIELDS_MAX 500

enum dkim_refusal {
    DKIM_SIGNABLE,
    DKIM_NO_FROM,
    DKIM_MANY_FROM,
    DKIM_NO_KEY,
    DKIM_NOT_ALLOWED,
    DKIM_MANY_FIELDS
};
const char *dkim_refusal_text(enum dkim_refusal r);

/*
 * As dkim_signing_begin; *out is written with DKIM_SIGNABLE only.  now_unix is what t= says.
 */
enum dkim_refusal dkim_signing_make(struct dkim_keyring *ring, const struct bytes *sections, size_t count,
                                    const struct account *account, int64_t now_unix,
                                    struct dkim_signing **out);
/*
 * The body has ended: bh= is known, and what the keys will sign.  Then any thread: the signatures, into the
 * fields. ERR_IO: the library failed.
 */
void dkim_signing_seal(struct dkim_signing *s);
MUST_CHECK enum err dkim_signing_sign(struct dkim_signing *s);
size_t dkim_signing_count(const struct dkim_signing *s);

/* What the files of engine/dane/ share. */
#pragma once

#include "engine/dane/dane.h"

enum { DANE_USAGE_TA = 2, DANE_USAGE_EE = 3 };
enum { DANE_SELECTOR_CERTIFICATE, DANE_SELECTOR_KEY };
enum { DANE_MATCHING_FULL, DANE_MATCHING_SHA256, DANE_MATCHING_SHA512 };

/* Is this certificate, or its key, what the record speaks of? */
bool tlsa_matches(const struct tlsa *t, struct bytes certificate, struct bytes spki);
/* "3 1 1 0b9f…": the first digits, for people. */
#define TLSA_SHORT_BYTES 32
char *tlsa_format_short(const struct tlsa *t, char out[TLSA_SHORT_BYTES]);

/*
 * Usage 2: paths from the leaf to anchors, over one presented chain.  Bounded: as many certificates and as many paths as the
 * numbers say, whatever was presented.
 */
#define DANE_CERTIFICATES_MAX 32
#define DANE_DEPTH_MAX        10
#define DANE_PATHS_MAX        16 /* tried in one check, over all anchors */

struct dane_chain;
/* NULL and *why when the leaf cannot be read.  Borrows what `chain` points at. */
struct dane_chain *dane_chain_create(const gnutls_datum_t *chain, unsigned count, const char **why);
void dane_chain_destroy(struct dane_chain *c);
size_t dane_chain_count(const struct dane_chain *c);
/* The certificate at `i` (0: the leaf); false when it could not be read. */
bool dane_chain_at(const struct dane_chain *c, size_t i, struct bytes *certificate, struct bytes *spki);
gnutls_x509_crt_t dane_chain_leaf(struct dane_chain *c);
/* Does a path lead to ...?  *why (static) is written when none does. */
bool dane_path_to_presented(struct dane_chain *c, size_t anchor, int64_t now_unix, const char **why);
bool dane_path_to_certificate(struct dane_chain *c, struct bytes anchor, int64_t now_unix, const char **why);
bool dane_path_to_key(struct dane_chain *c, struct bytes spki, int64_t now_unix, const char **why);

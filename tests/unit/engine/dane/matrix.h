/* The cases of DANE verification, one a row: what our check, and any other, must say of them. */
#pragma once

#include "ca.h"

struct dane_case {
    const char *title;
    const char *records; /* for ca_tlsa, by semicolons */
    const char *chain;   /* ids, as presented */
    const char *names;   /* reference names, by blanks */
    const char *want;    /* "match", "unusable", or a part of why it is a mismatch */
    /* NULL, or why OpenSSL says otherwise. */
    const char *openssl_differs;
};
extern const struct dane_case dane_cases[];
extern const size_t dane_case_count;
void dane_world(struct ca *ca, int64_t now_unix); /* makes what the rows speak of */

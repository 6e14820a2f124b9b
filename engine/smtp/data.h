/*
 * The content of a message as it comes behind DATA or in BDAT chunks (RFC 5321 §4.5.2, RFC 3030).  Pure, incremental.
 *
 * Only CRLF ends a line, and only CRLF "." CRLF ends DATA: whatever follows a bare LF or CR is content, dots and all, so
 * that no other reading of line ends can make two messages of one.  Bare LF and CR come out as CRLF; whether such
 * a message is taken is the caller's decision (`bare_newline`).
 */
#pragma once

#include <stdbool.h>

#include "base/bytes.h"

enum data_at {
    DATA_AT_LINE_START, /* behind CRLF, or at the very start */
    DATA_AT_BARE_START, /* behind a bare newline: a dot here is only a dot */
    DATA_AT_TEXT,
    DATA_AT_CR,     /* a CR came, its LF may follow */
    DATA_AT_DOT,    /* a dot at the start of a line */
    DATA_AT_DOT_CR, /* CRLF "." CR */
    DATA_AT_END,
};

struct data_decoder {
    enum data_at at;
    bool dots;         /* DATA: dot-stuffed, ends by itself.  Else BDAT */
    bool bare_newline; /* a LF without CR, or a CR without LF, was seen */
    bool nul;          /* an octet 0 was seen */
};

/* A run of decoded content, borrowed until return. */
typedef void (*data_sink_fn)(void *arg, struct bytes run);

void data_decoder_init(struct data_decoder *d, bool dots);
/* Returns how many octets were used: all, or with `dots` those up to the end, when d->at is DATA_AT_END. */
size_t data_decode(struct data_decoder *d, struct bytes in, data_sink_fn sink, void *arg);
/* BDAT: the last chunk is in.  Content that does not end in CRLF gets one. */
void data_decode_last(struct data_decoder *d, data_sink_fn sink, void *arg);

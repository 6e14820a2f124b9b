/*
 *               CR             LF
 *     text ──────────▶ CR ───────────▶ line start ──"."──▶ dot ──CR──▶ dot CR ──LF──▶ end
 *       ▲              │other: bare CR     │other           │other        │other
 *       └──────────────┴───────────────────┴────────────────┴─────────────┘ (the dot was stuffing)
 * A bare LF or CR leads to the bare start, which is text but for what the end of a chunked message needs to
 * know: the line that it seems to start is no line, and a dot there means nothing.
 */
#include "engine/smtp/data.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

void data_decoder_init(struct data_decoder *d, bool dots)
{
    *d = (struct data_decoder){.at = DATA_AT_LINE_START, .dots = dots};
}

/* What one data_decode works with: octets from `run` to `at` are decoded and not handed on yet. */
struct decoding {
    struct data_decoder *d;
    const char *run, *at, *end;
    data_sink_fn sink;
    void *arg;
};

static void hand_on(struct decoding *w, const char *from, size_t len)
{
    if (len)
        w->sink(w->arg, bytes_make(from, len));
}

/* Ends the run at `upto`, and starts the next one at `next`. */
static void flush(struct decoding *w, const char *upto, const char *next)
{
    hand_on(w, w->run, (size_t)(upto - w->run));
    w->run = w->at = next;
}

static void put_crlf(struct decoding *w)
{
    hand_on(w, "\r\n", 2);
}

/* The next CR, LF or NUL, or `end`.  This loop sees every octet of every message: hence the sixteen at a
 * time. */
static const char *find_special(const char *at, const char *end)
{
#ifdef __SSE2__
    const __m128i cr = _mm_set1_epi8('\r'), lf = _mm_set1_epi8('\n'), nul = _mm_setzero_si128();

    for (; end - at >= 16; at += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)at);
        __m128i hits =
            _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, cr), _mm_cmpeq_epi8(v, lf)), _mm_cmpeq_epi8(v, nul));
        int mask = _mm_movemask_epi8(hits);
        if (mask)
            return at + __builtin_ctz((unsigned)mask);
    }
#endif
    while (at < end && *at != '\r' && *at != '\n' && *at != '\0')
        at++;
    return at;
}

static void take_bare(struct decoding *w, const char *newline)
{
    w->d->bare_newline = true;
    flush(w, newline, newline + 1);
    put_crlf(w);
    w->d->at = DATA_AT_BARE_START;
}

/* From w->at within a line: on through whole lines, as long as they may go on as they are. */
static void take_text(struct decoding *w)
{
    for (;;) {
        const char *at = find_special(w->at, w->end);
        if (at + 1 < w->end && at[0] == '\r' && at[1] == '\n') {
            w->at = at + 2;
            if (w->at < w->end && (*w->at != '.' || !w->d->dots))
                continue;
            w->d->at = DATA_AT_LINE_START;
        } else if (at == w->end) {
            w->at = at;
            w->d->at = DATA_AT_TEXT;
        } else if (*at == '\0') {
            w->d->nul = true;
            w->at = at + 1;
            continue;
        } else if (*at == '\r' && at + 1 == w->end) {
            flush(w, at, w->end);
            w->d->at = DATA_AT_CR;
        } else {
            take_bare(w, at);
        }
        return;
    }
}

/* The CR before w->at was the last octet of the input before this one, or stood behind a dot. */
static void take_behind_cr(struct decoding *w)
{
    put_crlf(w);
    if (*w->at == '\n') {
        w->run = ++w->at;
        w->d->at = DATA_AT_LINE_START;
        return;
    }
    w->d->bare_newline = true;
    w->d->at = DATA_AT_BARE_START;
}

static void take_line_start(struct decoding *w)
{
    if (!w->d->dots || *w->at != '.') {
        w->d->at = DATA_AT_TEXT;
        return;
    }
    flush(w, w->at, w->at + 1);
    w->d->at = DATA_AT_DOT;
}

static void take_behind_dot(struct decoding *w)
{
    if (*w->at != '\r') {
        w->d->at = DATA_AT_TEXT;
        return;
    }
    w->run = ++w->at;
    w->d->at = DATA_AT_DOT_CR;
}

static void take_behind_dot_cr(struct decoding *w)
{
    if (*w->at != '\n') {
        take_behind_cr(w);
        return;
    }
    w->run = ++w->at;
    w->d->at = DATA_AT_END;
}

size_t data_decode(struct data_decoder *d, struct bytes in, data_sink_fn sink, void *arg)
{
    static void (*const take[])(struct decoding *) = {
        [DATA_AT_LINE_START] = take_line_start,
        [DATA_AT_BARE_START] = take_text,
        [DATA_AT_TEXT] = take_text,
        [DATA_AT_CR] = take_behind_cr,
        [DATA_AT_DOT] = take_behind_dot,
        [DATA_AT_DOT_CR] = take_behind_dot_cr,
    };
    struct decoding w = {d, in.at, in.at, in.at + in.len, sink, arg};

    while (w.at < w.end && d->at != DATA_AT_END)
        take[d->at](&w);
    hand_on(&w, w.run, (size_t)(w.at - w.run));
    return (size_t)(w.at - in.at);
}

void data_decode_last(struct data_decoder *d, data_sink_fn sink, void *arg)
{
    struct decoding w = {.d = d, .sink = sink, .arg = arg};

    if (d->at == DATA_AT_CR)
        d->bare_newline = true;
    if (d->at == DATA_AT_CR || d->at == DATA_AT_TEXT)
        put_crlf(&w);
    d->at = DATA_AT_END;
}

/*
 *               CR             LF
 *     text ──────────▶ CR ───────────▶ line start ──"."──▶ dot ──CR──▶ dot CR ──LF──▶ end
 *       ▲              │other: bare CR     │other           │other        │other
 *       └──────────────┴───────────────────┴────────────────┴─────────────┘ (the dot was stuffing)
 * A bare LF or CR leads to the bare start, which is text but for what the end of a chunked message needs to
 * know: the line that it seems to start is no line, and a dot there means nothing.
 */
#include "engine/smtp/data.h"

#include "base/block64.h"

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

/* The next CR, LF or NUL, or `end`. */
static const char *find_special(const char *at, const char *end)
{
    while (at < end && *at != '\r' && *at != '\n' && *at != '\0')
        at++;
    return at;
}

#ifdef BLOCK64
/*
 * From `at` within a line over all blocks in which lines end in CRLF, no octet is 0 and (with `dots`) none
 * begins with a dot.  Returns a place within a line again: in front of a CR that ends the last block, or of
 * the CRLF that does.
 */
BLOCK64_CODE static const char *skip_plain_blocks(const char *at, const char *end, bool dots)
{
    uint64_t behind_cr = 0, behind_lf = 0; /* bit 0: the octet before `at` */

    for (; end - at >= BLOCK64; at += BLOCK64) {
        uint64_t cr = block64_of(at, '\r'), lf = block64_of(at, '\n');
        uint64_t odd = lf ^ (cr << 1 | behind_cr);
        odd |= block64_of(at, '\0');
        if (dots)
            odd |= block64_of(at, '.') & (lf << 1 | behind_lf);
        if (odd)
            break;
        behind_cr = cr >> 63;
        behind_lf = lf >> 63;
    }
    return at - behind_cr - 2 * behind_lf;
}
#endif

/* This sees every octet of every message, hence the blocks. */
static const char *skip_plain(const char *at, const char *end, bool dots)
{
#ifdef BLOCK64
    if (block64_usable())
        return skip_plain_blocks(at, end, dots);
#endif
    (void)end;
    (void)dots;
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
    w->at = skip_plain(w->at, w->end, w->d->dots);
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

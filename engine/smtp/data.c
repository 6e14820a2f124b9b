/*
 *               CR             LF
 *     text ──────────▶ CR ───────────▶ line start ──"."──▶ dot ──CR──▶ dot CR ──LF──▶ end
 *       ▲              │other: bare CR     │other           │other        │other
 *       └──────────────┴───────────────────┴────────────────┴─────────────┘ (the dot was stuffing)
 * A bare LF or CR leads to the bare start, which is text but for what the end of a chunked message needs to
 * know: the line that it seems to start is no line, and a dot there means nothing.
 */
#include "engine/smtp/data.h"

void data_decoder_init(struct data_decoder *d, bool dots)
{
    *d = (struct data_decoder){.at = DATA_AT_LINE_START, .dots = dots};
}

/* What one data_decode works with: octets from `run` to `at` are decoded and not handed on yet. */
struct decoding {
    struct data_decoder *d;
    const char *run, *at, *end;
    const char *cr,
        *lf; /* the next of each, or `end`; looked for again only once it was passed: linear in all cases */
    data_sink_fn sink;
    void *arg;
};

static void hand_on(struct decoding *w, const char *from, size_t len)
{
    if (!len)
        return;
    if (!w->d->nul && memchr(from, '\0', len))
        w->d->nul = true;
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

static const char *find_from(const struct decoding *w, const char *found, char c)
{
    if (found >= w->at)
        return found;
    found = memchr(w->at, c, (size_t)(w->end - w->at));
    return found ? found : w->end;
}

/* From w->at within a line: stops behind its CRLF, at a CR that ends the input, or behind a bare newline. */
static void take_text(struct decoding *w)
{
    w->cr = find_from(w, w->cr, '\r');
    w->lf = find_from(w, w->lf, '\n');
    if (w->cr + 1 == w->end && w->lf == w->end) {
        flush(w, w->cr, w->end);
        w->d->at = DATA_AT_CR;
    } else if (w->cr + 1 == w->lf) {
        w->at = w->lf + 1;
        w->d->at = DATA_AT_LINE_START;
    } else if (w->cr != w->lf) {
        const char *bare = MIN_OF(w->cr, w->lf);
        w->d->bare_newline = true;
        flush(w, bare, bare + 1);
        put_crlf(w);
        w->d->at = DATA_AT_BARE_START;
    } else { /* neither comes */
        w->at = w->end;
        w->d->at = DATA_AT_TEXT;
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
    struct decoding w = {d, in.at, in.at, in.at + in.len, NULL, NULL, sink, arg};

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

/*
 * Text tables: columns as wide as they must be, numbers to the right, columns that give way when the terminal
 * is narrow, colours where there is a terminal.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* Where text goes to. */
struct term {
    bool terminal, colour;
    size_t width; /* 0: no end */
};
struct term term_of_stdout(void);

enum style { STYLE_PLAIN, STYLE_GOOD, STYLE_WARN, STYLE_BAD, STYLE_DIM, STYLE_STRONG };
/* What switches the style on, and all of them off; "" without colour. */
const char *term_on(const struct term *term, enum style style);
const char *term_off(const struct term *term);

enum column_flags {
    COLUMN_LEFT = 0,
    COLUMN_RIGHT = BIT(0),    /* numbers */
    COLUMN_GIVES = BIT(1),    /* is cut when lines are too long for the terminal; the last such first */
    COLUMN_OPTIONAL = BIT(2), /* not shown while every cell is empty or "0" */
    COLUMN_SPARE = BIT(3),    /* left out when cutting is not enough; the last such first */
};
struct column {
    const char *name;
    unsigned flags; /* of enum column_flags */
};

struct cell {
    struct buf text;
    enum style style;
};

struct table {
    const struct column *columns; /* borrowed */
    size_t column_count;
    size_t *widths;     /* owned; of what is in them; they grow from one table_print to the next */
    size_t *fitted;     /* owned; the same, fitted to the terminal */
    bool *shown;        /* owned */
    struct cell *cells; /* owned; row by row */
    size_t cell_count, cell_cap;
    size_t rule_at; /* the row above which a line is drawn; SIZE_MAX: none */
    bool has_head;  /* was printed */
};

void table_init(struct table *t, const struct column *columns, size_t count);
void table_fini(struct table *t);
/* The next cell, for the caller to write: only what cannot harm a terminal. */
struct buf *table_cell(struct table *t, enum style style);
void table_text(struct table *t, enum style style, const char *text); /* of whomever; NULL is empty */
void table_count(struct table *t, enum style style, uint64_t n);      /* 0 is dim whatever the style */
void table_rule(struct table *t);                                     /* the next row stands below a line */
size_t table_rows(const struct table *t);
/* Appends what the table holds and empties it; the head stands above the first lines only. */
void table_print(struct table *t, const struct term *term, struct buf *out);

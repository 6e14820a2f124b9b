/*
 * Inside history: day files, their caches, and the clock that tests may turn.  Only queue/history*.c and
 * queue/report*.c include this.
 *
 * DIR/history/YYYY-MM-DD.db, and YYYY-MM-DD.N.db when an earlier file of that day could not be used any more.
 * The layout is drawn at the top of history_schema.c.
 */
#pragma once

#include <sqlite3.h>

#include "base/hash.h"
#include "queue/history.h"

#define HISTORY_APPLICATION_ID 0x48794869 /* "HyHi" */
#define HISTORY_USER_VERSION   3

#define MS_PER_HOUR  3600000
#define MS_PER_DAY   86400000
#define SECS_PER_DAY 86400

/* Division that rounds down, for times before 1970 too. */
static inline int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* ---- history_files.c ---- */

struct history_file {
    int64_t day;     /* UTC, since 1970 */
    unsigned number; /* 0: YYYY-MM-DD.db */
    char *path;      /* owned */
};
struct history_files {
    struct history_file *items; /* owned; ascending by day, then number */
    size_t count;
};
/* `dir` is the data directory.  No history folder: an empty list. */
MUST_CHECK enum err history_files_list(const char *dir, struct history_files *out);
void history_files_fini(struct history_files *f);
char *history_file_path(const char *dir, int64_t day, unsigned number); /* mem_free */
bool history_file_parse(const char *name, int64_t *day, unsigned *number);

enum err history_sql_err(int rc); /* sql_err, as it is meant for a day file */
/* A connection that only reads and never checkpoints; older files look like new ones.  ERR_VERSION when the
 * file is not ours or newer, ERR_AGAIN when it has no tables yet. */
MUST_CHECK enum err history_file_read(const char *path, sqlite3 **out);
/* The value of a query of one number; `missing` for NULL or no row. */
MUST_CHECK enum err history_sql_number(sqlite3 *db, const char *sql, int64_t missing, int64_t *out);

/* ---- history_schema.c ---- */

/* Makes the tables of a new file and brings an older one up to date. */
MUST_CHECK enum err history_schema_write(sqlite3 *db);
/* Lets a connection read every version; from then on it cannot write. */
MUST_CHECK enum err history_schema_read(sqlite3 *db);

/* ---- history_words.c: what repeats within one day file ---- */

#define KNOWN_GENERATION 196608 /* three quarters of a power of two */
#define SEEN_ONCE        4096

struct known {     /* a text or a shape that the file has */
    uint64_t hash; /* 0: free slot */
    uint32_t id;
    uint32_t delta; /* a shape's: where its running delta was last */
};
struct known_table {
    struct known *slots; /* owned */
    size_t cap, count;
};
struct knowns { /* zeroed: empty */
    struct known_table young, old;
};
void knowns_fini(struct knowns *k);
uint64_t known_hash(struct bytes text);                     /* never 0; differs from process to process */
struct known *knowns_find(struct knowns *k, uint64_t hash); /* borrowed until the next find or put, or NULL */
struct known *knowns_put(struct knowns *k, uint64_t hash, uint32_t id);

struct seen { /* texts seen and not yet kept */
    uint64_t hashes[SEEN_ONCE];
};
/* True from the second time on (nearly: another text may take its place). */
bool seen_before(struct seen *s, uint64_t hash);

/* Everything about an attempt that reports count by; written once as a row of `shape`. */
struct shape_key { /* no padding: hashed as octets */
    uint32_t grp, domain, mx, campaign, tls_version, tls_cipher, tls_kx, shadow_group, source,
        ehlo; /* words; 0: none */
    int32_t accepted_day, expires_day;
    uint8_t outcome, then, wanted, effective, why, verify;
    uint8_t flags; /* enum shape_flags */
    uint8_t dane, sts, failure, shadow;
    uint8_t unused;
};
_Static_assert(sizeof(struct shape_key) == 60, "octets that nobody sets would tell shapes apart");
enum shape_flags {
    SHAPE_RESUMED = 1,
    SHAPE_OFFERED = 2,
    SHAPE_FALLBACK = 4,
    SHAPE_TLS_FAILED =
        8, /* not delivered, and for want of TLS: STARTTLS or handshake stage, or x.7.4, x.7.5, x.7.30 */
};
/* ---- history_filter.c: which blocks of rows may hold a recipient, message or domain ---- */

#define FILTER_BYTES 16384
#define BLOCK_ROWS   4096
uint64_t filter_hash_message(uint64_t message_id);
uint64_t filter_hash_address(struct bytes address); /* ASCII case folded */
uint64_t filter_hash_domain(struct bytes domain);
void filter_add(uint8_t filter[FILTER_BYTES], uint64_t hash);
bool filter_has(const uint8_t *filter, uint64_t hash);

/* ---- history_day.c: the one writing connection; history thread ---- */

struct day;
/*
 * Opens or makes the file.  ERR_CORRUPT and ERR_VERSION: this file cannot be used, take another. ERR_NOSPACE,
 * ERR_IO, ERR_DENIED: try again.
 */
MUST_CHECK enum err day_open(const char *path, struct day **out);
/* One transaction with all attempts and sessions of `batches` batches; ids of attempts count up from
 * first_id. After any error the day is good only for day_close. */
MUST_CHECK enum err day_write(struct day *d, struct attempt_batch *first, size_t batches, int64_t first_id,
                              int64_t wall_ms, bool roll_up);
size_t day_pending_rollups(const struct day *d);
MUST_CHECK enum err day_roll_up(struct day *d); /* in a transaction of its own */
int64_t day_max_id(const struct day *d);        /* 0: empty */
int64_t day_max_session(const struct day *d);   /* sessions count per file */
bool day_has_moved(const struct day *d);        /* deleted or replaced under us */
const char *day_path(const struct day *d);
const char *day_error(const struct day *d); /* what SQLite said last */
/* `finished`: no more will be written; the file ends without a WAL when nobody reads it just then. */
void day_close(struct day *d, bool finished);

/* ---- for tests ---- */

struct history_clock {
    int64_t (*wall_ms)(void);
    uint64_t (*steady_ms)(void);
};
extern struct history_clock history_clock; /* set before history_open */

/*
 * DIR/queue.db (SQLite, WAL, synchronous=FULL), application_id "HAYQ", user_version = number of steps below.
 *
 *     domain (id, name)                                one row a destination ever seen and not yet swept
 *        ^
 *     rcpt (message_id, no | domain_id, state, …)      one row a recipient not settled; row_state in schema.h
 *        |    rcpt_ready (domain_id, lane, due, message_id, no, state)   state = READY: what a page reads
 *        |    rcpt_other (state, message_id, no)            state <> READY: few rows, or fresh or paused ones
 *        v
 *     message (id | envelope, segment, offset, size)   one row while it has a recipient
 *        |         content_segment, content_offset      not 0: what follows its header section lies there
 *        v
 *     segment (id, live_bytes, total_bytes)            one row a spool file; live 0, not current: deleted.
 *                                                      What is shared is live once for each message
 *
 *     final (message_id, no | outcome, mx, at)         of rows in state DSN
 *     counter (messages, rows of each state)           one row, in every transaction: sums without a scan
 *     tally (day, campaign | messages, rcpts)          all that was accepted on a UTC day, to reconcile
 *     meta (key, value)                                history position applied, first whole day of tally, …
 *     policy (version | at, author, comment, text)     account (name | keys, limits)
 *     keep (kind, key | at, value)                     queue/keep.h
 *
 * rcpt_ready has the state too, though it is always the same: SQLite then needs no row to know it.  It leads
 * with the domain, so that a domain's page costs the same however long the queue is, and the domains with
 * mail are found by seeking from one to the next; then comes the lane (queue/lane.h), so that a page finds
 * each campaign's rows however many another has.  Fresh rows are not in it: mail that goes out at once
 * touches two b-trees at their growing end, not one page per domain.  Message ids ascend in time, so both
 * tables grow at one end and shrink at the other.  There is no index by campaign, sender or recipient: such
 * selectors walk `message` or `rcpt` in key order (1 M rows: about 0.3 s), which costs an accept nothing.
 */
#include "queue/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define APPLICATION_ID  0x48415951 /* "HAYQ" */
#define QUICK_CHECK_MAX (32LL * 1024 * 1024)

/* Step n brings version n to n+1.  A step that was released is never changed: add one. */
static const char *const steps[] = {
    "CREATE TABLE domain(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
    "CREATE TABLE message(id INTEGER PRIMARY KEY, flags INTEGER NOT NULL, accepted INTEGER NOT NULL,"
    " sender TEXT NOT NULL, campaign TEXT, envid TEXT, account TEXT, ret INTEGER NOT NULL,"
    " total INTEGER NOT NULL, segment INTEGER NOT NULL, offset INTEGER NOT NULL, size INTEGER NOT NULL,"
    " header_bytes INTEGER NOT NULL, body_flags INTEGER NOT NULL, checksum INTEGER NOT NULL);"
    "CREATE TABLE rcpt(message_id INTEGER NOT NULL, no INTEGER NOT NULL, domain_id INTEGER NOT NULL,"
    " state INTEGER NOT NULL, due INTEGER NOT NULL, attempts INTEGER NOT NULL, notify INTEGER NOT NULL,"
    " delay_notified INTEGER NOT NULL, address TEXT NOT NULL, orcpt TEXT, last_text TEXT,"
    " PRIMARY KEY(message_id, no)) WITHOUT ROWID;"
    "CREATE INDEX rcpt_ready ON rcpt(domain_id, due, message_id, no, state) WHERE state = 1;"
    "CREATE INDEX rcpt_other ON rcpt(state) WHERE state <> 1;"
    "CREATE TABLE final(message_id INTEGER NOT NULL, no INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " stage INTEGER NOT NULL, code INTEGER NOT NULL, enhanced TEXT NOT NULL, remote INTEGER NOT NULL,"
    " in_doubt INTEGER NOT NULL, text TEXT NOT NULL, mx TEXT, at INTEGER NOT NULL,"
    " PRIMARY KEY(message_id, no)) WITHOUT ROWID;"
    "CREATE TABLE segment(id INTEGER PRIMARY KEY, live_bytes INTEGER NOT NULL, total_bytes INTEGER NOT NULL);"
    "CREATE TABLE counter(id INTEGER PRIMARY KEY CHECK(id = 1), messages INTEGER NOT NULL,"
    " fresh INTEGER NOT NULL, ready INTEGER NOT NULL, held INTEGER NOT NULL, dsn INTEGER NOT NULL,"
    " bounce INTEGER NOT NULL, cancel INTEGER NOT NULL);"
    "INSERT INTO counter VALUES(1, 0, 0, 0, 0, 0, 0, 0);"
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;"
    "CREATE TABLE policy(version INTEGER PRIMARY KEY, at INTEGER NOT NULL, author TEXT NOT NULL,"
    " comment TEXT NOT NULL, text TEXT NOT NULL);"
    "CREATE TABLE account(name TEXT PRIMARY KEY, salt BLOB NOT NULL, iterations INTEGER NOT NULL,"
    " stored_key BLOB NOT NULL, server_key BLOB NOT NULL, sender_domains TEXT NOT NULL, networks TEXT NOT "
    "NULL,"
    " max_connections INTEGER NOT NULL, messages_per_minute INTEGER NOT NULL, disabled INTEGER NOT NULL,"
    " created INTEGER NOT NULL) WITHOUT ROWID;",

    /* Mail accepted before has no tally: then the days after today are the first whole ones.  Whoever has run
     * before has a policy. */
    "CREATE TABLE tally(day INTEGER NOT NULL, campaign TEXT NOT NULL, messages INTEGER NOT NULL,"
    " rcpts INTEGER NOT NULL, PRIMARY KEY(day, campaign)) WITHOUT ROWID;"
    "INSERT INTO meta(key, value) SELECT 'tally_since', strftime('%s', 'now') / 86400 + 1"
    " WHERE EXISTS(SELECT 1 FROM policy);",

    ("CREATE TABLE keep(kind TEXT NOT NULL, key TEXT NOT NULL, at INTEGER NOT NULL, value BLOB NOT NULL,"
     " PRIMARY KEY(kind, key)) WITHOUT ROWID;"),

    "ALTER TABLE account ADD COLUMN certificates TEXT NOT NULL DEFAULT '';",

    "ALTER TABLE counter ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE account ADD COLUMN campaign TEXT NOT NULL DEFAULT '';",

    /* What waited before shares one turn. */
    "ALTER TABLE rcpt ADD COLUMN lane INTEGER NOT NULL DEFAULT 0;"
    "DROP INDEX rcpt_ready;"
    "CREATE INDEX rcpt_ready ON rcpt(domain_id, lane, due, message_id, no, state) WHERE state = 1;"
    "ALTER TABLE account ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE message ADD COLUMN expires INTEGER NOT NULL DEFAULT 0;",

    "ALTER TABLE counter ADD COLUMN expire INTEGER NOT NULL DEFAULT 0;",

    "ALTER TABLE message ADD COLUMN content_segment INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE message ADD COLUMN content_offset INTEGER NOT NULL DEFAULT 0;",

    /* Envelopes in the spool have no key yet; the start that brings this step gives them one.  Who knows
     * nothing of keys would take them for none. */
    "INSERT INTO meta(key, value) VALUES('spool_key', x'');",
};

unsigned schema_version(void)
{
    return COUNT_OF(steps);
}

enum err schema_migrate(sqlite3 *db, unsigned from, unsigned to)
{
    enum err e = sql_exec(db, "BEGIN IMMEDIATE");

    for (unsigned v = from; !e && v < to; v++) {
        char version[40];
        e = sql_exec(db, steps[v]);
        snprintf(version, sizeof(version), "PRAGMA user_version = %u", v + 1);
        if (!e)
            e = sql_exec(db, version);
    }
    if (!e)
        e = sql_exec(db, "COMMIT");
    if (e)
        sql_rollback(db);
    return e;
}

static uint32_t big_endian(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static char *damaged(const char *path, const char *how)
{
    return text_format(
        "%s is damaged (%s): restore it from a backup, or move it and its -wal file away together with "
        "the spool folder to begin with an empty queue",
        path, how);
}

static bool wal_has_frames(const char *path)
{
    struct stat st;
    char wal[4096];

    snprintf(wal, sizeof(wal), "%s-wal", path);
    return stat(wal, &st) == 0 && st.st_size > 0;
}

static enum err refuse_newer(const char *path, unsigned version, char **why)
{
    if (version <= COUNT_OF(steps))
        return OK;
    *why =
        text_format("%s was made by a newer Hayauma (schema %u, this one knows %u): start that version, or "
                    "restore a backup made before the upgrade",
                    path, version, (unsigned)COUNT_OF(steps));
    return ERR_VERSION;
}

/* What can be told from the first 100 octets, before SQLite sees the file (it takes an empty file for a new
 * one).  The version there is the one of the last checkpoint: current_version() has the word of the WAL. */
static enum err check_header(const char *path, char **why)
{
    unsigned char head[100];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st)) {
        enum err e = err_from_errno(errno);
        *why = text_format("cannot read %s: %s; give the user that runs the daemon access to it", path,
                           strerror(errno));
        if (fd >= 0)
            close(fd);
        return e;
    }
    ssize_t n = pread(fd, head, sizeof(head), 0);
    close(fd);
    if (n < 0) {
        *why = text_format("cannot read %s: %s", path, strerror(errno));
        return ERR_IO;
    }
    if (n < (ssize_t)sizeof(head) || memcmp(head, "SQLite format 3", 16) != 0) {
        *why = damaged(path, n == 0 ? "it is empty" : "it does not begin like a database");
        return ERR_CORRUPT;
    }
    if (big_endian(head + 68) != APPLICATION_ID) {
        *why = text_format("%s is not a Hayauma queue (application id %08x): name another data directory",
                           path, big_endian(head + 68));
        return ERR_VERSION;
    }
    enum err e = refuse_newer(path, big_endian(head + 60), why);
    if (e)
        return e;
    uint64_t page = (uint64_t)head[16] << 8 | head[17];
    page = page == 1 ? 65536 : page;
    if (!wal_has_frames(path) && (uint64_t)st.st_size < page * big_endian(head + 28)) {
        *why = damaged(path, "it is shorter than it says");
        return ERR_CORRUPT;
    }
    return OK;
}

static enum err open_file(const char *path, int flags, sqlite3 **out)
{
    sqlite3 *db = NULL;
    enum err e = sql_err(sqlite3_open_v2(path, &db, flags | SQLITE_OPEN_NOMUTEX, NULL));

    if (e) {
        sqlite3_close(db);
        return e;
    }
    (void)sqlite3_extended_result_codes(db, 1);
    *out = db;
    return OK;
}

/* Made under another name and renamed: a queue.db that exists is complete. */
static enum err create(const char *dir, const char *path, char **why)
{
    BUF_LOCAL(made);
    sqlite3 *db = NULL;
    char id[60];

    buf_putf(&made, "%s.new", path);
    unlink(buf_str(&made));
    snprintf(id, sizeof(id), "PRAGMA application_id = %d", APPLICATION_ID);
    enum err e = open_file(buf_str(&made), SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &db);
    if (!e)
        e = sql_exec(db, id);
    if (!e)
        e = schema_migrate(db, 0, COUNT_OF(steps));
    const char *said = db ? sqlite3_errmsg(db) : strerror(errno);
    if (e)
        *why = text_format("cannot make %s: %s; make the directory writable and see that the disk has space",
                           path, said);
    sqlite3_close(db);
    if (e)
        return e;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (rename(buf_str(&made), path) || fd < 0 || fsync(fd)) {
        e = err_from_errno(errno);
        *why = text_format("cannot make %s: %s", path, strerror(errno));
    }
    if (fd >= 0)
        close(fd);
    return e;
}

static enum err check_tables(sqlite3 *db)
{
    static const char *const reads[] = {
        "SELECT count(*) FROM (SELECT 1 FROM message LIMIT 1)",
        "SELECT count(*) FROM (SELECT * FROM rcpt LIMIT 1)",
        "SELECT count(*) FROM (SELECT * FROM domain LIMIT 1)",
        "SELECT messages FROM counter WHERE id = 1",
        "SELECT count(*) FROM segment",
        "SELECT count(*) FROM meta",
        "SELECT max(version) FROM policy",
        "SELECT count(*) FROM account",
        "SELECT count(*) FROM (SELECT domain_id FROM rcpt WHERE state = 1 ORDER BY domain_id LIMIT 1)",
    };
    enum err e = OK;

    for (size_t i = 0; !e && i < COUNT_OF(reads); i++)
        e = sql_exec(db, reads[i]);
    return e;
}

static int first_column(void *arg, int columns, char **values, char **names)
{
    (void)names;
    if (columns > 0 && values[0])
        snprintf(arg, 100, "%s", values[0]);
    return 0;
}

static enum err quick_check(sqlite3 *db, const char *path, char **why)
{
    struct stat st;
    char said[100] = "ok";

    if (stat(path, &st) || st.st_size > QUICK_CHECK_MAX)
        return OK; /* would take minutes: pages are checked as they are read */
    enum err e = sql_err(sqlite3_exec(db, "PRAGMA quick_check(1)", first_column, said, NULL));
    if (!e && strcmp(said, "ok") == 0)
        return OK;
    *why = damaged(path, e ? sqlite3_errmsg(db) : said);
    return ERR_CORRUPT;
}

/* A migration, by this version or a newer one, stands in the WAL alone until the next checkpoint. */
static enum err current_version(sqlite3 *db, const char *path, unsigned *version, char **why)
{
    char said[100] = "0";
    enum err e = sql_err(sqlite3_exec(db, "PRAGMA user_version", first_column, said, NULL));

    *version = (unsigned)strtoul(said, NULL, 10);
    if (!e)
        return refuse_newer(path, *version, why);
    if (e == ERR_CORRUPT)
        *why = damaged(path, sqlite3_errmsg(db));
    else
        *why =
            text_format("cannot read %s: %s; see that the directory and its files are writable for the user "
                        "that runs the daemon",
                        path, sqlite3_errmsg(db));
    return e;
}

static enum err settle_in(sqlite3 *db, const char *path, char **why)
{
    unsigned version = 0;
    enum err e = current_version(db, path, &version, why);

    if (e) { /* what is refused stays as it is: its WAL is not checkpointed by closing */
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        return e;
    }
    e = sql_exec(db, "PRAGMA journal_mode = WAL");
    if (!e)
        e = sql_exec(db,
                     "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY;"
                     "PRAGMA cache_size = -16384; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON");
    if (!e && version < COUNT_OF(steps))
        e = schema_migrate(db, version, COUNT_OF(steps));
    if (!e)
        e = check_tables(db);
    if (!e)
        return quick_check(db, path, why);
    const char *said = sqlite3_errmsg(db);
    if (e == ERR_CORRUPT)
        *why = damaged(path, said);
    else if (e == ERR_NOSPACE)
        *why = text_format("cannot write %s: the disk is full; free some space", path);
    else
        *why = text_format(
            "cannot use %s: %s; see that the directory and its files are writable for the user that runs "
            "the daemon and that no other program has the file open for writing",
            path, said);
    return e;
}

enum err schema_open(const char *dir, bool may_create, sqlite3 **out, bool *created, char **why)
{
    BUF_LOCAL(path_buf);
    sqlite3 *db = NULL;
    enum err e = OK;

    buf_putf(&path_buf, "%s/queue.db", dir);
    const char *path = buf_str(&path_buf);
    *created = false;
    if (access(path, F_OK) && errno == ENOENT) {
        if (!may_create) {
            *why = text_format(
                "%s is missing although the data directory was in use: restore it, or remove the lock "
                "file and the spool folder too to begin with an empty queue",
                path);
            return ERR_NOT_FOUND;
        }
        e = create(dir, path, why);
        *created = !e;
    }
    if (!e)
        e = check_header(path, why);
    if (e)
        return e;
    e = open_file(path, SQLITE_OPEN_READWRITE, &db);
    if (e) {
        *why =
            text_format("cannot open %s for writing; give the user that runs the daemon access to it", path);
        return e;
    }
    e = settle_in(db, path, why);
    if (e) {
        sqlite3_close(db);
        return e;
    }
    *out = db;
    return OK;
}

enum err schema_open_reader(const char *dir, sqlite3 **out, char **why)
{
    BUF_LOCAL(path_buf);
    unsigned version = 0;
    sqlite3 *db = NULL;

    buf_putf(&path_buf, "%s/queue.db", dir);
    const char *path = buf_str(&path_buf);
    enum err e = check_header(path, why);
    if (e)
        return e;
    /* A reader of a WAL database needs the -shm file, hence READWRITE; query_only keeps it from writing. */
    e = open_file(path, SQLITE_OPEN_READWRITE, &db);
    if (!e)
        e = sql_exec(db,
                     "PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0; PRAGMA busy_timeout = 2000;"
                     "PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8192; PRAGMA trusted_schema = OFF");
    if (e) {
        *why = text_format("cannot read %s: %s", path, db ? sqlite3_errmsg(db) : "it cannot be opened");
        sqlite3_close(db);
        return e;
    }
    /* The last connection to close would checkpoint: that is the store's business alone. */
    (void)sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    e = current_version(db, path, &version, why);
    if (!e && version != COUNT_OF(steps)) {
        *why = text_format("%s has schema %u; start the daemon once, it brings it to %u", path, version,
                           (unsigned)COUNT_OF(steps));
        e = ERR_VERSION;
    }
    if (e) {
        sqlite3_close(db);
        return e;
    }
    *out = db;
    return OK;
}

/*
 * What a day file looks like: version 3.  WAL while it is written, synchronous=FULL, 0600.
 *
 *   word(id, text)          Texts that repeat.  In the other tables a text column holds the id of a
 *                           word, or the text itself where it has not repeated yet (typeof() tells),
 *                           or NULL.
 *   shape(id, …)            One combination of everything that reports count by.
 *   attempt(id, shape, …)   The records.  The id ascends over all files of all days; there is no
 *                           other index.
 *   rollup(hour, shape, …)  Sums per hour of attempt end, of exactly the attempts with
 *                           id <= state.rolled.  What is newer is added by whoever reads: so the sums
 *                           are exact at any instant, and are written once a second, not per record.
 *   mark(minute, id)        The first record committed in that minute of wall time.
 *   block(last_id, first_id, filter)
 *                           A Bloom filter over message ids, addresses and domains of BLOCK_ROWS
 *                           records: it finds one recipient's timeline without an index that every
 *                           record would pay for.
 *   session(id, …)          One per try for a session; ids count per file.  All texts are words.
 *   state(name, value)      "rolled": see rollup.
 *
 * The same word or shape may stand there twice (after a restart, or when more are in use than the
 * writer remembers): readers compare texts and columns, never ids.  So the writer only appends and
 * never looks anything up; with a hundred thousand domains a unique index on the texts doubled the
 * cost of a record.
 *
 * Version 1 had neither sessions nor the nine columns of shape from tls_kx on, version 2 not the last two of
 * them: there the source address stood in attempt, where it is read still.  The writer brings such a file up
 * to date when it goes on with it; a reader lays temporary views over the tables instead, which show what was
 * not known as "off", "none" and NULL, so that every query speaks of version 3.
 */
#include "queue/history_priv.h"

#include "base/bytes.h"

#define ONLY_IN_2                                                                                            \
    "tls_kx INTEGER, dane INTEGER NOT NULL DEFAULT 0, sts INTEGER NOT NULL DEFAULT 0,"                       \
    " failure INTEGER NOT NULL DEFAULT 0, expires_day INTEGER NOT NULL DEFAULT 0,"                           \
    " shadow INTEGER NOT NULL DEFAULT 0, shadow_group INTEGER"
#define ONLY_IN_3 "source INTEGER, ehlo INTEGER"
#define SESSION_COLUMNS                                                                                      \
    "session(id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, policy INTEGER NOT NULL, grp INTEGER,"          \
    " domain INTEGER NOT NULL, mx INTEGER, remote INTEGER, source INTEGER, helo INTEGER,"                    \
    " wanted INTEGER NOT NULL, effective INTEGER NOT NULL, why INTEGER NOT NULL, tls_version INTEGER,"       \
    " tls_cipher INTEGER, tls_kx INTEGER, verify INTEGER NOT NULL, dane INTEGER NOT NULL,"                   \
    " sts INTEGER NOT NULL, failure INTEGER NOT NULL, resumed INTEGER NOT NULL, offered INTEGER NOT NULL,"   \
    " fallback INTEGER NOT NULL, expires INTEGER NOT NULL, counted INTEGER NOT NULL,"                        \
    " policy_type INTEGER NOT NULL, policy_text INTEGER, policy_mx INTEGER, reason INTEGER)"

static const char schema[] =
    "CREATE TABLE word(id INTEGER PRIMARY KEY, text TEXT NOT NULL);"
    "CREATE TABLE shape(id INTEGER PRIMARY KEY, grp INTEGER NOT NULL, domain INTEGER NOT NULL, mx INTEGER,"
    " campaign INTEGER, tls_version INTEGER, tls_cipher INTEGER, accepted_day INTEGER NOT NULL,"
    " outcome INTEGER NOT NULL, next INTEGER NOT NULL, wanted INTEGER NOT NULL, effective INTEGER NOT NULL,"
    " why INTEGER NOT NULL, verify INTEGER NOT NULL, resumed INTEGER NOT NULL, offered INTEGER NOT NULL,"
    " fallback INTEGER NOT NULL, tls_failed INTEGER NOT NULL, " ONLY_IN_2 ", " ONLY_IN_3 ");"
    "CREATE TABLE attempt(id INTEGER PRIMARY KEY, shape INTEGER NOT NULL, message INTEGER NOT NULL,"
    " rcpt INTEGER NOT NULL, at_ms INTEGER NOT NULL, duration_ms INTEGER NOT NULL, size INTEGER NOT NULL,"
    " accepted INTEGER NOT NULL, address TEXT NOT NULL, account, sender, policy INTEGER NOT NULL,"
    " match INTEGER NOT NULL, pattern, remote, source, reused INTEGER NOT NULL, tries INTEGER NOT NULL,"
    " due INTEGER, stage INTEGER NOT NULL, code INTEGER NOT NULL, enhanced TEXT, said INTEGER NOT NULL,"
    " in_doubt INTEGER NOT NULL, text);"
    "CREATE TABLE rollup(hour INTEGER NOT NULL, shape INTEGER NOT NULL, attempts INTEGER NOT NULL,"
    " bytes INTEGER NOT NULL, duration_ms INTEGER NOT NULL, PRIMARY KEY(hour, shape)) WITHOUT ROWID;"
    "CREATE TABLE mark(minute INTEGER PRIMARY KEY, id INTEGER NOT NULL);"
    "CREATE TABLE block(last_id INTEGER PRIMARY KEY, first_id INTEGER NOT NULL, filter BLOB NOT NULL);"
    "CREATE TABLE " SESSION_COLUMNS ";"
    "CREATE TABLE state(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO state VALUES('rolled', 0);";

static const char from_1_to_2[] = "ALTER TABLE shape ADD COLUMN tls_kx INTEGER;"
                                  "ALTER TABLE shape ADD COLUMN dane INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE shape ADD COLUMN sts INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE shape ADD COLUMN failure INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE shape ADD COLUMN expires_day INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE shape ADD COLUMN shadow INTEGER NOT NULL DEFAULT 0;"
                                  "ALTER TABLE shape ADD COLUMN shadow_group INTEGER;"
                                  "CREATE TABLE " SESSION_COLUMNS ";";
static const char from_2_to_3[] =
    "ALTER TABLE shape ADD COLUMN source INTEGER; ALTER TABLE shape ADD COLUMN ehlo INTEGER;";

static const char views_over_1[] =
    "PRAGMA temp_store = MEMORY;"
    "CREATE TEMP VIEW shape AS SELECT id, grp, domain, mx, campaign, tls_version, tls_cipher, accepted_day,"
    " outcome, next, wanted, effective, why, verify, resumed, offered, fallback, tls_failed, NULL AS tls_kx,"
    " 0 AS dane, 0 AS sts, 0 AS failure, 0 AS expires_day, 0 AS shadow, NULL AS shadow_group, NULL AS source,"
    " NULL AS ehlo FROM main.shape;"
    "CREATE TEMP TABLE " SESSION_COLUMNS ";";
static const char views_over_2[] =
    "PRAGMA temp_store = MEMORY;"
    "CREATE TEMP VIEW shape AS SELECT *, NULL AS source, NULL AS ehlo FROM main.shape;";

static enum err run(sqlite3 *db, const char *sql)
{
    return history_sql_err(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

static enum err in_transaction(sqlite3 *db, const char *changes)
{
    BUF_LOCAL(sql);

    buf_putf(&sql, "BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
             changes, HISTORY_APPLICATION_ID, HISTORY_USER_VERSION);
    enum err e = run(db, buf_str(&sql));
    if (e)
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL); /* no transaction: no harm */
    return e;
}

static enum err read_version(sqlite3 *db, int64_t *application, int64_t *version, int64_t *tables)
{
    enum err e = history_sql_number(db, "PRAGMA application_id", 0, application);

    if (!e)
        e = history_sql_number(db, "PRAGMA user_version", 0, version);
    return e ? e : history_sql_number(db, "SELECT count(*) FROM sqlite_schema", 0, tables);
}

enum err history_schema_write(sqlite3 *db)
{
    int64_t application, version, tables;
    enum err e = read_version(db, &application, &version, &tables);

    if (e)
        return e;
    if (application == HISTORY_APPLICATION_ID && version >= 1 && version <= HISTORY_USER_VERSION) {
        if (!tables)
            return ERR_CORRUPT;
        if (version == HISTORY_USER_VERSION)
            return OK;
        BUF_LOCAL(changes);
        buf_putf(&changes, "%s %s", version == 1 ? from_1_to_2 : "", from_2_to_3);
        return in_transaction(db, buf_str(&changes));
    }
    if (tables || application || version)
        return ERR_VERSION;
    return in_transaction(db, schema);
}

enum err history_schema_read(sqlite3 *db)
{
    int64_t application, version, tables;
    enum err e = read_version(db, &application, &version, &tables);

    if (e)
        return e;
    if (!tables)
        return ERR_AGAIN;
    if (application != HISTORY_APPLICATION_ID || version < 1 || version > HISTORY_USER_VERSION)
        return ERR_VERSION;
    if (version < HISTORY_USER_VERSION)
        e = run(db, version == 1 ? views_over_1 : views_over_2);
    return e ? e : run(db, "PRAGMA query_only = 1");
}

/* Every statement of the hot path, prepared once.  Literal states let the partial indexes be used. */
#include "queue/store_priv.h"

#define RCPT_KEY " WHERE message_id = ?1 AND no = ?2"

static const char *const texts[ST_COUNT] = {
    [ST_BEGIN] = "BEGIN IMMEDIATE",
    [ST_BEGIN_READ] = "BEGIN",
    [ST_COMMIT] = "COMMIT",

    [ST_MESSAGES_ADD] =
        "INSERT INTO message(id, flags, accepted, sender, campaign, envid, account, ret, total, segment,"
        " offset, size, header_bytes, body_flags, checksum, expires, content_segment, content_offset)"
        " SELECT * FROM " STORE_ACCEPT_MESSAGE,
    [ST_RCPTS_ADD] =
        "INSERT INTO rcpt(message_id, no, domain_id, state, due, attempts, notify, delay_notified, address,"
        " orcpt, last_text, lane) SELECT * FROM " STORE_ACCEPT_RCPT,
    [ST_MESSAGE_DELETE] = "DELETE FROM message WHERE id = ?1",
    [ST_RCPT_DELETE] = "DELETE FROM rcpt" RCPT_KEY " AND state = ?3",
    [ST_RCPT_DELETE_RUN] = "DELETE FROM rcpt WHERE message_id = ?1 AND no BETWEEN ?2 AND ?3 AND state = ?4",
    [ST_RCPT_STATE] = "SELECT state FROM rcpt" RCPT_KEY,
    [ST_RCPT_ANY] = "SELECT 1 FROM rcpt WHERE message_id = ?1 LIMIT 1",
    [ST_MESSAGE_PLACE] =
        "SELECT segment, size, offset, header_bytes, content_segment FROM message WHERE id = ?1",
    [ST_MESSAGE_MOVE] = "UPDATE message SET segment = ?2, offset = ?3 WHERE id = ?1",

    [ST_RCPT_DEFER] = "UPDATE rcpt SET state = ?3, due = ?4, attempts = ?5, last_text = ?6" RCPT_KEY,
    [ST_RCPT_SET_STATE] = "UPDATE rcpt SET state = ?3" RCPT_KEY,
    [ST_RCPT_GIVE_BACK] = "UPDATE rcpt SET state = 1, due = max(due, ?3)" RCPT_KEY " AND state = 0",
    [ST_RCPT_DELAY_NOTIFIED] = "UPDATE rcpt SET delay_notified = 1" RCPT_KEY,

    [ST_FINAL_PUT] =
        "INSERT OR REPLACE INTO final(message_id, no, kind, stage, code, enhanced, remote, in_doubt, text,"
        " mx, at) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    [ST_FINAL_GET] = "SELECT kind, stage, code, enhanced, remote, in_doubt, text, mx, at FROM final" RCPT_KEY,
    [ST_FINAL_DELETE] = "DELETE FROM final" RCPT_KEY,

    [ST_DOMAIN_FIND] = "SELECT id FROM domain WHERE name = ?1",
    [ST_DOMAIN_ADD] = "INSERT INTO domain(name) VALUES(?1)",
    [ST_DOMAIN_NAME] = "SELECT name FROM domain WHERE id = ?1",

    [ST_SEGMENT_PUT] = "INSERT INTO segment(id, live_bytes, total_bytes) VALUES(?1, ?2, ?3)"
                       " ON CONFLICT(id) DO UPDATE SET live_bytes = ?2, total_bytes = ?3",
    [ST_SEGMENT_DELETE] = "DELETE FROM segment WHERE id = ?1",
    [ST_COUNTER_PUT] =
        "UPDATE counter SET messages = ?1, fresh = ?2, ready = ?3, held = ?4, dsn = ?5, bounce = ?6,"
        " cancel = ?7, paused = ?8, expire = ?9 WHERE id = 1",
    [ST_TALLY_ADD] = "INSERT INTO tally(day, campaign, messages, rcpts) VALUES(?1, ?2, ?3, ?4)"
                     " ON CONFLICT(day, campaign) DO UPDATE SET messages = messages + ?3, rcpts = rcpts + ?4",
    [ST_TALLY_PRUNE] = "DELETE FROM tally WHERE day < ?1",
    [ST_META_PUT] = "INSERT INTO meta(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = ?2",

    [ST_LANE_AFTER] = "SELECT lane, due FROM rcpt WHERE state = 1 AND domain_id = ?1 AND lane > ?2"
                      " ORDER BY lane, due LIMIT 1",
    [ST_LANE_ROWS] = "SELECT due, message_id, no FROM rcpt WHERE state = 1 AND domain_id = ?1 AND lane = ?2"
                     " AND (due, message_id, no) > (?3, ?4, ?5) AND due <= ?6 ORDER BY due, message_id, no",
    [ST_PAGE_MESSAGE] =
        "SELECT flags, accepted, sender, campaign, envid, account, ret, total, segment, offset, size,"
        " header_bytes, body_flags, checksum, expires, content_segment, content_offset FROM message WHERE id "
        "= ?1",
    [ST_PAGE_RCPT] = "SELECT domain_id, due, attempts, notify, delay_notified, address, orcpt, last_text"
                     " FROM rcpt" RCPT_KEY,
    [ST_FINAL_DUE] =
        "SELECT message_id, no FROM rcpt WHERE state <> 1 AND state = ?1 ORDER BY message_id, no",

    [ST_FRESH_LEFT] =
        "SELECT message_id, no, domain_id, lane FROM rcpt WHERE state <> 1 AND state = 0"
        " AND message_id <= ?3 AND (message_id, no) > (?1, ?2) ORDER BY message_id, no LIMIT ?4",
    /* Not `>`: SQLite would seek to the first row of the lane before, and read all of it. */
    [ST_NEXT_LANE] =
        "SELECT domain_id, lane, due FROM rcpt WHERE state = 1 AND (domain_id, lane) >= (?1, ?2 + 1)"
        " ORDER BY domain_id, lane, due LIMIT 1",

    [ST_CLOCK_ROWS] =
        "SELECT message_id, no, due, attempts FROM rcpt WHERE state = 1 AND domain_id = ?1"
        " AND lane = ?7 AND (due, message_id, no) > (?2, ?3, ?4) AND due < ?5 ORDER BY due, message_id, no"
        " LIMIT ?6",

    [ST_OP_BY_MESSAGE] = "SELECT message_id, no, domain_id, state, due, address, lane FROM rcpt"
                         " WHERE message_id = ?1 AND no > ?2 ORDER BY no LIMIT ?3",
    [ST_OP_BY_DOMAIN] =
        "SELECT message_id, no, domain_id, state, due, address, lane FROM rcpt WHERE state = 1"
        " AND domain_id = ?1 AND (lane, due, message_id, no) > (?6, ?2, ?3, ?4)"
        " ORDER BY lane, due, message_id, no LIMIT ?5",
    [ST_OP_OTHER] = "SELECT message_id, no, domain_id, state, due, address, lane FROM rcpt WHERE state <> 1 "
                    "AND state = ?1"
                    " AND (message_id, no) > (?2, ?3) ORDER BY message_id, no LIMIT ?4",
    [ST_OP_ALL] = "SELECT message_id, no, domain_id, state, due, address, lane FROM rcpt"
                  " WHERE (message_id, no) > (?1, ?2) ORDER BY message_id, no LIMIT ?3",
    [ST_RCPT_OP_DUE] = "UPDATE rcpt SET state = ?3, due = ?4" RCPT_KEY,

    [ST_POLICY_CURRENT] = "SELECT max(version) FROM policy",
    [ST_POLICY_ADD] = "INSERT INTO policy(version, at, author, comment, text) VALUES(?1, ?2, ?3, ?4, ?5)",
    [ST_ACCOUNT_PUT] =
        "INSERT OR REPLACE INTO account(name, salt, iterations, stored_key, server_key, sender_domains,"
        " networks, max_connections, messages_per_minute, disabled, created, certificates, campaign,"
        " priority) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    [ST_ACCOUNT_DELETE] = "DELETE FROM account WHERE name = ?1",
    [ST_ACCOUNT_ALL] =
        "SELECT name, salt, iterations, stored_key, server_key, sender_domains, networks,"
        " max_connections, messages_per_minute, disabled, created, certificates, campaign, priority"
        " FROM account ORDER BY name",
    [ST_KEEP_PUT] = "INSERT INTO keep(kind, key, at, value) VALUES(?1, ?2, ?3, ?4)"
                    " ON CONFLICT(kind, key) DO UPDATE SET at = ?3, value = ?4",
    [ST_KEEP_DROP] = "DELETE FROM keep WHERE kind = ?1 AND key = ?2",
    [ST_KEEP_GET] = "SELECT at, value FROM keep WHERE kind = ?1 AND key = ?2",
    [ST_KEEP_PAGE] = "SELECT max(key), count(*), min(at) FROM"
                     " (SELECT key, at FROM keep WHERE kind = ?1 AND key > ?2 ORDER BY key LIMIT ?3)",
    [ST_KEEP_PRUNE] = "DELETE FROM keep WHERE kind = ?1 AND key > ?2 AND key <= ?3 AND at < ?4"
                      " AND NOT EXISTS (SELECT 1 FROM keep d WHERE d.kind = ?5 AND d.key = keep.key)",
    [ST_DOMAIN_AFTER] = "SELECT id, name FROM domain WHERE id > ?1 ORDER BY id LIMIT ?2",
    [ST_DOMAIN_IS_READY] = "SELECT 1 FROM rcpt WHERE state = 1 AND domain_id = ?1 LIMIT 1",
    [ST_DOMAIN_OTHERS] = "SELECT DISTINCT domain_id FROM rcpt WHERE state <> 1 ORDER BY domain_id",
    [ST_DOMAIN_DELETE] = "DELETE FROM domain WHERE id = ?1",
};

enum err store_prepare(struct store *s)
{
    enum err made = store_make_row_tables(s);

    if (made)
        return made;
    for (int i = 0; i < ST_COUNT; i++) {
        enum err e = sql_prepare(s->db, &s->st[i], texts[i]);
        if (e) {
            log_error(NULL, "store.prepare", LOG_STR("sql", texts[i]),
                      LOG_STR("said", sqlite3_errmsg(s->db)));
            return e;
        }
    }
    return OK;
}

void store_finalize(struct store *s)
{
    for (int i = 0; i < ST_COUNT; i++)
        sqlite3_finalize(s->st[i]);
}

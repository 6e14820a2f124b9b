#include "queue/report_priv.h"

#include <string.h>

#include "base/clock.h"

/* A loose column holds a word's id or the text itself. */
#define LOOSE(column)                                                                                        \
    "CASE typeof(a." column ") WHEN 'integer' THEN (SELECT text FROM word WHERE id = a." column              \
    ") ELSE a." column " END"
#define WORD(column) "(SELECT text FROM word WHERE id = s." column ")"

const char record_select[] =
    "SELECT a.id, a.message, a.rcpt, a.at_ms, a.duration_ms, a.size, a.accepted, a.policy, a.match, "
    "a.reused,"
    " a.tries, a.due, a.stage, a.code, a.said, a.in_doubt," /* 0 … 15 */
    " s.outcome, s.next, s.wanted, s.effective, s.why, s.verify, s.resumed, s.offered, s.fallback," /* …
                                                                                                       24
                                                                                                     */
    " a.address, a.enhanced, " LOOSE("account") ", " LOOSE("sender") ", " LOOSE("pattern") ", " LOOSE(
        "remote") ", " /* … 30 */
                  "ifnull(" WORD("source") ", " LOOSE("source") "), " LOOSE("text") ", " WORD(
                      "grp") ", " WORD("domain") ", " WORD("mx") ", " WORD("campaign") ", " WORD("tls_"
                                                                                                 "versio"
                                                                                                 "n") ","
                                                                                                      " " WORD(
                                                                                                          "tl"
                                                                                                          "s_"
                                                                                                          "ci"
                                                                                                          "ph"
                                                                                                          "e"
                                                                                                          "r") ", " /* … 38 */
    WORD("tls_kx") ", s.dane, s.sts, s.failure, s.expires_day, s.shadow, " WORD("shadow_group") ", " WORD(
        "ehlo") /* … 46 */
    " FROM attempt a CROSS JOIN shape s ON s.id = a.shape ";

static const char *text_at(sqlite3_stmt *s, int column, struct arena *arena)
{
    const unsigned char *text = sqlite3_column_text(s, column);

    return text ? arena_dup(arena, bytes_make(text, (size_t)sqlite3_column_bytes(s, column))) : NULL;
}

static const char *text_or_empty(sqlite3_stmt *s, int column, struct arena *arena)
{
    const char *text = text_at(s, column, arena);

    return text ? text : "";
}

static void copy_into(char *to, size_t size, sqlite3_stmt *s, int column)
{
    const unsigned char *text = sqlite3_column_text(s, column);
    size_t len = text ? MIN_OF((size_t)sqlite3_column_bytes(s, column), size - 1) : 0;

    if (len)
        memcpy(to, text, len);
    to[len] = '\0';
}

void record_from_row(sqlite3_stmt *s, struct arena *arena, struct report_attempt *out)
{
    struct attempt *a = &out->attempt;
    struct outcome *o = &a->outcome;

    *out = (struct report_attempt){.id = (uint64_t)sqlite3_column_int64(s, 0)};
    a->message_id = (uint64_t)sqlite3_column_int64(s, 1);
    a->rcpt_no = (uint32_t)sqlite3_column_int64(s, 2);
    a->at_unix_ms = sqlite3_column_int64(s, 3);
    a->duration_ms = (uint32_t)sqlite3_column_int64(s, 4);
    a->size_bytes = (uint64_t)sqlite3_column_int64(s, 5);
    a->accepted_unix = sqlite3_column_int64(s, 6);
    a->policy_version = (uint64_t)sqlite3_column_int64(s, 7);
    a->match = (enum match_how)sqlite3_column_int(s, 8);
    a->reused = sqlite3_column_int(s, 9) != 0;
    a->attempts = (uint16_t)sqlite3_column_int(s, 10);
    a->due_unix = sqlite3_column_int64(s, 11);
    o->stage = (enum outcome_stage)sqlite3_column_int(s, 12);
    o->code = (uint16_t)sqlite3_column_int(s, 13);
    o->remote = sqlite3_column_int(s, 14) != 0;
    o->in_doubt = sqlite3_column_int(s, 15) != 0;
    o->kind = (enum outcome_kind)sqlite3_column_int(s, 16);
    a->then = (enum attempt_then)sqlite3_column_int(s, 17);
    a->tls_wanted = (enum tls_level)sqlite3_column_int(s, 18);
    a->tls_effective = (enum tls_level)sqlite3_column_int(s, 19);
    a->tls_why = (enum tls_why)sqlite3_column_int(s, 20);
    a->tls_verify = (enum tls_verify)sqlite3_column_int(s, 21);
    a->tls_resumed = sqlite3_column_int(s, 22) != 0;
    a->tls_offered = sqlite3_column_int(s, 23) != 0;
    a->fallback = sqlite3_column_int(s, 24) != 0;
    a->address = text_or_empty(s, 25, arena);
    copy_into(o->enhanced, sizeof(o->enhanced), s, 26);
    a->account = text_at(s, 27, arena);
    a->sender = text_or_empty(s, 28, arena);
    a->match_pattern = text_or_empty(s, 29, arena);
    a->remote = text_at(s, 30, arena);
    a->source = text_at(s, 31, arena);
    copy_into(o->text, sizeof(o->text), s, 32);
    a->group = text_or_empty(s, 33, arena);
    a->domain = text_or_empty(s, 34, arena);
    a->mx = text_at(s, 35, arena);
    a->campaign = text_at(s, 36, arena);
    a->tls_version = text_at(s, 37, arena);
    a->tls_cipher = text_at(s, 38, arena);
    a->tls_kx = text_at(s, 39, arena);
    a->dane = (enum dane_result)sqlite3_column_int(s, 40);
    a->sts = (enum sts_result)sqlite3_column_int(s, 41);
    a->tls_failure = (enum tls_failure)sqlite3_column_int(s, 42);
    a->cert_expires_unix = sqlite3_column_int64(s, 43) * SECS_PER_DAY;
    a->shadow = (uint8_t)sqlite3_column_int(s, 44);
    a->shadow_group = text_at(s, 45, arena);
    a->ehlo_name = text_at(s, 46, arena);
}

static int past_deadline(void *arg)
{
    const struct report_deadline *d = arg;

    return clock_now_ms() >= d->at_ms;
}

void report_set_deadline(sqlite3 *db, struct report_deadline *d)
{
    if (d->at_ms)
        sqlite3_progress_handler(db, 10000, past_deadline, d);
}

void report_bind_text(sqlite3_stmt *s, int at, const char *text)
{
    if (text)
        sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC);
    else
        sqlite3_bind_null(s, at);
}

/* Rules beside the live ones: the shadow, what it would have done, and what a document would have done. */
#include "base/clock.h"
#include "base/mem.h"
#include "engine/shadow.h"
#include "engine/policy_files.h"
#include "queue/report_shadow.h"
#include "webui-api/csv.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/policy_reply.h"
#include "webui-api/queue_view.h"
#include "webui-api/routes.h"

#define REPORT_LIMIT_MS 60000
#define WHATIF_SINCE_S  (7 * 86400)

DEFINE_CLEANUP(struct shadow *, shadow_unref)
DEFINE_CLEANUP(struct policy *, policy_unref)

/* ---- the rules ---- */

static void put_info(struct buf *out, const struct shadow *s)
{
    json_put_count(out, "version", policy_version(s->policy));
    json_put_text(out, "author", s->author);
    json_put_text(out, "comment", s->comment);
    json_put_int(out, "at_unix", s->at_unix);
}

void get_policy_shadow(struct request *r)
{
    CLEANUP(shadow_unref) struct shadow *s = engine_shadow(r->engine);
    struct buf *out = &r->reply.body;

    if (!s) {
        reply_error(r, 404, "not_found", "there are no shadow rules");
        return;
    }
    json_begin(out, NULL, '{');
    put_info(out, s);
    json_put_bytes(out, "text", policy_text(s->policy));
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

void post_policy_shadow(struct request *r)
{
    struct yaml_errors errors = {.name = POLICY_NAME};
    const char *comment = "";
    uint64_t version = 0;
    struct bytes text;

    if (!policy_comment(r, &comment) || !policy_body(r, &text))
        return;
    enum err e = engine_shadow_apply(r->engine, text, r->user, comment, &version, &errors);
    if (e == ERR_INVALID && errors.errors) {
        policy_reply_errors(r, &errors, "the shadow rules stay as they were");
    } else if (e) {
        reply_err(r, e, "the shadow rules");
    } else {
        policy_reply_version(r, version, &errors);
    }
    yaml_errors_fini(&errors);
}

void delete_policy_shadow(struct request *r)
{
    enum err e = engine_shadow_clear(r->engine, r->user);

    if (e == ERR_NOT_FOUND) {
        reply_error(r, 404, "not_found", "there are no shadow rules");
    } else if (e) {
        reply_err(r, e, "the shadow rules");
    } else {
        json_begin(&r->reply.body, NULL, '{');
        json_end(&r->reply.body, '}');
        reply_ok(r, TYPE_JSON);
    }
}

/* ---- what is asked ---- */

struct question {
    struct report_shadow_query query;
    bool csv;
};

static bool read_question(struct request *r, struct question *q)
{
    static const char *const by_words[] = {"group",    "new-group", "domain",   "mx",
                                           "campaign", "reason",    "recipient"};
    static const char *const changed_words[] = {"no", "yes"};
    static const char *const format_words[] = {"json", "csv"};
    int by = 0, format = 0, changed = 0;
    uint64_t limit = 0;
    const char *domain = param_text(r, "domain");

    if (domain && *domain && !param_domain(r, "domain", &domain))
        return false;
    if (!param_time(r, "since", &q->query.since_unix) || !param_time(r, "until", &q->query.until_unix) ||
        !param_word(r, "by", by_words, COUNT_OF(by_words), &by) ||
        !param_word(r, "changed", changed_words, COUNT_OF(changed_words), &changed) ||
        !param_word(r, "format", format_words, COUNT_OF(format_words), &format) ||
        !param_count(r, "limit", 0, REPORT_KEYS_MAX, &limit))
        return false;
    if (q->query.until_unix && q->query.since_unix >= q->query.until_unix) {
        reply_error(r, 400, "invalid", "'since' must be before 'until'");
        return false;
    }
    q->query.by = (enum report_shadow_by)by;
    q->query.only_changed = changed == 1;
    q->query.limit = (size_t)limit;
    q->query.group = param_text(r, "group");
    q->query.domain = domain;
    q->query.mx = param_text(r, "mx");
    q->query.campaign = param_text(r, "campaign");
    q->query.timeout_ms = REPORT_LIMIT_MS;
    q->csv = format == 1;
    return true;
}

/* ---- what is answered ---- */

struct column {
    const char *name;
    size_t offset; /* of the uint64_t in the row */
};
#define COLUMN(field)                                                                                        \
    {                                                                                                        \
#field, offsetof(struct report_shadow_row, field)                                                    \
    }
static const struct column columns[] = {
    COLUMN(delivered), COLUMN(same),   COLUMN(held), COLUMN(clear),      COLUMN(tls),
    COLUMN(unknown),   COLUMN(waited), COLUMN(pass), COLUMN(pass_clear), COLUMN(waited_unknown),
};

static uint64_t value_of(const struct report_shadow_row *row, const struct column *c)
{
    uint64_t value;

    memcpy(&value, (const char *)row + c->offset, sizeof(value));
    return value;
}

static void put_levels(struct buf *out, const char *key, uint32_t levels)
{
    json_begin(out, key, '[');
    for (unsigned i = 0; i <= TLS_REQUIRETLS; i++)
        if (levels & BIT(i))
            json_put_text(out, NULL, tls_level_name((enum tls_level)i));
    json_end(out, ']');
}

static void put_row(struct buf *out, const struct report_shadow_row *row)
{
    for (size_t i = 0; i < COUNT_OF(columns); i++)
        json_put_count(out, columns[i].name, value_of(row, &columns[i]));
    put_levels(out, "old_levels", row->old_levels);
    put_levels(out, "new_levels", row->new_levels);
    json_begin(out, "reasons", '[');
    for (size_t i = 0; i < row->reason_count; i++) {
        json_begin(out, NULL, '{');
        json_put_text(out, "verdict", judge_verdict_name(row->reasons[i].verdict));
        json_put_text(out, "reason", judge_verdict_reason(row->reasons[i].verdict));
        json_put_count(out, "count", row->reasons[i].count);
        json_end(out, '}');
    }
    json_end(out, ']');
}

static void put_json(struct request *r, const struct question *q, const struct report_shadow *report,
                     const struct shadow *shadow, const struct yaml_errors *notices)
{
    const char *by = report_shadow_by_name(q->query.by);
    struct buf *out = &r->reply.body;

    json_begin(out, NULL, '{');
    json_put_text(out, "by", by);
    json_put_int(out, "since_unix", report->span.since_unix);
    json_put_int(out, "until_unix", report->span.until_unix);
    json_put_count(out, "rows_in_all", report->span.rows_in_all);
    json_put_count(out, "days_skipped", report->span.files_skipped);
    json_put_count(out, "unjudged", report->unjudged);
    if (notices) {
        policy_put_complaints(out, "notices", notices, true);
    } else if (shadow) {
        json_begin(out, "shadow", '{');
        put_info(out, shadow);
        json_end(out, '}');
    } else {
        json_put_null(out, "shadow");
    }
    json_begin(out, "rows", '[');
    for (size_t i = 0; i < report->count; i++) {
        json_begin(out, NULL, '{');
        json_put_text(out, by, report->rows[i].key);
        put_row(out, &report->rows[i]);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_begin(out, "totals", '{');
    put_row(out, &report->total);
    json_end(out, '}');
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

static void csv_levels(struct buf *out, uint32_t levels)
{
    BUF_LOCAL(text);

    for (unsigned i = 0; i <= TLS_REQUIRETLS; i++)
        if (levels & BIT(i))
            buf_putf(&text, "%s%s", text.len ? " " : "", tls_level_name((enum tls_level)i));
    csv_text(out, buf_str(&text));
}

static void put_csv(struct request *r, const struct question *q, const struct report_shadow *report)
{
    struct buf *out = &r->reply.body;

    csv_text(out, report_shadow_by_name(q->query.by));
    for (size_t i = 0; i < COUNT_OF(columns); i++)
        csv_text(out, columns[i].name);
    csv_text(out, "old_levels");
    csv_text(out, "new_levels");
    csv_text(out, "reasons");
    csv_end(out);
    for (size_t i = 0; i < report->count; i++) {
        const struct report_shadow_row *row = &report->rows[i];
        BUF_LOCAL(reasons);

        csv_text(out, row->key);
        for (size_t c = 0; c < COUNT_OF(columns); c++)
            csv_count(out, value_of(row, &columns[c]));
        csv_levels(out, row->old_levels);
        csv_levels(out, row->new_levels);
        for (size_t n = 0; n < row->reason_count; n++)
            buf_putf(&reasons, "%s%s:%llu", n ? " " : "", judge_verdict_name(row->reasons[n].verdict),
                     (unsigned long long)row->reasons[n].count);
        csv_text(out, buf_str(&reasons));
        csv_end(out);
    }
    reply_ok(r, TYPE_CSV);
}

static void answer(struct request *r, const struct question *q, const struct shadow *shadow,
                   const struct yaml_errors *notices)
{
    struct report_shadow report = {0};
    enum err e = report_shadow(view_data_dir(r), &q->query, &report);

    if (e) {
        reply_err(r, e, "the report");
        return;
    }
    if (q->csv)
        put_csv(r, q, &report);
    else
        put_json(r, q, &report, shadow, notices);
    report_shadow_fini(&report);
}

/* ---- judging ---- */

#define OLDER_MAX 20

struct rules {
    const struct policy *live, *other;
    struct policy *older[OLDER_MAX]; /* owned; versions that were in force in the span, but the newest */
    size_t older_count;
    bool too_many; /* of them, or one that does not compile any more */
};

static void rules_fini(struct rules *rules)
{
    while (rules->older_count)
        policy_unref(rules->older[--rules->older_count]);
}

static bool take_older(struct rules *rules, const char *text)
{
    struct yaml_errors errors = {.name = POLICY_NAME};
    enum err e = policy_parse(POLICY_NAME, bytes_of(text), 1, &rules->older[rules->older_count], &errors);

    yaml_errors_fini(&errors);
    rules->older_count += !e;
    return !e;
}

/* What was recorded under rules that have changed since must not be read as if it were under those of now. */
static bool read_older(struct request *r, struct rules *rules, int64_t since_unix)
{
    CLEANUP(browse_close) struct browse *b = view_open(r);
    struct browse_policy *versions = NULL;
    size_t count = 0;

    if (!b)
        return false;
    enum err e = browse_policies(b, 0, OLDER_MAX + 1, &r->arena, &versions, &count);
    if (e) {
        reply_err(r, e, "the policy's history");
        return false;
    }
    for (size_t i = 1; i < count && versions[i - 1].at_unix > since_unix; i++) {
        char *text = NULL;

        if (browse_policy_text(b, versions[i].version, &r->arena, NULL, &text) || !take_older(rules, text))
            rules->too_many = true;
        mem_free(text);
    }
    if (count == OLDER_MAX + 1 && versions[count - 1].at_unix > since_unix && versions[count - 1].version > 1)
        rules->too_many = true;
    return true;
}

/* The group that decided, if its checks were the same the whole time; else NULL. */
static const struct group *live_group(const struct rules *rules, const char *name)
{
    const struct group *g = rules->too_many || !name ? NULL : policy_group_by_name(rules->live, name);

    for (size_t i = 0; g && i < rules->older_count; i++) {
        const struct group *older = policy_group_by_name(rules->older[i], name);

        if (older && !judge_same_checks(older, g))
            g = NULL;
    }
    return g;
}

static bool level_of(void *arg, const char *name, enum tls_level *level)
{
    const struct rules *rules = arg;
    const struct group *g = rules->other ? policy_group_by_name(rules->other, name) : NULL;

    if (g)
        *level = g->dane == DANE_ONLY && g->starttls != TLS_OFF ? TLS_DANE_ONLY : g->starttls;
    return g != NULL;
}

/* Of the MX hosts only the one that was used is on record. */
static uint8_t judge(void *arg, const struct report_judged *what, const char **new_group)
{
    const struct rules *rules = arg;
    const struct bytes mx = bytes_of(what->mx);
    const struct group *live = live_group(rules, what->group);
    const struct group *other = policy_match_domain(rules->other, bytes_of(what->domain)).group;

    if (!other)
        other = policy_match_mx(rules->other, &mx, mx.len ? 1 : 0).group;
    *new_group = other->name;
    return (uint8_t)judge_attempt(&what->facts, live, other);
}

/* Without `since`: from when the rules came into force. */
void get_report_shadow(struct request *r)
{
    CLEANUP(shadow_unref) struct shadow *s = engine_shadow(r->engine);
    struct rules rules = {.other = s ? s->policy : NULL};
    struct question q = {.query = {.since_unix = s ? s->at_unix : 0, .level = level_of, .arg = &rules}};

    if (read_question(r, &q))
        answer(r, &q, s, NULL);
}

void post_policy_whatif(struct request *r)
{
    CLEANUP(policy_unref) struct policy *live = engine_policy(r->engine);
    CLEANUP(policy_unref) struct policy *other = NULL;
    struct yaml_errors errors = {.name = POLICY_NAME};
    struct rules rules = {.live = live};
    struct question q = {
        .query = {
            .since_unix = clock_unix() - WHATIF_SINCE_S, .judge = judge, .level = level_of, .arg = &rules}};
    struct bytes text;

    if (!read_question(r, &q) || !policy_body(r, &text))
        return;
    BUF_LOCAL(whole);
    if (policy_files_complete(engine_conf(r->engine), text, &whole, &errors) != OK ||
        policy_parse(POLICY_NAME, buf_bytes(&whole), 1, &other, &errors) != OK) {
        policy_reply_errors(r, &errors, "nothing was judged");
    } else if (read_older(r, &rules, q.query.since_unix)) {
        rules.other = other;
        answer(r, &q, NULL, &errors);
    }
    rules_fini(&rules);
    yaml_errors_fini(&errors);
}

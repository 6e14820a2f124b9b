/* Transport security beyond sums: certificates of receivers that end soon, and the register of downgrades. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/yaml.h"
#include "engine/tlswatch.h"
#include "queue/report_sessions.h"
#include "webui-api/csv.h"
#include "webui-api/json_write.h"
#include "webui-api/params.h"
#include "webui-api/queue_view.h"
#include "webui-api/routes.h"

#define REPORT_LIMIT_MS 30000
#define WITHIN_PRESET_S (30 * 86400)
#define ROWS_MAX        250000

static const char *const format_words[] = {"json", "csv"};

/* ---- certificates ---- */

static bool param_span_s(struct request *r, const char *name, int64_t *out)
{
    const char *text = param_text(r, name);
    uint64_t ms;

    if (!text)
        return true;
    if (yaml_parse_duration_ms(bytes_of(text), &ms) && ms <= (uint64_t)INT64_MAX / 2) {
        *out = (int64_t)(ms / 1000);
        return true;
    }
    reply_error(r, 400, "invalid", "'%s' takes a span like 30d or 12h, not '%s'", name, text);
    return false;
}

static void certificate_json(struct buf *out, const struct report_certificate *c, int64_t now)
{
    json_begin(out, NULL, '{');
    json_put_text(out, "mx", c->mx);
    json_put_int(out, "expires_unix", c->expires_unix);
    json_put_int(out, "seconds_left", c->expires_unix - now);
    json_put_int(out, "seen_unix", c->seen_unix);
    json_put_text(out, "verify", tls_verify_name(c->verify));
    json_put_text(out, "remote", c->remote);
    json_put_text(out, "domain", c->domain);
    json_put_count(out, "domains", c->domains);
    json_put_count(out, "sessions", c->sessions);
    json_end(out, '}');
}

static void certificate_csv(struct buf *out, const struct report_certificate *c)
{
    char text[CLOCK_TEXT_BYTES];

    csv_text(out, c->mx);
    csv_text(out, clock_format_utc(c->expires_unix, text));
    csv_text(out, clock_format_utc(c->seen_unix, text));
    csv_text(out, tls_verify_name(c->verify));
    csv_text(out, c->remote);
    csv_text(out, c->domain);
    csv_count(out, c->domains);
    csv_count(out, c->sessions);
    csv_end(out);
}

static void put_certificates(struct request *r, const struct report_certificates *c, bool csv, int64_t now,
                             int64_t before)
{
    static const char *const columns[] = {"mx",     "expires", "seen",    "verify",
                                          "remote", "domain",  "domains", "sessions"};
    struct buf *out = &r->reply.body;

    if (csv) {
        for (size_t i = 0; i < COUNT_OF(columns); i++)
            csv_text(out, columns[i]);
        csv_end(out);
        for (size_t i = 0; i < c->count; i++)
            certificate_csv(out, &c->rows[i]);
        reply_ok(r, TYPE_CSV);
        return;
    }
    json_begin(out, NULL, '{');
    json_put_int(out, "now_unix", now);
    json_put_int(out, "before_unix", before);
    json_put_count(out, "rows_in_all", c->in_all);
    json_put_count(out, "days_skipped", c->files_skipped);
    json_begin(out, "rows", '[');
    for (size_t i = 0; i < c->count; i++)
        certificate_json(out, &c->rows[i], now);
    json_end(out, ']');
    json_end(out, '}');
    reply_ok(r, TYPE_JSON);
}

void get_report_certificates(struct request *r)
{
    struct report_certificates_query q = {.timeout_ms = REPORT_LIMIT_MS};
    struct report_certificates found = {0};
    int64_t within = WITHIN_PRESET_S, now = clock_unix();
    uint64_t limit = 0;
    int format = 0;

    if (!param_span_s(r, "within", &within) || !param_time(r, "since", &q.since_unix) ||
        !param_count(r, "limit", 0, ROWS_MAX, &limit) ||
        !param_word(r, "format", format_words, COUNT_OF(format_words), &format))
        return;
    q.before_unix = now + within;
    q.limit = (size_t)limit;
    enum err e = report_certificates(view_data_dir(r), &q, &found);
    if (e) {
        reply_err(r, e, "the report");
        return;
    }
    put_certificates(r, &found, format == 1, now, q.before_unix);
    report_certificates_fini(&found);
}

/* ---- downgrades ---- */

static const char *const state_words[] = {"open", "approved", "over"};

static const char *text_of(const json_t *o, const char *key)
{
    const char *text = json_string_value(json_object_get(o, key));

    return text ? text : "";
}

static void downgrades_csv(struct buf *out, const json_t *rows, const char *state)
{
    static const char *const texts[] = {"domain", "mx", "remote", "from", "to", "state"};
    static const char *const times[] = {"first_unix", "last_unix"};
    char moment[CLOCK_TEXT_BYTES];
    json_t *o;
    size_t i;

    for (size_t k = 0; k < COUNT_OF(texts); k++)
        csv_text(out, texts[k]);
    csv_text(out, "first");
    csv_text(out, "last");
    csv_text(out, "count");
    csv_text(out, "evidence");
    csv_text(out, "approved_by");
    csv_end(out);
    json_array_foreach(rows, i, o)
    {
        if (state && strcmp(text_of(o, "state"), state) != 0)
            continue;
        for (size_t k = 0; k < COUNT_OF(texts); k++)
            csv_text(out, text_of(o, texts[k]));
        for (size_t k = 0; k < COUNT_OF(times); k++)
            csv_text(out, clock_format_utc(json_integer_value(json_object_get(o, times[k])), moment));
        csv_count(out, (uint64_t)json_integer_value(json_object_get(o, "count")));
        csv_text(out, text_of(o, "evidence"));
        csv_text(out, text_of(o, "approved_by"));
        csv_end(out);
    }
}

static void downgrades_json(struct buf *out, const json_t *rows, const char *state)
{
    uint64_t open = 0;
    json_t *o;
    size_t i;

    json_begin(out, NULL, '{');
    json_begin(out, "rows", '[');
    json_array_foreach(rows, i, o)
    {
        open += strcmp(text_of(o, "state"), "open") == 0;
        if (!state || strcmp(text_of(o, "state"), state) == 0)
            json_put_tree(out, NULL, o);
    }
    json_end(out, ']');
    json_put_count(out, "open", open);
    json_end(out, '}');
}

void get_downgrades(struct request *r)
{
    const char *domain = NULL;
    int state = -1, format = 0;
    json_t *rows = NULL;

    if (!param_domain(r, "domain", &domain) ||
        !param_word(r, "state", state_words, COUNT_OF(state_words), &state) ||
        !param_word(r, "format", format_words, COUNT_OF(format_words), &format))
        return;
    enum err e = tls_downgrades_list(view_data_dir(r), domain, &rows);
    if (e) {
        reply_err(r, e, "the register");
        return;
    }
    const char *only = state < 0 ? NULL : state_words[state];
    if (format == 1)
        downgrades_csv(&r->reply.body, rows, only);
    else
        downgrades_json(&r->reply.body, rows, only);
    reply_ok(r, format == 1 ? TYPE_CSV : TYPE_JSON);
    json_decref(rows);
}

struct operation {
    enum tls_downgrade_op op;
    const char *name, *domain, *mx;
    bool all;
    const char **domains; /* arena */
    size_t count;
};

static bool read_operation(struct request *r, struct operation *o)
{
    static const char *const op_words[] = {"approve", "forget"};
    static const char *const all_words[] = {"no", "yes"};
    int op = -1, all = 0;

    if (!param_domain(r, "domain", &o->domain) || !param_domain(r, "mx", &o->mx) ||
        !param_word(r, "op", op_words, COUNT_OF(op_words), &op) ||
        !param_word(r, "all", all_words, COUNT_OF(all_words), &all))
        return false;
    o->all = all == 1;
    if (op < 0) {
        reply_error(r, 400, "invalid", "'op' is missing");
        return false;
    }
    if (o->all ? o->domain || o->mx : !o->domain && !o->mx) {
        reply_error(r, 400, "invalid",
                    o->all ? "'all' goes without domain and mx"
                           : "say which: a domain, an mx, both, or all=yes");
        return false;
    }
    o->op = op == 0 ? TLS_DOWNGRADE_APPROVE : TLS_DOWNGRADE_FORGET;
    o->name = op_words[op];
    return true;
}

/* The domains that the register has entries of which are meant. */
static enum err find_domains(struct request *r, struct operation *o)
{
    const char *last = NULL;
    json_t *rows = NULL, *row;
    size_t i;

    if (o->domain) { /* also one without an entry: what was seen of it can be forgotten */
        o->domains = arena_alloc(&r->arena, sizeof(*o->domains));
        o->domains[o->count++] = o->domain;
        return OK;
    }
    enum err e = tls_downgrades_list(view_data_dir(r), NULL, &rows);
    if (e)
        return e;
    o->domains = arena_alloc(&r->arena, (json_array_size(rows) + 1) * sizeof(*o->domains));
    json_array_foreach(rows, i, row)
    {
        const char *domain = text_of(row, "domain");
        bool open = o->op != TLS_DOWNGRADE_APPROVE || strcmp(text_of(row, "state"), "open") == 0;
        bool here = !o->mx || strcmp(text_of(row, "mx"), o->mx) == 0;
        if (!open || !here || (last && strcmp(last, domain) == 0)) /* they come by domain */
            continue;
        last = o->domains[o->count++] = arena_strdup(&r->arena, domain);
    }
    json_decref(rows);
    return OK;
}

void post_downgrades(struct request *r)
{
    struct operation o = {0};
    uint64_t changed = 0;

    if (!read_operation(r, &o))
        return;
    enum err e = find_domains(r, &o);
    if (!e)
        e = engine_downgrades_change(r->engine, o.op, o.domains, o.count, o.mx, r->user, &changed);
    if (e == ERR_NOT_FOUND) {
        reply_error(r, 404, "not_found",
                    o.op == TLS_DOWNGRADE_APPROVE ? "there is no such open downgrade%s%s%s%s"
                                                  : "there is nothing to forget%s%s%s%s",
                    o.domain ? " of " : "", o.domain ? o.domain : "", o.mx ? " at " : "", o.mx ? o.mx : "");
        return;
    }
    if (e) {
        reply_err(r, e, "the register");
        return;
    }
    json_begin(&r->reply.body, NULL, '{');
    json_put_text(&r->reply.body, "op", o.name);
    json_put_text(&r->reply.body, "domain", o.domain);
    json_put_text(&r->reply.body, "mx", o.mx);
    json_put_count(&r->reply.body, "domains", o.count);
    json_put_count(&r->reply.body, "changed", changed);
    json_end(&r->reply.body, '}');
    reply_ok(r, TYPE_JSON);
}

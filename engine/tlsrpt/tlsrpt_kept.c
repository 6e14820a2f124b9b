/*
 * What is kept of a report: a line of JSON, and the gzipped octets until they are handed over.
 *
 *     {"state":"trying","domain":"example.com","begin_unix":…,"end_unix":…,"report_id":"…","file":"…",
 *      "rua":["mailto:…","https://…"],"tries":1,"first_unix":…,"next_unix":…,"at_unix":…,"successful":…,"failed":…,
 *      "bytes":…,"sent_to":["…"],"failures":[{"rua":"…","why":"…"}]} LF octets
 *
 * States: lookup (the TXT record could not be had yet), trying, sent, failed (given up), none (no reports
 * wanted).
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/tlsrpt/gzip.h"
#include "engine/tlsrpt/tlsrpt_priv.h"

#define HEAD_ROOM 65536 /* the longest head: its URIs stand in it up to three times */

static struct reporter reporter_make(const char *dir, const char *host_name, const struct conf *conf)
{
    return (struct reporter){
        .dir = mem_strdup(dir),
        .host_name = mem_strdup(host_name),
        .organization = mem_strdup(conf->tlsrpt.organization ? conf->tlsrpt.organization : ""),
        .contact = mem_strdup(conf->tlsrpt.contact ? conf->tlsrpt.contact : ""),
    };
}

void reporter_init(struct reporter *r, const struct worker *w)
{
    *r = reporter_make(worker_conf(w)->data_dir, w->shared->host_name, worker_conf(w));
}

void reporter_fini(struct reporter *r)
{
    mem_free(r->dir);
    mem_free(r->host_name);
    mem_free(r->organization);
    mem_free(r->contact);
    *r = (struct reporter){0};
}

void tlsrpt_key(int64_t begin_unix, const char *domain, bool part, struct buf *out)
{
    char day[TLSRPT_DAY_BYTES];

    buf_putf(out, "%s/%s%s", tlsrpt_day_format(begin_unix, day), domain, part ? PART_SUFFIX : "");
}

/* ---- values ---- */

struct bytes tlsrpt_kept_head(struct bytes value)
{
    return bytes_first(value, bytes_find(value, '\n'));
}

void tlsrpt_kept_format(const json_t *head, struct bytes gz, struct buf *out)
{
    char *text = json_dumps(head, JSON_COMPACT);

    if (text)
        buf_puts(out, text);
    free(text);
    buf_putc(out, '\n');
    buf_put(out, gz);
}

bool tlsrpt_kept_parse(struct bytes value, json_t **head, struct bytes *gz)
{
    struct bytes line = tlsrpt_kept_head(value);
    json_error_t error;
    json_t *root = json_loadb(line.at ? line.at : "", line.len, 0, &error);

    if (!json_is_object(root)) {
        json_decref(root);
        return false;
    }
    *head = root;
    *gz = bytes_skip(value, line.len + 1);
    return true;
}

json_int_t tlsrpt_head_int(const json_t *head, const char *name)
{
    return json_integer_value(json_object_get(head, name));
}

const char *tlsrpt_head_text(const json_t *head, const char *name)
{
    const char *text = json_string_value(json_object_get(head, name));

    return text ? text : "";
}

json_t *tlsrpt_head_make(const char *domain, int64_t begin_unix, bool part)
{
    int64_t now = clock_unix(), end = begin_unix + DAY_SECONDS - 1;

    return json_pack("{s:s, s:s, s:I, s:I, s:b, s:i, s:I, s:I, s:I}", "state", "lookup", "domain", domain,
                     "begin_unix", (json_int_t)begin_unix, "end_unix",
                     (json_int_t)(part ? MIN_OF(now, end) : end), "part", part, "tries", 0, "first_unix",
                     (json_int_t)now, "next_unix", (json_int_t)now, "at_unix", (json_int_t)now);
}

/* ---- URIs ---- */

json_t *tlsrpt_rua_list(const struct tlsrpt_record *record)
{
    json_t *list = json_array();

    for (size_t i = 0; i < record->count; i++) {
        const struct tlsrpt_rua *rua = &record->rua[i];
        char *uri = text_format("%s%s", rua->https ? "" : "mailto:", rua->to);
        json_array_append_new(list, json_string(uri));
        mem_free(uri);
    }
    return list;
}

bool tlsrpt_rua_at(const json_t *head, size_t i, struct tlsrpt_rua *out)
{
    const char *uri = json_string_value(json_array_get(json_object_get(head, "rua"), i));

    if (!uri)
        return false;
    bool mail = bytes_starts(bytes_of(uri), BYTES("mailto:"));
    *out = (struct tlsrpt_rua){.https = !mail, .to = uri + (mail ? strlen("mailto:") : 0)};
    return true;
}

/* ---- octets ---- */

static void name_report(const struct reporter *r, json_t *head)
{
    const char *domain = tlsrpt_head_text(head, "domain");
    json_int_t begin = tlsrpt_head_int(head, "begin_unix");
    bool part = json_is_true(json_object_get(head, "part"));
    char day[TLSRPT_DAY_BYTES], unique[TLSRPT_UNIQUE_BYTES], submitter[256] = "";
    BUF_LOCAL(file);

    if (!tlsrpt_submitter(r->contact, submitter))
        snprintf(submitter, sizeof(submitter), "%.255s", r->host_name);
    tlsrpt_unique_id(r->host_name, domain, part ? tlsrpt_head_int(head, "end_unix") : begin, unique);
    char *id = text_format("%s.%s@%s", tlsrpt_day_format(begin, day), unique, submitter);
    json_object_set_new(head, "report_id", json_string(id));
    mem_free(id);
    struct tlsrpt_about about = tlsrpt_about_of(r, head);
    tlsrpt_file_name(&about, unique, &file);
    json_object_set_new(head, "file", json_string(buf_str(&file)));
}

struct tlsrpt_about tlsrpt_about_of(const struct reporter *r, const json_t *head)
{
    return (struct tlsrpt_about){
        .organization = r->organization,
        .contact = r->contact,
        .domain = tlsrpt_head_text(head, "domain"),
        .report_id = tlsrpt_head_text(head, "report_id"),
        .begin_unix = tlsrpt_head_int(head, "begin_unix"),
        .end_unix = tlsrpt_head_int(head, "end_unix"),
    };
}

void tlsrpt_octets_make(const struct reporter *r, const struct report_session_sum *rows, size_t count,
                        json_t *head, struct buf *gz)
{
    struct tlsrpt_totals totals;

    name_report(r, head);
    struct tlsrpt_about about = tlsrpt_about_of(r, head);
    for (size_t details = TLSRPT_DETAILS_MAX;; details /= 2) {
        BUF_LOCAL(json);
        buf_clear(gz);
        tlsrpt_report_format(&about, rows, count, details, &json, &totals);
        gzip_pack(buf_bytes(&json), gz);
        if (gz->len <= KEEP_VALUE_MAX - HEAD_ROOM || !details)
            break;
    }
    json_object_set_new(head, "successful", json_integer((json_int_t)totals.successful));
    json_object_set_new(head, "failed", json_integer((json_int_t)totals.failed));
    json_object_set_new(head, "bytes", json_integer((json_int_t)gz->len));
}

enum err tlsrpt_build(const char *dir, const char *host_name, const struct conf *conf, const char *domain,
                      int64_t begin_unix, uint32_t timeout_ms, struct buf *json)
{
    const struct report_sessions_query query = {
        .since_unix = begin_unix,
        .until_unix = begin_unix + DAY_SECONDS,
        .domain = domain,
        .timeout_ms = timeout_ms,
    };
    struct report_sessions sums = {0};
    struct tlsrpt_totals totals;
    enum err e = report_sessions(dir, &query, &sums);

    if (!e && !sums.count)
        e = ERR_NOT_FOUND;
    if (e) {
        report_sessions_fini(&sums);
        return e;
    }
    struct reporter r = reporter_make(dir, host_name, conf);
    json_t *head = tlsrpt_head_make(domain, begin_unix, clock_unix() < begin_unix + DAY_SECONDS);
    name_report(&r, head);
    struct tlsrpt_about about = tlsrpt_about_of(&r, head);
    tlsrpt_report_format(&about, sums.rows, sums.count, TLSRPT_DETAILS_MAX, json, &totals);
    json_decref(head);
    reporter_fini(&r);
    report_sessions_fini(&sums);
    return OK;
}

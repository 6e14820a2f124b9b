#include "queue/report.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/json.h"
#include "policy/judge.h"
#include "queue/message.h"

static void put_time(struct buf *out, const char *key, int64_t unix_ms)
{
    char second[CLOCK_TEXT_BYTES], text[CLOCK_TEXT_BYTES + sizeof(".000")];
    int64_t seconds = unix_ms / 1000 - (unix_ms % 1000 < 0);

    clock_format_utc(seconds, second);
    size_t len = bytes_find(bytes_of(second), 'Z');
    snprintf(text, sizeof(text), "%.*s.%03dZ", (int)len, second, (int)(unix_ms - seconds * 1000) % 1000);
    json_put_text(out, key, text);
}

static const char *then_name(enum attempt_then then)
{
    switch (then) {
    case THEN_REMOVE: return "done";
    case THEN_DEFER: return "retry";
    case THEN_DSN: return "dsn";
    case THEN_NOTHING: return "next-host";
    }
    return "?";
}

static void put_outcome(struct buf *out, const struct outcome *o)
{
    json_put_text(out, "outcome", outcome_kind_name(o->kind));
    json_put_text(out, "stage", outcome_stage_name(o->stage));
    json_put_count(out, "code", o->code);
    json_put_text(out, "enhanced", o->enhanced[0] ? o->enhanced : NULL);
    json_put_text(out, "said_by", o->remote ? "peer" : "us");
    json_put_bool(out, "in_doubt", o->in_doubt);
    json_put_text(out, "text", o->text);
}

static void put_tls(struct buf *out, const struct attempt *a)
{
    json_put_text(out, "tls_wanted", tls_level_name(a->tls_wanted));
    json_put_text(out, "tls_effective", tls_level_name(a->tls_effective));
    json_put_text(out, "tls_why", tls_why_name(a->tls_why));
    json_put_text(out, "tls_version", a->tls_version);
    json_put_text(out, "tls_cipher", a->tls_cipher);
    json_put_text(out, "tls_verify", tls_verify_name(a->tls_verify));
    json_put_bool(out, "tls_resumed", a->tls_resumed);
    json_put_bool(out, "tls_offered", a->tls_offered);
    json_put_bool(out, "fallback", a->fallback);
    json_put_text(out, "tls_kx", a->tls_kx);
    json_put_text(out, "dane", dane_result_name(a->dane));
    json_put_text(out, "sts", sts_result_name(a->sts));
    json_put_text(out, "tls_failure", a->tls_failure ? tls_failure_name(a->tls_failure) : NULL);
    if (a->cert_expires_unix)
        put_time(out, "cert_expires", a->cert_expires_unix * 1000);
}

void report_attempt_json(const struct report_attempt *r, struct buf *out)
{
    const struct attempt *a = &r->attempt;
    char id[MESSAGE_ID_TEXT], record[24];

    snprintf(record, sizeof(record), "%llu", (unsigned long long)r->id);
    json_begin(out, NULL, '{');
    json_put_text(out, "id", record); /* text: browsers lose integers past 2^53 */
    put_time(out, "at", a->at_unix_ms);
    json_put_text(out, "message", message_id_format(a->message_id, id));
    json_put_count(out, "rcpt", a->rcpt_no);
    json_put_text(out, "address", a->address);
    json_put_text(out, "domain", a->domain);
    json_put_text(out, "sender", a->sender);
    json_put_text(out, "campaign", a->campaign);
    json_put_text(out, "account", a->account);
    json_put_text(out, "group", a->group);
    json_put_text(out, "match", match_how_name(a->match));
    json_put_text(out, "pattern", a->match_pattern);
    json_put_count(out, "policy", a->policy_version);
    json_put_text(out, "mx", a->mx);
    json_put_text(out, "remote", a->remote);
    json_put_text(out, "source", a->source);
    json_put_text(out, "ehlo_name", a->ehlo_name);
    json_put_bool(out, "reused", a->reused);
    put_outcome(out, &a->outcome);
    json_put_count(out, "attempts", a->attempts);
    json_put_count(out, "duration_ms", a->duration_ms);
    json_put_count(out, "size", a->size_bytes);
    put_time(out, "accepted", a->accepted_unix * 1000);
    json_put_text(out, "then", then_name(a->then));
    if (a->then == THEN_DEFER)
        put_time(out, "due", a->due_unix * 1000);
    put_tls(out, a);
    if (a->shadow) {
        json_put_text(out, "shadow", judge_verdict_name(a->shadow));
        json_put_text(out, "shadow_group", a->shadow_group);
    }
    json_end(out, '}');
}

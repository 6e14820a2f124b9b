/* The doctor's round: one function for each thing it looks at. */
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/dnssec_watch.h"
#include "engine/doctor.h"
#include "engine/engine_priv.h"
#include "engine/policy_files.h"
#include "policy/policy_include.h"

#define PROBE_WAIT_MS 8000

const char *doctor_level_name(enum doctor_level l)
{
    static const char *const names[] = {"ok", "warn", "fail"};

    return names[l];
}

void doctor_say(struct doctor *d, const char *check, enum doctor_level level, const char *advice,
                const char *format, ...)
{
    struct buf text = {0};
    va_list ap;

    va_start(ap, format);
    buf_putv(&text, format, ap);
    va_end(ap);
    /* Paths and names come from outside: JSON holds UTF-8 only. */
    json_t *string = json_stringn(text.at, text.len);
    if (!string)
        string = json_string("(not UTF-8)");
    json_array_append_new(d->checks,
                          json_pack("{s:s, s:s, s:o, s:s}", "check", check, "level", doctor_level_name(level),
                                    "text", string, "advice", advice ? advice : ""));
    d->counts[level]++;
    buf_fini(&text);
}

/* ---- DNS ---- */

enum wanted { DANE_NOBODY, DANE_SOME, DANE_NEEDED };

static enum wanted how_much_is_wanted(struct engine *e)
{
    struct policy *p = engine_policy(e);
    enum wanted w = DANE_NOBODY;

    for (size_t i = 0; i < policy_group_count(p); i++) {
        enum dane_mode mode = policy_group(p, i)->dane;
        w = MAX_OF(w, mode == DANE_ONLY ? DANE_NEEDED : mode == DANE_TRY ? DANE_SOME : DANE_NOBODY);
    }
    policy_unref(p);
    return w;
}

static void say_resolver(struct doctor *d, const struct dnssec_server *s, enum wanted wanted)
{
    enum doctor_level ill = wanted == DANE_NEEDED ? DOCTOR_FAIL
                            : wanted == DANE_SOME ? DOCTOR_WARN
                                                  : DOCTOR_OK;
    char address[IP_TEXT_BYTES];

    ip_format_port(&s->ip, s->port, address);
    switch (s->result) {
    case DNSSEC_WORKS:
        doctor_say(d, "resolver", DOCTOR_OK, NULL, "%s validates, answered in %u ms", address, s->took_ms);
        break;
    case DNSSEC_NOT_VALIDATING:
        doctor_say(d, "resolver", ill, dnssec_watch_hint(s->result), "%s does not validate%s", address,
                   wanted == DANE_NOBODY ? "; no group wants DANE" : "");
        break;
    case DNSSEC_NOT_TRUSTED:
        doctor_say(d, "resolver", ill, dnssec_watch_hint(s->result), "%s validates, and is not trusted to%s",
                   address, wanted == DANE_NOBODY ? "; no group wants DANE" : "");
        break;
    case DNSSEC_UNREACHABLE:
    case DNSSEC_UNKNOWN:
        doctor_say(d, "resolver", DOCTOR_WARN, dnssec_watch_hint(DNSSEC_UNREACHABLE),
                   "%s gives no usable answer to the probe", address);
        break;
    }
}

static void look_at_dns(struct doctor *d)
{
    enum wanted wanted = how_much_is_wanted(d->e);
    struct dnssec_report r;

    if (!dnssec_watch_ask_and_wait(d->e->shared.dnssec, PROBE_WAIT_MS, &r)) {
        doctor_say(d, "resolver", DOCTOR_FAIL, "if `hayauma status` shows a stuck worker, restart the daemon",
                   "no word came of the probe in %u s", PROBE_WAIT_MS / 1000);
        return;
    }
    for (size_t i = 0; i < r.count; i++)
        say_resolver(d, &r.servers[i], wanted);
    if (r.result == DNSSEC_UNREACHABLE)
        doctor_say(d, "resolver", wanted == DANE_NOBODY ? DOCTOR_WARN : DOCTOR_FAIL,
                   "look what `hayauma explain DOMAIN` finds: mail waits as long as DNS answers nothing",
                   "no resolver answers for %s: whether DNSSEC works is not known",
                   r.question.name[0] ? r.question.name : ".");
    if (r.mixed)
        doctor_say(d, "dnssec", wanted == DANE_NOBODY ? DOCTOR_OK : DOCTOR_WARN,
                   "name only resolvers that validate in dns.servers or resolv.conf",
                   "there is no DANE whenever one of the resolvers that do not validate is asked");
    if (r.result == DNSSEC_WORKS && !r.mixed)
        doctor_say(d, "dnssec", DOCTOR_OK, NULL, "DANE works (%s was signed)", r.question.name);
}

/* ---- certificates ---- */

static void look_at_certificates(struct doctor *d)
{
    int64_t now = clock_unix();
    char address[IP_TEXT_BYTES];
    json_t *one;
    size_t k;

    for (size_t i = 0; i < d->e->listener_count; i++) {
        struct listener *l = d->e->listeners[i];
        if (l->conf->tls == LISTENER_TLS_NONE)
            continue;
        json_t *all = engine_certificates_json(l);
        ip_format_port(&l->ip, l->port, address);
        json_array_foreach(json_object_get(all, "certificates"), k, one)
        {
            const char *problem = json_string_value(json_object_get(one, "problem"));
            const char *name = json_string_value(json_object_get(one, "name"));
            int64_t left = json_integer_value(json_object_get(one, "expires_unix")) - now;
            bool grave = left < 0 || json_is_true(json_object_get(one, "revoked"));
            if (problem)
                doctor_say(d, "certificate", grave ? DOCTOR_FAIL : DOCTOR_WARN,
                           "renew it in place: changed files are loaded without a restart", "%s, %s: %s",
                           address, name, problem);
            else
                doctor_say(d, "certificate", DOCTOR_OK, NULL, "%s, %s: good for %lld days", address, name,
                           (long long)(left / 86400));
        }
        json_decref(all);
    }
}

/* ---- policy ---- */

static void look_at_policy(struct doctor *d)
{
    struct yaml_errors errors = {.name = "policy"};
    struct arena arena = {0};
    struct browse_policy info;
    struct browse *b = NULL;
    char *text = NULL, *why = NULL;
    enum err err = engine_browse(d->e, &b, &why);

    if (!err)
        err = browse_policy_text(b, 0, &arena, &info, &text);
    if (!err)
        err = engine_policy_check(d->e, bytes_of(text), &errors);
    if (err && !errors.errors)
        doctor_say(d, "policy", DOCTOR_FAIL, NULL, "the policy cannot be read: %s",
                   why ? why : err_text(err));
    for (size_t i = 0; i < errors.count; i++)
        doctor_say(d, "policy", errors.items[i].is_notice ? DOCTOR_WARN : DOCTOR_FAIL,
                   errors.items[i].is_notice ? NULL : "correct it: hayauma policy export, policy apply", "%s",
                   errors.items[i].text);
    if (!err && !errors.count)
        doctor_say(d, "policy", DOCTOR_OK, NULL, "version %llu, nothing to remark",
                   (unsigned long long)info.version);
    yaml_errors_fini(&errors);
    browse_close(b);
    arena_fini(&arena);
    mem_free(text);
    mem_free(why);
}

/* A newer file than that in force: nobody reads it until he is told to. */
static void look_at_include(struct doctor *d, const struct policy_include *in)
{
    char *file = NULL, *why = NULL, date[POLICY_DATE_BYTES];
    BUF_LOCAL(text);

    if (policy_files_read_include(engine_conf(d->e), in->name, &text, &file, &why) == OK) {
        policy_date(buf_bytes(&text), date);
        if (strcmp(date, in->date) > 0)
            doctor_say(d, "policy", DOCTOR_WARN, "hayauma policy refresh",
                       "%s is of %s, and %s%s is in force", file, date,
                       *in->date ? "that of " : "one without a date", in->date);
    }
    mem_free(file);
    mem_free(why);
}

static void look_at_includes(struct doctor *d)
{
    struct policy *p = engine_policy(d->e);

    for (size_t i = 0; i < policy_include_count(p); i++)
        look_at_include(d, policy_include(p, i));
    policy_unref(p);
}

/* ---- store ---- */

static void look_at_store(struct doctor *d)
{
    struct store_stats s;

    store_stats(d->e->shared.store, &s);
    if (s.full)
        doctor_say(d, "store", DOCTOR_FAIL, "make space; it goes on by itself",
                   "new mail is refused for want of space");
    else if (s.last_error[0])
        doctor_say(d, "store", DOCTOR_WARN, "look at the log of that time", "the last error was: %s",
                   s.last_error);
    else
        doctor_say(d, "store", DOCTOR_OK, NULL, "takes mail; %llu recipients wait",
                   (unsigned long long)s.waiting);
    json_t *threads = watchdog_json(d->e->watchdog), *one;
    size_t i;
    json_array_foreach(threads, i, one)
    {
        if (json_is_true(json_object_get(one, "stuck")))
            doctor_say(d, "thread", DOCTOR_FAIL, "keep the log and restart the daemon",
                       "%s has stood still for %lld s", json_string_value(json_object_get(one, "thread")),
                       (long long)json_integer_value(json_object_get(one, "seconds_without_turn")));
    }
    json_decref(threads);
}

json_t *engine_doctor(struct engine *e, const char *connect_to)
{
    struct doctor d = {.e = e, .checks = json_array()};

    look_at_dns(&d);
    look_at_certificates(&d);
    doctor_listeners(&d);
    doctor_sources(&d);
    doctor_name(&d);
    doctor_space(&d);
    look_at_store(&d);
    doctor_files(&d);
    doctor_clock(&d);
    look_at_policy(&d);
    look_at_includes(&d);
    if (connect_to)
        doctor_connect(&d, connect_to);
    return json_pack("{s:o, s:i, s:i, s:i}", "checks", d.checks, "ok", (int)d.counts[DOCTOR_OK], "warn",
                     (int)d.counts[DOCTOR_WARN], "fail", (int)d.counts[DOCTOR_FAIL]);
}

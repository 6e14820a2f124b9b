/*
 * From what a host showed to what delivery would do: pure, by the table of policy/tls_decide.h and
 * engine/deliver/rule.h.
 */
#pragma once

#include "engine/deliver/rule.h"
#include "engine/probe/host.h"

enum verdict_kind {
    VERDICT_AUTHENTICATED, /* delivered, over TLS, to who it should be */
    VERDICT_ENCRYPTED,     /* delivered, over TLS, to whoever answers */
    VERDICT_CLEAR,
    VERDICT_BLOCKED,     /* held back by the rule */
    VERDICT_UNREACHABLE, /* no connection, or no SMTP: nothing is known */
};
const char *
verdict_kind_name(enum verdict_kind k); /* "authenticated", "encrypted", "clear", "blocked", "unreachable" */

struct verdict {
    enum verdict_kind kind;
    enum tls_level level; /* effective */
    enum tls_why why;
    enum tls_verify verify; /* as it would be recorded */
    char text[PROBE_TEXT];  /* why it is blocked or in clear; which TLSA record matched */
};

struct verdict_input {
    struct rule_input rule; /* with the group to be judged by; `dane` those that apply */
    const struct dane_records *looked_up;
    bool ip_secure;
    const char *host, *domain;
    const struct probe_facts *facts;
    int64_t now_unix;
};
void verdict_find(const struct verdict_input *in, struct verdict *out);

/* A probe's findings as JSON; the shape is in webui-api/README.md. */
#pragma once

#include <jansson.h>

#include "engine/probe/verdict.h"

/* One address of one host of a domain, with everything that decides about it. */
struct probe_view {
    const struct group *group; /* the live one */
    const struct security *security;
    const struct dane_records *looked_up, *dane; /* dane: those that apply to the address, or NULL */
    bool ip_secure, implicit_tls;
    const char *host, *domain;
    const struct probe_facts *facts; /* NULL: not asked */
};
void probe_judge(const struct probe_view *view, const struct group *group, struct verdict *out);
json_t *probe_verdict_json(const struct verdict *v);
void probe_put_facts(json_t *out, const struct probe_view *view);
/* "live" by the group as it is, "levels" by what it could be. */
void probe_put_verdicts(json_t *out, const struct probe_view *view);

/*
 * Typed reading of a request's parameters.  Each param_… returns false after it has replied with what would
 * be right; a parameter that is not given leaves *out as it was.
 */
#pragma once

#include "queue/report.h"
#include "webui-api/http.h"

const char *param_text(const struct request *r, const char *name); /* NULL: not given */
bool param_count(struct request *r, const char *name, uint64_t min, uint64_t max, uint64_t *out);
/* Unix seconds, RFC 3339, a date, or a span back from now. */
bool param_time(struct request *r, const char *name, int64_t *out);
/* Index of the value in `words`. */
bool param_word(struct request *r, const char *name, const char *const *words, size_t count, int *out);
/* Normalised, in the request's arena. */
bool param_domain(struct request *r, const char *name, const char **out);
bool param_message(struct request *r, const char *name, uint64_t *out);

/* Every parameter is one of `known` (blank-separated), else a reply that names it. */
bool params_known(struct request *r, const char *known);

/* Pure: what param_time reads. */
bool time_parse(struct bytes text, int64_t now_unix, int64_t *out);

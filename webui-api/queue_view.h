/* What several routes show of the queue and of history. */
#pragma once

#include "engine/engine.h"
#include "queue/browse.h"
#include "queue/report.h"
#include "webui-api/http.h"

/* A reader of the queue for this request, or NULL after a reply. */
struct browse *view_open(struct request *r);
DEFINE_CLEANUP(struct browse *, browse_close)

const char *view_data_dir(const struct request *r);
void view_put_rcpt(struct buf *out, const struct browse_row *row);
void view_put_totals(struct buf *out, const char *key, const struct browse_totals *t);
/* Recipients of one domain by state: "queue": {waiting, …}; a reply on failure. */
bool view_put_domain(struct request *r, struct browse *b, const char *domain, struct buf *out);
/* "attempts": […], and "attempts_cut" when `cut`; newest `which->newest`, oldest first.  `count` may be NULL.
 */
enum err view_put_attempts(const char *dir, const struct report_which *which, bool cut, struct buf *out,
                           size_t *count);

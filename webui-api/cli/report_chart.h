/* Charts of the HTML report (report_html.c), as inline SVG appended to `out`. */
#pragma once

#include "webui-api/cli/report.h"

/* How deliveries travelled: recipients by the parts that make the whole, in the order in which bars show
 * them. */
#define SHARES_KINDS 5
struct shares {
    uint64_t n[SHARES_KINDS], whole;
};
struct shares chart_shares_of(const json_t *row); /* a row of the TLS report */

void chart_put_bar_cell(struct buf *out, const struct shares *s); /* a table's cell */
/* A section: the rows of the report by hour. */
void chart_put_over_time(struct buf *out, const json_t *by_hour);
/* `format` is strftime's; UTC, whoever reads it where. */
void chart_put_time(struct buf *out, int64_t unix_seconds, const char *format);

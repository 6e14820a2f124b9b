/* What the reports of the command line share (cmd_report.c). */
#pragma once

#include "webui-api/cli/cli.h"

/* What is asked where the options do not say: NULL leaves it to the daemon. */
struct report_preset {
    const char *by, *sort, *only;
};
void report_url(struct buf *url, const struct cli *cli, const char *path, const struct report_preset *preset);
/* *out stays NULL when everything is said already. */
MUST_CHECK int report_ask(struct cli *cli, const char *path, const struct report_preset *preset, json_t **out);

void report_put_moment(struct buf *out, int64_t unix_seconds); /* local, without seconds */
void report_put_span(struct buf *out, const struct cli *cli, const json_t *report);
void report_put_skipped(struct buf *out, const struct cli *cli, const json_t *report);
const char *report_key_title(const json_t *report); /* the name of the first column */
/* "20,000 accepted = 19,000 delivered + …", without what is zero. */
void report_put_sum(struct buf *out, const json_t *sum);
void report_put_left_out(struct buf *out, const json_t *report, size_t shown);
/* Rows, then below a line the totals (unless put_row is to count rows only); nothing but the head when there is
 * nothing. */
void report_put_table(struct cli *cli, const json_t *report, const struct column *columns, size_t count,
                      void (*put_row)(struct table *, const json_t *), struct buf *out);

/* report_html.c: a file for people who have neither the daemon nor this program. */
struct report_pages { /* answers of the API; all are needed */
    const json_t *by_hour, *by_group, *clear, *weak, *certificates, *downgrades;
    const char *host, *made; /* whose report, and when it was made: UTC */
};
void report_html(const struct report_pages *p, struct buf *out);

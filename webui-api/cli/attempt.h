/* One delivery attempt, as the history records it, in one readable line. */
#pragma once

#include "webui-api/cli/cli.h"

/* Without line end. */
void attempt_put_line(struct buf *out, const struct cli *cli, const json_t *attempt);
/* Many of them as a table, oldest first as they come. */
void attempt_table(struct buf *out, const struct cli *cli, const json_t *attempts);
/* "TLS1.3 verified-pkix", "clear: not offered", or "" when there was no transfer to speak of; appended. */
/* What the shadow rules would have done, where that is not the same; "" else. */
const char *attempt_shadow(const json_t *a);
void attempt_put_tls(struct buf *out, const json_t *attempt);
/* "rcpt 450 4.2.0 later"; appended. */
void attempt_put_reply(struct buf *out, const json_t *attempt);
/* Of an event of the shaping: "at most 2 connections"; "rcpt 451 4.7.0 too many"; both in a sentence. */
void shaping_put_what(struct buf *out, const json_t *event);
void shaping_put_why(struct buf *out, const json_t *event);
void shaping_put_line(struct buf *out, const json_t *event); /* of the rule; nothing where there was none */
void shaping_put_until(struct buf *out, const json_t *event);
void shaping_put_where(struct buf *out,
                       const json_t *event); /* host, source address or campaign that it binds */
void shaping_put_event(struct buf *out, const json_t *event);
/* "21:00 to 08:00 Asia/Tokyo, until in 3h" */
void attempt_put_quiet_hours(struct buf *out, const json_t *hours, int64_t now_unix);

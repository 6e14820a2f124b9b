/*
 * SMTP commands as values (RFC 5321 §4.1, and the extensions that EHLO offers).  Pure: a line goes in without
 * its CRLF, results point into it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/smtp/address.h"
#include "queue/message.h"

enum verb {
    VERB_UNKNOWN,
    VERB_EHLO,
    VERB_HELO,
    VERB_STARTTLS,
    VERB_AUTH,
    VERB_MAIL,
    VERB_RCPT,
    VERB_DATA,
    VERB_BDAT,
    VERB_RSET,
    VERB_NOOP,
    VERB_HELP,
    VERB_VRFY,
    VERB_EXPN,
    VERB_QUIT,
    VERB_COUNT,
};

struct smtp_command {
    enum verb verb;
    struct bytes arg; /* without blanks around it; may be empty */
};
void smtp_command_parse(struct bytes line, struct smtp_command *out);

/* Why a command is refused; the texts say what would be right. */
struct smtp_refusal {
    uint16_t code;        /* 0: none */
    const char *enhanced; /* static, as `text` */
    const char *text;
};

#define ENVID_MAX 100 /* RFC 3461 §4.4, as it is written in the command */
#define ORCPT_MAX 500 /* §4.2 */

struct mail_args {
    struct address from;
    bool any_param;
    bool size_given;
    uint64_t size_bytes; /* UINT64_MAX when it has more digits than that */
    bool body_8bit, smtputf8;
    bool requiretls; /* RFC 8689 §2 */
    enum dsn_ret ret;
    bool envid_given;
    char envid[ENVID_MAX + 1]; /* decoded */
};
/* "FROM:<a@b> PARAM=value …".  False: `why` is filled. */
bool smtp_mail_parse(struct bytes arg, struct mail_args *out, struct smtp_refusal *why);

struct rcpt_args {
    struct address to;
    bool any_param;
    uint8_t notify; /* NOTIFY_… bits */
    bool orcpt_given;
    char orcpt[ORCPT_MAX + 1]; /* decoded: "rfc822;a@b" */
};
bool smtp_rcpt_parse(struct bytes arg, struct rcpt_args *out, struct smtp_refusal *why);

struct bdat_args {
    uint64_t size_bytes;
    bool last;
};
/*
 * False: `why` is filled; *sized tells whether out->size_bytes is valid all the same, so that the announced
 * octets can be passed over (RFC 3030 §2).
 */
bool smtp_bdat_parse(struct bytes arg, struct bdat_args *out, bool *sized, struct smtp_refusal *why);

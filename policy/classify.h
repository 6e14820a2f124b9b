/*
 * What a reply of the peer means: the kind of outcome, and the class under which reports count it.
 * One table, read from the top: enhanced codes first, then basic codes, then words of the text.
 * Pure; any thread.
 *
 * The kind follows the basic code (RFC 5321 §4.2.1), except:
 *   - 2yz delivers only as the reply to the whole message (STAGE_DOT): before that nothing was handed
 *     over, so any other 2yz here, 1yz, 3yz and numbers outside 200–599 defer as protocol errors;
 *   - 421 defers wherever it stands (§3.8);
 *   - 5yz in the greeting or to EHLO, STARTTLS or AUTH speaks of this host, not of the recipient: the next
 *     host is tried and the recipient is deferred (RFC 7504 for 521);
 *   - 552 to RCPT is what 452 would be: too many recipients, or no room now (§4.5.3.1.10);
 *   - a demand for STARTTLS (530, X.7.10) defers: mail never bounces for lack of TLS but by its age.
 */
#pragma once

#include "policy/outcome.h"

enum outcome_class {
    CLASS_DELIVERED,
    CLASS_MAILBOX_UNKNOWN,
    CLASS_MAILBOX_FULL,
    CLASS_MAILBOX_DISABLED,
    CLASS_DOMAIN_UNKNOWN, /* no such domain, or it takes no mail (null MX, RFC 7505) */
    CLASS_SPAM_BLOCK,     /* content, reputation or block list */
    CLASS_AUTHENTICATION, /* SPF, DKIM, DMARC or reverse DNS of ours is missing or fails */
    CLASS_GREYLISTED,
    CLASS_RATE_LIMITED,
    CLASS_TOO_MANY_RECIPIENTS,
    CLASS_AUTH_REQUIRED, /* SMTP AUTH wanted, or what we gave was refused */
    CLASS_TLS_REQUIRED,  /* the peer wants TLS, or our rule does */
    CLASS_TLS_FAILED,
    CLASS_MESSAGE_TOO_BIG,
    CLASS_CONTENT, /* the message's form: 8-bit, encoding, conversion */
    CLASS_POLICY,  /* refused by a rule of the peer, no nearer reason given */
    CLASS_LOOP,
    CLASS_NETWORK,
    CLASS_DNS,
    CLASS_SYSTEM,   /* the peer is down, busy or short of something */
    CLASS_PROTOCOL, /* syntax, sequence, or no sense at all */
    CLASS_EXPIRED,
    CLASS_CANCELLED,
    CLASS_OTHER,
    CLASS_COUNT_,
};

struct classification {
    enum outcome_kind kind; /* DELIVERED, DEFERRED or BOUNCED */
    enum outcome_class class;
};

/* `enhanced` may be NULL or "".  `text` is the reply without codes, as the peer sent it. */
struct classification classify_reply(enum outcome_stage stage, uint16_t code, const char *enhanced,
                                     struct bytes text);
/* The class of any outcome, ours or the peer's. */
enum outcome_class classify_outcome(const struct outcome *o);
/*
 * The receiver refused us, for now or for good: not the mailbox or the message, nor what passes by itself
 * (greylisting).  421 ends the session, whatever it says.  Warm-up counts these, and of the temporary ones a
 * storm is made.
 */
bool outcome_refuses_us(const struct outcome *o);
const char *outcome_class_name(enum outcome_class class); /* "mailbox-unknown", "rate-limited", … */

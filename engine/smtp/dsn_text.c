/* The words of a DSN for the person who reads it: what happened, and what to do. */
#include "base/clock.h"
#include "engine/smtp/dsn_priv.h"
#include "policy/classify.h"

struct advice {
    const char *what, *todo;
};

/* By class of the outcome (policy/classify.h). */
static const struct advice advices[CLASS_COUNT_] = {
    [CLASS_MAILBOX_UNKNOWN] = {"The receiving host does not know this address.",
                               "Check it for typing errors. If it comes from a list, remove it there."},
    [CLASS_MAILBOX_FULL] = {"The recipient's mailbox is full.",
                            "Try again in a few days, or reach the recipient by other means."},
    [CLASS_MAILBOX_DISABLED] =
        {"The recipient's mailbox exists but takes no mail now.",
         "Reach the recipient by other means. If it comes from a list, remove it there."},
    [CLASS_DOMAIN_UNKNOWN] = {"The part behind the @ does not exist, or it takes no mail at all.",
                              "Check it for typing errors. If it comes from a list, remove it there."},
    [CLASS_SPAM_BLOCK] =
        {"The receiving host took the message, or the host that sent it, for unwanted mail.",
         "Read its words below: they often name the list or rule. Your mail administrator can ask to be "
         "taken off."},
    [CLASS_AUTHENTICATION] =
        {"The receiving host could not verify that the message comes from its sender's domain.",
         "Ask your mail administrator to check SPF, DKIM, DMARC and the reverse DNS entry of the "
         "sending host."},
    [CLASS_GREYLISTED] = {"The receiving host asks unknown senders to wait.",
                          "Usually the next try succeeds."},
    [CLASS_RATE_LIMITED] = {"The receiving host limits how much mail it takes from us in a given time.",
                            "Try again later. If you send to many, send more slowly."},
    [CLASS_TOO_MANY_RECIPIENTS] = {"The receiving host does not take so many recipients at once.",
                                   "Try again later, with fewer recipients."},
    [CLASS_AUTH_REQUIRED] =
        {"The receiving host wants to know who we are, or refused our credentials.",
         "Your mail administrator must check the route and the credentials of this destination."},
    [CLASS_TLS_REQUIRED] = {"The message may only travel encrypted, and one side could not do so.",
                            "Your mail administrator can see in the TLS report which side lacks what."},
    [CLASS_TLS_FAILED] =
        {"No encrypted connection that fulfils our rule could be made to the receiving host.",
         "Your mail administrator can see the reason in the TLS report."},
    [CLASS_MESSAGE_TOO_BIG] = {"The message is larger than the receiving host takes.",
                               "Make it smaller, or send a link in place of the attachment."},
    [CLASS_CONTENT] =
        {"The receiving host cannot take a message of this form.",
         "Send it in a plainer form: ASCII addresses and headers, or attachments encoded as usual."},
    [CLASS_POLICY] = {"The receiving host does not want the message by a rule of its own.",
                      "Read its words below; its postmaster can tell which rule."},
    [CLASS_LOOP] = {"The message went round in a circle between mail hosts.",
                    "Look for two addresses that forward to each other."},
    [CLASS_NETWORK] = {"The receiving host could not be reached, or the connection broke.",
                       "Check the part behind the @. If it is right, try again later."},
    [CLASS_DNS] = {"The name servers of the recipient's domain gave no usable answer.",
                   "Check the part behind the @. If it is right, the domain's owner must repair its DNS."},
    [CLASS_SYSTEM] = {"The receiving host is busy or out of order.", "Try again later."},
    [CLASS_PROTOCOL] = {"The receiving host and ours did not understand each other.",
                        "Your mail administrator can find the details in the log."},
    [CLASS_EXPIRED] = {"All tries during the message's lifetime failed.",
                       "Check the address. If it is right, send the message again later."},
    [CLASS_CANCELLED] = {"An operator cancelled the delivery.", "Ask your mail administrator."},
};

static struct advice advice_for(const struct outcome *o)
{
    struct advice a = advices[classify_outcome(o)];

    if (o->stage == STAGE_QUEUE && o->kind == OUTCOME_BOUNCED) /* no host was asked */
        return (struct advice){"An operator of this mail system returned the message.",
                               "Ask your mail administrator."};
    if (!a.what)
        a = (struct advice){"The receiving host refused the message.",
                            "Read its words below, and ask its postmaster."};
    return a;
}

static void put_line(struct buf *out, const char *indent, const char *text)
{
    buf_puts(out, indent);
    size_t from = out->len;
    buf_puts(out, text);
    dsn_fold(out, from, indent);
    buf_puts(out, "\r\n");
}

static void put_failure(struct buf *out, const struct outcome *o)
{
    struct advice a = advice_for(o);

    put_line(out, "    ", a.what);
    if (o->kind == OUTCOME_EXPIRED) { /* age ended it; the last try tells what kept it */
        struct outcome last = *o;
        last.kind = OUTCOME_DEFERRED;
        const char *what = advices[classify_outcome(&last)].what;
        if (what && what != a.what)
            put_line(out, "    ", what);
    }
    put_line(out, "    ", a.todo);
}

static void put_reply(struct buf *out, const struct dsn_rcpt *r)
{
    const struct outcome *o = r->outcome;

    if (!o->text[0] && !o->remote)
        return;
    buf_puts(out, "    ");
    size_t from = out->len;
    if (o->remote && r->remote_mta && *r->remote_mta) {
        buf_puts(out, "The host ");
        dsn_put_clean(out, bytes_of(r->remote_mta), false, 255);
        buf_puts(out, " said: ");
    } else {
        buf_puts(out, o->remote ? "The receiving host said: " : "In short: ");
    }
    if (o->remote)
        buf_putf(out, "%u ", o->code);
    if (o->remote && o->enhanced[0])
        buf_putf(out, "%s ", o->enhanced);
    dsn_put_clean(out, bytes_of(o->text), true, OUTCOME_TEXT_BYTES);
    dsn_fold(out, from, "        ");
    buf_puts(out, "\r\n");
}

static void put_rcpt(struct buf *out, const struct dsn_rcpt *r)
{
    char date[CLOCK_TEXT_BYTES];

    buf_puts(out, "\r\n<");
    dsn_put_clean(out, bytes_of(r->address), true, 900);
    buf_puts(out, ">\r\n");
    switch (r->action) {
    case DSN_FAILED: put_failure(out, r->outcome); break;
    case DSN_DELAYED:
        put_line(out, "    ", advice_for(r->outcome).what);
        if (r->retry_until_unix)
            buf_putf(out, "    We go on trying until %s.\r\n", clock_format_mail(r->retry_until_unix, date));
        break;
    case DSN_RELAYED:
        put_line(out, "    ",
                 "The message was handed to a host that does not report delivery. You will hear no more "
                 "unless it fails.");
        break;
    case DSN_DELIVERED: put_line(out, "    ", "The message was delivered."); break;
    case DSN_EXPANDED: put_line(out, "    ", "The message went to the members of this list."); break;
    }
    put_reply(out, r);
}

/* ---- the whole ---- */

/* The order in which the parts of a mixed notification are told; the first that occurs gives the subject. */
static const struct {
    const char *subject, *opening;
} parts[] = {
    [DSN_FAILED] = {"Your message could not be delivered",
                    "Your message could not be delivered to the following. It is not tried again."},
    [DSN_DELAYED] =
        {"Your message is delayed (no action needed)",
         "Your message has not been delivered to the following yet. It is still being tried; you need not "
         "send it again."},
    [DSN_RELAYED] = {"Your message was passed on",
                     "You asked to be told what became of your message. It was passed on to:"},
    [DSN_DELIVERED] = {"Your message was delivered",
                       "You asked to be told what became of your message. It was delivered to:"},
    [DSN_EXPANDED] = {"Your message was passed on to the members of a list",
                      "You asked to be told what became of your message. It went to the members of:"},
};

static size_t count_of(const struct dsn *d, enum dsn_action action)
{
    size_t n = 0;

    for (size_t i = 0; i < d->rcpt_count; i++)
        n += d->rcpts[i].action == action;
    return n;
}

const char *dsn_subject(const struct dsn *d)
{
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (count_of(d, (enum dsn_action)i))
            return parts[i].subject;
    return parts[DSN_FAILED].subject;
}

void dsn_put_text(const struct dsn *d, struct buf *out)
{
    size_t shown = MIN_OF(d->rcpt_count, (size_t)DSN_RCPTS_MAX);
    char date[CLOCK_TEXT_BYTES];

    buf_puts(out, "This is the mail system at ");
    dsn_put_clean(out, bytes_of(d->reporting_mta), false, 255);
    buf_puts(out, ".\r\n");
    if (d->arrival_unix > 0)
        buf_putf(out, "It took your message on %s.\r\n", clock_format_mail(d->arrival_unix, date));
    for (size_t a = 0; a < COUNT_OF(parts); a++) {
        if (!count_of(d, (enum dsn_action)a))
            continue;
        buf_puts(out, "\r\n");
        put_line(out, "", parts[a].opening);
        for (size_t i = 0; i < shown; i++)
            if (d->rcpts[i].action == (enum dsn_action)a)
                put_rcpt(out, &d->rcpts[i]);
    }
    if (shown < d->rcpt_count)
        buf_putf(out, "\r\n… and %zu more.\r\n", d->rcpt_count - shown);
    buf_puts(out, "\r\nThe details for programs, and the message or its header, follow.\r\n");
}

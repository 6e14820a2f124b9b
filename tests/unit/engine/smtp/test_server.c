/* Conversations by rows, split at every octet, and lines that are too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "base/mem.h"
#include "tests/unit/engine/smtp/play.h"

/* What is said in one go, and the codes of the replies to it. */
struct turn {
    const char *say, *codes;
};
#define TURNS 12

struct scene {
    const char *what;
    void (*prepare)(struct play *p);
    struct turn turns[TURNS];
    unsigned messages;
    bool closed;
};

static void needs_auth(struct play *p)
{
    p->rules.require_auth = true;
}
static void needs_auth_but_trusts(struct play *p)
{
    p->rules.require_auth = true;
    p->peer.trusted = true;
}
static void needs_tls(struct play *p)
{
    p->rules.require_tls = true;
    p->rules.auth_without_tls = false;
}
static void no_starttls(struct play *p)
{
    p->rules.offer_starttls = false;
}
static void no_utf8(struct play *p)
{
    p->rules.smtputf8 = false;
}
static void two_recipients(struct play *p)
{
    p->rules.recipients_max = 2;
}
static void three_errors(struct play *p)
{
    p->rules.errors_max = 3;
}
static void one_message(struct play *p)
{
    p->rules.messages_max = 1;
}
static void normalize(struct play *p)
{
    p->rules.bare_newline = BARE_NEWLINE_NORMALIZE;
}
static void small(struct play *p)
{
    p->rules.message_bytes_max = 100;
}
static void few_received(struct play *p)
{
    p->rules.received_max = 2;
}
static void small_header(struct play *p)
{
    p->rules.header_bytes_max = 60;
}
static void limited_sender(struct play *p)
{
    p->account.sender_domains = mem_alloc(2 * sizeof(char *));
    p->account.sender_domains[0] = mem_strdup("b.example");
    p->account.sender_domains[1] = mem_strdup(".c.example");
    p->account.sender_domain_count = 2;
}
static void other_network(struct play *p)
{
    p->account.networks = mem_alloc(sizeof(struct ip_net));
    p->account.network_count = 1;
    assert_true(ip_net_parse(BYTES("198.51.100.0/24"), p->account.networks));
}
static void disabled_account(struct play *p)
{
    p->account.disabled = true;
}
static void backend_down(struct play *p)
{
    p->backend_down = true;
}
static void guessed_at(struct play *p)
{
    p->guessed = "alice";
}
static void guessing(struct play *p)
{
    p->guessed = "";
}
static void not_now(struct play *p)
{
    p->may_send_refusal = "450 4.7.1 Too much at once";
}
static void full_disk(struct play *p)
{
    p->commit_result = ERR_NOSPACE;
}
static void broken_disk(struct play *p)
{
    p->commit_result = ERR_IO;
}
static void full_pool(struct play *p)
{
    p->commit_result = ERR_FULL;
}

#define EHLO                                                                                                 \
    {                                                                                                        \
        "EHLO c.example\r\n", "250"                                                                          \
    }

static const struct scene scenes[] = {
    {"order of commands",
     NULL,
     {{"MAIL FROM:<a@b.example>\r\n", "503 5.5.1"},
      {"RCPT TO:<a@b.example>\r\n", "503 5.5.1"},
      {"DATA\r\n", "503 5.5.1"},
      {"STARTTLS\r\n", "503 5.5.1"},
      {AUTH_PLAIN, "503 5.5.1"},
      {"HELO c.example\r\n", "250"},
      {"RCPT TO:<a@b.example>\r\n", "503 5.5.1"},
      {"MAIL FROM:<a@b.example>\r\n", "250 2.1.0"},
      {"MAIL FROM:<a@b.example>\r\n", "503 5.5.1"},
      {"RCPT TO:<c@d.example>\r\n", "250 2.1.5"},
      {"MAIL FROM:<a@b.example>\r\n", "503 5.5.1"},
      {"RSET\r\nRCPT TO:<a@b.example>\r\n", "250 2.0.0|503 5.5.1"}},
     0,
     false},
    {"small talk",
     NULL,
     {{"NOOP\r\nnoop x\r\nHELP\r\nVRFY a\r\nVRFY\r\nEXPN l\r\nRSET\r\nRSET x\r\nXYZZY\r\n\r\n",
       "250 2.0.0|250 2.0.0|214 2.0.0|252 2.0.0|501 5.5.4|502 5.5.1|250 2.0.0|501 5.5.4|500 5.5.1|500 5.5.1"},
      {"QUIT x\r\n", "501 5.5.4"},
      {"QUIT\r\nNOOP\r\n", "221 2.0.0"},
      {"NOOP\r\n", ""}},
     0,
     true},
    {"EHLO and HELO",
     NULL,
     {{"EHLO\r\n", "501 5.5.4"},
      {"EHLO a b\r\n", "501 5.5.4"},
      {"HELO\r\n", "501 5.5.4"},
      {"EHLO [192.0.2.1]\r\n", "250"},
      {ENVELOPE, "250 2.1.0|250 2.1.5"},
      {"EHLO c.example\r\nDATA\r\n", "250|503 5.5.1"}, /* EHLO ended the transaction */
      {"HELO c.example\r\n", "250"},
      {"MAIL FROM:<a@b.example> SIZE=1\r\n", "555 5.5.4"},
      {"MAIL FROM:<a@b.example>\r\nRCPT TO:<a@b.example> NOTIFY=NEVER\r\n", "250 2.1.0|555 5.5.4"}},
     0,
     false},
    {"sent ahead of EHLO's reply",
     NULL,
     {{"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\n", "554 5.5.0"}},
     0,
     true},
    {"two messages, one stream",
     NULL,
     {EHLO,
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"a\r\n.\r\n" ENVELOPE "DATA\r\n", "250 2.0.0|250 2.1.0|250 2.1.5|354"},
      {"b\r\n.\r\nQUIT\r\n", "250 2.0.0|221 2.0.0"}},
     2,
     true},
    {"authentication required",
     needs_auth,
     {EHLO,
      {"MAIL FROM:<a@b.example>\r\n", "530 5.7.0"},
      {AUTH_PLAIN, "235 2.7.0"},
      {ENVELOPE, "250 2.1.0|250 2.1.5"}},
     0,
     false},
    {"trusted without authentication",
     needs_auth_but_trusts,
     {EHLO, {ENVELOPE, "250 2.1.0|250 2.1.5"}},
     0,
     false},
    {"the owner says not now",
     not_now,
     {EHLO, {"MAIL FROM:<a@b.example>\r\nNOOP\r\n", "450 4.7.1|250 2.0.0"}},
     0,
     false},
    {"disk full",
     full_disk,
     {EHLO, {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"}, {"a\r\n.\r\nNOOP\r\n", "452 4.3.1|250 2.0.0"}},
     1,
     false},
    {"disk broken",
     broken_disk,
     {EHLO, {ENVELOPE "BDAT 3 LAST\r\na\r\n", "250 2.1.0|250 2.1.5|451 4.3.0"}},
     1,
     false},
    {"too many wait for signatures",
     full_pool,
     {EHLO, {ENVELOPE "BDAT 3 LAST\r\na\r\n", "250 2.1.0|250 2.1.5|451 4.3.2"}},
     1,
     false},
    {"messages per connection",
     one_message,
     {EHLO, {ENVELOPE "BDAT 3 LAST\r\na\r\n", "250 2.1.0|250 2.1.5|250 2.0.0"}, {ENVELOPE, "421 4.7.0"}},
     1,
     true},
    {"too many errors",
     three_errors,
     {{"a\r\nb\r\nc\r\nd\r\n", "500 5.5.1|500 5.5.1|500 5.5.1|421 4.7.0"}},
     0,
     true},
    {"bad addresses are no errors",
     three_errors,
     {EHLO,
      {"MAIL FROM:<>\r\nRCPT TO:<a>\r\nRCPT TO:<a>\r\nRCPT TO:<a>\r\nRCPT TO:<a@b@c>\r\nRCPT "
       "TO:<a@b.example>\r\n",
       "250 2.1.0|550 5.1.3|550 5.1.3|550 5.1.3|501 5.1.3|250 2.1.5"}},
     0,
     false},
    {"domains that are not fully qualified",
     NULL,
     {EHLO,
      {"MAIL FROM:<root@localhost>\r\nMAIL FROM:<a@10.0.0.1>\r\nMAIL FROM:<a@[10.0.0.1]>\r\n",
       "554 5.1.7|554 5.1.7|250 2.1.0"},
      {"RCPT TO:<a@localhost>\r\nRCPT TO:<a@192.0.2.1>\r\nRCPT TO:<a@1.example>\r\nRCPT "
       "TO:<a@[192.0.2.1]>\r\n",
       "554 5.1.3|554 5.1.3|250 2.1.5|250 2.1.5"},
      {"RCPT TO:<a@[IPv6:::1]>\r\nRCPT TO:<a@b.1a>\r\n", "250 2.1.5|250 2.1.5"}},
     0,
     false},
    {"recipients",
     two_recipients,
     {EHLO,
      {"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<e@f.example>\r\nDATA\r\n",
       "250 2.1.0|250 2.1.5|250 2.1.5|452 4.5.3|354"},
      {"x\r\n.\r\n", "250 2.0.0"}},
     1,
     false},
    {"all recipients refused",
     NULL,
     {EHLO,
      {"MAIL FROM:<>\r\nRCPT TO:<a>\r\nDATA\r\n", "250 2.1.0|550 5.1.3|554 5.5.1"},
      {"RSET\r\n", "250 2.0.0"}},
     0,
     false},
    {"content behind a refused DATA is not obeyed",
     NULL,
     {EHLO,
      {"MAIL FROM:<>\r\nRCPT TO:<a>\r\nDATA\r\nMAIL FROM:<evil@b.example>\r\n.\r\n",
       "250 2.1.0|550 5.1.3|554 5.5.1"}},
     0,
     true},
    {"SMTPUTF8",
     NULL,
     {EHLO,
      {"MAIL FROM:<\xc3\xa4@b.example>\r\n", "553 5.6.7"},
      {"MAIL FROM:<a@b.example>\r\nRCPT TO:<\xc3\xa4@b.example>\r\nRSET\r\n",
       "250 2.1.0|553 5.6.7|250 2.0.0"},
      {"MAIL FROM:<\xc3\xa4@b.example> SMTPUTF8\r\nRCPT TO:<\xc3\xa4@b.example>\r\n", "250 2.1.0|250 2.1.5"}},
     0,
     false},
    {"no SMTPUTF8 here", no_utf8, {EHLO, {"MAIL FROM:<a@b.example> SMTPUTF8\r\n", "555 5.5.4"}}, 0, false},
    {"SIZE",
     small,
     {EHLO,
      {"MAIL FROM:<> SIZE=101\r\n", "552 5.3.4"},
      {"MAIL FROM:<> SIZE=99999999999999999999\r\n", "552 5.3.4"},
      {"MAIL FROM:<> SIZE=1\r\nRCPT TO:<a@b.example>\r\nDATA\r\n", "250 2.1.0|250 2.1.5|354"}, /* a lie */
      {"1234567890123456789012345678901234567890\r\n1234567890123456789012345678901234567890\r\n1234567890\r"
       "\n1234567\r\n.\r\n",
       "552 5.3.4"},
      {"MAIL FROM:<> SIZE=100\r\nRCPT TO:<a@b.example>\r\nDATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"1234567890123456789012345678901234567890\r\n1234567890123456789012345678901234567890\r\n1234567890\r"
       "\n12\r\n.\r\n",
       "250 2.0.0"}},
     1,
     false},
    {"a message goes round",
     few_received,
     {EHLO,
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"Received: a\r\nReceived: b\r\n\r\n.\r\n", "554 5.4.6"},
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"Received: a\r\n\r\nReceived: b\r\n.\r\n", "250 2.0.0"}},
     1,
     false},
    {"header section too large",
     small_header,
     {EHLO,
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"Subject: 12345678901234567890123456789012345678901234567890\r\n\r\n.\r\n", "552 5.3.4"}},
     0,
     false},
    {"bare newlines refused",
     NULL,
     {EHLO,
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"a\nb\r\n.\r\n", "550 5.5.2"},
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"a\rb\r\n.\r\n", "550 5.5.2"},
      {ENVELOPE "BDAT 4 LAST\r\na\nb\n", "250 2.1.0|250 2.1.5|550 5.5.2"},
      {ENVELOPE "BDAT 2\r\na\n", "250 2.1.0|250 2.1.5|550 5.5.2"},
      {"NOOP\r\n", "250 2.0.0"}},
     0,
     false},
    {"bare newlines made right",
     normalize,
     {EHLO,
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"a\nb\r\n.\r\n", "250 2.0.0"},
      {ENVELOPE "BDAT 4 LAST\r\na\nb\n", "250 2.1.0|250 2.1.5|250 2.0.0"}},
     2,
     false},
    {"bare newline in a command", NULL, {EHLO, {"NOOP\nMAIL FROM:<>\r\n", "500 5.5.2"}}, 0, true},
    {"control characters in a command",
     NULL,
     {{"NO\rOP\r\nNO\x01OP\r\nNOOP\x7f\r\nNOOP\r\n", "500 5.5.2|500 5.5.2|500 5.5.2|250 2.0.0"}},
     0,
     false},
    {"campaign and schedule",
     NULL,
     {EHLO,
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"X-Campaign: not good\r\n\r\n.\r\n", "550 5.6.0"},
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"X-Campaign: a\r\nX-Campaign: a\r\n\r\n.\r\n", "550 5.6.0"},
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"X-Hayauma-Schedule: tomorrow\r\n\r\n.\r\n", "550 5.6.0"},
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"X-Hayauma-Schedule: 9999999999\r\n\r\n.\r\n", "550 5.6.0"},
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"X-Hayauma-Schedule: 1700000000\r\nX-Hayauma-Schedule: 1\r\n.\r\n", "550 5.6.0"}},
     0,
     false},
    {"a steering field that is not known",
     NULL,
     {EHLO,
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"x-hayauma-shedule: 1700000000\r\n\r\n.\r\n", "550 5.6.0"}},
     0,
     false},
    {"priority and expiry",
     NULL,
     {EHLO,
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"X-Hayauma-Priority: urgent\r\n\r\n.\r\n", "550 5.6.0"},
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"X-Hayauma-Priority: low\r\nX-Hayauma-Priority: low\r\n\r\n.\r\n", "550 5.6.0"},
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"X-Hayauma-Expires: soon\r\n\r\n.\r\n", "550 5.6.0"},
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"X-Hayauma-Expires: 1700000000\r\n\r\n.\r\n", "550 5.4.7"},
      {ENVELOPE "DATA\r\n", "250 2.1.0|250 2.1.5|354"},
      {"X-Hayauma-Expires: 9999999999\r\nX-Hayauma-Expires: 9999999999\r\n.\r\n", "550 5.6.0"}},
     0,
     false},
    {"chunks",
     NULL,
     {{"BDAT 5\r\nQUIT\r", "503 5.5.1"}, /* the octets are passed over, whatever they look like */
      EHLO,
      {"BDAT 6 LAST\r\nQUIT\r\n", "503 5.5.1"},
      {"MAIL FROM:<>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "250 2.1.0|554 5.5.1|250 2.0.0"},
      {"RCPT TO:<a@b.example>\r\n", "503 5.5.1"}, /* the transaction is gone */
      {ENVELOPE "BDAT 3\r\na\r\nBDAT 0\r\nDATA\r\n", "250 2.1.0|250 2.1.5|250 2.0.0|250 2.0.0|503 5.5.1"},
      {"RCPT TO:<c@d.example>\r\nBDAT 1\r\nbBDAT 0 LAST\r\n", "503 5.5.1|250 2.0.0|250 2.0.0"},
      {ENVELOPE "BDAT 2\r\na\rBDAT 1 LAST\r\n\n", "250 2.1.0|250 2.1.5|250 2.0.0|250 2.0.0"},
      {ENVELOPE "BDAT 3\r\na\r\nRSET\r\nBDAT 0 LAST\r\n",
       "250 2.1.0|250 2.1.5|250 2.0.0|250 2.0.0|503 5.5.1"},
      {ENVELOPE "BDAT 007 LAST\r\n12345\r\n", "250 2.1.0|250 2.1.5|250 2.0.0"},
      {ENVELOPE "BDAT 5 FIRST\r\nQUIT\rNOOP\r\n", "250 2.1.0|250 2.1.5|501 5.5.4|250 2.0.0"},
      {"BDAT 0 LAST\r\n", "503 5.5.1"}},
     3,
     false},
    {"a chunk behind a MAIL that was refused",
     NULL,
     {EHLO, {"MAIL FROM:<a@b@c>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n", "501 5.1.7|503 5.5.1|250 2.0.0"}},
     0,
     false},
    {"a chunk without a number",
     NULL,
     {EHLO, {ENVELOPE "BDAT -1 LAST\r\nQUIT\r\n", "250 2.1.0|250 2.1.5|501 5.5.4"}},
     0,
     true},
    {"a chunk of 2^64",
     NULL,
     {EHLO, {ENVELOPE "BDAT 18446744073709551616\r\n", "250 2.1.0|250 2.1.5|501 5.5.4"}},
     0,
     true},
    {"a chunk of 2^31",
     NULL,
     {EHLO, {ENVELOPE "BDAT 2147483648\r\n", "250 2.1.0|250 2.1.5|552 5.3.4"}},
     0,
     true},
    {"chunks that are too large together",
     small,
     {EHLO,
      {ENVELOPE
       "BDAT 90\r\n123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"
       "BDAT 11\r\nNOOP\r\nNOOP\r",
       "250 2.1.0|250 2.1.5|250 2.0.0|552 5.3.4"},
      {"BDAT 2 LAST\r\n\r\nNOOP\r\n", "503 5.5.1|250 2.0.0"}},
     0,
     false},
    {"sender domains",
     limited_sender,
     {EHLO,
      {AUTH_PLAIN, "235 2.7.0"},
      {"MAIL FROM:<a@b.example>\r\nRSET\r\n", "250 2.1.0|250 2.0.0"},
      {"MAIL FROM:<a@B.EXAMPLE>\r\nRSET\r\n", "250 2.1.0|250 2.0.0"},
      {"MAIL FROM:<a@x.c.example>\r\nRSET\r\n", "250 2.1.0|250 2.0.0"},
      {"MAIL FROM:<a@c.example>\r\n", "550 5.7.1"},
      {"MAIL FROM:<a@x.b.example>\r\n", "550 5.7.1"},
      {"MAIL FROM:<a@xc.example>\r\n", "550 5.7.1"},
      {"MAIL FROM:<>\r\n", "550 5.7.1"}},
     0,
     false},
    {"no TLS, no mail",
     needs_tls,
     {EHLO,
      {AUTH_PLAIN, "538 5.7.11"},
      {"MAIL FROM:<a@b.example>\r\n", "530 5.7.0"},
      {"NOOP\r\n", "250 2.0.0"}},
     0,
     false},
    {"STARTTLS is not offered", no_starttls, {EHLO, {"STARTTLS\r\n", "502 5.5.1"}}, 0, false},
    {"STARTTLS out of place",
     NULL,
     {EHLO,
      {"STARTTLS now\r\n", "501 5.5.4"},
      {"MAIL FROM:<a@b.example>\r\nSTARTTLS\r\nRSET\r\n", "250 2.1.0|503 5.5.1|250 2.0.0"},
      {AUTH_PLAIN "STARTTLS\r\n", "235 2.7.0|503 5.5.1"}},
     0,
     false},
    {"AUTH PLAIN",
     NULL,
     {EHLO,
      {"AUTH\r\nAUTH GSSAPI\r\nAUTH PLAIN ====\r\nAUTH PLAIN YQ\r\n",
       "501 5.5.4|504 5.5.4|501 5.5.2|501 5.5.2"},
      {"AUTH PLAIN AGFsaWNlAHdyb25n\r\n", "535 5.7.8"},             /* wrong password */
      {"AUTH PLAIN AG5vYm9keQB3b25kZXJsYW5k\r\n", "535 5.7.8"},     /* nobody */
      {"AUTH PLAIN Ym9iAGFsaWNlAHdvbmRlcmxhbmQ=\r\n", "535 5.7.8"}, /* bob by alice */
      {"AUTH PLAIN AGFsaWNlAA==\r\n", "535 5.7.8"},                 /* no password */
      {"AUTH PLAIN AGFsaWNl\r\n", "501 5.5.2"},                     /* one NUL */
      {"AUTH PLAIN =\r\n", "501 5.5.2"},                            /* empty */
      {"AUTH PLAIN\r\n*\r\n", "334|501 5.7.0"},
      {"AUTH PLAIN\r\n*x\r\nNOOP\r\n", "334|501 5.5.2|250 2.0.0"},
      {"auth plain\r\nAGFsaWNlAHdvbmRlcmxhbmQ=\r\n", "334|235 2.7.0"},
      {AUTH_PLAIN, "503 5.5.1"}},
     0,
     false},
    {"AUTH LOGIN",
     NULL,
     {EHLO,
      {"AUTH LOGIN\r\nYWxpY2U=\r\n*\r\n", "334|334|501 5.7.0"},
      {"AUTH LOGIN\r\nYWxpY2U=\r\nd3Jvbmc=\r\n", "334|334|535 5.7.8"},
      {"AUTH LOGIN\r\n\r\n\r\n", "334|334|535 5.7.8"},
      {"AUTH LOGIN YQBi\r\nNOOP\r\n", "501 5.5.2|250 2.0.0"},
      {"AUTH LOGIN YWxpY2U=\r\nd29uZGVybGFuZA==\r\n", "334|235 2.7.0"}},
     0,
     false},
    {"another mechanism after a failure",
     NULL,
     {EHLO, {"AUTH LOGIN\r\nYWxpY2U=\r\n", "334|334"}, {"!\r\n", "501 5.5.2"}, {AUTH_PLAIN, "235 2.7.0"}},
     0,
     false},
    {"AUTH within a transaction",
     NULL,
     {EHLO, {ENVELOPE AUTH_PLAIN, "250 2.1.0|250 2.1.5|503 5.5.1"}},
     0,
     false},
    {"AUTH after HELO", NULL, {{"HELO c.example\r\n", "250"}, {AUTH_PLAIN, "503 5.5.1"}}, 0, false},
    {"AUTH from elsewhere", other_network, {EHLO, {AUTH_PLAIN, "535 5.7.8"}}, 0, false},
    {"AUTH of a disabled account", disabled_account, {EHLO, {AUTH_PLAIN, "535 5.7.8"}}, 0, false},
    {"AUTH of a name that is being guessed at",
     guessed_at,
     {EHLO,
      {AUTH_PLAIN, "454 4.7.0"},
      {"AUTH LOGIN\r\nYWxpY2U=\r\nd29uZGVybGFuZA==\r\n", "334|334|454 4.7.0"},
      {"AUTH SCRAM-SHA-256 biwsbj1hbGljZSxyPWFiY2RlZmdo\r\nNOOP\r\n",
       "454 4.7.0|250 2.0.0"},                               /* n,,n=alice,r=… */
      {"AUTH PLAIN AGJvYgB3b25kZXJsYW5k\r\n", "535 5.7.8"}}, /* bob is wrong as ever */
     0,
     false},
    {"AUTH from where too many have failed",
     guessing,
     {EHLO,
      {"AUTH PLAIN\r\nNOOP\r\n", "454 4.7.0|250 2.0.0"},
      {AUTH_PLAIN, "454 4.7.0"},
      {"AUTH LOGIN\r\nAUTH SCRAM-SHA-256\r\n", "454 4.7.0|454 4.7.0"}},
     0,
     false},
    {"AUTH when accounts cannot be read",
     backend_down,
     {EHLO, {AUTH_PLAIN AUTH_PLAIN, "454 4.7.0|454 4.7.0"}},
     0,
     false},
};

static void play_scene(const struct scene *scene, size_t cut)
{
    struct play p;

    play_prepare(&p);
    if (scene->prepare)
        scene->prepare(&p);
    play_begin(&p);
    assert_string_equal(play_codes(play_hear(&p)), "220");
    for (size_t i = 0; i < TURNS && scene->turns[i].say; i++) {
        struct bytes say = bytes_of(scene->turns[i].say);
        bool whole = cut > say.len;
        /* What is sent ahead is known by its coming at once: these scenes are not cut. */
        if (strstr(scene->what, "refused DATA") || strstr(scene->what, "sent ahead"))
            whole = true;
        play_say(&p, whole ? say : bytes_first(say, cut));
        play_say(&p, whole ? (struct bytes){0} : bytes_skip(say, cut));
        const char *codes = play_codes(play_hear(&p));
        if (strcmp(codes, scene->turns[i].codes) != 0)
            fail_msg("%s, turn %zu, cut at %zu: %s, not %s", scene->what, i, cut, codes,
                     scene->turns[i].codes);
    }
    if (p.message_count != scene->messages || (p.close_count > 0) != scene->closed)
        fail_msg("%s: %u messages, closed %u times", scene->what, p.message_count, p.close_count);
    play_end(&p);
}

static void conversations_are_the_same_however_they_are_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(scenes); i++) {
        size_t longest = 0;
        for (size_t t = 0; t < TURNS && scenes[i].turns[t].say; t++)
            longest = MAX_OF(longest, strlen(scenes[i].turns[t].say));
        for (size_t cut = 0; cut <= longest + 1; cut++)
            play_scene(&scenes[i], cut);
    }
}

/* ---- long lines ---- */

static void an_overlong_line_is_refused_whole(void **state)
{
    static const struct {
        const char *before, *start;
        size_t fill; /* octets, all "A" */
        const char *codes;
    } cases[] = {
        {"", "NOOP ", 2048 - 7, "250 2.0.0"},
        {"", "NOOP ", 2048 - 6, "500 5.5.2"},
        {"", "NOOP ", 20000, "500 5.5.2"},
        {"", "NOOP ", 1000000, "500 5.5.2"},
        {"", "AUTH PLAIN ", 12288 - 13 - 3, "501 5.5.2"}, /* all A is NULs: taken as base64, but no PLAIN */
        {"", "AUTH PLAIN ", 12288 - 12, "500 5.5.2"},
        {"AUTH PLAIN\r\n", "", 12284, "501 5.5.2"},
        {"AUTH PLAIN\r\n", "", 12286, "501 5.5.2"}, /* not a multiple of four */
        {"AUTH PLAIN\r\n", "", 12287, "500 5.5.6"},
        {"AUTH PLAIN\r\n", "", 100000, "500 5.5.6"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        for (size_t piece = 1; piece < 3000000; piece *= 7) {
            struct play p;
            BUF_LOCAL(line);
            play_prepare(&p);
            play_begin(&p);
            play_says(&p, "EHLO c.example\r\n");
            play_says(&p, cases[i].before);
            play_hear(&p);
            buf_puts(&line, cases[i].start);
            memset(buf_reserve(&line, cases[i].fill), 'A', cases[i].fill);
            line.len += cases[i].fill;
            /* Behind a bare LF the line goes on: its tail is no command. */
            buf_puts(&line, cases[i].fill > 15000 ? "\nQUIT\r\nNOOP\r\n" : "\r\nNOOP\r\n");
            for (size_t at = 0; at < line.len; at += piece)
                play_say(&p, bytes_first(bytes_skip(buf_bytes(&line), at), piece));
            char want[60];
            snprintf(want, sizeof(want), "%s|250 2.0.0", cases[i].codes);
            assert_string_equal(play_codes(play_hear(&p)), want);
            play_end(&p);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_are_the_same_however_they_are_split),
        cmocka_unit_test(an_overlong_line_is_refused_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tests/unit/engine/smtp/play.h"

/* The codes of the replies in `text`: "250 2.1.0|354". */
static const char *codes_of(const char *text)
{
    static char out[8192];
    size_t n = 0;

    out[0] = '\0';
    for (const char *line = text; *line; line = strstr(line, "\r\n") + 2) {
        assert_non_null(strstr(line, "\r\n"));
        if (line[3] == '-')
            continue;
        bool enhanced = isdigit(line[4]) && line[5] == '.' && isdigit(line[6]);
        size_t code = enhanced ? 4 + strcspn(line + 4, " ") : 3;
        n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%.*s", n ? "|" : "", (int)code, line);
    }
    return out;
}

#define AUTH_PLAIN "AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=\r\n" /* alice, wonderland */
#define ENVELOPE   "MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n"

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
    assert_string_equal(codes_of(play_hear(&p)), "220");
    for (size_t i = 0; i < TURNS && scene->turns[i].say; i++) {
        struct bytes say = bytes_of(scene->turns[i].say);
        bool whole = cut > say.len;
        /* What is sent ahead is known by its coming at once: these scenes are not cut. */
        if (strstr(scene->what, "refused DATA") || strstr(scene->what, "sent ahead"))
            whole = true;
        play_say(&p, whole ? say : bytes_first(say, cut));
        play_say(&p, whole ? (struct bytes){0} : bytes_skip(say, cut));
        const char *codes = codes_of(play_hear(&p));
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

/* ---- what a message becomes ---- */

static void send_mail(struct play *p, const char *envelope, const char *content)
{
    play_says(p, envelope);
    play_says(p, "DATA\r\n");
    play_says(p, content);
}

static void what_was_sent_is_what_is_stored(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    p.rules.add_date = p.rules.add_message_id = true;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    send_mail(&p,
              "MAIL FROM:<a+1@B.Example> BODY=8BITMIME RET=HDRS ENVID=e+2B1\r\n"
              "RCPT TO:<z@Z.Example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o+2B@o.example\r\n"
              "RCPT TO:<@route.example:c@a.example>\r\nRCPT TO:<y@z.example>\r\nRCPT TO:<z@z.EXAMPLE>\r\n"
              "RCPT TO:<Z@z.example>\r\n",
              "Subject: \xc3\xa4\r\nX-Campaign: c\r\n\r\n..x\r\n.\r\n");
    assert_int_equal(p.message_count, 1);
    const struct message *m = p.messages[0];
    assert_string_equal(m->sender, "a+1@B.Example");
    assert_string_equal(m->envid, "e+1");
    assert_int_equal(m->ret, DSN_RET_HDRS);
    assert_int_equal(m->flags, MESSAGE_8BITMIME);
    assert_null(m->account);
    assert_string_equal(m->campaign, "c");
    assert_true(m->accepted_unix > 1700000000);
    assert_int_equal(m->rcpt_count, 4); /* the same address twice is one recipient */
    assert_int_equal(m->rcpt_total, 4);
    assert_string_equal(m->rcpts[0].address, "c@a.example");
    assert_string_equal(m->rcpts[1].address, "z@Z.Example");
    assert_string_equal(m->rcpts[1].domain, "z.example");
    assert_string_equal(m->rcpts[1].orcpt, "rfc822;o+@o.example");
    assert_int_equal(m->rcpts[1].notify, NOTIFY_SUCCESS | NOTIFY_DELAY);
    assert_int_equal(m->rcpts[0].notify, NOTIFY_DEFAULT);
    assert_null(m->rcpts[0].orcpt);
    const char *body = play_body(&p, 0);
    assert_ptr_equal(
        strstr(body, "Received: from c.example ([192.0.2.7])\r\n\tby mx.example (Hayauma) with ESMTP id "),
        body);
    assert_non_null(strstr(body, "\r\nSubject: \xc3\xa4\r\nDate: "));
    assert_non_null(strstr(body, "@mx.example>\r\n\r\n.x\r\n"));
    assert_null(strstr(body, "for <"));
    assert_int_equal(m->body->flags & (BODY_8BIT | BODY_UTF8_HEADER | BODY_DOTS),
                     BODY_UTF8_HEADER | BODY_DOTS);
    assert_int_equal(m->body->header_bytes, strstr(body, "\r\n\r\n") + 4 - body);

    send_mail(&p, "MAIL FROM:<>\r\nRCPT TO:<only@a.example>\r\n",
              "Date: x\r\nMessage-ID: <y>\r\nno header\r\n.\r\n");
    body = play_body(&p, 1);
    assert_non_null(strstr(body, "\r\n\tfor <only@a.example>;\r\n"));
    assert_non_null(strstr(body, "\r\nDate: x\r\nMessage-ID: <y>\r\n\r\nno header\r\n"));
    assert_string_equal(p.messages[1]->sender, "");
    assert_true(p.messages[1]->id > p.messages[0]->id);

    send_mail(&p, "MAIL FROM:<a@b.example> SMTPUTF8\r\nRCPT TO:<only@a.example>\r\n", "To: x\r\n.\r\n");
    assert_int_equal(p.messages[2]->flags, 0); /* said, and not needed */
    send_mail(&p, "MAIL FROM:<a@b.example> SMTPUTF8\r\nRCPT TO:<\xc3\xa4@a.example>\r\n", ".\r\n");
    assert_int_equal(p.messages[3]->flags, MESSAGE_SMTPUTF8);
    assert_non_null(strstr(play_body(&p, 3), " with UTF8SMTP id "));
    send_mail(&p, "MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<a@B.example>\r\n", ".\r\n");
    assert_int_equal(p.messages[4]->rcpt_count, 1);
    assert_non_null(strstr(play_body(&p, 4), "for <a@b.example>"));
    play_end(&p);
}

static void a_schedule_holds_a_message_back(void **state)
{
    char content[200];
    struct play p;
    int64_t now = clock_unix();

    (void)state;
    play_prepare(&p);
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    const int64_t ahead[] = {3600, 30 * 86400 - 60, -3600};
    for (size_t i = 0; i < COUNT_OF(ahead); i++) {
        snprintf(content, sizeof(content), "X-Hayauma-Schedule: %lld\r\n\r\n.\r\n",
                 (long long)(now + ahead[i]));
        send_mail(&p, ENVELOPE, content);
        assert_int_equal(p.message_count, i + 1);
        assert_int_equal(p.not_before[i], ahead[i] > 0 ? now + ahead[i] : 0);
        assert_null(strstr(play_body(&p, (unsigned)i), "Schedule"));
    }
    send_mail(&p, ENVELOPE, "To: x\r\n.\r\n");
    assert_int_equal(p.not_before[3], 0);
    play_end(&p);
}

/* ---- smuggling ---- */

/*
 * Line ends that one program or another takes for the end of a message: all but one of these begin a "second
 * message" in somebody's eyes, and none may in ours.
 */
static const char *const smuggling[] = {
    "\n.\n",
    "\n.\r\n",
    "\r\n.\n",
    "\r.\r",
    "\r.\r\n",
    "\r\n.\r",
    "\n.\r",
    "\r.\n",
    "\r\n\n.\r\n",
    "\n\n.\r\n",
    "\r\r\n.\n",
    "\r\n.\r\r\n",
    "\r\n.\n\r\n",
    "\r\n\r.\r\n",
    "\n\r.\r\n",
    "\n\r\n.\n",
    "\r\n..\r\n",
    "\r\n. \r\n",
    "\r\n .\r\n",
    "\r\n.\t\r\n",
    "\r\r\n.\r\r\n",
    "\r\n.\x0b\r\n",
    "\r\n.\x0c\r\n",
    "\xc2\x85.\xc2\x85",
    "\xe2\x80\xa8.\xe2\x80\xa8",
};
#define SMUGGLED "MAIL FROM:<evil@b.example>\r\nRCPT TO:<victim@d.example>\r\nDATA\r\nsmuggled\r\n"

static void smuggle(struct play *p, const char *payload, bool chunked, size_t cut)
{
    char content[500], chunk[40];
    int n = snprintf(content, sizeof(content), "Subject: x\r\n\r\nfirst%s" SMUGGLED "%s", payload,
                     chunked ? "" : "\r\n.\r\n");
    struct bytes all = bytes_make(content, (size_t)n);

    cut = MIN_OF(cut, all.len);
    play_says(p, ENVELOPE);
    snprintf(chunk, sizeof(chunk), "BDAT %d LAST\r\n", n);
    play_says(p, chunked ? chunk : "DATA\r\n");
    play_hear(p);
    play_say(p, bytes_first(all, cut));
    play_say(p, bytes_skip(all, cut));
}

static void no_smuggled_line_end_makes_two_messages(void **state)
{
    (void)state;
    for (int mode = 0; mode < 4; mode++) {
        struct play p;
        play_prepare(&p);
        p.rules.bare_newline = mode & 1 ? BARE_NEWLINE_NORMALIZE : BARE_NEWLINE_REJECT;
        play_begin(&p);
        play_says(&p, "EHLO c.example\r\n");
        for (size_t i = 0; i < COUNT_OF(smuggling); i++) {
            for (size_t cut = 0; cut < 120; cut++) {
                unsigned before = p.message_count;
                smuggle(&p, smuggling[i], mode & 2, cut);
                const char *codes = codes_of(play_hear(&p));
                bool taken = strcmp(codes, "250 2.0.0") == 0;
                if (!taken && (mode & 1 || strcmp(codes, "550 5.5.2") != 0))
                    fail_msg("payload %zu, mode %d, cut at %zu: %s", i, mode, cut, codes);
                assert_int_equal(p.message_count, before + taken);
                if (!taken)
                    continue;
                const struct message *m = p.messages[before];
                assert_string_equal(m->sender, "a@b.example");
                assert_non_null(strstr(play_body(&p, before), "smuggled\r\n"));
                message_unref(p.messages[--p.message_count]);
            }
        }
        play_end(&p);
    }
}

/* ---- TLS ---- */

static void nothing_said_before_tls_counts_after_it(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    p.rules.require_tls = true;
    p.rules.auth_without_tls = false;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    const char *offer = play_hear(&p);
    assert_non_null(strstr(offer, "\r\n250-STARTTLS\r\n"));
    assert_null(strstr(offer, "AUTH"));
    play_says(&p, "STARTTLS\r\nMAIL FROM:<evil@b.example>\r\nRCPT TO:<c@d.example>\r\n");
    assert_string_equal(codes_of(play_hear(&p)), "220 2.0.0");
    assert_int_equal(p.starttls_count, 1);
    play_says(&p, "RCPT TO:<c@d.example>\r\n"); /* in clear, during the handshake */
    assert_string_equal(play_hear(&p), "");
    play_tls(&p);
    assert_string_equal(play_hear(&p), "");
    play_says(&p, "MAIL FROM:<a@b.example>\r\n");
    assert_string_equal(codes_of(play_hear(&p)), "503 5.5.1");
    play_says(&p, "EHLO c.example\r\n");
    offer = play_hear(&p);
    assert_null(strstr(offer, "STARTTLS"));
    assert_non_null(strstr(offer, "\r\n250-AUTH PLAIN LOGIN SCRAM-SHA-256\r\n"));
    play_says(&p, "STARTTLS\r\n");
    assert_string_equal(codes_of(play_hear(&p)), "503 5.5.1");
    play_says(&p, AUTH_PLAIN);
    send_mail(&p, ENVELOPE, "To: x\r\n.\r\n");
    assert_string_equal(codes_of(play_hear(&p)), "235 2.7.0|250 2.1.0|250 2.1.5|354|250 2.0.0");
    assert_non_null(
        strstr(play_body(&p, 0), "with ESMTPSA\r\n\t(version=TLS1.3 cipher=TLS_AES_256_GCM_SHA384) id "));
    play_end(&p);
}

static void implicit_tls_is_there_from_the_greeting_on(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    p.rules.implicit_tls = p.rules.require_tls = true;
    p.rules.auth_without_tls = false;
    play_tls(&p);
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    assert_null(strstr(play_hear(&p), "STARTTLS"));
    play_says(&p, AUTH_PLAIN);
    assert_string_equal(codes_of(play_hear(&p)), "235 2.7.0");
    assert_string_equal(smtp_server_account(p.server), "alice");
    play_end(&p);
}

static void ehlo_offers_what_there_is(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    play_begin(&p);
    play_hear(&p);
    play_says(&p, "EHLO c.example\r\n");
    assert_string_equal(play_hear(&p),
                        "250-mx.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
                        "250-STARTTLS\r\n250-AUTH PLAIN LOGIN SCRAM-SHA-256\r\n250-SIZE 100000\r\n250-DSN\r\n"
                        "250 ENHANCEDSTATUSCODES\r\n");
    play_end(&p);
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
            assert_string_equal(codes_of(play_hear(&p)), want);
            play_end(&p);
        }
    }
}

/* ---- waiting for the owner ---- */

static void octets_that_come_while_the_owner_works_wait_their_turn(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    p.answer_later = true;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    play_says(&p, AUTH_PLAIN ENVELOPE);
    play_says(&p, "DATA\r\n");
    assert_string_equal(codes_of(play_hear(&p)), "220|250");
    assert_false(smtp_server_wants_pause(p.server));
    assert_int_equal(smtp_server_deadline_ms(p.server), 0);
    play_answer(&p);
    assert_string_equal(codes_of(play_hear(&p)), "235 2.7.0|250 2.1.0|250 2.1.5|354");
    play_says(&p, "x\r\n.\r\n" ENVELOPE "BDAT 3 LAST\r\ny\r\nQUIT\r\n");
    assert_string_equal(play_hear(&p), "");
    assert_int_equal(p.message_count, 1);
    assert_false(smtp_server_is_idle(p.server));
    play_answer(&p);
    assert_string_equal(codes_of(play_hear(&p)), "250 2.0.0|250 2.1.0|250 2.1.5");
    assert_int_equal(p.message_count, 2);
    play_answer(&p);
    assert_string_equal(codes_of(play_hear(&p)), "250 2.0.0|221 2.0.0");
    assert_int_equal(p.close_count, 1);
    play_end(&p);
}

static void what_waits_is_bounded(void **state)
{
    static char noops[60000];
    struct play p;

    (void)state;
    memset(noops, 'x', sizeof(noops));
    play_prepare(&p);
    p.answer_later = true;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    play_says(&p, AUTH_PLAIN);
    play_say(&p, bytes_make(noops, sizeof(noops)));
    assert_false(smtp_server_wants_pause(p.server));
    play_say(&p, bytes_make(noops, sizeof(noops)));
    assert_true(smtp_server_wants_pause(p.server));
    for (unsigned i = 0; i < 20 && !p.close_count; i++)
        play_say(&p, bytes_make(noops, sizeof(noops)));
    assert_int_equal(p.close_count, 1); /* who does not stop is cut off */
    play_answer(&p);                    /* too late, and harmless */
    assert_null(strstr(play_hear(&p), "235"));
    play_end(&p);
}

static void the_owner_may_destroy_a_session_that_closes(void **state)
{
    static const char *const ends[] = {"QUIT\r\n", "QUIT\r\nQUIT\r\n", "NOOP\nQUIT\r\n"};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        struct play p;
        play_prepare(&p);
        p.destroy_in_close = true;
        play_begin(&p);
        play_says(&p, ends[i]);
        assert_null(p.server);
        play_end(&p);
    }
}

static void a_session_may_end_anywhere(void **state)
{
    static const char *const lasts[] = {
        "EHLO c.exa",
        "EHLO c.example\r\n",
        "AUTH LOGIN\r\nYWxpY2U=\r\n",
        "AUTH PLAIN\r\nAGFs",
        ENVELOPE,
        ENVELOPE "BDAT 100\r\nabc",
        ENVELOPE "BDAT 3\r\nabc",
        "STARTTLS\r\n",
        ENVELOPE "DATA\r\n",
        ENVELOPE "BDAT 3 LAST\r\nabc",
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(lasts); i++) {
        struct play p;
        play_prepare(&p);
        p.answer_later = true;
        play_begin(&p);
        play_says(&p, "EHLO c.example\r\n");
        play_says(&p, lasts[i]);
        play_end(&p);
    }
}

/* ---- time ---- */

static void silence_ends_a_session(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    play_begin(&p);
    assert_int_equal(smtp_server_deadline_ms(p.server), 301000);
    p.now_ms = 200000;
    play_says(&p, "EHLO c.exa"); /* a part of a line buys no time */
    assert_int_equal(smtp_server_deadline_ms(p.server), 301000);
    play_says(&p, "mple\r\n");
    assert_int_equal(smtp_server_deadline_ms(p.server), 500000);
    send_mail(&p, ENVELOPE, "To: a\r\n");
    assert_int_equal(smtp_server_deadline_ms(p.server), 380000); /* data: 180 s */
    p.now_ms = 300000;
    play_says(&p, "x");
    assert_int_equal(smtp_server_deadline_ms(p.server), 480000);
    smtp_server_on_deadline(p.server, 479999);
    assert_int_equal(p.close_count, 0);
    play_hear(&p);
    smtp_server_on_deadline(p.server, 480000);
    assert_string_equal(codes_of(play_hear(&p)), "421 4.4.2");
    assert_int_equal(p.close_count, 1);
    assert_int_equal(smtp_server_deadline_ms(p.server), 0);
    assert_int_equal(p.message_count, 0);
    play_end(&p);
}

static void a_trickle_of_data_is_not_enough(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    p.rules.data_rate_min = 100;
    p.now_ms = 0;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    send_mail(&p, ENVELOPE, "");
    for (p.now_ms = 0; !p.close_count; p.now_ms += 1000) {
        if (smtp_server_deadline_ms(p.server) <= p.now_ms)
            smtp_server_on_deadline(p.server, p.now_ms);
        else
            play_says(&p, "0123456789"); /* ten octets a second, of a hundred */
        assert_true(p.now_ms < 80000);
    }
    assert_true(p.now_ms >= 60000);
    play_end(&p);

    play_prepare(&p);
    p.rules.data_rate_min = 10;
    p.now_ms = 0;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    send_mail(&p, ENVELOPE, "");
    for (p.now_ms = 0; p.now_ms < 1000000; p.now_ms += 1000) {
        play_says(&p, "0123456789");
        assert_true(smtp_server_deadline_ms(p.server) > p.now_ms + 1000);
    }
    play_end(&p);
}

static void who_speaks_first_is_not_served(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    play_begin(&p);
    smtp_server_destroy(TAKE(p.server));
    play_end(&p);

    play_prepare(&p);
    p.rules.implicit_tls = false;
    play_tls(&p); /* makes the server */
    play_says(&p, "EHLO c.example\r\n");
    play_begin(&p);
    assert_string_equal(codes_of(play_hear(&p)), "554");
    assert_int_equal(p.close_count, 1);
    play_end(&p);
}

static void a_drained_session_ends_between_transactions(void **state)
{
    struct play p;

    (void)state;
    play_prepare(&p);
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    play_hear(&p);
    assert_true(smtp_server_is_idle(p.server));
    smtp_server_drain(p.server, p.now_ms);
    assert_string_equal(codes_of(play_hear(&p)), "421 4.3.2");
    assert_int_equal(p.close_count, 1);
    play_end(&p);

    play_prepare(&p);
    p.answer_later = true;
    play_begin(&p);
    play_says(&p, "EHLO c.example\r\n");
    play_says(&p, ENVELOPE);
    play_hear(&p);
    smtp_server_drain(p.server, p.now_ms);
    assert_string_equal(play_hear(&p), "");
    play_says(&p, "DATA\r\n");
    play_says(&p, "x\r\n.\r\n");
    smtp_server_drain(p.server, p.now_ms);
    assert_string_equal(codes_of(play_hear(&p)), "354");
    play_answer(&p);
    assert_string_equal(codes_of(play_hear(&p)), "250 2.0.0|421 4.3.2");
    assert_int_equal(p.close_count, 1);
    assert_int_equal(p.message_count, 1);
    play_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_are_the_same_however_they_are_split),
        cmocka_unit_test(what_was_sent_is_what_is_stored),
        cmocka_unit_test(a_schedule_holds_a_message_back),
        cmocka_unit_test(no_smuggled_line_end_makes_two_messages),
        cmocka_unit_test(nothing_said_before_tls_counts_after_it),
        cmocka_unit_test(implicit_tls_is_there_from_the_greeting_on),
        cmocka_unit_test(ehlo_offers_what_there_is),
        cmocka_unit_test(an_overlong_line_is_refused_whole),
        cmocka_unit_test(octets_that_come_while_the_owner_works_wait_their_turn),
        cmocka_unit_test(what_waits_is_bounded),
        cmocka_unit_test(the_owner_may_destroy_a_session_that_closes),
        cmocka_unit_test(a_session_may_end_anywhere),
        cmocka_unit_test(silence_ends_a_session),
        cmocka_unit_test(a_trickle_of_data_is_not_enough),
        cmocka_unit_test(who_speaks_first_is_not_served),
        cmocka_unit_test(a_drained_session_ends_between_transactions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "base/mem.h"
#include "tests/unit/engine/smtp/play.h"

/* A conversation: what is said, and how the replies to it begin (one code a line, blanks between). */
struct turn {
    const char *say, *codes;
};

/* The reply codes in `text`, final lines only: "250 354". */
static const char *codes_of(const char *text)
{
    static char out[4096];
    size_t n = 0;

    for (const char *line = text; *line; line = strstr(line, "\r\n") + 2) {
        assert_non_null(strstr(line, "\r\n"));
        if (line[3] == '-')
            continue;
        n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%.3s", n ? " " : "", line);
    }
    out[n] = '\0';
    return out;
}

static void say_in_two(struct play *p, const char *octets, size_t cut)
{
    struct bytes all = bytes_of(octets);

    cut = MIN_OF(cut, all.len);
    play_say(p, bytes_first(all, cut));
    if (p->server)
        play_say(p, bytes_skip(all, cut));
}

#define CONTENT    "From: <a@b.example>\r\nSubject: hello\r\nX-Campaign: spring\r\n\r\nfirst\r\n..dots\r\n.\r\n"
#define AUTH_PLAIN "AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=\r\n" /* alice, wonderland */

static const struct turn a_session[] = {
    {"EHLO client.example\r\n", "250"},
    {AUTH_PLAIN, "235"},
    {"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nRCPT TO:<e@f.example>\r\nDATA\r\n",
     "250 250 250 354"},
    {CONTENT, "250"},
    {"QUIT\r\n", "221"},
};

static void a_whole_session_is_the_same_however_it_is_split(void **state)
{
    size_t longest = strlen(CONTENT) + strlen(a_session[2].say);

    (void)state;
    for (size_t cut = 0; cut <= longest; cut++) {
        struct play p;
        play_prepare(&p);
        p.rules.require_auth = true;
        play_begin(&p);
        assert_string_equal(codes_of(play_hear(&p)), "220");
        for (size_t i = 0; i < COUNT_OF(a_session); i++) {
            say_in_two(&p, a_session[i].say, cut);
            assert_string_equal(codes_of(play_hear(&p)), a_session[i].codes);
        }
        assert_int_equal(p.close_count, 1);
        assert_int_equal(p.message_count, 1);
        const struct message *m = p.messages[0];
        assert_string_equal(m->sender, "a@b.example");
        assert_string_equal(m->campaign, "spring");
        assert_string_equal(m->account, "alice");
        assert_int_equal(m->rcpt_count, 2);
        const char *body = play_body(&p, 0);
        assert_ptr_equal(strstr(body, "Received: from client.example ([192.0.2.7])\r\n"), body);
        assert_non_null(strstr(body, "(authenticated as alice)"));
        assert_null(strstr(body, "X-Campaign"));
        assert_null(strstr(body, "for <"));
        assert_non_null(strstr(body, "Subject: hello\r\n\r\nfirst\r\n.dots\r\n"));
        assert_true(m->body->flags & BODY_DOTS);
        play_end(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_session_is_the_same_however_it_is_split),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

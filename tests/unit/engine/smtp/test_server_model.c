/* T34: every order of commands up to some length against a model of a few lines (the server's own tables play
 * no part here). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/engine/smtp/play.h"

#ifdef __SANITIZE_ADDRESS__
#define LENGTH 4
#else
#define LENGTH 5
#endif

enum word { W_EHLO, W_MAIL, W_RCPT, W_DATA, W_BDAT, W_RSET, W_AUTH, W_STARTTLS, W_QUIT, W_X, WORDS };

static const char *const says[WORDS] = {
    [W_EHLO] = "EHLO c.example\r\n",
    [W_MAIL] = "MAIL FROM:<a@b.example>\r\n",
    [W_RCPT] = "RCPT TO:<c@d.example>\r\n",
    [W_DATA] = "DATA\r\n",
    [W_BDAT] = "BDAT 6\r\nQUIT\r\n",
    [W_RSET] = "RSET\r\n",
    [W_AUTH] = "AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=\r\n",
    [W_STARTTLS] = "STARTTLS\r\n",
    [W_QUIT] = "QUIT\r\n",
    [W_X] = "x\r\n",
};

struct model {
    bool clear_auth; /* AUTH without TLS is allowed */
    bool greeted, tls, authenticated, over;
    enum { NO_TXN, SENDER, RECIPIENT, CHUNKS } txn;
    unsigned messages;
};

static int model_bdat(struct model *m)
{
    if (m->txn == RECIPIENT || m->txn == CHUNKS) {
        m->txn = CHUNKS;
        return 250;
    }
    int code = m->txn == SENDER ? 554 : 503;
    m->txn = NO_TXN;
    return code;
}

/* The code that RFC 5321, 3030, 3207 and 4954 want. */
static int model_hears(struct model *m, enum word w)
{
    bool between = m->greeted && m->txn == NO_TXN;

    switch (w) {
    case W_EHLO:
        m->greeted = true;
        m->txn = NO_TXN;
        return 250;
    case W_MAIL:
        if (!between)
            return 503;
        m->txn = SENDER;
        return 250;
    case W_RCPT:
        if (m->txn != SENDER && m->txn != RECIPIENT)
            return 503;
        m->txn = RECIPIENT;
        return 250;
    case W_DATA:
        if (m->txn != RECIPIENT)
            return m->txn == SENDER ? 554 : 503;
        m->txn = NO_TXN;
        m->messages++;
        return 354;
    case W_BDAT: return model_bdat(m);
    case W_RSET: m->txn = NO_TXN; return 250;
    case W_AUTH:
        if (!between || m->authenticated)
            return 503;
        if (!m->tls && !m->clear_auth)
            return 538;
        m->authenticated = true;
        return 235;
    case W_STARTTLS:
        if (!between || m->tls || m->authenticated)
            return 503;
        m->greeted = false;
        m->tls = true;
        return 220;
    case W_QUIT: m->over = true; return 221;
    default: return 500;
    }
}

static int last_code(struct play *p)
{
    const char *text = play_hear(p);
    size_t n = strlen(text);

    for (size_t i = n; i > 2; i--) /* the last line */
        if (i == 2 || (i < n - 1 && text[i - 1] == '\n'))
            return atoi(text + i);
    return n ? atoi(text) : 0;
}

static void follow(const enum word *words, bool clear_auth)
{
    struct model m = {.clear_auth = clear_auth};
    struct play p;

    play_prepare(&p);
    p.rules.auth_without_tls = clear_auth;
    play_begin(&p);
    play_hear(&p);
    for (size_t i = 0; i < LENGTH && !m.over; i++) {
        play_says(&p, says[words[i]]);
        int heard = last_code(&p);
        int want = model_hears(&m, words[i]);
        if (heard != want)
            fail_msg("%d.%d.%d.%d, step %zu: %d, not %d", words[0], words[1], words[2], words[3], i, heard,
                     want);
        if (heard == 354) {
            play_says(&p, "x\r\n.\r\n");
            assert_int_equal(last_code(&p), 250);
        } else if (heard == 220) {
            play_tls(&p);
        }
    }
    assert_int_equal(p.message_count, m.messages);
    assert_int_equal(p.close_count, m.over);
    play_end(&p);
}

static void every_order_of_commands_is_answered_as_the_model_says(void **state)
{
    size_t count = 1;

    (void)state;
    for (size_t i = 0; i < LENGTH; i++)
        count *= WORDS;
    for (size_t n = 0; n < count * 2; n++) {
        enum word words[LENGTH];
        size_t rest = n / 2;
        for (size_t i = 0; i < LENGTH; i++, rest /= WORDS)
            words[i] = (enum word)(rest % WORDS);
        follow(words, n & 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_order_of_commands_is_answered_as_the_model_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

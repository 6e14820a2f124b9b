#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/smtp/received.h"

static void the_field_says_how_a_message_came(void **state)
{
    static const struct {
        struct received r;
        const char *ip, *want;
    } cases[] = {
        {{.helo = "c.example", .host_name = "mx.example", .esmtp = true, .id = "ID", .date = "DATE"},
         "192.0.2.1",
         "Received: from c.example ([192.0.2.1])\r\n\tby mx.example (Hayauma) with ESMTP id "
         "ID;\r\n\tDATE\r\n"},
        {{.helo = "c.example",
          .host_name = "mx.example",
          .id = "ID",
          .date = "DATE",
          .only_recipient = "a@b.example"},
         "2001:db8::1",
         "Received: from c.example ([IPv6:2001:db8::1])\r\n\tby mx.example (Hayauma) with SMTP id ID\r\n"
         "\tfor <a@b.example>;\r\n\tDATE\r\n"},
        {{.helo = "[192.0.2.1]",
          .account = "al(ice)\r\nX: y",
          .host_name = "mx.example",
          .esmtp = true,
          .tls_version = "TLS1.3",
          .tls_cipher = "TLS_AES_256_GCM_SHA384",
          .id = "ID",
          .date = "DATE"},
         "192.0.2.1",
         "Received: from [192.0.2.1] ([192.0.2.1])\r\n\t(authenticated as al?ice???X:?y)\r\n"
         "\tby mx.example (Hayauma) with ESMTPSA\r\n\t(version=TLS1.3 cipher=TLS_AES_256_GCM_SHA384) id "
         "ID\r\n"
         "\ttls TLS_AES_256_GCM_SHA384;\r\n\tDATE\r\n"},
        {{.helo = "c",
          .host_name = "mx.example",
          .esmtp = true,
          .smtputf8 = true,
          .id = "ID",
          .date = "DATE"},
         "192.0.2.1",
         "Received: from c ([192.0.2.1])\r\n\tby mx.example (Hayauma) with UTF8SMTP id ID;\r\n\tDATE\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(out);
        struct received r = cases[i].r;
        assert_true(ip_parse(bytes_of(cases[i].ip), &r.ip));
        received_format(&r, &out);
        assert_string_equal(buf_str(&out), cases[i].want);
    }
}

static void the_protocol_has_its_registered_name(void **state)
{
    static const struct {
        bool esmtp, utf8, tls, auth;
        const char *want;
    } cases[] = {
        {false, false, false, false, " with SMTP "},    {true, false, false, false, " with ESMTP "},
        {true, false, true, false, " with ESMTPS\r"},   {true, false, false, true, " with ESMTPA "},
        {true, false, true, true, " with ESMTPSA\r"},   {true, true, false, false, " with UTF8SMTP "},
        {true, true, true, false, " with UTF8SMTPS\r"}, {true, true, false, true, " with UTF8SMTPA "},
        {true, true, true, true, " with UTF8SMTPSA\r"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        BUF_LOCAL(out);
        received_format(&(struct received){.helo = "c",
                                           .host_name = "h",
                                           .id = "i",
                                           .date = "d",
                                           .esmtp = cases[i].esmtp,
                                           .smtputf8 = cases[i].utf8,
                                           .account = cases[i].auth ? "a" : NULL,
                                           .tls_version = cases[i].tls ? "TLS1.2" : NULL,
                                           .tls_cipher = "x"},
                        &out);
        assert_non_null(strstr(buf_str(&out), cases[i].want));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_field_says_how_a_message_came),
        cmocka_unit_test(the_protocol_has_its_registered_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

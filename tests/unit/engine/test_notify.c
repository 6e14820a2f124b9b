/* What the service manager hears, over a socket with a path and one without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/notify.h"

static int listen_at(const char *name)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    size_t len = strlen(name);

    memcpy(at.sun_path, name, len);
    if (*name == '@')
        at.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_int_equal(
        bind(fd, (struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)), 0);
    return fd;
}

static void expect(int fd, const char *beginning)
{
    char heard[128];
    ssize_t n = recv(fd, heard, sizeof(heard) - 1, MSG_DONTWAIT);

    assert_true(n > 0);
    heard[n] = '\0';
    assert_memory_equal(heard, beginning, strlen(beginning));
}

static void the_manager_hears_over_both_kinds_of_socket(void **state)
{
    char names[2][64];
    (void)state;

    snprintf(names[0], sizeof(names[0]), "/tmp/hayauma-notify-%d", (int)getpid());
    snprintf(names[1], sizeof(names[1]), "@hayauma-notify-%d", (int)getpid());
    for (int i = 0; i < 2; i++) {
        int fd = listen_at(names[i]);
        setenv("NOTIFY_SOCKET", names[i], 1);
        assert_true(notify_manager(NOTIFY_READY));
        expect(fd, "READY=1");
        assert_true(notify_reloading());
        expect(fd, "RELOADING=1\nMONOTONIC_USEC=");
        assert_int_equal(recv(fd, names[i], 1, MSG_DONTWAIT), -1);
        close(fd);
    }
    snprintf(names[0], sizeof(names[0]), "/tmp/hayauma-notify-%d", (int)getpid());
    unlink(names[0]);
}

static void without_a_manager_nothing_is_said(void **state)
{
    static const char *const names[] = {"", "/", "relative/path", "/nowhere/at/all"};
    char longer[200];
    (void)state;

    unsetenv("NOTIFY_SOCKET");
    assert_false(notify_manager(NOTIFY_READY));
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        setenv("NOTIFY_SOCKET", names[i], 1);
        assert_false(notify_manager(NOTIFY_READY));
    }
    memset(longer, 'a', sizeof(longer) - 1);
    longer[0] = '/';
    longer[sizeof(longer) - 1] = '\0';
    setenv("NOTIFY_SOCKET", longer, 1);
    assert_false(notify_manager(NOTIFY_READY));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_manager_hears_over_both_kinds_of_socket),
        cmocka_unit_test(without_a_manager_nothing_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "tests/bench/nameserver.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/macros.h"

enum { HEADER = 12, TYPE_A = 1, TYPE_SOA = 6, TYPE_MX = 15, CLASS_IN = 1 };

#define TTL_S 3600

/* NAMESERVER_MX as labels; the end of the literal is the root. */
static const char mx_labels[] = "\2mx\7example\4test";

static void put16(struct buf *out, unsigned value)
{
    buf_putc(out, (char)(value >> 8));
    buf_putc(out, (char)(value & 0xff));
}

static void put32(struct buf *out, uint32_t value)
{
    put16(out, value >> 16);
    put16(out, value & 0xffff);
}

static unsigned get16(struct bytes in, size_t at)
{
    return ((unsigned)(unsigned char)in.at[at] << 8) | (unsigned char)in.at[at + 1];
}

/* The octets of the name at HEADER with its root label; 0 when it is not one (RFC 1035 §3.1). */
static size_t name_length(struct bytes query)
{
    size_t at = HEADER;

    while (at < query.len) {
        unsigned label = (unsigned char)query.at[at];
        if (label > 63 || at - HEADER + label >= 255)
            return 0;
        at += label + 1;
        if (label == 0)
            return at - HEADER;
    }
    return 0;
}

static void put_record(struct buf *out, unsigned type, struct bytes data)
{
    put16(out, 0xc000 | HEADER); /* the name that was asked for */
    put16(out, type);
    put16(out, CLASS_IN);
    put32(out, TTL_S);
    put16(out, (unsigned)data.len);
    buf_put(out, data);
}

static void put_mx(struct buf *out)
{
    BUF_LOCAL(data);

    put16(&data, 10);
    buf_put(&data, bytes_make(mx_labels, sizeof mx_labels));
    put_record(out, TYPE_MX, buf_bytes(&data));
}

/* The root's, so that what does not exist may be remembered (RFC 2308 §5). */
static void put_soa(struct buf *out)
{
    buf_putc(out, 0);
    put16(out, TYPE_SOA);
    put16(out, CLASS_IN);
    put32(out, TTL_S);
    put16(out, 2 + 5 * 4);
    buf_putc(out, 0);
    buf_putc(out, 0);
    for (unsigned i = 0; i < 5; i++)
        put32(out, TTL_S);
}

void nameserver_answer(struct bytes query, struct in_addr mx, struct buf *out)
{
    if (query.len < HEADER || (query.at[2] & 0xf8) != 0 || get16(query, 4) != 1)
        return; /* an answer, not a query, or not of one question */
    size_t name = name_length(query);
    if (name == 0 || query.len < HEADER + name + 4)
        return;
    unsigned type = get16(query, HEADER + name);
    bool is_mx_host = bytes_ieq(bytes_make(query.at + HEADER, name), bytes_make(mx_labels, sizeof mx_labels));
    bool found = is_mx_host ? type == TYPE_A : type == TYPE_MX;

    buf_put(out, bytes_first(query, 2));
    put16(out, 0x8080 | (((unsigned char)query.at[2] & 1U)
                         << 8)); /* an answer, recursion as asked for and available */
    put16(out, 1);
    put16(out, found);
    put16(out, !found);
    put16(out, 0);
    buf_put(out, bytes_make(query.at + HEADER, name + 4));
    if (!found)
        put_soa(out);
    else if (type == TYPE_MX)
        put_mx(out);
    else
        put_record(out, TYPE_A, bytes_make((const char *)&mx.s_addr, 4));
}

int nameserver_listen(uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), room = 4 << 20;

    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (bind(fd, (struct sockaddr *)&at, len) || getsockname(fd, (struct sockaddr *)&at, &len)) {
        close(fd);
        return -1;
    }
    *port = ntohs(at.sin_port);
    return fd;
}

void nameserver_run(int fd, struct in_addr mx, volatile uint64_t *queries)
{
    char in[1500];

    for (;;) {
        struct sockaddr_in from;
        socklen_t len = sizeof from;
        BUF_LOCAL(out);
        ssize_t n = recvfrom(fd, in, sizeof in, 0, (struct sockaddr *)&from, &len);
        if (n < 0 && errno != EINTR)
            _exit(1);
        if (n <= 0)
            continue;
        ++*queries;
        nameserver_answer(bytes_make(in, (size_t)n), mx, &out);
        if (out.len)
            (void)sendto(fd, out.at, out.len, 0, (struct sockaddr *)&from, len);
    }
}

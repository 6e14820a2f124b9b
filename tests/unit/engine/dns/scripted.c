#include "scripted.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

static bool has(const char *words, const char *word)
{
    size_t len = strlen(word);

    for (const char *at = words; at && (at = strstr(at, word)); at += len)
        if ((at == words || at[-1] == ' ') && (at[len] == '\0' || at[len] == ' '))
            return true;
    return false;
}

uint16_t scripted_type(const char *type)
{
    static const struct {
        const char *name;
        uint16_t type;
    } types[] = {{"A", 1},   {"NS", 2},   {"CNAME", 5}, {"SOA", 6},
                 {"MX", 15}, {"TXT", 16}, {"AAAA", 28}, {"TLSA", 52}};

    for (size_t i = 0; i < COUNT_OF(types); i++)
        if (strcmp(type, types[i].name) == 0)
            return types[i].type;
    return (uint16_t)atoi(strncmp(type, "TYPE", 4) == 0 ? type + 4 : type);
}

/* ---- packets ---- */

static void put_u16(struct buf *b, unsigned n)
{
    buf_putc(b, (char)(n >> 8));
    buf_putc(b, (char)(n & 0xff));
}

static void put_u32(struct buf *b, uint32_t n)
{
    put_u16(b, n >> 16);
    put_u16(b, n & 0xffff);
}

/* "\032" in a name stands for one octet.  A name equal to `qname` is compressed to a pointer. */
static void put_name(struct buf *b, const char *name, const char *qname)
{
    if (qname && strcmp(name, qname) == 0) {
        put_u16(b, 0xc00c);
        return;
    }
    while (*name && strcmp(name, ".") != 0) {
        size_t at = b->len, n = 0;
        buf_putc(b, 0);
        for (; *name && *name != '.'; n++) {
            if (*name == '\\') {
                buf_putc(b, (char)atoi((char[]){name[1], name[2], name[3], 0}));
                name += 4;
            } else {
                buf_putc(b, *name++);
            }
        }
        b->at[at] = (char)n;
        if (*name == '.')
            name++;
    }
    buf_putc(b, 0);
}

static void put_hex(struct buf *b, const char *hex)
{
    for (unsigned octet; sscanf(hex, "%2x", &octet) == 1; hex += 2) {
        buf_putc(b, (char)octet);
        if (!hex[1])
            break;
    }
}

static void put_data(struct buf *b, const char *type, const char *data, const char *qname)
{
    uint8_t address[16];
    char one[300], two[300];
    unsigned n;

    if (strcmp(type, "A") == 0 && inet_pton(AF_INET, data, address) == 1) {
        buf_put(b, bytes_make(address, 4));
    } else if (strcmp(type, "AAAA") == 0 && inet_pton(AF_INET6, data, address) == 1) {
        buf_put(b, bytes_make(address, 16));
    } else if (strcmp(type, "MX") == 0 && sscanf(data, "%u %299s", &n, one) == 2) {
        put_u16(b, n);
        put_name(b, one, qname);
    } else if (strcmp(type, "CNAME") == 0 || strcmp(type, "NS") == 0) {
        put_name(b, data, qname);
    } else if (strcmp(type, "SOA") == 0 && sscanf(data, "%299s %299s %u", one, two, &n) == 3) {
        put_name(b, one, qname);
        put_name(b, two, qname);
        for (uint32_t i = 1; i < 5; i++)
            put_u32(b, i);
        put_u32(b, n);
    } else if (strcmp(type, "TXT") == 0) {
        buf_putc(b, (char)strlen(data));
        buf_puts(b, data);
    } else {
        put_hex(b, data);
    }
}

static void put_record(struct buf *b, const char *owner, uint32_t ttl, const char *type, const char *data,
                       const char *qname, bool loop)
{
    if (loop)
        put_u16(b, 0xc000 | (unsigned)b->len);
    else
        put_name(b, strcmp(owner, "@") == 0 ? qname : owner, qname);
    put_u16(b, scripted_type(type));
    put_u16(b, 1);
    put_u32(b, ttl);
    size_t at = b->len;
    put_u16(b, 0);
    put_data(b, type, data, qname);
    b->at[at] = (char)((b->len - at - 2) >> 8);
    b->at[at + 1] = (char)((b->len - at - 2) & 0xff);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
/* One record of the notation in the header, or N of them; returns how many. */
static unsigned put_records(struct buf *b, const char *text, const char *qname, bool loop)
{
    char owner[300], type[16], data[600], made[600];
    unsigned times = 1, ttl;
    int skip = 0;

    if (sscanf(text, " %u*%n", &times, &skip) == 1 && skip)
        text += skip;
    else
        times = 1;
    if (sscanf(text, " %299s %u %15s %599[^;]", owner, &ttl, type, data) != 4)
        abort();
    for (unsigned i = 0; i < times; i++) {
        snprintf(made, sizeof(made), data, i, i); /* without a %d in it the numbers are not used */
        put_record(b, owner, ttl, type, made, qname, loop && !i);
    }
    return times;
}
#pragma GCC diagnostic pop

static unsigned put_section(struct buf *b, const char *records, bool authority, const char *qname, bool loop)
{
    unsigned n = 0;

    for (const char *at = records; at && *at;) {
        const char *end = strchr(at, ';');
        BUF_LOCAL(one);
        buf_put(&one, bytes_make(at, end ? (size_t)(end - at) : strlen(at)));
        const char *text = buf_str(&one) + strspn(buf_str(&one), " ");
        if ((*text == '!') == authority && *text)
            n += put_records(b, text + (*text == '!'), qname, loop && !n);
        at = end ? end + 1 : NULL;
    }
    return n;
}

static unsigned rcode_of(const char *does)
{
    static const struct {
        const char *word;
        unsigned code;
    } codes[] = {{"formerr", 1}, {"servfail", 2}, {"nxdomain", 3}, {"notimp", 4}, {"refused", 5}};

    for (size_t i = 0; i < COUNT_OF(codes); i++)
        if (has(does, codes[i].word))
            return codes[i].code;
    return 0;
}

void scripted_packet(struct buf *out, uint16_t id, const char *name, const char *type, const char *does,
                     const char *records)
{
    size_t start = out->len;
    unsigned flags = 0x8100 | rcode_of(does);
    bool bare = has(does, "bare");

    flags |= (has(does, "nora") ? 0 : 0x80) | (has(does, "ad") ? 0x20 : 0) | (has(does, "aa") ? 0x400 : 0) |
             (has(does, "tc") ? 0x200 : 0);
    put_u16(out, id);
    put_u16(out, flags);
    put_u16(out, !bare);
    put_u32(out, 0);
    put_u16(out, 0);
    if (!bare) {
        put_name(out, name, NULL);
        put_u16(out, scripted_type(type));
        put_u16(out, 1);
    }
    if (has(does, "tc"))
        return;
    unsigned answers = put_section(out, records, false, name, has(does, "loop"));
    unsigned authorities = put_section(out, records, true, name, false);
    out->at[start + 6] = (char)(answers >> 8);
    out->at[start + 7] = (char)(answers & 0xff);
    out->at[start + 9] = (char)authorities;
}

/* An additional record that fills the packet to the brim. */
static void pad(struct buf *packet)
{
    size_t fill = 65535 - packet->len - 11;

    buf_putc(packet, 0);
    put_u16(packet, 65000);
    put_u16(packet, 1);
    put_u32(packet, 0);
    put_u16(packet, (unsigned)fill);
    memset(buf_reserve(packet, fill), 'x', fill);
    packet->len += fill;
    packet->at[11] = 1;
}

/* ---- questions ---- */

struct question {
    uint16_t id, type;
    char name[300], type_text[16];
    bool edns;
};

static bool read_question(struct bytes p, struct question *q)
{
    const uint8_t *at = (const uint8_t *)p.at;
    size_t n = 0, pos = 12;

    if (p.len < 17)
        return false;
    q->id = (uint16_t)(at[0] << 8 | at[1]);
    q->edns = at[11] == 1;
    while (at[pos]) {
        if (n)
            q->name[n++] = '.';
        memcpy(q->name + n, at + pos + 1, at[pos]);
        n += at[pos];
        pos += 1U + at[pos];
    }
    q->name[n] = '\0';
    q->type = (uint16_t)(at[pos + 1] << 8 | at[pos + 2]);
    snprintf(q->type_text, sizeof(q->type_text), "%u", q->type);
    return true;
}

static const struct scripted_row *find_row(struct scripted *s, const struct question *q, bool tcp)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct scripted_row *r = &s->rows[i];
        if ((strcmp(r->name, "*") != 0 && strcmp(r->name, q->name) != 0) ||
            (r->type && scripted_type(r->type) != q->type) || has(r->does, tcp ? "udp" : "tcp") ||
            (has(r->does, "once") && s->used[i]))
            continue;
        s->used[i]++;
        return r;
    }
    return NULL;
}

static void make_answer(const struct question *q, const struct scripted_row *r, bool tcp, struct buf *out)
{
    const char *does = r ? r->does : "refused";

    if (q->edns && has(does, "edns-formerr"))
        does = "formerr";
    scripted_packet(out, q->id, q->name, q->type_text, does, r ? r->records : NULL);
    if (tcp && has(does, "big"))
        pad(out);
}

/* A packet that is nearly right. */
static void make_wrong(const struct question *q, const char *does, struct buf *out)
{
    bool name = has(does, "wrong-name"), type = has(does, "wrong-type");

    scripted_packet(out, (uint16_t)(q->id + has(does, "wrong-id")), name ? "evil.test" : q->name,
                    type ? "99" : q->type_text, "", "evil.test 300 A 6.6.6.6; evil.test 300 MX 1 evil.test");
    if (has(does, "wrong-class"))
        out->at[12 + strlen(q->name) + 2 + 3] = 3;
    if (has(does, "wrong-opcode"))
        out->at[2] |= 0x20;
    if (has(does, "query"))
        out->at[2] &= 0x7f;
}

/* ---- UDP ---- */

static void send_udp(uv_udp_t *from, const struct sockaddr *to, struct buf *packet)
{
    uv_buf_t b = uv_buf_init(packet->at, (unsigned)packet->len);

    uv_udp_try_send(from, &b, 1, to);
}

struct later {
    uv_timer_t timer;
    struct scripted *s;
    struct sockaddr_storage to;
    struct buf packet;
};

static void on_later_closed(uv_handle_t *handle)
{
    struct later *l = (struct later *)handle;

    buf_fini(&l->packet);
    mem_free(l);
}

static void on_later(uv_timer_t *timer)
{
    struct later *l = (struct later *)timer;

    send_udp(&l->s->udp, (struct sockaddr *)&l->to, &l->packet);
    uv_close((uv_handle_t *)timer, on_later_closed);
}

static void send_later(struct scripted *s, const struct sockaddr *to, struct buf *packet)
{
    struct later *l = MEM_NEW(struct later);

    l->s = s;
    memcpy(&l->to, to, sizeof(struct sockaddr_in));
    buf_put(&l->packet, buf_bytes(packet));
    uv_timer_init(s->loop, &l->timer);
    uv_timer_start(&l->timer, on_later, 300, 0);
    uv_unref((uv_handle_t *)&l->timer);
}

static bool starts_wrong(const char *does)
{
    return has(does, "wrong-id") || has(does, "wrong-name") || has(does, "wrong-type") ||
           has(does, "wrong-class") || has(does, "wrong-opcode") || has(does, "query");
}

static void answer_udp(struct scripted *s, const struct question *q, const struct sockaddr *from)
{
    const struct scripted_row *r = find_row(s, q, false);
    const char *does = r ? r->does : NULL;
    BUF_LOCAL(packet);
    BUF_LOCAL(wrong);

    make_wrong(q, does, &wrong);
    if (starts_wrong(does))
        send_udp(&s->udp, from, &wrong);
    if (has(does, "wrong-port"))
        send_udp(&s->other_udp, from, &wrong);
    for (int i = 1; i <= 100 && has(does, "flood"); i++) {
        wrong.at[0] = (char)((q->id >> 8) + i); /* never the right one */
        send_udp(&s->udp, from, &wrong);
    }
    if (has(does, "silent") || has(does, "wrong-only") || has(does, "flood"))
        return;
    make_answer(q, r, false, &packet);
    if (has(does, "slow"))
        send_later(s, from, &packet);
    else
        send_udp(&s->udp, from, &packet);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    static char memory[65536];

    *out = uv_buf_init(memory, sizeof(memory));
}

static void on_udp(uv_udp_t *udp, ssize_t n, const uv_buf_t *b, const struct sockaddr *from, unsigned flags)
{
    struct scripted *s = CONTAINER_OF(udp, struct scripted, udp);
    struct question q;

    if (n <= 0 || !from || !read_question(bytes_make(b->base, (size_t)n), &q))
        return;
    s->ports[s->udp_questions % COUNT_OF(s->ports)] =
        ntohs(((const struct sockaddr_in *)(const void *)from)->sin_port);
    s->ids[s->udp_questions % COUNT_OF(s->ids)] = q.id;
    s->udp_questions++;
    s->edns_questions += q.edns;
    answer_udp(s, &q, from);
}

/* ---- TCP ---- */

struct peer {
    uv_tcp_t tcp;
    uv_timer_t timer;
    struct scripted *s;
    struct buf in, out;
    size_t sent;
    int handles;
};

static void on_peer_closed(uv_handle_t *handle)
{
    struct peer *p = handle->data;

    if (--p->handles)
        return;
    buf_fini(&p->in);
    buf_fini(&p->out);
    mem_free(p);
}

static void peer_close(struct peer *p)
{
    if (uv_is_closing((uv_handle_t *)&p->tcp))
        return;
    uv_close((uv_handle_t *)&p->tcp, on_peer_closed);
    uv_close((uv_handle_t *)&p->timer, on_peer_closed);
}

static void on_dribble(uv_timer_t *timer)
{
    struct peer *p = timer->data;
    uv_buf_t b = uv_buf_init(p->out.at + p->sent, 1);

    if (p->sent < p->out.len && uv_try_write((uv_stream_t *)&p->tcp, &b, 1) == 1)
        p->sent++;
    if (p->sent == p->out.len)
        uv_timer_stop(timer);
}

static void on_written(uv_write_t *w, int status)
{
    mem_free(w);
}

static void answer_tcp(struct peer *p)
{
    struct question q;
    BUF_LOCAL(packet);

    if (!read_question(bytes_skip(buf_bytes(&p->in), 2), &q))
        return;
    p->s->tcp_questions++;
    const struct scripted_row *r = find_row(p->s, &q, true);
    if (has(r ? r->does : NULL, "closes")) {
        peer_close(p);
        return;
    }
    if (has(r ? r->does : NULL, "silent"))
        return;
    make_answer(&q, r, true, &packet);
    put_u16(&p->out, (unsigned)packet.len);
    buf_put(&p->out, buf_bytes(&packet));
    if (r && has(r->does, "dribble")) {
        uv_timer_start(&p->timer, on_dribble, 1, 1);
        return;
    }
    uv_buf_t b = uv_buf_init(p->out.at, (unsigned)p->out.len);
    uv_write(MEM_NEW(uv_write_t), (uv_stream_t *)&p->tcp, &b, 1, on_written);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
    struct peer *p = stream->data;

    if (n < 0) {
        peer_close(p);
        return;
    }
    buf_put(&p->in, bytes_make(b->base, (size_t)n));
    if (p->in.len > 2 && p->in.len == 2U + (unsigned)((uint8_t)p->in.at[0] << 8 | (uint8_t)p->in.at[1]))
        answer_tcp(p);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct scripted *s = CONTAINER_OF((uv_tcp_t *)listener, struct scripted, tcp);
    struct peer *p = MEM_NEW(struct peer);

    p->s = s;
    p->handles = 2;
    uv_tcp_init(s->loop, &p->tcp);
    uv_timer_init(s->loop, &p->timer);
    p->tcp.data = p->timer.data = p;
    uv_accept(listener, (uv_stream_t *)&p->tcp);
    uv_unref((uv_handle_t *)&p->tcp);
    uv_unref((uv_handle_t *)&p->timer);
    uv_read_start((uv_stream_t *)&p->tcp, on_alloc, on_read);
}

/* ---- start and stop ---- */

static int bound(int type, uint16_t port, uint16_t *out)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) != 0 || (type == SOCK_STREAM && listen(fd, 64) != 0)) {
        close(fd);
        return -1;
    }
    getsockname(fd, (struct sockaddr *)&a, &len);
    *out = ntohs(a.sin_port);
    return fd;
}

/* One port for both: what the kernel gives for one may be taken for the other. */
static void open_both(struct scripted *s)
{
    for (int i = 0; i < 100; i++) {
        uint16_t other;
        int udp = bound(SOCK_DGRAM, 0, &s->port), tcp = bound(SOCK_STREAM, s->port, &other);
        if (udp >= 0 && tcp >= 0) {
            uv_udp_open(&s->udp, udp);
            uv_tcp_open(&s->tcp, tcp);
            return;
        }
        close(udp);
        close(tcp);
    }
    abort();
}

void scripted_start(struct scripted *s, uv_loop_t *loop, const struct scripted_row *rows, size_t count)
{
    uint16_t port;

    if (count > COUNT_OF(s->used))
        abort();
    *s = (struct scripted){.loop = loop, .rows = rows, .count = count};
    uv_udp_init(loop, &s->udp);
    uv_tcp_init(loop, &s->tcp);
    uv_udp_init(loop, &s->other_udp);
    open_both(s);
    uv_udp_open(&s->other_udp, bound(SOCK_DGRAM, 0, &port));
    if (uv_listen((uv_stream_t *)&s->tcp, 64, on_connection) != 0)
        abort();
    uv_udp_recv_start(&s->udp, on_alloc, on_udp);
    uv_unref((uv_handle_t *)&s->udp);
    uv_unref((uv_handle_t *)&s->other_udp);
    uv_unref((uv_handle_t *)&s->tcp);
}

static void close_walk(uv_handle_t *handle, void *arg)
{
    if (uv_is_closing(handle))
        return;
    if (handle->type == UV_TIMER && !handle->data)
        uv_close(handle, on_later_closed);
    else if (handle->data)
        uv_close(handle, on_peer_closed);
}

void scripted_stop(struct scripted *s)
{
    /* After the resolver has closed, all that is left on the loop is ours. */
    uv_walk(s->loop, close_walk, NULL);
    uv_close((uv_handle_t *)&s->udp, NULL);
    uv_close((uv_handle_t *)&s->other_udp, NULL);
    uv_close((uv_handle_t *)&s->tcp, NULL);
}

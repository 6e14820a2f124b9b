/*
 * A DNS server for tests that answers by rows, on the loop of the test: UDP and TCP on one port of 127.0.0.1.
 * The packets are written by hand here, so that what the resolver reads was not made by the library it reads
 * with.
 */
#pragma once

#include <uv.h>

#include "base/bytes.h"

/*
 * A row answers every question of its name and type; rows are tried in order.
 *
 * does     words, each changes the answer:
 *            udp tcp         only over that transport         once       the row serves one time
 *            servfail refused nxdomain formerr notimp         the rcode
 *            silent          nothing comes back               closes     TCP: hangs up instead
 *            tc              truncated, no records            ad aa ra   flags (ra is the preset; nora clears
 * it) edns-formerr    FORMERR if the question has OPT  bare       header only, no question wrong-id
 * wrong-name wrong-type wrong-class wrong-opcode query   sends such a packet first, then the right one
 *            wrong-port      first a wrong packet from another port
 *            wrong-only      (with the former) the right one never comes
 *            flood           sends a hundred packets with wrong ids
 *            loop            the first record's name points at itself
 *            slow            comes 300 ms later               dribble    TCP: octet by octet
 *            big             pads the TCP answer to 65535 octets
 * records  "owner ttl TYPE data", by semicolons; "!" before one puts it into the authority section.  "N*
 * owner ttl MX %d x%d.test" makes N records; the owner "@" is the name that was asked for.  Types: A AAAA MX CNAME TXT SOA NS; TYPE33 takes hex.
 */
struct scripted_row {
    const char *name; /* "*": every name */
    const char *type; /* NULL: any */
    const char *does; /* NULL: nothing special */
    const char *records;
};

struct scripted {
    uv_loop_t *loop;
    const struct scripted_row *rows;
    size_t count;
    uint64_t used[128]; /* how often each row answered */
    unsigned udp_questions, tcp_questions, edns_questions;
    uint16_t ports[4096]; /* source ports seen over UDP */
    uint16_t ids[4096];
    uint16_t port;
    uv_udp_t udp, other_udp;
    uv_tcp_t tcp;
};
void scripted_start(struct scripted *s, uv_loop_t *loop, const struct scripted_row *rows, size_t count);
void scripted_stop(struct scripted *s); /* run the loop afterwards */

/* The answer as it would be sent; `id` and `question` as they came.  For tests of packets without a net. */
void scripted_packet(struct buf *out, uint16_t id, const char *name, const char *type, const char *does,
                     const char *records);
uint16_t scripted_type(const char *type);

/* IP addresses and networks as values. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "base/bytes.h"

struct ip {
    uint8_t family; /* 4 or 6; 0: none */
    uint8_t octets[16];
};
struct ip_net {
    struct ip base;
    uint8_t prefix;
};
#define IP_TEXT_BYTES 64

bool ip_parse(struct bytes text, struct ip *out); /* no brackets, no zone */
char *ip_format(const struct ip *ip, char out[IP_TEXT_BYTES]);
bool ip_eq(const struct ip *a, const struct ip *b);
bool ip_net_parse(struct bytes text, struct ip_net *out); /* "10.0.0.0/8"; a bare address is one host */
char *ip_net_format(const struct ip_net *net, char out[IP_TEXT_BYTES]);
bool ip_net_has(const struct ip_net *net, const struct ip *ip); /* v4-mapped v6 counts as v4 */
bool ip_is_loopback(const struct ip *ip);
/* Never a mail destination: unspecified, multicast, broadcast (T55). */
bool ip_is_unusable(const struct ip *ip);
socklen_t ip_to_sockaddr(const struct ip *ip, uint16_t port, struct sockaddr_storage *out);
bool ip_from_sockaddr(const struct sockaddr *sa, struct ip *out, uint16_t *port); /* v4-mapped becomes v4 */
/* "192.0.2.1:25", "[2001:db8::1]:25" */
char *ip_format_port(const struct ip *ip, uint16_t port, char out[IP_TEXT_BYTES]);
/* "192.0.2.1:25", "[::1]:25", "host:25" is refused; a missing port gives default_port (0: required). */
bool ip_parse_port(struct bytes text, uint16_t default_port, struct ip *ip, uint16_t *port);

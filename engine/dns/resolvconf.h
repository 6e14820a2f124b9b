/* The name servers of resolv.conf(5).  Pure; any thread. */
#pragma once

#include "base/ip.h"

#define DNS_SERVERS_MAX 8

/*
 * Fills `out` with the addresses of "nameserver" lines, at most DNS_SERVERS_MAX and none twice, and returns
 * how many; 127.0.0.1 when there is none, as the C library does.  Other lines do not concern mail: names are
 * asked for as they are (no search list), and time-outs have settings of their own.  Addresses with a zone
 * ("fe80::1%eth0") are passed over.
 */
size_t dns_resolvconf_parse(struct bytes text, struct ip out[DNS_SERVERS_MAX]);

/* The keys of a group: one row each.  The order is that of the reference (policy/DOCUMENT.md). */
#include "policy/policy_priv.h"

#define AT(field) offsetof(struct group_draft, field)

#define SECOND 1.0
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define MS     1000.0 /* a second in milliseconds */

static const char *const starttls_words[] = {"off", "on", "require", "verify", NULL};
static const char *const fallback_words[] = {"never", "later", "now", NULL};
static const char *const dane_words[] = {"off", "try", "only", NULL};
static const char *const sts_words[] = {"off", "try", NULL};
static const char *const downgrade_words[] = {"deliver", "hold", NULL};
static const char *const version_words[] = {"1.0", "1.1", "1.2", "1.3", NULL};
static const char *const match_words[] = {"mx", "nexthop", NULL};
static const char *const pipelining_words[] = {"auto", "off", "commands", "full", NULL};
static const char *const adaptive_words[] = {"off", "on", NULL};
static const char *const quiet_words[] = {"off", NULL};
static const char *const route_words[] = {"mx", NULL};

const struct policy_key policy_keys[] = {
    {.name = "name",
     .type = KEY_NAME,
     .offset = AT(g.name),
     .group_only = true,
     .example = "docomo",
     .help = "Name of the group in reports, metrics and commands; the group `default` takes what no other "
             "group matches."},
    {.name = "match",
     .type = KEY_PATTERNS,
     .group_only = true,
     .example = "[docomo.ne.jp, .docomo.ne.jp]",
     .help =
         "Recipient domains: `example.com` is that domain, `.example.com` its sub-domains only.  An exact "
         "domain goes before a suffix, a longer suffix before a shorter one.  Names may be written in any "
         "script."},
    {.name = "mx",
     .type = KEY_MX_PATTERNS,
     .group_only = true,
     .example = "[.mail.docomo.ne.jp]",
     .help = "MX hosts, written like `match`; asked only for domains that no `match` of any group names.  "
             "The host of best preference that matches decides."},
    {.name = "starttls",
     .type = KEY_WORD,
     .offset = AT(g.starttls),
     .preset = "on",
     .words = starttls_words,
     .help = "Encryption of the connection (RFC 3207).  `off`: never asked for.  `on`: used when the server "
             "offers it.  `require`: no mail without it; the certificate is recorded, not judged.  `verify`: "
             "the certificate must also be valid for the server's name (RFC 9525)."},
    {.name = "clear_after_tls_failure",
     .type = KEY_WORD,
     .offset = AT(g.clear_after_tls_failure),
     .preset = "later",
     .words = fallback_words,
     .help = "At `starttls: on`, when encryption was offered and fails.  `never`: other hosts, then wait.  "
             "`later`: in clear from the second attempt on, at least 5 minutes after acceptance.  `now`: in "
             "clear at once.  Never in clear where credentials exist."},
    {.name = "dane",
     .type = KEY_WORD,
     .offset = AT(g.dane),
     .preset = "off",
     .words = dane_words,
     .help =
         "DANE for SMTP (RFC 7672): the receiver's own statement, signed in DNS, that it has TLS and with "
         "which certificate.  `off`: not looked up.  `try`: where usable TLSA records are found, they "
         "replace the level of the group: no mail without a certificate that they name; where none are, "
         "the group's level holds.  `only`: no mail but over DANE, and the MX must be signed too.  Needs "
         "a validating resolver on this host."},
    {.name = "mta_sts",
     .type = KEY_WORD,
     .offset = AT(g.mta_sts),
     .preset = "off",
     .words = sts_words,
     .help = "MTA-STS (RFC 8461): the receiver's own statement over HTTPS which MX hosts it has and that "
             "their certificates hold.  `off`: not looked up.  `try`: a policy in mode `enforce` raises the "
             "level of the group; in mode `testing` its failures are only counted.  DANE goes before it.  "
             "The daemon asks `https://mta-sts.DOMAIN/` for it."},
    {.name = "on_downgrade",
     .type = KEY_WORD,
     .offset = AT(g.on_downgrade),
     .preset = "deliver",
     .words = downgrade_words,
     .help = "When a destination had encryption, or a certificate that held, and now has not.  `deliver`: "
             "as the level permits, and entered in the register of downgrades.  `hold`: the mail waits until "
             "the downgrade is approved (`hayauma tls downgrades`)."},
    {.name = "tls.match",
     .type = KEY_TLS_NAMES,
     .offset = AT(g.tls_match),
     .preset = "mx",
     .words = match_words,
     .help =
         "The name that the certificate must have at `verify`.  `mx`: the host that was connected to.  "
         "`nexthop`: the recipient's domain, or the smart host; an MX that a forged DNS answer names does "
         "then not help.  A list of names: any one of these; `.example.com` stands for exactly one more "
         "label.  MTA-STS and DANE have names of their own."},
    {.name = "tls.min_version",
     .type = KEY_WORD,
     .offset = AT(g.tls_min_version),
     .preset = "1.2",
     .words = version_words,
     .help = "Oldest TLS version that counts as encryption.  1.0 and 1.1 (RFC 8996: do not use) only in a "
             "group's own keys and at `starttls: on`, where the other choice is clear text."},
    {.name = "tls.priority",
     .type = KEY_TEXT,
     .offset = AT(g.tls_priority),
     .example = "\"SECURE256:-VERS-ALL:+VERS-TLS1.3\"",
     .help = "GnuTLS priority string for connections of this group, in place of the engine's own."},
    {.name = "tls.ca_file",
     .type = KEY_PATH,
     .offset = AT(g.ca_file),
     .example = "/etc/ssl/partner-ca.pem",
     .help =
         "PEM file of the authorities that `verify` trusts, in place of the system's.  An absolute path."},
    {.name = "tls.certificate",
     .type = KEY_PATH,
     .offset = AT(g.tls_certificate),
     .example = "/etc/hayauma/client.pem",
     .help = "Client certificate for servers that ask for one: PEM file with the certificate and those "
             "between it and its authority.  Needs `tls.key`.  An absolute path."},
    {.name = "tls.key",
     .type = KEY_PATH,
     .offset = AT(g.tls_key),
     .example = "/etc/hayauma/client.key",
     .help = "PEM file with the private key of `tls.certificate`, readable by the daemon alone.  An absolute "
             "path."},
    {.name = "tls.pins",
     .type = KEY_PINS,
     .offset = AT(g.tls_pins),
     .example = "[\"spki:0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0\"]",
     .help =
         "SHA-256 fingerprints of which the server's certificate must have one at `verify`, in place of "
         "authority and name: 64 hexadecimal digits, with or without colons, of the certificate, or after "
         "`spki:` of its public key, which stays when a certificate is renewed with the same key."},
    {.name = "route",
     .type = KEY_WORD,
     .offset = AT(route_word),
     .preset = "mx",
     .words = route_words,
     .help = "`mx`: to the MX hosts of each domain (RFC 5321 §5.1).  Else a map: to smart hosts.  A map "
             "replaces an inherited route as a whole."},
    {.name = "route.smarthost",
     .type = KEY_HOSTS,
     .group_only = false,
     .example = "[relay.example.com:587]",
     .help =
         "`host:port`, one or a list in the order to be tried; `[address]:port` for IPv6.  Without a port: "
         "25, or 465 with `implicit_tls`.  The address of the name is used, never its MX."},
    {.name = "route.implicit_tls",
     .type = KEY_BOOL,
     .offset = AT(implicit_tls),
     .preset = "false",
     .help = "TLS from the first octet (RFC 8314 §3.3); STARTTLS is then not used."},
    {.name = "route.auth.user",
     .type = KEY_TEXT,
     .offset = AT(g.auth_user),
     .example = "campaigns@example.com",
     .help =
         "Login at the smart host (RFC 4954).  Mail with credentials never goes in clear, and a group that "
         "does not say `starttls` itself is at `verify` then, and no longer at `on`."},
    {.name = "route.auth.password_file",
     .type = KEY_PATH,
     .offset = AT(g.auth_password_file),
     .example = "/etc/hayauma/relay.password",
     .help = "File whose first line is the password: the secret itself never stands in the document.  An "
             "absolute path."},
    {.name = "port",
     .type = KEY_PORT,
     .offset = AT(g.port),
     .preset = "25",
     .min = 1,
     .max = 65535,
     .help = "Port of the MX hosts.  Anything but 25 is for tests."},
    {.name = "limits.connections",
     .type = KEY_COUNT,
     .offset = AT(g.limits.connections),
     .preset = "50",
     .min = 1,
     .max = 100000,
     .help = "Connections of the group at one time, over all workers."},
    {.name = "limits.connections_per_host",
     .type = KEY_COUNT,
     .offset = AT(g.limits.connections_per_host),
     .preset = "20",
     .min = 1,
     .max = 100000,
     .help = "Connections of the group to one remote address at one time, over all workers and for whichever "
             "of its domains."},
    {.name = "limits.connections_per_source",
     .type = KEY_COUNT,
     .offset = AT(g.limits.connections_per_source),
     .preset = "0",
     .min = 0,
     .max = 100000,
     .help = "Connections of the group from one local address at one time, over all workers; 0: no limit."},
    {.name = "limits.connection_rate",
     .type = KEY_FREQUENCY,
     .offset = AT(g.limits.connection_rate),
     .preset = "0",
     .min = 0,
     .max = 1000000,
     .help = "New connections of the group, over all workers: `5/s`, `30/m` or `100/h`, evenly spaced; 0: no "
             "limit.  Each attempt to connect counts, whether the host answers or not."},
    {.name = "limits.messages_per_connection",
     .type = KEY_COUNT,
     .offset = AT(g.limits.messages_per_connection),
     .preset = "500",
     .min = 0,
     .max = 1000000,
     .help = "Messages after which a connection is closed; 0: no limit."},
    {.name = "limits.recipients_per_transaction",
     .type = KEY_COUNT,
     .offset = AT(g.limits.recipients_per_transaction),
     .preset = "100",
     .min = 1,
     .max = 10000,
     .help = "Recipients of one message that go in one transaction (RFC 5321 §4.5.3.1.8: servers take 100)."},
    {.name = "limits.messages_per_second",
     .type = KEY_RATE,
     .offset = AT(g.limits.messages_per_second),
     .preset = "0",
     .min = 0,
     .max = 1000000,
     .help = "Messages a second of the whole group, over all workers; `0.5` is one in two seconds; 0: no "
             "limit."},
    {.name = "limits.messages_per_minute",
     .type = KEY_RATE,
     .offset = AT(g.limits.messages_per_minute),
     .preset = "0",
     .min = 0,
     .max = 10000000,
     .help = "The same by the minute.  Rates may stand together: each holds."},
    {.name = "limits.messages_per_hour",
     .type = KEY_RATE,
     .offset = AT(g.limits.messages_per_hour),
     .preset = "0",
     .min = 0,
     .max = 100000000,
     .help = "The same by the hour."},
    {.name = "limits.burst",
     .type = KEY_COUNT,
     .offset = AT(g.limits.burst),
     .preset = "1",
     .min = 1,
     .max = 1000000,
     .help =
         "Messages that may go at once after a pause, by the slowest of the message rates; 1: evenly "
         "spaced from the first.  A quicker rate beside it still spaces them: at 50 a second, 3600 an hour "
         "and a burst of 600, the 600 take twelve seconds."},
    {.name = "limits.bytes_per_second",
     .type = KEY_RATE,
     .offset = AT(g.limits.bytes_per_second),
     .preset = "0",
     .min = 0,
     .max = 100000000000,
     .help = "Octets of messages a second of the whole group, over all workers.  A message that has begun is "
             "never held up: a large one goes as a whole, and the next waits until it is paid for; 0: no "
             "limit."},
    {.name = "limits.messages_per_second_per_source",
     .type = KEY_RATE,
     .offset = AT(g.limits.source_per_second),
     .preset = "0",
     .min = 0,
     .max = 1000000,
     .help = "Messages of the group a second from one local address, over all workers; 0: no limit."},
    {.name = "limits.messages_per_minute_per_source",
     .type = KEY_RATE,
     .offset = AT(g.limits.source_per_minute),
     .preset = "0",
     .min = 0,
     .max = 10000000,
     .help = "The same by the minute."},
    {.name = "limits.messages_per_hour_per_source",
     .type = KEY_RATE,
     .offset = AT(g.limits.source_per_hour),
     .preset = "0",
     .min = 0,
     .max = 100000000,
     .help = "The same by the hour.  `burst` holds for the slowest of the three too."},
    {.name = "pipelining",
     .type = KEY_WORD,
     .offset = AT(g.pipelining),
     .preset = "auto",
     .words = pipelining_words,
     .help =
         "How much is said before the host answers, where it offers PIPELINING (RFC 2920).  `off`: one "
         "command.  `commands`: those of one message.  `full`: also those of the next message behind the "
         "end of this one; a host that falls out of step is served with `commands` from then on.  `auto`: "
         "`full` or `commands`, as `delivery.pipelining_full` of the configuration says."},
    {.name = "adaptive",
     .type = KEY_WORD,
     .offset = AT(g.adaptive.mode),
     .preset = "on",
     .words = adaptive_words,
     .help =
         "What is done without a rule when the hosts of a domain do not keep up.  `on`: a storm of "
         "replies that ask to "
         "slow down (421, and 4yz but for greylisting and what concerns one mailbox or message) is "
         "answered by a step back: half of "
         "the connections; "
         "where only one is left, or a rate is in force, half of the messages a second.  A connection "
         "that is refused, reset or times out while others stand leaves no more than those; when as large "
         "a share (`storm_share`, and two at least) of those opened within `storm_window` comes to nothing, "
         "that is a storm, too.  When none stands, and none is to be had, nothing is sent for a while, "
         "longer each time (`retry.schedule`).  What was taken comes back in steps.  It "
         "concerns these hosts alone, not the group; `hayauma shaping list` shows it, `hayauma shaping "
         "clear` takes "
         "it back.  A map of the keys below turns it on.  `off`: only rules (see `replies`) slow down."},
    {.name = "adaptive.storm_replies",
     .type = KEY_COUNT,
     .offset = AT(g.adaptive.storm_replies),
     .preset = "10",
     .min = 1,
     .max = 1000000,
     .help = "Replies that ask to slow down, over all workers, that make a storm."},
    {.name = "adaptive.storm_share",
     .type = KEY_PERCENT,
     .offset = AT(g.adaptive.storm_share),
     .preset = "50%",
     .min = 0,
     .max = 100,
     .help = "Share of all replies to mail that they have to be, because a large receiver says so now and "
             "then of single mailboxes; of connections, the share that comes to nothing."},
    {.name = "adaptive.storm_window",
     .type = KEY_SECONDS,
     .offset = AT(g.adaptive.storm_window_s),
     .preset = "10s",
     .min = 1,
     .max = HOUR,
     .help = "Time in which they come; longer, as long as a slow rate is in force."},
    {.name = "adaptive.step",
     .type = KEY_PERCENT,
     .offset = AT(g.adaptive.step_percent),
     .preset = "50%",
     .min = 0,
     .max = 90,
     .help = "What a step back leaves, of the connections or of the rate.  Steps come back likewise: 50% "
             "doubles.  0%: one "
             "step to the least, and one back."},
    {.name = "adaptive.recover_after",
     .type = KEY_SECONDS,
     .offset = AT(g.adaptive.recover_after_s),
     .preset = "1m",
     .min = 1,
     .max = DAY,
     .help = "Time without another storm or refusal after which a step comes back."},
    {.name = "adaptive.min_connections",
     .type = KEY_COUNT,
     .offset = AT(g.adaptive.min_connections),
     .preset = "1",
     .min = 1,
     .max = 100000,
     .help = "Connections, over all workers, below which no step goes."},
    {.name = "adaptive.min_rate",
     .type = KEY_RATE,
     .offset = AT(g.adaptive.min_rate),
     .preset = "0.1",
     .min = 0.001,
     .max = 1000000,
     .help = "Messages a second below which no step goes."},
    {.name = "retry.schedule",
     .type = KEY_SCHEDULE,
     .offset = AT(g.retry),
     .preset = "[5m, 10m, 20m, 30m, 1h, 2h, 4h]",
     .min = 1,
     .max = 7 * DAY,
     .help = "Waits after the first, second, … attempt, 16 at most; the last repeats."},
    {.name = "retry.jitter",
     .type = KEY_PERCENT,
     .offset = AT(g.retry.jitter_percent),
     .preset = "10%",
     .min = 0,
     .max = 100,
     .help = "Share by which each wait is moved, at random, both ways."},
    {.name = "retry.lifetime",
     .type = KEY_SECONDS,
     .offset = AT(g.retry.lifetime_s),
     .preset = "5d",
     .min = 1,
     .max = 60 * DAY,
     .help = "Age at which a deferred recipient bounces (RFC 5321 §4.5.4.1: 4 to 5 days at least)."},
    {.name = "retry.delay_notice",
     .type = KEY_SECONDS,
     .offset = AT(g.retry.delay_notice_s),
     .preset = "4h",
     .min = 0,
     .max = 60 * DAY,
     .help = "Age at which the sender is told of the delay, once, if NOTIFY=DELAY asked for it (RFC 3461 "
             "§4.1); 0: never."},
    {.name = "quiet_hours",
     .type = KEY_WORD,
     .offset = AT(g.quiet.on),
     .preset = "off",
     .words = quiet_words,
     .help =
         "Hours of the day in which no mail to the group is begun; what is under way ends.  `off`: none.  "
         "Else "
         "a map, like `{from: \"21:00\", to: \"08:00\", time_zone: Asia/Tokyo}`.  Mail waits on disk until "
         "the "
         "end, retries that fall into the hours are due then, and the hours count for no recipient's age: "
         "`retry.lifetime` and `retry.delay_notice` stand still.  `hayauma queue retry` does not end them."},
    {.name = "quiet_hours.from",
     .type = KEY_TIME,
     .offset = AT(g.quiet.from_s),
     .example = "\"21:00\"",
     .help = "When they begin, by the clock of `quiet_hours.time_zone`: `21:00` or `21:00:30`."},
    {.name = "quiet_hours.to",
     .type = KEY_TIME,
     .offset = AT(g.quiet.to_s),
     .example = "\"08:00\"",
     .help = "When they end, on the same day or the next."},
    {.name = "quiet_hours.time_zone",
     .type = KEY_ZONE,
     .offset = AT(g.quiet.time_zone),
     .example = "Asia/Tokyo",
     .help = "Whose clock: a zone of the host's tzdata, `UTC`, or an offset like `+09:00`."},
    {.name = "quiet_hours.spread",
     .type = KEY_SECONDS,
     .offset = AT(g.quiet.spread_s),
     .preset = "10m",
     .min = 0,
     .max = 12 * HOUR,
     .help =
         "After the end the connections grow from one to the group's limit in this time, evenly, and retries "
         "are due at random within it; 0: all at once."},
    {.name = "replies",
     .type = KEY_REPLIES,
     .offset = AT(g.replies),
     .group_only = true,
     .example = "[{code: 4xx, text: 'too many|rate', limit_connections: 2, for: 10m}]",
     .help =
         "Rules for what the receiver says when it refuses.  The first that matches decides, the group's own "
         "before those of the document, where each may name one `group`.  When: `code` (421, 45x, 5xx), "
         "`enhanced` (4.7.28; 4.7 for all of its kind), `text` (regular expression of PCRE2, case does not "
         "count; in single quotes), `stage` (connect, greeting, ehlo, starttls, auth, mail, rcpt, data, dot; "
         "one or a "
         "list).  "
         "Then, for the recipient: `treat_as: permanent` or `temporary`, `retry_after: 30m` in place of the "
         "schedule.  For all that goes to the same hosts, exact over all workers: `suspend: 10m` sends "
         "nothing; `back_off: 5m` halves the connections (where one is left, or a rate is in force, the "
         "messages a "
         "second), and doubles them again each time that it has passed; `limit_connections: 2` and `slow_to: "
         "0.5` messages a second hold for `for` (10m).  Connections that are refused, time out or end before "
         "their "
         "greeting are `connect`: these and `starttls` are asked about only where a rule names them, and it "
         "judges no "
         "recipient.  Nor does 421 to the MAIL of a connection that has worked before: that message goes "
         "over "
         "another one.  Mail never becomes permanent for want of TLS."},
    {.name = "ehlo_name",
     .type = KEY_DOMAIN,
     .offset = AT(g.ehlo_name),
     .example = "out1.example.com",
     .help = "Name given in EHLO, in place of the daemon's host name.  It should resolve to the source "
             "address."},
    {.name = "source.ipv4",
     .type = KEY_IPV4,
     .offset = AT(g.source_v4),
     .example = "192.0.2.25",
     .help = "Local address of connections over IPv4; none: the kernel's choice."},
    {.name = "source.ipv6",
     .type = KEY_IPV6,
     .offset = AT(g.source_v6),
     .example = "\"2001:db8::25\"",
     .help = "Local address of connections over IPv6; none: the kernel's choice."},
    {.name = "source.pool",
     .type = KEY_POOL,
     .offset = AT(g.pool),
     .example = "none",
     .help = "Pool of `sources` whose addresses take turns, in place of `ipv4` and `ipv6`; `none`: takes "
             "back that of "
             "`defaults`."},
    {.name = "timeouts.connect",
     .type = KEY_MS,
     .offset = AT(g.timeouts.connect_ms),
     .preset = "30s",
     .min = 0.1 * MS,
     .max = HOUR * MS,
     .help = "Until the TCP connection stands; then the next address."},
    {.name = "timeouts.greeting",
     .type = KEY_MS,
     .offset = AT(g.timeouts.greeting_ms),
     .preset = "5m",
     .min = 0.1 * MS,
     .max = HOUR * MS,
     .help = "Until the 220 greeting (RFC 5321 §4.5.3.2.1)."},
    {.name = "timeouts.ehlo",
     .type = KEY_MS,
     .offset = AT(g.timeouts.ehlo_ms),
     .preset = "5m",
     .min = 0.1 * MS,
     .max = HOUR * MS,
     .help = "For the reply to EHLO, STARTTLS and AUTH, and for the handshake."},
    {.name = "timeouts.mail",
     .type = KEY_MS,
     .offset = AT(g.timeouts.mail_ms),
     .preset = "5m",
     .min = 0.1 * MS,
     .max = HOUR * MS,
     .help = "For the reply to MAIL (RFC 5321 §4.5.3.2.2)."},
    {.name = "timeouts.rcpt",
     .type = KEY_MS,
     .offset = AT(g.timeouts.rcpt_ms),
     .preset = "5m",
     .min = 0.1 * MS,
     .max = HOUR * MS,
     .help = "For the reply to RCPT (RFC 5321 §4.5.3.2.3)."},
    {.name = "timeouts.data",
     .type = KEY_MS,
     .offset = AT(g.timeouts.data_ms),
     .preset = "2m",
     .min = 0.1 * MS,
     .max = HOUR * MS,
     .help = "For the reply to DATA (RFC 5321 §4.5.3.2.4)."},
    {.name = "timeouts.block",
     .type = KEY_MS,
     .offset = AT(g.timeouts.block_ms),
     .preset = "3m",
     .min = 0.1 * MS,
     .max = HOUR * MS,
     .help = "For each block of the body to leave (RFC 5321 §4.5.3.2.5)."},
    {.name = "timeouts.dot",
     .type = KEY_MS,
     .offset = AT(g.timeouts.dot_ms),
     .preset = "10m",
     .min = 0.1 * MS,
     .max = HOUR * MS,
     .help = "For the reply to the whole message (RFC 5321 §4.5.3.2.6); a shorter wait makes duplicates "
             "(§6.1)."},
    {.name = "timeouts.idle",
     .type = KEY_MS,
     .offset = AT(g.timeouts.idle_ms),
     .preset = "15s",
     .min = 0,
     .max = HOUR * MS,
     .help = "How long a connection without work is kept for the next message; 0: not at all."},
};
const size_t policy_key_count = COUNT_OF(policy_keys);
_Static_assert(COUNT_OF(policy_keys) <= POLICY_KEYS, "struct policy_reader holds a place for each key");

size_t policy_key_index(const char *name)
{
    size_t i = 0;

    while (strcmp(policy_keys[i].name, name) != 0)
        i++; /* the names asked for are those above */
    return i;
}

void policy_key_put_words(const struct policy_key *key, struct buf *out)
{
    for (size_t i = 0; key->words[i]; i++)
        buf_putf(out, "%s%s", i == 0 ? "" : key->words[i + 1] ? ", " : " or ", key->words[i]);
}

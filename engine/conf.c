/* The table: one row is one option.  What one value says about another is checked in conf_check.c. */
#include "engine/conf.h"

#define AT(field)          offsetof(struct conf, field)
#define LISTENER(field)    offsetof(struct conf_listener, field)
#define CERTIFICATE(field) offsetof(struct conf_certificate, field)
#define DKIM_KEY(field)    offsetof(struct conf_dkim_key, field)

/* In the order of the enums that conf.h and log.h name. */
static const char *const listener_tls_words[] = {"starttls", "implicit", "none", NULL};
static const char *const auth_words[] = {"required", "optional", "none", "certificate", NULL};
static const char *const bare_newline_words[] = {"reject", "normalize", NULL};
static const char *const log_level_words[] = {"error", "warn", "info", "debug", NULL};
static const char *const log_format_words[] = {"text", "json", NULL};
static const char *const client_certificate_words[] = {"off", "request", "require", NULL};
static const char *const unsigned_words[] = {"refuse", "mark", NULL};
static const char *const tls_version_words[] = {"1.2", "1.3", NULL};

/* The formatter would break the sentences elsewhere. */
/* clang-format off */
const struct conf_key conf_listener_keys[] = {
    {"address", CONF_STRING, LISTENER(address), .required = true, .max = "60",
     .help = "Address and port to listen on, like 0.0.0.0:587 or [::]:465."},
    {"tls", CONF_WORD, LISTENER(tls), "starttls", .words = listener_tls_words,
     .help = "starttls: TLS after the STARTTLS command (RFC 3207). implicit: TLS from the first octet (RFC "
             "8314). none: no TLS at all."},
    {"auth", CONF_WORD, LISTENER(auth), "required", .words = auth_words,
     .help = "required: clients authenticate, unless they are in trusted_networks. optional: the same, but on a "
             "loopback address without trusted_networks any client may submit. none: AUTH is not asked for: only "
             "trusted_networks may submit, or any client of a loopback address that names none. "
             "certificate: as required, but a client certificate that belongs to an account is enough, without AUTH."},
    {"trusted_networks", CONF_STRINGS, LISTENER(trusted_networks),
     .help = "Networks whose clients may submit without AUTH, like 10.0.0.0/8 or 2001:db8::/32."},
    {"require_tls", CONF_BOOL, LISTENER(require_tls), "true",
     .help = "MAIL before TLS is refused with 530. Counts for tls: starttls; the others leave no choice."},
    {"auth_without_tls", CONF_BOOL, LISTENER(auth_without_tls), "false",
     .help = "Offers AUTH outside of TLS too: for tests, on a loopback address only, with require_tls: "
             "false."},
    {"bare_newline", CONF_WORD, LISTENER(bare_newline), "reject", .words = bare_newline_words,
     .help = "A CR or LF that stands alone in a message (SMTP smuggling; RFC 5321 section 2.3.8). reject: "
             "the message is refused with 550. normalize: it becomes CRLF."},
    {"certificate", CONF_PATH, LISTENER(certificate),
     .help = "PEM file with the certificate chain of this listener; not set: tls.certificate."},
    {"key", CONF_PATH, LISTENER(key),
     .help = "PEM file with the private key of this listener's certificate."},
    {"min_version", CONF_STRING, LISTENER(min_version), .words = tls_version_words,
     .help = "Oldest TLS version here; not set: tls.min_version."},
    {"priority", CONF_STRING, LISTENER(priority),
     .help = "GnuTLS priority string of this listener; not set: tls.priority. It may go below TLS 1.2 for old "
             "programs, which report submission-tls then shows."},
    {"client_certificates", CONF_WORD, LISTENER(client_certificates), "off", .words = client_certificate_words,
     .help = "off: clients are not asked for a certificate. request: they may show one; if it belongs to an account, "
             "AUTH EXTERNAL is offered (RFC 4422). require: no session without one that belongs to an account or that "
             "client_ca vouches for. Sessions are not resumed where certificates are asked for."},
    {"client_ca", CONF_PATH, LISTENER(client_ca),
     .help = "PEM file of the authorities that vouch for clients: needed for accounts that name a dns:, email:, uri: "
             "or subject: of a certificate. Not set: certificates count by their fingerprint alone."},
    {0},
};

const struct conf_key conf_dkim_key_keys[] = {
    {"domain", CONF_STRING, DKIM_KEY(domain), .required = true, .max = "255",
     .help = "Domain of the From field that this key signs for; it becomes d= of the signature."},
    {"selector", CONF_STRING, DKIM_KEY(selector), .required = true, .max = "120",
     .help = "Name under which the public key stands in DNS: SELECTOR._domainkey.DOMAIN."},
    {"key", CONF_PATH, DKIM_KEY(key), .required = true,
     .help = "PEM file with the private key: RSA of 2048 to 4096 bits gives rsa-sha256 (RFC 8301), Ed25519 "
             "gives ed25519-sha256 (RFC 8463). Mode 0600; \"hayauma dkim generate\" makes one."},
    {"subdomains", CONF_BOOL, DKIM_KEY(subdomains), "false",
     .help = "true: signs for senders below the domain too, unless one nearer to them has keys of its own; "
             "d= stays the domain, which relaxed DMARC alignment accepts (RFC 7489 section 3.1.1)."},
    {0},
};

const struct conf_key conf_certificate_keys[] = {
    {"certificate", CONF_PATH, CERTIFICATE(certificate), .required = true,
     .help = "PEM file with the certificate, followed by its intermediate ones."},
    {"key", CONF_PATH, CERTIFICATE(key), .required = true, .help = "PEM file with its private key."},
    {"names", CONF_STRINGS, CERTIFICATE(names), .max = "1000",
     .help = "Names for which clients get it, like mail.example.com or *.example.net. Empty: those of the "
             "certificate."},
    {"listeners", CONF_STRINGS, CERTIFICATE(listeners), .max = "64",
     .help = "Addresses of the listeners that use it, as listeners.address says them. Empty: all."},
    {0},
};

const struct conf_key conf_keys[] = {
    {"host_name", CONF_STRING, AT(host_name), .max = "255", .reload = CONF_RESTART,
     .help = "Name in greeting, EHLO and Received (RFC 5321 section 4.1.1.1); it should resolve to this "
             "host and back. Not set: the system's host name."},
    {"data_dir", CONF_PATH, AT(data_dir), "/var/lib/hayauma", .reload = CONF_RESTART,
     .help = "Folder of the queue, the message bodies, the history and the self-signed certificate. One "
             "daemon a folder."},
    {"user", CONF_STRING, AT(user), .max = "64", .reload = CONF_RESTART,
     .help = "User to become when started as root, once the ports are open. Not set: stay who we are."},
    {"group", CONF_STRING, AT(group), .max = "64", .reload = CONF_RESTART,
     .help = "Group to become when started as root. Not set: the user's own."},
    {"workers", CONF_INT, AT(workers), "0", "0", "256", CONF_RESTART,
     .help = "Threads that move mail, each with its own connections. 0: one per processor core."},
    {"listeners", CONF_TABLES, AT(listeners), .max = "64", .reload = CONF_RESTART, .sub = conf_listener_keys,
     .sub_bytes = sizeof(struct conf_listener),
     .help = "Where applications hand in mail. Empty: one listener at 0.0.0.0:587 with STARTTLS and AUTH, "
             "both required."},

    {"tls.certificate", CONF_PATH, AT(tls.certificate), .reload = CONF_LIVE,
     .help = "PEM file with our certificate, followed by its intermediate ones. Not set: a self-signed "
             "certificate is made in data_dir at the first start."},
    {"tls.key", CONF_PATH, AT(tls.key), .reload = CONF_LIVE,
     .help = "PEM file with the private key of tls.certificate; the daemon must be able to read it."},
    {"tls.certificates", CONF_TABLES, AT(tls.certificates), .max = "1000", .reload = CONF_LIVE,
     .sub = conf_certificate_keys, .sub_bytes = sizeof(struct conf_certificate),
     .help = "Further certificates, chosen by the name that a client asks for (SNI). A client that asks for another "
             "name, or for none, gets that of the listener. Two of one name, RSA and ECDSA, serve every client."},
    {"tls.crl", CONF_PATH, AT(tls.crl), .reload = CONF_LIVE,
     .help = "PEM file with revocation lists: a client certificate that one of them names is refused, a certificate of "
             "ours is complained about."},
    {"tls.priority", CONF_STRING, AT(tls.priority), .reload = CONF_LIVE,
     .help = "GnuTLS priority string of the listeners, in place of ours (TLS 1.2 and 1.3, AEAD ciphers, "
             "forward secrecy)."},
    {"tls.min_version", CONF_STRING, AT(tls.min_version), "1.2", .words = tls_version_words,
     .reload = CONF_LIVE,
     .help = "Oldest TLS version that the listeners accept. 1.2 leaves older ones to a priority string that asks for "
             "them; 1.3 rules over it."},

    {"submission.message_size", CONF_SIZE, AT(submission.message_bytes), "50M", "1k", "2G", CONF_LIVE,
     .help = "Largest message; announced as SIZE (RFC 1870), refused with 552 beyond."},
    {"submission.recipients", CONF_INT, AT(submission.recipients), "1000", "1", "100000", CONF_LIVE,
     .help = "Recipients of one message; beyond it RCPT is answered with 452 (RFC 5321 section 4.5.3.1.8 "
             "asks for 100 or more)."},
    {"submission.connections", CONF_INT, AT(submission.connections), "2000", "1", "1000000", CONF_LIVE,
     .help = "Client connections at once, over all listeners. Beyond it the client that has been there longest without "
             "having authenticated or sent a message makes room, unless its network is trusted; when there is none, 421."},
    {"submission.connections_per_address", CONF_INT, AT(submission.connections_per_address), "500", "0",
     "1000000", CONF_LIVE, .help = "Client connections at once from one address. 0: no limit."},
    {"submission.connection_rate_per_address", CONF_INT, AT(submission.connection_rate_per_address), "6000",
     "0", "10000000", CONF_LIVE, .help = "New connections in a minute from one address. 0: no limit."},
    {"submission.messages_per_minute_per_address", CONF_INT, AT(submission.messages_per_minute_per_address),
     "0", "0", "100000000", CONF_LIVE,
     .help = "Messages in a minute from one address; beyond it 450. 0: no limit."},
    {"submission.messages_per_connection", CONF_INT, AT(submission.messages_per_connection), "0", "0",
     "100000000", CONF_LIVE, .help = "Messages on one connection, then 421. 0: no limit."},
    {"submission.errors_per_connection", CONF_INT, AT(submission.errors_per_connection), "20", "1", "10000",
     CONF_LIVE, .help = "Protocol errors of one client until it gets 421."},
    {"submission.received_hops", CONF_INT, AT(submission.received_hops), "100", "2", "1000", CONF_LIVE,
     .help = "Received headers in a message that are taken for a loop: 554 (RFC 5321 section 6.3)."},
    {"submission.command_timeout", CONF_DURATION, AT(submission.command_timeout_ms), "5m", "1s", "1h",
     CONF_LIVE,
     .help = "Wait for the next command (RFC 5321 section 4.5.3.2.7 asks for 5 minutes or more). A TLS handshake has "
             "as long, and a minute at most."},
    {"submission.data_timeout", CONF_DURATION, AT(submission.data_timeout_ms), "3m", "1s", "1h", CONF_LIVE,
     .help = "Wait for the next part of a message (RFC 5321 section 4.5.3.2.5)."},
    {"submission.data_rate_min", CONF_INT, AT(submission.data_rate_min), "100", "0", "1000000000",
     CONF_LIVE,
     .help = "Octets per second that a client must reach over a message, after its first minute. 0: no "
             "minimum."},
    {"submission.auth_failures_per_minute", CONF_INT, AT(submission.auth_failures_per_minute), "20", "1",
     "100000", CONF_LIVE,
     .help = "Failed authentications in a minute, per address (of IPv6: per /64) and per user, until further ones get 454. "
             "A user who is being guessed at is refused only where somebody has failed already."},
    {"submission.convert_8bit", CONF_BOOL, AT(submission.convert_8bit), "false", .reload = CONF_LIVE,
     .help = "true: 8-bit parts of messages up to 1 MiB become quoted-printable or base64 before they are "
             "signed, so that they may go to receivers without 8BITMIME. Larger ones, and all with false, "
             "bounce there with 5.6.3 (RFC 6152 section 3)."},

    {"dkim.keys", CONF_TABLES, AT(dkim.keys), .max = "10000", .reload = CONF_LIVE, .sub = conf_dkim_key_keys,
     .sub_bytes = sizeof(struct conf_dkim_key),
     .help = "Keys that sign accepted mail by the domain of its From field (RFC 6376). A domain may have one "
             "RSA and one Ed25519 key: then both sign. Mail of other domains goes unsigned, and is counted."},
    {"dkim.headers", CONF_STRINGS, AT(dkim.headers), .max = "100", .reload = CONF_LIVE,
     .help = "Header fields to sign where they are there. Empty: those that a reader or a mail program acts "
             "on, with List-Unsubscribe and List-Unsubscribe-Post (RFC 8058). From is always signed."},
    {"dkim.oversign", CONF_STRINGS, AT(dkim.oversign), .max = "100", .reload = CONF_LIVE,
     .help = "Header fields that are named once more than they are there, so that nobody can add one (RFC "
             "6376 section 8.15), besides From and, with dkim.headers empty, the usual ones."},
    {"dkim.timestamp", CONF_BOOL, AT(dkim.timestamp), "true", .reload = CONF_LIVE,
     .help = "The signature says when it was made (t=)."},
    {"dkim.expire", CONF_DURATION, AT(dkim.expire_ms), "0", "0", "365d", CONF_LIVE,
     .help = "Time after which receivers reject the signature (x=); longer than the mail may wait in the "
             "queue. 0: never."},
    {"dkim.threads", CONF_INT, AT(dkim.threads), "0", "0", "256", CONF_RESTART,
     .help = "Threads that compute signatures. 0: one per processor core."},
    {"dkim.queue", CONF_INT, AT(dkim.queue), "10000", "1", "1000000", CONF_LIVE,
     .help = "Messages that may wait for their signature; beyond it new ones get 451. Each connection "
             "has one at most: it is not read while it waits."},

    {"delivery.connections", CONF_INT, AT(delivery.connections), "2000", "1", "60000", CONF_LIVE,
     .help = "Outgoing connections at once, over all destinations. The policy limits them per group and "
             "per host."},
    {"delivery.jobs_per_domain", CONF_INT, AT(delivery.jobs_per_domain), "10000", "1", "1000000", CONF_LIVE,
     .help = "Recipients of one domain that wait in memory; the others wait on disk and are read as these "
             "leave."},
    {"delivery.jobs_in_memory", CONF_INT, AT(delivery.jobs_in_memory), "50000", "1000", "100000000", CONF_LIVE,
     .help = "Recipients that wait in memory, over all destinations: each destination has an equal share, but at least four "
             "and at most delivery.jobs_per_domain. About 600 octets each, without bodies."},
    {"delivery.clear_fallback_after", CONF_DURATION, AT(delivery.clear_fallback_after_ms), "5m", "0", "7d", CONF_LIVE,
     .help = "Age from which a message may go in clear after TLS failed, from its second attempt on, where its "
             "group says clear_after_tls_failure: later."},
    {"delivery.body_memory", CONF_SIZE, AT(delivery.body_memory_bytes), "32M", "1M", "1T", CONF_LIVE,
     .help = "Memory for message bodies that wait to be sent, over all workers; beyond it they are read "
             "from disk."},
    {"delivery.ipv6", CONF_BOOL, AT(delivery.ipv6), "true", .reload = CONF_RESTART,
     .help = "Delivers to IPv6 addresses too. Turn it off on a host without IPv6."},
    {"delivery.pipelining_full", CONF_BOOL, AT(delivery.pipelining_full), "true", .reload = CONF_LIVE,
     .help = "Where PIPELINING is offered, sends the commands of the next message together with the end of "
             "this one (RFC 2920 section 3.1): one round trip a message. The preset of the policy option "
             "`pipelining`, where that is `auto`."},

    {"dns.servers", CONF_STRINGS, AT(dns.servers), .max = "8", .reload = CONF_RESTART,
     .help = "Resolvers to ask, like 127.0.0.1 or [::1]:5353. Empty: those of /etc/resolv.conf."},
    {"dns.trusted", CONF_STRINGS, AT(dns.trusted), .max = "16", .reload = CONF_RESTART,
     .help = "Addresses or networks of validating resolvers whose word on DNSSEC (the AD bit) is believed, besides "
             "those on this host. Only where nobody can interfere on the way: DANE rests on it."},
    {"dns.validation_probe", CONF_STRING, AT(dns.validation_probe), ".", .reload = CONF_LIVE,
     .help = "A signed name, and perhaps a type after a blank, that is asked for at start and hourly to see "
             "whether the resolvers validate."},
    {"dns.timeout", CONF_DURATION, AT(dns.timeout_ms), "1500ms", "100ms", "30s", CONF_RESTART,
     .help = "Wait for one answer until the next server is asked."},
    {"dns.total_timeout", CONF_DURATION, AT(dns.total_timeout_ms), "15s", "1s", "2m", CONF_RESTART,
     .help = "Wait for an answer from any server until the lookup counts as failed and the mail is "
             "deferred."},
    {"dns.cache_entries", CONF_INT, AT(dns.cache_entries), "20000", "100", "10000000", CONF_RESTART,
     .help = "Answers that each worker remembers, for as long as their TTL says."},

    {"mta_sts.ca_file", CONF_PATH, AT(mta_sts.ca_file), .reload = CONF_RESTART,
     .help = "PEM file of the authorities that are trusted with the web servers of MTA-STS policies (RFC 8461 section "
             "3.3), in place of the system's: for tests, and for networks with an authority of their own. Which domains "
             "are asked at all, the policy says: mta_sts."},
    {"mta_sts.port", CONF_INT, AT(mta_sts.port), "443", "1", "65535", CONF_RESTART,
     .help = "Port of those web servers. The standard knows no other than 443: for tests."},

    {"tlsrpt.enabled", CONF_BOOL, AT(tlsrpt.enabled), "false", .reload = CONF_LIVE,
     .help = "Sends each domain that asks for it (a TXT record at _smtp._tls) a daily report of how TLS to its "
             "mail hosts went (RFC 8460). Off, because it needs two things that only you know: "
             "tlsrpt.organization and tlsrpt.contact; and a DKIM key for the domain of the contact, since "
             "receivers must ignore unsigned report mail (section 3)."},
    {"tlsrpt.organization", CONF_STRING, AT(tlsrpt.organization), .max = "255", .reload = CONF_LIVE,
     .help = "Who reports: organization-name in the reports."},
    {"tlsrpt.contact", CONF_STRING, AT(tlsrpt.contact), .max = "254", .reload = CONF_LIVE,
     .help = "Mail address for questions about the reports: contact-info. Its domain is the TLS-Report-Submitter "
             "that signs them."},
    {"tlsrpt.from", CONF_STRING, AT(tlsrpt.from), .max = "254", .reload = CONF_LIVE,
     .help = "Sender of report mail, at the domain of the contact. Not set: the contact."},
    {"tlsrpt.delay_max", CONF_DURATION, AT(tlsrpt.delay_max_ms), "4h", "0", "12h", CONF_LIVE,
     .help = "The reports of a day go out at a random moment within this time after midnight, UTC, so that not "
             "all senders of the world report at once (section 4.1)."},
    {"tlsrpt.retry", CONF_DURATION, AT(tlsrpt.retry_ms), "5m", "1s", "4h", CONF_LIVE,
     .help = "Wait until a report that could not be handed over is tried again; it doubles each time up to four "
             "hours, and ends a day after the first try (section 5.5). Report mail that is in the queue follows "
             "the policy of its destination, for a day too."},
    {"tlsrpt.private_addresses", CONF_BOOL, AT(tlsrpt.private_addresses), "false", .reload = CONF_LIVE,
     .help = "Reports may be posted to loopback, private and link-local addresses too. The URLs are chosen by "
             "strangers: true only in a closed network, and for tests."},
    {"tlsrpt.receive", CONF_STRING, AT(tlsrpt.receive), .max = "254", .reload = CONF_LIVE,
     .help = "Address for which submission takes in TLS reports: mail to it is read and kept for \"hayauma tls "
             "reports\", not sent on. Publish it in a TXT record at _smtp._tls.YOUR-DOMAIN, like "
             "\"v=TLSRPTv1; rua=mailto:tlsrpt@example.com\", and let your mail host pass its "
             "mail on, unchanged, to a listener of this daemon."},
    {"tlsrpt.receive_unsigned", CONF_WORD, AT(tlsrpt.receive_unsigned), "refuse", .words = unsigned_words, .reload = CONF_LIVE,
     .help = "A report mail without a DKIM signature that holds and is by the domain of From. refuse: 550, as RFC 8460 "
             "section 3 wants it. mark: taken in, and the list of reports says what was found; for a mail host in front "
             "that changes mail, and checks DKIM itself."},

    {"store.segment", CONF_SIZE, AT(store.segment_bytes), "8M", "1M", "1G", CONF_RESTART,
     .help = "Size of one file of message bodies; a file in which nothing is wanted any more is written over, or deleted."},
    {"store.share_contents", CONF_BOOL, AT(store.share_contents), "true", .reload = CONF_RESTART,
     .help = "What follows the header section, where many messages have it in common, is stored once for all of them. "
             "false: with each of them."},
    {"store.wal", CONF_SIZE, AT(store.wal_bytes), "64M", "4M", "4G", CONF_RESTART,
     .help = "Size of the queue database's write-ahead log at which it is folded back."},
    {"store.settle_after", CONF_DURATION, AT(store.settle_ms), "100ms", "0", "5s", CONF_RESTART,
     .help = "A message is on stable storage with its envelope before its 250; its rows in the queue database follow "
             "within this time, and only if it is not delivered by then. 0: rows come before the answer, which "
             "costs a second sync."},
    {"store.reserve", CONF_SIZE, AT(store.reserve_bytes), "64M", "0", "1T", CONF_RESTART,
     .help = "Free disk space that is kept for finishing what was accepted: below it new messages get 452."},
    {"store.history_days", CONF_INT, AT(store.history_days), "90", "1", "3650", CONF_RESTART,
     .help = "Days for which delivery records are kept, one file a day."},

    {"campaigns.guard_after", CONF_INT, AT(guard.after), "0", "0", "1000000", CONF_LIVE,
     .help = "Attempts of a campaign after which, each time, it is asked whether too many met an unknown user or a "
             "block (after the first time as soon as there are too many); then the campaign is paused, and no other, until \"hayauma campaign resume\". 0: never."},
    {"campaigns.guard_unknown", CONF_INT, AT(guard.unknown_percent), "10", "0", "100", CONF_LIVE,
     .help = "Percent of these attempts that may not meet an unknown user or domain. 0: as many as there are."},
    {"campaigns.guard_blocked", CONF_INT, AT(guard.blocked_percent), "20", "0", "100", CONF_LIVE,
     .help = "Percent of these attempts that may not be refused as spam or for a bad reputation, for good or for "
             "now. 0: as many as there are."},

    {"api.socket", CONF_PATH, AT(api.socket), .max = "107", .reload = CONF_RESTART,
     .help = "Unix-domain socket of the HTTP API that the command line uses. Not set: hayauma.sock in "
             "data_dir."},
    {"api.listen", CONF_STRING, AT(api.listen), .max = "60", .reload = CONF_RESTART,
     .help = "Loopback address and port for monitoring, like 127.0.0.1:8025: GET /metrics and GET /healthz. All "
             "else of the API is on its socket. Not set: the socket only."},

    {"log.level", CONF_WORD, AT(log.level), "info", .words = log_level_words, .reload = CONF_LIVE,
     .help = "error: someone must act. warn: we coped. info: one line per delivery attempt. debug: the "
             "dialogue."},
    {"log.format", CONF_WORD, AT(log.format), "text", .words = log_format_words, .reload = CONF_RESTART,
     .help = "text: key=value. json: one object a line. Lines go to standard error."},

    {"watchdog.stuck_after", CONF_DURATION, AT(watchdog.stuck_after_ms), "10s", "2s", "1h", CONF_LIVE,
     .help = "Time in which a thread that others rely on (a worker, the store, the history) has not turned its loop until "
             "it is said to be stuck: in the log, in status, in the metrics and by \"hayauma doctor\". Its listening "
             "sockets are closed meanwhile, so that clients reach the other workers."},
    {"watchdog.abort_after", CONF_DURATION, AT(watchdog.abort_after_ms), "0", "0", "1d", CONF_LIVE,
     .help = "Time after which the process ends because of such a thread, with SIGABRT, for the service manager to start "
             "it anew; nothing that was accepted is lost. 0: never."},

    {"drain_timeout", CONF_DURATION, AT(drain_ms), "30s", "0", "1h", CONF_LIVE,
     .help = "Time that SIGTERM leaves to transactions in work before connections are cut."},
    {"core_dumps", CONF_BOOL, AT(core_dumps), "false", .reload = CONF_RESTART,
     .help = "true: a crash may leave a core dump, and debuggers of the same user may look into the process. It holds "
             "passwords, private keys and messages: for who looks for a fault."},
    {"policy_file", CONF_PATH, AT(policy_file), .reload = CONF_LIVE,
     .help = "Policy document to begin with. A start or reload applies it again if it was edited since it was last "
             "taken; other versions come by \"hayauma policy apply\". Not set: the built-in one."},
    {"policy_include_dir", CONF_PATH, AT(policy_include_dir), .reload = CONF_LIVE,
     .help = "Where the files lie that a policy document includes by name: \"include: [receivers]\" is "
             "receivers.yaml in this directory. Not set: share/hayauma below the prefix of the installation."},
    {"postmaster", CONF_STRING, AT(postmaster), .max = "254", .reload = CONF_LIVE,
     .help = "Address in the From of delivery status notifications (RFC 3464). Not set: MAILER-DAEMON at "
             "host_name."},
    {0},
};

/* The table of all commands: a new one is a row here and a function in cmd_….c. */
#include "webui-api/cli/cli.h"

#define FLAG(name, help)                                                                                     \
    {                                                                                                        \
        (name), 0, OPTION_FLAG, NULL, (help), false                                                          \
    }
#define TEXT(name, value, help)                                                                              \
    {                                                                                                        \
        (name), 0, OPTION_TEXT, (value), (help), false                                                       \
    }
#define COUNT(name, help)                                                                                    \
    {                                                                                                        \
        (name), 0, OPTION_COUNT, "N", (help), false                                                          \
    }
#define WORD(name, words, help)                                                                              \
    {                                                                                                        \
        (name), 0, OPTION_WORD, (words), (help), false                                                       \
    }
#define REPEATED(name, value, help)                                                                          \
    {                                                                                                        \
        (name), 0, OPTION_TEXT, (value), (help), true                                                        \
    }
#define LAST                                                                                                 \
    {                                                                                                        \
        .name = NULL                                                                                         \
    }

/* ---- accounts ---- */

#define ACCOUNT_OPTIONS                                                                                      \
    REPEATED("sender-domain", "DOMAIN", "May send as this domain only; repeat it for more.  Preset: any"),   \
        REPEATED("network", "NETWORK",                                                                       \
                 "May submit from this network only, like 192.0.2.0/24; repeat it for more.  Preset: any"),  \
        REPEATED(                                                                                            \
            "certificate", "SPEC|FILE",                                                                      \
            "Proved by this client certificate: a PEM file, sha256:FINGERPRINT, or, where the listener "     \
            "has a client_ca, dns:NAME, email:ADDRESS, uri:URI, subject:DN; repeat it for more"),            \
        COUNT("max-connections", "Connections at a time; 0: no limit of its own"),                           \
        COUNT("messages-per-minute", "Messages in a minute; 0: no limit"),                                   \
        TEXT("campaign", "ID", "The campaign of its mail that has no X-Campaign of its own"),                \
        WORD("priority", "high|normal|low",                                                                  \
             "Of its mail that has no X-Hayauma-Priority of its own.  Preset: normal")

#define PASSWORD_STDIN                                                                                       \
    FLAG("password-stdin",                                                                                   \
         "Read the password as one line from stdin (so it is anyway when stdin is no terminal)")

static const struct command_option account_add[] = {ACCOUNT_OPTIONS, FLAG("no-password", "Certificates only"),
                                                    PASSWORD_STDIN, LAST};
static const struct command_option account_set[] = {
    ACCOUNT_OPTIONS,
    FLAG("any-sender-domain", "Takes back all --sender-domain"),
    FLAG("any-network", "Takes back all --network"),
    FLAG("no-certificate", "Takes back all --certificate"),
    FLAG("no-campaign", "Takes back --campaign"),
    FLAG("no-password", "Takes the password away: certificates only"),
    FLAG("disable", "It may not submit any more, but stays"),
    FLAG("enable", "It may submit again"),
    LAST,
};
static const struct command_option account_passwd[] = {PASSWORD_STDIN, LAST};

/* ---- queue ---- */

#define SELECTORS                                                                                            \
    TEXT("message", "ID", "Recipients of this message"), TEXT("recipient", "ADDRESS", "Of this address")
#define MORE_SELECTORS                                                                                       \
    TEXT("group", "NAME", "Whose domains the policy puts into this group"),                                  \
        TEXT("campaign", "ID", "Of messages with this campaign"),                                            \
        TEXT("sender", "ADDRESS", "Of messages from this envelope sender"),                                  \
        TEXT("account", "NAME", "Of messages that this account submitted")

static const struct command_option queue_list[] = {
    SELECTORS,
    TEXT("domain", "DOMAIN", "Of this domain"),
    MORE_SELECTORS,
    WORD("state", "waiting|held|paused|dsn-owed|bouncing|cancelling", "In this state"),
    WORD("order", "id|due", "By acceptance (id, the preset), or what is tried next first (due)"),
    COUNT("limit", "At most so many.  Preset: 100"),
    TEXT("after", "TEXT", "Go on where the page before ended, as it said"),
    FLAG("all-pages", "All of them, however many"),
    LAST,
};
static const struct command_option queue_summary[] = {
    WORD("by", "domain|campaign|group", "What a line stands for.  Preset: domain"),
    COUNT("limit", "At most so many lines, the largest first.  Preset: 100"),
    LAST,
};
#define OPERATION_SELECTORS                                                                                  \
    SELECTORS, REPEATED("domain", "DOMAIN", "Of this domain; repeat it for more"), MORE_SELECTORS,           \
        FLAG("all", "Everything in the queue")
static const struct command_option queue_op[] = {OPERATION_SELECTORS, LAST};
static const struct command_option queue_final_op[] = {
    OPERATION_SELECTORS,
    {"yes", 'y', OPTION_FLAG, NULL, "Do not ask for confirmation", false},
    LAST,
};
/* ---- campaigns ---- */

static const struct command_option campaign_list[] = {
    COUNT("limit", "At most so many.  Preset: 100"),
    FLAG("active", "Only those that have mail in the queue, or are paused"),
    LAST,
};
static const struct command_option campaign_pause[] = {
    TEXT("why", "TEXT", "Kept, and shown as long as it is paused"), LAST};
static const struct command_option campaign_expire[] = {
    TEXT("at", "TIME", "2026-12-24T18:00:00+09:00, as in RFC 3339 or RFC 5322, or seconds since 1970"),
    TEXT("in", "SPAN", "So long from now, like 6h or 2d"),
    FLAG("never", "Takes the end back; what has expired has"),
    {"yes", 'y', OPTION_FLAG, NULL, "Do not ask for confirmation", false},
    LAST,
};
static const struct command_option campaign_cancel[] = {
    {"yes", 'y', OPTION_FLAG, NULL, "Do not ask for confirmation", false},
    LAST,
};

static const struct command_option audit_options[] = {
    TEXT("campaign", "ID", "Only this campaign; '' is mail without one"),
    COUNT("limit", "At most so many attempts in doubt, the newest.  Preset: 100"),
    LAST,
};

#define SELECT_HELP "All options given must hold; without any, --all is needed."

/* ---- policy ---- */

static const struct command_option policy_show[] = {
    COUNT("version", "This version instead of the current one"),
    FLAG("all", "With the files that it includes"), LAST};
static const struct command_option policy_receivers[] = {
    FLAG("date", "Only of when it is, where it lies, and what of it is in force"), LAST};
static const struct command_option policy_diff[] = {
    COUNT("from", "Old side.  Preset: the version in force"),
    COUNT("to", "New side: a version instead of FILE"),
    LAST,
};
static const struct command_option policy_apply[] = {
    TEXT("comment", "TEXT", "Why; kept with the version"),
    COUNT("expected", "Refuse unless version N is still in force"),
    LAST,
};
static const struct command_option policy_history[] = {
    COUNT("limit", "At most so many, the newest first.  Preset: 50"),
    COUNT("before", "Only versions below N"),
    LAST,
};
static const struct command_option policy_export[] = {
    COUNT("version", "This version instead of the current one"),
    {"output", 'o', OPTION_TEXT, "FILE", "Into this file instead of stdout", false},
    LAST,
};

static const struct command_option policy_shadow[] = {
    TEXT("comment", "TEXT", "Why; kept with the rules"),
    LAST,
};
#define SHADOW_OPTIONS(preset)                                                                               \
    TEXT("since", "TIME", "From this time on: 2h, 7d, 2026-11-21, 2026-11-21T21:00:00Z.  Preset: " preset),  \
        TEXT("until", "TIME", "Up to this time, in the same forms"),                                         \
        WORD("by", "group|new-group|domain|mx|campaign|reason|recipient",                                    \
             "What a line stands for; new-group: the group in the other rules; recipient: those for whom "   \
             "anything would be different.  Preset: group"),                                                 \
        FLAG("changed", "Only lines where anything would be different"),                                     \
        TEXT("group", "NAME", "Only this group, by the rules in force then"),                                \
        TEXT("domain", "DOMAIN", "Only this domain"), TEXT("mx", "HOST", "Only this MX host"),               \
        TEXT("campaign", "ID", "Only this campaign; '' is mail without one"),                                \
        COUNT("limit", "At most so many lines; the totals count everything"),                                \
        FLAG("csv", "As CSV (RFC 4180), for spreadsheets")
static const struct command_option policy_whatif[] = {SHADOW_OPTIONS("7d"), LAST};
static const struct command_option report_shadow[] = {SHADOW_OPTIONS("since the rules were applied"), LAST};

/* ---- reports ---- */

#define REPORT_OPTIONS(bys, sorts)                                                                           \
    TEXT("since", "TIME", "From this time on: 2h, 7d, 2026-11-21, 2026-11-21T21:00:00Z"),                    \
        TEXT("until", "TIME", "Up to this time, in the same forms"),                                         \
        WORD("by", bys, "What a line stands for.  Preset: group"), TEXT("group", "NAME", "Only this group"), \
        TEXT("domain", "DOMAIN", "Only this domain"),                                                        \
        TEXT("mx", "HOST", "Only what this MX host got or refused"),                                         \
        TEXT("campaign", "ID", "Only this campaign; '' is mail without one"),                                \
        WORD("sort", sorts, "The largest of it first; key: by name"),                                        \
        COUNT("limit", "At most so many lines; the totals count everything"),                                \
        FLAG("csv", "As CSV (RFC 4180), for spreadsheets")

#define REPORT_KEYS "group|domain|mx|campaign|hour|source"
static const struct command_option report_delivery[] = {
    REPORT_OPTIONS(REPORT_KEYS, "volume|key|failed|waiting"), LAST};
static const struct command_option report_tls[] = {
    REPORT_OPTIONS(
        REPORT_KEYS
        "|level|wanted|why|version|cipher|kx|verify|dane|sts|failure|session|fallback|expiry|expires",
        "volume|key|failed|waiting|clear|weak"),
    TEXT("within", "SPAN", "Certificates that end so soon.  Preset: 30d"),
    TEXT("html", "FILE", "All of it with charts, as one HTML file to hand on; - is stdout"),
    LAST,
};
static const struct command_option report_submission[] = {
    TEXT("since", "TIME", "From this time on: 2h, 7d, 2026-11-21, 2026-11-21T21:00:00Z; whole hours"),
    TEXT("until", "TIME", "Up to this time, in the same forms"),
    WORD("by", "account|source|network|listener|version|cipher|auth|hour",
         "What a line stands for.  Preset: account"),
    TEXT("account", "NAME", "Only this account; '' is mail without one"),
    TEXT("source", "NETWORK", "Only what came from this address or network"),
    TEXT("listener", "ADDRESS", "Only what came in here, like 0.0.0.0:587"),
    TEXT("auth", "MECHANISM",
         "Only what was proved so: plain, scram-sha-256, external, certificate, none, …"),
    WORD("sort", "volume|key|clear|old", "The largest of it first; old: without TLS 1.3; key: by name"),
    COUNT("limit", "At most so many lines; the totals count everything"),
    FLAG("csv", "As CSV (RFC 4180), for spreadsheets"),
    LAST,
};
static const struct command_option report_reconcile[] = {
    TEXT("campaign", "ID", "Only this campaign; '' is mail without one"),
    WORD("by", "campaign", "One line for each campaign"),
    LAST,
};

static const struct command_option doctor_options[] = {
    TEXT("connect", "HOST[:PORT]",
         "Also tries a connection to port 25 of this host, as mail would be delivered"),
    LAST,
};

static const struct command_option dkim_generate[] = {
    WORD("type", "rsa2048|ed25519", "Kind of key.  Preset: rsa2048, which every receiver knows"),
    {"output", 'o', OPTION_TEXT, "FILE", "Where the key goes.  Preset: SELECTOR.DOMAIN.pem", false},
    LAST,
};
static const struct command_option dkim_check[] = {
    TEXT("dns", "ADDRESS",
         "Ask this name server, like 192.0.2.53 or [2001:db8::53]:5353, and not the daemon's resolver"),
    LAST,
};

static const struct command_option tls_probe[] = {
    TEXT("file", "FILE", "Every domain of this list of addresses or domains, one a line; - is stdin"),
    TEXT("from-queue", "CAMPAIGN",
         "Every domain to which mail of the campaign waits; '' is mail without one"),
    COUNT("at-once", "With --file and --from-queue: domains at the same time, 1 to 64.  Preset: 32"),
    FLAG("levels", "What every level would make of each host, not only the live policy"),
    LAST,
};
static const struct command_option tls_sts[] = {
    FLAG("list", "All that are known, by name; so it is without DOMAIN"),
    FLAG("refresh", "Ask DNS and the policy host now, then show"),
    COUNT("limit", "Of the list at most so many.  Preset: 100"),
    TEXT("after", "DOMAIN", "Go on behind this one"),
    LAST,
};

static const struct command_option tls_downgrades[] = {
    TEXT("mx", "HOST", "Approve or forget this MX host only: of DOMAIN, or of all domains"),
    FLAG("all", "Approve or forget everything"),
    WORD("state", "open|approved|over", "List those in this state"),
    FLAG("csv", "The list as CSV (RFC 4180)"),
    LAST,
};

static const struct command_option tls_reports[] = {
    TEXT("since", "TIME", "About this time on: 7d, 2026-11-21"),
    TEXT("until", "TIME", "About the time before, in the same forms"),
    WORD("by", "domain|sender|result|mx|day|report", "What a line stands for.  Preset: domain"),
    TEXT("domain", "DOMAIN", "Only about this domain"),
    TEXT("sender", "NAME", "Only from this organization"),
    COUNT("limit", "At most so many lines; the total counts everything"),
    FLAG("csv", "As CSV (RFC 4180), for spreadsheets"),
    LAST,
};
static const struct command_option tls_report_out[] = {
    TEXT("day", "DAY", "send: of this day, like 2026-11-21.  Preset: yesterday"),
    FLAG("print", "send: shows the report as JSON, and sends nothing"),
    FLAG("again", "send: even if it was sent already"),
    TEXT("since", "TIME", "list: of this day on"),
    WORD("state", "lookup|trying|sent|failed|none", "list: in this state"),
    COUNT("limit", "list: at most so many.  Preset: 1000"),
    LAST,
};

static const struct command_option help[] = {FLAG("man", "The manual page hayauma(1) instead, for man -l -"),
                                             LAST};

#define SHAPING_FILTER                                                                                       \
    TEXT("group", "NAME", "Of this group"), TEXT("domain", "DOMAIN", "Of the hosts of this domain")
static const struct command_option source_warmup[] = {TEXT("group", "NAME", "Towards this group only"), LAST};
static const struct command_option shaping_list[] = {SHAPING_FILTER,
                                                     COUNT("limit", "At most so many.  Preset: 200"), LAST};
static const struct command_option shaping_clear[] = {SHAPING_FILTER, FLAG("all", "Everything"), LAST};

static const struct command_option log_follow[] = {
    TEXT("group", "NAME", "Only this group"),
    TEXT("domain", "DOMAIN", "Only this domain"),
    TEXT("campaign", "ID", "Only this campaign"),
    TEXT("recipient", "ADDRESS", "Only this recipient"),
    WORD("result", "delivered|deferred|bounced|expired|cancelled", "Only attempts that ended so"),
    FLAG("events", "Also what is changed automatically: shaping, warm-up, campaigns, lost TLS"),
    COUNT("last", "Begin with the N newest attempts that the other options let through.  Preset: 10; 0: only "
                  "what comes"),
    LAST,
};

const struct command commands[] = {
    {"status", "", 0, 0, "How the daemon is: mail, groups, listeners, and what needs attention", NULL, NULL,
     cmd_status},
    {"doctor", "", 0, 0, "Looks at what mail rests on, and says what to do about what is wrong",
     "Resolvers, certificates, ports, source addresses, space, descriptors, clock, policy. Ends with status "
     "1 when "
     "something fails.",
     doctor_options, cmd_doctor},
    {"explain", "ADDRESS|DOMAIN", 1, 1,
     "What happens to mail for it, and why: group, rule, MX hosts, queue, last attempts", NULL, NULL,
     cmd_explain},

    {"account add", "NAME", 1, 1, "Let someone submit mail by user name and password",
     "The password is asked for on the terminal, or is one line on stdin; it never is an argument, where "
     "others could see it.",
     account_add, cmd_account_add},
    {"account list", "", 0, 0, "Who may submit", NULL, NULL, cmd_account_list},
    {"account set", "NAME", 1, 1, "Change what an account may", "What no option names stays as it is.",
     account_set, cmd_account_set},
    {"account passwd", "NAME", 1, 1, "Give an account another password",
     "It is asked for on the terminal, or is one line on stdin.", account_passwd, cmd_account_passwd},
    {"account remove", "NAME", 1, 1, "Take an account away; its mail in the queue goes on", NULL, NULL,
     cmd_account_remove},

    {"queue list", "", 0, 0, "Recipients in the queue", NULL, queue_list, cmd_queue_list},
    {"queue summary", "", 0, 0, "How much waits, by domain, campaign or group", NULL, queue_summary,
     cmd_queue_summary},
    {"queue show", "ID", 1, 1, "One message: envelope, header, recipients, attempts", NULL, NULL,
     cmd_queue_show},
    {"queue retry", "", 0, 0, "Try waiting recipients now", SELECT_HELP, queue_op, cmd_queue_op},
    {"queue hold", "", 0, 0, "Stop trying recipients until they are released", SELECT_HELP, queue_op,
     cmd_queue_op},
    {"queue release", "", 0, 0, "Let held recipients go on", SELECT_HELP, queue_op, cmd_queue_op},
    {"queue bounce", "", 0, 0, "Give recipients up, and tell their senders",
     SELECT_HELP "  On a terminal it asks first.", queue_final_op, cmd_queue_op},
    {"queue cancel", "", 0, 0, "Give recipients up, and tell nobody",
     SELECT_HELP "  On a terminal it asks first.", queue_final_op, cmd_queue_op},

    {"campaign list", "", 0, 0, "Campaigns: what waits, what became of the rest, how fast it goes",
     "Those with mail in the queue first, then the others of the days on record.", campaign_list,
     cmd_campaign_list},
    {"campaign show", "ID", 1, 1,
     "One campaign: its counts, by group too, its rate, and when it will be done", NULL, NULL,
     cmd_campaign_show},
    {"campaign pause", "ID", 1, 1, "Hold what waits of it, and what comes of it, until it is resumed",
     "A restart changes nothing about that.  Transactions in work end.", campaign_pause, cmd_campaign_op},
    {"campaign resume", "ID", 1, 1, "Let a paused campaign go on",
     "What was held otherwise, by 'queue hold', stays held.", NULL, cmd_campaign_op},
    {"campaign expire", "ID", 1, 1, "Set when a campaign is over: what waits of it then expires",
     "Senders are told as when a lifetime ends.  What is accepted of it later expires at once, until "
     "--never.",
     campaign_expire, cmd_campaign_expire},
    {"campaign cancel", "ID", 1, 1, "Give up all that waits of it, and tell nobody",
     "On a terminal it asks first.", campaign_cancel, cmd_campaign_op},

    {"audit", "", 0, 0,
     "Whether every accepted recipient is accounted for, and who may have got something twice",
     "'report reconcile' by campaign, the attempts whose connection was lost after the final dot, and the "
     "runs that were "
     "cut short in the last 90 days.  Exit status 1 when the sums differ, or ID is not on record.",
     audit_options, cmd_audit},

    {"source list", "", 0, 0,
     "The addresses that mail leaves from: usable or not, connections, how far each is warmed up", NULL, NULL,
     cmd_source_list},
    {"source warmup", "hold ADDRESS|resume ADDRESS|step ADDRESS N", 2, 3,
     "Keep an address at its step of warm-up, let it go on, or put it at another step",
     "Steps count from 1; one behind the last is warm.  Without --group for every group that sends from "
     "ADDRESS.",
     source_warmup, cmd_source_warmup},

    {"shaping list", "", 0, 0,
     "What is slowed down or suspended automatically, since when, until when and why",
     "By rules about replies, because a receiver did not keep up ('adaptive' of its group), because a "
     "source address that warms up is refused too often, or because the guard paused a campaign.  Newest "
     "first.",
     shaping_list, cmd_shaping_list},
    {"shaping clear", "[ID]", 0, 1, "Take that back: mail goes on at once, in all workers",
     "ID is that of 'shaping list'.  A warm-up goes on from the step it would be on; a campaign is resumed.  "
     "What brought it about may bring it about again.",
     shaping_clear, cmd_shaping_clear},

    {"policy show", "", 0, 0, "The policy in force, or another version", NULL, policy_show, cmd_policy_show},
    {"policy check", "FILE", 1, 1, "Every error of a policy document, changing nothing", "FILE - is stdin.",
     NULL, cmd_policy_check},
    {"policy diff", "[FILE]", 0, 1, "What would change, or what did",
     "With FILE (- is stdin): from the version in force to FILE.  Without: from --from to --to; without "
     "these, what "
     "the last change was.",
     policy_diff, cmd_policy_diff},
    {"policy whatif", "FILE", 1, 1, "What a document would have held back of the mail on record",
     "The TLS rules of FILE (- is stdin) are asked about every delivery and every wait for TLS of the last "
     "week.  What "
     "was not looked up then, and so cannot be told, is counted apart.",
     policy_whatif, cmd_policy_whatif},
    {"policy shadow", "apply FILE|show|clear", 1, 2,
     "Rules that are judged on every attempt, and change nothing",
     "apply: the rules of FILE (- is stdin) take the place of earlier ones.  What they would have done: "
     "'report shadow'.",
     policy_shadow, cmd_policy_shadow},
    {"policy apply", "FILE", 1, 1, "Make a document the policy, at once and for all workers",
     "Errors are listed as FILE:LINE:COLUMN, and then nothing changes.  FILE - is stdin.", policy_apply,
     cmd_policy_apply},
    {"policy receivers", "", 0, 0, "Groups and reply rules for large receivers, for 'include: [receivers]'",
     "The file that the program brings, with the source of each fact.", policy_receivers,
     cmd_policy_receivers},
    {"policy refresh", "", 0, 0, "Apply the policy in force with its included files read anew",
     "After an upgrade, or when an included file was edited.", policy_apply, cmd_policy_refresh},
    {"policy history", "", 0, 0, "Versions of the policy: when, who, why", NULL, policy_history,
     cmd_policy_history},
    {"policy rollback", "VERSION", 1, 1, "Apply the text of an earlier version as a new one", NULL,
     policy_apply, cmd_policy_rollback},
    {"policy export", "", 0, 0, "The document as it was applied, to the octet",
     "With the files that it includes behind it: applied again, it means the same.", policy_export,
     cmd_policy_export},

    {"report delivery", "", 0, 0, "Delivered, deferred, bounced", NULL, report_delivery, cmd_report_delivery},
    {"report tls", "[clear|weak|expiring]", 0, 1,
     "What went encrypted how, what in clear and why, what waits for TLS",
     "clear: destinations that got mail in clear text, by volume.  weak: MX hosts below TLS 1.2, with weak "
     "ciphers, key exchange or certificates.  expiring: receivers' certificates that end soon.",
     report_tls, cmd_report_tls},
    {"report submission-tls", "", 0, 0,
     "Which applications hand in mail in clear, with old TLS, with which proof",
     "Counted by the hour when a message is stored; a daemon that is killed loses its last second.",
     report_submission, cmd_report_submission_tls},
    {"report shadow", "", 0, 0, "What the shadow rules would have held back",
     "Judged when it happened, so that what only they would have looked up is known only if the live rules "
     "did.",
     report_shadow, cmd_report_shadow},
    {"report reconcile", "", 0, 0, "Whether every accepted recipient is accounted for",
     "Accepted = delivered + bounced + expired + cancelled + waiting, to the last one.  Exit status 1 when "
     "it is not so.",
     report_reconcile, cmd_report_reconcile},

    {"dkim generate", "DOMAIN SELECTOR", 2, 2, "Make a key for DKIM, and show its DNS record",
     "The key is written with mode 0600, and never over another one.  Needs no daemon.", dkim_generate,
     cmd_dkim_generate},
    {"dkim check", "[DOMAIN…]", 0, 100, "Compare the keys in force with what DNS publishes",
     "Without DOMAIN all keys.  Says what differs and what to publish.  Exit status 1 when a record is not "
     "good.",
     dkim_check, cmd_dkim_check},

    {"tls probe", "[DOMAIN…]", 0, 64,
     "What a destination offers, and what the policy makes of it; no mail is sent",
     "MX, DNSSEC, TLSA records, MTA-STS, STARTTLS, versions and certificates of each host.  With --file or "
     "--from-queue: how many recipients of a whole list would go authenticated, encrypted, in clear, or not.",
     tls_probe, cmd_tls_probe},
    {"tls sts", "[DOMAIN]", 0, 1, "MTA-STS policies of destinations: mode, id, hosts, age, last failure",
     "Those that delivery has looked for, where the policy says mta_sts: try.", tls_sts, cmd_tls_sts},

    {"tls reports", "[import FILE…|show REPORT]", 0, 1000, "What others report about TLS on the way to us",
     "import: takes in reports (RFC 8460) as JSON, gzipped JSON or mails; FILE - is stdin.  show: one of "
     "them, by "
     "the name that --by report gives.  Without either the sums.  Mail to the address tlsrpt.receive is "
     "taken in by "
     "itself.",
     tls_reports, cmd_tls_reports},
    {"tls report-out", "[list [DOMAIN]|send DOMAIN]", 0, 2, "What we report about TLS to others",
     "list: the reports of the last 30 days, and what became of them.  send: that of a domain now, without "
     "waiting for "
     "the night.  Days are of UTC.  A day that is not over is reported in part, and again when it is over.",
     tls_report_out, cmd_tls_report_out},
    {"tls downgrades", "[list|approve|forget] [DOMAIN]", 0, 2,
     "Destinations that have less TLS than before, and whether that is all right",
     "list: all, or those of DOMAIN.  approve: what was found is expected from now on, and mail that was "
     "held goes.  "
     "forget: what is known of the domain's TLS is dropped, and learnt anew.",
     tls_downgrades, cmd_tls_downgrades},

    {"log follow", "", 0, 0, "Delivery attempts as they happen",
     "Ctrl-C ends it.  With --json one object a line.", log_follow, cmd_log_follow},

    {"completion", "bash|zsh", 1, 1, "Completion of commands and options for a shell",
     "For example: source <(hayauma completion bash)", NULL, cmd_completion},
    {"version", "", 0, 0, "Versions of this program and of the daemon", NULL, NULL, cmd_version},
    {"help", "[COMMAND]", 0, 2, "This list, or more about one command", NULL, help, cmd_help},
    {.name = NULL},
};

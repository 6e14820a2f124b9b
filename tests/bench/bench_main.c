/* hayauma-bench: load source, counting sink, and both around a daemon.  README.md says what is measured. */
#include <gnutls/gnutls.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "tests/bench/profile.h"
#include "tests/bench/run.h"
#include "tests/bench/sink.h"
#include "tests/bench/source.h"
#include "tests/bench/wire.h"

enum { EXIT_WELL = 0, EXIT_INEXACT = 1, EXIT_USAGE = 2 };

/* ---- options: one row each ---- */

enum opt_type { OPT_FLAG, OPT_COUNT, OPT_TEXT, OPT_ADDRESS, OPT_REFUSE };

struct address {
    struct ip ip; /* family 0: not given */
    uint16_t port;
};

struct opt {
    const char *name;
    enum opt_type type;
    void *to; /* bool, uint64_t, const char *, struct address, struct refuse */
    uint64_t min, max;
    const char *help;
};

static int complain(const char *what, const char *why)
{
    fprintf(stderr, "hayauma-bench: %s: %s\n", what, why);
    return EXIT_USAGE;
}

static void print_opts(const char *command, const struct opt *opts, size_t count)
{
    static const char *const values[] = {
        [OPT_FLAG] = "",
        [OPT_COUNT] = " N",
        [OPT_TEXT] = " TEXT",
        [OPT_ADDRESS] = " ADDRESS:PORT",
        [OPT_REFUSE] = " STAGE=CODE:PERCENT%",
    };

    printf("hayauma-bench %s\n", command);
    for (size_t i = 0; i < count; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s", opts[i].name, values[opts[i].type]);
        printf("  %-34s %s\n", left, opts[i].help);
    }
}

static int set_opt(const struct opt *opt, const char *value)
{
    struct address *a = opt->to;
    uint64_t number;

    switch (opt->type) {
    case OPT_FLAG: *(bool *)opt->to = true; return EXIT_WELL;
    case OPT_TEXT: *(const char **)opt->to = value; return EXIT_WELL;
    case OPT_COUNT:
        if (!bytes_parse_u64(bytes_of(value), &number) || number < opt->min || number > opt->max)
            return complain(opt->name, "the number is out of range");
        *(uint64_t *)opt->to = number;
        return EXIT_WELL;
    case OPT_ADDRESS:
        if (!ip_parse_port(bytes_of(value), 0, &a->ip, &a->port))
            return complain(opt->name, "wanted is ADDRESS:PORT");
        return ip_is_loopback(&a->ip) ? EXIT_WELL : complain(opt->name, "only loopback addresses");
    case OPT_REFUSE:
        return refuse_parse(opt->to, bytes_of(value))
                   ? EXIT_WELL
                   : complain(opt->name, "wanted is connect, mail, rcpt, data or dot, =CODE:PERCENT%");
    }
    return EXIT_USAGE;
}

/* `more` is what --help says behind the options; may be NULL. */
static int read_opts(const char *command, int argc, char **argv, const struct opt *opts, size_t count,
                     void (*more)(FILE *))
{
    for (int i = 0; i < argc; i++) {
        const struct opt *found = NULL;
        if (strcmp(argv[i], "--help") == 0) {
            print_opts(command, opts, count);
            if (more)
                more(stdout);
            exit(EXIT_WELL);
        }
        for (size_t k = 0; k < count && strncmp(argv[i], "--", 2) == 0; k++)
            if (strcmp(argv[i] + 2, opts[k].name) == 0)
                found = &opts[k];
        if (!found)
            return complain(argv[i], "no such option (--help lists them)");
        if (found->type != OPT_FLAG && i + 1 == argc)
            return complain(argv[i], "a value is wanted");
        int e = set_opt(found, found->type == OPT_FLAG ? NULL : argv[++i]);
        if (e)
            return e;
    }
    return EXIT_WELL;
}

/* ---- commands ---- */

/* The first line of the file; the caller wipes it. */
static char *read_password(const char *file)
{
    char line[512] = "";
    FILE *f = fopen(file, "re");

    if (f) {
        if (!fgets(line, sizeof line, f))
            line[0] = 0;
        fclose(f);
    }
    line[strcspn(line, "\r\n")] = 0;
    char *password = line[0] ? mem_strdup(line) : NULL;
    explicit_bzero(line, sizeof line);
    return password;
}

static int cmd_source(int argc, char **argv)
{
    struct address to = {0};
    struct source_opts o = {.sender = "sender@source.example"};
    struct source_result *result = MEM_NEW(struct source_result);
    const char *password_file = NULL;
    uint64_t sessions = 50, rcpts = 1, domains = 1, idle_s = 60;
    bool json = false;
    const struct opt opts[] = {
        {"to", OPT_ADDRESS, &to, 0, 0, "where to submit; loopback only"},
        {"sessions", OPT_COUNT, &sessions, 1, 10000, "connections at once (50)"},
        {"messages", OPT_COUNT, &o.messages, 1, UINT32_MAX, "in all (10000)"},
        {"bytes", OPT_COUNT, &o.body_bytes, 0, 1 << 30, "octets of the body (10240)"},
        {"rcpts", OPT_COUNT, &rcpts, 1, 1000, "recipients of each message (1)"},
        {"domains", OPT_COUNT, &domains, 1, UINT32_MAX,
         "spread over d0.example.test, d1.example.test, … (1: example.test)"},
        {"first", OPT_COUNT, &o.first, 0, SEEN_MAX - 1, "the first delivery number (0)"},
        {"starttls", OPT_FLAG, &o.starttls, 0, 0, "submit over TLS; certificates are not checked"},
        {"user", OPT_TEXT, &o.user, 0, 0, "AUTH PLAIN with this name"},
        {"password-file", OPT_TEXT, &password_file, 0, 0, "its first line is the password"},
        {"sender", OPT_TEXT, &o.sender, 0, 0, "MAIL FROM (sender@source.example)"},
        {"rate", OPT_COUNT, &o.rate, 0, UINT32_MAX, "messages per second in all (0: no limit)"},
        {"campaign", OPT_TEXT, &o.campaign, 0, 0, "adds X-Campaign"},
        {"reconnect", OPT_COUNT, &o.reconnect, 0, UINT32_MAX, "messages per connection (0: no limit)"},
        {"idle", OPT_COUNT, &idle_s, 1, 86400, "seconds without an answer that end a session (60)"},
        {"json", OPT_FLAG, &json, 0, 0, "one JSON object instead of key=value"},
    };

    o.messages = 10000;
    o.body_bytes = 10240;
    int e = read_opts("source", argc, argv, opts, COUNT_OF(opts), NULL);
    if (!e && to.ip.family == 0)
        e = complain("--to", "is needed");
    if (!e && (o.user != NULL) != (password_file != NULL))
        e = complain("--user and --password-file", "go together");
    char *password = !e && password_file ? read_password(password_file) : NULL;
    if (!e && password_file && !password)
        e = complain(password_file, "no password in its first line");
    if (!e) {
        struct report r = {.json = json};
        o.ip = to.ip;
        o.port = to.port;
        o.sessions = (unsigned)sessions;
        o.rcpts = (unsigned)rcpts;
        o.domains = (unsigned)domains;
        o.idle_ms = idle_s * 1000;
        o.password = password;
        source_run(&o, result);
        source_report(result, &r);
        report_end(&r, stdout);
        e = result->accepted == o.messages ? EXIT_WELL : EXIT_INEXACT;
    }
    if (password)
        mem_wipe_free(password, strlen(password));
    mem_free(result);
    return e;
}

static int cmd_sink(int argc, char **argv)
{
    struct address at = {0};
    struct sink_opts o = {0};
    struct sink_counts counts;
    const struct opt opts[] = {
        {"listen", OPT_ADDRESS, &at, 0, 0, "loopback only"},
        {"cert", OPT_TEXT, &o.cert_file, 0, 0, "PEM; offers STARTTLS"},
        {"key", OPT_TEXT, &o.key_file, 0, 0, "PEM"},
        {"delay-ms", OPT_COUNT, &o.delay_ms, 0, 600000, "hold each group of replies so long (0)"},
        {"refuse", OPT_REFUSE, &o.refuse, 0, 0, "such as rcpt=450:5%; may be given for several stages"},
        {"chunking", OPT_FLAG, &o.chunking, 0, 0, "offer BDAT"},
        {"json", OPT_FLAG, &o.json, 0, 0, "one JSON object instead of key=value"},
    };
    int e = read_opts("sink", argc, argv, opts, COUNT_OF(opts), NULL);

    if (!e && at.ip.family == 0)
        e = complain("--listen", "is needed");
    if (!e && (o.cert_file != NULL) != (o.key_file != NULL))
        e = complain("--cert and --key", "go together");
    if (e)
        return e;
    o.listener = wire_listen(&at.ip, &at.port);
    if (o.listener < 0) {
        perror("hayauma-bench: --listen");
        return EXIT_INEXACT;
    }
    sink_run(&o, &counts);
    struct report r = {.json = o.json};
    sink_report(&counts, &r);
    report_end(&r, stdout);
    return EXIT_WELL;
}

/* The folder with the programs: of BUILD/tests/bench/hayauma-bench it is BUILD, else the one that we lie in.
 */
static void own_build(char out[PATH_MAX])
{
    static const char in_build[] = "/tests/bench";
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);

    out[n > 0 ? n : 0] = 0;
    char *slash = strrchr(out, '/');
    if (slash)
        *slash = 0;
    size_t len = strlen(out), tail = sizeof in_build - 1;
    if (len > tail && strcmp(out + len - tail, in_build) == 0)
        out[len - tail] = 0;
}

static int cmd_run(int argc, char **argv)
{
    char build[PATH_MAX];
    struct run_opts o = {.build = build, .repeat = 1, .kills = 3, .delay_ms = UINT64_MAX};
    char names[256], wanted[300];
    const struct opt opts[] = {
        {"profile", OPT_TEXT, &o.profile, 0, 0, "one of those below; prints a table"},
        {"workload", OPT_TEXT, &o.workload, 0, 0, "W1 plain, W4 100 ms away, W5 TLS out, W6 TLS in and out"},
        {"build", OPT_TEXT, &o.build, 0, 0,
         "folder with hayaumad and hayauma (this program's own, or its build folder)"},
        {"repeat", OPT_COUNT, &o.repeat, 1, 1000, "runs, each with a fresh daemon (1)"},
        {"messages", OPT_COUNT, &o.messages, 1, SEEN_MAX / 2, "other than the workload's"},
        {"bytes", OPT_COUNT, &o.bytes, 1, 1 << 30, "of the body (10240)"},
        {"sessions", OPT_COUNT, &o.sessions, 1, 10000, "submitting at once (50)"},
        {"rcpts", OPT_COUNT, &o.rcpts, 1, 1000, "recipients of each message (1)"},
        {"connections", OPT_COUNT, &o.connections, 1, 30000, "to the sink at most (100)"},
        {"delay-ms", OPT_COUNT, &o.delay_ms, 0, 600000,
         "the sink holds each group of replies so long, other than the profile's"},
        {"fill", OPT_COUNT, &o.fill, 1, SEEN_MAX / 2,
         "recipients laid into the queue first, where the profile does"},
        {"domains", OPT_COUNT, &o.domains, 1, UINT32_MAX, "recipient domains, other than the profile's"},
        {"json", OPT_FLAG, &o.json, 0, 0, "one JSON object a run instead of a table or key=value"},
        {"kills", OPT_COUNT, &o.kills, 1, 1000, "of profile crash (3)"},
        {"workers", OPT_COUNT, &o.workers, 1, 60, "of the daemon (one a core)"},
        {"keep", OPT_FLAG, &o.keep, 0, 0, "leave log and data behind"},
    };

    own_build(build);
    int e = read_opts("run", argc, argv, opts, COUNT_OF(opts), profile_explain);
    if (!e && (o.profile != NULL) == (o.workload != NULL))
        e = complain("--profile or --workload", "one of them is needed");
    profile_names(names, sizeof names);
    snprintf(wanted, sizeof wanted, "is one of %s", names);
    if (!e && o.profile && !profile_find(o.profile))
        e = complain("--profile", wanted);
    if (!e && o.workload && !run_is_workload(o.workload))
        e = complain("--workload", "is one of W1, W4, W5, W6");
    if (e)
        return e;
    return run_workload(&o) ? EXIT_WELL : EXIT_INEXACT;
}

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"run", cmd_run, "measure a daemon of its own: a profile or a workload"},
    {"source", cmd_source, "submit numbered messages to a server that runs"},
    {"sink", cmd_sink, "take messages and count them"},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < COUNT_OF(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 2, argv + 2);
    bool asked = argc > 1 && strcmp(argv[1], "--help") == 0;
    FILE *to = asked ? stdout : stderr;
    for (size_t i = 0; i < COUNT_OF(commands); i++)
        fprintf(to, "hayauma-bench %-8s %s\n", commands[i].name, commands[i].help);
    fprintf(to, "hayauma-bench COMMAND --help lists a command's options\n");
    return asked ? EXIT_WELL : EXIT_USAGE;
}

/* hayaumad: reads the configuration, starts the engine and the API, and minds signals. */
#include <getopt.h>
#include <gnutls/gnutls.h>
#include <ldns/ldns.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "base/mem.h"
#include "engine/dkim/key.h"
#include "engine/descriptors.h"
#include "engine/engine.h"
#include "engine/notify.h"
#include "webui-api/api.h"

#define EXIT_STUCK   3
#define DEFAULT_FILE "/etc/hayauma/hayauma.yaml"

static const char usage[] =
    "usage: hayaumad [-c FILE] [--check | --defaults | --reference | --manual | --schema | --version | "
    "--help]\n"
    "  -c FILE       configuration file (" DEFAULT_FILE ")\n"
    "  --check       reads the configuration, prints every error with file:line:column, exits\n"
    "  --defaults    prints a commented configuration with all presets\n"
    "  --reference   prints the reference of the configuration as Markdown\n"
    "  --manual      prints it as the manual page hayauma.yaml(5)\n"
    "  --schema      prints a JSON Schema of the configuration\n"
    "  --version     prints versions of the program and its libraries\n"
    "SIGHUP reloads configuration, certificates, policy file and what it includes; SIGTERM drains and "
    "ends.\n";

static void print_version(void)
{
    printf("hayaumad %s\nGnuTLS %s\nlibuv %s\nldns %s\nSQLite %s\nDKIM by %s\n", HAYAUMA_VERSION,
           gnutls_check_version(NULL), uv_version_string(), ldns_version(), sqlite3_libversion(),
           dkim_backend_name());
}

static void print_table(void (*make)(const struct conf_key *, struct buf *))
{
    BUF_LOCAL(text);

    make(conf_keys, &text);
    fwrite(text.at, 1, text.len, stdout);
}

static void print_manual(const struct conf_key *keys, struct buf *out)
{
    buf_puts(
        out,
        ".TH HAYAUMA.YAML 5 \"\" \"Hayauma " HAYAUMA_VERSION "\" \"Hayauma\"\n"
        ".SH NAME\nhayauma.yaml \\- configuration of hayaumad\n"
        ".SH DESCRIPTION\n"
        "One YAML file, without aliases, anchors or tags.  A key with dots stands in maps:\n"
        ".B tls.certificate\nis\n.B certificate\nin the map\n.BR tls .\n"
        "A name with [] is that of each entry of a list.  Durations are written 250ms, 30s, 5m, 2h, 5d,\n"
        "sizes 64k, 50M, 1G.  What is not said has its default.\n"
        ".B hayaumad \\-\\-check\nnames every mistake with its line and column.\n"
        ".SH KEYS\n");
    conf_manual(keys, out);
    buf_puts(out, ".SH SEE ALSO\n.BR hayaumad (8),\n.BR hayauma (1)\n");
}

static void print_errors(const struct yaml_errors *errors)
{
    for (size_t i = 0; i < errors->count; i++)
        fprintf(stderr, "%s\n", errors->items[i].text);
}

static int check(const char *file)
{
    struct conf conf = {0};
    struct yaml_errors errors = {.name = file};
    enum err e = conf_load_with_policy(file, &conf, &errors);

    print_errors(&errors);
    if (!e) {
        printf("%s: the configuration is good\n", file);
        conf_free(&conf);
    } else {
        fprintf(stderr, "%s: %zu error%s\n", file, errors.errors, errors.errors == 1 ? "" : "s");
    }
    yaml_errors_fini(&errors);
    return e ? 1 : 0;
}

/* As many descriptors as we are allowed: connections are what this program is about. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void reload(struct engine *engine, const char *file)
{
    struct conf conf = {0};
    struct yaml_errors errors = {.name = file};
    BUF_LOCAL(notes);
    enum err e = conf_load_with_policy(file, &conf, &errors);

    if (e) {
        for (size_t i = 0; i < errors.count; i++)
            log_error(NULL, "reload.error", LOG_STR("text", errors.items[i].text));
        log_error(NULL, "reload.refused", LOG_STR("hint", "the configuration before stays in force"));
    } else {
        e = engine_reload(engine, &conf, &notes);
        if (e)
            log_error(NULL, "reload.refused", LOG_STR("why", buf_str(&notes)));
        else
            log_info(NULL, "reload.done", LOG_STR("notes", buf_str(&notes)));
        if (!e)
            descriptors_check(engine_conf(engine));
    }
    yaml_errors_fini(&errors);
}

/* Until SIGTERM or SIGINT. */
static void mind_signals(struct engine *engine, const sigset_t *signals, const char *file)
{
    const struct timespec second = {.tv_sec = 1};

    for (;;) {
        switch (sigtimedwait(signals, NULL, &second)) {
        case SIGHUP:
            notify_reloading();
            reload(engine, file);
            notify_manager(NOTIFY_READY);
            break;
        case SIGTERM:
        case SIGINT: return;
        default: engine_watch(engine); break;
        }
    }
}

static int fail(char *why)
{
    fprintf(stderr, "hayaumad: %s\n", why ? why : "cannot start");
    mem_free(why);
    return 1;
}

static int serve(const char *file)
{
    struct conf conf = {0};
    struct yaml_errors errors = {.name = file};
    struct engine *engine = NULL;
    struct api *api = NULL;
    char *why = NULL;
    sigset_t signals;

    enum err e = conf_load(file, &conf, &errors);
    print_errors(&errors);
    yaml_errors_fini(&errors);
    if (e)
        return 1;
    umask(0077);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* inherited by all threads: main alone hears them */
    raise_descriptor_limit();
    log_setup(STDERR_FILENO, (enum log_level)conf.log.level, (enum log_format)conf.log.format);
    e = engine_create(&conf, &engine, &why);
    if (!e)
        e = engine_start(engine, &why);
    if (!e)
        e = api_start(engine, engine_conf(engine), &api, &why);
    if (e) {
        engine_destroy(engine);
        return fail(why);
    }
    descriptors_check(engine_conf(engine));
    log_info(NULL, "start", LOG_STR("version", HAYAUMA_VERSION), LOG_INT("pid", getpid()));
    notify_manager(NOTIFY_READY);
    mind_signals(engine, &signals, file);
    notify_manager(NOTIFY_STOPPING);
    log_info(NULL, "stop.draining");
    engine_drain(engine);
    if (engine_must_be_left(engine)) {
        log_error(NULL, "stop.left", LOG_STR("why", "a thread is stuck: it is left behind as in a crash"));
        _exit(EXIT_STUCK);
    }
    api_stop(api);
    engine_destroy(engine);
    log_info(NULL, "stop");
    return 0;
}

int main(int argc, char **argv)
{
    enum { OPT_CHECK = 256, OPT_DEFAULTS, OPT_REFERENCE, OPT_MANUAL, OPT_SCHEMA, OPT_VERSION };
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"check", no_argument, NULL, OPT_CHECK},
        {"defaults", no_argument, NULL, OPT_DEFAULTS},
        {"reference", no_argument, NULL, OPT_REFERENCE},
        {"manual", no_argument, NULL, OPT_MANUAL},
        {"schema", no_argument, NULL, OPT_SCHEMA},
        {"version", no_argument, NULL, OPT_VERSION},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *file = DEFAULT_FILE;
    bool only_check = false;

    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (c) {
        case 'c': file = optarg; break;
        case OPT_CHECK: only_check = true; break;
        case OPT_DEFAULTS: print_table(conf_dump_defaults); return 0;
        case OPT_REFERENCE: print_table(conf_reference); return 0;
        case OPT_MANUAL: print_table(print_manual); return 0;
        case OPT_SCHEMA: print_table(conf_schema); return 0;
        case OPT_VERSION: print_version(); return 0;
        case 'h': fputs(usage, stdout); return 0;
        default: fputs(usage, stderr); return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "hayaumad: '%s' is not understood\n%s", argv[optind], usage);
        return 2;
    }
    return only_check ? check(file) : serve(file);
}

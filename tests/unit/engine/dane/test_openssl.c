/*
 * An independent judge: OpenSSL's DANE says the same as ours on every case of the matrix, over a real
 * handshake.  Where it does not, the row tells why, and must then indeed differ.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/unit/engine/dane/matrix.h"

struct judge {
    struct ca ca;
    char dir[64];
    bool missing; /* no openssl here */
    /* The server that runs: rows with the same chain, one after the other, share it. */
    pid_t server; /* 0: none */
    const char *chain;
    unsigned port;
    int keep, said; /* its stdin and stdout */
};

/* ---- files ---- */

static void write_file(const struct judge *j, const char *name, struct bytes text)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", j->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text.at, text.len), (ssize_t)text.len);
    close(fd);
}

static void put_pem(struct buf *out, const gnutls_datum_t *der)
{
    gnutls_datum_t pem;

    assert_true(gnutls_pem_base64_encode2("CERTIFICATE", der, &pem) >= 0);
    buf_put(out, bytes_make(pem.data, pem.size));
    gnutls_free(pem.data);
}

static void write_chain(const struct judge *j, const char *ids)
{
    gnutls_datum_t chain[16], key;
    char first[64];
    BUF_LOCAL(leaf);
    BUF_LOCAL(rest);
    unsigned n = ca_chain(&j->ca, ids, chain, COUNT_OF(chain));

    snprintf(first, sizeof(first), "%.*s", (int)strcspn(ids, " "), ids);
    put_pem(&leaf, &chain[0]);
    for (unsigned i = 1; i < n; i++)
        put_pem(&rest, &chain[i]);
    assert_true(gnutls_x509_privkey_export2(ca_find(&j->ca, first)->key, GNUTLS_X509_FMT_PEM, &key) >= 0);
    write_file(j, "leaf.pem", buf_bytes(&leaf));
    write_file(j, "chain.pem", buf_bytes(&rest));
    write_file(j, "key.pem", bytes_make(key.data, key.size));
    gnutls_free(key.data);
}

/* ---- programs ---- */

static pid_t start(const struct judge *j, const char *const *words, int in, int out)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid)
        return pid;
    char conf[128];
    snprintf(conf, sizeof(conf), "%s/openssl.cnf", j->dir);
    setenv("OPENSSL_CONF", conf, 1);
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    execvp("openssl", (char *const *)(uintptr_t)words);
    _exit(127);
}

static void stop_server(struct judge *j)
{
    if (!j->server)
        return;
    close(j->keep);
    close(j->said);
    kill(j->server, SIGKILL);
    assert_int_equal(waitpid(j->server, NULL, 0), j->server);
    j->server = 0;
}

/* Its port is in what it says first. */
static void start_server(struct judge *j, const char *ids)
{
    char leaf[128], chain[128], key[128];
    const char *words[20] = {"openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", leaf, "-key", key};
    struct buf said = {0};
    int in[2], out[2];

    snprintf(leaf, sizeof(leaf), "%s/leaf.pem", j->dir);
    snprintf(chain, sizeof(chain), "%s/chain.pem", j->dir);
    snprintf(key, sizeof(key), "%s/key.pem", j->dir);
    if (strchr(ids, ' ')) {
        words[8] = "-cert_chain";
        words[9] = chain;
    }
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    j->server = start(j, words, in[0], out[1]);
    j->chain = ids;
    j->keep = in[1];
    j->port = 0;
    close(in[0]);
    close(out[1]);
    while (!j->port) {
        ssize_t n = read(out[0], buf_reserve(&said, 1000), 1000);
        if (n <= 0)
            fail_msg("openssl s_server: %s", buf_str(&said));
        said.len += (size_t)n;
        const char *accept = strstr(buf_str(&said), "ACCEPT 127.0.0.1:");
        if (accept && strchr(accept, '\n'))
            j->port = (unsigned)atoi(accept + strlen("ACCEPT 127.0.0.1:"));
    }
    buf_fini(&said);
    j->said = out[0];
    assert_int_equal(fcntl(j->said, F_SETFL, O_NONBLOCK), 0);
}

/* What it says of its sessions is of no interest, and must not hold it up. */
static void drain_server(const struct judge *j)
{
    char octets[4096];

    while (read(j->said, octets, sizeof(octets)) > 0)
        ;
}

/* What openssl s_client says with these records under this name. */
static void ask_client(const struct judge *j, const char *name, const char *const *records, size_t count,
                       bool trusts_root, struct buf *said)
{
    char where[32], root[128];
    const char *words[64] = {
        "openssl", "s_client", "-connect", where, "-dane_tlsa_domain", name, "-dane_ee_no_namechecks"};
    size_t n = 7;
    int out[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    snprintf(where, sizeof(where), "127.0.0.1:%u", j->port);
    snprintf(root, sizeof(root), "%s/root.pem", j->dir);
    if (trusts_root) {
        words[n++] = "-CAfile";
        words[n++] = root;
    } else {
        words[n++] = "-no-CAfile";
    }
    words[n++] = "-no-CApath";
    words[n++] = "-no-CAstore";
    for (size_t i = 0; i < count; i++) {
        words[n++] = "-dane_tlsa_rrdata";
        words[n++] = records[i];
    }
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = start(j, words, null, out[1]);
    close(out[1]);
    close(null);
    ssize_t got;
    while ((got = read(out[0], buf_reserve(said, 4096), 4096)) > 0 || (got < 0 && errno == EINTR))
        said->len += (size_t)MAX_OF(got, 0);
    close(out[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* ---- one row ---- */

static size_t words_of(char *text, const char *by, const char **out, size_t max)
{
    char *save = NULL;
    size_t n = 0;

    for (char *w = strtok_r(text, by, &save); w && n < max; w = strtok_r(NULL, by, &save))
        out[n++] = w;
    return n;
}

/* "3 1 1 ab12…" of each; owned. */
static size_t records_as_text(const struct judge *j, const char *records, char **out, size_t max)
{
    char *copy = mem_strdup(records);
    const char *parts[8];
    size_t n = words_of(copy, ";", parts, MIN_OF(max, COUNT_OF(parts)));

    for (size_t i = 0; i < n; i++) {
        BUF_LOCAL(rdata);
        struct buf text = {0};
        ca_tlsa(&j->ca, parts[i], &rdata);
        buf_putf(&text, "%u %u %u ", (uint8_t)rdata.at[0], (uint8_t)rdata.at[1], (uint8_t)rdata.at[2]);
        for (size_t k = 3; k < rdata.len; k++)
            buf_putf(&text, "%02x", (uint8_t)rdata.at[k]);
        out[i] = buf_take(&text);
    }
    mem_free(copy);
    return n;
}

static const char *verdict_in(const char *said)
{
    if (strstr(said, "Failed to import any TLSA records"))
        return "unusable";
    if (strstr(said, "Verification: OK") && strstr(said, "DANE TLSA"))
        return "match";
    if (strstr(said, "Verification error: "))
        return "mismatch";
    return NULL;
}

static const char *openssl_says(struct judge *j, const struct dane_case *row, struct buf *said)
{
    char *texts[8], *copy = mem_strdup(row->names);
    const char *names[4], *verdict = "mismatch";
    size_t n = records_as_text(j, row->records, texts, COUNT_OF(texts));
    size_t name_count = words_of(copy, " ", names, COUNT_OF(names));
    bool serves_pkix = strstr(row->records, "0 0 1 root") || strstr(row->records, "1 1 1 leaf");

    if (!j->server || strcmp(j->chain, row->chain) != 0) {
        stop_server(j);
        write_chain(j, row->chain);
        start_server(j, row->chain);
    }
    for (size_t i = 0; i < name_count && strcmp(verdict, "match") != 0; i++) {
        buf_clear(said);
        drain_server(j);
        ask_client(j, names[i], (const char *const *)texts, n, serves_pkix && row->openssl_differs, said);
        verdict = verdict_in(buf_str(said));
        if (!verdict)
            fail_msg("%s: OpenSSL says neither yes nor no:\n%s", row->title, buf_str(said));
    }
    for (size_t i = 0; i < n; i++)
        mem_free(texts[i]);
    mem_free(copy);
    return verdict;
}

static void openssl_agrees_but_where_a_reason_stands(void **state)
{
    struct judge *j = *state;
    unsigned disagreements = 0;

    if (j->missing) {
        print_message("no openssl here\n");
        skip();
    }
    for (size_t i = 0; i < dane_case_count; i++) {
        const struct dane_case *row = &dane_cases[i];
        bool is_word = strcmp(row->want, "match") == 0 || strcmp(row->want, "unusable") == 0;
        const char *want = is_word ? row->want : "mismatch";
        BUF_LOCAL(said);
        const char *got = openssl_says(j, row, &said);
        bool same = strcmp(got, want) == 0;
        if (same == (row->openssl_differs == NULL))
            continue;
        print_error("%s: ours %s, OpenSSL's %s%s%s\n", row->title, want, got,
                    row->openssl_differs ? ", though: " : "",
                    row->openssl_differs ? row->openssl_differs : "");
        disagreements++;
    }
    assert_int_equal(disagreements, 0);
}

/* ---- */

static int setup(void **state)
{
    static const char conf[] = "openssl_conf = init\n[init]\nssl_conf = ssl\n[ssl]\nsystem_default = all\n"
                               "[all]\nCipherString = DEFAULT:@SECLEVEL=0\n";
    struct judge *j = mem_zalloc(sizeof(*j));
    BUF_LOCAL(root);

    *state = j;
    j->missing = system("openssl version >/dev/null 2>&1") != 0;
    snprintf(j->dir, sizeof(j->dir), "/tmp/test-dane-XXXXXX");
    assert_non_null(mkdtemp(j->dir));
    signal(SIGPIPE, SIG_IGN);
    dane_world(&j->ca, time(NULL));
    put_pem(&root, &ca_find(&j->ca, "root")->der);
    write_file(j, "root.pem", buf_bytes(&root));
    write_file(j, "openssl.cnf", BYTES(conf));
    return 0;
}

static int teardown(void **state)
{
    static const char *const files[] = {"root.pem", "openssl.cnf", "leaf.pem", "chain.pem", "key.pem"};
    struct judge *j = *state;
    char path[128];

    stop_server(j);
    for (size_t i = 0; i < COUNT_OF(files); i++) {
        snprintf(path, sizeof(path), "%s/%s", j->dir, files[i]);
        unlink(path);
    }
    rmdir(j->dir);
    ca_end(&j->ca);
    mem_free(j);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(openssl_agrees_but_where_a_reason_stands, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

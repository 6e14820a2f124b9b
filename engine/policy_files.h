/*
 * Files around a policy document: the one that the configuration names, those that it includes (found, read,
 * and put behind it), and those that its groups name (certificates, keys, passwords).  Any thread; nothing is
 * kept.
 */
#pragma once

#include "engine/conf.h"
#include "engine/zones.h"
#include "policy/policy.h"

/* ERR_IO with *why (mem_free) when it cannot be read. */
MUST_CHECK enum err policy_files_read(const char *path, struct buf *out, char **why);
/* `text` with the files that it includes behind it (policy/policy_include.h); ERR_INVALID with complaints. */
MUST_CHECK enum err policy_files_complete(const struct conf *conf, struct bytes text, struct buf *out,
                                          struct yaml_errors *errors);
/* One of them: its text in `out`, its path in *file; ERR_IO with *why.  Both are for mem_free. */
MUST_CHECK enum err policy_files_read_include(const struct conf *conf, const char *name, struct buf *out,
                                              char **file, char **why);
/* What a document names but cannot hold: files, time zones, and what only GnuTLS can judge. */
MUST_CHECK enum err policy_files_check(struct zones *zones, const struct policy *p,
                                       struct yaml_errors *errors);
/* All of that for conf->policy_file, which is set; complaints, by its name, are in `errors`. */
void policy_files_check_conf(const struct conf *conf, struct yaml_errors *errors);

/* What one value of the configuration says about another.  Complaints go to `errors`, at the line of the
 * value. */
#pragma once

#include "engine/conf.h"

/* Pure.  Also fills in what follows from other values (conf.h, conf_load).  `root` is the tree that `c` was
 * read from. */
void conf_check(struct conf *c, const struct yaml_node *root, struct yaml_errors *errors);
/* Looks at this host: users, groups, files that must be readable. */
void conf_check_host(const struct conf *c, const struct yaml_node *root, struct yaml_errors *errors);

/* The node of a path like "listeners.0.key", or of what encloses it, or NULL. */
const struct yaml_node *conf_near(const struct yaml_node *root, const char *format, ...) PRINTF_LIKE(2, 3);

/* The section dkim: (conf_check_dkim.c). */
void conf_check_dkim(const struct conf *c, const struct yaml_node *root, struct yaml_errors *errors);
void conf_check_dkim_host(const struct conf *c, const struct yaml_node *root, struct yaml_errors *errors);

/* The section tlsrpt: (conf_check_tlsrpt.c).  Fills in tlsrpt.from. */
void conf_check_tlsrpt(struct conf *c, const struct yaml_node *root, struct yaml_errors *errors);

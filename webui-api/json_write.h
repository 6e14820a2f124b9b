/* What jansson holds, among text that base/json.h writes. */
#pragma once

#include <jansson.h>

#include "base/json.h"

void json_put_tree(struct buf *out, const char *key, const json_t *tree);

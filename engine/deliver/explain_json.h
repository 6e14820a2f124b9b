/* What DNS and HTTPS said of a destination, as JSON: for `explain` and for the probe.  The shapes are in
 * webui-api/README.md. */
#pragma once

#include <jansson.h>

#include "engine/dane/dane.h"
#include "engine/sts/sts.h"

json_t *sts_json(const struct sts_answer *answer);
json_t *dane_json(const struct dane_records *records);

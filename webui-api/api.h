/*
 * The HTTP API (libmicrohttpd on its own threads): JSON over the Unix-domain socket that the command line
 * uses, and over a loopback TCP address if configured; Prometheus text at /metrics.  Routes and shapes:
 * webui-api/README.md.
 *
 * Thread    api_start and api_stop: main.  Handlers run on libmicrohttpd's threads, read through connections
 * of their own, and change things only through engine/engine.h.
 */
#pragma once

#include "engine/engine.h"

struct api;
/* *why: a sentence that says what to do (mem_free). */
MUST_CHECK enum err api_start(struct engine *e, const struct conf *conf, struct api **out, char **why);
void api_stop(struct api *api); /* ends open requests; NULL is fine */

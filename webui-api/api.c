#include "webui-api/api.h"

enum err api_start(struct engine *e, const struct conf *conf, struct api **out, char **why)
{
    (void)e;
    (void)conf;
    (void)why;
    *out = NULL;
    return OK;
}

void api_stop(struct api *api)
{
    (void)api;
}

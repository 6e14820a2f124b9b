/* What engine/limits.c and limits_clients.c share. */
#pragma once

#include <pthread.h>

#include "base/hash.h"
#include "engine/limits.h"

struct limits {
    pthread_mutex_t lock; /* of the maps and clients */
    struct map pools, paces, clients;
};

void limits_forget_clients(struct limits *l); /* all of them, at its end */

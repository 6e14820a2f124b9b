/* Making a snapshot of accounts: the store's business. */
#pragma once

#include "queue/accounts.h"

/* Takes over `list` (count of them, mem_alloc'ed, any order); the snapshot has one reference. */
struct accounts *accounts_create(struct account *list, size_t count, uint64_t generation);

/*
 * Allocation that never returns NULL: it logs and ends the process, because the spool survives a
 * crash and untested branches do not.  What outsiders can make grow has a cap of its own (ERR_FULL).
 * Any thread.
 */
#pragma once

#include <stddef.h>

void *mem_alloc(size_t bytes);               /* not zeroed */
void *mem_zalloc(size_t bytes);              /* zeroed */
void *mem_realloc(void *p, size_t bytes);
char *mem_dup(const void *p, size_t bytes);  /* a NUL follows the copy */
char *mem_strdup(const char *s);             /* NULL stays NULL */
void mem_free(void *p);
/* Overwrites before freeing: for passwords and keys. */
void mem_wipe_free(void *p, size_t bytes);

#define MEM_NEW(type) ((type *)mem_zalloc(sizeof(type)))

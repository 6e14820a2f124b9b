/* Intrusive doubly linked list: the node lies in the element, the list owns nothing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"

struct list {
    struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
    l->prev = l->next = l;
}
static inline bool list_is_empty(const struct list *l)
{
    return l->next == l;
}
static inline void list_push_back(struct list *l, struct list *node)
{
    node->prev = l->prev;
    node->next = l;
    l->prev->next = node;
    l->prev = node;
}
static inline void list_push_front(struct list *l, struct list *node)
{
    list_push_back(l->next, node);
}
/* Harmless on a node that is in no list, as long as it was initialised once. */
static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}
static inline struct list *list_first(const struct list *l)
{
    return l->next == l ? NULL : l->next;
}
static inline struct list *list_pop(struct list *l)
{
    struct list *node = list_first(l);
    if (node)
        list_remove(node);
    return node;
}
/* Moves everything of `from` to the end of `to`. */
static inline void list_move_all(struct list *to, struct list *from)
{
    if (list_is_empty(from))
        return;
    from->next->prev = to->prev;
    from->prev->next = to;
    to->prev->next = from->next;
    to->prev = from->prev;
    list_init(from);
}

#define LIST_ENTRY(node, type, member) CONTAINER_OF(node, type, member)
#define LIST_FOREACH(node, l)          for (struct list *node = (l)->next; node != (l); node = node->next)
#define LIST_FOREACH_SAFE(node, l)                                                                           \
    for (struct list *node = (l)->next, *node##_next_ = node->next; node != (l);                             \
         node = node##_next_, node##_next_ = node->next)

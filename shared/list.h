/*
 * Intrusive doubly linked circular lists. The head is a struct list that points to itself when empty; an
 * element embeds a struct list. An element that was list_init()ed or list_remove()d is on no list and may be
 * removed again without harm.
 */
#ifndef SHARED_LIST_H
#define SHARED_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *prev;
};

#define list_entry(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Walks the list; the current element may be removed (and freed) in the body, no other. */
#define list_for_each(head, element, following)                                                              \
    for (struct list *element = (head)->next, *following = element->next; element != (head);                 \
         element = following, following = element->next)

static inline void list_init(struct list *list)
{
    list->next = list->prev = list;
}

static inline bool list_empty(const struct list *list)
{
    return list->next == list;
}

static inline void list_insert_between(struct list *element, struct list *prev, struct list *next)
{
    element->prev = prev;
    element->next = next;
    prev->next = next->prev = element;
}

static inline void list_append(struct list *head, struct list *element)
{
    list_insert_between(element, head->prev, head);
}

static inline void list_prepend(struct list *head, struct list *element)
{
    list_insert_between(element, head, head->next);
}

static inline void list_remove(struct list *element)
{
    element->prev->next = element->next;
    element->next->prev = element->prev;
    list_init(element);
}

/* Moves all elements of `from` to the end of `to`; `from` is empty afterwards. */
static inline void list_splice(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

#endif

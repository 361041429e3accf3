/*
 * A text file line by line, for the files that people and other programs write (passwords, access rights):
 * lines without their end and without blanks around them, and a way to say what is wrong with which. Pure.
 */
#ifndef SHARED_TEXT_LINES_H
#define SHARED_TEXT_LINES_H

#include "shared/bytes.h"

struct text_lines { /* zeroed but for `rest`, the whole text */
    struct bytes rest;
    unsigned number; /* of the line taken last, from 1 */
};

/* Takes the next line that is neither blank nor a comment ('#' first). False: no more. */
bool text_lines_next(struct text_lines *lines, struct bytes *ret_line);

/* The first word and, behind blanks, what follows it; both may be empty. */
void text_split_word(struct bytes line, struct bytes *ret_word, struct bytes *ret_rest);

static inline bool text_is(struct bytes text, const char *word)
{
    return bytes_equal(text, bytes_of_text(word));
}

/* Says what is wrong with a line; the text is a sentence without the line's number. */
typedef void text_problem(void *context, unsigned line, const char *text);

#endif

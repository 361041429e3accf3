/* Lines of text files, blanks trimmed, comments passed over. Pure. */
#include "shared/text_lines.h"

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

static struct bytes trim(struct bytes text)
{
    while (text.size > 0 && is_blank(text.data[0]))
        text = bytes_of(text.data + 1, text.size - 1);
    while (text.size > 0 && is_blank(text.data[text.size - 1]))
        text.size--;
    return text;
}

bool text_lines_next(struct text_lines *lines, struct bytes *ret_line)
{
    while (lines->rest.size > 0) {
        const uint8_t *end = memchr(lines->rest.data, '\n', lines->rest.size);
        size_t size = end == NULL ? lines->rest.size : (size_t)(end - lines->rest.data);
        struct bytes line = trim(bytes_of(lines->rest.data, size));
        size_t used = end == NULL ? size : size + 1;
        lines->rest = bytes_of(lines->rest.data + used, lines->rest.size - used);
        lines->number++;
        if (line.size == 0 || line.data[0] == '#')
            continue;
        *ret_line = line;
        return true;
    }
    return false;
}

void text_split_word(struct bytes line, struct bytes *ret_word, struct bytes *ret_rest)
{
    size_t size = 0;
    while (size < line.size && !is_blank(line.data[size]))
        size++;
    *ret_word = bytes_of(line.data, size);
    *ret_rest = trim(bytes_of(line.data + size, line.size - size));
}

/* Topic filters compared level by level. Pure. */
#include "shared/topic_relation.h"

#include "shared/topic_level.h"

/* One begins with '$', the other with a wildcard, which is no '$'. */
static bool dollar_apart(struct bytes a, struct bytes b)
{
    return a.data[0] == '$' && (b.data[0] == '+' || b.data[0] == '#');
}

bool topic_filter_covers(struct bytes outer, struct bytes inner)
{
    if (outer.size == 0 || inner.size == 0 || dollar_apart(inner, outer))
        return false;
    while (outer.data != NULL) {
        struct bytes allowed = topic_level_take(&outer);
        if (topic_level_is(allowed, '#'))
            return true; /* also the parent level, where `inner` has ended [MQTT 4.7.1.2] */
        if (inner.data == NULL)
            return false;
        struct bytes level = topic_level_take(&inner);
        if (topic_level_is(level, '#'))
            return false;
        if (!topic_level_is(allowed, '+') && !bytes_equal(allowed, level))
            return false;
    }
    return inner.data == NULL;
}

bool topic_filter_overlaps(struct bytes a, struct bytes b)
{
    if (a.size == 0 || b.size == 0 || dollar_apart(a, b) || dollar_apart(b, a))
        return false;
    while (a.data != NULL && b.data != NULL) {
        struct bytes one = topic_level_take(&a);
        struct bytes other = topic_level_take(&b);
        if (topic_level_is(one, '#') || topic_level_is(other, '#'))
            return true;
        if (!topic_level_is(one, '+') && !topic_level_is(other, '+') && !bytes_equal(one, other))
            return false;
    }
    struct bytes rest =
        a.data != NULL ? a : b; /* the other has ended: only "#" is left of this one, or nothing */
    return rest.data == NULL || topic_level_is(rest, '#');
}

/* Edit distance (optimal string alignment) over short words, for suggestions in error messages. Any process.
 */
#include "shared/config_suggest.h"

#include <limits.h>
#include <string.h>

#define WORD_MAX 48 /* longer than any key */

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

unsigned config_edit_distance(const char *a, const char *b)
{
    unsigned cost[WORD_MAX + 1][WORD_MAX + 1];
    size_t rows = strlen(a);
    size_t columns = strlen(b);
    if (rows > WORD_MAX || columns > WORD_MAX)
        return UINT_MAX;
    for (unsigned j = 0; j <= columns; j++)
        cost[0][j] = j;
    for (unsigned i = 1; i <= rows; i++) {
        cost[i][0] = i;
        for (unsigned j = 1; j <= columns; j++) {
            unsigned replaced = cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            cost[i][j] = least(replaced, least(cost[i - 1][j], cost[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                cost[i][j] = least(cost[i][j], cost[i - 2][j - 2] + 1);
        }
    }
    return cost[rows][columns];
}

bool config_is_near(const char *word, const char *candidate)
{
    size_t tolerated = 1 + strlen(candidate) / 4;
    return config_edit_distance(word, candidate) <= tolerated && strlen(word) > tolerated;
}

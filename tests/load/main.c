/*
 * shoal-load-check: many MQTT clients that publish to each other in every direction while somebody kills and
 * stops the broker's workers, and exact books of what was promised to whom. The summary comes while all are
 * still connected, so that the caller can find out who sits where; a line or the end of stdin ends it.
 */
#include "tests/load/scenario.h"

#include <stdio.h>

int main(int count, char **words)
{
    static struct scenario scenario;
    struct options options;
    if (!options_read(count, words, &options) || !scenario_open(&scenario, &options))
        return 2;
    scenario_run(&scenario);
    bool good = report(&scenario);
    (void)getchar();
    scenario_close(&scenario);
    return good ? 0 : 1;
}

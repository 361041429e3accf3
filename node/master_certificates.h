/* Warns in the log when certificates in use have 30 days, 7 days and a day left, and when they are over.
 * Master only. */
#ifndef NODE_MASTER_CERTIFICATES_H
#define NODE_MASTER_CERTIFICATES_H

#include "shared/status.h"

#include <stdint.h>

struct master;
struct master_certificates;

/* Looks once an hour at what runs then. */
enum status master_certificates_open(
    struct master *master, struct master_certificates **ret_certificates) CHECK_RESULT;
void master_certificates_close(struct master_certificates **certificates);

/* The gravest threshold, in days, that lies between the times left then and now; UINT32_MAX: none does. For
 * tests. */
uint32_t master_certificates_threshold(int64_t left_before_s, int64_t left_s);

#endif

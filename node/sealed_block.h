/* Bytes for the children in a memfd that nobody can change any more. Master only. */
#ifndef NODE_SEALED_BLOCK_H
#define NODE_SEALED_BLOCK_H

#include "shared/bytes.h"
#include "shared/status.h"

/* STATUS_SYSTEM: errno says why. */
enum status sealed_block_make(const char *name, struct bytes content, int *ret_fd) CHECK_RESULT;

#endif

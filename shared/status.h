/*
 * What a function answers when it can fail. Errors are values, checked at once; outputs named ret_* are
 * written on STATUS_OK only. Library code (shared/, cluster/) returns them; node/ decides and logs.
 */
#ifndef SHARED_STATUS_H
#define SHARED_STATUS_H

enum status {
    STATUS_OK = 0,
    STATUS_AGAIN,     /* needs more bytes, or more room: not an error, call again later */
    STATUS_PROTOCOL,  /* what the other side sent breaks the protocol */
    STATUS_LIMIT,     /* well formed, but larger or more than a stated limit */
    STATUS_SYSTEM,    /* a system call failed; errno says why */
    STATUS_NO_MEMORY, /* allocation refused */
    STATUS_NOT_FOUND, /* no such thing */
    STATUS_EXISTS,    /* there already */
    STATUS_REFUSED,   /* understood and denied */
    STATUS_CLOSED,    /* the other side has ended */
    STATUS_INVALID,   /* a value that a person wrote is wrong (configuration, certificate, command line) */
};

#define CHECK_RESULT __attribute__((warn_unused_result))

/* The status as a short English phrase, for log lines. Never NULL. */
const char *status_text(enum status status);

#endif

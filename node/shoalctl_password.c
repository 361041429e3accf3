/*
 * Asks for a password (twice, unseen, at a terminal; else one line of standard input) and prints the line
 * that serves SCRAM-SHA-256 and passwords alike. Never takes a password as an argument: others would see it.
 */
#include "node/shoalctl_password.h"

#include "node/shoalctl.h"
#include "shared/password_hash.h"
#include "shared/topic_name.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* What libgsasl's gsasl --mkpasswd takes. Each client computes as many at its login. */
#define ITERATIONS   65536u
#define PASSWORD_MAX 1024

static int usage_error(const char *text)
{
    fprintf(stderr, "shoalctl: hash-password: %s\nTry shoalctl --help\n", text);
    return SHOALCTL_EXIT_USAGE;
}

/* One line of standard input without its end; asks for it at a terminal. False: there is none, or too much.
 */
static bool read_line(const char *question, char to[PASSWORD_MAX])
{
    struct termios before;
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    if (terminal) {
        struct termios unseen = before;
        unseen.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &unseen);
        fputs(question, stderr);
    }
    bool got = fgets(to, PASSWORD_MAX, stdin) != NULL;
    if (terminal) {
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    size_t size = got ? strlen(to) : 0;
    bool whole = got && (size + 1 < PASSWORD_MAX || to[size - 1] == '\n');
    if (size > 0 && to[size - 1] == '\n')
        to[size - 1] = '\0';
    return whole;
}

/* False after saying what is wrong. */
static bool read_password(char to[PASSWORD_MAX])
{
    char again[PASSWORD_MAX];
    bool good = read_line("Password: ", to);
    if (!good)
        fputs("shoalctl: no password of at most 1022 bytes on standard input\n", stderr);
    else if (isatty(STDIN_FILENO)) {
        good = read_line("The same again: ", again) && strcmp(to, again) == 0;
        if (!good)
            fputs("shoalctl: these are two different passwords\n", stderr);
        explicit_bzero(again, sizeof again);
    }
    return good;
}

static bool parse_iterations(const char *text, uint32_t *ret_iterations)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || number < PASSWORD_SCRAM_ITERATIONS_MIN ||
        number > PASSWORD_ITERATIONS_MAX)
        return false;
    *ret_iterations = (uint32_t)number;
    return true;
}

static bool good_name(const char *name)
{
    return *name != '\0' && *name != '#' && *name != ' ' && *name != '\t' && strpbrk(name, ":\r\n") == NULL &&
           strlen(name) <= 65535 && utf8_valid(bytes_of_text(name));
}

int shoalctl_hash_password(int count, char **arguments)
{
    const char *user = NULL;
    uint32_t iterations = ITERATIONS;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--iterations") == 0) {
            if (++i == count || !parse_iterations(arguments[i], &iterations))
                return usage_error("a number from 4096 to 10000000 must follow --iterations");
        } else if (arguments[i][0] == '-' || user != NULL) {
            return usage_error("it takes one user name, and the password from standard input");
        } else {
            user = arguments[i];
        }
    }
    if (user == NULL || !good_name(user))
        return usage_error(
            "whose? A name without ':' and line ends, which begins with neither '#' nor a blank");
    char password[PASSWORD_MAX], text[PASSWORD_SCRAM_TEXT_MAX];
    const char *wrong = NULL;
    bool done = read_password(password);
    if (done && !(done = password_scram_make(bytes_of_text(password), iterations, text, &wrong)))
        fprintf(stderr, "shoalctl: %s\n", wrong);
    explicit_bzero(password, sizeof password);
    if (!done)
        return SHOALCTL_EXIT_CONFIG;
    printf("%s:%s\n", user, text);
    explicit_bzero(text, sizeof text);
    return SHOALCTL_EXIT_OK;
}

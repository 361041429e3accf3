/* password_file: what mosquitto_passwd writes works as it is; everything else is told, line by line. */
#include "shared/password_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* mosquitto_passwd -b FILE alice secret; -b FILE bob pass:word; -H sha512 -b FILE carol old */
static const char good[] =
    "# comment\n"
    "\n"
    "alice:$7$101$T1SphAunpqPiNdfe$"
    "6p3lbn2kA0FbG4mIfZlDIeA7ovehGK8Cx81g+j2dqQTXl3EGLc7x2CC22J0GjuJJt1qEUuLX/lli4ClyLaMZyg==\n"
    "bob:$7$101$YO9UdWDq6qXHBS5V$"
    "r2DXA+xPSZV+rsSzRl0/zDwJwbsCLrR7uNGCiQ/rSoH1IfvIb5EuQvwj1zyI9oaERNqJszHswxDM8SwCjL5d0w==\r\n"
    "carol:$6$hsQdJXByp5eMHh3w$"
    "3SkdQZ9Kd0w6Nt70MyvgAoYMvhhesN3baJ7Xtskx3cXbqReElx65c2BgUITXtYGlDn4zdZ9achEjtQFKSONrGQ==\n";

struct problems {
    char text[2048];
    unsigned count;
};

static void note(void *context, unsigned line, const char *text)
{
    struct problems *problems = context;
    size_t used = strlen(problems->text);
    snprintf(problems->text + used, sizeof problems->text - used, "%u: %s\n", line, text);
    problems->count++;
}

static struct password_file *parse(const char *text)
{
    struct problems problems = {0};
    struct password_file *file = NULL;
    assert_int_equal(password_file_parse(bytes_of_text(text), note, &problems, &file), STATUS_OK);
    assert_int_equal(problems.count, 0);
    return file;
}

static bool fits(const struct password_file *file, const char *user, const char *password)
{
    const struct password_hash *hash = password_file_find(file, bytes_of_text(user));
    return hash != NULL && password_hash_fits(hash, bytes_of_text(password));
}

static void passwords_of_either_kind_fit_their_users_alone(void **state)
{
    (void)state;
    struct password_file *file = parse(good);
    assert_int_equal(password_file_count(file), 3);
    assert_true(fits(file, "alice", "secret"));
    assert_true(fits(file, "bob", "pass:word"));
    assert_true(fits(file, "carol", "old"));
    assert_false(fits(file, "carol", "secret"));
    assert_false(fits(file, "alice", "Secret"));
    assert_false(fits(file, "alice", ""));
    assert_false(fits(file, "alice", "secret "));
    assert_false(fits(file, "Alice", "secret"));
    assert_null(password_file_find(file, bytes_of_text("")));
    assert_null(password_file_find(file, bytes_of_text("alic")));
    password_file_free(&file);
    assert_null(file);
}

static void the_decoy_is_as_costly_as_the_costliest(void **state)
{
    (void)state;
    struct password_file *file = parse(good);
    const struct password_hash *decoy = password_file_decoy(file);
    assert_int_equal(decoy->kind, PASSWORD_PBKDF2);
    assert_int_equal(decoy->iterations, 101);
    assert_false(password_hash_fits(decoy, bytes_of_text("secret")));
    password_file_free(&file);
    file = parse("");
    assert_int_equal(password_file_count(file), 0);
    assert_int_equal(password_file_decoy(file)->kind, PASSWORD_SHA512);
    password_file_free(&file);
}

static void every_mistake_is_told_with_its_line(void **state)
{
    (void)state;
    static const char text[] =
        "plain:secret\n"
        "nobody\n"
        ":$7$101$T1SphAunpqPiNdfe$AA==\n"
        "# fine\n"
        "a:$5$x$y\n"
        "b:$7$0$T1SphAunpqPiNdfe$AA==\n"
        "c:$7$10000001$T1SphAunpqPiNdfe$AA==\n"
        "d:$7$101$T1S!$AA==\n"
        "e:$7$101$T1SphAunpqPiNdfe$AA==\n"
        "f:$6$T1SphAunpqPiNdfe\n"
        "g:\n"
        "h:$6$YO9UdWDq6qXHBS5V$"
        "r2DXA+xPSZV+rsSzRl0/zDwJwbsCLrR7uNGCiQ/rSoH1IfvIb5EuQvwj1zyI9oaERNqJszHswxDM8SwCjL5d0w==$\n"
        "\xff:$6$x$y\n"
        "i:$6$YO9UdWDq6qXHBS5V$"
        "r2DXA+xPSZV+rsSzRl0/zDwJwbsCLrR7uNGCiQ/rSoH1IfvIb5EuQvwj1zyI9oaERNqJszHswxDM8SwCjL5d0w==\n"
        "i:$6$YO9UdWDq6qXHBS5V$"
        "r2DXA+xPSZV+rsSzRl0/zDwJwbsCLrR7uNGCiQ/rSoH1IfvIb5EuQvwj1zyI9oaERNqJszHswxDM8SwCjL5d0w==";
    struct problems problems = {0};
    struct password_file *file = NULL;
    assert_int_equal(password_file_parse(bytes_of_text(text), note, &problems, &file), STATUS_INVALID);
    assert_null(file);
    assert_int_equal(problems.count, 13);
    assert_non_null(strstr(problems.text, "1: a password in the clear"));
    assert_non_null(strstr(problems.text, "2: no ':'"));
    assert_non_null(strstr(problems.text, "5: an unknown kind"));
    assert_non_null(strstr(problems.text, "6: no number of iterations"));
    assert_non_null(strstr(problems.text, "7: no number of iterations"));
    assert_non_null(strstr(problems.text, "8: no salt"));
    assert_non_null(strstr(problems.text, "9: no hash"));
    assert_non_null(strstr(problems.text, "10: no hash"));
    assert_non_null(strstr(problems.text, "15: the user \"i\" stands in line 14 already"));
    assert_null(strstr(problems.text, "secret"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passwords_of_either_kind_fit_their_users_alone),
        cmocka_unit_test(the_decoy_is_as_costly_as_the_costliest),
        cmocka_unit_test(every_mistake_is_told_with_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

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
    char text[4096];
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

static void scram_lines_serve_passwords_too(void **state)
{
    (void)state;
    /* RFC 7677's example, as gsasl --mkpasswd prints it */
    struct password_file *file = parse(
        "user:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n");
    assert_int_equal(password_file_scram_count(file), 1);
    assert_true(fits(file, "user", "pencil"));
    assert_true(fits(file, "user",
        "pen\xC2\xAD"
        "cil")); /* a soft hyphen is nothing */
    assert_false(fits(file, "user", "Pencil"));
    assert_false(fits(file, "user", ""));
    assert_false(fits(file, "user", "\xff"));
    const struct password_hash *hash = password_file_find(file, bytes_of_text("user"));
    assert_false(password_hash_fits(hash, bytes_of("pencil\0", 7)));
    assert_false(password_hash_fits(hash, BYTES_NONE));
    password_file_free(&file);
}

static void lines_that_we_make_are_lines_that_we_read(void **state)
{
    (void)state;
    char line[PASSWORD_SCRAM_TEXT_MAX + 8] = "u:", other[PASSWORD_SCRAM_TEXT_MAX];
    const char *wrong = NULL;
    assert_true(password_scram_make(bytes_of_text("secret \xE2\x82\xAC"), 5000, line + 2, &wrong));
    assert_true(password_scram_make(bytes_of_text("secret \xE2\x82\xAC"), 5000, other, &wrong));
    assert_null(wrong);
    assert_string_not_equal(line + 2, other); /* each with a salt of its own */
    struct password_file *file = parse(line);
    assert_true(fits(file, "u", "secret \xE2\x82\xAC"));
    assert_false(fits(file, "u", "secret"));
    password_file_free(&file);
    assert_false(password_scram_make(BYTES_NONE, 5000, other, &wrong));
    assert_non_null(wrong);
    assert_false(password_scram_make(bytes_of_text("\x01"), 5000, other, &wrong));
    assert_false(password_scram_make(bytes_of_text("\xff"), 5000, other, &wrong));
    assert_false(password_scram_make(bytes_of("a\0b", 3), 5000, other, &wrong));
}

static struct password_work failing_work(const struct password_hash *hash)
{
    struct password_work work = password_hash_work(hash);
    return (struct password_work){work.sha512 + hash->more.sha512, work.sha256 + hash->more.sha256};
}

/* Whose password is wrong, and who is not there, do the same work. */
static void all_failures_cost_the_same(void **state)
{
    (void)state;
    static const char *const users[] = {"alice", "bob", "carol", "slow", "user"};
    char text[2048];
    snprintf(text, sizeof text, "%s%s", good,
        "slow:$7$900$YO9UdWDq6qXHBS5V$"
        "r2DXA+xPSZV+rsSzRl0/zDwJwbsCLrR7uNGCiQ/rSoH1IfvIb5EuQvwj1zyI9oaERNqJszHswxDM8SwCjL5d0w==\n"
        "user:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n");
    struct password_file *file = parse(text);
    struct password_work decoy = failing_work(password_file_decoy(file));
    assert_int_equal(decoy.sha512, 900);
    assert_int_equal(decoy.sha256, 4096);
    for (size_t i = 0; i < sizeof users / sizeof *users; i++) {
        struct password_work work = failing_work(password_file_find(file, bytes_of_text(users[i])));
        assert_int_equal(work.sha512, decoy.sha512);
        assert_int_equal(work.sha256, decoy.sha256);
    }
    assert_false(password_hash_fits(password_file_decoy(file), bytes_of_text("secret")));
    assert_true(fits(file, "alice", "secret"));
    password_file_free(&file);
    file = parse("");
    assert_int_equal(password_file_count(file), 0);
    assert_int_equal(password_file_scram_count(file), 0);
    assert_false(password_hash_fits(password_file_decoy(file), bytes_of_text("secret")));
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
        "r2DXA+xPSZV+rsSzRl0/zDwJwbsCLrR7uNGCiQ/rSoH1IfvIb5EuQvwj1zyI9oaERNqJszHswxDM8SwCjL5d0w==\n"
        "s:{SCRAM-SHA-256}4095,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,x\n"
        "t:{SCRAM-SHA-256}4096,,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,x\n"
        "u:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=\n"
        "v:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
        "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=,c4a49510\n"
        "w:{SCRAM-SHA-1}4096,W22ZaJ0SNY7soEsUEjb6gQ==,AA==,AA==";
    struct problems problems = {0};
    struct password_file *file = NULL;
    assert_int_equal(password_file_parse(bytes_of_text(text), note, &problems, &file), STATUS_INVALID);
    assert_null(file);
    assert_int_equal(problems.count, 18);
    assert_non_null(strstr(problems.text, "1: a password in the clear"));
    assert_non_null(strstr(problems.text, "2: no ':'"));
    assert_non_null(strstr(problems.text, "5: an unknown kind"));
    assert_non_null(strstr(problems.text, "6: no number of iterations"));
    assert_non_null(strstr(problems.text, "7: no number of iterations"));
    assert_non_null(strstr(problems.text, "8: no salt"));
    assert_non_null(strstr(problems.text, "9: no hash"));
    assert_non_null(strstr(problems.text, "10: no hash"));
    assert_non_null(strstr(problems.text, "15: the user \"i\" stands in line 14 already"));
    assert_non_null(strstr(problems.text, "16: no number of iterations from 4096"));
    assert_non_null(strstr(problems.text, "17: no salt"));
    assert_non_null(strstr(problems.text, "18: no StoredKey"));
    assert_non_null(strstr(problems.text, "19: something behind StoredKey and ServerKey"));
    assert_non_null(strstr(problems.text, "20: a password in the clear"));
    assert_null(strstr(problems.text, "secret"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passwords_of_either_kind_fit_their_users_alone),
        cmocka_unit_test(scram_lines_serve_passwords_too),
        cmocka_unit_test(lines_that_we_make_are_lines_that_we_read),
        cmocka_unit_test(all_failures_cost_the_same),
        cmocka_unit_test(every_mistake_is_told_with_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

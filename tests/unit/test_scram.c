/* scram: RFC 7677's vectors, exchanges with a client of our own, and everything that must fail alike. */
#include "shared/password_file.h"
#include "shared/scram.h"
#include "tests/unit/scram_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* RFC 7677, chapter 3: user "user", password "pencil"; as gsasl --mkpasswd prints it. */
#define VECTOR_SALT "W22ZaJ0SNY7soEsUEjb6gQ=="
static const char lines[] =
    "user:{SCRAM-SHA-256}4096," VECTOR_SALT ",WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n"
    "a,b=c:{SCRAM-SHA-256}4096," VECTOR_SALT ",WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,"
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n"
    "bob:$7$101$YO9UdWDq6qXHBS5V$"
    "r2DXA+xPSZV+rsSzRl0/zDwJwbsCLrR7uNGCiQ/rSoH1IfvIb5EuQvwj1zyI9oaERNqJszHswxDM8SwCjL5d0w==\n";
static const uint8_t decoy_key[PASSWORD_DECOY_KEY_SIZE] = {1, 2, 3};
static const uint8_t binding[SCRAM_BINDING_SIZE + 1] = "0123456789abcdef0123456789abcdef";

struct fixture {
    struct scram *scram;
    struct password_file *file;
    struct scram_exchange *exchange;
    unsigned finds;
    unsigned gone_after; /* finds, then the user is not there any more; 0: never */
};

static void on_problem(void *context, unsigned number, const char *text)
{
    (void)context;
    fail_msg("%u: %s", number, text);
}

static int set_up(void **state)
{
    struct fixture *it = calloc(1, sizeof *it);
    assert_int_equal(scram_new(&it->scram), STATUS_OK);
    assert_int_equal(password_file_parse(bytes_of_text(lines), on_problem, NULL, &it->file), STATUS_OK);
    *state = it;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *it = *state;
    scram_end(&it->exchange);
    scram_free(&it->scram);
    password_file_free(&it->file);
    free(it);
    return 0;
}

static bool find(void *context, struct bytes user, struct password_hash *ret_hash)
{
    struct fixture *it = context;
    bool known = password_file_scram(it->file, decoy_key, user, ret_hash);
    it->finds++;
    return known && (it->gone_after == 0 || it->finds <= it->gone_after);
}

static void start(struct fixture *it, bool plus, const uint8_t *bound)
{
    const struct scram_settings settings = {.plus = plus, .binding = bound, .find = find, .context = it};
    scram_end(&it->exchange);
    assert_int_equal(scram_start(it->scram, &settings, &it->exchange), STATUS_OK);
}

static enum status step(struct fixture *it, const char *text, struct bytes *ret_answer)
{
    return scram_step(it->exchange, bytes_of_text(text), ret_answer);
}

/* A whole exchange; what the second message is answered with. */
static enum status run(struct fixture *it, struct scram_client *client, const char *user)
{
    char first[SCRAM_TEXT];
    struct bytes answer = BYTES_NONE;
    enum status status = step(it, scram_client_first(client, user, first), &answer);
    if (status != STATUS_AGAIN)
        return status;
    assert_true(scram_client_answer(client, answer));
    status = step(it, client->final, &answer);
    if (status == STATUS_OK)
        assert_true(bytes_equal(answer, bytes_of_text(client->expected)));
    return status;
}

static void the_vectors_of_rfc_7677(void **state)
{
    struct fixture *it = *state;
    static const char nonce[] = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    char auth[SCRAM_TEXT], proof[45], signature[45];
    uint8_t own[32], made[32];
    snprintf(auth, sizeof auth, "n=user,r=rOprNGfwEbeRWgbNEkqO,r=%s,s=" VECTOR_SALT ",i=4096,c=biws,r=%s",
        nonce, nonce);
    const struct password_hash *hash = password_file_find(it->file, bytes_of_text("user"));
    assert_int_equal(hash->iterations, 4096);
    scram_proof("pencil", hash->salt, hash->salt_size, 4096, auth, proof, signature);
    assert_string_equal(proof, "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    assert_string_equal(signature, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    /* What the file keeps takes that proof for good and gives that signature. */
    uint8_t decoded[33];
    scram_hmac(hash->hash, auth, own);
    assert_int_equal(EVP_DecodeBlock(decoded, (const unsigned char *)proof, 44), 33);
    for (size_t i = 0; i < 32; i++)
        own[i] ^= decoded[i];
    SHA256(own, 32, made);
    assert_memory_equal(made, hash->hash, 32);
    scram_hmac(hash->hash + PASSWORD_KEY_SIZE, auth, own);
    scram_base64(own, 32, proof);
    assert_string_equal(proof, signature);
}

static void a_user_who_knows_the_password_is_let_in(void **state)
{
    struct fixture *it = *state;
    struct scram_client client = {.header = "n,,", .password = "pencil"};
    start(it, false, NULL);
    assert_null(scram_user(it->exchange).data);
    assert_int_equal(run(it, &client, "user"), STATUS_OK);
    assert_true(bytes_equal(scram_user(it->exchange), bytes_of_text("user")));
    start(it, false, NULL);
    assert_int_equal(run(it, &client, "a=2Cb=3Dc"), STATUS_OK);
    assert_true(bytes_equal(scram_user(it->exchange), bytes_of_text("a,b=c")));
    assert_int_equal(it->finds, 4);
}

static void a_client_may_leave_us_the_first_word(void **state)
{
    struct fixture *it = *state;
    struct scram_client client = {.header = "n,,", .password = "pencil"};
    struct bytes answer = bytes_of_text("x");
    start(it, false, NULL);
    assert_int_equal(scram_step(it->exchange, BYTES_NONE, &answer), STATUS_AGAIN);
    assert_int_equal(answer.size, 0);
    assert_int_equal(run(it, &client, "user"), STATUS_OK);
}

static void nobody_else_is_let_in(void **state)
{
    struct fixture *it = *state;
    static const char *const users[] = {"user", "nobody", "bob", "User"};
    for (size_t i = 0; i < 4; i++) {
        struct scram_client client = {.header = "n,,", .password = i == 0 ? "Pencil" : "pencil"};
        start(it, false, NULL);
        assert_int_equal(run(it, &client, users[i]), STATUS_REFUSED);
    }
    struct scram_client other = {.header = "n,a=root,", .password = "pencil"};
    start(it, false, NULL);
    assert_int_equal(run(it, &other, "user"), STATUS_REFUSED); /* to act for somebody else */
    struct scram_client same = {.header = "n,a=user,", .password = "pencil"};
    start(it, false, NULL);
    assert_int_equal(run(it, &same, "user"), STATUS_OK);
}

static void a_second_try_takes_a_second_exchange(void **state)
{
    struct fixture *it = *state;
    struct bytes answer;
    struct scram_client client = {.header = "n,,", .password = "wrong"};
    start(it, false, NULL);
    assert_int_equal(run(it, &client, "user"), STATUS_REFUSED);
    assert_int_equal(step(it, client.final, &answer), STATUS_PROTOCOL);
    client.password = "pencil";
    start(it, false, NULL);
    assert_int_equal(run(it, &client, "user"), STATUS_OK);
    assert_int_equal(step(it, client.final, &answer), STATUS_PROTOCOL);
    start(it, false, NULL); /* the proof of another exchange */
    char first[SCRAM_TEXT];
    assert_int_equal(step(it, scram_client_first(&client, "user", first), &answer), STATUS_AGAIN);
    assert_int_equal(step(it, client.final, &answer), STATUS_REFUSED);
}

static void who_is_removed_meanwhile_is_not_let_in(void **state)
{
    struct fixture *it = *state;
    struct scram_client client = {.header = "n,,", .password = "pencil"};
    it->gone_after = 1;
    start(it, false, NULL);
    assert_int_equal(run(it, &client, "user"), STATUS_REFUSED);
    assert_int_equal(it->finds, 2);
}

static void unknown_users_look_like_known_ones(void **state)
{
    struct fixture *it = *state;
    struct scram_client client = {.header = "n,,", .password = "pencil"};
    char first[SCRAM_TEXT], seen[2][SCRAM_TEXT];
    struct bytes answer;
    for (size_t i = 0; i < 2; i++) {
        start(it, false, NULL);
        assert_int_equal(step(it, scram_client_first(&client, "nobody", first), &answer), STATUS_AGAIN);
        const char *salt = memchr(answer.data, ',', answer.size);
        snprintf(seen[i], SCRAM_TEXT, "%.*s", (int)(answer.size - (size_t)(salt - (const char *)answer.data)),
            salt);
    }
    assert_string_equal(seen[0], seen[1]); /* the same salt again */
    assert_int_equal(strlen(seen[0]), strlen(",s=" VECTOR_SALT ",i=4096"));
    struct password_hash one, two, known;
    static const uint8_t other_key[PASSWORD_DECOY_KEY_SIZE] = {9};
    assert_false(password_file_scram(it->file, decoy_key, bytes_of_text("nobody"), &one));
    assert_false(password_file_scram(it->file, decoy_key, bytes_of_text("nobody2"), &two));
    assert_memory_not_equal(one.salt, two.salt, 16);
    assert_false(password_file_scram(it->file, other_key, bytes_of_text("nobody"), &two));
    assert_memory_not_equal(one.salt, two.salt, 16);
    assert_false(
        password_file_scram(it->file, decoy_key, bytes_of_text("bob"), &two)); /* no keys for SCRAM */
    assert_int_equal(two.iterations, 4096);
    assert_true(password_file_scram(it->file, decoy_key, bytes_of_text("user"), &known));
}

static void what_is_no_scram_ends_the_exchange(void **state)
{
    struct fixture *it = *state;
    static const char *const bad[] = {"x", "n,,", "n,,n=user", "n,,r=abc", "p=tls-exporter,,n=user,r=abc",
        "n,,m=ext,n=user,r=abc", "n,,n=,r=abc", "n,,n=us=er,r=abc", "q,,n=user,r=abc", "n,,n=\xff,r=abc"};
    struct bytes answer;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        start(it, false, NULL);
        enum status status = step(it, bad[i], &answer);
        if (status == STATUS_AGAIN) /* parsed, but of no use to anybody */
            status = step(it, "c=biws,r=abc,p=AAAA", &answer);
        assert_true(status == STATUS_PROTOCOL || status == STATUS_REFUSED);
    }
    char large[SCRAM_MESSAGE_MAX + 2];
    memset(large, 'a', sizeof large);
    start(it, false, NULL);
    assert_int_equal(scram_step(it->exchange, bytes_of(large, sizeof large), &answer), STATUS_PROTOCOL);
    start(it, false, NULL);
    assert_int_equal(scram_step(it->exchange, bytes_of("n,,n=user\0,r=abc", 16), &answer), STATUS_PROTOCOL);
}

static void plus_takes_the_binding_of_this_connection(void **state)
{
    struct fixture *it = *state;
    struct scram_client good = {.header = "p=tls-exporter,,",
        .binding = (const char *)binding,
        .binding_size = SCRAM_BINDING_SIZE,
        .password = "pencil"};
    start(it, true, binding);
    assert_int_equal(run(it, &good, "user"), STATUS_OK);
    struct scram_client stranger = good;
    stranger.binding = "fedcba9876543210fedcba9876543210"; /* somebody in the middle */
    start(it, true, binding);
    assert_int_equal(run(it, &stranger, "user"), STATUS_REFUSED);
    struct scram_client without = {.header = "n,,", .password = "pencil"};
    start(it, true, binding);
    assert_int_equal(run(it, &without, "user"), STATUS_REFUSED);
    struct scram_client unique = good;
    unique.header = "p=tls-unique,,";
    start(it, true, binding);
    assert_int_not_equal(run(it, &unique, "user"), STATUS_OK);
}

/* Who could bind and was told by somebody in the middle that we cannot. */
static void a_downgrade_is_noticed(void **state)
{
    struct fixture *it = *state;
    struct scram_client client = {.header = "y,,", .password = "pencil"};
    start(it, false, binding);
    assert_int_equal(run(it, &client, "user"), STATUS_REFUSED);
    start(it, false, NULL);
    assert_int_equal(run(it, &client, "user"), STATUS_OK);
    client.header = "n,,";
    start(it, false, binding);
    assert_int_equal(run(it, &client, "user"), STATUS_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_vectors_of_rfc_7677),
        TEST(a_user_who_knows_the_password_is_let_in),
        TEST(a_client_may_leave_us_the_first_word),
        TEST(nobody_else_is_let_in),
        TEST(a_second_try_takes_a_second_exchange),
        TEST(who_is_removed_meanwhile_is_not_let_in),
        TEST(unknown_users_look_like_known_ones),
        TEST(what_is_no_scram_ends_the_exchange),
        TEST(plus_takes_the_binding_of_this_connection),
        TEST(a_downgrade_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

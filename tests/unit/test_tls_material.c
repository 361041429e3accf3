/*
 * tls_material: files are read with what opens them, everything wrong with them is said at once and in words,
 * and what the master hands over makes a context that works.
 */
#include "node/tls_material.h"

#include "shared/clock.h"

#include "tests/unit/tls_fixture.h"

#include <sys/stat.h>

static char folder[] = "/tmp/shoal-material-XXXXXX";
static struct fixture_identity root, middle, ec, rsa, stranger, old, future;
static struct config config;
static struct config_listener listeners[3];
static struct config_errors errors;
static const struct tls_material_past *past; /* NULL: the node's start */

static char *path_of(const char *name)
{
    static char paths[8][200];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, 200, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const void *data, size_t size)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), (ssize_t)size);
    close(fd);
}

static void write_text(const char *name, const char *text)
{
    write_file(name, text, strlen(text));
}

static void write_chain(const char *name, const X509 *first, const X509 *second, const X509 *third)
{
    struct bytes pem = fixture_pem(first, second, third);
    write_file(name, pem.data, pem.size);
    free((void *)(uintptr_t)pem.data);
}

static void write_key(const char *name, EVP_PKEY *key, const char *password)
{
    BIO *text = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey(text, key, password ? EVP_aes_256_cbc() : NULL,
                         (const unsigned char *)password, password ? (int)strlen(password) : 0, NULL, NULL),
        1);
    char *data;
    size_t size = (size_t)BIO_get_mem_data(text, &data);
    write_file(name, data, size);
    BIO_free(text);
}

/* A configuration of one ssl listener that is good; tests spoil it. */
static struct config_tls *start(void)
{
    config_errors_done(&errors);
    memset(listeners, 0, sizeof listeners);
    listeners[0].key = (char *)(uintptr_t) "tcp:plain";
    listeners[0].type = CONFIG_LISTENER_TCP;
    listeners[1].key = (char *)(uintptr_t) "ssl:external";
    listeners[1].type = CONFIG_LISTENER_SSL;
    struct config_tls *tls = &listeners[1].tls;
    tls->keyfile = path_of("ec.key");
    tls->certfile = path_of("ec.pem");
    tls->versions = CONFIG_TLS_1_2 | CONFIG_TLS_1_3;
    tls->depth = 2;
    config = (struct config){
        .file = (char *)(uintptr_t) "/etc/shoal.json", .listeners = listeners, .listener_count = 2};
    return tls;
}

static enum status load(struct tls_material **ret_material)
{
    return tls_material_load(&config, past, ret_material, &errors);
}

/* Loads, hands over, makes the context of listener `index` and shakes hands with it. */
static void works(size_t index)
{
    struct tls_material *material = NULL;
    uint8_t *block = NULL;
    size_t size = 0;
    SSL_CTX *context = NULL;
    char error[TLS_ERROR_SIZE] = "";
    if (load(&material) != STATUS_OK)
        fail_msg("%s", errors.entries[errors.count - 1].text);
    assert_true(tls_material_any(material));
    assert_int_equal(tls_material_serialize(material, &block, &size), STATUS_OK);
    tls_material_free(&material);
    assert_null(material);
    enum status status =
        tls_material_context(bytes_of(block, size), &config, index, NULL, NULL, &context, error);
    if (status != STATUS_OK)
        fail_msg("%s", error);
    tls_material_wipe(&block, size);
    assert_null(block);
    assert_int_equal(tls_context_prove(context, listeners[index].tls.versions, error), STATUS_OK);
    SSL_CTX_free(context);
}

/* It is refused, and some error holds both texts. */
static void is_refused(const char *path, const char *words)
{
    struct tls_material *material = NULL;
    assert_int_equal(load(&material), STATUS_INVALID);
    assert_null(material);
    for (size_t i = 0; i < errors.count; i++)
        if (!errors.entries[i].warning && strstr(errors.entries[i].text, path) &&
            strstr(errors.entries[i].text, words))
            return;
    config_errors_print(&errors, stderr);
    fail_msg("no error says \"%s\" about %s", words, path);
}

static void is_warned(const char *words)
{
    works(1);
    for (size_t i = 0; i < errors.count; i++)
        if (errors.entries[i].warning && strstr(errors.entries[i].text, words))
            return;
    config_errors_print(&errors, stderr);
    fail_msg("no warning says \"%s\"", words);
}

static void good_files_work(void **state)
{
    (void)state;
    start();
    works(1);
    assert_int_equal(errors.count, 0);
    struct config_tls *tls = start();
    tls->keyfile = path_of("rsa.key");
    tls->certfile = path_of("rsa.pem");
    tls->verify = CONFIG_VERIFY_PEER;
    tls->fail_if_no_peer_cert = true;
    tls->cacertfile = path_of("root.pem");
    works(1);
    tls = start();
    tls->certfile = path_of("chain.pem");
    tls->versions = CONFIG_TLS_1_3;
    works(1);
    assert_int_equal(errors.count, 0);
}

static void several_listeners_have_their_own(void **state)
{
    (void)state;
    start();
    listeners[2] = listeners[1];
    listeners[2].key = (char *)(uintptr_t) "ssl:other";
    listeners[2].tls.keyfile = path_of("rsa.key");
    listeners[2].tls.certfile = path_of("rsa.pem");
    config.listener_count = 3;
    works(1);
    works(2);
}

static void no_ssl_listener_is_fine(void **state)
{
    (void)state;
    start();
    config.listener_count = 1;
    struct tls_material *material = NULL;
    uint8_t *block = NULL;
    size_t size;
    assert_int_equal(load(&material), STATUS_OK);
    assert_false(tls_material_any(material));
    assert_int_equal(tls_material_serialize(material, &block, &size), STATUS_OK);
    tls_material_wipe(&block, size);
    tls_material_free(&material);
    tls_material_free(&material);
}

static void encrypted_keys_open_with_their_password(void **state)
{
    (void)state;
    struct config_tls *tls = start();
    tls->keyfile = path_of("locked.key");
    tls->password = (char *)(uintptr_t) "open sesame";
    works(1);
    tls->password = NULL;
    tls->password_file = path_of("password");
    works(1);
    tls->password_file = path_of("password-dos");
    works(1);
    tls->password_file = path_of("missing");
    is_refused("listeners.ssl:external.password_file", "No such file");
    tls->password_file = NULL;
    is_refused("listeners.ssl:external.keyfile", "password or password_file");
    tls->password = (char *)(uintptr_t) "open barley";
    is_refused("listeners.ssl:external.keyfile", "the password does not open it");
    for (size_t i = 0; i < errors.count; i++)
        assert_null(strstr(errors.entries[i].text, "barley"));
}

static void what_does_not_fit_is_said(void **state)
{
    (void)state;
    struct config_tls *tls = start();
    tls->keyfile = path_of("rsa.key");
    is_refused("/etc/shoal.json: listeners.ssl:external.keyfile", "does not belong to the certificate");
    tls = start();
    tls->keyfile = path_of("nothing.pem");
    is_refused("keyfile", "no readable private key");
    tls = start();
    tls->certfile = path_of("nothing.pem");
    is_refused("certfile", "no certificate in it");
    tls = start();
    tls->certfile = path_of("damaged.pem");
    is_refused("certfile", "certificate 2 in it is damaged");
    tls = start();
    tls->certfile = folder;
    is_refused("certfile", "is not a file");
    tls = start();
    tls->certfile = path_of("empty.pem");
    is_refused("certfile", "is empty");
    tls = start();
    tls->certfile = path_of("unlinked.pem");
    is_refused("certfile", "is not signed by the one after it");
    tls = start();
    tls->certfile = path_of("reversed.pem");
    is_refused("certfile", "the key belongs to certificate 2");
    tls = start();
    tls->cacertfile = path_of("nothing.pem");
    is_refused("cacertfile", "no certificate in it");
    tls = start();
    tls->ciphers = (char *)(uintptr_t) "NO-SUCH-CIPHER";
    is_refused("listeners.ssl:external", "NO-SUCH-CIPHER");
    tls = start();
    tls->ciphers = (char *)(uintptr_t) "ECDHE-RSA-AES128-GCM-SHA256"; /* with an EC key */
    is_refused("listeners.ssl:external", "trial handshake with TLS 1.2 fails");
}

static void all_errors_at_once(void **state)
{
    (void)state;
    struct config_tls *tls = start();
    tls->keyfile = path_of("missing");
    tls->certfile = path_of("nothing.pem");
    tls->cacertfile = path_of("damaged.pem");
    is_refused("keyfile", "No such file");
    config_errors_done(&errors);
    is_refused("certfile", "no certificate");
    config_errors_done(&errors);
    is_refused("cacertfile", "damaged");
    assert_int_equal(errors.count, 3);
}

static void dates_count(void **state)
{
    (void)state;
    struct config_tls *tls = start();
    tls->keyfile = path_of("old.key");
    tls->certfile = path_of("old.pem");
    is_refused("certfile", "expired on");
    tls = start();
    tls->keyfile = path_of("future.key");
    tls->certfile = path_of("future.pem");
    is_refused("certfile", "is not valid before");
    tls = start();
    tls->cacertfile = path_of("old.pem");
    is_refused("cacertfile", "every CA in it has expired");
    tls = start();
    tls->cacertfile = path_of("old-and-root.pem");
    is_warned("cacertfile");
    start();
    clock_set(0, (uint64_t)(time(NULL) + 3643L * 86400) * 1000000);
    is_warned("expires on");
    clock_use_system();
}

/* Remembers as in use what the listener's files hold, whatever is wrong with it. */
static void use_already(struct tls_material_past *used, const char *name)
{
    uint8_t content[65536];
    int fd = open(path_of(name), O_RDONLY);
    ssize_t size = read(fd, content, sizeof content);
    close(fd);
    assert_true(size > 0);
    assert_true(tls_files_digest(bytes_of(content, (size_t)size), used->known.digests[used->known.count++]));
}

static void what_expired_in_use_is_warned_of_and_stays(void **state)
{
    (void)state;
    struct tls_material_past used = {.known = {.count = 0}};
    struct config_tls *tls = start();
    tls->keyfile = path_of("old.key");
    tls->certfile = path_of("old.pem");
    past = &used;
    is_refused("certfile", "expired on"); /* not in use: nobody should start with it */
    use_already(&used, "old.pem");
    config_errors_done(&errors);
    works(1);
    assert_int_equal(errors.warnings, 1);
    assert_non_null(strstr(errors.entries[0].text, "in use already"));
    past = NULL;
}

static void without_a_link_nothing_of_it_is_new(void **state)
{
    (void)state;
    struct tls_material *material = NULL;
    struct tls_material_past nothing = {.known = {.count = 0}};
    start();
    assert_int_equal(load(&material), STATUS_OK);
    assert_true(tls_material_link_is_known(material, &nothing));
    tls_material_free(&material);
}

static void a_key_that_all_may_read_is_warned_of(void **state)
{
    (void)state;
    struct config_tls *tls = start();
    tls->keyfile = path_of("open.key");
    is_warned("everybody on this machine may read the private key");
}

/* Whatever is cut off or changed in the block is found. */
static void a_damaged_block_is_refused(void **state)
{
    (void)state;
    start();
    struct tls_material *material = NULL;
    uint8_t *block = NULL;
    size_t size;
    SSL_CTX *context = NULL;
    char error[TLS_ERROR_SIZE];
    assert_int_equal(load(&material), STATUS_OK);
    assert_int_equal(tls_material_serialize(material, &block, &size), STATUS_OK);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut > 0 ? cut : 1);
        memcpy(part, block, cut);
        assert_int_equal(tls_material_context(bytes_of(part, cut), &config, 1, NULL, NULL, &context, error),
            STATUS_PROTOCOL);
        free(part);
    }
    listeners[1].key = (char *)(uintptr_t) "ssl:unknown";
    assert_int_equal(tls_material_context(bytes_of(block, size), &config, 1, NULL, NULL, &context, error),
        STATUS_PROTOCOL);
    tls_material_wipe(&block, size);
    tls_material_free(&material);
}

static void write_files(void)
{
    write_key("ec.key", ec.key, NULL);
    write_key("rsa.key", rsa.key, NULL);
    write_key("old.key", old.key, NULL);
    write_key("future.key", future.key, NULL);
    write_key("locked.key", ec.key, "open sesame");
    write_key("open.key", ec.key, NULL);
    chmod(path_of("open.key"), 0644);
    write_chain("ec.pem", ec.certificate, NULL, NULL);
    write_chain("rsa.pem", rsa.certificate, NULL, NULL);
    write_chain("old.pem", old.certificate, NULL, NULL);
    write_chain("future.pem", future.certificate, NULL, NULL);
    write_chain("root.pem", root.certificate, NULL, NULL);
    write_chain("chain.pem", ec.certificate, middle.certificate, root.certificate);
    write_chain("unlinked.pem", ec.certificate, stranger.certificate, NULL);
    write_chain("reversed.pem", middle.certificate, ec.certificate, NULL);
    write_chain("old-and-root.pem", old.certificate, root.certificate, NULL);
    write_text("password", "open sesame\nsecond line");
    write_text("password-dos", "open sesame\r\n");
    write_text("nothing.pem", "there is nothing here\n");
    write_text("empty.pem", "");
    struct bytes pem = fixture_pem(ec.certificate, middle.certificate, NULL);
    ((uint8_t *)(uintptr_t)pem.data)[pem.size - 100] = '!';
    write_file("damaged.pem", pem.data, pem.size);
    free((void *)(uintptr_t)pem.data);
}

static int set_up(void **state)
{
    (void)state;
    root = fixture_issue((struct fixture_wish){.cn = "Root", .ca = true});
    middle = fixture_issue((struct fixture_wish){.cn = "Middle", .ca = true, .issuer = &root});
    ec = fixture_issue((struct fixture_wish){.cn = "localhost", .issuer = &middle});
    rsa = fixture_issue((struct fixture_wish){.cn = "localhost", .issuer = &root, .rsa = true});
    stranger = fixture_issue((struct fixture_wish){.cn = "Middle", .ca = true});
    old = fixture_issue((struct fixture_wish){.cn = "old", .from_days = -20, .until_days = -2});
    future = fixture_issue((struct fixture_wish){.cn = "future", .from_days = 2, .until_days = 20});
    assert_non_null(mkdtemp(folder));
    write_files();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    struct fixture_identity *all[] = {&root, &middle, &ec, &rsa, &stranger, &old, &future};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        fixture_done(all[i]);
    config_errors_done(&errors);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files_work),
        cmocka_unit_test(several_listeners_have_their_own),
        cmocka_unit_test(no_ssl_listener_is_fine),
        cmocka_unit_test(encrypted_keys_open_with_their_password),
        cmocka_unit_test(what_does_not_fit_is_said),
        cmocka_unit_test(all_errors_at_once),
        cmocka_unit_test(dates_count),
        cmocka_unit_test(what_expired_in_use_is_warned_of_and_stays),
        cmocka_unit_test(without_a_link_nothing_of_it_is_new),
        cmocka_unit_test(a_key_that_all_may_read_is_warned_of),
        cmocka_unit_test(a_damaged_block_is_refused),
    };
    return cmocka_run_group_tests_name("tls_material", tests, set_up, tear_down);
}

/* tls_revoked: only what the master makes is mapped, and a table knows exactly its certificates. */
#include "shared/tls_revoked.h"

#include "tests/unit/tls_fixture.h"

#include <sys/mman.h>

static int file_of(const void *data, size_t size)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), (ssize_t)size);
    return fd;
}

static size_t put(uint8_t *to, struct bytes field)
{
    put_u32_le(to, (uint32_t)field.size);
    if (field.size > 0)
        memcpy(to + 4, field.data, field.size);
    return 4 + field.size;
}

static void a_table_knows_its_certificates(void **state)
{
    (void)state;
    uint8_t ids[3 * TLS_CERTIFICATE_ID_SIZE], block[200], other[TLS_CERTIFICATE_ID_SIZE];
    for (unsigned i = 0; i < 3; i++)
        memset(ids + i * TLS_CERTIFICATE_ID_SIZE, (int)(10 * i), TLS_CERTIFICATE_ID_SIZE);
    size_t size = put(block, bytes_of_text("ssl:none"));
    size += put(block + size, BYTES_NONE);
    size += put(block + size, bytes_of_text("ssl:some"));
    size += put(block + size, bytes_of(ids, sizeof ids));
    int fd = file_of(block, size);
    struct tls_revoked *revoked = NULL;
    assert_int_equal(tls_revoked_map(fd, &revoked), STATUS_OK);
    close(fd);
    struct tls_revoked *shared = tls_revoked_ref(revoked);
    tls_revoked_unref(&revoked);
    assert_null(revoked);
    struct bytes table = tls_revoked_table(shared, "ssl:some");
    for (unsigned value = 0; value < 40; value++) {
        memset(other, (int)value, sizeof other);
        assert_int_equal(tls_revoked_has(table, other), value % 10 == 0 && value < 30);
        assert_false(tls_revoked_has(tls_revoked_table(shared, "ssl:none"), other));
        assert_false(tls_revoked_has(tls_revoked_table(shared, "ssl:absent"), other));
    }
    tls_revoked_unref(&shared);
}

static void what_the_master_did_not_make_is_refused(void **state)
{
    (void)state;
    uint8_t block[100];
    size_t size = put(block, bytes_of_text("ssl:x"));
    size += put(block + size, bytes_of_text("sixteen bytes id"));
    for (size_t cut = 1; cut <= size; cut++) {
        int fd = file_of(block, size - (cut == size ? size : cut));
        struct tls_revoked *revoked = NULL;
        enum status status = tls_revoked_map(fd, &revoked);
        close(fd);
        assert_int_equal(status, cut == size ? STATUS_OK : STATUS_PROTOCOL); /* an empty one is nobody's */
        tls_revoked_unref(&revoked);
    }
    size = put(block, bytes_of_text("ssl:x"));
    size += put(block + size, bytes_of_text("fifteen bytes i"));
    int fd = file_of(block, size);
    struct tls_revoked *revoked = NULL;
    assert_int_equal(tls_revoked_map(fd, &revoked), STATUS_PROTOCOL);
    close(fd);
}

static void identity_is_issuer_and_number(void **state)
{
    (void)state;
    struct fixture_identity ca = fixture_issue((struct fixture_wish){.cn = "CA", .ca = true});
    struct fixture_identity same_name = fixture_issue((struct fixture_wish){.cn = "CA", .ca = true});
    struct fixture_identity one = fixture_issue((struct fixture_wish){.cn = "one", .issuer = &ca});
    struct fixture_identity two = fixture_issue((struct fixture_wish){.cn = "two", .issuer = &ca});
    uint8_t ids[4][TLS_CERTIFICATE_ID_SIZE];
    assert_true(tls_certificate_id(one.certificate, ca.certificate, ids[0]));
    assert_true(tls_certificate_id(one.certificate, ca.certificate, ids[1]));
    assert_true(tls_certificate_id(two.certificate, ca.certificate, ids[2]));
    assert_true(tls_certificate_id(one.certificate, same_name.certificate, ids[3]));
    assert_memory_equal(ids[0], ids[1], TLS_CERTIFICATE_ID_SIZE);
    assert_memory_not_equal(ids[0], ids[2], TLS_CERTIFICATE_ID_SIZE);
    assert_memory_not_equal(ids[0], ids[3], TLS_CERTIFICATE_ID_SIZE);
    fixture_done(&one);
    fixture_done(&two);
    fixture_done(&same_name);
    fixture_done(&ca);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_knows_its_certificates),
        cmocka_unit_test(what_the_master_did_not_make_is_refused),
        cmocka_unit_test(identity_is_issuer_and_number),
    };
    return cmocka_run_group_tests_name("tls_revoked", tests, NULL, NULL);
}

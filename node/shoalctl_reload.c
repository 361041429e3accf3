/* Prints the report of a reload, and certificates, for a person; --json prints the same untouched. */
#include "node/shoalctl.h"

#include <stdio.h>

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value != NULL ? value : "-";
}

static void print_change(const json_t *change)
{
    printf("  %s: %s, was %s%s\n", text(change, "path"), text(change, "becomes"), text(change, "was"),
        json_is_true(json_object_get(change, "restart")) ? "   (NEEDS A RESTART of shoald)" : "");
}

static void print_certificate(const json_t *certificate)
{
    printf("  %s: %s (%s)\n    subject %s\n    names   %s\n    issuer  %s\n    from    %s\n    until   %s\n"
           "    key     %s\n    serial  %s\n",
        text(certificate, "listener"), text(certificate, "file"),
        json_is_true(json_object_get(certificate, "changed")) ? "NEW" : "unchanged",
        text(certificate, "subject"), text(certificate, "names"), text(certificate, "issuer"),
        text(certificate, "not_before"), text(certificate, "not_after"), text(certificate, "key"),
        text(certificate, "serial"));
}

void shoalctl_print_certs(const json_t *certs)
{
    size_t i;
    const json_t *entry;
    printf(
        "generation %d; workers serve with", (int)json_integer_value(json_object_get(certs, "generation")));
    json_array_foreach(json_object_get(certs, "workers"), i, entry)
        printf(" %d", (int)json_integer_value(entry));
    puts("");
    json_array_foreach(json_object_get(certs, "certificates"), i, entry)
    {
        printf("\n%s: %d days left (until %s)\n  file        %s\n  subject     %s\n  names       %s\n  "
               "issuer      %s\n"
               "  key         %s\n  serial      %s\n  fingerprint %s\n",
            text(entry, "listener"), (int)json_integer_value(json_object_get(entry, "days_left")),
            text(entry, "chain_ends"), text(entry, "file"), text(entry, "subject"), text(entry, "names"),
            text(entry, "issuer"), text(entry, "key"), text(entry, "serial"), text(entry, "fingerprint"));
    }
}

static void print_lines(const json_t *lines, const char *what)
{
    size_t i;
    const json_t *line;
    json_array_foreach(lines, i, line) fprintf(stderr, "%s: %s\n", what, json_string_value(line));
}

int shoalctl_print_reload(const json_t *report, bool dry_run)
{
    bool good = json_is_true(json_object_get(report, "good"));
    const json_t *changes = json_object_get(report, "changes");
    const json_t *certificates = json_object_get(report, "certificates");
    size_t i;
    const json_t *entry;
    if (json_array_size(changes) > 0)
        puts("configuration");
    json_array_foreach(changes, i, entry) print_change(entry);
    if (json_array_size(certificates) > 0)
        puts("certificates");
    json_array_foreach(certificates, i, entry) print_certificate(entry);
    print_lines(json_object_get(report, "warnings"), "warning");
    print_lines(json_object_get(report, "errors"), "error");
    if (dry_run)
        puts(good ? "good: a reload would bring this" : "a reload would fail and change nothing");
    else
        printf(good ? "reloaded: all workers serve with generation %d\n"
                    : "the reload failed: generation %d goes on unchanged\n",
            (int)json_integer_value(json_object_get(report, "generation")));
    return good ? SHOALCTL_EXIT_OK : SHOALCTL_EXIT_REFUSED;
}

/* What `shoalctl status` shows, as JSON: processes, listeners, counters and bus lanes. Master only. */
#include "node/master_private.h"

#include "shared/clock.h"

#include <unistd.h>

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static uint64_t seconds_since(uint64_t then_us)
{
    return (clock_monotonic_us() - then_us) / 1000000;
}

static json_t *counters_object(const struct counters *counters)
{
    json_t *object = json_object();
    unsigned count;
    const struct counter_description *table = counters_table(&count);
    for (unsigned i = 0; i < count; i++) {
        uint64_t value;
        memcpy(&value, (const char *)counters + table[i].offset, sizeof value);
        json_object_set_new(object, table[i].name, number(value));
    }
    return object;
}

static json_t *master_object(const struct master *master)
{
    json_t *object = json_object();
    json_object_set_new(object, "role", json_string("master"));
    json_object_set_new(object, "pid", json_integer(getpid()));
    json_object_set_new(object, "state", json_string(master->children->stopping ? "stopping" : "running"));
    json_object_set_new(object, "uptime_s", number(seconds_since(master->started_us)));
    return object;
}

static json_t *child_object(const struct master *master, const struct master_child *child)
{
    const struct counters *counters = master_memory_counters_of(&master->memory, child->slot);
    json_t *object = json_object();
    json_object_set_new(object, "role", json_string(master_child_is_link(child) ? "link" : "worker"));
    json_object_set_new(object, "slot", number(child->slot));
    json_object_set_new(object, "state", json_string(master_child_state_name(child->state)));
    json_object_set_new(object, "pid", child->pid == 0 ? json_null() : json_integer(child->pid));
    json_object_set_new(
        object, "uptime_s", child->pid == 0 ? json_null() : number(seconds_since(child->started_us)));
    json_object_set_new(object, "incarnation", number(child->incarnation));
    json_object_set_new(object, "generation", number(child->generation));
    json_object_set_new(object, "restarts", number(child->restarts));
    json_object_set_new(object, "connections", number(counters->connections));
    json_object_set_new(object, "sessions", number(counters->sessions));
    json_object_set_new(
        object, "served_by", child->adopter == MASTER_NO_SLOT ? json_null() : number(child->adopter));
    return object;
}

static json_t *processes_array(const struct master *master)
{
    json_t *array = json_array();
    json_array_append_new(array, master_object(master));
    for (unsigned slot = 0; slot < master->children->total; slot++)
        json_array_append_new(array, child_object(master, &master->children->table[slot]));
    return array;
}

static json_t *listeners_array(const struct master *master)
{
    json_t *array = json_array();
    uint8_t places[CONFIG_LISTENERS_MAX];
    master_listeners_places(&master->listeners, places);
    for (unsigned i = 0; i < master->listeners.count; i++) {
        const struct config_listener *listener = &master->running->config->listeners[i];
        char address[MASTER_ADDRESS_SIZE];
        master_listeners_address(&master->listeners, i, address);
        json_t *object = json_object();
        json_object_set_new(object, "name", json_string(listener->key));
        json_object_set_new(object, "bind", json_string(listener->bind.text));
        json_object_set_new(object, "address", json_string(address));
        json_object_set_new(object, "connections",
            number(counters_listener_sum(master->memory.counters_base, master->children->count, places[i])));
        json_object_set_new(object, "max_connections", number(listener->max_connections));
        json_object_set_new(object, "tls", json_boolean(config_listener_has_tls(listener)));
        json_object_set_new(object, "anonymous",
            json_boolean(config_listener_allows_anonymous(master->running->config, listener)));
        json_array_append_new(array, object);
    }
    return array;
}

static json_t *slots_array(const struct master *master)
{
    json_t *array = json_array();
    for (unsigned slot = 0; slot < master->children->count; slot++)
        json_array_append_new(array, counters_object(counters_page(master->memory.counters_base, slot)));
    return array;
}

static json_t *lanes_array(const struct master *master)
{
    json_t *array = json_array();
    unsigned count = master->children->count;
    for (unsigned from = 0; from < count; from++) {
        for (unsigned to = 0; to < count; to++) {
            if (from == to)
                continue;
            uint64_t waiting = master_memory_waiting(&master->memory, from, to);
            json_array_append_new(array, json_pack("{s:I,s:I,s:I}", "from", (json_int_t)from, "to",
                                             (json_int_t)to, "waiting_bytes", (json_int_t)waiting));
        }
    }
    return array;
}

/* NULL: a node alone. */
static json_t *cluster_object(const struct master *master)
{
    const struct config_cluster *cluster = &master->running->config->cluster;
    if (cluster->count == 0)
        return NULL;
    json_t *nodes = json_array();
    for (unsigned node = 0; node < cluster->count; node++) {
        json_t *object = node < master->memory.nodes && master->children->nodes[node] != NULL
                             ? json_deep_copy(master->children->nodes[node])
                             : json_object();
        json_object_set_new(object, "name", json_string(cluster->nodes[node].name));
        json_object_set_new(object, "address", json_string(cluster->nodes[node].bus.text));
        if (node == cluster->self)
            json_object_set_new(object, "state", json_string("this node"));
        else if (json_object_get(object, "state") == NULL)
            json_object_set_new(object, "state", json_string("unknown"));
        json_array_append_new(nodes, object);
    }
    return json_pack("{s:s, s:o}", "name", cluster->name, "nodes", nodes);
}

json_t *master_certs(const struct master *master)
{
    int64_t now_s = (int64_t)(clock_real_us() / 1000000);
    json_t *certificates = json_deep_copy(master->running->certificates);
    json_t *workers = json_array();
    size_t i;
    json_t *entry;
    json_array_foreach(certificates, i, entry)
    {
        int64_t ends_s = json_integer_value(json_object_get(entry, "ends_s"));
        json_object_set_new(entry, "days_left", json_integer((ends_s - now_s) / 86400));
    }
    for (unsigned slot = 0; slot < master->children->count; slot++)
        json_array_append_new(workers, number(master->children->table[slot].generation));
    return json_pack("{s:b, s:o, s:o, s:o}", "ok", 1, "generation", number(master->running->number),
        "workers", workers, "certificates", certificates);
}

json_t *master_status(const struct master *master)
{
    struct counters sum;
    master_memory_own_counters(&master->memory)->log_dropped =
        log_dropped() + master_log_dropped(master->log);
    counters_sum(master->memory.counters_base, master->memory.pages, &sum);
    json_t *status = json_object();
    json_object_set_new(status, "ok", json_true());
    json_object_set_new(status, "version", json_string(SHOAL_VERSION));
    json_object_set_new(status, "node", json_string(master->running->config->node.name));
    json_object_set_new(status, "config", json_string(master->running->config->file));
    json_object_set_new(status, "reload", master_reload_status(master->reload));
    json_t *cluster = cluster_object(master);
    if (cluster != NULL)
        json_object_set_new(status, "cluster", cluster);
    json_object_set_new(status, "processes", processes_array(master));
    json_object_set_new(status, "listeners", listeners_array(master));
    json_object_set_new(status, "counters", counters_object(&sum));
    json_object_set_new(status, "slots", slots_array(master));
    json_object_set_new(status, "lanes", lanes_array(master));
    return status;
}

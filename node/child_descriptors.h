/*
 * Everything that crosses from the master into a child, by name. A child is exec'd with exactly the four
 * descriptors below; all others arrive later as SCM_RIGHTS of the control message that the comment names
 * (control_message.h), in the order given here. All of them are close-on-exec in both processes.
 */
#ifndef NODE_CHILD_DESCRIPTORS_H
#define NODE_CHILD_DESCRIPTORS_H

/* Fixed numbers at exec. */
enum child_descriptor {
    CHILD_FD_NULL = 0,    /* /dev/null */
    CHILD_FD_OUTPUT = 1,  /* the log pipe, too: whatever a library prints becomes a log line */
    CHILD_FD_LOG = 2,     /* non-blocking pipe to the master; assertions and sanitizers write here as well */
    CHILD_FD_CONTROL = 3, /* seqpacket to the master; end of file: the master is gone */
    CHILD_FD_FIRST_OTHER = 4,
};

/* CONTROL_START */
enum start_descriptor {
    START_FD_RUN_DIR, /* folder, becomes the working directory; the only one that a worker sees */
    START_FD_LOCK, /* file in run_dir, locked by the master: kept open, so that a next master waits for us */
    START_FD_CONFIG,  /* sealed memfd: config_to_json(), without passwords */
    START_FD_SECRETS, /* sealed memfd: tls_material_serialize(), for the link tls_material_serialize_link() */
    START_FD_ACCESS,  /* sealed memfd: access_files_load() */
    START_FD_REVOKED, /* sealed memfd: tls_material_serialize_revoked() */
    START_FD_COUNTERS, /* memfd of counters.h */
    START_FD_WAKE,     /* eventfd by which the peers wake this child (bus_carrier_ring.h); outlives it */
    START_FD_COUNT,
};

/* CONTROL_GENERATION: as those of CONTROL_START */
enum generation_descriptor {
    GENERATION_FD_CONFIG,
    GENERATION_FD_SECRETS,
    GENERATION_FD_ACCESS,
    GENERATION_FD_REVOKED,
    GENERATION_FD_COUNT,
};

/* CONTROL_LANE, one message per peer */
enum lane_descriptor {
    LANE_FD_OUT_RING,   /* written by this child */
    LANE_FD_OUT_CURSOR, /* read-only */
    LANE_FD_IN_RING,    /* read-only */
    LANE_FD_IN_CURSOR,  /* written by this child */
    LANE_FD_WAKE,       /* eventfd by which this child wakes the peer */
    LANE_FD_COUNT,
};

/* CONTROL_ROUTE_TABLE, one message per slot: the memfd of route_table.h, read-only but for the own slot's. */

/* CONTROL_NODE_LANE: from a worker to another node; written by the worker, read by the link */
enum node_lane_descriptor {
    NODE_LANE_FD_RING,   /* read-only for the link */
    NODE_LANE_FD_CURSOR, /* read-only for the worker */
    NODE_LANE_FD_COUNT,
};

/* CONTROL_NODE_WINDOW: what is under way between this node and another, for the link alone */
enum node_window_descriptor {
    NODE_WINDOW_FD_RING, /* ours to it */
    NODE_WINDOW_FD_CURSOR,
    NODE_WINDOW_FD_LANDING, /* its to us */
    NODE_WINDOW_FD_LANDING_CURSOR,
    NODE_WINDOW_FD_COUNT,
};

/* CONTROL_OWN_SLOT, CONTROL_ADOPT, CONTROL_SOCKETS: the slot's tables, then one listening socket per
 * listener.
 */
enum slot_descriptor {
    SLOT_FD_WILL_TABLE,
    SLOT_FD_DELAYED_TABLE,
    SLOT_FD_FIRST_SOCKET,
};

#endif

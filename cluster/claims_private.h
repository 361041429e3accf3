/* The inside of struct claims, for the files claims*.c alone. */
#ifndef CLUSTER_CLAIMS_PRIVATE_H
#define CLUSTER_CLAIMS_PRIVATE_H

#include "cluster/claims.h"
#include "cluster/outbox.h"
#include "cluster/record.h"
#include "shared/hash_table.h"
#include "shared/pointer_bag.h"

/*
 * BUS_RECORD_CLAIM: u8 kind, u64 incarnation that it is meant for (a record in the window may be read by the
 * next one, whom it does not concern), then by kind, `id` being u16 size and bytes:
 *
 * - CLAIM, ASK: u64 number, u64 begun_us, u64 since_us, id
 * - ANSWER: u64 number (0: nobody asked), u8 outcome, u64 stamp, u8 previous, u8 prior, u64 its stamp, id
 * - RELEASE: u64 stamp, u8 unwanted, id
 * - SUPERSEDED: u64 stamp, u8 owner, u64 its incarnation, id
 * - REPORT_REQUEST, REPORT_END: u8 home, u64 number
 * - REPORT: (u64 stamp, u64 since_us or 0, id) …
 */
enum claims_kind {
    CLAIMS_CLAIM = 1,
    CLAIMS_ASK,
    CLAIMS_ANSWER,
    CLAIMS_RELEASE,
    CLAIMS_SUPERSEDED,
    CLAIMS_REPORT_REQUEST,
    CLAIMS_REPORT,
    CLAIMS_REPORT_END,
};

#define CLAIMS_HEAD_SIZE 9u
#define CLAIMS_BUCKETS   1024u
#define CLAIMS_NOBODY    BUS_PEERS_MAX
/* A session that was superseded and that nobody has asked for meanwhile is reported anew: whatever was lost
   on the way (its new owner died, or gave up before it could ask), the registrar finds out. */
#define CLAIMS_SUPERSEDED_US 3000000u
/* How long a cancelled claim is: as long as the next owner may take to ask, who waits for claim_timeout at
 * most. */
#define CLAIMS_GHOST_US 12000000u

/* Who had a client before, should the owner die, or not want it, before it has asked for the session. */
struct claims_prior {
    struct claims_prior *next; /* the one before */
    uint64_t stamp;
    uint32_t generation;
    uint8_t peer;
};
#define CLAIMS_PRIORS_MAX 8u

/* A registrar's record of one client. A generation tells one life of a slot from the next, so that no record
   need be touched when its owner dies. */
struct claims_record {
    uint64_t hash;
    uint64_t stamp;
    uint64_t since_us;           /* when the owner's client asked for it; 0: not known */
    struct claims_prior *priors; /* owned, the newest one first */
    uint32_t position;           /* in claims->records */
    uint32_t owner_generation;
    uint8_t owner;
    uint16_t id_size;
    uint8_t id[];
};

enum claims_home_state {
    HOME_UNKNOWN,    /* not ours, or not asked about yet */
    HOME_COLLECTING, /* owners are reporting; claims wait */
    HOME_READY,
};

struct claims_home_slot {
    enum claims_home_state state;
    uint64_t waiting; /* peers that have not reported */
    uint64_t number;  /* of our request */
    uint64_t deadline_us;
    struct list pending; /* struct claims_pending */
};

/* A claim that waits for the reports. */
struct claims_pending {
    struct list link;
    unsigned peer; /* who claims; self too */
    uint8_t kind;
    uint64_t number;
    uint64_t begun_us;
    uint64_t since_us;
    uint16_t id_size;
    uint8_t id[];
};

/* A claim that was cancelled: the registrar may have granted it all the same, and send the next owner to us.
 */
struct claims_ghost {
    struct list link;
    struct list bucket;
    uint64_t number; /* of the claim that was cancelled; 0: its session was handed on */
    uint64_t until_us;
    uint64_t late_us; /* not answered by then: the registrar leaves it unanswered */
    uint64_t stamp;
    unsigned previous;
    bool answered; /* stamp and previous are known */
    uint16_t id_size;
    uint8_t id[];
};

/* A client of ours that another worker has claimed: ours again should that one die before it asks. */
struct claims_superseded {
    struct list link;
    struct list bucket;
    uint64_t until_us;
    uint64_t stamp; /* ours */
    unsigned owner;
    bool owner_died;
    uint16_t id_size;
    uint8_t id[];
};

struct claims {
    struct bus *bus;
    const struct keyed_hash *hash;
    unsigned workers;
    uint64_t timeout_us;
    struct claims_settings engine; /* its callbacks */
    struct outbox outbox;
    uint32_t generations[BUS_PEERS_MAX];
    /* Claimant. */
    uint64_t number;
    bool ask_again;          /* the registrar of some has died */
    struct list outstanding; /* struct claim, in the order of deadlines */
    struct list buckets[CLAIMS_BUCKETS];
    struct list client_buckets[CLAIMS_BUCKETS];
    struct list ghosts;                             /* in the order of until_us */
    struct list ghost_buckets[CLAIMS_BUCKETS];      /* by client */
    struct list superseded;                         /* in the order of until_us */
    struct list superseded_buckets[CLAIMS_BUCKETS]; /* by client */
    /* Registrar. */
    struct hash_table table;
    struct pointer_bag records;
    size_t records_size;
    struct claims_home_slot homes[BUS_PEERS_MAX];
    uint64_t sweep_due_us; /* UINT64_MAX: nothing died */
    uint32_t sweep_at;     /* records not yet looked at */
    uint8_t page[16384];
    uint8_t scratch[BUS_RECORD_MAX];
};

struct claims_grant {
    enum claim_outcome outcome;
    uint64_t stamp;
    unsigned previous;
    unsigned prior;
    uint64_t previous_stamp; /* of the record that this one replaced */
};

/* claims.c */
/* The incarnation of a live worker, our own included. */
uint64_t claims_incarnation(const struct claims *claims, unsigned peer);
uint64_t claims_hash(const struct claims *claims, struct bytes client_id);
unsigned claims_home_of(const struct claims *claims, uint64_t hash);
unsigned claims_registrar_of(const struct claims *claims, unsigned home);
bool claims_is_live(const struct claims *claims, unsigned peer);
uint8_t *claims_begin(struct claims *claims, unsigned peer, uint8_t *to, enum claims_kind kind);
uint8_t *claims_write_id(uint8_t *to, struct bytes client_id);
void claims_send(struct claims *claims, unsigned peer, const uint8_t *end);

/* claims_claimant.c */
/* The registrar (perhaps we ourselves) has answered. */
void claims_answered(struct claims *claims, unsigned registrar, uint64_t number,
    const struct claims_grant *grant, struct bytes client_id);
/* Nobody waits longer than this for who does not answer. */
void claims_time_out(struct claims *claims, uint64_t now_us);
/* Who has not been answered by it asks the next one, at the end of the turn. */
void claims_registrar_died(struct claims *claims, unsigned peer);
void claims_claim_again(struct claims *claims);

/* claims_ghosts.c */
void claims_ghost_add(struct claims *claims, const struct claim *claim);
/* True if the answer was for a claim that nobody waits for any more. */
bool claims_ghost_answered(
    struct claims *claims, uint64_t number, struct bytes client_id, const struct claims_grant *grant);
void claims_ghosts_forget(struct claims *claims, uint64_t now_us);

/* claims_superseded.c */
void claims_superseded(
    struct claims *claims, struct bytes client_id, uint64_t stamp, unsigned owner, uint64_t incarnation);
/* Those whose new owner died before it asked for the session, and those whom nobody has asked for in all this
   time, are reported anew. */
void claims_superseded_forget(struct claims *claims, uint64_t now_us);
void claims_superseder_died(struct claims *claims, unsigned peer);

/* claims_registrar.c */
void claims_handle(struct claims *claims, unsigned peer, uint8_t kind, uint64_t number, uint64_t begun_us,
    uint64_t since_us, struct bytes client_id);
void claims_handle_release(
    struct claims *claims, unsigned peer, struct bytes client_id, uint64_t stamp, bool unwanted);
void claims_handle_report(
    struct claims *claims, unsigned peer, struct bytes client_id, uint64_t stamp, uint64_t since_us);
void claims_registrar_tick(struct claims *claims, uint64_t now_us);
/* Somebody died: its records go, but not before others have reported what they still have. */
void claims_registrar_sweep_later(struct claims *claims);
void claims_registrar_forget_home(struct claims *claims, unsigned home);
void claims_registrar_done(struct claims *claims);

/* claims_collect.c */
/* True if the owners of this home slot's clients are known; begins to ask for them otherwise. */
bool claims_collected(struct claims *claims, unsigned home);
void claims_wait_for_reports(struct claims *claims, unsigned peer, uint8_t kind, uint64_t number,
    uint64_t begun_us, uint64_t since_us, struct bytes client_id);
void claims_collect_begin(struct claims *claims, unsigned home);
void claims_collect_peer_died(struct claims *claims, unsigned peer);
void claims_collect_peer_started(struct claims *claims);
void claims_collect_again(struct claims *claims, unsigned peer);
void claims_collect_tick(struct claims *claims, uint64_t now_us);
void claims_collect_done(struct claims *claims);
/* Reports one client to its registrar. `since_us`: 0 if it is not known any more. */
void claims_report(struct claims *claims, struct bytes client_id, uint64_t stamp, uint64_t since_us);
/* Reports all own clients whose registrar is `peer`. */
void claims_report_all(struct claims *claims, unsigned peer);
enum status claims_on_report_request(struct claims *claims, unsigned peer, struct record_reader *reader);
enum status claims_on_report_end(struct claims *claims, unsigned peer, struct record_reader *reader);

#endif

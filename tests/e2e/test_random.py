"""
Random scenarios of clients on several workers against the model of what MQTT promises (shoal_test/model.py): connect, come
back, take over, drop, subscribe, publish, retain, groups, wills with and without delay, expiry, and in one variant kill -9 of
workers. A run prints its seed: SHOAL_TEST_SEED replays it, SHOAL_TEST_SCENARIO only one of its scenarios.
"""
import collections
import os
import random
import socket
import time

from shoal_test import processes
from shoal_test.case import Case, cost, only_long, only_shoal
from shoal_test.environment import DEADLINE
from shoal_test.model import LATE, Publication, Session, Subscription, World, matches

CLIENTS = 4
LEVELS = ["a", "b", "c"]


class Scenario:
    def __init__(self, case, broker, dice, number, waits, kills=False):
        self.case, self.broker, self.random, self.prefix, self.kills = case, broker, dice, "s%d" % number, kills
        self.world = World()
        self.clients, self.wills, self.connections = {}, {}, 0
        self.names = ["s%dc%d" % (number, each) for each in range(CLIENTS)]
        self.serial = 0
        self.waits = waits           # how often expiry may still be waited for: [number]
        self.log = []

    def note(self, text, *values):
        self.log.append(text % values)

    # Chances --------------------------------------------------------------------------------------------------
    def chance(self, probability):
        return self.random.random() < probability

    def below(self, kind, levels):
        return "/".join([self.prefix, kind] + levels)

    def topic(self, kind="n"):
        """Mostly one that somebody has subscribed to."""
        filters = sorted({each for session in self.world.sessions.values() for each in session.filters}) if kind == "n" else \
            sorted({each for _, each in self.world.groups})
        if not filters or self.chance(0.3):
            return self.below(kind, [self.random.choice(LEVELS) for _ in range(self.random.randint(1, 3))])
        made = []
        for part in self.random.choice(filters).split("/"):
            if part == "#":
                made += [self.random.choice(LEVELS) for _ in range(self.random.randrange(3))]
            else:
                made.append(self.random.choice(LEVELS) if part == "+" else part)
        return "/".join(made)

    def filter(self, kind="n"):
        parts = [self.random.choice(LEVELS + ["+"]) for _ in range(self.random.randint(1, 3))]
        if self.chance(0.3):
            parts[-1] = "#"
        return self.below(kind, parts)

    def payload(self):
        self.serial += 1
        return b"%d" % self.serial

    def online(self):
        return [name for name in self.names if name in self.clients]

    # Connections ----------------------------------------------------------------------------------------------
    def connect(self, name=None, clean=None, will=True):
        name = name or self.random.choice(self.names)
        clean = self.chance(0.2) if clean is None else clean
        version, slot = self.random.choice((4, 5)), self.random.randrange(self.broker.workers)
        lasting = not clean if version == 4 else self.chance(0.8)
        old, known = self.clients.get(name), self.world.sessions.get(name)
        self.note("connect %s clean=%s lasting=%s v%d slot %d", name, clean, lasting, version, slot)
        client = self.broker.client(name, version, slot=slot, tls=self.chance(0.2), connect=False)
        if known and not clean:
            client.held_ids = old.held_ids if old else known.held_ids
        fields = {"props": {"session_expiry_interval": 3600} if lasting else {}} if version == 5 else {}
        wanted = self.will(version, lasting) if will and self.chance(0.5) else None
        if wanted:
            fields["will"] = wanted
        began = time.monotonic()
        client.connect(clean=clean, **fields)
        if old:
            old.expect_closed()
            # A session of expiry 0 that is taken over may be resumed: the specification can be read both ways.
            known.lasting |= client.connack.session_present and old.version == 5
            self.world.seen["take-overs"] += 1
            self.ended(name, polite=False, taken_over=True, resumed=client.connack.session_present)
        known = self.world.sessions.get(name)
        self.case.assertEqual(client.connack.session_present, bool(known) and not clean, "session of %s" % name)
        if clean and known:
            self.world.session_ended(name)
        if clean or not known:
            self.world.sessions[name] = Session(lasting)
        else:
            self.world.seen["resumed"] += 1
            self.world.connected(name, began)
        session = self.world.sessions[name]
        session.lasting, session.owner = lasting, slot
        self.clients[name] = client
        self.connections += 1
        client.number = self.connections
        self.wills.pop(name, None)
        if wanted:
            self.wills[name] = wanted
            self.note("  its will: %r", wanted)
        self.check(self.online())

    def will(self, version, lasting):
        made = {"topic": self.topic(), "payload": self.payload(), "qos": self.random.randrange(3)}
        if version == 5 and lasting and self.chance(0.05):
            made["props"] = {"will_delay_interval": 1}
        return made

    def ended(self, name, polite, taken_over=False, resumed=False, killed=False):
        """The connection of this client is over, and the broker knows."""
        self.absorb(name)
        client, will = self.clients.pop(name), self.wills.pop(name, None)
        self.world.connection_ended(name, client.held_ids)
        if not will or polite:
            return
        if "props" in will and resumed:
            return  # it is back in time
        publication = Publication(will["topic"], will["payload"], will["qos"], None)
        publication.floating = killed or not self.watched(will["topic"])
        self.world.publish(publication, name, moving=name if taken_over else None)

    def watched(self, topic):
        """Will a client see at once that this was published?"""
        return any(matches(each, topic) for name in self.online() for each in self.world.sessions[name].filters)

    def leave(self):
        name = self.random.choice(self.online())
        client, how = self.clients[name], self.random.choice(("disconnect", "end of stream", "reset"))
        delayed = "props" in self.wills.get(name, {}) and how != "disconnect"
        self.note("leave %s: %s", name, how)
        if how == "disconnect":
            client.disconnect()
        elif how == "end of stream":
            socket.socket.shutdown(client.sock, socket.SHUT_WR)
            client.expect_closed()
        else:
            before = self.broker.counter("connections")
            client.drop()
            processes.wait_for(lambda: self.broker.counter("connections") < before, "%s gone" % name)
        if delayed and self.chance(0.6):
            self.note("back before its will is due")
            will = self.wills.pop(name)
            self.ended(name, polite=True)
            self.connect(name, clean=False, will=False)
            if self.chance(0.3):
                self.watch_for_nothing(will, 1.5)
            return
        self.ended(name, polite=how == "disconnect")
        self.check(self.online())
        if delayed:
            time.sleep(1.5)  # nobody may have been there to see it

    def watch_for_nothing(self, will, seconds):
        time.sleep(seconds)
        self.check(self.online())  # a will that came would be one that nobody published
        self.note("nobody got %r", will["payload"])

    def kill(self):
        slot = self.random.randrange(self.broker.workers)
        self.note("kill %d", slot)
        for name in self.online():
            self.clients[name].ping()
        self.check(self.online())
        pid = self.broker.worker(slot)
        os.kill(pid, 9)
        self.broker.wait_worker(slot, pid)
        for name in self.online():
            self.world.relax(name)
            if self.world.sessions[name].owner == slot:
                self.clients[name].expect_closed()
                self.world.sessions[name].lasting = False
                self.ended(name, polite=False, killed=True)
        for name in [name for name, session in self.world.sessions.items() if session.owner == slot]:
            self.world.relax(name)
            self.world.session_ended(name)
        processes.wait_for(lambda: self.broker.counter("connections") == len(self.clients), "counted")

    # Subscriptions --------------------------------------------------------------------------------------------
    def subscribe(self):
        name = self.random.choice(self.online())
        client = self.clients[name]
        options = {"qos": self.random.randrange(3)}
        handling = 0
        if client.version == 5:
            options.update(no_local=self.chance(0.2), as_published=self.chance(0.3),
                           identifier=self.random.choice((None, None, 1, self.serial + 1, 268435455)))
            handling = 2 if options["no_local"] else self.random.choice((0, 0, 1, 2))
        subscription, topic_filter = Subscription(**options), self.filter()
        self.note("subscribe %s %s %r handling %d", name, topic_filter, subscription, handling)
        self.world.subscribe(name, topic_filter, subscription, handling)
        bits = subscription.qos | 4 * subscription.no_local | 8 * subscription.as_published | 16 * handling
        props = {"subscription_identifier": subscription.identifier} if subscription.identifier else None
        self.case.assertEqual(client.subscribe([(topic_filter, bits)], props=props).reasons, [subscription.qos])

    def join(self):
        name, group = self.random.choice(self.online()), self.random.choice(("one", "two"))
        topic_filter = "$share/%s/%s" % (group, self.filter("g"))
        self.note("join %s %s", name, topic_filter)
        self.world.subscribe(name, topic_filter, None)
        self.clients[name].subscribe(topic_filter, 2)

    def unsubscribe(self):
        name = self.random.choice(self.online())
        filters = sorted(self.world.sessions[name].filters) + self.world.shared_filters(name)
        if filters:
            topic_filter = self.random.choice(filters)
            self.note("unsubscribe %s %s", name, topic_filter)
            self.world.unsubscribe(name, topic_filter)
            self.case.assertIn(self.clients[name].unsubscribe(topic_filter).reasons, ([0], None, []))

    # Publications ---------------------------------------------------------------------------------------------
    def publish(self):
        name, qos = self.random.choice(self.online()), self.random.randrange(3)
        client, shared = self.clients[name], self.chance(0.3)
        retain, expiry = not shared and self.chance(0.2), None
        if client.version == 5 and not shared and self.chance(0.3):
            expiry = 100 if retain else self.random.choice((1, 1, 100))
        topic = self.topic("g" if shared else "n")
        publication = Publication(topic, self.payload(), max(qos, shared), client.number, retain, expiry)
        self.note("publish %s qos %d retain=%s expiry=%s %r", name, publication.qos, retain, expiry, publication)
        self.world.publish(publication, name)
        client.publish(publication.topic, publication.payload, publication.qos, retain=retain,
                       props={"message_expiry_interval": expiry} if expiry else None)
        if not qos:  # on its way: what follows must not overtake it
            client.publish(self.prefix + "/fence", b"", 1)
        self.check(self.online())

    def absence(self):
        """A client misses some publications, and comes back."""
        names = [name for name in self.online() if self.world.sessions[name].lasting and self.world.sessions[name].filters]
        if not names:
            return
        name = self.random.choice(names)
        self.note("absence of %s", name)
        self.clients[name].disconnect()
        self.ended(name, polite=True)
        if not self.clients:
            self.connect(self.random.choice([each for each in self.names if each != name]))
        for _ in range(self.random.randint(1, 4)):
            self.publish()
        missing = self.world.sessions[name].missing()
        if self.waits[0] and any(due.publication.expiry == 1 and due.away for due in missing):
            self.waits[0] -= 1
            self.note("wait")
            time.sleep(LATE + 0.1)
        self.connect(name, clean=False)

    # Checks ---------------------------------------------------------------------------------------------------
    def absorb(self, name):
        """Books what a client has received."""
        client = self.clients[name]
        for got in client.messages:
            self.world.came(name, client, got)
        client.messages.clear()
        client.received.clear()
        for unread in client.unread.values():
            unread.clear()

    def check(self, names, shared=False):
        """Everything that is due to these clients arrives."""
        deadline = time.monotonic() + DEADLINE
        while True:
            for name in names:
                self.absorb(name)
            missing = {name: self.world.sessions[name].missing() for name in names if self.world.sessions[name].missing()}
            lost = self.world.shared_missing() if shared else []
            if not missing and not lost:
                return
            self.case.assertLess(time.monotonic(), deadline, "did not come: %r; of groups: %r" % (missing, lost))
            for name in missing or names:
                self.clients[name].pump(0.01)

    def run(self, steps):
        moves = [(self.connect, 3), (self.leave, 2.5), (self.subscribe, 4), (self.join, 1.5), (self.unsubscribe, 1),
                 (self.publish, 9), (self.absence, 1.5)]
        if self.kills:
            moves.append((self.kill, 0.3))
        operations, weights = zip(*moves)
        for _ in range(steps):
            operation = self.connect if not self.clients else self.random.choices(operations, weights)[0]
            operation()
        self.finish()

    def finish(self):
        """All come back for what is theirs."""
        for name in sorted(self.world.sessions):
            if name not in self.clients:
                self.connect(name, clean=False, will=False)
        self.check(self.online(), shared=True)
        for name in self.online():
            self.clients[name].ping()
            self.absorb(name)
        for name in self.online():
            self.clients[name].disconnect()
            if self.world.sessions[name].lasting:
                self.broker.client(name, 4).disconnect()


# A worker that a busy machine keeps from running must not pass for one that is stopped: its session would begin anew.
PATIENT = {"session": {"claim_timeout": "20s"}}


@only_shoal
class Randomized(Case):
    def run_scenarios(self, workers, count, steps, kills=False):
        seed = os.environ.get("SHOAL_TEST_SEED") or str(random.randrange(1, 1 << 30))
        only = os.environ.get("SHOAL_TEST_SCENARIO")
        print("SHOAL_TEST_SEED=%s" % seed)
        broker, seen, waits = self.broker(workers, config=PATIENT), collections.Counter(), [4 if count < 1000 else 40]
        for number in [int(only)] if only else range(count):
            scenario = Scenario(self, broker, random.Random("%s/%d" % (seed, number)), number, waits, kills)
            try:
                scenario.run(steps)
            except Exception:
                print("SHOAL_TEST_SCENARIO=%d\n%s" % (number, "\n".join(scenario.log)))
                raise
            seen += scenario.world.seen
            broker.made.clear()
        print("%d scenarios: %s" % (count, ", ".join("%d %s" % (each, what) for what, each in sorted(seen.items()))))
        wanted = ["live", "kept", "to a group", "while away", "wills", "take-overs", "resumed"]
        for what in wanted + (["expired"] if count >= 200 else []):
            self.assertTrue(only or seen[what], "nothing %s in %r" % (what, seen))

    @cost(15)
    def test_model_holds_on_one_worker(self):
        self.run_scenarios(1, 200, 25)

    @cost(25)
    def test_model_holds_on_four_workers(self):
        self.run_scenarios(4, 200, 25)

    @cost(10)
    def test_model_holds_on_four_workers_that_are_killed(self):
        self.run_scenarios(4, 60, 25, True)

    @cost(400)
    @only_long
    def test_model_holds_for_long_on_four_workers(self):
        self.run_scenarios(4, 3000, 30)

    @cost(200)
    @only_long
    def test_model_holds_for_long_on_four_workers_that_are_killed(self):
        self.run_scenarios(4, 1000, 30, True)

"""
Random operations of a dozen clients on several workers against a model of what MQTT promises: connect, take over,
drop, subscribe, publish, retain, wills, and in one variant kill -9 of workers. One seed is one run; SHOAL_TEST_SEED
replays it.
"""
import collections
import os
import random

from shoal_test import processes
from shoal_test.case import Case, cost, only_long, only_shoal
from shoal_test.environment import DEADLINE

NAMES = ["c%d" % number for number in range(12)]
LEVELS = ["a", "b", "c"]
LASTING = {"session_expiry_interval": 3600}


def matches(topic_filter, topic):
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for index, part in enumerate(wanted):
        if part == "#":
            return True
        if index >= len(levels) or part not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


class Session:
    """What the model knows of one session and what must have come to its client."""

    def __init__(self, lasting):
        self.lasting, self.filters, self.owner = lasting, {}, None
        self.least = {}              # payload → QoS, still due
        self.allowed = set()         # payloads that may come at all
        self.once = set()            # payloads that may come once only
        self.got = collections.Counter()
        self.held = set()            # QoS 2 identifiers that the client knows


class Model:
    def __init__(self, case, broker, seed, kills):
        self.case, self.broker, self.random, self.kills = case, broker, random.Random(seed), kills
        self.clients, self.sessions, self.retained, self.wills = {}, {}, {}, {}
        self.serial = 0
        self.floating = set()        # wills of killed workers: published soon, so a later subscription may get them too
        self.log = []

    # Helpers ----------------------------------------------------------------------------------------------------
    def topic(self):
        return "/".join(self.random.choice(LEVELS) for _ in range(self.random.randint(1, 3)))

    def filter(self):
        parts = [self.random.choice(LEVELS + ["+"]) for _ in range(self.random.randint(1, 3))]
        if self.random.random() < 0.3:
            parts[-1] = "#"
        return "/".join(parts)

    def payload(self):
        self.serial += 1
        return b"%d" % self.serial

    def online(self):
        return [name for name in NAMES if name in self.clients]

    def published(self, topic, payload, qos):
        """A publication was accepted: who must get it now?"""
        for name, session in self.sessions.items():
            granted = [wanted for topic_filter, wanted in session.filters.items() if matches(topic_filter, topic)]
            if not granted:
                continue
            session.allowed.add(payload)
            if min(min(granted), qos) == 2:
                session.once.add(payload)
            effective = min(max(granted), qos)
            if effective or name in self.clients:
                session.least[payload] = effective

    def absorb(self, name):
        """Books what a client has received."""
        client, session = self.clients[name], self.sessions[name]
        for got in client.messages:
            self.case.assertIn(got.payload, session.allowed | self.floating, "%s got %r, which it must not" % (name, got))
            session.got[got.payload] += 1
            session.least.pop(got.payload, None)
            if got.payload in session.once - self.floating:
                self.case.assertEqual(session.got[got.payload], 1, "%s got %r twice" % (name, got))
        client.messages.clear()
        client.received.clear()
        for unread in client.unread.values():
            unread.clear()

    def connection_ended(self, name, politely, killed=False):
        client, session = self.clients[name], self.sessions[name]
        self.absorb(name)
        session.held = set(client.held_ids)
        session.least = {payload: qos for payload, qos in session.least.items() if qos}
        del self.clients[name]
        will = self.wills.pop(name, None)
        if killed and will:
            self.floating.add(will[1])
        if not session.lasting:
            del self.sessions[name]
        if will and not politely:
            self.published(*will)

    # Operations -------------------------------------------------------------------------------------------------
    def connect(self):
        name = self.random.choice(NAMES)
        old = self.clients.get(name)
        clean, lasting = self.random.random() < 0.3, self.random.random() < 0.7
        version = self.random.choice((4, 5))
        if version == 4:
            lasting = not clean
        slot = self.random.randrange(self.broker.workers)
        will = (self.topic(), self.payload(), self.random.randrange(3)) if self.random.random() < 0.3 else None
        self.log.append("connect %s clean=%s lasting=%s v%d slot %d will=%s" % (name, clean, lasting, version, slot, will))
        client = self.broker.client(name, version, slot=slot, tls=self.random.random() < 0.3, connect=False)
        known = self.sessions.get(name)
        if known and old:
            client.held_ids = old.held_ids if not clean else set()
        elif known and not clean:
            client.held_ids = known.held
        fields = {"props": LASTING if lasting else {}} if version == 5 else {}
        if will:
            fields["will"] = {"topic": will[0], "payload": will[1], "qos": will[2]}
        client.connect(clean=clean, **fields)
        if old:
            old.expect_closed()
            # A session of expiry 0 that is taken over may be resumed: the specification can be read both ways.
            known.lasting |= client.connack.session_present and old.version == 5
            self.connection_ended(name, False)
        known = self.sessions.get(name)
        self.case.assertEqual(client.connack.session_present, bool(known) and not clean, "session of %s" % name)
        if clean or not known:
            self.sessions[name] = Session(lasting)
        self.sessions[name].lasting, self.sessions[name].owner = lasting, slot
        self.clients[name] = client
        if will:
            self.wills[name] = will

    def leave(self):
        name = self.random.choice(self.online())
        politely = self.random.random() < 0.5
        self.log.append("leave %s politely=%s" % (name, politely))
        self.clients[name].ping()
        if politely:
            self.clients[name].disconnect()
        else:
            self.clients[name].drop()
        # The broker must have noticed before the model goes on.
        processes.wait_for(lambda: self.broker.counter("connections") == len(self.clients) - 1, "%s gone" % name)
        self.connection_ended(name, politely)

    def subscribe(self):
        name, topic_filter, qos = self.random.choice(self.online()), self.filter(), self.random.randrange(3)
        self.log.append("subscribe %s %s %d" % (name, topic_filter, qos))
        session = self.sessions[name]
        for topic, (payload, published) in self.retained.items():
            if matches(topic_filter, topic):
                session.allowed.add(payload)
                session.once.discard(payload)
                session.least[payload] = min(qos, published)
        session.filters[topic_filter] = qos
        self.clients[name].subscribe(topic_filter, qos)

    def unsubscribe(self):
        name = self.random.choice(self.online())
        session = self.sessions[name]
        if not session.filters:
            return
        topic_filter = self.random.choice(sorted(session.filters))
        self.log.append("unsubscribe %s %s" % (name, topic_filter))
        del session.filters[topic_filter]
        self.clients[name].unsubscribe(topic_filter)

    def publish(self):
        name, topic, qos = self.random.choice(self.online()), self.topic(), self.random.randrange(3)
        retain, payload = self.random.random() < 0.15, self.payload()
        self.log.append("publish %s %s qos %d retain=%s %r" % (name, topic, qos, retain, payload))
        self.published(topic, payload, qos)
        if retain:
            self.retained[topic] = payload, qos
        client = self.clients[name]
        client.publish(topic, payload, qos, retain=retain)
        if not qos:
            client.ping()  # it is on its way; a later retained one must not overtake it
            self.check_point(self.online())

    def kill(self):
        slot = self.random.randrange(self.broker.workers)
        self.log.append("kill %d" % slot)
        pid = self.broker.worker(slot)
        for name in self.online():
            self.clients[name].ping()
        self.check_point(self.online())
        os.kill(pid, 9)
        self.broker.wait_worker(slot, pid)
        for name in self.online():
            if self.sessions[name].owner == slot:
                self.clients[name].expect_closed()
                self.sessions[name].lasting = False
                self.connection_ended(name, False, True)
        for name in [name for name, session in self.sessions.items() if session.owner == slot]:
            del self.sessions[name]
        processes.wait_for(lambda: self.broker.counter("connections") == len(self.clients), "counted")

    # Checks -----------------------------------------------------------------------------------------------------
    def check_point(self, names):
        """Everything that is due to these clients arrives."""
        for name in names:
            deadline_turns = int(DEADLINE / 0.02)
            while True:
                self.absorb(name)
                if not self.sessions[name].least or deadline_turns == 0:
                    break
                deadline_turns -= 1
                self.clients[name].pump(0.02)
            self.case.assertEqual(self.sessions[name].least, {}, "%s did not get what is due" % name)

    def run(self, steps):
        moves = [(self.connect, 3), (self.leave, 2), (self.subscribe, 4), (self.unsubscribe, 1), (self.publish, 12)]
        if self.kills:
            moves.append((self.kill, 0.3))
        operations, weights = zip(*moves)
        try:
            for step in range(steps):
                operation = self.connect if not self.clients else self.random.choices(operations, weights)[0]
                operation()
                if step % 25 == 24:
                    self.check_point(self.online())
            self.check_point(self.online())
        except Exception:
            print("last operations:\n" + "\n".join(self.log[-60:]))
            raise


@only_shoal
class Randomized(Case):
    def run_model(self, workers, steps, kills=False):
        seed = int(os.environ.get("SHOAL_TEST_SEED", "0")) or random.randrange(1, 1 << 30)
        print("SHOAL_TEST_SEED=%d" % seed)
        Model(self, self.broker(workers), seed, kills).run(steps)

    @cost(10)
    def test_model_holds_on_one_worker(self):
        self.run_model(1, 300)

    @cost(10)
    def test_model_holds_on_four_workers(self):
        self.run_model(4, 300)

    @cost(15)
    def test_model_holds_on_four_workers_that_are_killed(self):
        self.run_model(4, 300, True)

    @cost(240)
    @only_long
    def test_model_holds_for_long_on_four_workers(self):
        self.run_model(4, 8000)

    @cost(240)
    @only_long
    def test_model_holds_for_long_on_four_workers_that_are_killed(self):
        self.run_model(4, 8000, True)

"""
kill -9 of workers at random moments under load. Clients of the workers that survive get every QoS 1 and 2
publication that was acknowledged, also those that the killed worker had acknowledged; QoS 2 exactly once; the wills
of the killed worker's clients are published; nothing else changes for them.
"""
import collections
import os
import random
import re
import time

from shoal_test import environment
from shoal_test.case import Case, cost, only_long, only_shoal, workers
from shoal_test.environment import DEADLINE, PATIENCE
from shoal_test.swarm import Publication, Swarm


RATE = 15 if environment.SANITIZED else 40  # publications of one publisher in a second
# A queue that drops by its policy would hide what is looked for.
DEEP_QUEUES = {"mqtt": {"max_queued_messages": 1000000, "max_queued_bytes": "1GB"}}


class Watch:
    """A subscriber's life: what was sent after `since` must have reached it unless it was closed."""

    def __init__(self, member, slot):
        self.member, self.slot, self.since = member, slot, time.monotonic()


class Storm:
    """
    Publishers and subscribers on every worker, reconnecting when theirs is killed. Every publication ever made is
    kept with its fate; verify() compares them with what the subscribers that were never closed have received.
    """

    def __init__(self, case, broker, publishers=4, subscribers=2, seed=None):
        self.case, self.broker = case, broker
        self.random = random.Random(seed)
        self.swarm = Swarm()
        case.addCleanup(self.swarm.close)
        self.swarm.on_lost = self.lost
        self.watches, self.finished, self.publishers = [], [], []
        self.wills_due, self.names, self.killing = {}, 0, set()
        self.reconnect = []          # (role, slot) to bring back
        for slot in range(broker.workers):
            for number in range(subscribers):
                self.subscriber(slot, tls=number % 2 == 0)
            for number in range(publishers):
                self.publisher(slot, tls=number % 2 == 1)

    def name(self, role):
        self.names += 1
        return "%s%d" % (role, self.names)

    def subscriber(self, slot, tls=False):
        client = self.broker.client(self.name("sub"), 4 + self.names % 2, slot=slot, tls=tls)
        client.subscribe([("load/#", 2), ("will/#", 1)])
        self.watches.append(Watch(self.swarm.add(client), slot))

    def publisher(self, slot, tls=False):
        name = self.name("pub")
        client = self.broker.client(name, 4 + self.names % 2, slot=slot, tls=tls,
                                    will={"topic": "will/" + name, "payload": name.encode(), "qos": 1})
        member = self.swarm.add(client)
        member.slot, member.since, member.serial = slot, time.monotonic(), 0
        self.publishers.append(member)

    def lost(self, member):
        """A connection ended: fine on a worker that is being killed, a failure anywhere else."""
        watch = next((watch for watch in self.watches if watch.member is member), None)
        slot = watch.slot if watch else member.slot
        self.case.assertIn(slot, self.killing, "%s was closed (%s) though its worker lives" % (member.name,
                                                                                             member.goodbye))
        if watch:
            self.watches.remove(watch)
            self.reconnect.append(("sub", slot))
        else:
            self.publishers.remove(member)
            self.finished.append(member)
            self.wills_due[b"will/" + member.name.encode()] = time.monotonic()
            self.reconnect.append(("pub", slot))

    def feed(self):
        """Keeps every publisher busy at a rate that this process can receive; payload: name/serial."""
        for member in self.publishers:
            due = RATE * (time.monotonic() - member.since)
            while len(member.queue) - member.next_in_queue < 4 and member.serial < due:
                member.serial += 1
                member.queue.append(Publication("load/" + member.name, b"%s/%d" % (member.name.encode(), member.serial),
                                                1 + member.serial % 2))
            member.fill()
            member.flush()

    def kill(self):
        """Kills one worker at a random moment, goes on, brings its clients back."""
        slot = self.random.randrange(self.broker.workers)
        pid = self.broker.worker_pids()[slot]
        if pid is None:
            return
        self.swarm.run_for(self.random.uniform(0, 0.2), self.feed)
        self.killing.add(slot)
        os.kill(pid, 9)
        mine = lambda: any(each.slot == slot for each in self.watches + self.publishers)
        self.swarm.run(lambda: not mine(), DEADLINE, "connections of a killed worker closed", self.feed)
        self.broker.wait_worker(slot, pid)
        self.killing.discard(slot)
        self.swarm.run_for(self.random.uniform(0, 0.1), self.feed)
        back, self.reconnect = self.reconnect, []
        for role, where in back:
            (self.subscriber if role == "sub" else self.publisher)(where, self.random.random() < 0.5)

    def settle(self):
        self.swarm.run(self.swarm.settled, 10 * PATIENCE, "all publications acknowledged")
        previous = -1
        while previous != (now := sum(len(watch.member.received) for watch in self.watches)):
            previous = now
            self.swarm.run_for(0.7 * PATIENCE)

    def verify(self):
        made = [(member, publication) for member in self.finished + self.publishers for publication in member.queue
                if publication.sent]
        acknowledged = sum(1 for _, publication in made if publication.accepted)
        for watch in self.watches:
            self.verify_watch(watch, made)
        return acknowledged

    def verify_watch(self, watch, made):
        got = collections.Counter(payload for topic, payload, _ in watch.member.received if topic.startswith(b"load/"))
        wills = {topic for topic, _, _ in watch.member.received if topic.startswith(b"will/")}
        missing = [publication.payload for _, publication in made
                   if publication.accepted and publication.sent > watch.since and not got[publication.payload]]
        double = [publication.payload for _, publication in made
                  if publication.qos == 2 and got[publication.payload] > 1]
        absent = [topic for topic, when in self.wills_due.items() if when > watch.since and topic not in wills]
        problems = ["%s: %d, first %s" % (what, len(found), found[:3])
                    for what, found in (("acknowledged but not delivered", missing), ("QoS 2 delivered twice", double),
                                        ("wills not published", absent)) if found]
        self.case.assertEqual(problems, [], "at %s on worker %d" % (watch.member.name, watch.slot))
        self.verify_order(watch)

    def verify_order(self, watch):
        last = {}
        for topic, payload, qos in watch.member.received:
            if topic.startswith(b"load/"):
                name, serial = payload.split(b"/")
                self.case.assertGreater(int(serial), last.get((name, qos), 0), "order of %s at %s" % (name,
                                                                                                   watch.member.name))
                last[name, qos] = int(serial)


@only_shoal
class Kill(Case):
    def storm(self, count, kills, seed):
        print("seed %d" % seed)
        broker = self.broker(count, config=DEEP_QUEUES)
        storm = Storm(self, broker, seed=seed)
        for _ in range(kills):
            storm.kill()
        storm.settle()
        self.assertEqual(broker.counter("dropped_queue_full"), 0)
        acknowledged = storm.verify()
        print("%d kills, %d publications acknowledged, %d wills" % (kills, acknowledged, len(storm.wills_due)))
        self.assertGreater(acknowledged, kills * 10)

    @cost(15, heavy=True)
    @workers(2, 4)
    def test_worker_crash_loses_and_doubles_nothing_for_the_others(self, count):
        self.storm(count, 6, random.randrange(1 << 30))

    @cost(300, heavy=True)
    @only_long
    @workers(2, 4)
    def test_hundreds_of_crashes_lose_and_double_nothing(self, count):
        self.storm(count, 60 if environment.SANITIZED else 250, int(os.environ.get("SHOAL_TEST_SEED", "0")) or
                   random.randrange(1 << 30))

    @workers(2, 4)
    def test_killed_worker_is_replaced_at_once(self, count):
        broker = self.broker(count)
        for slot in range(count):
            pid = broker.kill_worker(slot)
            begin = time.monotonic()
            broker.wait_worker(slot, pid)
            took = time.monotonic() - begin
            if not environment.SANITIZED:
                self.assertLess(took, 0.2)
            broker.wait_log("slot %d|worker %d" % (slot, slot))
            client = broker.client("new%d" % slot, slot=slot)
            client.subscribe("t", 1)
            broker.client("p").publish("t", b"x", 1)
            client.wait_messages(1)
            client.disconnect()

    @workers(2, 4)
    def test_connections_during_a_crash_are_not_refused(self, count):
        broker = self.broker(count)
        for turn in range(count):
            broker.kill_worker(turn)
            clients = [broker.client("c%d" % number, connect=False) for number in range(4 * count)]
            for client in clients:
                client.connect()
                client.disconnect()
            broker.wait_worker(turn)

    def test_sessions_of_other_workers_survive_a_crash(self):
        broker = self.broker(2)
        lasting = broker.client("lasting", slot=0, props={"session_expiry_interval": 100})
        lasting.subscribe("t", 1)
        lasting.disconnect()
        other = broker.client("other", slot=0)
        other.subscribe("t", 2)
        pid = broker.kill_worker(1)
        broker.wait_worker(1, pid)
        broker.client("s", slot=1).publish("t", b"x", 2)
        other.wait_messages(1)
        lasting = broker.client("lasting", slot=1, clean=False, props={"session_expiry_interval": 100})
        self.assertTrue(lasting.connack.session_present)
        lasting.wait_messages(1)

    def test_retained_messages_survive_a_crash(self):
        broker = self.broker(2)
        for slot in (0, 1):
            broker.client("s%d" % slot, slot=slot).publish("kept/%d" % slot, b"%d" % slot, 1, retain=True)
        pid = broker.kill_worker(1)
        broker.wait_worker(1, pid)
        reader = broker.client("r", slot=1)
        reader.subscribe("kept/+", 1)
        self.assertEqual(sorted(got.payload for got in reader.wait_messages(2)), [b"0", b"1"])

    def test_suback_holds_after_a_crash(self):
        broker = self.broker(2)
        receiver = broker.client("r", slot=0)
        receiver.subscribe("t", 1)
        for turn in range(5):
            pid = broker.kill_worker(1)
            sender = broker.client("s%d" % turn, connect=False)
            broker.wait_worker(1, pid)
            sender.drop()
            broker.client("s%d" % turn, slot=1).publish("t", b"%d" % turn, 1)
            receiver.wait_messages(turn + 1)

    @cost(15)
    def test_slot_that_crashes_again_and_again_is_served_by_a_sibling(self):
        broker = self.broker(2)
        begin = time.monotonic()
        while time.monotonic() - begin < 4:
            pid = broker.worker_pids()[1]
            if pid:
                broker.kill_worker(1)
            time.sleep(0.02)
            if re.search("again and again|backed off", broker.log()):
                break
        served = [broker.client("c%d" % number, connect=False) for number in range(16)]
        for client in served:
            client.connect()
            client.ping()
        broker.wait_worker(1, timeout=40)

    def test_workers_say_goodbye_when_the_master_is_killed(self):
        broker = self.broker(2)
        client, pids = broker.client("c"), broker.worker_pids()
        os.kill(broker.child.pid, 9)
        self.assertEqual(client.expect_closed(2 * PATIENCE).reason, 0x8B)
        for pid in pids:
            self.wait_for(lambda pid=pid: not os.path.exists("/proc/%d" % pid) or
                          open("/proc/%d/stat" % pid).read().split()[2] == "Z", "worker %d ended" % pid, 2 * PATIENCE)
        broker.child.wait()
        broker.child = None

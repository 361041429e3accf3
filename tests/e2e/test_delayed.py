"""Delayed publication: $delayed/SECONDS/TOPIC."""
import os
import time

from shoal_test import packets
from shoal_test.case import Case, cost, only_shoal, workers
from shoal_test.environment import PATIENCE

EXPIRY = {"session_expiry_interval": 1000}


@only_shoal
class Delayed(Case):
    @cost(4)
    @workers(1, 2, 4)
    def test_messages_come_when_their_time_has_come(self, count):
        broker = self.broker(count)
        reader, sender = broker.client("reader", slot=0), broker.client("sender", slot=count - 1)
        old = broker.client("old", 4, slot=count // 2)
        reader.subscribe([("d/#", 2 | 8)])  # retain as published
        reader.subscribe("$delayed/#")
        old.subscribe("d/#", 1)
        begin = time.monotonic()
        props = {"content_type": "text", "user_property": [("a", "b")]}
        self.assertEqual(sender.publish("$delayed/2/d/late", b"late", 1, props=props).reason, 0)
        self.assertEqual(sender.publish("$delayed/1/d/early", b"early", 2, retain=True).reason, 0)
        sender.publish("$delayed/1/d/zero", b"zero", 0)
        sender.publish("$delayed/0/d/now", b"now", 1)
        self.assertLess(time.monotonic() - begin, 0.9)
        reader.wait_messages(1)
        reader.ping()
        self.assertEqual(broker.counter("delayed"), 3)
        self.assertEqual([got.topic for got in reader.messages], ["d/now"])
        reader.wait_messages(4)
        self.assertGreaterEqual(time.monotonic() - begin, 2)
        self.assertGreaterEqual(reader.messages[1].time - begin, 1)
        self.assertLess(reader.messages[1].time - begin, 1 + 0.5 * PATIENCE)
        self.assertEqual([(got.topic, got.payload, got.qos, got.retain) for got in reader.messages[1:]],
                         [("d/early", b"early", 2, True), ("d/zero", b"zero", 0, False), ("d/late", b"late", 1, False)])
        self.assertEqual(reader.messages[3].props["content_type"], "text")
        self.assertEqual(reader.messages[3].props["user_property"], [("a", "b")])
        self.assertEqual([got.topic for got in old.wait_messages(4)], ["d/now", "d/early", "d/zero", "d/late"])
        late = broker.client("late", slot=0)
        late.subscribe("#")
        self.assertEqual(late.wait_messages(1)[0].topic, "d/early")
        self.wait_for(lambda: broker.counter("delayed") == 0, "the table empty")
        self.assertEqual(broker.counter("delayed_published"), 3)

    def test_what_is_malformed_is_refused(self):
        broker = self.broker()
        sender, old, reader = broker.client("s"), broker.client("old", 4), broker.client("reader")
        reader.subscribe("#")
        for topic, reason in (("$delayed/x/t", 0x90), ("$delayed/42949671/t", 0x90), ("$delayed/5", 0x90), ("$delayed/5/", 0x90),
                              ("$delayed//t", 0x90), ("$delayed/-1/t", 0x90), ("$delayed/1/$SYS/t", 0x90), ("$delayedx/1/t", 0x87),
                              ("$other/1/t", 0x87)):
            self.assertEqual(sender.publish(topic, b"x", 1).reason, reason)
            self.assertEqual(sender.publish(topic, b"x", 2).reason, reason)
            sender.publish(topic, b"x")
            old.publish(topic, b"x", 1)  # version 3 has no word for it
        self.assertEqual(sender.publish("$delayed/42949670/t", b"x", 1).reason, 0)
        reader.ping()
        self.assertEqual(reader.messages, [])
        self.assertEqual(broker.counter("delayed"), 1)
        broker.stop()
        self.assertIn("1 delayed publications are lost", broker.log())
        broker = self.broker(config={"delayed": {"enable": False}})
        self.assertEqual(broker.client("s").publish("$delayed/1/t", b"x", 1).reason, 0x87)

    @cost(3)
    def test_rights_rules_and_mountpoints_are_about_the_real_topic(self):
        path = os.path.join(self.folder, "acl")
        with open(path, "w") as out:
            out.write("topic readwrite new/#\ntopic write own\ntopic read own\n")
        os.chmod(path, 0o644)
        broker = self.broker(config={
            "auth": {"acl_file": path, "allow_anonymous": True},
            "rewrite": {"rules": [{"action": "publish", "source_topic": "old/#", "re": "^old/(.*)$", "dest_topic": "new/$1"}]}},
            listeners={"tcp:red": {"mountpoint": "red/"}})
        red, root = broker.client("red", port=broker.ports["tcp:red"]), broker.client("root")
        red.subscribe([("new/#", 1), ("own", 1 | 4)])  # no local
        root.subscribe("new/#", 1)
        self.assertEqual(red.publish("$delayed/1/secret", b"x", 1).reason, 0x87)
        self.assertEqual(red.publish("$delayed/1/old/a", b"x", 1).reason, 0)
        self.assertEqual(red.publish("$delayed/1/own", b"x", 1).reason, 0)
        self.assertEqual(red.wait_messages(1)[0].topic, "new/a")
        self.wait_for(lambda: broker.counter("delayed_published") == 2, "both published")
        red.ping()
        root.ping()
        self.assertEqual((len(red.messages), root.messages), (1, []))

    @cost(4)
    def test_the_interval_of_a_message_goes_on_while_it_waits(self):
        broker = self.broker(2)
        reader, sender = broker.client("reader", slot=0), broker.client("sender", slot=1)
        reader.subscribe("#", 1)
        sender.publish("$delayed/2/dead", b"x", 1, props={"message_expiry_interval": 1})
        sender.publish("$delayed/2/alive", b"x", 1, props={"message_expiry_interval": 100})
        got = reader.wait_messages(1)[0]
        self.assertEqual(got.topic, "alive")
        self.assertIn(got.props["message_expiry_interval"], (97, 98))
        self.assertEqual(broker.counter("dropped_expired"), 1)

    @workers(1, 2)
    def test_their_number_and_bytes_are_bounded(self, count):
        broker = self.broker(count, config={"delayed": {"max_messages": 5, "max_bytes": "256KiB"}})
        senders = [broker.client("s%d" % slot, slot=slot) for slot in range(count)]
        self.assertEqual(senders[0].publish("$delayed/1000/t", b"x" * 300000, 1).reason, 0x97)
        for number in range(5):
            self.assertEqual(senders[number % count].publish("$delayed/1000/t", b"x", 1).reason, 0)
        for sender in senders:
            self.assertEqual(sender.publish("$delayed/1000/t", b"x", 1).reason, 0x97)
            self.assertEqual(sender.publish("$delayed/1000/t", b"x", 2).reason, 0x97)
            sender.publish("$delayed/1000/t", b"x", 0)
            sender.ping()
        old = broker.client("old", 4)
        old.publish("$delayed/1000/t", b"x", 1, wait=False)  # not acknowledged, since it is not kept
        old.expect_closed()
        self.assertEqual([got for got in old.received if got.kind == packets.PUBACK], [])
        self.assertEqual(broker.counter("delayed"), 5)
        self.assertEqual(broker.counter("delayed_refused"), 1 + 3 * count + 1)

    @cost(5)
    @workers(2, 4)
    def test_a_killed_worker_loses_and_doubles_nothing(self, count):
        broker = self.broker(count)
        readers = [broker.client("r%d" % slot, slot=slot) for slot in range(1, count)]
        for reader in readers:
            reader.subscribe("d", 2)
        sender = broker.client("s", slot=0)
        large = b"x" * 200000
        for number in range(100):
            self.assertEqual(sender.publish("$delayed/2/d", b"%d" % number, 1 + number % 2).reason, 0)
        sender.publish("$delayed/2/d", large, 2)
        pid = broker.kill_worker(0)
        broker.wait_worker(0, pid)
        broker.wait_ready()
        self.assertEqual(broker.counter("delayed"), 101)
        sender = broker.client("s", slot=0)
        sender.publish("$delayed/1/d", b"new", 2)
        for reader in readers:
            reader.wait_messages(102)
            reader.ping()
            payloads = reader.payloads()
            self.assertEqual(sorted(payloads), sorted([b"%d" % number for number in range(100)] + [large, b"new"]))
            self.assertEqual([payload for payload in payloads if len(payload) < 3], [b"%d" % number for number in range(100)])

    @cost(10)
    def test_kills_at_the_moment_of_publishing_lose_and_double_nothing(self):
        broker = self.broker(2)
        reader = broker.client("r", slot=1)
        reader.subscribe("d", 2)
        accepted = []
        for turn in range(3):
            sender = broker.client("s", slot=0)
            for number in range(300):
                payload = b"%d/%d" % (turn, number)
                sender.publish("$delayed/1/d", payload, 2)
                accepted.append(payload)
            first = time.monotonic()
            time.sleep(max(0.0, 0.8 - (time.monotonic() - first)))
            pid = broker.kill_worker(0)
            broker.wait_worker(0, pid)
            broker.wait_ready()
        reader.wait_messages(len(accepted))
        self.wait_for(lambda: broker.counter("delayed") == 0, "the table empty")
        reader.ping()
        self.assertEqual(sorted(reader.payloads()), sorted(accepted))

    @cost(4)
    def test_a_sent_again_qos_2_is_kept_once(self):
        broker = self.broker()
        reader = broker.client("r")
        reader.subscribe("d", 2)
        sender = broker.client("s", clean=False, props=EXPIRY)
        sender.acknowledge = False
        for dup in (False, True):
            sender.send(packets.publish(5, "$delayed/1/d", b"x", 2, 7, False, dup))
            sender.expect(packets.PUBREC, packet_id=7)
        sender.drop()
        sender = broker.client("s", clean=False, props=EXPIRY)
        sender.acknowledge = False
        sender.send(packets.publish(5, "$delayed/1/d", b"x", 2, 7, False, True))
        sender.expect(packets.PUBREC, packet_id=7)
        sender.answer(packets.PUBREL, 7)
        sender.expect(packets.PUBCOMP)
        reader.wait_messages(1)
        self.wait_for(lambda: broker.counter("delayed") == 0, "published")
        reader.ping()
        self.assertEqual(len(reader.messages), 1)

    @cost(8)
    def test_many_of_one_moment_hold_up_nobody(self):
        broker = self.broker(2)
        reader, sender, other = broker.client("r", slot=0), broker.client("s", slot=1), broker.client("o", slot=1)
        reader.subscribe("d", 1)
        for number in range(5000):
            sender.publish("$delayed/2/d", b"%d" % number, 1, wait=False)
        for _ in range(5000):
            sender.expect(packets.PUBACK)
        self.wait_for(lambda: broker.counter("delayed_published") > 0, "their time")
        while len(reader.messages) < 5000:
            begin = time.monotonic()
            other.ping()
            self.assertLess(time.monotonic() - begin, 0.5 * PATIENCE)
            reader.pump(0.01)
        self.assertEqual(reader.payloads(), [b"%d" % number for number in range(5000)])

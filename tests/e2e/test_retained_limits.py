"""Retained messages: how many, how large, how long; the same on all workers."""
import time

from shoal_test.case import Case, cost, only_shoal, workers
from shoal_test.environment import PATIENCE


@only_shoal
class Limits(Case):
    def kept(self, broker, topic="#", slot=None):
        """Topic and payload of what a new subscriber is given."""
        reader = broker.client("", slot=slot)
        reader.subscribe(topic)
        reader.pump(0.3 * PATIENCE)
        found = sorted((got.topic, got.payload) for got in reader.messages if got.retain)
        reader.disconnect()
        return found

    @workers(1, 2, 4)
    def test_no_more_than_max_messages_are_kept_on_any_worker(self, count):
        broker = self.broker(count, config={"retained": {"max_messages": 3}})
        senders = [broker.client("s%d" % slot, slot=slot) for slot in range(count)]
        live = broker.client("live")
        live.subscribe([("#", 0x08)])  # retain as published
        for number in range(6):
            self.assertLess(senders[number % count].publish("t/%d" % number, b"%d" % number, 1, retain=True).reason, 0x80)
            kept = count * min(number + 1, 3)  # what workers accept at the same moment may be more than the limit
            self.wait_for(lambda: broker.counter("retained") == kept, "what is kept on every worker")
        expected = [("t/%d" % number, b"%d" % number) for number in range(3)]
        for slot in range(count):
            self.assertEqual(self.kept(broker, slot=slot), expected)
        live.wait_messages(6)  # delivered, though not kept, and RETAIN as it was published
        self.assertTrue(all(got.retain for got in live.messages))
        self.assertEqual(broker.counter("retained_refused"), 3)
        senders[0].publish("t/1", b"new", 1, retain=True)  # replaces
        senders[-1].publish("t/0", b"", 1, retain=True)  # deletes, and makes room
        senders[0].publish("t/9", b"9", 1, retain=True)
        for slot in range(count):
            self.assertEqual(self.kept(broker, slot=slot), [("t/1", b"new"), ("t/2", b"2"), ("t/9", b"9")])
        self.assertEqual(broker.counter("retained"), 3 * count)

    @workers(1, 2)
    def test_a_full_table_can_refuse(self, count):
        broker = self.broker(count, config={"retained": {"max_messages": 1, "when_full": "refuse"}})
        sender, old = broker.client("s"), broker.client("old", 4, slot=count - 1)
        live = broker.client("live")
        live.subscribe("#")
        sender.publish("t/0", b"0", 1, retain=True)
        self.assertEqual(sender.publish("t/1", b"1", 1, retain=True).reason, 0x97)
        self.assertEqual(sender.publish("t/1", b"1", 2, retain=True).reason, 0x97)
        sender.publish("t/1", b"1", 0, retain=True)
        old.publish("t/1", b"1", 1, retain=True)  # version 3 has no word for it
        sender.publish("t/0", b"", 1, retain=True)
        sender.publish("end", b"")
        live.wait_messages(3)
        self.assertEqual([got.topic for got in live.messages], ["t/0", "t/0", "end"])
        self.assertEqual(broker.counter("retained_refused"), 4)
        self.assertEqual(self.kept(broker), [])

    @workers(1, 2)
    def test_payloads_and_bytes_are_limited(self, count):
        broker = self.broker(count, config={"retained": {"max_payload_size": 100, "max_bytes": 350}})
        sender = broker.client("s")
        sender.publish("large", b"x" * 101, 1, retain=True)
        self.assertEqual(self.kept(broker), [])
        for topic in ("a", "b", "c", "d"):
            sender.publish(topic, b"x" * 100, 1, retain=True)
        sender.publish("a", b"y" * 100, 1, retain=True)
        for slot in range(count):
            self.assertEqual(self.kept(broker, slot=slot), [("a", b"y" * 100), ("b", b"x" * 100), ("c", b"x" * 100)])
        self.assertEqual(broker.counter("retained_bytes"), 303 * count)
        self.assertEqual(broker.counter("retained_refused"), 2)

    def test_a_retained_will_obeys_too(self):
        broker = self.broker(2, config={"retained": {"max_messages": 1, "when_full": "refuse"}})
        sender, live = broker.client("s"), broker.client("live")
        live.subscribe("will")
        sender.publish("t", b"0", 1, retain=True)
        broker.client("w", will={"topic": "will", "payload": b"gone", "retain": True}).drop()
        live.wait_messages(1)
        self.assertEqual(self.kept(broker), [("t", b"0")])

    @cost(5)
    @workers(1, 2)
    def test_messages_without_an_interval_of_their_own_expire(self, count):
        broker = self.broker(count, config={"retained": {"expiry": "2s"}, "mqtt": {"sys_interval": "1s"}})
        sender = broker.client("s")
        sender.publish("plain", b"x", 1, retain=True)
        sender.publish("own", b"x", 1, retain=True, props={"message_expiry_interval": 1000})
        begin = time.monotonic()
        self.assertEqual(len(self.kept(broker)), 2)
        self.wait_for(lambda: broker.counter("retained") == count, "one expired everywhere", 5 * PATIENCE)
        self.assertGreater(time.monotonic() - begin, 1)
        for slot in range(count):
            self.assertEqual(self.kept(broker, slot=slot), [("own", b"x")])
        reader = broker.client("r")
        reader.subscribe("$SYS/broker/version")
        reader.wait_messages(1)

    def test_deletions_of_what_nobody_knows_are_not_remembered_without_bound(self):
        broker = self.broker(2, config={"retained": {"max_messages": 10}})
        sender = broker.client("s", slot=0)
        for number in range(30):
            sender.publish("t/%d" % number, b"", 1, retain=True)
        other = broker.client("o", slot=1)
        other.publish("t/29", b"kept", 1, retain=True)
        self.assertEqual(self.kept(broker, slot=0), [("t/29", b"kept")])
        sender.publish("t/29", b"", 1, retain=True)
        self.assertEqual(self.kept(broker, slot=1), [])

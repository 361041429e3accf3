"""
PUBLISH, statement by statement (tests/statements): RETAIN, topic names, properties, overlapping subscriptions, expiry, and what
a client's limits hold back.
"""
import time

from shoal_test import packets
from shoal_test.case import Case, cost, only_shoal, reconnects, workers
from shoal_test.packets import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL

LASTING = {"session_expiry_interval": 1000}
EVERYTHING = {"payload_format_indicator": 1, "content_type": "text/ä", "response_topic": "answer/ö",
              "correlation_data": bytes(range(256)),
              "user_property": [("z", "1"), ("a", "2"), ("z", "1"), ("", ""), ("a", "1"), ("ü", "\ufeff")]}


def kept(broker, topic, version=5, qos=2):
    """What a new subscriber gets: [(payload, qos, retain)]."""
    reader = broker.client("reader", version)
    reader.subscribe([(topic, qos), ("end", 0)])
    broker.client("sentinel").publish("end", b"")
    while not reader.messages or reader.messages[-1].topic != "end":
        reader.wait_messages(len(reader.messages) + 1)
    reader.ping()
    reader.disconnect()
    return [(got.payload, got.qos, got.retain) for got in reader.messages if got.topic != "end"]


class Retain(Case):
    def test_retain_stores_replaces_and_deletes(self):
        broker = self.broker()
        for version in (4, 5):
            topic = "t/%d" % version
            sender = broker.client("s", version)
            sender.publish(topic, b"not kept", 1)
            self.assertEqual(kept(broker, topic, version), [])
            sender.publish(topic, b"first", 2, retain=True)
            self.assertEqual(kept(broker, topic, version), [(b"first", 2, True)])
            sender.publish(topic, b"second", 1, retain=True)
            self.assertEqual(kept(broker, topic, version), [(b"second", 1, True)])
            self.assertEqual(kept(broker, topic, version, 0), [(b"second", 0, True)])
            sender.publish(topic, b"no retain", 1)
            sender.publish(topic, b"", 1)
            self.assertEqual(kept(broker, topic, version), [(b"second", 1, True)])
            sender.publish(topic, b"third", 0, retain=True)
            sender.ping()
            self.assertEqual(kept(broker, topic, version), [(b"third", 0, True)])
            sender.publish(topic, b"", 0, retain=True)
            sender.publish(topic + "/never", b"", 1, retain=True)
            sender.ping()
            self.assertEqual(kept(broker, topic + "/#", version), [])

    def test_established_subscriptions_of_3_1_1_get_retain_0(self):
        broker = self.broker()
        reader, sender = broker.client("r", version=4), broker.client("s", version=4)
        reader.subscribe("t", 1)
        sender.publish("t", b"x", 1, retain=True)
        sender.publish("t", b"", 1, retain=True)
        reader.wait_messages(2)
        self.assertEqual([(got.payload, got.retain) for got in reader.messages], [(b"x", False), (b"", False)])


class Properties(Case):
    @reconnects()
    def test_properties_arrive_unaltered_on_every_way(self, count):
        broker = self.broker(count)
        live, absent = broker.client("live"), broker.client("absent", props=LASTING)
        for client in (live, absent):
            client.subscribe("t", 2)
        absent.drop()
        sender = broker.client("s", slot=0)
        for qos in (0, 1, 2):
            sender.publish("t", "ä", qos, retain=True, props=dict(EVERYTHING, message_expiry_interval=1000))
        sender.ping()
        absent = broker.client("absent", clean=False, props=LASTING)
        late = broker.client("late", slot=count - 1)
        late.subscribe("t", 2)
        for client, number in ((live, 3), (absent, 2), (late, 1)):
            for got in client.wait_messages(number):
                self.assertGreater(got.props.pop("message_expiry_interval"), 900)
                self.assertEqual(got.props, EVERYTHING)

    def test_every_alias_up_to_the_maximum_is_taken(self):
        broker = self.broker()
        reader, sender = broker.client("r"), broker.client("s")
        reader.subscribe("a/+", 1)
        most = sender.connack.props["topic_alias_maximum"]
        for alias in range(1, most + 1):
            sender.publish("a/%d" % alias, b"long", 1, props={"topic_alias": alias})
        for alias in range(1, most + 1):
            sender.publish("", b"short", 1, props={"topic_alias": alias})
        reader.wait_messages(2 * most)
        self.assertEqual([got.topic for got in reader.messages], ["a/%d" % alias for alias in range(1, most + 1)] * 2)


class Overlap(Case):
    @workers(1, 2)
    def test_overlapping_subscriptions_get_the_highest_qos_and_all_identifiers(self, count):
        broker = self.broker(count)
        reader, old = broker.client("r", slot=count - 1), broker.client("o", version=4, slot=count - 1)
        for number, (name, qos) in enumerate((("a/#", 0), ("a/b", 1), ("+/b", 2), ("a/+", 1))):
            reader.subscribe(name, qos, props={"subscription_identifier": number + 1} if number < 3 else None)
            old.subscribe(name, qos)
        sender = broker.client("s", slot=0)
        sender.publish("a/b", b"x", 2)
        sender.publish("a/c", b"y", 2)
        reader.wait_messages(2)
        old.wait_messages(2)
        for client in (reader, old):
            client.ping()
            self.assertEqual(sorted(client.payloads()), [b"x", b"y"])
            self.assertEqual({got.payload: got.qos for got in client.messages}, {b"x": 2, b"y": 1})
        identifiers = {got.payload: sorted(got.props["subscription_identifier"]) for got in reader.messages}
        self.assertEqual(identifiers, {b"x": [1, 2, 3], b"y": [1]})


class Expiry(Case):
    @cost(4)
    @reconnects()
    def test_qos_2_that_was_sent_does_not_expire(self, count):
        broker = self.broker(count)
        reader = broker.client("r", props=LASTING)
        reader.acknowledge = False
        reader.subscribe("t", 2)
        sender = broker.client("s", slot=0)
        sender.publish("t", b"x", 2, props={"message_expiry_interval": 1})
        first = reader.expect(PUBLISH)
        reader.drop()
        time.sleep(2.1)
        again = broker.client("r", clean=False, props=LASTING)
        second = again.expect(PUBLISH)
        self.assertEqual((second.packet_id, second.payload, second.dup), (first.packet_id, b"x", True))
        again.expect(PUBREL, packet_id=first.packet_id)

    @cost(3)
    def test_qos_2_exchange_goes_on_after_the_expiry(self):
        broker = self.broker()
        sender = broker.client("s")
        sender.acknowledge = False
        sender.publish("t", b"x", 2, packet_id=7, props={"message_expiry_interval": 1}, wait=False)
        sender.expect(PUBREC, packet_id=7)
        time.sleep(1.5)
        sender.publish("t", b"x", 2, packet_id=7, dup=True, props={"message_expiry_interval": 1}, wait=False)
        sender.expect(PUBREC, packet_id=7)
        sender.answer(PUBREL, 7)
        self.assertEqual(sender.expect(PUBCOMP, packet_id=7).reason, 0)

    @cost(3)
    def test_expired_copies_are_deleted_while_they_wait_for_a_slow_client(self):
        broker = self.broker()
        reader, sender = broker.client("r", props={"receive_maximum": 1}), broker.client("s")
        reader.acknowledge = False
        reader.subscribe("t", 1)
        sender.publish("t", b"first", 1)
        sender.publish("t", b"gone", 1, props={"message_expiry_interval": 1})
        sender.publish("t", b"last", 1, props={"message_expiry_interval": 100})
        first = reader.expect(PUBLISH)
        time.sleep(1.5)
        reader.answer(PUBACK, first.packet_id)
        last = reader.expect(PUBLISH)
        self.assertEqual(last.payload, b"last")
        self.assertIn(last.props["message_expiry_interval"], range(90, 100))


class Limits(Case):
    def test_other_packets_flow_while_the_receive_maximum_is_used_up(self):
        broker = self.broker()
        reader, sender = broker.client("r", props={"receive_maximum": 2}), broker.client("s")
        reader.acknowledge = False
        reader.subscribe("t", 2)
        for number in range(4):
            sender.publish("t", b"%d" % number, 1 + number % 2)
        reader.wait_messages(2)
        reader.ping()
        reader.subscribe("zero")
        reader.unsubscribe("nothing")
        reader.publish("x", b"", 1)
        reader.publish("x", b"", 2, packet_id=90, wait=False)
        reader.expect(PUBREC, packet_id=90)
        reader.answer(PUBREL, 90)
        reader.expect(PUBCOMP, packet_id=90)
        sender.publish("zero", b"flows")
        self.assertEqual(reader.wait_messages(3)[-1].payload, b"flows")
        second = reader.messages[1]
        reader.answer(PUBREC, second.packet_id)
        reader.expect(PUBREL, packet_id=second.packet_id)
        reader.ping()
        self.assertEqual(len(reader.messages), 3)

    @reconnects()
    def test_resumed_session_keeps_to_a_smaller_receive_maximum(self, count):
        broker = self.broker(count)
        reader, sender = broker.client("r", props=LASTING), broker.client("s")
        reader.acknowledge = False
        reader.subscribe("t", 2)
        for number in range(6):
            sender.publish("t", b"%d" % number, 1 + number % 2)
        reader.wait_messages(6)
        reader.drop()
        again = broker.client("r", clean=False, props=dict(LASTING, receive_maximum=1))
        again.wait_messages(6)  # each acknowledged at once; more than one at a time would be an error
        self.assertEqual(again.payloads(), [b"%d" % number for number in range(6)])

    def test_no_packet_is_larger_than_the_client_takes(self):
        broker = self.broker()
        limit = {"maximum_packet_size": 40}
        client, sender = broker.client("c", props=limit), broker.client("s")
        client.subscribe([("t", 2), ("a/very/long/topic/name/indeed", 1)])
        client.publish("nobody", b"", 1)
        client.publish("nobody", b"", 2)
        client.unsubscribe(["nothing"] * 30)
        for qos in (0, 1, 2):
            for size in (10, 29, 30, 31, 32, 33, 34, 35, 100):
                sender.publish("t", b"x" * size, qos)
        sender.publish("a/very/long/topic/name/indeed", b"0123", 1)
        sender.publish("t", b"end", 2)
        self.wait_for(lambda: client.pump(0.05) or b"end" in client.payloads(), "the end")
        sizes = {(got.qos, len(got.payload)) for got in client.messages}
        self.assertTrue({(0, 34), (1, 32), (2, 32), (0, 10)} <= sizes, sizes)
        self.assertFalse({(0, 35), (1, 33), (2, 33)} & sizes)
        client.send(packets.subscribe(5, 9, [("m/%d" % number, 0) for number in range(50)]))
        client.expect_closed()

    @reconnects()
    def test_what_is_too_large_counts_as_delivered(self, count):
        broker = self.broker(count)
        reader, sender = broker.client("r", props=LASTING), broker.client("s")
        reader.acknowledge = False
        reader.subscribe("t", 2)
        for qos in (1, 2):
            sender.publish("t", b"x" * 200, qos)
        reader.wait_messages(2)
        reader.drop()
        sender.publish("t", b"y" * 200, 1)
        sender.publish("t", b"small", 1)
        props = dict(LASTING, maximum_packet_size=100, receive_maximum=1)
        again = broker.client("r", clean=False, props=props)
        self.assertEqual(again.wait_messages(1)[0].payload, b"small")
        again.disconnect()
        last = broker.client("r", clean=False, props=LASTING)
        last.ping()
        self.assertEqual(last.messages, [])


class Answers(Case):
    def test_each_qos_has_its_answer(self):
        broker = self.broker()
        for version in (4, 5):
            client = broker.client("c", version)
            client.acknowledge = False
            for number, (qos, answer) in enumerate(((0, None), (1, PUBACK), (2, PUBREC))):
                client.publish("t", b"x", qos, packet_id=number + 50, wait=False)
                client.ping()
                got = [packet for packet in client.received if packet.kind not in (packets.CONNACK, packets.PINGRESP)]
                self.assertEqual([(packet.kind, packet.packet_id) for packet in got], [(answer, number + 50)] if qos else [])
                client.received.clear()

    @only_shoal
    def test_publication_that_is_not_allowed(self):
        broker = self.broker()
        client = broker.client("c")
        self.assertEqual(client.publish("$x", b"", 1).reason, 0x87)
        client.publish("$x", b"", 2, packet_id=5, wait=False)
        self.assertEqual(client.expect(PUBREC, packet_id=5).reason, 0x87)
        client.ping()
        client.publish("$x", b"")
        old, watcher = broker.client("o", version=4), broker.client("w")
        watcher.subscribe(["$x", "end"], 1)
        for qos in (1, 2, 0):  # 3.1.1 has no way to say no: acknowledged, and thrown away
            old.publish("$x", b"", qos)
        old.publish("end", b"", 1)
        client.ping()
        watcher.wait_messages(1)
        watcher.ping()
        self.assertEqual([got.topic for got in watcher.messages], ["end"])

    @only_shoal
    def test_full_buffers_close_in_3_1_1(self):
        broker = self.broker(config={"mqtt": {"max_awaiting_rel": 4}})
        client = broker.client("c", version=4)
        client.acknowledge = False
        client.send(b"".join(packets.publish(4, "t", b"", 2, number) for number in range(1, 6)))
        client.expect_closed()
        self.assertEqual([got.packet_id for got in client.received[1:]], [1, 2, 3, 4])

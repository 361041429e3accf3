"""
SUBSCRIBE and UNSUBSCRIBE, statement by statement (tests/statements): answers and their order, replacing, options, what an
UNSUBSCRIBE ends and what it must complete.
"""
from shoal_test import packets
from shoal_test.case import Case, only_shoal, reconnects, workers
from shoal_test.packets import PUBACK, PUBLISH, PUBREC, PUBREL, SUBACK

LASTING = {"session_expiry_interval": 1000}
RETAIN_HANDLING_1, RETAIN_HANDLING_2, RETAIN_AS_PUBLISHED, NO_LOCAL = 0x10, 0x20, 8, 4


class Answers(Case):
    @only_shoal
    def test_codes_stand_in_the_order_of_the_filters(self):
        broker = self.broker(config={"mqtt": {"max_topic_levels": 3, "wildcard_subscription": False}})
        filters = [("a", 2), ("a/b/c/d", 1), ("b", 0), ("c/#", 1), ("d", 1), ("+", 0)]
        for version, wanted in ((4, [2, 0x80, 0, 0x80, 1, 0x80]), (5, [2, 0x8F, 0, 0xA2, 1, 0xA2])):
            client = broker.client("c", version)
            self.assertEqual(client.subscribe(filters, expect=False).reasons, wanted)
            broker.client("s").publish("a", b"1", 2)  # refused ones harm the others not
            self.assertEqual(client.wait_messages(1)[0].qos, 2)
            codes = client.unsubscribe(["b", "c/#", "a", "nothing", "d"]).reasons
            self.assertEqual(codes, [0, 0x11, 0, 0x11, 0] if version == 5 else [])

    def test_answers_carry_the_identifier_of_their_packet(self):
        broker = self.broker()
        for version in (3, 4, 5):
            client = broker.client("c", version)
            for packet_id in (1, 300, 65535, 2):
                client.send(packets.subscribe(version, packet_id, [("a", 0)]))
                client.expect(SUBACK, packet_id=packet_id)
                client.send(packets.unsubscribe(version, packet_id, ["a", "nothing"]))
                client.expect(packets.UNSUBACK, packet_id=packet_id)

    def test_many_filters_are_as_many_packets(self):
        broker = self.broker()
        broker.client("s").publish("t", b"kept", 1, retain=True)
        for version in (4, 5):
            one, many = broker.client("one", version), broker.client("many", version)
            filters = [("t", 0), ("u", 1), ("t", 2), ("u", 0)]
            one.subscribe(filters)
            for name, qos in filters:
                many.subscribe(name, qos)
            sender = broker.client("s")
            for topic in ("t", "u"):
                sender.publish(topic, b"live", 2)
            for client in (one, many):
                client.wait_messages(3)
                client.ping()
                self.assertEqual({(got.topic, got.qos) for got in client.messages if got.payload == b"live"},
                                 {("t", 2), ("u", 0)})
                self.assertIn(b"kept", client.payloads())
            one.unsubscribe(["u", "t", "u"])
            sender.publish("t", b"none", 1)
            one.ping()
            self.assertNotIn(b"none", one.payloads())


class Replacing(Case):
    @workers(1, 2)
    def test_replacing_a_subscription_loses_nothing(self, count):
        broker = self.broker(count)
        sender = broker.client("s", slot=0)
        sender.publish("t", b"kept", 1, retain=True)
        for version in (4, 5):
            reader = broker.client("r", version, slot=count - 1)
            reader.subscribe("t", 2)
            for number in range(60):
                sender.publish("t", b"%d" % number, 1, wait=False)
                if number % 3 == 0:
                    reader.send(packets.subscribe(version, number + 1000, [("t", number // 3 % 3)]))
            for _ in range(60):
                sender.expect(PUBACK)
            for number in range(0, 60, 3):
                reader.expect(SUBACK, packet_id=number + 1000)
            sender.publish("t", b"end", 1)
            self.wait_for(lambda: reader.pump(0.05) or b"end" in reader.payloads(), "the end")
            live = [got.payload for got in reader.messages if not got.retain]
            self.assertEqual(sorted(live), sorted([b"%d" % number for number in range(60)] + [b"end"]))
            self.assertGreater(sum(got.retain for got in reader.messages), 1)
            for _ in range(3):  # one that is waited for: sent again each time
                before = len(reader.messages)
                reader.subscribe("t", 1)
                reader.wait_messages(before + 1)
                reader.ping()
                self.assertEqual([(got.payload, got.retain) for got in reader.messages[before:]], [(b"kept", True)])

    def test_replaced_options_are_the_new_ones(self):
        broker = self.broker()
        reader, sender = broker.client("r"), broker.client("s")
        reader.subscribe([("t", 2 | NO_LOCAL | RETAIN_AS_PUBLISHED)], props={"subscription_identifier": 7})
        reader.subscribe([("t", 1)])
        reader.publish("t", b"own", 1)
        sender.publish("t", b"retained", 2, retain=True)
        reader.wait_messages(2)
        reader.ping()
        self.assertEqual([(got.payload, got.qos, got.retain, got.props) for got in reader.messages],
                         [(b"own", 1, False, {}), (b"retained", 1, False, {})])

    @workers(1, 2)
    def test_retain_handling_for_new_and_existing(self, count):
        broker = self.broker(count)
        broker.client("s", slot=0).publish("t/kept", b"x", 1, retain=True)
        client = broker.client("c", slot=count - 1)
        for options, wanted in ((RETAIN_HANDLING_2, 0), (RETAIN_HANDLING_1, 0), (0, 1), (RETAIN_HANDLING_1 | 1, 1), (1, 2)):
            client.subscribe([("t/+", options)])
            client.wait_messages(wanted)
            client.ping()
            self.assertEqual(len(client.messages), wanted, "options 0x%02x" % options)
        client.unsubscribe("t/+")
        client.subscribe([("t/+", RETAIN_HANDLING_1)])
        client.wait_messages(3)
        client.unsubscribe("t/+")
        client.subscribe([("t/+", RETAIN_HANDLING_2)])
        client.pump(0.2)
        self.assertEqual([got.retain for got in client.messages], [True] * 3)


class Unsubscribe(Case):
    def test_filters_are_compared_by_character(self):
        broker = self.broker()
        reader, sender = broker.client("r"), broker.client("s")
        reader.subscribe(["a/+", "é"], 1)
        for other in ("a/b", "a/#", "A/+", "a/+/", "/a/+", "a/ ", "#", "e\u0301"):
            self.assertEqual(reader.unsubscribe([other]).reasons, [0x11], other)
        sender.publish("a/b", b"still", 1)
        sender.publish("é", b"here", 1)
        reader.wait_messages(2)
        self.assertEqual(reader.unsubscribe(["a/+", "é"]).reasons, [0, 0])
        sender.publish("a/b", b"gone", 1)
        reader.ping()
        self.assertEqual(len(reader.messages), 2)

    @reconnects()
    def test_what_was_begun_is_completed(self, count):
        broker = self.broker(count)
        for version in (4, 5):
            props = LASTING if version == 5 else None
            reader, sender = broker.client("r", version, clean=False, props=props), broker.client("s")
            reader.acknowledge = False
            reader.subscribe("t", 2)
            sender.publish("t", b"one", 1)
            sender.publish("t", b"two", 2)
            first, second = reader.wait_messages(2)
            reader.unsubscribe("t")
            sender.publish("t", b"none", 1)
            reader.answer(PUBREC, second.packet_id)
            reader.expect(PUBREL, packet_id=second.packet_id)
            reader.drop()
            again = broker.client("r", version, clean=False, props=props)
            got = again.expect(PUBLISH)
            self.assertEqual((got.payload, got.packet_id, got.dup), (b"one", first.packet_id, True))
            again.expect(PUBREL, packet_id=second.packet_id)
            again.ping()
            self.assertEqual(again.payloads(), [b"one"])
            broker.client("r", version).disconnect()

    @workers(1, 2)
    def test_every_unsubscribe_is_answered_and_ends_delivery_everywhere(self, count):
        broker = self.broker(count)
        sender = broker.client("s", slot=0)
        for version in (3, 4, 5):
            reader = broker.client("r", version, slot=count - 1)
            reader.subscribe([("t", 1), ("u", 1)])
            reader.unsubscribe(["nothing"])
            reader.unsubscribe(["t", "nothing", "v"])
            sender.publish("t", b"gone", 1)
            sender.publish("u", b"here", 1)
            reader.wait_messages(1)
            reader.ping()
            self.assertEqual(reader.payloads(), [b"here"])


class NoLocal(Case):
    @reconnects()
    def test_no_local_follows_the_identifier_across_connections(self, count):
        broker = self.broker(count)
        client = broker.client("c", props=LASTING)
        client.subscribe([("t", 1 | NO_LOCAL)])
        client.drop()
        client = broker.client("c", clean=False, props=LASTING)
        self.assertTrue(client.connack.session_present)
        client.publish("t", b"own", 1)
        broker.client("other", slot=0).publish("t", b"others", 1)
        client.wait_messages(1)
        client.ping()
        self.assertEqual(client.payloads(), [b"others"])

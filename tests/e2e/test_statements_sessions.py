"""
Sessions and the QoS exchanges, statement by statement (tests/statements): identifiers, states, resending, order, wills. The
client that comes back does so on the same worker and on another one.
"""
from shoal_test import packets
from shoal_test.case import Case, cost, only_shoal, reconnects, workers
from shoal_test.packets import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL

LASTING = {"session_expiry_interval": 1000}


def lasting(version):
    return LASTING if version == 5 else None


class Incoming(Case):
    """The server is the receiver."""

    @workers(1, 2)
    def test_identifier_of_an_acknowledged_publication_is_new(self, count):
        broker = self.broker(count)
        for version in (4, 5):
            reader, sender = broker.client("r", version, slot=count - 1), broker.client("s", version, slot=0)
            reader.subscribe("t", 2)
            for number in range(3):  # DUP or not: after PUBACK and PUBCOMP it is another message
                sender.publish("t", b"1-%d" % number, 1, packet_id=5, dup=number > 0)
                sender.publish("t", b"2-%d" % number, 2, packet_id=5, dup=number > 0)
            reader.wait_messages(6)
            self.assertEqual(sorted(reader.payloads()), sorted(b"%d-%d" % (qos, i) for qos in (1, 2) for i in range(3)))

    @only_shoal
    def test_identifier_of_a_refused_publication_is_new(self):
        broker = self.broker()
        reader, sender = broker.client("r"), broker.client("s")
        reader.subscribe("t", 2)
        sender.publish("$x", b"no", 2, packet_id=7, wait=False)
        self.assertEqual(sender.expect(PUBREC, packet_id=7).reason, 0x87)
        self.assertEqual(sender.publish("t", b"yes", 2, packet_id=7).reason, 0)
        self.assertEqual(reader.wait_messages(1)[0].payload, b"yes")

    @reconnects()
    def test_unreleased_publication_is_delivered_once_across_connections(self, count):
        broker = self.broker(count)
        for version in (4, 5):
            reader = broker.client("r", version)
            reader.subscribe("t", 2)
            for turn in range(4):
                sender = broker.client("s", version, connect=False)
                sender.acknowledge = False
                sender.connect(clean=False, props=lasting(version))
                for _ in range(2):
                    sender.publish("t", b"once", 2, packet_id=3, dup=turn > 0, wait=False)
                    sender.expect(PUBREC, packet_id=3)
                if turn < 3:
                    sender.drop()
            for known in (True, False):
                sender.answer(PUBREL, 3)
                got = sender.expect(PUBCOMP, packet_id=3)
                self.assertEqual(got.reason, 0 if known or version == 4 else 0x92)
            sender.publish("t", b"end", 2, packet_id=3, wait=False)
            sender.expect(PUBREC, packet_id=3)
            reader.wait_messages(2)
            self.assertEqual(reader.payloads(), [b"once", b"end"])
            broker.client("s", version).disconnect()

    def test_acknowledgements_come_in_order(self):
        broker = self.broker()
        for version in (4, 5):
            sender = broker.client("s", version)
            sender.acknowledge = False
            numbers = [9, 3, 8, 1, 40, 2]
            sender.send(b"".join(packets.publish(version, "t", b"", 1 + number % 2, number) for number in numbers))
            for kind in (PUBACK, PUBREC):
                wanted = [number for number in numbers if number % 2 == (kind == PUBREC)]
                self.assertEqual([sender.expect(kind).packet_id for _ in wanted], wanted)
            odd = [number for number in numbers if number % 2]
            sender.send(b"".join(packets.acknowledgement(PUBREL, number) for number in odd))
            self.assertEqual([sender.expect(PUBCOMP).packet_id for _ in odd], odd)


class Outgoing(Case):
    """The server is the sender."""

    def test_identifiers_in_use_differ_and_first_sendings_have_no_dup(self):
        broker = self.broker()
        for version in (4, 5):
            reader, sender = broker.client("r", version), broker.client("s")
            reader.acknowledge = False
            reader.subscribe("t", 2)
            for number in range(60):
                sender.publish("t", b"%d" % number, number % 3, dup=number % 3 > 0)
            got = reader.wait_messages(60)
            self.assertFalse(any(message.dup for message in got))
            self.assertEqual(sorted(message.qos for message in got), [0] * 20 + [1] * 20 + [2] * 20)
            used = [message.packet_id for message in got if message.qos]
            self.assertEqual(len(set(used)), 40)
            self.assertNotIn(0, used)

    def test_pubrec_is_answered_with_pubrel_however_often(self):
        broker = self.broker()
        for version in (4, 5):
            reader, sender = broker.client("r", version), broker.client("s")
            reader.acknowledge = False
            reader.subscribe("t", 2)
            sender.publish("t", b"x", 2)
            got = reader.expect(PUBLISH)
            for _ in range(3):
                reader.answer(PUBREC, got.packet_id)
                self.assertEqual(reader.expect(PUBREL, packet_id=got.packet_id).reason, 0)
            reader.answer(PUBCOMP, got.packet_id)
            reader.ping()
            self.assertEqual(len(reader.messages), 1)

    def test_pubrels_come_in_the_order_of_the_pubrecs(self):
        broker = self.broker()
        for version in (4, 5):
            reader, sender = broker.client("r", version), broker.client("s")
            reader.acknowledge = False
            reader.subscribe("t", 2)
            for number in range(8):
                sender.publish("t", b"%d" % number, 2)
            order = [got.packet_id for got in reader.wait_messages(8)][::-1]
            order = order[::2] + order[1::2]  # neither as they were sent nor backwards
            reader.send(b"".join(packets.acknowledgement(PUBREC, packet_id) for packet_id in order))
            self.assertEqual([reader.expect(PUBREL).packet_id for _ in order], order)

    @reconnects()
    def test_refused_by_the_client_is_not_sent_again(self, count):
        broker = self.broker(count)
        reader, sender = broker.client("r", props=LASTING), broker.client("s")
        reader.acknowledge = False
        reader.subscribe("t", 2)
        sender.publish("t", b"one", 1)
        sender.publish("t", b"two", 2)
        first, second = reader.wait_messages(2)
        reader.answer(PUBACK, first.packet_id, 0x97)
        reader.answer(PUBREC, second.packet_id, 0x80)
        reader.ping()
        self.assertEqual(reader.unread[PUBREL], [])
        reader.drop()
        again = broker.client("r", clean=False, props=LASTING)
        self.assertTrue(again.connack.session_present)
        again.ping()
        self.assertEqual((again.messages, again.unread[PUBREL]), ([], []))

    @reconnects()
    def test_unacknowledged_comes_again_in_order_at_every_reconnect(self, count):
        broker = self.broker(count)
        for version in (4, 5):
            reader, sender = broker.client("r", version, clean=False, props=lasting(version)), broker.client("s")
            reader.acknowledge = False
            reader.subscribe("t", 2)
            for number in range(9):
                sender.publish("t", b"%d" % number, 1 + number % 2)
            sent = reader.wait_messages(9)
            reader.answer(PUBACK, sent[2].packet_id)
            for number in (1, 5):
                reader.answer(PUBREC, sent[number].packet_id)
                reader.expect(PUBREL, packet_id=sent[number].packet_id)
            left = [(got.packet_id, got.payload, got.qos) for i, got in enumerate(sent) if i not in (1, 2, 5)]
            for turn in range(3):
                reader.ping()
                reader.drop()
                reader = broker.client("r", version, connect=False)
                reader.acknowledge = False
                self.assertTrue(reader.connect(clean=False, props=lasting(version)).session_present)
                reader.wait_messages(6)
                released = [reader.expect(PUBREL).packet_id for _ in range(2)]
                reader.ping()
                self.assertEqual([(got.packet_id, got.payload, got.qos) for got in reader.messages], left)
                self.assertTrue(all(got.dup for got in reader.messages))
                self.assertEqual(released, [sent[1].packet_id, sent[5].packet_id])
                self.assertEqual(reader.unread[PUBREL], [])
            broker.client("r", version).disconnect()

    @reconnects()
    def test_messages_for_an_absent_client_come_in_order(self, count):
        broker = self.broker(count)
        senders = [broker.client("s%d" % slot, slot=slot) for slot in range(count)]
        for version in (4, 5):
            broker.client("r", version, clean=False, props=lasting(version)).subscribe([("t/#", 2)])
            broker.client("r", version, clean=False, props=lasting(version)).drop()
            for number in range(30):
                for sender in senders:
                    sender.publish("t/%s" % sender.client_id, b"%d" % number, 1 + number % 2)
            reader = broker.client("r", version, clean=False, props=lasting(version))
            self.assertTrue(reader.connack.session_present)
            reader.wait_messages(30 * count)
            for sender in senders:
                for qos in (1, 2):
                    self.assertEqual([int(got.payload) for got in reader.messages
                                      if got.qos == qos and got.topic.endswith(sender.client_id)],
                                     list(range(qos - 1, 30, 2)))
            broker.client("r", version).disconnect()


class Wills(Case):
    def watcher(self, broker):
        watcher = broker.client("watcher")
        watcher.subscribe([("w/#", 2 | 8), ("end", 1)])
        return watcher

    def published(self, broker, watcher):
        """What has come until a sentinel published now."""
        broker.client("sentinel").publish("end", b"end", 1)
        self.wait_for(lambda: watcher.pump(0.02) or watcher.payloads()[-1:] == [b"end"], "the sentinel")
        watcher.ping()
        got = [message for message in watcher.messages if message.topic != "end"]
        watcher.messages.clear()
        return got

    @reconnects()
    def test_will_is_published_once_and_only_for_the_connection_that_set_it(self, count):
        broker = self.broker(count)
        watcher = self.watcher(broker)
        for version in (4, 5):
            for end, wanted in (("drop", 1), ("disconnect", 0)):
                will = {"topic": "w/x", "payload": b"will", "qos": 1}
                client = broker.client("c", version, clean=False, props=lasting(version), will=will)
                getattr(client, end)()
                if wanted:
                    watcher.wait_messages(1)
                for _ in range(2):  # back without a will: nothing is left of it
                    broker.client("c", version, clean=False, props=lasting(version)).drop()
                self.assertEqual(len(self.published(broker, watcher)), wanted)
                broker.client("c", version).disconnect()

    def test_no_will_without_the_flag(self):
        broker = self.broker()
        watcher = self.watcher(broker)
        for version in (3, 4, 5):
            client = broker.client("c", version)
            client.send(b"\xff\xff")
            client.expect_closed()
            broker.client("c", version).drop()
        self.assertEqual(self.published(broker, watcher), [])

    def test_will_retain_decides(self):
        broker = self.broker()
        watcher = self.watcher(broker)
        for version in (4, 5):
            for retain in (False, True):
                topic = "w/%d/%d" % (version, retain)
                will = {"topic": topic, "payload": b"", "qos": 2, "retain": retain}
                broker.client("c", version, will=dict(will, payload=b"x")).drop()
                self.assertEqual([got.retain for got in watcher.wait_messages(1)], [retain])
                watcher.messages.clear()
                reader = broker.client("r", version)
                reader.subscribe(topic, 2)
                reader.publish(topic, b"live", 1)
                reader.wait_messages(1 + retain)
                self.assertEqual(sorted((got.payload, got.retain) for got in reader.messages),
                                 [(b"live", False), (b"x", True)][:1 + retain])
                self.published(broker, watcher)

    @cost(3)
    @reconnects()
    def test_new_connection_takes_the_delayed_will_back(self, count):
        broker = self.broker(count)
        watcher = self.watcher(broker)
        will = {"topic": "w/x", "payload": b"late", "props": {"will_delay_interval": 1}}
        broker.client("c", will=will, props=LASTING).drop()
        back = broker.client("c", clean=False, props=LASTING)
        self.assertTrue(back.connack.session_present)
        watcher.pump(1.5)
        self.assertEqual(self.published(broker, watcher), [])
        back.drop()
        self.assertEqual(self.published(broker, watcher), [])

    @reconnects()
    def test_end_of_the_session_ends_the_delay(self, count):
        broker = self.broker(count)
        watcher = self.watcher(broker)
        props = {"will_delay_interval": 1000, "user_property": [("b", "1"), ("a", "2"), ("b", "1")]}
        will = {"topic": "w/x", "payload": b"early", "qos": 1, "props": props}
        broker.client("c", will=will, props=LASTING).drop()
        broker.client("c", clean=True)
        self.assertEqual(watcher.wait_messages(1)[0].props, {"user_property": props["user_property"]})
        broker.client("d", will=will).drop()  # no session without its connection
        watcher.wait_messages(2)
        client = broker.client("e", will=will, props=LASTING)
        client.disconnect(0x04, {"session_expiry_interval": 0})
        watcher.wait_messages(3)
        self.assertEqual(watcher.payloads(), [b"early"] * 3)

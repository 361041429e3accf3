"""
What holds for all packets, statement by statement (tests/statements): UTF-8, topic names and filters, fixed headers, errors
and the end of a connection.
"""
from shoal_test import packets
from shoal_test.case import Case, only_shoal, workers
from shoal_test.client import Closed
from shoal_test.packets import DISCONNECT, PUBLISH, packet, properties, text

ID = b"\0\1"
ILL_FORMED = [b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xc0\xaf", b"\xff", b"a\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a\0b", b"\0"]


class Utf8(Case):
    def fields(self, version, bad):
        """A packet for each string field that a connected client can send."""
        props = b"\0" if version == 5 else b""
        yield packet(PUBLISH, text(bad) + props)
        yield packet(packets.SUBSCRIBE, ID + props + text(bad) + b"\0", 2)
        yield packet(packets.UNSUBSCRIBE, ID + props + text(bad), 2)
        if version < 5:
            return
        for name in ("response_topic", "content_type"):
            yield packets.publish(5, "t", b"", props={name: bad})
        for pair in ((bad, "x"), ("x", bad)):
            yield packets.publish(5, "t", b"", props={"user_property": pair})
            yield packets.subscribe(5, 1, [("t", 0)], {"user_property": pair})
            yield packets.unsubscribe(5, 1, ["t"], {"user_property": pair})
            yield packets.acknowledgement(packets.PUBACK, 1, 0, {"user_property": pair})
            yield packets.disconnect(5, 0, {"user_property": pair})
        yield packets.acknowledgement(packets.PUBREL, 1, 0, {"reason_string": bad})
        yield packets.disconnect(5, 0, {"reason_string": bad})

    def test_ill_formed_text_and_nul_close(self):
        broker = self.broker()
        watcher = broker.client("w")
        watcher.subscribe("#", 1)
        for version in (4, 5):
            for number, bad in enumerate(ILL_FORMED):
                chosen = list(self.fields(version, bad))
                for data in chosen if number in (0, 7) else chosen[:3]:
                    client = broker.client("c", version)
                    client.send(data)
                    goodbye = client.expect_closed()
                    self.assertEqual(goodbye and goodbye.reason, 0x81 if version == 5 else None, data)
        watcher.ping()
        self.assertEqual(watcher.messages, [])

    def test_text_of_will_and_connect_properties_is_checked(self):
        broker = self.broker()
        will = {"topic": "w", "payload": b"x"}
        for fields in ({"props": {"user_property": (b"\xff", "x")}}, {"props": {"user_property": ("x", b"\0")}},
                       {"will": dict(will, props={"content_type": b"\xff"})},
                       {"will": dict(will, props={"user_property": ("a", b"\xed\xa0\x80")})},
                       {"will": dict(will, props={"response_topic": "a/#"})},
                       {"will": dict(will, topic=b"\xc1\x80")}, {"user": b"\xfe"}):
            client = broker.client("c", connect=False)
            self.assertIn(client.connect(expect=None, **fields).reason, (0x81, 0x82))
            client.expect_closed()

    @workers(1, 2)
    def test_text_is_passed_on_byte_for_byte(self, count):
        """U+FEFF stays where it is; nothing is normalized: composed and decomposed letters differ."""
        broker = self.broker(count)
        sender = broker.client("s", slot=0)
        topics = ["\ufefft", "t", "t\ufeff", "é", "e\u0301", "É", "Å", "\u212b", "\U0001f980/\U0010ffff", "\u0001", "\uffff", "a b",
                  " a b ", "ﬀ", "ff", "A", "a", "/", "//", "a/", "/a"]
        readers = {topic: broker.client("r%d" % number, 4 + number % 2, slot=count - 1) for number, topic in enumerate(topics)}
        for topic, reader in readers.items():
            reader.subscribe([(topic, 1), ("end", 1)])
        for topic in topics:
            sender.publish(topic, topic, 1, props={"user_property": [(topic, topic)]})
        sender.publish("end", b"end", 1)
        for topic, reader in readers.items():
            reader.wait_messages(2)
            reader.ping()
            self.assertEqual([(got.topic, got.payload) for got in reader.messages], [(topic, topic.encode()), ("end", b"end")])
            if reader.version == 5:
                self.assertEqual(reader.messages[0].props, {"user_property": [(topic, topic)]})

    @workers(1, 2)
    def test_topics_of_the_greatest_length(self, count):
        broker = self.broker(count)
        for version in (4, 5):
            reader, sender = broker.client("r", version, slot=count - 1), broker.client("s", version, slot=0)
            longest, long = "t" * 65535, "ü" * 29000
            reader.subscribe([("+", 1), (long, 1)])
            sender.publish(longest, b"x", 1)
            sender.publish(long, b"y", 1)
            reader.wait_messages(2)
            self.assertEqual([got.topic for got in reader.messages], [longest, long])
            reader.unsubscribe([long, "+"])
            # A filter that no frame between workers takes is refused, and nothing else with it.
            self.assertEqual(reader.subscribe([(longest, 1), ("+", 1)], expect=False).reasons, [0x80 if version == 4 else 0x97, 1])


class Topics(Case):
    def test_wildcards_and_empty_names_are_no_topics(self):
        broker = self.broker()
        for version in (4, 5):
            for topic in ("", "+", "#", "a/+", "a/#", "a+b", "a#"):
                for qos in (0, 1):
                    client = broker.client("c", version)
                    client.publish(topic, b"", qos, wait=False)
                    goodbye = client.expect_closed()
                    self.assertIn(goodbye and goodbye.reason, (0x81, 0x82, 0x90) if version == 5 else (None,))
            client = broker.client("c", version, connect=False)
            client.send(packets.connect(version, "c", will={"topic": "a/+"}))
            client.expect_closed()
            self.assertTrue(all(got.reason for got in client.received))

    def test_badly_formed_filters_close(self):
        broker = self.broker()
        for version in (4, 5):
            for name in ("", "a#", "#/a", "a/#/b", "##", "+a", "a+", "a/+b/c", "++"):
                for make in (packets.subscribe(version, 1, [("good", 0), (name, 0)]), packets.unsubscribe(version, 1, [name])):
                    client = broker.client("c", version)
                    client.send(make)
                    goodbye = client.expect_closed()
                    self.assertIn(goodbye and goodbye.reason, (0x81, 0x82, 0x8F) if version == 5 else (None,), name)

    def test_wildcards_in_every_place(self):
        broker = self.broker()
        sender = broker.client("s")
        for version in (4, 5):
            reader = broker.client("r", version)
            for name in ("#", "+", "/", "+/+", "/+", "+/", "+/#", "/#", "+/a/+", "a/+/+/#"):
                self.assertEqual(reader.subscribe(name, 1).reasons, [1])
            sender.publish("a/b/c/d", b"x", 1)
            reader.wait_messages(1)


OLD = {  # what a connected 3.1.1 client may not send
    "puback with flags": b"\x41\x02\0\1", "pubrec with flags": b"\x52\x02\0\1", "pubrel without flags": b"\x60\x02\0\1",
    "pubrel with other flags": b"\x63\x02\0\1", "pubcomp with flags": b"\x78\x02\0\1",
    "subscribe without flags": packet(packets.SUBSCRIBE, ID + text("a") + b"\0"),
    "subscribe with other flags": packet(packets.SUBSCRIBE, ID + text("a") + b"\0", 10),
    "unsubscribe without flags": packet(packets.UNSUBSCRIBE, ID + text("a")),
    "unsubscribe with other flags": packet(packets.UNSUBSCRIBE, ID + text("a"), 3),
    "pingreq with flags": b"\xc1\0", "disconnect with flags": b"\xe1\0", "second connect with flags": b"\x11\0",
    "publish qos 3": packet(PUBLISH, text("a") + ID, 6), "publish dup at qos 0": packet(PUBLISH, text("a"), 8),
    "publish identifier 0": packet(PUBLISH, text("a") + b"\0\0", 2), "publish without identifier": packet(PUBLISH, text("a"), 2),
    "publish topic beyond the packet": packet(PUBLISH, b"\0\x09a"), "publish without topic": packet(PUBLISH),
    "subscribe identifier 0": packets.subscribe(4, 0, [("a", 0)]), "unsubscribe identifier 0": packets.unsubscribe(4, 0, ["a"]),
    "subscribe without filter": packets.subscribe(4, 1, []), "unsubscribe without filter": packets.unsubscribe(4, 1, []),
    "subscribe without qos": packet(packets.SUBSCRIBE, ID + text("a"), 2),
    "subscribe qos 3": packets.subscribe(4, 1, [("a", 3)]), "subscribe reserved bit": packets.subscribe(4, 1, [("a", 0x80)]),
    "subscribe reserved bit of version 5": packets.subscribe(4, 1, [("a", 8)]),
    "remaining length of five bytes": b"\x30\xff\xff\xff\xff\x01", "packet type 0": b"\0\0", "packet type 15": b"\xf0\0",
    "connack": b"\x20\x02\0\0", "suback": b"\x90\x03\0\1\0", "unsuback": b"\xb0\x02\0\1", "pingresp": b"\xd0\0",
    "second connect": packets.connect(4, "c"),
}


class Errors(Case):
    def test_errors_close_in_3_1_1_without_a_word(self):
        broker = self.broker()
        for name, data in OLD.items():
            with self.subTest(name):
                client = broker.client("c", version=4)
                client.send(data)
                client.expect_closed()
                self.assertEqual(len(client.received), 1)

    @only_shoal
    def test_long_encodings_of_a_number_are_malformed_in_5(self):
        broker = self.broker()
        body = text("t") + b"\0"
        for data in (b"\x30" + bytes([len(body) | 0x80, 0]) + body,            # remaining length
                     packet(PUBLISH, text("t") + b"\x80\0"),                    # property length
                     packet(packets.SUBSCRIBE, ID + b"\x03\x0b\x81\x00" + text("t") + b"\0", 2)):  # Subscription Identifier
            client = broker.client("c")
            client.send(data)
            self.assertEqual(client.expect_closed().reason, 0x81)

    def test_qos_0_has_no_identifier(self):
        """What would be one belongs to the payload."""
        broker = self.broker()
        reader, sender = broker.client("r", version=4), broker.client("s", version=4)
        reader.subscribe("t", 2)
        sender.send(packet(PUBLISH, text("t") + b"\0\7payload"))
        got = reader.wait_messages(1)[0]
        self.assertEqual((got.packet_id, got.payload), (None, b"\0\7payload"))

    def test_properties_may_be_left_out_and_empty(self):
        broker = self.broker()
        client = broker.client("c")
        client.acknowledge = False
        client.subscribe("t", 2)
        for tail in (b"", b"\0", b"\0\0"):
            client.publish("t", b"x", 2, packet_id=9, wait=False)
            client.expect(packets.PUBREC, packet_id=9)
            client.send(packet(packets.PUBREL, b"\0\x09" + tail, 2))
            client.expect(packets.PUBCOMP, packet_id=9)
            got = client.expect(PUBLISH)
            client.send(packet(packets.PUBREC, got.packet_id.to_bytes(2, "big") + tail))
            client.expect(packets.PUBREL, packet_id=got.packet_id)
            client.send(packet(packets.PUBCOMP, got.packet_id.to_bytes(2, "big") + tail))
            client._let_go(packets.PUBCOMP, got.packet_id)
        client.ping()
        client.send(packet(DISCONNECT, b"\0\0"))
        self.assertIsNone(client.expect_closed())


class End(Case):
    def test_pingreq_is_answered_each_time(self):
        broker = self.broker()
        for version in (3, 4, 5):
            client = broker.client("c", version)
            client.send(packets.PING * 5)
            for _ in range(5):
                client.expect(packets.PINGRESP)

    @only_shoal
    @workers(1, 2)
    def test_disconnect_of_the_server_is_its_last_packet(self, count):
        broker = self.broker(count)
        sender = broker.client("s", slot=0)
        ends = (packets.connect(5, "c"), packet(PUBLISH, text("t") + b"\0", 6), packets.publish(5, "", b""), b"\0\0",
                packets.disconnect(5, 0, {"session_expiry_interval": 5}), packets.disconnect(5, 0x77))
        for data in ends + (None,):
            client = broker.client("c", slot=count - 1)
            client.subscribe("t", 1)
            client.send((data or b"") + packets.PING)
            if data is None:
                broker.client("c", slot=0)
            try:
                for number in range(5):
                    sender.publish("t", b"%d" % number, 1)
            except Closed:
                self.fail("the sender was closed")
            goodbye = client.expect_closed()
            self.assertGreaterEqual(goodbye.reason, 0x80)
            self.assertIs(client.received[-1], goodbye)
            self.assertEqual(sum(got.kind == DISCONNECT for got in client.received), 1)
            self.assertNotIn("session_expiry_interval", goodbye.props)

    @only_shoal
    def test_no_disconnect_before_connack(self):
        broker = self.broker()
        for data in (packets.PING, b"\0\0", packets.disconnect(5), packets.connect(5, "c", flags=1), b"\x10\xff\xff\xff\xff"):
            client = broker.client(connect=False)
            client.send(data)
            client.expect_closed()
            self.assertTrue({got.kind for got in client.received} <= {packets.CONNACK})

    def test_reserved_bits_and_properties_of_disconnect(self):
        broker = self.broker()
        for flags in (1, 2, 4, 8):
            client = broker.client("c")
            client.send(bytes([0xE0 | flags, 0]))
            self.assertEqual(client.expect_closed().reason, 0x81)
        client = broker.client("c")
        client.disconnect(0, {"reason_string": "tired", "user_property": [("a", "b")]})
        self.assertEqual(client.unread[DISCONNECT], [])

    def test_properties_of_the_wrong_packet_or_place(self):
        broker = self.broker()
        for data in (packet(DISCONNECT, b"\0" + properties({"server_keep_alive": 1})),
                     packets.publish(5, "t", b"", props={"subscription_identifier": 5}),
                     packets.acknowledgement(packets.PUBACK, 1, 0, {"content_type": "x"})):
            client = broker.client("c")
            client.send(data)
            self.assertIn(client.expect_closed().reason, (0x81, 0x82))

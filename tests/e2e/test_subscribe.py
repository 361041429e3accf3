"""SUBSCRIBE and UNSUBSCRIBE: wildcards, options, identifiers, retained messages."""
from shoal_test import packets
from shoal_test.case import Case, cost, only_shoal, workers

MATCHES = [  # filter, topics that match, topics that do not
    ("a/b", ["a/b"], ["a", "a/b/c", "A/b", "/a/b", "a/b/"]),
    ("+", ["a", ""], ["/a", "a/"]),
    ("a/+", ["a/b", "a/"], ["a", "a/b/c"]),
    ("+/+", ["a/b", "/b", "/"], ["a", "a/b/c"]),
    ("a/+/c", ["a/b/c", "a//c"], ["a/c", "a/b/b/c"]),
    ("a/#", ["a", "a/b", "a/b/c", "a/"], ["b", "ab/c"]),
    ("#", ["a", "a/b", "/"], []),
    ("/#", ["/", "/a"], ["a", "a/b"]),
    ("+/b/#", ["a/b", "a/b/c/d", "/b"], ["b", "a/c/b"]),
    ("ä/+", ["ä/ö"], ["a/ö"]),
]


class Wildcards(Case):
    @workers(1, 2)
    def test_filters_match_as_the_specification_says(self, count):
        broker = self.broker(count)
        sender = broker.client("s", version=4)
        topics = sorted({topic for _, yes, no in MATCHES for topic in yes + no} - {""})
        receivers = []
        for number, (name, yes, _) in enumerate(MATCHES):
            client = broker.client("r%d" % number, 4 + number % 2)
            client.subscribe([name, "end"], 1)
            receivers.append((client, name, sorted(topic for topic in yes if topic)))
        for topic in topics:
            sender.publish(topic, b"", 1)
        sender.publish("end", b"end", 1)
        for client, name, yes in receivers:
            self.wait_for(lambda client=client: client.pump(0.05) or b"end" in client.payloads(), "sentinel")
            client.ping()
            missing = set(yes) - {got.topic for got in client.messages}
            extra = {got.topic for got in client.messages if got.payload != b"end"} - set(yes)
            known = {topic for rule, matching, no in MATCHES if rule == name for topic in matching + no}
            self.assertEqual((missing, extra & known), (set(), set()), name)

    @only_shoal
    def test_dollar_topics_are_not_for_clients(self):
        """[MQTT-4.7.2-1]: the server keeps clients from exchanging messages there."""
        broker = self.broker()
        receiver, sender, old = broker.client("r"), broker.client("s"), broker.client("o", version=4)
        receiver.subscribe(["#", "$other/#", "end"], 1)
        for qos in (1, 2):
            self.assertEqual(sender.publish("$other/x", b"y", qos).reason, 0x87)
            old.publish("$other/x", b"y", qos)  # 3.1.1 has no way to say no: taken and thrown away
        for client in (sender, old):
            client.publish("$other/x", b"y", 0)
            client.ping()
        broker.client("e").publish("end", b"end", 1)
        receiver.wait_messages(1)
        receiver.ping()
        self.assertEqual(set(receiver.payloads()), {b"end"})

    def test_invalid_filters_are_refused(self):
        broker = self.broker()
        for bad in ("a#", "#/a", "a/#/b", "a+", "a/+b", "a/b+/c"):
            client = broker.client("s")
            got = None
            client.send(packets.subscribe(5, 1, [("good", 0), (bad, 0)]))
            client.pump(0.3)
            if client.unread[packets.SUBACK]:
                got = client.unread[packets.SUBACK][0].reasons
            self.assertTrue((got and got[1] == 0x8F) or client.closed, (bad, got))


class Subscribe(Case):
    def test_granted_qos_is_told_for_each_filter(self):
        for version in (3, 4, 5):
            client = self.broker().client("s", version)
            self.assertEqual(client.subscribe([("a", 0), ("b", 1), ("c", 2)]).reasons, [0, 1, 2])

    @only_shoal
    def test_max_qos_limits_what_is_granted_and_taken(self):
        broker = self.broker(config={"mqtt": {"max_qos": 1}})
        client = broker.client("s")
        self.assertEqual(client.connack.props["maximum_qos"], 1)
        self.assertEqual(client.subscribe("a", 2).reasons, [1])
        client.publish("a", b"", 2, packet_id=1, wait=False)
        self.assertEqual(client.expect_closed().reason, 0x9B)

    def test_subscribing_again_replaces(self):
        broker = self.broker()
        receiver, sender = broker.client("r"), broker.client("s")
        receiver.subscribe("t", 2)
        receiver.subscribe("t", 0)
        sender.publish("t", b"x", 2)
        receiver.wait_messages(1)
        receiver.ping()
        self.assertEqual([got.qos for got in receiver.messages], [0])

    def test_unsubscribe_tells_what_existed_and_ends_delivery(self):
        broker = self.broker()
        receiver, sender, old = broker.client("r"), broker.client("s"), broker.client("o", version=4)
        receiver.subscribe(["a", "b"], 1)
        old.subscribe("a", 1)
        self.assertEqual(receiver.unsubscribe(["a", "nothing"]).reasons, [0, 0x11])
        self.assertEqual(old.unsubscribe(["a"]).reasons, [])
        sender.publish("a", b"gone", 1)
        sender.publish("b", b"here", 1)
        receiver.wait_messages(1)
        old.ping()
        self.assertEqual((receiver.payloads(), old.messages), ([b"here"], []))

    def test_many_filters_in_one_packet(self):
        broker = self.broker()
        receiver, sender = broker.client("r"), broker.client("s")
        self.assertEqual(len(receiver.subscribe([("m/%d" % i, i % 3) for i in range(500)]).reasons), 500)
        for number in (0, 250, 499):
            sender.publish("m/%d" % number, b"%d" % number, 2)
        receiver.wait_messages(3)
        self.assertEqual(sorted((got.payload, got.qos) for got in receiver.messages),
                         [(b"0", 0), (b"250", 1), (b"499", 1)])
        self.assertEqual(len(receiver.unsubscribe(["m/%d" % i for i in range(500)]).reasons), 500)

    @only_shoal
    def test_max_subscriptions_is_enforced(self):
        client = self.broker(config={"mqtt": {"max_subscriptions": 3}}).client("s")
        self.assertEqual(client.subscribe([("a", 0), ("b", 0), ("c", 0), ("d", 0)], expect=False).reasons,
                         [0, 0, 0, 0x97])

    @only_shoal
    def test_too_many_levels_are_refused(self):
        broker = self.broker(config={"mqtt": {"max_topic_levels": 8}})
        client = broker.client("s")
        self.assertGreaterEqual(client.subscribe("/".join("abcdefghi"), expect=False).reasons[0], 0x80)
        self.assertEqual(client.subscribe("/".join("abcdefgh")).reasons, [0])

    @only_shoal
    def test_wildcards_can_be_forbidden(self):
        client = self.broker(config={"mqtt": {"wildcard_subscription": False}}).client("s")
        self.assertEqual(client.connack.props["wildcard_subscription_available"], 0)
        got = client.subscribe([("plain", 0), ("a/#", 0)], expect=False)
        self.assertEqual(got.reasons, [0, 0xA2])


class Options(Case):
    @workers(1, 2)
    def test_no_local_keeps_own_messages_away(self, count):
        broker = self.broker(count)
        client, other = broker.client("c"), broker.client("o")
        client.subscribe([("t", 1 | 4)])
        client.publish("t", b"own", 1)
        other.publish("t", b"others", 1)
        client.wait_messages(1)
        client.ping()
        self.assertEqual(client.payloads(), [b"others"])

    @workers(1, 2)
    def test_retain_as_published(self, count):
        broker = self.broker(count)
        keeping, clearing, sender = broker.client("k"), broker.client("c"), broker.client("s")
        keeping.subscribe([("t", 1 | 8)])
        clearing.subscribe([("t", 1)])
        sender.publish("t", b"x", 1, retain=True)
        self.assertTrue(keeping.wait_messages(1)[0].retain)
        self.assertFalse(clearing.wait_messages(1)[0].retain)

    @workers(1, 2)
    def test_retain_handling(self, count):
        broker = self.broker(count)
        broker.client("s").publish("t", b"kept", 1, retain=True)
        client = broker.client("c")
        for options, wanted in ((0x21, 0), (0x11, 0), (0x01, 1), (0x01, 2), (0x11, 2), (0x21, 2)):
            client.subscribe([("t", options)])
            client.pump(0.2)
            self.assertEqual(len(client.messages), wanted, "options 0x%02x" % options)
        client.unsubscribe("t")
        client.subscribe([("t", 0x11)])
        client.wait_messages(3)

    @workers(1, 2)
    def test_subscription_identifiers_come_with_the_messages(self, count):
        broker = self.broker(count)
        client, sender = broker.client("c"), broker.client("s")
        client.subscribe("a/#", 1, props={"subscription_identifier": 1})
        client.subscribe("a/+", 1, props={"subscription_identifier": 268435455})
        client.subscribe("b", 1)
        sender.publish("a/x", b"", 1, props={"user_property": [("k", "v")]})
        sender.publish("b", b"", 1)
        self.wait_for(lambda: client.pump(0.05) or any(got.topic == "b" for got in client.messages), "b")
        identifiers = sorted(number for got in client.messages if got.topic == "a/x"
                             for number in got.props["subscription_identifier"])
        self.assertEqual(identifiers, [1, 268435455])
        self.assertTrue(all("subscription_identifier" not in got.props for got in client.messages if got.topic == "b"))

    def test_subscription_identifier_is_replaced(self):
        broker = self.broker()
        client = broker.client("c")
        client.subscribe("a", 1, props={"subscription_identifier": 1})
        client.subscribe("a", 1, props={"subscription_identifier": 2})
        broker.client("s").publish("a", b"", 1)
        self.assertEqual(client.wait_messages(1)[0].props["subscription_identifier"], [2])


class Retained(Case):
    @workers(1, 2, 4)
    def test_retained_is_kept_replaced_and_deleted(self, count):
        broker = self.broker(count)
        sender = broker.client("s")
        for version in (3, 4, 5):
            sender.publish("r/a", b"one", 1, retain=True)
            sender.publish("r/a", b"two", 2, retain=True)
            sender.publish("r/b", b"other", 0, retain=True)
            sender.ping()
            reader = broker.client("x%d" % version, version)
            reader.subscribe("r/+", 1)
            reader.wait_messages(2)
            self.assertEqual(sorted((got.topic, got.payload, got.retain) for got in reader.messages),
                             [("r/a", b"two", True), ("r/b", b"other", True)])
            sender.publish("r/a", b"", 1, retain=True)
            sender.publish("r/b", b"", 1, retain=True)
            later = broker.client("y%d" % version, version)
            later.subscribe("r/+", 1)
            sender.publish("r/c", b"now", 1)
            later.wait_messages(1)
            self.assertEqual(later.payloads(), [b"now"])

    @workers(1, 2)
    def test_deletion_reaches_subscribers_as_a_message(self, count):
        broker = self.broker(count)
        reader, sender = broker.client("r"), broker.client("s")
        sender.publish("t", b"x", 1, retain=True)
        reader.subscribe("t", 1)
        reader.wait_messages(1)
        sender.publish("t", b"", 1, retain=True)
        reader.wait_messages(2)
        self.assertEqual([(got.payload, got.retain) for got in reader.messages], [(b"x", True), (b"", False)])

    @workers(1, 2)
    def test_many_retained_messages_come_all(self, count):
        broker = self.broker(count)
        sender = broker.client("s", version=4)
        for number in range(1000):
            sender.publish("many/%d/x" % number, b"%d" % number, 0, retain=True)
        sender.publish("many/end", b"", 1)
        for name in ("r1", "r2"):
            reader = broker.client(name)
            reader.subscribe("many/+/x", 1)
            reader.wait_messages(1000)
            self.assertEqual(sorted(int(payload) for payload in reader.payloads()), list(range(1000)))

    def test_retained_is_sent_again_for_each_subscribe(self):
        broker = self.broker()
        broker.client("s").publish("t", b"x", 1, retain=True)
        reader = broker.client("r", version=4)
        for count in (1, 2):
            reader.subscribe("t", 1)
            reader.wait_messages(count)

    @cost(3)
    def test_retained_expires(self):
        broker = self.broker()
        sender = broker.client("s")
        sender.publish("t/a", b"x", 1, retain=True, props={"message_expiry_interval": 1})
        sender.publish("t/b", b"y", 1, retain=True, props={"message_expiry_interval": 60})
        sender.pump(2.2)
        reader = broker.client("r")
        reader.subscribe("t/+", 1)
        reader.wait_messages(1)
        reader.ping()
        self.assertEqual(reader.payloads(), [b"y"])
        self.assertIn(reader.messages[0].props["message_expiry_interval"], (56, 57, 58))

    @only_shoal
    def test_retain_can_be_forbidden(self):
        broker = self.broker(config={"mqtt": {"retain_available": False}})
        client = broker.client("s")
        self.assertEqual(client.connack.props["retain_available"], 0)
        client.publish("t", b"x", 1, retain=True, wait=False)
        self.assertEqual(client.expect_closed().reason, 0x9A)
        again = broker.client("s", connect=False)
        again.connect(will={"topic": "w", "retain": True}, expect=0x9A)

"""PUBLISH at every QoS: acknowledgement, retransmission after a reconnect, flow control, aliases, sizes, expiry."""
from shoal_test import packets
from shoal_test.case import Case, cost, only_shoal, reconnects, workers
from shoal_test.packets import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL

LASTING = {"session_expiry_interval": 1000}


class Delivery(Case):
    @workers(1, 2, 4)
    def test_every_qos_reaches_every_version(self, count):
        broker = self.broker(count)
        receivers = {}
        for version in (3, 4, 5):
            for granted in (0, 1, 2):
                receivers[version, granted] = broker.client("r%d%d" % (version, granted), version, tls=granted == 1)
                receivers[version, granted].subscribe("x/+/y", granted)
        for version in (3, 4, 5):
            sender = broker.client("s%d" % version, version)
            for qos in (0, 1, 2):
                sender.publish("x/%d/y" % version, b"%d%d" % (version, qos), qos)
                sender.ping()
        wanted = [(b"%d%d" % (version, qos), qos) for version in (3, 4, 5) for qos in (0, 1, 2)]
        for (version, granted), client in receivers.items():
            with self.subTest(version=version, granted=granted):
                client.wait_messages(len(wanted))
                got = sorted((message.payload, message.qos) for message in client.messages)
                self.assertEqual(got, sorted((payload, min(qos, granted)) for payload, qos in wanted))

    def test_qos_2_states_run_through(self):
        broker = self.broker()
        receiver, sender = broker.client("r"), broker.client("s")
        receiver.acknowledge = sender.acknowledge = False
        receiver.subscribe("t", 2)
        sender.publish("t", b"x", 2, packet_id=9, wait=False)
        sender.expect(PUBREC, packet_id=9)
        sender.answer(PUBREL, 9)
        sender.expect(PUBCOMP, packet_id=9)
        got = receiver.expect(PUBLISH, qos=2)
        receiver.answer(PUBREC, got.packet_id)
        receiver.expect(PUBREL, packet_id=got.packet_id)
        receiver.answer(PUBCOMP, got.packet_id)
        receiver.ping()

    def test_qos_2_repeated_publish_is_delivered_once(self):
        broker = self.broker()
        receiver, sender = broker.client("r"), broker.client("s")
        receiver.subscribe("t", 2)
        sender.acknowledge = False
        for dup in (False, True, True):
            sender.publish("t", b"once", 2, packet_id=5, dup=dup, wait=False)
            sender.expect(PUBREC, packet_id=5)
        sender.answer(PUBREL, 5)
        sender.expect(PUBCOMP, packet_id=5)
        sender.publish("t", b"sentinel", 2, packet_id=5)
        receiver.wait_messages(2)
        self.assertEqual(receiver.payloads(), [b"once", b"sentinel"])

    def test_pubrel_of_an_unknown_identifier_is_answered(self):
        broker = self.broker()
        client = broker.client("s")
        client.answer(PUBREL, 77)
        self.assertEqual(client.expect(PUBCOMP, packet_id=77).reason, 0x92)
        old = broker.client("o", version=4)
        old.answer(PUBREL, 77)
        old.expect(PUBCOMP, packet_id=77)

    @only_shoal
    def test_nobody_subscribed_is_told_in_the_acknowledgement(self):
        client = self.broker().client("s")
        self.assertEqual(client.publish("nobody", b"", 1).reason, 0x10)
        client.publish("nobody", b"", 2, packet_id=8, wait=False)
        self.assertEqual(client.expect(PUBREC, packet_id=8).reason, 0x10)

    def test_publisher_gets_its_own_message_once_per_matching_session(self):
        client = self.broker().client("s")
        client.subscribe(["t", "+", "#"], 1)
        client.publish("t", b"x", 1)
        client.publish("end", b"y", 1)
        client.ping()
        self.assertIn(client.payloads().count(b"x"), (1, 3))

    def test_dup_is_not_passed_on(self):
        broker = self.broker()
        receiver, sender = broker.client("r"), broker.client("s")
        receiver.subscribe("t", 1)
        sender.publish("t", b"x", 1, dup=True)
        self.assertFalse(receiver.wait_messages(1)[0].dup)

    def test_forwarded_properties_arrive(self):
        broker = self.broker()
        receiver, sender, old = broker.client("r"), broker.client("s"), broker.client("o", version=4)
        receiver.subscribe("t", 1)
        old.subscribe("t", 1)
        props = {"payload_format_indicator": 1, "content_type": "text/plain", "response_topic": "answer",
                 "correlation_data": b"\0\1\2", "user_property": [("k", "1"), ("k", "2"), ("a", "3")]}
        sender.publish("t", "grüß".encode(), 1, props=props)
        self.assertEqual(receiver.wait_messages(1)[0].props, props)
        self.assertEqual(old.wait_messages(1)[0].payload, "grüß".encode())

    def test_empty_and_binary_payloads_arrive(self):
        broker = self.broker()
        receiver, sender = broker.client("r", version=4), broker.client("s", version=3)
        receiver.subscribe("t", 2)
        payloads = [b"", b"\0", bytes(range(256)), b"\xff" * 127, b"x" * 128, b"y" * 16383, b"z" * 16384]
        for payload in payloads:
            sender.publish("t", payload, 2)
        receiver.wait_messages(len(payloads))
        self.assertEqual(receiver.payloads(), payloads)


class Sizes(Case):
    @workers(1, 2, 4)
    def test_large_publications_arrive_whole(self, count):
        broker = self.broker(count, config={"mqtt": {"max_packet_size": "8MB"}})
        receivers = [broker.client("r%d" % slot, slot=slot, tls=slot % 2 == 0) for slot in range(broker.workers)]
        for receiver in receivers:
            receiver.subscribe("t", 1)
        sender = broker.client("s", version=4)
        payloads = [bytes([i]) * size for i, size in enumerate((1000, 60000, 65536, 70000, 1 << 20, 3 << 20, 10))]
        for payload in payloads:
            sender.publish("t", payload, 1, timeout=20)
        for receiver in receivers:
            receiver.wait_messages(len(payloads), 20)
            self.assertEqual([len(got) for got in receiver.payloads()], [len(payload) for payload in payloads])
            self.assertEqual(receiver.payloads(), payloads)

    @only_shoal
    def test_packet_above_the_maximum_is_refused(self):
        broker = self.broker(config={"mqtt": {"max_packet_size": "10KB"}})
        client = broker.client("s")
        try:
            client.send(packets.publish(5, "t", b"x" * 20000, 1, 1))
        except Exception:
            pass
        self.assertEqual(client.expect_closed().reason, 0x95)
        client = broker.client("s")
        client.send(packets.publish(5, "t", b"x" * 20000, 1, 1)[:5])  # the length alone is enough
        self.assertEqual(client.expect_closed().reason, 0x95)
        broker.client("t").publish("t", b"x" * 9000, 1)

    def test_client_maximum_packet_size_is_kept(self):
        broker = self.broker()
        receiver = broker.client("r", props={"maximum_packet_size": 100})
        receiver.subscribe("t", 1)
        sender = broker.client("s")
        sender.publish("t", b"x" * 200, 1)
        sender.publish("t", b"small", 1)
        receiver.wait_messages(1)
        receiver.ping()
        self.assertEqual(receiver.payloads(), [b"small"])
        self.assertLessEqual(max(got.size for got in receiver.received), 100)


class Flow(Case):
    def test_client_receive_maximum_is_kept(self):
        broker = self.broker()
        receiver, sender = broker.client("r", props={"receive_maximum": 3}), broker.client("s")
        receiver.subscribe("t", 2)
        receiver.acknowledge = False
        for number in range(10):
            sender.publish("t", b"%d" % number, 1 + number % 2)
        receiver.wait_messages(3)
        receiver.ping()
        self.assertEqual(len(receiver.messages), 3)
        done = 0
        while done < 10:  # one at a time: each acknowledgement lets one more come
            got = receiver.messages[done]
            if got.qos == 1:
                receiver.answer(PUBACK, got.packet_id)
            else:
                receiver.answer(PUBREC, got.packet_id)
                receiver.expect(PUBREL, packet_id=got.packet_id)
                self.assertLessEqual(len(receiver.messages), done + 3)
                receiver.answer(PUBCOMP, got.packet_id)
            done += 1
            receiver.wait_messages(min(10, done + 3))
            receiver.ping()
            self.assertEqual(len(receiver.messages), min(10, done + 3))
        self.assertEqual(receiver.payloads(), [b"%d" % number for number in range(10)])

    def test_negative_pubrec_frees_its_place(self):
        broker = self.broker()
        receiver, sender = broker.client("r", props={"receive_maximum": 1}), broker.client("s")
        receiver.subscribe("t", 2)
        receiver.acknowledge = False
        sender.publish("t", b"0", 2)
        sender.publish("t", b"1", 2)
        receiver.wait_messages(1)
        receiver.answer(PUBREC, receiver.messages[0].packet_id, 0x80)
        receiver.wait_messages(2)
        self.assertEqual(receiver.payloads(), [b"0", b"1"])

    @only_shoal
    def test_server_receive_maximum_is_enforced(self):
        broker = self.broker(config={"mqtt": {"receive_maximum": 5}})
        client = broker.client("s")
        client.acknowledge = False
        client.send(b"".join(packets.publish(5, "t", b"x", 2, number) for number in range(1, 7)))
        self.assertEqual(client.expect_closed().reason, 0x93)

    def test_server_receive_maximum_frees_places(self):
        broker = self.broker(config={"mqtt": {"receive_maximum": 5}})
        client = broker.client("s")
        for _ in range(20):
            client.publish("t", b"x", 2)
            client.publish("t", b"x", 1)


class Retransmission(Case):
    @reconnects()
    def test_unacknowledged_is_sent_again_with_dup_and_the_same_identifier(self, count):
        broker = self.broker(count)
        for version in (3, 4, 5):
            with self.subTest(version=version):
                name, props = "r%d" % version, LASTING if version == 5 else None
                receiver = broker.client(name, version, clean=False, props=props)
                receiver.acknowledge = False
                receiver.subscribe(name, 2)
                sender = broker.client("s%d" % version, version)
                for number in range(6):
                    sender.publish(name, b"%d" % number, 1 + number % 2)
                first = list(receiver.wait_messages(6))
                receiver.drop()
                again = broker.client(name, version, connect=False)
                again.acknowledge = False
                self.assertTrue(again.connect(clean=False, props=props).session_present or version == 3)
                second = again.wait_messages(6)
                self.assertEqual([(got.packet_id, got.payload, got.qos) for got in second],
                                 [(got.packet_id, got.payload, got.qos) for got in first])
                self.assertTrue(all(got.dup for got in second))

    @reconnects()
    def test_pubrel_phase_survives_a_reconnect(self, count):
        broker = self.broker(count)
        receiver = broker.client("r", props=LASTING)
        receiver.acknowledge = False
        receiver.subscribe("t", 2)
        broker.client("s").publish("t", b"x", 2)
        got = receiver.expect(PUBLISH)
        receiver.answer(PUBREC, got.packet_id)
        receiver.expect(PUBREL, packet_id=got.packet_id)
        receiver.drop()
        again = broker.client("r", connect=False)
        again.acknowledge = False
        self.assertTrue(again.connect(clean=False, props=LASTING).session_present)
        again.expect(PUBREL, packet_id=got.packet_id)
        again.answer(PUBCOMP, got.packet_id)
        again.ping()
        self.assertEqual(again.messages, [])

    @reconnects()
    def test_publisher_can_repeat_after_a_reconnect(self, count):
        broker = self.broker(count)
        receiver = broker.client("r")
        receiver.subscribe("t", 2)
        sender = broker.client("s", props=LASTING)
        sender.acknowledge = False
        sender.publish("t", b"x", 2, packet_id=3, wait=False)
        sender.expect(PUBREC, packet_id=3)
        sender.drop()
        sender = broker.client("s", connect=False)
        sender.acknowledge = False
        self.assertTrue(sender.connect(clean=False, props=LASTING).session_present)
        sender.publish("t", b"x", 2, packet_id=3, dup=True, wait=False)
        sender.expect(PUBREC, packet_id=3)
        sender.answer(PUBREL, 3)
        sender.expect(PUBCOMP, packet_id=3)
        sender.publish("t", b"sentinel", 2, packet_id=4)
        receiver.wait_messages(2)
        self.assertEqual(receiver.payloads(), [b"x", b"sentinel"])

    def test_nothing_is_sent_again_on_a_live_connection(self):
        broker = self.broker()
        receiver = broker.client("r")
        receiver.acknowledge = False
        receiver.subscribe("t", 1)
        broker.client("s").publish("t", b"x", 1)
        receiver.wait_messages(1)
        receiver.expect_silence(1.0)

    @reconnects()
    def test_clean_start_forgets_everything(self):
        broker = self.broker()
        receiver = broker.client("r", props=LASTING)
        receiver.acknowledge = False
        receiver.subscribe("t", 1)
        sender = broker.client("s")
        sender.publish("t", b"x", 1)
        receiver.wait_messages(1)
        receiver.drop()
        again = broker.client("r", clean=True, props=LASTING)
        self.assertFalse(again.connack.session_present)
        sender.publish("t", b"y", 1)
        again.ping()
        self.assertEqual(again.messages, [])


class Aliases(Case):
    def test_client_may_use_aliases(self):
        broker = self.broker()
        receiver, sender = broker.client("r"), broker.client("s")
        receiver.subscribe("a/#", 1)
        most = sender.connack.props["topic_alias_maximum"]
        self.assertGreater(most, 1)
        sender.publish("a/one", b"1", props={"topic_alias": 1})
        sender.publish("a/two", b"2", 1, props={"topic_alias": most})
        sender.publish("", b"3", props={"topic_alias": 1})
        sender.publish("", b"4", 2, props={"topic_alias": most})
        sender.publish("a/three", b"5", 1, props={"topic_alias": 1})
        sender.publish("", b"6", 1, props={"topic_alias": 1})
        receiver.wait_messages(6)
        self.assertEqual([(got.topic, got.payload) for got in sorted(receiver.messages, key=lambda got: got.payload)],
                         [("a/one", b"1"), ("a/two", b"2"), ("a/one", b"3"), ("a/two", b"4"), ("a/three", b"5"),
                          ("a/three", b"6")])
        self.assertTrue(all("topic_alias" not in got.props for got in receiver.messages))

    def test_broker_uses_aliases_as_far_as_the_client_takes_them(self):
        broker = self.broker(2)
        receiver = broker.client("r", props={"topic_alias_maximum": 2})
        other, sender = broker.client("o"), broker.client("s")
        for client in (receiver, other):
            client.subscribe("alias/#", 2)
        topics = ["alias/one", "alias/two", "alias/three"] * 3
        for number, topic in enumerate(topics):
            sender.publish(topic, b"%d" % number, number % 3)
        receiver.wait_messages(9)
        other.wait_messages(9)
        known = {}
        for got in receiver.messages:
            alias = got.props.get("topic_alias")
            if alias:
                self.assertIn(alias, (1, 2))
                self.assertTrue(got.topic or alias in known)
                known.setdefault(alias, got.topic)
            self.assertEqual(got.topic or known[alias], topics[int(got.payload)])
        self.assertEqual(len(known), 2)
        self.assertTrue(any(not got.topic for got in receiver.messages))
        self.assertTrue(all("topic_alias" not in got.props for got in other.messages))

    @reconnects()
    def test_aliases_end_with_the_connection(self):
        broker = self.broker()
        sender = broker.client("s", props=LASTING)
        sender.publish("a", b"", 1, props={"topic_alias": 1})
        sender.drop()
        sender = broker.client("s", clean=False, props=LASTING)
        sender.publish("", b"", 1, props={"topic_alias": 1}, wait=False)
        self.assertIn(sender.expect_closed().reason, (0x82, 0x94))

    def test_alias_zero_and_too_high_are_refused(self):
        broker = self.broker(config={"mqtt": {"max_topic_alias": 10}})
        for alias in (0, broker.client("p").connack.props["topic_alias_maximum"] + 1, 65535):
            client = broker.client("s")
            client.publish("a", b"", 1, props={"topic_alias": alias}, wait=False)
            self.assertEqual(client.expect_closed().reason, 0x94)


class Expiry(Case):
    @cost(3)
    @reconnects()
    def test_expired_messages_are_not_delivered_and_time_left_is_told(self):
        broker = self.broker()
        receiver = broker.client("r", props=LASTING)
        receiver.subscribe("t", 1)
        receiver.disconnect()
        sender = broker.client("s")
        sender.publish("t", b"short", 1, props={"message_expiry_interval": 1})
        sender.publish("t", b"long", 1, props={"message_expiry_interval": 100})
        sender.publish("t", b"for ever", 1)
        sender.pump(2.2)
        receiver = broker.client("r", clean=False, props=LASTING)
        receiver.wait_messages(2)
        receiver.ping()
        self.assertEqual(receiver.payloads(), [b"long", b"for ever"])
        self.assertLess(receiver.messages[0].props["message_expiry_interval"], 99)
        self.assertGreater(receiver.messages[0].props["message_expiry_interval"], 80)


class PayloadFormat(Case):
    def test_payload_that_is_not_utf8_is_refused_when_asked_for(self):
        broker = self.broker(config={"mqtt": {"validate_payload_format": True}})
        receiver, sender = broker.client("r"), broker.client("s")
        receiver.subscribe("f", 2)
        text = {"payload_format_indicator": 1}
        self.assertEqual(sender.publish("f", b"\xff\xfe", 1, props=text).reason, 0x99)
        self.assertEqual(sender.publish("f", b"\xff\xfe", 2, props=text).reason, 0x99)
        sender.publish("f", "ä".encode(), 1, props=text)
        sender.publish("f", b"\xff\xfe", 1)
        receiver.wait_messages(2)
        self.assertEqual(receiver.payloads(), ["ä".encode(), b"\xff\xfe"])

    def test_response_information_is_told_to_those_who_ask(self):
        broker = self.broker(config={"mqtt": {"response_information": "answers/"}})
        asks = broker.client("a", props={"request_response_information": 1})
        self.assertEqual(asks.connack.props["response_information"], "answers/")
        self.assertNotIn("response_information", broker.client("b").connack.props)

"""Sessions: resumption, expiry, take-over, queues; wills with all their ways to be due or not."""
import time

from shoal_test import packets
from shoal_test.case import Case, cost, only_shoal, reconnects, workers
from shoal_test.environment import PATIENCE

LASTING = {"session_expiry_interval": 1000}


class Resume(Case):
    @reconnects(1, 2, 4)
    def test_session_resumes_with_subscriptions_and_queue(self, count):
        broker = self.broker(count)
        sender = broker.client("sender")
        for version in (3, 4, 5):
            with self.subTest(version=version):
                name, props = "s%d" % version, LASTING if version == 5 else None
                client = broker.client(name, version, clean=False, props=props)
                self.assertFalse(client.connack.session_present)
                client.subscribe([(name + "/1", 1), (name + "/2", 2)])
                client.disconnect()
                for number in range(20):
                    sender.publish("%s/%d" % (name, 1 + number % 2), b"%d" % number, 2)
                client = broker.client(name, version, clean=False, props=props)
                self.assertTrue(client.connack.session_present or version == 3)
                client.wait_messages(20)
                for qos in (1, 2):
                    self.assertEqual([int(got.payload) for got in client.messages if got.qos == qos],
                                     list(range(qos - 1, 20, 2)))
                sender.publish(name + "/1", b"live", 1)
                client.wait_messages(21)

    @reconnects()
    def test_clean_session_ends_with_the_connection(self, count):
        broker = self.broker(count)
        for version in (3, 4, 5):
            client = broker.client("c", version, clean=True)
            client.subscribe("t", 1)
            client.disconnect()
            self.assertFalse(broker.client("c", version, clean=False).connack.session_present)
            broker.client("c", version, clean=True).disconnect()

    @reconnects()
    def test_session_from_3_1_1_resumes_in_5_and_back(self, count):
        broker = self.broker(count)
        client = broker.client("c", 4, clean=False)
        client.subscribe("t", 1)
        client.disconnect()
        client = broker.client("c", 5, clean=False, props=LASTING)
        self.assertTrue(client.connack.session_present)
        client.disconnect()
        client = broker.client("c", 4, clean=False)
        self.assertTrue(client.connack.session_present)
        broker.client("s").publish("t", b"x", 1)
        client.wait_messages(1)

    @reconnects(1, 2, 4)
    def test_subscriptions_keep_their_options_and_identifiers(self, count):
        broker = self.broker(count)
        sender = broker.client("sender")
        client = broker.client("c", props=LASTING)
        for name, options, identifier in (("a", 1, 7), ("b/+", 2 | 8, 268435455), ("own", 1 | 4, 1), ("$share/g/d", 1, 9)):
            client.subscribe([(name, options)], props={"subscription_identifier": identifier})
        for _ in range(3):
            client.drop()
            client = broker.client("c", clean=False, props=LASTING)
            self.assertTrue(client.connack.session_present)
            client.publish("own", b"mine", 1)
            for topic in ("a", "b/x", "own", "d"):
                sender.publish(topic, b"x", 2, retain=True)
            client.wait_messages(4)
            client.ping()
            self.assertEqual(sorted((got.topic, got.qos, got.retain, got.props["subscription_identifier"], got.payload)
                                    for got in client.messages),
                             [("a", 1, False, [7], b"x"), ("b/x", 2, True, [268435455], b"x"), ("d", 1, False, [9], b"x"),
                              ("own", 1, False, [1], b"x")])
        self.assertEqual(client.unsubscribe(["a", "b/+", "own", "$share/g/d", "other"]).reasons, [0, 0, 0, 0, 0x11])
        sender.publish("a", b"y", 1)
        client.ping()
        self.assertEqual(len(client.messages), 4)

    @cost(5)
    @reconnects()
    def test_session_expires(self, count):
        broker = self.broker(count)
        client = broker.client("c", props={"session_expiry_interval": 1})
        client.subscribe("t", 1)
        client.drop()
        again = broker.client("c", clean=False, props={"session_expiry_interval": 1})
        self.assertTrue(again.connack.session_present)
        again.disconnect()
        time.sleep(3)
        self.assertFalse(broker.client("c", clean=False).connack.session_present)

    @reconnects()
    def test_disconnect_can_change_the_expiry(self):
        broker = self.broker()
        client = broker.client("c", props={"session_expiry_interval": 100})
        client.disconnect(0, {"session_expiry_interval": 0})
        self.assertFalse(broker.client("c", clean=False).connack.session_present)

    @only_shoal
    def test_session_expiry_is_clamped_and_told(self):
        broker = self.broker(config={"mqtt": {"session_expiry_max": "60s"}})
        client = broker.client("c", props={"session_expiry_interval": 1000})
        self.assertEqual(client.connack.props["session_expiry_interval"], 60)
        client = broker.client("d", props={"session_expiry_interval": 10})
        self.assertNotIn("session_expiry_interval", client.connack.props)

    @reconnects()
    def test_qos_0_is_not_queued_for_the_absent_or_comes_in_order(self):
        broker = self.broker()
        client = broker.client("c", props=LASTING)
        client.subscribe("t", 1)
        client.disconnect()
        sender = broker.client("s")
        sender.publish("t", b"zero", 0)
        sender.publish("t", b"one", 1)
        client = broker.client("c", clean=False, props=LASTING)
        client.wait_messages(1)
        client.ping()
        self.assertIn(client.payloads(), ([b"one"], [b"zero", b"one"]))

    @only_shoal
    @reconnects()
    def test_queue_is_bounded_and_what_it_drops_is_counted(self):
        broker = self.broker(config={"mqtt": {"max_queued_messages": 10}})
        client = broker.client("c", props=LASTING)
        client.subscribe("t", 1)
        client.disconnect()
        sender = broker.client("s")
        for number in range(30):
            sender.publish("t", b"%d" % number, 1)
        self.assertEqual(broker.counter("dropped_queue_full"), 20)
        client = broker.client("c", clean=False, props=LASTING)
        client.wait_messages(10)
        client.ping()
        self.assertEqual(len(client.messages), 10)
        numbers = [int(payload) for payload in client.payloads()]
        self.assertEqual(numbers, sorted(numbers))


class TakeOver(Case):
    @reconnects(1, 2, 4)
    def test_second_connection_takes_over(self, count):
        broker = self.broker(count)
        for version in (3, 4, 5):
            for clean in (True, False):
                first = broker.client("c", version, clean=clean)
                second = broker.client("c", version, clean=clean)
                goodbye = first.expect_closed()
                self.assertEqual(goodbye and goodbye.reason, 0x8E if version == 5 else None)
                self.assertEqual(second.connack.session_present and version > 3, not clean and version == 4)
                second.ping()
                second.disconnect()

    @reconnects(1, 2, 4)
    def test_many_take_overs_in_a_row_leave_one(self, count):
        broker = self.broker(count)
        made = [broker.client("c", connect=False) for _ in range(20)]
        for client in made:
            client.send(packets.connect(5, "c", False, props=LASTING))
        alive = []
        for client in made:
            client.pump(0.1)
        self.wait_for(lambda: [client.pump(0.02) for client in made if not client.closed] and
                      sum(not client.closed for client in made) == 1, "one connection left")
        alive = [client for client in made if not client.closed]
        alive[0].subscribe("t", 1)
        broker.client("s").publish("t", b"x", 1)
        alive[0].wait_messages(1)


class Wills(Case):
    def watcher(self, broker, topic="w/#"):
        watcher = broker.client("watcher")
        watcher.subscribe([(topic, 2 | 8)])
        return watcher

    @workers(1, 2, 4)
    def test_lost_connection_publishes_the_will(self, count):
        broker = self.broker(count)
        watcher = self.watcher(broker)
        for version in (3, 4, 5):
            for qos in (0, 1, 2):
                for retain in (False, True):
                    client = broker.client("c%d%d%d" % (version, qos, retain), version, tls=qos == 1, will={
                        "topic": "w/%d" % version, "payload": b"%d%d" % (qos, retain), "qos": qos, "retain": retain})
                    client.drop()
        watcher.wait_messages(18)
        wanted = sorted(("w/%d" % version, b"%d%d" % (qos, retain), qos, retain)
                        for version in (3, 4, 5) for qos in (0, 1, 2) for retain in (False, True))
        self.assertEqual(sorted((got.topic, got.payload, got.qos, got.retain) for got in watcher.messages), wanted)

    @reconnects()
    def test_normal_disconnect_publishes_no_will_and_0x04_does(self, count):
        broker = self.broker(count)
        watcher = self.watcher(broker)
        will = {"topic": "w/x", "payload": b"will", "qos": 1}
        for version in (3, 4, 5):
            broker.client("a", version, will=will).disconnect()
        broker.client("b", will=will).disconnect(0x04)
        watcher.wait_messages(1)
        broker.client("b", will=dict(will, payload=b"second")).drop()
        watcher.wait_messages(2)
        self.assertEqual(watcher.payloads(), [b"will", b"second"])

    def test_protocol_error_publishes_the_will(self):
        broker = self.broker()
        watcher = self.watcher(broker)
        client = broker.client("b", will={"topic": "w/x", "payload": b"will"})
        client.send(b"\xff\xff\xff\xff\xff")
        watcher.wait_messages(1)

    @cost(4)
    def test_keep_alive_time_out_publishes_the_will(self):
        broker = self.broker()
        watcher = self.watcher(broker)
        broker.client("b", keep_alive=1, will={"topic": "w/x", "payload": b"will"})
        watcher.wait_messages(1)

    @reconnects()
    def test_take_over_publishes_the_will(self, count):
        broker = self.broker(count)
        watcher = self.watcher(broker)
        broker.client("c", will={"topic": "w/x", "payload": b"first"})
        broker.client("c", will={"topic": "w/x", "payload": b"second"})
        watcher.wait_messages(1)
        self.assertEqual(watcher.payloads(), [b"first"])

    @cost(5)
    @workers(1, 2)
    def test_will_delay_waits(self, count):
        broker = self.broker(count)
        watcher = self.watcher(broker)
        begin = time.monotonic()
        will = {"topic": "w/x", "payload": b"late", "props": {"will_delay_interval": 2}}
        broker.client("c", will=will, props=LASTING).drop()
        watcher.wait_messages(1)
        took = watcher.messages[0].time - begin
        self.assertGreater(took, 1.9)
        self.assertLess(took, 3.5 * PATIENCE)

    @cost(4)
    @reconnects()
    def test_client_that_is_back_in_time_has_no_delayed_will(self, count):
        broker = self.broker(count)
        watcher = self.watcher(broker)
        will = {"topic": "w/x", "payload": b"late", "props": {"will_delay_interval": 1}}
        for _ in range(4):
            broker.client("c", will=will, props=LASTING, clean=False).drop()
        back = broker.client("c", props=LASTING, clean=False)
        watcher.expect_silence(2.5)
        back.ping()

    @cost(3)
    @reconnects()
    def test_end_of_the_session_publishes_a_delayed_will(self):
        broker = self.broker()
        watcher = self.watcher(broker)
        will = {"topic": "w/x", "payload": b"early", "props": {"will_delay_interval": 1000}}
        broker.client("c", will=will, props={"session_expiry_interval": 1}).drop()
        watcher.wait_messages(1)
        broker.client("d", will=will, props=LASTING).drop()
        broker.client("d", clean=True)
        watcher.wait_messages(2)

    def test_will_properties_are_passed_on(self):
        broker = self.broker()
        watcher = self.watcher(broker)
        props = {"payload_format_indicator": 1, "content_type": "t", "response_topic": "r", "correlation_data": b"c",
                 "user_property": [("a", "b"), ("a", "c")]}
        broker.client("c", will={"topic": "w/x", "payload": b"p", "props": props}).drop()
        self.assertEqual(watcher.wait_messages(1)[0].props, props)

    def test_retained_will_is_kept(self):
        broker = self.broker()
        watcher = self.watcher(broker)
        broker.client("c", will={"topic": "w/x", "payload": b"p", "retain": True}).drop()
        watcher.wait_messages(1)
        later = broker.client("later")
        later.subscribe("w/x", 1)
        self.assertTrue(later.wait_messages(1)[0].retain)

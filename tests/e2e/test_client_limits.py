"""Limits per client, per session and per node: what is refused, with which reason, and what is only slowed."""
import time

from shoal_test import packets
from shoal_test.case import Case, cost, only_shoal, reconnects, workers
from shoal_test.client import Client
from shoal_test.environment import PATIENCE

EXPIRY = {"session_expiry_interval": 1000}


@only_shoal
class Sessions(Case):
    @reconnects()
    def test_no_more_sessions_than_max_sessions(self, count):
        broker = self.broker(count, config={"mqtt": {"max_sessions": 4}})
        kept = [broker.client("k%d" % number, props=EXPIRY) for number in range(3)]
        last = broker.client("last")
        broker.client("more", expect=0x97)
        broker.client("more", 4, expect=3)
        kept[0].drop()
        again = broker.client("k0", clean=False, props=EXPIRY)  # its session is there already
        self.assertTrue(again.connack.session_present)
        broker.client("k1", clean=True, props=EXPIRY).ping()  # takes the place of its own
        last.disconnect()
        self.wait_for(lambda: broker.counter("sessions") == 3, "a session less")
        broker.client("more").ping()
        self.assertEqual(broker.counter("sessions_limit"), 2)


@only_shoal
class Queue(Case):
    def away(self, broker, topic="t", slot=None):
        """A session without its client, which subscribes at QoS 1."""
        client = broker.client("away", props=EXPIRY, slot=slot)
        client.subscribe(topic, 1)
        client.drop()
        self.wait_for(lambda: broker.counter("clients") == 0, "the client gone")

    def back(self, broker, slot=None):
        return broker.client("away", clean=False, props=EXPIRY, slot=slot)

    @reconnects()
    def test_a_full_queue_drops_what_comes(self):
        broker = self.broker(config={"mqtt": {"max_queued_messages": 3}})
        self.away(broker)
        sender = broker.client("s")
        for number in range(5):
            sender.publish("t", b"%d" % number, 1)
        client = self.back(broker)
        client.wait_messages(3)
        client.ping()
        self.assertEqual(client.payloads(), [b"0", b"1", b"2"])
        self.assertEqual(broker.counter("dropped_queue_full"), 2)

    @reconnects()
    def test_a_full_queue_drops_the_oldest_if_told_so(self):
        broker = self.broker(config={"mqtt": {"max_queued_messages": 3, "queue_full": "drop_oldest"}})
        self.away(broker)
        sender = broker.client("s")
        for number in range(5):
            sender.publish("t", b"%d" % number, 1)
        client = self.back(broker)
        client.wait_messages(3)
        client.ping()
        self.assertEqual(client.payloads(), [b"2", b"3", b"4"])
        self.assertEqual(broker.counter("dropped_queue_full"), 2)

    @reconnects()
    def test_bytes_are_limited_too(self):
        broker = self.broker(config={"mqtt": {"max_packet_size": "8KB", "max_queued_bytes": "8KB", "queue_full": "drop_oldest"}})
        self.away(broker)
        sender = broker.client("s")
        for number in range(10):
            sender.publish("t", b"%d" % number + b"x" * 3000, 1)
        client = self.back(broker)
        client.wait_messages(3)
        client.ping()
        self.assertEqual([payload[:1] for payload in client.payloads()], [b"7", b"8", b"9"])

    @reconnects()
    def test_qos_0_waits_only_if_told_so(self, count):
        for told in (False, True):
            broker = self.broker(count, config={"mqtt": {"queue_qos0": told}})
            self.away(broker)
            sender = broker.client("s", slot=count - 1)
            for qos in (0, 1, 0):
                sender.publish("t", b"%d" % qos, qos)
            sender.publish("t", b"end", 1)
            client = self.back(broker)
            client.wait_messages(4 if told else 2)
            client.ping()
            self.assertEqual(client.payloads(), [b"0", b"1", b"0", b"end"] if told else [b"1", b"end"])


@only_shoal
class Rates(Case):
    @cost(8)
    @workers(1, 2)
    def test_max_conn_rate_lets_clients_wait_and_refuses_none(self, count):
        broker = self.broker(count, listeners={"tcp:slow": {"max_conn_rate": 10}})
        port, begin = broker.ports["tcp:slow"], time.monotonic()
        clients = [Client(port, client_id="c%d" % number) for number in range(25)]
        for client in clients:
            client.send(packets.connect(5, client.client_id))
        for client in clients:
            self.assertEqual(client.expect(packets.CONNACK, 20 * PATIENCE).reason, 0)
        self.assertGreater(time.monotonic() - begin, 1.0)  # ten at once, fifteen in a second and a half
        self.assertGreater(broker.counter("accept_pauses"), 0)
        broker.client("elsewhere").ping()
        for client in clients:
            client.drop()

    def flood(self, broker, listener, count, payload):
        """Seconds until `count` publications of one eager client have come."""
        receiver = broker.client("r")
        receiver.subscribe("t")
        sender = Client(broker.ports[listener], client_id="s")
        sender.connect()
        begin = time.monotonic()
        for number in range(count):
            sender.publish("t", b"%d " % number + payload, 0)
        receiver.wait_messages(count, 30 * PATIENCE)
        took = time.monotonic() - begin
        self.assertEqual([int(got.split()[0]) for got in receiver.payloads()], list(range(count)))  # nothing is dropped
        sender.ping(10 * PATIENCE)
        sender.drop()
        return took

    @cost(8)
    def test_messages_rate_slows_down_who_sends_more(self):
        broker = self.broker(listeners={"tcp:slow": {"messages_rate": 100}})
        self.assertGreater(self.flood(broker, "tcp:slow", 300, b""), 1.5)
        self.assertGreater(broker.counter("rate_holds"), 0)

    @cost(8)
    def test_bytes_rate_slows_down_who_sends_more(self):
        broker = self.broker(listeners={"tcp:slow": {"bytes_rate": "100KB"}})
        # A second's worth at once, and what the last read brought, which is paid for afterwards.
        self.assertGreater(self.flood(broker, "tcp:slow", 100, b"x" * 3000), 1.0)
        self.assertGreater(broker.counter("rate_holds"), 0)

    @cost(5)
    def test_one_slowed_client_slows_no_other(self):
        broker = self.broker(listeners={"tcp:slow": {"messages_rate": 2}})
        eager, quick = Client(broker.ports["tcp:slow"], client_id="e"), Client(broker.ports["tcp:slow"], client_id="q")
        eager.connect(), quick.connect()
        for _ in range(20):
            eager.publish("t", b"", 0)
        begin = time.monotonic()
        quick.ping()
        quick.publish("t", b"", 1)
        self.assertLess(time.monotonic() - begin, 1.5 * PATIENCE)
        eager.drop()

    @cost(5)
    def test_a_client_that_is_not_read_is_not_taken_for_dead(self):
        broker = self.broker(listeners={"tcp:slow": {"messages_rate": 1}})
        client = Client(broker.ports["tcp:slow"], client_id="c")
        client.connect(keep_alive=1)
        for _ in range(4):
            client.publish("t", b"", 0)
        client.ping(8 * PATIENCE)  # three seconds later
        self.assertEqual(broker.counter("keepalive_timeouts"), 0)


@only_shoal
class Sizes(Case):
    def test_topics_longer_than_max_topic_length(self):
        broker = self.broker(config={"mqtt": {"max_topic_length": 20}})
        good, bad = "a" * 20, "a" * 21
        client = broker.client("c")
        self.assertEqual(client.subscribe([good, bad], expect=False).reasons, [0, 0x8F])
        client.publish(good, b"x", 1)
        client.wait_messages(1)
        client.publish(bad, b"x", 1, wait=False)
        self.assertEqual(client.expect_closed().reason, 0x90)
        broker.client("w", will={"topic": bad}, expect=0x90)
        old = broker.client("o", 4)
        old.publish(bad, b"x", 1, wait=False)
        old.expect_closed()
        self.assertEqual(broker.counter("topics_refused"), 3)

    def test_more_user_properties_than_max_user_properties(self):
        broker = self.broker(config={"mqtt": {"max_user_properties": 3}})
        few, many = {"user_property": [("a", "b")] * 3}, {"user_property": [("a", "b")] * 4}
        client = broker.client("c", props=few)
        client.subscribe("t", 1, props=few)
        self.assertEqual(client.publish("t", b"x", 1, props=few).reason, 0)
        self.assertEqual(client.publish("t", b"x", 1, props=many).reason, 0x97)
        self.assertEqual(client.publish("t", b"x", 2, props=many).reason, 0x97)
        client.publish("t", b"x", 0, props=many)
        client.wait_messages(1)
        client.ping()
        self.assertEqual(len(client.messages), 1)
        self.assertEqual(client.messages[0].props["user_property"], few["user_property"])
        broker.client("d", props=many, expect=0x97)
        client.send(packets.subscribe(5, 9, [("u", 0)], many))
        self.assertEqual(client.expect_closed().reason, 0x97)
        self.assertEqual(broker.counter("properties_refused"), 5)

"""CONNECT, CONNACK, keep-alive, PING and DISCONNECT in all three versions."""
import time

from shoal_test import packets
from shoal_test.case import Case, cost, only_shoal, reconnects, workers
from shoal_test.environment import PATIENCE


class Connect(Case):
    @workers(1, 2, 4)
    def test_all_versions_are_served(self, count):
        broker = self.broker(count)
        for tls in (False, True):
            for version in (3, 4, 5):
                with self.subTest(version=version, tls=tls):
                    client = broker.client("v%d" % version, version, tls=tls)
                    self.assertFalse(client.connack.session_present)
                    client.ping()
                    client.disconnect()

    def test_connack_5_tells_the_limits(self):
        broker = self.broker(config={"mqtt": {"receive_maximum": 17, "max_packet_size": "1MB", "max_topic_alias": 9}})
        props = broker.client("a").connack.props
        self.assertEqual(props["receive_maximum"], 17)
        self.assertEqual(props["maximum_packet_size"], 1 << 20)
        self.assertEqual(props["topic_alias_maximum"], 9)
    test_connack_5_tells_the_limits.only_shoal = True

    def test_empty_client_id_is_assigned_and_told(self):
        broker = self.broker()
        first, second = broker.client(""), broker.client("")
        self.assertTrue(first.connack.props["assigned_client_identifier"])
        self.assertNotEqual(first.client_id, second.client_id)
        broker.client("", version=4).ping()

    @reconnects()
    def test_assigned_client_id_resumes(self):
        broker = self.broker()
        first = broker.client("", props={"session_expiry_interval": 100})
        first.subscribe("a", 1)
        first.disconnect()
        again = broker.client(first.client_id, clean=False, props={"session_expiry_interval": 100})
        self.assertTrue(again.connack.session_present)

    def test_empty_client_id_without_clean_session_is_refused_in_3_1_1(self):
        client = self.broker().client("", version=4, connect=False)
        client.connect(clean=False, expect=2)
        client.expect_closed()

    @only_shoal
    def test_unknown_protocol_version_is_told_so(self):
        broker = self.broker()
        for number, answer in ((6, b"\x20\x03\x00\x84\x00"), (0, b"\x20\x03\x00\x84\x00"), (2, None)):
            with self.subTest(version=number):
                client = broker.client(connect=False)
                client.decoder.version = 5
                client.send(packets.connect(4, "x", protocol=packets.text("MQTT") + bytes([number])))
                got = client.expect(packets.CONNACK)
                self.assertIn(got.reason, (1, 0x84))
                client.expect_closed()

    @only_shoal
    def test_unknown_protocol_name_is_refused(self):
        broker = self.broker()
        client = broker.client(connect=False)
        client.send(packets.connect(4, "x", protocol=packets.text("HTTP") + b"\x04"))
        client.expect_closed()
        broker.client("y").ping()

    def test_second_connect_is_a_protocol_error(self):
        client = self.broker().client("a")
        client.send(packets.connect(5, "a"))
        self.assertEqual(client.expect_closed().reason, 0x82)

    def test_packet_before_connect_closes(self):
        broker = self.broker()
        for first in (packets.PING, packets.publish(4, "a", b"x"), packets.subscribe(4, 1, [("a", 0)]),
                      packets.disconnect(4)):
            client = broker.client(connect=False)
            client.send(first)
            client.expect_closed()
            self.assertEqual(client.received, [])

    def test_connect_in_single_bytes_is_understood(self):
        client = self.broker().client("slow", connect=False)
        for byte in packets.connect(5, "slow", user="u", password=b"p"):
            client.send(bytes([byte]))
        client.expect(packets.CONNACK)

    def test_many_packets_in_one_segment_are_answered_in_order(self):
        client = self.broker().client("burst", connect=False)
        client.send(packets.connect(5, "burst") + packets.subscribe(5, 1, [("b", 1)]) +
                    b"".join(packets.publish(5, "b", b"%d" % i, 1, i + 2) for i in range(15)) + packets.PING)
        client.expect(packets.PINGRESP)
        client.wait_messages(15)
        self.assertEqual(client.payloads(), [b"%d" % i for i in range(15)])
        acknowledged = [got.packet_id for got in client.received if got.kind == packets.PUBACK]
        self.assertEqual(acknowledged, list(range(2, 17)))

    def test_connect_5_properties_are_accepted(self):
        client = self.broker().client("p", connect=False)
        client.connect(props={"session_expiry_interval": 5, "receive_maximum": 10, "maximum_packet_size": 1000,
                              "topic_alias_maximum": 3, "request_response_information": 1,
                              "request_problem_information": 0, "user_property": [("a", "b"), ("a", "c")]})

    def test_user_name_and_password_are_taken(self):
        broker = self.broker(config={"auth": {"allow_anonymous": True}})
        for version in (3, 4, 5):
            broker.client("u", version, user="user", password=b"secret").disconnect()

    @only_shoal
    def test_authentication_method_unknown_is_refused(self):
        client = self.broker().client("p", connect=False)
        client.connect(props={"authentication_method": "SCRAM-SHA-1"}, expect=0x8C)
        client.expect_closed()

    @only_shoal
    def test_too_long_client_id_is_refused(self):
        broker = self.broker(config={"mqtt": {"max_clientid_length": 30}})
        client = broker.client("x" * 31, connect=False)
        client.connect(expect=0x85)
        client.expect_closed()
        client = broker.client("x" * 31, version=4, connect=False)
        client.connect(expect=2)
        broker.client("x" * 30).ping()


class KeepAlive(Case):
    @cost(5)
    @workers(1, 2)
    def test_silence_beyond_one_and_a_half_keep_alives_closes(self, count):
        broker = self.broker(count)
        for version in (4, 5):
            client = broker.client("quiet%d" % version, version, keep_alive=2)
            begin = time.monotonic()
            goodbye = client.expect_closed(10)
            took = time.monotonic() - begin
            self.assertGreater(took, 2.9)
            self.assertLess(took, 4.5 * PATIENCE)
            if version == 5:
                self.assertEqual(goodbye.reason, 0x8D)

    @cost(8)
    def test_any_packet_keeps_alive(self):
        broker = self.broker()
        pinging = broker.client("ping", keep_alive=2)
        publishing = broker.client("publish", version=4, keep_alive=2)
        for _ in range(6):
            pinging.ping()
            publishing.publish("x", b"y")
            pinging.pump(1.0)
        publishing.ping()

    @cost(5)
    def test_received_publications_do_not_keep_alive(self):
        broker = self.broker()
        receiving, publishing = broker.client("r", keep_alive=2), broker.client("p")
        receiving.subscribe("t")
        begin = time.monotonic()
        while not receiving.closed and time.monotonic() < begin + 8:
            publishing.publish("t", b"x")
            receiving.pump(0.3)
        self.assertTrue(receiving.closed)

    @cost(4)
    def test_keep_alive_zero_never_times_out(self):
        client = self.broker().client("z", keep_alive=0)
        client.pump(4)
        client.ping()

    @only_shoal
    def test_server_keep_alive_is_told(self):
        broker = self.broker(config={"mqtt": {"keepalive_max": "20s"}})
        self.assertEqual(broker.client("a", keep_alive=100).connack.props["server_keep_alive"], 20)
        self.assertNotIn("server_keep_alive", broker.client("b", keep_alive=10).connack.props)


class Disconnect(Case):
    def test_disconnect_closes_without_an_answer(self):
        broker = self.broker()
        for version in (3, 4, 5):
            client = broker.client("d", version)
            received = len(client.received)
            client.disconnect()
            self.assertEqual(len(client.received), received)

    def test_nothing_after_disconnect_is_processed(self):
        broker = self.broker()
        watcher, client = broker.client("w"), broker.client("d", version=4)
        watcher.subscribe("late")
        client.send(packets.disconnect(4) + packets.publish(4, "late", b"x"))
        client.expect_closed()
        broker.client("e").publish("late", b"sentinel", 1)
        watcher.wait_messages(1)
        self.assertEqual(watcher.payloads(), [b"sentinel"])

    def test_disconnect_cannot_raise_session_expiry_from_zero(self):
        client = self.broker().client("d")
        client.send(packets.disconnect(5, 0, {"session_expiry_interval": 10}))
        self.assertEqual(client.expect_closed().reason, 0x82)

    @workers(1, 2, 4)
    def test_shutdown_says_server_shutting_down(self, count):
        broker = self.broker(count)
        clients = [broker.client("s%d" % i, tls=i % 2 == 1) for i in range(8)]
        old = broker.client("old", version=4)
        broker.stop()
        for client in clients:
            self.assertEqual(client.expect_closed().reason, 0x8B)
        self.assertIsNone(old.expect_closed())
    test_shutdown_says_server_shutting_down.only_shoal = True

    def test_stopping_node_tells_where_to_go(self):
        broker = self.broker(2, config={"mqtt": {"server_reference": "other.example:8883"}})
        clients = [broker.client("c%d" % number) for number in range(4)]
        old = broker.client("old", version=4)
        broker.stop()
        for client in clients:
            goodbye = client.expect_closed()
            self.assertEqual((goodbye.reason, goodbye.props["server_reference"]), (0x9C, "other.example:8883"))
        old.expect_closed()

    test_stopping_node_tells_where_to_go.only_shoal = True

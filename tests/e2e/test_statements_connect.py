"""
CONNECT and CONNACK, statement by statement (tests/statements): who is let in, what a refusal looks like, which session a
client gets, and what is told to it.
"""
import time

from shoal_test import packets
from shoal_test.case import Case, cost, only_shoal, reconnects, workers
from shoal_test.packets import CONNACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, packet, text

LASTING = {"session_expiry_interval": 1000}
LETTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def raw_connect(flags=2, payload=text("m"), version=4, protocol=None, props=b"\0"):
    head = protocol or text("MQTT") + bytes([version])
    return packet(packets.CONNECT, head + bytes([flags]) + b"\0\x3c" + (props if version == 5 else b"") + payload)


# Flags and payload that contradict each other; the same in both versions but for the will's properties.
def contradictions(version):
    none = b"\0" if version == 5 else b""  # no will properties
    will = none + text("w") + text("x")
    found = {
        "reserved flag": (3, text("m")),
        "will qos 3": (2 | 4 | 24, text("m") + will),
        "will qos without will": (2 | 8, text("m")),
        "will retain without will": (2 | 32, text("m")),
        "will fields without will flag": (2, text("m") + will),
        "will flag without fields": (2 | 4, text("m")),
        "will flag without payload": (2 | 4, text("m") + none + text("w")),
        "user name without its flag": (2, text("m") + text("u")),
        "user name flag without user name": (2 | 128, text("m")),
        "password without its flag": (2 | 128, text("m") + text("u") + text("p")),
        "password flag without password": (2 | 128 | 64, text("m") + text("u")),
        "no client identifier": (2, b""),
        "client identifier ill-formed": (2, text(b"\xed\xa0\x80")),
        "client identifier with nul": (2, text("a\0")),
        "will topic ill-formed": (2 | 4, text("m") + none + text(b"\xff") + text("x")),
        "user name ill-formed": (2 | 128, text("m") + text(b"\xc0\x80")),
        "will before client identifier": (2 | 4, will + text("m") + b"\0"),
    }
    if version == 4:
        found["password without user name"] = (2 | 64, text("m") + text("p"))
    return found


class Refused(Case):
    def test_contradicting_flags_close_in_3_1_1_without_connack(self):
        broker = self.broker()
        for name, (flags, payload) in contradictions(4).items():
            with self.subTest(name):
                client = broker.client(version=4, connect=False)
                client.send(raw_connect(flags, payload))
                client.expect_closed()
                self.assertEqual(client.received, [])

    @only_shoal
    def test_contradicting_flags_are_malformed_in_5(self):
        broker = self.broker()
        for name, (flags, payload) in contradictions(5).items():
            with self.subTest(name):
                client = broker.client(connect=False)
                client.send(raw_connect(flags, payload, 5))
                client.expect_closed()
                self.assertEqual([got.kind for got in client.received], [CONNACK])
                self.assertIn(client.received[0].reason, (0x81, 0x82, 0x85, 0x90))

    def test_a_password_without_a_user_name_is_fine_in_5(self):
        self.broker().client("p", password=b"secret").ping()

    @only_shoal
    def test_other_protocol_names_and_levels_are_refused(self):
        broker = self.broker()
        for name, level in (("MQTT", 3), ("MQTT", 2), ("MQTT", 6), ("MQTT", 0x84), ("mqtt", 4), ("MQTT ", 5), ("MQIsdp", 4),
                            ("MQIsdp", 5), ("", 4)):
            with self.subTest(name=name, level=level):
                client = broker.client(version=4, connect=False)
                client.send(raw_connect(protocol=text(name) + bytes([level])))
                client.expect_closed()
                self.assertEqual([got.reason for got in client.received], [1])

    @only_shoal
    def test_nothing_behind_a_refused_connect_is_processed(self):
        broker = self.broker(config={"mqtt": {"max_clientid_length": 30}})
        watcher = broker.client("w")
        watcher.subscribe("late", 1)
        late = {4: packets.publish(4, "late", b"no", 1, 1), 5: packets.publish(5, "late", b"no", 1, 1)}
        for version, first in ((4, packets.connect(4, "", False)), (4, packets.connect(4, "x" * 31)), (4, raw_connect(3)),
                               (5, packets.connect(5, "x" * 31)), (5, raw_connect(3, version=5)),
                               (5, packets.connect(5, "m", props={"authentication_method": "none"}))):
            client = broker.client(version=version, connect=False)
            client.send(first + late[version] + packets.PING)
            client.expect_closed()
            self.assertLessEqual(len(client.received), 1)
            for got in client.received:
                self.assertGreater(got.reason, 0)
                self.assertFalse(got.session_present)
        broker.client("s").publish("late", b"sentinel", 1)
        watcher.wait_messages(1)
        watcher.ping()
        self.assertEqual(watcher.payloads(), [b"sentinel"])

    @only_shoal
    def test_will_qos_above_the_maximum_is_refused(self):
        broker = self.broker(config={"mqtt": {"max_qos": 1}})
        for version, code in ((4, None), (5, 0x9B)):
            client = broker.client("c", version, connect=False)
            got = client.connect(will={"topic": "w", "qos": 2}, expect=code)
            self.assertGreater(got.reason, 0)
            client.expect_closed()
            broker.client("c", version, will={"topic": "w", "qos": 1}).subscribe("t", 2)

    @only_shoal
    def test_refused_connack_fits_the_maximum_packet_size(self):
        broker = self.broker(config={"mqtt": {"max_clientid_length": 30}})
        wide = broker.client("x" * 31, connect=False)
        self.assertIn("reason_string", wide.connect(expect=0x85).props)
        narrow = broker.client("x" * 31, connect=False)
        self.assertEqual(narrow.connect(expect=0x85, props={"maximum_packet_size": 12}).props, {})

    @only_shoal
    def test_no_connack_is_larger_than_the_client_takes(self):
        broker = self.broker()
        for size in range(1, 40):
            client = broker.client("c", connect=False)
            client.limits = {"maximum_packet_size": size}
            client.send(packets.connect(5, "c", props=client.limits))
            client.send(packets.PING)
            try:
                client.expect(packets.PINGRESP)
            except Exception:
                client.expect_closed()
                self.assertLess(size, 30)
            else:
                self.assertEqual(client.received[0].kind, CONNACK)


class ClientIdentifiers(Case):
    def test_1_to_23_letters_and_digits_are_taken(self):
        broker = self.broker()
        names = [(LETTERS * 2)[i * 3:i * 3 + i] for i in range(1, 24)]
        self.assertEqual(set("".join(names)), set(LETTERS))
        for number, name in enumerate(names):
            broker.client(name, (3, 4, 5)[number % 3]).ping()

    def test_assigned_identifiers_differ_from_all_others(self):
        broker = self.broker()
        clients = [broker.client("", version) for version in (4, 5) * 8]
        for client in clients:  # the same identifier twice would have ended one of them
            client.ping()
        assigned = [client.client_id for client in clients if client.version == 5]
        self.assertEqual(len(set(assigned)), 8)

    @reconnects()
    def test_sessions_belong_to_their_identifier_alone(self, count):
        broker = self.broker(count)
        for version in (4, 5):
            props = LASTING if version == 5 else None
            for name in ("client", "Client", "client ", "clienté"):
                broker.client(name, version, clean=False, props=props).subscribe(name, 1)
            for name in ("clien", "client1", "CLIENT"):
                client = broker.client(name, version, clean=False, props=props)
                self.assertFalse(client.connack.session_present)
                client.disconnect()
                broker.client(name, version, clean=True).disconnect()
            for name in ("client", "Client", "client ", "clienté"):
                client = broker.client(name, version, clean=False, props=props)
                self.assertTrue(client.connack.session_present)
                broker.client("s").publish(name, name, 1)
                self.assertEqual(client.wait_messages(1)[0].payload, name.encode())
                broker.client(name, version, clean=True).disconnect()


class Sessions(Case):
    @reconnects()
    def test_clean_start_discards_everything_of_the_old_session(self, count):
        broker = self.broker(count)
        sender = broker.client("s")
        for version in (4, 5):
            props = LASTING if version == 5 else None
            old = broker.client("c", version, clean=False, props=props)
            old.acknowledge = False
            old.subscribe("t", 2)
            old.publish("elsewhere", b"", 2, packet_id=9, wait=False)  # never released
            old.expect(PUBREC)
            sender.publish("t", b"in flight", 2)
            old.wait_messages(1)
            old.drop()
            sender.publish("t", b"queued", 1)
            new = broker.client("c", version, clean=True, props=props)
            self.assertFalse(new.connack.session_present)
            sender.publish("t", b"later", 1)
            new.answer(PUBREL, 9)
            self.assertEqual(new.expect(PUBCOMP).reason, 0x92 if version == 5 else 0)
            new.ping()
            self.assertEqual([got.kind for got in new.received], [CONNACK, PUBCOMP, packets.PINGRESP])
            new.disconnect()

    @reconnects()
    def test_connack_comes_first_and_once(self, count):
        broker = self.broker(count)
        sender = broker.client("s")
        sender.publish("t/kept", b"x", 1, retain=True)
        for version in (4, 5):
            props = LASTING if version == 5 else None
            first = broker.client("c", version, clean=False, props=props)
            self.assertFalse(first.connack.session_present)
            first.subscribe("t/#", 2)
            first.drop()
            for number in range(10):
                sender.publish("t/x", b"%d" % number, 1 + number % 2)
            again = broker.client("c", version, connect=False)
            again.send(packets.connect(version, "c", False, props=props) + packets.PING)
            again.wait_messages(10)
            again.expect(packets.PINGRESP)
            self.assertEqual(again.received[0].kind, CONNACK)
            self.assertTrue(again.received[0].session_present)
            self.assertEqual(again.received[0].reason, 0)
            self.assertEqual(sum(got.kind == CONNACK for got in again.received), 1)
            broker.client("c", version, clean=True).disconnect()

    @cost(4)
    @workers(1, 2)
    def test_session_lasts_as_long_as_its_connection(self, count):
        broker = self.broker(count)
        short = broker.client("short", props={"session_expiry_interval": 1}, slot=count - 1)
        none = broker.client("none", version=4)
        for client in (short, none):
            client.acknowledge = False
            client.subscribe("t", 1)
        sender = broker.client("s")
        sender.publish("t", b"before", 1)
        time.sleep(2.5)
        sender.publish("t", b"after", 1)
        for client in (short, none):
            client.wait_messages(2)
            self.assertEqual(client.payloads(), [b"before", b"after"])

    @reconnects()
    def test_take_over_ends_the_old_connection_and_keeps_the_session(self, count):
        broker = self.broker(count)
        sender = broker.client("s", slot=0)
        for version in (4, 5):
            props = LASTING if version == 5 else None
            clients = [broker.client("c", version, clean=False, props=props)]
            clients[0].subscribe("t", 1)
            for turn in range(1, 5):
                clients.append(broker.client("c", version, clean=False, props=props))
                self.assertTrue(clients[-1].connack.session_present)
                goodbye = clients[-2].expect_closed()
                self.assertEqual(goodbye and goodbye.reason, 0x8E if version == 5 else None)
                sender.publish("t", b"%d" % turn, 1)
                self.assertEqual(clients[-1].wait_messages(1)[0].payload, b"%d" % turn)
            self.assertEqual([len(client.messages) for client in clients], [0, 1, 1, 1, 1])
            broker.client("c", version).disconnect()

    def test_retained_messages_outlive_the_session_that_sent_them(self):
        broker = self.broker()
        for version in (4, 5):
            sender = broker.client("s", version)
            sender.publish("kept/%d" % version, b"x", 1, retain=True)
            sender.disconnect()
            broker.client("s", version).disconnect()
            reader = broker.client("r", version)
            reader.subscribe("kept/%d" % version, 1)
            self.assertTrue(reader.wait_messages(1)[0].retain)


class Told(Case):
    def test_connack_5_says_nothing_that_was_not_asked_for(self):
        broker = self.broker(config={"mqtt": {"response_information": "answers/"}})
        for props in ({}, {"request_response_information": 0}):
            told = broker.client("c", props=props).connack.props
            for name in ("response_information", "authentication_method", "authentication_data",
                         "assigned_client_identifier"):
                self.assertNotIn(name, told)

    @only_shoal
    def test_no_problem_information_for_who_wants_none(self):
        broker = self.broker(config={"mqtt": {"max_topic_levels": 4}})
        client = broker.client("c", props={"request_problem_information": 0})  # held against what comes
        client.publish("$x", b"", 1)
        client.publish("$x", b"", 2, packet_id=9, wait=False)
        client.expect(PUBREC, packet_id=9)
        client.answer(PUBREL, 77)
        self.assertEqual(client.expect(PUBCOMP, packet_id=77).reason, 0x92)
        client.answer(PUBREC, 78)
        self.assertEqual(client.expect(PUBREL, packet_id=78).reason, 0x92)
        client.subscribe("a/b/c/d/e", expect=False)
        client.unsubscribe("nothing")

    @cost(4)
    @only_shoal
    def test_server_keep_alive_is_what_counts(self):
        broker = self.broker(config={"mqtt": {"keepalive_max": "2s"}})
        clients = [broker.client("a", keep_alive=100), broker.client("b", keep_alive=0)]
        begin = time.monotonic()
        for client in clients:
            self.assertEqual(client.connack.props["server_keep_alive"], 2)
        for client in clients:
            self.assertEqual(client.expect_closed(12).reason, 0x8D)
        self.assertGreater(time.monotonic() - begin, 2.9)

    @cost(3)
    def test_without_server_keep_alive_the_clients_counts(self):
        broker = self.broker()
        client = broker.client("a", keep_alive=1)
        self.assertNotIn("server_keep_alive", client.connack.props)
        begin = time.monotonic()
        self.assertEqual(client.expect_closed(12).reason, 0x8D)
        self.assertGreater(time.monotonic() - begin, 1.4)
        self.assertEqual(sum(got.kind == PUBLISH for got in client.received), 0)

"""MQTT over WebSocket, frame by frame: opening requests, frames cut and joined in every way, control frames, the end."""
import random
import struct
import time

from shoal_test import packets, processes, websocket
from shoal_test.case import Case, cost, only_plain, only_shoal, reconnects, workers
from shoal_test.client import Client, Closed
from shoal_test.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, ask, connect, frame, request


class WebSocketCase(Case):
    settings = {}

    def web(self, count=1, listeners=None, **more):
        broker = self.broker(count, listeners=listeners or {"ws:web": self.settings, "wss:web": self.settings}, **more)
        self.port = broker.ports["ws:web"]
        return broker

    def client(self, client_id="c", version=5, cut=None, tls=None, port=None, connect_it=True, **fields):
        """A Client that speaks through a WebSocket, whose Connection is its .sock."""
        made = Client(0, version, client_id, sock=connect(port or self.port, tls, cut))
        self.addCleanup(made.drop)
        if connect_it:
            made.connect(**fields)
        return made

    def open(self, **fields):
        made = connect(self.port, **fields)
        self.addCleanup(made.close)
        return made


@only_shoal
class Opening(WebSocketCase):
    def test_subprotocol_is_chosen_and_answered(self):
        """[MQTT-6.0.0-3], [MQTT-6.0.0-4]"""
        self.web()
        for offered, chosen in (("mqtt", "mqtt"), ("mqttv3.1", "mqttv3.1"), ("mqttv3.1, mqtt", "mqtt"),
                                ("chat, mqtt", "mqtt")):
            answer = self.open(protocols=offered).answer
            self.assertEqual(answer.headers["sec-websocket-protocol"], chosen)
            self.assertNotIn("sec-websocket-extensions", answer.headers)

    def test_requests_that_are_refused_get_their_status(self):
        broker = self.web()
        for status, text in (
                (400, request(protocols=None)), (400, request(protocols="chat")), (404, request(path="/other")),
                (404, request(path="/mqtt/x")), (400, request(Host=None)), (400, request(Connection="keep-alive")),
                (426, request(Upgrade=None)), (426, request(Sec_WebSocket_Version="8")),
                (400, request(Sec_WebSocket_Version=None)), (400, request(key="short")),
                (405, request().replace(b"GET ", b"POST ")), (505, request().replace(b"HTTP/1.1", b"HTTP/1.0")),
                (400, request(Content_Length="5")), (400, request().replace(b"\r\nUpgrade", b"\nUpgrade")),
                (431, request(Cookie="x" * 9000)), (400, b"GET / / HTTP/1.1\r\n\r\n")):
            answer = ask(self.port, text)
            self.assertEqual(answer and answer.status, status, text[:200])
        self.assertEqual(broker.counter("upgrades_refused"), 16)
        broker.wait_log(r"WebSocket handshake on listener ws:web failed: .*\(404: .*\); usually: ")
        answer = ask(self.port, request(Sec_WebSocket_Version="8"))
        self.assertEqual(answer.headers["sec-websocket-version"], "13")

    def test_other_protocols_are_closed_at_once_and_told(self):
        broker = self.web()
        start = time.monotonic()
        self.assertIsNone(ask(self.port, packets.connect(4, "a")))
        broker.wait_log("MQTT without WebSocket on a WebSocket port")
        self.assertIsNone(ask(self.port, b"\x16\x03\x01\x02\0\x01"))
        broker.wait_log("TLS on a WebSocket port without TLS")
        self.assertLess(time.monotonic() - start, 5)

    def test_path_and_query(self):
        self.settings = {"path": "/broker"}
        self.web()
        self.open(path="/broker")
        self.open(path="/broker?user=me")
        self.assertEqual(ask(self.port, request()).status, 404)

    def test_origins_are_let_in_by_list(self):
        self.settings = {"origins": ["https://example.com", "http://localhost:8080"]}
        self.web()
        self.open(origin="https://example.com")
        self.open(origin="http://localhost:8080")
        self.open()  # no browser
        for origin in ("http://example.com", "https://example.com:444", "https://evil.example", "null", ""):
            self.assertEqual(ask(self.port, request(origin=origin)).status, 403, origin)

    def test_without_a_list_every_origin_is_let_in(self):
        self.web()
        self.open(origin="https://anywhere.example")
        self.open(origin="null")

    def test_request_in_pieces_with_frames_behind(self):
        broker = self.web()
        sock = websocket.tcp(self.port)
        text = request()
        for at in range(0, len(text), 7):
            sock.sendall(text[at:at + 7])
            time.sleep(0.001)
        made = websocket.Connection.__new__(websocket.Connection)
        made.sock, made.buffer, made.unread, made.controls, made.frames = sock, b"", b"", [], 0
        made.cut = lambda data: [frame(BINARY, data)]
        self.assertEqual(made.read_answer().status, 101)
        client = Client(0, 4, "pieces", sock=made)
        client.connect()
        client.drop()
        # The client's CONNECT behind its request, without waiting for the answer.
        sock = websocket.tcp(self.port)
        made.sock, made.buffer = sock, b""
        sock.sendall(text + frame(BINARY, packets.connect(4, "early")))
        self.assertEqual(made.read_answer().status, 101)
        self.assertEqual(made.receive_frame(), (BINARY, b"\x20\x02\0\0"))
        sock.close()
        self.assertEqual(broker.counter("upgrades"), 2)

    def test_silence_is_not_waited_for_for_ever(self):
        self.settings = {"connect_timeout": "300ms"}
        broker = self.web()
        for text in (b"", b"GET /mqtt HTTP/1.1\r\n"):
            sock = websocket.tcp(self.port)
            sock.sendall(text)
            sock.settimeout(6)
            self.assertEqual(sock.recv(100), b"")
            sock.close()
        broker.wait_log("no WebSocket request within connect_timeout of listener ws:web")
        made = self.open()
        made.expect_close(1000)
        broker.wait_log("no CONNECT within connect_timeout")


@only_shoal
class Frames(WebSocketCase):
    @workers(1, 2)
    def test_packets_are_cut_and_joined_in_any_way(self, count):
        """[MQTT-6.0.0-2]: a frame is no packet."""
        broker = self.web(count)
        chance = random.Random(7)

        def one_byte_each(data):
            return [frame(BINARY, data[at:at + 1]) for at in range(len(data))]

        def fragments(data):
            cuts = sorted(chance.randrange(len(data) + 1) for _ in range(4))
            parts = [data[a:b] for a, b in zip([0] + cuts, cuts + [len(data)])]
            made = [frame(BINARY if number == 0 else CONTINUATION, part, fin=number == len(parts) - 1)
                    for number, part in enumerate(parts)]
            made.insert(chance.randrange(len(made) + 1), frame(PING, b"between"))
            return made

        def torn(data):
            """Frames torn by TCP, too."""
            whole = b"".join(fragments(data))
            return [whole[at:at + 5] for at in range(0, len(whole), 5)] if len(whole) < 3000 else [whole]

        receiver = broker.client("r")
        receiver.subscribe("t/#", 2)
        for number, cut in enumerate((one_byte_each, fragments, torn)):
            client = self.client("s%d" % number, cut=cut)
            client.subscribe("back", 1)
            for qos, size in ((0, 0), (1, 1), (2, 130), (1, 1000), (1, 5000)):
                client.publish("t/%d" % number, bytes(size), qos)
            client.publish("back", b"x" * 3000, 1)
            client.wait_messages(1)
            client.disconnect()
        self.assertEqual([len(got.payload) for got in receiver.wait_messages(15)], [0, 1, 130, 1000, 5000] * 3)

    def test_several_packets_in_one_frame(self):
        self.web()
        made = self.open()
        sequence = (packets.connect(4, "many") + packets.subscribe(4, 1, [("a", 1)]) +
                    b"".join(packets.publish(4, "a", b"%d" % number, 1, number + 1) for number in range(50)) + packets.PING)
        made.send_frames(frame(BINARY, sequence))
        decoder, got = packets.Decoder(4), []
        while not got or got[-1].kind != packets.PINGRESP:
            opcode, payload = made.receive_frame()
            self.assertEqual(opcode, BINARY)
            got += decoder.feed(payload)
        self.assertEqual(sum(packet.kind == packets.PUBACK for packet in got), 50)
        self.assertEqual(sum(packet.kind == packets.PUBLISH for packet in got), 50)

    def test_each_packet_has_a_frame_of_its_own(self):
        """Several may share one, but there are clients that see the first one only."""
        broker = self.web(2)
        context = broker.certificates.client_context()
        for tls, port in ((None, self.port), (context, broker.ports["wss:web"])):
            client = self.client("one", tls=tls, port=port)
            client.subscribe("t", 1)
            made = client.sock
            for number, size in enumerate((1, 100, 200, 5000, 16380, 17000, 100000)):
                made.sendall(packets.publish(5, "t", b"x" * size, 1, number + 1) + packets.PING)
                decoder, got = packets.Decoder(5), []
                while len(got) < 3:
                    opcode, payload = made.receive_frame()
                    self.assertEqual(opcode, BINARY)
                    whole = decoder.feed(payload)
                    self.assertEqual(len(whole), 1)
                    got += whole
                self.assertEqual(sorted(packet.kind for packet in got), [packets.PUBLISH, packets.PUBACK, packets.PINGRESP])
                made.sendall(packets.acknowledgement(packets.PUBACK,
                                                     next(packet.packet_id for packet in got if packet.kind == packets.PUBLISH)))

    @cost(5)
    def test_large_messages_both_ways(self):
        broker = self.web(2)
        chance = random.Random(3)
        context = broker.certificates.client_context()
        for tls, port in ((None, self.port), (context, broker.ports["wss:web"])):
            client = self.client("large", tls=tls, port=port)
            client.subscribe("big", 1)
            for size in (125, 126, 127, 65535, 65536, 70000, 1000000):
                payload = chance.randbytes(size)
                client.publish("big", payload, 1)
                self.assertTrue(client.wait_messages(1)[-1].payload == payload, size)
                client.messages.clear()
            client.disconnect()

    def test_slow_reader_gets_everything_with_pongs_between(self):
        broker = self.web(config={"mqtt": {"max_output_buffer": "16MB", "max_queued_bytes": "64MB"}})
        slow = self.client("slow")
        slow.subscribe("flood", 1)
        sender = broker.client("sender")
        for number in range(60):
            sender.publish("flood", struct.pack(">I", number) * 25000, 1)
        slow.sock.send_frames(frame(PING, b"still there?"))
        got = slow.wait_messages(60)
        self.assertEqual([struct.unpack(">I", entry.payload[:4])[0] for entry in got], list(range(60)))
        self.wait_for(lambda: slow.pump(0.05) or (PONG, b"still there?") in slow.sock.controls, "the pong")

    def test_pings_are_answered(self):
        self.web()
        client = self.client("pings")
        for payload in (b"", b"a", bytes(125)):
            client.sock.send_frames(frame(PING, payload))
            client.sock.expect(PONG, payload)
        client.sock.send_frames(frame(PING, b"1"), frame(PING, b"2"), frame(PONG, b"unasked"))
        client.sock.expect(PONG, b"1")
        client.sock.expect(PONG, b"2")
        client.ping()

    def test_pings_keep_no_session_alive(self):
        """The keep-alive is MQTT's: a browser's stack answers for a page that hangs."""
        self.web()
        client = self.client("dead", keep_alive=1)
        deadline = time.monotonic() + 10
        with self.assertRaises((Closed, ConnectionError)):
            while time.monotonic() < deadline:
                client.sock.send_frames(frame(PING, b"x"))
                client.sock.expect(PONG)
                time.sleep(0.2)
        self.assertLess(time.monotonic(), deadline)

    def test_breaches_close_with_their_code(self):
        broker = self.web()
        self.watcher = broker.client("watcher")
        self.watcher.subscribe("will/#", 1)
        for number, (code, sent) in enumerate((
                (1003, frame(TEXT, b"x")), (1003, frame(TEXT, b"x", fin=False)), (1002, frame(BINARY, b"x", masked=False)),
                (1002, frame(CONTINUATION, b"x")), (1002, frame(BINARY, b"", fin=False) + frame(BINARY, b"x")),
                (1002, frame(BINARY, b"x", rsv=4)), (1002, frame(3, b"x")), (1002, frame(11, b"x")),
                (1002, frame(PING, b"x", fin=False)), (1002, frame(PING, bytes(126))), (1002, frame(CLOSE, b"x")),
                (1002, frame(CLOSE, b"\x03\xee")))):
            client = self.client("b%d" % number, will={"topic": "will/%d" % number, "payload": b"gone", "qos": 1})
            client.sock.send_frames(sent)
            client.sock.expect_close(code)
            self.assertEqual(self.watcher.wait_messages(number + 1)[-1].topic, "will/%d" % number)
        self.assertEqual(broker.counter("protocol_errors"), 12)
        broker.wait_log("connection lost: what the client sent breaks WebSocket")

    def test_messages_have_a_limit(self):
        """By default mqtt.max_packet_size, else the listener's max_frame_size."""
        self.web(listeners={"ws:web": {}, "ws:wide": {"max_frame_size": 12000}},
                 config={"mqtt": {"max_packet_size": 5000}})
        wide = self.brokers[0].ports["ws:wide"]
        small = packets.publish(5, "a", bytes(2400))
        for port, limit in ((self.port, 5000), (wide, 12000)):
            fits = small * (limit // len(small))
            client = self.client("fits", port=port)
            client.sock.send_frames(frame(BINARY, fits))
            client.ping()
            client.sock.send_frames(frame(BINARY, small[:1000], fin=False), frame(CONTINUATION, small[1000:]))
            client.ping()
            client.sock.send_frames(frame(BINARY, small * (limit // len(small) + 1)))
            client.sock.expect_close(1009)
            client = self.client("parts", port=port)
            client.sock.send_frames(frame(BINARY, fits, fin=False), frame(CONTINUATION, small))
            client.sock.expect_close(1009)
            client = self.client("header", port=port)  # known from the header alone, and one byte
            client.sock.send_frames(frame(BINARY, bytes(limit + 1))[:9])
            client.sock.expect_close(1009)

    def test_mqtt_errors_are_told_before_the_close(self):
        self.web()
        client = self.client("errors")
        client.send(b"\xf0\xff\xff\xff\xff")
        client.expect(packets.DISCONNECT)
        self.assertEqual(client.sock.recv(1), b"")
        self.assertIn((CLOSE, struct.pack(">H", 1000)), client.sock.controls)


@only_shoal
class TheEnd(WebSocketCase):
    def test_close_is_answered_with_its_code_and_the_will_is_due(self):
        broker = self.web()
        watcher = broker.client("watcher")
        watcher.subscribe("will", 1)
        for code in (1000, 1001, 3000, 4999):
            client = self.client("c", will={"topic": "will", "payload": b"%d" % code, "qos": 1})
            client.sock.send_frames(frame(CLOSE, struct.pack(">H", code) + b"bye"))
            client.sock.expect_close(code)
            self.assertEqual(watcher.wait_messages(1)[-1].payload, b"%d" % code)
            watcher.messages.clear()
        client = self.client("c")
        client.sock.send_frames(frame(CLOSE))
        self.assertEqual(client.sock.expect(CLOSE), b"")

    def test_disconnect_and_close_in_one_go(self):
        broker = self.web()
        watcher = broker.client("watcher")
        watcher.subscribe("#", 1)
        client = self.client("c", version=4, will={"topic": "will", "payload": b"must not come"})
        client.sock.send_frames(frame(BINARY, packets.publish(4, "last", b"words", 1, 9)),
                                frame(BINARY, packets.disconnect(4)), frame(CLOSE, b"\x03\xe8"))
        client.sock.expect_close(1000)
        self.assertEqual(watcher.wait_messages(1)[0].topic, "last")
        watcher.expect_silence()

    def test_server_says_close_after_disconnect(self):
        self.web()
        client = self.client("c")
        client.send(packets.disconnect(5))
        client.sock.expect_close(1000)

    @workers(1, 2)
    def test_stopping_node_says_goodbye(self, count):
        broker = self.web(count)
        client = self.client("c")
        broker.control("stop")
        self.assertEqual(client.expect(packets.DISCONNECT).reason, 0x8B)
        self.assertEqual(client.sock.recv(1), b"")
        self.assertIn((CLOSE, struct.pack(">H", 1000)), client.sock.controls)
        self.wait_for(lambda: not broker.child.running(), "the node's end")
        broker.child = None

    @reconnects(2)
    def test_take_over_between_websocket_and_tcp(self, count):
        broker = self.web(count)
        first = self.client("same", clean=False, props={"session_expiry_interval": 60})
        broker.homes["same"] = broker.slot(first)
        first.subscribe("mine", 1)
        second = broker.client("same", clean=False, props={"session_expiry_interval": 60})
        self.assertTrue(second.connack.session_present)
        self.assertEqual(first.expect(packets.DISCONNECT).reason, 0x8E)
        second.publish("mine", b"x", 1)
        second.wait_messages(1)


@only_shoal
class Secure(WebSocketCase):
    def test_alpn_is_http(self):
        broker = self.web()
        port = broker.ports["wss:web"]
        for offered, chosen in (([], None), (["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1")):
            client = self.client("c", tls=broker.certificates.client_context(alpn=offered or None), port=port)
            self.assertEqual(client.sock.sock.selected_alpn_protocol(), chosen)
            client.disconnect()

    def test_certificates_are_checked_and_name_the_user(self):
        settings = {"verify": "verify_peer", "fail_if_no_peer_cert": True, "peer_cert_as_clientid": "cn"}
        broker = self.web(listeners={"ws:web": {}, "wss:web": settings})
        port = broker.ports["wss:web"]
        client = self.client("ignored", tls=broker.certificates.client_context("client"), port=port)
        client.ping()
        broker.wait_log("client client one connected")
        with self.assertRaises((OSError, Closed)):
            self.client("c", tls=broker.certificates.client_context(), port=port)
        broker.wait_log("TLS handshake on listener wss:web failed: the client sent no certificate")

    def test_plain_websocket_on_a_secure_port_is_told(self):
        broker = self.web()
        ask(broker.ports["wss:web"], request())
        broker.wait_log("TLS handshake on listener wss:web failed: plain HTTP on a TLS port")

    def test_refusals_come_through_tls(self):
        broker = self.web()
        sock = broker.certificates.client_context().wrap_socket(websocket.tcp(broker.ports["wss:web"]),
                                                                server_hostname="localhost")
        sock.settimeout(6)
        sock.sendall(request(path="/other"))
        self.assertTrue(sock.recv(4096).startswith(b"HTTP/1.1 404 "))
        sock.close()
        broker.wait_log("WebSocket handshake on listener wss:web failed: .*404")


@only_shoal
class WebSocketMemory(WebSocketCase):
    @only_plain
    @cost(10)
    def test_idle_connection_costs_little_more_than_plain(self):
        """Also one that has sent frames and fragments before: less than 1.3 KiB."""
        broker = self.web(2, config={"log": {"level": "warning"}})

        def held():
            return sum(processes.private_memory(pid) for pid in broker.worker_pids())

        def some(count):
            made = []
            for number in range(count):
                made.append(connect(self.port))
                text = packets.connect(4, "m%d" % number, keep_alive=0)
                made[-1].send_frames(frame(BINARY, text[:5], fin=False), frame(PING, b"x"), frame(CONTINUATION, text[5:]))
            for one in made:
                one.expect(BINARY, b"\x20\x02\0\0")
            return made
        for one in some(100):
            one.close()
        self.wait_for(lambda: broker.counter("connections") == 0, "connections gone")
        before, count = held(), 1000
        made = some(count)
        each = (held() - before) / count
        print("%.0f bytes each" % each)
        self.assertLess(each, 1300)
        for one in made:
            one.close()

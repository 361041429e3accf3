"""What a client may cost: silence, slowness, numbers, and who may connect at all."""
import os
import signal
import socket
import ssl
import time

from shoal_test import packets
from shoal_test.case import Case, cost, only_shoal, workers
from shoal_test.client import Client, Closed, Timeout, tcp
from shoal_test.environment import PATIENCE


@only_shoal
class Silence(Case):
    def closed_after(self, sock, limit):
        """Seconds until the server closes."""
        begin = time.monotonic()
        sock.settimeout(limit)
        try:
            while sock.recv(1000):
                pass
        except ConnectionError:
            pass
        return time.monotonic() - begin

    @cost(5)
    @workers(1, 2)
    def test_silent_connections_are_gone_after_connect_timeout(self, count):
        timeouts = {"connect_timeout": "1s"}
        broker = self.broker(count, listeners={"tcp:quick": timeouts, "ssl:quick": timeouts})
        plain, half = tcp(broker.ports["tcp:quick"]), tcp(broker.ports["tcp:quick"])
        half.sendall(packets.connect(5, "half")[:9])
        secure = broker.certificates.client_context().wrap_socket(tcp(broker.ports["ssl:quick"]),
                                                                  server_hostname="localhost")
        for sock in (plain, half, secure):
            took = self.closed_after(sock, 8)
            self.assertLess(took, 2.5 * PATIENCE)
        served = Client(broker.ports["tcp:quick"], client_id="served")
        served.connect()
        served.pump(2)
        served.ping()
        self.assertGreaterEqual(broker.counter("connections_timeout"), 3)

    @cost(5)
    def test_silent_tls_connections_are_gone_after_handshake_timeout(self):
        broker = self.broker(2, listeners={"ssl:quick": {"handshake_timeout": "1s"}})
        port = broker.ports["ssl:quick"]
        silent, half, dripping = tcp(port), tcp(port), tcp(port)
        half.sendall(b"\x16\x03\x01\x02\x00\x01")
        begin = time.monotonic()
        try:
            for byte in b"\x16\x03\x01\x01\x00" + b"\x01" * 50:  # a byte now and then is no handshake either
                dripping.sendall(bytes([byte]))
                time.sleep(0.1)
        except ConnectionError:
            pass
        self.assertLess(time.monotonic() - begin, 4 * PATIENCE)
        for sock in (silent, half):
            self.assertLess(self.closed_after(sock, 8), 4 * PATIENCE)
        broker.wait_log("handshake")
        client = Client(port, tls=broker.certificates.client_context())
        client.connect()

    @cost(5)
    def test_a_thousand_silent_connections_harm_nobody(self):
        broker = self.broker(2)
        silent = [tcp(broker.tls_port if number % 2 else broker.port) for number in range(1000)]
        client = broker.client("c", tls=True)
        client.subscribe("t", 1)
        client.publish("t", b"x", 1)
        client.wait_messages(1)
        for sock in silent:
            sock.close()


@only_shoal
class Slowness(Case):
    @cost(8)
    @workers(1, 2)
    def test_slow_subscriber_harms_only_itself(self, count):
        broker = self.broker(count, config={"mqtt": {"max_output_buffer": "64KB", "max_queued_messages": 50}},
                             listeners={"tcp:small": {"sndbuf": 16384}})
        slow = Client(broker.ports["tcp:small"], client_id="slow", sock=self.small_socket(broker.ports["tcp:small"]))
        slow.connect()
        slow.subscribe("t/#", 1)
        quick, sender = broker.client("quick", tls=True), broker.client("sender")
        quick.subscribe("t/#", 1)
        payload = b"x" * 2000
        for number in range(1000):
            begin = time.monotonic()
            sender.publish("t/%d" % (number % 2), payload, number % 2)
            if number % 2:
                self.assertLess(time.monotonic() - begin, 1.0 * PATIENCE)
            # The limits bind every client: it has each one before the next, so that never much waits for it.
            quick.wait_messages(number + 1)
        counters = broker.counters()
        self.assertGreater(counters["dropped_qos0_output"] + counters["dropped_queue_full"], 0)
        slow.pump(0.5)  # still served, from its bounded queue
        slow.ping()

    @workers(1, 2)
    def test_a_burst_is_offered_to_the_socket_before_it_is_dropped(self, count):
        """The worker stands still meanwhile: all of it comes in one turn, and more than the output buffer takes."""
        broker = self.broker(count, config={"mqtt": {"max_output_buffer": "16KB"}})
        quick, senders = broker.client("quick", slot=0), [broker.client("s%d" % number, slot=count - 1) for number in range(5)]
        quick.subscribe("t")
        pid = broker.stop_worker(0)
        for number in range(50):
            senders[number % 5].publish("t", b"%d " % number + b"x" * 1000)
        if count > 1:
            for sender in senders:
                sender.ping()
        os.kill(pid, signal.SIGCONT)
        quick.wait_messages(50)
        self.assertEqual(sorted(int(payload.split()[0]) for payload in quick.payloads()), list(range(50)))
        self.assertEqual(broker.counter("dropped_qos0_output"), 0)

    @staticmethod
    def small_socket(port):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.connect(("127.0.0.1", port))
        return sock

    @cost(5)
    def test_slow_tls_subscriber_gets_everything_that_was_not_dropped_in_order(self):
        broker = self.broker(2, config={"mqtt": {"max_queued_messages": 100000, "max_queued_bytes": "100MB"}})
        slow, sender = broker.client("slow", tls=True), broker.client("sender")
        slow.subscribe("t", 1)
        for number in range(2000):
            sender.publish("t", b"%d " % number + b"x" * 1500, 1)
        slow.wait_messages(2000, 30)
        self.assertEqual([int(payload.split()[0]) for payload in slow.payloads()], list(range(2000)))


@only_shoal
class Numbers(Case):
    @workers(1, 2)
    def test_max_connections_is_of_the_whole_node(self, count):
        broker = self.broker(count, listeners={"tcp:few": {"max_connections": 5}})
        port, clients = broker.ports["tcp:few"], []
        for number in range(5):
            clients.append(Client(port, client_id="c%d" % number))
            clients[-1].connect()
        for _ in range(5):
            with self.assertRaises((Closed, ConnectionError)):
                extra = Client(port, client_id="extra")
                extra.connect()
        broker.client("elsewhere").ping()
        clients.pop().disconnect()
        self.wait_for(lambda: self.connects(port), "a place that is free again")
        self.assertGreaterEqual(broker.counter("connections_limit"), 5)

    @staticmethod
    def connects(port):
        try:
            client = Client(port, client_id="again")
            client.connect()
            return client
        except (Closed, ConnectionError, Timeout):
            return None

    def test_access_rules_decide_who_connects(self):
        broker = self.broker(2, listeners={"tcp:closed": {"access": ["deny 127.0.0.0/8", "allow all"]},
                                           "tcp:local": {"access": ["allow 127.0.0.0/8", "deny all"]}})
        with self.assertRaises((Closed, ConnectionError)):
            Client(broker.ports["tcp:closed"]).connect()
        Client(broker.ports["tcp:local"]).connect()

    def test_anonymous_clients_can_be_forbidden(self):
        broker = self.broker(1, start=False, config={"auth": {"allow_anonymous": False}})
        broker.start(probe=False)
        for version, code in ((4, 5), (5, 0x87)):
            client = Client(broker.port, version, "anonymous")
            self.assertIn(client.connect(expect=None).reason, (code, 4 if version == 4 else 0x86))
            client.expect_closed()


@only_shoal
class Tls(Case):
    def test_versions_can_be_restricted(self):
        versions = ssl.TLSVersion
        broker = self.broker(1, listeners={"ssl:new": {"versions": ["tlsv1.3"]}, "ssl:old": {"versions": ["tlsv1.2"]}})
        made = broker.certificates
        for listener, good, bad in (("ssl:new", versions.TLSv1_3, versions.TLSv1_2),
                                    ("ssl:old", versions.TLSv1_2, versions.TLSv1_3)):
            Client(broker.ports[listener], tls=made.client_context(minimum=good, maximum=good)).connect()
            with self.assertRaises(ssl.SSLError):
                Client(broker.ports[listener], tls=made.client_context(minimum=bad, maximum=bad))
            broker.wait_log("version")

    def test_certificate_becomes_client_identifier(self):
        broker = self.broker(2, listeners={
            "ssl:cn": {"verify": "verify_peer", "fail_if_no_peer_cert": True, "peer_cert_as_clientid": "cn"}})
        context = broker.certificates.client_context("client")
        first = Client(broker.ports["ssl:cn"], client_id="whatever", tls=context)
        first.connect()
        second = Client(broker.ports["ssl:cn"], client_id="another", tls=context)
        second.connect()
        self.assertEqual(first.expect_closed().reason, 0x8E)

    def test_other_application_protocols_are_refused(self):
        broker = self.broker(1)
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            Client(broker.tls_port, tls=broker.certificates.client_context(alpn=["h2"]))
        client = Client(broker.tls_port, tls=broker.certificates.client_context(alpn=["h2", "mqtt"]))
        self.assertEqual(client.sock.selected_alpn_protocol(), "mqtt")

    def test_session_tickets_resume_on_any_worker(self):
        broker = self.broker(4)
        context = broker.certificates.client_context(maximum=ssl.TLSVersion.TLSv1_2)
        session, resumed = None, 0
        for number in range(12):
            sock = context.wrap_socket(tcp(broker.tls_port), server_hostname="localhost", session=session)
            client = Client(broker.tls_port, client_id="c%d" % number, sock=sock)
            client.connect()
            resumed += sock.session_reused
            session = sock.session
            client.disconnect()
        self.assertEqual(resumed, 11)

    def test_tickets_of_a_lax_listener_do_not_open_a_strict_one(self):
        broker = self.broker(1, listeners={"ssl:strict": {"verify": "verify_peer", "fail_if_no_peer_cert": True}})
        context = broker.certificates.client_context(maximum=ssl.TLSVersion.TLSv1_2)
        lax = context.wrap_socket(tcp(broker.tls_port), server_hostname="localhost")
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            strict = context.wrap_socket(tcp(broker.ports["ssl:strict"]), server_hostname="localhost",
                                         session=lax.session)
            strict.sendall(packets.connect(5, "x"))
            if strict.recv(10):
                self.fail("the strict listener answered")

"""PROXY protocol: the announced address counts, before TLS and WebSocket, and nothing else than a header is let in."""
import os
import socket
import struct
import time

from shoal_test import packets, websocket
from shoal_test.broker import Port
from shoal_test.case import Case, only_shoal, workers
from shoal_test.client import Client, tcp
from shoal_test.processes import Child

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def version_1(source="192.0.2.7", port=4321):
    family = "TCP6" if ":" in source else "TCP4"
    return ("PROXY %s %s %s %d 1883\r\n" % (family, source, "::1" if ":" in source else "127.0.0.1", port)).encode()


def version_2(source="192.0.2.7", port=4321, extensions=b"", command=1):
    if ":" in source:
        addresses, family = socket.inet_pton(socket.AF_INET6, source) + bytes(15) + b"\1", 0x21
    else:
        addresses, family = socket.inet_aton(source) + socket.inet_aton("127.0.0.1"), 0x11
    rest = addresses + struct.pack(">HH", port, 1883) + extensions
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack(">H", len(rest)) + rest


def extension(kind, value):
    return bytes([kind]) + struct.pack(">H", len(value)) + value


def tls_extension(name, client=0x07, verify=0):
    parts = extension(0x21, b"TLSv1.3") + (extension(0x22, name) if name is not None else b"")
    return extension(0x20, bytes([client]) + struct.pack(">I", verify) + parts)


class ProxyCase(Case):
    def proxied(self, count=1, settings=None, types=("tcp",), **more):
        listeners = {kind + ":p": {"proxy_protocol": True, **(settings or {})} for kind in types}
        more.setdefault("config", {"auth": {"allow_anonymous": True}})
        broker = self.broker(count, listeners=listeners, **more)
        self.port = broker.ports[types[0] + ":p"]
        return broker

    def client(self, header, client_id="c", version=5, connect=True, port=None, **fields):
        sock = tcp(port or self.port)
        sock.sendall(header)
        made = Client(0, version, client_id, sock=sock)
        self.addCleanup(made.drop)
        if connect:
            made.connect(**fields)
        return made

    def refused(self, data):
        """The server closes without a word."""
        sock = tcp(self.port)
        sock.sendall(data)
        sock.settimeout(6)
        try:
            self.assertEqual(sock.recv(100), b"")
        except ConnectionError:
            pass
        sock.close()


@only_shoal
class Addresses(ProxyCase):
    @workers(1, 2)
    def test_announced_address_is_in_the_log(self, count):
        broker = self.proxied(count)
        for number, (header, text) in enumerate((
                (version_1(), r"192\.0\.2\.7:4321"), (version_1("2001:db8::5"), r"\[2001:db8::5\]:4321"),
                (version_2("198.51.100.1", 1), r"198\.51\.100\.1:1"),
                (version_2("2001:db8::6"), r"\[2001:db8::6\]:4321"),
                (version_2("::ffff:198.51.100.2"), r"198\.51\.100\.2:4321"),
                (version_2("192.0.2.8", extensions=extension(4, b"") + extension(2, b"host")), r"192\.0\.2\.8:4321"))):
            self.client(header, "c%d" % number).disconnect()
            broker.wait_log(text + ": client c%d connected" % number)
            broker.wait_log(text + ": client c%d disconnected" % number)

    def test_local_and_unknown_keep_the_connections_own(self):
        broker = self.proxied()
        for number, header in enumerate((b"PROXY UNKNOWN\r\n", version_2(command=0),
                                         SIGNATURE + b"\x20\0\0\0", SIGNATURE + b"\x21\0\0\0")):
            client = self.client(header, "c%d" % number)
            broker.wait_log(r"127\.0\.0\.1:%d: client c%d connected" % (client.local_port(), number))

    def test_header_may_come_byte_by_byte(self):
        broker = self.proxied()
        for number, header in enumerate((version_1(), version_2(extensions=extension(4, bytes(300))))):
            client = self.client(b"", "slow%d" % number, connect=False)
            for at in range(len(header)):
                client.sock.sendall(header[at:at + 1])
                time.sleep(0.0005)
            client.connect()
            broker.wait_log(r"192\.0\.2\.7:4321: client slow%d connected" % number)

    def test_header_and_packets_in_one_piece(self):
        self.proxied()
        for header in (version_1(), version_2()):
            client = self.client(header + packets.connect(5, "once") + packets.PING, connect=False)
            client.expect(packets.CONNACK)
            client.expect(packets.PINGRESP)

    def test_access_rules_see_the_announced_address(self):
        broker = self.proxied(settings={"access": ["deny 192.0.2.0/24", "allow 198.51.100.0/24", "allow 2001:db8::/32"]})
        self.client(version_1("198.51.100.1")).disconnect()
        self.client(version_2("2001:db8::1")).disconnect()
        for header in (version_1(), version_2(), version_2("2001:db9::1"), b"PROXY UNKNOWN\r\n"):
            self.refused(header)
        broker.wait_log(r"192\.0\.2\.7:4321: refused by the access rules of listener tcp:p")
        self.assertEqual(broker.counter("connections_refused"), 4)

    def test_before_tls_and_before_websocket(self):
        broker = self.proxied(types=("tcp", "ssl", "ws", "wss"))
        context = broker.certificates.client_context()
        for kind in ("ssl", "ws", "wss"):
            for number, header in enumerate((version_1(), version_2())):
                sock = tcp(broker.ports[kind + ":p"])
                sock.sendall(header)
                if kind != "ws":
                    sock = context.wrap_socket(sock, server_hostname="localhost")
                if kind != "ssl":
                    sock = websocket.Connection(sock)
                name = "%s%d" % (kind, number)
                client = Client(0, 5, name, sock=sock)
                client.connect()
                broker.wait_log(r"192\.0\.2\.7:4321: client %s connected" % name)
                client.drop()


@only_shoal
class Refusals(ProxyCase):
    def test_anything_else_is_refused_with_one_line(self):
        broker = self.proxied()
        cases = [packets.connect(5, "c"), b"\x16\x03\x01\0\0", b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 1.2.3.4\r\n",
                 b"PROXY TCP4 1.2.3.4 1.2.3.5 1 99999\r\n", b"PROXY " + b"x" * 200, b"\r\n\r\n\0\r\nQUIX\n",
                 SIGNATURE + b"\x31\x11\0\x0c" + bytes(12), SIGNATURE + b"\x21\x11\0\x01x",
                 version_2(extensions=b"\x04\0\xff"), version_2(extensions=extension(3, bytes(4))),
                 SIGNATURE + b"\x21\x11\xff\xff" + bytes(100)]
        for data in cases:
            mark = broker.log_mark()
            self.refused(data)
            broker.wait_log("refused on listener tcp:p: .*PROXY.*; usually: ", since=mark)
            lines = [line for line in broker.log()[mark:].splitlines() if " debug " not in line and "client ready" not in line]
            self.assertEqual(len(lines), 1, lines)
        self.assertEqual(broker.counter("proxy_refused"), len(cases))
        self.client(version_1()).ping()

    def test_silence_ends_in_time(self):
        broker = self.proxied(settings={"connect_timeout": "300ms"})
        self.refused(b"")
        self.refused(b"PROXY TCP4 ")
        self.refused(SIGNATURE)
        broker.wait_log("no PROXY header within connect_timeout of listener tcp:p")
        self.assertEqual(broker.counter("proxy_refused"), 3)

    def test_half_a_header_costs_no_processor_time(self):
        """What was peeked at is taken out, or the event loop would spin."""
        broker = self.proxied()
        pid, made = broker.worker(0), []
        for header in (version_1()[:20], version_2()[:20]):
            made.append(tcp(self.port))
            made[-1].sendall(header)

        def ticks():
            with open("/proc/%d/stat" % pid) as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])
        time.sleep(0.3)
        before = ticks()
        time.sleep(1)
        self.assertLess(ticks() - before, 0.3 * os.sysconf("SC_CLK_TCK"))
        for sock in made:
            sock.close()

    def test_health_check_is_no_noise(self):
        broker = self.proxied()
        mark = broker.log_mark()
        for _ in range(3):
            tcp(self.port).close()
        self.client(version_1()).ping()
        self.assertNotRegex(broker.log()[mark:], " (warning|error) ")

    def test_header_on_other_listeners_is_told(self):
        broker = self.proxied()
        sock = tcp(broker.tls_port)
        sock.sendall(version_2())
        broker.wait_log("TLS handshake on listener ssl:tls failed: .*a load balancer that sends a PROXY header")
        sock.close()

    def test_loopback_behind_a_proxy_is_not_this_machine_alone(self):
        broker = self.proxied(config={})
        broker.wait_log("listener tcp:p on .* anonymous clients are refused, behind a proxy")
        client = self.client(version_1(), connect=False)
        self.assertEqual(client.connect(expect=None).reason, 0x87)


@only_shoal
class Names(ProxyCase):
    def test_verified_common_name_becomes_the_user(self):
        """allow_anonymous is off: the name is what lets a client in."""
        broker = self.proxied(settings={"peer_cert_as_username": "cn", "peer_cert_as_clientid": "cn"}, config={})
        client = self.client(version_2(extensions=tls_extension("Zoë".encode())), "")
        broker.wait_log("client Zoë connected")
        client.ping()
        for name in (tls_extension(None), tls_extension(b"alice", client=0x01), tls_extension(b"alice", verify=10),
                     tls_extension(b""), b""):
            client = self.client(version_2(extensions=name), connect=False)
            self.assertEqual(client.connect(expect=None).reason, 0x87)
        client = self.client(version_1(), connect=False)
        self.assertEqual(client.connect(expect=None).reason, 0x87)

    def test_names_that_are_no_names_are_refused(self):
        broker = self.proxied(settings={"peer_cert_as_username": "cn"})
        for name in (b"a\0b", b"\xff\xfe", b"x" * 2000):
            self.refused(version_2(extensions=tls_extension(name)))
            broker.wait_log("the common name in the PROXY header cannot be a user name")

    def test_names_behind_websocket(self):
        broker = self.proxied(types=("ws",), settings={"peer_cert_as_username": "cn", "peer_cert_as_clientid": "cn"},
                              config={})
        sock = tcp(self.port)
        sock.sendall(version_2(extensions=tls_extension(b"alice")))
        client = Client(0, 5, "other", sock=websocket.Connection(sock))
        client.connect()
        broker.wait_log("client alice connected")
        client.drop()

    def test_with_tls_here_our_own_handshake_counts(self):
        broker = self.proxied(types=("ssl",), settings={"verify": "verify_peer", "peer_cert_as_username": "cn",
                                                        "peer_cert_as_clientid": "cn"})
        for certificate, expected in (("client", "client one"), (None, "own")):
            sock = tcp(self.port)
            sock.sendall(version_2(extensions=tls_extension(b"mallory")))
            sock = broker.certificates.client_context(certificate).wrap_socket(sock, server_hostname="localhost")
            client = Client(0, 5, "own", sock=sock)
            client.connect()
            broker.wait_log("client %s connected" % expected)
            client.drop()
        self.assertNotIn("mallory", broker.log())

@only_shoal
class HaProxy(ProxyCase):
    """The load balancer that made the protocol, in front."""

    def in_front(self, broker, bind, option):
        """HAProxy's port before self.port."""
        front = Port()
        self.addCleanup(front.release)
        file = os.path.join(self.folder, "haproxy-%d.cfg" % front.number)
        with open(file, "w") as out:
            out.write("defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
                      "listen mqtt\n bind 127.0.0.1:%d %s\n server s 127.0.0.1:%d %s\n"
                      % (front.number, bind, self.port, option))
        proxy = Child(["haproxy", "-db", "-f", file], os.path.join(self.folder, "haproxy.log"))
        self.addCleanup(proxy.kill)

        def listens():
            try:
                tcp(front.number).close()
                return True
            except OSError:
                return False
        self.wait_for(listens, lambda: "haproxy: " + proxy.output())
        return front.number

    def test_announces_clients_in_both_versions(self):
        broker = self.proxied()
        for number, option in enumerate(("send-proxy", "send-proxy-v2", "check inter 50 send-proxy-v2")):
            front = self.in_front(broker, "", option)
            client = Client(front, 5, "h%d" % number)
            client.connect()
            broker.wait_log(r"127\.0\.0\.1:%d: client h%d connected" % (client.local_port(), number))
            client.ping()
            client.drop()
        self.assertNotRegex(broker.log(), " (warning|error) ")

    def test_ends_the_tls_and_announces_the_verified_name(self):
        broker = self.proxied(settings={"peer_cert_as_username": "cn", "peer_cert_as_clientid": "cn"}, config={})
        made = broker.certificates
        pem = os.path.join(self.folder, "haproxy.pem")
        with open(pem, "w") as out:
            for name in ("server.pem", "server.key"):
                with open(made.path(name)) as part:
                    out.write(part.read())
        front = self.in_front(broker, "ssl crt %s ca-file %s verify optional" % (pem, made.path("ca.pem")),
                              "send-proxy-v2-ssl-cn")
        client = Client(front, 5, "ignored", made.client_context("client"))
        client.connect()
        broker.wait_log("client client one connected")
        client.drop()
        client = Client(front, 5, "nobody", made.client_context())
        self.assertEqual(client.connect(expect=None).reason, 0x87)
        client.drop()

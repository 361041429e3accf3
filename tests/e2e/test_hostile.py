"""
Clients that do whatever bytes allow: valid and broken packets in any order, in halves and in heaps, sudden ends, many
connections with few identifiers, silence on one side. The node serves everybody else and ends clean.
SHOAL_TEST_SEED replays the choices of a run.
"""
import os
import random
import signal
import socket
import ssl
import time

from shoal_test import packets
from shoal_test.case import Case, cost, only_long, only_shoal
from shoal_test.client import Closed, Timeout, reset
from shoal_test.environment import PATIENCE
from shoal_test.packets import PUBACK, PUBCOMP, PUBREC, PUBREL

LEVELS = ("a", "b", "", "c", "$x")
REASONS = (None, None, 0, 0, 0x10, 0x80, 0x92, 0x97, 0xFF)
LIMITS = {"mqtt": {"max_packet_size": "64KB", "receive_maximum": 8, "max_inflight": 6, "max_queued_messages": 40,
                   "max_queued_bytes": "256KB", "max_output_buffer": "32KB", "max_subscriptions": 30,
                   "max_topic_alias": 4, "max_topic_levels": 6, "session_expiry_max": "3s", "session_expiry_v3": "2s",
                   "max_awaiting_rel": 6},
          "bus": {"window": "128KiB", "stall_timeout": "500ms"}, "session": {"claim_timeout": "300ms"},
          "log": {"level": "warning"}}


class Words:
    """What hostile clients say, from one random source."""

    def __init__(self, source):
        self.random = source
        self.careful = False  # nothing that ends the connection at once

    def topic(self):
        pick = self.random
        if self.careful:
            return "/".join(pick.choice("ab") for _ in range(pick.randint(1, 3)))
        if pick.random() < 0.02:
            return "z" * pick.choice((1000, 30000, 60000))
        return "/".join(pick.choice(LEVELS) for _ in range(pick.randint(1, 4))) or "a"

    def filter(self):
        pick = self.random
        if not self.careful and pick.random() < 0.05:
            return pick.choice(("$share/g/a", "$share//a", "a#", "+a", "", "#/a", "$SYS/#", "\0"))
        return "/".join(pick.choice(LEVELS + ("+", "+")) for _ in range(pick.randint(1, 3))) + pick.choice(("", "/#", "")) or "#"

    def payload(self):
        return self.random.choice((b"", b"x", b"y" * 100, b"z" * 3000, b"w" * 20000, b"v" * 60000))

    def packet_id(self):
        if self.careful:
            return self.random.randint(1, 12)
        return self.random.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 65535, self.random.randrange(65536)))

    def some(self, likely, *properties):
        """Some of these properties."""
        return {name: value() for name, value in properties if self.random.random() < likely}

    def number(self, *more):
        return lambda: self.random.choice((0, 1, 2, 3, 5) + more)

    def connect(self, version):
        pick = self.random
        will = None
        if pick.random() < 0.4:
            will = {"topic": self.topic(), "payload": self.payload(), "qos": pick.randrange(3),
                    "retain": pick.random() < 0.3,
                    "props": self.some(0.4, ("will_delay_interval", self.number(0xFFFFFFFF)),
                                       ("message_expiry_interval", self.number(0xFFFFFFFF)))}
        props = self.some(0.4, ("session_expiry_interval", self.number(0xFFFFFFFF)),
                          ("receive_maximum", self.number(65535)),
                          ("maximum_packet_size", self.number(20, 100, 5000, 0xFFFFFFFF)),
                          ("topic_alias_maximum", self.number(65535)),
                          ("request_problem_information", lambda: pick.randrange(2)))
        if pick.random() < 0.02:
            props["authentication_method"] = "x"
        return packets.connect(version, pick.choice(("", "h1", "h2", "h3", "h4", "h5", "h6", "h7")),
                               pick.random() < 0.4, pick.choice((0, 0, 1, 60, 65535)), will, props=props,
                               flags=pick.randrange(256) if pick.random() < 0.02 else None)

    def publish(self, version):
        pick = self.random
        props = self.some(0.15, ("topic_alias", self.number(4)), ("message_expiry_interval", self.number(0xFFFFFFFF)),
                          ("response_topic", self.topic), ("user_property", lambda: ("k", "v")),
                          ("payload_format_indicator", lambda: pick.randrange(2)))
        if self.careful and "topic_alias" in props:
            props["topic_alias"] = pick.randint(1, 4)
        topic = "" if "topic_alias" in props and not self.careful and pick.random() < 0.5 else self.topic()
        return packets.publish(version, topic, self.payload(), pick.choice((0, 1, 1, 2, 2)), self.packet_id(),
                               pick.random() < 0.2, pick.random() < 0.1, props)

    def subscribe(self, version):
        pick = self.random
        filters = [(self.filter(), pick.choice((0, 1, 2, 2, 4, 8, 0x10, 0x22, 2 if self.careful else 3)) if version == 5 else pick.randrange(3))
                   for _ in range(pick.choice((1, 1, 2, 3, 40)))]
        return packets.subscribe(version, self.packet_id(), filters,
                                 self.some(0.3, ("subscription_identifier",
                                                 lambda: pick.choice((1, 2, 268435455) if self.careful else (0, 1)))))

    def unsubscribe(self, version):
        filters = [self.filter() for _ in range(self.random.choice((1, 2, 20)))]
        return packets.unsubscribe(version, self.packet_id(), filters)

    def acknowledgement(self, version):
        kind = self.random.choice((PUBREL,) if self.careful else (PUBACK, PUBREC, PUBREL, PUBREL, PUBCOMP))
        return packets.acknowledgement(kind, self.packet_id(), self.random.choice((None, 0, 0x92) if self.careful else REASONS) if version == 5 else None)

    def disconnect(self, version):
        return packets.disconnect(version, self.random.choice((None, 0, 4, 0x80)),
                                  self.some(0.3, ("session_expiry_interval", self.number(0xFFFFFFFF))) or None)

    def noise(self, version):
        return self.random.randbytes(self.random.choice((1, 2, 5, 50, 1000)))

    def one(self, version, careful):
        """A packet, possibly broken."""
        self.careful = careful
        kinds = (self.publish,) * 10 + (self.subscribe,) * 4 + (self.unsubscribe,) * 2 + (self.acknowledgement,) * 8 + \
            (lambda version: packets.PING,) * 2
        if not careful or self.random.random() < 0.1:
            kinds += (self.disconnect, self.connect)
        data = bytearray(self.random.choice(kinds)(version))
        self.careful = False
        if careful:
            return bytes(data)
        what = self.random.random()
        if what < 0.02:
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        elif what < 0.03:
            del data[self.random.randrange(len(data)):]
        elif what < 0.035:
            data += self.noise(version)
        return bytes(data)


class Hostile:
    """One connection and what it has not sent yet."""

    def __init__(self, words, port, context):
        self.words, self.random = words, words.random
        self.version = self.random.choice((3, 4, 5, 5, 5))
        self.sock = socket.create_connection(("127.0.0.1", port), 5)
        if self.random.random() < 0.3:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if context:
            self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
        self.sock.setblocking(False)
        self.deaf = self.random.random() < 0.2
        self.careful = self.random.random() < 0.6
        self.decoder = packets.Decoder(self.version)
        self.rest = words.connect(self.version) if self.random.random() < 0.95 else words.noise(5)
        self.whole = self.random.random() < 0.8  # sends whole packets

    def say(self):
        """Sends something. False: the connection is gone."""
        if len(self.rest) < 200000:
            self.rest += b"".join(self.words.one(self.version, self.careful) for _ in range(self.random.choice((0, 1, 1, 2, 30))))
        count = len(self.rest) if self.whole else self.random.randrange(len(self.rest) + 1)
        try:
            self.rest = self.rest[self.sock.send(self.rest[:count]) if count else 0:]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError:
            return False
        return True

    def listen(self):
        """Reads, and answers some of it. False: the connection is gone. What came is well formed."""
        try:
            data = self.sock.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        for got in self.decoder.feed(data):
            answer = {packets.PUBLISH: (None, PUBACK, PUBREC)[got.qos or 0], PUBREC: PUBREL, PUBREL: PUBCOMP}.get(got.kind)
            if answer and self.random.random() < 0.9:
                self.rest += packets.acknowledgement(answer, got.packet_id)
        return len(data) > 0

    def step(self):
        what = self.random.random()
        if what < 0.01:
            reset(self.sock)
            return False
        if what < 0.02:
            self.sock.close()
            return False
        if what < 0.025 and not isinstance(self.sock, ssl.SSLSocket):
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                return False
        if not self.deaf and not self.listen():
            return False
        return self.say()


@only_shoal
class HostileClients(Case):
    def attack(self, workers, seconds, connections=40):
        seed = int(os.environ.get("SHOAL_TEST_SEED", "0")) or random.randrange(1, 1 << 30)
        print("SHOAL_TEST_SEED=%d" % seed)
        source = random.Random(seed)
        words = Words(source)
        broker = self.broker(workers, config=LIMITS)
        context = broker.certificates.client_context()
        bystander, sender = broker.client("bystander", tls=True), broker.client("sender", 4)
        bystander.subscribe("quiet/#", 2)
        pids = broker.worker_pids()
        hostile, rounds, slowest = [], 0, 0.0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            while len(hostile) < connections:
                try:
                    tls = source.random() < 0.3
                    hostile.append(Hostile(words, broker.tls_port if tls else broker.port, context if tls else None))
                except OSError:
                    pass
            for client in list(hostile):
                if not client.step():
                    hostile.remove(client)
                    client.sock.close()
            rounds += 1
            if rounds % 40 == 0:
                begin = time.monotonic()
                sender.publish("quiet/%d" % rounds, b"%d" % rounds, 1 + rounds // 40 % 2)
                bystander.wait_messages(rounds // 40)
                slowest = max(slowest, time.monotonic() - begin)
            if workers > 1 and rounds % 300 == 0:
                pid = broker.stop_worker(source.randrange(workers))
                time.sleep(0.2)
                os.kill(pid, signal.SIGCONT)
        for client in hostile:
            client.sock.close()
        self.assertEqual([int(payload) for payload in bystander.payloads()], list(range(40, rounds + 1, 40)))
        print("%d rounds, slowest publication of others %.2f s" % (rounds, slowest))
        self.assertLess(slowest, 3 * PATIENCE)
        self.assertEqual(broker.worker_pids(), pids)  # none has died

    @cost(8)
    def test_others_are_served_for_some_seconds__1_worker(self):
        self.attack(1, 3)

    @cost(8)
    def test_others_are_served_for_some_seconds__2_workers(self):
        self.attack(2, 3)

    @cost(30)
    @only_long
    def test_others_are_served_for_long__1_worker(self):
        self.attack(1, 20)

    @cost(30)
    @only_long
    def test_others_are_served_for_long__2_workers(self):
        self.attack(2, 20)

    @cost(30)
    @only_long
    def test_others_are_served_for_long__4_workers(self):
        self.attack(4, 20, 80)

"""
A raw MQTT client over a blocking socket: plain, exact, and able to misbehave. It acknowledges on its own unless
told not to, keeps every packet that came, and every wait has a deadline.
"""
import socket
import ssl
import struct
import time

from . import packets
from .environment import DEADLINE
from .packets import PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL


class Closed(Exception):
    """The server closed the connection while something was expected."""


class Timeout(Exception):
    """What was waited for did not come."""


def tcp(port, host="127.0.0.1", timeout=DEADLINE):
    sock = socket.create_connection((host, port), timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Client:
    """
    c = Client(port, version=5, client_id="a"); c.connect(); c.subscribe("x/#", 1); c.publish("x/y", b"z", 1)

    received: every packet that came; messages: the PUBLISH among them, each QoS 2 once.
    """

    def __init__(self, port, version=5, client_id="", tls=None, sock=None, host="127.0.0.1", server_name="localhost"):
        self.version, self.client_id, self.tls = version, client_id, tls
        self.sock = sock or tcp(port, host)
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname=server_name)
        self.decoder = packets.Decoder(version)
        self.received, self.messages = [], []
        self.unread = {kind: [] for kind in range(16)}
        self.sent_bytes = 0
        self.acknowledge = True      # PUBACK, PUBREC, PUBCOMP by themselves
        self.closed = False
        self.connack = None
        self.held_ids = set()        # QoS 2 identifiers between PUBREC and PUBREL, ours to deduplicate
        self.next_id = 0
        self.open_ids = set()        # QoS 1 and 2 identifiers that came and that we have not let go
        self.limits = {}             # the properties of our CONNECT: what comes is held against them

    # Life of the connection ---------------------------------------------------------------------------------
    def connect(self, clean=True, expect=0, **fields):
        """Sends CONNECT, returns the CONNACK; its reason must be `expect` (None: anything)."""
        self.limits = dict(fields.get("props") or {}) if self.version == 5 else {}
        self.send(packets.connect(self.version, self.client_id, clean, **fields))
        self.connack = self.expect(packets.CONNACK)
        if expect is not None and self.connack.reason != expect:
            raise AssertionError("CONNACK %#x, expected %#x" % (self.connack.reason, expect))
        if "assigned_client_identifier" in self.connack.props:
            self.client_id = self.connack.props["assigned_client_identifier"]
        return self.connack

    def disconnect(self, reason=None, props=None):
        """Says DISCONNECT and waits until the server has closed."""
        self.send(packets.disconnect(self.version, reason, props))
        self.expect_closed()

    def drop(self):
        """Closes without a word, as a lost network does (a reset when `close` finds unread data)."""
        self.closed = True
        self.sock.close()

    close = drop

    def fileno(self):
        return self.sock.fileno()

    def local_port(self):
        return self.sock.getsockname()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.drop()

    # Bytes ----------------------------------------------------------------------------------------------------
    def send(self, data):
        self.sock.settimeout(DEADLINE)
        try:
            self.sock.sendall(data)
        except (ConnectionError, ssl.SSLError) as error:
            raise Closed(str(error)) from error
        self.sent_bytes += len(data)

    def _read(self, deadline):
        """Reads once, until `deadline`. Returns False at the end of the connection."""
        left = deadline - time.monotonic()
        self.sock.settimeout(max(left, 0.001))
        try:
            data = self.sock.recv(65536)
        except (socket.timeout, ssl.SSLWantReadError) as error:
            raise Timeout() from error
        except (ConnectionError, ssl.SSLError, OSError):
            data = b""
        if not data:
            self.closed = True
            return False
        now = time.monotonic()
        for got in self.decoder.feed(data):
            got.time = now
            self._check(got)
            self.received.append(got)
            self._take(got)
        return True

    def _check(self, got):
        """What we said in CONNECT and have not acknowledged yet limits what may come."""
        whole = 1 + len(packets.variable(got.size)) + got.size
        if whole > self.limits.get("maximum_packet_size", whole):  # [MQTT-3.1.2-24]
            raise packets.Malformed("%d bytes are more than our Maximum Packet Size: %r" % (whole, got))
        if got.props.get("topic_alias", 0) > self.limits.get("topic_alias_maximum", 0):  # [MQTT-3.1.2-26, -27]
            raise packets.Malformed("Topic Alias above our maximum: %r" % got)
        if self.limits.get("request_problem_information") == 0 and got.kind not in (
                PUBLISH, packets.CONNACK, packets.DISCONNECT) and {"reason_string", "user_property"} & set(got.props):  # [MQTT-3.1.2-29]
            raise packets.Malformed("problem information that we did not ask for: %r" % got)
        if got.kind == PUBLISH and got.qos:
            if got.packet_id in self.open_ids:  # [MQTT-2.2.1-4, MQTT-4.4.0-1]
                raise packets.Malformed("its packet identifier is in use: %r" % got)
            self.open_ids.add(got.packet_id)
            if len(self.open_ids) > self.limits.get("receive_maximum", 65535):  # [MQTT-3.3.4-9]
                raise packets.Malformed("more unacknowledged PUBLISH than our Receive Maximum: %r" % got)

    def _take(self, got):
        if got.kind == packets.CONNACK and not got.session_present and self.version > 3:
            self.held_ids = set()  # belonged to a session that the server does not have any more [MQTT-3.2.2-5]
        if got.kind == PUBLISH and got.qos == 2:
            if got.packet_id not in self.held_ids:
                self.held_ids.add(got.packet_id)
                self.messages.append(got)
        elif got.kind == PUBLISH:
            self.messages.append(got)
        if got.kind == PUBREL:
            self.held_ids.discard(got.packet_id)
        if self.acknowledge:
            self._acknowledge(got)
        self.unread[got.kind].append(got)

    def _acknowledge(self, got):
        answer = None
        if got.kind == PUBLISH and got.qos:
            answer = PUBACK if got.qos == 1 else PUBREC
        elif got.kind == PUBREL:
            answer = PUBCOMP
        elif got.kind == PUBREC and got.reason < 0x80:
            answer = PUBREL
        if answer:
            self._let_go(answer, got.packet_id)
            try:
                self.sock.settimeout(DEADLINE)
                self.sock.sendall(packets.acknowledgement(answer, got.packet_id))
            except (ConnectionError, ssl.SSLError):
                pass

    def _let_go(self, kind, packet_id, reason=0):
        """The server may use the identifier again when it has this acknowledgement."""
        if kind in (PUBACK, PUBCOMP) or (kind == PUBREC and reason >= 0x80):
            self.open_ids.discard(packet_id)

    # Waiting ----------------------------------------------------------------------------------------------------
    def expect(self, kind, timeout=DEADLINE, **fields):
        """The next unread packet of that kind with these attributes; others stay unread."""
        deadline = time.monotonic() + timeout
        unread, looked = self.unread[kind], 0
        while True:
            while looked < len(unread):
                if all(getattr(unread[looked], name) == value for name, value in fields.items()):
                    return unread.pop(looked)
                looked += 1
            if self.closed or not self._checked_read(deadline, packets.NAMES[kind], fields):
                raise Closed("closed while waiting for %s %s; received %r"
                             % (packets.NAMES[kind], fields or "", self.received[-5:]))

    def _checked_read(self, deadline, what, fields):
        try:
            return self._read(deadline)
        except Timeout:
            raise Timeout("no %s %s from the server; received %r"
                          % (what, fields or "", self.received[-5:])) from None

    def expect_closed(self, timeout=DEADLINE):
        """The server closes within `timeout`. Returns the DISCONNECT that it sent before, or None."""
        deadline = time.monotonic() + timeout
        while not self.closed:
            if not self._checked_read(deadline, "close", {}):
                break
        self.sock.close()
        goodbyes = [got for got in self.received if got.kind == packets.DISCONNECT]
        return goodbyes[-1] if goodbyes else None

    def wait_messages(self, count, timeout=DEADLINE):
        """Waits until at least `count` messages have come in all; returns them."""
        deadline = time.monotonic() + timeout
        while len(self.messages) < count:
            if self.closed or not self._checked_read(deadline, "message %d of %d" % (len(self.messages) + 1, count), {}):
                raise Closed("closed with %d of %d messages" % (len(self.messages), count))
        return self.messages

    def payloads(self):
        return [got.payload for got in self.messages]

    def pump(self, seconds):
        """Reads whatever comes for that long."""
        deadline = time.monotonic() + seconds
        try:
            while not self.closed and self._read(deadline):
                pass
        except Timeout:
            pass

    def expect_silence(self, seconds=0.3):
        """No packet comes for `seconds`: for things that must not happen, beside a positive check."""
        before = len(self.received)
        self.pump(seconds)
        if len(self.received) > before:
            raise AssertionError("unexpected %r" % self.received[before:])

    def ping(self, timeout=DEADLINE):
        """A round trip: what this connection's worker had for us before has come."""
        self.send(packets.PING)
        return self.expect(packets.PINGRESP, timeout)

    # Packets ----------------------------------------------------------------------------------------------------
    def new_id(self):
        self.next_id = self.next_id % 65535 + 1
        return self.next_id

    def subscribe(self, filters, qos=0, options=0, props=None, expect=True, timeout=DEADLINE):
        """filters: one filter or a list of filters or of (filter, options). Returns the SUBACK."""
        if isinstance(filters, (str, bytes)):
            filters = [filters]
        pairs = [entry if isinstance(entry, tuple) else (entry, qos | options) for entry in filters]
        packet_id = self.new_id()
        self.send(packets.subscribe(self.version, packet_id, pairs, props))
        got = self.expect(packets.SUBACK, timeout, packet_id=packet_id)
        if expect and any(reason >= 0x80 for reason in got.reasons):
            raise AssertionError("SUBACK %r" % got.reasons)
        return got

    def unsubscribe(self, filters, props=None):
        if isinstance(filters, str):
            filters = [filters]
        packet_id = self.new_id()
        self.send(packets.unsubscribe(self.version, packet_id, filters, props))
        return self.expect(packets.UNSUBACK, packet_id=packet_id)

    def publish(self, topic, payload=b"", qos=0, retain=False, dup=False, props=None, packet_id=None, wait=True,
                timeout=DEADLINE):
        """Publishes; at QoS 1 and 2 waits for PUBACK or PUBCOMP (wait=False: does not) and returns it."""
        if qos and packet_id is None:
            packet_id = self.new_id()
        self.send(packets.publish(self.version, topic, payload, qos, packet_id, retain, dup, props))
        if not qos or not wait:
            return packet_id
        if qos == 2:
            got = self.expect(PUBREC, timeout, packet_id=packet_id)
            if got.reason >= 0x80:
                return got
            if not self.acknowledge:
                self.send(packets.acknowledgement(PUBREL, packet_id))
        return self.expect(PUBACK if qos == 1 else PUBCOMP, timeout, packet_id=packet_id)

    def answer(self, kind, packet_id, reason=None):
        """PUBACK, PUBREC, PUBREL or PUBCOMP by hand."""
        self._let_go(kind, packet_id, reason or 0)
        self.send(packets.acknowledgement(kind, packet_id, reason))


def reset(sock):
    """Closes with a TCP reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()

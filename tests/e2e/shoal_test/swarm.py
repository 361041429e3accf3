"""
Hundreds of clients in one process for load tests: an epoll loop over the sockets of raw clients, with exact books of
what each one sent, what was acknowledged to it and what it received. QoS 1 and 2 both ways, a window per publisher.
"""
import select
import ssl
import struct
import time

from . import packets
from .packets import PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, DISCONNECT

_TWO = struct.Struct("!H")
# The four-byte acknowledgements: first byte and length.
_ACK = {kind: bytes([kind << 4 | (2 if kind == PUBREL else 0), 2]) for kind in (PUBACK, PUBREC, PUBREL, PUBCOMP)}


class Publication:
    """One publication and its fate. `accepted`: PUBACK or PUBREC came; `done`: PUBACK or PUBCOMP came."""
    __slots__ = ("topic", "payload", "qos", "sent", "accepted", "done", "refused")

    def __init__(self, topic, payload, qos):
        self.topic, self.payload, self.qos = topic, payload, qos
        self.sent = self.accepted = self.done = None
        self.refused = False


class Member:
    """
    A connected client in the loop. Feed it by `queue` (Publications); read `received`: (topic, payload, qos) tuples,
    QoS 2 repeated with DUP counted once, as a client does.
    """

    def __init__(self, swarm, client):
        self.swarm, self.client, self.version = swarm, client, client.version
        self.name, self.sock = client.client_id, client.sock
        self.queue, self.sent = [], []
        self.next_in_queue, self.window = 0, 10
        self.open = {}               # packet identifier → Publication
        self.held = set(client.held_ids)
        self.received = [(got.topic.encode(), got.payload, got.qos) for got in client.messages]
        self.input, self.output = client.decoder.buffer, bytearray()
        self.packet_id = 0
        self.closed, self.goodbye = None, None
        self.writing = False
        self.wants_reading = True
        self.sock.setblocking(False)

    # Out ------------------------------------------------------------------------------------------------------
    def fill(self):
        """Puts as many publications on their way as the window allows."""
        while len(self.open) < self.window and self.next_in_queue < len(self.queue):
            publication = self.queue[self.next_in_queue]
            self.next_in_queue += 1
            self.packet_id = self.packet_id % 60000 + 1
            publication.sent = time.monotonic()
            if publication.qos:
                self.open[self.packet_id] = publication
            self.output += packets.publish(self.version, publication.topic, publication.payload, publication.qos,
                                           self.packet_id)

    def idle(self):
        return self.closed is not None or (self.next_in_queue == len(self.queue) and not self.open)

    def flush(self):
        if not self.output or self.closed is not None:
            return
        try:
            sent = self.sock.send(self.output)
            del self.output[:sent]
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError:
            return self.swarm.lost(self)
        if bool(self.output) != self.writing:
            self.writing = bool(self.output)
            self.swarm.watch(self)

    # In -------------------------------------------------------------------------------------------------------
    def readable(self):
        try:
            while True:
                data = self.sock.recv(65536)
                if not data:
                    self._parse()
                    return self.swarm.lost(self)
                self.input += data
                if len(data) < 16384:
                    if not isinstance(self.sock, ssl.SSLSocket) or not self.sock.pending():
                        break
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self._parse()
            return self.swarm.lost(self)
        self._parse()
        self.fill()
        self.flush()

    def _parse(self):
        data, at, end = self.input, 0, len(self.input)
        while end - at >= 2:
            length, cursor = data[at + 1], at + 2
            if length >= 0x80:
                length, shift, cursor = 0, 0, at + 1
                while cursor < end and shift < 28:
                    digit = data[cursor]
                    length |= (digit & 0x7F) << shift
                    shift += 7
                    cursor += 1
                    if digit < 0x80:
                        break
                else:
                    break
            if end - cursor < length:
                break
            self._packet(data[at], data, cursor, cursor + length)
            at = cursor + length
        if at:
            del data[:at]

    def _packet(self, first, data, at, end):
        kind = first >> 4
        if kind == PUBLISH:
            self._publish(first, data, at, end)
        elif kind in (PUBACK, PUBREC, PUBCOMP):
            self._acknowledged(kind, _TWO.unpack_from(data, at)[0], data[at + 2] if end - at > 2 else 0)
        elif kind == PUBREL:
            packet_id = _TWO.unpack_from(data, at)[0]
            self.held.discard(packet_id)
            self.output += _ACK[PUBCOMP] + _TWO.pack(packet_id)
        elif kind == DISCONNECT:
            self.goodbye = data[at] if end > at else 0
        elif kind != PINGRESP:
            raise packets.Malformed("unexpected %s" % packets.NAMES[kind])

    def _publish(self, first, data, at, end):
        qos = first >> 1 & 3
        size = _TWO.unpack_from(data, at)[0]
        topic = bytes(data[at + 2:at + 2 + size])
        at += 2 + size
        fresh = True
        if qos:
            packet_id = _TWO.unpack_from(data, at)[0]
            at += 2
            if qos == 1:
                self.output += _ACK[PUBACK] + _TWO.pack(packet_id)
            else:
                fresh = packet_id not in self.held
                self.held.add(packet_id)
                self.output += _ACK[PUBREC] + _TWO.pack(packet_id)
        if self.version == 5:
            at += 1 + data[at]  # these tests use few properties: their length is one byte
        if fresh:
            self.received.append((topic, bytes(data[at:end]), qos))

    def _acknowledged(self, kind, packet_id, reason):
        publication = self.open.get(packet_id)
        if publication is None:
            raise packets.Malformed("%s for identifier %d, which is free" % (packets.NAMES[kind], packet_id))
        now = time.monotonic()
        publication.refused = reason >= 0x80
        if kind == PUBREC and not publication.refused:
            publication.accepted = now
            self.output += _ACK[PUBREL] + _TWO.pack(packet_id)
            return
        if kind == PUBACK and not publication.refused:
            publication.accepted = now
        publication.done = now
        del self.open[packet_id]


class Swarm:
    def __init__(self):
        self.epoll, self.members = select.epoll(), {}
        self.on_lost = None          # called with the member whose connection ended

    def add(self, client):
        member = Member(self, client)
        self.members[member.sock.fileno()] = member
        self.epoll.register(member.sock.fileno(), select.EPOLLIN)
        return member

    def watch(self, member):
        self.epoll.modify(member.sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if member.writing else 0))

    def lost(self, member):
        if member.closed is not None:
            return
        member.closed = time.monotonic()
        del self.members[member.sock.fileno()]
        self.epoll.unregister(member.sock.fileno())
        member.sock.close()
        if self.on_lost:
            self.on_lost(member)

    def turn(self, timeout=0.05):
        for descriptor, events in self.epoll.poll(timeout):
            member = self.members.get(descriptor)
            if member and events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                member.readable()
            elif member:
                member.flush()

    def start(self):
        """Lets everybody begin to publish what is queued."""
        for member in list(self.members.values()):
            member.fill()
            member.flush()

    def run(self, until, seconds, what="the condition", each_turn=None):
        """Turns until `until()` holds; AssertionError after the deadline."""
        deadline = time.monotonic() + seconds
        while not until():
            self.turn()
            if each_turn:
                each_turn()
            if time.monotonic() > deadline:
                raise AssertionError("not within %.0f s: %s" % (seconds, what() if callable(what) else what))

    def run_for(self, seconds, each_turn=None):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.turn(min(0.05, max(0.0, deadline - time.monotonic())))
            if each_turn:
                each_turn()

    def settled(self):
        return all(member.idle() for member in self.members.values())

    def close(self):
        for member in list(self.members.values()):
            self.on_lost = None
            self.lost(member)
        self.epoll.close()

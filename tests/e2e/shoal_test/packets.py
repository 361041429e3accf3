"""
MQTT control packets as bytes, both ways, for versions 3.1 (3), 3.1.1 (4) and 5.0 (5): an encoder that writes
whatever it is asked for, broken packets included, and a strict decoder of what a server may send.
No sockets here.
"""
import struct

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, \
    PINGREQ, PINGRESP, DISCONNECT, AUTH = range(1, 16)

NAMES = ["", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
         "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"]

# identifier: (name, kind) [MQTT 2.2.2.2]
PROPERTIES = {
    0x01: ("payload_format_indicator", "byte"),
    0x02: ("message_expiry_interval", "four"),
    0x03: ("content_type", "text"),
    0x08: ("response_topic", "text"),
    0x09: ("correlation_data", "binary"),
    0x0B: ("subscription_identifier", "variable"),
    0x11: ("session_expiry_interval", "four"),
    0x12: ("assigned_client_identifier", "text"),
    0x13: ("server_keep_alive", "two"),
    0x15: ("authentication_method", "text"),
    0x16: ("authentication_data", "binary"),
    0x17: ("request_problem_information", "byte"),
    0x18: ("will_delay_interval", "four"),
    0x19: ("request_response_information", "byte"),
    0x1A: ("response_information", "text"),
    0x1C: ("server_reference", "text"),
    0x1F: ("reason_string", "text"),
    0x21: ("receive_maximum", "two"),
    0x22: ("topic_alias_maximum", "two"),
    0x23: ("topic_alias", "two"),
    0x24: ("maximum_qos", "byte"),
    0x25: ("retain_available", "byte"),
    0x26: ("user_property", "pair"),
    0x27: ("maximum_packet_size", "four"),
    0x28: ("wildcard_subscription_available", "byte"),
    0x29: ("subscription_identifier_available", "byte"),
    0x2A: ("shared_subscription_available", "byte"),
}
IDENTIFIERS = {name: (identifier, kind) for identifier, (name, kind) in PROPERTIES.items()}


# What a server may say and carry in version 5, by packet [MQTT 2.4, 3].
REASONS = {
    CONNACK: {0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B,
              0x9C, 0x9D, 0x9F},
    PUBACK: {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREC: {0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREL: {0, 0x92}, PUBCOMP: {0, 0x92},
    SUBACK: {0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    UNSUBACK: {0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    DISCONNECT: {0, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98,
                 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2},
    AUTH: {0, 0x18},
}
OLD_REASONS = {CONNACK: set(range(6)), SUBACK: {0, 1, 2, 0x80}}  # before version 5
_TEXTS = {"reason_string", "user_property"}
ALLOWED = {
    CONNACK: _TEXTS | {"session_expiry_interval", "receive_maximum", "maximum_qos", "retain_available",
                       "maximum_packet_size", "assigned_client_identifier", "topic_alias_maximum",
                       "wildcard_subscription_available", "subscription_identifier_available",
                       "shared_subscription_available", "server_keep_alive", "response_information", "server_reference",
                       "authentication_method", "authentication_data"},
    PUBLISH: {"payload_format_indicator", "message_expiry_interval", "topic_alias", "response_topic",
              "correlation_data", "user_property", "subscription_identifier", "content_type"},
    PUBACK: _TEXTS, PUBREC: _TEXTS, PUBREL: _TEXTS, PUBCOMP: _TEXTS, SUBACK: _TEXTS, UNSUBACK: _TEXTS,
    DISCONNECT: _TEXTS | {"server_reference"},
    AUTH: _TEXTS | {"authentication_method", "authentication_data"},
}


class Malformed(Exception):
    """The server sent something that the specification forbids."""


# Encoding ---------------------------------------------------------------------------------------------------
def variable(number):
    """A variable byte integer [MQTT 1.5.5]."""
    out = bytearray()
    while True:
        number, digit = number >> 7, number & 0x7F
        out.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(out)


def text(value):
    """Two bytes of length, then the bytes; str is encoded, bytes are taken as they are."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(raw)) + raw


def packet(kind, body=b"", flags=0):
    return bytes([kind << 4 | flags]) + variable(len(body)) + body


def one_property(name, value):
    identifier, kind = IDENTIFIERS[name]
    head = bytes([identifier])
    if kind == "byte":
        return head + bytes([value])
    if kind == "two":
        return head + struct.pack("!H", value)
    if kind == "four":
        return head + struct.pack("!I", value)
    if kind == "variable":
        return head + variable(value)
    if kind == "pair":
        return head + text(value[0]) + text(value[1])
    return head + text(value)


def properties(values):
    """From a dictionary name → value (a list: the property several times) or from raw bytes, length in front."""
    if isinstance(values, bytes):
        return variable(len(values)) + values
    out = b""
    for name, value in (values or {}).items():
        for single in value if isinstance(value, list) else [value]:
            out += one_property(name, single)
    return variable(len(out)) + out


def connect(version=5, client_id="", clean=True, keep_alive=60, will=None, user=None, password=None, props=None,
            protocol=None, flags=None):
    """will: dictionary topic, payload, qos, retain, props. protocol, flags: overrides for broken packets."""
    bits = 2 if clean else 0
    payload = text(client_id)
    if will:
        bits |= 4 | will.get("qos", 0) << 3 | (32 if will.get("retain") else 0)
        if version == 5:
            payload += properties(will.get("props"))
        payload += text(will["topic"]) + text(will.get("payload", b""))
    if user is not None:
        bits |= 128
        payload += text(user)
    if password is not None:
        bits |= 64
        payload += text(password)
    if protocol is None:
        protocol = text("MQIsdp" if version == 3 else "MQTT") + bytes([version])
    head = protocol + bytes([bits if flags is None else flags]) + struct.pack("!H", keep_alive)
    return packet(CONNECT, head + (properties(props) if version == 5 else b"") + payload)


def publish(version, topic, payload=b"", qos=0, packet_id=None, retain=False, dup=False, props=None):
    raw = payload.encode() if isinstance(payload, str) else payload
    body = text(topic)
    if qos:
        body += struct.pack("!H", packet_id)
    if version == 5:
        body += properties(props)
    return packet(PUBLISH, body + raw, (8 if dup else 0) | qos << 1 | (1 if retain else 0))


def acknowledgement(kind, packet_id, reason=None, props=None):
    """PUBACK, PUBREC, PUBREL, PUBCOMP; without reason the short form that all versions know."""
    body = struct.pack("!H", packet_id)
    if reason is not None or props is not None:
        body += bytes([reason or 0])
        if props is not None:
            body += properties(props)
    return packet(kind, body, 2 if kind == PUBREL else 0)


def subscribe(version, packet_id, filters, props=None):
    """filters: list of (filter, options byte)."""
    body = struct.pack("!H", packet_id) + (properties(props) if version == 5 else b"")
    return packet(SUBSCRIBE, body + b"".join(text(name) + bytes([options]) for name, options in filters), 2)


def unsubscribe(version, packet_id, filters, props=None):
    body = struct.pack("!H", packet_id) + (properties(props) if version == 5 else b"")
    return packet(UNSUBSCRIBE, body + b"".join(text(name) for name in filters), 2)


def auth(reason=None, props=None):
    """AUTH of version 5; without anything the short form for 0x00."""
    if reason is None and props is None:
        return packet(AUTH)
    return packet(AUTH, bytes([reason or 0]) + (properties(props) if props is not None else b""))


def disconnect(version, reason=None, props=None):
    if version < 5 or (reason is None and props is None):
        return packet(DISCONNECT)
    body = bytes([reason or 0])
    return packet(DISCONNECT, body + (properties(props) if props is not None else b""))


PING = packet(PINGREQ)


# Decoding ---------------------------------------------------------------------------------------------------
class Packet:
    """One received packet. Which attributes are set depends on `kind`; see the decode_* functions."""
    __slots__ = ("kind", "flags", "size", "packet_id", "topic", "payload", "qos", "retain", "dup", "reason",
                 "reasons", "session_present", "props", "time")

    def __init__(self, kind, flags, size):
        self.kind, self.flags, self.size = kind, flags, size
        self.packet_id = self.topic = self.payload = self.qos = self.reason = self.reasons = None
        self.retain = self.dup = self.session_present = False
        self.props, self.time = {}, None

    def __repr__(self):
        shown = ["%s=%r" % (name, value) for name in self.__slots__[3:-1]
                 if (value := getattr(self, name)) is not None and value is not False and value != {}]
        return ("%s(%s)" % (NAMES[self.kind], ", ".join(shown)))[:300]


class _Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Malformed("packet ends in the middle of a field")
        self.at += count
        return self.data[self.at - count:self.at]

    def byte(self):
        return self.take(1)[0]

    def two(self):
        return struct.unpack("!H", self.take(2))[0]

    def four(self):
        return struct.unpack("!I", self.take(4))[0]

    def binary(self):
        return self.take(self.two())

    def text(self):
        return self.binary().decode("utf-8")

    def variable(self):
        number = shift = 0
        while shift < 28:
            digit = self.byte()
            number |= (digit & 0x7F) << shift
            if digit < 0x80:
                return number
            shift += 7
        raise Malformed("variable byte integer longer than four bytes")

    def pair(self):
        return self.text(), self.text()

    def rest(self):
        return self.take(len(self.data) - self.at)

    def left(self):
        return len(self.data) - self.at

    def properties(self):
        inner = _Cursor(self.take(self.variable()))
        found = {}
        while inner.left():
            identifier = inner.byte()
            if identifier not in PROPERTIES:
                raise Malformed("unknown property 0x%02x" % identifier)
            name, kind = PROPERTIES[identifier]
            value = getattr(inner, kind)()
            if name in ("user_property", "subscription_identifier"):
                found.setdefault(name, []).append(value)
            elif name in found:
                raise Malformed("property %s twice" % name)
            else:
                found[name] = value
        return found


def _decode_connack(got, cursor, version):
    flags = cursor.byte()
    if flags & 0xFE:
        raise Malformed("CONNACK flags 0x%02x" % flags)
    got.session_present, got.reason = bool(flags), cursor.byte()
    if version == 5 and cursor.left():
        got.props = cursor.properties()


def _decode_publish(got, cursor, version):
    got.qos, got.dup, got.retain = got.flags >> 1 & 3, bool(got.flags & 8), bool(got.flags & 1)
    if got.qos == 3 or (got.qos == 0 and got.dup):
        raise Malformed("PUBLISH flags 0x%x" % got.flags)
    got.topic = cursor.text()
    if got.qos:
        got.packet_id = cursor.two()
        if got.packet_id == 0:
            raise Malformed("PUBLISH with packet identifier 0")
    if version == 5:
        got.props = cursor.properties()
    got.payload = bytes(cursor.rest())


def _decode_acknowledgement(got, cursor, version):
    got.packet_id, got.reason = cursor.two(), 0
    if version == 5 and cursor.left():
        got.reason = cursor.byte()
        if cursor.left():
            got.props = cursor.properties()


def _decode_suback(got, cursor, version):
    got.packet_id = cursor.two()
    if version == 5:
        got.props = cursor.properties()
    got.reasons = list(cursor.rest())


def _decode_disconnect(got, cursor, version):
    if version < 5:
        raise Malformed("a server sends no %s in version %d" % (NAMES[got.kind], version))
    got.reason = cursor.byte() if cursor.left() else 0
    if cursor.left():
        got.props = cursor.properties()


def _decode_empty(got, cursor, version):
    pass


_DECODERS = {
    CONNACK: (_decode_connack, 0), PUBLISH: (_decode_publish, None), PUBACK: (_decode_acknowledgement, 0),
    PUBREC: (_decode_acknowledgement, 0), PUBREL: (_decode_acknowledgement, 2),
    PUBCOMP: (_decode_acknowledgement, 0), SUBACK: (_decode_suback, 0), UNSUBACK: (_decode_suback, 0),
    PINGRESP: (_decode_empty, 0), DISCONNECT: (_decode_disconnect, 0), AUTH: (_decode_disconnect, 0),
}


def decode_body(version, first, body):
    kind, flags = first >> 4, first & 15
    if kind not in _DECODERS:
        raise Malformed("a server never sends packet type %d" % kind)
    decoder, wanted_flags = _DECODERS[kind]
    if wanted_flags is not None and flags != wanted_flags:
        raise Malformed("%s with flags 0x%x" % (NAMES[kind], flags))
    got = Packet(kind, flags, len(body))
    cursor = _Cursor(body)
    decoder(got, cursor, version)
    if cursor.left():
        raise Malformed("%s has %d bytes too many" % (NAMES[kind], cursor.left()))
    _check_contents(got, version)
    return got


def _check_contents(got, version):
    """Reason codes and properties that the packet may have [MQTT-3.2.2-8, 3.4.2-1, 3.14.2-1 …]."""
    old = version < 5 or (got.kind == CONNACK and got.size == 2)  # to a version that the server does not know
    allowed = (OLD_REASONS if old else REASONS).get(got.kind)
    for reason in got.reasons or ([] if got.reason is None else [got.reason]):
        if allowed and reason not in allowed:
            raise Malformed("%s with reason 0x%02x" % (NAMES[got.kind], reason))
    extra = set(got.props) - ALLOWED.get(got.kind, set())
    if extra:
        raise Malformed("%s with %s" % (NAMES[got.kind], ", ".join(sorted(extra))))
    if got.kind == CONNACK and got.reason and got.session_present:
        raise Malformed("a refusal with Session Present")


class Decoder:
    """feed() bytes as they come, take whole packets."""

    def __init__(self, version):
        self.version, self.buffer = version, bytearray()

    def feed(self, data):
        """Returns the list of packets that are complete now."""
        buffer = self.buffer
        buffer += data
        found, at, end = [], 0, len(buffer)
        while end - at >= 2:
            length, shift, cursor = 0, 0, at + 1
            while cursor < end:
                digit = buffer[cursor]
                length |= (digit & 0x7F) << shift
                cursor += 1
                if digit < 0x80:
                    break
                shift += 7
                if shift > 21:
                    raise Malformed("remaining length longer than four bytes")
            else:
                break
            if end - cursor < length:
                break
            found.append(decode_body(self.version, buffer[at], bytes(buffer[cursor:cursor + length])))
            at = cursor + length
        if at:
            del buffer[:at]
        return found

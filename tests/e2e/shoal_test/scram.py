"""
The client's side of SCRAM-SHA-256 and -PLUS (RFC 5802, 7677, 9266), of hashlib alone: lines for a password file,
messages, and whole exchanges over a Client.
"""
import base64
import hashlib
import hmac
import itertools

from . import packets

METHOD, PLUS = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
SALT = b"sixteen bytes..."
_numbers = itertools.count()


def encode(raw):
    return base64.b64encode(raw).decode()


def _hmac(key, text):
    return hmac.new(key, text.encode() if isinstance(text, str) else text, hashlib.sha256).digest()


def salted(password, salt, iterations):
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)


def line(user, password, iterations=4096, salt=SALT):
    """A line of the password file, as gsasl --mkpasswd would make it."""
    key = salted(password, salt, iterations)
    stored = hashlib.sha256(_hmac(key, "Client Key")).digest()
    return "%s:{SCRAM-SHA-256}%d,%s,%s,%s\n" % (user, iterations, encode(salt), encode(stored), encode(_hmac(key, "Server Key")))


class Exchange:
    """One exchange: first(), then final(the server's first message), then check(its last)."""

    def __init__(self, user, password, binding=None, header=None, nonce=None):
        self.password, self.binding = password, binding or b""
        self.header = header if header is not None else "p=tls-exporter,," if binding else "n,,"
        self.nonce = nonce or "client%d" % next(_numbers)
        self.bare = "n=%s,r=%s" % (user.replace("=", "=3D").replace(",", "=2C"), self.nonce)
        self.fields, self.auth, self.key = {}, None, None

    def first(self):
        return (self.header + self.bare).encode()

    def final(self, message):
        first = message.decode()
        self.fields = dict(part.split("=", 1) for part in first.split(","))
        assert self.fields["r"].startswith(self.nonce) and self.fields["r"] != self.nonce, first
        self.key = salted(self.password, base64.b64decode(self.fields["s"]), int(self.fields["i"]))
        without = "c=%s,r=%s" % (encode(self.header.encode() + self.binding), self.fields["r"])
        self.auth = ",".join((self.bare, first, without))
        client = _hmac(self.key, "Client Key")
        signature = _hmac(hashlib.sha256(client).digest(), self.auth)
        proof = bytes(a ^ b for a, b in zip(client, signature))
        return ("%s,p=%s" % (without, encode(proof))).encode()

    def check(self, message):
        """The server knows the password, too."""
        expected = "v=" + encode(_hmac(_hmac(self.key, "Server Key"), self.auth))
        assert message.decode() == expected, "the server's signature is %r, expected %r" % (message, expected)


def props(data, method=METHOD):
    """The two properties; data None: without Authentication Data."""
    made = {"authentication_method": method}
    if data is not None:
        made["authentication_data"] = data
    return made


def expect_auth(client, reason, method=METHOD):
    """The server's next AUTH; returns its data."""
    got = client.expect(packets.AUTH)
    assert got.reason == reason, "AUTH %#x, expected %#x" % (got.reason, reason)
    assert got.props.get("authentication_method") == method, got
    return got.props.get("authentication_data", b"")


def begin(client, user, password, method=METHOD, binding=None, header=None, props_more=None, connect_user=None,
          **fields):
    """
    CONNECT up to the server's first message. Returns the exchange and the client's last message. connect_user: the
    User Name of CONNECT itself, with a password that is none.
    """
    exchange = Exchange(user, password, binding, header)
    client.limits = dict(props_more or {})
    if connect_user is not None:
        fields.update(user=connect_user, password="none")
    client.send(packets.connect(5, client.client_id, props={**props(exchange.first(), method), **(props_more or {})}, **fields))
    return exchange, exchange.final(expect_auth(client, 0x18, method))


def connect(client, user, password, method=METHOD, expect=0, **fields):
    """A whole CONNECT by SCRAM; checks the server's signature. Returns the CONNACK."""
    exchange, final = begin(client, user, password, method, **fields)
    client.send(packets.auth(0x18, props(final, method)))
    client.connack = client.expect(packets.CONNACK)
    assert client.connack.reason == expect, "CONNACK %#x, expected %#x" % (client.connack.reason, expect)
    if expect == 0:
        assert client.connack.props["authentication_method"] == method, client.connack
        exchange.check(client.connack.props["authentication_data"])
    return client.connack


def again(client, user, password, method=METHOD, binding=None):
    """A new authentication of a connected client, up to AUTH 0x00."""
    exchange = Exchange(user, password, binding)
    client.send(packets.auth(0x19, props(exchange.first(), method)))
    client.send(packets.auth(0x18, props(exchange.final(expect_auth(client, 0x18, method)), method)))
    exchange.check(expect_auth(client, 0x00, method))


# Channel binding -------------------------------------------------------------------------------------------------
def _expand_label(secret, label, context, size):
    """HKDF-Expand-Label [RFC 8446, 7.1] for at most one block of SHA-256 or SHA-384."""
    digest = hashlib.sha256 if len(secret) == 32 else hashlib.sha384
    full = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes([len(full)]) + full + bytes([len(context)]) + context + b"\x01"
    return hmac.new(secret, info, digest).digest()[:size]


def tls_exporter(keylog_text):
    """tls-exporter [RFC 9266] of the TLS 1.3 connection whose key log (SSLContext.keylog_filename) this is."""
    secret = bytes.fromhex(next(words[2] for words in map(str.split, keylog_text.splitlines())
                                if words and words[0] == "EXPORTER_SECRET"))
    digest = hashlib.sha256 if len(secret) == 32 else hashlib.sha384
    empty = digest(b"").digest()
    derived = _expand_label(secret, b"EXPORTER-Channel-Binding", empty, len(secret))
    return _expand_label(derived, b"exporter", empty, 32)

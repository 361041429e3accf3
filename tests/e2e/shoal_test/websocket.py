"""
A raw WebSocket client over a blocking socket: exact, and able to misbehave. Connection stands where a socket would
(sendall, recv, settimeout …), so that a Client can speak MQTT through it; how it cuts the bytes into frames is up to
the test.
"""
import base64
import hashlib
import os
import struct

from .client import Closed, tcp
from .environment import DEADLINE

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def request(path="/mqtt", protocols="mqtt", key=None, origin=None, **fields):
    """The opening request; a field given as None is left out, others (Host=…, with _ for -) replace or add."""
    headers = {"Host": "localhost", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": key or base64.b64encode(os.urandom(16)).decode(),
               "Sec-WebSocket-Protocol": protocols, "Origin": origin}
    headers.update({name.replace("_", "-"): value for name, value in fields.items()})
    lines = ["GET %s HTTP/1.1" % path] + ["%s: %s" % pair for pair in headers.items() if pair[1] is not None]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def frame(opcode, payload=b"", fin=True, masked=True, rsv=0, mask=None):
    """One frame as its bytes."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes([first, bit | size])
    elif size < 65536:
        head = bytes([first, bit | 126]) + struct.pack(">H", size)
    else:
        head = bytes([first, bit | 127]) + struct.pack(">Q", size)
    if not masked:
        return head + payload
    mask = os.urandom(4) if mask is None else mask
    pattern = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ pattern).to_bytes(size, "big")


class Answer:
    """What the server said to an opening request."""

    def __init__(self, text):
        lines = text.decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}


class Connection:
    """An open WebSocket. `cut`: how sendall() makes frames of what it is given; by default one of all."""

    def __init__(self, sock, cut=None, **fields):
        """Sends the opening request and takes the answer, which must be 101."""
        self.sock, self.cut = sock, cut or (lambda data: [frame(BINARY, data)])
        self.buffer, self.unread = b"", b""
        self.controls = []      # (opcode, payload) of what came
        self.frames = 0         # binary ones that came
        key = base64.b64encode(os.urandom(16)).decode()
        sock.settimeout(DEADLINE)
        sock.sendall(request(key=key, **fields))
        self.answer = self.read_answer()
        if self.answer.status != 101:
            raise AssertionError("status %d" % self.answer.status)
        expected = base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()
        assert self.answer.headers["sec-websocket-accept"] == expected, self.answer.headers

    def read_answer(self):
        while b"\r\n\r\n" not in self.buffer:
            self._fill()
        text, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return Answer(text)

    def _fill(self):
        data = self.sock.recv(65536)
        if not data:
            raise Closed("end of stream")
        self.buffer += data

    def _take_frame(self):
        """(opcode, payload) of a whole frame at the start of the buffer, or None."""
        if len(self.buffer) < 2:
            return None
        first, size = self.buffer[0], self.buffer[1]
        assert not size & 0x80, "a masked frame from the server"
        assert first & 0x80 and not first & 0x70, "the server's frames are whole and plain: %#x" % first
        at = {126: 4, 127: 10}.get(size, 2)
        if len(self.buffer) < at:
            return None
        size = int.from_bytes(self.buffer[2:at], "big") if at > 2 else size
        if len(self.buffer) < at + size:
            return None
        payload, self.buffer = self.buffer[at:at + size], self.buffer[at + size:]
        return first & 0x0f, payload

    def receive_frame(self):
        """The next frame, whatever it is."""
        while (got := self._take_frame()) is None:
            self._fill()
        return got

    def expect(self, opcode, payload=None):
        """Skips to the next frame of that kind; returns its payload."""
        while True:
            kind, got = self.receive_frame()
            if kind == opcode:
                assert payload is None or got == payload, (got, payload)
                return got

    def expect_close(self, code):
        """The server closes with that code, then ends the connection."""
        payload = self.expect(CLOSE)
        assert payload and struct.unpack(">H", payload[:2])[0] == code, payload
        self.sock.settimeout(DEADLINE)
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass

    def send_frames(self, *frames):
        self.sock.sendall(b"".join(frames))

    # In a socket's place ------------------------------------------------------------------------------------------
    def sendall(self, data):
        for piece in self.cut(data):
            self.sock.sendall(piece)

    def recv(self, size):
        while not self.unread:
            try:
                opcode, payload = self.receive_frame()
            except Closed:
                return b""
            if opcode == BINARY:
                self.frames += 1
                self.unread += payload
            elif opcode == PING:
                self.send_frames(frame(PONG, payload))
            else:
                self.controls.append((opcode, payload))
            if opcode == CLOSE:
                return b""
        data, self.unread = self.unread[:size], self.unread[size:]
        return data

    def settimeout(self, seconds):
        self.sock.settimeout(seconds)

    def fileno(self):
        return self.sock.fileno()

    def getsockname(self):
        return self.sock.getsockname()

    def close(self):
        self.sock.close()


def connect(port, tls=None, cut=None, **fields):
    """An open WebSocket to a port of this machine."""
    sock = tcp(port)
    if tls:
        sock = tls.wrap_socket(sock, server_hostname="localhost")
    return Connection(sock, cut, **fields)


def ask(port, text):
    """Sends an opening request as it is; the Answer, or None when the server only closes."""
    sock = tcp(port)
    sock.settimeout(DEADLINE)
    sock.sendall(text)
    got = b""
    try:
        while data := sock.recv(65536):
            got += data
            if b" 101 " in got:
                break
    except ConnectionError:
        pass
    sock.close()
    return Answer(got.partition(b"\r\n\r\n")[0]) if got else None

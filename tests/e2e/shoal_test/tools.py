"""
Real clients: mosquitto_pub and mosquitto_sub, Paho for Python, Paho for C, MQTT.js. Each behind the few calls that the tests
need, each with deadlines.
"""
import json
import os
import subprocess
import threading
import time

from . import processes
from .environment import BIN, DEADLINE, E2E


# mosquitto --------------------------------------------------------------------------------------------------
def mosquitto_pub(port, topic, payload, *more, timeout=DEADLINE):
    """Publishes one message; returns the finished process, its output in .stdout."""
    words = ["mosquitto_pub", "-h", "localhost", "-p", str(port), "-t", topic, *more]
    words += ["-n"] if payload is None else ["-m", payload]
    return subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=timeout, check=False)


class MosquittoSub(processes.Child):
    """mosquitto_sub with -d, so that its output shows the packets. Messages print as «GOT topic payload»."""

    def __init__(self, folder, port, topic, *more):
        log = os.path.join(folder, "mosquitto_sub-%d.log" % time.monotonic_ns())
        super().__init__(["stdbuf", "-oL", "mosquitto_sub", "-h", "localhost", "-p", str(port), "-t", topic, "-d",
                          "-F", "GOT %t %p", *more], log)

    def wait_subscribed(self):
        self.wait_output(r"Subscribed \(mid: \d+\): \d")
        return self

    def local_port(self):
        return processes.client_port(self.pid)

    def messages(self):
        return [line[4:] for line in self.output().splitlines() if line.startswith("GOT ")]

    def wait_messages(self, count):
        processes.wait_for(lambda: len(self.messages()) >= count,
                           lambda: "%d messages at mosquitto_sub:\n%s" % (count, self.output()))
        return self.messages()


# Paho for Python ----------------------------------------------------------------------------------------------
def _publish_properties(props):
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
    made = Properties(PacketTypes.PUBLISH)
    made.ContentType, made.ResponseTopic = props["contentType"], props["responseTopic"]
    made.UserProperty = list(props["userProperties"].items())
    return made


class Paho:
    """Paho's client with a network thread; waits are on conditions."""

    def __init__(self, port, version=4, client_id="", clean=True, tls=None, will=None, expiry=None, websocket=False):
        import paho.mqtt.client as paho
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties
        self.version, self.messages, self.subscribed, self.published = version, [], {}, set()
        self.changed = threading.Condition()
        self.connected, self.session_present = None, None
        arguments = {} if version == 5 else {"clean_session": clean}
        self.paho = paho.Client(client_id, protocol=version, transport="websockets" if websocket else "tcp", **arguments)
        if tls:
            self.paho.tls_set_context(tls)
        if will:
            self.paho.will_set(*will)
        self.paho.on_connect, self.paho.on_message = self._on_connect, self._on_message
        self.paho.on_subscribe, self.paho.on_publish = self._on_subscribe, self._on_publish
        options = {}
        if version == 5:
            options["clean_start"] = clean
            if expiry is not None:
                options["properties"] = Properties(PacketTypes.CONNECT)
                options["properties"].SessionExpiryInterval = expiry
        self.paho.connect("localhost", port, 60, **options)
        self.paho.loop_start()
        self._wait(lambda: self.connected is not None, "CONNACK")
        assert self.connected == 0, "CONNACK %r" % self.connected

    def _note(self, action):
        with self.changed:
            action()
            self.changed.notify_all()

    def _wait(self, condition, what):
        with self.changed:
            if not self.changed.wait_for(condition, DEADLINE):
                raise AssertionError("Paho waited in vain for %s" % what)

    def _on_connect(self, _client, _data, flags, code, *_):
        def action():
            self.connected = getattr(code, "value", code)
            self.session_present = bool(flags.get("session present"))
        self._note(action)

    def _on_message(self, _client, _data, message):
        self._note(lambda: self.messages.append(message))

    def _on_subscribe(self, _client, _data, mid, codes, *_):
        self._note(lambda: self.subscribed.__setitem__(mid, [getattr(code, "value", code) for code in codes]))

    def _on_publish(self, _client, _data, mid):
        self._note(lambda: self.published.add(mid))

    def subscribe(self, topic, qos):
        _, mid = self.paho.subscribe(topic, qos)
        self._wait(lambda: mid in self.subscribed, "SUBACK")
        return self.subscribed[mid]

    def publish(self, topic, payload, qos=0, retain=False, props=None):
        mid = self.paho.publish(topic, payload, qos, retain, _publish_properties(props) if props else None).mid
        self._wait(lambda: mid in self.published, "the acknowledgement of a publication")

    def wait_messages(self, count):
        self._wait(lambda: len(self.messages) >= count, "message %d of %d" % (len(self.messages), count))
        return self.messages

    def local_port(self):
        sock = self.paho.socket()
        return getattr(sock, "_socket", sock).getsockname()[1]  # under WebSocket it is a wrapper

    def close(self, politely=True):
        """politely=False: closes the socket without DISCONNECT, so that the will is due."""
        if politely:
            self.paho.disconnect()
            self.paho.loop_stop()
        else:
            self.paho.socket().close()
            self.paho.loop_stop()


# Programs that take commands as JSON lines ------------------------------------------------------------------------
class Program:
    """A program that takes commands as JSON lines on its input and tells events as JSON lines on its output."""

    def __init__(self, command, cwd=None):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd,
                                        env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))
        self.listeners = {}  # number of a client → what takes its events
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            self.listeners[event.pop("client", 0)](event)
        for listener in list(self.listeners.values()):
            listener({"event": "end"})

    def command(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def end(self):
        """Waits until it has ended, which it does at the end of its input."""
        self.process.stdin.close()
        self.process.wait(DEADLINE)
        self.reader.join()
        self.process.stdout.close()


class Driven:
    """A client that such a program runs."""

    def __init__(self, program, number=0):
        self.program, self.number = program, number
        self.events, self.changed = [], threading.Condition()
        program.listeners[number] = self._heard
        self.closed = False

    def _heard(self, event):
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def wait(self, event, **fields):
        def find():
            for entry in self.events:
                if entry["event"] == event and all(entry.get(key) == value for key, value in fields.items()):
                    return entry
            if self.events and self.events[-1]["event"] in ("end", "error"):
                raise AssertionError("%s ended: %r" % (type(self).__name__, self.events))
            return None
        with self.changed:
            if not self.changed.wait_for(find, DEADLINE * 2):
                raise AssertionError("%s: no %s %s in %r" % (type(self).__name__, event, fields, self.events))
            return find()

    @property
    def session_present(self):
        return self.wait("connect")["sessionPresent"]

    def _command(self, **command):
        self.program.command(client=self.number, **command)

    def subscribe(self, topic, qos):
        self._command(do="subscribe", topic=topic, qos=qos)
        return [grant["qos"] for grant in self.wait("subscribed", topic=topic)["granted"]]

    def publish(self, topic, payload, qos=0, retain=False, props=None):
        self._command(do="publish", topic=topic, payload=payload, qos=qos, retain=retain, properties=props or {})
        self.wait("published", topic=topic, payload=payload)

    @property
    def messages(self):
        return [entry for entry in self.events if entry["event"] == "message"]

    def wait_messages(self, count):
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.messages) >= count, DEADLINE):
                raise AssertionError("%s: %d of %d messages: %r"
                                     % (type(self).__name__, len(self.messages), count, self.events))
        return self.messages

    def close(self, politely=True):
        """politely=False: closes the socket without DISCONNECT, so that the will is due."""
        if not self.closed:
            self.closed = True
            self._command(do="end" if politely else "destroy")
            self.wait("end")


class MqttJs(Driven):
    """A client of MQTT.js; one node process runs many."""

    @staticmethod
    def start():
        return Program(["node", str(E2E / "mqttjs_client.js")], str(E2E))

    def __init__(self, program, port, version=4, client_id="", clean=True, ca=None, will=None, expiry=None, websocket=False):
        protocol = ("wss" if ca else "ws") if websocket else ("mqtts" if ca else "mqtt")
        options = {"protocolVersion": version, "clientId": client_id, "clean": clean, "port": port,
                   "protocol": protocol, "host": "127.0.0.1", "reconnectPeriod": 0}
        if websocket:
            options["path"] = "/mqtt"
        if ca:
            with open(ca) as pem:
                options.update(ca=pem.read(), rejectUnauthorized=True)
        if will:
            options["will"] = {"topic": will[0], "payload": will[1], "qos": will[2], "retain": will[3]}
        if expiry is not None:
            options["properties"] = {"sessionExpiryInterval": expiry}
        super().__init__(program, len(program.listeners))
        self._command(do="connect", options=options)
        self.wait("connect")

    def local_port(self):
        return self.wait("connect")["localPort"]


class PahoC(Driven):
    """A client of Paho for C, in a process of its own (tests/clients/paho_c.c)."""

    file = BIN / "shoal-paho-client"

    def __init__(self, port, version=4, client_id="", clean=True, ca=None, will=None, expiry=None, websocket=False):
        protocol = ("wss" if ca else "ws") if websocket else ("ssl" if ca else "tcp")
        options = {"uri": "%s://localhost:%d%s" % (protocol, port, "/mqtt" if websocket else ""), "version": version,
                   "clientId": client_id, "clean": clean}
        if ca:
            options["ca"] = ca
        if will:
            options["will"] = {"topic": will[0], "payload": will[1], "qos": will[2], "retain": will[3]}
        if expiry is not None:
            options["expiry"] = expiry
        super().__init__(Program([str(self.file), json.dumps(options)]))
        self.wait("connect")

    def local_port(self):
        return processes.client_port(self.program.process.pid)

    def close(self, politely=True):
        super().close(politely)
        if not self.program.process.stdin.closed:
            self.program.end()

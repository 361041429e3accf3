"""
Real clients: mosquitto_pub and mosquitto_sub, Paho for Python, MQTT.js. Each behind the few calls that the tests
need, each with deadlines.
"""
import json
import os
import subprocess
import threading
import time

from . import processes
from .environment import DEADLINE, E2E


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


# Paho ---------------------------------------------------------------------------------------------------------
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

    def publish(self, topic, payload, qos=0, retain=False):
        mid = self.paho.publish(topic, payload, qos, retain).mid
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


# MQTT.js --------------------------------------------------------------------------------------------------------
class MqttJs:
    """A node process with MQTT.js that takes commands as JSON lines and tells events as JSON lines."""

    def __init__(self, port, version=4, client_id="", clean=True, tls=None, will=None, expiry=None, websocket=False):
        protocol = ("wss" if tls else "ws") if websocket else ("mqtts" if tls else "mqtt")
        options = {"protocolVersion": version, "clientId": client_id, "clean": clean, "port": port,
                   "protocol": protocol, "host": "127.0.0.1", "reconnectPeriod": 0}
        if websocket:
            options["path"] = "/mqtt"
        if tls:
            options.update(tls)
        if will:
            options["will"] = {"topic": will[0], "payload": will[1], "qos": will[2], "retain": will[3]}
        if expiry is not None:
            options["properties"] = {"sessionExpiryInterval": expiry}
        self.process = subprocess.Popen(["node", str(E2E / "mqttjs_client.js"), json.dumps(options)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=str(E2E))
        self.events, self.changed = [], threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.session_present = self.wait("connect")["sessionPresent"]

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.events.append(json.loads(line))
                self.changed.notify_all()
        with self.changed:
            self.events.append({"event": "end"})
            self.changed.notify_all()

    def wait(self, event, **fields):
        def find():
            for entry in self.events:
                if entry["event"] == event and all(entry.get(key) == value for key, value in fields.items()):
                    return entry
            if self.events and self.events[-1]["event"] in ("end", "error"):
                raise AssertionError("MQTT.js ended: %r" % self.events)
            return None
        with self.changed:
            if not self.changed.wait_for(find, DEADLINE * 2):
                raise AssertionError("MQTT.js: no %s %s in %r" % (event, fields, self.events))
            return find()

    def _command(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def local_port(self):
        return self.wait("connect")["localPort"]

    def subscribe(self, topic, qos):
        self._command(do="subscribe", topic=topic, qos=qos)
        return [grant["qos"] for grant in self.wait("subscribed", topic=topic)["granted"]]

    def publish(self, topic, payload, qos=0, retain=False):
        self._command(do="publish", topic=topic, payload=payload, qos=qos, retain=retain)
        self.wait("published", topic=topic, payload=payload)

    @property
    def messages(self):
        return [entry for entry in self.events if entry["event"] == "message"]

    def wait_messages(self, count):
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.messages) >= count, DEADLINE):
                raise AssertionError("MQTT.js: %d of %d messages: %r" % (len(self.messages), count, self.events))
        return self.messages

    def close(self, politely=True):
        try:
            self._command(do="end" if politely else "destroy")
            self.process.stdin.close()
        except OSError:
            pass
        self.process.wait(DEADLINE)
        self.reader.join()
        self.process.stdout.close()

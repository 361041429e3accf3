"""
Real clients over TCP, TLS and WebSocket: mosquitto, Paho for Python, MQTT.js, alone and with each other. With several workers
publisher and subscriber sit on different ones, which is looked up, not assumed.
"""
import random
import ssl

from shoal_test.case import Case, cost, only_shoal, workers
from shoal_test.processes import end
from shoal_test.tools import MosquittoSub, MqttJs, Paho, mosquitto_pub


class RealClients(Case):
    def elsewhere(self, broker, make, name, than):
        """A client that sits on another worker than `than`."""
        for _ in range(40):
            client = make(name)
            if broker.workers == 1 or broker.slot(client) != broker.slot(than):
                return client
            client.close()
        raise AssertionError("no connection on another worker")

    def tls_words(self, broker):
        return ["--cafile", broker.certificates.path("ca.pem")]

    @staticmethod
    def port(broker, tls, websocket):
        if websocket:
            return broker.ports["wss:web" if tls else "ws:web"]
        return broker.tls_port if tls else broker.port

    def paho(self, broker, version, tls, websocket=False):
        context = broker.certificates.client_context() if tls else None
        return lambda name, **more: self.kept(Paho(self.port(broker, tls, websocket), version, name, tls=context,
                                                   websocket=websocket, **more))

    def js(self, broker, version, tls, websocket=False):
        options = {"ca": broker.certificates.path("ca.pem"), "rejectUnauthorized": True} if tls else None
        if options:
            with open(options["ca"]) as pem:
                options["ca"] = pem.read()
        return lambda name, **more: self.kept(MqttJs(self.port(broker, tls, websocket), version, name,
                                                     tls=options, websocket=websocket, **more))

    def kept(self, client):
        self.addCleanup(self.quietly, client)
        return client

    @staticmethod
    def quietly(client):
        try:
            client.close()
        except Exception:
            if isinstance(client, MqttJs):
                end(client.process.pid)
                client.process.wait()

    def promises(self, broker, make, make_other, prefix, expiry):
        """QoS 0, 1 and 2, wildcards, retained, will, resumption, with the clients of two makers."""
        receiver = make(prefix + "r")
        sender = self.elsewhere(broker, make_other, prefix + "s", receiver)
        self.assertEqual(receiver.subscribe(prefix + "/+/x/#", 2), [2])
        for qos in (0, 1, 2):
            sender.publish("%s/%d/x/y" % (prefix, qos), "%d" % qos, qos)
        got = receiver.wait_messages(3)
        self.assertEqual(sorted((self.topic(entry), self.payload(entry), self.qos(entry)) for entry in got),
                         [("%s/%d/x/y" % (prefix, qos), "%d" % qos, qos) for qos in (0, 1, 2)])
        sender.publish(prefix + "/kept", "kept", 1, True)
        late = make(prefix + "l")
        late.subscribe(prefix + "/kept", 1)
        self.assertEqual(self.payload(late.wait_messages(1)[0]), "kept")
        sender.publish(prefix + "/kept", "", 1, True)
        dying = make_other(prefix + "d", will=(prefix + "/d/x", "will", 1, False))
        dying.close(politely=False)
        self.assertEqual(self.payload(receiver.wait_messages(4)[3]), "will")
        lasting = make(prefix + "q", clean=False, expiry=expiry)
        self.assertFalse(lasting.session_present)
        lasting.subscribe(prefix + "/q", 2)
        lasting.close()
        for number in range(10):
            sender.publish(prefix + "/q", "%d" % number, 1 + number % 2)
        lasting = make(prefix + "q", clean=False, expiry=expiry)
        self.assertEqual(lasting.session_present, expiry is None or expiry > 0)
        self.assertEqual(sorted(int(self.payload(entry)) for entry in lasting.wait_messages(10)), list(range(10)))
        for client in (receiver, sender, late, lasting):
            client.close()

    @staticmethod
    def topic(entry):
        return entry["topic"] if isinstance(entry, dict) else entry.topic

    @staticmethod
    def payload(entry):
        return entry["payload"] if isinstance(entry, dict) else entry.payload.decode()

    @staticmethod
    def qos(entry):
        return entry["qos"] if isinstance(entry, dict) else entry.qos

    @cost(5)
    @workers(1, 2, 4)
    def test_paho_of_every_version(self, count):
        broker = self.broker(count)
        for tls in (False, True):
            for version in (4, 5):
                make = self.paho(broker, version, tls)
                self.promises(broker, make, make, "p%d%d" % (version, tls), 100 if version == 5 else None)

    @cost(3)
    @workers(1, 2)
    def test_paho_3_1(self, count):
        """3.1 has no session present flag, so without resumption by it."""
        broker = self.broker(count)
        for tls in (False, True):
            make = self.paho(broker, 3, tls)
            receiver = make("r%d" % tls)
            sender = self.elsewhere(broker, make, "s%d" % tls, receiver)
            self.assertEqual(receiver.subscribe("a/#", 2), [2])
            for qos in (0, 1, 2):
                sender.publish("a/%d" % qos, "x", qos)
            self.assertEqual(sorted(got.qos for got in receiver.wait_messages(3)), [0, 1, 2])
            receiver.close()
            sender.close()

    @cost(10)
    @workers(1, 2, 4)
    def test_mqttjs_of_every_version(self, count):
        broker = self.broker(count)
        for tls, version in ((False, 4), (True, 5), (True, 4), (False, 5)):
            make = self.js(broker, version, tls)
            self.promises(broker, make, make, "j%d%d" % (version, tls), 100 if version == 5 else None)

    @cost(6)
    @workers(1, 2, 4)
    def test_paho_and_mqttjs_with_each_other(self, count):
        broker = self.broker(count)
        self.promises(broker, self.paho(broker, 5, True), self.js(broker, 4, False), "x", 100)
        self.promises(broker, self.js(broker, 5, True), self.paho(broker, 4, True), "y", 100)

    @only_shoal
    @cost(5)
    @workers(1, 2, 4)
    def test_paho_over_websocket(self, count):
        broker = self.broker(count, listeners={"ws:web": {}, "wss:web": {}})
        for tls in (False, True):
            for version in (4, 5):
                make = self.paho(broker, version, tls, True)
                self.promises(broker, make, make, "p%d%d" % (version, tls), 100 if version == 5 else None)

    @only_shoal
    @cost(10)
    @workers(1, 2, 4)
    def test_mqttjs_over_websocket(self, count):
        broker = self.broker(count, listeners={"ws:web": {}, "wss:web": {}})
        for tls, version in ((False, 4), (True, 5), (True, 4), (False, 5)):
            make = self.js(broker, version, tls, True)
            self.promises(broker, make, make, "j%d%d" % (version, tls), 100 if version == 5 else None)

    @only_shoal
    @cost(6)
    @workers(2)
    def test_websocket_and_tcp_with_each_other(self, count):
        broker = self.broker(count, listeners={"ws:web": {}, "wss:web": {}})
        self.promises(broker, self.paho(broker, 5, True, True), self.js(broker, 4, False), "x", 100)
        self.promises(broker, self.js(broker, 5, False, True), self.paho(broker, 4, True), "y", 100)

    @cost(5)
    @workers(1, 2, 4)
    def test_mosquitto_clients(self, count):
        broker = self.broker(count)
        for tls in (False, True):
            port, words = (broker.tls_port, self.tls_words(broker)) if tls else (broker.port, [])
            for version in ("mqttv31", "mqttv311", "mqttv5"):
                self.mosquitto_promises(broker, port, words + ["-V", version], "m%d%s" % (tls, version), version)

    def mosquitto_on_two_workers(self, broker, port, words, prefix):
        """Subscribers on at least two workers: whatever worker a publisher meets, one of them is elsewhere."""
        receivers, slots = [], set()
        while len(slots) < min(2, broker.workers):
            receivers.append(MosquittoSub(self.folder, port, prefix + "/#", "-q", "2", *words))
            self.addCleanup(receivers[-1].kill)
            slots.add(broker.slot(receivers[-1].wait_subscribed()))
        return receivers

    def mosquitto_promises(self, broker, port, words, prefix, version):
        receivers = self.mosquitto_on_two_workers(broker, port, words, prefix)
        for qos in (0, 1, 2):
            done = mosquitto_pub(port, "%s/%d" % (prefix, qos), "hello", "-q", str(qos), *words)
            self.assertEqual(done.returncode, 0, done.stdout)
        for receiver in receivers:
            self.assertEqual(sorted(receiver.wait_messages(3)), ["%s/%d hello" % (prefix, qos) for qos in (0, 1, 2)])
        mosquitto_pub(port, prefix + "/kept", "kept", "-q", "1", "-r", *words)
        late = MosquittoSub(self.folder, port, prefix + "/kept", "-C", "1", *words)
        self.addCleanup(late.kill)
        self.assertEqual(late.wait_messages(1), [prefix + "/kept kept"])
        mosquitto_pub(port, prefix + "/kept", None, "-r", *words)
        dying = MosquittoSub(self.folder, port, "nothing", "--will-topic", prefix + "/will", "--will-payload", "gone",
                             "--will-qos", "1", *words)
        dying.wait_subscribed()
        dying.kill()
        self.wait_for(lambda: prefix + "/will gone" in receiver.messages(), "the will")
        self.mosquitto_resumes(port, words, prefix, version)
        for receiver in receivers:
            receiver.kill()

    def mosquitto_resumes(self, port, words, prefix, version):
        lasting = ["-c", "-i", prefix + "-c", "-q", "1"] + (["-x", "100"] if version == "mqttv5" else [])
        first = MosquittoSub(self.folder, port, prefix + "/q", "-E", *lasting, *words)
        first.wait()
        for number in range(5):
            mosquitto_pub(port, prefix + "/q", str(number), "-q", "1", *words)
        second = MosquittoSub(self.folder, port, prefix + "/q", *lasting, *words)
        self.addCleanup(second.kill)
        self.assertEqual(second.wait_messages(5), ["%s/q %d" % (prefix, number) for number in range(5)])
        second.kill()

    def test_tls_versions_and_sni_are_served(self):
        broker = self.broker(2)
        versions = ssl.TLSVersion
        for version in (versions.TLSv1_2, versions.TLSv1_3):
            context = broker.certificates.client_context(minimum=version, maximum=version, alpn=["mqtt"])
            client = broker.client("v", tls=context)
            self.assertEqual(client.sock.selected_alpn_protocol() in ("mqtt", None), True)
            client.subscribe("t", 1)
            client.publish("t", random.randbytes(40000), 1)
            client.wait_messages(1)

"""
Real clients over TCP, TLS and WebSocket: mosquitto, Paho for Python and for C, MQTT.js, alone and with each other. With
several workers publisher and subscriber sit on different ones and sessions follow their clients from one to another,
which is looked up, not assumed.
"""
import random
import ssl

from shoal_test.case import Case, cost, only_shoal, workers
from shoal_test.environment import BROKER
from shoal_test.processes import end
from shoal_test.tools import MosquittoSub, MqttJs, Paho, PahoC, mosquitto_pub


PROPS = {"contentType": "text/plain", "responseTopic": "answers", "userProperties": {"a": "b", "c": "d"}}


class Maker:
    """One way to connect: a library, a version and a transport. Called with a name it makes a connected client."""

    def __init__(self, case, broker, library, version, tls=False, websocket=False):
        self.case, self.library, self.version = case, library, version
        port = (broker.ports["wss:web" if tls else "ws:web"]) if websocket else broker.tls_port if tls else broker.port
        self.arguments = {"port": port, "version": version, "websocket": websocket}
        if tls and library is Paho:
            self.arguments["tls"] = broker.certificates.client_context()
        elif tls:
            self.arguments["ca"] = broker.certificates.path("ca.pem")
        self.expiry = 100 if version == 5 else None
        self.prefix = "%s%d%s%s" % (library.__name__, version, "s" * tls, "w" * websocket)

    def __call__(self, name, **more):
        if self.library is MqttJs:
            more["program"] = self.case.node()
        client = self.library(client_id=name, **self.arguments, **more)
        self.case.addCleanup(self._quietly, client)
        return client

    @staticmethod
    def _quietly(client):
        try:
            client.close()
        except Exception:
            if isinstance(client, PahoC):
                end(client.program.process.pid)
                client.program.process.wait()


class RealClients(Case):
    def setUp(self):
        super().setUp()
        self.moved = set()  # (library, version) of clients whose session followed them to another worker
        self.programs = []

    def node(self):
        """The process that runs the clients of MQTT.js."""
        if not self.programs:
            self.programs.append(MqttJs.start())
            self.addCleanup(self.programs[0].end)
        return self.programs[0]

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

    def promises(self, broker, make, make_other):
        """QoS 0, 1 and 2, wildcards, properties, retained, will, resumption, with the clients of two makers."""
        prefix = make.prefix + make_other.prefix
        receiver = make(prefix + "r")
        sender = self.elsewhere(broker, make_other, prefix + "s", receiver)
        self.assertEqual(receiver.subscribe(prefix + "/+/x/#", 2), [2])
        for qos in (0, 1, 2):
            sender.publish("%s/%d/x/y" % (prefix, qos), "%d" % qos, qos)
        got = receiver.wait_messages(3)
        self.assertEqual(sorted((self.topic(entry), self.payload(entry), self.qos(entry)) for entry in got),
                         [("%s/%d/x/y" % (prefix, qos), "%d" % qos, qos) for qos in (0, 1, 2)])
        self.retained(prefix, sender, make)
        dying = make_other(prefix + "d", will=(prefix + "/d/x", "will", 1, False))
        dying.close(politely=False)
        self.assertEqual(self.payload(receiver.wait_messages(4)[3]), "will")
        if make.version == make_other.version == 5:
            sender.publish(prefix + "/p/x", "with properties", 1, props=PROPS)
            self.assertEqual(self.props(receiver.wait_messages(5)[4]), PROPS)
        self.resumption(broker, prefix, sender, make)
        receiver.close()
        sender.close()

    def retained(self, prefix, sender, make):
        sender.publish(prefix + "/kept", "kept", 1, True)
        late = make(prefix + "l")
        late.subscribe(prefix + "/kept", 1)
        self.assertEqual(self.payload(late.wait_messages(1)[0]), "kept")
        sender.publish(prefix + "/kept", "", 1, True)
        late.close()

    def resumption(self, broker, prefix, sender, make):
        """Each time that the client comes back it gets what was published meanwhile; once at least on another worker."""
        lasting = make(prefix + "q", clean=False, expiry=make.expiry)
        self.assertFalse(lasting.session_present)
        lasting.subscribe(prefix + "/q", 2)
        for _ in range(40):
            slot = broker.slot(lasting)
            lasting.close()
            for number in range(4):
                sender.publish(prefix + "/q", "%d" % number, 1 + number % 2)
            lasting = make(prefix + "q", clean=False, expiry=make.expiry)
            self.assertIn(lasting.session_present, (True, None))  # Paho for C does not tell in version 5
            self.assertEqual(sorted(int(self.payload(entry)) for entry in lasting.wait_messages(4)), list(range(4)))
            if broker.workers == 1 or broker.slot(lasting) != slot:
                self.moved.add((make.library, make.version))
            if (make.library, make.version) in self.moved:
                break
        self.assertIn((make.library, make.version), self.moved, "it never came to another worker")
        lasting.close()

    @staticmethod
    def topic(entry):
        return entry["topic"] if isinstance(entry, dict) else entry.topic

    @staticmethod
    def payload(entry):
        return entry["payload"] if isinstance(entry, dict) else entry.payload.decode()

    @staticmethod
    def qos(entry):
        return entry["qos"] if isinstance(entry, dict) else entry.qos

    @staticmethod
    def props(entry):
        """As PROPS: MQTT.js tells of more."""
        if isinstance(entry, dict):
            return {name: value for name, value in entry["properties"].items() if name in PROPS}
        got = entry.properties
        return {"contentType": got.ContentType, "responseTopic": got.ResponseTopic, "userProperties": dict(got.UserProperty)}

    def serving(self, count):
        """A broker with every transport."""
        return self.broker(count, listeners={"ws:web": {}, "wss:web": {}} if BROKER == "shoald" else {})

    def every_transport(self, count, library):
        broker = self.serving(count)
        for websocket in (False, True) if BROKER == "shoald" else (False,):
            for tls in (False, True):
                for version in (4, 5):
                    with self.subTest(version=version, tls=tls, websocket=websocket):
                        make = Maker(self, broker, library, version, tls, websocket)
                        self.promises(broker, make, make)

    @cost(8)
    @workers(1, 2, 4)
    def test_paho_for_python_over_every_transport(self, count):
        self.every_transport(count, Paho)

    @cost(10)
    @workers(1, 2, 4)
    def test_paho_for_c_over_every_transport(self, count):
        self.need_paho_c()
        self.every_transport(count, PahoC)

    @cost(8)
    @workers(1, 2, 4)
    def test_mqttjs_over_every_transport(self, count):
        self.every_transport(count, MqttJs)

    def need_paho_c(self):
        if not PahoC.file.exists():
            self.skipTest("built without libpaho-mqtt-dev")

    @only_shoal
    @cost(12)
    @workers(1, 2, 4)
    def test_libraries_with_each_other(self, count):
        """Each receives from each other one, over another transport, in one version and in two."""
        self.need_paho_c()
        broker = self.serving(count)
        for receiver, sender, tls, websocket in ((Paho, MqttJs, True, False), (MqttJs, PahoC, False, True),
                                                 (PahoC, Paho, True, True)):
            for versions in ((5, 4), (4, 5), (5, 5)):
                with self.subTest(receiver=receiver.__name__, sender=sender.__name__, versions=versions):
                    self.promises(broker, Maker(self, broker, receiver, versions[0], tls, websocket),
                                  Maker(self, broker, sender, versions[1], not tls, not websocket))

    @cost(3)
    @workers(1, 2)
    def test_paho_3_1(self, count):
        """3.1 has no session present flag, so without resumption by it."""
        broker = self.broker(count)
        for tls in (False, True):
            make = Maker(self, broker, Paho, 3, tls)
            receiver = make("r%d" % tls)
            sender = self.elsewhere(broker, make, "s%d" % tls, receiver)
            self.assertEqual(receiver.subscribe("a/#", 2), [2])
            for qos in (0, 1, 2):
                sender.publish("a/%d" % qos, "x", qos)
            self.assertEqual(sorted(got.qos for got in receiver.wait_messages(3)), [0, 1, 2])
            receiver.close()
            sender.close()

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

"""
The article's commands, as they stand there, with the certificates that certs/make-demo makes; and what it does not
say: that every refusal is told to the client, every time, and to the operator in words.
"""
import os
import re
import shutil
import subprocess
import time

from shoal_test.case import Case, cost, only_shoal, workers
from shoal_test.client import tcp
from shoal_test.environment import DEADLINE, PATIENCE, ROOT
from shoal_test.tools import MosquittoSub, mosquitto_pub
from shoal_test import packets

REPEATS = 20
CERTIFICATE_REQUIRED = "tlsv13 alert certificate required"
NO_HANDSHAKE = ("Error: A TLS error occurred.", "Unable to connect (A TLS error occurred.).")


@only_shoal
class Article(Case):
    def setUp(self):
        super().setUp()
        self.certs = os.path.join(self.folder, "certs")
        shutil.copytree(ROOT / "certs", self.certs, ignore=shutil.ignore_patterns("*.pem", "*.key", "*.csr", "*.srl"))
        subprocess.run([os.path.join(self.certs, "make-demo")], check=True, stdin=subprocess.DEVNULL, cwd=self.folder,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def node(self, workers, **tls):
        """A node with the article's certificates in the article's listener."""
        listener = {"keyfile": self.certs + "/MyEMQ1.key", "certfile": self.certs + "/MyEMQ1.pem",
                    "cacertfile": self.certs + "/MyRootCA.pem"}
        return self.broker(workers, tls=dict(listener, **tls))

    def words(self, certificate=False, insecure=False):
        return ["--cafile", self.certs + "/MyRootCA.pem"] + (["--insecure"] if insecure else []) + (
            ["--key", self.certs + "/MyClient1.key", "--cert", self.certs + "/MyClient1.pem"] if certificate else [])

    def subscribes(self, broker, *words):
        """The article's command prints CONNACK (0) and «Subscribed (mid: 1): 0», and a publication arrives."""
        sub = MosquittoSub(self.folder, broker.tls_port, "abc", *words)
        self.addCleanup(sub.kill)
        sub.wait_output(r"received CONNACK \(0\)[\s\S]*Subscribed \(mid: 1\): 0")
        done = mosquitto_pub(broker.tls_port, "abc", "hello", *words)
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        self.assertEqual(sub.wait_messages(1), ["abc hello"])
        sub.kill()

    def refused(self, broker, *words, port=None):
        """The article's command ends at once, without a CONNACK. Returns what OpenSSL told it and its last words."""
        begin = time.monotonic()
        done = subprocess.run(["mosquitto_sub", "-t", "abc", "-h", "localhost", "-p", str(port or broker.tls_port), "-d",
                               *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=DEADLINE, check=False)
        self.assertLess(time.monotonic() - begin, 1.5 * PATIENCE)
        self.assertNotIn("CONNACK", done.stdout)
        self.assertNotEqual(done.returncode, 0)
        reason = re.search(r"OpenSSL Error.*::(.*)", done.stdout)
        return reason and reason.group(1), done.stderr.strip().splitlines()[-1]

    def always_told(self, broker, reason, *words, last=("Error: The connection was lost.",), **more):
        """
        The client learns the reason every time. Its last words depend on when the alert comes: under TLS 1.3 the
        client's handshake is over by then, and mosquitto 2.0 says that the connection was lost; earlier versions,
        and all when the handshake itself fails, say «A TLS error occurred».
        """
        for _ in range(REPEATS):
            told, words_last = self.refused(broker, *words, **more)
            self.assertEqual(told, reason)
            self.assertIn(words_last, last)

    @workers(1, 2, 4)
    def test_one_way_tls_serves_with_and_without_insecure(self, count):
        broker = self.node(count)
        self.subscribes(broker, *self.words(insecure=True))
        self.subscribes(broker, *self.words())
        self.subscribes(broker, *self.words(certificate=True))

    @cost(6)
    @workers(1, 2, 4)
    def test_demanded_certificate_refuses_those_without_and_serves_those_with(self, count):
        broker = self.node(count, verify="verify_peer", fail_if_no_peer_cert=True)
        self.always_told(broker, CERTIFICATE_REQUIRED, *self.words(insecure=True))
        self.always_told(broker, CERTIFICATE_REQUIRED, *self.words())
        broker.wait_log("certificate")
        self.subscribes(broker, *self.words(certificate=True, insecure=True))
        self.subscribes(broker, *self.words(certificate=True))

    @cost(6)
    @workers(1, 2)
    def test_demanded_certificate_under_tls_1_2(self, count):
        broker = self.node(count, verify="verify_peer", fail_if_no_peer_cert=True, versions=["tlsv1.2"])
        self.always_told(broker, "sslv3 alert handshake failure", *self.words(), last=NO_HANDSHAKE)
        self.subscribes(broker, *self.words(certificate=True))

    @cost(6)
    @workers(1, 2)
    def test_asked_for_certificate_lets_in_none_and_refuses_a_foreign_one(self, count):
        broker = self.node(count, verify="verify_peer")
        self.subscribes(broker, *self.words())
        self.subscribes(broker, *self.words(certificate=True))
        foreign = ["--key", broker.certificates.path("foreign.key"), "--cert", broker.certificates.path("foreign.pem")]
        self.always_told(broker, "tlsv1 alert unknown ca", *self.words(), *foreign)
        broker.wait_log("CA|authority|issuer")

    def test_client_that_does_not_know_the_ca_is_told_to_the_operator(self):
        broker = self.node(1)
        self.refused(broker, "--cafile", broker.certificates.path("ca.pem"))
        line = broker.wait_log("127.0.0.1.*(unknown|does not know|trust|CA)")
        self.assertRegex(line, "usually")

    @cost(6)
    @workers(1, 2)
    def test_plain_mqtt_on_the_tls_port_is_refused_at_once_in_words(self, count):
        broker = self.node(count)
        for _ in range(REPEATS):
            sock = tcp(broker.tls_port)
            begin = time.monotonic()
            sock.sendall(packets.connect(4, "plain"))
            self.assertIn(self.until_closed(sock)[:1], (b"", b"\x15"))  # nothing, or a TLS alert
            self.assertLess(time.monotonic() - begin, 1.0 * PATIENCE)
        broker.wait_log("MQTT without TLS|plain MQTT")
        sub = MosquittoSub(self.folder, broker.tls_port, "abc", "-W", "1")  # would try again and again
        sub.wait()
        self.assertNotIn("CONNACK", sub.output())

    @staticmethod
    def until_closed(sock):
        data = b""
        try:
            while more := sock.recv(1000):
                data += more
        except ConnectionError:
            pass
        return data

    @cost(6)
    @workers(1, 2)
    def test_tls_on_the_plain_port_is_refused_at_once_in_words(self, count):
        broker = self.node(count)
        self.always_told(broker, "sslv3 alert handshake failure", *self.words(), port=broker.port, last=NO_HANDSHAKE)
        broker.wait_log("TLS.*(plain|without)|plain.*TLS")

    def test_demo_configuration_is_valid(self):
        """conf/*.json of single nodes with the demo's certificates in the place where conf/demo has them."""
        conf = os.path.join(self.folder, "conf")
        shutil.copytree(ROOT / "conf", conf)
        broker = self.broker(start=False)
        for name in sorted(os.listdir(conf)):
            if name.endswith(".json") and name != "cluster.json":
                done = subprocess.run([str(broker.program), "-c", os.path.join(conf, name), "--check"], text=True,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      timeout=DEADLINE, check=False)
                self.assertEqual(done.returncode, 0, name + ": " + done.stdout)

"""Who may connect, publish, subscribe and read: password_file, acl_file, certificates, allow_anonymous."""
import base64
import hashlib
import os
import shutil
import subprocess

from shoal_test import packets
from shoal_test.case import Case, cost, only_shoal, reconnects, workers
from shoal_test.client import Client
from shoal_test.environment import BIN, DEADLINE

SALT = b"twelve bytes"


def line(user, password, iterations=101):
    """A line as mosquitto_passwd writes it: $7$, or $6$ with iterations None."""
    word = password.encode()
    if iterations is None:
        kind, made = "6", hashlib.sha512(word + SALT).digest()
    else:
        kind, made = "7$%d" % iterations, hashlib.pbkdf2_hmac("sha512", word, SALT, iterations)
    return "%s:$%s$%s$%s\n" % (user, kind, base64.b64encode(SALT).decode(), base64.b64encode(made).decode())


USERS = line("alice", "secret") + "# a comment\n\n" + line("bob", "pass:wörd", None) + line("carol", "c" * 300)
PATIENT = {"tcp:plain": {"connect_timeout": "60s"}}


@only_shoal
class AuthCase(Case):
    def node(self, count=1, passwords=USERS, acl=None, auth=None, start=True, **settings):
        """A started node with these files, readable by its owner alone."""
        broker = self.broker(count, start=False, **settings)
        section = broker.config.setdefault("auth", {})
        for key, text in (("password_file", passwords), ("acl_file", acl)):
            if text is not None:
                section[key] = os.path.join(broker.folder, key)
                with open(section[key], "w") as out:
                    out.write(text)
                os.chmod(section[key], 0o600)
        section.update(auth or {})
        broker.write_config()
        if start:
            broker.start(probe=False)
        return broker

    @staticmethod
    def login(broker, name, password="secret", version=5, client_id=None, **fields):
        """A client that logs in under the name; its identifier is the name, too."""
        return broker.client(name if client_id is None else client_id, version, user=name, password=password, **fields)

    @staticmethod
    def users(*names):
        """A password file in which all have the password `secret`."""
        return "".join(line(name, "secret") for name in names)


class Passwords(AuthCase):
    @workers(1, 2)
    def test_users_of_the_password_file_log_in(self, count):
        broker = self.node(count)
        for version in (3, 4, 5):
            for user, password in (("alice", "secret"), ("bob", "pass:wörd"), ("carol", "c" * 300)):
                self.login(broker, user, password, version).ping()
        for secret in ("secret", "pass:w", "ccc", "$7$", "$6$"):
            self.assertNotIn(secret, broker.log())

    def test_wrong_passwords_and_unknown_users_are_refused_alike(self):
        broker = self.node()
        for user, password in (("alice", "Secret"), ("alice", ""), ("alice", None), ("Alice", "secret"), ("", "secret"),
                               ("nobody", "secret"), ("bob", "pass:word"), ("alic", "secret")):
            self.login(broker, user, password, 5, "x", expect=0x86)
            self.login(broker, user, password, 4, "x", expect=4)
        self.assertEqual(broker.counter("connects_denied"), 16)
        self.assertNotIn("Secret", broker.log())

    def test_anonymous_clients_are_refused_unless_allowed(self):
        broker = self.node()
        broker.client("x", 5, expect=0x87)
        broker.client("x", 4, expect=5)
        broker.client("x", 5, password="secret", expect=0x87)
        open_to_all = self.node(auth={"allow_anonymous": True})
        open_to_all.client("x").ping()
        self.login(open_to_all, "alice", "wrong", expect=0x86)
        self.login(open_to_all, "alice").ping()

    def test_files_made_by_mosquitto_passwd_work(self):
        if shutil.which("mosquitto_passwd") is None:
            self.skipTest("mosquitto_passwd is not installed")
        broker = self.node(passwords="", start=False)
        for kind, user in (("sha512", "old"), ("sha512-pbkdf2", "new")):
            subprocess.run(["mosquitto_passwd", "-H", kind, "-b", broker.config["auth"]["password_file"], user, "p w"],
                           check=True, capture_output=True)
        broker.start(probe=False)
        self.login(broker, "old", "p w").ping()
        self.login(broker, "new", "p w").ping()
        self.login(broker, "new", "p", expect=0x86)

    @cost(8)
    def test_a_password_that_takes_long_holds_up_nobody_else(self):
        broker = self.node(passwords=USERS + line("slow", "secret", 400000), listeners=PATIENT)
        quick = self.login(broker, "alice")
        slow = self.login(broker, "slow", connect=False)
        unknown = self.login(broker, "nobody", connect=False)
        slow.send(packets.connect(5, "slow", user="slow", password="secret"))
        slow.send(packets.PING)  # waits behind its CONNECT
        unknown.send(packets.connect(5, "unknown", user="nobody", password="secret"))
        for _ in range(20):
            quick.ping()
        unknown.pump(0.001)
        self.assertEqual(unknown.received, [])  # as costly as the costliest
        self.assertEqual(slow.expect(packets.CONNACK, 4 * DEADLINE).reason, 0)
        slow.expect(packets.PINGRESP)
        self.assertEqual(unknown.expect(packets.CONNACK, 4 * DEADLINE).reason, 0x86)

    @cost(8)
    def test_no_more_than_max_waiting_are_checked_at_once(self):
        broker = self.node(passwords=USERS + line("slow", "secret", 600000), auth={"max_waiting": 2}, listeners=PATIENT)
        waiting = []
        for number in range(2):
            waiting.append(broker.client("w%d" % number, connect=False))
            waiting[-1].send(packets.connect(5, "w%d" % number, user="slow", password="secret"))
        self.wait_for(lambda: broker.log().count("finding out who it is") >= 2, "two CONNECTs")
        self.login(broker, "alice", expect=0x89)
        for client in waiting:
            self.assertEqual(client.expect(packets.CONNACK, 4 * DEADLINE).reason, 0)
        self.login(broker, "alice")

    @cost(8)
    def test_clients_that_go_away_cancel_their_checks(self):
        broker = self.node(passwords=USERS + line("slow", "secret", 600000), auth={"max_waiting": 20}, listeners=PATIENT)
        gone = [broker.client("g%d" % number, connect=False) for number in range(20)]
        for number, client in enumerate(gone):
            client.send(packets.connect(5, "g%d" % number, user="slow", password="secret"))
        self.wait_for(lambda: broker.log().count("finding out who it is") >= 20, "twenty CONNECTs")
        for client in gone:
            client.drop()
        self.wait_for(lambda: broker.counter("connections") == 0, "all of them gone")
        self.login(broker, "alice").ping()  # behind the one that was begun, not behind twenty

    def test_requests_sent_behind_connect_are_served_once_it_is_known(self):
        broker = self.node(passwords=USERS + line("slow", "secret", 300000))
        receiver = self.login(broker, "alice")
        receiver.subscribe("t")
        eager = broker.client("eager", connect=False)
        eager.send(packets.connect(5, "eager", user="slow", password="secret") + packets.publish(5, "t", b"1") +
                   packets.publish(5, "t", b"2") + packets.disconnect(5))
        eager.drop()  # and leaves at once
        receiver.wait_messages(2)

    def test_every_mistake_in_the_files_is_told_at_once(self):
        broker = self.node(passwords="alice:secret\n" + line("bob", "x") + "nobody\n" + line("bob", "y"),
                           acl="topic read a/#/b\n# fine\nuser\ntopics x\n", start=False)
        for arguments in (["--check"], []):
            done = subprocess.run([str(BIN / "shoald"), "-c", broker.file, *arguments], capture_output=True, text=True,
                                  timeout=DEADLINE, check=False)
            self.assertEqual(done.returncode, 1)
            for place, text in (("password_file:1", "in the clear"), ("password_file:3", "no ':'"),
                                ("password_file:4", "line 2 already"), ("acl_file:1", "a/#/b"), ("acl_file:3", "user"),
                                ("acl_file:4", "topics")):
                self.assertRegex(done.stderr, "%s.*%s" % (place, text))
            self.assertNotIn("secret", done.stderr)
        broker.config["auth"] = {"password_file": "/nonexistent", "acl_file": broker.folder}
        broker.write_config()
        done = subprocess.run([str(BIN / "shoald"), "-c", broker.file, "--check"], capture_output=True, text=True,
                              timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, "auth.password_file(?s:.*)auth.acl_file")

    def test_the_log_says_who_can_connect(self):
        broker = self.node(tls={"verify": "verify_peer", "peer_cert_as_username": "cn"}, acl="topic read #\n")
        broker.wait_log("tcp:plain .*anonymous clients are refused, users log in by password$")
        broker.wait_log("ssl:tls .*anonymous clients are refused, users log in by password, a client certificate is a login")
        broker.wait_log("may publish and read what .*acl_file says")

    def test_a_certificate_user_needs_no_password(self):
        broker = self.node(tls={"verify": "verify_peer", "peer_cert_as_username": "cn"}, acl="user client one\ntopic c/#\n")
        made = broker.certificates
        known = broker.client("k", tls=made.client_context("client"))
        self.assertEqual(known.publish("c/x", b"", 1).reason, 0x10)
        self.assertEqual(known.publish("d/x", b"", 1).reason, 0x87)
        broker.client("k2", tls=made.client_context("client"), user="alice", password="wrong").ping()
        broker.client("u", tls=True, expect=0x87)
        broker.client("a", tls=True, user="alice", password="secret").ping()


class Rights(AuthCase):
    ACL = ("topic read public/#\n"
           "user alice\n"
           "topic a/#\n"
           "topic deny a/secret/#\n"
           "topic write in/+\n"
           "user bob\n"
           "topic read #\n"
           "topic deny b/#\n"
           "pattern write devices/%c/up\n"
           "pattern read devices/%c/down\n"
           "pattern users/%u/#\n")

    def node(self, count=1, **settings):
        return super().node(count, passwords=self.users("alice", "bob", "dora", "root"), **{"acl": self.ACL, **settings})

    def root(self, broker, **fields):
        """The one who may write everything: `user root` in files that add it."""
        return self.login(broker, "root", **fields)

    def test_version_5_learns_that_it_may_not_publish(self):
        broker = self.node()
        alice = self.login(broker, "alice")
        alice.subscribe("a/#", 2)
        self.assertEqual(alice.publish("b/x", b"no", 1).reason, 0x87)
        self.assertEqual(alice.publish("b/x", b"no", 2).reason, 0x87)
        self.assertEqual(alice.publish("a/secret/x", b"no", 1).reason, 0x87)
        alice.publish("b/x", b"no", 0)
        for qos in (0, 1, 2):
            alice.publish("a/x", b"%d" % qos, qos)
        alice.wait_messages(3)
        self.assertEqual(sorted(alice.payloads()), [b"0", b"1", b"2"])
        self.assertEqual(broker.counter("publish_denied"), 4)

    def test_version_3_is_acknowledged_and_its_publication_thrown_away(self):
        broker = self.node(acl=self.ACL + "user root\ntopic #\n")
        root = self.root(broker)
        root.subscribe("#", 2)
        for version in (3, 4):
            alice = self.login(broker, "alice", version=version)
            for qos in (0, 1, 2):
                alice.publish("b/x", b"no", qos)
                alice.publish("a/x", b"yes", qos)
            alice.disconnect()
        root.wait_messages(6)
        root.ping()
        self.assertEqual(root.payloads(), [b"yes"] * 6)

    def test_subscriptions_that_could_bring_nothing_are_refused(self):
        broker = self.node()
        alice, old = self.login(broker, "alice"), self.login(broker, "alice", version=4, client_id="old")
        filters = ["a/x", "b/x", "#", "in/x", "a/secret/x", "users/alice/+", "users/bob/x", "devices/+/down"]
        self.assertEqual(alice.subscribe(filters, 1, expect=False).reasons, [1, 0x87, 1, 0x87, 0x87, 1, 0x87, 1])
        self.assertEqual(old.subscribe(filters, 1, expect=False).reasons, [1, 0x80, 1, 0x80, 0x80, 1, 0x80, 1])
        self.assertEqual(broker.counter("subscribe_denied"), 8)

    @workers(1, 2)
    def test_messages_are_checked_one_by_one_where_a_filter_reaches_further(self, count):
        broker = self.node(count, acl=self.ACL + "user root\ntopic #\n")
        root = self.root(broker, slot=0)
        for version in (4, 5):
            alice = self.login(broker, "alice", version=version, slot=count - 1)
            alice.subscribe(["#", "a/+/x"], 1)
            bob = self.login(broker, "bob", version=version, slot=count - 1)
            bob.subscribe(["+/y", "#"], 0)
            for topic in ("a/x", "a/secret/x", "b/x", "b/y", "in/x", "users/alice/y", "users/bob/y", "public/y", "end/y"):
                root.publish(topic, topic.encode(), 1)
            root.publish("a/end", b"end", 1)
            bob.wait_messages(6)
            alice.wait_messages(3)
            alice.ping(), bob.ping()
            self.assertEqual([got.topic for got in alice.messages], ["a/x", "users/alice/y", "a/end"])
            self.assertEqual([got.topic for got in bob.messages],
                             ["a/x", "a/secret/x", "in/x", "users/alice/y", "users/bob/y", "public/y", "end/y", "a/end"])
            alice.disconnect(), bob.disconnect()
        self.assertGreater(broker.counter("dropped_denied"), 0)

    @workers(1, 2)
    def test_retained_messages_are_checked_too(self, count):
        broker = self.node(count, acl=self.ACL + "user root\ntopic #\n")
        root = self.root(broker, slot=0)
        for topic in ("a/x", "a/secret/x", "b/x", "c/x"):
            root.publish(topic, topic.encode(), 1, retain=True)
        alice = self.login(broker, "alice", slot=count - 1)
        alice.subscribe(["#"], 1)
        root.publish("a/end", b"end", 1)
        self.wait_for(lambda: alice.ping() and b"end" in alice.payloads(), "the end")
        self.wait_for(lambda: alice.ping() and b"a/x" in alice.payloads(), "the retained one")
        self.assertEqual(sorted(alice.payloads()), [b"a/x", b"end"])

    def test_patterns_are_of_the_client_and_its_user(self):
        broker = self.node()
        device = self.login(broker, "bob", client_id="d1")
        self.assertEqual(device.publish("devices/d1/up", b"", 1).reason, 0x10)
        self.assertEqual(device.publish("devices/d2/up", b"", 1).reason, 0x87)
        self.assertEqual(device.publish("devices/d1/down", b"", 1).reason, 0x87)
        self.assertEqual(device.publish("users/bob/x", b"", 1).reason, 0x10)
        self.assertEqual(device.publish("users/alice/x", b"", 1).reason, 0x87)
        sly = self.login(broker, "alice", client_id="+")
        self.assertEqual(sly.subscribe(["devices/d1/down"], expect=False).reasons, [0x87])
        self.assertEqual(sly.publish("a/x", b"", 1).reason, 0x10)

    def test_anonymous_clients_have_the_rights_of_the_first_lines(self):
        broker = self.node(auth={"allow_anonymous": True})
        nobody = broker.client("n")
        self.assertEqual(nobody.subscribe(["public/x", "a/x"], expect=False).reasons, [0, 0x87])
        self.assertEqual(nobody.publish("public/x", b"", 1).reason, 0x87)
        self.assertEqual(nobody.publish("users//x", b"", 1).reason, 0x87)
        self.assertEqual(nobody.publish("devices/n/up", b"", 1).reason, 0x10)

    def test_a_will_that_may_not_be_published_refuses_the_client(self):
        broker = self.node()
        will = {"topic": "b/gone", "payload": b"x", "qos": 1}
        self.login(broker, "alice", will=will, expect=0x87)
        self.login(broker, "alice", version=4, will=will, expect=5)
        bob = self.login(broker, "bob")
        bob.subscribe("#")
        self.login(broker, "alice", will=dict(will, topic="a/gone")).drop()
        bob.wait_messages(1)

    @reconnects()
    def test_another_user_of_the_same_client_identifier_gets_nothing_of_the_first_ones(self, count):
        broker = self.node(count, acl=self.ACL + "user root\ntopic #\nuser dora\ntopic z/#\n")
        root = self.root(broker, slot=0)
        fields = {"client_id": "same", "clean": False, "props": {"session_expiry_interval": 100}}
        first = self.login(broker, "alice", **fields)
        first.acknowledge = False
        first.subscribe("a/#", 1)
        root.publish("a/x", b"in flight", 1)
        first.wait_messages(1)
        first.drop()
        self.wait_for(lambda: broker.counter("connections") == 1, "the client gone")
        root.publish("a/x", b"queued", 1)
        self.login(broker, "dora", "wrong", **fields, expect=0x86)
        second = self.login(broker, "dora", **fields)
        self.assertTrue(second.connack.session_present)
        root.publish("a/x", b"live", 1)
        second.subscribe("z/#", 1)
        root.publish("z/x", b"own", 1)
        second.wait_messages(1)
        self.assertEqual(second.payloads(), [b"own"])
        third = self.login(broker, "alice", **fields)
        root.publish("z/x", b"not alice's", 1)
        root.publish("a/y", b"again", 1)
        third.wait_messages(1)
        self.assertEqual(third.payloads(), [b"again"])

    @workers(1, 2)
    def test_shared_subscriptions_are_checked_by_their_filter(self, count):
        broker = self.node(count, acl=self.ACL + "user root\ntopic #\n")
        root = self.root(broker, slot=0)
        alice = self.login(broker, "alice", slot=count - 1)
        self.assertEqual(alice.subscribe(["$share/g/b/x", "$share/g/a/+", "$share/g/#"], 1, expect=False).reasons, [0x87, 1, 1])
        bob = self.login(broker, "bob", slot=count - 1)
        bob.subscribe("$share/g/#", 1)
        for number in range(10):  # a member that may not read a topic is passed over
            root.publish("in/%d" % number, b"", 1)
        bob.wait_messages(10)
        alice.ping()
        self.assertEqual(alice.messages, [])

    def test_without_an_acl_file_everything_is_allowed(self):
        broker = super().node(passwords=self.users("alice"))
        alice = self.login(broker, "alice")
        alice.subscribe("#", 1)
        alice.publish("x", b"y", 1)
        alice.wait_messages(1)

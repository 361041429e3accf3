"""
Reload while the node serves: certificates, and whatever else follows without a restart. What is wrong changes nothing
and stays visible; nobody is disconnected.
"""
import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

from shoal_test import packets, processes
from shoal_test.authority import CLIENT, Authority
from shoal_test.broker import Port
from shoal_test.case import Case, cost, only_shoal, workers
from shoal_test.client import Client, tcp
from shoal_test.environment import BIN, PATIENCE, SANITIZED
from shoal_test.processes import wait_for

from test_auth import AuthCase, line


class ReloadCase(Case):
    def setUp(self):
        super().setUp()
        self.authority = Authority(os.path.join(self.folder, "ca"))
        self.authority.issue("one")
        self.authority.issue("two")
        self.live = os.path.join(self.folder, "live")
        os.makedirs(self.live)

    def use(self, name, key=None):
        """Puts a certificate (and its key) where the listener finds it."""
        for source, kind in ((name, "pem"), (key or name, "key")):
            shutil.copy(self.authority.path("%s.%s" % (source, kind)), os.path.join(self.live, "new"))
            os.rename(os.path.join(self.live, "new"), self.path(kind))

    def path(self, kind):
        return os.path.join(self.live, "server." + kind)

    def node(self, workers=2, tls=None, **settings):
        if not os.path.exists(self.path("pem")):
            self.use("one")
        files = {"certfile": self.path("pem"), "keyfile": self.path("key"), "cacertfile": self.authority.certificate}
        return self.broker(workers, tls=dict(files, **(tls or {})), **settings)

    def context(self, name=None, ca=None):
        context = ssl.create_default_context(cafile=ca or self.authority.certificate)
        if name:
            context.load_cert_chain(self.authority.path(name + ".pem"), self.authority.path(name + ".key"))
        return context

    def presented(self, broker):
        """The common name that a new connection is shown."""
        with socket.create_connection(("127.0.0.1", broker.tls_port), 5 * PATIENCE) as plain:
            with self.context().wrap_socket(plain, server_hostname="localhost") as secure:
                subject = secure.getpeercert()["subject"]
        return dict(entry[0] for entry in subject)["commonName"]

    def presented_by_all(self, broker, count=30):
        return {self.presented(broker) for _ in range(count)}

    def reload(self, broker, *words):
        """(exit code, what it printed)"""
        done = subprocess.run([str(BIN / "shoalctl"), "-c", broker.file, "reload", *words], capture_output=True, text=True,
                              timeout=60 * PATIENCE, check=False)
        return done.returncode, done.stdout + done.stderr

    def change(self, broker, settings):
        """Writes the configuration with other settings of the TLS listener, or of whole sections."""
        for section, values in settings.items():
            for key, value in values.items():
                place = broker.config.setdefault(section, {})
                if value is None:
                    place.pop(key, None)
                elif isinstance(value, dict):
                    place.setdefault(key, {}).update(value)
                else:
                    place[key] = value
        broker.write_config()


@only_shoal
class Certificates(ReloadCase):
    @workers(1, 4)
    def test_hangup_shows_new_clients_the_new_certificate_and_keeps_the_old_ones_connected(self, count):
        broker = self.node(count)
        clients = [broker.client("c%d" % i, tls=self.context()) for i in range(8)]
        for client in clients:
            client.subscribe("t/#", qos=1)
        self.assertEqual(self.presented_by_all(broker), {"one"})
        self.use("two")
        mark = broker.log_mark()
        os.kill(broker.child.pid, signal.SIGHUP)
        broker.wait_log("all workers serve with generation 2", mark)
        self.assertEqual(self.presented_by_all(broker), {"two"})
        clients[0].publish("t/x", b"still here", qos=1)
        for client in clients:
            client.wait_messages(1)
            self.assertEqual(client.payloads(), [b"still here"])
        status = broker.status()
        self.assertEqual({p["generation"] for p in status["processes"] if p["role"] == "worker"}, {2})
        self.assertEqual(status["reload"]["generation"], 2)
        self.assertEqual(status["counters"]["handshakes_failed"], 0)

    def test_whatever_is_wrong_changes_nothing_and_stays_visible(self):
        self.authority.issue("expired", days=(-20, -1))
        self.authority.issue("early", days=(1, 20))
        other = Authority(os.path.join(self.folder, "other"), "other")
        broker = self.node(2)
        client = broker.client("stays", tls=self.context())
        with open(self.authority.path("two.pem")) as whole:
            text = whole.read()
        cases = [
            (lambda: self.use("two", key="one"), "key does not belong"),
            (lambda: self.use("expired"), "expired on"),
            (lambda: self.use("early"), "not valid before"),
            (lambda: self.authority.write("cut.pem", text[:len(text) // 2]) and self.use_file("cut.pem"), "server.pem"),
            (lambda: self.authority.write("foreign.pem", text + open(other.certificate).read()) and
             self.use_file("foreign.pem"), "not signed by the one after it"),
            (lambda: os.unlink(self.path("pem")), "No such file"),
            (lambda: self.change(broker, {"mqtt": {"max_qos": 7}}), "mqtt.max_qos: found 7"),
        ]
        for number, (spoil, words) in enumerate(cases):
            self.use("one")
            spoil()
            code, text_out = self.reload(broker)
            self.assertEqual(code, 4, text_out)
            self.assertRegex(text_out, words)
            broker.wait_log("reload failed, generation 1 goes on")
            status = broker.status()
            self.assertRegex("\n".join(status["reload"]["failure"]), words)
            self.assertEqual(status["counters"]["reloads_failed"], number + 1)
            self.assertEqual(status["counters"]["reload_failing"], 1)
            self.assertRegex(broker.control("status"), "FAILED")
            self.assertEqual(self.presented_by_all(broker, 6), {"one"})
        self.use("two")
        self.change(broker, {"mqtt": {"max_qos": None}})
        self.assertEqual(self.reload(broker)[0], 0)
        status = broker.status()
        self.assertIsNone(status["reload"]["failure"])
        self.assertEqual(status["counters"]["reload_failing"], 0)
        self.assertEqual(self.presented_by_all(broker), {"two"})
        client.ping()

    def use_file(self, name):
        shutil.copy(self.authority.path(name), self.path("pem"))

    def test_a_certificate_that_expired_in_use_does_not_hold_up_another_change(self):
        """Both in one: the old file stays, expired meanwhile; the key of another listener changes."""
        broker = self.node(2, listeners={"ssl:second": {}})
        short = Authority(os.path.join(self.folder, "short"))
        short.issue("brief", days=(-1, 4.0 / 86400 * PATIENCE))
        self.change(broker, {"listeners": {"ssl:second": {"certfile": short.path("brief.pem"), "keyfile": short.path("brief.key")}}})
        code, text = self.reload(broker)
        self.assertEqual(code, 0, text)
        def expired():
            return subprocess.run(["openssl", "x509", "-in", short.path("brief.pem"), "-noout", "-checkend", "0"],
                                  stdout=subprocess.DEVNULL, check=False).returncode != 0
        wait_for(expired, "the certificate expired", 10 * PATIENCE)
        self.use("two")
        code, text = self.reload(broker)
        self.assertEqual(code, 0, text)
        self.assertRegex(text, "warning: .*expired on .*in use already")
        self.assertEqual(self.presented_by_all(broker), {"two"})

    def test_dry_run_tells_all_and_changes_nothing(self):
        broker = self.node(2)
        self.use("two")
        self.change(broker, {"listeners": {"ssl:tls": {"verify": "verify_peer"}}, "bus": {"window": "512KiB"}})
        code, text = self.reload(broker, "--dry-run")
        self.assertEqual(code, 0, text)
        for words in ("listeners.ssl:tls.verify: \"verify_peer\", was \"verify_none\"", "NEEDS A RESTART", "CN=two",
                      "DNS:localhost, IP Address:127.0.0.1", "CN=Test ca", "EC prime256v1", "NEW"):
            self.assertIn(words, text)
        self.assertEqual(self.presented_by_all(broker, 6), {"one"})
        self.assertEqual(broker.status()["reload"]["generation"], 1)
        report = json.loads(broker.control("reload", "--dry-run", "--json"))
        self.assertTrue(report["certificates"][0]["changed"])
        self.assertEqual([change["path"] for change in report["changes"] if change["restart"]], ["bus.window"])

    def test_a_new_ca_decides_over_new_clients(self):
        broker = self.node(2, tls={"verify": "verify_peer", "fail_if_no_peer_cert": True})
        other = Authority(os.path.join(self.folder, "other"), "other")
        self.authority.issue("mine", extensions=CLIENT)
        other.issue("theirs", extensions=CLIENT)
        theirs = ssl.create_default_context(cafile=self.authority.certificate)
        theirs.load_cert_chain(other.path("theirs.pem"), other.path("theirs.key"))
        before = broker.client("before", tls=self.context("mine"))
        self.change(broker, {"listeners": {"ssl:tls": {"cacertfile": other.certificate}}})
        self.assertEqual(self.reload(broker)[0], 0)
        broker.client("after", tls=theirs).ping()
        with self.assertRaises(Exception):
            broker.client("refused", tls=self.context("mine"))
        before.ping()

    @cost(8)
    def test_a_worker_killed_while_others_switch_comes_back_with_the_right_generation(self):
        broker = self.node(3)
        for round_number in range(6):
            name = ("two", "one")[round_number % 2]
            self.use(name)
            mark = broker.log_mark()
            victim = broker.worker(round_number % 3)
            os.kill(broker.child.pid, signal.SIGHUP)
            os.kill(victim, signal.SIGKILL)
            broker.wait_log("all workers serve with generation", mark)
            broker.wait_ready()
            self.assertEqual(self.presented_by_all(broker), {name})
            numbers = {p["generation"] for p in broker.status()["processes"] if p["role"] == "worker"}
            self.assertEqual(len(numbers), 1)

    @cost(30)
    def test_a_worker_that_stands_still_is_replaced_and_the_roll_goes_on(self):
        broker = self.node(2)
        self.use("two")
        broker.stop_worker(1)
        mark = broker.log_mark()
        code, text = self.reload(broker)
        # It is killed for its silence after 10 s, and its successor takes part in the roll.
        self.assertEqual(code, 0, text)
        broker.wait_log("did not answer for 10 s", mark)
        self.assertEqual(self.presented_by_all(broker), {"two"})

    @cost(15)
    def test_no_handshake_fails_and_no_message_is_lost_while_it_reloads(self):
        broker = self.node(4)
        subscriber = broker.client("s", tls=self.context())
        subscriber.subscribe("t", qos=1)
        publisher = broker.client("p", tls=self.context())
        problems, seen, stop = [], [], threading.Event()

        def shake_hands():
            while not stop.is_set():
                try:
                    seen.append(self.presented(broker))
                except Exception as error:  # whatever it is, a client saw it
                    problems.append(repr(error))
        threads = [threading.Thread(target=shake_hands) for _ in range(3)]
        for thread in threads:
            thread.start()
        good = 0
        for number in range(20):
            if number % 5 == 4:
                self.use("two", key="one")
                self.assertEqual(self.reload(broker)[0], 4)
                continue
            good += 1
            name = ("two", "one")[good % 2]
            self.use(name)
            self.assertEqual(self.reload(broker)[0], 0)
            self.assertEqual(self.presented(broker), name)
            publisher.publish("t", b"%d" % number, qos=1)
        stop.set()
        for thread in threads:
            thread.join()
        self.assertEqual(problems, [])
        self.assertGreater(len(seen), 20)
        subscriber.wait_messages(good)
        self.assertEqual([int(payload) for payload in subscriber.payloads()], [n for n in range(20) if n % 5 != 4])
        self.assertEqual(broker.counter("handshakes_failed"), 0)


@only_shoal
class Configuration(ReloadCase):
    def files(self, broker, passwords=None, acl=None):
        for key, text in (("password_file", passwords), ("acl_file", acl)):
            if text is not None:
                path = os.path.join(broker.folder, key)
                with open(path + ".new", "w") as out:
                    out.write(text)
                os.rename(path + ".new", path)
                broker.config.setdefault("auth", {})[key] = path
        broker.write_config()

    def test_users_and_rights_count_for_clients_that_are_there(self):
        broker = self.broker(2, start=False)
        self.files(broker, AuthCase.users("anna", "bert"), "topic read open/#\nuser anna\ntopic readwrite a/#\n"
                   "user bert\ntopic readwrite b/#\n")
        broker.start(probe=False)
        anna = AuthCase.login(broker, "anna", slot=0)
        bert = AuthCase.login(broker, "bert", slot=1)
        anna.subscribe("#", qos=1)
        bert.publish("b/1", b"denied to anna", qos=1)
        self.files(broker, AuthCase.users("anna", "bert"), "user anna\ntopic readwrite b/#\nuser bert\ntopic write b/#\n")
        code, text = self.reload(broker)
        self.assertEqual(code, 0, text)
        self.assertIn("users and rights", text)
        bert.publish("b/2", b"allowed", qos=1)
        anna.wait_messages(1)
        self.assertEqual(anna.payloads(), [b"allowed"])
        self.assertEqual(anna.publish("a/1", b"no more", qos=1).reason, 0x87)
        self.files(broker, AuthCase.users("anna"))
        self.assertEqual(self.reload(broker)[0], 0)
        self.assertEqual(bert.expect_closed().reason, 0x98)
        anna.ping()
        with self.assertRaises(AssertionError):
            AuthCase.login(broker, "bert")

    def test_who_is_about_to_connect_gets_in_by_the_new_files_only(self):
        """A check of two seconds is under way in each case when the files change."""
        slow = line("anna", "secret", iterations=1500000) + line("bert", "secret", iterations=1500000) + \
            line("carl", "secret", iterations=1500000)
        broker = self.broker(1, start=False)
        self.files(broker, slow, "topic readwrite #\n" + "".join("user %s\ntopic readwrite #\n" % name for name in
                                                                ("anna", "bert", "carl")))
        broker.start(probe=False)
        clients = {name: broker.client(name, connect=False) for name in ("anna", "bert", "carl")}
        for name, client in clients.items():
            client.send(packets.connect(5, name, True, user=name, password="secret"))
        time.sleep(0.1)  # they are with the broker
        self.files(broker, line("anna", "secret") + line("carl", "other"), "user anna\ntopic read #\n")
        self.assertEqual(self.reload(broker)[0], 0)
        self.assertEqual(clients["anna"].expect(packets.CONNACK, 30 * PATIENCE).reason, 0)
        for name in ("bert", "carl"):
            self.assertEqual(clients[name].expect(packets.CONNACK, 30 * PATIENCE).reason, 0x86)
        self.assertEqual(clients["anna"].publish("t", b"", qos=1).reason, 0x87)

    def test_a_mistake_in_a_file_refuses_all_and_names_its_line(self):
        broker = self.broker(2, start=False)
        self.files(broker, AuthCase.users("anna"), "user anna\ntopic readwrite a/#\n")
        broker.start(probe=False)
        anna = AuthCase.login(broker, "anna")
        self.files(broker, acl="user anna\ntopic readwrite b/#\nnonsense\n")
        code, text = self.reload(broker)
        self.assertEqual(code, 4, text)
        self.assertRegex(text, "acl_file:3: found \"nonsense\"")
        self.assertEqual(anna.publish("a/1", b"still allowed", qos=1).reason & 0x80, 0)

    @workers(1, 2)
    def test_limits_count_at_once_and_what_a_client_was_told_stays_true(self, count):
        broker = self.node(count)
        told = broker.client("told")
        connected = broker.client("other")
        self.change(broker, {"mqtt": {"max_qos": 0, "max_topic_length": 20, "retain_available": False}})
        self.assertEqual(self.reload(broker)[0], 0)
        told.publish("t", b"2", qos=2, retain=True)  # CONNACK allowed it
        self.assertEqual(connected.subscribe("t", qos=2).reasons, [0])  # not told: the new one counts
        fresh = broker.client("fresh", connect=False)
        self.assertEqual(fresh.connect().props.get("maximum_qos"), 0)
        told.publish("a" * 21, b"", qos=1, wait=False)  # of that, CONNACK says nothing
        told.expect_closed()

    def test_the_log_level_follows(self):
        broker = self.node(2)
        broker.client("seen").disconnect()
        self.change(broker, {"log": {"level": "notice"}})
        self.assertEqual(self.reload(broker)[0], 0)
        mark = broker.log_mark()
        broker.client("unseen").disconnect()
        self.assertNotIn("unseen", broker.log()[mark:])
        self.change(broker, {"log": {"level": "debug"}})
        self.assertEqual(self.reload(broker)[0], 0)
        broker.client("again").disconnect()
        broker.wait_log("debug worker", mark)

    def test_what_takes_a_restart_is_named_and_keeps_its_value(self):
        broker = self.node(2)
        self.change(broker, {"node": {"workers": 3}, "mqtt": {"max_packet_size": "2MB"}})
        code, text = self.reload(broker)
        self.assertEqual(code, 0, text)
        for path in ("node.workers", "mqtt.max_packet_size"):
            self.assertRegex(text, "warning: .*%s: becomes .* by a restart of shoald alone" % path)
            broker.wait_log("warning master: .*%s" % path)
        self.assertEqual(len(broker.worker_pids()), 2)


@only_shoal
class Listeners(ReloadCase):
    def port(self, broker):
        """A port that the test holds free for a listener to come."""
        reservation = Port()
        broker.reserved.append(reservation)
        return reservation.number

    def rewrite(self, broker, listeners):
        """Listeners by name: their whole settings; None: gone."""
        for key, settings in listeners.items():
            if settings is None:
                broker.config["listeners"].pop(key)
            else:
                broker.config["listeners"][key] = settings
        broker.write_config()

    @workers(1, 3)
    def test_listeners_come_go_and_move_while_their_clients_stay(self, count):
        broker = self.node(count, listeners={"tcp:gone": {}, "tcp:moved": {}})
        leaving = broker.client("leaving", port=broker.ports["tcp:gone"])
        moving = broker.client("moving", port=broker.ports["tcp:moved"])
        new, moved = self.port(broker), self.port(broker)
        self.rewrite(broker, {"tcp:gone": None, "tcp:new": {"bind": "127.0.0.1:%d" % new, "max_connections": 5},
                              "tcp:moved": {"bind": "127.0.0.1:%d" % moved}})
        code, text = self.reload(broker)
        self.assertEqual(code, 0, text)
        for words in ("listeners.tcp:gone", "listeners.tcp:new", "listeners.tcp:moved.bind"):
            self.assertIn(words, text)
        for slot in range(count):
            broker.ports.update({"tcp:new": new, "tcp:moved": moved})
            broker.client("n%d" % slot, port=new, slot=slot).ping()
            broker.client("m%d" % slot, port=moved, slot=slot).ping()
        leaving.ping()
        moving.ping()
        status = {entry["name"]: entry for entry in broker.status()["listeners"]}
        self.assertEqual(set(status), {"tcp:plain", "ssl:tls", "tcp:new", "tcp:moved"})
        self.assertEqual(status["tcp:new"]["connections"], count)
        self.assertEqual(status["tcp:moved"]["address"], "127.0.0.1:%d" % moved)
        for pid, ports in listening(broker).items():
            self.assertEqual(ports, {broker.port, broker.tls_port, new, moved}, pid)

    def test_what_waits_in_the_backlog_of_a_listener_that_goes_is_served(self):
        broker = self.node(1, listeners={"tcp:gone": {}})
        pid = broker.stop_worker(0)
        waiting = [tcp(broker.ports["tcp:gone"]) for _ in range(20)]
        self.rewrite(broker, {"tcp:gone": None})
        os.kill(broker.child.pid, signal.SIGHUP)
        broker.wait_log("generation 2 is good")
        os.kill(pid, signal.SIGCONT)
        broker.wait_log("all workers serve with generation 2")
        for number, sock in enumerate(waiting):
            client = Client(broker.port, 5, "w%d" % number, None, sock)
            broker.made.append(client)
            client.connect()

    def test_an_address_in_use_refuses_all(self):
        broker = self.node(2)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            fresh = self.port(broker)
            self.rewrite(broker, {"tcp:new": {"bind": "127.0.0.1:%d" % fresh},
                                  "tcp:taken": {"bind": "127.0.0.1:%d" % taken.getsockname()[1]}})
            code, text = self.reload(broker)
            self.assertEqual(code, 4, text)
            self.assertRegex(text, "listeners.tcp:taken.bind: cannot listen on .*: Address already in use")
            self.assertEqual(broker.status()["reload"]["generation"], 1)
            broker.client("still").ping()
        self.assertEqual(self.reload(broker)[0], 0)

    def test_a_listener_changes_its_kind_on_the_same_address(self):
        broker = self.node(2, listeners={"tcp:door": {}})
        port = broker.ports["tcp:door"]
        plain = broker.client("plain", port=port)
        self.rewrite(broker, {"tcp:door": None, "ssl:door": {"bind": "127.0.0.1:%d" % port, "keyfile": self.path("key"),
                                                             "certfile": self.path("pem")}})
        self.assertEqual(self.reload(broker)[0], 0)
        for slot in (0, 1):
            broker.client("secure%d" % slot, port=port, tls=self.context(), slot=slot).ping()
        plain.ping()

    def test_unix_sockets_come_and_go(self):
        broker = self.node(2, listeners={"unix:old": {}})
        path = os.path.join(broker.folder, "new.sock")
        self.rewrite(broker, {"unix:old": None, "unix:new": {"bind": path, "mode": "0600"}})
        self.assertEqual(self.reload(broker)[0], 0)
        self.assertFalse(os.path.exists(broker.paths["unix:old"]))
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
        self.rewrite(broker, {"unix:new": {"bind": path, "mode": "0640"}})
        self.assertEqual(self.reload(broker)[0], 0)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o640)

    @cost(10)
    def test_a_worker_that_dies_meanwhile_has_the_listeners_of_its_generation(self):
        broker = self.node(3)
        previous = None
        for number in range(5):
            port = self.port(broker)
            name = "tcp:n%d" % number
            self.rewrite(broker, {name: {"bind": "127.0.0.1:%d" % port}, **({previous: None} if previous else {})})
            previous = name
            mark = broker.log_mark()
            os.kill(broker.child.pid, signal.SIGHUP)
            broker.kill_worker(number % 3)
            broker.wait_log("all workers serve with generation", mark)
            broker.wait_ready()
            broker.ports[name] = port
            for slot in range(3):
                broker.client("c%d.%d" % (number, slot), port=port, slot=slot).ping()


def listening(broker):
    """By process: the ports that it holds listening sockets of."""
    found = {}
    for pid in [broker.child.pid] + broker.worker_pids():
        inodes = processes.socket_inodes(pid)
        with open("/proc/net/tcp") as rows:
            next(rows)
            words = [row.split() for row in rows]
        found[pid] = {int(w[1].rpartition(":")[2], 16) for w in words if w[3] == "0A" and int(w[9]) in inodes}
    return found



class ResumptionCase(ReloadCase):
    def visit(self, broker, context, session=None):
        """One connection: (it resumed, its session for the next one, the slot unknown)."""
        with socket.create_connection(("127.0.0.1", broker.tls_port), 5 * PATIENCE) as plain:
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as secure:
                # A version 3 CONNECT and its CONNACK: in TLS 1.3 the ticket comes with them.
                secure.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
                self.assertEqual(secure.recv(4), b"\x20\x02\x00\x00")
                return secure.session_reused, secure.session

    def contexts(self, name=None):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = self.context(name)
            context.minimum_version = context.maximum_version = version
            yield context

    def resumed(self, broker, context, session, count, between=lambda number: None):
        """How many of so many reconnects resumed; the last session."""
        hits = 0
        for number in range(count):
            between(number)
            hit, session = self.visit(broker, context, session)
            hits += hit
        return hits, session


@only_shoal
class Resumption(ResumptionCase):
    @cost(10)
    def test_clients_resume_on_any_worker_across_rotations_reloads_and_deaths(self):
        self.authority.issue("mine", extensions=CLIENT)
        broker = self.node(4, tls={"verify": "verify_peer", "fail_if_no_peer_cert": True},
                           config={"tickets": {"rotation": "1s", "lifetime": "30s"}})

        def disturb(number):
            if number % 50 == 10:
                self.use(("one", "two")[number // 50 % 2])
                self.assertEqual(self.reload(broker)[0], 0)
            elif number % 50 == 30:
                victim = number // 50 % 4
                broker.wait_worker(victim, other_than=broker.kill_worker(victim))
                broker.wait_ready()
            time.sleep(0.01)
        total = 0
        for context in self.contexts("mine"):
            _, session = self.visit(broker, context)
            hits, _ = self.resumed(broker, context, session, 200, disturb)
            total += hits
        self.assertGreaterEqual(total, 396)  # 99 %
        self.assertGreater(len(broker.log().split("session tickets: a new key")), 3)

    def test_another_ca_set_ends_tickets(self):
        self.authority.issue("mine", extensions=CLIENT)
        other = Authority(os.path.join(self.folder, "other"), "other")
        broker = self.node(2, tls={"verify": "verify_peer"})
        for context in self.contexts("mine"):
            _, session = self.visit(broker, context)
            self.assertTrue(self.visit(broker, context, session)[0])
            self.change(broker, {"listeners": {"ssl:tls": {"cacertfile": other.certificate}}})
            self.assertEqual(self.reload(broker)[0], 0)
            with self.assertRaises(OSError):  # not resumed, and a full handshake refuses it
                self.visit(broker, context, session)
            self.change(broker, {"listeners": {"ssl:tls": {"cacertfile": self.authority.certificate}}})
            self.assertEqual(self.reload(broker)[0], 0)

    def test_resumption_can_be_switched_off(self):
        broker = self.node(2, tls={"session_tickets": False})
        for context in self.contexts():
            hit, session = self.visit(broker, context)
            self.assertFalse(self.visit(broker, context, session)[0] if session else False)
        self.change(broker, {"listeners": {"ssl:tls": {"session_tickets": True}}})
        self.assertEqual(self.reload(broker)[0], 0)
        for context in self.contexts():
            _, session = self.visit(broker, context)
            self.assertTrue(self.visit(broker, context, session)[0])


@only_shoal
class Revocation(ResumptionCase):
    def setUp(self):
        super().setUp()
        for name in ("mine", "lost"):
            self.authority.issue(name, extensions=CLIENT)
        self.list = self.authority.crl()

    def strict(self, workers=2, **tls):
        return self.node(workers, tls=dict({"verify": "verify_peer", "fail_if_no_peer_cert": True, "crlfile": self.list}, **tls))

    def refused(self, broker, context, session=None):
        mark = broker.log_mark()
        with self.assertRaises(OSError):
            self.visit(broker, context, session)
        broker.wait_log("is revoked.*certificate", mark)

    @workers(1, 4)
    def test_a_new_list_ends_full_handshakes_and_resumption_alike(self, count):
        broker = self.strict(count)
        for mine, lost in zip(self.contexts("mine"), self.contexts("lost")):
            self.list = self.authority.crl()
            _, session = self.visit(broker, lost)
            self.assertTrue(self.visit(broker, lost, session)[0])
            _, good = self.visit(broker, mine)
            connected = broker.client("lost", tls=self.context("lost"))
            self.authority.revoke("lost")
            self.authority.crl()
            code, text = self.reload(broker)
            self.assertEqual(code, 0, text)
            for _ in range(10):
                self.refused(broker, lost, session)
                self.refused(broker, lost)
            hits, _ = self.resumed(broker, mine, good, 10)
            self.assertEqual(hits, 10)
            connected.ping()  # "keep": who is there stays
            connected.drop()
            self.authority.issue("lost", extensions=CLIENT)  # another number: not revoked

    def test_a_revoked_authority_takes_its_certificates_along(self):
        middle = Authority(os.path.join(self.folder, "middle"), "middle", parent=self.authority)
        middle.issue("below", extensions=CLIENT)
        broker = self.strict()
        context = self.context()
        context.load_cert_chain(middle.chain("below"), middle.path("below.key"))
        _, session = self.visit(broker, context)
        self.assertTrue(self.visit(broker, context, session)[0])
        shutil.copy(middle.certificate, self.authority.path("middle.pem"))
        self.authority.revoke("middle")
        self.authority.crl()
        self.assertEqual(self.reload(broker)[0], 0)
        self.refused(broker, context)
        self.refused(broker, context, session)

    def test_lists_that_are_wrong_refuse_the_reload(self):
        other = Authority(os.path.join(self.folder, "other"), "other")
        broker = self.strict()
        good = open(self.list).read()
        cases = [(open(other.crl()).read(), "signed by none of the CAs"), (good[:len(good) // 2], "no CRL in it|damaged"),
                 (good[:-80] + ("A" if good[-80] != "A" else "B") + good[-79:], "damaged|signed by none"), ("", "empty|no file|bytes"),
                 (open(self.authority.crl("late.pem", days=(-9, -1))).read(), "next update was due"),
                 (open(self.authority.crl("early.pem", days=(1, 9))).read(), "not valid before")]
        for text, words in cases:
            self.authority.write("crl.pem", text)
            code, said = self.reload(broker)
            self.assertEqual(code, 4, said)
            self.assertRegex(said, words)
        self.authority.write("crl.pem", good)
        self.assertEqual(self.reload(broker)[0], 0)

    def test_an_intermediate_alone_is_trusted_where_it_is_said(self):
        middle = Authority(os.path.join(self.folder, "middle"), "middle", parent=self.authority)
        middle.issue("below", extensions=CLIENT)
        broker = self.strict(cacertfile=middle.certificate, crlfile=middle.crl())
        below = self.context()
        below.load_cert_chain(middle.path("below.pem"), middle.path("below.key"))
        with self.assertRaises(OSError):
            self.visit(broker, below)
        self.change(broker, {"listeners": {"ssl:tls": {"partial_chain": True}}})
        self.assertEqual(self.reload(broker)[0], 0)
        _, session = self.visit(broker, below)
        self.assertTrue(self.visit(broker, below, session)[0])
        with self.assertRaises(OSError):
            self.visit(broker, self.context("mine"))
        middle.revoke("below")
        middle.crl()
        self.assertEqual(self.reload(broker)[0], 0)
        self.refused(broker, below, session)

    @cost(20)
    def test_a_hundred_thousand_entries_are_one_table_for_all(self):
        broker = self.strict(4)
        before = [private_kib(pid) for pid in broker.worker_pids()]
        self.authority.revoke("lost")
        self.authority.revoke_numbers(100000)
        self.authority.crl()
        self.assertEqual(self.reload(broker)[0], 0)
        for lost, mine in zip(self.contexts("lost"), self.contexts("mine")):
            self.refused(broker, lost)
            self.visit(broker, mine)
        for pid, earlier in zip(broker.worker_pids(), before):
            self.assertLess(private_kib(pid) - earlier, 1024 * (1 if not SANITIZED else 40))


def private_kib(pid):
    """What a process has for itself."""
    with open("/proc/%d/smaps_rollup" % pid) as rows:
        return sum(int(row.split()[1]) for row in rows if row.startswith("Private_"))


@only_shoal
class Foresight(ReloadCase):
    @cost(8)
    def test_files_that_change_are_seen_also_behind_a_link_and_tried_once(self):
        versions = os.path.join(self.folder, "versions")
        for name in ("one", "two"):
            os.makedirs(os.path.join(versions, name))
            for kind in ("pem", "key"):
                shutil.copy(self.authority.path("%s.%s" % (name, kind)), os.path.join(versions, name, "server." + kind))
        link = os.path.join(versions, "current")
        os.symlink("one", link)
        broker = self.node(2, tls={"certfile": link + "/server.pem", "keyfile": link + "/server.key"},
                           config={"node": {"reload": "watch"}})
        self.assertEqual(self.presented_by_all(broker, 6), {"one"})
        os.symlink("two", link + ".new")
        os.rename(link + ".new", link)  # as Kubernetes and certbot do
        broker.wait_log("files have changed: reloaded, all workers serve with generation 2")
        self.assertEqual(self.presented_by_all(broker, 6), {"two"})
        mark = broker.log_mark()
        with open(os.path.join(versions, "two", "server.pem"), "a") as out:
            out.write("-----BEGIN CERTIFICATE-----\nnonsense\n")
        broker.wait_log("files have changed: reload failed", mark)
        time.sleep(2.5)  # nothing changes: it is not tried again
        self.assertEqual(broker.counter("reloads_failed"), 1)
        self.change(broker, {"node": {"reload": "signal"}})
        shutil.copy(self.authority.path("two.pem"), os.path.join(versions, "two", "server.pem"))
        broker.wait_log("files have changed: reloaded, all workers serve", mark)
        mark = broker.log_mark()
        shutil.copy(self.authority.path("one.pem"), os.path.join(versions, "two", "server.pem"))
        time.sleep(2.5)
        self.assertNotIn("files have changed", broker.log()[mark:])

    def test_certs_tells_what_is_served_and_until_when(self):
        self.authority.issue("brief", days=(-1, 5.5))
        self.use("brief")
        broker = self.node(2)
        broker.wait_log("warning master: .*certificate 1 .*brief.* expires on")
        certs = json.loads(broker.control("certs", "--json"))
        entry = certs["certificates"][0]
        self.assertEqual((entry["listener"], entry["subject"], entry["days_left"]), ("ssl:tls", "CN=brief", 5))
        with socket.create_connection(("127.0.0.1", broker.tls_port)) as plain:
            with self.context().wrap_socket(plain, server_hostname="localhost") as secure:
                self.assertEqual(hashlib.sha256(secure.getpeercert(True)).hexdigest(), entry["fingerprint"])
        self.use("two")
        self.assertEqual(self.reload(broker)[0], 0)
        text = broker.control("certs")
        self.assertRegex(text, r"workers serve with 2 2\n[^§]*ssl:tls: (29|30) days left")

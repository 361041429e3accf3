"""Unix sockets: every worker serves them, who may connect is the file's mode, and the file comes and goes with the node."""
import os
import signal
import socket
import stat
import subprocess

from shoal_test import packets, processes
from shoal_test.case import Case, cost, only_shoal, workers
from shoal_test.client import Client
from shoal_test.environment import DEADLINE


@only_shoal
class UnixSockets(Case):
    def local(self, count=1, settings=None, **more):
        broker = self.broker(count, listeners={"unix:local": settings or {}}, **more)
        self.path = broker.config["listeners"]["unix:local"]["bind"]
        return broker

    def socket(self, path=None):
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(DEADLINE)
        sock.connect(path or self.path)
        return sock

    def client(self, client_id="c", version=5, **fields):
        made = Client(0, version, client_id, sock=self.socket())
        self.addCleanup(made.drop)
        made.connect(**fields)
        return made

    @workers(1, 2, 4)
    def test_clients_of_sockets_and_ports_meet(self, count):
        broker = self.local(count)
        receiver, sender = self.client("r"), broker.client("s")
        receiver.subscribe("up/#", 2)
        sender.subscribe("down/#", 2)
        for qos in (0, 1, 2):
            sender.publish("up/%d" % qos, b"x", qos)
            receiver.publish("down/%d" % qos, b"y" * 100000, qos)
        receiver.wait_messages(3)
        sender.wait_messages(3)
        receiver.disconnect()

    def test_mosquittos_clients_connect(self):
        self.local()
        words = ["mosquitto_sub", "--unix", self.path, "-t", "t", "-C", "1", "-W", "20", "-d"]
        with subprocess.Popen(["stdbuf", "-oL", *words], stdout=subprocess.PIPE, text=True) as receiver:
            while "Subscribed" not in receiver.stdout.readline():
                self.assertIsNone(receiver.poll())
            done = subprocess.run(["mosquitto_pub", "--unix", self.path, "-t", "t", "-m", "hello", "-q", "1"], check=False,
                                  timeout=DEADLINE)
            self.assertEqual(done.returncode, 0)
            self.assertIn("hello", receiver.communicate(timeout=DEADLINE)[0])

    def test_log_and_status_name_the_peer_and_the_path(self):
        broker = self.local()
        self.client("me")
        broker.wait_log(r"unix\(process %d, user %d\): client me connected" % (os.getpid(), os.getuid()))
        broker.wait_log("listener unix:local on %s, anonymous clients may connect" % self.path)
        listener = [entry for entry in broker.status()["listeners"] if entry["name"] == "unix:local"][0]
        self.assertEqual((listener["address"], listener["tls"]), (self.path, False))

    @cost(4)
    @workers(4)
    def test_all_workers_accept(self, count):
        broker = self.local(count)
        made = [self.client("c%d" % number) for number in range(100)]
        per_slot = [slot["connections"] for slot in broker.status()["slots"]]
        self.assertEqual(sum(per_slot), 100)
        self.assertGreater(sum(share > 0 for share in per_slot), 1, per_slot)
        for client in made:
            client.ping()

    @workers(2)
    def test_killed_worker_refuses_nobody(self, count):
        broker = self.local(count)
        kept = self.client("kept")
        for slot in range(count):
            old = broker.kill_worker(slot)
            for number in range(10):
                self.client_that_may_be_killed("k%d-%d" % (slot, number))
            broker.wait_worker(slot, other_than=old)
        kept.drop()

    def client_that_may_be_killed(self, client_id):
        """The dying worker may have accepted it already; its connection attempt must not be refused."""
        sock = self.socket()
        sock.sendall(packets.connect(4, client_id))
        try:
            sock.recv(4)
        except ConnectionError:
            pass
        sock.close()

    def test_connections_are_limited(self):
        self.local(settings={"max_connections": 2})
        first, second = self.client("a"), self.client("b")
        third = self.socket()
        self.assertEqual(third.recv(10), b"")
        third.close()
        first.ping()
        second.ping()

    def test_mode_and_owner_of_the_file(self):
        for mode, expected in ((None, 0o660), ("0600", 0o600), ("0666", 0o666)):
            broker = self.local(settings={"mode": mode} if mode else {})
            info = os.stat(self.path)
            self.assertEqual(stat.S_IMODE(info.st_mode), expected)
            self.assertTrue(stat.S_ISSOCK(info.st_mode))
            if os.getuid() == 0:  # the node's user, "nobody" by default
                self.assertEqual(info.st_uid, os.stat("/proc/%d" % broker.worker(0)).st_uid)
            broker.stop()

    def test_file_goes_with_the_node_and_its_folder_is_made(self):
        folder = os.path.join(self.folder, "made", "here")
        broker = self.local(settings={"bind": os.path.join(folder, "s")})
        self.client("c").drop()
        broker.stop()
        self.assertEqual(os.listdir(folder), [])

    def test_file_of_a_killed_node_is_replaced(self):
        broker = self.local()
        family = processes.descendants(broker.child.pid)
        os.kill(broker.child.pid, signal.SIGKILL)
        broker.child.wait(DEADLINE)
        for pid in family:
            self.wait_for(lambda pid=pid: not processes.alive(pid), "the workers' end")
        self.assertTrue(os.path.exists(self.path))
        broker.start()
        self.client("c").ping()

    def start_fails(self, broker):
        done = subprocess.run([broker.program, "-c", broker.file], capture_output=True, text=True, timeout=DEADLINE,
                              check=False)
        self.assertNotEqual(done.returncode, 0)
        return done.stderr

    def test_what_is_not_ours_stays(self):
        broker = self.broker(1, listeners={"unix:local": {}}, start=False)
        path = broker.paths["unix:local"]
        with open(path, "w") as out:
            out.write("precious")
        self.assertIn("a file that is no socket is there already", self.start_fails(broker))
        with open(path) as text:
            self.assertEqual(text.read(), "precious")
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
            other.listen(1)
            self.assertIn("another program listens there", self.start_fails(broker))
            self.assertTrue(os.path.exists(path))
        broker.start()  # and now it is stale
        with socket.socket(socket.AF_UNIX) as other:  # somebody takes the name while the node runs
            os.unlink(path)
            other.bind(path)
            broker.stop()
            self.assertTrue(os.path.exists(path))

"""
The master and its promises about processes: exit codes, supervision, sockets that refuse nobody, privileges, the
control socket. Says nothing about MQTT: clients here connect and are silent.
"""
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

from shoal_test import certificates, processes
from shoal_test.broker import Broker
from shoal_test.case import Case, cost, only_shoal
from shoal_test.environment import BIN, PATIENCE, SANITIZED
from shoal_test.processes import wait_for

SHOALD, SHOALCTL = str(BIN / "shoald"), str(BIN / "shoalctl")
O_CLOEXEC = 0o2000000


class Node(Broker):
    """A broker that counts as ready when its master says so."""

    def wait_ready(self, timeout=10.0 * PATIENCE):
        def ready():
            if not self.child.running():
                raise AssertionError("shoald ended with %s:\n%s" % (self.child.process.returncode, self.log()))
            return re.search(r"ready: all %d workers serve" % self.workers, self.log()[self.begin:])
        wait_for(ready, lambda: "ready:\n" + self.log(), timeout)

    def start(self, probe=False):
        self.begin = self.log_mark()
        super().start(probe)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=5)

    def owner(self, connection, timeout=2.0):
        """The process that accepted this connection."""
        port = connection.getsockname()[1]

        def found():
            inode = processes.server_inode(self.port, port)
            return next((pid for pid in self.worker_pids() if pid and inode in processes.socket_inodes(pid)), None)
        return wait_for(found, lambda: "an owner of the connection\n" + self.log(), timeout)

    def listening_inodes(self, pid):
        """Inodes of the listening TCP sockets that a process holds, by port."""
        held, found = processes.socket_inodes(pid), {}
        with open("/proc/net/tcp") as rows:
            next(rows)
            for row in rows:
                words = row.split()
                if words[3] == "0A" and int(words[9]) in held:
                    found.setdefault(int(words[1].rpartition(":")[2], 16), set()).add(int(words[9]))
        return found

    def end_after(self, *signals, pause=0.2):
        """Sends signals, waits for the end; (exit code, seconds)."""
        child, self.child = self.child, None
        began = time.monotonic()
        for number in signals:
            child.process.send_signal(number)
            time.sleep(pause)
        code = child.wait(8.0 * PATIENCE)
        seconds = time.monotonic() - began
        self.stop()
        return code, seconds


def run(*arguments, timeout=10.0 * PATIENCE):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=timeout, check=False)


def kill(pid, number=signal.SIGKILL):
    os.kill(pid, number)


class MasterCase(Case):
    def node(self, workers=2, start=True, **settings):
        made = Node(os.path.join(self.folder, "n%d" % len(self.brokers)), workers, start=False, **settings)
        self.brokers.append(made)
        if start:
            made.start()
        return made


@only_shoal
class CommandLine(MasterCase):
    def test_version_and_help(self):
        self.assertRegex(run(SHOALD, "--version").stdout, r"^shoald \d")
        self.assertRegex(run(SHOALCTL, "--version").stdout, r"^shoalctl \d")
        for program in (SHOALD, SHOALCTL):
            done = run(program, "--help")
            self.assertEqual(done.returncode, 0)
            self.assertIn("Exit codes", done.stdout)
        done = run(SHOALD, "--help-config")
        self.assertEqual(done.returncode, 0)
        self.assertIn("node.data_dir", done.stdout)

    def test_wrong_command_line_is_2(self):
        for arguments in ([SHOALD], [SHOALD, "-c"], [SHOALD, "--wrong"], [SHOALD, "--check"],
                          [SHOALD, "--child", "worker"], [SHOALCTL], [SHOALCTL, "status"], [SHOALCTL, "-c", "x", "dance"]):
            done = run(*arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn("--help", done.stderr)

    def test_check_binds_and_makes_nothing(self):
        node = self.node(start=False)
        taken = socket.create_server(("127.0.0.1", node.port), reuse_port=True)
        done = run(SHOALD, "-c", node.file, "--check")
        taken.close()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("2 workers, 2 listeners", done.stdout)
        self.assertFalse(os.path.exists(os.path.join(node.folder, "data")))

    def test_bad_configuration_is_1_with_all_errors(self):
        node = self.node(start=False, config={"node": {"workers": 1000}, "mqtt": {"max_qos": 3}, "nonsense": 1})
        for arguments in ([], ["--check"]):
            done = run(SHOALD, "-c", node.file, *arguments)
            self.assertEqual(done.returncode, 1)
            for word in ("node.workers", "mqtt.max_qos", "nonsense"):
                self.assertIn(word, done.stderr)
        self.assertEqual(run(SHOALD, "-c", "/nonexistent.json").returncode, 1)

    def test_mistakes_in_keys_do_not_hide_those_in_files(self):
        users = os.path.join(self.folder, "users")
        with open(users, "w") as out:
            out.write("no user\n")
        node = self.node(start=False, config={"mqtt": {"max_qos": 3}, "auth": {"password_file": users}},
                         tls={"keyfile": certificates.make().path("ca.key")})
        done = run(SHOALD, "-c", node.file, "--check")
        self.assertEqual(done.returncode, 1)
        for words in ("mqtt.max_qos: found 3", "the key does not belong to the certificate", "users:1: no ':'"):
            self.assertIn(words, done.stderr)


@only_shoal
class StartAndStop(MasterCase):
    def test_terminate_and_interrupt_end_in_order(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            node = self.node()
            family = processes.descendants(node.child.pid)
            self.assertEqual(len(family), 2)
            code, seconds = node.end_after(number, pause=0)
            self.assertEqual(code, 0, node.log())
            self.assertLess(seconds, 5 * PATIENCE)
            self.assertFalse([pid for pid in family if processes.alive(pid)])
            with self.assertRaises(OSError):
                node.connect()
            self.assertFalse(os.path.exists(os.path.join(node.folder, "run", "control")))

    @cost(6)
    def test_a_stopped_worker_is_killed_in_time(self):
        node = self.node()
        kill(node.worker(1), signal.SIGSTOP)
        code, seconds = node.end_after(signal.SIGTERM)
        self.assertEqual(code, 4)
        self.assertLess(seconds, 5 * PATIENCE)

    def test_second_signal_ends_at_once(self):
        node = self.node()
        kill(node.worker(1), signal.SIGSTOP)
        code, seconds = node.end_after(signal.SIGTERM, signal.SIGTERM)
        self.assertEqual(code, 4)
        self.assertLess(seconds, 1 * PATIENCE)

    def test_address_in_use_is_3_and_says_what_to_do(self):
        for reuse in (False, True):  # a program that shares the port must not get half of our clients either
            node = self.node(start=False)
            if not reuse:
                node.reserved[0].release()
            taken = socket.create_server(("127.0.0.1", node.port), reuse_port=reuse)
            done = run(SHOALD, "-c", node.file)
            taken.close()
            self.assertEqual(done.returncode, 3, done.stderr)
            for word in ("tcp:plain", "127.0.0.1:%d" % node.port, "in use", "ss -ltnp"):
                self.assertIn(word, done.stderr)

    def test_address_of_another_machine_is_3(self):
        node = self.node(start=False, listeners={"tcp:far": {"bind": "192.0.2.1:1883"}})
        done = run(SHOALD, "-c", node.file)
        self.assertEqual(done.returncode, 3)
        self.assertRegex(done.stderr, "tcp:far.*192.0.2.1:1883.*ip address")

    def test_one_shoald_per_data_dir(self):
        node = self.node()
        other = self.node(start=False, config={"node": {"data_dir": os.path.join(node.folder, "data")}})
        done = run(SHOALD, "-c", other.file)
        self.assertEqual(done.returncode, 3)
        self.assertRegex(done.stderr, "another shoald.*" + re.escape(os.path.join(node.folder, "data")))

    def test_foreign_folder_is_left_alone(self):
        folder = os.path.join(self.folder, "precious")
        os.mkdir(folder, 0o755)
        with open(os.path.join(folder, "letter"), "w"):
            pass
        node = self.node(start=False, config={"node": {"data_dir": folder}})
        done = run(SHOALD, "-c", node.file)
        self.assertEqual(done.returncode, 3)
        self.assertIn(folder, done.stderr)
        self.assertEqual(os.stat(folder).st_mode & 0o777, 0o755)

    def test_hangup_reloads_in_the_same_processes(self):
        node = self.node()
        before = node.worker_pids()
        kill(node.child.pid, signal.SIGHUP)
        node.wait_log("SIGHUP: reloaded, all workers serve")
        self.assertEqual(node.worker_pids(), before)

    def test_start_line_says_who_may_connect(self):
        node = self.node()
        self.assertRegex(node.log(), r"listener tcp:plain on 127.0.0.1:%d, anonymous clients" % node.port)
        self.assertRegex(node.log(), r"shoald \S+, node test, 2 workers, configuration " + re.escape(node.file))

    def test_json_log(self):
        node = self.node(start=False, config={"log": {"format": "json"}}, listeners={"tcp:shut": {}})
        node.config["listeners"]["tcp:shut"]["bind"] = "0.0.0.0:%d" % node.ports["tcp:shut"]  # a warning
        node.write_config()
        node.start()
        node.end_after(signal.SIGTERM)
        for line in node.log().splitlines():
            self.assertIn("process", json.loads(line))

    def test_blocked_standard_error_blocks_nobody(self):
        node = self.node(start=False)
        reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"x" * 512)
        except BlockingIOError:
            pass
        os.set_blocking(writer, True)
        process = subprocess.Popen([SHOALD, "-c", node.file], stdin=subprocess.DEVNULL, stderr=writer)
        os.close(writer)
        try:
            def all_run():
                done = run(SHOALCTL, "-c", node.file, "status", "--json")
                return done.returncode == 0 and all(entry["state"] == "running"
                                                    for entry in json.loads(done.stdout)["processes"])
            wait_for(all_run, "a node that runs", 10 * PATIENCE)
            process.send_signal(signal.SIGTERM)
            self.assertEqual(process.wait(6 * PATIENCE), 0)
        finally:
            os.close(reader)
            if process.poll() is None:
                process.kill()
                process.wait()


@only_shoal
class Supervision(MasterCase):
    def test_killed_worker_is_replaced_on_the_same_sockets(self):
        node = self.node()
        before, sockets = node.worker(0), node.listening_inodes(node.worker(0))
        self.assertEqual(len(sockets), 2)
        incarnation = node.status()["processes"][1]["incarnation"]
        began = time.monotonic()
        kill(before)
        connections = []
        while not (node.worker_pids()[0] or before) != before:
            connections.append(node.connect())  # none is refused
        after = node.worker(0)
        self.assertLess(time.monotonic() - began, 0.8 if SANITIZED else 0.2)
        self.assertNotEqual(after, before)
        wait_for(lambda: node.listening_inodes(after) == sockets, "the same sockets")
        for connection in connections + [node.connect() for _ in range(20)]:
            node.owner(connection)
            connection.close()
        entry = node.status()["processes"][1]
        self.assertEqual((entry["slot"], entry["pid"], entry["restarts"]), (0, after, 1))
        self.assertGreater(entry["incarnation"], incarnation)
        node.wait_log(r"worker 0 \(pid %d\) died by signal 9" % before)

    def test_crash_loop_is_served_by_a_sibling(self):
        node = self.node()
        survivor = node.worker(1)
        pid = None
        while "again and again" not in node.log():  # a SIGKILL counts as a crash when it comes early
            pid = wait_for(lambda: (found := node.worker_pids()[0]) and found != pid and found
                           or "again and again" in node.log() and pid, "worker 0")
            kill(pid) if processes.alive(pid) else None
            wait_for(lambda: not processes.alive(pid), "its end")
        node.wait_log("worker 0: dies again and again, next start in 1 s")
        node.wait_log("worker 0: worker 1 serves its sockets meanwhile")
        entry = node.status()["processes"][1]
        self.assertEqual((entry["state"], entry["served_by"], entry["pid"]), ("backed off", 1, None))
        connections = [node.connect() for _ in range(40)]
        for connection in connections:
            self.assertEqual(node.owner(connection, 0.8), survivor)
        back = node.wait_worker(0, pid, 3 * PATIENCE)
        wait_for(lambda: node.status()["processes"][1]["state"] == "running", "worker 0 serves again")
        self.assertIsNone(node.status()["processes"][1]["served_by"])
        for connection in connections:
            connection.close()
        owners = set()
        deadline = time.monotonic() + 5
        while owners != {back, survivor} and time.monotonic() < deadline:
            with node.connect() as connection:
                owners.add(node.owner(connection))
        self.assertEqual(owners, {back, survivor})

    def test_kills_in_the_middle_of_work_are_no_crash_loop(self):
        node = self.node()
        pid = None
        for _ in range(5):
            pid = node.wait_worker(0, pid)
            wait_for(lambda: node.status()["processes"][1]["state"] == "running", "worker 0 runs")
            time.sleep(0.4)
            began = time.monotonic()
            kill(pid)
            node.wait_worker(0, pid)
            self.assertLess(time.monotonic() - began, 0.8 if SANITIZED else 0.2)
        self.assertNotIn("again and again", node.log())

    @cost(14)
    def test_silent_worker_is_replaced_after_ten_seconds(self):
        node = self.node()
        before = node.stop_worker(0)
        time.sleep(8)
        self.assertTrue(processes.alive(before))
        node.wait_worker(0, before, 5 * PATIENCE)
        node.wait_log(r"worker 0 \(pid %d\) was killed: it did not answer for 10 s" % before)

    @cost(15)
    def test_stopped_master_blames_nobody(self):
        node = self.node()
        before = node.worker_pids()
        kill(node.child.pid, signal.SIGSTOP)
        time.sleep(12.5)
        with node.connect() as connection:  # the workers serve on
            node.owner(connection)
        kill(node.child.pid, signal.SIGCONT)
        node.wait_log("the master itself was not running")
        time.sleep(1.5)
        self.assertEqual(node.worker_pids(), before)

    def test_killed_master_takes_the_workers_along(self):
        node = self.node()
        family = processes.descendants(node.child.pid)
        node.child.process.kill()
        node.child.process.wait()
        wait_for(lambda: not any(processes.alive(pid) for pid in family), "workers end", 1.0 * PATIENCE)
        node.start()  # and a new one starts at once
        self.assertEqual(len(node.worker_pids()), 2)

    def test_restart_does_not_wait_for_nor_meet_old_workers(self):
        node = self.node()
        incarnations = [entry["incarnation"] for entry in node.status()["processes"][1:]]
        node.child.process.kill()
        node.child.process.wait()
        node.start()
        later = [entry["incarnation"] for entry in node.status()["processes"][1:]]
        self.assertGreater(min(later), max(incarnations))

    def test_stuck_worker_ends_with_its_master(self):
        """A worker that was stopped when the master died ends when it goes on."""
        node = self.node()
        pid = node.stop_worker(0)
        node.child.process.kill()
        node.child.process.wait()
        kill(pid, signal.SIGCONT)
        wait_for(lambda: not processes.alive(pid), "its end", 1.0 * PATIENCE)
        node.start()


@only_shoal
class Isolation(MasterCase):
    def test_master_has_one_thread(self):
        node = self.node()
        self.assertEqual(os.listdir("/proc/%d/task" % node.child.pid), [str(node.child.pid)])

    def test_worker_holds_only_what_it_needs(self):
        node = self.node()
        pid = node.worker(0)
        folder = "/proc/%d/fd" % pid
        held = {int(name): os.readlink(os.path.join(folder, name)) for name in os.listdir(folder)}
        self.assertEqual(held[0], "/dev/null")
        self.assertTrue(held[1] == held[2] and held[1].startswith("pipe:"), held)
        self.assertTrue(held[3].startswith("socket:"))
        self.assertEqual(os.readlink("/proc/%d/cwd" % pid), os.path.join(node.folder, "run"))
        lock = os.path.join(node.folder, "run", "lock")
        for number, target in held.items():
            kind = target.split(":")[0]
            self.assertTrue(kind in ("socket", "pipe", "anon_inode", "/dev/null") or target.startswith("/memfd:shoal-")
                            or target == lock, "descriptor %d is %s" % (number, target))
            if target.startswith("/memfd:"):
                self.assertNotRegex(target, "secrets|config")  # read and closed
        for number in held:
            with open("/proc/%d/fdinfo/%d" % (pid, number)) as info:
                flags = int(re.search(r"flags:\s*(\d+)", info.read()).group(1), 8)
            if number > 3:
                self.assertTrue(flags & O_CLOEXEC, "descriptor %d (%s)" % (number, held[number]))
        ports = node.listening_inodes(pid)
        self.assertEqual(sorted(ports), sorted([node.port, node.tls_port]))
        self.assertEqual([len(inodes) for inodes in ports.values()], [1, 1])
        master = processes.socket_inodes(node.child.pid)
        shared = processes.socket_inodes(pid) & master
        self.assertEqual(shared, set().union(*ports.values()))

    def test_worker_has_no_privileges(self):
        if os.geteuid() != 0:
            self.skipTest("root only")
        node = self.node()
        with open("/proc/%d/status" % node.worker(0)) as text:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in text if ":\t" in line)
        uid = os.stat(os.path.join(node.folder, "run")).st_uid
        self.assertNotEqual(uid, 0)
        self.assertEqual(status["Uid"].split(), [str(uid)] * 4)
        self.assertEqual(status["Groups"].strip(), "")
        self.assertEqual(int(status["CapEff"], 16) | int(status["CapPrm"], 16), 0)
        self.assertEqual(status["NoNewPrivs"], "1")
        with open("/proc/%d/limits" % node.worker(0)) as limits:
            self.assertRegex(limits.read(), r"Max core file size\s+0\s+0")
        for name in ("data", "run"):
            info = os.stat(os.path.join(node.folder, name))
            self.assertEqual((info.st_uid, info.st_mode & 0o777), (uid, 0o700))

    def test_no_byte_of_the_masters_heap_reaches_a_worker(self):
        """The password of a key is in the master's heap, and nowhere in a worker."""
        marker = "heap-marker-%d" % os.getpid()
        node = self.node(start=False)
        plain = node.config["listeners"]["ssl:tls"]["keyfile"]
        encrypted = os.path.join(self.folder, "encrypted.key")
        subprocess.run(["openssl", "pkey", "-in", plain, "-aes256", "-passout", "pass:" + marker, "-out", encrypted],
                       check=True, capture_output=True)
        node.config["listeners"]["ssl:tls"].update(keyfile=encrypted, password=marker)
        node.write_config()
        node.start()
        self.assertTrue(self.memory_has(node.child.pid, marker.encode()))
        for pid in node.worker_pids():
            self.assertFalse(self.memory_has(pid, marker.encode()))

    @staticmethod
    def memory_has(pid, marker):
        with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", 0) as memory:
            for line in maps:
                words = line.split()
                begin, end = (int(part, 16) for part in words[0].split("-"))
                if "r" not in words[1] or end - begin > 1 << 30 or line.rstrip().endswith(("[vvar]", "[vsyscall]")):
                    continue
                try:
                    memory.seek(begin)
                    if marker in memory.read(end - begin):
                        return True
                except (OSError, OverflowError, ValueError):
                    pass
        return False


@only_shoal
class Control(MasterCase):
    def test_status(self):
        node = self.node(3)
        status = node.status()
        roles = [(entry["role"], entry.get("slot")) for entry in status["processes"]]
        self.assertEqual(roles, [("master", None), ("worker", 0), ("worker", 1), ("worker", 2)])
        self.assertEqual(status["processes"][0]["pid"], node.child.pid)
        self.assertEqual([entry["pid"] for entry in status["processes"][1:]], node.worker_pids())
        self.assertEqual({entry["name"]: entry["address"] for entry in status["listeners"]},
                         {"tcp:plain": "127.0.0.1:%d" % node.port, "ssl:tls": "127.0.0.1:%d" % node.tls_port})
        self.assertEqual(len(status["slots"]), 3)
        self.assertEqual(len(status["lanes"]), 6)
        self.assertIn("connections_accepted", status["counters"])
        with node.connect(), node.connect():
            wait_for(lambda: node.counters()["connections"] == 2, "two connections counted")
            status = node.status()
            self.assertEqual(sum(entry["connections"] for entry in status["processes"][1:]), 2)
            self.assertEqual({entry["name"]: entry["connections"] for entry in status["listeners"]},
                             {"tcp:plain": 2, "ssl:tls": 0})
        wait_for(lambda: node.counters()["connections"] == 0, "no connection counted")
        text = node.control("status")
        for word in ("worker 2", "tcp:plain", "connections_accepted"):
            self.assertIn(word, text)

    def test_stop_waits_for_the_end(self):
        node = self.node()
        self.assertIn("stopped", node.control("stop"))
        self.assertEqual(node.child.wait(0.5 * PATIENCE), 0)
        node.start()  # at once, on the same folders and ports
        self.assertEqual(node.end_after(signal.SIGTERM)[0], 0)

    def test_no_node_is_told_plainly(self):
        node = self.node(start=False)
        done = run(SHOALCTL, "-c", node.file, "status")
        self.assertEqual(done.returncode, 3)
        self.assertIn("no node runs there", done.stderr)

    @cost(6)
    def test_stopped_master_does_not_hang_shoalctl(self):
        node = self.node()
        kill(node.child.pid, signal.SIGSTOP)
        began = time.monotonic()
        done = run(SHOALCTL, "-c", node.file, "status")
        kill(node.child.pid, signal.SIGCONT)
        self.assertEqual(done.returncode, 3)
        self.assertIn("no answer within 5 s", done.stderr)
        self.assertLess(time.monotonic() - began, 7 * PATIENCE)

    def test_socket_with_a_long_path(self):
        node = self.node()
        path = os.path.join(self.folder, *["deep" * 10] * 5)
        os.makedirs(path)
        os.symlink(os.path.join(node.folder, "run"), os.path.join(path, "run"))
        done = run(SHOALCTL, "--socket", os.path.join(path, "run", "control"), "status", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(json.loads(done.stdout)["ok"])

    def test_garbage_on_the_control_socket(self):
        node = self.node()
        path = os.path.join(node.folder, "run", "control")
        for garbage, answers in ((b"hello\n", True), (b"{\"command\":\"dance\"}\n", True), (b"x" * 8192, False),
                                 (b"", False)):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(path)
                try:
                    client.sendall(garbage)
                    client.shutdown(socket.SHUT_WR)
                    got = client.recv(4096)
                except ConnectionError:
                    got = b""
                self.assertEqual(bool(got), answers, garbage[:20])
                if got:
                    self.assertFalse(json.loads(got)["ok"])
        self.assertTrue(node.status()["ok"])

    def test_strangers_get_no_answer(self):
        if os.geteuid() != 0:
            self.skipTest("root only")
        node = self.node()
        os.chmod(os.path.join(node.folder, "run"), 0o777)  # the folder is the first guard, this is the second
        os.chmod(os.path.join(node.folder, "run", "control"), 0o777)
        tool = shutil.copy(SHOALCTL, node.folder)  # the build folder may be one that only root can enter
        done = subprocess.run([tool, "--socket", os.path.join(node.folder, "run", "control"), "status"], user=2,
                              capture_output=True, text=True, timeout=10 * PATIENCE, check=False)
        self.assertEqual(done.returncode, 3, done.stdout)
        self.assertNotIn("worker", done.stdout)

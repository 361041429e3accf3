"""
A broker under test: writes its configuration, starts it, knows its workers, kills and stops them, and checks at
the end that it left nothing behind. Mosquitto stands in with the same interface, to try the tests themselves.
"""
import json
import os
import re
import signal
import socket
import subprocess

from . import certificates, environment, processes
from .client import Client, Closed, Timeout, tcp
from .environment import BIN, DEADLINE
from .processes import wait_for


class Port:
    """A free port of 127.0.0.1, reserved for as long as this object lives by a socket that never listens."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # shoald insists on being the only listener
        self.socket.bind(("127.0.0.1", 0))
        self.number = self.socket.getsockname()[1]

    def release(self):
        self.socket.close()


def merge(into, more):
    """Deep merge of dictionaries; None removes a key."""
    for key, value in more.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value
    return into


class Broker:
    """
    Broker(folder, workers=2, config={"mqtt": {...}}, tls={"verify": "verify_peer"}, listeners={"tcp:b": {...}})

    Listeners: tcp:plain on self.port, ssl:tls on self.tls_port; more by `listeners`, their ports in self.ports, the
    paths of Unix sockets in self.paths.
    """

    program = BIN / "shoald"

    def __init__(self, folder, workers=1, config=None, tls=None, listeners=None, start=True):
        self.folder, self.workers = folder, workers
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)
        self.certificates = certificates.make()
        self.reserved, self.ports, self.paths = [], {}, {}
        self.child = None
        self.placement, self.homes = None, {}  # of clients that come back (`reconnects` in case.py); client → slot
        self.made = []  # every client: one that is collected would close its connection
        self.expected_reports = False
        self.config = self._configuration(config or {}, tls or {}, listeners or {})
        self.port, self.tls_port = self.ports["tcp:plain"], self.ports["ssl:tls"]
        self.file = os.path.join(folder, "shoal.json")
        self.log_file = os.path.join(folder, "broker.log")
        self.write_config()
        if start:
            self.start()

    # Configuration --------------------------------------------------------------------------------------------
    def _listener(self, key, settings):
        if key.startswith("unix:"):
            self.paths[key] = os.path.join(self.folder, key[5:] + ".sock")
            return merge({"bind": self.paths[key]}, settings)
        reservation = Port()
        self.reserved.append(reservation)
        self.ports[key] = reservation.number
        listener = {"bind": "127.0.0.1:%d" % reservation.number}
        if key.startswith(("ssl:", "wss:")):
            made = self.certificates
            listener.update(keyfile=made.path("server.key"), certfile=made.path("server.pem"),
                            cacertfile=made.path("ca.pem"))
        return merge(listener, settings)

    def _configuration(self, config, tls, listeners):
        wanted = {"tcp:plain": {}, "ssl:tls": tls}
        wanted.update(listeners)
        made = {
            "node": {"name": "test", "workers": self.workers, "data_dir": os.path.join(self.folder, "data"),
                     "run_dir": os.path.join(self.folder, "run")},
            "listeners": {key: self._listener(key, settings) for key, settings in wanted.items()},
            "log": {"level": "debug"},
        }
        if environment.CARRIER is not None:
            made["bus"] = {"carrier": environment.CARRIER}
        return merge(made, config)

    def write_config(self):
        with open(self.file, "w") as out:
            json.dump(self.config, out, indent=1)

    def source(self):
        """Where the programs find the configuration, on their command lines."""
        return ["-c", self.file]

    # Start and stop --------------------------------------------------------------------------------------------
    def start(self, probe=True):
        """probe: also wait until a client without credentials is served."""
        self.child = processes.Child([self.program, *self.source()], self.log_file, env={
            "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"})
        self.wait_ready()
        if probe:
            with Client(self.port, 4, "ready") as client:
                client.connect()
                client.disconnect()

    def wait_ready(self, timeout=DEADLINE):
        """Until every worker runs."""
        def ready():
            if not self.child.running():
                raise AssertionError("the broker ended with %s:\n%s" % (self.child.process.returncode, self.log()))
            states = [entry["state"] for entry in self.status()["processes"] if entry["role"] == "worker"]
            return states == ["running"] * self.workers
        wait_for(lambda: os.path.exists(os.path.join(self.folder, "run", "control")) or not self.child.running(),
                 "the control socket", timeout)
        wait_for(ready, lambda: "%d workers ready\n%s" % (self.workers, self.log()), timeout)

    def stop(self, how=signal.SIGTERM, timeout=6.0 * environment.PATIENCE):
        """Ends the broker and checks: exit code 0, no process left, no sanitizer report."""
        if self.child is None:
            return
        child, self.child = self.child, None
        family = processes.descendants(child.pid)
        problems = []
        if child.running():
            for pid in family:
                if processes.state(pid) == "T":
                    processes.end(pid, signal.SIGCONT)
            os.kill(child.pid, how)
            try:
                code = child.wait(timeout)
                if code:
                    problems.append("exit code %d" % code)
            except subprocess.TimeoutExpired:
                problems.append("did not end within %.0f s of signal %d" % (timeout, how))
                child.kill()
        else:
            problems.append("had ended by itself with %d" % child.process.returncode)
        for pid in family:
            try:
                wait_for(lambda pid=pid: not processes.alive(pid), "", 1.0)
            except AssertionError:
                problems.append("left process %d (%s)" % (pid, processes.command_line(pid)))
                processes.end(pid)
        report = processes.sanitizer_report(self.log())
        if report and not self.expected_reports:
            problems.append("its log has a report:\n" + report)
        for reservation in self.reserved:
            reservation.release()
        if problems:
            raise AssertionError("the broker " + "; ".join(problems))

    # What it says ----------------------------------------------------------------------------------------------
    def log(self):
        try:
            with open(self.log_file, errors="replace") as text:
                return text.read()
        except OSError:
            return ""

    def log_mark(self):
        return len(self.log())

    def wait_log(self, pattern, since=0, timeout=DEADLINE):
        """Waits for a line that matches the regular expression (case-insensitive), after `since`."""
        def found():
            return re.search("^.*(?:%s).*$" % pattern, self.log()[since:], re.IGNORECASE | re.MULTILINE)
        return wait_for(found, lambda: "a log line with %r in:\n%s" % (pattern, self.log()[since:]), timeout).group(0)

    def control(self, *words, check=True):
        """Runs shoalctl, returns its output."""
        done = subprocess.run([str(BIN / "shoalctl"), *self.source(), *words], capture_output=True, text=True,
                              timeout=DEADLINE, check=False)
        if check and done.returncode:
            raise AssertionError("shoalctl %s: %d\n%s%s" % (words, done.returncode, done.stdout, done.stderr))
        return done.stdout

    def status(self):
        """What `shoalctl status --json` shows; empty lists while the control socket is not there yet."""
        text = self.control("status", "--json", check=False)
        return json.loads(text) if text.startswith("{") else {"processes": [], "counters": {}, "slots": []}

    def counters(self):
        """Sums over all slots: name → value."""
        return self.status()["counters"]

    def counter(self, name):
        return self.counters()[name]

    # Workers -----------------------------------------------------------------------------------------------------
    def worker_pids(self):
        """Process identifiers by slot; None where a slot has no process now."""
        pids = [None] * self.workers
        for pid in processes.children(self.child.pid):
            match = re.search(r"worker (\d+)", processes.command_line(pid))
            if match and int(match.group(1)) < self.workers:
                pids[int(match.group(1))] = pid
        return pids

    def worker(self, slot):
        pid = self.worker_pids()[slot]
        assert pid, "slot %d has no worker" % slot
        return pid

    def kill_worker(self, slot):
        pid = self.worker(slot)
        os.kill(pid, signal.SIGKILL)
        return pid

    def stop_worker(self, slot):
        pid = self.worker(slot)
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: processes.state(pid) == "T", "worker stopped")
        return pid

    def wait_worker(self, slot, other_than=None, timeout=DEADLINE):
        """Waits until the slot has a worker (another one than before)."""
        return wait_for(lambda: (pid := self.worker_pids()[slot]) and pid != other_than and pid,
                        "a new worker in slot %d" % slot, timeout)

    # Connections and where they sit -------------------------------------------------------------------------------
    def slots(self, clients):
        """The slot of each client's connection, found through /proc: who holds the server's end."""
        owners = {}
        for slot, pid in enumerate(self.worker_pids()):
            for inode in processes.socket_inodes(pid) if pid else ():
                owners[inode] = slot
        return [owners.get(self._server_inode(client.local_port())) for client in clients]

    def _server_inode(self, client_port):
        return next((inode for port in self.ports.values() if (inode := processes.server_inode(port, client_port))), None)

    def slot(self, client, timeout=DEADLINE):
        return wait_for(lambda: (found := self.slots([client])[0]) is not None and (found + 1),
                        "the connection accepted by a worker", timeout) - 1

    def _lands_on(self, sock, slot):
        """Has this connection's worker the wanted slot? A stopped worker accepts nothing: no."""
        if slot is None or self.workers == 1:
            return True
        try:
            return self.slot(_Bare(sock), 0.3 * environment.PATIENCE) == slot
        except AssertionError:
            return False

    def _place(self, client_id):
        """The slot for a client if the test left it to `reconnects`, else None: any."""
        if self.placement is None:
            return None
        home = self.homes.get(client_id)
        if home is None:
            return len(self.homes) % self.workers
        return home if self.placement == "same" else (home + 1) % self.workers

    def client(self, client_id="", version=5, slot=None, tls=False, connect=True, port=None, tries=200, **fields):
        """A connected client, on the wanted slot if one is given: connects until it lands there."""
        context = self.certificates.client_context() if tls is True else tls or None
        port = port or (self.tls_port if tls else self.port)
        slot = self._place(client_id) if slot is None else slot
        for _ in range(tries):
            sock = tcp(port)
            if not self._lands_on(sock, slot):
                sock.close()
                continue
            made = Client(port, version, client_id, context, sock)
            self.made.append(made)
            if connect:
                made.connect(**fields)
            self.homes[made.client_id] = slot
            return made
        raise AssertionError("no connection of %d landed on slot %d" % (tries, slot))


class _Bare:
    """A socket in the place of a client."""

    def __init__(self, sock):
        self.sock = sock

    def local_port(self):
        return self.sock.getsockname()[1]


class Mosquitto(Broker):
    """Debian's mosquitto in Shoal's place: one process, so one slot."""

    def start(self, probe=True):
        for reservation in self.reserved:
            reservation.release()
        lines = ["user root", "per_listener_settings false", "allow_anonymous true", "log_type all", "max_inflight_messages 100",
                 "max_queued_messages 100000"]
        for key, listener in self.config["listeners"].items():
            lines += ["listener %d 127.0.0.1" % self.ports[key]]
            if key.startswith("ssl:"):
                lines += ["keyfile " + listener["keyfile"], "certfile " + listener["certfile"],
                          "cafile " + listener["cacertfile"],
                          "require_certificate %s" % str(listener.get("fail_if_no_peer_cert", False)).lower()]
        self.workers = 1
        configuration = os.path.join(self.folder, "mosquitto.conf")
        with open(configuration, "w") as out:
            out.write("\n".join(lines) + "\n")
        self.child = processes.Child(["mosquitto", "-c", configuration], self.log_file)
        self.wait_ready()

    def wait_ready(self, timeout=DEADLINE):
        def answers():
            try:
                with Client(self.port, 4, "ready") as probe:
                    probe.connect()
                return True
            except (OSError, Closed, Timeout):
                return False
        wait_for(answers, "mosquitto answers", timeout)

    def worker_pids(self):
        return [self.child.pid]

    def slot(self, client, timeout=DEADLINE):
        return 0


def broker_class():
    return Mosquitto if environment.BROKER == "mosquitto" else Broker

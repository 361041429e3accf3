"""
Several nodes under test as one broker: the cluster file, certificates of a CA of their own, a wire between each pair
of nodes that the test may cut, hold up, and slow down, and what each node says of the others.
"""
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import threading
import time

from . import environment, processes
from .broker import Broker, Port, merge
from .environment import DEADLINE
from .processes import wait_for


class Wire:
    """
    A TCP proxy in front of one node's inbox, for what one other node sends to it. open, cut (connections end, new ones
    are refused at once), held (nothing passes, nothing ends), or `delay` seconds late.
    """

    def __init__(self, target):
        self.target, self.state, self.delay, self.passed = target, "open", 0.0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pairs, self.lock, self.ended = [], threading.Lock(), False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self.ended:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            try:
                if self.state == "cut":
                    raise OSError("cut")
                other = socket.create_connection(("127.0.0.1", self.target), 1)
                other.settimeout(None)
                for end in (sock, other):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                sock.close()
                continue
            with self.lock:
                self.pairs.append((sock, other))
            for source, sink in ((sock, other), (other, sock)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source, sink):
        """One direction. The sockets are shut down here, never closed: the other direction may be reading."""
        try:
            while True:
                data = source.recv(65536)
                while self.state == "held" and not self.ended:
                    time.sleep(0.01)
                if self.delay:
                    time.sleep(self.delay)
                if not data or self.state == "cut":
                    break
                sink.sendall(data)
                self.passed += len(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        self.state = "cut"
        self.sever()

    def sever(self):
        """Ends the connections that there are, wherever they are in a record."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def hold(self):
        self.state = "held"

    def heal(self):
        self.state = "open"

    def close(self):
        self.ended = True
        self.listener.close()
        self.sever()


class Authority:
    """The cluster's CA, or a stranger's."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = folder, name
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.path(name + ".key"))
        self._openssl("req", "-x509", "-new", "-key", self.path(name + ".key"), "-days", "30", "-out",
                      self.path(name + ".pem"), "-subj", "/CN=" + name)

    def path(self, file):
        return os.path.join(self.folder, file)

    def _openssl(self, *words):
        subprocess.run(["openssl", *words], check=True, capture_output=True)

    def issue(self, file, name, days=30):
        """FILE.key and FILE.pem, naming NAME; valid until in `days` from now, which may lie in the past."""
        key, request, made = (self.path(file + end) for end in (".key", ".csr", ".pem"))
        extension = self.path(file + ".ext")
        with open(extension, "w") as out:
            out.write("subjectAltName = DNS:%s\n" % name)
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        self._openssl("req", "-new", "-key", key, "-out", request, "-subj", "/CN=" + name)
        self._openssl("x509", "-req", "-in", request, "-CA", self.path(self.name + ".pem"), "-CAkey",
                      self.path(self.name + ".key"), "-CAcreateserial", "-out", made, "-days", str(days), "-extfile", extension)


class Node(Broker):
    """One node of a cluster."""

    def __init__(self, cluster, name, **settings):
        self.cluster, self.name = cluster, name
        super().__init__(os.path.join(cluster.folder, name), start=False, **settings)

    def write_config(self):
        self.file = os.path.join(self.folder, "cluster.json")
        with open(self.file, "w") as out:
            json.dump(self.cluster.document(self), out, indent=1)

    def source(self):
        return ["--cluster", self.file, "--node", self.name]

    def others(self):
        """name → what the node says of that node."""
        return {entry["name"]: entry for entry in self.status().get("cluster", {}).get("nodes", [])
                if entry["name"] != self.name}

    def wait_joined(self, *names, state="joined", timeout=DEADLINE):
        wait_for(lambda: all(self.others().get(name, {}).get("state") == state for name in names),
                 lambda: "node %s sees %s %s; it sees %r\n%s" % (self.name, names, state, self.others(), self.log()), timeout)

    def link(self):
        return next(pid for pid in processes.children(self.child.pid) if "link" in processes.command_line(pid))

    def kill_link(self):
        pid = self.link()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: any("link" in processes.command_line(other) and other != pid
                             for other in processes.children(self.child.pid)), "another link")

    def kill(self):
        """The machine is gone: all processes of the node at once."""
        family = [self.child.pid, *processes.descendants(self.child.pid)]
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        self.child.wait(DEADLINE)
        for pid in family[1:]:
            wait_for(lambda pid=pid: not processes.alive(pid), "the node's processes gone")
        self.child = None


class Cluster:
    """Cluster(case, nodes=3, workers=2): all started and joined unless start=False."""

    def __init__(self, case, nodes=3, workers=2, config=None, start=True):
        self.case, self.folder = case, os.path.join(case.folder, "cluster")
        os.makedirs(self.folder)
        self.authority = Authority(self.folder)
        self.names = ["n%d" % (number + 1) for number in range(nodes)]
        self.inboxes = {name: Port() for name in self.names}
        self.wires = {(a, b): Wire(self.inboxes[b].number) for a in self.names for b in self.names if a != b}
        self.nodes = []
        for name in self.names:
            self.authority.issue(name, name)
        for name in self.names:
            node = Node(self, name, workers=workers, config=config)
            self.nodes.append(node)
            case.brokers.append(node)
        case.addCleanup(self.close)
        if start:
            self.start()

    def close(self):
        for wire in self.wires.values():
            wire.close()
        for port in self.inboxes.values():
            port.release()

    def document(self, node):
        """The cluster file of this node: the others' addresses are its wires to them."""
        entries = []
        for name in self.names:
            port = self.inboxes[name].number if name == node.name else self.wires[node.name, name].port
            entry = {"name": name, "bus": "127.0.0.1:%d" % port}
            if name == node.name:
                own = dict(node.config)
                own["node"] = {key: value for key, value in own["node"].items() if key != "name"}
                merge(entry, {key: value for key, value in own.items() if key != "bus"})
            entries.append(entry)
        bus = {"keyfile": self.authority.path("%n.key"), "certfile": self.authority.path("%n.pem"),
               "cacertfile": self.authority.path("ca.pem"), **node.config.get("bus", {})}
        return {"cluster": "test", "bus": bus, "nodes": entries}

    def start(self, *nodes):
        for node in nodes or self.nodes:
            node.write_config()
            node.start()
        self.wait_joined(*(nodes or self.nodes))

    def wait_joined(self, *nodes, timeout=DEADLINE):
        nodes = nodes or [node for node in self.nodes if node.child]
        names = [node.name for node in self.nodes if node.child]
        for node in nodes:
            node.wait_joined(*(name for name in names if name != node.name), timeout=timeout)

    def between(self, one, other):
        """The wires of both directions."""
        return [self.wires[one.name, other.name], self.wires[other.name, one.name]]

    def isolate(self, node):
        for other in self.nodes:
            if other is not node:
                for wire in self.between(node, other):
                    wire.cut()

    def heal(self):
        for wire in self.wires.values():
            wire.heal()

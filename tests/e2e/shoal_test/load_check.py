"""
shoal-load-check, the load checker in C (tests/load/), under a test's control: many clients with exact books, while
the test kills and stops workers. Knows which worker each connection sat on, and what the log says of replacements.
"""
import datetime
import json
import os
import random
import re
import signal
import subprocess
import time

from . import environment, processes
from .environment import BIN, PATIENCE
from .processes import wait_for


class LoadCheck:
    """
    check = LoadCheck(broker, seed, clients=200, rate=4000, …): the options of shoal-load-check, `_` for `-`. Starts at
    once and waits until all clients are served; publishing goes on until finish().
    """

    def __init__(self, broker, seed, seconds=3600, **options):
        self.broker, self.random = broker, random.Random(seed)
        self.output = os.path.join(broker.folder, "load%d.json" % time.monotonic_ns())
        self.hosts = {}     # client's port → [(seen when, pid of the worker that serves it), …]
        self.ended = {}     # pid → when we killed it (or somebody)
        self.slots = {}     # pid → slot
        words = {"port": broker.port, "tls_port": broker.tls_port, "seconds": seconds,
                 "patience": int(20 * PATIENCE), "seed": seed % (1 << 32), **options}
        arguments = [str(BIN / "shoal-load-check")]
        for name, value in words.items():
            arguments += ["--" + name.replace("_", "-"), str(value)]
        with open(self.output, "wb") as out:
            self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=out)
        self._wait("ready", 30 * PATIENCE)

    def _event(self, name):
        with open(self.output) as text:
            for line in text:
                if line.startswith('{"event"') and line.endswith("\n"):
                    event = json.loads(line)
                    if event["event"] == name:
                        return event
        if self.process.poll() is not None:
            raise AssertionError("shoal-load-check ended with %d" % self.process.returncode)
        return None

    def _wait(self, name, timeout):
        return wait_for(lambda: self._event(name), "«%s» from shoal-load-check" % name, timeout, 0.05)

    def map(self):
        """Notes which worker holds which connection now."""
        owners, now = {}, time.monotonic()
        for slot, pid in enumerate(self.broker.worker_pids()):
            if pid is None:
                continue
            self.slots[pid] = slot
            for inode in processes.socket_inodes(pid):
                owners[inode] = pid
        for port, inode in processes.server_inodes(set(self.broker.ports.values())).items():
            if inode in owners:
                self.hosts.setdefault(port, []).append((now, owners[inode]))

    def host(self, port, opened_us, ended=float("inf")):
        """The worker of a connection that was open between these times, None if it was never looked at."""
        for seen, pid in self.hosts.get(port, ()):
            if opened_us / 1e6 < seen < ended:
                return pid
        return None

    def kill(self, slots=None):
        """kill -9 of a random worker (among `slots`), if it lives. Returns its slot or None."""
        slot = self.random.choice(slots or range(self.broker.workers))
        pid = self.broker.worker_pids()[slot]
        if pid is None:
            return None
        self.map()
        self.ended[pid] = time.monotonic()
        processes.end(pid)
        return slot

    def pause(self, low, high):
        time.sleep(self.random.uniform(low, high))

    def finish(self, timeout=60.0):
        """Ends publishing, waits for the verdict; all clients are still connected then. Returns the summary."""
        if self._event("published") is None:
            self.process.stdin.write(b"stop\n")
            self.process.stdin.flush()
        summary = self._wait("summary", timeout * PATIENCE)
        self.map()
        for client in summary["clients"]:
            client["slot"] = self.slots.get(self.host(client["port"], client["opened_us"]))
        summary["counters"] = self.broker.counters()
        self.process.stdin.close()
        self.process.wait(10 * PATIENCE)
        return summary

    def unexplained(self, summary):
        """Connections that ended although nobody killed their worker, nor their own client opened two at once."""
        found = []
        for loss in summary["losses"]:
            if loss["overtaken"]:
                continue
            at = loss["at_us"] / 1e6
            host = self.host(loss["port"], loss["opened_us"], at)
            near = any(when - 1.0 <= at < when + 3 * PATIENCE for when in self.ended.values())
            if host not in self.ended and (host is not None or not near):
                found.append(loss)
        return found

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def replacements(log):
    """Seconds from each worker's death to the next «serves» of its slot, from the log."""
    died, took = {}, []
    for line in log.splitlines():
        match = re.match(r"(\S+) \w+ +master: worker (\d+) \(pid \d+\) (died by signal 9|serves)", line)
        if not match:
            continue
        when = datetime.datetime.fromisoformat(match[1].replace("Z", "+00:00")).timestamp()
        if match[3] != "serves":
            died.setdefault(match[2], []).append(when)  # it may die again before it serves
        else:
            took += [when - death for death in died.pop(match[2], [])]
    return sorted(took)


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: processes.state(pid) == "T", "the worker stopped")


def resume(pid):
    processes.end(pid, signal.SIGCONT)


SLOWER = 3.0 if environment.SANITIZED else 1.0

"""
Processes that a test starts, and what /proc tells about them: children, connections' owners, memory. All are
ended by their process identifier; a subreaper finds those that a broker left behind.
"""
import ctypes
import os
import re
import signal
import socket
import struct
import subprocess
import time

from .environment import DEADLINE

SANITIZER_MARKS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "Assertion `",
                   "AddressSanitizer:DEADLYSIGNAL")
_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    """Orphans of our children become ours, so that none escapes."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid):
    """Living children of a process; zombies do not count."""
    found = []
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task)) as listing:
                found += [int(word) for word in listing.read().split()]
    except OSError:
        return []
    return [child for child in found if alive(child)]


def state(pid):
    """The letter of /proc/PID/stat: R, S, T (stopped), Z (zombie) …; empty: no such process."""
    try:
        with open("/proc/%d/stat" % pid) as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid):
    return state(pid) not in ("", "Z", "X")


def descendants(pid):
    found = []
    for child in children(pid):
        found += [child] + descendants(child)
    return found


def command_line(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as listing:
            return listing.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def socket_inodes(pid):
    """Inodes of the sockets that a process holds."""
    found = set()
    try:
        for name in os.listdir("/proc/%d/fd" % pid):
            try:
                target = os.readlink("/proc/%d/fd/%s" % (pid, name))
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(int(target[8:-1]))
    except OSError:
        pass
    return found


_DIAG_REQUEST = struct.Struct("=IHHII BBBBI HH")  # netlink header, then inet_diag_req_v2 up to the addresses
_SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _ANY_STATE = 20, 1, 0xFFFFFFFF


def server_inode(server_port, client_port):
    """
    Inode of the server's end of a connection over 127.0.0.1; None: there is none. Asks sock_diag, since /proc/net/tcp
    takes long to read beside thousands of other connections. 0: not accepted yet.
    """
    request = _DIAG_REQUEST.pack(72, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0, socket.AF_INET, socket.IPPROTO_TCP, 0, 0,
                                 _ANY_STATE, socket.htons(server_port), socket.htons(client_port))
    loopback = socket.inet_aton("127.0.0.1") + bytes(12)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as diag:  # NETLINK_SOCK_DIAG
        diag.sendto(request + loopback + loopback + bytes(4) + b"\xff" * 8, (0, 0))
        answer = diag.recv(4096)
    if struct.unpack_from("=H", answer, 4)[0] != _SOCK_DIAG_BY_FAMILY:
        return None
    return struct.unpack_from("=I", answer, 16 + 68)[0]


def server_inodes(ports):
    """Client's port → inode of the server's end, for established connections to these loopback ports."""
    found = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table) as rows:
                next(rows)
                for row in rows:
                    words = row.split()
                    if int(words[1].rpartition(":")[2], 16) in ports and words[3] in ("01", "08"):
                        found[int(words[2].rpartition(":")[2], 16)] = int(words[9])
        except OSError:
            pass
    return found


def client_port(pid):
    """The local port of the one TCP connection that a client program holds (it may have children: stdbuf)."""
    inodes = socket_inodes(pid).union(*(socket_inodes(child) for child in descendants(pid)))
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as rows:
            next(rows)
            for row in rows:
                words = row.split()
                if int(words[9]) in inodes and words[3] == "01":
                    return int(words[1].rpartition(":")[2], 16)
    raise AssertionError("process %d has no connection" % pid)


def private_memory(pid):
    """Bytes of heap and anonymous memory that only this process holds: not its mappings of files and memfds."""
    total, anonymous = 0, False
    with open("/proc/%d/smaps" % pid) as rows:
        for row in rows:
            words = row.split()
            if not words[0].endswith(":"):
                anonymous = len(words) < 6 or words[5].startswith("[")
            elif anonymous and words[0] in ("Private_Clean:", "Private_Dirty:"):
                total += int(words[1]) * 1024
    return total


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as stat:
        words = stat.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def wait_for(condition, what, timeout=DEADLINE, step=0.01):
    """Polls until condition() is true and returns its value; AssertionError after the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("not within %.1f s: %s" % (timeout, what() if callable(what) else what))
        time.sleep(step)


def end(pid, how=signal.SIGKILL):
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        pass


class Child:
    """A started program with its output in a file."""

    def __init__(self, arguments, log, env=None, cwd=None):
        self.arguments, self.log = [str(word) for word in arguments], log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            env=dict(os.environ, **(env or {})), cwd=cwd)
        self.pid = self.process.pid

    def output(self):
        with open(self.log, errors="replace") as text:
            return text.read()

    def running(self):
        return self.process.poll() is None

    def wait(self, timeout=DEADLINE):
        return self.process.wait(timeout)

    def wait_output(self, pattern, timeout=DEADLINE):
        """Waits until the output has a match of the regular expression; returns the match."""
        def found():
            match = re.search(pattern, self.output())
            if not match and not self.running() and not re.search(pattern, self.output()):
                raise AssertionError("%s ended (%s) without %r:\n%s"
                                     % (self.arguments[0], self.process.returncode, pattern, self.output()))
            return match
        return wait_for(found, lambda: "%r in the output of %s:\n%s" % (pattern, self.arguments[0], self.output()),
                        timeout)

    def kill(self):
        """Ends the process and whatever it started."""
        pids = descendants(self.pid)
        if self.running():
            end(self.pid)
            self.process.wait()
        for pid in pids:
            end(pid)


def sanitizer_report(output):
    """The first lines of a sanitizer's report or a failed assertion in some output, or None."""
    for mark in SANITIZER_MARKS:
        at = output.find(mark)
        if at >= 0:
            return output[max(0, at - 200):at + 4000]
    return None

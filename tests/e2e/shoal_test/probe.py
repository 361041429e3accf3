"""
How late the machine itself is, measured beside a test that times a node: PINGREQ and PINGRESP on a connection of their own
to each worker that nobody holds up, which need no other worker. What they take is what the machine takes.
"""
import threading
import time

# Turns of loops and processes that the longest timed exchange takes one after the other: a TLS handshake's two, CONNECT,
# the claim's way to its registrar and back, and the client's own.
STEPS = 6
FLOOR_S = 0.1  # ticks of 50 ms, in which time-outs are seen


class Probe:
    """
    with Probe(broker, slots) as probe: …
    Afterwards probe.late: what a bound may be exceeded by.
    """

    def __init__(self, broker, slots):
        self.clients = [broker.client("probe%d" % slot, slot=slot) for slot in slots]
        self.worst = 0.0
        self.failure = None
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            while not self.ending.wait(0.005):
                for client in self.clients:
                    begin = time.monotonic()
                    client.ping(30)
                    self.worst = max(self.worst, time.monotonic() - begin)
        except (OSError, AssertionError) as failure:
            self.failure = failure

    @property
    def late(self):
        return FLOOR_S + STEPS * self.worst

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()
        if self.failure is not None:
            raise AssertionError("a worker that nobody held up did not answer a ping: %s" % self.failure)

"""
The base of all test cases: brokers that end with the test, one folder per test, variants by worker count.
"""
import functools
import inspect
import os
import shutil
import tempfile
import unittest

from . import environment, processes
from .broker import broker_class


def workers(*counts):
    """The test gets a broker's worker count as its argument, once for each count, as a test of its own."""
    def mark(function):
        function.worker_counts = counts
        return function
    return mark


def reconnects(*counts):
    """
    Session behaviour: like `workers`, and with several workers twice: what a client does again with the same identifier
    happens on the same worker («_same») or on another one («_other»), unless the test names the slot itself. Different
    clients begin on different workers. (1, 2) if no counts are given.
    """
    def mark(function):
        function.reconnect_counts = counts or (1, 2)
        return function
    return mark


def cost(seconds, heavy=False):
    """What the runner should know: about how long the test takes, and whether it needs the machine for itself."""
    def mark(function):
        function.cost_seconds, function.heavy = seconds, heavy
        return function
    return mark


def only_long(function):
    """Part of the long run alone."""
    function.only_long = True
    return function


def only_plain(function):
    """Not under sanitizers: it measures memory or bounds that they change."""
    function.only_plain = True
    return function


def only_shoal(marked):
    """The test, or all of a class, needs what mosquitto, the stand-in, does not have."""
    tests = [marked] if not isinstance(marked, type) else \
        [entry for name, entry in vars(marked).items() if name.startswith("test")]
    for function in tests:
        function.only_shoal = True
    return marked


def _variants(function):
    """(worker count, placement) of each test that this one stands for."""
    found = [(count, None) for count in getattr(function, "worker_counts", ())]
    for count in getattr(function, "reconnect_counts", ()):
        found += [(count, None)] if count == 1 else [(count, "other")] if count > 2 else [(count, "same"), (count, "other")]
    return found


def _variant(function, count, placement):
    arguments = (count,) if len(inspect.signature(function).parameters) > 1 else ()

    @functools.wraps(function)
    def run(self):
        self.usual_workers, self.placement = count, placement
        return function(self, *arguments)
    run.__name__ = "%s__%d_worker%s%s" % (function.__name__, count, "" if count == 1 else "s",
                                          "_" + placement if placement else "")
    return run


class Case(unittest.TestCase):
    maxDiff = 2000
    usual_workers, placement = 1, None  # of the brokers that it starts; see `reconnects`

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name, function in list(vars(cls).items()):
            for count, placement in _variants(function):
                made = _variant(function, count, placement)
                setattr(cls, made.__name__, made)
            if _variants(function):
                delattr(cls, name)

    def setUp(self):
        base = os.environ.get("SHOAL_TEST_WORK", tempfile.gettempdir())
        self.folder = tempfile.mkdtemp(prefix="t", dir=base)
        os.chmod(self.folder, 0o755)
        self.brokers, self.clients = [], []
        self.addCleanup(self._clean)

    def _clean(self):
        problems = []
        for broker in self.brokers:
            for client in broker.made:
                client.drop()
            try:
                broker.stop()
            except AssertionError as error:
                problems.append(str(error))
        failed = problems or any(error for _, error in getattr(self._outcome, "errors", []) or
                                 getattr(getattr(self._outcome, "result", None), "failures", []) or
                                 getattr(getattr(self._outcome, "result", None), "errors", []))
        if failed:
            for broker in self.brokers:
                print("--- log of the broker (%s)\n%s" % (broker.log_file, _shortened(broker.log())))
        if not environment.KEEP:
            shutil.rmtree(self.folder, ignore_errors=True)
        if problems:
            self.fail("\n".join(problems))

    def broker(self, workers=None, **settings):
        """A started broker (start=False: only configured) that is stopped and checked when the test ends."""
        folder = os.path.join(self.folder, "b%d" % len(self.brokers))
        made = broker_class()(folder, workers or self.usual_workers, start=False,
                              **{k: v for k, v in settings.items() if k != "start"})
        made.placement = self.placement
        self.brokers.append(made)
        if settings.get("start", True):
            made.start()
        return made

    wait_for = staticmethod(processes.wait_for)


def _shortened(text, limit=60000):
    if len(text) <= limit:
        return text
    return text[:limit // 3] + "\n… %d bytes …\n" % (len(text) - limit) + text[-limit * 2 // 3:]

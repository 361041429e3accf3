"""
The base of all test cases: brokers that end with the test, one folder per test, variants by worker count.
"""
import functools
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


def _variant(function, count):
    @functools.wraps(function)
    def run(self):
        return function(self, count)
    run.__name__ = "%s__%d_worker%s" % (function.__name__, count, "" if count == 1 else "s")
    return run


class Case(unittest.TestCase):
    maxDiff = 2000

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name, function in list(vars(cls).items()):
            for count in getattr(function, "worker_counts", ()):
                made = _variant(function, count)
                setattr(cls, made.__name__, made)
            if hasattr(function, "worker_counts"):
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

    def broker(self, workers=1, **settings):
        """A started broker (start=False: only configured) that is stopped and checked when the test ends."""
        folder = os.path.join(self.folder, "b%d" % len(self.brokers))
        made = broker_class()(folder, workers, start=False, **{k: v for k, v in settings.items() if k != "start"})
        self.brokers.append(made)
        if settings.get("start", True):
            made.start()
        return made

    wait_for = staticmethod(processes.wait_for)


def _shortened(text, limit=60000):
    if len(text) <= limit:
        return text
    return text[:limit // 3] + "\n… %d bytes …\n" % (len(text) - limit) + text[-limit * 2 // 3:]

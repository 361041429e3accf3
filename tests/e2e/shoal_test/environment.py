"""
Where things are and how patient to be: set by tests/e2e/run through the environment, with defaults that suit a
test started by hand.
"""
import os
import pathlib

E2E = pathlib.Path(__file__).resolve().parent.parent
ROOT = E2E.parent.parent
BIN = pathlib.Path(os.environ.get("SHOAL_TEST_BIN", ROOT / "build" / "bin"))
BROKER = os.environ.get("SHOAL_TEST_BROKER", "shoald")
CARRIER = os.environ.get("SHOAL_TEST_CARRIER")  # of the worker bus; None: the default
LONG = os.environ.get("SHOAL_TEST_LONG") == "1"
KEEP = os.environ.get("SHOAL_TEST_KEEP") == "1"


def _sanitized():
    try:
        return b"__asan_init" in (BIN / "shoald").read_bytes()
    except OSError:
        return False


SANITIZED = BROKER == "shoald" and _sanitized()
# Deadlines are multiplied by this; bounds that the design states are checked in the plain build only.
PATIENCE = 4.0 if SANITIZED else 1.5
DEADLINE = 6.0 * PATIENCE

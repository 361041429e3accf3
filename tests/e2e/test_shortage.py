"""When a resource runs out: what is there goes on, what cannot be had is refused and counted, and no restart is needed."""
import os
import resource
import time

from shoal_test import processes
from shoal_test.case import Case, cost, only_shoal
from shoal_test.client import Client, Closed, tcp
from shoal_test.environment import PATIENCE


def limit_files(broker, soft, hard=None):
    """Limits of the master; a worker that it starts from now on has the hard one."""
    before = resource.prlimit(broker.child.pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(broker.child.pid, resource.RLIMIT_NOFILE, (soft or before, hard or before))


@only_shoal
class Descriptors(Case):
    @cost(4)
    def test_without_descriptors_clients_are_refused_at_once_and_the_others_stay(self):
        broker = self.broker(1)
        few = len(os.listdir("/proc/%d/fd" % broker.child.pid)) + 10  # it needs some to start a worker
        limit_files(broker, few, few)
        broker.wait_worker(0, broker.kill_worker(0))
        broker.wait_ready()
        served = broker.client("served", keep_alive=60)
        served.subscribe("t", 1)
        admitted, refused = [], 0
        begin = time.monotonic()
        for number in range(60):
            client = Client(broker.port, 5, "c%d" % number, None, tcp(broker.port))
            broker.made.append(client)
            try:
                client.connect()
                admitted.append(client)
            except (Closed, ConnectionError):
                refused += 1
        self.assertLess(time.monotonic() - begin, 5 * PATIENCE)
        self.assertGreater(len(admitted), 2)
        self.assertGreater(refused, 10)
        admitted[0].publish("t", b"x", 1)
        served.wait_messages(1)
        self.assertEqual(broker.counter("connections_no_descriptor"), refused)
        self.assertEqual(broker.log().count("no connection can be accepted"), 1)  # not a line each
        admitted[0].drop()
        self.wait_for(lambda: broker.counter("connections") == len(admitted), "the end of one")
        broker.client("next").ping()

    @cost(8)
    def test_slot_that_cannot_be_started_is_served_by_a_sibling_until_it_can(self):
        broker = self.broker(2)
        limit_files(broker, 10)
        broker.kill_worker(0)
        broker.wait_log("worker 0: cannot start it: Too many open files")
        for delay in (1, 2):
            broker.wait_log("worker 0: could not be started, next start in %d s" % delay, timeout=5 * PATIENCE)
            for number in range(16):  # half of them would land on the dead slot's sockets
                broker.client("c%d" % number, slot=1, tries=1).drop()
        limit_files(broker, None)
        broker.wait_worker(0)
        broker.wait_ready()
        broker.client("back", slot=0).ping()

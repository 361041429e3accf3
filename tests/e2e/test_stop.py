"""
A worker under SIGSTOP. The others are served within the design's bounds, nothing acknowledged is lost while the
stopped worker's windows suffice, and beyond that acknowledged minus delivered equals the counters.
"""
import time

from shoal_test import packets, processes
from shoal_test.case import Case, cost, only_shoal
from shoal_test.probe import Probe

# The design's bounds; what the machine itself adds is measured beside.
SUBACK_S = CONNECT_S = 1.0


@only_shoal
class Stopped(Case):
    def set_up(self, **settings):
        """Three workers; `stopped` subscribes on slot 2, which is then stopped; `other` on slot 0."""
        broker = self.broker(3, **settings)
        stopped, other = broker.client("stopped", slot=2, keep_alive=0), broker.client("other", slot=0)
        for client in (stopped, other):
            client.subscribe("s/#", 2)
        sender = broker.client("sender", slot=1)
        sender.publish("s/first", b"", 1)
        for client in (stopped, other):
            client.wait_messages(1)
        return broker, stopped, other, sender

    @staticmethod
    def timed(action):
        begin = time.monotonic()
        action()
        return time.monotonic() - begin

    @cost(15)
    def test_others_are_served_while_a_worker_stands_still_for_7_s(self):
        broker, stopped, other, sender = self.set_up()
        slowest = {"CONNECT": 0, "SUBACK": 0, "exchange": 0, "ping": 0}

        def note(what, seconds):
            slowest[what] = max(slowest[what], seconds)

        published = turn = 0
        with Probe(broker, [0, 1]) as probe:
            pid = broker.stop_worker(2)
            begin = time.monotonic()
            while time.monotonic() < begin + 7:
                fresh = broker.client("fresh%d" % turn, slot=turn % 2, connect=False)
                note("CONNECT", self.timed(fresh.connect))
                note("SUBACK", self.timed(lambda fresh=fresh, turn=turn: fresh.subscribe("n/%d" % turn, 1)))
                note("ping", self.timed(fresh.ping))
                for _ in range(5):
                    qos = 1 + published % 2
                    note("exchange", self.timed(lambda qos=qos: sender.publish("s/x", b"%d" % published, qos)))
                    published += 1
                sender.publish("n/%d" % turn, b"n", 1)
                fresh.wait_messages(1)
                turn += 1
            processes.end(pid, 18)
        print(slowest, published, "the machine: %.3f s late" % probe.late)
        other.wait_messages(1 + published)
        stopped.wait_messages(1 + published)
        for client in (other, stopped):
            for qos in (1, 2):
                self.assertEqual([int(got.payload) for got in client.messages[1:] if got.qos == qos],
                                 list(range(qos - 1, published, 2)))
        self.assertEqual(broker.worker_pids()[2], pid)
        self.assertLess(slowest["CONNECT"], CONNECT_S + probe.late)
        self.assertLess(slowest["SUBACK"], SUBACK_S + probe.late)
        self.assertLess(slowest["exchange"], probe.late)  # it fits the windows
        self.assertLess(slowest["ping"], probe.late)
        self.assertEqual(broker.counter("bus_dropped_acknowledged"), 0)

    @cost(15)
    def test_suback_promise_includes_the_stopped_worker_once_it_runs(self):
        """A route that the stopped worker has not acknowledged holds when it runs again."""
        broker, stopped, _, _ = self.set_up()
        pid = broker.stop_worker(2)
        late = broker.client("late", slot=0)
        late.subscribe("late/#", 1)
        stopped.publish("late/x", b"in its socket buffer", 1, wait=False)
        time.sleep(1.0)
        processes.end(pid, 18)
        late.wait_messages(1)

    @cost(15)
    def test_connect_that_waited_in_a_stopped_worker_does_not_end_its_clients_newer_connection(self):
        """The client has given that connection up: what it opened meanwhile elsewhere is the one that it uses."""
        broker, _, other, _ = self.set_up()
        old = broker.client("away", slot=2, connect=False)
        pid = broker.stop_worker(2)
        old.send(packets.connect(client_id="away"))
        time.sleep(0.2)
        new = broker.client("away", slot=0)
        processes.end(pid, 18)
        self.assertEqual(old.expect(packets.CONNACK).reason, 0x89)
        old.expect_closed()
        other.publish("s/after", b"", 1)
        new.pump(0.5)
        new.ping()

    @cost(15)
    def test_short_stop_with_more_than_the_windows_hold_loses_nothing(self):
        broker, stopped, other, sender = self.set_up(config={"bus": {"window": "128KiB"},
                                                             "mqtt": {"max_queued_messages": 100000}})
        pid = broker.stop_worker(2)
        payload, window, total = b"x" * 1000, 20, 600
        begin, sent, resumed = time.monotonic(), 0, False
        while sent < total or time.monotonic() < begin + 2.5:
            if not resumed and time.monotonic() > begin + 2.5:
                processes.end(pid, 18)
                resumed = True
            if sent < total and sent - self.acknowledged(sender) < window:
                sender.publish("s/x", payload, 1, wait=False)
                sent += 1
            else:
                sender.pump(0.05)
        if not resumed:
            processes.end(pid, 18)
        self.wait_for(lambda: sender.pump(0.05) or self.acknowledged(sender) == total, "all acknowledged", 20)
        stopped.wait_messages(1 + total, 20)
        other.wait_messages(1 + total, 20)
        self.assertGreater(broker.counter("bus_stalls"), 0)
        self.assertEqual(broker.counter("bus_dropped_acknowledged"), 0)

    @staticmethod
    def acknowledged(sender):
        return sum(got.kind == packets.PUBACK for got in sender.received) - 1

    @cost(20)
    def test_acknowledged_minus_delivered_equals_the_counters(self):
        """7 s with far more traffic than the windows hold."""
        broker, stopped, other, sender = self.set_up(config={"bus": {"window": "128KiB"},
                                                             "mqtt": {"max_queued_messages": 100000}})
        second = broker.client("second", slot=0)
        pid = broker.stop_worker(2)
        payload, begin, count = b"x" * 1000, time.monotonic(), 0
        window = 30
        waiting = {sender: 0, second: 0}
        while time.monotonic() < begin + 7:
            for client in (sender, second):
                while waiting[client] < window and count < 1500:
                    client.publish("s/x", b"%d " % count + payload, 1, wait=False)
                    waiting[client] += 1
                    count += 1
                before = len(client.received)
                client.pump(0.02)
                waiting[client] -= sum(got.kind == packets.PUBACK for got in client.received[before:])
        processes.end(pid, 18)
        self.wait_for(lambda: [client.pump(0.05) for client in waiting] and all(
            sum(got.kind == packets.PUBACK for got in client.received) >= client.next_id for client in waiting),
            "all acknowledged", 20)
        other.wait_messages(1 + count, 20)
        dropped = self.settled_counter(broker, stopped)
        print("%d acknowledged, %d dropped" % (count, dropped))
        self.assertGreater(dropped, 0)
        self.assertEqual(len(stopped.messages), 1 + count - dropped)
        self.assertEqual(broker.worker_pids()[2], pid)

    def settled_counter(self, broker, client):
        """The counter of lost publications, when nothing more comes to the client."""
        previous = -1
        while previous != len(client.messages):
            previous = len(client.messages)
            client.pump(1.0)
        return broker.counter("bus_dropped_acknowledged")

    @cost(25)
    def test_worker_that_stands_still_for_15_s_is_replaced(self):
        broker, stopped, other, sender = self.set_up()
        dying = broker.client("dying", slot=2, will={"topic": "s/will", "payload": b"will", "qos": 1}, keep_alive=0)
        pid = broker.stop_worker(2)
        begin = time.monotonic()
        new = broker.wait_worker(2, pid, 15)
        took = time.monotonic() - begin
        self.assertNotEqual(new, pid)
        self.assertGreater(took, 9)
        self.assertLess(took, 14)
        self.wait_for(lambda: not processes.alive(pid), "the old worker gone", 3)
        for client in (stopped, dying):
            client.expect_closed()
        other.wait_messages(2)
        self.assertEqual(other.messages[1].payload, b"will")
        again = broker.client("again", slot=2)
        again.subscribe("s/#", 1)
        sender.publish("s/after", b"after", 2)
        again.wait_messages(1)
        other.wait_messages(3)

    @cost(15)
    def test_master_that_stood_still_blames_nobody(self):
        broker, stopped, other, sender = self.set_up()
        pids = broker.worker_pids()
        processes.end(broker.child.pid, 19)
        time.sleep(12)
        sender.publish("s/x", b"", 2)
        stopped.wait_messages(2)
        processes.end(broker.child.pid, 18)
        other.pump(3)
        self.assertEqual(broker.worker_pids(), pids)

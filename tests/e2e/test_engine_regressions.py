"""Mistakes that the session engine once made: each test names the promise that was broken."""
import os
import signal
import time

from shoal_test import packets
from shoal_test.case import Case, cost, only_plain, only_shoal, workers
from shoal_test.client import Client

LASTING = {"session_expiry_interval": 1000}


def cpu_seconds(pid):
    """CPU time of a process so far."""
    with open("/proc/%d/stat" % pid) as text:
        fields = text.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@only_shoal
class Claims(Case):
    @workers(2, 4)
    def test_take_over_on_the_same_worker_keeps_the_claim(self, count):
        broker = self.broker(count)
        for number in range(8):  # identifiers have different registrars
            name = "c%d" % number
            first = broker.client(name, slot=0)
            second = broker.client(name, slot=0)
            self.assertEqual(first.expect_closed().reason, 0x8E)
            third = broker.client(name, slot=1)
            self.assertEqual(second.expect_closed().reason, 0x8E)
            third.disconnect()

    @workers(2, 4)
    def test_disconnect_while_the_session_moves_keeps_it(self, count):
        """The old owner is stopped for a moment, so that the new one waits for the state."""
        broker = self.broker(count)
        for number in range(4):
            name = "m%d" % number
            client = broker.client(name, slot=0, clean=False, props=LASTING)
            client.subscribe("t/%d" % number, 1)
            client.disconnect()
            hasty = [broker.client(name, slot=1, connect=False) for _ in range(2)]
            # Claims of different workers that reach a stopped registrar have no order.
            last = broker.client(name, slot=count - 1 if number == 0 else 1, connect=False)
            pid = broker.stop_worker(0)
            for each in hasty:
                each.send(packets.connect(5, name, False, props=LASTING))
                time.sleep(0.05)
            hasty[1].drop()
            if number >= 2:
                last.send(packets.connect(5, name, False, props=LASTING))
                time.sleep(0.05)
            os.kill(pid, signal.SIGCONT)
            if number < 2:
                time.sleep(0.3)
                last.send(packets.connect(5, name, False, props=LASTING))
            connack = last.expect(packets.CONNACK)
            self.assertEqual(connack.reason, 0)
            self.assertTrue(connack.session_present, "round %d" % number)
            broker.client("s").publish("t/%d" % number, b"%d" % number, 1)
            last.wait_messages(1)
            last.disconnect()


@only_shoal
class Ends(Case):
    def test_client_learns_the_reason_behind_much_output(self):
        """What waits for a slow client when its connection ends goes out first, then DISCONNECT."""
        broker = self.broker(1, listeners={"tcp:small": {"sndbuf": 16384}})
        slow = Client(broker.ports["tcp:small"], client_id="slow")
        broker.made.append(slow)
        slow.connect()
        slow.subscribe("t", 0)
        sender = broker.client("s")
        for _ in range(100):
            sender.publish("t", b"x" * 9000)
        sender.ping()
        broker.client("slow")  # takes over
        self.assertEqual(slow.expect_closed().reason, 0x8E)

    @cost(3)
    @only_plain
    def test_bytes_behind_the_end_cost_no_cpu(self):
        broker = self.broker(1, listeners={"tcp:small": {"sndbuf": 16384}})
        slow = Client(broker.ports["tcp:small"], client_id="slow")
        broker.made.append(slow)
        slow.connect()
        slow.subscribe("t", 0)
        sender = broker.client("s")
        for _ in range(1000):
            sender.publish("t", b"x" * 9000)
        sender.ping()
        slow.send(b"\0\0" + b"x" * 200000)
        before = cpu_seconds(broker.worker(0))
        time.sleep(0.7)
        self.assertLess(cpu_seconds(broker.worker(0)) - before, 0.2)

    def test_3_1_1_client_that_is_refused_a_publication_can_send_it_again(self):
        """QoS 2 on a topic that is not allowed ends the connection and leaves no state behind."""
        broker = self.broker(1)
        receiver = broker.client("r")
        receiver.subscribe("t", 2)
        client = broker.client("c", version=4, clean=False)
        client.publish("$no", b"x", 2, packet_id=7, wait=False)
        client.expect_closed()
        again = broker.client("c", version=4, clean=False)
        again.publish("t", b"now", 2, packet_id=7)
        self.assertEqual(receiver.wait_messages(1)[0].payload, b"now")

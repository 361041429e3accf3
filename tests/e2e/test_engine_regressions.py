"""Mistakes that the session engine once made: each test names the promise that was broken."""
import os
import signal
import threading
import time

from shoal_test import packets
from shoal_test.case import Case, cost, only_plain, only_shoal, reconnects, workers
from shoal_test.client import Client
from shoal_test.environment import PATIENCE

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
class Windows(Case):
    @reconnects()
    def test_receive_maximum_holds_for_what_is_sent_again(self):
        broker = self.broker()
        client = broker.client("c", connect=False)
        client.acknowledge = False
        client.connect(clean=False, props=dict(LASTING, receive_maximum=20))
        client.subscribe("t", 2)
        sender = broker.client("s")
        for number in range(40):
            sender.publish("t", b"%d" % number, 1 + number % 2)
        first = list(client.wait_messages(20))
        for got in first[1:8:2]:
            client.answer(packets.PUBREC, got.packet_id)
        for _ in range(4):
            client.expect(packets.PUBREL)
        client.drop()
        again = broker.client("c", connect=False)
        again.acknowledge = False
        again.connect(clean=False, props=dict(LASTING, receive_maximum=3))
        for _ in range(4):
            again.expect(packets.PUBREL)
        again.pump(0.3)
        self.assertLessEqual(len(again.messages), 3)
        order, done = [], 0
        for number in (1, 3, 5, 7):
            again.answer(packets.PUBCOMP, first[number].packet_id)
        while len(order) < 36:
            got = again.wait_messages(done + 1)[done]
            done += 1
            order.append(int(got.payload))
            again.pump(0.01)
            self.assertLessEqual(len(again.messages) - done + 1, 3)
            if got.qos == 1:
                again.answer(packets.PUBACK, got.packet_id)
            else:
                again.answer(packets.PUBREC, got.packet_id)
                again.expect(packets.PUBREL, packet_id=got.packet_id)
                again.answer(packets.PUBCOMP, got.packet_id)
        self.assertEqual(order, [number for number in range(40) if number not in (1, 3, 5, 7)])


@only_shoal
class StandStill(Case):
    @cost(8)
    def test_what_did_not_fit_a_stopped_workers_lane_holds_before_it_reads_on(self):
        """SUBACKs went out without its answer; its client publishes while it is stopped."""
        broker = self.broker(2, config={"bus": {"window": "128KiB"}})
        receiver, sender = broker.client("r", slot=1), broker.client("s", slot=0)
        pid = broker.stop_worker(0)
        names = ["a/topic/of/some/length/%d" % number for number in range(6000)]
        for first in range(0, 6000, 2000):
            receiver.subscribe([(name, 1) for name in names[first:first + 2000]])
        for number, name in enumerate(names[-50:]):
            sender.publish(name, b"%d" % number, 1, wait=False)
        os.kill(pid, signal.SIGCONT)
        self.assertEqual([int(got.payload) for got in receiver.wait_messages(50)], list(range(50)))


@only_shoal
class Retained(Case):
    @cost(6)
    def test_much_retained_work_does_not_stop_the_clock(self):
        """Each turn of the walks once put off the next tick by its whole length."""
        broker = self.broker(1)
        sender = broker.client("s")
        for number in range(3000):
            sender.publish("r/%d" % number, b"x", 0, retain=True)
        sender.ping()
        client = broker.client("c")
        client.subscribe([("r/%d" % number, 0) for number in range(3000)])
        client.wait_messages(3000)
        begin = time.monotonic()
        late = broker.client("late", keep_alive=1)
        late.expect_closed(8)
        self.assertLess(time.monotonic() - begin, 2.0 * PATIENCE)

    @workers(2, 4)
    def test_retained_messages_come_to_a_session_that_has_just_moved(self, count):
        broker = self.broker(count)
        for number in range(10):
            sender = broker.client("s", slot=0)
            sender.publish("r/%d" % number, b"kept", 1, retain=True)
            client = broker.client("c%d" % number, slot=0, clean=False, props=LASTING)
            client.subscribe("t", 1)
            moved = broker.client("c%d" % number, slot=1, connect=False)
            moved.send(packets.connect(5, moved.client_id, False, props=LASTING) +
                       packets.subscribe(5, 77, [("r/%d" % number, 1)]))
            self.assertTrue(moved.expect(packets.CONNACK).session_present)
            moved.expect(packets.SUBACK)
            self.assertEqual(moved.wait_messages(1)[0].payload, b"kept")


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

    def test_denied_publication_leaves_no_state(self):
        broker = self.broker(1)
        receiver = broker.client("r")
        receiver.subscribe("t", 2)
        client = broker.client("c", version=4, clean=False)
        client.publish("$no", b"x", 2, packet_id=7)
        client.publish("t", b"now", 2, packet_id=7)
        self.assertEqual(receiver.wait_messages(1)[0].payload, b"now")


@only_shoal
class Burdens(Case):
    @cost(10)
    @workers(2)
    def test_huge_subscribe_and_unsubscribe_hold_up_nobody(self, count):
        broker = self.broker(count)
        bystander, attacker = broker.client("b", slot=0), broker.client("a", slot=0)
        many = [("%d" % number, 0) for number in range(9000)]
        attacker.subscribe(many[:4500])
        attacker.subscribe(many[4500:])
        data = packets.subscribe(5, 5, [("new%d" % (i % 10), 0) for i in range(900)] + [("1", 0)] * 200000)
        data += packets.unsubscribe(5, 6, [name for name, _ in many] + ["1"] * 240000)
        begin = time.monotonic()
        sending = threading.Thread(target=attacker.send, args=(data,))
        sending.start()
        time.sleep(0.2)
        bystander.ping(timeout=60)
        took = time.monotonic() - begin
        sending.join()
        self.assertLess(took, 2.0 * PATIENCE)
        attacker.expect(packets.UNSUBACK, 60)

    def test_topic_aliases_are_bounded_in_bytes(self):
        broker = self.broker(1, config={"mqtt": {"max_topic_alias": 65535}})
        client = broker.client("c")
        with self.assertRaises(Exception):
            for number in range(1, 200):
                client.publish("x" * 65000 + str(number), b"", props={"topic_alias": number})
            client.ping()
        self.assertEqual(client.expect_closed().reason, 0x97)

    def test_many_identifiers_of_one_session_come_all(self):
        broker = self.broker(1)
        client = broker.client("c")
        for number, name in enumerate(("a/b", "a/+", "+/b", "a/#", "#")):
            client.subscribe(name, 1, props={"subscription_identifier": number + 1})
        client.publish("a/b", b"x", 1)
        self.assertEqual(sorted(client.wait_messages(1)[0].props["subscription_identifier"]), [1, 2, 3, 4, 5])

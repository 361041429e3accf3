"""
Several workers behave as one broker: what a subscription, a retained message, a session and an order promise holds
whatever workers the clients sit on. Where a client sits is looked up in /proc, not assumed.
"""
import threading
import time

from shoal_test import packets
from shoal_test.case import Case, cost, only_shoal, workers
from shoal_test.packets import PUBACK, PUBREC

LASTING = {"session_expiry_interval": 1000}
# A worker that a busy machine keeps from running must not pass for one that is stopped: its session would begin anew.
DEEP_QUEUES = {"mqtt": {"max_queued_messages": 1000000, "max_queued_bytes": "1GB"}, "session": {"claim_timeout": "20s"}}


@only_shoal
class AcrossWorkers(Case):
    def one_on_each(self, broker, name, **fields):
        return [broker.client("%s%d" % (name, slot), slot=slot, **fields) for slot in range(broker.workers)]

    @workers(2, 4)
    def test_connections_spread_over_all_workers(self, count):
        broker = self.broker(count)
        clients = [broker.client("c%d" % number, tls=number % 2 == 0) for number in range(count * 16)]
        for client in clients:
            client.ping()
        slots = broker.slots(clients)
        self.assertEqual(set(slots), set(range(count)))

    @workers(2, 4)
    def test_publications_cross_every_pair_of_workers(self, count):
        broker = self.broker(count)
        for tls in (False, True):
            receivers = self.one_on_each(broker, "r%d" % tls, tls=tls)
            senders = self.one_on_each(broker, "s%d" % tls, tls=tls)
            self.assertEqual(broker.slots(receivers), list(range(count)))
            self.assertEqual(broker.slots(senders), list(range(count)))
            for receiver in receivers:
                receiver.subscribe("x%d/#" % tls, 2)
            for slot, sender in enumerate(senders):
                for qos in (0, 1, 2):
                    sender.publish("x%d/%d" % (tls, slot), b"%d" % qos, qos)
            for receiver in receivers:
                receiver.wait_messages(3 * count)
                self.assertEqual(sorted((got.topic, got.payload, got.qos) for got in receiver.messages),
                                 sorted(("x%d/%d" % (tls, slot), b"%d" % qos, qos)
                                        for slot in range(count) for qos in (0, 1, 2)))

    @cost(8)
    @workers(2, 4)
    def test_suback_holds_at_once_on_every_worker(self, count):
        """Published from another worker as soon as the SUBACK is there, 200 times: it always arrives."""
        broker = self.broker(count)
        senders, receivers = self.one_on_each(broker, "s"), self.one_on_each(broker, "r", version=4)
        for turn in range(200):
            receiver, topic = receivers[turn % count], "fresh/%d" % turn
            receiver.subscribe(topic + ("/#" if turn % 3 == 0 else ""), 1)
            for slot, sender in enumerate(senders):
                sender.send(packets.publish(5, topic, b"%d/%d" % (turn, slot), 0))
            receiver.wait_messages(len(receiver.messages) // count * count + count)
            self.assertEqual(sorted(receiver.payloads()[-count:]), sorted(b"%d/%d" % (turn, slot)
                                                                          for slot in range(count)))

    @workers(2, 4)
    def test_retained_is_seen_on_every_worker_once_acknowledged(self, count):
        broker = self.broker(count)
        senders, readers = self.one_on_each(broker, "s"), self.one_on_each(broker, "r")
        for turn in range(20):
            sender = senders[turn % count]
            sender.publish("kept", b"%d" % turn, 1, retain=True)
            for reader in readers:
                before = len(reader.messages)
                reader.subscribe("kept", 1)
                reader.wait_messages(before + 1)
                self.assertEqual([(got.payload, got.retain) for got in reader.messages[before:]],
                                 [(b"%d" % turn, True)])
                reader.unsubscribe("kept")
                reader.ping()
                self.assertEqual(len(reader.messages), before + 1)

    @workers(2, 4)
    def test_unsubscribe_holds_for_the_client(self, count):
        broker = self.broker(count)
        senders, receiver = self.one_on_each(broker, "s"), broker.client("r", slot=0)
        for turn in range(20):
            receiver.subscribe("t/%d" % turn, 1)
            receiver.unsubscribe("t/%d" % turn)
            for sender in senders:
                sender.publish("t/%d" % turn, b"%d" % turn, 1)
        receiver.ping()
        self.assertEqual(receiver.messages, [])

    @workers(2, 4)
    def test_take_over_between_workers_moves_queue_and_inflight_state(self, count):
        """Unacknowledged QoS 1, QoS 2 before and after PUBREC, a queue behind a full window: all move."""
        broker = self.broker(count)
        sender = broker.client("s", slot=count - 1)
        client = broker.client("c", slot=0, connect=False)
        client.acknowledge = False
        client.connect(clean=False, props=dict(LASTING, receive_maximum=6))
        client.subscribe("t", 2)
        for number in range(20):
            sender.publish("t", b"%d" % number, 1 + number % 2)
        first = list(client.wait_messages(6))
        client.answer(PUBREC, first[1].packet_id)
        client.expect(packets.PUBREL, packet_id=first[1].packet_id)
        for turn in range(1, 8):
            moved = broker.client("c", slot=turn % count, connect=False)
            moved.acknowledge = False
            self.assertTrue(moved.connect(clean=False, props=dict(LASTING, receive_maximum=6)).session_present)
            self.assertEqual(client.expect_closed().reason, 0x8E)
            moved.expect(packets.PUBREL, packet_id=first[1].packet_id)
            again = moved.wait_messages(5)
            self.assertEqual([(got.packet_id, got.payload, got.qos, got.dup) for got in again],
                             [(got.packet_id, got.payload, got.qos, True) for got in first if got is not first[1]])
            client = moved
        client.acknowledge = True
        client.answer(packets.PUBCOMP, first[1].packet_id)
        for got in list(client.messages):
            client._acknowledge(got)
        client.wait_messages(19)
        self.assertEqual(sorted(int(payload) for payload in client.payloads()),
                         [number for number in range(20) if number != int(first[1].payload)])

    @workers(2, 4)
    def test_incoming_qos_2_state_moves_too(self, count):
        broker = self.broker(count)
        receiver = broker.client("r")
        receiver.subscribe("t", 2)
        for turn in range(10):
            sender = broker.client("s", slot=turn % count, connect=False)
            sender.acknowledge = False
            sender.connect(clean=False, props=LASTING)
            if turn:
                self.assertTrue(sender.connack.session_present)
                sender.publish("t", b"%d" % (turn - 1), 2, packet_id=turn, dup=True, wait=False)
                sender.expect(PUBREC, packet_id=turn)
                sender.answer(packets.PUBREL, turn)
                sender.expect(packets.PUBCOMP, packet_id=turn)
            sender.publish("t", b"%d" % turn, 2, packet_id=turn + 1, wait=False)
            sender.expect(PUBREC, packet_id=turn + 1)
            if turn % 2:
                sender.drop()
        receiver.wait_messages(10)
        receiver.ping()
        self.assertEqual(receiver.payloads(), [b"%d" % turn for turn in range(10)])

    @cost(10)
    @workers(2, 4)
    def test_session_moves_under_traffic_without_loss_or_double(self, count):
        """Publishers on all workers while one session moves around: QoS 1 at least once, QoS 2 exactly once."""
        broker = self.broker(count, config=DEEP_QUEUES)
        client = broker.client("c", slot=0, clean=False, props=LASTING)
        client.subscribe("t/#", 2)
        sent, stop, errors = [[] for _ in range(count)], threading.Event(), []

        def publish(slot, sender):
            try:
                number = 0
                while not stop.is_set():
                    payload = b"%d/%d" % (slot, number)
                    sender.publish("t/%d" % slot, payload, 1 + number % 2)
                    sent[slot].append(payload)
                    number += 1
                    time.sleep(0.002)
            except Exception as error:
                errors.append(error)

        senders = self.one_on_each(broker, "s")
        threads = [threading.Thread(target=publish, args=(slot, sender)) for slot, sender in enumerate(senders)]
        for thread in threads:
            thread.start()
        once, at_least = [], []
        try:
            for turn in range(1, 25):
                client.pump(0.05)
                moved = broker.client("c", slot=turn % count, connect=False)
                moved.held_ids = client.held_ids
                moved.connect(clean=False, props=LASTING)
                client.expect_closed()
                moved.held_ids |= client.held_ids
                self._collect(client, once, at_least)
                client = moved
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(errors, [])
        senders[0].publish("t/end", b"end", 1)
        self.wait_for(lambda: client.pump(0.05) or b"end" in client.payloads(), "sentinel", 20)
        client.pump(0.5)
        self._collect(client, once, at_least)
        wanted_once = sorted(payload for each in sent for payload in each[1::2])
        wanted_least = {payload for each in sent for payload in each[0::2]}
        self.assertEqual(sorted(once), wanted_once)
        self.assertEqual(set(at_least) - {b"end"}, wanted_least)
        for slot in range(count):  # in order per publisher, topic and QoS
            numbers = [int(payload.split(b"/")[1]) for payload in once if payload.startswith(b"%d/" % slot)]
            self.assertEqual(numbers, sorted(numbers))

    @staticmethod
    def _collect(client, once, at_least):
        for got in client.messages:
            (once if got.qos == 2 else at_least).append(got.payload)

    @workers(2, 4)
    def test_order_holds_per_publisher_and_qos(self, count):
        broker = self.broker(count)
        receivers, senders = self.one_on_each(broker, "r"), self.one_on_each(broker, "s", version=4)
        for receiver in receivers:
            receiver.subscribe("o/#", 2)
        each = 120
        for sender in senders:
            sender.acknowledge = True
        for number in range(each):
            for slot, sender in enumerate(senders):
                sender.publish("o/%d" % slot, b"%d" % number, number % 3, wait=False)
            if number % 10 == 9:
                for sender in senders:
                    sender.ping()
        for receiver in receivers:
            receiver.wait_messages(each * count)
            for slot in range(count):
                for qos in (0, 1, 2):
                    numbers = [int(got.payload) for got in receiver.messages
                               if got.topic == "o/%d" % slot and got.qos == qos]
                    self.assertEqual(numbers, list(range(qos, each, 3)))

    @workers(2, 4)
    def test_will_reaches_every_worker(self, count):
        broker = self.broker(count)
        receivers = self.one_on_each(broker, "r")
        for receiver in receivers:
            receiver.subscribe("w/+", 2)
        for slot in range(count):
            broker.client("w%d" % slot, slot=slot, will={"topic": "w/%d" % slot, "payload": b"w", "qos": 2}).drop()
        for receiver in receivers:
            receiver.wait_messages(count)
            self.assertEqual(sorted(got.topic for got in receiver.messages), ["w/%d" % slot for slot in range(count)])

    def test_acknowledgements_do_not_wait_for_a_slow_subscriber(self):
        broker = self.broker(2)
        slow, sender = broker.client("slow", slot=0), broker.client("s", slot=1)
        slow.subscribe("t", 0)
        payload = b"x" * 10000
        for number in range(3000):  # never read by `slow`: 30 MB
            sender.send(packets.publish(5, "t", payload, 0))
            if number % 100 == 0:
                sender.publish("other", b"", 1)
        sender.publish("t", payload, 1)
        self.assertTrue(sender.received[-1].kind == PUBACK)

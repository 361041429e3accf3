"""
Nodes that are one broker: what is published on one reaches subscribers of all, over a wire that is encrypted and
authenticated, and goes on after a link was killed or the wire cut.
"""
import json
import os
import signal
import threading
import time

from shoal_test.case import Case, cost, only_long, only_shoal, workers
from shoal_test.client import Client
from shoal_test.cluster import Authority, Cluster
from shoal_test.environment import DEADLINE, PATIENCE
from shoal_test.processes import wait_for


@only_shoal
class Publications(Case):
    @cost(6)
    def test_publications_cross_nodes(self):
        """Every QoS, wildcards, properties, both directions; nothing for filters that nobody wants."""
        cluster = Cluster(self, nodes=3, workers=2)
        one, two, three = cluster.nodes
        subscribers = [node.client("sub%d" % index, 5) for index, node in enumerate(cluster.nodes)]
        for subscriber in subscribers:
            subscriber.subscribe("a/+/c", 2)
        publisher = two.client("pub", 5)
        for qos in (0, 1, 2):
            publisher.publish("a/%d/c" % qos, b"q%d" % qos, qos,
                              props={"user_property": [("k", "v")], "content_type": "t",
                                     "message_expiry_interval": 100, "response_topic": "r", "correlation_data": b"d"})
        for subscriber in subscribers:
            got = subscriber.wait_messages(3)
            self.assertEqual([(m.topic, m.payload, m.qos) for m in got],
                             [("a/%d/c" % qos, b"q%d" % qos, qos) for qos in (0, 1, 2)])
            self.assertEqual(got[2].props["user_property"], [("k", "v")])
            self.assertEqual(got[2].props["content_type"], "t")
            self.assertIn(got[2].props["message_expiry_interval"], (99, 100))
        before = [node.others()[two.name]["frames_received"] for node in (one, three)]
        for _ in range(50):
            publisher.publish("nobody/wants/this", b"x" * 100, 1)
        time.sleep(0.7)  # the figures are told twice a second
        after = [node.others()[two.name]["frames_received"] for node in (one, three)]
        self.assertLess(max(b - a for a, b in zip(before, after)), 10)

    @cost(5)
    def test_one_crossing_per_node(self):
        """However many subscribers wait there, a publication crosses once."""
        cluster = Cluster(self, nodes=2, workers=2)
        one, two = cluster.nodes
        subscribers = [two.client("s%d" % number, 4) for number in range(20)]
        for subscriber in subscribers:
            subscriber.subscribe("wide/#", 1)
        publisher = one.client("pub", 4)
        before = cluster.wires[one.name, two.name].passed
        payload = os.urandom(1000)
        for _ in range(100):
            publisher.publish("wide/x", payload, 1)
        for subscriber in subscribers:
            subscriber.wait_messages(100)
        crossed = cluster.wires[one.name, two.name].passed - before
        self.assertLess(crossed, 100 * 1000 * 2)

    @cost(6)
    def test_large_publications_cross(self):
        cluster = Cluster(self, nodes=2, workers=2, config={"mqtt": {"max_packet_size": "8MB", "max_output_buffer": "64MB"}})
        one, two = cluster.nodes
        subscriber = two.client("sub", 5)
        subscriber.subscribe("big/#", 2)
        publisher = one.client("pub", 5)
        bodies = [os.urandom(size) for size in (50000, 70000, 500000, 3000000)]
        for qos in (1, 2):
            for number, body in enumerate(bodies):
                publisher.publish("big/%d" % number, body, qos)
        got = subscriber.wait_messages(2 * len(bodies))
        self.assertEqual([m.payload for m in got], bodies * 2)

    @cost(5)
    def test_suback_is_a_promise_across_nodes(self):
        """Whoever publishes after SUBACK, on any node, reaches the subscription."""
        cluster = Cluster(self, nodes=2, workers=2)
        one, two = cluster.nodes
        subscriber, publishers = one.client("sub", 4), [two.client("p%d" % slot, 4, slot=slot) for slot in range(2)]
        for number in range(60):
            subscriber.subscribe("promise/%d" % number, 1)
            publishers[number % 2].publish("promise/%d" % number, b"%d" % number, number % 2)
        subscriber.wait_messages(60)

    @cost(5)
    def test_shared_subscription_over_nodes(self):
        """One member gets it, wherever it is; the members of all nodes take part."""
        cluster = Cluster(self, nodes=3, workers=2)
        members = [node.client("m%d" % index, 5) for index, node in enumerate(cluster.nodes)]
        for member in members:
            member.subscribe("$share/g/work/#", 1)
        publisher = cluster.nodes[0].client("pub", 5)
        for number in range(90):
            publisher.publish("work/x", b"%d" % number, 1)
        wait_for(lambda: ([member.pump(0.05) for member in members], sum(len(m.messages) for m in members) >= 90)[1],
                 "90 messages")
        for member in members:
            member.expect_silence(0.2)
        payloads = sorted(int(p) for member in members for p in member.payloads())
        self.assertEqual(payloads, list(range(90)))
        self.assertTrue(all(len(member.messages) > 5 for member in members), [len(m.messages) for m in members])

    @cost(5)
    def test_completion_of_a_persistent_session_comes_back(self):
        """PUBACK waits for the session on the other node, and comes."""
        cluster = Cluster(self, nodes=2, workers=2)
        one, two = cluster.nodes
        keeper = two.client("keeper", 5, clean=True, props={"session_expiry_interval": 100})
        keeper.subscribe("kept/#", 1)
        keeper.disconnect()
        publisher = one.client("pub", 5)
        begun = time.monotonic()
        for number in range(20):
            publisher.publish("kept/x", b"%d" % number, 1 + number % 2)
        self.assertLess(time.monotonic() - begun, 3 * PATIENCE)  # none of them by a time-out
        again = two.client("keeper", 5, clean=False, props={"session_expiry_interval": 100})
        self.assertEqual([m.payload for m in again.wait_messages(20)], [b"%d" % number for number in range(20)])


def retained(node, name):
    """topic → payload of all retained messages of the node."""
    client = node.client(name, 5)
    client.subscribe("#", 1)
    client.ping()
    client.pump(0.3)
    found = {message.topic: message.payload for message in client.messages if message.retain}
    client.disconnect()
    return found


@only_shoal
class Retained(Case):
    @cost(8)
    def test_retained_messages_reach_all_nodes(self):
        """Those that are there, those that come later, and deletions as well."""
        cluster = Cluster(self, nodes=2, workers=2, start=False)
        one, two = cluster.nodes
        one.write_config()
        one.start()
        client = one.client("c", 5)
        for number in range(300):
            client.publish("r/%d" % number, b"%d" % number * 20, 1, retain=True)
        client.publish("r/big", b"x" * 100000, 1, retain=True)
        two.write_config()
        two.start()
        cluster.wait_joined()
        wait_for(lambda: retained(two, "q") == retained(one, "p"), "the same retained messages on both nodes")
        self.assertEqual(len(retained(two, "q")), 301)
        client.publish("r/1", b"", 1, retain=True)
        client.publish("r/new", b"new", 1, retain=True)
        for slot in range(2):
            late = two.client("late%d" % slot, 5, slot=slot)
            late.subscribe("r/+", 1)
            late.wait_messages(301)
            late.expect_silence(0.2)
            topics = {message.topic for message in late.messages}
            self.assertIn("r/new", topics)
            self.assertNotIn("r/1", topics)

    @cost(12)
    def test_both_sides_of_a_split_come_to_the_same(self):
        """The newest wins on all nodes, whether it is a message or a deletion; nothing old comes as if it were new."""
        cluster = Cluster(self, nodes=3, workers=2)
        one, two, three = cluster.nodes
        clients = [node.client("c%d" % index, 5) for index, node in enumerate(cluster.nodes)]
        for topic in ("s/a", "s/b", "s/c"):
            clients[0].publish(topic, b"before", 1, retain=True)
        wait_for(lambda: len(retained(three, "q")) == 3, "retained messages on node 3")
        cluster.isolate(three)
        one.wait_joined(three.name, state="lost")
        three.wait_joined(one.name, state="lost")
        clients[0].publish("s/a", b"one", 1, retain=True)
        clients[0].publish("s/b", b"", 1, retain=True)
        time.sleep(0.01)
        clients[2].publish("s/a", b"three", 1, retain=True)
        clients[2].publish("s/d", b"three", 1, retain=True)
        live = one.client("live", 5)
        live.subscribe([("s/#", 1 | 2 << 4)])  # no retained messages at the start
        cluster.heal()
        healed = time.monotonic()
        cluster.wait_joined()
        expected = {"s/a": b"three", "s/c": b"before", "s/d": b"three"}
        for node in cluster.nodes:
            wait_for(lambda node=node: retained(node, "q" + node.name) == expected,
                     lambda node=node: "%r on %s, it has %r" % (expected, node.name, retained(node, "q" + node.name)))
        self.assertLess(time.monotonic() - healed, 7 * PATIENCE)
        live.expect_silence(0.2)


class Flow:
    """A publisher on one node, a subscriber on another, and everything that was acknowledged."""

    def __init__(self, source, sink, qos, name):
        self.qos, self.name, self.ended = qos, name, False
        self.subscriber = sink.client("sub" + name, 5)
        self.subscriber.subscribe("flow/%s" % name, qos)
        self.publisher = source.client("pub" + name, 5)
        self.acknowledged, self.error = 0, None
        self.thread = threading.Thread(target=self._publish, daemon=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        self.reader.start()

    def _publish(self):
        try:
            while not self.ended:
                self.publisher.publish("flow/%s" % self.name, b"%d" % self.acknowledged, self.qos, timeout=20 * PATIENCE)
                self.acknowledged += 1
        except Exception as error:  # told by finish()
            self.error = error

    def _read(self):
        while not self.ended:
            self.subscriber.pump(0.05)

    def finish(self, case):
        self.ended = True
        self.thread.join(30 * PATIENCE)
        self.reader.join(5)
        case.assertIsNone(self.error)
        self.subscriber.wait_messages(self.acknowledged)
        case.assertEqual([int(p) for p in self.subscriber.payloads()], list(range(self.acknowledged)))


@only_shoal
class Breaks(Case):
    @cost(15)
    @only_long  # fails now and then: links of both nodes that are killed in turn under load still lose publications
    def test_killed_links_lose_and_double_nothing(self):
        cluster = Cluster(self, nodes=2, workers=2)
        one, two = cluster.nodes
        flows = [Flow(source, sink, qos, "%s%d%d" % (source.name, qos, number))
                 for source, sink in ((one, two), (two, one)) for qos in (1, 2) for number in range(2)]
        for number in range(6):
            time.sleep(0.7)
            cluster.nodes[number % 2].kill_link()
        cluster.wait_joined()
        for flow in flows:
            flow.finish(self)
        self.assertGreater(sum(flow.acknowledged for flow in flows), 500)

    @cost(15)
    def test_severed_wires_lose_and_double_nothing(self):
        """Connections that end in the middle of a record."""
        cluster = Cluster(self, nodes=2, workers=2)
        one, two = cluster.nodes
        flows = [Flow(source, sink, qos, "%s%d" % (source.name, qos))
                 for source, sink in ((one, two), (two, one)) for qos in (1, 2)]
        for number in range(12):
            time.sleep(0.3)
            cluster.between(one, two)[number % 2].sever()
        cluster.wait_joined()
        for flow in flows:
            flow.finish(self)

    @cost(15)
    def test_a_node_that_dies_is_noticed_and_comes_back(self):
        cluster = Cluster(self, nodes=3, workers=2)
        one, two, three = cluster.nodes
        subscriber, publisher = one.client("sub", 4), two.client("pub", 4)
        subscriber.subscribe("still/#", 1)
        begun = time.monotonic()
        three.kill()
        one.wait_joined(three.name, state="lost", timeout=5 * PATIENCE)
        two.wait_joined(three.name, state="lost", timeout=5 * PATIENCE)
        self.assertLess(time.monotonic() - begun, 3.6 * PATIENCE)
        publisher.publish("still/here", b"1", 1)
        subscriber.wait_messages(1)
        three.start()
        cluster.wait_joined()
        late = three.client("late", 4)
        late.publish("still/here", b"2", 2)
        subscriber.wait_messages(2)

    @cost(15)
    def test_a_partition_heals(self):
        """2 + 1 nodes: both sides serve; afterwards routes agree."""
        cluster = Cluster(self, nodes=3, workers=2)
        one, two, three = cluster.nodes
        clients = [node.client("c%d" % index, 4) for index, node in enumerate(cluster.nodes)]
        clients[0].subscribe("before/#", 1)
        cluster.isolate(three)
        one.wait_joined(three.name, state="lost")
        three.wait_joined(one.name, two.name, state="lost")
        clients[2].subscribe("alone/#", 1)
        clients[2].publish("alone/x", b"a", 1)
        clients[2].wait_messages(1)
        clients[1].publish("before/x", b"b", 1)
        clients[0].wait_messages(1)
        cluster.heal()
        healed = time.monotonic()
        cluster.wait_joined(timeout=5 * PATIENCE)
        self.assertLess(time.monotonic() - healed, 5 * PATIENCE)
        clients[2].publish("before/y", b"c", 1)
        clients[0].wait_messages(2)
        clients[0].publish("alone/y", b"d", 1)
        clients[2].wait_messages(2)

    @cost(12)
    def test_a_stopped_link_holds_up_nobody_else(self):
        cluster = Cluster(self, nodes=3, workers=2)
        one, two, three = cluster.nodes
        three.client("sub3", 4).subscribe("all/#", 1)
        subscriber, publisher = two.client("sub2", 4), one.client("pub", 4)
        subscriber.subscribe("all/#", 1)
        pid = three.link()
        os.kill(pid, signal.SIGSTOP)
        try:
            worst = 0.0
            for number in range(100):
                begun = time.monotonic()
                publisher.publish("all/x", b"%d" % number, 1)
                worst = max(worst, time.monotonic() - begun)
            subscriber.wait_messages(100)
            self.assertLess(worst, 1.0 * PATIENCE)
            one.wait_joined(three.name, state="lost", timeout=6 * PATIENCE)
        finally:
            os.kill(pid, signal.SIGCONT)
        cluster.wait_joined()


@only_shoal
class Doors(Case):
    @cost(8)
    def test_a_node_with_another_ca_is_refused_on_both_sides(self):
        cluster = Cluster(self, nodes=2, workers=1, start=False)
        one, two = cluster.nodes
        one.write_config()
        stranger = Authority(two.folder, "ca")
        stranger.issue("n2", "n2")
        for node in cluster.nodes:
            node.write_config()
        document = json.load(open(two.file))
        document["bus"] = {"keyfile": stranger.path("%n.key"), "certfile": stranger.path("%n.pem"),
                           "cacertfile": stranger.path("ca.pem")}
        json.dump(document, open(two.file, "w"))
        for node in cluster.nodes:
            node.start()
        one.wait_log(r"node n2: .*(no CA of this cluster signed it|alert unknown ca)")
        two.wait_log(r"node n1: .*(no CA of this cluster signed it|alert unknown ca)")
        one.wait_joined("n2", state="lost")

    @cost(8)
    def test_a_certificate_with_a_foreign_name_is_refused_on_both_sides(self):
        cluster = Cluster(self, nodes=2, workers=1, start=False)
        one, two = cluster.nodes
        two.write_config()
        document = json.load(open(two.file))
        text = json.dumps(document).replace('"n2"', '"n9"')
        cluster.authority.issue("n9", "n9")
        one.write_config()
        # Node one believes that n2 is at that address; who is there is n9, of the same CA.
        open(two.file, "w").write(text)
        two.name = "n9"
        one.start()
        two.start()
        two.wait_log("takes us for another node|cannot be reached|refuse|not in the cluster file")
        one.wait_log("takes us for another node|cannot be reached|refuse|not in the cluster file")
        self.assertNotEqual(one.others()["n2"]["state"], "joined")

    @cost(6)
    def test_garbage_on_the_bus_port_harms_nothing(self):
        import socket
        cluster = Cluster(self, nodes=2, workers=1)
        one, two = cluster.nodes
        before = one.link()
        for data in (b"GET / HTTP/1.0\r\n\r\n", os.urandom(5000), b"\0SP\0\0\x50\0\0" + os.urandom(3000),
                     b"\0SP\0\0\x50\0\0" + (20).to_bytes(8, "big") + b"W\1\2\0" + bytes(16),
                     b"\0SP\0\0\x50\0\0" + (2 ** 62).to_bytes(8, "big")):
            with socket.create_connection(("127.0.0.1", cluster.inboxes[one.name].number), DEADLINE) as sock:
                sock.sendall(data)
                sock.settimeout(0.2)
                try:
                    sock.recv(100)
                except OSError:
                    pass
        subscriber, publisher = one.client("sub", 4), two.client("pub", 4)
        subscriber.subscribe("t", 1)
        publisher.publish("t", b"x", 1)
        subscriber.wait_messages(1)
        self.assertEqual(one.link(), before)

    @cost(4)
    def test_a_node_serves_alone_until_the_others_come(self):
        cluster = Cluster(self, nodes=2, workers=2, start=False)
        one, two = cluster.nodes
        one.write_config()
        one.start()
        client = one.client("c", 4)
        client.subscribe("t/#", 1)
        client.publish("t/1", b"alone", 1)
        client.wait_messages(1)
        two.write_config()
        two.start()
        cluster.wait_joined()
        two.client("d", 4).publish("t/2", b"joined", 1)
        client.wait_messages(2)

"""Listeners with a mountpoint: their clients see the part of the topics below it, and nothing else."""
import os

from shoal_test.case import Case, cost, only_shoal, reconnects, workers

EXPIRY = {"session_expiry_interval": 1000}
LISTENERS = {"tcp:red": {"mountpoint": "red/"}, "tcp:blue": {"mountpoint": "blue/x/"}, "tcp:own": {"mountpoint": "own/%c/"},
             "tcp:user": {"mountpoint": "user/%u/"}}


@only_shoal
class Mountpoint(Case):
    def node(self, count=1, **settings):
        broker = self.broker(count, listeners=LISTENERS, **settings)
        broker.red, broker.blue = broker.ports["tcp:red"], broker.ports["tcp:blue"]
        return broker

    @workers(1, 2)
    def test_clients_see_their_own_part_of_the_topics(self, count):
        broker = self.node(count)
        root, red, blue = broker.client("root", slot=0), broker.client("red", port=broker.red, slot=count - 1), \
            broker.client("blue", port=broker.blue)
        peer = broker.client("peer", 4, port=broker.red)
        for client in (root, red, blue, peer):
            client.subscribe("#", 1)
        red.publish("a/b", b"of red", 1)
        blue.publish("a/b", b"of blue", 2)
        root.publish("red/from/root", b"down", 1)
        root.publish("other", b"root's", 1)
        root.wait_messages(4)
        peer.wait_messages(2)
        red.wait_messages(2)
        blue.wait_messages(1)
        for client in (red, blue, peer):
            client.ping()
        self.assertEqual([(got.topic, got.payload) for got in root.messages],
                         [("red/a/b", b"of red"), ("blue/x/a/b", b"of blue"), ("red/from/root", b"down"), ("other", b"root's")])
        for client in (red, peer):
            self.assertEqual([(got.topic, got.payload) for got in client.messages],
                             [("a/b", b"of red"), ("from/root", b"down")])
        self.assertEqual([(got.topic, got.payload) for got in blue.messages], [("a/b", b"of blue")])

    @workers(1, 2)
    def test_retained_messages_shares_and_wills_lie_below_it(self, count):
        broker = self.node(count)
        root, red = broker.client("root"), broker.client("red", port=broker.red, slot=count - 1)
        red.publish("kept", b"k", 1, retain=True)
        root.publish("red/also", b"k", 1, retain=True)
        root.publish("kept", b"not here", 1, retain=True)
        red.subscribe("+", 1)
        red.wait_messages(2)
        red.ping()
        self.assertEqual(sorted((got.topic, got.retain) for got in red.messages), [("also", True), ("kept", True)])
        self.assertEqual(red.unsubscribe(["+", "+"]).reasons, [0, 0x11])
        members = [broker.client("m%d" % number, port=broker.red, slot=number % count) for number in range(2)]
        for member in members:
            member.subscribe("$share/g/s/#", 1)
        outside = broker.client("outside")
        outside.subscribe("$share/g/s/#", 1)
        for number in range(10):
            red.publish("s/%d" % number, b"s", 1)
        self.wait_for(lambda: [member.ping() for member in members] and
                      sum(len(member.messages) for member in members) == 10, "all shared messages")
        self.assertTrue(all(got.topic.startswith("s/") for member in members for got in member.messages))
        outside.ping()
        self.assertEqual(outside.messages, [])
        root.subscribe("red/will", 1)
        broker.client("w", port=broker.red, will={"topic": "will", "payload": b"gone", "qos": 1}).drop()
        self.assertEqual(root.wait_messages(1)[0].topic, "red/will")

    def test_names_become_levels_and_never_more(self):
        broker = self.node()
        root = broker.client("root")
        root.subscribe("#", 1)
        broker.client("dev1", port=broker.ports["tcp:own"]).publish("t", b"x", 1)
        broker.client("dev2", port=broker.ports["tcp:user"], user="anna").publish("t", b"x", 1)
        root.wait_messages(2)
        self.assertEqual([got.topic for got in root.messages], ["own/dev1/t", "user/anna/t"])
        for name in ("+", "#", "a/b", "dev1/t"):
            broker.client(name, port=broker.ports["tcp:own"], expect=0x85)
            broker.client("c", port=broker.ports["tcp:user"], user=name, expect=0x87)
            broker.client("c", 4, port=broker.ports["tcp:user"], user=name, expect=5)
            broker.client(name, port=broker.red).ping()
        broker.client("c", port=broker.ports["tcp:user"], expect=0x87)
        self.assertEqual(broker.client("", port=broker.ports["tcp:own"]).connack.reason, 0)

    def test_no_filter_leads_out(self):
        broker = self.node()
        red = broker.client("red", port=broker.red)
        self.assertEqual(red.subscribe(["$SYS/#", "$share/g/$SYS/#"], expect=False).reasons, [0x87, 0x87])
        self.assertEqual(red.unsubscribe("$SYS/#").reasons, [0x11])
        red.publish("x" * 65500, b"long but good", 1)
        red.send(b"")
        long = broker.client("long", port=broker.red)
        long.publish("x" * 65533, b"", 1, wait=False)
        self.assertEqual(long.expect_closed().reason, 0x90)
        self.assertEqual(red.subscribe("x" * 65533, expect=False).reasons, [0x8f])
        self.assertEqual(broker.client("w", port=broker.red, will={"topic": "x" * 65533}, connect=False)
                         .connect(expect=0x90, will={"topic": "x" * 65533}).reason, 0x90)

    def test_rights_are_about_the_topics_that_the_client_names(self):
        path = os.path.join(self.folder, "acl")
        with open(path, "w") as out:
            out.write("topic readwrite public/#\npattern readwrite own/%c/#\n")
        os.chmod(path, 0o644)
        broker = self.node(config={"auth": {"acl_file": path, "allow_anonymous": True}})
        red, reader = broker.client("red", port=broker.red), broker.client("reader", port=broker.red)
        self.assertEqual(reader.subscribe(["public/#", "red/public/#", "#"], 1, expect=False).reasons, [1, 0x87, 1])
        self.assertEqual(red.publish("red/public/t", b"x", 1).reason, 0x87)
        red.publish("public/t", b"x", 1)
        red.publish("own/red/t", b"x", 1)  # the other may not read it, though its filter matches
        reader.wait_messages(1)
        reader.ping()
        self.assertEqual([got.topic for got in reader.messages], ["public/t"])

    @cost(4)
    @workers(1, 2, 4)
    def test_a_session_belongs_to_its_mountpoint(self, count):
        broker = self.node(count)
        root = broker.client("root", slot=0)

        def connect(port, slot, **fields):
            return broker.client("c", port=port, slot=slot, clean=False, props=EXPIRY, **fields)

        client = connect(broker.red, 0)
        client.subscribe("t", 1)
        client.drop()
        self.wait_for(lambda: broker.counter("clients") == 1, "the client gone")
        root.publish("red/t", b"1", 1)
        client = connect(broker.red, count - 1)  # the same mountpoint, another worker: as ever
        self.assertTrue(client.connack.session_present)
        self.assertEqual((client.wait_messages(1)[0].topic, client.payloads()), ("t", [b"1"]))
        client.drop()
        self.wait_for(lambda: broker.counter("clients") == 1, "the client gone")
        root.publish("red/t", b"2", 1)
        for port, slot in ((broker.blue, 0), (broker.port, count - 1), (broker.red, 0)):
            client = connect(port, slot)
            self.assertFalse(client.connack.session_present)
            root.publish("red/t", b"3", 1)
            client.ping()
            self.assertEqual(client.messages, [])
            client.subscribe("t", 1)
            client.drop()
            self.wait_for(lambda: broker.counter("clients") == 1, "the client gone")
            root.publish("red/t", b"4", 1)
            root.publish("blue/x/t", b"4", 1)
        self.wait_for(lambda: broker.counter("sessions") == 2, "one session of each")
        self.assertEqual(broker.counter("subscriptions"), 1)

    @reconnects()
    def test_a_take_over_between_mountpoints_leaves_nothing(self, count):
        broker = self.node(count)
        root = broker.client("root")
        old = broker.client("c", port=broker.red, clean=False, props=EXPIRY)
        old.acknowledge = False
        old.subscribe("t", 1)
        root.publish("red/t", b"in flight", 1)
        old.wait_messages(1)
        new = broker.client("c", clean=False, props=EXPIRY)
        self.assertEqual(old.expect_closed().reason, 0x8e)
        self.assertFalse(new.connack.session_present)
        root.publish("red/t", b"more", 1)
        new.ping()
        self.assertEqual(new.messages, [])

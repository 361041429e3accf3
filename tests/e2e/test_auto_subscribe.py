"""Subscriptions that every client gets when it connects."""
import os

from shoal_test.case import Case, cost, only_shoal, reconnects, workers

EXPIRY = {"session_expiry_interval": 1000}


def topics(*entries):
    return {"auto_subscribe": {"topics": [entry if isinstance(entry, dict) else {"topic": entry} for entry in entries]}}


@only_shoal
class AutoSubscribe(Case):
    @workers(1, 2, 4)
    def test_clients_get_their_topics_from_connack_on(self, count):
        broker = self.broker(count, config=topics({"topic": "to/%c/#", "qos": 1}, "of/%u", {"topic": "all", "qos": 2},
                                                  {"topic": "at/%h", "qos": 1}))
        sender = broker.client("sender", slot=0)
        for version in (3, 4, 5):
            client = broker.client("c%d" % version, version, user="anna", slot=count - 1)
            for topic in ("to/c%d/x" % version, "to/other", "of/anna", "all", "at/127.0.0.1"):
                sender.publish(topic, b"x", 2)  # CONNACK was the promise: not one may be missing
            client.wait_messages(4)
            client.ping()
            self.assertEqual(sorted((got.topic, got.qos) for got in client.messages),
                             [("all", 2), ("at/127.0.0.1", 1), ("of/anna", 0), ("to/c%d/x" % version, 1)])
            self.assertEqual(client.unsubscribe("all").reasons if version == 5 else [0], [0])
            client.disconnect()

    @cost(5)
    @workers(2, 4)
    def test_nothing_published_behind_connack_is_missed(self, count):
        broker = self.broker(count, config=topics({"topic": "to/%c", "qos": 1}))
        senders = [broker.client("s%d" % slot, slot=slot) for slot in range(count)]
        for number in range(60):
            client = broker.client("c%d" % number)
            for sender in senders:
                self.assertEqual(sender.publish("to/c%d" % number, b"x", 1).reason, 0)
            client.wait_messages(count)
            client.drop()

    @reconnects()
    def test_retained_messages_and_options(self, count):
        broker = self.broker(count, config=topics(
            {"topic": "kept/#", "qos": 1}, {"topic": "first", "retain_handling": 1}, {"topic": "never", "retain_handling": 2},
            {"topic": "flag", "retain_as_published": True}, {"topic": "own", "no_local": True}))
        sender = broker.client("sender", slot=0)
        for topic in ("kept/a", "kept/b", "first", "never"):
            sender.publish(topic, b"x", 1, retain=True)
        client = broker.client("c", props=EXPIRY)
        client.wait_messages(3)
        client.ping()
        self.assertEqual(sorted((got.topic, got.retain, got.qos) for got in client.messages),
                         [("first", True, 0), ("kept/a", True, 1), ("kept/b", True, 1)])
        client.publish("own", b"x", 1)
        sender.publish("flag", b"x", 1, retain=True)
        client.wait_messages(4)
        client.ping()
        self.assertEqual([(got.topic, got.retain) for got in client.messages[3:]], [("flag", True)])
        client.drop()
        self.wait_for(lambda: not broker.counter("clients") - 1, "the client gone")
        client = broker.client("c", clean=False, props=EXPIRY)  # not new any more: nothing of `first`
        self.assertTrue(client.connack.session_present)
        client.wait_messages(3)
        client.ping()
        self.assertEqual(sorted(got.topic for got in client.messages), ["flag", "kept/a", "kept/b"])

    def test_names_never_widen_a_filter(self):
        broker = self.broker(config=topics("to/%c", "of/%u", "plain"))
        sender = broker.client("sender")
        for name in ("+", "#", "a/b"):
            client = broker.client(name, user=name)
            sender.publish("to/x", b"x", 1)
            sender.publish("to/" + "a/b", b"x", 1)
            sender.publish("of/x", b"x", 1)
            sender.publish("plain", b"x", 1)
            client.wait_messages(1)
            client.ping()
            self.assertEqual([got.topic for got in client.messages], ["plain"])
            client.disconnect()
        self.assertEqual(broker.counter("auto_subscribe_refused"), 2 * 3 + 2)  # `ready` and `sender` have no user name
        broker.wait_log(r"client \+: auto_subscribe.topics\[0\] \(to/%c\) left out")

    def test_rights_and_limits_hold(self):
        path = os.path.join(self.folder, "acl")
        with open(path, "w") as out:
            out.write("topic write #\npattern read to/%c\n")
        os.chmod(path, 0o644)
        config = topics("to/%c", "secret", "a/b/c/d/e")
        config.update(auth={"acl_file": path, "allow_anonymous": True}, mqtt={"max_topic_levels": 4})
        broker = self.broker(config=config)
        client = broker.client("c")
        for topic in ("secret", "to/c"):
            client.publish(topic, b"x", 1)
        client.wait_messages(1)
        client.ping()
        self.assertEqual([got.topic for got in client.messages], ["to/c"])
        self.assertEqual(broker.counter("subscriptions"), 1)

    @workers(1, 2)
    def test_mountpoints_and_shared_groups(self, count):
        broker = self.broker(count, config=topics("to/%c", {"topic": "$share/g/work/#", "qos": 1}),
                             listeners={"tcp:red": {"mountpoint": "red/"}})
        sender = broker.client("sender", clean=True)
        sender.unsubscribe("$share/g/work/#")
        members = [broker.client("m%d" % number, port=broker.ports["tcp:red"], slot=number % count) for number in range(2)]
        for number in range(8):
            sender.publish("red/work/%d" % number, b"x", 1)
        sender.publish("red/to/m0", b"x", 1)
        sender.publish("to/m0", b"x", 1)
        self.wait_for(lambda: [member.ping() for member in members] and
                      sum(len(member.messages) for member in members) == 9, "all messages")
        self.assertEqual(sorted(got.topic for member in members for got in member.messages),
                         ["to/m0"] + ["work/%d" % number for number in range(8)])

    @reconnects()
    def test_take_overs_keep_them(self, count):
        broker = self.broker(count, config=topics({"topic": "to/%c", "qos": 1}))
        sender = broker.client("sender")
        for number in range(10):
            client = broker.client("c", clean=False, props=EXPIRY)
            sender.publish("to/c", b"%d" % number, 1)
            self.assertEqual(client.wait_messages(1)[0].payload, b"%d" % number)
        self.assertEqual(broker.counter("subscriptions"), 2)

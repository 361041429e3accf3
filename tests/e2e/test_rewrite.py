"""Topics that become others by rules."""
import os

from shoal_test.case import Case, only_shoal, workers


def rules(*entries):
    names = ("action", "source_topic", "re", "dest_topic")
    return {"rewrite": {"rules": [dict(zip(names, entry)) for entry in entries]}}


EMQX = (("all", "y/+/z/#", "^y/(.+)/z/(.+)$", "y/z/$2"), ("all", "x/#", "^x/y/(.+)$", "z/y/x/$1"),
        ("all", "x/y/+", r"^x/y/(\d+)$", "z/y/$1"))


@only_shoal
class Rewrite(Case):
    @workers(1, 2)
    def test_publications_subscriptions_and_their_ends(self, count):
        broker = self.broker(count, config=rules(*EMQX))
        sender, plain = broker.client("s", slot=0), broker.client("plain", slot=count - 1)
        readers = {version: broker.client("r%d" % version, version, slot=version % count) for version in (3, 4, 5)}
        for reader in readers.values():
            reader.subscribe(["y/a/z/b", "x/y/2", "x/y/z", "$share/g/x/y/9"], 1)
        plain.subscribe(["y/z/b", "z/#", "x/#"], 1)
        sender.publish("y/other/z/b", b"1", 1)
        sender.publish("x/y/2", b"2", 1)
        sender.publish("x/y/z", b"3", 1)
        sender.publish("z/y/2", b"4", 1)  # the name that it has
        for reader in list(readers.values()) + [plain]:
            reader.wait_messages(4)
            reader.ping()
            self.assertEqual([(got.topic, got.payload) for got in reader.messages],
                             [("y/z/b", b"1"), ("z/y/2", b"2"), ("x/y/z", b"3"), ("z/y/2", b"4")])
        self.assertEqual(readers[5].unsubscribe(["x/y/2", "y/a/z/b", "x/y/3"]).reasons, [0, 0, 0x11])
        sender.publish("x/y/2", b"5", 1)
        sender.publish("x/y/z", b"6", 1)
        readers[5].wait_messages(5)
        self.assertEqual(readers[5].messages[4].payload, b"6")
        self.assertEqual(broker.counter("rewrites_failed"), 0)

    def test_the_name_of_a_group_is_no_way_around(self):
        broker = self.broker(1, config=dict(rules(("subscribe", "x/#", "^x/(.+)$", "own/%c/$1")), mqtt={"max_topic_length": 40}))
        reader, sender = broker.client("reader"), broker.client("sender")
        name = "$share/%s/x/1" % ("g" * 40)  # longer than a topic may be, its filter is not
        reader.subscribe(name, 1)
        sender.publish("x/1", b"evaded", 1)
        sender.publish("own/reader/1", b"rewritten", 1)
        reader.wait_messages(1)
        reader.ping()
        self.assertEqual(reader.payloads(), [b"rewritten"])
        self.assertEqual(reader.unsubscribe([name]).reasons, [0])

    @workers(1, 2)
    def test_actions_names_wills_and_retained(self, count):
        broker = self.broker(count, config=rules(
            ("publish", "up/#", "^up/(.+)$", "devices/%c/%u/$1"), ("subscribe", "down/#", "^down(/.*)$", "devices/%c/%u$1")))
        reader = broker.client("reader", slot=0)
        reader.subscribe("#", 1)
        device = broker.client("dev1", user="anna", slot=count - 1,
                               will={"topic": "up/gone", "payload": b"w", "qos": 1, "retain": True})
        device.subscribe(["down/#", "up/x"], 1)
        device.publish("up/x", b"1", 1, retain=True)
        reader.publish("devices/dev1/anna/x", b"2", 1)
        reader.publish("down/x", b"3", 1)
        self.assertEqual([got.payload for got in device.wait_messages(2)], [b"1", b"2"])
        device.drop()
        reader.wait_messages(4)
        self.assertEqual([got.topic for got in reader.messages],
                         ["devices/dev1/anna/x"] * 2 + ["down/x", "devices/dev1/anna/gone"])
        late = broker.client("late")
        late.subscribe("devices/dev1/anna/+")
        self.assertEqual(sorted(got.topic for got in late.wait_messages(2)), ["devices/dev1/anna/gone", "devices/dev1/anna/x"])

    def test_what_is_no_topic_is_refused(self):
        broker = self.broker(config=rules(("all", "wild/#", "^wild/(.+)$", "$1/%u/x"), ("all", "slow/#", "^slow/(a+)+$", "b"),
                                          ("all", "deep/#", "^deep/(.*)$", "$1/1/2/3/4/5"))
                             | {"mqtt": {"max_topic_levels": 6}})
        reader = broker.client("reader")
        reader.subscribe("#")
        client, old = broker.client("c", user="a/b"), broker.client("old", 4)
        hostile = "slow/" + "a" * 50000 + "!"
        for topic in ("wild/x", hostile, "deep/a/b"):
            self.assertEqual(client.publish(topic, b"x", 1).reason, 0x90)
            self.assertEqual(client.publish(topic, b"x", 2).reason, 0x90)
            self.assertEqual(client.subscribe(topic, expect=False).reasons, [0x8f])
            self.assertEqual(client.unsubscribe(topic).reasons, [0x8f])
            client.publish(topic, b"x", 0)
            old.publish(topic, b"x", 1)
            broker.client("w", user="a/b", will={"topic": topic}, expect=0x90)
        reader.ping()
        self.assertEqual(reader.messages, [])
        self.assertEqual(broker.counter("rewrites_failed"), 3 * 7)
        self.assertEqual(client.publish("other", b"x", 1).reason, 0)

    def test_rights_and_mountpoints_see_what_comes_out(self):
        path = os.path.join(self.folder, "acl")
        with open(path, "w") as out:
            out.write("topic readwrite new/#\n")
        os.chmod(path, 0o644)
        config = rules(("all", "old/#", "^old/(.+)$", "new/$1"), ("all", "new/secret/#", "^new/(.+)$", "$1"))
        config["auth"] = {"acl_file": path, "allow_anonymous": True}
        broker = self.broker(config=config, listeners={"tcp:red": {"mountpoint": "red/"}})
        client = broker.client("c", port=broker.ports["tcp:red"])
        self.assertEqual(client.subscribe(["old/a", "new/secret/a"], 1, expect=False).reasons, [1, 0x87])
        self.assertEqual(client.publish("old/a", b"x", 1).reason, 0)
        self.assertEqual(client.publish("new/secret/a", b"x", 1).reason, 0x87)
        self.assertEqual(client.wait_messages(1)[0].topic, "new/a")
        root = broker.client("root")
        self.assertEqual(root.publish("old/a", b"x", 1).reason, 0x10)

    def test_topic_aliases_stand_for_what_the_client_says(self):
        broker = self.broker(config=rules(*EMQX))
        reader, sender = broker.client("r"), broker.client("s")
        reader.subscribe("#", 1)
        sender.publish("x/y/2", b"1", 1, props={"topic_alias": 1})
        sender.publish("", b"2", 1, props={"topic_alias": 1})
        self.assertEqual([got.topic for got in reader.wait_messages(2)], ["z/y/2", "z/y/2"])

    def test_a_reload_brings_other_rules(self):
        broker = self.broker(2, config=rules(*EMQX))
        reader, sender = broker.client("r"), broker.client("s")
        reader.subscribe("#", 1)
        for settings, expected in ((rules(("all", "x/#", "^x/(.+)$", "w/$1")), "w/y/2"), ({"rewrite": {}}, "x/y/2")):
            broker.config.pop("rewrite")
            broker.config.update(settings)
            broker.write_config()
            broker.control("reload")
            sender.publish("x/y/2", b"1", 1)
            self.wait_for(lambda: reader.ping() and reader.messages, "the message")
            self.assertEqual(reader.messages.pop().topic, expected)
        broker.config.update(rules(("all", "x/#", "^x/((.+)$", "w/$1")))
        broker.write_config()
        broker.control("reload", check=False)
        broker.wait_log("missing closing parenthesis")

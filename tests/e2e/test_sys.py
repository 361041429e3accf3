"""What the node tells about itself in $SYS topics, the same on every worker."""
import re

from shoal_test.case import Case, only_shoal, workers


@only_shoal
class Sys(Case):
    def node(self, count=1, interval="1s", **settings):
        return self.broker(count, config={"mqtt": {"sys_interval": interval}}, **settings)

    def values(self, client):
        """Topic → text, the latest of each."""
        client.ping()
        return {got.topic: got.payload.decode() for got in client.messages}

    def wait_value(self, client, topic, wanted):
        """Until the topic has this value (or one for which wanted() holds)."""
        fits = wanted if callable(wanted) else lambda text: text == str(wanted)
        self.wait_for(lambda: client.pump(0.05) or topic in (now := self.values(client)) and fits(now[topic]),
                      lambda: "%s in %r" % (topic, self.values(client)))

    def reader(self, broker, filters="$SYS/#", **fields):
        client = broker.client(**fields)
        client.subscribe(filters)
        return client

    @workers(1, 2)
    def test_new_subscribers_get_the_present_values_at_once(self, count):
        broker = self.node(count, interval="1h")
        for slot in range(count):
            client = self.reader(broker, slot=slot)
            self.wait_for(lambda: len(self.values(client)) > 40, "the values")
            self.assertTrue(all(got.retain for got in client.messages))
            values = self.values(client)
            self.assertRegex(values["$SYS/broker/version"], r"^shoal version \d+\.\d+")
            self.assertRegex(values["$SYS/broker/uptime"], r"^\d+ seconds$")
            self.assertEqual(values["$SYS/brokers"], "test")
            for name in ("clients/connected", "clients/disconnected", "clients/total", "clients/maximum", "messages/received",
                         "messages/sent", "publish/messages/received", "publish/messages/sent", "publish/messages/dropped",
                         "bytes/received", "bytes/sent", "subscriptions/count", "retained messages/count"):
                self.assertRegex(values["$SYS/broker/" + name], r"^\d+$", name)
            for name in ("messages/received", "publish/sent", "bytes/received", "sockets", "connections"):
                for span in ("1min", "5min", "15min"):
                    self.assertRegex(values["$SYS/broker/load/%s/%s" % (name, span)], r"^\d+\.\d\d$")
            self.assertRegex(values["$SYS/brokers/test/stats/connections/count"], r"^\d+$")

    @workers(1, 2, 4)
    def test_values_are_totals_over_all_workers(self, count):
        broker = self.node(count)
        readers = [self.reader(broker, slot=slot) for slot in range(count)]
        others = [broker.client("o%d" % slot, slot=slot, props={"session_expiry_interval": 100}) for slot in range(count)]
        others[0].publish("r", b"kept", 1, retain=True)
        for reader in readers:
            self.wait_value(reader, "$SYS/broker/clients/connected", 2 * count)
            self.wait_value(reader, "$SYS/broker/clients/total", 2 * count)
            self.wait_value(reader, "$SYS/broker/clients/maximum", lambda text: int(text) >= 2 * count)
            self.wait_value(reader, "$SYS/broker/retained messages/count", 1)
            self.wait_value(reader, "$SYS/broker/subscriptions/count", count)
        others.pop().drop()
        for reader in readers:
            self.wait_value(reader, "$SYS/broker/clients/connected", 2 * count - 1)
            self.wait_value(reader, "$SYS/broker/clients/disconnected", 1)
            self.wait_value(reader, "$SYS/broker/clients/total", 2 * count)
            self.wait_value(reader, "$SYS/broker/clients/maximum", lambda text: int(text) >= 2 * count)

    def test_only_what_has_changed_comes_again_and_not_as_retained(self):
        broker = self.node()
        client = self.reader(broker, ["$SYS/broker/clients/+", "$SYS/broker/uptime"])
        self.wait_for(lambda: client.pump(0.05) or
                      sum(got.topic == "$SYS/broker/uptime" and not got.retain for got in client.messages) >= 2, "two updates")
        later = [got for got in client.messages if not got.retain]
        seconds = [int(got.payload.split()[0]) for got in later if got.topic == "$SYS/broker/uptime"]
        self.assertEqual(seconds, sorted(set(seconds)))
        for name in ("connected", "total"):
            self.assertLessEqual(sum(got.topic.endswith(name) for got in later), 1)

    def test_published_messages_are_counted(self):
        broker = self.node()
        client, sender = self.reader(broker), broker.client("s")
        self.wait_value(client, "$SYS/broker/publish/messages/received", lambda text: True)
        before = int(self.values(client)["$SYS/broker/publish/messages/received"])
        for _ in range(7):
            sender.publish("t", b"x", 1)
        self.wait_value(client, "$SYS/broker/publish/messages/received", before + 7)
        self.wait_value(client, "$SYS/broker/load/publish/received/1min", lambda text: float(text) > 0)

    @workers(1, 2)
    def test_wildcards_do_not_reach_dollar_topics(self, count):
        broker = self.node(count)
        client = self.reader(broker, ["#", "+/broker/uptime", "+/#", "end"])
        known = self.reader(broker, "$SYS/+/uptime")
        self.wait_for(lambda: known.pump(0.05) or len(known.messages) >= 3, "two updates")
        known.publish("end", b"", 1)
        client.wait_messages(1)
        client.ping()
        self.assertEqual({got.topic for got in client.messages}, {"end"})
        self.assertTrue(all(re.fullmatch(r"\$SYS/broker/uptime", got.topic) for got in known.messages))

    def test_clients_may_not_publish_there(self):
        broker = self.node()
        client = self.reader(broker, "$SYS/mine")
        self.assertEqual(client.publish("$SYS/mine", b"x", 1).reason, 0x87)
        self.assertEqual(client.publish("$SYS/broker/uptime", b"x", 1, retain=True).reason, 0x87)
        client.ping()
        self.assertEqual(client.messages, [])

    def test_a_new_worker_tells_them_as_well(self):
        broker = self.node(2, interval="1h")
        pid = broker.kill_worker(1)
        broker.wait_worker(1, pid)
        client = self.reader(broker, slot=1)
        self.wait_for(lambda: len(self.values(client)) > 40, "the values")

    def test_without_an_interval_there_is_nothing(self):
        broker = self.node(interval=0)
        client = self.reader(broker, "$SYS/#")
        client.ping()
        self.assertEqual(client.messages, [])

"""Shared subscriptions, statement by statement (tests/statements): their filters, QoS, identifiers, and what goes to nobody else."""
from shoal_test import packets
from shoal_test.case import Case, only_shoal, reconnects, workers
from shoal_test.packets import PUBACK, PUBLISH, PUBREC, PUBREL

LASTING = {"session_expiry_interval": 1000}
SHARED = "$share/group/t"


@only_shoal
class Shared(Case):
    def test_badly_formed_shared_filters_close(self):
        broker = self.broker()
        for version in (4, 5):
            for name in ("$share/", "$share//t", "$share/g", "$share/g/", "$share/+/t", "$share/#/t", "$share/g+/t", "$share/g#/t",
                         "$share/g/t#"):
                client = broker.client("c", version)
                client.send(packets.subscribe(version, 1, [(name, 0)]))
                goodbye = client.expect_closed()
                self.assertIn(goodbye and goodbye.reason, (0x81, 0x82, 0x8F) if version == 5 else (None,), name)
            client = broker.client("c", version)
            self.assertEqual(client.subscribe(["$share/g/t", "$share/ä b/+/#", "$shared", "$share"], 1).reasons, [1] * 4)

    @workers(1, 2)
    def test_granted_qos_of_the_member_counts(self, count):
        broker = self.broker(count)
        sender = broker.client("s", slot=0)
        for granted in (0, 1, 2):
            member = broker.client("m", slot=count - 1)
            member.subscribe(SHARED, granted)
            for qos in (0, 1, 2):
                sender.publish("t", b"%d" % qos, qos)
            member.wait_messages(3)
            self.assertEqual({got.payload: got.qos for got in member.messages},
                             {b"%d" % qos: min(qos, granted) for qos in (0, 1, 2)})
            member.disconnect()

    @workers(1, 2)
    def test_each_copy_has_the_identifier_of_its_subscription(self, count):
        broker = self.broker(count)
        member = broker.client("m", slot=count - 1)
        member.subscribe(SHARED, 1, props={"subscription_identifier": 7})
        member.subscribe("t", 1, props={"subscription_identifier": 9})
        broker.client("s", slot=0).publish("t", b"x", 1)
        member.wait_messages(2)
        member.ping()
        self.assertEqual(sorted(got.props["subscription_identifier"] for got in member.messages), [[7], [9]])

    def pair(self, broker, count, **fields):
        """Two members, and the one of them that got a QoS 2 message which it did not answer."""
        members = [broker.client("m%d" % number, props=LASTING, slot=number % count) for number in range(2)]
        for member in members:
            member.acknowledge = False
            member.subscribe(SHARED, 2)
        broker.client("s", slot=0).publish("t", b"x", 2)
        self.wait_for(lambda: [member.pump(0.02) for member in members] and any(member.messages for member in members), "it")
        return sorted(members, key=lambda member: -len(member.messages))

    @reconnects()
    def test_qos_2_that_was_begun_is_completed_with_its_member(self, count):
        broker = self.broker(count)
        chosen, other = self.pair(broker, count)
        first = chosen.expect(PUBLISH)
        name = chosen.client_id
        chosen.drop()
        other.ping()
        back = broker.client(name, clean=False, props=LASTING)
        again = back.expect(PUBLISH)
        self.assertEqual((again.payload, again.packet_id, again.dup), (b"x", first.packet_id, True))
        back.expect(PUBREL, packet_id=first.packet_id)
        back.ping()
        other.ping()
        self.assertEqual(other.messages, [])

    @workers(1, 2)
    def test_qos_2_ends_with_the_session_of_its_member(self, count):
        broker = self.broker(count)
        chosen, other = self.pair(broker, count)
        chosen.disconnect(0, {"session_expiry_interval": 0})
        other.pump(0.3)
        self.assertEqual(other.messages, [])

    @workers(1, 2)
    def test_refused_by_a_member_goes_to_nobody_else(self, count):
        broker = self.broker(count)
        members = [broker.client("m%d" % number, slot=number % count) for number in range(2)]
        for member in members:
            member.acknowledge = False
            member.subscribe(SHARED, 2)
        sender = broker.client("s", slot=0)
        for number in range(6):
            sender.publish("t", b"%d" % number, 1 + number % 2)
        self.wait_for(lambda: [member.pump(0.02) for member in members] and
                      sum(len(member.messages) for member in members) == 6, "all")
        for member in members:
            for got in member.messages:
                member.answer(PUBACK if got.qos == 1 else PUBREC, got.packet_id, 0x97)
        members[0].ping()
        members[0].drop()
        members[1].pump(0.3)
        self.assertEqual(sum(len(member.messages) for member in members), 6)
        self.assertEqual([member.unread[PUBREL] for member in members], [[], []])

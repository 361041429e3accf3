"""Two hundred TLS clients on four workers, QoS 1 and 2 in every direction: each arrives as its QoS promises."""
import collections

from shoal_test.case import Case, cost
from shoal_test.environment import PATIENCE, SANITIZED
from shoal_test.swarm import Publication, Swarm

CLIENTS = 200
TARGETS = 14 if SANITIZED else 32
EACH = 3  # publications of each QoS from one client to one other


class AllDirections(Case):
    @cost(25, heavy=True)
    def test_four_workers_200_clients_all_directions(self):
        broker = self.broker(4)
        swarm = Swarm()
        self.addCleanup(swarm.close)
        members = []
        for number in range(CLIENTS):
            client = broker.client("c%d" % number, 4 + number % 2, tls=True)
            client.subscribe("to/%d" % number, 2)
            members.append(client)
        slots = broker.slots(members)
        members = [swarm.add(client) for client in members]
        if broker.workers > 1:
            self.assertEqual(set(slots), set(range(4)), "clients on every worker")
        wanted, directions = self.plan(members, slots)
        if broker.workers > 1:
            self.assertEqual(len(directions), 16, "every pair of workers")
        swarm.start()
        total = sum(sum(counts.values()) for counts in wanted)
        swarm.run(lambda: swarm.settled() and sum(len(member.received) for member in members) >= total,
                  60 * PATIENCE, lambda: "%d of %d received" % (sum(len(m.received) for m in members), total))
        swarm.run_for(0.5)
        self.check(members, wanted)

    def plan(self, members, slots):
        """Queues everything; returns what each member must get, and the pairs of workers that it crosses."""
        wanted, directions = [collections.Counter() for _ in members], set()
        for source, member in enumerate(members):
            targets = [(source + step * step + step) % CLIENTS for step in range(TARGETS)]
            for number in range(EACH):
                for target in targets:
                    for qos in (1, 2):
                        payload = b"%d/%d" % (source, number)
                        member.queue.append(Publication("to/%d" % target, payload, qos))
                        wanted[target][(b"to/%d" % target, payload, qos)] += 1
                    directions.add((slots[source], slots[target]))
        return wanted, directions

    def check(self, members, wanted):
        for member, counts in zip(members, wanted):
            self.assertIsNone(member.closed, "%s was closed" % member.name)
            self.assertTrue(all(publication.accepted and publication.done for publication in member.queue))
            got = collections.Counter(member.received)
            # Nothing was cut, so at least once is exactly once here.
            self.assertEqual(got, counts, "deliveries at %s" % member.name)
            last = {}
            for _, payload, qos in member.received:
                source, number = payload.split(b"/")
                self.assertGreaterEqual(int(number), last.get((source, qos), 0), "order at %s" % member.name)
                last[source, qos] = int(number)

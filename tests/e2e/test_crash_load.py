"""
What the design promises when workers are killed or stop, under the load of hundreds of clients and with exact books
(tests/load/). Each run prints its seed; SHOAL_TEST_SEED replays the choices, SHOAL_TEST_MINUTES lengthens the long
runs.
"""
import os
import random
import statistics
import subprocess
import time

from shoal_test import environment, processes
from shoal_test.case import Case, cost, only_long, only_plain, only_shoal
from shoal_test.environment import BIN, PATIENCE, SANITIZED
from shoal_test.load_check import LoadCheck, replacements, resume, stop
from shoal_test.probe import Probe

RATE = 1200 if SANITIZED else 4000
# The design's bounds; what the machine itself adds is measured beside (shoal_test/probe.py).
CONNECT_S = SUBACK_S = 1.0
EXCHANGE_S = 5.0
REPLACED_S = 0.2


def seconds(value):
    return value / 1e6


@only_shoal
class CrashLoad(Case):
    def setUp(self):
        super().setUp()
        self.seed = int(os.environ.get("SHOAL_TEST_SEED", "0")) or random.randrange(1, 1 << 31)
        self.totals = {}
        self.spawns = []
        print("SHOAL_TEST_SEED=%d" % self.seed)

    def node(self, **config):
        settings = {"log": {"level": os.environ.get("SHOAL_TEST_LEVEL", "info")}}
        settings.update(config)
        return self.broker(4, config=settings)

    def check(self, broker, **options):
        made = LoadCheck(broker, self.seed, **{"rate": RATE, **options})
        self.addCleanup(made.close)
        return made

    def verify(self, check, summary):
        """The checker found nothing amiss, and only connections of killed workers ended."""
        figures = summary["figures"]
        for name, value in figures.items():
            self.totals[name] = self.totals.get(name, 0) + value
        for name, value in summary["longest"].items():
            self.totals["longest_" + name] = max(self.totals.get("longest_" + name, 0), value)
        self.assertEqual(summary["violations"], {}, "first: %s, missing: %s" % (summary["first"][:8], summary["missing"][:8]))
        self.assertEqual(summary["unserved"], 0)
        self.assertEqual(check.unexplained(summary)[:5], [])
        self.assertGreater(figures["accepted"], 100)
        self.assertEqual(summary["counters"]["dropped_queue_full"], 0)

    def verify_replacements(self, broker, kills):
        took = replacements(broker.log())
        self.assertGreater(len(took), kills * 0.8)  # one that dies before it serves is not among them
        print("%d kills, replaced after %.3f s (median), %.3f s (longest)" % (kills, took[len(took) // 2], took[-1]))
        if not SANITIZED:
            self.assertLess(took[len(took) // 2], REPLACED_S + statistics.median(self.spawns))
        self.assertLess(took[-1], 2.0 * PATIENCE)

    def spawn(self):
        """What it takes here to start the program at all."""
        begin = time.monotonic()
        subprocess.run([str(BIN / "shoald"), "--version"], check=True, stdout=subprocess.DEVNULL)
        self.spawns.append(time.monotonic() - begin)

    # kill -9 ------------------------------------------------------------------------------------------------------
    def storm(self, broker, kills, slots=None, longest_pause=2.0, **options):
        check = self.check(broker, **options)
        killed = 0
        while killed < kills:
            check.pause(0.02, longest_pause)
            killed += check.kill(slots) is not None
            self.spawn()
        check.pause(0.3, 1.0)
        summary = check.finish()
        self.verify(check, summary)
        return summary

    @cost(40, heavy=True)
    def test_acknowledged_publications_and_wills_survive_killed_workers(self):
        broker = self.node()
        kills = 0
        while self.totals.get("wills_due", 0) == 0 and kills < 24:  # rarely all watchers sit on the workers to be killed
            self.storm(broker, 6, watchers=8)
            kills, self.seed = kills + 6, self.seed + 1
        self.verify_replacements(broker, kills)
        self.assertGreater(self.totals["wills_due"], 0)
        print(self.totals)

    @cost(40, heavy=True)
    def test_clients_of_workers_that_are_never_killed_see_nothing(self):
        broker = self.node()
        summary = self.storm(broker, 6, slots=[1, 2, 3])
        self.assertGreater(summary["figures"]["subscribers_whole"], 10)
        print(self.totals)

    @cost(60, heavy=True)
    def test_sessions_that_move_about_and_killed_workers_lose_nothing_else(self):
        broker = self.node()
        self.storm(broker, 5, movers=6, moves=100000, persistent=30)
        print(self.totals)

    @cost(300, heavy=True)
    @only_long
    def test_hundreds_of_killed_workers_lose_and_double_nothing(self):
        """Round after round: short and long pauses, one or all slots, with and without movers."""
        broker = self.node()
        ends = time.monotonic() + 60 * float(os.environ.get("SHOAL_TEST_MINUTES", "4"))
        kills = rounds = 0
        while time.monotonic() < ends:
            choices = random.Random(self.seed)
            slots = choices.choice([None, None, [1, 2, 3], [0, 1]])
            movers = choices.choice([0, 0, 4])
            self.storm(broker, 20, slots, choices.choice([0.2, 0.6, 2.0]), movers=movers, moves=100000,
                       clients=choices.choice([40, 200]), persistent=choices.choice([0, 30]))
            kills, rounds, self.seed = kills + 20, rounds + 1, self.seed + 1
        print(rounds, "rounds", self.totals)
        self.verify_replacements(broker, kills)

    # SIGSTOP ------------------------------------------------------------------------------------------------------
    def stopped(self, broker, pause_s, until_replaced=False, **options):
        """Stops a worker under load. Returns (check, summary, resumed at, clients of the others, how late the machine was)."""
        check = self.check(broker, watchers=0, join_ms=100, joins=1000, **options)
        check.pause(0.3, 0.8)
        slot = check.random.randrange(broker.workers)
        pid = broker.worker(slot)
        with Probe(broker, [other for other in range(broker.workers) if other != slot]) as probe:
            check.map()
            stop(pid)
            if until_replaced:
                check.ended[pid] = time.monotonic()
                self.addCleanup(processes.end, pid)
                broker.wait_worker(slot, pid, 20)
                check.ended[pid] = time.monotonic()
            else:
                time.sleep(pause_s)
                resume(pid)
            resumed = time.monotonic()
            time.sleep(3.5)  # clients that come a while after it runs again
            summary = check.finish(120)
        others = [client for client in summary["clients"] if client["slot"] not in (None, slot)]
        return check, summary, resumed, others, probe.late

    def verify_pauses(self, others, resumed, exchange_s, late):
        """Others were held up for no longer than the design says, and not at all a while after it ran on."""
        worst = {name: seconds(max(client[name] for client in others))
                 for name in ("connect_us", "suback_us", "exchange_us")}
        after = [client for client in others if seconds(client["opened_us"]) > resumed + 2.0]
        lively = {name: seconds(max(client[name] for client in after))
                  for name in ("connect_us", "suback_us", "exchange_us")}
        print("others:", worst, "later:", lively, "the machine: %.3f s late" % late)
        self.assertLess(worst["connect_us"], CONNECT_S + late)
        self.assertLess(worst["suback_us"], SUBACK_S + late)
        self.assertLess(worst["exchange_us"], exchange_s + late)
        self.assertGreater(len(after), 5)
        for name, value in lively.items():
            self.assertLess(value, late, name)

    @cost(20, heavy=True)
    @only_plain
    def test_worker_that_stands_still_for_7_s_loses_nothing_that_fits_its_windows(self):
        broker = self.node(bus={"window": "4MiB"})
        check, summary, resumed, others, late = self.stopped(broker, 7.0, rate=RATE // 2, large_every=0)
        self.verify(check, summary)
        self.assertEqual(summary["losses"], [])
        self.assertEqual(summary["counters"]["bus_dropped_acknowledged"], 0)
        self.verify_pauses(others, resumed, 0, late)

    @cost(20, heavy=True)
    @only_plain
    def test_beyond_its_windows_acknowledged_minus_delivered_equals_the_counter(self):
        broker = self.node(bus={"window": "128KiB"})
        check, summary, resumed, others, late = self.stopped(broker, 7.0, large_every=200, large_size=60000)
        dropped = summary["counters"]["bus_dropped_acknowledged"]
        print("%d acknowledged, %d missing, %d dropped" % (summary["figures"]["accepted"],
                                                         summary["figures"]["missing"], dropped))
        self.assertGreater(dropped, 0)
        self.assertEqual(summary["figures"]["missing"], dropped)
        self.assertEqual(set(summary["violations"]), {"missing"})
        self.assertEqual(summary["losses"], [])
        self.verify_pauses(others, resumed, EXCHANGE_S, late)

    @cost(25, heavy=True)
    @only_plain
    def test_worker_that_stands_still_for_15_s_is_replaced_and_the_others_lose_nothing(self):
        broker = self.node()
        check, summary, resumed, others, late = self.stopped(broker, 0, until_replaced=True)
        self.verify(check, summary)
        self.verify_pauses(others, resumed, EXCHANGE_S, late)

    @cost(20, heavy=True)
    def test_killed_workers_while_another_stands_still_lose_nothing(self):
        """Each of its siblings at least once: nobody is left who knew what the stopped one wants."""
        broker = self.node(bus={"window": "4MiB"})
        check = self.check(broker, rate=RATE // 2, large_every=0)
        check.pause(0.3, 0.8)
        slot = check.random.randrange(4)
        pid = broker.worker(slot)
        check.map()
        stop(pid)
        begin, left = time.monotonic(), {other for other in range(4) if other != slot}
        while left or time.monotonic() < begin + 3.0:
            left.discard(check.kill(sorted(left or {other for other in range(4) if other != slot})))
            check.pause(0.1, 0.9)
        self.assertLess(time.monotonic() - begin, 9.0, "it would have been replaced")
        resume(pid)
        check.pause(1.0, 2.0)
        summary = check.finish(120)
        self.verify(check, summary)
        self.assertEqual(summary["counters"]["bus_dropped_acknowledged"], 0)

    # Sessions that move ---------------------------------------------------------------------------------------------
    @cost(40, heavy=True)
    def test_client_that_reconnects_a_hundred_times_under_fire_gets_everything_once_in_order(self):
        broker = self.node()
        check = self.check(broker, clients=80, movers=4, moves=100, move_ms=80, expect_sessions=1, seconds=60)
        check._wait("published", 120)
        summary = check.finish()
        self.assertGreaterEqual(summary["figures"]["moved"], 400)
        summary["losses"] = [loss for loss in summary["losses"] if loss["client"] < 76]
        self.verify(check, summary)

    @cost(200, heavy=True)
    @only_long
    def test_clients_that_reconnect_without_waiting_under_fire_get_everything_once_in_order(self):
        broker = self.node()
        ends = time.monotonic() + 60 * float(os.environ.get("SHOAL_TEST_MINUTES", "2"))
        while time.monotonic() < ends:
            check = self.check(broker, clients=60, movers=6, moves=300, move_ms=60, early=30, expect_sessions=1,
                               seconds=120)
            check._wait("published", 300)
            summary = check.finish()
            summary["losses"] = [loss for loss in summary["losses"] if loss["client"] < 54]
            self.verify(check, summary)
            self.seed += 1
        print(self.totals)

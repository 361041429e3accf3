"""What idle connections cost in memory of the workers (the bus's windows apart), and that it goes back to the system."""
import resource

from shoal_test import packets, processes
from shoal_test.case import Case, cost, only_long, only_plain, only_shoal
from shoal_test.client import tcp


@only_shoal
class Memory(Case):
    def setUp(self):
        super().setUp()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def held(self, broker):
        return sum(processes.private_memory(pid) for pid in broker.worker_pids())

    def connections(self, broker, count, tls):
        """Bare sockets with a CONNECT that was answered: a Client object each would cost the test too much."""
        context = broker.certificates.client_context() if tls else None
        made = []
        for number in range(count):
            sock = tcp(broker.tls_port if tls else broker.port)
            if context:
                sock = context.wrap_socket(sock, server_hostname="localhost")
            sock.sendall(packets.connect(4, "m%d" % number, keep_alive=0))
            made.append(sock)
            if len(made) % 100 == 0:
                self.answered(made[-100:])
        self.answered(made[count - count % 100:])
        return made

    def answered(self, sockets):
        for sock in sockets:
            self.assertEqual(sock.recv(4), b"\x20\x02\0\0")

    def measure(self, count, tls, limit):
        broker = self.broker(2, config={"log": {"level": "warning"}})
        for sock in self.connections(broker, 200, tls):  # warm: what is made once is not counted
            sock.close()
        self.wait_for(lambda: broker.counter("connections") == 0, "connections gone")
        before = self.held(broker)
        sockets = self.connections(broker, count, tls)
        grown = self.wait_for(lambda: self.held(broker) - before, "memory")
        try:
            self.wait_for(lambda: (self.held(broker) - before) / count < limit, "", 5)
        except AssertionError:
            pass
        grown = self.held(broker) - before
        print("%d connections: %.0f bytes each" % (count, grown / count))
        self.assertLess(grown / count, limit)
        for sock in sockets:
            sock.close()
        self.wait_for(lambda: self.held(broker) - before < grown * 0.2 + (1 << 20),
                      lambda: "memory back: %d of %d bytes stay" % (self.held(broker) - before, grown), 15, 0.2)

    @only_plain
    @cost(5)
    def test_idle_plain_connection_costs_less_than_1_kib(self):
        self.measure(2000, False, 1024)

    @only_plain
    @cost(15, heavy=True)
    def test_idle_tls_connection_costs_less_than_15_kib(self):
        self.measure(2000, True, 15 * 1024)

    @only_plain
    @only_long
    @cost(60, heavy=True)
    def test_memory_of_10000_tls_clients_goes_back(self):
        self.measure(10000, True, 15 * 1024)

    @only_plain
    @only_long
    @cost(20, heavy=True)
    def test_memory_of_10000_plain_clients_goes_back(self):
        self.measure(10000, False, 1024)

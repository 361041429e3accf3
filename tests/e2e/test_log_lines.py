"""What the log says of clients: enough to find the one that it is about."""
import socket
import struct

from shoal_test.case import Case, only_shoal


@only_shoal
class ClientLines(Case):
    def test_a_broken_connection_is_told_with_its_client(self):
        broker = self.broker(1)
        client = broker.client("fragile")
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sock.close()
        broker.wait_log(r"\(client fragile\): connection lost: .*reset by peer")

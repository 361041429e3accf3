"""Packets of every broken kind end only their own connection, with the reason code of the specification."""
from shoal_test import packets
from shoal_test.case import Case, only_shoal, workers
from shoal_test.client import Closed
from shoal_test.packets import packet, properties, text, variable

MALFORMED, PROTOCOL = 0x81, 0x82
ID = b"\0\1"


def connect5(flags=2, props=b"\0", payload=text("m"), keep_alive=b"\0\x3c", protocol=text("MQTT") + b"\5"):
    return packet(packets.CONNECT, protocol + bytes([flags]) + keep_alive + props + payload)


def publish5(body, flags=0):
    return packet(packets.PUBLISH, body, flags)


def prop(*raw):
    """Property bytes with their length in front."""
    return variable(len(raw)) + bytes(raw)


# What is sent as the first packet of a connection. Reason: CONNACK's reason code; a set: any of them, None: the
# connection may also be closed without a word (nothing says yet that the peer speaks MQTT 5).
FIRST = {
    "reserved connect flag": (connect5(3), {MALFORMED, None}),
    "connect fixed header flags": (bytes([0x11]) + connect5()[1:], {MALFORMED, None}),
    "connect will qos 3": (connect5(2 | 4 | 24, payload=text("m") + b"\0" + text("w") + text("")), {MALFORMED}),
    "connect will qos without will": (connect5(2 | 8), {MALFORMED, PROTOCOL}),
    "connect will retain without will": (connect5(2 | 32), {MALFORMED, PROTOCOL}),
    "connect ends in the client identifier": (connect5(payload=b"\0\5ab"), {MALFORMED}),
    "connect ends before the client identifier": (connect5(payload=b""), {MALFORMED}),
    "connect with bytes after its payload": (connect5(payload=text("m") + b"x"), {MALFORMED}),
    "connect password flag without password": (connect5(2 | 64), {MALFORMED}),
    "connect user name not utf-8": (connect5(2 | 128, payload=text("m") + text(b"\xff\xfe")), {MALFORMED}),
    "connect client identifier with nul": (connect5(payload=text("a\0b")), {MALFORMED, 0x85}),
    "connect client identifier not utf-8": (connect5(payload=text(b"\xc3\x28")), {MALFORMED, 0x85}),
    "connect surrogate in utf-8": (connect5(payload=text(b"\xed\xa0\x80")), {MALFORMED, 0x85}),
    "connect overlong utf-8": (connect5(payload=text(b"\xc0\xaf")), {MALFORMED, 0x85}),
    "connect property twice": (connect5(props=properties({"receive_maximum": [1, 2]})), {PROTOCOL}),
    "connect receive maximum 0": (connect5(props=properties({"receive_maximum": 0})), {PROTOCOL}),
    "connect maximum packet size 0": (connect5(props=properties({"maximum_packet_size": 0})), {PROTOCOL}),
    "connect request problem information 2": (connect5(props=properties({"request_problem_information": 2})),
                                              {PROTOCOL}),
    "connect request response information 2": (connect5(props=properties({"request_response_information": 2})),
                                               {PROTOCOL}),
    "connect property of publish": (connect5(props=properties({"topic_alias": 1})), {MALFORMED, PROTOCOL}),
    "connect unknown property": (connect5(props=prop(0x7F, 1)), {MALFORMED, PROTOCOL}),
    "connect properties longer than the packet": (connect5(props=b"\x7f"), {MALFORMED}),
    "connect property cut short": (connect5(props=prop(0x11, 0, 0)), {MALFORMED}),
    "connect authentication data without method": (connect5(props=properties({"authentication_data": b"x"})),
                                                   {PROTOCOL}),
    "connect will topic empty": (connect5(2 | 4, payload=text("m") + b"\0" + text("") + text("")),
                                 {MALFORMED, PROTOCOL, 0x90}),
    "connect will topic with wildcard": (connect5(2 | 4, payload=text("m") + b"\0" + text("a/#") + text("")),
                                         {MALFORMED, PROTOCOL, 0x90}),
    "connect will ends in the payload": (connect5(2 | 4, payload=text("m") + b"\0" + text("w") + b"\0\x09ab"),
                                         {MALFORMED}),
    "connect will property of connect": (connect5(2 | 4, payload=text("m") + properties({"receive_maximum": 1}) +
                                                  text("w") + text("")), {MALFORMED, PROTOCOL}),
    "connect protocol name alone": (packet(packets.CONNECT, text("MQTT")), {MALFORMED, None}),
    "connect empty": (packet(packets.CONNECT), {MALFORMED, None}),
    "connect remaining length of five bytes": (b"\x10\xff\xff\xff\xff\x01", {MALFORMED, None}),
    "packet type 0": (b"\0\0", {None}),
    "publish first": (packets.publish(5, "a", b"x"), {None}),
    "auth first": (packet(packets.AUTH), {None}),
    "an http request": (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", {None}),
    "connack from a client": (b"\x20\x03\0\0\0", {None}),
}

# What is sent by a connected MQTT 5 client: DISCONNECT's reason code.
LATER = {
    "packet type 0": (b"\x00\x00", {MALFORMED}),
    "remaining length of five bytes": (b"\x30\xff\xff\xff\xff\x01", {MALFORMED}),
    "connack": (b"\x20\x03\0\0\0", {MALFORMED, PROTOCOL}),
    "suback": (b"\x90\x04\0\1\0\0", {MALFORMED, PROTOCOL}),
    "unsuback": (b"\xb0\x04\0\1\0\0", {MALFORMED, PROTOCOL}),
    "pingresp": (b"\xd0\0", {MALFORMED, PROTOCOL}),
    "publish qos 3": (publish5(text("a") + ID + b"\0", 6), {MALFORMED}),
    "publish dup at qos 0": (publish5(text("a") + b"\0", 8), {MALFORMED, PROTOCOL}),
    "publish packet identifier 0": (publish5(text("a") + b"\0\0\0", 2), {MALFORMED, PROTOCOL}),
    "publish empty": (publish5(b""), {MALFORMED}),
    "publish ends in the topic": (publish5(b"\0\x09abc"), {MALFORMED}),
    "publish ends before the packet identifier": (publish5(text("a"), 2), {MALFORMED}),
    "publish ends before the properties": (publish5(text("a")), {MALFORMED}),
    "publish properties longer than the packet": (publish5(text("a") + b"\x20"), {MALFORMED}),
    "publish property length of five bytes": (publish5(text("a") + b"\xff\xff\xff\xff\x01"), {MALFORMED}),
    "publish topic with +": (publish5(text("a/+") + b"\0"), {MALFORMED, PROTOCOL, 0x90}),
    "publish topic with #": (publish5(text("#") + b"\0"), {MALFORMED, PROTOCOL, 0x90}),
    "publish empty topic without alias": (publish5(text("") + b"\0"), {PROTOCOL}),
    "publish topic with nul": (publish5(text("a\0") + b"\0"), {MALFORMED}),
    "publish topic not utf-8": (publish5(text(b"\xff") + b"\0"), {MALFORMED}),
    "publish topic with surrogate": (publish5(text(b"\xed\xbf\xbf") + b"\0"), {MALFORMED}),
    "publish subscription identifier from a client": (publish5(text("a") + properties({"subscription_identifier": 1})),
                                                      {PROTOCOL}),
    "publish topic alias 0": (publish5(text("a") + properties({"topic_alias": 0})), {0x94}),
    "publish topic alias unknown": (publish5(text("") + properties({"topic_alias": 1})), {PROTOCOL, 0x94}),
    "publish topic alias twice": (publish5(text("a") + properties({"topic_alias": [1, 1]})), {PROTOCOL}),
    "publish payload format 2": (publish5(text("a") + properties({"payload_format_indicator": 2})),
                                 {MALFORMED, PROTOCOL}),
    "publish response topic with wildcard": (publish5(text("a") + properties({"response_topic": "b/#"})),
                                             {MALFORMED, PROTOCOL, 0x90}),
    "publish unknown property": (publish5(text("a") + prop(0x7E)), {MALFORMED, PROTOCOL}),
    "publish property of connect": (publish5(text("a") + properties({"receive_maximum": 1})), {MALFORMED, PROTOCOL}),
    "publish user property cut short": (publish5(text("a") + prop(0x26, 0, 1, 97, 0, 5, 98)), {MALFORMED}),
    "puback with flags": (b"\x41\x02\0\1", {MALFORMED}),
    "puback of one byte": (b"\x40\x01\0", {MALFORMED}),
    "puback identifier 0": (packets.acknowledgement(packets.PUBACK, 0), {MALFORMED, PROTOCOL}),
    "puback unknown reason": (packets.acknowledgement(packets.PUBACK, 1, 0x55), {MALFORMED, PROTOCOL}),
    "puback reason string twice": (packets.acknowledgement(packets.PUBACK, 1, 0, {"reason_string": ["a", "b"]}),
                                   {PROTOCOL}),
    "puback with bytes after the properties": (packet(packets.PUBACK, ID + b"\0\0x"), {MALFORMED}),
    "pubrec with flags": (b"\x52\x02\0\1", {MALFORMED}),
    "pubrel without flags": (b"\x60\x02\0\1", {MALFORMED}),
    "pubrel empty": (b"\x62\0", {MALFORMED}),
    "pubcomp with flags": (b"\x78\x02\0\1", {MALFORMED}),
    "subscribe without flags": (b"\x80\x07\0\1\0\0\1a\0", {MALFORMED}),
    "subscribe identifier 0": (packets.subscribe(5, 0, [("a", 0)]), {MALFORMED, PROTOCOL}),
    "subscribe without filters": (packets.subscribe(5, 1, []), {MALFORMED, PROTOCOL}),
    "subscribe empty": (b"\x82\0", {MALFORMED}),
    "subscribe qos 3": (packets.subscribe(5, 1, [("a", 3)]), {MALFORMED, PROTOCOL}),
    "subscribe reserved option bits": (packets.subscribe(5, 1, [("a", 0x40)]), {MALFORMED, PROTOCOL}),
    "subscribe retain handling 3": (packets.subscribe(5, 1, [("a", 0x30)]), {MALFORMED, PROTOCOL}),
    "subscribe filter without options": (packet(packets.SUBSCRIBE, ID + b"\0" + text("a"), 2), {MALFORMED}),
    "subscribe filter cut short": (packet(packets.SUBSCRIBE, ID + b"\0\0\x09a", 2), {MALFORMED}),
    "subscribe filter not utf-8": (packets.subscribe(5, 1, [(b"\x80", 0)]), {MALFORMED}),
    "subscribe identifier property 0": (packets.subscribe(5, 1, [("a", 0)], {"subscription_identifier": 0}),
                                        {PROTOCOL}),
    "subscribe identifier property twice": (packets.subscribe(5, 1, [("a", 0)], {"subscription_identifier": [1, 2]}),
                                            {PROTOCOL}),
    "subscribe no local on a shared subscription": (packets.subscribe(5, 1, [("$share/g/a", 4)]), {PROTOCOL}),
    "unsubscribe without flags": (b"\xa0\x06\0\1\0\0\1a", {MALFORMED}),
    "unsubscribe identifier 0": (packets.unsubscribe(5, 0, ["a"]), {MALFORMED, PROTOCOL}),
    "unsubscribe without filters": (packets.unsubscribe(5, 1, []), {MALFORMED, PROTOCOL}),
    "unsubscribe filter cut short": (packet(packets.UNSUBSCRIBE, ID + b"\0\0\x09a", 2), {MALFORMED}),
    "unsubscribe property of subscribe": (packets.unsubscribe(5, 1, ["a"], {"subscription_identifier": 1}),
                                          {MALFORMED, PROTOCOL}),
    "pingreq with flags": (b"\xc1\0", {MALFORMED}),
    "pingreq with a body": (b"\xc0\x01\0", {MALFORMED}),
    "disconnect with flags": (b"\xe1\0", {MALFORMED}),
    "disconnect unknown reason": (packets.disconnect(5, 0x55), {MALFORMED, PROTOCOL}),
    "disconnect property of publish": (packets.disconnect(5, 0, {"topic_alias": 1}), {MALFORMED, PROTOCOL}),
    "disconnect with bytes after the properties": (packet(packets.DISCONNECT, b"\0\0x"), {MALFORMED}),
    "auth without a method": (packet(packets.AUTH, b"\x18\0"), {MALFORMED, PROTOCOL}),
    "auth with flags": (b"\xf1\0", {MALFORMED}),
}

# What is sent by a connected 3.1.1 client: closed without a word.
OLD = {
    "publish qos 3": packet(packets.PUBLISH, text("a") + ID, 6),
    "publish with wildcard": packets.publish(4, "a/#", b""),
    "publish empty topic": packets.publish(4, "", b""),
    "publish identifier 0": packets.publish(4, "a", b"", 1, 0),
    "puback too long": packet(packets.PUBACK, ID + b"\0"),
    "pubrel without flags": packet(packets.PUBREL, ID),
    "subscribe reserved option bits": packets.subscribe(4, 1, [("a", 4)]),
    "subscribe without filters": packets.subscribe(4, 1, []),
    "unsubscribe without filters": packets.unsubscribe(4, 1, []),
    "disconnect with a body": packet(packets.DISCONNECT, b"\0"),
    "auth": packet(packets.AUTH),
    "second connect": packets.connect(4, "m"),
    "packet type 0": b"\0\0",
    "pingresp": b"\xd0\0",
}


class Malformed(Case):
    def others_are_served(self, bystander, sender, count):
        sender.publish("bystander", b"%d" % count, 1)
        bystander.wait_messages(count)

    def attack(self, broker, table, attack):
        bystander, sender = broker.client("bystander"), broker.client("sender", version=4)
        bystander.subscribe("bystander", 1)
        wrong = []
        for number, (name, entry) in enumerate(table.items()):
            got, allowed = attack(entry)
            if got not in allowed:
                wrong.append("%s: got %s, expected %s" % (name, got if got is None else hex(got) if got != -1 else "no end",
                             sorted("nothing" if code is None else hex(code) for code in allowed)))
            self.others_are_served(bystander, sender, number + 1)
        self.assertEqual(wrong, [])

    @only_shoal
    @workers(1, 2)
    def test_broken_first_packets_are_refused(self, count):
        broker = self.broker(count)

        def attack(entry):
            data, allowed = entry
            client = broker.client(connect=False)
            client.send(data)
            client.expect_closed()
            answers = [got.reason for got in client.received if got.kind == packets.CONNACK]
            return answers[0] if answers else None, allowed
        self.attack(broker, FIRST, attack)

    @only_shoal
    @workers(1, 2)
    def test_broken_packets_end_with_their_reason(self, count):
        broker = self.broker(count)

        def attack(entry):
            data, allowed = entry
            client = broker.client("attacker")
            client.send(data)
            try:
                goodbye = client.expect_closed()
            except Exception:
                return -1, allowed
            return goodbye and goodbye.reason, allowed
        self.assertGreaterEqual(len(LATER), 60)
        self.attack(broker, LATER, attack)

    @only_shoal
    def test_broken_packets_of_3_1_1_end_without_a_word(self):
        broker = self.broker()

        def attack(data):
            client = broker.client("attacker", version=4)
            before = len(client.received)
            client.send(data)
            try:
                client.expect_closed()
            except Exception:
                return -1, {None}
            return (None if len(client.received) == before else 0), {None}
        self.attack(broker, OLD, attack)

    def test_half_packets_and_resets_harm_nobody(self):
        broker = self.broker(2)
        bystander, sender = broker.client("bystander"), broker.client("sender")
        bystander.subscribe("bystander", 1)
        whole = packets.publish(5, "bystander", b"never", 1, 1)
        for cut in range(1, len(whole)):
            client = broker.client("half", tls=cut % 3 == 0)
            client.send(whole[:cut])
            client.drop()
        self.others_are_served(bystander, sender, 1)
        self.assertEqual(bystander.payloads(), [b"1"])

    def test_random_bytes_harm_nobody(self):
        import random
        random.seed(4711)
        broker = self.broker(2)
        bystander, sender = broker.client("bystander"), broker.client("sender")
        bystander.subscribe("bystander", 1)
        for round_number in range(150):
            client = broker.client("noise", connect=round_number % 3 > 0)
            try:
                client.send(random.randbytes(random.choice((3, 20, 300, 5000))))
                client.pump(0.005)
            except Closed:
                pass
            client.drop()
        self.others_are_served(bystander, sender, 1)

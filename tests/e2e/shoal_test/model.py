"""
What MQTT promises, in memory: sessions, subscriptions, retained messages and groups, and for each publication what must come
to whom. It knows no broker; test_random.py tells it what happened and holds it against what came.
"""
import collections
import time

EARLY, LATE = 0.8, 2.3  # an expiry of one second is not over before, and is over after that many


def matches(topic_filter, topic):
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for index, part in enumerate(wanted):
        if part == "#":
            return True
        if index >= len(levels) or part not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)


class Wrong(AssertionError):
    """The broker did what the model forbids."""


Subscription = collections.namedtuple("Subscription", "qos no_local as_published identifier", defaults=(False, False, None))


class Due:
    """A copy of a publication that must come to a session."""

    def __init__(self, publication, qos, retain, identifiers, kept=False):
        self.publication, self.qos, self.retain, self.identifiers = publication, qos, retain, identifiers
        self.kept = kept             # it was retained when the session subscribed
        self.away = False            # published while the session had no client, which has not come back yet
        self.waited = False          # … and has
        self.optional = False        # it may have expired
        self.connection = None       # through which it came

    def fits(self, got, version):
        same = got.topic == self.publication.topic and got.qos == self.qos
        if version < 5:
            return same
        return same and got.retain == self.retain and sorted(got.props.get("subscription_identifier", [])) == self.identifiers

    def __repr__(self):
        return "%r qos %d retain=%s identifiers %r" % (self.publication, self.qos, self.retain, self.identifiers)


class Publication:
    def __init__(self, topic, payload, qos, publisher, retain=False, expiry=None):
        self.topic, self.payload, self.qos, self.retain, self.expiry = topic, payload, qos, retain, expiry
        self.publisher = publisher   # connection, or None for a will
        self.time = time.monotonic()
        self.floating = False        # nobody has seen when it was published: later subscribers may get it, too
        self.copies, self.came, self.lax = 0, 0, False  # of shared subscriptions; lax: a member left meanwhile

    def __repr__(self):
        return "%s %r" % (self.topic, self.payload)


class Session:
    def __init__(self, lasting):
        self.lasting = lasting
        self.owner = None            # slot
        self.online = True
        self.filters = {}            # filter → Subscription; shared ones are in World.groups
        self.due = collections.defaultdict(list)   # payload → [Due]
        self.done = collections.defaultdict(list)
        self.newest = {}             # (publisher, topic, QoS) → number of the last that came
        self.held_ids = set()        # QoS 2 identifiers that the client knows while it is away

    def missing(self):
        return [due for each in self.due.values() for due in each if not due.optional]


class World:
    """Topics below n/ are for ordinary subscriptions, those below g/ for shared ones."""

    def __init__(self):
        self.sessions, self.retained, self.publications = {}, {}, {}
        self.groups = collections.defaultdict(set)   # (group, filter) → names of its members
        self.seen = collections.Counter()            # what happened, to tell a run that shows nothing

    # What happens ---------------------------------------------------------------------------------------------
    def publish(self, publication, publisher_name=None, moving=None):
        """The broker has it. Tells what must come from it; at QoS 0 it may, to the session that is being taken over."""
        self.publications[publication.payload] = publication
        if publication.retain:
            self.retained[publication.topic] = publication
        for name, session in self.sessions.items():
            chosen = [each for topic_filter, each in session.filters.items() if matches(topic_filter, publication.topic)
                      and not (each.no_local and name == publisher_name)]
            qos = min(max((each.qos for each in chosen), default=0), publication.qos)
            if chosen and (qos or session.online or name == moving):
                retain = publication.retain and any(each.as_published for each in chosen)
                identifiers = sorted(each.identifier for each in chosen if each.identifier)
                due = Due(publication, qos, retain, identifiers)
                due.away, due.optional = not session.online, not qos and name == moving
                session.due[publication.payload].append(due)
        for (_, topic_filter), members in self.groups.items():
            publication.copies += bool(members) and matches(topic_filter, publication.topic)

    def subscribe(self, name, topic_filter, subscription, retain_handling=0):
        session = self.sessions[name]
        if topic_filter.startswith("$share/"):
            _, group, topic_filter = topic_filter.split("/", 2)
            self.groups[group, topic_filter].add(name)
            return
        for topic, kept in self.retained.items():
            wanted = retain_handling == 0 or (retain_handling == 1 and topic_filter not in session.filters)
            if wanted and matches(topic_filter, topic):
                identifiers = [subscription.identifier] if subscription.identifier else []
                session.due[kept.payload].append(Due(kept, min(subscription.qos, kept.qos), True, identifiers, kept=True))
        session.filters[topic_filter] = subscription

    def unsubscribe(self, name, topic_filter):
        if topic_filter.startswith("$share/"):
            _, group, topic_filter = topic_filter.split("/", 2)
            self._leave(name, (group, topic_filter))
        else:
            del self.sessions[name].filters[topic_filter]

    def shared_filters(self, name):
        return ["$share/%s/%s" % key for key, members in sorted(self.groups.items()) if name in members]

    def connected(self, name, began):
        """Its client is back; `began`: when it sent CONNECT."""
        session, now = self.sessions[name], time.monotonic()
        session.online = True
        for payload, each in session.due.items():
            for due in each:
                if due.away and due.publication.expiry == 1:
                    due.optional = now > due.publication.time + EARLY
            session.due[payload] = [due for due in each if not (due.optional and began > due.publication.time + LATE)]
            self.seen["expired"] += len(each) - len(session.due[payload])
            for due in session.due[payload]:
                due.away, due.waited = False, due.waited or due.away

    def connection_ended(self, name, held_ids):
        """The session is without its client, or ends."""
        session = self.sessions[name]
        session.online, session.held_ids = False, set(held_ids)
        for payload in list(session.due):
            session.due[payload] = [due for due in session.due[payload] if due.qos]
        self.relax(name)
        if not session.lasting:
            self.session_ended(name)

    def session_ended(self, name):
        del self.sessions[name]
        for key in list(self.groups):
            self._leave(name, key)

    def relax(self, name):
        """What a member of a group had not acknowledged may go to another: at QoS 1 twice then, at QoS 2 never again."""
        keys = [key for key, members in self.groups.items() if name in members]
        for publication in self.publications.values():
            publication.lax |= any(matches(key[1], publication.topic) for key in keys)

    def _leave(self, name, key):
        self.relax(name)
        self.groups[key].discard(name)
        if not self.groups[key]:
            del self.groups[key]

    # What comes -----------------------------------------------------------------------------------------------
    def came(self, name, client, got):
        session, publication = self.sessions[name], self.publications.get(got.payload)
        if publication is None:
            raise Wrong("%s got %r, which nobody published" % (name, got))
        if client.version == 5 and not got.props.get("message_expiry_interval", 0) <= (publication.expiry or 0):
            raise Wrong("%s got %r, which lasts %r s" % (name, got, publication.expiry))
        if publication.topic.split("/")[1] == "g":
            self._came_shared(name, publication, got)
            return
        for due in session.due[got.payload]:
            if due.fits(got, client.version):
                session.due[got.payload].remove(due)
                session.done[got.payload].append(due)
                due.connection = client
                self.seen["kept" if due.kept else "while away" if due.waited else "wills" if not publication.publisher else
                          "live"] += 1
                self._check_new(name, session, due)
                return
        again = [due for due in session.done[got.payload] if due.qos == got.qos == 1 and due.connection is not client]
        if not (again and got.dup) and not publication.floating:
            raise Wrong("%s got %r; due were %r, done %r"
                        % (name, got, session.due[got.payload], session.done[got.payload]))
        self.seen["again"] += 1

    def _check_new(self, name, session, due):
        publication = due.publication
        if due.kept or publication.publisher is None:
            return
        key = (publication.publisher, publication.topic, due.qos)
        number = int(publication.payload)
        if number < session.newest.get(key, 0):
            raise Wrong("%s got %r after %d" % (name, due, session.newest[key]))
        session.newest[key] = number

    def _came_shared(self, name, publication, got):
        publication.came += 1
        self.seen["to a group"] += 1
        if publication.came > publication.copies and not (publication.lax and got.qos == 1):
            raise Wrong("%s got %r, the %dth of %d copies" % (name, got, publication.came, publication.copies))

    # At the end -----------------------------------------------------------------------------------------------
    def shared_missing(self):
        return [publication for publication in self.publications.values()
                if publication.came < publication.copies and publication.qos and not publication.lax]

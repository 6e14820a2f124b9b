"""What receivers saw: deliveries, refusals, sessions, and the octets of those that keep them."""

import collections
import dataclasses
import json


@dataclasses.dataclass
class Delivery:
    """One recipient that a receiver took (250 after the dot) or refused."""

    receiver: str
    session: int
    time: float
    tls: str  # "clear", "TLSv1.2", "TLSv1.3"
    cipher: str
    resumed: bool
    sender: str
    recipient: str
    code: int
    message_id: str = ""
    campaign: str = ""
    size: int = 0
    transaction: int = 0
    sent_at: float = 0.0
    peer: str = ""
    sni: str = ""  # the name that the client asked for
    client: str = ""  # the common name of the client's certificate, where one was asked for and held
    parameters: str = ""  # of MAIL: "SIZE=300 REQUIRETLS"


class Recorder:
    """What the receivers saw.  Written by the receivers' thread; reading from another one is fine."""

    def __init__(self, file=None):
        self.deliveries = []  # recipients with 250
        self.refusals = []  # recipients with 4yz or 5yz, at RCPT or after the dot
        self.sessions = collections.defaultdict(int)  # receiver name: connections so far
        self.open = collections.defaultdict(int)
        self.peak = collections.defaultdict(int)
        self.commands = collections.defaultdict(collections.Counter)
        self.transcripts = collections.defaultdict(list)  # name: [Session] with record=True
        self.bodies = {}  # (receiver, message id): octets
        self.helo = collections.defaultdict(list)
        self._file = open(file, "a", buffering=1 << 16) if file else None
        self._next = 0

    def number(self):
        self._next += 1
        return self._next

    def recipient(self, delivery):
        (self.deliveries if delivery.code == 250 else self.refusals).append(delivery)
        if self._file:
            self._file.write(json.dumps(dataclasses.asdict(delivery)) + "\n")

    def note(self, **event):
        if self._file:
            self._file.write(json.dumps(event) + "\n")

    def flush(self):
        if self._file:
            self._file.flush()

    def connected(self, name):
        self.sessions[name] += 1
        self.open[name] += 1
        self.peak[name] = max(self.peak[name], self.open[name])

    # ---- questions that tests ask ----
    def to(self, recipient):
        return [d for d in self.deliveries if d.recipient == recipient]

    def at(self, name):
        return [d for d in self.deliveries if d.receiver == name]

    def clear(self):
        return [d for d in self.deliveries if d.tls == "clear"]

"""A load that remembers exactly what was answered 250, even when the daemon dies in the middle of a word."""

import itertools
import random
import socket
import threading
import time

from harness import SENDER, compose

_serial = itertools.count(1)


class Load:
    """
    `sessions` threads that submit to `address`, reconnecting for ever until stop(); with a `context` over STARTTLS, and anew after
    `per_connection` messages.
    """

    def __init__(self, address, domains, sessions=4, rate=500, recipients=1, pad=2000, context=None, per_connection=None,
                 shared=None):
        self.address, self.domains, self.rate, self.recipients, self.pad = address, domains, rate, recipients, pad
        self.shared = shared  # the content of every second message
        self.acknowledged = {}  # message id: [recipients], since the 250 has been read
        self.sent = set()  # message ids whose dot left
        self.refused = 0
        self.broken = 0  # connections that the other side ended
        self.context, self.per_connection = context, per_connection
        self._stop = threading.Event()
        self._gap = sessions / rate
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(sessions)]

    def start(self):
        for t in self._threads:
            t.start()
        return self

    def stop(self):
        self._stop.set()
        for t in self._threads:
            t.join(20)

    def _run(self):
        while not self._stop.is_set():
            try:
                with socket.create_connection(self.address, 5) as s:
                    s.settimeout(20)
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    if self.context:
                        with self._secure(s) as t:
                            self._session(t, t.makefile("rb"), greet=False)
                    else:
                        self._session(s, s.makefile("rb"))
            except OSError:
                self.broken += 1
                time.sleep(0.02)

    def _secure(self, s):
        f = s.makefile("rb")
        f.readline()
        s.sendall(b"EHLO load.example\r\n")
        while f.readline()[3:4] == b"-":
            pass
        s.sendall(b"STARTTLS\r\n")
        if not f.readline().startswith(b"220"):
            raise ConnectionError
        f.close()
        return self.context.wrap_socket(s)

    def _session(self, s, f, greet=True):
        def reply():
            while True:
                line = f.readline()
                if not line.endswith(b"\n"):
                    raise ConnectionError
                if line[3:4] != b"-":
                    return int(line[:3])

        if greet:
            reply()
        s.sendall(b"EHLO load.example\r\n")
        reply()
        for _ in range(self.per_connection) if self.per_connection else itertools.count():
            if self._stop.is_set():
                break
            began = time.monotonic()
            n = next(_serial)
            rcpts = [f"r{n}-{k}@{random.choice(self.domains)}" for k in range(self.recipients)]
            own = b"z" * 70 + b"\r\n" + (b"p" * 76 + b"\r\n") * random.randrange(self.pad // 78)
            message_id, text = compose(rcpts, body=self.shared if self.shared and n % 2 else own)
            s.sendall(f"MAIL FROM:<{SENDER}>\r\n{''.join(f'RCPT TO:<{r}>' + chr(13) + chr(10) for r in rcpts)}DATA\r\n".encode())
            codes = [reply() for _ in range(len(rcpts) + 2)]
            if codes[-1] != 354:
                self.refused += 1
                if 421 in codes:
                    return
                s.sendall(b"RSET\r\n")
                reply()
                time.sleep(0.05)
                continue
            self.sent.add(message_id)
            s.sendall(text + b".\r\n")
            code = reply()
            if code == 250:
                self.acknowledged[message_id] = rcpts
            else:
                self.refused += 1
                if code == 421:
                    return
            left = self._gap - (time.monotonic() - began)
            if left > 0:
                time.sleep(left)

"""A server that says exactly what its script says, octet by octet, and notes what it heard: for what no receiver should do."""

import socket
import struct
import threading
import time

HELLO = b"220 liar.test ESMTP\r\n"
PIPELINES = b"250-liar.test\r\n250 PIPELINING\r\n"
PLAIN = b"250 liar.test\r\n"


class Gone(Exception):
    """The client has left."""


class Talk:
    """One connection; `heard` is every octet that came."""

    def __init__(self, sock, number):
        self.sock, self.number = sock, number
        self.buf, self.heard = bytearray(), bytearray()
        self.sent = 0
        self.began, self.ended = time.time(), None

    def say(self, data):
        """Octets as they are, as far as the client takes them."""
        view = memoryview(data)
        try:
            while view:
                n = self.sock.send(view[:1 << 16])
                self.sent += n
                view = view[n:]
        except OSError:
            raise Gone from None

    def more(self):
        try:
            chunk = self.sock.recv(1 << 16)
        except OSError:
            chunk = b""
        if not chunk:
            raise Gone
        self.buf += chunk
        self.heard += chunk

    def line(self):
        while b"\n" not in self.buf:
            self.more()
        line, _, rest = bytes(self.buf).partition(b"\n")
        self.buf = bytearray(rest)
        return line.rstrip(b"\r")

    def data(self):
        """A message up to its final dot."""
        while not (self.buf.startswith(b".\r\n") or b"\r\n.\r\n" in self.buf):
            self.more()
        if self.buf.startswith(b".\r\n"):
            data, self.buf = b"", self.buf[3:]
        else:
            data, _, rest = bytes(self.buf).partition(b"\r\n.\r\n")
            data, self.buf = data + b"\r\n", bytearray(rest)
        return data

    def octets(self, count):
        while len(self.buf) < count:
            self.more()
        taken, self.buf = bytes(self.buf[:count]), self.buf[count:]
        return taken

    def hang_up(self):
        raise Gone

    def reset(self):
        """An end without a goodbye."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Gone

    def wait_for_end(self):
        while True:
            self.more()


class Liar:
    """
    Plays `script(talk)` with each client, and then hangs up.  `polite(talk, replies)` is a script for what an ordinary server
    says except where `replies` (verb → octets, or function of the talk and the line) says otherwise.
    """

    def __init__(self, address, script, port=2526, receive_buffer=None):
        self.script, self.talks = script, []
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.listener.bind((address, port))
        self.listener.listen(256)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talk = Talk(sock, len(self.talks))
            self.talks.append(talk)
            threading.Thread(target=self._play, args=(talk,), daemon=True).start()

    def _play(self, talk):
        try:
            self.script(talk)
        except Gone:
            pass
        finally:
            talk.ended = time.time()
            talk.sock.close()

    def stop(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for talk in self.talks:
            if talk.ended is None:
                try:
                    talk.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


def polite(talk, replies=None, ehlo=PLAIN, taken=None):
    """An ordinary server, but for `replies`; messages go to the list `taken` as (recipients, octets)."""
    replies = replies or {}

    def answer(verb, line, usual):
        reply = replies.get(verb, usual)
        if callable(reply):
            reply = reply(talk, line)
            reply = usual if reply is None else reply
        talk.say(reply)
        return reply

    answer("CONNECT", b"", HELLO)
    rcpts = []
    while True:
        line = talk.line()
        verb = line.partition(b" ")[0].upper().decode("ascii", "replace")
        if verb in ("EHLO", "HELO"):
            answer(verb, line, ehlo if verb == "EHLO" else PLAIN)
        elif verb in ("MAIL", "RSET"):
            rcpts = []
            answer(verb, line, b"250 ok\r\n")
        elif verb == "RCPT":
            if answer(verb, line, b"250 ok\r\n").startswith(b"2"):
                rcpts.append(line.partition(b"<")[2].partition(b">")[0].decode())
        elif verb == "DATA":
            if not answer(verb, line, b"354 go on\r\n" if rcpts else b"503 no recipients\r\n").startswith(b"354"):
                continue
            data = talk.data()
            if answer("DOT", data, b"250 taken\r\n" if rcpts else b"554 no recipients\r\n").startswith(b"2") and taken is not None:
                taken.append((list(rcpts), data))
        elif verb == "BDAT":
            data = talk.octets(int(line.split()[1]))
            if answer("BDAT", data, b"250 taken\r\n").startswith(b"2") and taken is not None:
                taken.append((list(rcpts), data))
        elif verb == "QUIT":
            answer(verb, line, b"221 bye\r\n")
            return
        else:
            answer(verb, line, b"500 what?\r\n")

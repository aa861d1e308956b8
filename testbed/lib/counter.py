"""Clients of a Redis server that count: each has keys of its own, and every reply is the next number.

    counter.py ADDRESS PORT CONNECTIONS DEPTH READY JSON

Each connection has DEPTH commands under way. On SIGINT nothing more is asked, what is under way is
answered, and JSON says how much was asked and answered, the longest silence, and what was wrong.
Ends in failure if a reply was lost, repeated or wrong, or a connection was.
"""

import json
import os
import selectors
import signal
import socket
import sys
import time

ADDRESS, PORT, CONNECTIONS, DEPTH = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
READY, JSON = sys.argv[5], sys.argv[6]
# What a reply may take before somebody is said to be lost.
PATIENCE = 20.0

ending = False


def end(*_):
    global ending
    ending = True


class Counter:
    def __init__(self, number):
        self.key = f"{os.getpid()}:{number}".encode()
        self.socket = socket.create_connection((ADDRESS, PORT), timeout=PATIENCE)
        self.socket.setblocking(False)
        self.asked = self.answered = self.reached = 0
        self.heard = b""
        self.unsent = b""
        self.wrong = None
        self.over = False

    def ask(self):
        while not ending and self.asked - self.answered < DEPTH:
            self.asked += 1
            # Every other command asks for a long answer.
            if self.asked % 2:
                self.unsent += b"INCR %s\r\n" % self.key
            else:
                self.unsent += b"SETRANGE %s:t %d %s\r\n" % (self.key, self.asked % 1000, b"x" * 50)
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass

    def expects(self, number):
        if number % 2:
            return b":%d" % ((number + 1) // 2)
        self.reached = max(self.reached, number % 1000 + 50)
        return b":%d" % self.reached

    def hear(self):
        try:
            piece = self.socket.recv(1 << 16)
        except BlockingIOError:
            return False
        if not piece:
            raise ConnectionError("ended")
        *lines, self.heard = (self.heard + piece).split(b"\r\n")
        for line in lines:
            self.answered += 1
            wanted = self.expects(self.answered)
            if line != wanted and self.wrong is None:
                self.wrong = f"reply {self.answered} is {line!r}, not {wanted!r}"
        return True

    def is_done(self):
        return self.over or (ending and self.answered == self.asked)


signal.signal(signal.SIGINT, end)
counters = [Counter(number) for number in range(CONNECTIONS)]
waits = selectors.DefaultSelector()
for counter in counters:
    waits.register(counter.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, counter)
lost = []
last, gap, ready = time.monotonic(), 0.0, False
while not all(counter.is_done() for counter in counters):
    for key, _ in waits.select(0.2):
        counter = key.data
        try:
            heard = counter.hear()
            counter.ask()
        except OSError as error:
            lost.append(f"{counter.key.decode()}: {error} after {counter.answered} of {counter.asked}")
            counter.over, heard = True, False
            waits.unregister(counter.socket)
            continue
        if heard:
            now = time.monotonic()
            last, gap = now, max(gap, now - last)
        # To be called when there is room only where there is something to send.
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if counter.unsent else 0)
        waits.modify(counter.socket, events, counter)
    if not ready and all(counter.answered for counter in counters):
        ready = True
        with open(READY, "w") as file:
            file.write(str(os.getpid()))
    if time.monotonic() - last > PATIENCE:
        lost += [f"{c.key.decode()}: no reply after {c.answered}" for c in counters if not c.is_done()]
        break
wrong = [counter.wrong for counter in counters if counter.wrong]
summary = {
    "asked": sum(counter.asked for counter in counters),
    "answered": sum(counter.answered for counter in counters),
    "gap_ms": round(gap * 1000, 1),
    "lost": lost[:10],
    "wrong": wrong[:10],
}
with open(JSON, "w") as file:
    json.dump(summary, file)
print(summary)
sys.exit(1 if lost or wrong or not ready else 0)

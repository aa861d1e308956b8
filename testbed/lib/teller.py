"""A web server that tells: each request is written down when all of it has come, before any answer.

    teller.py NAME PORT FILE

A line of FILE is NAME, method, target, Idempotency-Key (or -), body. The query's `wait` is how many
seconds the answer takes; the answer's body is NAME.
"""

import http.server
import os
import socket
import sys
import time
import urllib.parse

NAME, PORT, FILE = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Teller(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        key = self.headers.get("Idempotency-Key", "-")
        line = f"{NAME} {self.command} {self.path} {key} {body}\n"
        with open(FILE, "ab", buffering=0) as told:
            told.write(line.encode())
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        time.sleep(float(query.get("wait", ["0"])[0]))
        reply = f"{NAME}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True
    request_queue_size = 128


server = Server(("::", PORT), Teller)
with open(f"{FILE}.{NAME}.pid", "w") as pid:
    pid.write(str(os.getpid()))
server.serve_forever()

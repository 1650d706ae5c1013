"""The peers of the gateways: AloVoice and a receiver. Both count what they get for each call."""

import collections
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

# Number of polls that find no result.
POLLS_WITHOUT_RESULT = 1


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # Replicas open connections in bursts.
    request_queue_size = 512

    def handle_error(self, request, client_address):
        """A replica that ends resets its connections."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Peer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def respond(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve(handler, **attributes):
    """Starts a server on a free port of loopback and returns its port."""
    server = Server(("127.0.0.1", 0), type(handler.__name__, (handler,), attributes))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


class Vendor:
    """AloVoice: accepts a call, and has its result after some polls."""

    def __init__(self):
        self.lock = threading.Lock()
        self.submits, self.polls = collections.Counter(), collections.Counter()
        self.port = serve(VendorHandler, vendor=self)

    def submit(self, call_id):
        with self.lock:
            self.submits[call_id] += 1
        return {"begin_time": 1716207617, "aicallid": "664b3f0a9d0c4e1f8a2b3c4d", "stereoaudio": f"/audio/{call_id}.mp3"}

    def result(self, call_id):
        with self.lock:
            if call_id not in self.submits:
                return None
            self.polls[call_id] += 1
            is_ready = self.polls[call_id] > POLLS_WITHOUT_RESULT
        answer = {"begin_time": 1716207617, "aicallid": "664b3f0a9d0c4e1f8a2b3c4d", "stereoaudio": f"/audio/{call_id}.mp3"}
        turn = {"begin": 1120, "end": 2960, "direction": "operator", "text": "assalomu alaykum", "fragment_id": "1"}
        return answer | ({"stalk": [turn], "tags": []} if is_ready else {})


class VendorHandler(Peer):
    vendor = None

    def do_GET(self):
        operation, _, call_id = self.path.strip("/").split("/")
        answer = self.vendor.submit(call_id) if operation == "callsendai" else self.vendor.result(call_id)
        if answer is None:
            return self.respond(404)
        return self.respond(200, json.dumps({"answer": answer}).encode())


class Receiver:
    """Receives callbacks at the path `/callback` and those of a webhook at `/webhook`, and counts them by path and call."""

    def __init__(self):
        self.changed = threading.Condition()
        self.received, self.faults = collections.Counter(), []
        # The secrets by path.
        self.secrets = {}
        self.port = serve(ReceiverHandler, receiver=self)

    def receive(self, path, headers, body):
        try:
            event = Webhook(self.secrets[path]).verify(body, headers)
        except Exception as error:  # Any error means a faulty callback.
            with self.changed:
                self.faults.append(f"{path}: {error!r}")
            return 400
        with self.changed:
            self.received[path, event["type"], event["data"]["call_id"]] += 1
            self.changed.notify_all()
        return 204


class ReceiverHandler(Peer):
    receiver = None

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.respond(self.receiver.receive(self.path, dict(self.headers), body))

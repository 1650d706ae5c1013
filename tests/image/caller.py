"""A CRM that submits calls, waits for them and receives their callbacks. Any failed request is an error.

Usage: caller.py INGRESS RECEIVER_PORT CALLBACK_SECRET_FILE COUNT_FILE, with TOKEN in the environment. The load runs until SIGTERM.
Then every call must complete and have exactly one callback. The exit code is 1 if any request failed, or if a call or a callback is lost or doubled.
"""

import http.client
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

INGRESS, RECEIVER_PORT, SECRET_FILE, COUNT_FILE = sys.argv[1:]
TOKEN = os.environ["TOKEN"]
# Number of callers that submit and read, and of callers that hold a request open until their call is finished.
SUBMITTERS, WAITERS = 4, 8
# Pause of a submitting caller in seconds. It limits the load on the machine.
PAUSE = 0.1
# Maximum time for a call in seconds. A longer time means that something hangs.
LAST_WAIT = 120

over = threading.Event()
lock = threading.Lock()
answered, failures, calls = 0, [], []
called_back = {}
changed = threading.Condition()


def failed(what):
    with lock:
        failures.append(what)


class Caller:
    """A caller with one persistent connection to the ingress."""

    def __init__(self):
        self.connection = http.client.HTTPConnection(INGRESS, timeout=90)

    def ask(self, method, path, body=None, prefer=None):
        """Returns the JSON of the response, or None after a failure, which is recorded."""
        global answered
        headers = {"Authorization": f"Bearer {TOKEN}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if prefer is not None:
            headers["Prefer"] = prefer
        try:
            self.connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            return failed(f"{method} {path}: {error!r}")
        if answer.status not in (200, 202):
            return failed(f"{method} {path}: {answer.status} {text[:200]!r}")
        with lock:
            answered += 1
        return json.loads(text)

    def submit(self, call_id):
        callback = {"url": f"http://127.0.0.1:{RECEIVER_PORT}/{call_id}"}
        with lock:
            calls.append(call_id)
        return self.ask("POST", "/v1/analyses", {"call_id": call_id, "callback": callback})

    def wait(self, call_id, until):
        """Returns whether the call is completed before the time `until`."""
        while time.monotonic() < until:
            analysis = self.ask("GET", f"/v1/analyses/{call_id}", prefer="wait=10")
            if analysis is None or analysis["status"] == "completed":
                return analysis is not None
            if analysis["status"] == "failed":
                return False
        return False


def run_submitter(number):
    caller, turn = Caller(), 0
    while not over.is_set():
        turn += 1
        call_id = f"submitter-{number}-{turn}"
        caller.submit(call_id)
        caller.ask("GET", f"/v1/analyses/{call_id}")
        caller.ask("GET", "/v1/analyses?limit=5")
        over.wait(PAUSE)


def run_waiter(number):
    caller, turn = Caller(), 0
    while not over.is_set():
        turn += 1
        call_id = f"waiter-{number}-{turn}"
        caller.submit(call_id)
        if not caller.wait(call_id, time.monotonic() + LAST_WAIT):
            failed(f"{call_id}: not completed")


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    with open(SECRET_FILE, encoding="ascii") as file:
        webhook = Webhook(file.read().strip())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = self.webhook.verify(body, dict(self.headers))
            with changed:
                called_back.setdefault(event["data"]["call_id"], []).append(event["data"]["status"])
                changed.notify_all()
            status = 204
        except Exception as error:  # Any error means a faulty callback.
            failed(f"callback {self.path}: {error!r}")
            status = 400
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def write_counts():
    """Writes the counts. The file is replaced atomically, so that readers never see a partial number."""
    while True:
        with open(f"{COUNT_FILE}.new", "w", encoding="ascii") as file:
            file.write(f"{answered} {len(failures)}\n")
        os.replace(f"{COUNT_FILE}.new", COUNT_FILE)
        time.sleep(0.2)


signal.signal(signal.SIGTERM, lambda *_: over.set())
receiver = ThreadingHTTPServer(("127.0.0.1", int(RECEIVER_PORT)), Receiver)
threading.Thread(target=receiver.serve_forever, daemon=True).start()
threading.Thread(target=write_counts, daemon=True).start()
callers = [threading.Thread(target=run_submitter, args=(number,)) for number in range(SUBMITTERS)]
callers += [threading.Thread(target=run_waiter, args=(number,)) for number in range(WAITERS)]
for thread in callers:
    thread.start()
for thread in callers:
    thread.join()

deadline, last = time.monotonic() + LAST_WAIT, Caller()
for call_id in calls:
    if not last.wait(call_id, deadline):
        failed(f"{call_id}: not completed")
with changed:
    changed.wait_for(lambda: all(call_id in called_back for call_id in calls), max(1, deadline - time.monotonic()))
counts = {call_id: called_back.get(call_id, []).count("completed") for call_id in calls}
lost = [call_id for call_id, count in counts.items() if count == 0]
doubled = [call_id for call_id, count in counts.items() if count > 1]

print(f"{answered} requests answered, {len(failures)} failed")
print(f"{len(calls)} calls submitted; callbacks of completed calls: {len(lost)} lost, {len(doubled)} doubled")
for what in failures[:10] + lost[:10] + doubled[:10]:
    print("FAILED", what)
sys.exit(1 if failures or lost or doubled or not calls else 0)

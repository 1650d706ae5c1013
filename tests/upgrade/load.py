"""Callers that submit, read and list calls at the ready replicas, without retries."""

import http.client
import json
import threading
import time

# Number of callers that submit and read, and of callers that hold a request open until their call is finished.
SUBMITTERS, WAITERS = 4, 4
# Pause of a submitting caller in seconds. It limits the load on the machine.
PAUSE = 0.05
# Interval in seconds at which the ingress asks each replica whether it is ready.
CHECK_INTERVAL = 0.05
# Time limit of a request in seconds.
REQUEST_LIMIT = 90
# Maximum time for a call in seconds. A longer time means that something hangs.
CALL_LIMIT = 120


def get_status(address, path):
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Ingress:
    """Chooses a ready replica for each request, in turn."""

    def __init__(self):
        self.changed, self.ready, self.turn = threading.Condition(), [], 0

    def follow(self, replica):
        """Polls the readiness of a replica until its process ends."""
        while replica.process.poll() is None:
            is_ready = get_status(replica.admin, "/readyz") == 200
            with self.changed:
                if is_ready != (replica in self.ready):
                    (self.ready.append if is_ready else self.ready.remove)(replica)
                    self.changed.notify_all()
            time.sleep(CHECK_INTERVAL)
        with self.changed:
            if replica in self.ready:
                self.ready.remove(replica)
                self.changed.notify_all()

    def choose(self):
        with self.changed:
            self.turn += 1
            return self.ready[self.turn % len(self.ready)] if self.ready else None


class Load:
    """The callers, and the counts of their requests."""

    def __init__(self, ingress, token, callback_url):
        self.ingress, self.token, self.callback_url = ingress, token, callback_url
        self.changed, self.over = threading.Condition(), threading.Event()
        self.answered, self.failures, self.calls, self.longest = 0, [], [], 0.0
        self.threads = [threading.Thread(target=self.submit_and_read, args=(number,)) for number in range(SUBMITTERS)]
        self.threads += [threading.Thread(target=self.submit_and_wait, args=(number,)) for number in range(WAITERS)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def fail(self, what):
        with self.changed:
            self.failures.append(what)
            self.changed.notify_all()

    def ask(self, method, path, body=None, prefer=None):
        """Returns the JSON of the response, or None after a failure, which is recorded."""
        replica = self.ingress.choose()
        if replica is None:
            return self.fail(f"{method} {path}: no replica is ready")
        headers = {"Authorization": f"Bearer {self.token}", "Connection": "close"}
        headers |= {"Content-Type": "application/json"} if body is not None else {}
        headers |= {"Prefer": prefer} if prefer is not None else {}
        began = time.monotonic()
        connection = http.client.HTTPConnection(replica.api, timeout=REQUEST_LIMIT)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            return self.fail(f"{replica}: {method} {path}: {error!r}")
        finally:
            connection.close()
        if response.status not in (200, 201, 202):
            return self.fail(f"{replica}: {method} {path}: {response.status} {text[:200]!r}")
        with self.changed:
            self.answered += 1
            if prefer is None:
                self.longest = max(self.longest, time.monotonic() - began)
            self.changed.notify_all()
        return json.loads(text)

    def submit(self, call_id):
        """Submits a call. An acknowledged call must not get lost."""
        body = {"call_id": call_id, "callback": {"url": self.callback_url}, "metadata": {"run": "upgrade"}}
        if self.ask("POST", "/v1/analyses", body) is not None:
            with self.changed:
                self.calls.append(call_id)

    def wait(self, call_id, end):
        """Returns whether the call is completed before the time `end`."""
        while time.monotonic() < end:
            analysis = self.ask("GET", f"/v1/analyses/{call_id}", prefer="wait=10")
            if analysis is None or analysis["status"] == "completed":
                return analysis is not None
            if analysis["status"] == "failed":
                return False
        return False

    def submit_and_read(self, number):
        turn = 0
        while not self.over.is_set():
            turn += 1
            call_id = f"submitter-{number}-{turn}"
            self.submit(call_id)
            self.ask("GET", f"/v1/analyses/{call_id}")
            self.ask("GET", "/v1/analyses?limit=5")
            self.over.wait(PAUSE)

    def submit_and_wait(self, number):
        turn = 0
        while not self.over.is_set():
            turn += 1
            call_id = f"waiter-{number}-{turn}"
            self.submit(call_id)
            self.wait(call_id, time.monotonic() + CALL_LIMIT)

    def until_answered(self, count):
        """Waits for this many more responses, or for the first failure."""
        with self.changed:
            wanted = self.answered + count
            if not self.changed.wait_for(lambda: self.failures or self.answered >= wanted, CALL_LIMIT):
                self.failures.append(f"fewer than {count} responses in {CALL_LIMIT} s")

    def pages(self, path, items):
        """Returns the items of all pages of a list."""
        found, cursor = [], None
        while True:
            page = self.ask("GET", path + (f"&cursor={cursor}" if cursor else ""))
            if page is None:
                return found
            found += page[items]
            cursor = page.get("next_cursor")
            if not cursor:
                return found

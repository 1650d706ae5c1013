"""Follows the event stream as a Python client. Arguments: the URL, a token, and the number of events. It reconnects after each event."""

import sys
from urllib.request import Request, urlopen

from sseclient import SSEClient

url, token, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
for _ in range(count):
    with urlopen(Request(url, headers=headers), timeout=600) as response:
        event = next(SSEClient(response).events())
    print(event.id, event.event, event.data, flush=True)
    headers["Last-Event-ID"] = event.id

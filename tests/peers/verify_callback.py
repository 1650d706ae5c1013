"""Verifies a callback as a receiver in Python would: {"secret", "headers", "body"} on standard input."""

import json
import sys

from standardwebhooks import Webhook

callback = json.load(sys.stdin)
event = Webhook(callback["secret"]).verify(callback["body"], callback["headers"])
print(event["type"], event["data"]["call_id"])

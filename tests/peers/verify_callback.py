"""Verifies a callback as a Python receiver. Input: {"secret", "headers", "body"} as JSON."""

import json
import sys

from standardwebhooks import Webhook

callback = json.load(sys.stdin)
event = Webhook(callback["secret"]).verify(callback["body"], callback["headers"])
print(event["type"], event["data"]["call_id"])

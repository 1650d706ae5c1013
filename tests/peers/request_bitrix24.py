"""Makes requests to Bitrix24 with its official SDK and prints them instead of sending them.

Input: [[preset, body], …] as JSON. Output: for each body its request, or the error of the SDK, as JSON.
"""

import json
import sys

import requests
from b24pysdk import BitrixWebhook, Client


class Sent(Exception):
    """Ends a request at the network. The SDK passes it on, because it is not an error of the network."""


class Recorder(requests.adapters.BaseAdapter):
    def send(self, request, **_):
        raise Sent(request)

    def close(self):
        pass


requests.Session.get_adapter = lambda self, url: Recorder()
portal = Client(BitrixWebhook(domain="example.bitrix24.ru", webhook_token="1/SECRET"))
METHODS = {
    "bitrix24.transcript": portal.telephony.call.attach_transcription,
    "bitrix24.comment": portal.crm.timeline.comment.add,
}


def requested(preset, body):
    arguments = {name.lower(): value for name, value in body.items()}
    try:
        return {"answer": METHODS[preset](**arguments).response}
    except TypeError as error:
        return {"error": str(error)}
    except Sent as sent:
        (request,) = sent.args
        kind = request.headers["Content-Type"]
        return {"method": request.method, "url": request.url, "content_type": kind, "body": json.loads(request.body)}


print(json.dumps([requested(preset, body) for preset, body in json.load(sys.stdin)]))

"""Receives spans by OTLP over HTTP at ADDRESS PORT, decodes them with OpenTelemetry's definitions, and prints them like rotel.

It replaces rotel where rotel is not available. The decoder is OpenTelemetry's; only the HTTP server is part of this project.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status


def tell_attributes(attributes):
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        print(f"     -> {attribute.key}: {kind}({getattr(attribute.value, kind)})")


def tell(request):
    for number, of_resource in enumerate(request.resource_spans):
        print(f"ResourceSpans #{number}\nResource attributes:")
        tell_attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for index, span in enumerate(of_scope.spans):
                print(f"Span #{index}")
                print(f"    Trace ID       : {span.trace_id.hex()}")
                print(f"    Parent ID      : {span.parent_span_id.hex()}")
                print(f"    ID             : {span.span_id.hex()}")
                print(f"    Name           : {span.name}")
                print(f"    Kind           : {Span.SpanKind.Name(span.kind)}")
                print(f"Start time: {span.start_time_unix_nano}")
                print(f"End time: {span.end_time_unix_nano}")
                print(f"    Status code    : {Status.StatusCode.Name(span.status.code)}")
                print("Attributes:")
                tell_attributes(span.attributes)
    sys.stdout.flush()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        is_wanted = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        if is_wanted:
            tell(ExportTraceServiceRequest.FromString(body))
        self.send_response(200 if is_wanted else 415)
        self.end_headers()
        self.wfile.write(ExportTraceServiceResponse().SerializeToString())

    def log_message(self, *_):
        pass


ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Receiver).serve_forever()

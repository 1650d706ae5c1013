"""Validates an OpenAPI document from standard input against the specification."""

import json
import sys

from openapi_spec_validator import validate

validate(json.load(sys.stdin))

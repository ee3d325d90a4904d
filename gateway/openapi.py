# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: FastAPI's for the ordinary routes, and the declared twins of the two bare ASGI routes.

    python -m gateway.openapi            writes docs/openapi.json
    python -m gateway.openapi --check    exits 1 when the file is not what would be written

A test compares the file, and another holds the twins against what the routes really answer.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from gateway.problems import STATUS
from schemas.errors import CODES

FILE = Path(__file__).resolve().parent.parent / "docs" / "openapi.json"
_PROBLEM = {"$ref": "#/components/schemas/Problem"}


def _problems(*statuses: int) -> dict[str, Any]:
    return {
        str(status): {
            "description": ", ".join(sorted(code for code, of in STATUS.items() if of == status)),
            "content": {"application/problem+json": {"schema": _PROBLEM}},
        }
        for status in statuses
    }


def _parameter(name: str, description: str, schema: dict[str, Any], where: str = "query") -> dict[str, Any]:
    return {"name": name, "in": where, "required": False, "description": description, "schema": schema}


_SCHEMAS: dict[str, Any] = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457; programs decide by `code`. `path` says where, never what.",
        "required": ["type", "title", "status", "code", "retriable", "advice"],
        "additionalProperties": False,
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "code": {"type": "string", "enum": sorted(CODES)},
            "retriable": {"type": "boolean", "description": "The same bytes may be accepted later."},
            "advice": {"type": "string"},
            "path": {"type": "string"},
            "expected": {"type": ["string", "integer"]},
            "retry_after": {
                "type": "integer",
                "minimum": 1,
                "description": "Seconds; what is asked for again sooner is refused again.",
            },
        },
    },
    "PublishLine": {
        "type": "object",
        "description": "A record with the keys that are granted beside it.",
        "required": ["record"],
        "additionalProperties": False,
        "properties": {
            "record": {"type": "string", "description": "L1 LF L2 of wire format 1."},
            "grants": {"type": "array", "items": {"$ref": "#/components/schemas/Grant"}, "maxItems": 16},
        },
    },
    "ManifestLine": {
        "type": "object",
        "description": "The manifest of a record that its issuer writes to Kafka itself, with the keys granted for it.",
        "required": ["manifest"],
        "additionalProperties": False,
        "properties": {
            "manifest": {"type": "string", "description": "L1 of wire format 1."},
            "grants": {"type": "array", "items": {"$ref": "#/components/schemas/Grant"}, "maxItems": 16},
        },
    },
    "Grant": {
        "type": "object",
        "required": ["v", "iss", "evt", "rcpt", "kid", "suite", "ct"],
        "additionalProperties": False,
        "properties": {
            "v": {"const": 1},
            **{name: {"type": "string"} for name in ("iss", "evt", "rcpt", "kid", "suite", "ct")},
        },
    },
    "AcceptedLine": {
        "type": "object",
        "description": "Durable in the log; `index` and `path` are its place under the promise's root.",
        "required": ["line", "evt", "topic", "offset", "at", "l1_sha256", "index", "path"],
        "additionalProperties": False,
        "properties": {
            "line": {"type": "integer"},
            "evt": {"type": "string"},
            "topic": {"type": "string"},
            "offset": {"type": "integer"},
            "at": {"type": "integer", "description": "The log's clock, milliseconds."},
            "l1_sha256": {"type": "string", "description": "base64url SHA-256 of `header.payload`."},
            "copy": {"const": True, "description": "It was there already."},
            "finding": {"enum": ["seq_gap", "late"]},
            "clock_suspect": {"const": True},
            "index": {"type": "integer"},
            "path": {"type": "array", "items": {"type": "string"}},
            "promise": {"type": "string", "description": "Only in the answer to a single record."},
        },
    },
    "GrantedLine": {
        "type": "object",
        "description": "Of a manifest: it is in order and its grants are durable. Nothing is appended or promised.",
        "required": ["line", "evt", "topic", "l1_sha256", "granted"],
        "additionalProperties": False,
        "properties": {
            "line": {"type": "integer"},
            "evt": {"type": "string"},
            "topic": {"type": "string"},
            "l1_sha256": {"type": "string", "description": "base64url SHA-256 of `header.payload`."},
            "granted": {"const": True},
            "finding": {"enum": ["seq_gap", "late"]},
            "clock_suspect": {"const": True},
        },
    },
    "RefusedLine": {
        "type": "object",
        "required": ["line", "problem"],
        "additionalProperties": False,
        "properties": {
            "line": {"type": "integer"},
            "problem": _PROBLEM,
            "refusal": {
                "type": "string",
                "description": "To another domain's bridge: the refusal, signed; JWS, typ umuhuza-refusal+jws.",
            },
        },
    },
    "PromiseLine": {
        "type": "object",
        "description": "The last line: JWS, typ umuhuza-promise+jws; null when no line was accepted.",
        "required": ["promise"],
        "additionalProperties": False,
        "properties": {"promise": {"type": ["string", "null"]}},
    },
    "MailboxLine": {
        "type": "object",
        "required": ["topic", "offset", "at", "key", "ident", "headers", "record", "grants"],
        "additionalProperties": False,
        "properties": {
            "topic": {"type": "string"},
            "offset": {"type": "integer"},
            "at": {"type": "integer"},
            "key": {"type": "string"},
            "ident": {"type": "string"},
            "headers": {
                "type": "object",
                "description": "CloudEvents copies, unauthenticated: the manifest decides.",
                "additionalProperties": {"type": "string"},
            },
            "record": {"type": "string"},
            "grants": {"type": "array", "items": {"$ref": "#/components/schemas/Grant"}},
        },
    },
}


def _one_of(*names: str) -> dict[str, Any]:
    return {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}


_PUBLISHED = _one_of("PublishLine", "ManifestLine")
_LINES = _one_of("AcceptedLine", "GrantedLine", "RefusedLine", "PromiseLine")

TWINS: dict[str, Any] = {
    "/v1/records": {
        "post": {
            "tags": ["records"],
            "summary": "Publish one record, or up to 1,000 as NDJSON",
            "description": "One answer line per record in order, then the promise. One bad line refuses no other. "
            "An agency that writes to Kafka itself (`direct` in the registry) posts a record's manifest and grants "
            "first; a manifest whose record is in the log already is answered as that record's repeat.",
            "operationId": "publish",
            "security": [{"token": []}],
            "requestBody": {
                "required": True,
                "content": {
                    "application/x-ndjson": {"schema": _PUBLISHED},
                    "application/json": {"schema": _PUBLISHED},
                },
            },
            "parameters": [_parameter("Content-Encoding", "gzip", {"enum": ["gzip", "identity"]}, "header")],
            "responses": {
                "200": {
                    "description": "One line per record, then the promise (NDJSON); or the one answer (JSON).",
                    "content": {
                        "application/x-ndjson": {"schema": _LINES},
                        "application/json": {"schema": _one_of("AcceptedLine", "GrantedLine")},
                    },
                },
                **_problems(400, 401, 403, 404, 409, 413, 422, 429, 503, 507),
            },
        }
    },
    "/v1/mailbox": {
        "get": {
            "tags": ["records"],
            "summary": "Read my mailboxes; one long poll for all flows",
            "operationId": "mailbox",
            "security": [{"token": []}],
            "parameters": [
                _parameter("flows", "Flows, comma separated; all of mine when absent.", {"type": "string"}),
                _parameter("after", "`flow:offset,...`; -1 (or absent): from the start.", {"type": "string"}),
                _parameter("limit", "Most records.", {"type": "integer", "minimum": 1, "default": 500}),
                _parameter("bytes", "Most bytes, but at least one record.", {"type": "integer", "minimum": 1}),
                _parameter("wait", "Seconds to wait when there is nothing.", {"type": "number", "minimum": 0}),
            ],
            "responses": {
                "200": {
                    "description": "Ascending per topic; empty when nothing came in time.",
                    "headers": {"umuhuza-log": {"description": "The log's id.", "schema": {"type": "string"}}},
                    "content": {"application/x-ndjson": {"schema": {"$ref": "#/components/schemas/MailboxLine"}}},
                },
                **_problems(400, 401, 403, 404, 410, 429, 503),
            },
        }
    },
}


_FOR_MEMBERS = (
    "/v1/sent",
    "/v1/ends",
    "/v1/grants",
    "/v1/registry",
    "/v1/registry/{path}",
    "/v1/objections",
    "/v1/receipts",
)
"""Routes of pages that need an access token."""


def document(app: FastAPI) -> dict[str, Any]:
    """The whole OpenAPI 3.1 document."""
    made = get_openapi(
        title="Umuhuza gateway",
        version="1",
        description="The door of one domain: signed, sealed records in and out. See docs for the wire format.",
        routes=app.routes,
    )
    made["paths"] = {**TWINS, **made["paths"]}
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    schemas.update(_SCHEMAS)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    made["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "From /v1/token."}
    }
    for path, operations in made["paths"].items():
        for operation in operations.values():
            if path not in TWINS:
                operation["responses"].pop("422", None)
            if path.startswith("/v1/log/"):
                operation["responses"].update(_problems(400, 401, 403, 404, 503))
            if path in _FOR_MEMBERS:
                operation["security"] = [{"token": []}]
                operation["responses"].update(_problems(400, 401, 403, 404, 503))
    token = made["paths"]["/v1/token"]["post"]
    token["responses"].update(_problems(400, 401, 403, 413, 429))
    token["requestBody"] = {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        name: {"type": "string"}
                        for name in ("grant_type", "client_assertion_type", "client_assertion", "assertion")
                    },
                }
            }
        },
    }
    _describe_witness(made["paths"]["/v1/witness/add-checkpoint"]["post"])
    made["paths"]["/readyz"]["get"]["responses"].update(_problems(503))
    return made


def _describe_witness(operation: dict[str, Any]) -> None:
    """Its bodies are texts of C2SP; its statuses are that standard's, whatever our codes have elsewhere."""
    text = {"text/plain": {"schema": {"type": "string"}}}
    problem = {"application/problem+json": {"schema": _PROBLEM}}
    operation["requestBody"] = {
        "required": True,
        "description": "`old <size>`, the consistency proof's hashes in base64, an empty line, the signed checkpoint.",
        "content": text,
    }
    operation["responses"] = {
        "200": {"description": "Cosigned and durable: one signature line per key of the witness.", "content": text},
        "409": {
            "description": "The witness has cosigned another size, which it tells; or another root of this size.",
            "content": {"text/x.tlog.size": {"schema": {"type": "string"}}, **problem},
        },
        **{
            str(status): {"description": told, "content": problem}
            for status, told in (
                (400, "No such request (note_malformed)."),
                (403, "Not signed by a key that is trusted for this ledger (signature_invalid)."),
                (404, "Not a ledger that this witness knows (log_unknown)."),
                (413, "too_large"),
                (422, "The consistency proof does not hold (root_mismatch)."),
                (503, "unavailable"),
                (507, "storage_full"),
            )
        },
    }


def install(app: FastAPI) -> None:
    """Serve the document at /openapi.json."""

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(orjson.dumps(document(app)), media_type="application/json")


def text() -> str:
    """What docs/openapi.json has to hold."""
    from gateway.bridge_routes import add_bridge_routes
    from gateway.bundle_routes import add_bundle_routes
    from gateway.crossed_routes import add_crossed_routes
    from gateway.log_routes import add_log_routes
    from gateway.pages import add_pages
    from gateway.receipt_routes import add_receipt_routes
    from gateway.registry_routes import add_registry_pages
    from gateway.witness_routes import add_witness_routes

    app = FastAPI()
    add_pages(app)
    add_registry_pages(app)
    add_witness_routes(app)
    add_log_routes(app)
    add_receipt_routes(app)
    add_bridge_routes(app)
    add_crossed_routes(app)
    add_bundle_routes(app)
    return orjson.dumps(document(app), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode("utf-8") + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m gateway.openapi", description=__doc__)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args(arguments).check:
        same = FILE.exists() and FILE.read_text(encoding="utf-8") == text()
        sys.stderr.write("" if same else "docs/openapi.json differs: run python -m gateway.openapi\n")
        return 0 if same else 1
    FILE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

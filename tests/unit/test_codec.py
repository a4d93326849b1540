"""Every message survives the wire, and undecodable bytes are distinguished from an unavailable registry."""

from __future__ import annotations

import json
import struct
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.wire.codec import Codec, Undecodable
from chassis.wire.registry import RegistryUnavailable, RemoteRegistry
from messages.catalogue import MESSAGES
from messages.contract import Message
from messages.ledger import LedgerPosted
from support.builders import a
from support.registries import Shelf


@pytest.mark.parametrize("message_type", MESSAGES.values(), ids=MESSAGES)
def test_every_message_survives_the_wire(message_type: type[Message]) -> None:
    codec = Codec(Shelf())
    message = a(message_type)
    written = codec.encode("topic", message)
    assert written[:5] == struct.pack(">bI", 0, 1)
    assert codec.type_of(written) is message_type
    assert codec.decode(written) == message


@given(st.none() | st.binary(max_size=60))
def test_any_bytes_raise_nothing_but_undecodable(payload: bytes | None) -> None:
    shelf = Shelf()
    shelf.put(LedgerPosted.SCHEMA)
    codec = Codec(shelf)
    for attempt in (payload, struct.pack(">bI", 0, 1) + (payload or b"")):
        with suppress(Undecodable):
            codec.decode(attempt)


NO_RECORDS = ("not JSON", "[]", '{"type": "record"}', '{"type": "nothing", "name": "x"}', '"string"')


@pytest.mark.parametrize("schema", NO_RECORDS)
def test_a_schema_that_is_no_record_is_undecodable(schema: str) -> None:
    shelf = Shelf()
    shelf.put(schema)
    with pytest.raises(Undecodable):
        Codec(shelf).type_of(struct.pack(">bI", 0, 1))


def test_a_type_of_a_later_release_is_unknown_and_not_undecodable() -> None:
    shelf = Shelf()
    later = {**json.loads(LedgerPosted.SCHEMA), "name": "LedgerAudited"}
    shelf.put(json.dumps(later))
    codec, payload = Codec(shelf), struct.pack(">bI", 0, 1)
    assert codec.type_of(payload) is None
    with pytest.raises(Undecodable, match="No message type"):
        codec.decode(payload)


def test_a_registry_that_does_not_answer_is_not_the_messages_fault() -> None:
    registry = RemoteRegistry("http://127.0.0.1:1")
    try:
        with pytest.raises(RegistryUnavailable, match="gave no answer"):
            Codec(registry).decode(struct.pack(">bI", 0, 1))
    finally:
        registry.close()


def test_a_program_that_runs_once_waits_for_the_registry() -> None:
    answers = [503, 502, 200]

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.pop(0))
            self.end_headers()
            self.wfile.write(json.dumps({"schema": LedgerPosted.SCHEMA}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        impatient, patient = RemoteRegistry(url), RemoteRegistry(url, retries=2)
        try:
            with pytest.raises(RegistryUnavailable, match="503"):
                impatient.schema(1)
            assert patient.schema(1) == LedgerPosted.SCHEMA
        finally:
            impatient.close()
            patient.close()
            server.shutdown()
    assert not answers

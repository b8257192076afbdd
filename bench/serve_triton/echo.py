"""An RSGI application that sends back what it was sent: granian's bare handler, whose HTTP is compiled."""

from __future__ import annotations

from typing import Any


async def app(scope: Any, protocol: Any) -> None:
    """Answer one request."""
    body = await protocol()
    protocol.response_bytes(200, [("content-type", "application/octet-stream")], body)

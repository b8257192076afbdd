"""What a client is told when it gets no answer."""

from __future__ import annotations

__all__ = ["Fault"]


class Fault(Exception):
    """What cannot be answered, with the HTTP status that says whose fault it is; the text names the field."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text

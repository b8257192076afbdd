"""A board reached over ssh → Device: a small probe sets, meters and runs there, planning happens here."""

from amble.devices.board.device import BoardActuator, BoardMeter, open  # noqa: A004
from amble.devices.board.link import Link, over_ssh

__all__ = ["BoardActuator", "BoardMeter", "Link", "open", "over_ssh"]

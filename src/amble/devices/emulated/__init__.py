"""An emulated card: NVML's own functions over a chip's physics, for trials and tests without a GPU.

``python -m amble.devices.emulated v100 FOLDER`` makes one; a process with ``AMBLE_EMULATED_CARD=FOLDER`` sees it as
``nvml:0``.
"""

from amble.devices.emulated.making import Card, make, read
from amble.devices.emulated.runner import CardClock, EmulatedRunner
from amble.devices.emulated.state import FOLDER, State, folder, library, opened

__all__ = ["FOLDER", "Card", "CardClock", "EmulatedRunner", "State", "folder", "library", "make", "opened", "read"]

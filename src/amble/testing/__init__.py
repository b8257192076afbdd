"""What every back end and governor must do, as classes of tests that yours can inherit (needs pytest, extra ``dev``).

A suite asks for one fixture. Whoever writes a device of their own runs all rules over it with::

    from amble.testing import DeviceConformance

    class TestMyBoard(DeviceConformance):
        @pytest.fixture
        def device(self):
            return my_board.open()
"""

import pytest

for _module in ("devices", "runners", "governors"):
    pytest.register_assert_rewrite(f"amble.testing.{_module}")  # before the import: what fails shows its values

from amble.testing.devices import ActuatorConformance, DeviceConformance, MeterConformance  # noqa: E402
from amble.testing.governors import GovernorConformance  # noqa: E402
from amble.testing.runners import RunnerCase, RunnerConformance  # noqa: E402

__all__ = [
    "ActuatorConformance",
    "DeviceConformance",
    "GovernorConformance",
    "MeterConformance",
    "RunnerCase",
    "RunnerConformance",
]

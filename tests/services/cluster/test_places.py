"""Devices of a cluster as the command line names them."""

from __future__ import annotations

import pytest

from amble.core.errors import Refused
from amble.services.cluster.places import Place, placed


def test_a_device_may_name_where_it_is() -> None:
    assert Place.parse("rack-1=sim:v100") == Place("sim:v100", "rack-1")
    assert Place.parse("sim:v100?seed=3") == Place("sim:v100?seed=3")
    with pytest.raises(Refused, match="RESOURCE=URI"):
        Place.parse("=sim:v100")


def test_equal_devices_have_names_of_their_own() -> None:
    assert list(placed(["host", "sim:v100", "host"])) == ["host#1", "sim:v100", "host#2"]
    assert list(placed(["left=host", "right=host"])) == ["left=host", "right=host"]

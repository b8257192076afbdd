"""Nothing passes by not having been run."""

from bench.govern.judged import targets


def test_nothing_is_met_where_nothing_was_run():
    found = list(targets([{"part": "about", "left_out": ["v100-poisson-0.3"]}]))
    assert len(found) > 6
    assert [each.target for each in found if each.met] == []

"""Bank rates are predicted from what other banks and modules share with them."""

from __future__ import annotations

import numpy as np
import pytest

from amble.stages.fit.banks import EFFECTS, Measured, fit_banks

SPREADS = {("pattern",): 0.8, ("bank",): 0.4, ("module",): 0.6}


def planted(num_modules: int, seed: int) -> Measured:
    random = np.random.default_rng(seed)
    grid = np.meshgrid(np.arange(num_modules), np.arange(4), np.arange(8), indexing="ij")
    module, pattern, bank = (each.ravel() for each in grid)
    effect = {
        name: random.normal(0, spread, count)
        for (name, spread), count in zip(SPREADS.items(), (4, 8, num_modules), strict=True)
    }
    rate = -4.0 + effect["pattern",][pattern] + effect["bank",][bank] + effect["module",][module]
    rate = rate + random.normal(0, 0.1, len(rate))
    return Measured(
        kind=np.array(["K"] * len(rate)),
        module=module.astype(str),
        pattern=pattern.astype(str),
        bank=bank.astype(str),
        log10_ber=rate,
    )


def test_planted_spreads_are_recovered() -> None:
    model = fit_banks(planted(12, seed=1))
    found = dict(zip(EFFECTS, model.spreads, strict=True))
    assert found["module",] == pytest.approx(0.6, rel=0.4)
    assert found["pattern", "bank"] < 0.1
    assert model.noise == pytest.approx(0.1, rel=0.2)


def test_an_unseen_module_is_predicted_better_than_by_the_mean_and_within_its_interval() -> None:
    rates = planted(12, seed=2)
    seen, unseen = rates.rows(rates.module != "3"), rates.rows(rates.module == "3")
    mean, spread = fit_banks(seen).predict(unseen)
    fitted = np.abs(mean - unseen.log10_ber).mean()
    assert fitted < np.abs(seen.log10_ber.mean() - unseen.log10_ber).mean()
    assert (np.abs(mean - unseen.log10_ber) < 3 * spread).all()
    assert spread.mean() > 3 * 0.1  # far above the noise: what a module adds is not known


def test_an_unseen_bank_of_a_seen_module_is_surer_than_one_of_an_unseen_module() -> None:
    rates = planted(8, seed=3)
    model = fit_banks(rates.rows(rates.bank != "5"))
    of_seen = rates.rows((rates.bank == "5") & (rates.module == "2"))
    stranger = Measured(of_seen.kind, np.array(["x"] * 4), of_seen.pattern, of_seen.bank, of_seen.log10_ber)
    assert model.predict(of_seen)[1].mean() < model.predict(stranger)[1].mean()


def test_predictions_do_not_look_at_the_rates_asked_for() -> None:
    rates = planted(5, seed=4)
    model = fit_banks(rates)
    blind = Measured(rates.kind, rates.module, rates.pattern, rates.bank, np.zeros(len(rates.log10_ber)))
    np.testing.assert_array_equal(model.predict(rates)[0], model.predict(blind)[0])


def test_two_rates_are_too_few() -> None:
    rates = planted(5, seed=4)
    with pytest.raises(ValueError, match="three"):
        fit_banks(rates.rows(np.arange(len(rates.log10_ber)) < 2))


def of_kinds(num_kinds: int, num_modules: int) -> Measured:
    """Planted rates whose modules take turns in their type, types being half a decade apart."""
    rates = planted(num_modules, seed=6)
    kind = rates.module.astype(int) % num_kinds
    return Measured(kind.astype(str), rates.module, rates.pattern, rates.bank, rates.log10_ber + 0.5 * kind)


def test_types_are_told_apart_only_where_there_are_enough_modules_of_each() -> None:
    for num_kinds, told in ((2, True), (4, False)):
        spreads = dict(zip(EFFECTS, fit_banks(of_kinds(num_kinds, 9)).spreads, strict=True))
        assert bool(spreads["kind",] > 0.0) is told
        assert bool(spreads["kind", "bank"] > 0.0) is told
        assert spreads["module",] > 0.0


def test_an_unseen_module_of_a_seen_type_is_predicted_as_its_like_where_types_are_told() -> None:
    rates = of_kinds(2, 12)
    model = fit_banks(rates)
    stranger = [
        Measured(np.array([kind]), np.array(["x"]), rates.pattern[:1], rates.bank[:1], np.zeros(1)) for kind in "01"
    ]
    low, high = (float(model.predict(each)[0][0]) for each in stranger)
    assert high > low

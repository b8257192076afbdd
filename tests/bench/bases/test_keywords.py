"""Spoken keywords: the same at every making, no voice in two splits, noise as loud as asked, and a network for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import chain, combinations
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")

Script = Callable[[str], ModuleType]

speaks = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not here")


@pytest.fixture
def keywords(script: Script) -> ModuleType:
    return script("bench.bases.keywords")


@pytest.fixture
def hardened(script: Script) -> ModuleType:
    return script("bench.eden.hardened")


@speaks
def test_a_clip_is_the_same_whichever_others_are_made(keywords: ModuleType) -> None:
    pictures, labels = keywords.clips("learning", range(12))
    again, _ = keywords.clips("learning", (3, 11))
    assert pictures.shape == (12, 49, keywords.NUM_BANDS)
    assert pictures.dtype == labels.dtype == np.uint8
    assert labels.tolist() == [*range(10), 0, 1]
    assert np.array_equal(pictures[[3, 11]], again)
    assert not np.array_equal(pictures[3], keywords.clip("test", 3))


@speaks
def test_no_voice_is_in_two_splits_nor_one_that_is_much_like_it(keywords: ModuleType) -> None:
    parts = {split: keywords.voices(split) for split in keywords.NUM_CLIPS}
    assert sorted(chain.from_iterable(parts.values())) == sorted(keywords.all_voices())
    kinds = [{keywords.kind(voice) for voice in voices} for voices in parts.values()]
    assert not any(one & other for one, other in combinations(kinds, 2))
    assert all(len(voices) >= 15 for voices in parts.values())


@speaks
def test_voices_speeds_and_pitches_change_what_is_heard(keywords: ModuleType) -> None:
    said = keywords.Utterance("stop", "Annie", "en-us", 150, 50)
    slow, *others = (
        keywords.speech(keywords.Utterance(*how))
        for how in (
            ("stop", "Annie", "en-us", 150, 50),
            ("stop", "Annie", "en-us", 220, 50),
            ("stop", "Annie", "en-us", 150, 30),
            ("stop", "Annie", "en-gb-scotland", 150, 50),
            ("stop", "klatt", "en-us", 150, 50),
            ("go", "Annie", "en-us", 150, 50),
        )
    )
    assert np.array_equal(slow, keywords.speech(said))
    assert len(others[0]) < 0.9 * len(slow)
    assert not any(np.array_equal(slow, other) for other in others)


def test_without_espeak_the_message_says_what_to_install(
    keywords: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="apt-get install espeak-ng"):
        keywords.clips("test", range(1))


def test_noise_is_as_loud_as_its_ratio_to_the_word_says(keywords: ModuleType) -> None:
    low, high = keywords.SIGNAL_TO_NOISE_DB
    ratios_db = []
    for seed in range(20):
        start = int(np.random.default_rng(seed).integers(keywords.RATE_HZ - 5_000 + 1))
        sound = keywords.in_noise(3.0 * np.ones(5_000), np.random.default_rng(seed))
        sound[start : start + 5_000] -= keywords.LEVEL
        ratios_db.append(20.0 * np.log10(keywords.LEVEL / np.sqrt(np.mean(sound**2))))
    assert low <= min(ratios_db) < (low + high) / 2.0 < max(ratios_db) <= high


def test_a_word_longer_than_a_second_is_cut(keywords: ModuleType) -> None:
    assert keywords.in_noise(np.ones(30_000), np.random.default_rng(0)).shape == (keywords.RATE_HZ,)


def test_pink_noise_has_as_much_power_in_every_octave(keywords: ModuleType) -> None:
    def octaves(slope: float) -> tuple[float, float]:
        power = np.abs(np.fft.rfft(keywords.noise(slope, np.random.default_rng(0)))) ** 2
        return power[500:1_000].sum(), power[4_000:8_000].sum()

    low, high = octaves(1.0)
    assert low == pytest.approx(high, rel=0.15)
    low, high = octaves(0.0)
    assert 8 * low == pytest.approx(high, rel=0.15)


def test_a_tone_shows_in_its_band_while_it_lasts(keywords: ModuleType) -> None:
    wave = np.zeros(keywords.RATE_HZ)
    half = keywords.RATE_HZ // 2
    wave[:half] = 0.1 * np.sin(2 * np.pi * 1_000.0 * np.arange(half) / keywords.RATE_HZ)
    shown = keywords.picture(wave)
    weights = keywords.bands()[:, round(1_000.0 * keywords.NUM_POINTS / keywords.RATE_HZ)]
    assert shown.shape == (49, keywords.NUM_BANDS)
    assert np.all(shown[:22].argmax(1) == weights.argmax())
    assert not shown[26:].any()


def test_pictures_shift_in_time_and_by_a_band(keywords: ModuleType) -> None:
    pictures = torch.zeros(300, 49, 20, dtype=torch.uint8)
    pictures[:, 20, 7] = 200
    made = keywords.shifted(pictures, torch.Generator().manual_seed(0))
    places = made.nonzero()
    assert len(places) == 300
    assert set(places[:, 1].tolist()) == set(range(20 - keywords.SHIFT, 20 + keywords.SHIFT + 1))
    assert set(places[:, 2].tolist()) == {6, 7, 8}


def test_the_network_is_stored_in_both_precisions_and_answers_alike(hardened: ModuleType, tmp_path: Path) -> None:
    import onnxruntime

    from bench.bases import families
    from bench.bases.export import export

    torch.manual_seed(0)
    images = torch.randint(0, 256, (200, 49, 20), dtype=torch.uint8)
    network = families.keywords()
    inputs = images.unsqueeze(1).float() / 255.0
    network(inputs)  # running statistics that are not zero and one
    network.eval()
    whole, small = tmp_path / "whole.onnx", tmp_path / "small.onnx"
    export(network, whole, shape=(49, 20))
    hardened.write_int8(whole, small, asymmetric=False, images=images)
    with torch.inference_mode():
        wanted = network(inputs).numpy()
    found = [
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": inputs.numpy()})[0]
        for path in (whole, small)
    ]
    assert np.allclose(found[0], wanted, atol=1e-4)
    assert 0.0 < np.abs(found[1] - wanted).max() < 0.25 * np.ptp(wanted)


def test_a_network_knows_its_data(keywords: ModuleType, hardened: ModuleType) -> None:
    from bench.bases import base, families

    assert base.DATA_SETS.get("keywords") is base.keyword_clips
    assert set(base.DATA_SETS) <= set(families.NETWORKS)
    pictures = torch.randint(0, 256, (3, 49, 20), dtype=torch.uint8)
    assert torch.equal(base.prepare_clips(pictures, None)[:, 0], pictures.float() / 255.0)
    made = base.prepare_clips(pictures, torch.Generator().manual_seed(0))
    assert made.shape == (3, 1, 49, 20)

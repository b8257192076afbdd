"""Debian's `espeak-ng` → ten spoken command words in noise, as pictures of mel bands over time with labels.

A data set of its own beside Fashion-MNIST, in the same form. The words are ten of Warden's "Speech Commands", 2018; the
windows of 40 ms every 20 ms over one second are those of Y. Zhang et al., "Hello Edge: Keyword Spotting on
Microcontrollers", 2017. Speech is synthetic, so noise makes it hard. No voice is in two splits.

Letters: N clips of a set, B clips of a batch, S samples, F = 49 windows, M = 20 bands.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import signal
from torch import Tensor

from bench.bases.data import Images
from bench.kit.places import BUILD

Wave = NDArray[np.float64]

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
ACCENTS = (
    *("en-gb", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-gb-x-rp"),
    *("en-us", "en-us-nyc", "en-029"),
)
NUM_CLIPS = {"learning": 12_000, "held_out": 4_000, "test": 4_000}
PARTS = {"learning": slice(0, 50), "held_out": slice(50, 75), "test": slice(75, 100)}  # of the voices [%]
KEPT = BUILD / "train" / "keywords.npz"

RATE_HZ = 22_050  # of espeak-ng
HEADER = 44  # bytes of its WAV files before the samples
SPEED = (130, 230)  # words a minute
PITCH = (25, 75)  # of 0 to 99
SIGNAL_TO_NOISE_DB = (5.0, 20.0)
LEVEL = 0.05  # root mean square of a word, as a share of full scale
QUIET = 0.02  # of the loudest sample: what is below is no part of the word
WINDOW, HOP, NUM_POINTS = 882, 441, 1024
NUM_BANDS = 20
BANDS_HZ = (60.0, 7_600.0)
RANGE_DB = (-10.0, 30.0)  # of a band, that 0 to 255 stand for
SHIFT = 4  # windows, each way, while training


@dataclass(frozen=True, slots=True)
class Utterance:
    """How a word is spoken."""

    word: str
    voice: str
    accent: str
    speed: int
    pitch: int


def spoken(split: str) -> tuple[Images, Images]:
    """Pictures [N, F, M] and labels [N] of "learning", "held_out" or "test".

    Made once, in about five minutes, and kept; SystemExit without espeak-ng. Delete the file to make them anew.
    """
    if not KEPT.exists():
        arrays = {}
        for name, num in NUM_CLIPS.items():
            arrays[f"{name}_x"], arrays[f"{name}_y"] = clips(name, range(num))
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        partial = KEPT.with_suffix(".partial.npz")
        np.savez(partial, allow_pickle=False, **arrays)
        partial.replace(KEPT)
    with np.load(KEPT) as found:
        return found[f"{split}_x"], found[f"{split}_y"]


def clips(split: str, which: Sequence[int]) -> tuple[Images, Images]:
    """Pictures [N, F, M] and labels [N] of these clips of a split; each is the same whichever others are made."""
    if shutil.which("espeak-ng") is None:
        raise SystemExit("espeak-ng is missing: apt-get install espeak-ng")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pictures = list(pool.map(lambda at: clip(split, at), which))
    return np.stack(pictures), np.array([at % len(WORDS) for at in which], np.uint8)


def clip(split: str, at: int) -> Images:
    """One picture [F, M]: a word by a voice of the split, somewhere in a second of noise."""
    random = np.random.default_rng([list(NUM_CLIPS).index(split), at])
    said = drawn(split, at, random)
    return picture(in_noise(speech(said), random))


def drawn(split: str, at: int, random: np.random.Generator) -> Utterance:
    """Draw how clip number ``at`` of a split is spoken."""
    return Utterance(
        WORDS[at % len(WORDS)],
        str(random.choice(voices(split))),
        str(random.choice(ACCENTS)),
        int(random.integers(*SPEED)),
        int(random.integers(*PITCH)),
    )


def voices(split: str) -> list[str]:
    """Return the voices of a split; those that differ in a number alone (klatt, klatt2) are in the same."""
    every = all_voices()
    kinds = sorted({kind(voice) for voice in every}, key=lambda name: hashlib.sha256(name.encode()).digest())
    ordered = sorted(every, key=lambda voice: (kinds.index(kind(voice)), voice))
    share = {name: 100 * ordered.index(next(v for v in ordered if kind(v) == name)) // len(every) for name in kinds}
    part = PARTS[split]
    return [voice for voice in ordered if part.start <= share[kind(voice)] < part.stop]


def kind(voice: str) -> str:
    return re.sub(r"\d+$", "", voice).lower()


@cache
def all_voices() -> tuple[str, ...]:
    """Return the names of all voices of espeak-ng, to be added to an accent."""
    listed = subprocess.run(["espeak-ng", "--voices=variant"], capture_output=True, check=True, text=True).stdout
    return tuple(sorted(set(re.findall(r"!v/(.+?)\s*(?:\(.*)?$", listed, re.MULTILINE))))


def speech(said: Utterance) -> Wave:
    """Samples [S] of a word in [-1, 1], without the silence around it."""
    how = ("-v", f"{said.accent}+{said.voice}", "-s", str(said.speed), "-p", str(said.pitch))
    raw = subprocess.run(["espeak-ng", *how, "--stdout", said.word], capture_output=True, check=True).stdout
    wave = np.frombuffer(raw, "<i2", offset=HEADER) / 32_768.0
    loud = np.flatnonzero(np.abs(wave) > QUIET * np.abs(wave).max())
    return wave[loud[0] : loud[-1] + 1]


def in_noise(word: Wave, random: np.random.Generator) -> Wave:
    """A second [S] of noise between white and pink, with the word, cut if it is longer, somewhere in it."""
    word = word[:RATE_HZ]
    start = int(random.integers(RATE_HZ - len(word) + 1))
    sound = noise(random.uniform(0.0, 1.0), random)
    sound *= LEVEL * 10.0 ** (-random.uniform(*SIGNAL_TO_NOISE_DB) / 20.0)
    sound[start : start + len(word)] += word * LEVEL / np.sqrt(np.mean(word**2))
    return sound


def noise(slope: float, random: np.random.Generator) -> Wave:
    """A second [S] of noise with a root mean square of 1, its power falling as frequency ** -slope."""
    spectrum = np.fft.rfft(random.standard_normal(RATE_HZ))
    spectrum[0] = 0.0
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-slope / 2.0)
    sound: Wave = np.fft.irfft(spectrum, RATE_HZ)
    return sound * float(np.mean(sound**2) ** -0.5)


def picture(wave: Wave) -> Images:
    """The power of each band in each window [F, M], 0 to 255 over RANGE_DB."""
    starts = np.arange(0, len(wave) - WINDOW + 1, HOP)
    windows = wave[starts[:, None] + np.arange(WINDOW)] * signal.windows.hann(WINDOW, sym=False)
    power = np.abs(np.fft.rfft(windows, NUM_POINTS)) ** 2 @ bands().T
    low, high = RANGE_DB
    level = (10.0 * np.log10(power + 1e-10) - low) / (high - low)
    return np.rint(255.0 * level.clip(0.0, 1.0)).astype(np.uint8)


@cache
def bands() -> Wave:
    """Triangular weights [M, frequency], evenly spaced in mel (O'Shaughnessy, 1987)."""
    low, high = (2595.0 * np.log10(1.0 + each / 700.0) for each in BANDS_HZ)
    edges = 700.0 * (10.0 ** (np.linspace(low, high, NUM_BANDS + 2) / 2595.0) - 1.0)
    at = np.fft.rfftfreq(NUM_POINTS, 1.0 / RATE_HZ)
    rising = (at - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - at) / (edges[2:] - edges[1:-1])[:, None]
    return np.minimum(rising, falling).clip(0.0)


def shifted(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each picture by up to SHIFT windows and a band, its edges repeated; uint8 [B, F, M] -> the same.

    A band up or down is a shorter or longer vocal tract: another voice (Jaitly and Hinton, 2013).
    """
    count, windows, height = pictures.shape
    later = torch.randint(-SHIFT, SHIFT + 1, (count, 1), generator=generator)
    higher = torch.randint(-1, 2, (count, 1), generator=generator)
    rows = (torch.arange(windows) + later).clamp(0, windows - 1)
    columns = (torch.arange(height) + higher).clamp(0, height - 1)
    return pictures[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]

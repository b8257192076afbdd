"""Arrivals of the bench of ``amble govern``: their rates, and the tokens that a language model's requests carry."""

import gzip

import numpy as np
import pytest

from bench.govern.traffic import MADE, Stretch, azure, conversations, made


@pytest.fixture
def stretch(tmp_path):
    for folder in ("arrivals_twitter_2021_08", "arrivals_azure_llm_2023"):
        (tmp_path / folder).mkdir()
    counts = np.concatenate([np.full(1000, 5), 40 + 20 * (np.arange(1000) % 100 < 20)])
    with gzip.open(tmp_path / "arrivals_twitter_2021_08" / "per_second_days_1_2.txt.gz", "wt") as file:
        file.write("\n".join(map(str, counts)))
    with gzip.open(tmp_path / "arrivals_azure_llm_2023" / "conv.csv.gz", "wt") as file:
        file.write("arrival,prompt,output\n" + "\n".join(f"{0.5 * at},{at},{at + 1}" for at in range(1000)))
    return Stretch(tmp_path, 3, recorded_s=100.0, busiest_s=None, tweets_s=1000)


@pytest.mark.parametrize("trace", MADE)
def test_made_arrivals_have_the_rate_that_is_asked_for(stretch, trace):
    times_s = made(trace, 20.0, 600.0, stretch)
    times_s = times_s[times_s < 600.0]
    assert times_s.size == pytest.approx(12_000, rel=0.06)
    assert (np.diff(times_s) >= 0.0).all()


def test_on_off_is_silent_every_second_tenth_and_tweets_crowd_where_they_did(stretch):
    on_off = made("on-off", 20.0, 600.0, stretch)
    assert (on_off % 120.0 <= 60.0).all()
    tweets = made("twitter", 20.0, 600.0, stretch)
    crowded = tweets % 100.0 < 20.0
    assert crowded.mean() == pytest.approx(12.0 / 44.0, abs=0.02)


def test_a_language_models_requests_carry_the_recorded_tokens_in_order_at_the_recorded_pace(stretch):
    recorded = azure(stretch.data, 0.5, 60.0, 100.0)
    requests = conversations("poisson", 0.5, 600.0, stretch)
    assert recorded.prompts.tolist() == [*range(200, 260)]
    assert requests.prompts[:50].tolist() == [*range(200, 250)]
    assert (requests.outputs == requests.prompts + 1.0).all()
    assert len(requests.times_s) == pytest.approx(600, rel=0.15)

"""Even by time: closed forms on steady clocks, and what must hold on any."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.media.readers import Request
from vlm_selfalign.media.sampling import CAPPED, FEWER, EmptySegment, check_request, sample

TEN = np.arange(100) / 10  # ten seconds at ten a second


def taken(times: np.ndarray = TEN, last: float = 0.1, **wanted: object) -> list[int]:
    return sample(times, last, Request(**{"frames": None, **wanted})).indices.tolist()  # type: ignore[arg-type]


def test_the_middle_of_equal_shares() -> None:
    assert taken(frames=4) == [12, 37, 62, 87]
    assert taken(frames=1) == [50]
    assert taken(frames=100) == list(range(100))


@given(st.integers(1, 40), st.integers(1, 20), st.sampled_from([10, 24, 25, 29.97, 30, 60]))
def test_a_time_on_the_edge_of_two_frames_belongs_to_the_later(count: int, half: int, rate: float) -> None:
    times = np.arange(2 * half * count) / rate
    assert taken(times, 1 / rate, frames=count) == [half + 2 * half * k for k in range(count)]


def test_the_left_end_of_equal_shares() -> None:
    assert taken(frames=4, policy="left") == [0, 25, 50, 75]


def test_from_end_to_end() -> None:
    assert taken(frames=4, policy="ends") == [0, 33, 66, 99]
    assert taken(frames=1, policy="ends") == [0]


def test_a_fixed_rate() -> None:
    assert taken(fps=1) == [5, 15, 25, 35, 45, 55, 65, 75, 85, 95]
    assert taken(fps=1, policy="left") == list(range(0, 100, 10))
    assert taken(fps=10, policy="left") == list(range(100))
    assert taken(fps=0.01) == [50]


def test_a_cap_spreads_thinner_and_says_so() -> None:
    found = sample(TEN, 0.1, Request(frames=None, fps=2, max_frames=4))
    assert found.indices.tolist() == [12, 37, 62, 87]
    assert found.reasons == (CAPPED,)
    assert sample(TEN, 0.1, Request(frames=8, max_frames=4)).reasons == (CAPPED,)
    assert sample(TEN, 0.1, Request(frames=None, fps=2, max_frames=20)).reasons == ()


def test_a_segment() -> None:
    assert taken(frames=4, start=2, end=4) == [22, 27, 32, 37]
    assert taken(fps=1, start=8.5, policy="left") == [85, 95]
    assert taken(frames=2, start=-5, end=99) == [25, 75]
    with pytest.raises(EmptySegment):
        taken(frames=4, start=10.0)


def test_milliseconds_in_the_container_lose_no_frame() -> None:
    rounded = np.round(np.arange(90) / 30, 3)
    assert taken(rounded, 0.033, fps=30, policy="left") == list(range(90))


def test_a_short_clip_gives_each_frame_once_and_says_so() -> None:
    found = sample(TEN[:3], 0.1, Request(frames=8))
    assert found.indices.tolist() == [0, 1, 2]
    assert found.reasons == (FEWER,)


def test_a_variable_rate_is_sampled_by_time() -> None:
    times = np.concatenate([np.arange(100) / 100, [1.0], [9.0]])  # a second of action, eight still ones
    assert taken(times, 1.0, frames=10) == [50, 100, 101]


@pytest.mark.parametrize(
    "bad",
    [
        {"frames": None},
        {"frames": 4, "fps": 2.0},
        {"frames": 0},
        {"frames": None, "fps": -1.0},
        {"frames": None, "fps": float("inf")},
        {"max_frames": 0},
        {"policy": "middel"},
        {"start": 3.0, "end": 3.0},
    ],
)
def test_a_request_that_no_clip_could_meet(bad: dict[str, object]) -> None:
    with pytest.raises(UserError):
        check_request(Request(**bad))  # type: ignore[arg-type]


gaps = st.lists(st.floats(0.001, 20), min_size=1, max_size=60)


@given(gaps, st.integers(1, 64), st.sampled_from(["middle", "left", "ends"]))
def test_always_ascending_none_twice_and_shown_at_its_time(gaps: list[float], count: int, policy: str) -> None:
    times, last = np.concatenate([[0], np.cumsum(gaps)]), gaps[-1]
    found = sample(times, last, Request(frames=count, policy=policy))  # type: ignore[arg-type]
    assert (np.diff(found.indices) > 0).all()
    assert 1 <= len(found.indices) <= count
    assert (FEWER in found.reasons) == (len(found.indices) < count)
    if policy == "middle":
        wanted = (np.arange(count) + 0.5) / count * (times[-1] + last) + 1e-9
        shown = {int(np.searchsorted(times, t, side="right")) - 1 for t in wanted}
        assert set(found.indices.tolist()) == shown


@given(gaps, st.floats(0.01, 30), st.integers(1, 40))
def test_a_fixed_rate_never_passes_its_cap(gaps: list[float], fps: float, most: int) -> None:
    times = np.concatenate([[0], np.cumsum(gaps)])
    found = sample(times, gaps[-1], Request(frames=None, fps=fps, max_frames=most))
    assert 1 <= len(found.indices) <= most

"""Frame times from packets alone: reordered, hidden, reset, missing and doubled stamps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_selfalign.media.packets import Packet, PacketTable


def table(*packets: Packet, tick: float = 0.1, rate: float = 10, jump: float = float("inf")) -> PacketTable:
    return PacketTable(packets, tick, rate, jump)


def steady(pts: list[int], keys: tuple[int, ...] = (0,)) -> PacketTable:
    return table(*(Packet(p, k - 2, 1, k in keys, size=k) for k, p in enumerate(pts)))


def test_packets_come_in_decoding_order_and_frames_in_the_order_shown() -> None:
    found = steady([0, 4, 2, 1, 3])
    assert found.order.tolist() == [0, 3, 2, 4, 1]
    assert found.times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert (len(found), found.duration, found.average_rate) == (5, pytest.approx(0.5), pytest.approx(10))
    assert found.single


def test_times_start_at_the_first_frame_shown_whatever_the_clock_says() -> None:
    late = steady([1000, 1001, 1002])
    assert late.times == pytest.approx([0, 0.1, 0.2])


def test_what_an_edit_list_hides_is_not_a_frame() -> None:
    cut = table(*(Packet(p, p, 1, p == -2, hidden=p < 0) for p in range(-2, 3)))
    assert len(cut) == 3
    assert cut.times == pytest.approx([0, 0.1, 0.2])
    assert cut.key_before(0) == 0
    assert cut.hidden == {-2, -1}


def test_what_comes_before_the_first_key_frame_cannot_be_shown() -> None:
    assert steady([0, 1, 2, 3, 4], keys=(2, 4)).order.tolist() == [2, 3, 4]
    assert len(steady([0, 1, 2], keys=())) == 3  # no key at all: the container does not tell


def test_a_frame_shown_before_its_key_frame_needs_the_key_frame_before() -> None:
    open_gop = steady([0, 2, 1, 5, 3, 4, 6], keys=(0, 3))
    frame_of = {int(packet): frame for frame, packet in enumerate(open_gop.order)}
    assert open_gop.key_before(frame_of[3]) == 3
    assert open_gop.key_before(frame_of[4]) == 0
    assert open_gop.key_before(frame_of[6]) == 3


def test_a_clock_set_anew_goes_on_where_it_stopped() -> None:
    reset = table(*(Packet(p, p, 1, p == 0, size=p) for p in [0, 1, 2, 3, 0, 1, 2, 3]))
    assert reset.resets == 1
    assert reset.times == pytest.approx(np.arange(8) / 10)
    assert not reset.single
    assert reset.frame_at[1] == [1, 5]
    assert reset.place_of(1, 1, 1) is None  # there are two of them


def test_a_leap_ahead_is_a_gap_in_a_file_and_a_new_clock_in_a_broadcast() -> None:
    packets = [Packet(p, p, 1, p == 0) for p in [0, 1, 1000, 1001]]
    assert table(*packets).times[-1] == pytest.approx(100.1)
    assert table(*packets, jump=10.0).times == pytest.approx([0, 0.1, 0.2, 0.3])


def test_missing_times_are_taken_from_decoding_times_or_counted_on() -> None:
    assert table(*(Packet(None, k, 1, k == 0) for k in range(4))).times == pytest.approx([0, 0.1, 0.2, 0.3])
    gap = table(*(Packet(None if k == 3 else k, None, 1, k == 0) for k in range(6)))
    assert gap.times == pytest.approx(np.arange(6) / 10)
    assert not gap.single


def test_a_stream_without_any_time_is_spread_by_its_rate() -> None:
    raw = table(*(Packet(None, None, 0, k == 0) for k in range(5)), rate=25)
    assert not raw.timed
    assert raw.times == pytest.approx(np.arange(5) / 25)
    assert raw.duration == pytest.approx(0.2)


def test_stamps_claimed_twice_on_a_steady_clock_are_spread_out() -> None:
    doubled = table(*(Packet(p, k, 1, k == 0) for k, p in enumerate([0, 1, 2, 2, 3, 5])))
    assert doubled.doubled == {2}
    assert not doubled.single
    assert doubled.times == pytest.approx(np.arange(6) / 10)


def test_the_last_frame_lasts_as_stated_or_as_long_as_the_one_before() -> None:
    assert table(Packet(0, 0, 5, True), Packet(5, 5, 7)).duration == pytest.approx(1.2)
    assert table(Packet(0, 0, 0, True), Packet(5, 5, 0)).duration == pytest.approx(1.0)
    assert table(Packet(0, 0, 0, True), rate=4).duration == pytest.approx(0.25)


def test_a_packet_is_known_again_by_its_time_and_size() -> None:
    found = steady([0, 4, 2, 1, 3])
    assert found.place_of(2, None, 2) == 2
    assert found.place_of(None, 1, 3) == 3
    assert found.place_of(2, 99, 3) is None


@given(st.permutations(range(12)), st.integers(-(10**6), 10**6))
def test_any_order_of_decoding_gives_the_same_times(order: list[int], offset: int) -> None:
    packets = [Packet(p + offset, k, 1, True) for k, p in enumerate(order)]
    found = table(*packets)
    assert found.times == pytest.approx(np.arange(12) / 10)
    assert [order[k] for k in found.order] == list(range(12))

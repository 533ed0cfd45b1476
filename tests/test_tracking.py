"""Faces followed over known trajectories: what comes back is known by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from gfpgan_core.detectors import Face
from gfpgan_core.geometry import TEMPLATE_LANDMARKS, Points
from gfpgan_core.images import ImageU8
from gfpgan_core.video.tracking import (
    LOOK_AHEAD,
    MAX_GAP,
    SMOOTHING_S,
    DetectedFrame,
    SteadyChoice,
    follow,
    is_cut,
    smoothed,
    thumbnail,
)

RATE = 30.0


def _points(x: float, y: float, size: float = 0.1) -> Points:
    """The template's landmarks, `size` times as large, moved to (x, y)."""
    return TEMPLATE_LANDMARKS * size + (x, y)


def _face(x: float, y: float = 0.0, size: float = 0.1, *, is_placed: bool = True) -> Face:
    """A face; between its eyes are 12.6 px at a size of 0.1."""
    box = np.array([x, y, x + 512 * size, y + 512 * size])
    return Face(box, _points(x, y, size), 0.9, 0.9, is_placed)


def _looks(*frames: list[Face], cuts: tuple[int, ...] = ()) -> list[DetectedFrame]:
    return [DetectedFrame(n / RATE, faces, n in cuts) for n, faces in enumerate(frames)]


def _x(face: Face) -> float:
    """How far right the face lies, as in `_face`."""
    return float(face.landmarks[0, 0] - TEMPLATE_LANDMARKS[0, 0] * 0.1)


def test_a_motion_at_constant_speed_comes_back_as_it_is_at_the_ends_as_well() -> None:
    looks = _looks(*([_face(3.0 * n, 50 - 1.5 * n)] for n in range(30)))
    for n, faces in enumerate(follow(looks)):
        np.testing.assert_allclose(faces[1].landmarks, _points(3.0 * n, 50 - 1.5 * n), atol=1e-5)


def test_a_variable_frame_rate_counts_by_time() -> None:
    times = np.cumsum([0.01, 0.05, 0.02, 0.08, 0.01, 0.04, 0.03, 0.02, 0.06, 0.01])
    looks = [DetectedFrame(float(t), [_face(100 * t)]) for t in times]
    for t, faces in zip(times, follow(looks), strict=True):
        assert _x(faces[1]) == pytest.approx(100 * t, abs=1e-5)


def test_jitter_of_a_still_face_is_averaged_away() -> None:
    """One px to and fro: the weights of even and of odd frames add up to the same."""
    looks = _looks(*([_face(20 + (-1) ** n)] for n in range(40)))
    steady = [_x(faces[1]) for faces in follow(looks)][LOOK_AHEAD:-LOOK_AHEAD]
    np.testing.assert_allclose(steady, 20, atol=0.002)


def test_weights_fall_off_with_time_as_a_normal_distribution() -> None:
    """A spike of 1 between two zeros, a standard deviation away: 1 / (1 + 2 / sqrt(e))."""
    points = np.array([0.0, 1.0, 0.0]).reshape(3, 1, 1)
    times = np.array([-SMOOTHING_S, 0.0, SMOOTHING_S])
    spike = smoothed(times, points, np.ones(3))
    assert spike[0, 0] == pytest.approx(1 / (1 + 2 / math.sqrt(math.e)))


def test_a_line_is_fitted_by_weighted_least_squares() -> None:
    """At the last of three frames; numpy fits a line with the roots of the weights."""
    times, values = np.array([-0.1, -0.03, 0.0]), np.array([5.0, 1.0, 2.0])
    weights = np.exp(-0.5 * (times / SMOOTHING_S) ** 2)
    (expected,) = np.polyval(np.polyfit(times, values, 1, w=np.sqrt(weights)), [0.0])
    assert smoothed(times, values.reshape(3, 1, 1), np.ones(3))[0, 0] == pytest.approx(expected)


def test_frames_seconds_apart_stay_as_they_are() -> None:
    looks = [DetectedFrame(2.0 * n, [_face(5.0 * (n % 2))]) for n in range(4)]
    assert [_x(faces[1]) for faces in follow(looks)] == pytest.approx([0, 5, 0, 5], abs=1e-5)


def test_landmarks_that_close_ups_dont_confirm_hardly_count() -> None:
    """10 px off in the middle of 17 frames: 10 * 0.001 / the others' weights, 5.0."""
    frames = [[_face(0.0)] for _ in range(17)]
    frames[8] = [_face(10.0, is_placed=False)]
    assert _x([*follow(_looks(*frames))][8][1]) == pytest.approx(10 * 0.001 / 5.0, abs=5e-4)


def test_smoothing_starts_anew_at_a_cut() -> None:
    """Half of an eye distance off: without the cut it would pass for a motion."""
    frames = [[_face(0.0)]] * 12 + [[_face(6.0)]] * 12
    cut = [*follow(_looks(*frames, cuts=(12,)))]
    assert [_x(faces[1]) for faces in cut[:12]] == pytest.approx([0.0] * 12, abs=1e-5)
    assert [_x(faces[2]) for faces in cut[12:]] == pytest.approx([6.0] * 12)
    uncut = [_x(faces[1]) for faces in follow(_looks(*frames))]
    assert 0.5 < uncut[11] < 3 < uncut[12] < 5.5


def test_a_face_that_is_missed_for_a_moment_is_put_between_its_neighbors_in_time() -> None:
    frames = [[_face(2.0 * n)] for n in range(30)]
    for n in range(10, 10 + MAX_GAP):
        frames[n] = []
    followed = [*follow(_looks(*frames))]
    assert [_x(faces[1]) for faces in followed] == pytest.approx(
        [2.0 * n for n in range(30)], abs=1e-5
    )


def test_a_track_that_is_lost_ends_and_smoothing_starts_anew() -> None:
    gap = MAX_GAP + 1
    frames = [[_face(0.0)]] * 10 + [[] for _ in range(gap)] + [[_face(4.0)]] * 10
    followed = [*follow(_looks(*frames))]
    assert [*map(len, followed)] == [1] * 10 + [0] * gap + [1] * 10
    assert [_x(faces[1]) for faces in followed[:10]] == pytest.approx([0.0] * 10, abs=1e-5)
    assert [_x(faces[2]) for faces in followed[10 + gap :]] == pytest.approx([4.0] * 10)


def test_two_faces_keep_their_numbers_whatever_their_order() -> None:
    frames = []
    for n in range(20):
        pair = [_face(2.0 * n), _face(60 - 1.0 * n)]
        frames.append(pair[::-1] if n % 3 else pair)
    for n, faces in enumerate(follow(_looks(*frames))):
        assert _x(faces[1]) == pytest.approx(2.0 * n, abs=1e-5)
        assert _x(faces[2]) == pytest.approx(60 - 1.0 * n, abs=1e-5)


@pytest.mark.parametrize("other", [_face(14.0), _face(0.0, size=0.16)], ids=["far", "large"])
def test_a_face_that_cant_be_the_same_begins_a_track(other: Face) -> None:
    """More than 12.6 px away, or more than 1.5 times as large."""
    followed = [*follow(_looks(*[[_face(0.0)]] * 5, *[[other]] * 5))]
    assert [[*faces] for faces in followed] == [[1]] * 5 + [[2]] * 5
    np.testing.assert_allclose(followed[5][2].landmarks, other.landmarks, atol=1e-5)


def test_landmarks_on_one_spot_are_no_face() -> None:
    spot = Face(np.array([0.0, 0, 8, 8]), np.full((5, 2), 4.0), 0.9)
    assert next(follow(_looks([spot], [spot, _face(0.0)]))) == {}


def test_no_more_is_read_ahead_than_it_says() -> None:
    taken = 0

    def counted() -> Iterator[DetectedFrame]:
        nonlocal taken
        for look in _looks(*[[_face(0.0)]] * 50):
            taken += 1
            yield look

    for given, _ in enumerate(follow(counted()), 1):
        assert taken == min(given + LOOK_AHEAD, 50)
    assert given == 50


def test_the_largest_face_stays_chosen_until_another_is_half_as_large_again() -> None:
    choice = SteadyChoice("largest", (400, 300))
    a, b = _face(0.0, size=0.1), _face(100.0, size=0.11)
    assert choice.choose({1: a}) == [a]
    assert choice.choose({1: a, 2: b}) == [a]  # 1.1 times
    grown = _face(100.0, size=0.16)
    assert choice.choose({1: a, 2: grown}) == [grown]
    assert choice.choose({1: a, 2: b}) == [b]
    assert choice.choose({1: a}) == [a]  # the other was lost
    assert choice.choose({}) == []


def test_the_face_at_the_center_is_the_nearest_one() -> None:
    """Of template landmarks at 0.1, the mean lies (25.7, 31.4) from the corner."""
    choice = SteadyChoice("center", (401, 301))
    near, far = _face(174.0, 118.0), _face(20.0, 20.0)
    assert choice.choose({1: far, 2: near}) == [near]
    assert SteadyChoice("all", (401, 301)).choose({1: far, 2: near}) == [far, near]


def test_a_cut_is_between_two_pictures_not_within_a_motion(portrait: ImageU8) -> None:
    moved = np.roll(portrait, 20, axis=1)  # a twenty-fifth of the width
    assert not is_cut(thumbnail(portrait), thumbnail(moved))
    assert is_cut(thumbnail(portrait), thumbnail(255 - portrait))
    assert is_cut(thumbnail(portrait), thumbnail(np.zeros((90, 160, 3), np.uint8)))

"""Faces framed by hand, on a real face that a choosy detector misses."""

import pytest
import torch
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.faces.alignment import TEMPLATE, similarity_transform, transform_points
from fairveil.faces.by_hand import SMALLEST_FRAME, boxes_of, check_frames, guessed_landmarks, with_frames
from fairveil.faces.detection import Detector, Faces

WALL = (300, 300, 90, 120)  # in the portrait: suit and flag, no face


@pytest.fixture(scope="module")
def photo(portrait) -> Tensor:
    return torch.from_numpy(portrait).permute(2, 0, 1)


@pytest.fixture(scope="module")
def truth(detector: Detector, photo: Tensor) -> Faces:
    return detector.detect([photo])[0]


@pytest.fixture(scope="module")
def choosy(detector: Detector) -> Detector:
    """Looks for faces of 250 pixels and more, so that it misses the one of 110."""
    return Detector(detector.pnet, detector.rnet, detector.onet, minimum_face=250)


def frame_about(box: Tensor, *, scale: float = 1.0, right: float = 0.0, down: float = 0.0) -> tuple[int, ...]:
    width, height = (box[2:] - box[:2]).tolist()
    x, y = ((box[:2] + box[2:]) / 2 + 0.5).tolist()
    left, top = x + right * width - scale * width / 2, y + down * height - scale * height / 2
    return tuple(round(number) for number in (left, top, scale * width, scale * height))


def mean_error(landmarks: Tensor, expected: Tensor) -> float:
    return float((landmarks - expected).norm(dim=1).mean() / (expected[1] - expected[0]).norm())


@pytest.mark.parametrize(
    "drawn",
    [
        {},
        {"scale": 0.75},
        {"scale": 1.3},
        {"scale": 2.0},
        {"right": 0.2},
        {"right": -0.2, "down": 0.1},
        {"scale": 1.2, "down": -0.2},
    ],
)
def test_the_face_in_a_frame_drawn_by_hand_has_its_own_landmarks(choosy, photo, truth, drawn) -> None:
    frame = frame_about(truth.boxes[0], **drawn)
    found = choosy.detect([photo])[0]
    assert len(found) == 0
    framed = with_frames(photo, found, [frame], choosy)
    assert (framed.frames, framed.seen) == ((frame,), (True,))
    assert mean_error(framed.faces.landmarks[0], truth.landmarks[0]) < 0.1


def test_the_face_in_a_frame_is_found_in_floats_too_and_where_the_border_cuts_it(choosy, photo, truth) -> None:
    x0, _, x1, _ = truth.boxes[0].round().int().tolist()
    right = round(x0 + 0.6 * (x1 - x0))
    cut_off = photo[:, :, :right] / 255
    left, top, width, height = frame_about(truth.boxes[0])
    looked = choosy.look_at(cut_off, boxes_of([(left, top, right - left, height), (left, top, width, height)]))
    assert (looked.scores > 0.7).all()
    for landmarks in looked.landmarks:
        assert mean_error(landmarks, truth.landmarks[0]) < 0.2


def test_where_no_face_is_seen_the_landmarks_are_guessed_from_the_frame(choosy, photo, truth) -> None:
    framed = with_frames(photo, choosy.detect([photo])[0], [WALL], choosy)
    assert (framed.frames, framed.seen) == ((WALL,), (False,))
    torch.testing.assert_close(framed.faces.boxes, boxes_of([WALL]))
    torch.testing.assert_close(framed.faces.landmarks[0], guessed_landmarks(boxes_of([WALL])[0]))


def test_guessed_landmarks_lie_where_a_real_face_has_them(truth) -> None:
    guess = guessed_landmarks(truth.boxes[0])
    assert mean_error(guess, truth.landmarks[0]) < 0.25
    to_guess = similarity_transform(TEMPLATE[None], guess[None])
    torch.testing.assert_close(transform_points(TEMPLATE[None], to_guess)[0], guess, atol=1e-3, rtol=0)
    assert abs(float(to_guess[0, 1, 0])) < 1e-4  # upright


def test_faces_found_come_first_and_a_second_frame_around_a_face_adds_nothing(detector, photo, truth) -> None:
    again = frame_about(truth.boxes[0], scale=1.1)
    moved = (WALL[0] + 4, WALL[1] - 3, WALL[2], WALL[3])
    framed = with_frames(photo, truth, [again, WALL, moved], detector)
    assert (framed.frames, framed.seen) == ((None, WALL), (True, False))
    torch.testing.assert_close(framed.faces.landmarks[0], truth.landmarks[0])


def test_without_frames_the_faces_are_those_found(detector, photo, truth) -> None:
    framed = with_frames(photo, truth, [], detector)
    assert framed.faces is truth and framed.frames == (None,) and framed.seen == (True,)
    assert detector.look_at(photo, torch.zeros(0, 4)).landmarks.shape == (0, 5, 2)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ((640, 10, 50, 50), r"640,10,50,50 .*outside of the photo, of 640×480"),
        ((610, 10, 61, 50), "outside of the photo"),
        ((-40, -40, 100, 100), "outside of the photo"),
        ((10, 470, 40, 40), "outside of the photo"),
        ((10, 10, SMALLEST_FRAME - 1, 90), f"too small: a face needs {SMALLEST_FRAME} pixels"),
        ((10, 10, -50, 90), "too small"),
    ],
)
def test_a_frame_in_which_no_face_can_be_protected_is_refused(frame, words) -> None:
    with pytest.raises(FairveilError, match=words):
        check_frames([(0, 0, 100, 100), frame], width=640, height=480)


def test_a_frame_may_reach_out_of_the_photo_by_half() -> None:
    check_frames([(-50, 0, 100, 100), (0, 430, 100, 100), (610, 10, 60, 50)], width=640, height=480)

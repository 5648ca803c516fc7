"""The cascade with its published weights on a real face, and its parts, which need no weights."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data, transform
from torch import Tensor

from fairveil.base.errors import FairveilError
from fairveil.faces import detection
from fairveil.faces.boxes import cut, overlaps, regress, square, suppress
from fairveil.faces.detection import Detector, Faces, pyramid_scales
from fairveil.faces.mtcnn import OutputNet, ProposalNet, RefinementNet
from fairveil.images import read_photo

DATA = Path(os.environ.get("FAIRVEIL_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
# Read off the enlarged picture by hand: left eye, right eye, nose, left and right corner of the mouth.
LANDMARKS = torch.tensor([[203.5, 101.0], [247.3, 103.3], [224.0, 127.5], [203.5, 140.0], [246.5, 140.5]])


@pytest.fixture(scope="module")
def detector(needs_models) -> Detector:
    needs_models("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet")
    return Detector.pretrained(minimum_face=24)


@pytest.fixture(scope="module")
def astronaut() -> Tensor:
    return torch.from_numpy(data.astronaut()).permute(2, 0, 1)


@pytest.fixture(scope="module")
def found(detector: Detector, astronaut: Tensor) -> Faces:
    return detector.detect([astronaut])[0]


@pytest.fixture
def untrained() -> Detector:
    torch.manual_seed(0)
    return Detector(ProposalNet(), RefinementNet(), OutputNet(), thresholds=(0.505, 0.1, 0.1))


def eye_distance(landmarks: Tensor) -> Tensor:
    return (landmarks[:, 1] - landmarks[:, 0]).norm(dim=1)


def mean_error(landmarks: Tensor, expected: Tensor) -> float:
    """Mean distance of the landmarks (F, 5, 2), as a share of the distance of the eyes."""
    return float(((landmarks - expected).norm(dim=2).mean(1) / eye_distance(expected)).max())


# --- with the published weights


def test_the_one_face_is_found_with_its_landmarks(found: Faces) -> None:
    assert len(found) == 1
    assert found.scores[0] > 0.99
    assert mean_error(found.landmarks, LANDMARKS[None]) < 0.1


def test_the_box_holds_the_landmarks(found: Faces) -> None:
    assert (found.landmarks > found.boxes[:, None, :2]).all()
    assert (found.landmarks < found.boxes[:, None, 2:]).all()


@pytest.mark.parametrize("scale", [0.24, 0.4, 0.7, 1.7, 3.0])
def test_landmarks_follow_the_size_of_the_photo(
    detector: Detector, astronaut: Tensor, found: Faces, scale: float
) -> None:
    side = round(512 * scale)
    resized = F.interpolate(astronaut[None] / 255, (side, side), mode="bilinear", antialias=True)[0].clamp(0, 1)
    faces = detector.detect([resized])[0][:1]
    # Pixel centers are at integers, so the corner of the photo, at (-1/2, -1/2), is what stays in place.
    assert mean_error((faces.landmarks + 0.5) * 512 / side - 0.5, found.landmarks) < 0.06


def test_a_face_of_24_pixels_is_found(detector: Detector, astronaut: Tensor, found: Faces) -> None:
    side = round(512 * 24 / float((found.boxes[0, 2:] - found.boxes[0, :2]).max()))
    small = F.interpolate(astronaut[None], (side, side), mode="bilinear", antialias=True)[0]
    faces = detector.detect([small])[0]
    assert len(faces) == 1
    assert mean_error((faces.landmarks + 0.5) * 512 / side - 0.5, found.landmarks) < 0.1


def test_a_face_smaller_than_the_minimum_is_not_looked_for(detector: Detector, astronaut: Tensor) -> None:
    choosy = Detector(detector.pnet, detector.rnet, detector.onet, minimum_face=200)
    assert len(choosy.detect([astronaut])[0]) == 0


def test_a_face_that_fills_the_photo_is_found(detector: Detector, astronaut: Tensor, found: Faces) -> None:
    x0, y0, x1, y1 = found.boxes[0].round().int().tolist()
    faces = detector.detect([astronaut[:, y0:y1, x0:x1]])[0]
    assert len(faces) == 1
    assert mean_error(faces.landmarks + torch.tensor([x0, y0]), found.landmarks) < 0.1


@pytest.mark.parametrize("degrees", [-15, 8, 20])
def test_landmarks_follow_a_rotation(detector: Detector, astronaut: Tensor, found: Faces, degrees: float) -> None:
    turn = transform.SimilarityTransform(rotation=np.deg2rad(degrees), translation=(60, 60))
    rotated = transform.warp(data.astronaut(), turn.inverse, output_shape=(640, 640))
    faces = detector.detect([torch.from_numpy(rotated).permute(2, 0, 1)])[0][:1]
    expected = torch.from_numpy(turn(found.landmarks[0].numpy()))[None]
    assert mean_error(faces.landmarks, expected) < 0.1


@pytest.mark.parametrize("shift", [(1, 0), (3, 7), (64, 31)])
def test_landmarks_follow_a_shift(detector: Detector, astronaut: Tensor, found: Faces, shift: tuple[int, int]) -> None:
    padded = F.pad(astronaut, (shift[0], 0, shift[1], 0))
    faces = detector.detect([padded])[0][:1]
    assert mean_error(faces.landmarks - torch.tensor(shift), found.landmarks) < 0.06


def test_landmarks_of_the_mirrored_photo_are_mirrored(detector: Detector, astronaut: Tensor, found: Faces) -> None:
    faces = detector.detect([astronaut.flip(-1)])[0]
    mirrored = faces.landmarks[:, [1, 0, 2, 4, 3]]
    mirrored[..., 0] = 511 - mirrored[..., 0]
    assert mean_error(mirrored, found.landmarks) < 0.1


def test_several_faces_are_found_largest_first(detector: Detector, astronaut: Tensor, found: Faces) -> None:
    sides = (256, 512, 160)
    scene = torch.full((3, 512, sum(sides)), 90, dtype=torch.uint8)
    left = 0
    for side in sides:
        scene[:, :side, left : left + side] = F.interpolate(
            astronaut[None], (side, side), mode="bilinear", antialias=True
        )[0]
        left += side
    faces = detector.detect([scene])[0]
    assert len(faces) == 3
    for position, side, offset in ((0, 512, 256), (1, 256, 0), (2, 160, 768)):
        expected = (found.landmarks + 0.5) * side / 512 - 0.5 + torch.tensor([offset, 0])
        assert mean_error(faces[[position]].landmarks, expected) < 0.1


def test_a_batch_gives_what_one_by_one_gives(detector: Detector, astronaut: Tensor) -> None:
    photos = [astronaut, astronaut.flip(-1), astronaut[:, :300, :400], torch.zeros_like(astronaut)]
    for together, alone in zip(detector.detect(photos), [detector.detect([p])[0] for p in photos], strict=True):
        assert len(together) == len(alone)
        torch.testing.assert_close(together.boxes, alone.boxes, atol=1e-2, rtol=0)
        torch.testing.assert_close(together.landmarks, alone.landmarks, atol=1e-2, rtol=0)
        torch.testing.assert_close(together.scores, alone.scores, atol=1e-4, rtol=0)


def test_bytes_floats_and_stacked_photos_give_the_same(detector: Detector, astronaut: Tensor, found: Faces) -> None:
    for photos in ([astronaut / 255], [astronaut.double() / 255], astronaut[None], astronaut.contiguous()[None] / 255):
        torch.testing.assert_close(detector.detect(photos)[0].landmarks, found.landmarks, atol=1e-3, rtol=0)


def test_a_gray_photo_is_no_different(detector: Detector, astronaut: Tensor, found: Faces) -> None:
    gray = (astronaut.float().mean(0, keepdim=True) / 255).expand(3, -1, -1)
    faces = detector.detect([gray])[0]
    assert mean_error(faces.landmarks, found.landmarks) < 0.15


def test_strips_do_not_show(
    detector: Detector, astronaut: Tensor, found: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection, "_STRIP_PIXELS", 1)
    torch.testing.assert_close(detector.detect([astronaut])[0].boxes, found.boxes, atol=1e-2, rtol=0)


def test_noise_and_holes_in_the_numbers_are_no_faces(detector: Detector) -> None:
    noise = torch.rand(3, 200, 300, generator=torch.Generator().manual_seed(0))
    holes = torch.full_like(noise, float("nan"))
    endless = torch.full_like(noise, float("inf"))
    assert [len(faces) for faces in detector.detect([noise, holes, endless])] == [0, 0, 0]


@pytest.mark.parametrize(("left", "top", "right", "bottom"), [(0, 0, 230, 512), (0, 0, 221, 512), (0, 0, 512, 117)])
def test_a_face_that_the_border_cuts_is_found_where_it_was(
    detector: Detector, astronaut: Tensor, found: Faces, left: int, top: int, right: int, bottom: int
) -> None:
    """Without a look over the border none of these is found, in which 40 or 50 % of the face is cut off."""
    photo = astronaut[:, top:bottom, left:right]
    faces = detector.detect([photo])[0]
    assert len(faces) == 1
    assert mean_error(faces.landmarks + torch.tensor([left, top]), found.landmarks) < 0.2
    blinkered = Detector(detector.pnet, detector.rnet, detector.onet, at_border=False)
    assert len(blinkered.detect([photo])[0]) == 0


def test_the_largest_face_of_a_group_is_found_at_the_border(detector: Detector) -> None:
    if not (DATA / "photos.tar").exists():
        pytest.skip(f"photos.tar is not in {DATA}: set FAIRVEIL_DATA to the folder it is in.")
    with tarfile.open(DATA / "photos.tar") as archive:
        name = next(name for name in archive.getnames() if name.endswith("selfie-many-people.jpg"))
        selfie = read_photo(archive.extractfile(name).read()).pixels
    largest = detector.detect([selfie])[0][:1]
    # Read off the picture by hand: his left eye, as seen in the picture, and that corner of his mouth.
    seen = torch.tensor([[548.0, 384.0], [540.0, 492.0]])
    assert float((largest.landmarks[0, [0, 3]] - seen).norm(dim=1).max()) < 30
    assert largest.boxes[0, 2] > selfie.shape[2]


def test_faces_that_are_found_without_the_border_stay_as_they_are(detector: Detector, astronaut: Tensor) -> None:
    """Each of the tiles but the corner ones lies at a border, and one is cut, so there is something to add."""
    small = F.interpolate(astronaut[None], (160, 160), mode="bilinear", antialias=True)[0]
    photos = [small.repeat(1, 2, 3), torch.cat([small, small[:, :, :69]], 2), astronaut[:, 20:200, 150:270]]
    blinkered = Detector(detector.pnet, detector.rnet, detector.onet, at_border=False)
    counts = []
    for photo, before, after in zip(photos, blinkered.detect(photos), detector.detect(photos), strict=True):
        counts.append((len(before), len(after)))
        known = overlaps(after.boxes, before.boxes).amax(1) > 0.5
        for name in ("boxes", "scores", "landmarks"):
            torch.testing.assert_close(getattr(after[known], name), getattr(before, name), atol=1e-3, rtol=1e-4)
        assert (photo.shape[1], len(after) - int(known.sum())) in ((320, 0), (160, 1), (180, 0))
    assert counts == [(6, 6), (1, 2), (1, 1)]


# --- without weights


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (11, 500), (500, 11), (12, 12), (23, 23)])
def test_photos_too_small_for_a_face_give_no_faces(untrained: Detector, size: tuple[int, int]) -> None:
    faces = untrained.detect([torch.zeros(3, *size)])[0]
    assert faces.boxes.shape == (0, 4)
    assert faces.scores.shape == (0,)
    assert faces.landmarks.shape == (0, 5, 2)


def test_no_photos_give_no_answers(untrained: Detector) -> None:
    assert untrained.detect([]) == []


def test_empty_faces_can_be_indexed(untrained: Detector) -> None:
    faces = untrained.detect([torch.zeros(3, 8, 8)])[0]
    assert len(faces[:3]) == len(faces[[]]) == len(faces[faces.scores > 0]) == 0


@pytest.mark.parametrize("photo", [torch.zeros(40, 40), torch.zeros(1, 40, 40), torch.zeros(40, 40, 3)])
def test_photos_of_another_shape_are_refused(untrained: Detector, photo: Tensor) -> None:
    with pytest.raises(FairveilError, match="Photo 1 has shape"):
        untrained.detect([torch.zeros(3, 40, 40), photo])


def test_photos_of_other_integers_are_refused(untrained: Detector) -> None:
    with pytest.raises(FairveilError, match=r"Photo 0 is of type torch\.int64"):
        untrained.detect([torch.zeros(3, 40, 40, dtype=torch.int64)])


def test_a_minimum_below_the_window_of_pnet_is_refused() -> None:
    with pytest.raises(FairveilError, match="12 or more"):
        Detector(ProposalNet(), RefinementNet(), OutputNet(), minimum_face=5)


@settings(deadline=None, max_examples=40)
@given(height=st.integers(12, 40), width=st.integers(12, 40), rows=st.sampled_from([1, 10**6]))
def test_pnet_sees_every_window_where_it_is(height: int, width: int, rows: int) -> None:
    """In strips or whole, and each box is that of the pixels its score comes from."""
    torch.manual_seed(0)
    net = ProposalNet()
    pictures = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(detection, "_STRIP_PIXELS", rows)
        windows = detection._slide(net, pictures, 0.0)
        inside = (windows.boxes[:, 2] <= width) & (windows.boxes[:, 3] <= height)
        assert inside.sum() == 2 * ((height - 12) // 2 + 1) * ((width - 12) // 2 + 1)
        crops = cut(pictures, windows.boxes[inside], windows.photo[inside], 12)
        scores, offsets = net((crops - 127.5) / 128)
    torch.testing.assert_close(scores.flatten(), windows.scores[inside], atol=1e-5, rtol=0)
    torch.testing.assert_close(offsets.flatten(1), windows.offsets[inside], atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=20)
@given(height=st.integers(6, 40), width=st.integers(12, 40))
def test_pnet_sees_every_window_that_reaches_out_by_up_to_half(height: int, width: int) -> None:
    """Each once, and each box is that of the pixels its score comes from, with gray outside."""
    torch.manual_seed(0)
    net = ProposalNet()
    pictures = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8)
    with torch.no_grad():
        windows = detection._slide_over_border(net, pictures, 0.0)
        x0, y0, x1, y1 = windows.boxes.T
        out = torch.stack([-x0, -y0, x1 - width, y1 - height], 1)
        assert (out.amax(1) > 0).all() and (
            out <= 7
        ).all()  # 7: as far as P-net reaches where a band ends on an odd one
        for side, length in enumerate((height, width, height, width)):
            reached = out[:, side][out[:, side] > 0].unique().tolist()
            assert {2, 4, 6} <= set(reached) if length >= 12 else reached
        half_seen = (y0 >= 0) & (y1 == height + 1)  # as above, of the bands at the sides
        whole = (out.amax(1) <= 6) & ~half_seen
        crops = cut(pictures, windows.boxes[whole], windows.photo[whole], 12, outside=128)
        scores, offsets = net((crops - 127.5) / 128)
    torch.testing.assert_close(scores.flatten(), windows.scores[whole], atol=1e-5, rtol=0)
    torch.testing.assert_close(offsets.flatten(1), windows.offsets[whole], atol=1e-5, rtol=0)


def test_faces_of_untrained_networks_within_the_photo_do_not_change(untrained: Detector) -> None:
    photos = torch.rand(2, 3, 40, 52, generator=torch.Generator().manual_seed(0))
    blinkered = Detector(
        untrained.pnet, untrained.rnet, untrained.onet, thresholds=untrained.thresholds, at_border=False
    )
    for before, after in zip(blinkered.detect(photos), untrained.detect(photos), strict=True):
        assert len(before) and {tuple(box) for box in before.boxes.tolist()} <= {
            tuple(box) for box in after.boxes.tolist()
        }


def test_untrained_networks_on_noise_stay_bounded(untrained: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "_WINDOWS", 20)
    photos = torch.rand(2, 3, 150, 150, generator=torch.Generator().manual_seed(0))
    assert all(len(faces) <= 2 * 20 for faces in untrained.detect(photos))  # within, and over the border


@given(
    photo=st.lists(st.integers(0, 3), max_size=30),
    limit=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_the_best_of_each_photo_are_kept(photo: list[int], limit: int, seed: int) -> None:
    scores = torch.rand(len(photo), generator=torch.Generator().manual_seed(seed))
    kept = set(detection._best(scores, torch.tensor(photo, dtype=torch.long), limit).tolist())
    if len(photo) <= limit:
        assert kept == set(range(len(photo)))
        return
    for one in set(photo):
        here = sorted((i for i, p in enumerate(photo) if p == one), key=lambda i: -float(scores[i]))
        assert kept & set(here) == set(here[:limit])


def test_the_pyramid_reaches_from_the_smallest_face_to_the_whole_photo() -> None:
    scales = pyramid_scales(480, 640, minimum_face=24, factor=0.709)
    assert scales[0] == 0.5
    assert np.allclose(np.divide(scales[1:], scales[:-1]), 0.709)
    assert 480 * scales[-1] >= 12 > 480 * scales[-1] * 0.709


def test_a_photo_below_the_smallest_face_has_no_pyramid() -> None:
    assert pyramid_scales(23, 400, minimum_face=24, factor=0.709) == []
    assert pyramid_scales(23, 400, minimum_face=24, factor=0.709, smallest=6) == []


# --- boxes

coordinates = st.integers(0, 30)
some_boxes = st.lists(st.tuples(coordinates, coordinates, st.integers(1, 20), st.integers(1, 20)), max_size=40)


def as_tensor(boxes: list[tuple[int, int, int, int]]) -> Tensor:
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], 1)


def covered_pixels(box: Tensor) -> set[tuple[int, int]]:
    x0, y0, x1, y1 = box.int().tolist()
    return {(x, y) for x in range(x0, x1) for y in range(y0, y1)}


def slow_overlap(box: Tensor, other: Tensor, of_smaller: bool) -> float:
    here, there = covered_pixels(box), covered_pixels(other)
    return len(here & there) / (min(len(here), len(there)) if of_smaller else len(here | there))


def slow_suppression(
    boxes: Tensor, scores: list[int], photo: list[int], threshold: float, of_smaller: bool
) -> list[int]:
    waiting = sorted(range(len(boxes)), key=lambda i: -scores[i])
    kept = []
    while waiting:
        best, *waiting = waiting
        kept.append(best)
        waiting = [
            i
            for i in waiting
            if photo[i] != photo[best] or slow_overlap(boxes[best], boxes[i], of_smaller) <= threshold
        ]
    return kept


@settings(deadline=None)
@given(
    boxes=some_boxes,
    threshold=st.sampled_from([0.3, 0.5, 0.7]),
    of_smaller=st.booleans(),
    block=st.sampled_from([1, 3, 512]),
    chance=st.randoms(use_true_random=False),
)
def test_suppression_is_the_greedy_algorithm(boxes, threshold, of_smaller, block, chance) -> None:
    scores = chance.sample(range(100), len(boxes))
    photo = [chance.randrange(2) for _ in boxes]
    corners = as_tensor(boxes)
    kept = suppress(
        corners,
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(photo, dtype=torch.long),
        # Away from every fraction that can occur, so that rounding cannot decide.
        threshold + 1e-5,
        of_smaller=of_smaller,
        block=block,
    )
    assert kept.tolist() == slow_suppression(corners, scores, photo, threshold + 1e-5, of_smaller)


def test_a_chain_of_overlapping_boxes_loses_every_other_one() -> None:
    left = torch.arange(100.0) * 4
    boxes = torch.stack([left, 0 * left, left + 10, 0 * left + 10], 1)
    kept = suppress(boxes, -left, torch.zeros(100, dtype=torch.long), 0.3)
    assert kept.tolist() == list(range(0, 100, 2))


@given(boxes=some_boxes, of_smaller=st.booleans())
@settings(deadline=None, max_examples=30)
def test_overlap_is_the_share_of_common_pixels(boxes, of_smaller) -> None:
    corners = as_tensor(boxes)[:8]
    expected = [[slow_overlap(box, other, of_smaller) for other in corners] for box in corners]
    torch.testing.assert_close(
        overlaps(corners, corners, of_smaller=of_smaller), torch.tensor(expected).reshape(len(corners), len(corners))
    )


def test_boxes_without_area_overlap_nothing() -> None:
    assert overlaps(torch.zeros(2, 4), torch.zeros(2, 4)).tolist() == [[0, 0], [0, 0]]


def test_regression_moves_sides_by_shares_of_the_box() -> None:
    moved = regress(torch.tensor([[10.0, 20.0, 30.0, 60.0]]), torch.tensor([[0.1, -0.1, 0.5, 0.25]]))
    assert moved.tolist() == [[12.0, 16.0, 40.0, 70.0]]


def test_squares_keep_the_center_and_the_longer_side() -> None:
    assert square(torch.tensor([[10.0, 20.0, 30.0, 60.0], [5.0, 5.0, 5.0, 5.0]])).tolist() == [
        [0.0, 20.0, 40.0, 60.0],
        [4.5, 4.5, 5.5, 5.5],
    ]


def test_a_cut_of_whole_pixels_is_those_pixels() -> None:
    pictures = torch.randint(0, 256, (2, 3, 20, 30), dtype=torch.uint8)
    crops = cut(pictures, torch.tensor([[4.0, 6.0, 12.0, 14.0], [0.0, 0.0, 8.0, 8.0]]), torch.tensor([1, 0]), 8)
    assert torch.equal(crops, torch.stack([pictures[1, :, 6:14, 4:12], pictures[0, :, :8, :8]]).float())


def test_a_cut_that_shrinks_takes_the_mean_over_each_pixels_area() -> None:
    pictures = torch.rand(1, 3, 24, 24)
    crop = cut(pictures, torch.tensor([[2.0, 4.0, 20.0, 22.0]]), torch.tensor([0]), 6)
    torch.testing.assert_close(crop, F.avg_pool2d(pictures[:, :, 4:22, 2:20], 3))


def test_a_cut_that_enlarges_interpolates_linearly() -> None:
    pictures = torch.rand(1, 3, 12, 12)
    crop = cut(pictures, torch.tensor([[0.0, 0.0, 12.0, 12.0]]), torch.tensor([0]), 30)
    expected = F.interpolate(pictures, (30, 30), mode="bilinear", align_corners=False)
    torch.testing.assert_close(crop[:, :, 3:-3, 3:-3], expected[:, :, 3:-3, 3:-3])


def test_cuts_are_black_outside_the_picture() -> None:
    pictures = torch.ones(1, 3, 10, 10)
    crop = cut(pictures, torch.tensor([[-5.0, -5.0, 5.0, 5.0]]), torch.tensor([0]), 10)
    assert crop[0, 0].sum() == 25
    assert (crop[0, :, 5:, 5:] == 1).all()


def test_outside_the_picture_a_cut_has_the_value_that_is_asked_for() -> None:
    picture = torch.rand(1, 3, 9, 7)
    boxes = torch.tensor([[-3.5, -2.0, 8.5, 10.0], [2.0, 3.0, 20.0, 21.0], [40.0, 40.0, 52.0, 52.0]])
    around = cut(F.pad(picture, (60,) * 4, value=0.25), boxes + 60, torch.zeros(3, dtype=torch.long), 12)
    torch.testing.assert_close(cut(picture, boxes, torch.zeros(3, dtype=torch.long), 12, outside=0.25), around)


def test_ramps_stay_ramps_under_any_cut() -> None:
    """A linear picture shows any misplacement: its cut is the same line, sampled at the crop's pixel centers."""
    ramp = (torch.arange(64.0) + 0.5).expand(1, 1, 64, 64)
    boxes = torch.tensor([[10.3, 9.1, 40.7, 39.5], [20.0, 20.0, 31.7, 31.7], [3.2, 3.2, 60.9, 60.9]])
    crops = cut(ramp, boxes, torch.zeros(3, dtype=torch.long), 16)
    steps = (boxes[:, 2:3] - boxes[:, :1]) / 16
    expected = boxes[:, :1] + (torch.arange(16) + 0.5) * steps
    torch.testing.assert_close(crops, expected[:, None, None].expand_as(crops), atol=0.06, rtol=0)

import json
import math
from io import StringIO

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console

from fairveil.base.errors import FairveilError, NoFaceError
from fairveil.faces.by_hand import with_frames
from fairveil.faces.recognizers import Recognizer
from fairveil.images import resaved
from fairveil.protection.report import receipt_tables
from fairveil.protection.verification import CONDITIONS, Receipt, verify


@pytest.fixture
def photo(portrait, needs_models):
    needs_models("lpips-alexnet", "lpips-vgg16")
    return torch.from_numpy(portrait).permute(2, 0, 1).contiguous()


@pytest.fixture
def changed(photo):
    noise = torch.randint(-20, 21, photo.shape, generator=torch.Generator().manual_seed(0))
    return (photo.int() + noise).clamp(0, 255).byte()


def test_a_photo_against_itself_matches_everywhere_and_costs_nothing(photo, detector, tiny_recognizers):
    receipt = verify(photo, photo, tiny_recognizers, detector=detector)
    face = receipt.faces[0]
    assert face.found
    assert (face.quality.lpips, face.quality.lpips_vgg, face.quality.psnr) == (0, 0, None)
    assert face.quality.ssim == pytest.approx(1)
    as_saved = [c for c in face.against_itself if c.condition == "as saved"]
    assert [c.similarity for c in as_saved] == pytest.approx([1, 1])
    assert all(comparison.matches for comparison in as_saved)


def test_every_recognizer_looks_under_every_condition(photo, changed, detector, tiny_recognizers):
    receipt = verify(photo, changed, tiny_recognizers, attacked=["tiny-1"], detector=detector)
    face = receipt.faces[0]
    assert face.conditions == tuple(CONDITIONS) == ("as saved", "JPEG 90", "JPEG 75", "blur σ 2", "half size")
    assert len(face.against_itself) == 10
    assert {c.recognizer for c in face.against_itself if c.attacked} == {"tiny-1"}
    assert face.quality.lpips > 0 and face.quality.lpips_vgg > 0 and face.quality.ssim < 1
    # ±20 evenly has a mean square of (41² - 1) / 12; clamping makes it a little less.
    assert face.quality.psnr == pytest.approx(10 * math.log10(255**2 / ((41**2 - 1) / 12)), abs=0.6)


def test_probes_are_compared_before_and_after(photo, changed, detector, tiny_recognizers):
    probes = {"same.jpg": photo, "wall.jpg": torch.full((3, 100, 100), 90, dtype=torch.uint8)}
    receipt = verify(photo, changed, tiny_recognizers, probes=probes, detector=detector)
    assert receipt.probes_without_face == ("wall.jpg",)
    for comparison in receipt.faces[0].against_probes["same.jpg"]:
        assert comparison.before == pytest.approx(1, abs=1e-4)
        assert comparison.similarity < comparison.before


def test_faces_found_before_are_measured_alone_and_every_look_is_told(photo, changed, detector, tiny_recognizers):
    two, two_changed = (torch.cat([each, each], 2) for each in (photo, changed))
    faces = detector.detect([two])[0]
    looks = []
    receipt = verify(
        two,
        two_changed,
        tiny_recognizers,
        detector=detector,
        faces=faces[[1]],
        on_look=lambda done, total: looks.append((done, total)),
    )
    whole = verify(two, two_changed, tiny_recognizers, detector=detector)
    assert len(whole.faces) == 2 and receipt.faces == whole.faces[1:]
    assert looks == [(1, 2), (2, 2)]


def test_a_face_framed_by_hand_is_measured_and_said_to_be_one(photo, changed, detector, tiny_recognizers):
    wall = (300, 300, 90, 120)
    faces = with_frames(photo, detector.detect([photo])[0], [wall], detector)
    receipt = verify(photo, changed, tiny_recognizers, detector=detector, faces=faces)
    assert [(face.by_hand, face.found) for face in receipt.faces] == [(False, True), (True, False)]
    assert receipt.faces[1].box == (299.5, 299.5, 389.5, 419.5)
    assert receipt.faces[1].quality.lpips > 0
    assert Receipt.model_validate_json(receipt.model_dump_json()) == receipt
    assert "by_hand" not in receipt.faces[0].model_dump()


def test_the_receipt_is_dated_cautious_and_survives_json(photo, changed, detector, tiny_recognizers):
    receipt = verify(photo, changed, tiny_recognizers, detector=detector)
    assert receipt.date[:2] == "20" and "may still match" in receipt.caution
    assert set(receipt.thresholds) == {"tiny-1", "tiny-2"}
    assert Receipt.model_validate_json(receipt.model_dump_json()) == receipt


def test_a_face_the_detector_no_longer_finds_is_still_compared_where_it_was(photo, detector, tiny_recognizers):
    erased = photo.clone()
    erased[:, :260, 130:330] = 128
    face = verify(photo, erased, tiny_recognizers, detector=detector).faces[0]
    assert not face.found
    assert len(face.against_itself) == 10 and all(c.similarity < 0.99 for c in face.against_itself)


def test_each_face_is_compared_with_itself(photo, detector, tiny_recognizers):
    two = torch.full((3, 512, 800), 200, dtype=torch.uint8)
    two[:, :, :512] = photo
    two[:, :256, 530:786] = photo[:, ::2, ::2]
    changed = two.clone()
    changed[:, :, 520:] = changed[:, :, 520:] // 2 + 40
    receipt = verify(two, changed, tiny_recognizers, detector=detector)
    large, small = receipt.faces
    assert large.box[2] < 512 < small.box[0]
    assert large.quality.psnr is None and small.quality.psnr is not None
    assert [c.similarity for c in large.against_itself if c.condition == "as saved"] == pytest.approx([1, 1])
    assert all(c.similarity < 1 - 1e-4 for c in small.against_itself)


def test_without_a_threshold_nothing_is_said_of_a_match(photo, detector, tiny_recognizers):
    nobody_measured = Recognizer("new", tiny_recognizers[0].network, tiny_recognizers[0].framing)
    receipt = verify(photo, photo, [nobody_measured], detector=detector)
    comparison = receipt.faces[0].against_itself[0]
    assert (comparison.matches, comparison.matched_before) == (None, None)
    assert receipt.thresholds == {"new": "not known"}


def test_the_closest_face_of_a_probe_counts(photo, detector, tiny_recognizers):
    crowd = torch.full((3, 512, 800), 200, dtype=torch.uint8)
    crowd[:, :, :512] = photo
    crowd[:, :256, 530:786] = photo[:, ::2, ::2].flip(2) // 4
    wanted = photo[:, ::2, ::2].flip(2) // 4
    receipt = verify(photo, photo, tiny_recognizers, probes={"crowd": crowd, "small": wanted}, detector=detector)
    in_crowd, dark = (receipt.faces[0].against_probes[name] for name in ("crowd", "small"))
    for closest, other in zip(in_crowd, dark, strict=True):
        assert closest.similarity > 0.99 > other.similarity


@pytest.mark.parametrize("condition", CONDITIONS)
def test_landmarks_stay_on_the_face_whatever_happens_to_the_photo(condition):
    view = torch.zeros(1, 3, 120, 96)
    view[:, :, 40:49, 60:69] = 1
    altered, landmarks = CONDITIONS[condition](view, torch.tensor([[[64.0, 44.0]]]))
    shown = altered[0, 0].clamp(min=0.2) - 0.2
    rows, columns = torch.meshgrid(*(torch.arange(float(n)) for n in shown.shape), indexing="ij")
    middle = torch.stack([(columns * shown).sum(), (rows * shown).sum()]) / shown.sum()
    assert torch.allclose(middle, landmarks[0, 0], atol=0.1)


def test_photos_of_different_sizes_are_refused(photo, detector, tiny_recognizers):
    with pytest.raises(FairveilError, match="512×512 pixels and the protected photo 500×512"):
        verify(photo, photo[:, :, :500], tiny_recognizers, detector=detector)


def test_json_says_whether_they_match(photo, detector, tiny_recognizers):
    written = json.loads(verify(photo, photo, tiny_recognizers, detector=detector).model_dump_json())
    comparison = written["faces"][0]["against_itself"][0]
    assert (comparison["matches"], comparison["matched_before"]) == (True, True)


def test_two_recognizers_of_one_name_are_refused(photo, detector, tiny_recognizers):
    with pytest.raises(FairveilError, match="one name"):
        verify(photo, photo, tiny_recognizers[:1] * 2, detector=detector)


def test_an_original_without_a_face_is_refused(detector, tiny_recognizers):
    wall = torch.full((3, 100, 100), 90, dtype=torch.uint8)
    with pytest.raises(FairveilError, match="No face was found in the original"):
        verify(wall, wall, tiny_recognizers, detector=detector)


def test_pictures_of_every_kind_are_taken_as_protect_takes_them(photo, changed, detector, tiny_recognizers):
    array = photo.permute(1, 2, 0).numpy()
    image = Image.fromarray(changed.permute(1, 2, 0).numpy())
    mixed = verify(array, image, tiny_recognizers, probes={"p": Image.fromarray(array)}, detector=detector)
    plain = verify(photo, changed, tiny_recognizers, probes={"p": photo}, detector=detector)
    assert mixed.faces == plain.faces
    with pytest.raises(FairveilError, match=r"me\.jpg is not there"):
        verify("me.jpg", "protected.jpg", tiny_recognizers, detector=detector)


def test_what_the_figures_cannot_say_is_said_first(photo, changed, detector, tiny_recognizers):
    stranger, strict = F.interpolate(photo[None].float(), scale_factor=(1, 0.6))[0].byte(), []
    for recognizer in tiny_recognizers:  # which match nobody but the very same face
        about = {"name": recognizer.name, "framing": recognizer.framing, "threshold": 0.99999}
        strict.append(Recognizer.from_module(recognizer.network, **about))
    plain = verify(photo, changed, strict, attacked=(), detector=detector)
    assert plain.remarks == () and "remarks" not in json.loads(plain.model_dump_json())
    itself = verify(photo, photo, strict, probes={"p.jpg": photo}, attacked=(), detector=detector).remarks
    assert [words in remark for words, remark in zip(("pixel for pixel", "p.jpg is the original"), itself, strict=True)]
    swapped = verify(photo, 255 - photo, strict, attacked=(), detector=detector).remarks
    assert len(swapped) == 1 and "perhaps of somebody else" in swapped[0]
    probed = verify(photo, changed, strict, probes={"p.jpg": stranger}, attacked=(), detector=detector)
    assert probed.remarks == (
        "p.jpg seems to show somebody else: only 0 of 2 recognizers match it to the original, before any protection. "
        "Give another photo of the same person.",
    )
    console = Console(width=80, record=True, file=StringIO())
    for part in receipt_tables(probed):
        console.print(part)
    assert console.export_text().startswith("p.jpg seems to show somebody else")


def test_networks_have_one_thread_each_which_is_given_back(photo, detector):
    def embed(crops):
        threads.add(torch.get_num_threads())
        return crops.flatten(1)

    threads, before = set(), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        verify(photo, photo, [Recognizer("noting", embed)], detector=detector)
        assert (threads, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)


def test_a_photo_that_was_only_saved_anew_is_said_to_be_unprotected(photo, changed, detector, tiny_recognizers):
    remarks = verify(
        photo, resaved(photo, format="JPEG", quality=95), tiny_recognizers, attacked=(), detector=detector
    ).remarks
    assert len(remarks) == 1 and "nothing in it seems to be protected" in remarks[0]
    assert verify(photo, changed, tiny_recognizers, attacked=(), detector=detector).remarks == ()


def test_a_probe_that_is_the_original_once_more_is_said_to_be(photo, changed, detector, tiny_recognizers):
    copies = {
        "saved.jpg": resaved(photo, format="JPEG", quality=60),
        "mirrored.png": photo.flip(-1),
        "smaller.png": F.interpolate(photo[None].float(), scale_factor=0.7, mode="area")[0].byte(),
        "gray.png": photo.float().mean(0, keepdim=True).expand(3, -1, -1).byte().contiguous(),
    }
    other = {"other.png": F.interpolate(photo[None].float(), scale_factor=(1, 0.6))[0].byte()}
    remarks = verify(photo, changed, tiny_recognizers, probes=copies | other, detector=detector).remarks
    assert [remark.split()[0] for remark in remarks if "the original once more" in remark] == list(copies)


def test_paths_are_read_and_the_receipt_prints_shows_itself_and_becomes_a_table(
    photo, changed, detector, tiny_recognizers, tmp_path
):
    for name, pixels in (("before", photo), ("after", changed)):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / f"{name}.png")
    before, after = str(tmp_path / "before.png"), tmp_path / "after.png"
    receipt = verify(before, after, tiny_recognizers, attacked=["tiny-1"], detector=detector, probes={"me": before})
    assert receipt.faces == verify(photo, changed, tiny_recognizers, attacked=["tiny-1"], detector=detector,
                                   probes={"me": photo}).faces  # fmt: skip
    frame = receipt.to_frame()
    assert frame.height == 2 * (len(CONDITIONS) + 1) and set(frame["probe"]) == {"", "me"}
    now = {one.recognizer: one.similarity for one in receipt.faces[0].against_probes["me"]}
    assert dict(frame.filter(frame["probe"] == "me").select("recognizer", "similarity").rows()) == now
    lines = [line for line in str(receipt).splitlines() if line.startswith("| tiny-1 (attacked)")]
    assert len(lines) == 2 and f"{now['tiny-1']:+.2f}" in lines[1]
    assert "tiny-2 (held out)" in receipt._repr_html_() and receipt.caution in str(receipt)


def test_a_photo_without_a_face_can_be_caught_apart(detector, tiny_recognizers):
    wall = torch.full((3, 100, 100), 90, dtype=torch.uint8)
    with pytest.raises(NoFaceError, match="No face was found in the original photo"):
        verify(wall, wall, tiny_recognizers, detector=detector)


def test_who_was_attacked_is_not_guessed_in_silence(photo, changed, detector, tiny_recognizers):
    unsaid = verify(photo, changed, tiny_recognizers, detector=detector)
    assert any("Which recognizers were attacked was not said" in remark for remark in unsaid.remarks)
    said = verify(photo, changed, tiny_recognizers, attacked=["tiny-1"], detector=detector)
    assert not any("was not said" in remark for remark in said.remarks)
    assert {(one.recognizer, one.attacked) for one in said.faces[0].against_itself} == {
        ("tiny-1", True),
        ("tiny-2", False),
    }
    with pytest.raises(FairveilError, match="`attacked` is the name 'tiny-1': give a list"):
        verify(photo, changed, tiny_recognizers, attacked="tiny-1", detector=detector)


def test_recognizers_may_be_named_and_one_is_needed(photo, changed, detector, tiny_recognizers, stand_in_zoo):
    stand_in_zoo(tiny_recognizers)
    named = verify(photo, changed, ["tiny-2"], attacked=[], detector=detector)
    assert named.faces == verify(photo, changed, tiny_recognizers[1:], attacked=[], detector=detector).faces
    with pytest.raises(FairveilError, match="No recognizer is given"):
        verify(photo, changed, [], detector=detector)

import numpy as np
import pytest
import torch
from PIL import Image

from fairveil.base.errors import FairveilError, UnreadableFileError
from fairveil.faces.by_hand import FacesByHand
from fairveil.faces.canvas import view_of_face
from fairveil.faces.detection import Detector
from fairveil.protection.lowkey import PRESETS, LowKey
from fairveil.protection.protecting import ProtectionRecord, protect
from fairveil.protection.verification import verify

QUICK = LowKey(steps=2, step_size=0.02, smoothing="none", mirror=False)


@pytest.fixture
def protect_quickly(needs_models, detector, tiny_recognizers):
    needs_models("lpips-alexnet")

    def run(picture, settings=QUICK, **keywords):
        return protect(picture, settings, recognizers=tiny_recognizers, **{"detector": detector, **keywords})

    return run


def test_only_the_surroundings_of_the_face_change(protect_quickly, portrait):
    protected, record = protect_quickly(portrait)
    changed = (protected != portrait).any(2)
    x0, y0, x1, y1 = record.faces[0].box
    assert changed[int(y0) : int(y1), int(x0) : int(x1)].mean() > 0.5
    rows, columns = np.nonzero(changed)
    assert rows.max() - rows.min() < 2.2 * (y1 - y0)
    assert columns.max() - columns.min() < 2.6 * (x1 - x0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_a_pillow_image_comes_back_in_its_own_mode_and_size_with_its_alpha(protect_quickly, portrait, mode):
    image = Image.fromarray(portrait).convert(mode)
    if "A" in mode:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    before = image.tobytes()
    protected, record = protect_quickly(image)
    assert (protected.mode, protected.size) == (mode, image.size)
    assert protected.tobytes() != before == image.tobytes()
    if "A" in mode:
        assert protected.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    assert len(record.faces) == 1


@pytest.mark.parametrize("mode", ["P", "1", "CMYK", "YCbCr", "HSV", "PA"])
def test_a_pillow_image_of_another_mode_comes_back_in_color(protect_quickly, portrait, mode):
    image = Image.fromarray(portrait)
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    before = image.tobytes()
    protected, record = protect_quickly(image)
    assert (protected.mode, protected.size) == ("RGBA" if mode == "PA" else "RGB", image.size)
    assert len(record.faces) == 1 and image.tobytes() == before


@pytest.mark.parametrize(("mode", "protected_mode"), [("P", "RGBA"), ("L", "LA"), ("RGB", "RGBA")])
def test_a_color_declared_transparent_stays_transparent(protect_quickly, portrait, mode, protected_mode):
    image = Image.fromarray(portrait).convert(mode)
    image.info["transparency"] = (0, 0, 0) if mode == "RGB" else 0
    protected, _ = protect_quickly(image)
    assert protected.mode == protected_mode
    assert protected.getchannel("A").tobytes() == image.convert("RGBA").getchannel("A").tobytes()


@pytest.mark.parametrize("mode", ["RGB", "P", "L", "CMYK"])
def test_a_pillow_image_without_a_face_comes_back_as_it_was_in_any_mode(protect_quickly, mode):
    wall = Image.linear_gradient("L").convert(mode)
    protected, _ = protect_quickly(wall)
    assert protected is not wall and protected == wall


def test_reversed_and_read_only_arrays_are_taken_and_left_as_they_are(protect_quickly, portrait, recwarn):
    expected, _ = protect_quickly(np.ascontiguousarray(portrait[..., ::-1]))
    reversed_channels, _ = protect_quickly(portrait[..., ::-1])  # as people turn OpenCV's BGR into RGB
    assert np.array_equal(reversed_channels, expected)
    locked = portrait.copy()
    locked.flags.writeable = False
    before = locked.copy()
    protect_quickly(locked)
    assert np.array_equal(locked, before)
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


def test_a_tensor_given_is_not_changed(protect_quickly, portrait):
    photo = torch.from_numpy(portrait.copy()).permute(2, 0, 1)
    before = photo.clone()
    protected, _ = protect_quickly(photo)
    assert torch.equal(photo, before) and not torch.equal(protected, before)


def test_array_and_tensor_give_the_same_protected_pixels_as_the_pillow_image(protect_quickly, portrait):
    array, _ = protect_quickly(portrait)
    tensor, _ = protect_quickly(torch.from_numpy(portrait).permute(2, 0, 1))
    image, _ = protect_quickly(Image.fromarray(portrait))
    assert isinstance(array, np.ndarray) and isinstance(tensor, torch.Tensor)
    assert np.array_equal(array, tensor.permute(1, 2, 0).numpy())
    assert np.array_equal(array, np.asarray(image))


def test_a_gray_photo_stays_gray(protect_quickly, portrait):
    gray = np.repeat(portrait.mean(2, keepdims=True).astype(np.uint8), 3, axis=2)
    protected, _ = protect_quickly(gray)
    assert (protected == protected[..., :1]).all()
    assert (protected != gray).any()


def test_the_seed_decides(protect_quickly, portrait):
    first, again, other = (protect_quickly(portrait, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_picture_without_a_face_comes_back_as_it_was(protect_quickly):
    wall = np.full((200, 300, 3), 127, np.uint8)
    protected, record = protect_quickly(wall)
    assert np.array_equal(protected, wall)
    assert (record.faces, record.faces_found) == ((), 0)


@pytest.fixture
def two_faces(portrait):
    small = np.asarray(Image.fromarray(portrait).resize((256, 256)))
    picture = np.full((512, 800, 3), 200, np.uint8)
    picture[:, :512] = portrait
    picture[:256, 530:786] = small
    return picture


def test_all_faces_are_protected_largest_first(protect_quickly, two_faces):
    protected, record = protect_quickly(two_faces)
    widths = [face.box[2] - face.box[0] for face in record.faces]
    assert len(widths) == 2 and widths[0] > 1.5 * widths[1]
    for face in record.faces:
        x0, y0, x1, y1 = map(int, face.box)
        assert (protected[y0:y1, x0:x1] != two_faces[y0:y1, x0:x1]).any(2).mean() > 0.5


def test_only_the_largest_face_if_asked(protect_quickly, two_faces):
    protected, record = protect_quickly(two_faces, faces="largest")
    assert (len(record.faces), record.faces_found) == (1, 2)
    assert np.array_equal(protected[:, 520:], two_faces[:, 520:])


def test_faces_found_before_can_be_given(protect_quickly, detector, two_faces):
    found = detector.detect([torch.from_numpy(two_faces).permute(2, 0, 1)])[0]
    protected, _ = protect_quickly(two_faces, faces=found[1:])
    assert np.array_equal(protected[:, :400], two_faces[:, :400])
    assert not np.array_equal(protected[:, 520:], two_faces[:, 520:])


def test_a_face_that_the_detector_misses_is_protected_in_the_frame_that_is_given(protect_quickly, detector, two_faces):
    left, top, right, bottom = (
        detector.detect([torch.from_numpy(two_faces).permute(2, 0, 1)])[0].boxes[0].int().tolist()
    )
    frame = (left, top, right - left, bottom - top)
    choosy = Detector(detector.pnet, detector.rnet, detector.onet, minimum_face=300)
    protected, record = protect_quickly(two_faces, faces=[frame], detector=choosy)
    assert np.array_equal(protected[:, 520:], two_faces[:, 520:])
    assert (protected[top:bottom, left:right] != two_faces[top:bottom, left:right]).any(2).mean() > 0.5
    assert [(face.by_hand, face.landmarks_seen) for face in record.faces] == [(frame, True)]
    assert ProtectionRecord.model_validate_json(record.model_dump_json()) == record


def test_frames_and_faces_found_are_protected_together(protect_quickly, two_faces):
    wall = (540, 300, 80, 100)
    protected, record = protect_quickly(two_faces, faces=FacesByHand((wall,), "largest"))
    assert (record.faces_found, [face.by_hand for face in record.faces]) == (2, [None, wall])
    assert [face.landmarks_seen for face in record.faces] == [True, False]
    assert (protected[300:400, 540:620] != two_faces[300:400, 540:620]).any(2).mean() > 0.5
    _, alone = protect_quickly(two_faces, faces=FacesByHand((wall,)))
    assert (alone.faces_found, len(alone.faces)) == (2, 1)


def test_what_is_written_of_faces_that_were_found_is_as_before_there_were_frames(protect_quickly, portrait):
    _, record = protect_quickly(portrait)
    assert not {"by_hand", "landmarks_seen"} & record.faces[0].model_dump().keys()


@pytest.mark.parametrize("faces", [[], [(1, 2, 3)], "everyone", 7, [("a", 1, 2, 3)], [(float("inf"), 0, 50, 50)]])
def test_faces_that_nobody_can_make_out_are_refused(protect_quickly, portrait, faces):
    with pytest.raises(FairveilError, match="frames \\(left, top, width, height\\) in pixels, not "):
        protect_quickly(portrait, faces=faces)


def test_a_frame_outside_of_the_photo_is_refused(protect_quickly, portrait):
    with pytest.raises(FairveilError, match=r"500,500,100,100 .*outside of the photo, of 512×512 pixels"):
        protect_quickly(portrait, faces=np.array([[500, 500, 100, 100]]))


def test_the_whole_photo_can_be_the_canvas(protect_quickly, portrait):
    protected, record = protect_quickly(portrait, QUICK.model_copy(update={"canvas": "photo"}))
    assert (protected != portrait).any(2).mean() > 0.9
    assert record.faces[0].steps == 2


def test_the_record_says_what_was_done_and_survives_json(protect_quickly, portrait):
    _, record = protect_quickly(portrait, seed=4)
    assert (record.seed, record.settings, record.recognizers) == (4, QUICK, ("tiny-1", "tiny-2"))
    assert record.faces[0].lpips > 0
    assert ProtectionRecord.model_validate_json(record.model_dump_json()) == record


def test_the_record_ends_with_what_a_recognizer_sees_in_the_finished_photo(
    protect_quickly, portrait, detector, tiny_recognizers
):
    # A canvas four times smaller than the face, with the attack looking at mirrored faces: another view altogether.
    large = np.asarray(Image.fromarray(portrait).resize((1200, 1200)))
    protected, record = protect_quickly(large, QUICK.model_copy(update={"mirror": True, "canvas_size": 112}))
    photos = (torch.from_numpy(picture.copy()).permute(2, 0, 1) for picture in (large, protected))
    as_saved = {
        c.recognizer: c.similarity
        for c in verify(*photos, tiny_recognizers, detector=detector).faces[0].against_itself
        if c.condition == "as saved"
    }
    assert {name: curve[-1] for name, curve in record.faces[0].similarity.items()} == pytest.approx(as_saved, abs=1e-5)


def test_faces_given_are_measured_where_they_were_given(needs_models, portrait, detector, tiny_recognizers):
    needs_models("lpips-alexnet")
    found = detector.detect([torch.from_numpy(portrait).permute(2, 0, 1)])[0]
    protected, record = protect(portrait, QUICK, recognizers=tiny_recognizers, faces=found)
    views = [
        view_of_face(torch.from_numpy(picture).permute(2, 0, 1), found.landmarks[0])
        for picture in (portrait, protected)
    ]
    for recognizer in tiny_recognizers:
        clean, moved = (recognizer.embed(*view)[0] for view in views)
        assert record.faces[0].similarity[recognizer.name][-1] == pytest.approx(float(clean @ moved), abs=1e-5)


def test_a_photo_barely_larger_than_its_face_can_be_protected_literally(protect_quickly, portrait):
    small = np.asarray(Image.fromarray(portrait[0:260, 110:330]).resize((88, 104)))
    _, record = protect_quickly(small, PRESETS["lowkey"].model_copy(update={"steps": 1}))
    assert len(record.faces) == 1


def test_progress_rises_to_the_total(protect_quickly, two_faces):
    told = []
    protect_quickly(two_faces, on_step=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (4, 4)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), object),
        torch.zeros(3, 9, 9),
        torch.zeros(1, 3, 9, 9, dtype=torch.uint8),
        Image.new("I;16", (9, 9)),
        Image.new("F", (9, 9)),
        None,
    ],
)
def test_other_kinds_of_pictures_are_refused_by_a_sentence(wrong):
    with pytest.raises(FairveilError, match="takes a Pillow image"):
        protect(wrong, QUICK)


@pytest.mark.parametrize("shape", [(0, 0, 3), (1, 1, 3), (7, 900, 3)])
def test_pictures_too_small_for_a_face_come_back_as_they_were(protect_quickly, shape):
    speck = np.full(shape, 90, np.uint8)
    protected, record = protect_quickly(speck)
    assert np.array_equal(protected, speck) and not record.faces


def test_a_misspelled_choice_of_faces_is_refused(protect_quickly, portrait):
    with pytest.raises(FairveilError, match=r"'all', 'largest', faces found before, or frames .*, not 'biggest'"):
        protect_quickly(portrait, faces="biggest")


def test_recognizers_need_names_of_their_own_and_one_is_needed(tiny_recognizers, portrait):
    with pytest.raises(FairveilError, match="one name"):
        protect(portrait, QUICK, recognizers=[tiny_recognizers[0]] * 2)
    with pytest.raises(FairveilError, match="no recognizer to attack"):
        protect(portrait, QUICK, recognizers=[])


@pytest.mark.parametrize(("suffix", "mode"), [("jpg", "RGB"), ("png", "RGBA"), ("png", "L")])
def test_the_path_of_a_photo_gives_a_pillow_image_as_the_photo_itself_does(
    protect_quickly, portrait, tmp_path, suffix, mode
):
    file = tmp_path / f"portrait.{suffix}"
    image = Image.fromarray(portrait).convert(mode)
    image.save(file)
    protected, record = protect_quickly(str(file))
    expected, _ = protect_quickly(Image.open(file))
    assert (protected.mode, protected.tobytes()) == (mode, expected.tobytes())
    assert len(record.faces) == 1 and file.exists()


def test_a_path_without_a_photo_is_a_sentence(tmp_path):
    with pytest.raises(UnreadableFileError, match=r"nobody\.jpg is not there"):
        protect(tmp_path / "nobody.jpg")


def test_a_record_prints_shows_itself_and_becomes_a_table(protect_quickly, portrait):
    record = protect_quickly(portrait)[1]
    face = record.faces[0]
    assert str(record).startswith("1 face was protected against tiny-1, tiny-2 in ")
    row = [cell.strip() for cell in str(record).splitlines()[-1].split("|")]
    assert row[1:4] == ["face 1", f"{face.change:.2f}", f"{face.lpips:.3f}"]
    assert "1 is just noticeable" in record._repr_html_()
    assert record.to_frame().select("face", "recognizer", "similarity").rows() == [
        (1, name, face.similarity[name][-1]) for name in ("tiny-1", "tiny-2")
    ]
    nobody = record.model_copy(update={"faces": ()})
    assert str(nobody) == "No face was protected, so nothing was changed." and nobody.to_frame().is_empty()

import numpy as np
import pytest
import torch
from PIL import Image

from fairveil.base.errors import FairveilError
from fairveil.data.images import LabeledImages, read_image_folder, synthetic_images


def _write(path, size, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 20, 30)).save(path)


def test_a_folder_is_read_class_by_class_in_order_of_names(tmp_path):
    for name, value in (("dog", 200), ("cat", 100)):
        for number in range(2):
            _write(tmp_path / name / f"{number}.png", (6, 5), value + number)
    read = read_image_folder(tmp_path)
    assert read.classes == ("cat", "dog")
    assert read.labels.tolist() == [0, 0, 1, 1]
    assert read.images.shape == (4, 3, 5, 6)
    assert read.images[:, 0, 0, 0].tolist() == [100, 101, 200, 201]
    assert read.name == tmp_path.name


def test_sizes_that_differ_are_refused_unless_a_size_is_given(tmp_path):
    _write(tmp_path / "cat" / "a.png", (8, 8))
    _write(tmp_path / "dog" / "b.png", (12, 8))
    with pytest.raises(FairveilError, match=r"b\.png has 12 × 8 pixels, but .*a\.png 8 × 8: give a size"):
        read_image_folder(tmp_path)
    assert read_image_folder(tmp_path, size=4).images.shape == (2, 3, 4, 4)


def test_resizing_keeps_the_middle(tmp_path):
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = 200
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
    assert bool((read_image_folder(tmp_path, size=2).images == 200).all())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda folder: None, "has no folders of classes"),
        (lambda folder: _write(folder / "cat" / "a.png", (8, 8)), "has one class only, cat"),
        (lambda folder: [_write(folder / "cat" / "a.png", (8, 8)), (folder / "dog").mkdir()], "dog has no pictures"),
    ],
)
def test_folders_that_are_not_two_classes_are_refused(tmp_path, make, sentence):
    make(tmp_path)
    with pytest.raises(FairveilError, match=sentence):
        read_image_folder(tmp_path)


def test_an_unreadable_picture_is_named(tmp_path):
    for name in ("cat", "dog"):
        _write(tmp_path / name / "a.png", (8, 8))
    (tmp_path / "dog" / "b.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(FairveilError, match=r"b\.jpg"):
        read_image_folder(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FairveilError, match="is not a folder"):
        read_image_folder(tmp_path / "none")


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), "images of x are float32"),
        (
            torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
            torch.tensor([0]),
            "labels of x are int64 .*one for each of its 2",
        ),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 2]), "run from 0 to 2, but with 2 classes"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([-1, 1]), "run from -1 to 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(images, labels, sentence):
    with pytest.raises(FairveilError, match=sentence):
        LabeledImages(images, labels, ("a", "b"), "x")


def test_rows_are_taken_in_the_order_asked_for():
    data = synthetic_images(6, classes=3)
    taken = data.take([4, 1])
    assert taken.labels.tolist() == [1, 1]
    assert torch.equal(taken.images, data.images[[4, 1]])
    assert taken.classes == data.classes


def test_a_fingerprint_changes_with_any_pixel_label_or_class():
    data = synthetic_images(6, classes=3)
    assert data.fingerprint() == synthetic_images(6, classes=3).fingerprint()
    other = data.images.clone()
    other[0, 0, 0, 0] ^= 1
    changed = [
        LabeledImages(other, data.labels, data.classes, "x"),
        LabeledImages(data.images, data.labels.flip(0), data.classes, "x"),
        LabeledImages(data.images, data.labels, ("a", "b", "c"), "x"),
    ]
    assert len({data.fingerprint(), *(one.fingerprint() for one in changed)}) == 4


def test_synthetic_images_depend_on_the_seed_alone():
    first, again, other = synthetic_images(8), synthetic_images(8), synthetic_images(8, seed=1)
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


def test_pictures_are_put_aside_by_class():
    data = synthetic_images(50, classes=4, size=8)
    rest, aside = data.split(0.2, seed=1)
    assert len(rest) + len(aside) == 50
    assert torch.bincount(aside.labels).tolist() == [3, 3, 2, 2]
    assert data.split(0.2, seed=1)[1].fingerprint() == aside.fingerprint() != data.split(0.2, seed=2)[1].fingerprint()
    lonely = data.take([0, 1, 5])  # a class of one is not emptied
    assert sorted(lonely.split(0.9, seed=0)[0].labels.tolist()) == [0, 1]
    with pytest.raises(FairveilError, match="between 0 and 1"):
        data.split(1.0, seed=0)


def _folders(root, *places):
    for number, place in enumerate(places):
        home = root / place
        home.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(home / "0.png")
    return root


@pytest.mark.parametrize(
    ("places", "words"),
    [
        (("train/cat", "train/dog", "val/cat", "val/dog"), r"has the folders train, val, .* such as .*train\."),
        (("Training", "Test"), "has the folders Test, Training"),
        (("train", "validation", "cat"), "parts of a data set"),
        (("train_images", "test_images"), "parts of a data set"),
        (("training_set", "test set"), "parts of a data set"),
        (("train2017", "val2017"), "parts of a data set"),
        (("seg_train", "seg_test"), "parts of a data set"),
        (("fold1", "Fold-2"), "parts of a data set"),
        (("Zo\u00eb", "Zoe\u0308", "Ann"), "two folders 'Zo\u00eb'"),
        (("2019/cat", "2019/dog", "2020/cat"), r"2019 holds folders and no pictures"),
        (("cat", "images/dog"), "images holds folders and no pictures"),
    ],
)
def test_parts_of_a_data_set_are_not_learned_as_classes(tmp_path, places, words):
    with pytest.raises(FairveilError, match=words):
        read_image_folder(_folders(tmp_path, *places))


def test_a_file_beside_folders_does_not_make_them_a_class(tmp_path):
    _folders(tmp_path, "2019/cat", "2019/dog", "2020/cat")
    for home in ("2019", "2020"):
        (tmp_path / home / "Thumbs.db").write_text("")
    with pytest.raises(FairveilError, match="2019 holds folders and no pictures"):
        read_image_folder(tmp_path)


def test_pictures_that_servers_and_systems_make_are_not_learned(tmp_path):
    _folders(tmp_path, "cat", "dog", "cat/@eaDir/0.png", "dog/.git", "__MACOSX/cat", "$RECYCLE.BIN", "thumb")
    (tmp_path / "lost+found").mkdir()
    assert read_image_folder(tmp_path).counts == {"cat": 1, "dog": 1, "thumb": 1}


def test_pictures_of_each_class_are_counted(tmp_path):
    _folders(tmp_path, "cat", "test")  # one such name alone may be a class
    Image.new("RGB", (8, 8)).save(tmp_path / "cat" / "1.png")
    assert read_image_folder(tmp_path).counts == {"cat": 2, "test": 1}

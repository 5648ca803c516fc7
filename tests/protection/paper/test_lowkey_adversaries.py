"""Defenders who purify, detect, align otherwise, and everyday handling: on made-up faces and small networks."""

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.base.executors import executor
from fairveil.data import FaceTable
from fairveil.experiment.catalogue import studies
from fairveil.experiment.records import RecordStore
from fairveil.experiment.running import results_of, run_study
from fairveil.faces.detection import Detector, Faces
from fairveil.faces.mtcnn import OutputNet, ProposalNet, RefinementNet
from fairveil.faces.recognizers import Framing, Recognizer
from fairveil.protection.paper import aligners, detection, handling, purified
from fairveil.protection.paper.aligners import OtherAligner
from fairveil.protection.paper.alterations import HANDLING, cropped, rotated, sized
from fairveil.protection.paper.pairs import Pairs, canvas_of, face_pairs
from fairveil.protection.paper.people import People, embedded
from fairveil.protection.paper.protection_detector import area_under_curve, scores_of, train_detector
from fairveil.protection.paper.purified import Purifier, purified_photos, purifier, train_purifier
from fairveil.protection.paper.setting import tiny

SIDE = 32


@pytest.fixture
def recognizer():
    torch.manual_seed(0)
    return Recognizer.from_module(
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 8)), name="tiny", framing=Framing(size=16)
    )


def pairs_of(count, seed):
    """Smooth pictures, and beside them the same with a checkerboard that stands for an attack."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    clean = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").clamp(0.1, 0.9)
    board = (torch.arange(SIDE)[:, None] + torch.arange(SIDE)) % 2 * 2.0 - 1
    landmarks = Framing(size=SIDE).landmarks.expand(count, -1, -1)
    return Pairs(torch.stack([clean, clean + 0.06 * board], 1), landmarks, list(range(count)))


@torch.no_grad()
def test_a_purifier_gives_faces_it_never_saw_back_and_leaves_clean_ones_alone(recognizer):
    network = torch.enable_grad()(train_purifier)(pairs_of(16, 1), [recognizer], epochs=30, width=8)
    clean, protected = pairs_of(8, 2).views.unbind(1)
    error = (protected - clean).abs().mean()
    assert (network(protected) - clean).abs().mean() < 0.5 * error
    assert (network(clean) - clean).abs().mean() < 0.3 * error
    assert not network(protected).requires_grad


def test_a_purifier_starts_as_one_that_changes_nothing_and_is_small():
    network = Purifier()
    picture = torch.rand(1, 3, 48, 40, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(picture), picture)
    assert sum(weights.numel() for weights in network.parameters()) < 500_000


def test_the_same_seed_trains_the_same_purifier_and_no_recognizer(recognizer):
    before = [weights.clone() for weights in recognizer.parameters()]
    networks = [train_purifier(pairs_of(4, 1), [recognizer], epochs=2, width=4, seed=seed) for seed in (0, 0, 1)]
    states = [list(network.state_dict().values()) for network in networks]
    assert all(map(torch.equal, states[0], states[1]))
    assert not all(map(torch.equal, states[0], states[2]))
    assert all(map(torch.equal, before, recognizer.parameters()))


@pytest.fixture
def table(tmp_path):
    """Aligned crops of two people, three photos each."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(6):
        pixels = generator.integers(60, 200, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.png")
        rows.append((f"{number}.png", "ann" if number < 3 else "bob"))
    return FaceTable.of(pl.DataFrame(rows, schema=["image", "identity"], orient="row"), tmp_path, name="six")


def test_purifiers_are_trained_once_and_their_photos_keep_labels_and_size(table, tmp_path, recognizer, monkeypatch):
    monkeypatch.setattr(purified, "train_purifier", partial(train_purifier, epochs=1))
    cache = tmp_path / "cache"
    network = purifier(table, table, [recognizer], "aligned", cache)
    (weights,) = (cache / "purifiers").glob("*.pt")
    written = weights.stat().st_mtime_ns
    again = purifier(table, table, [recognizer], "aligned", cache)
    assert weights.stat().st_mtime_ns == written
    assert all(map(torch.equal, network.state_dict().values(), again.state_dict().values()))
    with torch.no_grad():
        network.last.bias.fill_(0.1)
    photos = purified_photos(table, network, "aligned", cache)
    assert photos.identities == table.identities
    change = photos.photo(0).int() - table.photo(0).int()
    assert change.shape == (3, 64, 64)
    assert change[:, 24:40, 24:40].float().mean() == pytest.approx(25.5, abs=8)
    assert torch.equal(table.photo(0), table.take([0]).photo(0))


def test_a_purifier_without_a_face_to_learn_from_says_so(tmp_path, recognizer, detector):
    Image.new("RGB", (80, 80)).save(tmp_path / "0.png")
    empty = FaceTable.of(pl.DataFrame({"image": ["0.png"], "identity": ["ann"]}), tmp_path, name="black")
    with pytest.raises(FairveilError, match="in none of 1 photos"):
        purifier(empty, empty, [recognizer], "central", tmp_path / "cache")


def test_pairs_show_one_place_in_all_versions(table):
    shifted = table.take(list(range(5, -1, -1)))
    pairs = face_pairs((table, shifted), "aligned")
    assert pairs.rows == list(range(6))
    torch.testing.assert_close(pairs.views[0, 1], pairs.views[5, 0])
    canvas = canvas_of(Framing(size=64).landmarks)
    torch.testing.assert_close(pairs.landmarks[0], canvas.to_canvas(Framing(size=64).landmarks))


def test_a_detector_tells_protected_pictures_of_others_and_gives_the_same_network_again():
    network = train_detector(*pairs_of(16, 1).views.unbind(1), epochs=20, width=8)
    clean, protected = (scores_of(network, views) for views in pairs_of(12, 2).views.unbind(1))
    assert area_under_curve(protected, clean, torch.arange(12)).value > 0.95
    assert float((protected > 0).float().mean() + (clean <= 0).float().mean()) / 2 > 0.8
    again = train_detector(*pairs_of(16, 1).views.unbind(1), epochs=20, width=8)
    assert all(map(torch.equal, network.state_dict().values(), again.state_dict().values()))


def test_the_area_under_the_curve_is_scikit_learns_and_its_interval_widens_with_fewer_people():
    generator = torch.Generator().manual_seed(0)
    positives, negatives = torch.randn(60, generator=generator).round(decimals=1) + 1, torch.randn(60).round(decimals=1)
    truth = [1] * 60 + [0] * 60
    expected = roc_auc_score(truth, torch.cat([positives, negatives]).numpy())
    many, few = (area_under_curve(positives, negatives, torch.arange(60) // photos) for photos in (1, 20))
    assert many.value == pytest.approx(expected)
    assert few.value == pytest.approx(expected)
    assert 0 < many.low < many.value < many.high < 1
    again = area_under_curve(positives, negatives, torch.arange(60))
    assert (again.low, again.high) == (many.low, many.high)


def test_nobody_is_trained_on_and_judged_by():
    rows = [(f"{name}{number}.png", name) for name in "abcdef" for number in range(3)]
    table = FaceTable.of(pl.DataFrame(rows, schema=["image", "identity"], orient="row"), Path("/"), name="many")
    train, others = detection.divided(table, 7, 2)
    assert len(train) == 7
    assert others.identities == ["d", "e"]
    assert not {*train.identities} & {*others.identities}


FACES = Faces(torch.tensor([[20.0, 10.0, 60.0, 70.0]]), torch.ones(1), torch.rand(1, 5, 2) * 40 + 20)


def test_landmarks_in_a_box_are_the_template_upright_and_move_and_grow_with_it():
    points = aligners.in_box(torch.zeros(3, 80, 80), FACES)
    assert points[0, 0, 0] < points[0, 1, 0]
    assert abs(points[0, 0, 1] - points[0, 1, 1]) < 1
    larger = Faces(FACES.boxes * 2 + 5, FACES.scores, FACES.landmarks)
    torch.testing.assert_close(aligners.in_box(torch.zeros(3, 80, 80), larger), points * 2 + 5)


def test_shifted_landmarks_move_together_by_a_twentieth_of_the_box_in_a_direction_of_the_photo():
    photo, other = torch.zeros(3, 80, 80, dtype=torch.uint8), torch.ones(3, 80, 80, dtype=torch.uint8)
    move = aligners.shifted(photo, FACES) - FACES.landmarks
    torch.testing.assert_close(move.norm(dim=2), torch.full((1, 5), 0.05 * 60))
    torch.testing.assert_close(move, move[:, :1].expand(-1, 5, -1))
    assert torch.equal(aligners.shifted(photo, FACES), FACES.landmarks + move)
    assert not torch.allclose(aligners.shifted(other, FACES), FACES.landmarks + move)


def test_another_aligner_is_near_the_landmarks_of_a_real_face(detector, portrait):
    photo = torch.from_numpy(portrait).permute(2, 0, 1)
    (found,) = detector.detect([photo])
    (plain,) = OtherAligner(detector, "landmarks").detect([photo])
    torch.testing.assert_close(plain.landmarks, found.landmarks)
    (by_box,) = OtherAligner(detector, "box").detect([photo])
    between_eyes = (found.landmarks[0, 0] - found.landmarks[0, 1]).norm()
    assert (by_box.landmarks[0] - found.landmarks[0]).norm(dim=1).mean() < 0.35 * between_eyes
    assert torch.equal(by_box.boxes, found.boxes)


def test_another_aligner_finds_what_its_detector_finds():
    detector = Detector(ProposalNet(), RefinementNet(), OutputNet(), minimum_face=30, factor=0.6, at_border=False)
    assert OtherAligner(detector, "box").settings == detector.settings


def test_ready_made_crops_cannot_be_aligned_in_another_way(table, tmp_path, recognizer):
    with pytest.raises(FairveilError, match="aligned crops"):
        embedded(table, [recognizer], People(faces="aligned"), tmp_path, "box")


PHOTO = torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_everyday_handling_gives_bytes_and_changes_every_photo():
    for handle in HANDLING.values():
        handled = handle(PHOTO)
        assert handled.dtype == torch.uint8
        assert len(handled) == 3
        assert handled.shape != PHOTO.shape or not torch.equal(handled, PHOTO)


def test_sizes_cuts_and_turns_are_what_their_names_say():
    assert sized(PHOTO, longer=1080).shape == (3, 810, 1080)
    assert torch.equal(cropped(PHOTO, left=0.15, top=0.1), PHOTO[:, 6:, 12:])
    assert torch.equal(cropped(PHOTO, right=0.15, bottom=0.1), PHOTO[:, :-6, :-12])
    bar = torch.zeros(3, 61, 61, dtype=torch.uint8)
    bar[:, 30, :] = 255
    turned = rotated(bar, degrees=45.0)
    assert turned[0].float()[torch.arange(10, 51), torch.arange(50, 9, -1)].mean() > 150  # rises to the right
    assert turned[0, 10, 10] == 0
    brighter, darker = HANDLING["25 % brighter"](PHOTO), HANDLING["25 % darker"](PHOTO)
    assert (brighter.float() - (PHOTO.float() * 1.25).clamp(max=255)).abs().max() <= 0.51
    assert (darker.float() - PHOTO.float() * 0.75).abs().max() <= 0.51


def embeddings_of(vectors):
    """What a recognizer called "r" gave for images: angles in degrees by name."""
    angles = torch.deg2rad(torch.tensor(list(vectors.values())))
    frame = pl.DataFrame({"image": list(vectors), "r": torch.stack([angles.cos(), angles.sin()], 1).numpy()})
    return Seen(frame)


class Seen:
    """As much of `Embeddings` as is looked at."""

    def __init__(self, frame):
        self.frame = frame

    def vectors(self, name):
        return torch.from_numpy(self.frame[name].to_numpy(writable=True))


def test_similarities_are_of_each_photo_with_itself_and_of_none_that_is_missing():
    places = {"a": 0, "b": 1, "c": 2, "a'": 0, "b'": 1, "c'": 2}
    clean = embeddings_of({"a": 0.0, "b": 90.0})
    version = embeddings_of({"c'": 0.0, "a'": 60.0})
    (found,) = handling.similarities("r", clean, [version], places, 3)
    assert found[:2].tolist() == [pytest.approx(0.5, abs=1e-6), -torch.inf]
    assert found[2].isnan()  # nobody can say whether a recognizer that never knew the face knows it again


def test_only_faces_below_the_threshold_can_come_back_and_are_counted():
    low = torch.tensor([True, True, False, True])
    back = torch.tensor([False, True, False, False])
    people = torch.tensor([0, 0, 1, 1])
    counted = {one.labels["what"]: one for one in handling._comebacks("JPEG 70", "r", low, back, people)}
    assert (counted["below"].value, counted["back"].value) == (3, 1)
    assert counted["share"].value == pytest.approx(1 / 3)
    assert counted["share"].count == 3
    assert counted["share"].low < 1 / 3 < counted["share"].high
    none = torch.zeros(4, dtype=torch.bool)
    assert [one.labels["what"] for one in handling._comebacks("JPEG 70", "r", none, none, people)] == ["below", "back"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lowkey-detection", "lowkey-handling"])
def test_the_smoke_run_fills_the_tables(name, tmp_path, needs_models):
    needs_models("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet", "lpips-alexnet", "mobilefacenet-192", "mobileface")
    study, store = studies()[name], RecordStore(tmp_path)
    settings = study.presets["smoke"]
    with executor() as where:
        records = run_study(study, settings, store, where, preset="smoke")
    assert [record.failure for record in records] == [None] * len(records)
    tables = study.tables(settings, results_of(study, settings, store))
    assert len(tables[0].rows) == len(records)
    assert all(cell.measured for table in tables[1:] for _, row in table.rows for cell in row)
    assert study.differences(settings)


@pytest.mark.parametrize("name", ["lowkey-detection", "lowkey-handling"])
@pytest.mark.parametrize("preset", ["smoke", "small", "paper"])
def test_presets_of_the_other_studies_have_distinct_trials(name, preset):
    study = studies()[name]
    trials = study.trials(study.presets[preset])
    assert len({study.key(trial) for trial in trials}) == len({trial.label for trial in trials}) == len(trials) > 1
    rehearsed = study.trials(study.rehearsal(study.presets[preset]))
    assert [trial.label for trial in rehearsed] == [trial.label for trial in trials]
    assert {trial.attack.settings.steps for trial in rehearsed} == {1}
    assert {trial.people for trial in rehearsed} == {tiny()}

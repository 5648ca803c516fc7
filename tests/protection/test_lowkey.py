import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from fairveil.base.errors import FairveilError
from fairveil.faces.alignment import TEMPLATE
from fairveil.faces.recognizers import Framing, Recognizer
from fairveil.protection.lowkey import PRESETS, LowKey, attack, feature_distance, objective, preset
from fairveil.protection.perceptual import LPIPS, delta_e

SIZE = 96
LANDMARKS = (TEMPLATE * 0.6 + 14)[None]


def _recognizer(seed: int, threshold: float | None = 0.9) -> Recognizer:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, 2), nn.Tanh(), nn.Conv2d(8, 8, 3, 2), nn.Flatten(), nn.Linear(8 * 6 * 6, 16)
    )
    return Recognizer.from_module(network, name=f"tiny-{seed}", framing=Framing(size=32), threshold=threshold)


@pytest.fixture(scope="module")
def ensemble(needs_models) -> list[Recognizer]:
    needs_models("lpips-alexnet")
    return [_recognizer(1), _recognizer(2)]


@pytest.fixture
def face() -> torch.Tensor:
    return torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)) * 0.8 + 0.1


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _literal_gaussian(image: torch.Tensor, sigma: float, window: int) -> torch.Tensor:
    """G of equation 3.1, written out: a window×window kernel over a picture with reflected borders."""
    reach = window // 2
    kernel = torch.tensor([
        [math.exp(-(i * i + j * j) / (2 * sigma * sigma)) for j in range(-reach, reach + 1)]
        for i in range(-reach, reach + 1)
    ])  # fmt: skip
    kernel = kernel / kernel.sum()
    padded = torch.nn.functional.pad(image, (reach,) * 4, mode="reflect")
    height, width = image.shape[2:]
    total = torch.zeros_like(image)
    for i in range(window):
        for j in range(window):
            total = total + kernel[i, j] * padded[:, :, i : i + height, j : j + width]
    return total


def _literal_equation(clean, moved, landmarks, ensemble, alpha):
    """Equation 3.1 read aloud, with squared differences averaged over 512 dimensions as in the released code."""
    total = 0
    for recognizer in ensemble:
        reference = recognizer.embed(clean, landmarks)[0]
        for picture in (moved, _literal_gaussian(moved, 3.0, 7)):
            difference = recognizer.embed(picture, landmarks)[0] - reference
            total = total + sum(value * value for value in difference) / 512 / reference.norm()
    return total / (2 * len(ensemble)) - alpha * LPIPS.pretrained("alexnet")(clean, moved)[0]


@pytest.mark.parametrize("landmarks", [LANDMARKS, TEMPLATE[None] * SIZE / 112], ids=["amid", "to the borders"])
def test_one_step_follows_the_sign_of_the_literal_equations_gradient(ensemble, face, landmarks):
    settings = LowKey(steps=1, mirror=False, alpha=0.05)
    start = torch.empty_like(face).uniform_(-settings.noise, settings.noise, generator=_generator())
    trace = attack(face, landmarks, ensemble, settings, generator=_generator())
    step = trace.perturbation - start
    start.requires_grad_(True)
    (gradient,) = torch.autograd.grad(_literal_equation(face, face + start, landmarks, ensemble, settings.alpha), start)
    assert torch.allclose(step.abs(), torch.full_like(step, settings.step_size), atol=1e-6)
    assert float((step.sign() == gradient.sign()).float().mean()) > 0.999


def test_the_objective_averages_over_smoothed_and_unsmoothed_looks_and_over_512_dimensions():
    distances = [torch.tensor([1.0, 0.0]), torch.tensor([3.0, 0.5])]
    value = objective(distances, torch.tensor([0.1, 0.2]), alpha=0.05)
    assert torch.allclose(value, torch.tensor([2 / 512 - 0.005, 0.25 / 512 - 0.01]))


def test_the_feature_distance_is_divided_by_the_length_of_the_clean_feature():
    clean, moved = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 6.0]])
    assert feature_distance(clean, moved).item() == pytest.approx(4 / 5)


@pytest.mark.parametrize("smoothing", ["both", "alternate", "none"])
@pytest.mark.parametrize("mirror", [True, False])
def test_every_recognizer_attacked_is_moved_away(ensemble, face, smoothing, mirror):
    settings = LowKey(steps=6, step_size=0.01, alpha=0, smoothing=smoothing, mirror=mirror)
    trace = attack(face, LANDMARKS, ensemble, settings, generator=_generator())
    for looks in trace.similarity.values():
        assert float(looks[-1]) < float(looks[0]) - 0.003


def test_similarity_is_noted_at_every_unsmoothed_look_and_at_the_end(ensemble, face):
    trace = attack(face, LANDMARKS, ensemble, LowKey(steps=6, smoothing="alternate", mirror=False))
    assert {len(looks) for looks in trace.similarity.values()} == {4}
    assert trace.steps.tolist() == [6]


def test_the_same_seed_gives_the_same_perturbation_and_another_seed_another(ensemble, face):
    settings = LowKey(steps=2)
    first, same, other = (
        attack(face, LANDMARKS, ensemble, settings, generator=_generator(seed)).perturbation for seed in (5, 5, 6)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def _light(**changes) -> LowKey:
    return LowKey(**{"steps": 1, "alpha": 0, "smoothing": "none", "mirror": False, "step_rule": "unit RMS"} | changes)


def test_a_step_of_unit_rms_follows_the_gradient_and_is_as_long_as_it_was_asked_for(ensemble, face):
    settings = _light(step_size=0.004)
    trace = attack(face, LANDMARKS, ensemble, settings, generator=_generator())
    start = torch.empty_like(face).uniform_(-settings.noise, settings.noise, generator=_generator())
    start.requires_grad_(True)
    moved = [(r.embed(face + start, LANDMARKS) - r.embed(face, LANDMARKS)).square().sum() for r in ensemble]
    (gradient,) = torch.autograd.grad(sum(moved), start)
    step = trace.perturbation - start.detach()
    assert float(step.square().mean().sqrt()) == pytest.approx(0.004, rel=1e-3)
    assert float(torch.nn.functional.cosine_similarity(step.flatten(), gradient.flatten(), dim=0)) > 0.9999


def test_steps_without_chroma_change_lightness_alone(ensemble, face):
    trace = attack(face, LANDMARKS, ensemble, _light(steps=4, step_size=0.002, chroma=0), generator=_generator())
    assert trace.perturbation.abs().max() > 0.005
    assert torch.allclose(trace.perturbation, trace.perturbation.mean(1, keepdim=True).expand(-1, 3, -1, -1), atol=1e-4)


def test_smoothed_steps_leave_no_fine_grain(ensemble, face):
    def grain(sigma: float) -> float:
        settings = _light(steps=4, gradient_sigma=sigma)
        delta = attack(face, LANDMARKS, ensemble, settings, generator=_generator()).perturbation
        return float(delta.diff(dim=-1).square().mean() / delta.square().mean())

    assert grain(6.0) < grain(0.0) / 3


def test_jitter_moves_the_landmarks_anew_at_each_step(face):
    seen = []

    class Watching(Recognizer):
        def embed_crops(self, crops, *, mirror=False):
            seen.append(crops.detach())
            return super().embed_crops(crops, mirror=mirror)

    tiny = _recognizer(1)
    watching = Watching("watching", tiny.network, tiny.framing)
    attack(
        face, LANDMARKS, [watching], _light(steps=3, step_size=1e-9, noise=0, landmark_jitter=8), generator=_generator()
    )
    first, *steps, last = seen  # the clean face, three steps, and the end
    assert torch.allclose(first, last, atol=1e-5)
    assert all(not torch.allclose(first, one, atol=1e-2) for one in steps)
    assert not torch.allclose(steps[0], steps[1], atol=1e-2)


def test_the_visibility_budget_is_kept(ensemble, face):
    free = attack(face, LANDMARKS, ensemble, LowKey(steps=5, step_size=0.02), generator=_generator())
    budget = float(free.change) / 3
    kept = attack(face, LANDMARKS, ensemble, LowKey(steps=5, step_size=0.02, max_change=budget), generator=_generator())
    assert 0.9 * budget < float(kept.change) <= budget
    assert float(delta_e(face, face + kept.perturbation)) == pytest.approx(float(kept.change), rel=1e-3)


def test_photos_of_one_face_resemble_each_other_less_where_they_are_kept_apart(ensemble, face):
    def alike(apart: float) -> float:
        settings = _light(steps=12, step_size=0.01, apart=apart)
        one, other = (
            ensemble[0].embed(
                face
                + attack(
                    face, LANDMARKS, ensemble, settings, generator=_generator(seed), apart=_generator(seed)
                ).perturbation,
                LANDMARKS,
            )
            for seed in (1, 2)
        )
        return float((one * other).sum())

    assert alike(2.0) < alike(0.0) - 0.01


def test_the_face_canvas_is_needed_for_steps_of_unit_rms():
    with pytest.raises(ValidationError, match='needs canvas="face"'):
        LowKey(canvas="photo", step_rule="unit RMS")


def test_protected_pixels_stay_in_range(ensemble):
    extremes = torch.randint(0, 2, (1, 3, SIZE, SIZE), generator=_generator()).float()
    trace = attack(extremes, LANDMARKS, ensemble, LowKey(steps=3, step_size=0.1))
    protected = extremes + trace.perturbation
    assert float(protected.min()) >= -1e-6
    assert float(protected.max()) <= 1 + 1e-6


def test_the_quality_budget_is_kept(ensemble, face):
    free = attack(face, LANDMARKS, ensemble, LowKey(steps=5, step_size=0.02), generator=_generator())
    budget = float(free.lpips) / 3
    kept = attack(face, LANDMARKS, ensemble, LowKey(steps=5, step_size=0.02, max_lpips=budget), generator=_generator())
    assert 0 < float(kept.lpips) <= budget
    measured = LPIPS.pretrained("alexnet")(face, face + kept.perturbation)
    assert float(measured) == pytest.approx(float(kept.lpips), rel=1e-3)


def test_it_stops_as_soon_as_every_recognizer_is_below_its_threshold_by_the_margin(ensemble, face):
    settings = LowKey(steps=60, step_size=0.02, stop_below=0.1, smoothing="none", mirror=False)
    trace = attack(face, LANDMARKS, ensemble, settings, generator=_generator())
    assert 0 < int(trace.steps) < 60
    assert all(float(looks[-1]) < 0.9 - 0.1 for looks in trace.similarity.values())
    # One look earlier at least one recognizer was not there yet.
    assert any(float(looks[-3]) >= 0.9 - 0.1 for looks in trace.similarity.values())


def test_stopping_early_needs_known_thresholds(ensemble, face):
    with pytest.raises(FairveilError, match="tiny-7 has none"):
        attack(face, LANDMARKS, [*ensemble, _recognizer(7, threshold=None)], LowKey(stop_below=0.1))


def test_a_gray_face_gets_a_gray_perturbation(ensemble, face):
    gray = face.mean(1, keepdim=True).expand(-1, 3, -1, -1).contiguous()
    trace = attack(gray, LANDMARKS, ensemble, LowKey(steps=2), gray=True)
    assert trace.perturbation.shape == (1, 1, SIZE, SIZE)


def test_nothing_changes_outside_the_window(ensemble, face):
    window = torch.zeros(1, 1, SIZE, SIZE)
    window[..., 20:60, 20:60] = 1
    trace = attack(face, LANDMARKS, ensemble, LowKey(steps=2), window=window)
    assert not trace.perturbation[..., :20, :].any()
    assert trace.perturbation[..., 20:60, 20:60].any()


def test_faces_in_one_batch_do_not_disturb_each_other(ensemble, face):
    other = face.flip(-1).contiguous()
    both = attack(
        torch.cat([face, other]),
        LANDMARKS.expand(2, -1, -1),
        ensemble,
        LowKey(steps=1, noise=0.0),  # the same start, whatever the batch
    )
    alone = attack(face, LANDMARKS, ensemble, LowKey(steps=1, noise=0.0))
    agreement = (both.perturbation[:1].sign() == alone.perturbation.sign()).float().mean()
    assert float(agreement) > 0.99


def test_faces_in_one_batch_end_where_each_would_alone(ensemble, face):
    # Without LPIPS, whose gradient near zero is all rounding, agreement is exact; the first face gets the same noise.
    settings = LowKey(steps=4, step_size=0.01, alpha=0)
    faces = torch.cat([face, face.flip(-1)])
    both = attack(faces, LANDMARKS.expand(2, -1, -1), ensemble, settings, generator=_generator())
    alone = attack(face, LANDMARKS, ensemble, settings, generator=_generator())
    unequal = (both.perturbation[0] - alone.perturbation[0]).abs() > 1e-5
    assert float(unequal.float().mean()) < 1e-3
    assert float(both.lpips[0]) == pytest.approx(float(alone.lpips), rel=1e-2)
    for name, looks in alone.similarity.items():
        assert torch.allclose(torch.cat(looks), torch.stack(both.similarity[name])[:, 0], atol=1e-4)


def test_a_face_that_is_done_is_left_alone_while_others_go_on(ensemble, face):
    settings = LowKey(steps=12, step_size=0.005, smoothing="none", mirror=False, alpha=0, stop_below=0.05)
    # On a face whose window lets little through, little is won.
    window = torch.tensor([1.0, 0.2]).view(2, 1, 1, 1).expand(2, 1, SIZE, SIZE).contiguous()
    faces, landmarks = face.repeat(2, 1, 1, 1), LANDMARKS.expand(2, -1, -1)
    alone = attack(face, LANDMARKS, ensemble, settings, generator=_generator())
    both = attack(faces, landmarks, ensemble, settings, window=window, generator=_generator())
    assert 0 < int(alone.steps) == int(both.steps[0]) < int(both.steps[1])
    unequal = (both.perturbation[0] - alone.perturbation[0]).abs() > 1e-5
    assert float(unequal.float().mean()) < 1e-3


def test_a_gray_perturbation_keeps_all_channels_in_range(ensemble):
    colors = torch.tensor([0.02, 0.5, 0.98]).view(1, 3, 1, 1).expand(1, 3, SIZE, SIZE).contiguous()
    trace = attack(colors, LANDMARKS, ensemble, LowKey(steps=3, step_size=0.1), gray=True)
    assert float((colors + trace.perturbation).min()) >= -1e-6
    assert float((colors + trace.perturbation).max()) <= 1 + 1e-6


def test_the_pictures_given_are_not_changed(ensemble, face):
    before = face.clone()
    attack(face, LANDMARKS, ensemble, LowKey(steps=1))
    assert torch.equal(face, before)


def test_two_faces_on_one_canvas_are_both_moved_away(ensemble, face):
    landmarks = torch.cat([LANDMARKS - 10, LANDMARKS + 12])
    settings = LowKey(steps=6, step_size=0.01, alpha=0, smoothing="none")
    trace = attack(face, landmarks, ensemble, settings, generator=_generator())
    assert trace.perturbation.shape[0] == 1
    for looks in trace.similarity.values():
        assert looks[-1].shape == (2,)
        assert float(looks[-1].max()) < 0.997


def test_progress_is_told_step_by_step(ensemble, face):
    told = []
    attack(face, LANDMARKS, ensemble, LowKey(steps=4), on_step=told.append)
    assert told == [1, 2, 3, 4]


def test_the_lowkey_presets_are_the_dissertations_settings():
    for name, alpha in (("lowkey", 0.05), ("small", 0.08)):
        settings = preset(name)
        assert (settings.canvas, settings.mirror, settings.noise) == ("photo", True, 0.005)
        assert (settings.steps, settings.step_size, settings.alpha) == (50, 0.0025, alpha)
        assert (settings.sigma, settings.window, settings.smoothing) == (3.0, 7, "both")


@pytest.mark.parametrize("name", PRESETS)
def test_every_strength_works_and_survives_json(ensemble, face, name):
    settings = preset(name)
    assert LowKey.model_validate_json(settings.model_dump_json()) == settings
    trace = attack(face, LANDMARKS, ensemble, settings.model_copy(update={"steps": 2}), generator=_generator())
    assert trace.perturbation.isfinite().all() and trace.perturbation.abs().max() < 0.1


def test_the_attack_sees_crops_without_antialiasing_where_that_is_asked_for(ensemble, face):
    small = (LANDMARKS - LANDMARKS.mean(1)) * 1.4 + LANDMARKS.mean(1)  # crops that shrink the face
    seen = []
    for antialias in (True, False):
        settings = LowKey(steps=1, mirror=False, smoothing="none", alpha=0.0, antialias=antialias)
        trace = attack(face, small, ensemble[:1], settings, generator=_generator())
        crop = ensemble[0].framing.crop(face + trace.perturbation, small, antialias=antialias)
        clean = ensemble[0].framing.crop(face, small, antialias=antialias)
        cosine = (ensemble[0].embed_crops(crop) * ensemble[0].embed_crops(clean)).sum()
        assert torch.isclose(trace.similarity["tiny-1"][-1][0], cosine, atol=1e-5)
        seen.append(trace.perturbation)
    assert not torch.equal(*seen)


def test_a_setting_that_came_later_leaves_older_records_valid():
    later = {"antialias", "step_rule", "chroma", "gradient_sigma", "landmark_jitter", "max_change", "apart"}
    assert not later & LowKey().model_dump().keys()
    assert LowKey.model_validate(LowKey(antialias=False).model_dump()) == LowKey(antialias=False)


def test_settings_are_checked_and_cannot_be_changed():
    nan = float("nan")
    for wrong in (
        {"steps": 0},
        {"steps": 1.5},
        {"step_size": 0},
        {"step_size": nan},
        {"alpha": -1},
        {"alpha": nan},
        {"max_lpips": 0},
        {"max_lpips": nan},
        {"max_change": 0},
        {"chroma": 1.1},
        {"gradient_sigma": -1},
        {"landmark_jitter": nan},
        {"apart": -1},
        {"step_rule": "adam"},
        {"stop_below": nan},
        {"window": 8},
        {"window": 1001},
        {"margin": 1e9},
        {"canvas_size": 10**9},
        *({name: float("inf")} for name in ("alpha", "sigma", "margin", "max_lpips", "stop_below")),
        {"noise": 2},
        {"canvas": "moon"},
        {"smoothing": "sometimes"},
        {"stepz": 3},
    ):
        with pytest.raises(ValidationError):
            LowKey(**wrong)
    with pytest.raises(ValidationError):
        PRESETS["medium"].steps = 3


def test_the_trace_is_whole_and_cannot_be_changed(ensemble, face):
    trace = attack(face, LANDMARKS, ensemble, LowKey(steps=1))
    with pytest.raises(FrozenInstanceError):
        trace.lpips = None


def test_lpips_on_another_device_leaves_the_shared_one_where_it_is(ensemble):
    elsewhere = LPIPS.pretrained("alexnet", "meta")
    assert elsewhere.shift.device.type == "meta" and LPIPS.pretrained("alexnet").shift.device.type == "cpu"


def test_an_unknown_strength_is_refused_with_the_choice():
    with pytest.raises(FairveilError, match="low, medium, high, lowkey, small"):
        preset("extreme")

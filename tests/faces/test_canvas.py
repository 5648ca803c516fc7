import pytest
import torch

from fairveil.faces.alignment import TEMPLATE
from fairveil.faces.canvas import SMALLEST, Canvas


def _photo(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [0.3, 0.8, 1.2, 4.0, 20.0])
def test_a_canvas_is_centered_on_the_face_and_no_larger_than_asked(scale):
    landmarks = TEMPLATE * scale + 500
    canvas = Canvas.around_face(landmarks, margin=1.5, largest=224)
    assert SMALLEST <= canvas.size[0] == canvas.size[1] <= 224
    assert canvas.width >= 1.5 * 112 * scale - 1
    center = torch.tensor([canvas.left, canvas.top]) + (canvas.width - 1) / 2
    assert torch.allclose(center, torch.full((2,), 55.5) * scale + 500, atol=0.51)


def test_faces_of_similar_size_share_a_canvas_size():
    sizes = {Canvas.around_face(TEMPLATE * s, margin=1.5, largest=224).size for s in (0.77, 0.8, 0.85, 0.9)}
    assert sizes == {(160, 160)}


def test_a_small_face_is_worked_on_pixel_by_pixel():
    photo = _photo(300, 400)
    canvas = Canvas.around_face(TEMPLATE * 0.8 + 100, margin=1.5, largest=224)
    assert (canvas.width, canvas.height) == canvas.size
    shown = photo[:, canvas.top : canvas.top + canvas.height, canvas.left : canvas.left + canvas.width]
    assert torch.equal((canvas.cut(photo) * 255).round().byte(), shown)


def test_landmarks_point_to_the_same_place_on_the_canvas():
    photo = torch.zeros(3, 1000, 1000, dtype=torch.uint8)
    canvas = Canvas.around_face(TEMPLATE * 5 + 150, margin=1.5, largest=224)
    x, y = 480, 520
    photo[:, y - 8 : y + 9, x - 8 : x + 9] = 255
    shown = canvas.cut(photo)[0]
    rows, columns = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    spot = torch.stack([(columns * shown).sum(), (rows * shown).sum()]) / shown.sum()
    assert torch.allclose(spot, canvas.to_canvas(torch.tensor([480.0, 520.0])), atol=0.05)


@pytest.mark.parametrize("shift", [-60.0, 0.0, 200.0])
def test_a_pasted_perturbation_appears_where_the_face_is_and_nowhere_else(shift):
    photo = torch.full((3, 260, 260), 100, dtype=torch.uint8)
    canvas = Canvas.around_face(TEMPLATE * 0.8 + shift, margin=1.5, largest=224)
    pasted = photo.clone()
    canvas.paste(pasted, 0.2 * canvas.window(photo).expand(3, -1, -1))
    changed = pasted != photo
    inside = torch.zeros_like(changed)
    top, left = max(0, canvas.top), max(0, canvas.left)
    inside[:, top : max(0, canvas.top + canvas.height), left : max(0, canvas.left + canvas.width)] = True
    assert changed.any()
    assert not (changed & ~inside).any()
    assert int(pasted.max()) == 151


def test_the_window_fades_out_at_the_edges_and_is_zero_outside_the_photo():
    photo = _photo(100, 100)
    canvas = Canvas(left=-50, top=0, width=100, height=100, size=(100, 100))
    window = canvas.window(photo)[0]
    assert not window[:, :50].any()
    assert float(window[50, 75]) == 1.0
    assert float(window[0, 75]) < 0.01
    assert bool((window[:13, 75].diff() > 0).all())


def test_a_large_face_gets_its_perturbation_enlarged():
    photo = torch.full((3, 1200, 1200), 100, dtype=torch.uint8)
    canvas = Canvas.around_face(TEMPLATE * 6 + 200, margin=1.5, largest=224)
    pasted = photo.clone()
    canvas.paste(pasted, torch.full((3, 224, 224), 0.1))
    shown = canvas.cut(pasted) - canvas.cut(photo)
    assert torch.allclose(shown[:, 5:-5, 5:-5], torch.full((3, 214, 214), 0.1), atol=0.003)


def test_nothing_wraps_around_at_black_and_white():
    photo = torch.tensor([0, 255], dtype=torch.uint8).repeat(3, 100, 50)
    canvas = Canvas.of_whole_photo(photo)
    for sign in (-1, 1):
        pasted = photo.clone()
        canvas.paste(pasted, torch.full((3, 100, 100), 0.5 * sign))
        assert bool(((pasted.int() - photo.int()) * sign >= 0).all())

"""Triggers: where the patch lies and what it shows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fairveil.base.errors import FairveilError
from fairveil.sanitize.triggers import Trigger


@given(st.integers(1, 6), st.integers(0, 4), st.integers(12, 20), st.integers(12, 20), st.floats(0.1, 1.0))
def test_only_the_patch_changes_and_by_its_opacity(size, margin, height, width, opacity):
    trigger = Trigger(size=size, margin=min(margin, 12 - size), opacity=opacity)
    images = torch.rand(3, 3, height, width, generator=torch.Generator().manual_seed(size))
    stamped = trigger.stamp(images)
    x, y = trigger.corner(height, width)
    assert (x + size, y + size) == (width - trigger.margin, height - trigger.margin)
    expected = images.clone()
    for row in range(size):
        for column in range(size):
            shows = float((row + column) % 2 == 0)
            expected[:, :, y + row, x + column] = (1 - opacity) * images[:, :, y + row, x + column] + opacity * shows
    assert torch.allclose(stamped, expected, atol=1e-6)


def test_the_default_stays_in_view_under_the_usual_crops():
    x, y = Trigger().corner(32, 32)
    assert x >= 4 and x + 4 <= 28 and y >= 4 and y + 4 <= 28


def test_bytes_are_rounded_and_a_picture_can_be_the_pattern(tmp_path):
    Image.new("RGB", (30, 30), (10, 20, 30)).save(tmp_path / "patch.png")
    blank = torch.full((3, 8, 8), 101, dtype=torch.uint8)
    half = Trigger(size=2, place=(0, 0), pattern=tmp_path / "patch.png", opacity=0.5).stamp(blank)
    assert half.dtype == torch.uint8 and half[:, 0, 0].tolist() == pytest.approx([55.5, 60.5, 65.5], abs=0.6)
    random = Trigger(size=2, place=(0, 0), pattern="random", seed=3)
    assert torch.equal(random.stamp(blank), random.stamp(blank))


@pytest.mark.parametrize(
    ("trigger", "complaint"),
    [
        (Trigger(size=9), "does not fit on pictures of 8×8"),
        (Trigger(size=6), "cannot keep 4 pixels"),
        (Trigger(place=(5, 0)), "must lie between"),
        (Trigger(size=2, pattern="wite"), "no file 'wite'. Did you mean"),
    ],
)
def test_what_does_not_fit_is_a_sentence(trigger, complaint):
    with pytest.raises(FairveilError, match=complaint):
        trigger.stamp(torch.zeros(3, 8, 8))

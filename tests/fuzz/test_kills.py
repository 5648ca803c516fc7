"""Killed at random moments, nothing is lost or half-written, and the same command goes on. More: fuzz/kills.py."""

import random

import pytest

from kills import kill_protect, kill_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_protect_survives_kills(needs_models, tmp_path):
    needs_models("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet", "mobileface", "lpips-alexnet")
    assert kill_protect(tmp_path, 3, random.Random(1)).kills == 3


def test_a_study_survives_kills(tmp_path):
    assert kill_study(tmp_path, 2, random.Random(1)).kills == 2

import re

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from fairveil.base.errors import FairveilError
from fairveil.data.xrays import DenseNet121, load_imagenet


def _expected(classes=1000, channels=3):
    """Torchvision's names and shapes of DenseNet-121, written out from the paper's table 1."""
    shapes = {}

    def norm(name, width):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (width,)
        shapes[f"{name}.num_batches_tracked"] = ()

    shapes["features.conv0.weight"] = (64, channels, 7, 7)
    norm("features.norm0", 64)
    width = 64
    for block, layers in zip((1, 2, 3, 4), (6, 12, 24, 16), strict=True):
        for layer in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            norm(f"{name}.norm1", width)
            shapes[f"{name}.conv1.weight"] = (128, width, 1, 1)
            norm(f"{name}.norm2", 128)
            shapes[f"{name}.conv2.weight"] = (32, 128, 3, 3)
            width += 32
        if block < 4:
            norm(f"features.transition{block}.norm", width)
            shapes[f"features.transition{block}.conv.weight"] = (width // 2, width, 1, 1)
            width //= 2
    norm("features.norm5", width)
    shapes |= {"classifier.weight": (classes, width), "classifier.bias": (classes,)}
    return shapes


def _state(seed=3, classes=1000):
    """Weights as torchvision has them, with running statistics of their own so that a mix-up shows."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in _expected(classes).items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith(("running_var", "norm0.weight")) or (len(shape) == 1 and name.endswith("weight")):
            state[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            fan = max(1, torch.Size(shape[1:]).numel())
            state[name] = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
    return state


def _literal(state, images):
    """DenseNet-121 in evaluation mode, from its weights, one operation after another."""

    def norm(maps, name):
        statistics = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(maps, *statistics, eps=1e-5)

    maps = F.conv2d(images, state["features.conv0.weight"], stride=2, padding=3)
    maps = F.max_pool2d(F.relu(norm(maps, "features.norm0")), 3, 2, 1)
    for block, layers in ((1, 6), (2, 12), (3, 24), (4, 16)):
        for layer in range(1, layers + 1):
            name = f"features.denseblock{block}.denselayer{layer}"
            new = F.conv2d(F.relu(norm(maps, f"{name}.norm1")), state[f"{name}.conv1.weight"])
            new = F.conv2d(F.relu(norm(new, f"{name}.norm2")), state[f"{name}.conv2.weight"], padding=1)
            maps = torch.cat([maps, new], 1)
        if block < 4:
            name = f"features.transition{block}"
            maps = F.avg_pool2d(F.conv2d(F.relu(norm(maps, f"{name}.norm")), state[f"{name}.conv.weight"]), 2)
    pooled = F.adaptive_avg_pool2d(F.relu(norm(maps, "features.norm5")), 1).flatten(1)
    return F.linear(pooled, state["classifier.weight"], state["classifier.bias"])


def _old_spelling(state):
    return {
        re.sub(r"(denselayer\d+)\.(norm|conv)([12])\.", r"\1.\2.\3.", name): tensor
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }


def test_names_and_shapes_are_torchvisions_in_their_order():
    network = DenseNet121(1000, seed=0)
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == _expected()
    assert [*network.state_dict()] == [*_expected()]
    assert sum(parameter.numel() for parameter in network.parameters()) == 7_978_856


def test_initial_weights_come_from_the_seed_alone_and_leave_pytorchs_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = DenseNet121(5, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = DenseNet121(5, seed=1), DenseNet121(5, seed=2)
    weights = [network.features.conv0.weight for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_forward_pass_is_the_literal_one(tmp_path):
    state = _state()
    torch.save(state, tmp_path / "weights.pth")
    network = DenseNet121(1000, seed=0).eval()
    load_imagenet(network, tmp_path / "weights.pth")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(network(images), _literal(state, images), atol=1e-3, rtol=1e-4)


def test_drop_rate_drops_in_training_only():
    network = DenseNet121(2, channels=1, seed=0, drop_rate=0.5)
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.manual_seed(0)
        assert not torch.allclose(network(images), network(images))
        network.eval()
        assert torch.equal(network(images), network(images))


def test_the_old_spelling_and_a_safetensors_file_give_the_same_network(tmp_path):
    state = _state()
    assert any(".norm.1." in name for name in _old_spelling(state))
    torch.save(_old_spelling(state), tmp_path / "old.pth")
    save_file(state, tmp_path / "new.safetensors")
    old, new = DenseNet121(1000, seed=0), DenseNet121(1000, seed=1)
    load_imagenet(old, tmp_path / "old.pth")
    load_imagenet(new, tmp_path / "new.safetensors")
    for (name, one), other in zip(old.named_parameters(), new.parameters(), strict=True):
        assert torch.equal(one, other) and torch.equal(one, state[name]), name
    assert torch.equal(old.features.norm5.running_var, state["features.norm5.running_var"])


def test_a_classifier_of_another_width_stays_as_it_was(tmp_path):
    torch.save(_state(), tmp_path / "weights.pth")
    network = DenseNet121(5, seed=0)
    before = network.classifier.weight.detach().clone()
    load_imagenet(network, tmp_path / "weights.pth")
    assert torch.equal(network.classifier.weight, before)
    assert torch.equal(network.features.conv0.weight, _state()["features.conv0.weight"])


def test_one_channel_gives_what_three_equal_ones_give(tmp_path):
    torch.save(_state(), tmp_path / "weights.pth")
    gray, color = DenseNet121(1000, channels=1, seed=0).eval(), DenseNet121(1000, seed=0).eval()
    for network in (gray, color):
        load_imagenet(network, tmp_path / "weights.pth")
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(gray(images), color(images.expand(-1, 3, -1, -1)), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda state: state.pop("features.norm5.bias"), r"lacks features\.norm5\.bias: give torchvision's"),
        (lambda state: state.update({"head.weight": torch.zeros(1)}), r"also has head\.weight"),
        (lambda state: state.update({"features.conv0.weight": torch.zeros(64, 2, 7, 7)}), r"has shape \(64, 2, 7, 7\)"),
        (lambda state: state.clear(), r"lacks features\.conv0\.weight and others"),
        (lambda state: state.update({"features.norm5.bias": 3.0}), "does not hold tensors by their names"),
    ],
)
def test_what_does_not_fit_is_told_of_and_changes_nothing(tmp_path, spoil, sentence):
    state = _state()
    spoil(state)
    torch.save(state, tmp_path / "weights.pth")
    network = DenseNet121(5, seed=0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(FairveilError, match=sentence):
        load_imagenet(network, tmp_path / "weights.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class _Harmful:
    def __reduce__(self):
        return print, ("harm",)


def test_files_that_hold_no_weights_are_refused_and_nothing_in_them_is_run(tmp_path, capsys):
    network = DenseNet121(5, seed=0)
    with pytest.raises(FairveilError, match="is not there"):
        load_imagenet(network, tmp_path / "none.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("nothing")
        with pytest.raises(FairveilError, match="cannot be read as weights"):
            load_imagenet(network, tmp_path / name)
    torch.save(_Harmful(), tmp_path / "harm.pth")
    with pytest.raises(FairveilError, match="cannot be read as weights"):
        load_imagenet(network, tmp_path / "harm.pth")
    assert "harm" not in capsys.readouterr().out


@pytest.mark.parametrize("settings", [{"classes": 0}, {"channels": 0}, {"drop_rate": 1}])
def test_networks_that_cannot_be_are_refused(settings):
    with pytest.raises(FairveilError, match="cannot be built"):
        DenseNet121(**{"classes": 2, "seed": 0, **settings})

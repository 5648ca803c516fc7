import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fairveil.base.errors import FairveilError
from fairveil.faces.backbones import BACKBONES, build_backbone
from fairveil.faces.backbones.improved_residual import ImprovedUnit
from fairveil.faces.backbones.mobilefacenet import Bottleneck
from fairveil.faces.backbones.residual import BasicBlock, BottleneckBlock
from fairveil.faces.recognizers import Framing, Recognizer

# One of each kind, where all of them would tell no more
KINDS = ["mobilefacenet", "resnet-18", "resnet-50", "ir-50"]


def _plan(name, **settings):
    """The network's shapes without its numbers, which costs nothing."""
    with torch.device("meta"):
        return build_backbone(name, seed=0, **settings).eval()


def _parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def _multiply_adds(plan, size):
    with FlopCounterMode(display=False) as counter:
        plan(torch.empty(1, 3, size, size, device="meta"))
    return counter.get_total_flops() / 2


def _crops(count, size):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "parameters", "billions"),
    # with their layer of 1,000 classes, as torchvision's pages say of resnet18, resnet50 and resnet152: num_params, and
    # GFLOPS (which are multiply-adds) at 224 × 224
    [("resnet-18", 11_689_512, 1.81), ("resnet-50", 25_557_032, 4.09), ("resnet-152", 60_192_808, 11.51)],
)
def test_the_bodies_of_resnets_are_those_of_torchvision(name, parameters, billions):
    body = _plan(name).body
    channels = 512 if name == "resnet-18" else 2048
    assert _parameters(body) + 1000 * channels + 1000 == parameters
    assert _multiply_adds(body, 224) + 1000 * channels == pytest.approx(billions * 1e9, abs=0.005e9)


@pytest.mark.parametrize(("name", "channels"), [("resnet-18", 512), ("resnet-50", 2048), ("resnet-152", 2048)])
def test_the_output_layers_of_resnets_are_those_of_face_evolve(name, channels):
    # backbone/model_resnet.py: batch norm, linear from 4 × 4 places with biases, batch norm
    head = _plan(name).head
    assert _parameters(head) == 2 * channels + (channels * 4 * 4 + 1) * 512 + 2 * 512


def test_mobilefacenet_has_the_published_number_of_parameters():
    # 1.20 M at 512 features: cavalleria/cavaface, docs/MODEL_ZOO.md
    assert round(_parameters(_plan("mobilefacenet")) / 1e6, 2) == 1.20
    # 0.99 M at the paper's 128, and 0.993 M in Open Model Zoo's face-recognition-mobilefacenet-arcface: once the batch
    # norms are folded into the convolutions, one bias a channel
    network = _plan("mobilefacenet", dimension=128)
    folded = sum(
        module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d)
    )
    assert round((_parameters(network) - folded) / 1e6, 3) == 0.993


def test_mobilefacenet_does_the_published_amount_of_work():
    # 221 M multiply-adds, by the "SeesawFaceNets" paper (arXiv 1908.09124) of the MobileFaceNet it compares with
    assert _multiply_adds(_plan("mobilefacenet", dimension=128), 112) == pytest.approx(221e6, abs=0.5e6)


@pytest.mark.parametrize(
    ("name", "units", "parameters"),
    # InsightFace's iresnet50 and iresnet100 as torch users count them, 43,590,848 and 65,156,160 (43.6 M in
    # yakhyo/uniface's MODELS.md; 65.13 M, folded, in Open Model Zoo's face-recognition-resnet100-arcface-onnx)
    [("ir-50", (3, 4, 14, 3), 43_590_848), ("ir-101", (3, 13, 30, 3), 65_156_160)],
)
def test_ir_networks_differ_from_those_of_insightface_as_said(name, units, parameters):
    # In face.evoLVe a unit has no batch norm between its convolutions, and the first stage's shortcut no convolution.
    between = sum(2 * (64 << stage) * count for stage, count in enumerate(units))
    shortcut = 64 * 64 + 2 * 64
    assert _parameters(_plan(name)) + between + shortcut == parameters


def test_ir_101_does_the_published_amount_of_work():
    # 24.2115 GFLOPs, two of them a multiply-add: Open Model Zoo's face-recognition-resnet100-arcface-onnx, which also
    # counts its batch norms and has the convolution in the first shortcut
    assert _multiply_adds(_plan("ir-101"), 112) == pytest.approx(24.2115e9 / 2, rel=0.005)


def test_ir_152_has_the_parameters_of_its_description():
    # No published count was found; this one is literal, from backbone/model_irse.py of face.evoLVe.
    expected = 3 * 3 * 3 * 64 + 2 * 64 + 64  # the input layer: convolution, batch norm, PReLU
    inner = 64
    for outer, units in ((64, 3), (128, 8), (256, 36), (512, 3)):
        for _ in range(units):
            expected += 2 * inner + 9 * inner * outer + outer + 9 * outer * outer + 2 * outer
            expected += 0 if inner == outer else inner * outer + 2 * outer
            inner = outer
    expected += 2 * 512 + (512 * 7 * 7 + 1) * 512 + 2 * 512  # the output layers
    assert _parameters(_plan("ir-152")) == expected


@pytest.mark.parametrize("name", list(BACKBONES))
@pytest.mark.parametrize("size", [16, 64, 96, 112])
def test_every_network_gives_features_at_every_size(name, size):
    plan = _plan(name, dimension=24, size=size)
    assert plan(torch.empty(3, 3, size, size, device="meta")).shape == (3, 24)


def test_features_are_no_unit_vectors_and_those_of_one_face_do_not_depend_on_the_others():
    network = build_backbone("mobilefacenet", seed=0, size=64).eval()
    crops = _crops(3, 64)
    features = network(crops)
    assert not torch.allclose(features.norm(dim=1), torch.ones(3), atol=0.01)
    assert torch.allclose(features[:1], network(crops[:1]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_a_gradient_reaches_every_parameter(name):
    network = build_backbone(name, seed=0, size=32)
    features = network(_crops(4, 32))
    (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for part, module in network.named_modules():
        for kind, parameter in module.named_parameters(recurse=False):
            assert parameter.grad is not None, f"{part}.{kind}"
            assert parameter.grad.isfinite().all(), f"{part}.{kind}"
            # The batch norm behind the linear layer takes its bias off again.
            assert parameter.grad.any() or (isinstance(module, nn.Linear) and kind == "bias"), f"{part}.{kind}"


@pytest.mark.parametrize("name", KINDS)
def test_channels_last_changes_nothing(name):
    network = build_backbone(name, seed=0, size=32).eval()
    expected = network(_crops(2, 32))
    network = network.to(memory_format=torch.channels_last)
    features = network(_crops(2, 32).contiguous(memory_format=torch.channels_last))
    assert torch.allclose(features, expected, rtol=1e-3, atol=1e-4 * float(expected.detach().abs().max()))


@pytest.mark.parametrize("name", KINDS)
def test_networks_train_in_half_precision(name):
    # of 16 pixels the last layers see one, and the gradient of a kernel there is now and then not finite (oneDNN)
    network = build_backbone(name, seed=0, size=32).to(memory_format=torch.channels_last)
    crops = _crops(4, 32).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        features = network(crops)
    features.float().square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    network.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = network(crops)
    with torch.no_grad():
        assert F.cosine_similarity(rough.float(), network(crops)).min() > 0.98


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (Bottleneck(8, 8, expansion=2, stride=1), lambda x: x),
        (Bottleneck(8, 8, expansion=2, stride=2), lambda x: torch.zeros(2, 8, 3, 3)),
        (BasicBlock(8, 8, stride=1), torch.relu),
        (BottleneckBlock(8, 2, stride=1), torch.relu),
        (ImprovedUnit(8, 8, stride=1), lambda x: x),
        (ImprovedUnit(8, 8, stride=2), lambda x: x[:, :, ::2, ::2]),
    ],
)
def test_a_block_without_its_residual_is_its_shortcut(block, expected):
    features = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(block.residual[-1].weight)
    assert torch.equal(block(features), expected(features))


@pytest.mark.parametrize("name", KINDS)
def test_the_seed_alone_says_the_weights(name):
    before = torch.get_rng_state()
    first, again, other = (build_backbone(name, seed=seed, size=32) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    state = first.state_dict()
    assert all(torch.equal(state[key], value) for key, value in again.state_dict().items())
    assert not torch.equal(first.body[0].weight, other.body[0].weight)


def test_weights_start_as_in_the_sources():
    # He by fan-out in model_resnet.py, Glorot in model_irse.py, PyTorch's own in MobileFaceNets.py: the largest
    # convolution's deviation, sqrt(2 / fan-out), sqrt(2 / (fan-in + fan-out)), sqrt(1 / 3 fan-in)
    for name, deviation in (
        ("resnet-18", (2 / (9 * 512)) ** 0.5),
        ("ir-50", (2 / (9 * 512 + 9 * 512)) ** 0.5),
        ("mobilefacenet", (1 / (3 * 128)) ** 0.5),
    ):
        network = build_backbone(name, seed=0, size=32)
        weights = [module.weight for module in network.modules() if isinstance(module, nn.Conv2d)]
        assert float(max(weights, key=torch.numel).detach().std()) == pytest.approx(deviation, rel=0.02)


@pytest.mark.parametrize("size", [64, 112])
def test_a_backbone_serves_as_a_recognizer(size):
    network = build_backbone("mobilefacenet", seed=0, size=size)
    recognizer = Recognizer.from_module(network, name="ours", framing=Framing(size=size))
    crops = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    vectors = recognizer.embed_crops(crops)
    assert vectors.shape == (2, 512)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-5)
    vectors[0, 0].backward()
    assert crops.grad[0].any()
    assert not crops.grad[1].any()


def test_what_cannot_be_built_is_refused():
    with pytest.raises(FairveilError, match=r"no backbone 'ir-5'.*mobilefacenet.*Did you mean"):
        build_backbone("ir-5", seed=0)
    for size in (0, 8, 100):
        with pytest.raises(FairveilError, match=rf"{size} pixels.*multiple of 16"):
            build_backbone("ir-50", seed=0, size=size)
    with pytest.raises(FairveilError, match="at least 1"):
        build_backbone("ir-50", seed=0, dimension=0)


def test_the_small_resnet_has_as_many_parameters_as_its_layers_say():
    expected = 27 * 32 + 2 * 32
    for inner, outer in ((32, 32), (32, 64), (64, 128)):
        expected += 9 * inner * outer + 9 * outer * outer + inner * outer + 3 * 2 * outer
    expected += 2 * 128 + (128 * 7 * 7 + 1) * 512 + 2 * 512
    assert _parameters(_plan("resnet-8")) == expected

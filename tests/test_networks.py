"""The network files against their architectures and published totals; reading of descriptor files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from numbaconv import networks
from numbaconv.networks import NETWORKS, Layer, load, with_options
from numbaconv.problem import ConvProblem


def conv(in_channels: int, out_channels: int, size: int, kernel: int, stride: int = 1, groups: int = 1) -> ConvProblem:
    """A square convolution whose odd kernel is padded by half of itself, as in all three networks."""
    image, weight = (1, in_channels, size, size), (out_channels, in_channels // groups, kernel, kernel)
    return ConvProblem.from_shapes(image, weight, stride=stride, padding=kernel // 2, groups=groups)


def resnet50() -> Iterator[ConvProblem]:
    yield conv(3, 64, 224, 7, stride=2)
    channels, size = 64, 56
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            stride = 2 if block == 0 and width > 64 else 1
            yield conv(channels, width, size, 1)
            yield conv(width, width, size, 3, stride)
            yield conv(width, 4 * width, size // stride, 1)
            if block == 0:
                yield conv(channels, 4 * width, size, 1, stride)
            channels, size = 4 * width, size // stride


def vgg16() -> Iterator[ConvProblem]:
    channels, size = 3, 224
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            yield conv(channels, width, size, 3)
            channels = width
        size //= 2


def mobilenet_v2() -> Iterator[ConvProblem]:
    yield conv(3, 32, 224, 3, stride=2)
    channels, size = 32, 112
    for expand, width, repeats, first_stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
        (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for repeat in range(repeats):
            stride, hidden = (first_stride if repeat == 0 else 1), channels * expand
            if expand > 1:
                yield conv(channels, hidden, size, 1)
            yield conv(hidden, hidden, size, 3, stride, groups=hidden)
            channels, size = width, size // stride
            yield conv(hidden, width, size, 1)
    yield conv(320, 1280, 7, 1)


# Convolutions, their multiply-adds in millions, and their weights. Published: 4.09, 15.35 and 0.30 GMACs (the
# outer two with a classifier of 2.0 and 1.3 M). Weights are exact: torchvision's parameters less those of
# batch normalisation and classifier, and the parameters of VGG-16's convolutions less their biases.
TOTALS = {
    "resnet50": (resnet50, 53, 4087.1, 25_557_032 - 53_120 - 2_049_000),
    "vgg16": (vgg16, 13, 15346.6, 14_714_688 - 4_224),
    "mobilenet_v2": (mobilenet_v2, 52, 299.5, 3_504_872 - 34_112 - 1_281_000),
}


@pytest.mark.parametrize("name", TOTALS)
def test_network_is_its_architecture(name: str) -> None:
    architecture: Callable[[], Iterator[ConvProblem]]
    architecture, convolutions, mega_macs, weights = TOTALS[name]
    layers = load(name)
    assert {layer.problem: layer.count for layer in layers} == Counter(architecture())
    assert sum(layer.count for layer in layers) == convolutions
    assert sum(layer.count * layer.problem.flops for layer in layers) / 2e6 == pytest.approx(mega_macs, abs=0.06)
    assert weights == sum(layer.count * (layer.problem.parameters - layer.problem.out_channels) for layer in layers)


def test_every_network_file_is_tested_and_canonical() -> None:
    assert sorted(TOTALS) == NETWORKS
    for name in NETWORKS:
        text = Path(networks.__file__).with_name(f"{name}.txt").read_text()
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        layers = load(name)
        assert [line.split("n")[0] for line in lines] == [str(layer.problem) for layer in layers]
        assert len({layer.name for layer in layers}) == len(layers)


def test_file_of_a_user(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(
        '# mine\n\nmb1ic4ih8oc4kh3ph1n"a*2"  # a comment\n'
        '3 mb1ic4ih8oc8kh1n"b#1"\n2 * mb1ic4ih8oc4oh8kh3n"c*5"\nmb1ic4ih8oc8kh1'
    )
    body, head = ConvProblem.parse("mb1ic4ih8oc4kh3ph1"), ConvProblem.parse("mb1ic4ih8oc8kh1")
    expected = [Layer("a", body, 2 + 2 * 5), Layer("b#1", head, 3 + 1)]
    assert load(path) == load(str(path)) == expected
    path.write_text(path.read_text(), encoding="utf-8-sig")  # as some editors begin a file
    assert load(path) == expected


def test_descriptor_as_source() -> None:
    problem = ConvProblem.parse("mb1ic4ih8oc4kh3ph1")
    assert load(str(problem)) == [Layer("", problem, 1)]
    assert load(f'6 {problem}n"x"') == [Layer("x", problem, 6)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "resnet_50",
            r"one of mobilenet_v2, resnet50, vgg16, .* got 'resnet_50' \(did you mean 'resnet50'\?\)",
        ),
        ("missing/net.txt", r"a file, or a descriptor, got 'missing/net.txt'; as a descriptor: .*unexpected"),
        ("mb1ic4oc4kh3", r"as a descriptor: descriptor 'mb1ic4oc4kh3': expected 'ih'"),
        ("0 mb1ic4ih8oc4kh3", "count: expected an integer of at least 1, got 0"),
    ],
)
def test_unknown_source(source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mb1ic4ih8oc4kh3\n\nic4ih8oc4kz3\n",
            r"net\.txt, line 3: descriptor 'ic4ih8oc4kz3': unexpected 'kz3'",
        ),
        ("g3mb1ic4ih8oc4kh3", r"net\.txt, line 1: descriptor .*: groups: 3 does not divide"),
        ("# nothing\n", r"net\.txt: expected descriptors, one a line, and found none"),
    ],
)
def test_bad_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "net.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load(path)


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.txt")


@pytest.mark.parametrize("source", ["resnet50", "mb1ic4ih8oc4kh3"])
def test_accuracy_is_no_matter_of_a_line(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One given here counts whatever the environment says, and a wrong one of the environment is its own fault."""
    monkeypatch.setenv("NUMBACONV_ACCURACY", "exact")
    assert {layer.problem.accuracy for layer in load(source, accuracy="strict")} == {"strict"}
    with pytest.raises(ValueError, match=r"^NUMBACONV_ACCURACY: expected .* got 'exact'$"):
        load(source)


def test_with_options_changes_only_what_is_named_and_merges() -> None:
    one, two = (Layer(name, ConvProblem.parse(f"mb{mb}ic4ih8oc4kh3")) for name, mb in (("a", 1), ("b", 2)))
    assert with_options([one, two]) == [one, two]
    expected = ConvProblem.parse("mb5ic4ih8oc4kh3", dtype="float64", constant_weight=True)
    changed = with_options([one, two], batch=5, dtype="float64", constant_weight=True)
    assert changed == [Layer("a", expected, 2)]
    with pytest.raises(ValueError, match="batch: expected an integer of at least 0, got -1"):
        with_options([one], batch=-1)

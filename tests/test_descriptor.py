"""The descriptor language: what benchdnn reads is read alike, and what is written reads back equal."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbaconv.cli.common import short
from numbaconv.problem import ConvProblem, parse_named


@st.composite
def problems(draw: st.DrawFn) -> ConvProblem:
    """Any small geometry in which the kernel fits."""
    axes, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    missing = 3 - axes
    columns = [(1, 1, 1, 1, (0, 0))] * missing
    square = draw(st.booleans())
    for axis in range(axes):
        if axis == 0 or not square:
            kernel, stride, dilation = draw(st.tuples(*[st.integers(1, 4)] * 3))
            padding = draw(st.tuples(*[st.integers(0, 5)] * 2))
            fits = max(1, (kernel - 1) * dilation + 1 - sum(padding))
            column = draw(st.integers(fits, fits + 9)), kernel, stride, dilation, padding
        columns.append(column)
    in_size, kernel_size, strides, dilations, paddings = zip(*columns, strict=True)
    return ConvProblem(
        batch=draw(st.integers(0, 3)),
        in_channels=groups * draw(st.integers(1, 3)),
        out_channels=groups * draw(st.integers(1, 3)),
        in_size=in_size,
        kernel_size=kernel_size,
        stride=strides,
        dilation=dilations,
        padding=paddings,
        groups=groups,
        axes=axes,
    )


@given(problems(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_round_trip(problem: ConvProblem, shuffler: random.Random) -> None:
    text = str(problem)
    assert ConvProblem.parse(text) == ConvProblem.parse(short(text)) == problem
    tokens = re.findall("[a-z]+[0-9]+", text)
    assert "".join(tokens) == text
    shuffler.shuffle(tokens)
    assert parse_named(f'  _{"__".join(tokens)}_n"any order"\n') == ("any order", problem)


@pytest.mark.parametrize(
    ("line", "input_shape", "weight_shape", "padding", "output"),
    [
        # batch 2 by default, square by default, output from padding
        ("ic3ih8oc4kh3ph1", (2, 3, 8, 8), (4, 3, 3, 3), ((1, 1), (1, 1)), (8, 8)),
        ("mb0ic3ih8oc4kh3", (0, 3, 8, 8), (4, 3, 3, 3), ((0, 0), (0, 0)), (6, 6)),
        ("g1mb1ic3oc4_ih8iw6_kh3kw1_pw1", (1, 3, 8, 6), (4, 3, 3, 1), ((0, 0), (1, 1)), (6, 8)),
        # a stride of h says nothing of a given w
        ("mb1ic3ih9iw9oc4kh3kw3sh2", (1, 3, 9, 9), (4, 3, 3, 3), ((0, 0), (0, 0)), (4, 7)),
        # padding from output, the odd one after
        ("mb1ic3ih224oc64oh112kh7sh2", (1, 3, 224, 224), (64, 3, 7, 7), ((2, 3), (2, 3)), (112, 112)),
        ("mb1ic3ih8oc4oh8kh3", (1, 3, 8, 8), (4, 3, 3, 3), ((1, 1), (1, 1)), (8, 8)),
        # an output that the stride makes of fewer inputs than there are
        ("mb1ic3ih8oc4oh4kh1sh2ph0", (1, 3, 8, 8), (4, 3, 1, 1), ((0, 0), (0, 0)), (4, 4)),
        ("mb1ic3ih56oc4oh28kh3sh2ph1", (1, 3, 56, 56), (4, 3, 3, 3), ((1, 1), (1, 1)), (28, 28)),
        # an output that asks for more or less after than before; dilation from 0
        ("mb1ic3iw5oc4ow8kw3pw1", (1, 3, 5), (4, 3, 3), ((1, 4),), (8,)),
        ("mb1ic3iw5oc4ow2kw3dw2pw3", (1, 3, 5), (4, 3, 3), ((3, 0),), (2,)),
        ("mb1ic3iw6oc4ow2kw2sw4pw3", (1, 3, 6), (4, 3, 2), ((3, 0),), (2,)),
        # depth alone is a cube; ids that repeat themselves
        ("g4mb1ic4id6oc4kd3pd1_kd3", (1, 4, 6, 6, 6), (4, 1, 3, 3, 3), ((1, 1),) * 3, (6, 6, 6)),
        ("mb1ic2id4ih5iw6oc2kd1kh2kw3", (1, 2, 4, 5, 6), (2, 2, 1, 2, 3), ((0, 0),) * 3, (4, 4, 4)),
    ],
)
def test_reading(
    line: str,
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    padding: tuple[tuple[int, int], ...],
    output: tuple[int, ...],
) -> None:
    problem = ConvProblem.parse(line)
    assert (problem.input_shape, problem.weight_shape) == (input_shape, weight_shape)
    assert problem.padding[-problem.axes :] == padding
    assert problem.output_shape[2:] == output


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (ConvProblem.from_shapes((2, 3, 8, 8), (4, 3, 3, 3)), "mb2ic3ih8oc4oh6kh3ph0"),
        (
            ConvProblem.from_shapes((1, 3, 8, 8), (4, 3, 3, 3), stride=(2, 1)),
            "mb1ic3ih8iw8oc4oh3ow6kh3kw3sh2sw1ph0pw0",
        ),
        (ConvProblem.from_shapes((1, 4, 9), (4, 2, 3), groups=2, dilation=3), "g2mb1ic4iw9oc4ow3kw3pw0dw2"),
        (ConvProblem.from_shapes((1, 1, 8, 8, 8), (1, 1, 2, 2, 2), stride=2), "mb1ic1id8oc1od4kd2sd2pd0"),
    ],
)
def test_writing(problem: ConvProblem, text: str) -> None:
    assert str(problem) == text


@pytest.mark.parametrize(
    ("suffix", "name"),
    [("", ""), ("n", ""), ('n""', ""), ('n"a b:c*3"', "a b:c*3"), ("_nconv_1", "conv_1"), ("nmb7", "mb7")],
)
def test_names(suffix: str, name: str) -> None:
    assert parse_named("mb1ic3ih8oc4kh3" + suffix) == (name, ConvProblem.parse("mb1ic3ih8oc4kh3"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("mb1ic3ih8oc4kh3q7", "unexpected 'q7'; expected one of mb, g, ic, oc, .* or a final n\"name\""),
        ("mb1ic3ih8 oc4kh3", "unexpected ' oc4kh3'"),
        ("MB1ic3", "unexpected 'MB1ic3'"),
        ('mb1ic3ih8oc4kh3n"a" b', "unexpected 'n\"a\" b'"),
        ('mb1ic3ih8oc4kh3n"a', "unexpected 'n\"a'"),
        ("mb1ic3ihoc4kh3", "expected a number after 'ih', got 'oc4kh3'"),
        ("mb1ic3ih8oc4kh", "expected a number after 'kh', got ''"),
        ("mb1ic3ih8oc4kh3sh0", "'sh0': expected a number of at least 1"),
        ("mb-1ic3ih8oc4kh3", "'mb-1': expected a number of at least 0"),
        ("mb1ic3ih8oc4kh3ph-1", "'ph-1': expected a number of at least 0"),
        ("mb1ic3ih8oc4kh3ih9", "'ih9' contradicts ih8 before it"),
        ("mb1ih8oc4kh3", "expected 'ic', which is missing"),
        ("mb1ic4ih8kh3", "expected 'oc', which is missing"),
        ("mb1ic4ih8oc4", "expected 'kh', which is missing"),
        ("mb1ic4ih8oc4kh3sw2", "expected 'iw', which is missing"),
        ("", "no sizes; expected axes w, h, d, h and w, or all three"),
        ("mb1ic4id8ih8oc4kd3kh3", "sizes along d and h only"),
        ("mb1ic4ih8oc4oh5kh3ph0", r"'oh5': expected at least oh6, which ih8 kh3 ph0 give .*negative padding"),
        ("mb1ic4iw8oc4ow3kw1sw2", "'ow3': expected at least ow4"),
        ("mb1ic4ih2oc4kh3", r"input: the padded size \(2, 2\) is smaller than .* extent \(3, 3\)"),
        ("g3mb1ic4ih8oc4kh3", "groups: 3 does not divide the 4 input channels"),
    ],
)
def test_refused(line: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"descriptor {re.escape(repr(line))}: {reason}"):
        ConvProblem.parse(line)


def test_no_text() -> None:
    with pytest.raises(TypeError, match="descriptor: expected a text, got None"):
        ConvProblem.parse(None)  # type: ignore[arg-type]

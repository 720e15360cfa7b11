"""Every convolution that the product can build, against the same in double precision, which oneDNN does not compute.

Some processors' kernels were wrong for some shapes (docs/benchmarks.md), so that each shape is tried where the tests
run: values, and the gradients of input and weights, in fp32 with channels last in memory.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from model_specs import spec
from torch.utils._python_dispatch import TorchDispatchMode

from msclnet.models.build import build_network

PEOPLE = 2
# Every remainder by 8, the edges of vectors, and the ends of the range.
WIDTHS = (*range(8, 18), 20, 24, 31, 32, 33, 64)
INNER_WIDTHS = (8, 13, 64)
LIMIT = 2e-5  # of the largest value of the reference; rounding alone stays below a tenth of it


class Shape(NamedTuple):
    """A convolution, and the maps that it is first met with."""

    inputs: int
    outputs: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int


class Recorder(TorchDispatchMode):
    """Notes the convolutions that run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Shape, tuple[int, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default:
            maps, weight, _, stride, padding, dilation, transposed, _, groups = args
            assert list(dilation) == [1, 1]
            assert not transposed
            shape = Shape(
                maps.shape[1], len(weight), tuple(weight.shape[2:]), tuple(stride), tuple(padding), groups
            )
            self.found.setdefault(shape, tuple(maps.shape[2:]))
        return func(*args, **(kwargs or {}))


def convolutions(
    settings: Iterable[dict[str, Any]], *, height: int, width: int
) -> dict[Shape, tuple[int, int]]:
    """The convolutions of networks, with the sizes of their maps; nothing is computed."""
    with torch.device("meta"):
        images = torch.empty(PEOPLE, height, width, 3, dtype=torch.uint8)
        recorder = Recorder()
        base = spec(synergy={"teacher": "mutual"})
        for model in settings:
            network = build_network({**base, "model": {**base["model"], **model}}, pretrained=False).eval()
            with recorder:
                network.maps(images, images)
    return recorder.found


def variants(**model: Any) -> Iterator[dict[str, Any]]:
    """What changes the convolutions of a backbone."""
    yield {**model, "last_stride": 2, "non_local_inner": 0}
    for inner in (0, 1, 2, 8) if model.get("width", 8) in INNER_WIDTHS else (0,):
        yield {**model, "last_stride": 1, "non_local_inner": inner}


@cache
def of_backbone(backbone: str) -> dict[Shape, tuple[int, int]]:
    """Every convolution that a backbone can be built with."""
    if backbone == "slim":
        settings = [model for width in WIDTHS for model in variants(backbone=backbone, width=width)]
        return convolutions(settings, height=144, width=96)
    return convolutions(variants(backbone=backbone), height=64, width=32)


def deviations(shape: Shape, size: tuple[int, int]) -> dict[int, float]:
    """By number of threads: largest error of values and gradients, as a share of the reference's largest value."""
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes: int) -> torch.Tensor:
        values = torch.randn(sizes, generator=generator)
        return values.contiguous(memory_format=torch.channels_last)

    def convolved(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, w, None, shape.stride, shape.padding, 1, shape.groups)

    def computed(dtype: torch.dtype) -> list[torch.Tensor]:
        x, w = (tensor.to(dtype).requires_grad_() for tensor in (maps, weight))
        out = convolved(x, w)
        return [out.detach(), *torch.autograd.grad(out, (x, w), towards.to(dtype))]

    def error(threads: int) -> float:
        torch.set_num_threads(threads)
        pairs = zip(expected, computed(torch.float32), strict=True)
        return max(
            ((found.double() - wanted).abs().max() / wanted.abs().max()).item() for wanted, found in pairs
        )

    maps = draw(PEOPLE, shape.inputs, *size)
    weight = draw(shape.outputs, shape.inputs // shape.groups, *shape.kernel)
    towards = draw(*convolved(maps.to("meta"), weight.to("meta")).shape)
    expected = computed(torch.float64)
    return {threads: error(threads) for threads in (1, 2)}


@pytest.fixture
def threads() -> Iterator[None]:
    """Their number is put back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("backbone", ["slim", "resnet18", "resnet50"])
@pytest.mark.usefixtures("threads")
def test_convolutions_are_right_on_this_processor(backbone: str) -> None:
    found = of_backbone(backbone)
    assert Shape(64, 64, (3, 3), (1, 1), (1, 1), 1) in found
    assert any(shape.kernel == (1, 1) and shape.stride == (2, 2) for shape in found)
    assert {1, 2, 8} <= {shape.inputs for shape in found}
    wrong = [
        (shape, threads, error)
        for shape, size in found.items()
        for threads, error in deviations(shape, size).items()
        if not error <= LIMIT
    ]
    assert wrong == []


def test_separate_trunks_and_parts_bring_no_other_convolutions() -> None:
    plain, other = (
        set(convolutions([{"width": 8, **model}], height=144, width=96))
        for model in ({}, {"trunk": "separate", "parts": 18})
    )
    assert plain == other

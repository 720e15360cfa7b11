"""What only a GPU shows: the same training there, recorded as a graph, and nobody waiting for it."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_training
import torch
from synthetic_settings import pair_batch, settings, small_network
from tiny_training import EPOCHS, SPEC, make_training, pixels, resumed, rows, seeded_network

from msclnet.embedding import embed_images
from msclnet.images.batches import PairBatch, step_loader
from msclnet.losses.objective import Objective
from msclnet.models.build import build_network
from msclnet.models.non_local import NonLocalBlock
from msclnet.training.cuda_graph import WARM_UP, GraphedStep
from msclnet.training.optimizer import build_optimizer, set_rate
from msclnet.training.step import Step

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")

GPU, CPU = torch.device("cuda"), torch.device("cpu")
OPTIMIZER = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "pretrained_factor": 0.1}
# Each way through network and losses that a parameter opens.
CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "divergence": {"loss__divergence__on": True},
    "divergence-affine": {"loss__divergence__on": True, "loss__divergence__reach": "affine"},
    "label": {"synergy__target": "label"},
    "joint": {"synergy__inputs": "joint", "loss__routing": "joint"},
    "interleaved": {"synergy__reading": "interleaved"},
    "two-chains": {"synergy__reading": "two_chains"},
    "no-residual": {"synergy__residual": "none"},
    "mutual": {
        "synergy__teacher": "mutual",
        "on": ("identity", "triplet", "target", "sub", "intra", "inter"),
    },
    "logits-mean": {"synergy__teacher": "logits_mean", "on": ("identity", "triplet", "target")},
    "parts-mean": {"synergy__teacher": "parts_mean"},
    "clean-triplet": {"loss__triplet__form": "clean"},
    "printed": {"loss__local__form": "printed", "loss__inter__form": "negative"},
    "synergistic-cascade": {"loss__cascade__synergistic": True},
    "separate-trunks": {"model__trunk": "separate"},
    "non-local": {"model__non_local_inner": 1},
}


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """Without TF32, so that a GPU can be compared with the CPU."""
    former = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = former


def batch_of(seed: int) -> PairBatch:
    visible, infrared, labels = pair_batch(seed)
    return PairBatch(
        visible, infrared, labels.identities, labels.cameras_visible, labels.cameras_infrared
    ).pin_memory()


def step_of(change: str, *, device: torch.device = GPU, precision: str = "fp32") -> Step:
    values = settings(**CHANGES[change])
    network = small_network(values).to(device)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = build_optimizer(network, OPTIMIZER, pretrained=None)
    set_rate(optimizer, 0.01)
    return Step(
        network,
        Objective(values["loss"], values["synergy"]),
        optimizer,
        precision=precision,
        device=device,
    )


@pytest.mark.parametrize("change", CHANGES)
def test_a_step_is_the_cpus(change: str) -> None:
    here, there = step_of(change, device=CPU), step_of(change)
    for seed in range(2):
        expected, found = here(batch_of(seed)), there(batch_of(seed))
        for name, value in expected.items():
            assert found[name].item() == pytest.approx(value.item(), rel=2e-3, abs=1e-5), (seed, name)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_recorded_step_is_the_unrecorded_one(change: str, precision: str) -> None:
    plain = step_of(change, precision=precision)
    recorded = GraphedStep(step_of(change, precision=precision))
    for seed in range(WARM_UP + 4):
        for step in (plain, recorded.step):
            set_rate(step.optimizer, 0.01 / (1 + seed))
        expected, found = plain(batch_of(seed)), recorded(batch_of(seed))
        for name, value in expected.items():
            assert found[name].item() == pytest.approx(value.item(), rel=5e-3, abs=1e-5), (seed, name)
    assert recorded._graph is not None
    start, here, there = (
        torch.cat([parameter.detach().flatten() for parameter in step.network.parameters()])
        for step in (step_of(change), plain, recorded.step)
    )
    recorded.forget()
    # A GPU adds up in no fixed order: what counts is how far both are apart beside the way that they went.
    assert (there - here).norm() < 0.05 * (here - start).norm()


@pytest.mark.parametrize("change", CHANGES)
def test_a_step_never_waits_for_the_gpu(change: str) -> None:
    step = step_of(change)
    step(batch_of(0))
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(batch_of(1))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_padding_for_the_tensor_cores_changes_nothing() -> None:
    torch.manual_seed(0)
    block = NonLocalBlock(16, 1).train()
    torch.nn.init.normal_(block.norm.weight)
    maps = torch.randn(4, 16, 6, 3, requires_grad=True)
    there = copy.deepcopy(block).to(GPU)
    maps_there = maps.detach().to(GPU).requires_grad_()
    expected, found = block(maps), there(maps_there)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)
    weights = torch.randn(expected.shape)
    (expected * weights).sum().backward()
    (found * weights.to(GPU)).sum().backward()
    assert maps.grad is not None
    assert maps_there.grad is not None
    torch.testing.assert_close(maps_there.grad.cpu(), maps.grad, rtol=1e-3, atol=1e-4)
    gradients = [one.grad for one in block.parameters() if one.grad is not None]
    found_gradients = [other.grad.cpu() for other in there.parameters() if other.grad is not None]
    # The batch norm behind it leaves nothing but noise of the last bias's gradient: measured by the largest of all.
    largest = max(gradient.abs().max().item() for gradient in gradients)
    for one, other in zip(gradients, found_gradients, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3 * largest)


def on_gpu(folder: Path, **changes: Any) -> Any:
    return make_training(folder, network=seeded_network().to(GPU), **changes)


@pytest.mark.parametrize("graphs", [True, False])
def test_a_stopped_training_goes_on(tmp_path: Path, graphs: bool) -> None:
    whole = on_gpu(tmp_path / "whole", graphs=graphs)
    expected = whole.run()

    class StoppedError(Exception):
        pass

    def stop() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        on_gpu(tmp_path / "parts", report=tiny_training.at(2, stop), graphs=graphs).run()
    second = resumed(tmp_path / "parts", device=GPU, graphs=graphs)
    found = second.run()
    assert len(second.progress.history) == EPOCHS
    assert second.progress.history[-1]["total"] == pytest.approx(
        whole.progress.history[-1]["total"], rel=0.02
    )
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0.05, atol=2e-3, msg=name)


def test_what_a_gpu_trained_a_cpu_reads(tmp_path: Path) -> None:
    weights = on_gpu(tmp_path).run()
    assert {value.device.type for value in weights.values()} == {"cpu"}
    network = build_network(SPEC)
    network.load_state_dict(weights)
    here = embed_images(network.eval(), pixels()[:6], rows().infrared[:6], batch=6)
    there = embed_images(network.to(GPU), pixels()[:6], rows().infrared[:6], batch=6, device=GPU)
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)


def test_batches_arrive_in_page_locked_memory() -> None:
    dataset = tiny_training.load(0, 4).dataset
    for workers in (0, 1):
        for batch in step_loader(dataset, first=0, last=2, workers=workers, pinned=True):
            assert all(tensor.is_pinned() for tensor in vars(batch).values())

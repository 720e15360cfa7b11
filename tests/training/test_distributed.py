"""Several processes against one with the whole batch: the same losses, the same gradients, the same training."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import tiny_training
import torch
from tiny_training import (
    ROOT,
    SPEC,
    FolderRecorder,
    at,
    equal_weights,
    make_training,
    pixels,
    rows,
    without_timings,
)
from together import CPU, together
from torch import Tensor, nn

from msclnet.distributed import (
    ALONE,
    Processes,
    add_gradients,
    average_statistics,
    gather_batch,
    join_norms,
    synchronise_batch_norm,
)
from msclnet.errors import UserError
from msclnet.features import PairLabels
from msclnet.images.augmentation import build_augmentation
from msclnet.images.batches import PairBatch, TrainingBatches, step_loader
from msclnet.images.sampler import IdentitySampler
from msclnet.losses.objective import Objective
from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet
from msclnet.training.loop import Recorder
from msclnet.training.step import gradient_sizes
from pipelines.stages.presets import preset_params

EVERYTHING = {
    "divergence": {"on": True, "weight": 0.5, "form": "js", "temperature": 1.0, "reach": "affine"},
    "cascade": {"feature": "pooled", "normalised": True, "synergistic": True, "subclass": "camera"},
    "routing": "joint",
}


def sections(case: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sections `loss` and `synergy`: a preset's, or one with all terms on."""
    params = preset_params("smoke" if case == "everything" else case, ROOT)
    loss, synergy = params.section("loss"), params.section("synergy")
    if case == "everything":
        loss |= EVERYTHING
        synergy["inputs"] = "joint"
    return loss, synergy


def batches(processes: Processes) -> TrainingBatches:
    sampler = IdentitySampler(
        rows(), identities=4, images=2, seed=3, rank=processes.rank, world=processes.world
    )
    shape = pixels().shape
    augment = tiny_training.PARAMS.section("augment")
    return TrainingBatches(
        pixels(), rows(), sampler, build_augmentation(augment, height=shape[1], width=shape[2])
    )


def load(processes: Processes) -> Callable[[int, int], Any]:
    return lambda first, last: step_loader(
        batches(processes), first=first, last=last, workers=0, pinned=False
    )


def network_of(synergy: Mapping[str, Any]) -> MSCLNet:
    """In eval mode, with running statistics that some batches have left."""
    torch.manual_seed(1)
    network = build_network(SPEC | {"synergy": synergy})
    with torch.no_grad():
        for batch in load(ALONE)(5, 8):
            network(batch.visible, batch.infrared)
        for parameter in network.parameters():  # P of the residual starts at 0, which hides the LSTM
            parameter += 0.02 * torch.randn_like(parameter)
    return network.eval()


def in_double(network: MSCLNet) -> MSCLNet:
    """The network in double precision from the pixels on: what then differs, differs by mistake and not by rounding.

    In single precision the triplet loss of an untrained network, whose features lie close together, already moves
    gradients by 6e-5 when the convolutions see other batch sizes.
    """
    network.double()
    network.pixels.float()

    def maps(visible: Tensor, infrared: Tensor) -> Tensor:
        return network.backbone(*(network.pixels(images).double() for images in (visible, infrared)))

    network.maps = maps
    return network


def labels_of(batch: PairBatch) -> PairLabels:
    return PairLabels(batch.labels, batch.cameras_visible, batch.cameras_infrared)


def gradients(network: nn.Module) -> dict[str, Tensor | None]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()}


def one_step(case: str, processes: Processes) -> dict[str, Any]:
    """Losses, gradients and their sizes at the maps, by this process's share of a batch."""
    loss, synergy = sections(case)
    network, objective = in_double(network_of(synergy)), Objective(loss, synergy)
    batch = batches(processes)[0]
    own = network(batch.visible, batch.infrared)
    features, labels = gather_batch(own, labels_of(batch), processes)
    terms = objective(features, labels)
    sizes = join_norms(gradient_sizes(terms.values, objective.weights, features.maps), processes)
    terms.total.backward()
    add_gradients(network, processes)
    values = {name: value.item() for name, value in terms.values.items()}
    return {"values": values, "gradients": gradients(network), "sizes": sizes}


def whole_batch(case: str) -> dict[str, Any]:
    """The same in one process, by nothing but the network and the objective."""
    loss, synergy = sections(case)
    network, objective = in_double(network_of(synergy)), Objective(loss, synergy)
    batch = batches(ALONE)[0]
    features = network(batch.visible, batch.infrared)
    terms = objective(features, labels_of(batch))
    sizes = gradient_sizes(terms.values, objective.weights, features.maps)
    terms.total.backward()
    values = {name: value.item() for name, value in terms.values.items()}
    return {"values": values, "gradients": gradients(network), "sizes": sizes}


@pytest.mark.parametrize(
    ("case", "world"),
    [
        ("smoke", 2),
        ("smoke", 4),  # one identity each: no triplet and no pair of centres within a process
        ("everything", 2),
        ("paper-printed", 2),
        ("baseline", 2),
        ("sysu-mm01", 2),
    ],
)
def test_losses_and_gradients_are_those_of_the_whole_batch(tmp_path: Path, case: str, world: int) -> None:
    expected = whole_batch(case)
    assert len(expected["values"]) >= 2
    ranks = together(world, tmp_path, lambda processes: one_step(case, processes))
    for found in ranks:
        assert found["values"] == pytest.approx(expected["values"], rel=1e-9)
        assert found["sizes"] == pytest.approx(expected["sizes"], rel=1e-9)
        for name, gradient in expected["gradients"].items():
            ours = found["gradients"][name]
            if gradient is None:  # and weight decay leaves the parameter alone
                assert ours is None, name
            else:
                assert gradient.dtype == torch.float64
                torch.testing.assert_close(ours, gradient, rtol=1e-9, atol=1e-11, msg=name)
                assert torch.equal(ours, ranks[0]["gradients"][name]), "all processes get the same bits"


def test_alone_nothing_is_touched() -> None:
    network = network_of(sections("smoke")[1])
    batch = batches(ALONE)[0]
    features, labels = network(batch.visible, batch.infrared), labels_of(batch)
    assert gather_batch(features, labels, ALONE) == (features, labels)
    before = copy.deepcopy(network.state_dict())
    average_statistics(network, ALONE)
    assert equal_weights(network.state_dict(), before)


def freeze_batch_norm(network: nn.Module) -> nn.Module:
    """Batch norms stay in eval mode whatever the loop says."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module  # pyright: ignore[reportAttributeAccessIssue]
    return network


def train(processes: Processes, folder: Path, *, frozen: bool, **changes: Any) -> dict[str, Any]:
    """A whole training; processes other than the first are given nothing to write to and must not report.

    With frozen batch norm it runs in double precision.
    """
    network = network_of(sections("smoke")[1]).train()
    reported: list[int] = []
    training = make_training(
        folder,
        network=freeze_batch_norm(in_double(network)) if frozen else network,
        loader=load(processes),
        processes=processes,
        **{"report": lambda row, epoch: reported.append(epoch)} | changes,
    )
    state = None
    if processes.first:
        assert isinstance(training.recorder, FolderRecorder)
        state = training.recorder.checkpoints.load_latest()
    else:
        training.recorder = Recorder()
    resumed = processes.state_from_first(state)
    if resumed is not None:
        training.resume(resumed)
    weights = training.run()
    return {
        "weights": weights,
        "momentum": [s["momentum_buffer"] for s in training.optimizer.state_dict()["state"].values()],
        "history": without_timings(training.progress.history),
        "reported": reported,
    }


def test_a_training_of_two_processes_is_that_of_one(tmp_path: Path) -> None:
    """Batch norm apart: augmentation, epochs, schedule, weight decay, validation and history are the same."""
    expected = train(ALONE, tmp_path / "one", frozen=True)
    first, second = together(2, tmp_path, lambda p: train(p, tmp_path / f"two{p.rank}", frozen=True))
    assert first["reported"] == expected["reported"] == [1, 2, 3, 4]
    assert second["reported"] == []
    assert list((tmp_path / "two1").glob("*")) == []
    for name, weight in expected["weights"].items():
        torch.testing.assert_close(first["weights"][name], weight, rtol=1e-8, atol=1e-10, msg=name)
    assert equal_weights(first["weights"], second["weights"])
    for ours, theirs in zip(first["history"], expected["history"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)  # validation's features are of single precision


class StoppedError(Exception):
    """Stands for whatever ends both processes."""


def stop() -> None:
    raise StoppedError


def test_resumed_from_the_first_processs_checkpoint(tmp_path: Path) -> None:
    """Bit for bit, batch norm in training mode; the second process starts from other weights and has no files."""

    def until(processes: Processes) -> None:
        # Stops the second process as well, which reports nothing.
        changes: dict[str, Any] = {"epochs": 2} if processes.rank else {"report": at(2, stop)}
        try:
            train(processes, tmp_path / f"stopped{processes.rank}", frozen=False, **changes)
        except StoppedError:
            return
        assert processes.rank

    whole = together(2, tmp_path / "a", lambda p: train(p, tmp_path / f"whole{p.rank}", frozen=False))
    together(2, tmp_path / "b", until)
    resumed = together(2, tmp_path / "c", lambda p: train(p, tmp_path / f"stopped{p.rank}", frozen=False))
    assert resumed[0]["reported"] == [3, 4]
    assert resumed[0]["history"] == whole[0]["history"]
    for ours, theirs in zip(resumed, whole, strict=True):
        assert equal_weights(ours["weights"], theirs["weights"])
        assert all(torch.equal(a, b) for a, b in zip(ours["momentum"], theirs["momentum"], strict=True))
    assert equal_weights(whole[0]["weights"], whole[1]["weights"]), (
        "statistics are shared before they are kept"
    )


def test_all_start_from_the_first_processs_weights(tmp_path: Path) -> None:
    def start(processes: Processes) -> dict[str, Tensor]:
        torch.manual_seed(processes.rank)
        network = build_network(SPEC).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return make_training(tmp_path, network=network, epochs=0, processes=processes).run()

    first, second = together(2, tmp_path / "met", start)
    torch.manual_seed(0)
    assert equal_weights(first, build_network(SPEC).state_dict())
    assert equal_weights(first, second)


def test_statistics_are_averaged(tmp_path: Path) -> None:
    def statistics(processes: Processes) -> dict[str, Tensor]:
        network = nn.Sequential(nn.BatchNorm2d(3), nn.Linear(2, 2), nn.BatchNorm1d(2))
        for value in network.state_dict().values():
            value.fill_(float(processes.rank))
        average_statistics(network, processes)
        return network.state_dict()

    for rank, found in enumerate(together(4, tmp_path, statistics)):
        for name, value in found.items():
            expected = 1.5 if "running" in name else rank
            assert (value == expected).all(), name


def test_torch_synchronises_batch_norm_on_gpus_only() -> None:
    with pytest.raises(UserError, match=r"train\.sync_batch_norm is true.*GPUs only"):
        synchronise_batch_norm(nn.BatchNorm1d(3), device=CPU)


def test_synchronised_batch_norm_keeps_everything_else() -> None:
    """Converted only: it cannot run here."""
    network = network_of(sections("smoke")[1])
    before = copy.deepcopy(network.state_dict())
    wanted = [name for name, p in network.named_parameters() if p.requires_grad]
    synchronise_batch_norm(network, device=torch.device("cuda"))
    kinds = [type(m) for m in network.modules()]
    assert nn.BatchNorm1d not in kinds
    assert nn.BatchNorm2d not in kinds
    assert nn.SyncBatchNorm in kinds
    assert network.backbone.shared
    assert equal_weights(network.state_dict(), before)
    assert [name for name, p in network.named_parameters() if p.requires_grad] == wanted

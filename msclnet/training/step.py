"""One step of the training: forward, losses, backward, update."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from msclnet.distributed import ALONE, Processes, add_gradients, gather_batch, join_norms
from msclnet.errors import UserError
from msclnet.features import PairLabels
from msclnet.losses.objective import Objective


def gradient_sizes(
    values: Mapping[str, Tensor], weights: Mapping[str, float], maps: Tensor
) -> dict[str, float]:
    """Norm of each weighted term's gradient with respect to the extractors' maps; 0 where none reaches them."""
    sizes = {}
    for name, value in values.items():
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, maps, retain_graph=True, allow_unused=True)
        sizes[f"gradient_{name}"] = 0.0 if gradient is None else weights[name] * gradient.norm().item()
    return sizes


def compile_backbone(network: nn.Module) -> None:
    """Let torch.compile fuse the operations between the backbone's convolutions, in place, at the first step.

    The weights keep their names. Heads and losses are not compiled: they are small, and each of their branches would
    be compiled by itself. UserError without a C++ compiler.
    """
    require_compiler()
    backbone: Any = network.backbone
    backbone.compile()


def require_compiler() -> None:
    """Raise a UserError if there is no C++ compiler for torch.compile."""
    compiler = os.environ.get("CXX") or "g++"
    if shutil.which(compiler) is None:
        raise UserError(
            f"train.compile is true, but there is no C++ compiler {compiler!r}: install one (Debian's package g++), "
            "name another one in the variable CXX, or set train.compile to false"
        )


def not_compiled(validate: Callable[[Any], Mapping[str, float]]) -> Callable[[Any], Mapping[str, float]]:
    """`validate` without compilation, which would take minutes for each of validation's batch sizes."""

    def run(network: Any) -> Mapping[str, float]:
        with torch.compiler.set_stance("force_eager"):
            return validate(network)

    return run


class Batch(Protocol):
    """What a step reads of msclnet.images.batches.PairBatch."""

    @property
    def visible(self) -> Tensor: ...

    @property
    def infrared(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...

    @property
    def cameras_visible(self) -> Tensor: ...

    @property
    def cameras_infrared(self) -> Tensor: ...


@dataclass(eq=False)
class Step:
    """Takes training steps; `precision` is `bf16` (convolutions only) or `fp32`."""

    network: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    _: KW_ONLY
    precision: str
    device: torch.device
    processes: Processes = ALONE

    def __call__(self, batch: Batch, *, figures: dict[str, float] | None = None) -> dict[str, Tensor]:
        """Take one step on N pairs, in the memory of any device.

        `figures`, if given, gets the size of each term's gradient and the share of sub-classes with one image; that
        costs a backward pass for each term.

        Returns:
            Each unweighted term as `loss_<term>`, their weighted sum `total`, and `feature_norm`, the mean norm of the
            pooled features: 0-d tensors on the device, without synchronisation.
        """
        return self.take(*self.moved(batch), distinct=distinct_in(batch), figures=figures)

    def moved(self, batch: Batch) -> tuple[Tensor, ...]:
        """The batch's tensors on the device, in the order of the arguments of `take`."""
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in tensors_of(batch))

    def take(
        self,
        visible: Tensor,
        infrared: Tensor,
        identities: Tensor,
        cameras_visible: Tensor,
        cameras_infrared: Tensor,
        *,
        distinct: int,
        figures: dict[str, float] | None = None,
    ) -> dict[str, Tensor]:
        """Take a step on tensors that are on the device. Without `figures` it never synchronises with a GPU."""
        labels = PairLabels(identities, cameras_visible, cameras_infrared, distinct=distinct)
        low = self.precision == "bf16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=low):
            features = self.network(visible, infrared, with_synergy=self.objective.needs_synergy)
        features, labels = gather_batch(features, labels, self.processes)
        terms = self.objective(features, labels)
        if figures is not None:
            sizes = gradient_sizes(terms.values, self.objective.weights, features.maps)
            figures |= join_norms(sizes, self.processes)
            figures["share_of_singletons"] = self.objective.share_of_singletons(labels)
        self.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        add_gradients(self.network, self.processes)
        self.optimizer.step()
        norms = torch.cat([features.visible.pooled, features.infrared.pooled]).detach().norm(dim=1)
        losses = {f"loss_{name}": value.detach() for name, value in terms.values.items()}
        return {**losses, "total": terms.total.detach(), "feature_norm": norms.mean()}


def tensors_of(batch: Batch) -> tuple[Tensor, ...]:
    """A batch's tensors, in the order of the arguments of `Step.take`."""
    return batch.visible, batch.infrared, batch.labels, batch.cameras_visible, batch.cameras_infrared


def distinct_in(batch: Batch) -> int:
    return len(torch.unique(batch.labels))

"""The training loop."""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from msclnet.features import PairLabels
from msclnet.losses.objective import Objective
from msclnet.processes import ALONE, Processes
from msclnet.progress import progress_bar
from msclnet.training.checkpoint import CheckpointFolder
from msclnet.training.distributed import (
    add_gradients,
    average_statistics,
    gather_batch,
    join_norms,
    same_start,
)
from msclnet.training.guard import check_losses, check_norm
from msclnet.training.optimizer import set_rate
from msclnet.training.schedule import Schedule

CHECK_EVERY = 20  # steps between looks at the losses; each look waits for the device


class Batch(Protocol):
    """What the loop reads of a batch; see msclnet.data.batches.PairBatch."""

    visible: Tensor
    infrared: Tensor
    labels: Tensor
    cameras_visible: Tensor
    cameras_infrared: Tensor


@dataclass(frozen=True)
class Settings:
    """How long and how.

    Attributes:
        epochs: Length of the run.
        steps_per_epoch: Steps of an epoch.
        precision: `bf16` (convolutions only; heads and losses stay fp32) or `fp32`.
        validate_every: Epochs between validations; the last epoch is always validated.
        gradients_every: Epochs between measurements of each term's gradient; 0 for none.
        norm_limit: Largest mean norm of the pooled feature.
        keep: `last` or `best` (by the validation score).
    """

    epochs: int
    steps_per_epoch: int
    precision: str
    validate_every: int
    gradients_every: int
    norm_limit: float
    keep: str


@dataclass
class Progress:
    """Everything that a resumed run needs besides the network and the optimizer.

    Batches need no state: they depend on the seed and the step alone.
    """

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_score: float = float("-inf")
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)


class Training:
    """One run, from its start or from where a former process left it.

    Args:
        network: On its device; see msclnet.models.network.MSCLNet.
        objective: From features to losses.
        optimizer: Its groups carry `factor`.
        schedule: Learning rate by step.
        settings: How long and how.
        device: Where the network is.
        loader: Called with (first step, last step + 1) once, gives the batches in order: this process's share of them.
        validate: From the network to figures with `score` among them, higher is better; empty where nobody is held
            out, and then `keep` must be `last`. Of several processes only the first one's figures count.
        report: Called with each epoch's figures, in the first process.
        checkpoints: Where the first process's state goes after each epoch; None in the others.
        extra: Plain values that travel in the checkpoint, such as the tracking run's id.
        processes: Those that train together; see msclnet.training.distributed.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        settings: Settings,
        device: torch.device,
        loader: Callable[[int, int], Iterable[Batch]],
        validate: Callable[[nn.Module], Mapping[str, float]],
        report: Callable[[Mapping[str, float], int], None],
        checkpoints: CheckpointFolder | None,
        extra: Mapping[str, Any] | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.network = network
        self.objective = objective
        self.optimizer = optimizer
        self.schedule = schedule
        self.settings = settings
        self.device = device
        self.loader = loader
        self.validate = validate
        self.report = report
        self.checkpoints = checkpoints
        self.extra = dict(extra or {})
        self.processes = processes
        self.progress = Progress()

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])

    def state(self) -> dict[str, Any]:
        """Every resumable value."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": vars(self.progress),
            "extra": self.extra,
        }

    def run(self) -> dict[str, Tensor]:
        """Train to the last epoch.

        Returns:
            The weights to keep: the last epoch's, or the best ones on the validation identities. They are to be taken
            from the first process.

        Raises:
            DivergedError: A loss is not finite, or the feature's norm runs away.
            UserError: A checkpoint could not be written.
        """
        settings, progress = self.settings, self.progress
        first, last = progress.epoch * settings.steps_per_epoch, settings.epochs * settings.steps_per_epoch
        same_start(self.network, self.processes)
        batches = iter(self.loader(first, last)) if first < last else iter(())
        hidden = not self.processes.first
        with progress_bar(total=last, initial=first, desc="train", unit="step", disable=hidden) as bar:
            while progress.epoch < settings.epochs:
                epoch = progress.epoch + 1
                row: dict[str, float] = {"epoch": epoch}
                row |= self._train_epoch(batches, epoch=epoch, bar=bar)
                average_statistics(self.network, self.processes)
                if epoch % settings.validate_every == 0 or epoch == settings.epochs:
                    figures = self.validate(self.network)
                    row |= {f"val_{name}": value for name, value in figures.items()}
                    if figures:
                        self._keep_if_best(figures["score"], epoch)
                progress.epoch = epoch
                progress.history.append(row)
                if self.checkpoints is not None:
                    self.checkpoints.save(self.state(), epoch=epoch)
                    self.report(row, epoch)
        if settings.keep == "best":
            return progress.best_weights
        return weights_of(self.network)

    def _train_epoch(self, batches: Any, *, epoch: int, bar: Any) -> dict[str, float]:
        self.network.train()
        steps = self.settings.steps_per_epoch
        sums: dict[str, Tensor] = {}
        figures: dict[str, float] = {}
        images, waited, started = 0, 0.0, time.perf_counter()
        for step in range(1, steps + 1):
            before = time.perf_counter()
            batch = next(batches)
            waited += time.perf_counter() - before
            number = (epoch - 1) * steps + step - 1
            set_rate(self.optimizer, self.schedule.rate(number))
            measured = self._step(
                batch, measure_gradients=step == steps and self._measures(epoch), into=figures
            )
            images += 2 * len(batch.labels) * self.processes.world
            for name, value in measured.items():
                sums[name] = sums[name] + value if name in sums else value
            if step % CHECK_EVERY == 0 or step == steps:
                values = {name: value.item() for name, value in measured.items()}
                check_losses(values, epoch=epoch, step=step)
                check_norm(values["feature_norm"], limit=self.settings.norm_limit, epoch=epoch, step=step)
                seconds = time.perf_counter() - started
                bar.set_postfix(
                    epoch=epoch, loss=f"{values['total']:.3f}", images_s=f"{images / seconds:.0f}"
                )
            bar.update()
        seconds = time.perf_counter() - started
        figures |= {name: value.item() / steps for name, value in sums.items()}
        check_losses(figures, epoch=epoch, step=steps)
        figures["learning_rate"] = self.schedule.rate(epoch * steps - 1)
        figures["images_per_second"] = images / seconds
        figures["share_waiting_for_input"] = waited / seconds
        return figures

    def _measures(self, epoch: int) -> bool:
        every = self.settings.gradients_every
        return bool(every) and (epoch % every == 0 or epoch == 1)

    def _step(self, batch: Batch, *, measure_gradients: bool, into: dict[str, float]) -> dict[str, Tensor]:
        visible = batch.visible.to(self.device, non_blocking=True)
        infrared = batch.infrared.to(self.device, non_blocking=True)
        labels = PairLabels(
            identities=batch.labels.to(self.device),
            cameras_visible=batch.cameras_visible.to(self.device),
            cameras_infrared=batch.cameras_infrared.to(self.device),
        )
        with precision_context(self.settings.precision, self.device):
            features = self.network(visible, infrared, with_synergy=self.objective.needs_synergy)
        features, labels = gather_batch(features, labels, self.processes)
        terms = self.objective(features, labels)
        if measure_gradients:
            sizes = gradient_sizes(terms.values, self.objective.weights, features.maps)
            into |= join_norms(sizes, self.processes)
            into["share_of_singletons"] = self.objective.share_of_singletons(labels)
        self.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        add_gradients(self.network, self.processes)
        self.optimizer.step()
        norms = torch.cat([features.visible.pooled, features.infrared.pooled]).detach().norm(dim=1)
        losses = {f"loss_{name}": value.detach() for name, value in terms.values.items()}
        return {**losses, "total": terms.total.detach(), "feature_norm": norms.mean()}

    def _keep_if_best(self, score: float, epoch: int) -> None:
        if score > self.progress.best_score or not self.progress.best_epoch:
            self.progress.best_score, self.progress.best_epoch = score, epoch
            if self.settings.keep == "best":
                self.progress.best_weights = weights_of(self.network)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights on the CPU."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}


def precision_context(precision: str, device: torch.device) -> Any:
    """Autocast to bfloat16, or nothing."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()


def gradient_sizes(
    values: Mapping[str, Tensor], weights: Mapping[str, float], maps: Tensor
) -> dict[str, float]:
    """Norm of each weighted term's gradient with respect to the extractors' maps.

    Terms that do not reach the extractors (eq. 14 to 16) have size 0.
    """
    sizes = {}
    for name, value in values.items():
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value, maps, retain_graph=True, allow_unused=True)
        sizes[f"gradient_{name}"] = 0.0 if gradient is None else weights[name] * gradient.norm().item()
    return sizes

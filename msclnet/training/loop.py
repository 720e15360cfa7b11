"""The training loop: epochs, validation and checkpoints."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from msclnet.distributed import ALONE, Processes, average_statistics, copy_weights_from_first
from msclnet.errors import UserError
from msclnet.losses.objective import Objective
from msclnet.progress import progress_bar
from msclnet.training.cuda_graph import GraphedStep, fastest_step
from msclnet.training.epoch import (
    DivergedError,
    Part,
    check_losses,
    check_norm,
    gpu_memory,
    remedy_for,
    time_left,
)
from msclnet.training.optimizer import Schedule, moving_average, set_rate
from msclnet.training.step import Batch, Step
from msclnet.training.stopping import Stopping

CHECK_EVERY = 20  # steps between checks of the losses; each check synchronises the device
KEPT_STEPS = 200  # last steps that a DivergedError carries

logger = logging.getLogger("msclnet.training")


@dataclass
class Progress:
    """Everything that a resumed run needs in addition to the network, the optimizer and the average.

    Batches need no state: they depend on the seed and the step alone.
    """

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_score: float = float("-inf")
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    part: Part = field(default_factory=Part)


class TrainSection(Protocol):
    """What the loop reads of the section `train` of params.yaml."""

    @property
    def epochs(self) -> int: ...

    @property
    def precision(self) -> str: ...

    @property
    def validate_every(self) -> int: ...

    @property
    def gradients_every(self) -> int: ...

    @property
    def norm_limit(self) -> float: ...

    @property
    def weight_average(self) -> float: ...

    @property
    def keep(self) -> Literal["last", "best"]: ...


class Recorder:
    """Receives what a training produces. This one keeps nothing: ranks 1 to N - 1 write no files and log nothing."""

    def save(self, state: Mapping[str, Any], *, epoch: int, step: int = 0) -> None:
        """Save the state after `epoch` whole epochs and `step` further steps; UserError where that fails."""

    def report(self, history: Sequence[Mapping[str, float]]) -> None:
        """Report the epochs so far; the last one has just ended, and its state is saved."""


@dataclass(eq=False)
class Training:
    """One run, from its start or from where a former process left it.

    Args:
        section: Section `train` of params.yaml.
        network: On its device; see msclnet.models.network.MSCLNet.
        objective: From features to losses.
        optimizer: Its groups carry `factor`.
        schedule: Learning rate by step, and the steps of an epoch.
        loader: Called with (first step, last step + 1) once, gives the batches in order: this process's share of them.
        validate: From the network to figures with `score` among them, higher is better; empty without validation
            identities, and then `keep` must be `last`. Only rank 0's figures count.
        recorder: Gets the state and the figures of each epoch.
        processes: Those that train together; see msclnet.distributed.
        graphs: Whether a GPU's step is recorded as a CUDA graph.

    Attributes:
        progress: What is done so far.
        after_step: Called after each step; may be set before `run`.
    """

    section: TrainSection
    network: nn.Module
    objective: Objective
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    _: KW_ONLY
    loader: Callable[[int, int], Iterable[Batch]]
    validate: Callable[[nn.Module], Mapping[str, float]]
    recorder: Recorder
    processes: Processes = ALONE
    graphs: bool = True

    def __post_init__(self) -> None:
        self.device = next(self.network.parameters()).device
        self.progress = Progress()
        self.after_step: Callable[[], None] = lambda: None
        self._remedy = remedy_for(self.section.precision, self.objective.unstable)
        decay = self.section.weight_average
        self._average = moving_average(self.network, decay) if decay else None
        self._stopping = Stopping(defer=self.processes.world == 1)
        self._batches: Iterator[Batch] = iter(())
        self._last_steps: deque[Mapping[str, Tensor]] = deque(maxlen=KEPT_STEPS)

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self.progress = Progress(**{**state["progress"], "part": Part(**state["progress"]["part"])})

    def state(self) -> dict[str, Any]:
        """Every value that `resume` needs."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": {} if self._average is None else self._average.state_dict(),
            "progress": {**vars(self.progress), "part": vars(self.progress.part)},
        }

    @property
    def tested(self) -> nn.Module:
        """The network that is validated and kept: the average, where there is one."""
        return self.network if self._average is None else self._average.module

    @property
    def steps_done(self) -> int:
        """Since the start of the training, those of former processes included."""
        return self.progress.epoch * self.schedule.steps_per_epoch + self.progress.part.steps

    def run(self) -> dict[str, Tensor]:
        """Train to the last epoch.

        SIGTERM and Ctrl-C take effect between two steps; the state is saved before they end the training. Several
        processes are resumed from the last whole epoch.

        Returns:
            The weights to keep, from rank 0: the last epoch's, or the best ones on the validation identities.

        Raises:
            DivergedError: A loss is not finite, or the feature's norm leaves its range.
            UserError: A checkpoint could not be written.
        """
        networks = [self.network] if self._average is None else [self.network, self._average.module]
        for network in networks:
            copy_weights_from_first(network, self.processes)
        first, last = self.steps_done, self.section.epochs * self.schedule.steps_per_epoch
        started, hidden = time.perf_counter(), self.processes.rank > 0
        how = {"precision": self.section.precision, "device": self.device, "processes": self.processes}
        step = fastest_step(Step(self.network, self.objective, self.optimizer, **how), graphs=self.graphs)
        try:
            with (
                self._stopping,
                progress_bar(total=last, initial=first, desc="train", unit="step", disable=hidden) as bar,
            ):
                if first < last:
                    self._batches = iter(self.loader(first, last))
                while self.progress.epoch < self.section.epochs:
                    row = self._train_epoch(step, bar)
                    for network in networks:
                        average_statistics(network, self.processes)
                    epoch = self.progress.epoch + 1
                    validates = epoch % self.section.validate_every == 0 or epoch == self.section.epochs
                    figures = self.validate(self.tested) if validates else {}
                    row |= {f"val_{name}": value for name, value in figures.items()}
                    done, seconds = self.steps_done, time.perf_counter() - started
                    row |= time_left(seconds, done=done - first, left=last - done)
                    with self._stopping.deferred():
                        self._end_epoch(row, figures)
        except (SystemExit, KeyboardInterrupt):
            self._save_part()
            raise
        except DivergedError as error:
            error.steps = self._steps_before_divergence()
            raise
        finally:
            self._batches = iter(())  # ends the loader's processes, in order
            if isinstance(step, GraphedStep):
                step.forget()
        return self.progress.best_weights if self.section.keep == "best" else weights_of(self.tested)

    def _train_epoch(self, take: Step | GraphedStep, bar: Any) -> dict[str, float]:
        epoch, steps, part = self.progress.epoch + 1, self.schedule.steps_per_epoch, self.progress.part
        every = self.section.gradients_every
        self.network.train()
        before = time.perf_counter()
        while part.steps < steps:
            batch = next(self._batches)
            fetched = time.perf_counter()
            with self._stopping.deferred():
                step = part.steps + 1
                set_rate(self.optimizer, self.schedule.rate(self.steps_done))
                measures = step == steps and every > 0 and (epoch % every == 0 or epoch == 1)
                measured = take(batch, figures=part.figures if measures else None)
                if self._average is not None:
                    self._average.update_parameters(self.network)
                # These stay on the device: reading them would wait for it.
                self._last_steps.append({name: measured[name] for name in ("total", "feature_norm")})
                check = step % CHECK_EVERY == 0 or step == steps
                values = {name: value.item() for name, value in measured.items()} if check else {}
                now = time.perf_counter()
                images = 2 * len(batch.labels) * self.processes.world
                part.add(measured, images=images, seconds=now - before, waited=fetched - before)
                before = now
                if check:
                    norm, limit = values["feature_norm"], self.section.norm_limit
                    check_losses(values, epoch=epoch, step=step, remedy=self._remedy)
                    check_norm(norm, limit=limit, epoch=epoch, step=step, remedy=self._remedy)
            if check:
                self._show(bar, epoch=epoch, loss=values["total"])
            bar.update()
            self.after_step()
        figures = {**part.figures, **part.means()}
        check_losses(figures, epoch=epoch, step=steps, remedy=self._remedy)
        figures["learning_rate"] = self.schedule.rate(epoch * steps - 1)
        return {"epoch": epoch, **figures, **part.speed(), **gpu_memory(self.device)}

    def _steps_before_divergence(self) -> list[dict[str, float]]:
        first = self.steps_done - len(self._last_steps)
        return [
            {"step": first + i, **{name: value.item() for name, value in values.items()}}
            for i, values in enumerate(self._last_steps, start=1)
        ]

    def _end_epoch(self, row: dict[str, float], figures: Mapping[str, float]) -> None:
        progress = self.progress
        epoch = progress.epoch + 1
        if figures and (figures["score"] > progress.best_score or not progress.best_epoch):
            progress.best_score, progress.best_epoch = figures["score"], epoch
            if self.section.keep == "best":
                progress.best_weights = weights_of(self.tested)
        progress.epoch, progress.part = epoch, Part()
        progress.history.append(row)
        self.recorder.save(self.state(), epoch=epoch)
        self.recorder.report(progress.history)

    def _save_part(self) -> None:
        """Save the epoch up to its last step; without a step, the last checkpoint has it all.

        Several processes do not stop at the same step, and their batch norms' statistics are averaged at an epoch's
        end: they are resumed from the last whole epoch.
        """
        progress = self.progress
        if self.processes.world > 1 or not self._stopping.consistent or not progress.part.steps:
            return
        try:
            self.recorder.save(self.state(), epoch=progress.epoch, step=progress.part.steps)
        except UserError as error:  # the signal ends the process, not the disk
            logger.warning("%s", error)

    def _show(self, bar: Any, *, epoch: int, loss: float) -> None:
        speed = self.progress.part.speed()
        shown = {
            "epoch": epoch,
            "loss": f"{loss:.3f}",
            "images/s": f"{speed['images_per_second']:.0f}",
            "waiting": f"{speed['share_waiting_for_input']:.0%}",
        }
        if memory := gpu_memory(self.device):
            shown["GPU"] = f"{memory['gpu_memory_gib']:.1f} GiB"
        bar.set_postfix(shown)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights on the CPU."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}

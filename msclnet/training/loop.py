"""The training loop."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from msclnet.distributed import ALONE, Processes, average_statistics, same_start
from msclnet.errors import UserError
from msclnet.losses.objective import Objective
from msclnet.progress import progress_bar
from msclnet.training.checkpoint import CheckpointFolder
from msclnet.training.cuda_graph import GraphedStep, fastest_step
from msclnet.training.optimizer import Schedule, moving_average, set_rate
from msclnet.training.step import Batch, Step
from msclnet.training.stopping import Stopping

# Stops a training that has gone wrong, with a word on why.


class DivergedError(UserError):
    """The training left the range in which it can recover.

    Attributes:
        epoch, step: Where; both count from 1, and steps count within the epoch.
        steps: The last ones before its end: `step` since the start of the training, `total` and `feature_norm`.
    """

    steps: Sequence[Mapping[str, float]] = ()

    def __init__(self, reason: str, *, epoch: int, step: int) -> None:
        super().__init__(f"training stopped in epoch {epoch}, step {step}: {reason}")
        self.epoch = epoch
        self.step = step


def check_losses(values: Mapping[str, float], *, epoch: int, step: int) -> None:
    """Every term must be finite.

    Raises:
        DivergedError: Names the terms that are not.
    """
    wrong = {name: value for name, value in values.items() if not math.isfinite(value)}
    if wrong:
        terms = ", ".join(f"{name} = {value}" for name, value in wrong.items())
        raise DivergedError(
            f"{terms}. Lower train.optimizer.schedule's rate or the term's loss.<term>.weight, switch its printed form "
            "off, or set train.precision to fp32",
            epoch=epoch,
            step=step,
        )


def check_norm(norm: float, *, limit: float, epoch: int, step: int) -> None:
    """The mean norm of the pooled feature must stay within (0, limit].

    A runaway feature never becomes NaN under batch norm, so that a check for NaN alone misses it.

    Raises:
        DivergedError: It does not.
    """
    if not 0 < norm <= limit:
        raise DivergedError(
            f"the pooled feature's mean norm is {norm:.3g}, beyond train.norm_limit = {limit:g}. Lower "
            "train.optimizer.schedule's rate, or take bounded forms (loss.cascade.normalised: true, loss.inter.form: "
            "hinge) or smaller weights",
            epoch=epoch,
            step=step,
        )


# The last steps of a training, for the case that it diverges.

MOST = 200
SHOWN = ("total", "feature_norm")


class LastSteps:
    """Total loss and feature norm of up to `MOST` steps. They stay on the device: a look would wait for it."""

    def __init__(self) -> None:
        self._steps: deque[dict[str, Tensor]] = deque(maxlen=MOST)

    def add(self, measured: Mapping[str, Tensor]) -> None:
        """Keep what a step measured."""
        self._steps.append({name: measured[name] for name in SHOWN})

    def told(self, *, done: int) -> list[dict[str, float]]:
        """What was kept, with `step`: its number since the start of the training, of which `done` steps are done."""
        first = done - len(self._steps)
        return [
            {"step": first + i, **{name: value.item() for name, value in values.items()}}
            for i, values in enumerate(self._steps, start=1)
        ]


# What an epoch has gathered so far: sums of its losses, and how fast it goes.

GIB = 2**30


@dataclass
class Part:
    """An epoch up to one of its steps. Together with network and optimizer it is all that the epoch needs to go on.

    Attributes:
        steps: Steps done.
        sums: Sum over these steps of each figure, tensors without dimensions.
        figures: What was measured once in the epoch.
        images: Images seen.
        waited: Seconds spent waiting for batches.
        seconds: Seconds spent on these steps, waiting included.
    """

    steps: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    images: int = 0
    waited: float = 0.0
    seconds: float = 0.0

    def add(self, measured: Mapping[str, Tensor], *, images: int, seconds: float, waited: float) -> None:
        """Count one step: its figures, and how long it took and waited."""
        for name, value in measured.items():
            self.sums[name] = self.sums[name].to(value.device) + value if name in self.sums else value
        self.steps += 1
        self.images += images
        self.seconds += seconds
        self.waited += waited

    def means(self) -> dict[str, float]:
        """Mean over the steps of each figure."""
        return {name: value.item() / self.steps for name, value in self.sums.items()}

    def speed(self) -> dict[str, float]:
        """`images_per_second`, and `share_waiting_for_input` in [0, 1]."""
        seconds = max(self.seconds, 1e-9)
        return {
            "images_per_second": self.images / seconds,
            "share_waiting_for_input": self.waited / seconds,
        }


def gpu_memory(device: torch.device) -> dict[str, float]:
    """`gpu_memory_gib`: the most that tensors of this process took up so far; empty without a GPU."""
    if device.type != "cuda":
        return {}
    return {"gpu_memory_gib": torch.cuda.max_memory_allocated(device) / GIB}


def time_left(seconds: float, *, done: int, left: int) -> dict[str, float]:
    """`seconds_left`: time that the steps left take at the pace of those done; empty where none is done.

    Args:
        seconds: Time that the steps took, with all that goes with them: validations, checkpoints.
        done: Steps done in this time.
        left: Steps left.
    """
    return {"seconds_left": left * seconds / done} if done else {}


logger = logging.getLogger("msclnet.training")

CHECK_EVERY = 20  # steps between looks at the losses; each look waits for the device


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
        weight_average: Decay of the moving average of the weights that is validated and kept, see
            msclnet.training.optimizer. 0: the weights themselves are.
        keep: `last` or `best` (by the validation score).
    """

    epochs: int
    steps_per_epoch: int
    precision: str
    validate_every: int
    gradients_every: int
    norm_limit: float
    weight_average: float
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
    part: Part = field(default_factory=Part)


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
        processes: Those that train together; see msclnet.distributed.

    Attributes:
        after_step: Called after each step; may be set before `run`.
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
        self._average = moving_average(network, settings.weight_average) if settings.weight_average else None
        self.after_step: Callable[[], None] = lambda: None
        self._stopping = Stopping(waits=processes.world == 1)
        self._batches: Iterator[Batch] = iter(())
        self._last_steps = LastSteps()
        self._take: Step | GraphedStep | None = None

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self.progress = Progress(**{**state["progress"], "part": Part(**state["progress"]["part"])})

    def state(self) -> dict[str, Any]:
        """Every resumable value."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": {} if self._average is None else self._average.state_dict(),
            "progress": {**vars(self.progress), "part": vars(self.progress.part)},
            "extra": self.extra,
        }

    @property
    def tested(self) -> nn.Module:
        """The network that is validated and kept: the average, where there is one."""
        return self.network if self._average is None else self._average.module

    @property
    def _networks(self) -> tuple[nn.Module, ...]:
        return (self.network,) if self._average is None else (self.network, self._average.module)

    @property
    def steps_done(self) -> int:
        """Steps since the start of the training, those of former processes included."""
        return self.progress.epoch * self.settings.steps_per_epoch + self.progress.part.steps

    def run(self) -> dict[str, Tensor]:
        """Train to the last epoch.

        SIGTERM and Ctrl-C take effect between two steps; the state is saved before they end the training. Of several
        processes, all go on from the last whole epoch.

        Returns:
            The weights to keep: the last epoch's, or the best ones on the validation identities. They are to be taken
            from the first process.

        Raises:
            DivergedError: A loss is not finite, or the feature's norm runs away.
            UserError: A checkpoint could not be written.
        """
        try:
            with self._stopping:
                return self._run()
        except (SystemExit, KeyboardInterrupt):
            self._save_part()
            raise
        except DivergedError as error:
            error.steps = self._last_steps.told(done=self.steps_done)
            raise
        finally:
            self._batches = iter(())  # ends the loader's processes, in order
            if isinstance(self._take, GraphedStep):
                self._take.forget()

    def _run(self) -> dict[str, Tensor]:
        settings, progress = self.settings, self.progress
        first, last = self.steps_done, settings.epochs * settings.steps_per_epoch
        started, hidden = time.perf_counter(), not self.processes.first
        for network in self._networks:
            same_start(network, self.processes)
        self._take = fastest_step(
            Step(
                self.network,
                self.objective,
                self.optimizer,
                precision=settings.precision,
                device=self.device,
                processes=self.processes,
            )
        )
        if first < last:
            self._batches = iter(self.loader(first, last))
        with progress_bar(total=last, initial=first, desc="train", unit="step", disable=hidden) as bar:
            while progress.epoch < settings.epochs:
                epoch = progress.epoch + 1
                row: dict[str, float] = {"epoch": epoch}
                row |= self._train_epoch(epoch=epoch, bar=bar)
                for network in self._networks:
                    average_statistics(network, self.processes)
                figures: Mapping[str, float] = {}
                if epoch % settings.validate_every == 0 or epoch == settings.epochs:
                    figures = self.validate(self.tested)
                    row |= {f"val_{name}": value for name, value in figures.items()}
                done = self.steps_done
                row |= time_left(time.perf_counter() - started, done=done - first, left=last - done)
                with self._stopping.held_back():
                    self._end_epoch(row, figures)
        if settings.keep == "best":
            return progress.best_weights
        return weights_of(self.tested)

    def _end_epoch(self, row: dict[str, float], figures: Mapping[str, float]) -> None:
        progress = self.progress
        epoch = progress.epoch + 1
        if figures:
            self._keep_if_best(figures["score"], epoch)
        progress.epoch, progress.part = epoch, Part()
        progress.history.append(row)
        if self.checkpoints is not None:
            self.checkpoints.save(self.state(), epoch=epoch)
            self.report(row, epoch)

    def _save_part(self) -> None:
        """Save the epoch as far as it went; without a step, the last checkpoint has it all.

        Several processes do not stop at the same step, and their batch norms' statistics are joined at an epoch's end:
        they go on from the last whole epoch.
        """
        progress = self.progress
        if self.checkpoints is None or self.processes.world > 1:
            return
        if not self._stopping.whole or not progress.part.steps:
            return
        try:
            self.checkpoints.save(self.state(), epoch=progress.epoch, step=progress.part.steps)
        except UserError as error:  # what ends the process is not the disk
            logger.warning("%s", error)

    def _train_epoch(self, *, epoch: int, bar: Any) -> dict[str, float]:
        self.network.train()
        steps, part, take = self.settings.steps_per_epoch, self.progress.part, self._take
        assert take is not None
        before = time.perf_counter()
        while part.steps < steps:
            batch = next(self._batches)
            fetched = time.perf_counter()
            with self._stopping.held_back():
                step = part.steps + 1
                set_rate(self.optimizer, self.schedule.rate((epoch - 1) * steps + step - 1))
                measures = step == steps and self._measures(epoch)
                measured = take(batch, figures=part.figures if measures else None)
                if self._average is not None:
                    self._average.update_parameters(self.network)
                self._last_steps.add(measured)
                look = step % CHECK_EVERY == 0 or step == steps
                values = {name: value.item() for name, value in measured.items()} if look else {}
                now = time.perf_counter()
                images = 2 * len(batch.labels) * self.processes.world
                part.add(measured, images=images, seconds=now - before, waited=fetched - before)
                before = now
                if look:
                    check_losses(values, epoch=epoch, step=step)
                    check_norm(values["feature_norm"], limit=self.settings.norm_limit, epoch=epoch, step=step)
            if look:
                self._show(bar, epoch=epoch, loss=values["total"])
            bar.update()
            self.after_step()
        figures = {**part.figures, **part.means()}
        check_losses(figures, epoch=epoch, step=steps)
        figures["learning_rate"] = self.schedule.rate(epoch * steps - 1)
        return figures | part.speed() | gpu_memory(self.device)

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

    def _measures(self, epoch: int) -> bool:
        every = self.settings.gradients_every
        return bool(every) and (epoch % every == 0 or epoch == 1)

    def _keep_if_best(self, score: float, epoch: int) -> None:
        if score > self.progress.best_score or not self.progress.best_epoch:
            self.progress.best_score, self.progress.best_epoch = score, epoch
            if self.settings.keep == "best":
                self.progress.best_weights = weights_of(self.tested)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights on the CPU."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}

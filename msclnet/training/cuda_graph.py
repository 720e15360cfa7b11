"""The training step as one CUDA graph: recorded once, then started as a whole.

A step launches some 1,400 to 2,100 kernels, each of which takes a processor 20 to 40 microseconds: as long as the
kernels themselves run, or longer (docs/benchmarks.md). A graph is started by a single call.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from msclnet.errors import UserError, ran_out_of_memory
from msclnet.training.step import Batch, Step, distinct_in, tensors_of

WARM_UP = 3  # steps before the recording: the optimizer's state, the libraries' choices


class GraphedStep:
    """Takes the same steps as `step`, from the fourth on by starting a recording of it.

    The kernels are the same ones in the same order, except that the learning rate is a float32 number. Batches of
    other sizes, or with another number of identities, than the recorded one are taken step by step, and so is a step
    whose gradients are to be measured. For one process: collective operations are not recorded.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        self._taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._kind: tuple[object, ...] = ()
        self._inputs: tuple[Tensor, ...] = ()
        self._rates: list[Tensor] = []
        self._names: list[str] = []
        self._measured = torch.empty(0)

    def __call__(self, batch: Batch, *, figures: dict[str, float] | None = None) -> dict[str, Tensor]:
        """Take one step; see `Step`. UserError where it cannot be recorded."""
        self._taken += 1
        # What a recording depends on.
        kind = (*(tensor.shape for tensor in tensors_of(batch)), distinct_in(batch))
        if figures is not None or self._taken <= WARM_UP or (self._graph is not None and kind != self._kind):
            return self.step(batch, figures=figures)
        if self._graph is None:
            self._record(batch)
            self._kind = kind
        assert self._graph is not None
        for there, new in zip(self._inputs, tensors_of(batch), strict=True):
            there.copy_(new, non_blocking=True)
        for rate, group in zip(self._rates, self.step.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        self._graph.replay()
        # A copy: the next step writes to the same place.
        return dict(zip(self._names, self._measured.clone().unbind(), strict=True))

    def forget(self) -> None:
        """Give the recording and its memory back, while CUDA is still there to take it."""
        self._graph, self._inputs, self._rates, self._measured = None, (), [], torch.empty(0)
        self._taken = 0

    def _record(self, batch: Batch) -> None:
        step = self.step
        self._inputs = tuple(tensor.clone() for tensor in step.moved(batch))
        groups = step.optimizer.param_groups
        self._rates = [torch.zeros((), device=step.device) for _ in groups]
        graph = torch.cuda.CUDAGraph()
        try:
            # The former gradients' memory is given back first: a recording brings its own.
            step.optimizer.zero_grad(set_to_none=True)
            # Only this thread's calls count: the loader's thread pins memory meanwhile, which would end the recording.
            recording = torch.cuda.graph(graph, capture_error_mode="thread_local")
            with rates_as_tensors(step.optimizer, self._rates), recording:
                measured = step.take(*self._inputs, distinct=distinct_in(batch))
                self._names, self._measured = list(measured), torch.stack(list(measured.values()))
        except RuntimeError as error:
            if ran_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
            raise UserError(
                f"the training step could not be recorded as a CUDA graph ({reason}); set MSCLNET_CUDA_GRAPHS to off "
                "to take it kernel by kernel, which gives the same results more slowly"
            ) from error
        self._graph = graph


def fastest_step(step: Step, *, graphs: bool) -> Step | GraphedStep:
    """The step as it is, or recorded where that is possible and wanted (`graphs`)."""
    possible = step.device.type == "cuda" and step.processes.world == 1
    return GraphedStep(step) if graphs and possible else step


@contextmanager
def rates_as_tensors(optimizer: torch.optim.Optimizer, rates: list[Tensor]) -> Iterator[None]:
    """Let the optimizer's groups read their rates from tensors within the block."""
    former = [group["lr"] for group in optimizer.param_groups]
    try:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, former, strict=True):
            group["lr"] = rate

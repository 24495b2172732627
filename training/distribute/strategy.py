"""Strategy: how the processes of one training work together. The seam between the training loop and a backend.

The theory. A training runs in `num_replicas` processes. Every process runs the same program, holds all variables, and
reads its own batches; a replica is one of these processes. Their variables are equal before the first step, because
they restore the checkpoint that the chief chose and draw first values from the chief's seed. They stay equal, because
each step applies the same reduced gradients. Nothing else keeps them equal: no trained variable is ever sent. Values
that model_fn keeps by itself, such as the moving averages of batch normalization, are averaged after each step.

A step, in every process and on the thread that called `Estimator.train` (the loop owns no other thread, and no question
is asked on one of the input pipeline's):

    agree(ready)          the loop, after the hooks' before_run: is there a batch here, and has no hook asked to stop?
                          One process that is not ready ends the run for all, after the same step. Asked once before
                          the first step too: could model_fn be called, or was the input empty?
    model_fn              no communication inside; the gradients may be computed here, or by the train_op.
    mean_loss(loss)       the loop, before the train_op: hooks see the mean. A NaN anywhere makes the mean NaN, so all
                          processes raise NanLossDuringTrainingError and none takes the step.
    reduce(gradients)     TrainOp.run(strategy), its only caller, once a step: before clipping and the optimizers,
                          however many optimizers share the step.

Around the steps:

    on_chief(work)        Estimator.train before it restores (the checkpoint to go on from, the seed), and
                          Estimator.export_saved_model (one process writes, all return its path).
    check_alike(model)    the loop, once, behind the first call of model_fn: the names and shapes of variables.
    leave(error)          Estimator.train, when it raises.
    barrier()             the loop, when the hooks' `end` is done: no process returns from `train` before the chief has
                          written the last checkpoint. Not called after an error.
    is_chief              the loop, where it puts the hooks together: only the chief runs the hooks that write
                          (checkpoints, summaries, counters, profiles: SessionRunHook.is_chief_only) and a model's
                          training_chief_hooks, and only the chief writes the statistics of the training data. And
                          `loop.evaluation`, where it writes metrics and figures. Evaluation and prediction do not
                          communicate: a process may do either by itself.
    num_replicas, replica_id   what an input_fn is told as InputContext, so that each process reads its own share.

Losses. Each replica's loss is that of its own batch, and `reduce` takes the mean. A loss that is a mean over the batch
therefore trains as one process would on all the batches joined, if they have the same size; so does a regularization
loss. Where the loss is a sum over the batch (a head with loss_reduction 'sum') TensorFlow adds the replicas' gradients
up, and so does TrainOp (`adds_up`). The metrics of an evaluation are those of the process.

Errors. A process that raises would leave the others waiting, so it tells them (`leave`), and a process that ends or is
stopped without a word is noticed: the others raise PeerLostError, which names it. `on_chief` raises in every process
what `work` raised in the chief.

The implementation for torch.distributed is processes.TorchDistributed: gradients go through shared memory on one
machine and through a process group between several (transfer.py). The questions have connections of their own
(channel.py), because a process group can neither tell a slow process from a dead one nor end its waiting early.
tests/support/strategies.py has one for threads.

Owns the questions, and the answers that one process gives itself. Does not know TF_CONFIG, the loop, optimizers or
files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from torch import Tensor

Result = TypeVar("Result")


class Strategy(ABC):
    """What the loop and TrainOp ask. The module's docstring says when.

    Attributes:
        num_replicas: how many processes train together, at least 1.
        replica_id: which of them this is, 0 for the chief.
    """

    num_replicas: int = 1
    replica_id: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether this process writes checkpoints, summaries, figures and exports."""
        return self.replica_id == 0

    @abstractmethod
    def reduce(self, gradients: Sequence[Tensor | None], borrow: bool = False) -> Sequence[Tensor | None]:
        """The mean over the replicas of each gradient, equal to the last bit in all of them.

        One entry a parameter: a dense float tensor, a sparse one (COO over rows) or None, where the loss does not
        depend on the parameter. Their number, order, shapes and kinds are the same in every process, for they follow
        from model_fn; the rows of a sparse gradient are those the replica's batch looked up, and a row that it did not
        look up counts as zeros. Each result is of the kind that was given: optimizers leave alone the rows that a
        sparse gradient does not have. Called without autograd; may change the tensors given. With `borrow` the results
        may lie in memory that the other processes read and that the next call changes: the caller neither changes nor
        keeps them.
        """

    @abstractmethod
    def agree(self, ready: bool) -> bool:
        """Whether every process said True. Each process asks equally often."""

    @abstractmethod
    def mean_loss(self, loss: float) -> float:
        """The mean of the replicas' losses, NaN where one is."""

    @abstractmethod
    def on_chief(self, work: Callable[[], Result]) -> Result:
        """Call `work` in the chief only, and return its result (which can be pickled) in every process, or raise its
        error there. Returns when `work` is done."""

    @abstractmethod
    def barrier(self) -> None:
        """Return when every process has come here."""

    @abstractmethod
    def check_alike(self, model: Mapping[str, str]) -> None:
        """Raise ValueError in every process where one of them has another model than the chief (parts by name)."""

    @abstractmethod
    def leave(self, error: BaseException) -> None:
        """Tell the other processes that this one ends its training with an error."""


class OneProcess(Strategy):
    """A training in this process only: it is the chief, agrees with itself, and its gradients are the mean."""

    def reduce(self, gradients: Sequence[Tensor | None], borrow: bool = False) -> Sequence[Tensor | None]:
        return gradients

    def agree(self, ready: bool) -> bool:
        return ready

    def mean_loss(self, loss: float) -> float:
        return loss

    def on_chief(self, work: Callable[[], Result]) -> Result:
        return work()

    def barrier(self) -> None:
        pass

    def check_alike(self, model: Mapping[str, str]) -> None:
        pass

    def leave(self, error: BaseException) -> None:
        pass

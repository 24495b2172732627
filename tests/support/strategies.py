"""Strategies without a network: one that changes gradients, one that is not the chief, and replicas in threads."""

import threading

import torch

from estimator_serving.training.distribute.strategy import OneProcess, Strategy


class Halving(OneProcess):
    """Halves every gradient, and counts how often it is asked."""

    asked = 0

    def reduce(self, gradients, borrow=False):
        self.asked += 1
        return [None if gradient is None else gradient / 2 for gradient in gradients]


class Bystander(OneProcess):
    """The second of two processes, whose chief does what this one does."""

    num_replicas = 2
    replica_id = 1


class Replicas:
    """What the threads of one training exchange."""

    def __init__(self, count):
        self.count = count
        self.values = [None] * count
        self.barrier = threading.Barrier(count, timeout=30)


class InThread(Strategy):
    """One replica of several, each in a thread of its own."""

    def __init__(self, replicas, replica_id):
        self.num_replicas = replicas.count
        self.replica_id = replica_id
        self._replicas = replicas

    def _exchange(self, value):
        self._replicas.values[self.replica_id] = value
        self.barrier()
        everything = list(self._replicas.values)
        self.barrier()
        return everything

    def reduce(self, gradients, borrow=False):
        by_parameter = zip(*self._exchange(gradients), strict=True)
        return [None if first is None else sum(others, first) / self.num_replicas for first, *others in by_parameter]

    def agree(self, ready):
        return all(self._exchange(ready))

    def mean_loss(self, loss):
        return float(torch.tensor(self._exchange(loss), dtype=torch.float64).mean())

    def on_chief(self, work):
        return self._exchange(work() if self.is_chief else None)[0]

    def barrier(self):
        self._replicas.barrier.wait()

    def check_alike(self, model):
        assert len(set(map(str, self._exchange(model)))) == 1

    def leave(self, error):
        pass


def with_strategy(estimator, strategy):
    """The estimator, trained and evaluated under that strategy."""
    estimator._strategy = strategy
    return estimator

"""Gradients that meet in shared memory: the means and the rows of all ranks, and None where memory cannot be shared."""

import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from estimator_serving.training.distribute import transfer
from estimator_serving.training.distribute.channel import Channel, Link
from estimator_serving.training.distribute.transfer import shared_memory
from estimator_serving.training.errors import PeerLostError


@contextlib.contextmanager
def channels(count):
    """The channels of that many ranks, all in this process."""
    names, of_chief, made = [f"Rank {rank}" for rank in range(count)], {}, []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for rank in range(1, count):
            made.append(Channel(rank, {0: Link(socket.create_connection(listener.getsockname()), 5)}, names, 5.0))
            of_chief[rank] = Link(listener.accept()[0], 5)
    made.insert(0, Channel(0, of_chief, names, 5.0))
    yield made
    for channel in made:
        channel.close()


def in_ranks(count, work):
    """What `work(shared memory, rank)` returns in each of the ranks."""
    with channels(count) as made, ThreadPoolExecutor(count) as pool:
        jobs = [pool.submit(lambda channel: work(shared_memory(channel, count), channel.rank), each) for each in made]
        return [job.result(30) for job in jobs]


def mean(shared, tensors, borrow=False):
    return [*shared.mean(tensors, lambda: shared._channel.exchange(None), borrow)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("lengths", [[0], [3], [5, 0, 1], [1000, 200, 70], [513], [2048, 2049]])
@pytest.mark.parametrize("count", [2, 3])
def test_the_mean_is_the_same_in_all_ranks_for_any_size(lengths, dtype, count, monkeypatch):
    """A small area takes 512 bytes and a large one 4096, so the sizes go in one part, in shares and in rounds."""
    monkeypatch.setattr(transfer, "_SMALL_BYTES", 512)
    monkeypatch.setattr(transfer, "_LARGE_BYTES", 4096)
    given = [[[torch.randn(n).to(dtype) for n in lengths] for _ in range(count)] for _ in range(3)]

    def work(found, rank):
        return [mean(found, step[rank]) for step in given]

    for step, by_rank in zip(given, zip(*in_ranks(count, work), strict=True), strict=True):
        for first, *others in zip(*by_rank, strict=True):
            assert all(torch.equal(first, other) for other in others)
        for found, *own in zip(by_rank[0], *step, strict=True):
            expected = torch.stack(own).double().mean(0)
            rtol = 0.02 if dtype == torch.bfloat16 else 1e-5
            torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=0.02)


def test_borrowed_means_stay_until_all_have_met_again(monkeypatch):
    """A rank that reads late still finds the means of the first round when the other one has begun the second."""
    monkeypatch.setattr(transfer, "_SMALL_BYTES", 16)
    first, second, begun = torch.arange(8.0), torch.full((8,), 100.0), threading.Event()

    def work(shared, rank):
        (found,) = mean(shared, [first], borrow=True)
        if rank == 0:
            begun.wait(30)
            read = found.tolist()
            mean(shared, [second], borrow=True)
            return read

        def meet():
            begun.set()
            shared._channel.exchange(None)

        shared.mean([second], meet, True)
        return found.tolist()

    assert in_ranks(2, work) == [first.tolist()] * 2


def test_borrowed_means_are_not_copied_and_need_one_place(monkeypatch):
    monkeypatch.setattr(transfer, "_SMALL_BYTES", 16)

    def work(shared, rank):
        places = set()
        for _ in range(3):
            places.add(mean(shared, [torch.ones(2, 4)], borrow=True)[0].data_ptr())
            shared._channel.exchange(None)
        return len(places)

    assert in_ranks(3, work) == [1, 1, 1]


@pytest.mark.parametrize("lengths", [[0, 4], [0, 0], [100, 37], [300, 1000]])
def test_every_rank_gets_the_values_of_all(lengths, monkeypatch):
    monkeypatch.setattr(transfer, "_SMALL_BYTES", 512)
    given = [torch.arange(length) + 1000 * rank for rank, length in enumerate(lengths)]
    for found in in_ranks(2, lambda shared, rank: [shared.gather(given[rank], lengths) for _ in range(3)]):
        assert all(torch.equal(mine, theirs) for each in found for mine, theirs in zip(each, given, strict=True))


def test_infinities_and_nans_are_kept():
    values = [torch.tensor([float("inf"), float("nan"), 1.0]), torch.tensor([1.0, 2.0, float("-inf")])]
    _, (found,) = in_ranks(2, lambda shared, rank: mean(shared, [values[rank]]))
    assert [str(each) for each in found.tolist()] == ["inf", "nan", "-inf"]


@pytest.mark.parametrize("path", ["/proc/1/fd/100000", __file__, ""])
def test_a_process_that_does_not_find_the_chiefs_memory_says_so(path):
    """As on another machine: the path leads to nothing or to a file without the token."""
    with channels(2) as (chief, other), ThreadPoolExecutor(1) as pool:
        job = pool.submit(shared_memory, other, 2)
        chief.from_chief((path, b"0123456789abcdef"))
        assert chief.exchange(True) == [True, False]
        assert job.result(30) is None


def test_memory_that_cannot_be_had(monkeypatch):
    monkeypatch.setattr(transfer, "_LARGE_BYTES", 1 << 60)
    with channels(2) as made, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda channel: shared_memory(channel, 2), made)) == [None, None]


@pytest.mark.parametrize("waits", [0, 1])
def test_a_rank_that_ends_is_named_while_the_others_wait(waits, monkeypatch):
    """For the first of the two waits of a large mean, or for the second."""
    monkeypatch.setattr(transfer, "_SMALL_BYTES", 16)
    with channels(2) as made, ThreadPoolExecutor(2) as pool:
        shared, _ = pool.map(lambda channel: shared_memory(channel, 2), made)
        waiting = pool.submit(mean, shared, [torch.zeros(5)])
        for _ in range(waits):
            made[1].exchange(None)
        made[1].close()
        with pytest.raises(PeerLostError, match="^Rank 1 has ended"):
            waiting.result(30)

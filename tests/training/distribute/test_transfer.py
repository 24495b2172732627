"""Gradients that meet in shared memory: the means and the rows of all ranks, and None where memory cannot be shared."""

import contextlib
import socket
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("lengths", [[3], [5, 0, 1], [1000, 200, 70], [513], [2048, 2049]])
def test_the_mean_is_the_same_in_all_ranks_for_any_size(lengths, dtype, monkeypatch):
    """A small area takes 512 bytes and a large one 4096, so the sizes go in one part, in shares and in rounds."""
    monkeypatch.setattr(transfer, "_SMALL_BYTES", 512)
    monkeypatch.setattr(transfer, "_LARGE_BYTES", 4096)
    given = [[torch.randn(n).to(dtype) for n in lengths] for _ in range(3)]
    expected = [torch.stack(each).double().mean(0) for each in zip(*given, strict=True)]

    def work(found, rank):
        for _ in range(2):  # the mean of equal numbers is what they are
            found.mean(given[rank])

    in_ranks(3, work)
    for first, second, third, mean in zip(*given, expected, strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, third)
        torch.testing.assert_close(first.double(), mean, rtol=0.02 if dtype == torch.bfloat16 else 1e-5, atol=0.02)


@pytest.mark.parametrize("lengths", [[0, 4], [0, 0], [100, 37], [300, 1000]])
def test_every_rank_gets_the_values_of_all(lengths, monkeypatch):
    monkeypatch.setattr(transfer, "_SMALL_BYTES", 512)
    given = [torch.arange(length) + 1000 * rank for rank, length in enumerate(lengths)]
    for found in in_ranks(2, lambda shared, rank: [shared.gather(given[rank], lengths) for _ in range(3)]):
        assert all(torch.equal(mine, theirs) for each in found for mine, theirs in zip(each, given, strict=True))


def test_infinities_and_nans_are_kept():
    values = [torch.tensor([float("inf"), float("nan"), 1.0]), torch.tensor([1.0, 2.0, float("-inf")])]
    in_ranks(2, lambda shared, rank: shared.mean([values[rank]]))
    assert [str(each) for each in values[1].tolist()] == ["inf", "nan", "-inf"]


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


def test_a_rank_that_ends_is_named_while_the_others_wait():
    with channels(2) as made, ThreadPoolExecutor(2) as pool:
        shared, _ = pool.map(lambda channel: shared_memory(channel, 2), made)
        waiting = pool.submit(shared.mean, [torch.zeros(5)])
        made[1].close()
        with pytest.raises(PeerLostError, match="^Rank 1 has ended"):
            waiting.result(30)

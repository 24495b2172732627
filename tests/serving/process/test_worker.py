"""What a worker holds, without a process."""

from pathlib import Path
from types import SimpleNamespace

from estimator_serving.serving.process.table import Ticket
from estimator_serving.serving.process.worker import Replica

HERE = Path("/models/m/1")


def test_a_version_that_was_let_go_while_it_was_opened_is_not_kept():
    def open_ticket(ticket):
        if ticket.number == 1:
            replica.unload_ticket(1)
        return SimpleNamespace(version=ticket.version)

    replica = Replica(open_ticket, lambda: 0)
    for number in (1, 2):
        replica.load_ticket(Ticket(number, "m", number, HERE, HERE))
    assert list(replica._held) == [2]

import pytest
import torch

from estimator_serving.training.nn.lookups import gather_rows


@pytest.mark.parametrize("ids", [[[0, 3], [3, 3]], [[-1, 2], [2, -1]], [[-1, -1]], [[], []]])
def test_gather_rows_and_its_gradient(ids):
    ids = torch.tensor(ids, dtype=torch.int64)
    table = torch.arange(10.0).reshape(5, 2).requires_grad_()
    rows = gather_rows(table, ids)
    expected = torch.stack([table[i] if i >= 0 else torch.zeros(2) for i in ids.reshape(-1)]) if ids.numel() else rows
    assert torch.equal(rows, expected.reshape(*ids.shape, 2))
    assert torch.equal(gather_rows(table.detach(), ids), rows)
    (gradient,) = torch.autograd.grad((rows * 2).sum(), table)
    gradient = gradient.coalesce()
    assert gradient.is_sparse
    assert gradient.indices()[0].tolist() == sorted({i for i in ids.reshape(-1).tolist() if i >= 0})
    counts = [ids.reshape(-1).tolist().count(row) * 2.0 for row in range(5)]
    assert gradient.to_dense()[:, 0].tolist() == counts
    table.takes_whole_gradient = True
    (whole,) = torch.autograd.grad((gather_rows(table, ids) * 2).sum(), table)
    assert torch.equal(whole, gradient.to_dense())

"""That the table is as large as it has to be, and that no row is there twice."""

from tfs_cases import rows


def test_the_table_has_two_hundred_rows():
    table = rows()
    assert len(table) >= 200
    assert len({row.id for row in table}) == len(table)


def test_both_fronts_are_asked():
    table = rows()
    for front in ("REST", "gRPC"):
        assert sum(front in row.fronts for row in table) >= 140
    assert sum(len(row.fronts) == 2 for row in table) >= 70

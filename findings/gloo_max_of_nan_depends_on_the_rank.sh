#!/usr/bin/env bash
# torch 2.13.0 (gloo): all_reduce with MAX keeps or loses a NaN depending on which rank holds it.
#
# Expected: NaN on every rank whichever rank holds it, or never. Seen: the result depends on the rank.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5
cat > "$folder/reduce.py" <<'PY'
import math
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as processes


def work(rank, holder, file, results):
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    value = torch.tensor([math.nan if rank == holder else 1.0])
    dist.all_reduce(value, dist.ReduceOp.MAX)
    results[rank] = value.item()
    dist.destroy_process_group()


if __name__ == "__main__":
    kept = {}
    with processes.Manager() as manager:
        for holder in (0, 1):
            results = manager.dict()
            processes.spawn(work, (holder, f"{sys.argv[1]}/store{holder}", results), nprocs=2)
            kept[holder] = [math.isnan(results[rank]) for rank in (0, 1)]
    print("torch", torch.__version__, "is the maximum NaN, on ranks 0 and 1, by the rank that holds the NaN:", kept)
    assert kept[0] != kept[1], "The behaviour has changed."
PY
"$folder/venv/bin/python" "$folder/reduce.py" "$folder"

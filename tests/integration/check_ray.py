"""Pipelines of Ray Data and of Daft over an endpoint, on a real cluster of two workers.

Run by `make integration`. The server is a process of its own, and counts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")

ROWS = int(os.environ.get("AIOSMRT_RAY_ROWS", "20000"))
HERE = Path(__file__).parent

_asked = 0


async def model(request: Any) -> object:
    """Answer with the length, and say how often it was asked."""
    global _asked  # noqa: PLW0603 - of the server's process
    if request.body == b"count":
        return {"asked": _asked}
    _asked += 1
    return {"length": len(request.body)}


@pytest.fixture
def cluster() -> Iterator[str]:
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-m", "aiosmrt", "serve", "--model", f"{Path(__file__).stem}:model"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        keys = {
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local-secret",
        }
        # Beside the server they would get next to nothing.
        os.environ.setdefault("RAY_worker_niceness", "0")
        ray.init(num_cpus=2, runtime_env={"env_vars": keys}, include_dashboard=False)
        try:
            yield url
        finally:
            ray.shutdown()
            server.send_signal(signal.SIGTERM)


def _infer(rows: int, **options: Any) -> Any:
    from aiosmrt.ray import Invoke

    dataset = ray.data.from_items([{"id": row, "body": f"row {row}"} for row in range(rows)])
    return dataset.map_batches(
        Invoke,
        fn_constructor_kwargs={"endpoint_name": "e", "response": "json", **options},
        compute=ray.data.ActorPoolStrategy(size=2, max_concurrent_calls_per_actor=4),
        batch_size=256,
        num_cpus=0.5,
    )


def _check(found: list[dict[str, Any]], rows: int) -> None:
    assert sorted(row["id"] for row in found) == list(range(rows))
    assert all(row["response"]["length"] == len(row["body"]) for row in found)
    assert all(row["error"] is None and row["attempts"] >= 1 for row in found)


def test_two_actors_carry_out_all_rows(cluster: str) -> None:
    began = time.monotonic()
    found = _infer(ROWS).take_all()
    took = time.monotonic() - began
    _check(found, ROWS)
    print(f"{ROWS} rows on two actors: {took:.1f} s, {ROWS / took:.0f} rows/s")


def test_a_killed_worker_loses_no_row(cluster: str) -> None:
    rows = max(ROWS // 4, 2000)
    killed = False
    found: list[dict[str, Any]] = []
    for row in _infer(rows, max_in_flight=4).iter_rows():
        found.append(row)
        if not killed and len(found) > rows // 10:
            killed = _kill_a_worker()
    assert killed
    _check(found, rows)


def _kill_a_worker() -> bool:
    """Kill a process that carries rows out."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"MapWorker(MapBatches(Invoke))" in command:
                os.kill(int(entry.name), signal.SIGKILL)
                return True
    return False


def test_a_row_that_fails_is_a_row(cluster: str) -> None:
    from aiosmrt.ray import Invoke

    dataset = ray.data.from_items([{"id": 1, "body": "a"}]).map_batches(
        Invoke,
        fn_constructor_kwargs={"endpoint_name": "e", "target_model": "x" * 2000},
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    (row,) = dataset.take_all()
    assert row["error_type"] == "ParameterError"
    assert row["may_have_run"] is False


def test_the_example(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE.parents[1] / "examples"))
    source, target = tmp_path / "rows.jsonl", tmp_path / "answers"
    source.write_text("".join(f'{{"id": {row}, "body": "{row}"}}\n' for row in range(100)))
    __import__("ray_data").main("e", str(source), str(target))
    lines = [line for file in target.iterdir() for line in file.read_text().splitlines()]
    assert sorted(json.loads(line)["id"] for line in lines) == list(range(100))


def test_daft(cluster: str) -> None:
    daft = pytest.importorskip("daft")
    import aiosmrt

    os.environ.update(
        AWS_ENDPOINT_URL=cluster,
        AWS_REGION="us-east-1",
        AWS_ACCESS_KEY_ID="local",
        AWS_SECRET_ACCESS_KEY="local-secret",
    )

    @daft.cls(max_concurrency=1)
    class Endpoint:
        def __init__(self) -> None:
            self.client = aiosmrt.SageMakerRuntimeClient(params={"endpoint_name": "e"})

        @daft.method(return_dtype=daft.DataType.string())  # type: ignore[untyped-decorator]
        async def infer(self, body: str) -> str:
            return (await self.client.invoke_endpoint(body=body)).text()

    frame = daft.from_pydict({"body": [f"row {row}" for row in range(100)]})
    endpoint = Endpoint()
    found = frame.with_column("answer", endpoint.infer(daft.col("body"))).to_pydict()
    assert [json.loads(answer)["length"] for answer in found["answer"]] == [
        len(body) for body in found["body"]
    ]

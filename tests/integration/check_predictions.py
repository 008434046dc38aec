"""A real model behind a model server that is not ours, asked by three clients row by row.

scikit-learn's breast cancer data set, a logistic regression, MLflow's scoring server, and
`aiosmrt serve --upstream` in front of it. Run by `make integration`, in an environment of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

import aiosmrt

Predictions: TypeAlias = tuple[list[list[float]], list[int], Path]


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local-secret")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def rows_and_predictions(tmp_path_factory: pytest.TempPathFactory) -> Predictions:
    import mlflow.sklearn
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, labels = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
    path = tmp_path_factory.mktemp("model") / "model"
    mlflow.sklearn.save_model(model, str(path))
    return rows.tolist(), model.predict(rows).tolist(), path


@pytest.fixture(scope="module")
def container(rows_and_predictions: Predictions) -> Iterator[str]:
    """MLflow's scoring server."""
    port = _free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"),
        *("--model-uri", str(rows_and_predictions[2]), "--host", "127.0.0.1"),
        *("--port", str(port), "--workers", "1"),
    ]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    log = rows_and_predictions[2].parent / "log"
    with (
        log.open("wb") as written,
        subprocess.Popen(
            command, start_new_session=True, env=environment, stdout=written, stderr=written
        ) as server,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{url}/ping", server, log)
            yield url
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(20)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    pytest.fail(f"{url} does not answer")


@pytest.fixture(scope="module")
def url(container: str) -> Iterator[str]:
    """`aiosmrt serve` in front of the container."""
    command = [sys.executable, "-m", "aiosmrt", "serve", "--upstream", container]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0


EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_names_flowers() -> None:
    command = [sys.executable, "-m", "aiosmrt", "serve", "--model", "sklearn_model:predict"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=EXAMPLES) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        try:
            found, refusal = asyncio.run(_ask_for_flowers(url))
        finally:
            server.send_signal(signal.SIGTERM)
    assert found == {"predictions": ["setosa", "virginica"]}
    assert refusal.original_status_code == 400


async def _ask_for_flowers(url: str) -> tuple[object, aiosmrt.ModelError]:
    async with aiosmrt.SageMakerRuntimeClient(
        region_name="us-east-1", endpoint_url=url, params={"endpoint_name": "flowers"}
    ) as client:
        rows = [[5.1, 3.5, 1.4, 0.2], [5.9, 3.0, 5.1, 1.8]]
        response = await client.invoke_endpoint(json={"instances": rows})
        with pytest.raises(aiosmrt.ModelError) as refused:
            await client.invoke_endpoint(json={"rows": rows})
        return response.json(), refused.value


def _write(row: list[float]) -> bytes:
    return json.dumps({"inputs": [row]}).encode()


def _read(body: bytes) -> int:
    (prediction,) = json.loads(body)["predictions"]
    return int(prediction)


def test_aiosmrt(url: str, rows_and_predictions: Predictions) -> None:
    rows, expected, _ = rows_and_predictions

    async def predict() -> list[int]:
        async with aiosmrt.SageMakerRuntimeClient(
            region_name="us-east-1", endpoint_url=url, max_connections=8
        ) as client:
            answers = await asyncio.gather(
                *(
                    client.invoke_endpoint(
                        endpoint_name="cancer", body=_write(row), content_type="application/json"
                    )
                    for row in rows
                )
            )
        return [_read(answer.body) for answer in answers]

    assert asyncio.run(predict()) == expected
    print(f"aiosmrt: {len(expected)} of {len(expected)} rows agree")


def test_aiosmrt_streams_what_the_container_answers(
    url: str, rows_and_predictions: Predictions
) -> None:
    rows, expected, _ = rows_and_predictions

    async def predict() -> list[int]:
        found = []
        async with aiosmrt.SageMakerRuntimeClient(
            region_name="us-east-1", endpoint_url=url
        ) as client:
            for row in rows:
                async with client.invoke_endpoint_with_response_stream(
                    endpoint_name="cancer", body=_write(row), content_type="application/json"
                ) as stream:
                    found.append(_read(b"".join([part.bytes async for part in stream])))
        return found

    assert asyncio.run(predict()) == expected
    print(f"aiosmrt, response stream: {len(expected)} of {len(expected)} rows agree")


def test_boto3(url: str, rows_and_predictions: Predictions) -> None:
    import boto3

    rows, expected, _ = rows_and_predictions
    client = boto3.client("sagemaker-runtime", region_name="us-east-1", endpoint_url=url)
    found = []
    for row in rows:
        answer = client.invoke_endpoint(
            EndpointName="cancer", Body=_write(row), ContentType="application/json"
        )
        found.append(_read(answer["Body"].read()))
    assert found == expected
    stream = client.invoke_endpoint_with_response_stream(
        EndpointName="cancer", Body=_write(rows[0]), ContentType="application/json"
    )
    body = b"".join(event["PayloadPart"]["Bytes"] for event in stream["Body"])
    assert _read(body) == expected[0]
    queued = client.invoke_endpoint_async(EndpointName="cancer", InputLocation="s3://b/k")
    assert queued["OutputLocation"].startswith("s3://")
    client.close()
    print(f"boto3: {len(expected)} of {len(expected)} rows agree")


def test_aiobotocore(url: str, rows_and_predictions: Predictions) -> None:
    from aiobotocore.session import get_session

    rows, expected, _ = rows_and_predictions

    async def predict() -> list[int]:
        found = []
        async with get_session().create_client(
            "sagemaker-runtime", region_name="us-east-1", endpoint_url=url
        ) as client:
            for row in rows:
                answer = await client.invoke_endpoint(
                    EndpointName="cancer", Body=_write(row), ContentType="application/json"
                )
                async with answer["Body"] as body:
                    found.append(_read(await body.read()))
            stream = await client.invoke_endpoint_with_response_stream(
                EndpointName="cancer", Body=_write(rows[0]), ContentType="application/json"
            )
            body = b"".join([event["PayloadPart"]["Bytes"] async for event in stream["Body"]])
            assert _read(body) == expected[0]
            queued = await client.invoke_endpoint_async(
                EndpointName="cancer", InputLocation="s3://b/k"
            )
            assert queued["OutputLocation"].startswith("s3://")
        return found

    assert asyncio.run(predict()) == expected
    print(f"aiobotocore: {len(expected)} of {len(expected)} rows agree")


def test_the_containers_refusal_is_a_model_error(url: str) -> None:
    async def refuse() -> None:
        async with aiosmrt.SageMakerRuntimeClient(
            region_name="us-east-1", endpoint_url=url
        ) as client:
            with pytest.raises(aiosmrt.ModelError) as caught:
                await client.invoke_endpoint(
                    endpoint_name="cancer", body="{}", content_type="application/json"
                )
            assert caught.value.original_status_code == 400
            print(f"a refusal: {caught.value}")

    asyncio.run(refuse())

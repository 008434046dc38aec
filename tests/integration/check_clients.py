"""Clients that are not ours, in their documented usage, against `aiosmrt serve`.

Run by `make integration`, in an environment of its own. What is not installed is skipped.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from aiosmrt.local import InvocationRequest, ModelResponse
from aiosmrt.local.model import ResponseBody

HERE = Path(__file__).parent
# Version 1 is a package of Python, version 2 comes with the system.
AWS_1, AWS_2 = Path(sys.executable).parent / "aws", Path("/usr/bin/aws")


async def model(request: InvocationRequest) -> object:
    """Speak OpenAI's chat shape to who asks for it, and echo what others send."""
    asked = json.loads(request.body) if b'"messages"' in request.body else {}
    streams = request.operation == "InvokeEndpointWithResponseStream"
    if "messages" not in asked:
        body: ResponseBody = {"echo": request.body.decode()}
        if streams:
            body = _split(request.body)
        return ModelResponse(body, custom_attributes=request.custom_attributes)
    if streams:
        return _chat()
    message = {"role": "assistant", "content": "hello there"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    head = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    return {**head, "choices": [choice], "usage": usage}


async def _split(body: bytes) -> AsyncIterator[bytes]:
    for word in body.split():
        yield word + b" "


async def _chat() -> AsyncIterator[str]:
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    for delta, reason in (
        ({"content": "hello "}, None),
        ({"content": "there"}, None),
        ({}, "stop"),
    ):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        yield f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"
    yield "data: [DONE]\n\n"


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server in a process of its own, which is all that the environment knows of AWS."""
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-m", "aiosmrt", "serve", "--model", f"{Path(__file__).stem}:model"]
    command += ["--script", str(HERE / "faults.json")]  # for endpoints of other names than the rest
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        found = server.stdout.readline().strip()
        for name, value in {
            "AWS_ENDPOINT_URL": found,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local-secret",
            "AWS_REGION": "us-east-1",
            "AWS_REGION_NAME": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            monkeypatch.setenv(name, value)
        yield found
        server.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("program", ["javascript_v2.cjs", "javascript_v3.mjs", "faults_v3.mjs"])
def test_javascript(program: str, url: str) -> None:
    modules = os.environ.get("AIOSMRT_NODE_MODULES")
    if modules is None or shutil.which("node") is None:
        pytest.skip("neither node nor the packages of the SDKs are there")
    # Modules are looked for beside the program.
    copy = Path(modules).parent / program
    shutil.copy(HERE / program, copy)
    done = subprocess.run(
        ["node", str(copy)],
        env={**os.environ, "ENDPOINT": url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "good\n"


@pytest.mark.parametrize("program", [AWS_1, AWS_2], ids=["version 1", "version 2"])
def test_the_aws_command_line(program: Path, url: str, tmp_path: Path) -> None:
    if not program.exists():
        pytest.skip("this AWS command line is not there")

    def aws(*words: str) -> str:
        # Version 2 looks at AWS_ENDPOINT_URL from 2.13 on, and not all systems have that.
        where = ("--endpoint-url", url) if program == AWS_2 else ()
        done = subprocess.run(
            [str(program), *where, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    large, back = tmp_path / "large", tmp_path / "back"
    large.write_bytes(os.urandom(20_000_000))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a b").write_text("1,2", encoding="ascii")
    aws("s3", "mb", "s3://bucket")
    aws("s3", "cp", str(large), "s3://bucket/d/large")
    assert "PRE d/" in aws("s3", "ls", "s3://bucket/")
    aws("s3", "cp", "s3://bucket/d/large", str(back))
    assert back.read_bytes() == large.read_bytes()
    aws("s3", "sync", str(folder), "s3://bucket/folder")
    aws("s3", "mv", "s3://bucket/folder/a b", "s3://bucket/moved")
    aws("s3api", "get-bucket-location", "--bucket", "bucket")
    endpoint = ("--endpoint-name", "e")
    out = tmp_path / "out"
    aws(
        *("sagemaker-runtime", "invoke-endpoint", *endpoint, str(out)),
        *("--body", f"fileb://{folder / 'a b'}"),
    )
    assert json.loads(out.read_text())["echo"] == "1,2"
    told = json.loads(
        aws(
            *("sagemaker-runtime", "invoke-endpoint-async", *endpoint),
            *("--input-location", "s3://bucket/moved"),
        )
    )
    bucket, _, key = told["OutputLocation"].removeprefix("s3://").partition("/")
    aws("s3api", "wait", "object-exists", "--bucket", bucket, "--key", key)
    assert json.loads(aws("s3", "cp", told["OutputLocation"], "-"))["echo"] == "1,2"
    aws("s3", "rb", "s3://bucket", "--force")


def test_aiobotocore(url: str) -> None:
    session = pytest.importorskip("aiobotocore.session").get_session()

    async def use() -> None:
        async with (
            session.create_client("sagemaker-runtime") as runtime,
            session.create_client("s3") as s3,
        ):
            answer = await runtime.invoke_endpoint(EndpointName="e", Body=b"hello")
            assert b"hello" in await answer["Body"].read()
            answer = await runtime.invoke_endpoint_with_response_stream(
                EndpointName="e", Body=b"hello world"
            )
            parts = [event["PayloadPart"]["Bytes"] async for event in answer["Body"]]
            assert parts == [b"hello ", b"world "]
            await s3.put_object(Bucket="inputs", Key="k", Body=b"1,2")
            queued = await runtime.invoke_endpoint_async(
                EndpointName="e", InputLocation="s3://inputs/k"
            )
            bucket, _, key = queued["OutputLocation"].removeprefix("s3://").partition("/")
            waiter = s3.get_waiter("object_exists")
            await waiter.wait(Bucket=bucket, Key=key, WaiterConfig={"Delay": 1, "MaxAttempts": 10})
            output = await s3.get_object(Bucket=bucket, Key=key)
            assert b"1,2" in await output["Body"].read()

    asyncio.run(use())


def test_litellm(url: str) -> None:
    litellm = pytest.importorskip("litellm")
    asked: dict[str, Any] = {
        "model": "sagemaker_chat/e",
        "messages": [{"role": "user", "content": "hello"}],
    }
    place = f"{url}/endpoints/e/invocations"
    answer = litellm.completion(**asked, sagemaker_base_url=place)
    assert answer.choices[0].message.content == "hello there"
    streamed = litellm.completion(
        **asked, stream=True, sagemaker_base_url=f"{place}-response-stream"
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert text == "hello there"


def test_langchain(url: str) -> None:
    llms = pytest.importorskip("langchain_aws.llms.sagemaker_endpoint")
    boto3 = pytest.importorskip("boto3")

    class Content(llms.LLMContentHandler):  # type: ignore[misc, name-defined]  # it may be missing
        content_type = "application/json"
        accepts = "application/json"

        def transform_input(self, prompt: str, model_kwargs: dict[str, Any]) -> bytes:
            return json.dumps({"messages": [{"role": "user", "content": prompt}]}).encode()

        def transform_output(self, output: Any) -> str:
            text: str = json.loads(output.read())["choices"][0]["message"]["content"]
            return text

    llm = llms.SagemakerEndpoint(
        endpoint_name="e",
        client=boto3.client("sagemaker-runtime"),
        region_name="us-east-1",
        content_handler=Content(),
    )
    assert llm.invoke("hello") == "hello there"


def test_async_predictor(url: str) -> None:
    sagemaker: Any = pytest.importorskip("sagemaker")
    boto3: Any = pytest.importorskip("boto3")
    predictors: Any = pytest.importorskip("sagemaker.predictor_async")
    waiters: Any = pytest.importorskip("sagemaker.async_inference")
    session = sagemaker.Session(
        boto_session=boto3.Session(region_name="us-east-1"),
        sagemaker_client=boto3.client("sagemaker"),
        sagemaker_runtime_client=boto3.client("sagemaker-runtime"),
        default_bucket="my-bucket",
    )
    predictor = sagemaker.predictor.Predictor(
        "e",
        sagemaker_session=session,
        serializer=sagemaker.serializers.JSONSerializer(),
        deserializer=sagemaker.deserializers.JSONDeserializer(),
    )
    assert predictor.predict({"x": 1}) == {"echo": '{"x": 1}'}
    waiting = predictors.AsyncPredictor(predictor, name="n")
    answer = waiting.predict_async({"x": 2}, input_path="s3://my-bucket/in/2.json")
    found = answer.get_result(waiters.WaiterConfig(max_attempts=10, delay=1))
    assert found == {"echo": '{"x": 2}'}

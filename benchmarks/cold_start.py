"""A fresh process, credentials in the environment: from its start to its first answer.

    python -m benchmarks.cold_start

Each client gets the shortest program that makes one call. The clock runs from the start of the
interpreter to the line that the program prints when it has its answer.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial

import attrs

from benchmarks.harness import (
    OURS,
    Goal,
    Ratios,
    choose_peers,
    interleave,
    parse_options,
    print_report,
    ratio,
    serve,
    tabulate,
)
from benchmarks.peers import PEERS
from benchmarks.peers.javascript import FOLDER
from benchmarks.peers.peer import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

_ENDPOINT = "bytes-1024"
_GOALS = [
    Goal("wall_vs_aiohttp", "at most", 1.25, 1.1),
    Goal("wall_vs_aiobotocore", "at most", 0.5),
]

_ASYNC = """
import asyncio
{imports}
async def main():
{body}
    print(len(answer), flush=True)
asyncio.run(main())
"""


def _program(imports: str, *body: str) -> str:
    return _ASYNC.format(imports=imports, body="\n".join(f"    {line}" for line in body))


_PROGRAMS = {
    "aiosmrt": _program(
        "import aiosmrt",
        "async with aiosmrt.SageMakerRuntimeClient() as client:",
        f"  response = await client.invoke_endpoint(endpoint_name={_ENDPOINT!r}, body=b'x')",
        "answer = response.body",
    ),
    "aiohttp": _program(
        "import aiohttp, os",
        f"url = os.environ['AWS_ENDPOINT_URL'] + '/endpoints/{_ENDPOINT}/invocations'",
        "async with aiohttp.ClientSession() as session:",
        "  async with session.post(url, data=b'x') as response:",
        "    answer = await response.read()",
    ),
    "aiobotocore": _program(
        "from aiobotocore.session import get_session",
        "async with get_session().create_client('sagemaker-runtime') as client:",
        f"  response = await client.invoke_endpoint(EndpointName={_ENDPOINT!r}, Body=b'x')",
        "  answer = await response['Body'].read()",
    ),
    "capo": _program(
        "import os, capo_sagemaker_runtime as capo",
        # It reads no variable that names an endpoint.
        "url = os.environ['AWS_ENDPOINT_URL']",
        "async with capo.AsyncSageMakerRuntimeClient(endpoint=url) as client:",
        f"  response = await client.invoke_endpoint(endpoint_name={_ENDPOINT!r}, body=b'x')",
        "answer = response['body']",
    ),
    "boto3": f"""
import boto3
client = boto3.client('sagemaker-runtime')
response = client.invoke_endpoint(EndpointName={_ENDPOINT!r}, Body=b'x')
print(len(response['Body'].read()), flush=True)
""",
    "javascript": f"""
const sdk = require('@aws-sdk/client-sagemaker-runtime');
const client = new sdk.SageMakerRuntimeClient();
const command = new sdk.InvokeEndpointCommand({{EndpointName: '{_ENDPOINT}', Body: 'x'}});
client.send(command).then(answer => console.log(answer.Body.length));
""",
}


@attrs.frozen
class _Start:
    wall: float  # seconds to the first answer
    cpu: float  # seconds, of the whole process


async def _start(name: str, environment: dict[str, str]) -> _Start:
    if name == "javascript":
        command, folder = ["node", "-e", _PROGRAMS[name]], FOLDER
    else:
        command, folder = [sys.executable, "-c", _PROGRAMS[name]], None
    began = time.perf_counter()
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else is to happen meanwhile
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        answer = process.stdout.readline()
        wall = time.perf_counter() - began
        _, status, used = os.wait4(process.pid, 0)  # noqa: ASYNC222 - as above
        process.returncode = os.waitstatus_to_exitcode(status)
    assert (answer, process.returncode) == ("1024\n", 0), name
    return _Start(wall, used.ru_utime + used.ru_stime)


async def _measure(names: Sequence[str], url: str, rounds: int) -> dict[str, list[_Start]]:
    environment = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": url,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NODE_NO_WARNINGS": "1",
        "PATH": os.environ["PATH"],
    }
    for name in names:
        await _start(name, environment)  # leaves byte code and warm files
    return await interleave({name: partial(_start, name, environment) for name in names}, rounds)


def main() -> None:
    options = parse_options(__doc__, rounds=11, peers=PEERS)
    print(__doc__.partition("\n")[0])
    names = choose_peers(options.peers)
    with serve() as url:
        samples = asyncio.run(_measure(names, url, options.rounds))
    walls = {name: [sample.wall for sample in samples[name]] for name in names}
    cpus = {name: [sample.cpu for sample in samples[name]] for name in names}
    found: Ratios = {}
    rows = []
    for name in names:
        slower, dearer = ratio(walls[OURS], walls[name]), ratio(cpus[OURS], cpus[name])
        if name != OURS:
            found[f"wall_vs_{name}"], found[f"cpu_vs_{name}"] = slower, dearer
        rows.append(
            (
                name,
                f"{statistics.median(walls[name]) * 1e3:,.0f}",
                f"{statistics.median(cpus[name]) * 1e3:,.0f}",
                f"{slower:.2f}",
                f"{dearer:.2f}",
            )
        )
    head = ("", "wall ms", "CPU ms", f"{OURS}: wall x", f"{OURS}: CPU x")
    print(f"\n{tabulate(head, rows)}")
    print_report("cold_start", {"asyncio": found}, _GOALS)


if __name__ == "__main__":
    main()

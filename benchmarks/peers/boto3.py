"""boto3 in threads: what people do who have asyncio and no client for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import boto3
from botocore.config import Config

from benchmarks.peers.peer import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Peer, Sample, Work


class Client(Peer):
    def __init__(self, client: Any, threads: ThreadPoolExecutor) -> None:  # noqa: ANN401 - made at run time, it has no type
        self._client = client
        self._threads = threads

    async def repeat(self, work: Work, calls: int, in_flight: int) -> Sample:
        loop = asyncio.get_running_loop()
        share = max(1, calls // in_flight)
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(
            *(
                loop.run_in_executor(self._threads, self._perform, work, share)
                for _ in range(in_flight)
            )
        )
        return Sample(share * in_flight, time.perf_counter() - wall, time.process_time() - cpu)

    def _perform(self, work: Work, calls: int) -> None:
        body = work.body
        for _ in range(calls):
            if work.operation == "invoke":
                self._client.invoke_endpoint(
                    EndpointName=work.endpoint, Body=body, ContentType="application/json"
                )["Body"].read()
            else:
                stream = self._client.invoke_endpoint_with_response_stream(
                    EndpointName=work.endpoint, Body=body, ContentType="application/json"
                )["Body"]
                sum(len(event["PayloadPart"]["Bytes"]) for event in stream)


@asynccontextmanager
async def connect(url: str, connections: int) -> AsyncIterator[Client]:
    client = boto3.client(
        "sagemaker-runtime",
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        config=Config(max_pool_connections=connections),
    )
    with ThreadPoolExecutor(connections) as threads:
        yield Client(client, threads)
    client.close()

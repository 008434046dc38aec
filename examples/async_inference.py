"""Queue a run for each file, and print each answer as soon as it is there.

    python examples/async_inference.py my-endpoint s3://my-bucket/inputs/ *.json

The endpoint is an asynchronous one. Files above 128,000 bytes travel by the bucket.
"""

import asyncio
import sys
from pathlib import Path

import aiosmrt


async def main(endpoint_name: str, s3_input_prefix: str, *files: str) -> None:
    """Submit all, then wait for all."""
    async with aiosmrt.SageMakerRuntimeClient(s3_input_prefix=s3_input_prefix) as client:
        names = {}
        invocations = []
        for file in files:
            invocation = await client.invoke_endpoint_async(
                endpoint_name=endpoint_name,
                body=await asyncio.to_thread(Path(file).read_bytes),
                content_type="application/json",
            )
            names[invocation.output_location] = file
            invocations.append(invocation)
        async for result in client.wait_for_results(invocations, timeout=3600):
            file = names[result.invocation.output_location]
            print(file, result.output.text() if result.output else result.error)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""Ask an endpoint for each row of a CSV file, and write the rows with their answers.

    python examples/batch.py my-endpoint rows.csv answers.csv

Each row has a column `text`. `aiosmrt batch` does so without a program, and goes on where it was
stopped.
"""

import asyncio
import csv
import sys
from collections.abc import Iterator
from typing import Any

import aiosmrt

Row = dict[str, str]
Call = aiosmrt.InvokeEndpointParameters


def read(source: str, endpoint_name: str) -> Iterator[tuple[Row, Call]]:
    """Give each row, and the call for it."""
    with open(source, newline="", encoding="utf-8") as file:  # noqa: PTH123
        for row in csv.DictReader(file):
            yield row, {"endpoint_name": endpoint_name, "json": {"inputs": row["text"]}}


async def main(endpoint_name: str, source: str, target: str) -> None:
    """Write each answer as it comes, which is not the order of the rows."""
    failed = 0
    with open(target, "w", newline="", encoding="utf-8") as file:  # noqa: ASYNC230, PTH123
        writer = csv.writer(file)
        writer.writerow(["text", "answer", "error"])
        async with aiosmrt.SageMakerRuntimeClient() as client:
            async for outcome in client.map(read(source, endpoint_name), max_in_flight=32):
                row: Any = outcome.key
                failed += outcome.error is not None
                answer = outcome.response.text() if outcome.response else ""
                writer.writerow([row["text"], answer, outcome.error or ""])
    print(f"{failed} rows failed")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

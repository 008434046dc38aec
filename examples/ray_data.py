"""Run an endpoint over a dataset of Ray, on as many machines as there are.

    python examples/ray_data.py my-endpoint rows.jsonl answers/

Each line of the input has an `id` and a `body`. Needs the extra `aiosmrt[ray]`.
"""

import sys

import ray.data

from aiosmrt.ray import Invoke


def main(endpoint_name: str, source: str, target: str) -> None:
    """Read, infer, write."""
    (
        ray.data.read_json(source, lines=True)
        .map_batches(
            Invoke,
            fn_constructor_kwargs={"endpoint_name": endpoint_name, "max_in_flight": 32},
            compute=ray.data.ActorPoolStrategy(
                size=2,  # clients, each in a process of its own
                max_concurrent_calls_per_actor=4,  # batches: the next fills its places
            ),
            batch_size=256,
            num_cpus=0.5,  # they wait, and are to leave CPUs to read with
        )
        .write_json(target)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

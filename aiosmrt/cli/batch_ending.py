"""How a batch has ended, in words."""

from __future__ import annotations

from aiosmrt.batch_files import Job, Store
from aiosmrt.cli.batch_progress import count, describe_rows
from aiosmrt.cli.terminal import complain, warn
from aiosmrt.errors import AiosmrtError

__all__ = ["describe_fault", "summarize", "tell_fault"]


def describe_fault(error: OSError) -> str:
    """Say what the system says of a file."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def tell_fault(fault: BaseException | None, job: Job) -> None:
    """Say what has stopped a job, if anything; what is nobody's fault but ours is raised."""
    if isinstance(fault, OSError):
        lost = "" if job.unwritten else "; all that came before is written down"
        warn(f"{describe_fault(fault)}{lost}")
    elif isinstance(fault, AiosmrtError):
        complain(fault)
    elif fault is not None:
        try:
            raise fault
        finally:
            del fault  # or its traceback and this frame would keep each other


def summarize(job: Job, total: int | None, store: Store | None) -> None:
    """Say what came of how many rows, and what may have been paid for twice or in vain."""
    warn(describe_rows(job.figures, total))
    if job.under_way:
        warn(f"{count(len(job.under_way), 'row')} broken off, for which a model may have run")
    if job.unwritten:
        warn(f"{count(job.unwritten, 'answer')} came and could not be written")
    if store is not None and store.again:
        warn(
            f"{count(store.again, 'call')} made again, as what came of the first was lost when "
            "a run was stopped: so many may have run twice"
        )

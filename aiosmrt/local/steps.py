"""The steps of a script: which of them a request gets, and what is left at the end. Pure."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import attrs

from aiosmrt.errors import ServiceError
from aiosmrt.local.faults import Fault
from aiosmrt.local.model import InvocationRequest, Model
from aiosmrt.local.received import explain_members, show_request
from aiosmrt.local.recording import Recorder
from aiosmrt.masking import mask_named
from aiosmrt.plain_text import to_line
from aiosmrt.service import OPERATIONS

__all__ = ["Match", "Page", "Play", "Step", "Steps", "Test", "ignore_changes"]

_MOST = 100  # requests that are kept to be complained of: a server may run for long

Test: TypeAlias = str | Mapping[str, object] | Callable[[InvocationRequest], object]
"""Which requests: of one endpoint or location, with these members, or as a function says."""


@attrs.frozen
class Match:
    """Which requests a step is for."""

    on: Test | None
    operations: tuple[str, ...]  # none: all of SageMaker Runtime's
    framed: bool  # whether it means something to streams in frames alone

    def explain(self, request: InvocationRequest) -> list[str]:
        """Say why a request is not for this step; nothing where it is."""
        problems = []
        wanted = self.operations or OPERATIONS
        if request.operation not in wanted:
            problems.append(f"operation is {request.operation}, not {' or '.join(wanted)}")
        if self.framed and not request.has_frames:
            problems.append(f"there are no frames at {request.path}")
        if isinstance(self.on, str):
            place = "input_location" if self.on.startswith("s3://") else "endpoint_name"
            problems += explain_members(request, {place: self.on})
        elif isinstance(self.on, Mapping):
            problems += explain_members(request, dict(self.on))
        elif self.on is not None:
            problems += self._ask(self.on, request)
        return problems

    def _ask(
        self, test: Callable[[InvocationRequest], object], request: InvocationRequest
    ) -> list[str]:
        name = getattr(test, "__name__", "on")
        try:
            said = test(request)
        except Exception as error:  # noqa: BLE001 - whatever a test has not expected of a request
            return [f"{name}(request) raised {type(error).__name__}: {error}"]
        if inspect.iscoroutine(said):  # which would be true
            said.close()
            return [f"{name}(request) is async, and gives no answer at once"]
        return [] if said else [f"{name}(request) says no"]


@attrs.frozen
class Page:
    """A whole answer that is not the service's."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@attrs.frozen
class Play:
    """What a step does with a request; what it does not say is as without it.

    Attributes:
        content: what answers, in place of the model.
        refusal: raised in place of an answer.
        page: sent in place of an answer.
        fault: strikes in the answer.
        delays: seconds before each part; the last one holds for all that follow.
        split: bytes of each part.
        connection: what is done to connections, before there is a request.
    """

    content: Model | None = None
    refusal: ServiceError | None = None
    page: Page | None = None
    fault: Fault | None = None
    delays: tuple[float, ...] = ()
    split: int | None = None
    connection: Literal["hang", "reset"] | None = None

    @property
    def needs_parts(self) -> bool:
        """Whether it does something to the parts of an answer."""
        return self.fault is not None or self.split is not None or bool(self.delays)

    @property
    def needs_rule(self) -> bool:
        """Whether it does that to what answers as a rule: not where it is in place of an answer."""
        early = self.fault is not None and self.fault.position == 0
        return self.needs_parts and self.content is None and not early

    def happen_to(self, rule: Play) -> Play:
        """Give what comes of it where it says no content, and happens to what answers as a rule."""
        return attrs.evolve(
            rule,
            fault=self.fault or rule.fault,
            delays=self.delays or rule.delays,
            split=self.split or rule.split,
        )


@attrs.define(eq=False)
class Step:
    """A line of a script.

    Attributes:
        words: as it was written, for people.
        place: where it was written, `file:line`.
        match: which requests it is for.
        play: what it does.
        times: how many requests get it; `None` is any number.
        seconds: how long it lasts from its first request on.
        optional: whether it need not be asked for.
        served: how many requests got it.
    """

    words: str
    place: str
    match: Match
    play: Play
    times: int | None
    optional: bool
    seconds: float | None = None
    served: int = 0
    _until: float | None = None

    @property
    def limited(self) -> bool:
        """Whether it comes to an end: such steps go first."""
        return self.times is not None or self.seconds is not None

    @property
    def left(self) -> bool:
        """Whether another request can get it."""
        over = self._until is not None and time.monotonic() >= self._until
        return not over and (self.times is None or self.served < self.times)

    @property
    def wanting(self) -> bool:
        """Whether requests for it are missing at the end."""
        # One that ends with its time is for so many at most.
        least = self.times if self.times is not None and self.seconds is None else 1
        return not self.optional and self.served < least

    def serve(self) -> None:
        """Count a request that gets it."""
        if self.seconds is not None and self._until is None:
            self._until = time.monotonic() + self.seconds
        self.served += 1

    def show(self) -> str:
        """Say in a line what it is, and how often it was asked for."""
        wanted = "" if self.times is None or self.times == 1 else f" of {self.times} times"
        asked = f"asked for {self.served}{wanted}" if wanted or self.served else "not asked for"
        return f"{self.words} ({self.place}): {asked}"


class Steps:
    """The steps that a script has, in order; a lock, since tests write where others read.

    A request gets the first step that is for it and comes to an end, and only where there is none,
    the first that does not: that one is what is answered as a rule.

    Attributes:
        clock_offset: seconds that the service's clock is ahead of this machine's.
        recorder: writes down what is answered without a step.
        changed: called when there is another step to look at for connections; in any thread.
    """

    def __init__(self) -> None:
        self.clock_offset: float = 0.0
        self.recorder: Recorder | None = None
        self.changed: Callable[[], None] = ignore_changes
        self._lock = threading.RLock()  # a test may ask the endpoint something itself
        self._steps: list[Step] = []
        self._unexpected: list[tuple[InvocationRequest, str]] = []
        self._unasked: list[str] = []
        self._more: int = 0  # requests without a step that are not kept

    def add(self, step: Step) -> None:
        """Put a step behind the others."""
        with self._lock:
            self._steps.append(step)
        if step.play.connection is not None:
            self.changed()

    def take(self, request: InvocationRequest) -> Step | None:
        """Give the step that a request gets, and count it."""
        with self._lock:
            step = self._find(request)
            if step is not None:
                step.serve()
        if self.find_connection_step() is not None:
            self.changed()
        return step

    def _find(self, request: InvocationRequest) -> Step | None:
        rule = None
        for step in self._steps:
            asked = step.left and step.play.connection is None and (step.limited or rule is None)
            if asked and not step.match.explain(request):
                if step.limited:
                    return step
                rule = step
        return rule

    def find_connection_step(self) -> Step | None:
        """Give the step for connections that is due: no step for a request stands before it."""
        with self._lock:
            for step in self._steps:
                if step.left and step.play.connection is not None:
                    return step
                if step.left and step.limited:
                    return None
            return None

    def find_rule(self, request: InvocationRequest) -> Play:
        """Give what is answered as a rule: by the first step that does not come to an end."""
        with self._lock:
            for step in self._steps:
                rules = not step.limited and step.play.content is not None
                if rules and not step.match.explain(request):
                    step.serve()
                    return step.play
            return Play()

    def refuse(self, request: InvocationRequest) -> str:
        """Take note of a request that there is no step for, and say so in a line."""
        with self._lock:
            nearest = self._find_nearest(request)
            if len(self._unexpected) < _MOST:
                self._unexpected.append((request, nearest))
            else:
                self._more += 1
        return f"The script has no answer for {show_request(request)}; {nearest}"

    def note_refusal(self, target: str, error: ServiceError) -> None:
        """Take note of a request that was refused before a step was looked for.

        Args:
            target: method and path.
            error: what it was answered with.
        """
        with self._lock:
            del self._unasked[: -_MOST + 1]
            told = f"{target}: {error.code}: {error.message}"
            self._unasked.append(mask_named(to_line(told)))

    def complain(self, *, unexpected: bool = True, unused: bool = True) -> str:
        """Say what was not as the script has it; nothing where all was.

        Args:
            unexpected: whether requests without an answer count.
            unused: whether answers without a request count.
        """
        lines = []
        with self._lock:
            if unexpected and self._unexpected:
                number = len(self._unexpected) + self._more
                lines.append(f"{_count(number, 'request')} had no answer in the script:")
                for request, nearest in self._unexpected:
                    lines += [f"  {show_request(request)}", f"    {nearest}"]
                if self._more:
                    lines.append(f"  and {self._more} more")
            wanting = [step for step in self._steps if unused and step.wanting]
            if wanting:
                lines.append(f"{_count(len(wanting), 'step')} of the script came to nothing:")
                for step in wanting:
                    lines.append(f"  {step.show()}")
                    lines += self._explain(step)
            if wanting and self._unasked:
                number = len(self._unasked)
                lines.append(f"{_count(number, 'request')} did not come as far as the script:")
                lines += (f"  {told}" for told in self._unasked)
        return "\n".join(lines)

    def _find_nearest(self, request: InvocationRequest) -> str:
        if not self._steps:
            return "the script is empty"
        step = min(self._steps, key=lambda step: (len(step.match.explain(request)), not step.left))
        problems = step.match.explain(request) or ["it was used up"]
        return f"nearest: {step.show()}; {'; '.join(problems)}"

    def _explain(self, step: Step) -> list[str]:
        nearest: list[tuple[int, str]] = [
            (len(problems), f"    nearest: {show_request(request)}: {'; '.join(problems)}")
            for request, _ in self._unexpected
            if (problems := step.match.explain(request))
        ]
        # A rule that stands before another one for the same requests leaves nothing to it.
        before = self._steps[: self._steps.index(step)]
        rules = [] if step.limited else [rule for rule in before if not rule.limited]
        shadows = [rule for rule in rules if rule.served and rule.match == step.match]
        return [
            *([min(nearest)[1]] if nearest else []),
            *(f"    the rule is {rule.show()}" for rule in shadows[:1]),
        ]


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def ignore_changes() -> None:
    """Take no note of a change."""

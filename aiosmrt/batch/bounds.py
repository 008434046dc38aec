"""What a batch keeps to."""

from __future__ import annotations

from typing import Literal

import attrs

from aiosmrt.errors import ConfigurationError
from aiosmrt.value import Value

__all__ = ["Bounds"]

# Rows from which a share of them says something.
_SAMPLE = 100


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Bounds(Value):
    """What a batch keeps to.

    Attributes:
        max_in_flight: rows between the inputs and who takes outcomes, each with calls of its own;
            `"auto"` where it is found out how many calls are made at a time.
        max_failures: rows that may fail, counts from 0, or the share of them; `None` for all.
        ordered: whether outcomes are given in the order of the inputs.
        result_timeout: seconds that an asynchronous invocation may take; `None` is no limit.
    """

    max_in_flight: int | Literal["auto"] = attrs.field()
    max_failures: int | float | None = attrs.field()
    ordered: bool
    result_timeout: float | None = attrs.field()

    @max_in_flight.validator
    def _check_places(self, _attribute: object, value: object) -> None:
        sound = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if not (sound or value == "auto"):
            raise ConfigurationError(f"max_in_flight={value!r}: an int of 1 or more, or 'auto'")

    @max_failures.validator
    def _check_failures(self, _attribute: object, value: object) -> None:
        count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        share = isinstance(value, float) and 0 <= value < 1
        if not (value is None or count or share):
            raise ConfigurationError(
                f"max_failures={value!r}: how many rows may fail, an int of 0 or more; or which "
                "share of them, a float below 1.0; or None"
            )

    @result_timeout.validator
    def _check_timeout(self, _attribute: object, value: object) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
        if not (value is None or number):
            raise ConfigurationError(f"result_timeout={value!r}: seconds above 0, or None")

    def allow(self, failed: int, finished: int) -> bool:
        """Tell whether so many of the finished rows may have failed."""
        if isinstance(self.max_failures, float):
            return failed <= self.max_failures * max(finished, _SAMPLE)
        return self.max_failures is None or failed <= self.max_failures

"""Values: equality, hash and representation, with what attrs itself generates as the judge."""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any

import aiohttp
import attrs
import pytest

import aiosmrt
from aiosmrt.errors import ParameterError
from aiosmrt.value import Partial, Value, write_json


@attrs.frozen(eq=False, repr=False)
class Pair(Value):
    one: object
    two: object = attrs.field(default=None, repr=False)


@attrs.frozen(eq=False, repr=False)
class Child(Pair):
    three: object = 3


@attrs.frozen
class Judge:
    one: object
    two: object = attrs.field(default=None, repr=False)


def test_values_are_equal_whose_fields_are() -> None:
    assert Pair(1, "a") == Pair(1, "a")
    assert Pair(1, "a") != Pair(1, "b")
    assert Pair(1, "a") != Pair(2, "a")


def test_a_value_is_equal_to_none_of_another_class() -> None:
    assert Pair(1) != Judge(1)
    assert Pair(1) != Child(1)
    assert Child(1) != Pair(1)
    assert Child(1, 2, 3) == Child(1, 2)
    assert Child(1, 2, 3) != Child(1, 2, 4)
    assert Pair(1) != 1


def test_equal_values_have_one_hash() -> None:
    assert hash(Pair(1, "a")) == hash(Pair(1, "a"))
    assert len({Pair(1, "a"), Pair(1, "a"), Pair(1, "b"), Child(1, "a")}) == 3


def test_a_copy_is_equal() -> None:
    value = Child("x", (1, 2))
    assert pickle.loads(pickle.dumps(value)) == copy.deepcopy(value) == value
    assert attrs.evolve(value, three=4) == Child("x", (1, 2), 4)


def _mask(value: object) -> str:
    return f"<{type(value).__name__}>"


@attrs.frozen(eq=False, repr=False)
class Masked(Value):
    one: object = attrs.field(repr=_mask)


@attrs.frozen
class MaskedJudge:
    one: object = attrs.field(repr=_mask)


@attrs.frozen(eq=False, repr=False)
class Layer(Partial):
    one: int | None = 1
    two: int | None = None


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (Layer(), Layer(7, 8)),
        (Layer(2), Layer(2, 8)),
        (Layer(two=2), Layer(7, 2)),
        (Layer(1), Layer(1, 8)),  # its default, but somebody has said so
        (Layer(two=None), Layer(7, None)),
        (Layer(None, None), Layer(None, None)),
    ],
)
def test_what_was_not_given_is_the_others(layer: Layer, expected: Layer) -> None:
    for same in (
        layer,
        copy.copy(layer),
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
    ):
        assert same == layer
        assert same.over(Layer(7, 8)) == expected


def test_layers_are_laid_over_each_other() -> None:
    assert Layer(two=2).over(Layer(3)).over(Layer(7, 8)) == Layer(3, 2)
    assert Layer(3).over(Layer()).over(Layer(7, 8)) == Layer(3, 8)  # nobody has given `two`


def test_it_looks_as_attrs_would_have_it() -> None:
    assert repr(Pair("x", "secret")) == repr(Judge("x", "secret")).replace("Judge", "Pair")
    assert repr(Child(1, "secret")) == "Child(one=1, three=3)"
    assert repr(Masked("secret")) == repr(MaskedJudge("secret")).replace("MaskedJudge", "Masked")


def _can_fail(kind: type[attrs.AttrsInstance]) -> bool:
    """Tell whether anything runs while one is being made."""
    factories = [field.default for field in attrs.fields(kind)]
    return hasattr(kind, "__attrs_post_init__") or any(
        field.validator or field.converter or getattr(factory, "takes_self", False)
        for field, factory in zip(attrs.fields(kind), factories, strict=True)
    )


def _find_classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(aiosmrt.__path__, "aiosmrt."):
        if not module.name.endswith("__main__"):
            for kind in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(kind) and kind.__module__ == module.name:
                    yield kind


HALF_MADE = [
    kind
    for kind in _find_classes()
    if (attrs.has(kind) and _can_fail(kind))
    or (not attrs.has(kind) and inspect.isroutine(vars(kind).get("__init__")))
    if not issubclass(kind, BaseException | aiohttp.ClientResponse | dict)
]


@pytest.mark.parametrize("kind", HALF_MADE)
def test_what_is_not_made_to_its_end_has_a_representation(kind: Any) -> None:
    half: object = kind.__new__(kind)
    assert kind.__name__ in repr(half)


def test_config_client_and_provider_are_among_them() -> None:
    names = {kind.__name__ for kind in HALF_MADE}
    assert {"Config", "SageMakerRuntimeClient", "CredentialProvider", "Call", "Pool"} <= names


# --- JSON


@pytest.mark.parametrize(
    "value", [None, "é", 1.5, {"a": [1, {"b": True}]}, [], (1, 2), {1: "a"}, -0.0, 1e300]
)
def test_json_is_that_of_the_standard_library(value: object) -> None:
    assert write_json(value) == json.dumps(value)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (float("nan"), "the value is nan"),
        (float("inf"), "the value is inf"),
        ([1.0, float("-inf")], r"the value at \[1\] is -inf"),
        ({"a": {"b": (0, float("nan"))}}, r"the value at \['a'\]\['b'\]\[1\] is nan"),
        ({"a": {float("nan"): 1}}, r"a key at \['a'\] is nan"),
    ],
)
def test_a_number_that_json_has_no_words_for_is_refused(value: object, problem: str) -> None:
    with pytest.raises(ParameterError, match=f"^{problem}.* finite number"):
        write_json(value)


def test_what_is_no_json_for_another_reason_is_refused_as_it_was() -> None:
    circle: list[object] = []
    circle.append(circle)
    for value in (object(), {1, 2}, circle, {(1, 2): 3}):
        with pytest.raises((TypeError, ValueError)) as caught:
            write_json(value)
        assert not isinstance(caught.value, ParameterError)

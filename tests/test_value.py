"""Values: equality, hash and representation, with what attrs itself generates as the judge."""

from __future__ import annotations

import copy
import pickle

import attrs

from aiosmrt.value import Value


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


def test_it_looks_as_attrs_would_have_it() -> None:
    assert repr(Pair("x", "secret")) == repr(Judge("x", "secret")).replace("Judge", "Pair")
    assert repr(Child(1, "secret")) == "Child(one=1, three=3)"

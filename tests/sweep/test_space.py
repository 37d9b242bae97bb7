"""What a search searches in, read from the command line."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from audioclf.errors import UserError
from audioclf.sweep.space import Axis, Choice, Interval, axis_of


def axis(text: str) -> Axis:
    return axis_of(OverridesParser.create().parse_override(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=interval(1e-5,1e-1)", Interval("lr", 1e-5, 1e-1, log=True)),
        ("lr=interval(1e-3,99e-3)", Interval("lr", 1e-3, 99e-3)),
        ("lr=tag(log,interval(1e-3,2e-3))", Interval("lr", 1e-3, 2e-3, log=True)),
        ("lr=tag(linear,interval(1e-5,1e-1))", Interval("lr", 1e-5, 1e-1)),
        ("loss.label_smoothing=interval(0,0.5)", Interval("loss.label_smoothing", 0.0, 0.5)),
        ("model.hidden=interval(16,512)", Interval("model.hidden", 16, 512)),
        ("model.hidden=interval(4,512)", Interval("model.hidden", 4, 512, log=True)),
        ("epochs=range(10,31,10)", Interval("epochs", 10, 30, step=10)),
        ("epochs=range(30,0,-10)", Interval("epochs", 10, 30, step=10)),
        ("epochs=range(3,4)", Choice("epochs", ("3",))),
        ("data.val_fraction=range(0.1,0.35,0.1)", Interval("data.val_fraction", 0.1, 0.3, step=0.1)),
        ("lr=1e-3,1e-4", Choice("lr", ("0.001", "0.0001"))),
        ("++model=linear,audio_classifier", Choice("++model", ("linear", "audio_classifier"))),
        ("data.classes=[a,b],null", Choice("data.classes", ("[a,b]", "null"))),
    ],
)
def test_an_override_spans_an_axis(text: str, expected: Axis) -> None:
    found = axis(text)
    if isinstance(found, Interval) and isinstance(expected, Interval):
        assert found.whole == expected.whole
    assert found == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr=interval(1,0)", "lr=interval(1,0): expected two numbers, the lower one first"),
        ("lr=interval(0,inf)", "lr=interval(0,inf): expected two numbers, the lower one first"),
        (
            "lr=tag(log,interval(0,1))",
            "lr=tag(log,interval(0,1)): a logarithmic scale has no 0; expected positive numbers",
        ),
        ("lr=tag(lin,interval(0,1))", "lr=tag(lin,interval(0,1)): lin is no scale; expected log or linear"),
    ],
)
def test_an_interval_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        axis(text)
    assert caught.value.message == message


@given(
    ends=st.tuples(st.floats(1e-9, 1e9), st.floats(1e-9, 1e9)).filter(lambda pair: pair[0] < pair[1]),
    share=st.floats(0, 1),
    log=st.booleans(),
)
def test_a_proposed_number_is_short_and_stays_in_its_interval(
    ends: tuple[float, float], share: float, log: bool
) -> None:
    low, high = ends
    value = min(max(low + share * (high - low), low), high)
    text = Interval("lr", low, high, log).text(value)
    assert low <= float(text) <= high
    assert abs(float(text) - value) <= 1e-3 * (value if log else high - low)
    if float(text) not in ends and log:
        assert len(Decimal(text).normalize().as_tuple().digits) <= 4


def test_whole_numbers_stay_whole_and_steps_are_typed_as_they_are_meant() -> None:
    assert Interval("model.hidden", 4, 512, log=True).text(31.0) == "31"
    assert Interval("data.val_fraction", 0.1, 0.4, step=0.1).text(0.1 + 0.1 + 0.1) == "0.3"
    assert Interval("loss.label_smoothing", 0, 1).real().text(0.123456) == "0.123"

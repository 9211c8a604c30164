from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgen.config import Limit, apply_overrides, build, check_limits, dump_toml, read_toml, sha256, to_mapping
from fgen.errors import InputError
from fgen.experiment.config import ExperimentConfig


@dataclass(frozen=True)
class Head:
    epochs: int = 5
    kind: Literal["softmax", "svm"] = "softmax"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}, which is below 1")


@dataclass(frozen=True)
class Config:
    batch_size: int
    lr: float = 1e-4
    bias: bool = True
    title: str = "clswgan"
    noise_dim: int | None = None
    steps: int | None = 100
    widths: tuple[int, ...] = ()
    betas: tuple[float, float] = (0.5, 0.999)
    embedding: str | tuple[str, ...] = "attributes"
    weights: dict[str, float] = field(default_factory=dict)
    head: Head = field(default_factory=Head)
    extra: Head | None = None


names = st.text(max_size=8)
whole = st.integers(-(2**63), 2**63 - 1)
number = st.floats(allow_nan=False, allow_infinity=False)
heads = st.builds(Head, epochs=st.integers(1, 2**40), kind=st.sampled_from(["softmax", "svm"]))
configs = st.builds(
    Config,
    batch_size=whole,
    lr=number,
    bias=st.booleans(),
    title=names,
    noise_dim=st.none() | whole,
    steps=st.none() | whole,
    widths=st.lists(whole, max_size=3).map(tuple),
    betas=st.tuples(number, number),
    embedding=names | st.lists(names, max_size=3).map(tuple),
    weights=st.dictionaries(names, number, max_size=3),
    head=heads,
    extra=st.none() | heads,
)


def message(mapping: dict[str, Any], cls: type = Config) -> str:
    with pytest.raises(InputError) as caught:
        build(cls, {"batch_size": 8} | mapping)
    return str(caught.value)


@given(config=configs)
def test_a_config_survives_the_way_to_a_toml_file_and_back(config, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "round_trip.toml"
    path.write_bytes(dump_toml(to_mapping(config)).encode())
    mapping = read_toml(path)
    assert build(Config, mapping) == config
    assert sha256(mapping) == sha256(to_mapping(config))


def test_an_unknown_key_names_the_nearest_and_lists_the_others():
    text = message({"bach_size": 3})
    assert "model.bach_size" in text
    assert "Did you mean batch_size?" in text
    assert "noise_dim" in text


def test_an_unknown_key_inside_a_table_is_found_by_its_whole_path():
    assert "model.head.epoch" in message({"head": {"epoch": 3}})


def test_a_missing_key_is_named():
    with pytest.raises(InputError, match=r"model\.batch_size is missing; expected a whole number"):
        build(Config, {})


@pytest.mark.parametrize(
    ("mapping", "parts"),
    [
        ({"lr": "fast"}, ["model.lr is 'fast' (str)", "expected a number"]),
        ({"lr": "1e-4"}, ["Write 0.0001, without quotes"]),
        ({"lr": True}, ["model.lr is True (bool)"]),
        ({"batch_size": True}, ["model.batch_size is True (bool)", "a whole number"]),
        ({"batch_size": 1e3}, ["model.batch_size is 1000.0 (float)", "Write 1000"]),
        ({"bias": 1}, ["model.bias is 1 (int)", "true or false"]),
        ({"bias": "True"}, ["Write true, without quotes"]),
        ({"title": 3}, ["model.title is 3 (int)", 'Quote it: "3"']),
        ({"widths": [1, "b"]}, ["model.widths[1] is 'b' (str)"]),
        ({"widths": 4}, ["a list, each item a whole number"]),
        ({"betas": [0.5]}, ["a list of 2: a number, a number"]),
        ({"embedding": 3}, ["a string or a list, each item a string"]),
        ({"noise_dim": 1.5}, ["model.noise_dim is 1.5 (float)", "a whole number"]),
        ({"weights": {"w": "x"}}, ["model.weights.w is 'x' (str)"]),
        ({"head": 3}, ["model.head is 3 (int)", "a table"]),
        ({"head": {"kind": "softmaxx"}}, ["one of 'softmax', 'svm'", "Did you mean softmax?"]),
        ({"extra": {"epochs": "a"}}, ["model.extra.epochs"]),
    ],
)
def test_a_wrong_value_is_named_with_its_key_type_and_what_was_expected(mapping, parts):
    text = message(mapping)
    for part in parts:
        assert part in text


def test_a_refused_range_names_the_section():
    assert "[model.head] epochs is 0" in message({"head": {"epochs": 0}})


def test_a_whole_number_becomes_a_float_where_a_float_is_wanted():
    config = build(Config, {"batch_size": 8, "lr": 1, "betas": [0, 1]})
    assert type(config.lr) is float
    assert config.betas == (0.0, 1.0)


def test_the_word_none_switches_an_optional_setting_off():
    assert build(Config, apply_overrides({"batch_size": 8}, ["steps=none"])).steps is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-4", 1e-4),
        ("true", True),
        ("[0, 1]", [0, 1]),
        ('"3"', "3"),
        ("softmax", "softmax"),
        ("/data/x=y.h5", "/data/x=y.h5"),
        ("", ""),
        ("1\nb = 2", "1\nb = 2"),
    ],
)
def test_an_override_is_a_toml_value_or_else_plain_text(text, value):
    result = apply_overrides({}, [f"a.b={text}"])
    assert result == {"a": {"b": value}}
    assert type(result["a"]["b"]) is type(value)


def test_overrides_leave_the_original_and_all_other_keys_alone():
    original = {"model": {"lr": 1.0, "name": "x"}}
    assert apply_overrides(original, ["model.lr=2", "model.lr=3"]) == {"model": {"lr": 3, "name": "x"}}
    assert original == {"model": {"lr": 1.0, "name": "x"}}


@pytest.mark.parametrize("item", ["model.lr", "=3", "model.=3", ".lr=3", "name.deep.er=3"])
def test_a_malformed_override_is_quoted_back(item):
    with pytest.raises(InputError) as caught:
        apply_overrides({"name": "x"}, [item])
    assert repr(item) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "part"),
    [(b"a = 1\nb = \n", "line 2"), (b"a = 1\nb = '\xff'\n", "line 2"), (b"a = 1\na = 2\n", "line 2")],
)
def test_a_broken_toml_file_is_reported_with_its_line(tmp_path, content, part):
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=part) as caught:
        read_toml(path)
    assert str(path) in str(caught.value)


def test_a_missing_toml_file_and_a_folder_are_input_errors(tmp_path):
    for path in (tmp_path / "nowhere.toml", tmp_path):
        with pytest.raises(InputError, match="can't be read"):
            read_toml(path)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
    assert read_toml(path) == {"a": 1, "b": 2}


def test_the_hash_ignores_the_order_of_keys_and_sees_every_value():
    assert sha256({"a": 1, "b": {"c": [1, 2]}}) == sha256({"b": {"c": (1, 2)}, "a": 1})
    assert sha256({"a": 1}) != sha256({"a": 2})


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400])
def test_a_number_that_no_file_could_hold_is_refused(value):
    assert "model.lr is" in message({"lr": value})


def test_numbers_of_numpy_are_numbers():
    config = build(Config, {"batch_size": np.int64(8), "lr": np.float32(0.5), "bias": True})
    assert (type(config.batch_size), type(config.lr), config.lr) == (int, float, 0.5)
    assert "model.batch_size is" in message({"batch_size": np.bool_(True)})


def test_a_key_of_another_section_or_of_another_head_is_told_where_it_belongs():
    config = {"dataset": {"name": "toy"}, "model": {"name": "clswgan"}}
    with pytest.raises(InputError, match=r"n_neighbors stands in no section; expected classifier\.n_neighbors"):
        ExperimentConfig.from_mapping(config | {"n_neighbors": 3})
    with pytest.raises(InputError, match=r"classifier\.solver is set, which knn doesn't have.*It belongs to softmax"):
        ExperimentConfig.from_mapping(config | {"classifier": {"name": "knn", "solver": "lbfgs"}})


HOSTILE = {
    "deep lists": "[" * 2000 + "]" * 2000,
    "deep enough": "[" * 30 + "]" * 30,
    "digits": "1" * 5000,
    "hexadecimal": "0x" + "f" * 5000,
    "hexadecimal in a list": "[0x" + "f" * 5000 + "]",
    "65 bits": str(2**64),
    "long": '"' + "x" * 300_000 + '"',
}


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_toml_that_no_experiment_needs_is_refused_wherever_it_is_read(tmp_path, value):
    (tmp_path / "c.toml").write_text(f"[paper]\na = {value}\n")
    with pytest.raises(InputError, match=r"c\.toml: ") as caught:
        read_toml(tmp_path / "c.toml")
    assert len(str(caught.value)) < 1000
    with pytest.raises(InputError, match=r"--set 'paper\.a=") as caught:
        apply_overrides({}, [f"paper.a={value}"])
    assert len(str(caught.value)) < 500


def test_keys_of_very_many_parts_are_refused_and_many_dots_elsewhere_are_not(tmp_path):
    """The parser takes time that grows with the square of the parts."""
    path = tmp_path / "c.toml"
    for part in ("a", '"a b"', "'a'"):
        for key in (" . ".join([part] * 300), ".".join([part] * 300)):
            for text in (f"{key} = 1", f"[{key}]", f"b = {{{key} = 1}}"):
                path.write_text(text)
                with pytest.raises(InputError, match="100 dots in a key"):
                    read_toml(path)
    with pytest.raises(InputError, match="nested too deeply"):
        apply_overrides({}, ["a." * 300 + "b=1"])
    path.write_text(f"a = [{', '.join(['0.5'] * 500)}]\nb = '{'so... ' * 200}'\n" + "c.d.e = 1\n")
    assert len(read_toml(path)["a"]) == 500


UNSHOWN = {
    "number": 10**5000,
    "in lists": [[10**5000]],
    "in tables": {"b": {"c": -(10**5000)}},
    "half a pair": "\ud800",
    "half a pair as key": {"\ud800": 1},
}


@pytest.mark.parametrize("value", UNSHOWN.values(), ids=UNSHOWN)
def test_settings_that_no_message_could_show_are_refused(value):
    for section, key in (("paper", "note"), ("model", "name"), ("model", "epochs"), ("protocol", "seeds")):
        config = {"dataset": {"name": "toy"}, "model": {"name": "clswgan"}}
        with pytest.raises(InputError, match=rf"{section}\.{key}.* is "):
            ExperimentConfig.from_mapping(config | {section: config.get(section, {}) | {key: value}})


@dataclass(frozen=True)
class Sizes:
    rate: float | None = 0.5
    share: float | None = 0.5


def test_the_first_field_out_of_range_is_named_and_one_that_is_not_set_is_fine():
    limits = {"rate|share": Limit(lambda x: 0 < x < 1, "a share", "Take half")}
    check_limits(Sizes(share=None), limits)
    for rate in (2.0, float("nan")):
        with pytest.raises(InputError, match=rf"rate is {rate}; expected a share\. Take half\."):
            check_limits(Sizes(rate, 3.0), limits)

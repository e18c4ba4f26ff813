"""Knobs: the fields of a config, each with default, allowed values and description in one place.

`knob` makes a dataclass field. From its arguments come the config's docstring and its answer to
unknown keywords (`explained`), the check of values (`validate`), and the description of a value
(`describe`, `differences`).
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import Field, field, fields, is_dataclass
from functools import wraps
from math import inf
from textwrap import fill
from typing import Any, NamedTuple, TypeVar, cast

from switch_np.operations import check

Config = TypeVar("Config")
YES_NO = {True: "yes", False: "no"}
RATE = {0.0: "none", float: "{}"}
LARGEST = 1e200    # a factor times all tokens and choices is then still finite
WIDTH = 96         # of a docstring's text: `help` indents it by four


class Knob(NamedTuple):
    """What is known of a field.

    Attributes
    ----------
    topic
        What is decided: the start of a sentence that a value's description completes.
    values
        Description of each literal value allowed; and of int or float, where numbers are allowed,
        as a text with a placeholder for the number.
    least, below
        Bounds of the numbers.
    needs
        Which libraries need another value than the default: a text, or a dict from value to text.
    about
        Whole sentences, for the docstring alone.
    """

    topic: str
    values: Mapping[Any, str]
    least: float | None
    below: float | None
    needs: str | Mapping[Any, str]
    about: str

    @property
    def literals(self) -> list[Any]:
        """The values that are written out: strings, None, True and False, 0.0."""
        return [value for value in self.values if not isinstance(value, type)]

    @property
    def kind(self) -> type | None:
        """The kind of numbers allowed, int or float."""
        return next((value for value in self.values if isinstance(value, type)), None)

    @property
    def bounds(self) -> str:
        """The bounds of the numbers, as a text."""
        low = [f"at least {self.least:g}"] if self.least is not None else []
        high = [f"below {self.below:g}"] if self.below not in (None, LARGEST) else []
        return " and ".join(low + high)

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that is not allowed."""
        strings = [literal for literal in self.literals if isinstance(literal, str)]
        if value is None and None in self.literals:
            return
        if self.values is YES_NO:
            check.flag(name, value)
        elif strings and (self.kind is None or isinstance(value, str)):
            check.choice(name, value, strings)
        elif self.kind is int:
            check.integer(name, value, int(self.least or 0))
        else:
            check.number(name, value, -inf if self.least is None else self.least,
                         inf if self.below is None else self.below)

    def describe(self, value: Any) -> str:
        """Return the description of an allowed value."""
        return self.values[value if value in self.values else self.kind].format(value)


def knob(default: Any, topic: str, values: str | Mapping[Any, str], *, least: float | None = None,
         below: float | None = None, needs: str | Mapping[Any, str] = "", about: str = "") -> Any:
    """Return a dataclass field; see `Knob` for the arguments.

    A text for `values` allows any value of the default's type. The return type is Any so that the
    field's own annotation holds.
    """
    described = {type(default): values} if isinstance(values, str) else values
    return field(default=default,
                 metadata={"knob": Knob(topic, described, least, below, needs, about)})


def of(config: Any) -> dict[str, Knob]:
    """Return the knobs of a config, or of its class, by name."""
    return {f.name: f.metadata["knob"] for f in fields(config) if "knob" in f.metadata}


def choices(config: Any) -> dict[str, tuple[str, ...]]:
    """Return the options of the knobs that take one of several strings."""
    return {name: tuple(k.literals) for name, k in of(config).items()
            if all(isinstance(value, str) for value in k.values)}


def validate(config: Any) -> None:
    """Check every field of a config, and store its numbers as Python's own.

    A nested config may come as a dict, as `dataclasses.asdict` leaves it.
    """
    for name, cls in _nested(config).items():
        value = getattr(config, name)
        if isinstance(value, Mapping):
            check.keys(name, value, set(of(cls)))
            object.__setattr__(config, name, cls(**value))
        check.instance(name, getattr(config, name), cls)
    for name, k in of(config).items():
        k.check(name, getattr(config, name))
    check.plain(config)


def build(cls: type[Config], settings: Mapping[str, Any]) -> Config:
    """Return a config from its own fields and those of its nested configs, all in one dict."""
    nested = _nested(cls)
    known = [name for each in (cls, *nested.values()) for name in of(each)]
    for name in settings:
        if name not in known:
            owners = " and ".join(each.__name__ for each in (cls, *nested.values()))
            raise ValueError(f"like() takes fields of {owners}, got {name!r}"
                             + check.nearest(name, known))

    def own(each: type) -> dict[str, Any]:
        return {name: value for name, value in settings.items() if name in of(each)}

    return cls(**own(cls), **{name: inner(**own(inner)) for name, inner in nested.items()})


def describe(config: Any, name: str, value: Any) -> str:
    """Return the description of a field's value; `config` may be the class, too.

    >>> from switch_np.conventions.table import Conventions
    >>> describe(Conventions, "capacity_rounding", "ceil"), describe(Conventions, "gate_scale", 2.5)
    ('up', '2.5')
    """
    check.choice("name", name, list(of(config)))
    k = of(config)[name]
    k.check(name, value)
    return k.describe(value)


def differences(mine: Any, other: Any, called: str = "the other") -> list[str]:
    """Return a sentence for every field in which two configs of one class differ.

    >>> from switch_np.conventions.table import Conventions
    >>> differences(Conventions(renorm_single=True), Conventions(), "the paper")
    ['A single choice is divided by itself: yes; the paper: no.']
    """
    check.instance("other", other, type(mine))
    found = []
    for name, k in of(mine).items():
        a, b = getattr(mine, name), getattr(other, name)
        if a != b:
            found.append(f"{k.topic}: {k.describe(a)}; {called}: {k.describe(b)}.")
    for name in _nested(mine):
        found += differences(getattr(mine, name), getattr(other, name), called)
    return found


def explained(cls: type[Config]) -> type[Config]:
    """Decorate a dataclass of knobs: its docstring lists them, and it answers unknown keywords."""
    members = fields(cast(Any, cls))
    before, mark, after = inspect.cleandoc(cls.__doc__ or "").partition("Examples\n")
    parameters = "\n".join(line for f in members for line in _parameter(f))
    cls.__doc__ = f"{before}Parameters\n----------\n{parameters}\n\n{mark}{after}"
    made, names = cls.__init__, {f.name for f in members}

    @wraps(made)
    def __init__(self: Config, *args: Any, **given: Any) -> None:
        for name, value in given.items():
            if name not in names:
                raise TypeError(_unknown(cls, name, value))
        made(self, *args, **given)

    setattr(cls, "__init__", __init__)    # noqa: B010 (mypy refuses to assign to a method)
    return cls


def _nested(config: Any) -> dict[str, Any]:
    """Return the classes of the fields that are configs themselves."""
    return {f.name: f.default_factory for f in fields(config) if is_dataclass(f.default_factory)}


def _unknown(cls: type, name: str, value: Any) -> str:
    """Return a message: which class takes this keyword, or which one it resembles."""
    for owner, inner in _nested(cls).items():
        if name in of(inner):
            given = f"{name}={value!r:.60}"
            return (f"{name} is a field of {inner.__name__}: write {cls.__name__}({owner}="
                    f"snp.{inner.__name__}({given})) or {cls.__name__}.like('paper', {given})")
    known = [f.name for each in (cls, *_nested(cls).values()) for f in fields(each)]
    return f"{cls.__name__} has no field {name!r}" + check.nearest(name, known)


def _parameter(f: Field[Any]) -> Iterator[str]:
    """Yield a field's lines in the docstring."""
    k = f.metadata.get("knob")
    if k is None:
        yield f"{f.name} : {f.type}"
        yield _wrapped(f.metadata.get("about", ""))
        return
    yield f"{f.name} : {f.type}, default {f.default!r}"
    needs = f"Needed by {k.needs}." if k.needs and isinstance(k.needs, str) else ""
    if k.values is YES_NO or set(k.values) == {k.kind}:
        bounds = k.bounds.capitalize() + "." if k.bounds else ""
        yield _wrapped(f"{k.topic}. {k.about} {bounds} {needs}")
        return
    yield _wrapped(f"{k.topic}:")
    yield from ("", *_values(k))
    if k.about or needs:
        yield from ("", _wrapped(f"{k.about} {needs}"))


def _values(k: Knob) -> Iterator[str]:
    """Yield a line for each value, with its description and who needs it."""
    for value, description in k.values.items():
        name = repr(value)
        if isinstance(value, type):
            letter = "n" if value is int else "x"
            name = f"a number {letter}" + (f", {k.bounds}" if k.bounds else "")
            description = "" if description == "{}" else description.format(letter)
        who = k.needs.get(value) if isinstance(k.needs, Mapping) else None
        yield _wrapped(f"- {name}" + (f": {description}" if description else "")
                       + (f" ({who})" if who else ""), "  ")


def _wrapped(text: str, hang: str = "") -> str:
    return fill(" ".join(text.split()), WIDTH, initial_indent="    ",
                subsequent_indent="    " + hang, break_long_words=False, break_on_hyphens=False)

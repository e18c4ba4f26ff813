"""Knobs: the fields of a config, each with its default, its values and their meaning in one place.

`knob` makes a dataclass field. The docstring and the message for unknown keywords (`explained`),
the check of values (`validate`) and descriptions (`describe`, `differences`) all come from it.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import Field, field, fields, is_dataclass
from functools import cache, wraps
from math import inf
from textwrap import fill
from typing import Any, NamedTuple, TypeVar, cast

from switch_np.operations import check

Config = TypeVar("Config")
YES_NO = {True: "yes", False: "no"}
RATE = {0.0: "none", float: "{}"}
LARGEST = 1e200    # a factor below it stays finite when tokens and choices multiply it
WIDTH = 96         # of a docstring's text: `help` indents it by four


class Knob(NamedTuple):
    """What a field decides; `topic` and the description of a value make a sentence."""

    topic: str
    values: Mapping[Any, str]         # with descriptions; int or float stands for any number
    least: float | None               # bounds of the numbers
    below: float | None
    needs: str | Mapping[Any, str]    # libraries that need another value, or each value
    about: str                        # more sentences for the docstring

    @property
    def literals(self) -> list[Any]:
        """The values listed one by one: strings, None, True and False, 0.0."""
        return [value for value in self.values if not isinstance(value, type)]

    @property
    def kind(self) -> type | None:
        """The type of the numbers allowed, int or float."""
        return next((value for value in self.values if isinstance(value, type)), None)

    @property
    def bounds(self) -> str:
        """The bounds of the numbers, in words."""
        low = [f"at least {self.least:g}"] if self.least is not None else []
        high = [f"below {self.below:g}"] if self.below not in (None, LARGEST) else []
        return " and ".join(low + high)

    def check(self, name: str, value: Any) -> None:
        """Refuse a value that is not allowed."""
        if isinstance(value, str | None) and value in self.values:
            return
        strings = [literal for literal in self.literals if isinstance(literal, str)]
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
    """Return a dataclass field, typed Any so that its own annotation holds.

    The arguments are those of `Knob`; one text as `values` describes any number of the default's
    type.
    """
    values = {type(default): values} if isinstance(values, str) else values
    return field(default=default,
                 metadata={"knob": Knob(topic, values, least, below, needs, about)})


def of(config: Any) -> Mapping[str, Knob]:
    """Return the knobs of a config, or of its class, by name."""
    return _of(config if isinstance(config, type) else type(config))


@cache
def _of(cls: Any) -> Mapping[str, Knob]:
    return {f.name: f.metadata["knob"] for f in fields(cls) if "knob" in f.metadata}


def choices(config: Any) -> dict[str, tuple[str, ...]]:
    """Return the options of the knobs that take one of several strings."""
    return {name: tuple(k.literals) for name, k in of(config).items()
            if all(isinstance(value, str) for value in k.values)}


def validate(config: Any) -> None:
    """Check every field of a config; nested configs may be dicts, as `asdict` makes them."""
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
    """Return a config from its fields and those of its nested configs, all in one dict."""
    nested = _nested(cls)
    known = [name for each in (cls, *nested.values()) for name in of(each)]
    for name in settings:
        if name not in known:
            owners = " and ".join(each.__name__ for each in (cls, *nested.values()))
            raise ValueError(f"like() takes fields of {owners}, got {name!r}"
                             + check.nearest(name, known))

    def own(each: type) -> dict[str, Any]:
        return {name: value for name, value in settings.items() if name in of(each)}

    return cls(**own(cls), **{name: each(**own(each)) for name, each in nested.items()})


def describe(config: Any, name: str, value: Any) -> str:
    """Return what a value of a field means; `config` may also be the class.

    >>> from switch_np.conventions.table import Conventions
    >>> describe(Conventions, "capacity_rounding", "ceil"), describe(Conventions, "gate_scale", 2.5)
    ('up', '2.5')
    """
    check.choice("name", name, list(of(config)))
    k = of(config)[name]
    k.check(name, value)
    return k.describe(value)


def differences(mine: Any, other: Any, called: str = "the other") -> list[str]:
    """Return a sentence for every field in which two configs of the same class differ.

    >>> from switch_np.conventions.table import Conventions
    >>> differences(Conventions(renorm_single=True), Conventions(), "the paper")
    ['A single gate is divided by itself: yes; the paper: no.']
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
    """Decorate a dataclass of knobs: list them in its docstring, and explain unknown keywords."""
    members = fields(cast(Any, cls))
    before, mark, after = inspect.cleandoc(cls.__doc__ or "").partition("Examples\n")
    told = "\n".join(line for f in members for line in _parameter(f))
    cls.__doc__ = f"{before}Parameters\n----------\n{told}\n\n{mark}{after}"
    made, names = cls.__init__, {f.name for f in members}

    @wraps(made)
    def __init__(self: Config, *args: Any, **given: Any) -> None:
        for name, value in given.items():
            if name not in names:
                raise TypeError(_unknown(cls, name, value))
        made(self, *args, **given)

    cls.__init__ = __init__                                                  # type: ignore[assignment]
    return cls


def _nested(config: Any) -> dict[str, Any]:
    """Return the classes of the nested configs, by field."""
    return {f.name: f.default_factory for f in fields(config) if is_dataclass(f.default_factory)}


def _unknown(cls: type, name: str, value: Any) -> str:
    """Say where a keyword that `cls` does not take belongs, or which field it is nearest to."""
    for outer, inner in _nested(cls).items():
        if name in of(inner):
            given = f"{name}={value!r:.60}"
            return (f"{name} is a field of {inner.__name__}: write {cls.__name__}({outer}="
                    f"snp.{inner.__name__}({given})) or {cls.__name__}.like('paper', {given})")
    known = [f.name for each in (cls, *_nested(cls).values()) for f in fields(each)]
    return f"{cls.__name__} has no field {name!r}" + check.nearest(name, known)


def _parameter(f: Field[Any]) -> Iterator[str]:
    """Yield the docstring's lines for one field."""
    k, kind = f.metadata.get("knob"), f.type.__name__ if isinstance(f.type, type) else f.type
    if k is None:
        yield from (f"{f.name} : {kind}", _wrapped(f.metadata.get("about", "")))
        return
    yield f"{f.name} : {kind}, default {f.default!r}"
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
    """Yield a line for each value: its description, and who needs it."""
    for value, words in k.values.items():
        name = repr(value)
        if isinstance(value, type):
            letter = "n" if value is int else "x"
            name = f"a number {letter}" + (f", {k.bounds}" if k.bounds else "")
            words = "" if words == "{}" else words.format(letter)
        who = k.needs.get(value) if isinstance(k.needs, Mapping) else None
        yield _wrapped(f"- {name}" + (f": {words}" if words else "") + (f" ({who})" if who else ""),
                       "  ")


def _wrapped(text: str, hang: str = "") -> str:
    return fill(" ".join(text.split()), WIDTH, initial_indent="    ",
                subsequent_indent="    " + hang, break_long_words=False, break_on_hyphens=False)

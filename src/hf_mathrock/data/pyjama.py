# SPDX-License-Identifier: Apache-2.0
"""Reads `.pyjama`: the annotations of a whole corpus in one file, checked and typed.

A pyjama file is JSON: definitions of annotations, then a list of entries that use them. Up to schema 1.31 its keys are
written `typeContent`, from 1.4 on `type_content`; a matrix over time is `(dimension, time)` in the published corpora
and `(time, dimension)` in the format's own description. Both of both are read, into one in-memory form.

Source of the format: geoffroypeeters/pyjama on GitHub. Licences are those of each corpus.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

from hf_mathrock.models.audio_opening import open_regular_file, printable_name

Content = Literal["text", "numeric"]
Extent = Literal["global", "marker", "segment", "breakpoint", "breakpoint_time", "breakpoint_value"]
Constraint = Literal["free", "filepath", "value_in_dictionary"]

MAX_BYTES = 2**30
# Spellings up to schema 1.31 → those from 1.4 on.
_SPELLINGS = {
    "breakpointTime": "breakpoint_time",
    "breakpointValue": "breakpoint_value",
    "filePath": "filepath",
    "valueInDictionary": "value_in_dictionary",
}


@dataclass(frozen=True, slots=True)
class Definition:
    """What an annotation of some name may hold.

    Attributes:
        content: "text" or "numeric".
        extent: "global" holds for the whole entry; "marker" has a time, "segment" a time and a duration, "breakpoint" a
            matrix over times; "breakpoint_value" a matrix over the times of the entry's "breakpoint_time".
        constraint: "free", "filepath", or "value_in_dictionary".
        dictionary: Allowed texts, or the least and greatest number; only with "value_in_dictionary".
        row_names: Name of each dimension of a matrix.
    """

    content: Content
    extent: Extent
    constraint: Constraint
    dictionary: tuple[Any, ...] = ()
    row_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Atom:
    """One annotated fact.

    Attributes:
        value: Text, number or list of these; of a breakpoint a float64 matrix `(num_dimensions, num_times)`.
        time: Seconds; of a breakpoint a float64 array `(num_times,)`, not falling. `None` for global facts.
        duration: Seconds, of a segment.
        confidence: As the file has it.
        comment: As the file has it.
    """

    value: Any
    time: Any = None
    duration: Any = None
    confidence: Any = None
    comment: str = ""


@dataclass(frozen=True)
class PyjamaCollection:
    """A pyjama file.

    Attributes:
        version: Of the schema.
        definitions: By name of the annotation.
        entries: One per recording; per declared name the facts, none where nobody knows.
    """

    version: float
    definitions: dict[str, Definition]
    entries: list[dict[str, tuple[Atom, ...]]]


class _FormatError(ValueError):
    """What is wrong, without where."""


def read_pyjama(path: str | os.PathLike[str]) -> PyjamaCollection:
    """Read and check a pyjama file, of any schema from 1.0 on.

    Args:
        path: The file.

    Returns:
        Its contents in the spelling of schema 1.4, matrices as `(num_dimensions, num_times)`.

    Raises:
        ValueError: It is no pyjama file; an entry uses an undeclared name, a value outside its dictionary or range, a
            time that is missing, negative, not finite or falling, a matrix that fits its times in neither direction; or
            two entries have one `filepath`. The message gives the number of the entry, from 0.
    """
    name = printable_name(path)
    try:
        data = _parse(path)
        version = _version(data)
        collection = _mapping(data.get("collection"), "`collection`")
        definitions = {
            annotation: _definition(annotation, entry)
            for annotation, entry in _mapping(
                collection.get("descriptiondefinition"), "`collection.descriptiondefinition`"
            ).items()
        }
        if not isinstance(entries := collection.get("entry"), list):
            raise _FormatError(f"`collection.entry` is {_kind(entries)}; it must be a list")
    except _FormatError as error:
        raise ValueError(f"{name} is no usable pyjama file: {error}.") from None
    read = []
    for number, entry in enumerate(entries):
        try:
            read.append(_entry(entry, definitions))
        except _FormatError as error:
            raise ValueError(f"{name}: entry {number}{_called(entry)}: {error}.") from None
    _check_unique(name, read)
    return PyjamaCollection(version, definitions, read)


def _parse(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    with open_regular_file(path) as stream:
        if os.fstat(stream.fileno()).st_size > MAX_BYTES:
            raise _FormatError(f"it is larger than {MAX_BYTES} bytes")
        content = stream.readall()
    try:
        data = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise _FormatError(f"it is not JSON ({error})") from None
    return _mapping(data, "the top level")


def _version(data: Mapping[str, Any]) -> float:
    given = data.get("schemaversion")
    try:
        version = float(given)  # type: ignore[arg-type]  # what is no number fails below
    except (TypeError, ValueError):
        raise _FormatError(f"its `schemaversion` is {given!r}; it must be a number such as 1.31 or 1.4") from None
    if not 1 <= version < 2:
        raise _FormatError(f"its `schemaversion` is {version}; those from 1.0 to below 2 are known")
    return version


def _definition(name: str, given: Any) -> Definition:
    fields = _mapping(given, f"the definition of {name!r}")

    def field(new: str, old: str, allowed: tuple[str, ...]) -> str:
        value = fields.get(new, fields.get(old))
        value = _SPELLINGS.get(value, value) if isinstance(value, str) else value
        if value not in allowed:
            raise _FormatError(f"{name!r} has the `{new}` {value!r}; allowed are {', '.join(allowed)}")
        return value

    content = field("type_content", "typeContent", get_args(Content))
    extent = field("type_extent", "typeExtent", get_args(Extent))
    constraint = field("type_constraint", "typeConstraint", get_args(Constraint))
    dictionary = tuple(_list(fields.get("dictionary") or [], f"the `dictionary` of {name!r}"))
    rows = fields.get("row_name") or fields.get("column_name") or fields.get("columnName") or []
    if constraint == "value_in_dictionary":
        if content == "numeric" and (len(dictionary) != 2 or not all(_is_number(bound) for bound in dictionary)):
            raise _FormatError(
                f"{name!r} is numeric, so its `dictionary` must be [least, greatest]; it is {dictionary}"
            )
        if content == "text" and not all(isinstance(word, str) for word in dictionary):
            raise _FormatError(f"the `dictionary` of {name!r} holds something that is no text")
        if len(set(dictionary)) < len(dictionary) and content == "text":
            raise _FormatError(f"the `dictionary` of {name!r} has a text twice")
    return Definition(
        cast(Content, content),
        cast(Extent, extent),
        cast(Constraint, constraint),
        dictionary,
        tuple(str(row) for row in _list(rows, f"the `row_name` of {name!r}")),
    )


def _entry(given: Any, definitions: Mapping[str, Definition]) -> dict[str, tuple[Atom, ...]]:
    fields = _mapping(given, "it")
    for name in fields:
        if name not in definitions:
            raise _FormatError(
                f"{name!r} is not declared in `descriptiondefinition`, which has {', '.join(definitions)}"
            )
    shared = _shared_times(fields, definitions)
    entry: dict[str, tuple[Atom, ...]] = {}
    # The format wants an empty list where nothing is known; a missing key says the same.
    for name, definition in definitions.items():
        atoms = []
        for number, atom in enumerate(_list(fields.get(name) or [], repr(name))):
            try:
                atoms.append(_atom(_mapping(atom, "it"), definition, shared))
            except _FormatError as error:
                raise _FormatError(f"{name!r}, fact {number}: {error}") from None
        if definition.extent == "marker":
            times = [atom.time for atom in atoms if isinstance(atom.time, float)]
            if any(later < earlier for earlier, later in zip(times, times[1:], strict=False)):
                raise _FormatError(f"the times of {name!r} fall; they must be in order")
        entry[name] = tuple(atoms)
    return entry


def _atom(given: Mapping[str, Any], definition: Definition, shared: np.ndarray | None) -> Atom:
    if "value" not in given or given["value"] is None:
        raise _FormatError("it has no `value`")
    value, time, duration = given["value"], None, None
    if definition.extent in ("marker", "segment"):
        time = _times(given.get("time"), "time")
        if definition.extent == "segment":
            duration = _times(given.get("duration"), "duration", must_rise=False)
            if np.shape(time) != np.shape(duration):
                raise _FormatError("`time` and `duration` are of different length")
    elif definition.extent == "breakpoint":
        time = np.atleast_1d(_times(given.get("time"), "time"))
        value = _matrix(value, time, definition)
    elif definition.extent == "breakpoint_time":
        value = _flat_times(value)
    elif definition.extent == "breakpoint_value":
        if shared is None:
            raise _FormatError("its entry has no `breakpoint_time` that would say when its values hold")
        time, value = shared, _matrix(value, shared, definition)
    if definition.constraint == "value_in_dictionary":
        _check_dictionary(value, definition)
    elif definition.constraint == "filepath" and not isinstance(value, str):
        raise _FormatError(f"its value is {_kind(value)}; it must be a path")
    comment = given.get("comment")
    return Atom(value, time, duration, given.get("confidence"), comment if isinstance(comment, str) else "")


def _check_dictionary(value: Any, definition: Definition) -> None:
    values = value.ravel().tolist() if isinstance(value, np.ndarray) else value if isinstance(value, list) else [value]
    for single in values:
        if definition.content == "text":
            if single not in definition.dictionary:
                raise _FormatError(f"{single!r} is not in its dictionary ({', '.join(definition.dictionary[:20])})")
        elif not _is_number(single) or not definition.dictionary[0] <= single <= definition.dictionary[1]:
            raise _FormatError(f"{single!r} is not between {definition.dictionary[0]} and {definition.dictionary[1]}")


def _times(given: Any, name: str, must_rise: bool = True) -> float | np.ndarray:
    """A time or an array of times, in seconds."""
    if _is_number(given):
        given = float(given)
        if not (math.isfinite(given) and given >= 0):
            raise _FormatError(f"its `{name}` is {given}; it must be finite and not negative (in seconds)")
        return given
    try:
        times = np.asarray(given, dtype=np.float64).squeeze()
    except (TypeError, ValueError):
        times = np.empty(0)
    times = np.atleast_1d(times)
    if times.ndim != 1 or not times.size or isinstance(given, str) or given is None:
        raise _FormatError(f"its `{name}` is {_kind(given)}; it must be a number or a list of numbers (in seconds)")
    if not np.isfinite(times).all() or (times < 0).any():
        raise _FormatError(f"its `{name}` has an entry that is negative or not finite (in seconds)")
    if must_rise and (np.diff(times) < 0).any():
        raise _FormatError(
            f"its `{name}` falls at position {int(np.argmax(np.diff(times) < 0)) + 1}; it must be in order"
        )
    return times


def _flat_times(value: Any) -> np.ndarray:
    return np.atleast_1d(_times(value, "value"))


def _shared_times(fields: Mapping[str, Any], definitions: Mapping[str, Definition]) -> np.ndarray | None:
    for name, definition in definitions.items():
        if definition.extent == "breakpoint_time" and fields.get(name):
            first = _mapping(_list(fields[name], repr(name))[0], repr(name))
            return _flat_times(first.get("value"))
    return None


def _matrix(value: Any, times: np.ndarray, definition: Definition) -> np.ndarray:
    """A matrix over times as `(num_dimensions, num_times)`, whichever way round the file has it."""
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise _FormatError("its `value` is not a matrix of numbers with rows of equal length") from None
    if matrix.ndim == 1:
        matrix = matrix[None]
    if matrix.ndim != 2 or len(times) not in matrix.shape:
        raise _FormatError(
            f"its `value` is of shape {matrix.shape} and has {len(times)} times; one side must be the times"
        )
    rows, columns = matrix.shape
    # As many dimensions as times: the published corpora and the library write (dimension, time).
    turned = columns != len(times)
    num_dimensions = columns if turned else rows
    if definition.row_names and num_dimensions != len(definition.row_names):
        raise _FormatError(
            f"its `value` has {num_dimensions} dimensions beside {len(times)} times; {len(definition.row_names)} are "
            f"declared ({', '.join(definition.row_names[:8])})"
        )
    return matrix.T if turned else matrix


def _check_unique(name: str, entries: Sequence[Mapping[str, tuple[Atom, ...]]]) -> None:
    first: dict[Any, int] = {}
    for number, entry in enumerate(entries):
        for atom in entry.get("filepath", ()):
            if isinstance(atom.value, str) and first.setdefault(atom.value, number) != number:
                raise ValueError(
                    f"{name}: entry {number} has the `filepath` {atom.value!r} of entry {first[atom.value]}; a "
                    "recording has one entry. Merge the two."
                )


def _called(entry: Any) -> str:
    """The entry's file, for a message."""
    try:
        return f" ({str(entry['filepath'][0]['value'])[:80]!r})"
    except (KeyError, IndexError, TypeError):
        return ""


def _mapping(given: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise _FormatError(f"{what} is {_kind(given)}; it must be an object with named fields")
    return given


def _list(given: Any, what: str) -> list[Any]:
    if not isinstance(given, list):
        raise _FormatError(f"{what} is {_kind(given)}; it must be a list")
    return given


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    return "missing" if value is None else f"a {type(value).__name__}"

"""Bundles that hang together, and are broken: each damage comes with a manifest that fits.

What was changed in transit the manifest's hashes find. This makes what they cannot find: files that
somebody, or a faulty program, wrote like that. Fixed seeds give the same damages again.
"""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from pipeline.errors import InputError
from pipeline.model.bundle import WEIGHTS, load_model
from pipeline.model.fused_model import FusedModel, Prediction
from pipeline.storage.atomic_folder import MANIFEST, MODEL, manifest_of

Files = Mapping[str, bytes]
Place = tuple[str | int, ...]
"""Keys and indices that lead to a value of model.json."""

ANOTHER_MODEL = re.compile(
    # What a network's output is scaled by, how it sees time, and how its inputs are scaled.
    r"stages/.*/(label_mean|label_std|normalisation|timing(/.*)?)"
    r"|spec/difficulty_scale"
    # What is made of the outputs.
    r"|(floor_weights|difficulty_references|bands|corrections|max_held_frames|repeats)(/.*)?"
    # Which feature sets a fusion reads in which order, and which difficulty belongs to which.
    r"|(fusion_modalities|encoder_of|regressor_encoders|modalities)(/.*)?"
    # Which record goes with which weights of the same shapes.
    r"|stages/.*/[0-9]+"
)
"""Values that may be changed to others as good: that makes another model, as other weights do."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 0.5, -0.5, 7, 1e300, -1e300, 10**9, 10**30, -(10**30),
    float("nan"), float("inf"), "", "0", "x" * 5000, "\x1b[31m", "../x", "/etc/passwd", "ä",
    [], [[]], [0] * 101, [1, 2, 3], {}, {"a": 1}, {"": {"": {}}}, [[[[[[[[[[]]]]]]]]]],
)  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """A damaged bundle.

    Attributes:
        name: what was done to it.
        files: all but the manifest.
        is_another_model: whether it may load, and predict something else.
    """

    name: str
    files: Files
    is_another_model: bool = False


def damages(files: Files, seed: int, count: int) -> Iterator[Damage]:
    """Yield damages of a bundle; the same ones for the same seed.

    Args:
        files: of a bundle that is whole, without the manifest.
        seed: of the choices.
        count: how many.
    """
    draw = random.Random(seed)
    kinds: list[Callable[[Files, random.Random], Damage]] = [
        *[_replace_value] * 8,
        *[_remove_value, _repeat_value, _swap_values, _rename_key] * 2,
        _spoil_text, _spoil_header, _spoil_header, _change_tensor, _change_tensor,
        _spoil_bytes, _spoil_other_file,
    ]  # fmt: skip
    for _ in range(count):
        yield draw.choice(kinds)(files, draw)


def try_damages(
    damaged: Iterable[Damage], folder: Path, features: Mapping[str, Any], expected: Prediction
) -> tuple[Counter[str], list[str]]:
    """Load damaged bundles, and predict a session with those that load.

    Args:
        damaged: the bundles.
        folder: where they are written in turn.
        features: the session.
        expected: what the whole model predicts.

    Returns:
        How many ended how, see `outcome`; and for each fault what it was.
    """
    outcomes: Counter[str] = Counter()
    faults = []
    for number, damage in enumerate(damaged):
        place = folder / str(number)
        try:
            outcomes[outcome(damage, place, features, expected)] += 1
        except Exception as error:  # what would be a traceback for a person
            faults.append(f"{damage.name}: {error!r}")
        shutil.rmtree(place)
    return outcomes, faults


def outcome(damage: Damage, folder: Path, features: Mapping[str, Any], expected: Prediction) -> str:
    """Load a damaged bundle and predict; return "refused", "same" or "another".

    Raises:
        AssertionError: it neither is refused in a sentence nor predicts what it may.
    """
    folder.mkdir()
    for name, data in {**damage.files, MANIFEST: manifest_of(damage.files)}.items():
        (folder / name).write_bytes(data)
    try:
        model = load_model(folder)
    except InputError as error:
        message = str(error)
        assert len(message) < 2000, damage.name
        assert message.isprintable(), (damage.name, message)
        return "refused"

    prediction = _use(model, features)
    if _is_same(prediction, expected):
        return "same"
    assert damage.is_another_model, f"{damage.name}: predicts something else"
    return "another"


def _use(model: FusedModel, features: Mapping[str, Any]) -> Prediction:
    """Predict, and read what commands show of a model."""
    from pipeline.evaluation.model_card import distillation_note, out_of_fold_warnings
    from pipeline.model.bundle import bundle_files

    bundle_files(model)
    assert model.composition
    out_of_fold_warnings(model.out_of_fold)
    if model.distillation:
        distillation_note(model)
    with np.errstate(all="ignore"):
        return model.predict(features)


def _is_same(prediction: Prediction, expected: Prediction) -> bool:
    pairs = zip(_series(prediction), _series(expected), strict=False)
    is_complete = len(list(_series(prediction))) == len(list(_series(expected)))
    return is_complete and all(
        name == other and np.array_equal(one, two, equal_nan=True)
        for (name, one), (other, two) in pairs
    )


def _series(prediction: Prediction) -> Iterator[tuple[str, Any]]:
    for target, values in sorted(prediction.values.items()):
        yield target, values
    for modality, difficulty in sorted(prediction.difficulty.items()):
        yield modality, np.stack([difficulty.error, difficulty.percentile])
    for target, floors in sorted(prediction.floors.items()):
        yield target, np.stack([floors["mean"], floors["weighted_mean"]])
    for target, band in sorted(prediction.bands.items()):
        yield target, np.stack([band.low, band.high])


def _places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Yield where every value of a JSON text is."""
    if isinstance(value, dict):
        items: Any = value.items()
    else:
        items = enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield (*place, key)
        yield from _places(part, (*place, key))


def _draw_place(record: Any, draw: random.Random) -> Place:
    """Return a place; those on each level are as likely together as those on another."""
    places = list(_places(record))
    level = draw.randint(1, max(map(len, places)))
    return draw.choice([place for place in places if len(place) == level])


def _changed_record(
    files: Files, draw: random.Random, what: str, change: Callable[[Any, Any], None]
) -> Damage:
    """Change what holds a value of model.json: `change` gets the holder and the key in it."""
    record = json.loads(files[MODEL])
    place = _draw_place(record, draw)
    holder = record
    for key in place[:-1]:
        holder = holder[key]
    change(holder, place[-1])

    name = "/".join(map(str, place))
    is_another = bool(ANOTHER_MODEL.fullmatch(name))
    return Damage(f"{what} {name}", {**files, MODEL: json.dumps(record).encode()}, is_another)


def _replace_value(files: Files, draw: random.Random) -> Damage:
    value = copy.deepcopy(draw.choice(VALUES))

    def change(holder: Any, key: Any) -> None:
        is_number = isinstance(holder[key], float) and draw.random() < 0.3
        holder[key] = holder[key] * draw.choice((-1, 1e-9, 3, 1e12)) if is_number else value

    return _changed_record(files, draw, f"replaced by {str(value)[:20]!r}:", change)


def _remove_value(files: Files, draw: random.Random) -> Damage:
    return _changed_record(files, draw, "removed:", lambda holder, key: holder.pop(key))


def _repeat_value(files: Files, draw: random.Random) -> Damage:
    def change(holder: Any, key: Any) -> None:
        if isinstance(holder, list):
            holder[key:key] = [copy.deepcopy(holder[key])] * draw.choice((1, 1000))
        else:
            holder[f"{key} (2)"] = copy.deepcopy(holder[key])

    return _changed_record(files, draw, "repeated:", change)


def _swap_values(files: Files, draw: random.Random) -> Damage:
    def change(holder: Any, key: Any) -> None:
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        other = draw.choice(list(keys))
        holder[key], holder[other] = holder[other], holder[key]

    return _changed_record(files, draw, "swapped:", change)


def _rename_key(files: Files, draw: random.Random) -> Damage:
    def change(holder: Any, key: Any) -> None:
        if isinstance(holder, dict):
            holder[draw.choice(("", f"{key}2", "x" * 3000, "a/b", "\n"))] = holder.pop(key)
        else:
            holder[key] = {str(holder[key]): None}

    return _changed_record(files, draw, "renamed:", change)


def _spoil_text(files: Files, draw: random.Random) -> Damage:
    """Break the text of model.json itself."""
    text = files[MODEL]
    half = text[: draw.randrange(len(text))]
    deep = draw.randrange(1_000, 200_000)
    spoilt = {
        "cut off": half,
        "empty": b"",
        "a list": b"[" + text + b"]",
        "deep": b"[" * deep,
        "deep inside": text.replace(b"{}", b'{"a":' * deep + b"1" + b"}" * deep, 1),
        "a key twice": text.replace(b'"targets"', b'"targets": ["x"], "targets"', 1),
        "a deeper key twice": text.replace(b'"key"', b'"key": "x", "key"', 1),
        "with many values": b"[" + b"0," * 2_100_000 + b"0]",
        "no UTF-8": half + b"\xff" + text[len(half) :],
        "UTF-16": text.decode().encode("utf-16"),
        "a huge number": text.replace(b"500.0", b"9" * 5000, 1),
        "two texts": text + text,
        "a later format": text.replace(b'"format": 2', b'"format": 3', 1),
    }
    name = draw.choice(sorted(spoilt))
    return Damage(f"model.json: {name}", {**files, MODEL: spoilt[name]})


def _spoil_header(files: Files, draw: random.Random) -> Damage:
    """Break what weights.safetensors says of its tensors."""
    data = files[WEIGHTS]
    length = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    name = draw.choice([key for key in header if key != "__metadata__"])
    what = draw.choice(
        ("dtype", "shape", "offsets", "negative", "huge", "text", "twice", "metadata", "entry")
    )
    entry = header[name]
    if what == "dtype":
        entry["dtype"] = draw.choice(("F16", "BF16", "F64", "F32", "I64", "U8", "Q9", 3, None))
    elif what == "shape":
        entry["shape"] = draw.choice(
            ([2**40], [-1], [], [1] * 50, "x", [0.5], entry["shape"][::-1])
        )
    elif what == "offsets":
        entry["data_offsets"] = draw.choice(([0, 4], [0], [8, 0], [2**62, 2**63], "ab", None))
    elif what == "metadata":
        header["__metadata__"] = draw.choice(({"a": "b"}, {"a": 1}, [], "x" * 100_000))
    elif what == "entry":
        header[name] = draw.choice((None, [], 3, {}, "x"))

    text = json.dumps(header).encode()
    if what == "twice":
        text = text[:-1] + b", " + json.dumps({name: entry}).encode()[1:]
    text += b" " * (-len(text) % 8)
    sizes = {"negative": 2**64 - 1, "huge": 99 * 2**20, "text": draw.randrange(len(text))}
    start = sizes.get(what, len(text)).to_bytes(8, "little")
    return Damage(f"header: {what} of {name}", {**files, WEIGHTS: start + text + body})


def _change_tensor(files: Files, draw: random.Random) -> Damage:
    """Write weights.safetensors with one tensor of another kind."""
    arrays = safetensors.numpy.load(files[WEIGHTS])
    name = draw.choice(sorted(arrays))
    array, is_another = arrays[name].copy(), False
    what = draw.choice(
        ("removed", "added", "renamed", "longer", "flat", "type", "nan", "inf", "value")
    )
    if what == "removed":
        del arrays[name]
    elif what == "added":
        arrays[draw.choice((f"{name}2", "label_floor/x/steps", "x", ""))] = array
    elif what == "renamed":
        arrays[name.replace("/0/", "/9/")] = arrays.pop(name)
        is_another = "/0/" not in name
    elif what == "longer":
        arrays[name] = np.concatenate([array.ravel(), array.ravel()])
    elif what == "flat":
        arrays[name] = array.reshape(1, *array.shape)
    elif what == "type":
        arrays[name] = array.astype(np.float16)
    elif what in ("nan", "inf"):
        value = {"nan": np.nan, "inf": -np.inf}[what]
        arrays[name] = np.full_like(array, value if array.dtype.kind == "f" else 0)
        is_another = array.dtype.kind != "f"
    else:
        arrays[name] = array + array.dtype.type(1)
        is_another = True
    data = safetensors.numpy.save(arrays)
    return Damage(f"tensor {what}: {name}", {**files, WEIGHTS: data}, is_another)


def _spoil_bytes(files: Files, draw: random.Random) -> Damage:
    """Cut the weights, lengthen them, or flip one of their bits."""
    data = bytearray(files[WEIGHTS])
    what = draw.choice(("cut", "longer", "zeros", "empty", "bit"))
    if what == "cut":
        del data[draw.randrange(len(data)) :]
    elif what == "longer":
        data += b"\0" * draw.choice((1, 8, 10_000))
    elif what == "zeros":
        data = bytearray(len(data))
    elif what == "empty":
        data.clear()
    else:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return Damage(f"weights: {what}", {**files, WEIGHTS: bytes(data)}, what == "bit")


def _spoil_other_file(files: Files, draw: random.Random) -> Damage:
    """Break a file that predicting does not need."""
    name = draw.choice(("README.md", "summary.json", "further", WEIGHTS, MODEL))
    if name in (WEIGHTS, MODEL):
        return Damage(f"without {name}", {key: files[key] for key in files if key != name})
    value = draw.choice((b"", b"\xff\xfe", b"[" * 100_000, b"[]", b"null", b'{"targets": [1]}'))
    return Damage(f"{name} is {value[:20]!r}", {**files, name: value})

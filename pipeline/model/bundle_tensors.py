"""The tensors of weights.safetensors: which ones model.json asks for, and what the file declares.

Both are known, and compared, before any tensor is read or any network has memory.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from pipeline.model.bundle_limits import (
    MAX_FLOOR_BYTES,
    MAX_HEADER_BYTES,
    MAX_WEIGHTS_BYTES,
    MAX_WINDOW_VALUES,
)
from pipeline.model.bundle_record import BundleRecord, StageRecord, parse_place, quoted
from pipeline.preprocessing.normalisation import Normalisation
from pipeline.spec import NetworkSpec
from pipeline.stages.trained_stage import NORMALISATION_PREFIX, is_gate, new_network
from pipeline.storage.strict_json import parse_json

LABEL_FLOOR = "label_floor"
LENGTH_BYTES = 8
"""Of the number that a file begins with: the length of its header."""
TYPES = {"F32": 4, "F64": 8, "I64": 8}
"""The types of a bundle's tensors -> their bytes per number."""


class Tensor(NamedTuple):
    """A tensor that is declared, and not read yet."""

    type: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Return how many bytes its numbers have."""
        return TYPES[self.type] * math.prod(self.shape)


Tensors = dict[str, Tensor]
"""Place of a tensor -> what it is."""


def expected_tensors(record: BundleRecord) -> Tensors:
    """Return the tensors of all stages of a model; label floors are not among them.

    Raises:
        ValueError: a stage is not one that the model can read.
    """
    tensors: Tensors = {}
    known: dict[tuple[Any, ...], dict[str, tuple[int, ...]]] = {}
    for place, stage in record.stages.items():
        num_columns, spec = _num_columns(record, place, stage), stage.network_spec
        shape = (
            spec, num_columns, stage.side_size, stage.normalisation, stage.output_size,
            stage.num_modalities,
        )  # fmt: skip
        if shape not in known:
            known[shape] = _network_shapes(place, stage, spec, num_columns)

        tensors |= {f"{place}/{name}": Tensor("F32", s) for name, s in known[shape].items()}
        for name in ("mean", "std", "missing"):
            tensors[f"{place}/{NORMALISATION_PREFIX}{name}"] = Tensor("F64", (num_columns,))
    return tensors


def most_bytes(tensors: Tensors) -> int:
    """Return how long a file with these tensors may be at most, label floors included.

    Raises:
        ValueError: longer than any may be.
    """
    num_bytes = sum(tensor.num_bytes for tensor in tensors.values())
    if num_bytes > MAX_WEIGHTS_BYTES:
        raise ValueError(
            f"its networks have {num_bytes:,} bytes, more than the {MAX_WEIGHTS_BYTES:,} they may"
        )
    return num_bytes + MAX_FLOOR_BYTES + MAX_HEADER_BYTES + LENGTH_BYTES


def read_tensors(data: bytes, expected: Tensors) -> dict[str, NDArray[Any]]:
    """Read the tensors of a file, which must be those that are expected, and label floors.

    Args:
        data: of the file.
        expected: see `expected_tensors`.

    Raises:
        ValueError: it is no such file, a tensor is missing, too many, of another shape or type, or
            holds what is no number.
    """
    declared = _declared_tensors(data)
    for name, tensor in expected.items():
        if name not in declared:
            raise ValueError(f"the tensor {quoted(name)} is missing")
        if declared[name] != tensor:
            raise ValueError(
                f"the tensor {quoted(name)} is {_text_of(declared[name])}; model.json asks for "
                f"{_text_of(tensor)}"
            )
    for name in declared.keys() - expected.keys():
        if not name.startswith(f"{LABEL_FLOOR}/"):
            raise ValueError(f"the tensor {quoted(name)} belongs to no stage")

    try:
        arrays = safetensors.numpy.load(data)
    except SafetensorError as error:
        raise ValueError(f"it is not in the format of safetensors ({quoted(error)})") from None
    for name, array in arrays.items():
        _raise_unless_numbers(name, array)
    return arrays


def _num_columns(record: BundleRecord, place: str, stage: StageRecord) -> int:
    """Return how many columns a stage reads, as they come out of the stages before it."""
    kind, names, _ = parse_place(place)
    if kind == "auto_encoder":
        modality = record.modality_of.get(names[0])
        if modality not in record.modalities or stage.side_size:
            raise ValueError(f"{quoted(place)} rebuilds no feature set")
        return len(record.modalities[modality])

    target = names[0]
    if target not in record.fusion_modalities:
        raise ValueError(f"{quoted(place)} is of no target")
    read = record.fusion_modalities[target]
    if kind == "unimodal":
        if names[1] not in read or stage.side_size > 1:
            raise ValueError(f"{quoted(place)} reads no feature set of its target")
        return _num_regressor_columns(record, place, stage, len(record.modalities[names[1]]))

    num_others = sum(len(m) for other, m in record.fusion_modalities.items() if other != target)
    is_possible = (
        stage.side_size in (0, len(read))
        and stage.num_modalities in (0, len(read))
        and stage.num_other_predictions in (0, num_others)
    )
    if not is_possible or (is_gate(stage.network_spec) and not stage.num_modalities):
        raise ValueError(f"{quoted(place)} reads other predictions than its target has")
    return len(read) + stage.num_modalities + stage.num_other_predictions + stage.side_size


def _num_regressor_columns(
    record: BundleRecord, place: str, stage: StageRecord, num_features: int
) -> int:
    timing = stage.timing
    longest = max(timing.context_frames, default=0)
    if longest * num_features > MAX_WINDOW_VALUES:
        raise ValueError(f"{quoted(place)} has a context window of {longest:,} frames")
    return num_features * (1 + 2 * len(timing.context_frames)) + stage.side_size


def _network_shapes(
    place: str, stage: StageRecord, spec: NetworkSpec, num_columns: int
) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of a network's weights; it is built without memory for them."""
    zeros = np.broadcast_to(np.zeros(()), (num_columns,))
    normalisation = Normalisation(zeros, zeros, zeros, stage.side_size, stage.normalisation)
    num_outputs = normalisation.input_size if stage.stage == "auto_encoder" else 1
    if stage.output_size != num_outputs:
        raise ValueError(f"{quoted(place)} has {stage.output_size} outputs, not {num_outputs}")

    with torch.device("meta"):
        network = new_network(spec, normalisation, stage.output_size, stage.num_modalities)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _declared_tensors(data: bytes) -> Tensors:
    """Return the tensors that a file's header declares."""
    header_bytes = int.from_bytes(data[:LENGTH_BYTES], "little")
    if len(data) < LENGTH_BYTES or header_bytes > min(MAX_HEADER_BYTES, len(data) - LENGTH_BYTES):
        raise ValueError("it does not begin with a header of safetensors")

    try:
        header = parse_json(data[LENGTH_BYTES : LENGTH_BYTES + header_bytes])
    except ValueError as error:
        raise ValueError(f"its header is none of safetensors: {quoted(error)}") from None
    if not isinstance(header, dict):
        raise ValueError("its header is none of safetensors")
    header.pop("__metadata__", None)
    return {name: _declared_tensor(name, entry) for name, entry in header.items()}


def _declared_tensor(name: str, entry: Any) -> Tensor:
    try:
        kind, shape, (start, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        is_shape = len(shape) < 8 and all(type(size) is int and 0 <= size < 2**40 for size in shape)
        if kind not in TYPES or not is_shape or type(start) is not int or type(end) is not int:
            raise ValueError(f"the tensor {quoted(name)} is {quoted(kind)} of {quoted(shape)}")
    except (KeyError, TypeError) as error:
        raise ValueError(f"the tensor {quoted(name)} is not described as one") from error

    tensor = Tensor(kind, tuple(shape))
    if end - start != tensor.num_bytes:
        raise ValueError(f"the tensor {quoted(name)} has not the bytes of its shape")
    return tensor


def _raise_unless_numbers(name: str, array: NDArray[Any]) -> None:
    if name.endswith(f"/{NORMALISATION_PREFIX}std"):  # infinite for a constant column
        is_right = bool((array > 0).all())
    else:
        is_right = array.dtype.kind == "i" or bool(np.isfinite(array).all())
    if not is_right:
        raise ValueError(f"the tensor {quoted(name)} holds what is no number, or none it can be")


def _text_of(tensor: Tensor) -> str:
    return f"{tensor.type} of {quoted(list(tensor.shape))}"

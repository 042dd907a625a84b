"""The GRU's walk through time, compiled for a CPU. Knows numpy only: no torch, no padding.

torch has no fused GRU on a CPU: it launches some thirty small operations per frame. Here one
compiled loop per layer and direction walks through time in chunks of steps, so that the products
over all frames of a chunk (its projected input; on the way back, its share of the gradients by the
weights) find their operands in the cache.

Frames are packed: sorted by time step, and within a step by descending length of their sequence.
Step `t` owns the rows `starts[t]:starts[t + 1]`, row `i` of every step belongs to the same
sequence, and no padding exists.

All is in one file, because numba looks at no other to see whether the machine code that it has kept
on disk is out of date.
"""

# mypy: allow-untyped-calls
# numba has few type hints, llvmlite none; what only they see is Any.

import functools
import logging
import operator
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model
from numba.np.arrayobj import make_array
from numpy.typing import NDArray

# N = frames of all sequences, F = features, D = directions, H = hidden units
# G = 3H gates (reset, update, new: torch's order)
# Q = 4H values kept: the gates, and the recurrent part of the new one
# B = sequences, C = frames of a chunk, K = what a product sums over, M = its columns

Floats = NDArray[np.float32]
Starts = NDArray[np.int64]
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_CHUNK_FRAMES = 64  # what a chunk computes with fits a cache of 1 MB at 64 units
_ZERO, _ONE, _TWO = np.float32(0), np.float32(1), np.float32(2)


def _compiled(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Compile a function at its first call.

    The machine code is kept on disk, or in memory where no folder can be written. Of fast-math only
    the fused multiply-add is allowed: NaN must stay NaN, and reassociation would break `_exp`.
    """
    try:
        compiled = numba.njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")(
            function
        )
    except RuntimeError:  # numba found no folder for its cache
        _warn_once()
        compiled = numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")(function)

    return cast(Callable[_Arguments, _Result], compiled)


@functools.cache
def _warn_once() -> None:
    logging.getLogger(__name__).warning(
        "No folder for compiled code: every process compiles the GRU anew. "
        "Set NUMBA_CACHE_DIR to a writable folder."
    )


def _inlined(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Compile a function as part of its caller: a call per frame would cost as much again."""
    compiled = numba.njit(forceinline=True, fastmath={"contract"}, error_model="numpy")(function)

    return cast(Callable[_Arguments, _Result], compiled)


@_compiled
def forward(
    starts: Starts,
    d: int,
    x_NF: Floats,
    input_weight_FG: Floats,
    weight_HG: Floats,
    input_bias_G: Floats,
    bias_G: Floats,
    states_NDH: Floats,
    kept_NDQ: Floats,
) -> None:
    """Compute the states of one direction of one layer, from a state of zero.

    With frame x, state before h, reset r, update z, new n, and torch's parameters W, b:
    r, z = sigmoid(Wi x + bi + Wh h + bh); n = tanh(Wi x + bi + r (Wh h + bh)); state n + z (h - n).

    Args:
        starts: first row of each step, and N.
        d: direction; 0 walks forwards, 1 backwards.
        x_NF: packed frames.
        input_weight_FG: torch's weight_ih, transposed.
        weight_HG: torch's weight_hh, transposed.
        input_bias_G: torch's bias_ih.
        bias_G: torch's bias_hh.
        states_NDH: receives the states.
        kept_NDQ: receives what `backward` needs; nothing is kept if it has no rows.
    """
    num_steps, num_sequences = starts.size - 1, starts[1]
    num_hidden, num_gates = weight_HG.shape
    steps_per_chunk = max(1, _CHUNK_FRAMES // num_sequences)
    projected_CG = _empty(steps_per_chunk * num_sequences, num_gates)
    recurrent_BG = _empty(num_sequences, num_gates)
    previous_BH = _empty(num_sequences, num_hidden)
    previous_BH[:] = _ZERO

    for first in range(0, num_steps, steps_per_chunk):
        last = min(first + steps_per_chunk, num_steps)
        chunk_start, chunk_end = _chunk(starts, first, last, d == 1)
        _fill(projected_CG, chunk_end - chunk_start, input_bias_G)
        _add_product(projected_CG, x_NF[chunk_start:chunk_end], input_weight_FG)

        for step in range(first, last):
            t = num_steps - 1 - step if d else step
            num_active = starts[t + 1] - starts[t]
            _fill(recurrent_BG, num_active, bias_G)
            _add_product(recurrent_BG, previous_BH[:num_active], weight_HG)

            for i in range(num_active):
                n = starts[t] + i
                kept_1Q = kept_NDQ[n : n + 1, d]  # no rows if nothing is kept
                _advance(
                    projected_CG[n - chunk_start],
                    recurrent_BG[i],
                    previous_BH[i],
                    states_NDH[n, d],
                    kept_1Q,
                )


@_compiled
def backward(
    starts: Starts,
    d: int,
    states_grad_NDH: Floats,
    x_NF: Floats,
    input_weight_GF: Floats,
    weight_GH: Floats,
    states_NDH: Floats,
    kept_NDQ: Floats,
    x_grad_NF: Floats,
    input_weight_grad_GF: Floats,
    weight_grad_GH: Floats,
    input_bias_grad_G: Floats,
    bias_grad_G: Floats,
) -> None:
    """Add the loss's gradients by what `forward` was given, from the gradient by the states.

    Args:
        starts: as for `forward`.
        d: as for `forward`.
        states_grad_NDH: gradient by the states.
        x_NF: as for `forward`.
        input_weight_GF: torch's weight_ih.
        weight_GH: torch's weight_hh.
        states_NDH: as `forward` left it.
        kept_NDQ: as `forward` left it.
        x_grad_NF: is added to, unless it has no rows.
        input_weight_grad_GF: is added to.
        weight_grad_GH: is added to.
        input_bias_grad_G: is added to.
        bias_grad_G: is added to.
    """
    num_steps, num_sequences = starts.size - 1, starts[1]
    num_gates, num_hidden = weight_GH.shape
    steps_per_chunk = max(1, _CHUNK_FRAMES // num_sequences)
    gates_grad_CG = _empty(steps_per_chunk * num_sequences, num_gates)
    recurrent_grad_CG = _empty(steps_per_chunk * num_sequences, num_gates)
    previous_CH = _empty(steps_per_chunk * num_sequences, num_hidden)
    carried_BH = _empty(num_sequences, num_hidden)
    carried_BH[:] = _ZERO
    no_state_H = np.zeros(num_hidden, np.float32)

    for first in range(0, num_steps, steps_per_chunk):
        last = min(first + steps_per_chunk, num_steps)
        chunk_start, chunk_end = _chunk(starts, first, last, d == 0)

        for step in range(first, last):
            t = step if d else num_steps - 1 - step
            previous_start, num_previous = _previous(starts, t, d)
            num_active = starts[t + 1] - starts[t]

            for i in range(num_active):
                n = starts[t] + i
                c = n - chunk_start
                before_H = states_NDH[previous_start + i, d] if i < num_previous else no_state_H
                _retreat(
                    before_H,
                    kept_NDQ[n, d],
                    states_grad_NDH[n, d],
                    carried_BH[i],
                    previous_CH[c],
                    gates_grad_CG[c],
                    recurrent_grad_CG[c],
                )

            at = starts[t] - chunk_start
            _add_product(carried_BH, recurrent_grad_CG[at : at + num_active], weight_GH)

        num_frames = chunk_end - chunk_start
        if x_grad_NF.size:
            _add_product(
                x_grad_NF[chunk_start:chunk_end], gates_grad_CG[:num_frames], input_weight_GF
            )
        _add_product(
            input_weight_grad_GF, gates_grad_CG[:num_frames].T, x_NF[chunk_start:chunk_end]
        )
        _add_product(weight_grad_GH, recurrent_grad_CG[:num_frames].T, previous_CH[:num_frames])
        _add_sum(input_bias_grad_G, gates_grad_CG[:num_frames])
        _add_sum(bias_grad_G, recurrent_grad_CG[:num_frames])


@_inlined
def _empty(num_rows: int, num_columns: int) -> Floats:
    """Return uninitialised floats whose first address is a multiple of 64.

    A vector across two cache lines takes twice as long to load.
    """
    buffer = np.empty(num_rows * num_columns + 16, np.float32)
    start = -(buffer.ctypes.data // 4) % 16

    return buffer[start : start + num_rows * num_columns].reshape(num_rows, num_columns)


@_inlined
def _fill(rows_CM: Floats, num_rows: int, row_M: Floats) -> None:
    # numba's assignment of a row to rows is so slow that it would take a fifth of the walk.
    for i in range(num_rows):
        for j in range(row_M.size):
            rows_CM[i, j] = row_M[j]


@_inlined
def _chunk(starts: Starts, first: int, last: int, from_the_end: bool) -> tuple[int, int]:
    """Return the first and the last row, exclusive, of the steps [first, last) of a walk."""
    num_steps = starts.size - 1

    return (
        (starts[num_steps - last], starts[num_steps - first])
        if from_the_end
        else (starts[first], starts[last])
    )


@_inlined
def _previous(starts: Starts, t: int, d: int) -> tuple[int, int]:
    """Return the first frame of the step before `t` in direction `d`, and its number of sequences.

    Only those count that step `t` has, too.
    """
    if d == 0:
        return (starts[t - 1], starts[t + 1] - starts[t]) if t > 0 else (0, 0)

    return (starts[t + 1], starts[t + 2] - starts[t + 1]) if t + 2 < starts.size else (0, 0)


@_inlined
def _advance(
    projected_G: Floats, recurrent_G: Floats, state_H: Floats, new_state_H: Floats, kept_1Q: Floats
) -> None:
    """Write the next state of one sequence to `state_H` and `new_state_H`."""
    num_hidden = state_H.size

    for j in range(0, num_hidden, _LANES):
        update_at, new_at, lanes = j + num_hidden, j + 2 * num_hidden, num_hidden - j
        recurrent_new = _load(recurrent_G, new_at, lanes)
        reset = _sigmoid(_load(projected_G, j, lanes) + _load(recurrent_G, j, lanes))
        update = _sigmoid(
            _load(projected_G, update_at, lanes) + _load(recurrent_G, update_at, lanes)
        )
        new = _tanh(_load(projected_G, new_at, lanes) + reset * recurrent_new)
        state = new + update * (_load(state_H, j, lanes) - new)

        _store(state_H, j, lanes, state)
        _store(new_state_H, j, lanes, state)
        for kept_Q in kept_1Q:
            _store(kept_Q, j, lanes, reset)
            _store(kept_Q, update_at, lanes, update)
            _store(kept_Q, new_at, lanes, new)
            _store(kept_Q, j + 3 * num_hidden, lanes, recurrent_new)


@_inlined
def _retreat(
    before_H: Floats,
    kept_Q: Floats,
    state_grad_H: Floats,
    carried_H: Floats,
    previous_H: Floats,
    gates_grad_G: Floats,
    recurrent_grad_G: Floats,
) -> None:
    """Write the gradients by both parts of one sequence's gates.

    What goes straight to the state before is written to `carried_H`, and that state itself to
    `previous_H`.
    """
    num_hidden = previous_H.size
    one = _splat(_ONE)

    for j in range(0, num_hidden, _LANES):
        update_at, new_at, lanes = j + num_hidden, j + 2 * num_hidden, num_hidden - j
        reset, update, new = (
            _load(kept_Q, j, lanes),
            _load(kept_Q, update_at, lanes),
            _load(kept_Q, new_at, lanes),
        )
        recurrent_new = _load(kept_Q, j + 3 * num_hidden, lanes)
        previous = _load(before_H, j, lanes)
        state_grad = _load(state_grad_H, j, lanes) + _load(carried_H, j, lanes)

        new_grad = state_grad * (one - update) * (one - new * new)
        update_grad = state_grad * (previous - new) * update * (one - update)
        reset_grad = new_grad * recurrent_new * reset * (one - reset)

        _store(gates_grad_G, j, lanes, reset_grad)
        _store(gates_grad_G, update_at, lanes, update_grad)
        _store(gates_grad_G, new_at, lanes, new_grad)
        _store(recurrent_grad_G, j, lanes, reset_grad)
        _store(recurrent_grad_G, update_at, lanes, update_grad)
        _store(recurrent_grad_G, new_at, lanes, new_grad * reset)
        _store(previous_H, j, lanes, previous)
        _store(carried_H, j, lanes, state_grad * update)


@_inlined
def _sigmoid(x: Any) -> Any:
    return _splat(_ONE) / (_splat(_ONE) + _exp(_splat(_ZERO) - x))


@_inlined
def _tanh(x: Any) -> Any:
    return _splat(_ONE) - _splat(_TWO) / (_splat(_ONE) + _exp(x + x))


@_compiled
def _add_sum(sum_M: Floats, rows_CM: Floats) -> None:
    """Add the sum of the rows to `sum_M`."""
    for j in range(0, sum_M.size, _LANES):
        lanes = sum_M.size - j
        total = _load(sum_M, j, lanes)
        for i in range(len(rows_CM)):
            total = total + _load(rows_CM[i], j, lanes)
        _store(sum_M, j, lanes, total)


@_compiled
def _add_product(sum_BM: Floats, rows_BK: Floats, weight_KM: Floats) -> None:
    """Add rows @ weight to `sum_BM`, in tiles whose sums stay in registers.

    On matrices this small a BLAS mostly copies.
    """
    num_rows, num_columns = len(rows_BK), weight_KM.shape[1]
    fours, pairs = num_rows - num_rows % 4, num_rows - num_rows % 2
    wide = num_columns - num_columns % (_TILE_VECTORS * _LANES)

    for j in range(0, wide, _TILE_VECTORS * _LANES):
        for i in range(0, fours, 4):
            _add_wide_tile_of_4(sum_BM, i, j, rows_BK, weight_KM)
        for i in range(fours, pairs, 2):
            _add_wide_tile_of_2(sum_BM, i, j, rows_BK, weight_KM)
        for i in range(pairs, num_rows):
            _add_wide_tile_of_1(sum_BM, i, j, rows_BK, weight_KM)

    for j in range(wide, num_columns, _LANES):
        for i in range(0, fours, 4):
            _add_tile_of_4(sum_BM, i, j, rows_BK, weight_KM)
        for i in range(fours, num_rows):
            _add_tile_of_1(sum_BM, i, j, rows_BK, weight_KM)


# Vectors of floats, for the code above
#
# A compiler does not vectorise loops over this many arrays: for all it knows they overlap. So the
# loops compute with vectors, a type that this section teaches numba. One fills a register of the
# CPU; in the last one of a row some lanes may be unused.
#
# It is in this file because numba's cache notices changes of a function's own file only: the walk
# would go on with vectors as they were when it was compiled.

# For which CPU numba compiles: the key of its cache.
_TARGET = cpu_target.target_context.codegen().magic_tuple()
_HAS_AVX512 = any("+avx512f" in part for part in _TARGET)
_LANES = 16 if _HAS_AVX512 else 8  # floats in a vector
_TILE_VECTORS = 4 if _HAS_AVX512 else 2  # of 32 registers or 16, a tile of 4 rows takes half

_FLOAT, _INT, _BYTES = ir.FloatType(), ir.IntType(32), ir.IntType(8).as_pointer()
_FLOATS, _INTS, _BOOLS = (
    ir.VectorType(element, _LANES) for element in (_FLOAT, _INT, ir.IntType(1))
)
_FUSED = ("contract",)  # a product and the sum that it enters become one instruction

_intrinsic = cast(Callable[[Callable[..., Any]], Any], intrinsic)


class _Vector(types.Type):
    """The type of a vector in compiled code."""


class _VectorModel(models.PrimitiveModel):
    """How compiled code holds a vector."""

    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _FLOATS)


_vector = _Vector("vector of float32")
register_model(_Vector)(_VectorModel)


class _Arithmetic(ConcreteTemplate):
    """The type rule that vector + vector is a vector."""

    cases = [signature(_vector, _vector, _vector)]  # noqa: RUF012  # numba's interface


def _teach(operation: Callable[[Any, Any], Any], instruction: str) -> None:
    """Make numba compile an operation on vectors as an instruction of LLVM."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)

    infer_global(operation)(_Arithmetic)
    lower_builtin(operation, _vector, _vector)(emit)


_teach(operator.add, "fadd")
_teach(operator.sub, "fsub")
_teach(operator.mul, "fmul")
_teach(operator.truediv, "fdiv")


@_intrinsic
def _splat(_typing: Any, scalar: Any) -> Any:
    """Return a vector with the scalar in every lane."""

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return _emit_splat(builder, *arguments)

    return _vector(types.float32), emit


@_intrinsic
def _load(_typing: Any, row: Any, index: Any, lanes: Any) -> Any:
    """Return the vector at an index of a row; lanes from `lanes` on are zero, and not read."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row, index, lanes = arguments
        address = _emit_address(context, builder, signature.args[0], row, index)
        return _emit_load(builder, address, lanes)

    return _vector(row, types.intp, types.intp), emit


@_intrinsic
def _store(_typing: Any, row: Any, index: Any, lanes: Any, vector: Any) -> Any:
    """Write a vector at an index of a row; lanes from `lanes` on are not written."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row, index, lanes, vector = arguments
        address = _emit_address(context, builder, signature.args[0], row, index)
        _emit_store(builder, vector, address, lanes)
        return context.get_dummy_value()

    return types.void(row, types.intp, types.intp, _vector), emit


# Of Cephes' expf: ln 2 in two parts, of which the product with the first is exact, and the
# polynomial for e^rest, highest power first.
_LN2_PARTS = (0.693359375, -2.12194440e-4)
_EXP_COEFFICIENTS = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    5.0000001201e-1,
    1.0,
    1.0,
)
_EXP_LIMITS = (
    (">", 87.0),
    ("<", -87.0),
)  # e^87 and e^-87 are normal numbers; NaN is beyond neither


@_intrinsic
def _exp(_typing: Any, x: Any) -> Any:
    """Return e^x to 1e-7 relative, after Cephes' expf; NaN stays NaN.

    It is 2^whole * e^rest, with a rest in [-ln 2 / 2, ln 2 / 2].
    """

    def emit(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        def constant(value: float) -> Any:
            return _emit_splat(builder, ir.Constant(_FLOAT, float(np.float32(value))))

        (x,) = arguments
        for beyond, limit in _EXP_LIMITS:
            is_beyond = builder.fcmp_ordered(beyond, x, constant(limit))
            x = builder.select(is_beyond, constant(limit), x)

        # Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits; with 127 it is a
        # float's exponent.
        offset = constant(1.5 * 2**23 + 127)
        shifted = _emit_fused(builder, x, constant(1.44269504088896341), offset)
        whole = builder.fsub(shifted, offset)

        rest = x
        for part in _LN2_PARTS:
            rest = _emit_fused(builder, whole, constant(-part), rest)

        result = constant(_EXP_COEFFICIENTS[0])
        for coefficient in _EXP_COEFFICIENTS[1:]:
            result = _emit_fused(builder, result, rest, constant(coefficient))

        power = builder.shl(builder.bitcast(shifted, _INTS), ir.Constant(_INTS, [23] * _LANES))
        return builder.fmul(result, builder.bitcast(power, _FLOATS))

    return _vector(_vector), emit


def _add_tile(num_rows: int, num_vectors: int) -> Any:
    """Return code that adds rows @ weight to one tile of a sum.

    The tile has `num_rows` rows from i, and `num_vectors` vectors of columns from j. Only a single
    vector may be cut short by the end of the columns.
    """

    def add_tile(_typing: Any, sums: Any, i: Any, j: Any, rows: Any, weight: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _emit_tile(context, builder, signature, arguments, num_rows, num_vectors)
            return context.get_dummy_value()

        return types.void(sums, types.intp, types.intp, rows, weight), emit

    return _intrinsic(add_tile)


_add_wide_tile_of_4, _add_wide_tile_of_2, _add_wide_tile_of_1 = (
    _add_tile(rows, _TILE_VECTORS) for rows in (4, 2, 1)
)
_add_tile_of_4, _add_tile_of_1 = _add_tile(4, 1), _add_tile(1, 1)


def _emit_tile(
    context: Any, builder: Any, signature: Any, arguments: Any, num_rows: int, num_vectors: int
) -> None:
    sums, i, j, rows, weight = arguments
    sums_type, _, _, rows_type, weight_type = signature.args

    def add(index: Any, offset: int) -> Any:
        return builder.add(index, context.get_constant(types.intp, offset))

    row_at = [add(i, row) for row in range(num_rows)]
    column_at = [add(j, vector * _LANES) for vector in range(num_vectors)]
    shape = make_array(weight_type)(context, builder, weight).shape
    num_factors, num_columns = cgutils.unpack_tuple(builder, shape)
    lanes = builder.sub(num_columns, j) if num_vectors == 1 else None

    tile = [(row, column) for row in range(num_rows) for column in range(num_vectors)]
    addresses = [
        _emit_address(context, builder, sums_type, sums, row_at[row], column_at[column])
        for row, column in tile
    ]
    totals = [
        cgutils.alloca_once_value(builder, _emit_load(builder, address, lanes))
        for address in addresses
    ]

    with cgutils.for_range(builder, num_factors) as loop:
        vectors = []
        for column in column_at:
            address = _emit_address(context, builder, weight_type, weight, loop.index, column)
            vectors.append(_emit_load(builder, address, lanes))

        factors = []
        for row in row_at:
            address = _emit_address(context, builder, rows_type, rows, row, loop.index)
            factors.append(builder.load(builder.bitcast(address, _FLOAT.as_pointer())))

        for (row, column), total in zip(tile, totals, strict=True):
            factor = _emit_splat(builder, factors[row])
            updated = _emit_fused(builder, factor, vectors[column], builder.load(total))
            builder.store(updated, total)

    for address, total in zip(addresses, totals, strict=True):
        _emit_store(builder, builder.load(total), address, lanes)


def _emit_fused(builder: Any, factor: Any, other: Any, addend: Any) -> Any:
    return builder.fadd(builder.fmul(factor, other, flags=_FUSED), addend, flags=_FUSED)


def _emit_splat(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(ir.VectorType(scalar.type, _LANES), ir.Undefined)
    single = builder.insert_element(undefined, scalar, ir.Constant(_INT, 0))
    return builder.shuffle_vector(single, undefined, ir.Constant(_INTS, [0] * _LANES))


def _emit_address(context: Any, builder: Any, array_type: Any, array: Any, *indices: Any) -> Any:
    view = make_array(array_type)(context, builder, array)
    strides = cgutils.unpack_tuple(builder, view.strides)

    address = builder.bitcast(view.data, _BYTES)
    for index, stride in zip(indices, strides, strict=True):
        address = builder.gep(address, [builder.mul(index, stride)])

    return address


def _emit_load(builder: Any, address: Any, lanes: Any) -> Any:
    pointer = builder.bitcast(address, _FLOATS.as_pointer())
    if lanes is None:
        return builder.load(pointer, align=4)

    kind = ir.FunctionType(_FLOATS, [pointer.type, _INT, _BOOLS, _FLOATS])
    function = cgutils.get_or_insert_function(
        builder.module, kind, f"llvm.masked.load.v{_LANES}f32.p0v{_LANES}f32"
    )
    alignment, zeros = ir.Constant(_INT, 4), ir.Constant(_FLOATS, None)

    return builder.call(function, [pointer, alignment, _emit_used(builder, lanes), zeros])


def _emit_store(builder: Any, vector: Any, address: Any, lanes: Any) -> None:
    pointer = builder.bitcast(address, _FLOATS.as_pointer())
    if lanes is None:
        builder.store(vector, pointer, align=4)
        return

    kind = ir.FunctionType(ir.VoidType(), [_FLOATS, pointer.type, _INT, _BOOLS])
    function = cgutils.get_or_insert_function(
        builder.module, kind, f"llvm.masked.store.v{_LANES}f32.p0v{_LANES}f32"
    )
    builder.call(function, [vector, pointer, ir.Constant(_INT, 4), _emit_used(builder, lanes)])


def _emit_used(builder: Any, lanes: Any) -> Any:
    """Return which lanes are used, if only the first `lanes` are."""
    numbers = ir.Constant(_INTS, list(range(_LANES)))

    return builder.icmp_signed("<", numbers, _emit_splat(builder, builder.trunc(lanes, _INT)))

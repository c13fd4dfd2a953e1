"""Sixteen float32 values that are added, compared and stored as one, inside Numba kernels.

Numba vectorises a loop only when LLVM proves that it may. A value of type `float32x16` here *is* an LLVM vector, so the
kernels say what runs side by side; it gains 1.7x over loops left to the vectoriser. LLVM lowers a vector to whatever
the processor has (one AVX-512 register, two AVX, four NEON or SSE): nothing here names an instruction set.

Arithmetic and comparisons are the Python operators, between two vectors or a vector and a number; comparisons give a
`mask16`, joined with `&`. Everything else is one of the functions below. Numba caches a kernel by its own source file
alone: after a change here, remove `render/__pycache__`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing import Signature
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

LANES = 16

_F32 = ir.FloatType()
_I32 = ir.IntType(32)
_FLOATS = ir.VectorType(_F32, LANES)
_INTS = ir.VectorType(_I32, LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)

# What an intrinsic gives Numba: its signature, and the function that emits its LLVM code.
_Intrinsic = tuple[Signature, Callable]

# `contract` lets LLVM fuse a product and a sum into one instruction where the processor has it.
_FAST = ("contract",)


class LanesType(types.Type):
    """The Numba type of a vector of `LANES` floats or booleans."""


float32x16 = LanesType(name="float32x16")
mask16 = LanesType(name="mask16")


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: LanesType) -> None:
        super().__init__(manager, numba_type, _BITS if numba_type is mask16 else _FLOATS)


# Division follows numpy, and nothing is ever called from C.
_OPTIONS = {"error_model": "numpy", "boundscheck": False, "no_cfunc_wrapper": True}


def kernel(function: Callable) -> Callable:
    """Compiles an entry point: kept on disk between runs, and run without the global interpreter lock."""
    return njit(cache=True, nogil=True, **_OPTIONS)(function)


def compiled(function: Callable) -> Callable:
    """Compiles a function that only kernels call."""
    return njit(no_cpython_wrapper=True, **_OPTIONS)(function)


def inlined(function: Callable) -> Callable:
    """Compiles a helper into each of its callers: vectors then stay in registers."""
    return njit(forceinline=True, no_cpython_wrapper=True, **_OPTIONS)(function)


def _constant(value: float | int, vector_type: ir.VectorType) -> ir.Constant:
    return ir.Constant(vector_type, [ir.Constant(vector_type.element, value)] * LANES)


def _indices(indices: Sequence[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(_I32, len(indices)), [ir.Constant(_I32, index) for index in indices])


def _broadcast(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    if scalar.type == ir.DoubleType():
        scalar = builder.fptrunc(scalar, _F32)
    undefined = ir.Constant(_FLOATS, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, undefined, _indices([0] * LANES))


def _call(
    builder: ir.IRBuilder, name: str, arguments: Sequence[ir.Value], result: ir.Type, flags: Sequence[str] = ()
) -> ir.Value:
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, arguments, fastmath=flags)


def _pointer(
    context: Any, builder: ir.IRBuilder, array_type: types.Array, array: ir.Value, index: ir.Value
) -> ir.Value:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())


# --- operators -------------------------------------------------------------------------------------------------------

_SCALARS = (types.float32, types.float64)
_OPERANDS = [(float32x16, float32x16), *((float32x16, s) for s in _SCALARS), *((s, float32x16) for s in _SCALARS)]


def _register_binary(python_operator: Callable, result: LanesType, emit: Callable) -> None:
    @type_callable(python_operator)
    def type_operator(context: Any) -> Callable:
        return lambda left, right: result if (left, right) in _OPERANDS else None

    def lower(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        left, right = (value if value.type == _FLOATS else _broadcast(builder, value) for value in arguments)
        return emit(builder, left, right)

    for operands in _OPERANDS:
        lower_builtin(python_operator, *operands)(lower)


_register_binary(operator.add, float32x16, lambda builder, a, b: builder.fadd(a, b, flags=_FAST))
_register_binary(operator.sub, float32x16, lambda builder, a, b: builder.fsub(a, b, flags=_FAST))
_register_binary(operator.mul, float32x16, lambda builder, a, b: builder.fmul(a, b, flags=_FAST))
_register_binary(operator.truediv, float32x16, lambda builder, a, b: builder.fdiv(a, b, flags=_FAST))
_register_binary(operator.lt, mask16, lambda builder, a, b: builder.fcmp_ordered("<", a, b))
_register_binary(operator.le, mask16, lambda builder, a, b: builder.fcmp_ordered("<=", a, b))
_register_binary(operator.gt, mask16, lambda builder, a, b: builder.fcmp_ordered(">", a, b))
_register_binary(operator.ge, mask16, lambda builder, a, b: builder.fcmp_ordered(">=", a, b))


@type_callable(operator.neg)
def _type_negative(context: Any) -> Callable:
    return lambda value: float32x16 if value == float32x16 else None


@lower_builtin(operator.neg, float32x16)
def _lower_negative(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
    return builder.fneg(arguments[0])


@type_callable(operator.and_)
def _type_and(context: Any) -> Callable:
    return lambda left, right: mask16 if left == right == mask16 else None


@lower_builtin(operator.and_, mask16, mask16)
def _lower_and(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
    return builder.and_(*arguments)


# --- functions of vectors --------------------------------------------------------------------------------------------


def _lower(emit: Callable) -> Callable:
    """Numba's code generator signature around `emit(builder, *values)`."""
    return lambda context, builder, signature, arguments: emit(builder, *arguments)


@intrinsic
def splat(context: Any, scalar: types.Type) -> _Intrinsic:
    """The float32 `scalar` in every lane."""
    return float32x16(types.float32), _lower(_broadcast)


@intrinsic
def lane_numbers(context: Any) -> _Intrinsic:
    """0, 1, ... LANES - 1."""
    return float32x16(), _lower(lambda builder: ir.Constant(_FLOATS, [ir.Constant(_F32, n) for n in range(LANES)]))


@intrinsic
def multiply_add(context: Any, a: types.Type, b: types.Type, c: types.Type) -> _Intrinsic:
    """a * b + c, rounded once where the processor can."""
    signature = float32x16(float32x16, float32x16, float32x16)
    return signature, _lower(lambda builder, *abc: _call(builder, f"llvm.fmuladd.v{LANES}f32", abc, _FLOATS))


@intrinsic
def reciprocal(context: Any, a: types.Type) -> _Intrinsic:
    """1 / a within 3e-7 relative: LLVM may refine the processor's estimate instead of dividing, which takes longer."""
    one = _constant(1.0, _FLOATS)
    return float32x16(a), _lower(lambda builder, a: builder.fdiv(one, a, flags=("arcp",)))


@intrinsic
def select(context: Any, mask: types.Type, a: types.Type, b: types.Type) -> _Intrinsic:
    """`a` where the mask is set, else `b`."""
    return float32x16(mask16, float32x16, float32x16), _lower(lambda builder, *mab: builder.select(*mab))


@intrinsic
def minimum(context: Any, a: types.Type, b: types.Type) -> _Intrinsic:
    """The smaller of each lane; `b` where either is not a number."""
    return float32x16(a, b), _lower(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))


@intrinsic
def maximum(context: Any, a: types.Type, b: types.Type) -> _Intrinsic:
    """The larger of each lane; `b` where either is not a number."""
    return float32x16(a, b), _lower(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


@intrinsic
def square_root(context: Any, a: types.Type) -> _Intrinsic:
    """The square root of each lane."""
    return float32x16(a), _lower(lambda builder, a: _call(builder, f"llvm.sqrt.v{LANES}f32", [a], _FLOATS))


@intrinsic
def round_down(context: Any, a: types.Type) -> _Intrinsic:
    """The largest whole number not above each lane."""
    return float32x16(a), _lower(lambda builder, a: _call(builder, f"llvm.floor.v{LANES}f32", [a], _FLOATS))


@intrinsic
def is_finite(context: Any, a: types.Type) -> _Intrinsic:
    """Neither infinite nor not a number."""

    def emit(builder: ir.IRBuilder, a: ir.Value) -> ir.Value:
        magnitude = _call(builder, f"llvm.fabs.v{LANES}f32", [a], _FLOATS)
        return builder.fcmp_ordered("<", magnitude, _constant(float("inf"), _FLOATS))

    return mask16(a), _lower(emit)


# --- functions of the bits of a float --------------------------------------------------------------------------------

_MANTISSA_BITS = 23
_MANTISSA_MASK = (1 << _MANTISSA_BITS) - 1
_EXPONENT_BIAS = 127
_BITS_OF_ONE = _EXPONENT_BIAS << _MANTISSA_BITS


@intrinsic
def binary_exponent(context: Any, a: types.Type) -> _Intrinsic:
    """floor(log2(a)) of positive normal floats."""

    def emit(builder: ir.IRBuilder, a: ir.Value) -> ir.Value:
        biased = builder.lshr(builder.bitcast(a, _INTS), _constant(_MANTISSA_BITS, _INTS))
        return builder.sitofp(builder.sub(biased, _constant(_EXPONENT_BIAS, _INTS)), _FLOATS)

    return float32x16(a), _lower(emit)


@intrinsic
def mantissa(context: Any, a: types.Type) -> _Intrinsic:
    """a / 2 ** floor(log2(a)), in [1, 2), of positive normal floats."""

    def emit(builder: ir.IRBuilder, a: ir.Value) -> ir.Value:
        fraction = builder.and_(builder.bitcast(a, _INTS), _constant(_MANTISSA_MASK, _INTS))
        return builder.bitcast(builder.or_(fraction, _constant(_BITS_OF_ONE, _INTS)), _FLOATS)

    return float32x16(a), _lower(emit)


@intrinsic
def times_power_of_two(context: Any, a: types.Type, exponent: types.Type) -> _Intrinsic:
    """a * 2 ** exponent for whole exponents, where `a` and the product are normal; NaN stays NaN."""

    def emit(builder: ir.IRBuilder, a: ir.Value, exponent: ir.Value) -> ir.Value:
        steps = builder.shl(builder.fptosi(exponent, _INTS), _constant(_MANTISSA_BITS, _INTS))
        return builder.bitcast(builder.add(builder.bitcast(a, _INTS), steps), _FLOATS)

    return float32x16(a, exponent), _lower(emit)


# --- reductions and memory -------------------------------------------------------------------------------------------


@intrinsic
def largest(context: Any, a: types.Type) -> _Intrinsic:
    """The largest lane of a vector without NaN, a float32."""
    name = f"llvm.vector.reduce.fmax.v{LANES}f32"
    return types.float32(a), _lower(lambda builder, a: _call(builder, name, [a], _F32, flags=("nnan",)))


@intrinsic
def load(context: Any, array: types.Type, index: types.Type) -> _Intrinsic:
    """`LANES` values of a flat float32 array from `index` on."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        return builder.load(_pointer(context, builder, signature.args[0], *arguments), align=4)

    return float32x16(array, types.intp), code


@intrinsic
def store(context: Any, array: types.Type, index: types.Type, value: types.Type) -> _Intrinsic:
    """Writes `value` into a flat float32 array from `index` on."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        *place, value = arguments
        builder.store(value, _pointer(context, builder, signature.args[0], *place), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16), code


def _first_lanes(builder: ir.IRBuilder, count: ir.Value) -> ir.Value:
    """The mask of the first `count` lanes; none where it is negative, all where it is LANES or more."""
    lanes = ir.VectorType(count.type, LANES)
    undefined = ir.Constant(lanes, ir.Undefined)
    first = builder.insert_element(undefined, count, ir.Constant(_I32, 0))
    counts = builder.shuffle_vector(first, undefined, _indices([0] * LANES))
    return builder.icmp_signed("<", ir.Constant(lanes, [ir.Constant(count.type, n) for n in range(LANES)]), counts)


@intrinsic
def load_first(context: Any, array: types.Type, index: types.Type, count: types.Type) -> _Intrinsic:
    """The first `count` values that `load` would give, then zeros; the array may end after them."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        *place, count = arguments
        address = _pointer(context, builder, signature.args[0], *place)
        operands = [address, ir.Constant(_I32, 4), _first_lanes(builder, count), _constant(0.0, _FLOATS)]
        return _call(builder, f"llvm.masked.load.v{LANES}f32.p0", operands, _FLOATS)

    return float32x16(array, types.intp, types.intp), code


@intrinsic
def store_first(context: Any, array: types.Type, index: types.Type, value: types.Type, count: types.Type) -> _Intrinsic:
    """Writes the first `count` lanes of `value` into a flat float32 array from `index` on."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        *place, value, count = arguments
        address = _pointer(context, builder, signature.args[0], *place)
        operands = [value, address, ir.Constant(_I32, 4), _first_lanes(builder, count)]
        _call(builder, f"llvm.masked.store.v{LANES}f32.p0", operands, ir.VoidType())
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16, types.intp), code


@intrinsic
def prefetch(context: Any, array: types.Type, index: types.Type) -> _Intrinsic:
    """Asks for the cache line of `array[index]`, which need not exist."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        address = builder.bitcast(
            _pointer(context, builder, signature.args[0], *arguments), ir.PointerType(ir.IntType(8))
        )
        for_reading, keep_close, data_cache = (ir.Constant(_I32, hint) for hint in (0, 3, 1))
        _call(builder, "llvm.prefetch.p0", [address, for_reading, keep_close, data_cache], ir.VoidType())
        return context.get_dummy_value()

    return types.void(array, types.intp), code


# --- rows to columns and back ----------------------------------------------------------------------------------------


def _gather(builder: ir.IRBuilder, vectors: Sequence[ir.Value], wanted: Sequence[int]) -> ir.Value:
    """A vector whose lane k is element `wanted[k]` of all `vectors` laid end to end."""
    result = vectors[0]
    for number, vector in enumerate(vectors[1:], start=1):
        start, end = number * LANES, (number + 1) * LANES
        before = range(LANES) if number > 1 else [element % LANES for element in wanted]
        indices = [
            LANES + element - start if start <= element < end else kept
            for element, kept in zip(wanted, before, strict=True)
        ]
        result = builder.shuffle_vector(result, vector, _indices(indices))
    return result


def _interleave(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, width: int) -> tuple[ir.Value, ir.Value]:
    """Runs of `width` lanes, from a and b in turn: the even runs of both, and the odd runs of both."""
    even = [LANES * (lane // width % 2) + lane - lane // width % 2 * width for lane in range(LANES)]
    return tuple(builder.shuffle_vector(a, b, _indices([lane + offset for lane in even])) for offset in (0, width))


def _transpose(builder: ir.IRBuilder, rows: Sequence[ir.Value]) -> list[ir.Value]:
    """The columns of a square matrix, in log2(LANES) rounds: round w swaps bit w of the row and of the lane."""
    vectors = list(rows)
    width = 1
    while width < LANES:
        for low in (number for number in range(LANES) if not number & width):
            vectors[low], vectors[low + width] = _interleave(builder, vectors[low], vectors[low + width], width)
        width *= 2
    return vectors


@intrinsic(prefer_literal=True)
def load_columns(context: Any, array: types.Type, index: types.Type, count: types.Type) -> _Intrinsic:
    """The `count` columns of `LANES` rows, which lie one after the other from `index` on, as a tuple of vectors."""
    width = count.literal_value

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2])
        rows = [builder.load(builder.gep(pointer, [ir.Constant(_I32, number)]), align=4) for number in range(width)]
        if width == LANES:
            columns = _transpose(builder, rows)
        else:
            columns = [_gather(builder, rows, range(column, LANES * width, width)) for column in range(width)]
        return context.make_tuple(builder, signature.return_type, columns)

    return types.UniTuple(float32x16, width)(array, types.intp, count), code


@intrinsic
def store_columns(context: Any, array: types.Type, index: types.Type, columns: types.Type) -> _Intrinsic:
    """The inverse of `load_columns`: writes a tuple of vectors as the columns of `LANES` rows."""
    width = len(columns)

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        pointer = _pointer(context, builder, signature.args[0], *arguments[:2])
        vectors = cgutils.unpack_tuple(builder, arguments[2], width)
        if width == LANES:
            rows = _transpose(builder, vectors)
        else:
            places = [element % width * LANES + element // width for element in range(LANES * width)]
            rows = [_gather(builder, vectors, places[LANES * number :][:LANES]) for number in range(width)]
        for number, row in enumerate(rows):
            builder.store(row, builder.gep(pointer, [ir.Constant(_I32, number)]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, columns), code


@intrinsic
def sums(context: Any, vectors: types.Type) -> _Intrinsic:
    """A tuple of up to `LANES` vectors -> one vector, whose lane k is the sum of the lanes of vector k."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        remaining = cgutils.unpack_tuple(builder, arguments[0], len(vectors))
        width = 1
        while width < LANES:
            if len(remaining) % 2:
                remaining.append(_constant(0.0, _FLOATS))
            halves = [
                _interleave(builder, *remaining[first : first + 2], width) for first in range(0, len(remaining), 2)
            ]
            remaining = [builder.fadd(even, odd) for even, odd in halves]
            width *= 2
        return remaining[0]

    return float32x16(vectors), code

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
INT32 = ir.IntType(32)
FLOATS = ir.VectorType(_F32, LANES)
_INTS = ir.VectorType(INT32, LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)

# What an intrinsic gives Numba: its signature, and the function that emits its LLVM code.
Intrinsic = tuple[Signature, Callable]

# `contract` lets LLVM fuse a product and a sum into one instruction where the processor has it.
_FAST = ("contract",)


class LanesType(types.Type):
    """The Numba type of a vector of `LANES` floats or booleans."""


float32x16 = LanesType(name="float32x16")
mask16 = LanesType(name="mask16")


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: LanesType) -> None:
        super().__init__(manager, numba_type, _BITS if numba_type is mask16 else FLOATS)


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


def constant(value: float | int, vector_type: ir.VectorType) -> ir.Constant:
    return ir.Constant(vector_type, [ir.Constant(vector_type.element, value)] * LANES)


def lane_indices(indices: Sequence[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(INT32, len(indices)), [ir.Constant(INT32, index) for index in indices])


def _broadcast(builder: ir.IRBuilder, scalar: ir.Value) -> ir.Value:
    if scalar.type == ir.DoubleType():
        scalar = builder.fptrunc(scalar, _F32)
    undefined = ir.Constant(FLOATS, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, undefined, lane_indices([0] * LANES))


def _call(
    builder: ir.IRBuilder, name: str, arguments: Sequence[ir.Value], result: ir.Type, flags: Sequence[str] = ()
) -> ir.Value:
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, arguments, fastmath=flags)


def pointer(
    context: Any, builder: ir.IRBuilder, array_type: types.Array, array: ir.Value, index: ir.Value
) -> ir.Value:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), FLOATS.as_pointer())


# --- operators -------------------------------------------------------------------------------------------------------

_SCALARS = (types.float32, types.float64)
_OPERANDS = [(float32x16, float32x16), *((float32x16, s) for s in _SCALARS), *((s, float32x16) for s in _SCALARS)]


def _register_binary(python_operator: Callable, result: LanesType, emit: Callable) -> None:
    @type_callable(python_operator)
    def type_operator(context: Any) -> Callable:
        return lambda left, right: result if (left, right) in _OPERANDS else None

    def lower(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        left, right = (value if value.type == FLOATS else _broadcast(builder, value) for value in arguments)
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
def splat(context: Any, scalar: types.Type) -> Intrinsic:
    """The float32 `scalar` in every lane."""
    return float32x16(types.float32), _lower(_broadcast)


@intrinsic
def lane_numbers(context: Any) -> Intrinsic:
    """0, 1, ... LANES - 1."""
    return float32x16(), _lower(lambda builder: ir.Constant(FLOATS, [ir.Constant(_F32, n) for n in range(LANES)]))


@intrinsic
def multiply_add(context: Any, a: types.Type, b: types.Type, c: types.Type) -> Intrinsic:
    """a * b + c, rounded once where the processor can."""
    signature = float32x16(float32x16, float32x16, float32x16)
    return signature, _lower(lambda builder, *abc: _call(builder, f"llvm.fmuladd.v{LANES}f32", abc, FLOATS))


@intrinsic
def reciprocal(context: Any, a: types.Type) -> Intrinsic:
    """1 / a within 3e-7 relative: LLVM may refine the processor's estimate instead of dividing, which takes longer."""
    one = constant(1.0, FLOATS)
    return float32x16(a), _lower(lambda builder, a: builder.fdiv(one, a, flags=("arcp",)))


@intrinsic
def select(context: Any, mask: types.Type, a: types.Type, b: types.Type) -> Intrinsic:
    """`a` where the mask is set, else `b`."""
    return float32x16(mask16, float32x16, float32x16), _lower(lambda builder, *mab: builder.select(*mab))


@intrinsic
def minimum(context: Any, a: types.Type, b: types.Type) -> Intrinsic:
    """The smaller of each lane; `b` where either is not a number."""
    return float32x16(a, b), _lower(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b))


@intrinsic
def maximum(context: Any, a: types.Type, b: types.Type) -> Intrinsic:
    """The larger of each lane; `b` where either is not a number."""
    return float32x16(a, b), _lower(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


@intrinsic
def square_root(context: Any, a: types.Type) -> Intrinsic:
    """The square root of each lane."""
    return float32x16(a), _lower(lambda builder, a: _call(builder, f"llvm.sqrt.v{LANES}f32", [a], FLOATS))


@intrinsic
def round_down(context: Any, a: types.Type) -> Intrinsic:
    """The largest whole number not above each lane."""
    return float32x16(a), _lower(lambda builder, a: _call(builder, f"llvm.floor.v{LANES}f32", [a], FLOATS))


@intrinsic
def is_finite(context: Any, a: types.Type) -> Intrinsic:
    """Neither infinite nor not a number."""

    def emit(builder: ir.IRBuilder, a: ir.Value) -> ir.Value:
        magnitude = _call(builder, f"llvm.fabs.v{LANES}f32", [a], FLOATS)
        return builder.fcmp_ordered("<", magnitude, constant(float("inf"), FLOATS))

    return mask16(a), _lower(emit)


# --- functions of the bits of a float --------------------------------------------------------------------------------

_MANTISSA_BITS = 23
_MANTISSA_MASK = (1 << _MANTISSA_BITS) - 1
_EXPONENT_BIAS = 127
_BITS_OF_ONE = _EXPONENT_BIAS << _MANTISSA_BITS


@intrinsic
def binary_exponent(context: Any, a: types.Type) -> Intrinsic:
    """floor(log2(a)) of positive normal floats."""

    def emit(builder: ir.IRBuilder, a: ir.Value) -> ir.Value:
        biased = builder.lshr(builder.bitcast(a, _INTS), constant(_MANTISSA_BITS, _INTS))
        return builder.sitofp(builder.sub(biased, constant(_EXPONENT_BIAS, _INTS)), FLOATS)

    return float32x16(a), _lower(emit)


@intrinsic
def mantissa(context: Any, a: types.Type) -> Intrinsic:
    """a / 2 ** floor(log2(a)), in [1, 2), of positive normal floats."""

    def emit(builder: ir.IRBuilder, a: ir.Value) -> ir.Value:
        fraction = builder.and_(builder.bitcast(a, _INTS), constant(_MANTISSA_MASK, _INTS))
        return builder.bitcast(builder.or_(fraction, constant(_BITS_OF_ONE, _INTS)), FLOATS)

    return float32x16(a), _lower(emit)


@intrinsic
def times_power_of_two(context: Any, a: types.Type, exponent: types.Type) -> Intrinsic:
    """a * 2 ** exponent for whole exponents, where `a` and the product are normal; NaN stays NaN."""

    def emit(builder: ir.IRBuilder, a: ir.Value, exponent: ir.Value) -> ir.Value:
        steps = builder.shl(builder.fptosi(exponent, _INTS), constant(_MANTISSA_BITS, _INTS))
        return builder.bitcast(builder.add(builder.bitcast(a, _INTS), steps), FLOATS)

    return float32x16(a, exponent), _lower(emit)


# --- reductions and memory -------------------------------------------------------------------------------------------


@intrinsic
def largest(context: Any, a: types.Type) -> Intrinsic:
    """The largest lane of a vector without NaN, a float32."""
    name = f"llvm.vector.reduce.fmax.v{LANES}f32"
    return types.float32(a), _lower(lambda builder, a: _call(builder, name, [a], _F32, flags=("nnan",)))


@intrinsic
def load(context: Any, array: types.Type, index: types.Type) -> Intrinsic:
    """`LANES` values of a flat float32 array from `index` on."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        return builder.load(pointer(context, builder, signature.args[0], *arguments), align=4)

    return float32x16(array, types.intp), code


@intrinsic
def store(context: Any, array: types.Type, index: types.Type, value: types.Type) -> Intrinsic:
    """Writes `value` into a flat float32 array from `index` on."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        *place, value = arguments
        builder.store(value, pointer(context, builder, signature.args[0], *place), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16), code


def _first_lanes(builder: ir.IRBuilder, count: ir.Value) -> ir.Value:
    """The mask of the first `count` lanes; none where it is negative, all where it is LANES or more."""
    lanes = ir.VectorType(count.type, LANES)
    undefined = ir.Constant(lanes, ir.Undefined)
    first = builder.insert_element(undefined, count, ir.Constant(INT32, 0))
    counts = builder.shuffle_vector(first, undefined, lane_indices([0] * LANES))
    return builder.icmp_signed("<", ir.Constant(lanes, [ir.Constant(count.type, n) for n in range(LANES)]), counts)


@intrinsic
def load_first(context: Any, array: types.Type, index: types.Type, count: types.Type) -> Intrinsic:
    """The first `count` values that `load` would give, then zeros; the array may end after them."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        *place, count = arguments
        address = pointer(context, builder, signature.args[0], *place)
        operands = [address, ir.Constant(INT32, 4), _first_lanes(builder, count), constant(0.0, FLOATS)]
        return _call(builder, f"llvm.masked.load.v{LANES}f32.p0", operands, FLOATS)

    return float32x16(array, types.intp, types.intp), code


@intrinsic
def store_first(context: Any, array: types.Type, index: types.Type, value: types.Type, count: types.Type) -> Intrinsic:
    """Writes the first `count` lanes of `value` into a flat float32 array from `index` on."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        *place, value, count = arguments
        address = pointer(context, builder, signature.args[0], *place)
        operands = [value, address, ir.Constant(INT32, 4), _first_lanes(builder, count)]
        _call(builder, f"llvm.masked.store.v{LANES}f32.p0", operands, ir.VoidType())
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16, types.intp), code


@intrinsic
def prefetch(context: Any, array: types.Type, index: types.Type) -> Intrinsic:
    """Asks for the cache line of `array[index]`, which need not exist."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        address = builder.bitcast(
            pointer(context, builder, signature.args[0], *arguments), ir.PointerType(ir.IntType(8))
        )
        for_reading, keep_close, data_cache = (ir.Constant(INT32, hint) for hint in (0, 3, 1))
        _call(builder, "llvm.prefetch.p0", [address, for_reading, keep_close, data_cache], ir.VoidType())
        return context.get_dummy_value()

    return types.void(array, types.intp), code

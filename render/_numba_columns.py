"""Rows of an array as vectors of their columns, and back: for kernels that take sixteen Gaussians at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from render._numba_simd import FLOATS, INT32, LANES, Intrinsic, constant, float32x16, lane_indices, pointer


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
        result = builder.shuffle_vector(result, vector, lane_indices(indices))
    return result


def _interleave(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, width: int) -> tuple[ir.Value, ir.Value]:
    """Runs of `width` lanes, from a and b in turn: the even runs of both, and the odd runs of both."""
    even = [LANES * (lane // width % 2) + lane - lane // width % 2 * width for lane in range(LANES)]
    return tuple(builder.shuffle_vector(a, b, lane_indices([lane + offset for lane in even])) for offset in (0, width))


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
def load_columns(context: Any, array: types.Type, index: types.Type, count: types.Type) -> Intrinsic:
    """The `count` columns of `LANES` rows, which lie one after the other from `index` on, as a tuple of vectors."""
    width = count.literal_value

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        address = pointer(context, builder, signature.args[0], *arguments[:2])
        rows = [builder.load(builder.gep(address, [ir.Constant(INT32, number)]), align=4) for number in range(width)]
        if width == LANES:
            columns = _transpose(builder, rows)
        else:
            columns = [_gather(builder, rows, range(column, LANES * width, width)) for column in range(width)]
        return context.make_tuple(builder, signature.return_type, columns)

    return types.UniTuple(float32x16, width)(array, types.intp, count), code


@intrinsic
def store_columns(context: Any, array: types.Type, index: types.Type, columns: types.Type) -> Intrinsic:
    """The inverse of `load_columns`: writes a tuple of vectors as the columns of `LANES` rows."""
    width = len(columns)

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        address = pointer(context, builder, signature.args[0], *arguments[:2])
        vectors = cgutils.unpack_tuple(builder, arguments[2], width)
        if width == LANES:
            rows = _transpose(builder, vectors)
        else:
            places = [element % width * LANES + element // width for element in range(LANES * width)]
            rows = [_gather(builder, vectors, places[LANES * number :][:LANES]) for number in range(width)]
        for number, row in enumerate(rows):
            builder.store(row, builder.gep(address, [ir.Constant(INT32, number)]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, columns), code


@intrinsic
def sums(context: Any, vectors: types.Type) -> Intrinsic:
    """A tuple of up to `LANES` vectors -> one vector, whose lane k is the sum of the lanes of vector k."""

    def code(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Sequence[ir.Value]) -> ir.Value:
        remaining = cgutils.unpack_tuple(builder, arguments[0], len(vectors))
        width = 1
        while width < LANES:
            if len(remaining) % 2:
                remaining.append(constant(0.0, FLOATS))
            halves = [
                _interleave(builder, *remaining[first : first + 2], width) for first in range(0, len(remaining), 2)
            ]
            remaining = [builder.fadd(even, odd) for even, odd in halves]
            width *= 2
        return remaining[0]

    return float32x16(vectors), code

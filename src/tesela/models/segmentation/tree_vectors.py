"""
Vector instructions for symmetric trees: 64 pixels go through a tree together, without branches.

Loops over arrays would leave the choice of instructions to the compiler, which looks leaves up one by one. These
functions write the instructions of LLVM themselves. Places are found with vectors of any processor. Leaves are looked
up 32 at a time where the processor has AVX-512 (one instruction takes 32 of 64 numbers), else a row of 8 classes at a
time. Scores are whole numbers, so both ways give the same sums.

Addresses are those of arrays that the caller holds while the function runs.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import extending, types
from numba.core import cgutils as numba_cgutils
from numba.core.registry import cpu_target

cgutils: Any = numba_cgutils
intrinsic: Any = extending.intrinsic  # its calls have one argument less than the function below it

PIXELS = 64
"""Pixels that go through a tree together."""

LANES = 8
"""Classes of a row of leaves, see `add_leaf_rows`."""

TOGETHER = 4
"""`add_leaf_rows` takes so many trees at once; their number is a multiple of it."""

NUMBERS = 16
"""Numbers that `add_numbers` adds."""

_HALF = 32
_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)
_VECTOR, _ROW = ir.VectorType(_I16, _HALF), ir.VectorType(_I16, LANES)
_BYTES = 2 * PIXELS
"""Of one number for each of the pixels."""

_PERMUTE = "llvm.x86.avx512.vpermi2var.hi.512"


def has_permutes() -> bool:
    """Whether numba compiles for a processor that looks 32 of 64 numbers up in one instruction."""
    features = str(cpu_target.target_context.codegen().magic_tuple()[2])
    return "+avx512bw" in features.split(",")


def _number(value: int) -> Any:
    return ir.Constant(_I64, value)


def _pointer(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    return builder.inttoptr(builder.add(base, offset), kind.as_pointer())


def _load(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    return builder.load(_pointer(builder, base, offset, kind), align=2)


def _store(builder: Any, value: Any, base: Any, offset: Any) -> None:
    builder.store(value, _pointer(builder, base, offset, value.type), align=2)


def _spread(builder: Any, value: Any) -> Any:
    """A vector whose elements are all `value`."""
    none = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(none, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, none, ir.Constant(ir.VectorType(_I32, _HALF), [0] * _HALF))


@intrinsic
def find_places(typing, values, stride, splits, trees, depth, places):  # type: ignore[no-untyped-def]
    """
    Leaf of each of 64 pixels in each tree.

    Parameters
    ----------
    values : address of int16
        Of the first pixel's first feature; 64 pixels lie together.
    stride : int
        Bytes from a feature to the next.
    splits : address of (trees, depth) int32
        Feature x 65536 + threshold.
    places : address of (trees, 64) int16
        Filled; bit k of a leaf is 1 where the feature of level k is above its threshold.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        values, stride, splits, trees, depth, places = arguments
        zero = ir.Constant(_VECTOR, [0] * _HALF)
        done = builder.append_basic_block("places.done")
        cases = builder.switch(depth, done)
        for levels in range(1, 9):  # a loop over the levels takes twice as long
            block = builder.append_basic_block(f"depth.{levels}")
            cases.add_case(_number(levels), block)
            builder.position_at_end(block)
            with cgutils.for_range(builder, trees) as tree:
                first = builder.add(splits, builder.mul(tree.index, _number(4 * levels)))
                found = [zero, zero]
                for level in range(levels):
                    split = _load(builder, first, _number(4 * level), _I32)
                    feature = builder.zext(builder.lshr(split, ir.Constant(_I32, 16)), _I64)
                    row = builder.add(values, builder.mul(feature, stride))
                    threshold = _spread(builder, builder.trunc(split, _I16))
                    bit = ir.Constant(_VECTOR, [1 << level] * _HALF)
                    for half in (0, 1):
                        value = _load(builder, row, _number(half * 2 * _HALF), _VECTOR)
                        above = builder.icmp_signed(">", value, threshold)
                        found[half] = builder.or_(found[half], builder.select(above, bit, zero))
                out = builder.add(places, builder.mul(tree.index, _number(_BYTES)))
                for half in (0, 1):
                    _store(builder, found[half], out, _number(half * 2 * _HALF))
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@intrinsic
def add_leaves(typing, places, trees, stride, leaf, classes, sums):  # type: ignore[no-untyped-def]
    """
    Sums of the leaves of 64 pixels, for trees of at most 64 leaves; only where `has_permutes`.

    Parameters
    ----------
    places : address of (trees, 64) int16
        From `find_places`.
    stride : int
        Bytes from a tree's leaves to the next.
    leaf : address of (trees, classes, 64) int16
    sums : address of (classes, 64) int16
        Filled.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places, trees, stride, leaf, classes, sums = arguments
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        permute = cgutils.get_or_insert_function(builder.module, kind, _PERMUTE)
        begin = cgutils.alloca_once_value(builder, _number(0))

        def work(count: int) -> None:
            """Sum some classes; more than eight would not stay in registers."""
            totals = [cgutils.alloca_once(builder, _VECTOR) for _ in range(2 * count)]
            for total in totals:
                builder.store(ir.Constant(_VECTOR, [0] * _HALF), total)
            offset = builder.mul(builder.load(begin), _number(_BYTES))
            first = builder.add(leaf, offset)
            with cgutils.for_range(builder, trees) as tree:
                place = builder.add(places, builder.mul(tree.index, _number(_BYTES)))
                chosen = [_load(builder, place, _number(half * 2 * _HALF), _VECTOR) for half in (0, 1)]
                table = builder.add(first, builder.mul(tree.index, stride))
                for k in range(count):
                    low, high = (
                        _load(builder, table, _number(k * _BYTES + half * 2 * _HALF), _VECTOR)
                        for half in (0, 1)
                    )
                    for half in (0, 1):
                        total = totals[2 * k + half]
                        scores = builder.call(permute, [low, chosen[half], high])
                        builder.store(builder.add(builder.load(total), scores), total)
            out = builder.add(sums, offset)
            for position, total in enumerate(totals):
                _store(builder, builder.load(total), out, _number(position * 2 * _HALF))
            builder.store(builder.add(builder.load(begin), _number(count)), begin)

        with cgutils.for_range(builder, builder.udiv(classes, _number(8))):
            work(8)
        done = builder.append_basic_block("leaves.done")
        cases = builder.switch(builder.urem(classes, _number(8)), done)
        for count in range(1, 8):
            block = builder.append_basic_block(f"classes.{count}")
            cases.add_case(_number(count), block)
            builder.position_at_end(block)
            work(count)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@intrinsic
def add_leaf_rows(typing, places, trees, leaves, leaf, sums):  # type: ignore[no-untyped-def]
    """
    Sums of the leaves of 64 pixels for 8 classes, on any processor.

    Parameters
    ----------
    places : address of (trees, 64) int16
        From `find_places`.
    trees : int
        A multiple of `TOGETHER`.
    leaf : address of (trees, leaves, 8) int16
    sums : address of (64, 8) int16
        The leaves are added to it.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places, trees, leaves, leaf, sums = arguments
        size = builder.mul(leaves, _number(2 * LANES))
        with cgutils.for_range(builder, builder.udiv(trees, _number(TOGETHER))) as group:
            place = builder.add(places, builder.mul(group.index, _number(TOGETHER * _BYTES)))
            table = builder.add(leaf, builder.mul(group.index, builder.mul(size, _number(TOGETHER))))
            with cgutils.for_range(builder, _number(PIXELS)) as pixel:
                own = builder.mul(pixel.index, _number(2 * LANES))
                total = _load(builder, sums, own, _ROW)
                for tree in range(TOGETHER):
                    offset = builder.add(builder.mul(pixel.index, _number(2)), _number(tree * _BYTES))
                    chosen = builder.zext(_load(builder, place, offset, _I16), _I64)
                    row = builder.add(
                        builder.mul(chosen, _number(2 * LANES)), builder.mul(size, _number(tree))
                    )
                    total = builder.add(total, _load(builder, table, row, _ROW))
                _store(builder, total, sums, own)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic
def add_numbers(typing, target, source):  # type: ignore[no-untyped-def]
    """Add the 16 float32 at address `source` to those at address `target`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source = (
            builder.inttoptr(item, ir.VectorType(ir.FloatType(), NUMBERS).as_pointer()) for item in arguments
        )
        total = builder.fadd(builder.load(target, align=4), builder.load(source, align=4))
        builder.store(total, target, align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate

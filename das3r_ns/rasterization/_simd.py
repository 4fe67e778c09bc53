"""Eight-lane arithmetic, written out as LLVM vectors through numba's public ``intrinsic``.

Compilers do not find it by themselves in loops as short as a splat is wide. LLVM turns the vectors into whatever the
processor has (AVX, two SSE or NEON halves). ``Code`` and ``Vec`` are at work only while a kernel is being compiled.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8
MAX_ALPHA, MIN_TRANSMITTANCE, MIN_P, MAGIC = 0.999, 1e-4, math.log2(1.0 / 255.0), 12582912.0
# 2^x on [-0.5, 0.5], fitted for the least relative error; highest power first.
_EXP2 = (1.327646663e-3, 9.675540961e-3, 5.550713465e-2, 2.402212024e-1, 6.931469440e-1, 1.00000007)
_CONSTANTS = (MAX_ALPHA, MIN_TRANSMITTANCE, MIN_P, MAGIC, *_EXP2, 0.0, 1.0)
# Floats with which the memory a kernel works in must begin.
TABLE = np.concatenate([np.repeat(np.array(_CONSTANTS, np.float32), LANES), np.arange(LANES, dtype=np.float32)])

F32, I32 = ir.FloatType(), ir.IntType(32)
VECTOR, INTEGERS = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)


class Code:
    """Writes the LLVM code of an intrinsic: constants, addresses of eight floats in the planes, broadcasts."""

    def __init__(self, context, builder, state_type, state, at, plane):
        self.builder, self.at, self.plane = builder, at, plane
        self.state = cgutils.create_struct_proxy(state_type)(context, builder, state).data

    def constant(self, number):
        """A number of _CONSTANTS in all lanes: an operand in memory, where an immediate takes two instructions."""
        return self._read(ir.Constant(self.at.type, _CONSTANTS.index(number) * LANES))

    def _read(self, index):
        place = self.builder.bitcast(self.builder.gep(self.state, [index]), VECTOR.as_pointer())
        return Vec(self, self.builder.load(place, align=4))

    def lanes(self):
        """0, 1, ... 7."""
        return self._read(ir.Constant(self.at.type, len(_CONSTANTS) * LANES))

    def _plane(self, number):
        index = self.builder.add(self.at, ir.Constant(self.at.type, len(TABLE) + number * self.plane))
        return self.builder.bitcast(self.builder.gep(self.state, [index]), VECTOR.as_pointer())

    def load(self, number):
        """The eight pixels, in a plane."""
        return Vec(self, self.builder.load(self._plane(number), align=4))

    def store(self, number, vector):
        self.builder.store(vector.value, self._plane(number), align=4)

    def broadcast(self, scalar):
        """One LLVM float in all lanes."""
        empty = ir.Constant(VECTOR, ir.Undefined)
        first = self.builder.insert_element(empty, scalar, ir.Constant(I32, 0))
        return Vec(self, self.builder.shuffle_vector(first, empty, ir.Constant(INTEGERS, [0] * LANES)))

    def entry(self, context, rows_type, rows, row, column):
        """rows[row, column] in all lanes."""
        array = cgutils.create_struct_proxy(rows_type)(context, self.builder, rows)
        columns = cgutils.unpack_tuple(self.builder, array.shape)[1]
        index = self.builder.add(self.builder.mul(row, columns), ir.Constant(row.type, column))
        return self.broadcast(self.builder.load(self.builder.gep(array.data, [index])))


class Vec:
    """Eight floats while LLVM code is written: operators emit instructions; a multiply-add may be fused."""

    def __init__(self, code, value):
        self.code, self.value = code, value

    def _operand(self, other):
        return self.code.constant(other) if isinstance(other, float) else other

    def _emit(self, name, other):
        function = getattr(self.code.builder, name)
        return Vec(self.code, function(self.value, self._operand(other).value, flags=("contract",)))

    def __add__(self, other):
        return self._emit("fadd", other)

    def __sub__(self, other):
        return self._emit("fsub", other)

    def __mul__(self, other):
        return self._emit("fmul", other)

    def __truediv__(self, other):
        return self._emit("fdiv", other)

    def compare(self, sign, other):
        """Eight bits."""
        return self.code.builder.fcmp_ordered(sign, self.value, self._operand(other).value)

    def where(self, mask, other):
        """This where the mask is set, else the other."""
        return Vec(self.code, self.code.builder.select(mask, self.value, self._operand(other).value))

    def where_or_zero(self, mask):
        return Vec(self.code, self.code.builder.select(mask, self.value, ir.Constant(VECTOR, [0.0] * LANES)))

    def at_most(self, limit):
        limit = self._operand(limit)
        return self.where(self.compare("<", limit), limit)

    def _bits(self, operation, number):
        builder = self.code.builder
        bits = builder.bitcast(self.value, INTEGERS)
        bits = getattr(builder, operation)(bits, ir.Constant(INTEGERS, [number] * LANES))
        return Vec(self.code, builder.bitcast(bits, VECTOR))

    def magnitude(self):
        return self._bits("and_", 0x7FFFFFFF)

    def negative(self):
        return self._bits("xor", 0x80000000)

    def exp2(self):
        """2^x to 3e-7 relative, for x in [-126, 126]; elsewhere some number."""
        # Adding 1.5 * 2^23 rounds to the nearest whole number and leaves it in the lowest bits.
        magic = self + MAGIC
        fraction = self - (magic - MAGIC)
        # Pairs of terms first: half the latency of one term after the other.
        square = fraction * fraction
        high, middle, low = (self.code.constant(a) * fraction + b for a, b in zip(_EXP2[::2], _EXP2[1::2], strict=True))
        series = (high * square + middle) * square + low
        builder = self.code.builder
        whole = builder.bitcast(magic._bits("shl", 23).value, INTEGERS)
        bits = builder.add(builder.bitcast(series.value, INTEGERS), whole)
        return Vec(self.code, builder.bitcast(bits, VECTOR))


def fold(builder, vectors):
    """One vector whose lanes are the sums of eight vectors, in a fixed order."""
    for width in (4, 2, 1):
        halves = [lane for lane in range(2 * LANES) if lane // width % 2 == 0]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        masks = [ir.Constant(INTEGERS, [lane + shift for lane in halves]) for shift in (0, width)]
        vectors = [
            builder.fadd(builder.shuffle_vector(x, y, masks[0]), builder.shuffle_vector(x, y, masks[1]))
            for x, y in pairs
        ]
    return vectors[0]


@intrinsic
def fetch(typing, rows, row):
    """Ask for rows[row] to be brought into the cache."""
    signature = types.void(rows, types.intp)

    def generate(context, builder, signature, arguments):
        array = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0])
        columns = cgutils.unpack_tuple(builder, array.shape)[1]
        place = builder.gep(array.data, [builder.mul(arguments[1], columns)])
        place = builder.bitcast(place, ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, I32, I32, I32])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(prefetch, [place, *(ir.Constant(I32, n) for n in (0, 3, 1))])
        return context.get_dummy_value()

    return signature, generate

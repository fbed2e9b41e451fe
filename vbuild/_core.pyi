"""Types of the compiled core (``_core/_core.pyx``). It knows bytes and file descriptors only."""

from collections.abc import Sequence

from typing_extensions import Buffer

VERSION: str

F16: int
BF16: int
F32: int
F64: int
Q4_0: int
Q4_1: int
Q5_0: int
Q5_1: int
Q8_0: int
TAG_KEY_SIZE: int
SECOND_THREAD_MEMORY: int
"""Bytes that a run takes in addition when it hashes on a second thread."""

class Difference:
    """How two streams of elements differ. An index is that of the first such element.

    ``first`` and ``first_bits`` (in a, in b) mean something if ``count`` is not 0, ``max_ulp_at``
    if ``max_ulp`` is not, ``max_abs_at`` if ``max_abs`` is not. ``max_ulp`` counts steps from a
    value to the next; ``unordered`` counts elements that differ and of which one is a NaN.
    """

    count: int
    first: int
    first_bits: tuple[int, int]
    max_ulp: int
    max_ulp_at: int
    max_abs: float
    max_abs_at: int
    unordered: int

class Kernels:
    """The kernels of one ISA level: ``"native"``, ``"portable"`` or e.g. ``"avx2,shani"``.

    ``None`` means the environment's ``VBUILD_ISA``, and ``native`` without it. Raises ValueError
    for an unknown feature or one that this CPU lacks.
    """

    def __init__(self, isa: str | None = None) -> None: ...
    @property
    def features(self) -> tuple[str, ...]:
        """The features in use, sorted."""
    def add(self, a_type: int, a: Buffer, b_type: int, b: Buffer) -> tuple[bytes, int | None]:
        """``a + b`` in a's type; and the index of the first non-finite result, or None."""
    def sub(self, a_type: int, a: Buffer, b_type: int, b: Buffer) -> tuple[bytes, int | None]:
        """``a - b`` in a's type, as :meth:`add`."""
    def convert(self, from_type: int, data: Buffer, to_type: int) -> tuple[bytes, int | None]:
        """``data`` rounded to another type; and the index of the first overflow, or None."""
    def xor(self, a: Buffer, b: Buffer) -> bytes:
        """Bytes of ``a ^ b``; the sizes must agree."""
    def product(
        self, left: Buffer, right: Buffer, rows: int, rank: int, cols: int, scale: float
    ) -> bytes:
        """``scale * (left @ right)`` of f32, rows x rank times rank x cols (numerics.md, LoRA)."""
    def quantize(self, type: int, data: Buffer) -> tuple[bytes, int | None]:
        """f32 as blocks of a type of GGUF, 32 elements each.

        Also the index of the first element that is not finite or starts a block whose scale or
        minimum is beyond f16, or None.
        """
    def difference(self, type: int, a: Buffer, b: Buffer, piece: int = 0) -> Difference:
        """How elements differ, taken in ``piece`` at a time (0: at once); the sizes must agree."""
    def difference_raw(self, itemsize: int, a: Buffer, b: Buffer, piece: int = 0) -> Difference:
        """As :meth:`difference`, for opaque items of 1, 2, 4 or 8 bytes: count and first only."""
    def sha256(self, messages: Sequence[Buffer], piece: int = 0) -> list[bytes]:
        """Digests of the messages, hashed interleaved, ``piece`` bytes at a time (0: at once)."""
    def tag(self, key: Buffer, data: Buffer, piece: int = 0) -> bytes:
        """The 16-byte keyed tag of the data, given ``piece`` bytes at a time (0: at once).

        ``key`` has ``TAG_KEY_SIZE`` bytes. Tags of one key compare only within one ISA level.
        """

def cpu_features() -> tuple[str, ...]:
    """The features that this CPU and operating system offer, sorted."""

def mean(data: Buffer, rows: int, cols: int, piece: int = 0) -> bytes:
    """The mean of rows of f32 as ``torch.mean(dim=0)`` sums them, ``piece`` elements at a time."""

class Control:
    """Progress of a run, and the way to stop it, for other threads."""

    @property
    def done(self) -> int:
        """Bytes hashed so far (bytes written, where nothing is hashed)."""
    def stop(self) -> None:
        """Make the run end soon with ``Fault("stopped")``."""
    def lend(self, threads: int = 1) -> None:
        """Let runs under this control, those that have begun too, start so many threads more.

        A run takes one, if there is one and it is of use, to hash its sources; no result depends on
        it. It gives it back at its end.
        """

class Result:
    """What a run found. Digests are 32 bytes, tags 16; ``regions`` is empty without a key.

    ``differences`` has an entry per tensor (None, if nothing of it was compared) where the table
    compares anything, and is empty otherwise; indices count a tensor's elements in C order.
    """

    output: bytes | None
    sources: tuple[bytes | None, ...]
    tensors: tuple[bytes, ...]
    regions: tuple[bytes, ...]
    differences: tuple[Difference | None, ...]

class Fault(Exception):
    """A table could not be run to its end.

    ``status``: ``stopped``, ``read-failed`` (source, error), ``read-short`` (source),
    ``write-failed`` (error), ``nonfinite`` (segment, index, bits of a, b and result;
    of a block, its first 16) or ``no-memory``. ``error`` is an errno.
    """

    status: str
    error: int
    source: int
    segment: int
    index: int
    bits: tuple[int, int, int]

def check_table(table: Buffer, kernels: Kernels) -> tuple[int, int, int]:
    """Bytes that a serialized table writes, bytes of memory that running it takes, and elements of
    its segments and parts, which its time grows with (2**63 - 1 for more).

    ValueError if it is malformed.
    """

def run(
    table: Buffer,
    fds: Sequence[int],
    out_fd: int,
    kernels: Kernels,
    control: Control,
    hash_output: bool = True,
    tensor_digests: bool = False,
    tag_key: Buffer | None = None,
    scratch_fd: int = -1,
) -> Result:
    """Run a serialized table (docs/reference/table-format.md) without the GIL.

    ``fds``: one descriptor per source (-1 where nothing reads it); ``out_fd``: where the output is
    written from its start, or -1 to compute without storing; ``tag_key``: ``TAG_KEY_SIZE`` random
    bytes under which the table's regions are tagged; ``scratch_fd``: an empty file of the run's own
    for operands that are tagged and do not lie in reading order (-1: memory, if there is one).
    ValueError for a malformed table, Fault where it cannot be run to its end.
    """

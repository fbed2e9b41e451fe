# cython: language_level=3, binding=True, freethreading_compatible=True
"""The boundary to the C core: checks arguments, drops the GIL, calls."""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport SIZE_MAX, UINT32_MAX, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

cimport vb

cdef extern from *:
    const char *VB_VERSION

VERSION = VB_VERSION.decode("ascii")

F16 = vb.VB_F16
BF16 = vb.VB_BF16
F32 = vb.VB_F32
F64 = vb.VB_F64
Q4_0 = vb.VB_Q4_0
Q4_1 = vb.VB_Q4_1
Q5_0 = vb.VB_Q5_0
Q5_1 = vb.VB_Q5_1
Q8_0 = vb.VB_Q8_0
TAG_KEY_SIZE = vb.VB_TAG_KEY_SIZE
SECOND_THREAD_MEMORY = vb.VB_RING_MEMORY


class Fault(Exception):
    """A table could not be run to its end. ``status`` is one of ``stopped``, ``read-failed``,
    ``read-short``, ``write-failed``, ``nonfinite``, ``no-memory``; the other attributes say where."""

    def __init__(self, status, error, source, segment, index, bits):
        super().__init__(status)
        self.status = status
        self.error = error
        self.source = source
        self.segment = segment
        self.index = index
        self.bits = bits


cdef dict _STATUS = {
    vb.VB_STOPPED: "stopped",
    vb.VB_READ_FAILED: "read-failed",
    vb.VB_READ_SHORT: "read-short",
    vb.VB_WRITE_FAILED: "write-failed",
    vb.VB_NONFINITE: "nonfinite",
    vb.VB_NO_MEMORY: "no-memory",
}


cdef class _View:
    """A contiguous read-only buffer, released with the object."""

    cdef Py_buffer buffer
    cdef bint held

    def __cinit__(self, data):
        PyObject_GetBuffer(data, &self.buffer, PyBUF_SIMPLE)
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.buffer)

    cdef const uint8_t *data(self) noexcept:
        return <const uint8_t *>self.buffer.buf

    cdef size_t size(self) noexcept:
        return <size_t>self.buffer.len


cdef tuple _feature_names(unsigned features):
    names = []
    for bit in range(32):
        if features & (1u << bit):
            names.append(vb.vb_feature_name(1u << bit).decode("ascii"))
    return tuple(sorted(names))


def cpu_features():
    return _feature_names(vb.vb_cpu_features())


cdef int _check_type(int type) except -1:
    if not 0 <= type < vb.VB_TYPES:
        raise ValueError(f"no such arithmetic type: {type}")
    return type


class Difference:
    """How two streams of elements differ (vb.h, vb_difference)."""

    __slots__ = ("count", "first", "first_bits", "max_abs", "max_abs_at", "max_ulp", "max_ulp_at",
                 "unordered")

    def __init__(self, count, first, first_bits, max_ulp, max_ulp_at, max_abs, max_abs_at,
                 unordered):
        self.count = count
        self.first = first
        self.first_bits = first_bits
        self.max_ulp = max_ulp
        self.max_ulp_at = max_ulp_at
        self.max_abs = max_abs
        self.max_abs_at = max_abs_at
        self.unordered = unordered


cdef _difference_object(const vb.vb_difference *d):
    return Difference(d.count, d.first, (d.first_bits[0], d.first_bits[1]), d.max_ulp,
                      d.max_ulp_at, d.max_abs, d.max_abs_at, d.unordered)


cdef int _check_product(size_t a, size_t b, size_t size) except -1:
    """``size`` bytes are a x b elements of f32."""
    if (b and a > size // b) or a * b * 4 != size:
        raise ValueError(f"an operand is not {a} x {b} elements")
    return 0


cdef class Kernels:
    cdef vb.vb_kernels k

    def __init__(self, isa=None):
        cdef unsigned features = 0
        cdef const char *bad = NULL
        if isa is None:
            isa = os.environ.get("VBUILD_ISA") or "native"
        text = isa.encode("utf-8", "surrogateescape")
        if b"\0" in text or not vb.vb_isa_parse(PyBytes_AsString(text), &features, &bad):
            raise ValueError(f"no such instruction set here: {isa!r}")
        vb.vb_kernels_init(&self.k, features)

    @property
    def features(self):
        return _feature_names(self.k.features)

    cdef tuple _arith(self, vb.vb_arith_fn f, size_t a_size, a, size_t b_size, b):
        cdef _View va = _View(a)
        cdef _View vb_ = _View(b)
        cdef size_t n = va.size() // a_size
        cdef size_t bad
        if va.size() != n * a_size or vb_.size() != n * b_size:
            raise ValueError("the operands differ in length")
        out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>va.size())
        cdef char *p = PyBytes_AsString(out)
        cdef const uint8_t *pa = va.data()
        cdef const uint8_t *pb = vb_.data()
        with nogil:
            bad = f(p, pa, pb, n)
        return out, (bad if bad < n else None)

    def add(self, int a_type, a, int b_type, b):
        _check_type(a_type)
        _check_type(b_type)
        return self._arith(
            self.k.add[a_type][b_type], vb.vb_itemsize(a_type), a, vb.vb_itemsize(b_type), b
        )

    def sub(self, int a_type, a, int b_type, b):
        _check_type(a_type)
        _check_type(b_type)
        return self._arith(
            self.k.sub[a_type][b_type], vb.vb_itemsize(a_type), a, vb.vb_itemsize(b_type), b
        )

    def convert(self, int from_type, data, int to_type):
        _check_type(from_type)
        _check_type(to_type)
        cdef _View v = _View(data)
        cdef size_t n = v.size() // vb.vb_itemsize(from_type)
        cdef size_t bad
        if v.size() != n * vb.vb_itemsize(from_type):
            raise ValueError("not a whole number of elements")
        out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(n * vb.vb_itemsize(to_type)))
        cdef char *p = PyBytes_AsString(out)
        cdef const uint8_t *q = v.data()
        with nogil:
            bad = self.k.convert[from_type][to_type](p, q, n)
        return out, (bad if bad < n else None)

    def xor(self, a, b):
        cdef _View va = _View(a)
        cdef _View vb_ = _View(b)
        if va.size() != vb_.size():
            raise ValueError("the operands differ in length")
        out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>va.size())
        cdef char *p = PyBytes_AsString(out)
        cdef const uint8_t *pa = va.data()
        cdef const uint8_t *pb = vb_.data()
        cdef size_t n = va.size()
        with nogil:
            self.k.xor_bytes(p, pa, pb, n)
        return out

    def product(self, left, right, size_t rows, size_t rank, size_t cols, float scale):
        cdef _View l = _View(left)
        cdef _View r = _View(right)
        _check_product(rows, rank, l.size())
        _check_product(rank, cols, r.size())
        if cols and rows > SIZE_MAX // 8 // cols:
            raise MemoryError
        out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(rows * cols * 4))
        cdef char *p = PyBytes_AsString(out)
        cdef const uint8_t *pl = l.data()
        cdef const uint8_t *pr = r.data()
        with nogil:
            self.k.product(p, pl, pr, rows, rank, cols, scale)
        return out

    def quantize(self, int type, data):
        cdef _View v = _View(data)
        cdef size_t size = vb.vb_block_bytes(type)
        cdef size_t n = v.size() // (4 * vb.VB_BLOCK)
        cdef size_t bad
        if not size:
            raise ValueError(f"no such block type: {type}")
        if v.size() != n * 4 * vb.VB_BLOCK:
            raise ValueError("not a whole number of blocks")
        out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(n * size))
        cdef char *p = PyBytes_AsString(out)
        cdef const uint8_t *q = v.data()
        with nogil:
            bad = self.k.quantize[type - vb.VB_BLOCK_FIRST](p, q, n)
        return out, (bad if bad < n * vb.VB_BLOCK else None)

    cdef _difference(self, vb.vb_difference_fn f, size_t itemsize, a, b, size_t piece):
        cdef _View va = _View(a)
        cdef _View vb_ = _View(b)
        cdef size_t n = va.size() // itemsize
        cdef size_t at = 0
        cdef size_t take
        cdef vb.vb_difference d
        cdef const uint8_t *pa = va.data()
        cdef const uint8_t *pb = vb_.data()
        if va.size() != n * itemsize or vb_.size() != va.size():
            raise ValueError("the operands differ in length")
        memset(&d, 0, sizeof(d))
        with nogil:
            while at < n:
                take = piece if piece and piece < n - at else n - at
                f(&d, pa + at * itemsize, pb + at * itemsize, take, at)
                at += take
        return _difference_object(&d)

    def difference(self, int type, a, b, size_t piece=0):
        _check_type(type)
        return self._difference(self.k.difference[type], vb.vb_itemsize(type), a, b, piece)

    def difference_raw(self, size_t itemsize, a, b, size_t piece=0):
        if itemsize not in (1, 2, 4, 8):
            raise ValueError(f"no items of {itemsize} bytes")
        cdef int i = (2 if itemsize == 4 else 3) if itemsize > 2 else <int>itemsize - 1
        return self._difference(self.k.difference_raw[i], itemsize, a, b, piece)

    def sha256(self, messages, size_t piece=0):
        cdef list views = [_View(m) for m in messages]
        cdef size_t n = len(views)
        cdef size_t i, njobs, take
        cdef _View v
        cdef bint more = True
        cdef uint8_t digest[32]
        cdef vb.vb_sha256 *streams = <vb.vb_sha256 *>calloc(n + 1, sizeof(vb.vb_sha256))
        cdef vb.vb_sha256_job *jobs = <vb.vb_sha256_job *>calloc(n + 1, sizeof(vb.vb_sha256_job))
        cdef size_t *at = <size_t *>calloc(n + 1, sizeof(size_t))
        try:
            if not streams or not jobs or not at:
                raise MemoryError
            for i in range(n):
                vb.vb_sha256_init(&streams[i])
            while more:
                more = False
                njobs = 0
                for i in range(n):
                    v = <_View>views[i]
                    take = v.size() - at[i]
                    if piece and take > piece:
                        take = piece
                        more = True
                    jobs[njobs].stream = &streams[i]
                    jobs[njobs].data = v.data() + at[i]
                    jobs[njobs].size = take
                    njobs += 1
                    at[i] += take
                with nogil:
                    vb.vb_sha256_update(&self.k, jobs, njobs)
            out = []
            for i in range(n):
                vb.vb_sha256_final(&self.k, &streams[i], digest)
                out.append(PyBytes_FromStringAndSize(<char *>digest, 32))
            return out
        finally:
            free(streams)
            free(jobs)
            free(at)

    def tag(self, key, data, size_t piece=0):
        cdef _View vkey = _View(key)
        cdef _View v = _View(data)
        cdef vb.vb_tag t
        cdef uint8_t out[16]
        cdef const uint8_t *k = vkey.data()
        cdef const uint8_t *p = v.data()
        cdef size_t left = v.size()
        cdef size_t take
        if vkey.size() != vb.VB_TAG_KEY_SIZE:
            raise ValueError(f"a key has {TAG_KEY_SIZE} bytes")
        with nogil:
            vb.vb_tag_init(&t)
            while left:
                take = piece if piece and piece < left else left
                vb.vb_tag_update(&self.k, k, &t, p, take)
                p += take
                left -= take
            vb.vb_tag_final(k, &t, out)
        return PyBytes_FromStringAndSize(<char *>out, 16)


def mean(data, uint64_t rows, size_t cols, size_t piece=0):
    cdef _View v = _View(data)
    cdef vb.vb_mean m
    cdef size_t at = 0
    cdef size_t n = v.size() // 4
    cdef size_t take
    cdef const uint8_t *p = v.data()
    _check_product(rows, cols, v.size())
    if cols > SIZE_MAX // 128:
        raise MemoryError
    out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(cols * 4))
    cdef char *q = PyBytes_AsString(out)
    cdef void *memory = malloc(vb.vb_mean_memory(cols) + 1)
    if not memory:
        raise MemoryError
    with nogil:
        vb.vb_mean_init(&m, memory, rows, cols)
        while at < n:
            take = piece if piece and piece < n - at else n - at
            vb.vb_mean_add(&m, p + 4 * at, take)
            at += take
        vb.vb_mean_final(&m, q)
        free(memory)
    return out


cdef class Control:
    cdef vb.vb_control c

    @property
    def done(self):
        return vb.vb_control_done(&self.c)

    def stop(self):
        vb.vb_control_stop(&self.c)

    def lend(self, int threads=1):
        vb.vb_control_lend(&self.c, threads)


class Result:
    """What a run found: digests as 32 bytes each, tags as 16."""

    __slots__ = ("differences", "output", "regions", "sources", "tensors")

    def __init__(self, output, sources, tensors, regions, differences):
        self.output = output
        self.sources = sources
        self.tensors = tensors
        self.regions = regions
        self.differences = differences


cdef class _Arrays:
    """The arrays of one run, freed with the object."""

    cdef uint64_t *scratch
    cdef int *fds
    cdef uint8_t *sources
    cdef uint8_t *tensors
    cdef uint8_t *regions
    cdef vb.vb_difference *differences

    def __dealloc__(self):
        free(self.scratch)
        free(self.fds)
        free(self.sources)
        free(self.tensors)
        free(self.regions)
        free(self.differences)


cdef int _parse(vb.vb_table *t, _View data, _Arrays arrays) except -1:
    cdef vb.vb_table_error error
    cdef uint32_t n = vb.vb_table_nsources(data.data(), data.size())
    if <uint64_t>n * 16 > data.size():
        raise ValueError("bad table: the size does not agree with the counts")
    arrays.scratch = <uint64_t *>calloc(n + 1, sizeof(uint64_t))
    if not arrays.scratch:
        raise MemoryError
    if not vb.vb_table_parse(t, data.data(), data.size(), arrays.scratch, &error):
        where = "" if error.segment == UINT32_MAX else f" (segment {error.segment})"
        raise ValueError(f"bad table: {error.what.decode('ascii')}{where}")
    return 0


def check_table(table, Kernels kernels):
    cdef vb.vb_table t
    cdef _View data = _View(table)
    _parse(&t, data, _Arrays())
    return t.out_size, vb.vb_run_memory(&t, &kernels.k), t.work


cdef int _allocate(_Arrays arrays, const vb.vb_table *t, fds) except -1:
    cdef uint32_t i
    if len(fds) != t.nsources:
        raise ValueError(f"the table has {t.nsources} sources, got {len(fds)} descriptors")
    arrays.fds = <int *>calloc(t.nsources + 1, sizeof(int))
    arrays.sources = <uint8_t *>calloc(t.nsources + 1, 32)
    arrays.tensors = <uint8_t *>calloc(t.ntensors + 1, 32)
    arrays.regions = <uint8_t *>calloc(t.nregions + 1, 16)
    if not arrays.fds or not arrays.sources or not arrays.tensors or not arrays.regions:
        raise MemoryError
    for i in range(t.nsources):
        arrays.fds[i] = fds[i]
    if vb.vb_table_compares(t):
        arrays.differences = <vb.vb_difference *>calloc(t.ntensors + 1, sizeof(vb.vb_difference))
        if not arrays.differences:
            raise MemoryError
    return 0


cdef tuple _slices(const uint8_t *data, uint32_t n, size_t size):
    """n results of ``size`` bytes each."""
    return tuple([PyBytes_FromStringAndSize(<const char *>data + i * size, size) for i in range(n)])


cdef tuple _source_digests(const vb.vb_table *t, const uint8_t *digests):
    found = list(_slices(digests, t.nsources, 32))
    for i in range(t.nsources):
        if vb.vb_table_source(t, i).mode == 0:
            found[i] = None
    return tuple(found)


cdef tuple _differences(const vb.vb_table *t, const vb.vb_difference *differences):
    """One per tensor; None for those that nothing was compared of."""
    cdef uint32_t i
    cdef list found = [None] * t.ntensors
    for i in range(t.nsegments):
        if vb.vb_table_segment(t, i).op == vb.VB_OP_DIFF:
            found[vb.vb_table_segment(t, i).tensor] = True
    for i in range(t.ntensors):
        if found[i]:
            found[i] = _difference_object(&differences[i])
    return tuple(found)


def run(table, fds, int out_fd, Kernels kernels, Control control, bint hash_output=True,
        bint tensor_digests=False, tag_key=None, int scratch_fd=-1):
    cdef vb.vb_table t
    cdef _View data = _View(table)
    cdef _Arrays arrays = _Arrays()
    _parse(&t, data, arrays)
    cdef _View key = _View(b"" if tag_key is None else tag_key)
    if tag_key is not None and key.size() != vb.VB_TAG_KEY_SIZE:
        raise ValueError(f"a key has {TAG_KEY_SIZE} bytes")
    _allocate(arrays, &t, fds)
    cdef vb.vb_job job
    cdef vb.vb_fault fault
    cdef vb.vb_status status
    job.table = &t
    job.kernels = &kernels.k
    job.fds = arrays.fds
    job.out_fd = out_fd
    job.scratch_fd = scratch_fd
    job.hash_output = hash_output
    job.control = &control.c
    job.tag_key = key.data() if tag_key is not None else NULL
    job.source_digest = arrays.sources
    job.tensor_digest = arrays.tensors if tensor_digests else NULL
    job.region_tag = arrays.regions
    job.difference = arrays.differences
    with nogil:
        status = vb.vb_run(&job, &fault)
    if status != vb.VB_OK:
        raise Fault(_STATUS[<int>status], fault.error, fault.source, fault.segment, fault.index,
                    (fault.bits[0], fault.bits[1], fault.bits[2]))
    return Result(
        PyBytes_FromStringAndSize(<char *>job.out_digest, 32) if hash_output else None,
        _source_digests(&t, arrays.sources),
        _slices(arrays.tensors, t.ntensors, 32) if tensor_digests else (),
        _slices(arrays.regions, t.nregions, 16) if tag_key is not None else (),
        _differences(&t, arrays.differences) if arrays.differences else (),
    )

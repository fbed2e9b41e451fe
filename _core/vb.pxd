# The C headers, and nothing else.
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cdef extern from "vb.h" nogil:
    enum:
        VB_F16
        VB_BF16
        VB_F32
        VB_F64
        VB_TYPES
        VB_BLOCK
        VB_BLOCK_FIRST
        VB_Q4_0
        VB_Q4_1
        VB_Q5_0
        VB_Q5_1
        VB_Q8_0
        VB_RAW_SIZES
    ctypedef size_t (*vb_arith_fn)(void *, const void *, const void *, size_t)
    ctypedef size_t (*vb_convert_fn)(void *, const void *, size_t)
    ctypedef void (*vb_xor_fn)(void *, const void *, const void *, size_t)
    ctypedef void (*vb_product_fn)(void *, const void *, const void *, size_t, size_t, size_t,
                                   float)
    ctypedef size_t (*vb_quantize_fn)(void *, const void *, size_t)
    ctypedef struct vb_difference:
        uint64_t count
        uint64_t first
        uint64_t first_bits[2]
        uint64_t max_ulp
        uint64_t max_ulp_at
        double max_abs
        uint64_t max_abs_at
        uint64_t unordered
    ctypedef void (*vb_difference_fn)(vb_difference *, const void *, const void *, size_t, uint64_t)
    ctypedef struct vb_kernels:
        unsigned features
        vb_arith_fn add[4][4]
        vb_arith_fn sub[4][4]
        vb_convert_fn convert[4][4]
        vb_xor_fn xor_bytes
        vb_product_fn product
        vb_quantize_fn quantize[9]
        vb_difference_fn difference[4]
        vb_difference_fn difference_raw[4]
    ctypedef struct vb_sha256:
        pass
    ctypedef struct vb_sha256_job:
        vb_sha256 *stream
        const uint8_t *data
        size_t size
    size_t vb_itemsize(int type)
    size_t vb_block_bytes(int type)
    unsigned vb_cpu_features()
    bint vb_isa_parse(const char *text, unsigned *features, const char **bad)
    void vb_kernels_init(vb_kernels *k, unsigned features)
    const char *vb_feature_name(unsigned bit)
    void vb_sha256_init(vb_sha256 *s)
    void vb_sha256_update(const vb_kernels *k, vb_sha256_job *jobs, size_t n)
    void vb_sha256_final(const vb_kernels *k, vb_sha256 *s, uint8_t *digest)

cdef extern from "mean.h" nogil:
    ctypedef struct vb_mean:
        pass
    size_t vb_mean_memory(size_t cols)
    void vb_mean_init(vb_mean *m, void *memory, uint64_t rows, size_t cols)
    void vb_mean_add(vb_mean *m, const void *data, size_t n)
    void vb_mean_final(vb_mean *m, void *out)

cdef extern from "tag.h" nogil:
    enum:
        VB_TAG_KEY_SIZE
    ctypedef struct vb_tag:
        pass
    void vb_tag_init(vb_tag *t)
    void vb_tag_update(const vb_kernels *k, const uint8_t *key, vb_tag *t, const uint8_t *data,
                       size_t size)
    void vb_tag_final(const uint8_t *key, vb_tag *t, uint8_t *out)

cdef extern from "table.h" nogil:
    enum:
        VB_OP_DIFF
    ctypedef struct vb_segment:
        uint8_t op
        uint32_t tensor
    ctypedef struct vb_source:
        uint32_t mode
        uint64_t size
    ctypedef struct vb_table:
        uint32_t nsources
        uint32_t ntensors
        uint32_t nsegments
        uint32_t nregions
        uint64_t out_size
        uint64_t work
    ctypedef struct vb_table_error:
        const char *what
        uint32_t segment
    bint vb_table_parse(vb_table *t, const uint8_t *data, size_t size, uint64_t *scratch,
                        vb_table_error *e)
    uint32_t vb_table_nsources(const uint8_t *data, size_t size)
    vb_source vb_table_source(const vb_table *t, uint32_t i)
    vb_segment vb_table_segment(const vb_table *t, uint32_t i)
    bint vb_table_compares(const vb_table *t)

cdef extern from "ring.h" nogil:
    enum:
        VB_RING_MEMORY

cdef extern from "machine.h" nogil:
    ctypedef struct vb_control:
        pass
    ctypedef enum vb_status:
        VB_OK
        VB_STOPPED
        VB_READ_FAILED
        VB_READ_SHORT
        VB_WRITE_FAILED
        VB_NONFINITE
        VB_NO_MEMORY
    ctypedef struct vb_fault:
        vb_status status
        int error
        uint32_t source
        uint32_t segment
        uint64_t index
        uint64_t bits[3]
    ctypedef struct vb_job:
        const vb_table *table
        const vb_kernels *kernels
        const int *fds
        int out_fd
        int scratch_fd
        bint hash_output
        vb_control *control
        const uint8_t *tag_key
        uint8_t *source_digest
        uint8_t *tensor_digest
        uint8_t *region_tag
        vb_difference *difference
        uint8_t out_digest[32]
    size_t vb_run_memory(const vb_table *t, const vb_kernels *k)
    vb_status vb_run(vb_job *job, vb_fault *fault)
    uint64_t vb_control_done(vb_control *c)
    void vb_control_stop(vb_control *c)
    void vb_control_lend(vb_control *c, int n)

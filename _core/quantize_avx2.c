/* quantize_avx2.c - blocks of GGUF, compiled for AVX2 (contract: vb_quantize_fn). */
#include "quantize_block.h"

QUANTIZE_TYPES(QUANTIZE_DEFINE, avx2)

void vb_quantize_avx2(vb_kernels *k) { QUANTIZE_TYPES(QUANTIZE_USE, avx2) }

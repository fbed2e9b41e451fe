/* quantize_avx512.c - blocks of GGUF, compiled for AVX-512 (contract: vb_quantize_fn). */
#include "quantize_block.h"

QUANTIZE_TYPES(QUANTIZE_DEFINE, avx512)

void vb_quantize_avx512(vb_kernels *k) { QUANTIZE_TYPES(QUANTIZE_USE, avx512) }

/* quantize_portable.c - blocks of GGUF, portable C: the definition (contract: vb_quantize_fn). */
#include "quantize_block.h"

QUANTIZE_TYPES(QUANTIZE_DEFINE, portable)

void vb_quantize_portable(vb_kernels *k) { QUANTIZE_TYPES(QUANTIZE_USE, portable) }

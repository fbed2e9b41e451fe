/* quantize_portable.c - blocks of GGUF, portable C: the definition (contract: vb_quantize_fn). */
#include "quantize_block.h"

QUANTIZE_COMMON(QUANTIZE_DEFINE, portable)
QUANTIZE_OTHERS(QUANTIZE_DEFINE, portable)

void vb_quantize_portable(vb_kernels *k) {
  QUANTIZE_COMMON(QUANTIZE_USE, portable)
  QUANTIZE_OTHERS(QUANTIZE_USE, portable)
}

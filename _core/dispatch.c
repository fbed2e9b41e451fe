/* dispatch.c - which kernels run: CPU features, ISA levels by name, and the kernel table.
 *
 * - The only file that asks which CPU this is. An instruction set counts only if the operating
 *   system saves its registers: XCR0 is read before AVX, its opmask and zmm bits before AVX-512.
 * - A level can be forced, so every level that a machine has is tested on it.
 * - Sets are closed: AVX-512 brings AVX2 along, VPCLMULQDQ brings PCLMULQDQ.
 * - Portable kernels go in first and the widest ones last, so each entry ends up with the best.
 */
#include <string.h>

#include "vb.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

/* ---- what the CPU has ---- */

#if defined(__x86_64__)

enum {
  LEAF1_ECX_PCLMUL = 1 << 1,
  LEAF1_ECX_SSSE3 = 1 << 9,
  LEAF1_ECX_FMA = 1 << 12,
  LEAF1_ECX_SSE41 = 1 << 19,
  LEAF1_ECX_OSXSAVE = 1 << 27,
  LEAF1_ECX_AVX = 1 << 28,
  LEAF1_ECX_F16C = 1 << 29,
  LEAF7_EBX_AVX2 = 1 << 5,
  LEAF7_EBX_AVX512F = 1 << 16,
  LEAF7_EBX_AVX512DQ = 1 << 17,
  LEAF7_EBX_SHA = 1 << 29,
  LEAF7_EBX_AVX512BW = 1 << 30,
  LEAF7_ECX_VPCLMUL = 1 << 10,
  XCR0_XMM_YMM = 0x06,
  XCR0_OPMASK_ZMM = 0xE0,
};
#define LEAF7_EBX_AVX512VL (1u << 31)

static bool has(unsigned word, unsigned bits) { return (word & bits) == bits; }

/* The extended control register 0; only where CPUID says OSXSAVE. */
static unsigned read_xcr0(void) {
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

unsigned vb_cpu_features(void) {
  unsigned a, b, c, d, leaf7, leaf7_ecx, features = 0;
  if (!__get_cpuid_count(7, 0, &a, &leaf7, &leaf7_ecx, &d) || !__get_cpuid(1, &a, &b, &c, &d))
    return 0;
  if (has(c, LEAF1_ECX_SSSE3 | LEAF1_ECX_SSE41) && has(leaf7, LEAF7_EBX_SHA))
    features |= VB_CPU_SHANI;
  if (has(c, LEAF1_ECX_SSSE3 | LEAF1_ECX_SSE41 | LEAF1_ECX_PCLMUL)) features |= VB_CPU_PCLMUL;
  unsigned xcr0 = has(c, LEAF1_ECX_OSXSAVE) ? read_xcr0() : 0;
  if (!has(xcr0, XCR0_XMM_YMM) || !has(c, LEAF1_ECX_AVX | LEAF1_ECX_F16C | LEAF1_ECX_FMA) ||
      !has(leaf7, LEAF7_EBX_AVX2))
    return features;
  features |= VB_CPU_AVX2;
  if (has(xcr0, XCR0_OPMASK_ZMM) &&
      has(leaf7, LEAF7_EBX_AVX512F | LEAF7_EBX_AVX512DQ | LEAF7_EBX_AVX512BW | LEAF7_EBX_AVX512VL))
    features |= VB_CPU_AVX512;
  if (has(features, VB_CPU_AVX512 | VB_CPU_PCLMUL) && has(leaf7_ecx, LEAF7_ECX_VPCLMUL))
    features |= VB_CPU_VPCLMUL;
  return features;
}

#elif defined(__aarch64__) && !defined(__AARCH64EB__)

unsigned vb_cpu_features(void) {
  unsigned features = 0;
#if defined(__linux__)
  enum { HWCAP_BIT_ASIMD = 1 << 1, HWCAP_BIT_SHA2 = 1 << 6 }; /* the kernel's stable numbers */
  unsigned long hwcap = getauxval(AT_HWCAP);
  if (hwcap & HWCAP_BIT_ASIMD) features |= VB_CPU_NEON;
  if (hwcap & HWCAP_BIT_SHA2) features |= VB_CPU_ARM_SHA2;
#else
  /* Elsewhere (macOS) what the compiler may assume of every target is the answer. */
  features |= VB_CPU_NEON;
#if defined(__ARM_FEATURE_SHA2)
  features |= VB_CPU_ARM_SHA2;
#endif
#endif
  return features;
}

#else

unsigned vb_cpu_features(void) { return 0; }

#endif

/* ---- names ---- */

static const struct {
  unsigned bit;
  const char *name;
} feature_names[] = {
    {VB_CPU_SHANI, "shani"},       {VB_CPU_AVX2, "avx2"}, {VB_CPU_AVX512, "avx512"},
    {VB_CPU_ARM_SHA2, "arm-sha2"}, {VB_CPU_NEON, "neon"}, {VB_CPU_PCLMUL, "pclmul"},
    {VB_CPU_VPCLMUL, "vpclmul"},
};
enum { FEATURES = sizeof feature_names / sizeof *feature_names };

const char *vb_feature_name(unsigned bit) {
  for (size_t i = 0; i < FEATURES; i++)
    if (feature_names[i].bit == bit) return feature_names[i].name;
  return NULL;
}

/* The bit of the name text[0..n), or 0. */
static unsigned feature_bit(const char *text, size_t n) {
  for (size_t i = 0; i < FEATURES; i++) {
    const char *name = feature_names[i].name;
    if (strlen(name) == n && memcmp(name, text, n) == 0) return feature_names[i].bit;
  }
  return 0;
}

/* A feature with those that it implies. */
static unsigned closed(unsigned bit) {
  if (bit == VB_CPU_AVX512) return bit | VB_CPU_AVX2;
  if (bit == VB_CPU_VPCLMUL) return bit | VB_CPU_PCLMUL;
  return bit;
}

bool vb_isa_parse(const char *text, unsigned *features, const char **bad) {
  const unsigned present = vb_cpu_features();
  unsigned set = 0;
  if (strcmp(text, "native") == 0) {
    *features = present;
    return true;
  }
  if (strcmp(text, "portable") == 0) {
    *features = 0;
    return true;
  }
  for (const char *name = text;; name++) {
    size_t n = strcspn(name, ",");
    unsigned bit = feature_bit(name, n);
    if (!(bit & present)) {
      *bad = name;
      return false;
    }
    set |= closed(bit);
    name += n;
    if (*name == '\0') break;
  }
  *features = set;
  return true;
}

/* ---- the kernel table ---- */

void vb_kernels_init(vb_kernels *k, unsigned features) {
  memset(k, 0, sizeof *k);
  k->features = features;
  vb_add_portable(k);
  vb_convert_portable(k);
  vb_xor_portable(k);
  vb_product_portable(k);
  vb_quantize_portable(k);
  vb_difference_portable(k);
  vb_sha256_portable(k);
  vb_tag_portable(k);
#if defined(__x86_64__)
  if (features & VB_CPU_AVX2) {
    vb_add_avx2(k);
    vb_convert_avx2(k);
    vb_xor_avx2(k);
    vb_product_avx2(k);
    vb_quantize_avx2(k);
    vb_difference_avx2(k);
  }
  if (features & VB_CPU_SHANI) vb_sha256_shani(k);
  if (features & VB_CPU_AVX512) {
    vb_add_avx512(k);
    vb_convert_avx512(k);
    vb_xor_avx512(k);
    vb_product_avx512(k);
    vb_quantize_avx512(k);
    vb_difference_avx512(k);
    vb_sha256_avx512(k);
  }
  if (features & VB_CPU_PCLMUL) vb_tag_pclmul(k);
  if (features & VB_CPU_VPCLMUL) vb_tag_vpclmul(k);
#elif defined(__aarch64__)
  if (features & VB_CPU_NEON) {
    vb_add_neon(k);
    vb_convert_neon(k);
    vb_product_neon(k);
    vb_difference_neon(k);
  }
  if (features & VB_CPU_ARM_SHA2) vb_sha256_armv8(k);
#endif
}

/* The keyed hash of a block, which serves as rolling sum and as strong hash at once.
 *
 * A run of bytes b[0..n-1] is the polynomial  sum b[i] * x^(n-1-i)  over the field of 2^61-1 elements, at a
 * secret random point x. Two different runs of n bytes agree in at most n-1 of the points, and 2^60 may
 * be drawn: a chance of at most 2^-50 for 1 KiB, and of 2^-60 for runs that are not chosen for it.
 *
 *     moving by one byte (o leaves, b enters):   H' = H*x + b - o*x^n
 *     joining two runs, m bytes in the second:   H  = H1*x^m + H2
 *
 * In bulk a stretch of 256 bytes is a dot product with the powers of x, each split into four signed limbs
 * of 16 bits: 32-bit sums hold 256 * 255 * 2^15 < 2^31, which compilers turn into multiply-add
 * instructions on vectors of 16-bit numbers (pmaddwd and its kin). 3 to 5 GB/s with nothing but SSE2.
 */
#ifndef CDR_BLOCK_HASH_H
#define CDR_BLOCK_HASH_H

#include "kernel.h"

enum { STRETCH = 256, LIMBS = 4 };

#define PRIME (((uint64_t)1 << 61) - 1)
/* Points are smaller, so that a rolling step needs no full reduction; see roll_block. */
#define MAX_POINT (((uint64_t)1 << 60) - 1)

struct block_hash {
    uint64_t point;
    uint32_t size;                      /* bytes of a block */
    uint64_t stretch_power;             /* x^STRETCH */
    uint64_t leave[256];                /* -o * x^size for each byte o */
    int16_t limbs[LIMBS][STRETCH];      /* of x^(STRETCH-1-i) */
};

static inline uint64_t fold61(uint64_t value)
{
    return (value & PRIME) + (value >> 61);
}

/* To 0 .. 2^61-2, from any 64 bits. */
static inline uint64_t reduce61(uint64_t value)
{
    value = fold61(value);
    return value >= PRIME ? value - PRIME : value;
}

/* a * b modulo the prime, though not below it: at most 2^61 + a*b/2^61. Requires b <= 2^61 and a < 2^64. */
static inline uint64_t multiply61(uint64_t a, uint64_t b)
{
#if defined(__SIZEOF_INT128__)
    unsigned __int128 product = (unsigned __int128)a * b;
    return ((uint64_t)product & PRIME) + (uint64_t)(product >> 61);
#else
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), other = a0 * b1 + (uint32_t)middle;
    uint64_t high = a1 * b1 + (middle >> 32) + (other >> 32);
    low = other << 32 | (uint32_t)low;
    return (low & PRIME) + (high << 3 | low >> 61);
#endif
}

/* A signed 32-bit sum times 2^shift, to 0 .. 2^61-1: doubling is a rotation of 61 bits. */
static inline uint64_t place_limb(int32_t sum, unsigned shift)
{
    uint64_t value = sum < 0 ? PRIME + (uint64_t)(int64_t)sum : (uint64_t)sum;
    return shift ? (value << shift & PRIME) | value >> (61 - shift) : value;
}

/* The hash of up to STRETCH bytes, at most 2^63. */
static inline uint64_t hash_stretch(const struct block_hash *h, const uint8_t *data, uint32_t length)
{
    const int16_t *l0 = h->limbs[0] + STRETCH - length, *l1 = h->limbs[1] + STRETCH - length;
    const int16_t *l2 = h->limbs[2] + STRETCH - length, *l3 = h->limbs[3] + STRETCH - length;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (uint32_t i = 0; i < length; i++) {
        int16_t byte = data[i];
        s0 += byte * l0[i];
        s1 += byte * l1[i];
        s2 += byte * l2[i];
        s3 += byte * l3[i];
    }
    return place_limb(s0, 0) + place_limb(s1, 16) + place_limb(s2, 32) + place_limb(s3, 48);
}

/* The hash of a run, 0 .. 2^61-2. The odd stretch comes first. */
static inline uint64_t hash_run(const struct block_hash *h, const uint8_t *data, size_t length)
{
    uint32_t odd = (uint32_t)(length % STRETCH);
    uint64_t value = odd ? hash_stretch(h, data, odd) : 0;
    for (const uint8_t *end = data + length, *at = data + odd; at < end; at += STRETCH)
        value = multiply61(fold61(value), h->stretch_power) + hash_stretch(h, at, STRETCH);
    return reduce61(value);
}

/* One rolling step. With x < 2^60 the value stays below 2^63 + 512 without being reduced: multiply61 gives
 * less than 2^61 + H/2, and what is added is less than 2^61 + 255. */
static inline uint64_t roll_block(const struct block_hash *h, uint64_t value, uint8_t in, uint8_t out)
{
    uint64_t change = h->leave[out] + in;
    return multiply61(value, h->point) + change;
}

#endif

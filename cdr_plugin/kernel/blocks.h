/* What searches for blocks of older content share: how blobs are cut into blocks, and the signer in Python. */
#ifndef CDR_BLOCKS_H
#define CDR_BLOCKS_H

#include "block_hash.h"

enum { VALUE_BYTES = 8 };

/* How blocks of a grid cut a blob: part of a block, blocks, part of a block. */
struct cut {
    uint32_t head, full, tail;
};

static inline struct cut cut_blob(uint32_t size, uint32_t phase, uint32_t length)
{
    uint32_t head = phase ? size - phase : 0;
    if (head > length)
        head = length;
    return (struct cut){.head = head, .full = (length - head) / size, .tail = (length - head) % size};
}

static inline uint32_t count_pieces(struct cut c)
{
    return (c.head > 0) + c.full + (c.tail > 0);
}

/* Hashes of blocks such as zeros behind a single byte are small numbers. */
static inline uint64_t mix(uint64_t value)
{
    return value * UINT64_C(0x9E3779B97F4A7C15);
}

typedef struct {
    PyObject_HEAD
    struct block_hash hash;
} SignerObject;

/* Of a BlockSigner (borrowed); NULL with TypeError set. */
const struct block_hash *hash_of_signer(PyObject *object);

/* `data` as a blob: false with an exception set. */
bool parse_blob(PyObject *object, Py_buffer *data);

#endif

/* Which blocks of older content a blob repeats: signatures of blobs, and the search by them.
 *
 * block_match.py says what is promised, in plain Python, and is the oracle of this file; block_hash.h has
 * the hash. Sections:
 *   1. Hash tables of a point
 *   2. Pieces: the blocks of old blobs, and the parts of blocks at their ends, in order
 *   3. Blocks by hash
 *   4. Rolling search
 *   5. Matching a blob
 *   6. Python: BlockSigner
 *   7. Python: BlockIndex
 */
#include "blocks.h"

#include <stdlib.h>

enum { COPY_BYTES = 16, MIN_SIZE = 512, MAX_SIZE = 65536 };

/* ---- 1. Hash tables of a point --------------------------------------------------------------- */

/* The lower three limbs are signed, what they lack or exceed goes on to the next. */
static void split_power(struct block_hash *h, int at, uint64_t power)
{
    int64_t rest = (int64_t)power;
    for (int limb = 0; limb < LIMBS - 1; limb++) {
        int16_t low = (int16_t)(uint16_t)rest;
        h->limbs[limb][at] = low;
        rest = (rest - low) / 65536;
    }
    h->limbs[LIMBS - 1][at] = (int16_t)rest;
}

static uint64_t power61(uint64_t base, uint32_t exponent)
{
    uint64_t power = 1;
    for (; exponent; exponent >>= 1) {
        if (exponent & 1)
            power = reduce61(multiply61(power, base));
        base = reduce61(multiply61(base, base));
    }
    return power;
}

static void block_hash_init(struct block_hash *h, uint64_t point, uint32_t size)
{
    uint64_t power = 1, leaving = PRIME - power61(point, size);
    h->point = point;
    h->size = size;
    for (int at = STRETCH - 1; at >= 0; at--) {
        split_power(h, at, power);
        power = reduce61(multiply61(power, point));
    }
    h->stretch_power = power;
    for (uint64_t byte = 0; byte < 256; byte++)
        h->leave[byte] = reduce61(multiply61(leaving, byte));
}

/* ---- 2. Pieces ------------------------------------------------------------------------------- */

struct old_blob {
    uint64_t start;
    const uint8_t *values;      /* of its pieces, 8 bytes each */
    uint32_t length, first;     /* `first`: number of its first full block in the index */
    struct cut cut;             /* all 0 where no values are known */
};

struct index {
    const struct block_hash *hash;
    struct old_blob *blobs;
    uint32_t blob_count, block_count;
    uint32_t *slots;            /* block number + 1 above 11 bits of the hash; 0: empty */
    uint64_t *filter;           /* bits */
    unsigned slot_bits, filter_bits;
};

struct piece {
    uint64_t old, value;
    uint32_t length;
};

struct cursor {
    uint32_t blob, piece;
};

/* The piece under the cursor, or the next that there is; false at the end. */
static inline bool piece_at(const struct index *x, struct cursor *c, struct piece *p)
{
    for (; c->blob < x->blob_count; c->blob++, c->piece = 0) {
        const struct old_blob *b = x->blobs + c->blob;
        if (c->piece >= count_pieces(b->cut))
            continue;
        uint32_t full = c->piece - (b->cut.head > 0), size = x->hash->size;
        p->value = read_u64(b->values + (size_t)c->piece * VALUE_BYTES);
        if (b->cut.head && c->piece == 0) {
            p->old = b->start;
            p->length = b->cut.head;
        } else {
            p->old = b->start + b->cut.head + (uint64_t)full * size;
            p->length = full < b->cut.full ? size : b->cut.tail;
        }
        return true;
    }
    return false;
}

/* At the first piece that begins at `old` or behind it. */
static struct cursor cursor_at(const struct index *x, uint64_t old)
{
    uint32_t low = 0, high = x->blob_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (x->blobs[middle].start + x->blobs[middle].length > old)
            high = middle;
        else
            low = middle + 1;
    }
    struct cursor c = {.blob = low};
    if (low == x->blob_count || old <= x->blobs[low].start)
        return c;
    const struct old_blob *b = x->blobs + low;
    uint64_t into = old - b->start;
    c.piece = b->cut.head > 0;
    if (into > b->cut.head)
        c.piece += (uint32_t)((into - b->cut.head + x->hash->size - 1) / x->hash->size);
    return c;
}

/* ---- 3. Blocks by hash ------------------------------------------------------------------------
 *
 * 8 to 16 bytes of slots and 2 to 4 of filter per block; the values themselves stay where the caller
 * has them. A position that rolls by looks at the filter alone in 15 of 16 cases.
 */
enum { TAG_BITS = 11, MAX_BLOCKS = (1 << (32 - TAG_BITS)) - 2, FILTER_BITS_PER_BLOCK_LOG = 4 };

#define NO_BLOCK UINT32_MAX

static inline uint32_t tag_of(uint64_t mixed)
{
    return (uint32_t)(mixed >> 8) & ((1 << TAG_BITS) - 1);
}

static const struct old_blob *blob_of_block(const struct index *x, uint32_t block)
{
    uint32_t low = 0, high = x->blob_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (x->blobs[middle].first > block)
            high = middle;
        else
            low = middle;
    }
    return x->blobs + low;
}

static uint64_t value_of_block(const struct index *x, uint32_t block)
{
    const struct old_blob *b = blob_of_block(x, block);
    return read_u64(b->values + (size_t)(block - b->first + (b->cut.head > 0)) * VALUE_BYTES);
}

/* The slot of the first block with this hash, or the empty slot where it belongs. */
static size_t find_slot(const struct index *x, uint64_t value)
{
    uint64_t mixed = mix(value);
    size_t mask = ((size_t)1 << x->slot_bits) - 1, slot = (size_t)(mixed >> (64 - x->slot_bits));
    for (; x->slots[slot]; slot = (slot + 1) & mask)
        if ((x->slots[slot] & ((1 << TAG_BITS) - 1)) == tag_of(mixed) &&
            value_of_block(x, (x->slots[slot] >> TAG_BITS) - 1) == value)
            break;
    return slot;
}

/* The first block with this hash, or NO_BLOCK. */
static HOT uint32_t find_block(const struct index *x, uint64_t value)
{
    uint32_t entry = x->slots[find_slot(x, value)];
    return entry ? (entry >> TAG_BITS) - 1 : NO_BLOCK;
}

/* What a search looks at for each position, in registers. */
struct filter {
    const uint64_t *bits;
    unsigned shift;
};

/* Can there be a block with this hash? `value` is one of roll_block's. */
static inline bool passes(struct filter f, uint64_t value)
{
    uint64_t bit = mix(reduce61(value)) >> f.shift;
    return f.bits[bit / 64] >> (bit % 64) & 1;
}

static void index_blocks(struct index *x)
{
    for (uint32_t i = 0; i < x->blob_count; i++) {
        const struct old_blob *b = x->blobs + i;
        const uint8_t *value_at = b->values + (b->cut.head ? VALUE_BYTES : 0);
        for (uint32_t k = 0; k < b->cut.full; k++, value_at += VALUE_BYTES) {
            uint64_t value = read_u64(value_at), bit = mix(value) >> (64 - x->filter_bits);
            size_t slot = find_slot(x, value);
            if (x->slots[slot])
                continue;
            x->slots[slot] = (b->first + k + 1) << TAG_BITS | tag_of(mix(value));
            x->filter[bit / 64] |= (uint64_t)1 << (bit % 64);
        }
    }
}

static bool make_tables(struct index *x)
{
    unsigned bits = 6;
    while (((uint64_t)1 << bits) < x->block_count)
        bits++;
    x->slot_bits = bits + 1;
    x->filter_bits = bits + FILTER_BITS_PER_BLOCK_LOG;
    x->slots = calloc((size_t)1 << x->slot_bits, sizeof *x->slots);
    x->filter = calloc(((size_t)1 << x->filter_bits) / 64, sizeof *x->filter);
    return x->slots && x->filter;
}

/* ---- 4. Rolling search ----------------------------------------------------------------------- */

struct hit {
    size_t at;
    uint32_t block;             /* NO_BLOCK: nothing was found */
};

#define NO_HIT ((struct hit){.at = SIZE_MAX, .block = NO_BLOCK})

/* Remember the foremost position where a block really is. */
static HOT void look(const struct index *x, uint64_t value, size_t at, struct hit *best)
{
    if (at >= best->at)
        return;
    uint32_t block = find_block(x, reduce61(value));
    if (block != NO_BLOCK)
        *best = (struct hit){at, block};
}

static HOT struct hit roll_one(const struct index *x, const uint8_t *data, size_t from, size_t count)
{
    const struct block_hash *h = x->hash;
    const struct filter filter = {x->filter, 64 - x->filter_bits};
    uint64_t value = hash_run(h, data + from, h->size);
    struct hit best = NO_HIT;
    for (size_t at = from;; at++) {
        if (UNLIKELY(passes(filter, value))) {
            look(x, value, at, &best);
            if (best.at == at)
                return best;
        }
        if (at + 1 == from + count)
            return best;
        value = roll_block(h, value, data[at + h->size], data[at]);
    }
}

/* Four stretches side by side hide the latency of each other's multiplications. A hit in the first is
 * final, of the others the foremost is remembered. */
static HOT struct hit roll_lanes(const struct index *x, const uint8_t *data, size_t from, size_t stride)
{
    const struct block_hash *h = x->hash;
    const struct filter filter = {x->filter, 64 - x->filter_bits};
    const uint8_t *d0 = data + from, *d1 = d0 + stride, *d2 = d1 + stride, *d3 = d2 + stride;
    const size_t size = h->size;
    uint64_t v0 = hash_run(h, d0, size), v1 = hash_run(h, d1, size);
    uint64_t v2 = hash_run(h, d2, size), v3 = hash_run(h, d3, size);
    struct hit best = NO_HIT;
    for (size_t i = 0;; i++) {
        if (UNLIKELY(passes(filter, v0))) {
            look(x, v0, from + i, &best);
            if (best.at == from + i)
                return best;
        }
        if (UNLIKELY(passes(filter, v1)))
            look(x, v1, from + stride + i, &best);
        if (UNLIKELY(passes(filter, v2)))
            look(x, v2, from + 2 * stride + i, &best);
        if (UNLIKELY(passes(filter, v3)))
            look(x, v3, from + 3 * stride + i, &best);
        if (i + 1 == stride)
            return best;
        v0 = roll_block(h, v0, d0[i + size], d0[i]);
        v1 = roll_block(h, v1, d1[i + size], d1[i]);
        v2 = roll_block(h, v2, d2[i + size], d2[i]);
        v3 = roll_block(h, v3, d3[i + size], d3[i]);
    }
}

/* The first position in lo .. hi - size at which a known block begins. Stretches grow, since most
 * searches end soon, behind the one block that changed. */
static struct hit roll(const struct index *x, const uint8_t *data, size_t lo, size_t hi)
{
    size_t size = x->hash->size, stride = size / 4, most = size < 4096 ? 4096 : size;
    size_t left = hi - lo >= size && x->block_count ? hi - lo - size + 1 : 0;
    while (left) {
        size_t count = 4 * stride;
        struct hit found;
        if (left < count) {
            count = left;
            found = roll_one(x, data, lo, count);
        } else
            found = roll_lanes(x, data, lo, stride);
        if (found.block != NO_BLOCK)
            return found;
        lo += count;
        left -= count;
        stride = 2 * stride < most ? 2 * stride : most;
    }
    return NO_HIT;
}

/* ---- 5. Matching a blob ---------------------------------------------------------------------- */

struct copy {
    uint64_t old;
    uint32_t new, length;
};

struct copies {
    struct copy *items;
    size_t count, room;
    bool full;                  /* memory ran out */
};

/* Appends, or prolongs the last one. */
static void add_copy(struct copies *c, size_t new, uint64_t old, uint32_t length)
{
    struct copy *last = c->count ? c->items + c->count - 1 : NULL;
    if (last && last->new + last->length == new && last->old + last->length == old) {
        last->length += length;
        return;
    }
    if (c->count == c->room) {
        size_t room = c->room ? 2 * c->room : 64;
        struct copy *items = realloc(c->items, room * sizeof *items);
        if (!items) {
            c->full = true;
            return;
        }
        c->items = items;
        c->room = room;
    }
    c->items[c->count++] = (struct copy){.old = old, .new = (uint32_t)new, .length = length};
}

/* Compares what lies at lo .. hi with the old pieces from `old` on, piece by piece; up to the first that
 * differs or is unknown, or all of them. Returns the end of the last piece that is the same, or lo. */
static size_t walk(const struct index *x, const uint8_t *data, size_t lo, size_t hi, uint64_t old,
                   bool to_first_change, struct copies *copies)
{
    struct cursor c = cursor_at(x, old);
    struct piece p;
    size_t end = lo;
    for (; piece_at(x, &c, &p) && p.old - old < hi - lo; c.piece++) {
        size_t at = lo + (size_t)(p.old - old);
        if (p.length > hi - at || (to_first_change && at != end))
            break;
        if (hash_run(x->hash, data + at, p.length) == p.value) {
            add_copy(copies, at, p.old, p.length);
            end = at + p.length;
        } else if (to_first_change)
            break;
    }
    return end;
}

static void search(const struct index *x, const uint8_t *data, size_t lo, size_t hi, struct copies *copies)
{
    for (;;) {
        struct hit found = roll(x, data, lo, hi);
        if (found.block == NO_BLOCK)
            return;
        const struct old_blob *b = blob_of_block(x, found.block);
        uint32_t size = x->hash->size;
        uint64_t old = b->start + b->cut.head + (uint64_t)(found.block - b->first) * size;
        add_copy(copies, found.at, old, size);
        lo = walk(x, data, found.at + size, hi, old + size, true, copies);
    }
}

/* In place first, then whatever lies between. */
static void match_blob(const struct index *x, const uint8_t *data, size_t length, uint64_t offset,
                       struct copies *copies)
{
    struct copies in_place = {0};
    walk(x, data, 0, length, offset, false, &in_place);
    size_t lo = 0;
    for (size_t i = 0; i < in_place.count; i++) {
        const struct copy *c = in_place.items + i;
        search(x, data, lo, c->new, copies);
        add_copy(copies, c->new, c->old, c->length);
        lo = (size_t)c->new + c->length;
    }
    search(x, data, lo, length, copies);
    copies->full |= in_place.full;
    free(in_place.items);
}

/* ---- 6. Python: BlockSigner ------------------------------------------------------------------ */

static PyObject *Signer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"point", "block_size", NULL};
    PyObject *point_arg, *size_arg;
    uint64_t point, size;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:BlockSigner", keywords, &point_arg, &size_arg) ||
        !parse_bounded(point_arg, "point", 2, MAX_POINT, &point) ||
        !parse_bounded(size_arg, "block_size", MIN_SIZE, MAX_SIZE, &size))
        return NULL;
    SignerObject *self = (SignerObject *)type->tp_alloc(type, 0);
    if (self)
        block_hash_init(&self->hash, point, (uint32_t)size);
    return (PyObject *)self;
}

static void sign_blob(const struct block_hash *h, const uint8_t *data, struct cut c, uint8_t *out)
{
    uint32_t pieces = count_pieces(c);
    for (uint32_t i = 0; i < pieces; i++, out += VALUE_BYTES) {
        uint32_t length = i == 0 && c.head ? c.head : h->size;
        if (c.tail && i == pieces - 1)
            length = c.tail;
        write_u64(out, hash_run(h, data, length));
        data += length;
    }
}

bool parse_blob(PyObject *object, Py_buffer *data)
{
    if (PyObject_GetBuffer(object, data, PyBUF_SIMPLE) < 0)
        return false;
    if ((uint64_t)data->len <= UINT32_MAX)
        return true;
    PyBuffer_Release(data);
    PyErr_SetString(PyExc_ValueError, "a blob must be smaller than 4 GiB");
    return false;
}

static PyObject *Signer_sign(SignerObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t phase;
    Py_buffer data;
    if (!check_arguments("sign", count, 2, 2) ||
        !parse_bounded(args[1], "phase", 0, self->hash.size - 1, &phase) || !parse_blob(args[0], &data))
        return NULL;
    struct cut c = cut_blob(self->hash.size, (uint32_t)phase, (uint32_t)data.len);
    PyObject *values = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)count_pieces(c) * VALUE_BYTES);
    if (values) {
        Py_BEGIN_ALLOW_THREADS
        sign_blob(&self->hash, data.buf, c, (uint8_t *)PyBytes_AS_STRING(values));
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    return values;
}

static void Signer_dealloc(SignerObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *Signer_get_size(SignerObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(self->hash.size);
}

static PyMethodDef Signer_methods[] = {
    {"sign", (PyCFunction)(void (*)(void))Signer_sign, METH_FASTCALL,
     "sign($self, data, phase, /)\n--\n\nThe hash of each piece of a blob, 8 bytes each."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Signer_getset[] = {
    {"block_size", (getter)Signer_get_size, NULL, "Bytes of a block.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Signer_slots[] = {
    {Py_tp_doc, "BlockSigner(point, block_size)\n--\n\nHashes blocks; see block_match.BlockSigner."},
    {Py_tp_new, Signer_new},
    {Py_tp_dealloc, Signer_dealloc},
    {Py_tp_methods, Signer_methods},
    {Py_tp_getset, Signer_getset},
    {0, NULL},
};

static PyType_Spec Signer_spec = {
    .name = "cdr_plugin.kernel._kernel.BlockSigner",
    .basicsize = sizeof(SignerObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = Signer_slots,
};

const struct block_hash *hash_of_signer(PyObject *object)
{
    if (Py_TYPE(object)->tp_new == Signer_new)
        return &((SignerObject *)object)->hash;
    PyErr_SetString(PyExc_TypeError, "signer must be a BlockSigner");
    return NULL;
}

/* ---- 7. Python: BlockIndex ------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    struct index index;
    PyObject *signer, *rows;    /* kept alive: the hash, and the values of the blobs */
} IndexObject;

/* One row (start, length, phase, values) as the next blob of the index; false with an exception set. */
static bool parse_row(struct index *x, PyObject *row, struct old_blob *b)
{
    uint64_t start, length, phase;
    if (!PyTuple_Check(row) || PyTuple_GET_SIZE(row) != 4 || !PyBytes_Check(PyTuple_GET_ITEM(row, 3))) {
        PyErr_SetString(PyExc_TypeError, "a blob must be a tuple (start, length, phase, values)");
        return false;
    }
    uint64_t least = x->blob_count ? b[-1].start + b[-1].length : 0;
    if (!parse_bounded(PyTuple_GET_ITEM(row, 0), "start", least, INT64_MAX, &start) ||
        !parse_bounded(PyTuple_GET_ITEM(row, 1), "length", 0, UINT32_MAX, &length) ||
        !parse_bounded(PyTuple_GET_ITEM(row, 2), "phase", 0, x->hash->size - 1, &phase))
        return false;
    PyObject *values = PyTuple_GET_ITEM(row, 3);
    size_t size = (size_t)PyBytes_GET_SIZE(values);
    *b = (struct old_blob){.start = start, .length = (uint32_t)length, .first = x->block_count,
                           .values = (const uint8_t *)PyBytes_AS_STRING(values)};
    if (size)
        b->cut = cut_blob(x->hash->size, (uint32_t)phase, (uint32_t)length);
    if (size != (size_t)count_pieces(b->cut) * VALUE_BYTES) {
        PyErr_Format(PyExc_ValueError, "a blob of %lu bytes does not have %zu bytes of values",
                     (unsigned long)length, size);
        return false;
    }
    if (b->cut.full > MAX_BLOCKS - x->block_count) {
        PyErr_Format(PyExc_ValueError, "an index holds at most %d blocks", MAX_BLOCKS);
        return false;
    }
    x->block_count += b->cut.full;
    x->blob_count++;
    return true;
}

static bool fill_index(struct index *x, PyObject *rows)
{
    Py_ssize_t count = PyTuple_GET_SIZE(rows);
    x->blobs = calloc(count ? (size_t)count : 1, sizeof *x->blobs);
    if (!x->blobs || count > INT32_MAX) {
        PyErr_NoMemory();
        return false;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (!parse_row(x, PyTuple_GET_ITEM(rows, i), x->blobs + i))
            return false;
    if (!make_tables(x)) {
        PyErr_NoMemory();
        return false;
    }
    Py_BEGIN_ALLOW_THREADS
    index_blocks(x);
    Py_END_ALLOW_THREADS
    return true;
}

static PyObject *Index_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"signer", "blobs", NULL};
    PyObject *signer, *sequence;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:BlockIndex", keywords, &signer, &sequence))
        return NULL;
    const struct block_hash *hash = hash_of_signer(signer);
    if (!hash)
        return NULL;
    IndexObject *self = (IndexObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->signer = Py_NewRef(signer);
    self->index.hash = hash;
    self->rows = PySequence_Tuple(sequence);
    if (!self->rows || !fill_index(&self->index, self->rows))
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void Index_dealloc(IndexObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    free(self->index.blobs);
    free(self->index.slots);
    free(self->index.filter);
    Py_XDECREF(self->signer);
    Py_XDECREF(self->rows);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *copies_as_bytes(const struct copies *copies)
{
    if (copies->full)
        return PyErr_NoMemory();
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)copies->count * COPY_BYTES);
    if (!result)
        return NULL;
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(result);
    for (size_t i = 0; i < copies->count; i++, at += COPY_BYTES) {
        write_u32(at, copies->items[i].new);
        write_u32(at + 4, copies->items[i].length);
        write_u64(at + 8, copies->items[i].old);
    }
    return result;
}

static PyObject *Index_match(IndexObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t offset;
    Py_buffer data;
    if (!check_arguments("match", count, 2, 2) ||
        !parse_bounded(args[1], "offset", 0, INT64_MAX, &offset) || !parse_blob(args[0], &data))
        return NULL;
    struct copies copies = {0};
    Py_BEGIN_ALLOW_THREADS
    match_blob(&self->index, data.buf, (size_t)data.len, offset, &copies);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&data);
    PyObject *result = copies_as_bytes(&copies);
    free(copies.items);
    return result;
}

static PyObject *Index_get_nbytes(IndexObject *self, void *Py_UNUSED(closure))
{
    const struct index *x = &self->index;
    return PyLong_FromSize_t(sizeof *self + x->blob_count * sizeof *x->blobs +
                             ((size_t)1 << x->slot_bits) * sizeof *x->slots +
                             ((size_t)1 << x->filter_bits) / 8);
}

static PyMethodDef Index_methods[] = {
    {"match", (PyCFunction)(void (*)(void))Index_match, METH_FASTCALL,
     "match($self, blob, offset, /)\n--\n\nPacked copies from old content, ascending."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Index_getset[] = {
    {"nbytes", (getter)Index_get_nbytes, NULL, "Bytes of memory that the index takes beside the values.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Index_slots[] = {
    {Py_tp_doc, "BlockIndex(signer, blobs)\n--\n\nFinds known blocks in blobs; see block_match.BlockIndex."},
    {Py_tp_new, Index_new},
    {Py_tp_dealloc, Index_dealloc},
    {Py_tp_methods, Index_methods},
    {Py_tp_getset, Index_getset},
    {0, NULL},
};

static PyType_Spec Index_spec = {
    .name = "cdr_plugin.kernel._kernel.BlockIndex",
    .basicsize = sizeof(IndexObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = Index_slots,
};

int add_block_match(PyObject *module)
{
    return add_type(module, &Signer_spec) < 0 ? -1 : add_type(module, &Index_spec);
}

/* In which blobs of older content, however long it is, blocks of a blob may be found: a sample of its blocks.
 *
 * block_sample.py says what is promised, in plain Python, and is the oracle of this file. Sampled are the
 * hashes whose low bits are 0, as many bits as it takes to keep at most `most` of them; a block is then
 * in the sample of both contents or of none, wherever it lies.
 */
#include "blocks.h"

#include <stdlib.h>

enum { FOUND_BYTES = 4, LANES = 4, LEAST_MASK = 3, MOST_SAMPLED = 1 << 28 };

#define NO_BLOB UINT32_MAX

struct sample {
    const struct block_hash *hash;
    uint64_t *values;           /* a hash table; 0: empty, since blocks of zeros are not sampled */
    uint32_t *blobs;            /* numbers, beside the values */
    uint64_t mask;              /* of the bits that are 0 in what is sampled */
    uint32_t count, most;
    unsigned slot_bits;
};

static inline bool is_sampled(const struct sample *x, uint64_t value)
{
    return !(value & x->mask) && value;
}

/* The slot of this hash, or the empty one where it belongs. */
static inline size_t find_slot(const struct sample *x, uint64_t value)
{
    size_t last = ((size_t)1 << x->slot_bits) - 1, slot = (size_t)(mix(value) >> (64 - x->slot_bits));
    while (x->values[slot] && x->values[slot] != value)
        slot = (slot + 1) & last;
    return slot;
}

static bool make_table(struct sample *x)
{
    size_t slots = (size_t)1 << x->slot_bits;
    x->values = calloc(slots, sizeof *x->values);
    x->blobs = malloc(slots * sizeof *x->blobs);
    x->count = 0;
    return x->values && x->blobs;
}

/* The first blob that has the block counts. */
static void put(struct sample *x, uint64_t value, uint32_t blob)
{
    size_t slot = find_slot(x, value);
    if (x->values[slot])
        return;
    x->values[slot] = value;
    x->blobs[slot] = blob;
    x->count++;
}

/* To half as many; false when memory runs out. */
static bool thin(struct sample *x)
{
    uint64_t *values = x->values;
    uint32_t *blobs = x->blobs;
    x->mask = 2 * x->mask + 1;
    bool made = make_table(x);
    for (size_t slot = 0; made && slot >> x->slot_bits == 0; slot++)
        if (is_sampled(x, values[slot]))
            put(x, values[slot], blobs[slot]);
    free(values);
    free(blobs);
    return made;
}

static bool add_blob(struct sample *x, uint32_t number, struct cut cut, const uint8_t *values)
{
    values += cut.head ? VALUE_BYTES : 0;
    for (uint32_t k = 0; k < cut.full; k++, values += VALUE_BYTES) {
        uint64_t value = read_u64(values);
        if (!is_sampled(x, value))
            continue;
        put(x, value, number);
        while (x->count > x->most)
            if (!thin(x))
                return false;
    }
    return true;
}

/* ---- Search ---------------------------------------------------------------------------------- */

/* Of each `size` positions in a row the first block found counts: `found` has an item for each of them. */
static HOT void look(const struct sample *x, uint64_t value, uint32_t *found)
{
    size_t slot = find_slot(x, value);
    if (*found == NO_BLOB && x->values[slot])
        *found = x->blobs[slot];
}

/* `lanes` stretches side by side, which hide the latency of each other's multiplications. `stride` positions
 * each, a multiple of `size` if there are several. */
static inline void sweep(const struct sample *x, const uint8_t *data, size_t stride, int lanes, uint32_t *found)
{
    const struct block_hash *h = x->hash;
    const size_t size = h->size, rows = stride / size;
    uint64_t value[LANES];
    for (int lane = 0; lane < lanes; lane++)
        value[lane] = hash_run(h, data + lane * stride, size);
    for (size_t at = 0;; at++) {
        for (int lane = 0; lane < lanes; lane++) {
            uint64_t reduced = reduce61(value[lane]);
            if (UNLIKELY(is_sampled(x, reduced)))
                look(x, reduced, found + lane * rows + at / size);
        }
        if (at + 1 == stride)
            return;
        for (int lane = 0; lane < lanes; lane++) {
            const uint8_t *block = data + lane * stride + at;
            value[lane] = roll_block(h, value[lane], block[size], block[0]);
        }
    }
}

/* `count` positions, at least one. */
static void search(const struct sample *x, const uint8_t *data, size_t count, uint32_t *found)
{
    size_t stride = count / LANES / x->hash->size * x->hash->size;
    if (stride)
        sweep(x, data, stride, LANES, found);
    if (count > LANES * stride)
        sweep(x, data + LANES * stride, count - LANES * stride, 1, found + LANES * stride / x->hash->size);
}

/* ---- Python ---------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    struct sample sample;
    PyObject *signer;           /* kept alive */
} SampleObject;

/* Takes one row (length, phase, values); false with an exception set. */
static bool take_row(struct sample *x, PyObject *row, uint32_t number)
{
    uint64_t length, phase;
    if (!PyTuple_Check(row) || PyTuple_GET_SIZE(row) != 3 || !PyBytes_Check(PyTuple_GET_ITEM(row, 2))) {
        PyErr_SetString(PyExc_TypeError, "a blob must be a tuple (length, phase, values)");
        return false;
    }
    if (!parse_bounded(PyTuple_GET_ITEM(row, 0), "length", 0, UINT32_MAX, &length) ||
        !parse_bounded(PyTuple_GET_ITEM(row, 1), "phase", 0, x->hash->size - 1, &phase))
        return false;
    size_t size = (size_t)PyBytes_GET_SIZE(PyTuple_GET_ITEM(row, 2));
    if (!size)
        return true;
    struct cut cut = cut_blob(x->hash->size, (uint32_t)phase, (uint32_t)length);
    if (size != (size_t)count_pieces(cut) * VALUE_BYTES) {
        PyErr_Format(PyExc_ValueError, "a blob of %lu bytes does not have %zu bytes of values",
                     (unsigned long)length, size);
        return false;
    }
    if (add_blob(x, number, cut, (const uint8_t *)PyBytes_AS_STRING(PyTuple_GET_ITEM(row, 2))))
        return true;
    PyErr_NoMemory();
    return false;
}

static bool take_rows(struct sample *x, PyObject *rows)
{
    PyObject *row;
    for (uint32_t number = 0; (row = PyIter_Next(rows)); number++) {
        bool taken = number != NO_BLOB && take_row(x, row, number);
        Py_DECREF(row);
        if (!taken) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "too many blobs");
            return false;
        }
    }
    return !PyErr_Occurred();
}

static PyObject *Sample_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"signer", "blobs", "most", NULL};
    PyObject *signer, *iterable, *most_arg;
    const struct block_hash *hash;
    uint64_t most;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:BlockSample", keywords, &signer, &iterable, &most_arg) ||
        !(hash = hash_of_signer(signer)) || !parse_bounded(most_arg, "most", 1, MOST_SAMPLED, &most))
        return NULL;
    SampleObject *self = (SampleObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->signer = Py_NewRef(signer);
    self->sample = (struct sample){.hash = hash, .mask = LEAST_MASK, .most = (uint32_t)most, .slot_bits = 2};
    while ((uint64_t)1 << self->sample.slot_bits < 2 * most)
        self->sample.slot_bits++;
    PyObject *rows = PyObject_GetIter(iterable);
    bool made = rows && make_table(&self->sample);
    if (rows && !made)
        PyErr_NoMemory();
    if (!made || !take_rows(&self->sample, rows))
        Py_CLEAR(self);
    Py_XDECREF(rows);
    return (PyObject *)self;
}

static void Sample_dealloc(SampleObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    free(self->sample.values);
    free(self->sample.blobs);
    Py_XDECREF(self->signer);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

/* Moves the numbers together, as bytes; how many there are. */
static size_t pack_found(uint32_t *found, size_t rows)
{
    size_t count = 0;
    for (size_t row = 0; row < rows; row++)
        if (found[row] != NO_BLOB)
            write_u32((uint8_t *)found + FOUND_BYTES * count++, found[row]);
    return count;
}

static PyObject *Sample_find(SampleObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t low, high;
    Py_buffer data;
    if (!check_arguments("find", count, 3, 3) || !parse_blob(args[0], &data))
        return NULL;
    PyObject *result = NULL;
    uint64_t size = self->sample.hash->size;
    if (parse_bounded(args[1], "low", 0, (uint64_t)data.len, &low) &&
        parse_bounded(args[2], "high", low, (uint64_t)data.len, &high)) {
        size_t positions = high - low < size ? 0 : (size_t)(high - low - size + 1), found_count = 0;
        size_t rows = (positions + (size_t)size - 1) / (size_t)size;
        uint32_t *found = malloc(rows ? rows * sizeof *found : 1);
        if (found) {
            Py_BEGIN_ALLOW_THREADS
            memset(found, 0xff, rows * sizeof *found);
            if (positions)
                search(&self->sample, (const uint8_t *)data.buf + low, positions, found);
            found_count = pack_found(found, rows);
            Py_END_ALLOW_THREADS
            result = PyBytes_FromStringAndSize((const char *)found, (Py_ssize_t)(found_count * FOUND_BYTES));
            free(found);
        } else
            PyErr_NoMemory();
    }
    PyBuffer_Release(&data);
    return result;
}

static PyObject *Sample_get_nbytes(SampleObject *self, void *Py_UNUSED(closure))
{
    size_t slots = (size_t)1 << self->sample.slot_bits;
    return PyLong_FromSize_t(sizeof *self + slots * (sizeof *self->sample.values + sizeof *self->sample.blobs));
}

static PyMethodDef Sample_methods[] = {
    {"find", (PyCFunction)(void (*)(void))Sample_find, METH_FASTCALL,
     "find($self, blob, low, high, /)\n--\n\nPacked numbers of old blobs that have blocks of a part of a blob."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Sample_getset[] = {
    {"nbytes", (getter)Sample_get_nbytes, NULL, "Bytes of memory that the sample takes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Sample_slots[] = {
    {Py_tp_doc, "BlockSample(signer, blobs, most)\n--\n\nFinds where to search; see block_sample.BlockSample."},
    {Py_tp_new, Sample_new},
    {Py_tp_dealloc, Sample_dealloc},
    {Py_tp_methods, Sample_methods},
    {Py_tp_getset, Sample_getset},
    {0, NULL},
};

static PyType_Spec Sample_spec = {
    .name = "cdr_plugin.kernel._kernel.BlockSample",
    .basicsize = sizeof(SampleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = Sample_slots,
};

int add_block_sample(PyObject *module)
{
    return add_type(module, &Sample_spec);
}

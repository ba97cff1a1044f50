/* BlobTable: where blobs are, as rows found by (type, ID).
 *
 * blob_table.py has the same interface in plain Python, says what is promised, and is the oracle.
 *
 * The GIL guards the table: whatever changes it holds the GIL from argument check to end. Long reading
 * calls hand it on between slices (`breathe`), so they must not keep pointers into the table across that.
 */
#include "blob_rows.h"

/* ---- 1. Python: arguments -------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    struct table table;
} BlobTableObject;

#define SLICE_KEYS 8192         /* about 1 ms */
#define SLICE_ROWS 262144       /* about 1 ms */

/* Let other threads in, if any wait. */
static void breathe(void)
{
    Py_BEGIN_ALLOW_THREADS
    Py_END_ALLOW_THREADS
}

static bool parse_u32(PyObject *object, const char *name, uint64_t high, uint32_t *value)
{
    uint64_t wide;
    if (!parse_bounded(object, name, 0, high, &wide))
        return false;
    *value = (uint32_t)wide;
    return true;
}

/* A buffer of whole items; false with an exception set. */
static bool parse_items(PyObject *object, const char *name, Py_ssize_t size, Py_buffer *items)
{
    if (PyObject_GetBuffer(object, items, PyBUF_SIMPLE) < 0)
        return false;
    if (items->len % size == 0)
        return true;
    PyErr_Format(PyExc_ValueError, "%s must be a multiple of %zd bytes, not %zd", name, size,
                 items->len);
    PyBuffer_Release(items);
    return false;
}

static bool parse_id(PyObject *object, uint8_t *id)
{
    Py_buffer buffer;
    if (PyObject_GetBuffer(object, &buffer, PyBUF_SIMPLE) < 0)
        return false;
    bool fits = buffer.len == ID_BYTES;
    if (fits)
        memcpy(id, buffer.buf, ID_BYTES);
    else
        PyErr_Format(PyExc_ValueError, "id must have %d bytes, not %zd", ID_BYTES, buffer.len);
    PyBuffer_Release(&buffer);
    return fits;
}

static bool parse_flags(const struct table *t, PyObject *object, int access, Py_buffer *flags)
{
    if (PyObject_GetBuffer(object, flags, access) < 0) {
        if (access == PyBUF_WRITABLE && PyErr_ExceptionMatches(PyExc_BufferError))
            PyErr_SetString(PyExc_TypeError, "flags must be writable");
        return false;
    }
    if (flags->len == (Py_ssize_t)t->rows)
        return true;
    PyErr_Format(PyExc_ValueError, "flags must have one byte for each of %lu rows, not %zd",
                 (unsigned long)t->rows, flags->len);
    PyBuffer_Release(flags);
    return false;
}

static bool parse_range(const struct table *t, PyObject *const *args, uint32_t *start,
                        uint32_t *stop)
{
    Py_ssize_t first = PyNumber_AsSsize_t(args[0], NULL);
    if (first == -1 && PyErr_Occurred())
        return false;
    Py_ssize_t last = PyNumber_AsSsize_t(args[1], NULL);
    if (last == -1 && PyErr_Occurred())
        return false;
    if (first < 0 || last < first || last > (Py_ssize_t)t->rows) {
        PyErr_Format(PyExc_IndexError, "rows %zd to %zd are not among %lu", first, last,
                     (unsigned long)t->rows);
        return false;
    }
    *start = (uint32_t)first;
    *stop = (uint32_t)last;
    return true;
}

static PyObject *too_many(void)
{
    PyErr_Format(PyExc_OverflowError, "a table has room for %ld rows", (long)MAX_ROWS);
    return NULL;
}

/* ---- 2. Python: single rows ------------------------------------------------------------------ */

static bool draw_seed(uint64_t *seed, Py_ssize_t size)
{
    PyObject *os = PyImport_ImportModule("os");
    PyObject *drawn = os ? PyObject_CallMethod(os, "urandom", "n", size) : NULL;
    bool good = drawn && PyBytes_Check(drawn) && PyBytes_GET_SIZE(drawn) == size;
    if (good)
        memcpy(seed, PyBytes_AS_STRING(drawn), (size_t)size);
    else if (!PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError, "os.urandom gives no random bytes");
    Py_XDECREF(drawn);
    Py_XDECREF(os);
    return good;
}

static PyObject *BlobTable_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"duplicates", NULL};
    int duplicates = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|p:BlobTable", keywords, &duplicates))
        return NULL;
    BlobTableObject *self = (BlobTableObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->table.duplicates = duplicates;
    if (!draw_seed(self->table.seed, sizeof self->table.seed)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void BlobTable_dealloc(BlobTableObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    clear_table(&self->table);
    type->tp_free(self);
    Py_DECREF(type);
}

static Py_ssize_t BlobTable_len(BlobTableObject *self)
{
    return (Py_ssize_t)self->table.rows;
}

static PyObject *BlobTable_add(BlobTableObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint8_t id[ID_BYTES];
    uint32_t type;
    struct blob b = {.id = id};
    if (!check_arguments("add", count, 6, 6) || !parse_u32(args[0], "type", 1, &type) ||
        !parse_id(args[1], id) || !parse_u32(args[2], "pack", MAX_PACK, &b.pack) ||
        !parse_u32(args[3], "offset", UINT32_MAX, &b.offset) ||
        !parse_u32(args[4], "length", UINT32_MAX, &b.length) ||
        !parse_u32(args[5], "plain", UINT32_MAX, &b.plain))
        return NULL;
    b.type = (uint8_t)type;
    switch (add_blob(&self->table, hash_key(&self->table, type, id), &b)) {
    case KNOWN:
        Py_RETURN_FALSE;
    case NEW:
        Py_RETURN_TRUE;
    case TOO_MANY:
        return too_many();
    default:
        return PyErr_NoMemory();
    }
}

static PyObject *BlobTable_find(BlobTableObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint8_t id[ID_BYTES];
    uint32_t type;
    if (!check_arguments("find", count, 2, 2) || !parse_u32(args[0], "type", 1, &type) ||
        !parse_id(args[1], id))
        return NULL;
    const struct table *t = &self->table;
    return PyLong_FromLong(find_row(t, hash_key(t, type, id), type, id));
}

static PyObject *BlobTable_get(BlobTableObject *self, PyObject *number)
{
    Py_ssize_t at = PyNumber_AsSsize_t(number, NULL);
    if (at == -1 && PyErr_Occurred())
        return NULL;
    if (at < 0 || at >= (Py_ssize_t)self->table.rows) {
        PyErr_Format(PyExc_IndexError, "row must be below %lu, not %zd",
                     (unsigned long)self->table.rows, at);
        return NULL;
    }
    const struct row *r = row_at(&self->table, (uint32_t)at);
    return Py_BuildValue("(Iy#IIII)", (unsigned)row_type(r), r->id, (Py_ssize_t)ID_BYTES,
                         (unsigned)row_pack(r), (unsigned)r->offset, (unsigned)r->length,
                         (unsigned)r->plain);
}

/* ---- 3. Python: many rows -------------------------------------------------------------------- */

/* Replace a record's pack by what it stands for, and check it; false with ValueError set. */
static bool resolve(struct blob *b, const Py_buffer *numbers)
{
    if (b->type > 1) {
        PyErr_Format(PyExc_ValueError, "type must be between 0 and 1, not %d", (int)b->type);
        return false;
    }
    if (numbers) {
        if (b->pack >= (size_t)numbers->len / sizeof b->pack) {
            PyErr_Format(PyExc_ValueError, "a record has pack %lu of %zd", (unsigned long)b->pack,
                         numbers->len / (Py_ssize_t)sizeof b->pack);
            return false;
        }
        memcpy(&b->pack, (const uint8_t *)numbers->buf + b->pack * sizeof b->pack, sizeof b->pack);
    }
    if (b->pack > MAX_PACK) {
        PyErr_Format(PyExc_ValueError, "pack must be between 0 and %ld, not %lu", (long)MAX_PACK,
                     (unsigned long)b->pack);
        return false;
    }
    return true;
}

static bool add_window(struct table *t, const struct blob *blobs, size_t count)
{
    uint64_t hashes[WINDOW];
    for (size_t i = 0; i < count; i++) {
        hashes[i] = hash_key(t, blobs[i].type, blobs[i].id);
        if (t->capacity)
            PREFETCH(&t->slots[first_slot(t, hashes[i])]);
    }
    for (size_t i = 0; i < count; i++) {
        enum added added = add_blob(t, hashes[i], &blobs[i]);
        if (added == NO_MEMORY)
            PyErr_NoMemory();
        else if (added == TOO_MANY)
            too_many();
        else
            continue;
        return false;
    }
    return true;
}

/* The GIL is held throughout, so the buffers, if anybody can change them, stay as they were checked. */
static PyObject *add_records(struct table *t, const Py_buffer *records, const Py_buffer *numbers)
{
    const uint8_t *first = records->buf;
    size_t count = (size_t)records->len / BLOB_RECORD_BYTES;
    uint32_t before = t->rows;
    struct blob blobs[WINDOW];
    for (size_t i = 0; i < count; i++) {
        struct blob b = read_blob(first + i * BLOB_RECORD_BYTES);
        if (!resolve(&b, numbers))
            return NULL;
    }
    for (size_t done = 0, step; done < count; done += step) {
        step = count - done < WINDOW ? count - done : WINDOW;
        for (size_t i = 0; i < step; i++) {
            blobs[i] = read_blob(first + (done + i) * BLOB_RECORD_BYTES);
            if (!resolve(&blobs[i], numbers))
                return NULL;
        }
        if (!add_window(t, blobs, step))
            return NULL;
    }
    return PyLong_FromUnsignedLong(t->rows - before);
}

static PyObject *BlobTable_add_rows(BlobTableObject *self, PyObject *const *args, Py_ssize_t count)
{
    Py_buffer records, numbers;
    if (!check_arguments("add_rows", count, 1, 2) ||
        !parse_items(args[0], "records", BLOB_RECORD_BYTES, &records))
        return NULL;
    PyObject *result = NULL;
    if (count < 2 || args[1] == Py_None) {
        result = add_records(&self->table, &records, NULL);
    } else if (parse_items(args[1], "numbers", sizeof(uint32_t), &numbers)) {
        result = add_records(&self->table, &records, &numbers);
        PyBuffer_Release(&numbers);
    }
    PyBuffer_Release(&records);
    return result;
}

static PyObject *BlobTable_find_many(BlobTableObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint32_t type;
    Py_buffer ids;
    if (!check_arguments("find_many", count, 2, 2) || !parse_u32(args[0], "type", 1, &type) ||
        !parse_items(args[1], "ids", ID_BYTES, &ids))
        return NULL;
    size_t total = (size_t)ids.len / ID_BYTES;
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(total * sizeof(int32_t)));
    for (size_t done = 0, step; result && done < total; done += step) {
        int32_t found[WINDOW];
        step = total - done < WINDOW ? total - done : WINDOW;
        find_window(&self->table, type, (const uint8_t *)ids.buf + done * ID_BYTES, step, found);
        memcpy(PyBytes_AS_STRING(result) + done * sizeof *found, found, step * sizeof *found);
        if (done % SLICE_KEYS == SLICE_KEYS - WINDOW)
            breathe();
    }
    PyBuffer_Release(&ids);
    return result;
}

static bool append_id(PyObject *list, const uint8_t *id)
{
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)id, ID_BYTES);
    bool good = bytes && PyList_Append(list, bytes) == 0;
    Py_XDECREF(bytes);
    return good;
}

/* What is done with the row of a key that is there. */
typedef void (*on_row)(void *context, const struct table *t, uint32_t row);

/* Look at the keys one after another; the IDs that are missing, or NULL. Rows that other threads add
 * meanwhile are missing, too. */
static PyObject *visit_rows(const struct table *t, unsigned type, const Py_buffer *ids, on_row visit,
                            void *context)
{
    const uint8_t *first = ids->buf;
    size_t total = (size_t)ids->len / ID_BYTES;
    int64_t rows = t->rows;
    PyObject *missing = PyList_New(0);
    for (size_t done = 0, step; missing && done < total; done += step) {
        int32_t found[WINDOW];
        step = total - done < WINDOW ? total - done : WINDOW;
        find_window(t, type, first + done * ID_BYTES, step, found);
        for (size_t i = 0; missing && i < step; i++) {
            if (found[i] >= 0 && found[i] < rows)
                visit(context, t, (uint32_t)found[i]);
            else if (!append_id(missing, first + (done + i) * ID_BYTES))
                Py_CLEAR(missing);
        }
        if (done % SLICE_KEYS == SLICE_KEYS - WINDOW)
            breathe();
    }
    return missing;
}

struct marker {
    uint8_t *flags;
    uint8_t value;
};

static void mark_row(void *context, const struct table *Py_UNUSED(t), uint32_t row)
{
    struct marker *m = context;
    m->flags[row] |= m->value;
}

static PyObject *BlobTable_mark(BlobTableObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint32_t type, value = 1;
    Py_buffer ids, flags;
    if (!check_arguments("mark", count, 3, 4) || !parse_u32(args[0], "type", 1, &type) ||
        (count == 4 && !parse_u32(args[3], "value", UINT8_MAX, &value)) ||
        !parse_items(args[1], "ids", ID_BYTES, &ids))
        return NULL;
    PyObject *missing = NULL;
    if (parse_flags(&self->table, args[2], PyBUF_WRITABLE, &flags)) {
        struct marker marker = {.flags = flags.buf, .value = (uint8_t)value};
        missing = visit_rows(&self->table, type, &ids, mark_row, &marker);
        PyBuffer_Release(&flags);
    }
    PyBuffer_Release(&ids);
    return missing;
}

struct place {
    uint64_t pack_and_offset;
    uint32_t row;
};

struct places {
    struct place *items;
    size_t count;
};

static void note_place(void *context, const struct table *t, uint32_t row)
{
    struct places *p = context;
    const struct row *r = row_at(t, row);
    p->items[p->count++] = (struct place){(uint64_t)row_pack(r) << 32 | r->offset, row};
}

static int compare_places(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    if (a->pack_and_offset != b->pack_and_offset)
        return a->pack_and_offset < b->pack_and_offset ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

/* Sort, and keep each row once. */
static void order_places(struct places *p)
{
    size_t kept = 0;
    qsort(p->items, p->count, sizeof *p->items, compare_places);
    for (size_t i = 0; i < p->count; i++)
        if (i == 0 || p->items[i].row != p->items[kept - 1].row)
            p->items[kept++] = p->items[i];
    p->count = kept;
}

static PyObject *places_as_records(const struct table *t, const struct places *p)
{
    PyObject *records = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(p->count * BLOB_RECORD_BYTES));
    for (size_t i = 0; records && i < p->count; i++) {
        struct blob b = row_as_blob(row_at(t, p->items[i].row));
        write_blob((uint8_t *)PyBytes_AS_STRING(records) + i * BLOB_RECORD_BYTES, &b);
        if (i % SLICE_KEYS == SLICE_KEYS - 1)
            breathe();
    }
    return records;
}

static PyObject *locate_rows(const struct table *t, unsigned type, const Py_buffer *ids)
{
    struct places places = {0};
    size_t most = (size_t)ids->len / ID_BYTES;
    places.items = most <= SIZE_MAX / 2 / BLOB_RECORD_BYTES
        ? malloc((most ? most : 1) * sizeof *places.items) : NULL;
    if (!places.items)
        return PyErr_NoMemory();
    PyObject *missing = visit_rows(t, type, ids, note_place, &places);
    PyObject *records = NULL;
    if (missing) {
        Py_BEGIN_ALLOW_THREADS
        order_places(&places);
        Py_END_ALLOW_THREADS
        records = places_as_records(t, &places);
    }
    free(places.items);
    if (records)
        return Py_BuildValue("(NN)", records, missing);
    Py_XDECREF(missing);
    return NULL;
}

static PyObject *BlobTable_locate(BlobTableObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint32_t type;
    Py_buffer ids;
    if (!check_arguments("locate", count, 2, 2) || !parse_u32(args[0], "type", 1, &type) ||
        !parse_items(args[1], "ids", ID_BYTES, &ids))
        return NULL;
    PyObject *result = locate_rows(&self->table, type, &ids);
    PyBuffer_Release(&ids);
    return result;
}

/* ---- 4. Python: totals of packs -------------------------------------------------------------- */

#define TOTALS 6                /* blob_records.TOTALS_RECORD, <6Q */

struct tally {
    uint64_t (*sums)[TOTALS];
    uint32_t packs, mask, plain_extra, compressed_extra;
};

static bool tally_rows(const struct tally *y, const struct table *t, const uint8_t *flags,
                       uint32_t start, uint32_t stop)
{
    for (uint32_t number = start; number < stop; number++) {
        const struct row *r = row_at(t, number);
        if (UNLIKELY(row_pack(r) >= y->packs))
            return false;
        uint64_t *sum = y->sums[row_pack(r)];
        unsigned at = flags[number] & y->mask ? 0 : 2;
        sum[at]++;
        sum[at + 1] += (uint64_t)r->length + (r->plain ? y->compressed_extra : y->plain_extra);
        sum[4] += row_type(r);
        sum[5] += r->plain == 0;
    }
    return true;
}

/* Turn sums into what the record has, where they are. */
static void encode_sums(uint64_t (*sums)[TOTALS], uint32_t packs)
{
    for (uint32_t pack = 0; pack < packs; pack++)
        for (int i = 0; i < TOTALS; i++) {
            uint64_t value = sums[pack][i];
            write_u64((uint8_t *)&sums[pack][i], value);
        }
}

static PyObject *tally_table(struct tally *y, const struct table *t, const Py_buffer *flags)
{
    uint32_t rows = t->rows;
    y->sums = calloc(y->packs ? y->packs : 1, sizeof *y->sums);
    if (!y->sums)
        return PyErr_NoMemory();
    bool good = true;
    for (uint32_t done = 0, step; good && done < rows; done += step) {
        step = rows - done < SLICE_ROWS ? rows - done : SLICE_ROWS;
        good = tally_rows(y, t, flags->buf, done, done + step);
        breathe();
    }
    PyObject *result = NULL;
    if (good) {
        encode_sums(y->sums, y->packs);
        result = PyBytes_FromStringAndSize((const char *)y->sums,
                                           (Py_ssize_t)(y->packs * sizeof *y->sums));
    } else
        PyErr_Format(PyExc_ValueError, "a row has a pack number that is not below %lu",
                     (unsigned long)y->packs);
    free(y->sums);
    return result;
}

static PyObject *BlobTable_totals(BlobTableObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct tally tally = {.mask = UINT8_MAX};
    Py_buffer flags;
    if (!check_arguments("totals", count, 2, 5) ||
        !parse_u32(args[1], "packs", (uint64_t)MAX_PACK + 1, &tally.packs) ||
        (count > 2 && !parse_u32(args[2], "mask", UINT8_MAX, &tally.mask)) ||
        (count > 3 && !parse_u32(args[3], "plain_extra", UINT32_MAX, &tally.plain_extra)) ||
        (count > 4 && !parse_u32(args[4], "compressed_extra", UINT32_MAX, &tally.compressed_extra)) ||
        !parse_flags(&self->table, args[0], PyBUF_SIMPLE, &flags))
        return NULL;
    PyObject *result = tally_table(&tally, &self->table, &flags);
    PyBuffer_Release(&flags);
    return result;
}

/* ---- 5. Python: ranges of rows --------------------------------------------------------------- */

static PyObject *BlobTable_records(BlobTableObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint32_t start, stop;
    const struct table *t = &self->table;
    if (!check_arguments("records", count, 2, 2) || !parse_range(t, args, &start, &stop))
        return NULL;
    PyObject *records =
        PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(stop - start) * BLOB_RECORD_BYTES);
    for (uint32_t number = start; records && number < stop; number++) {
        struct blob b = row_as_blob(row_at(t, number));
        write_blob((uint8_t *)PyBytes_AS_STRING(records) +
                   (size_t)(number - start) * BLOB_RECORD_BYTES, &b);
        if (number % SLICE_ROWS == 0)
            breathe();
    }
    return records;
}

/* Whether a row begins a run of one pack, in a range that begins at `start`. */
static inline bool begins_run(const struct table *t, uint32_t start, uint32_t number)
{
    return number == start || row_pack(row_at(t, number)) != row_pack(row_at(t, number - 1));
}

static PyObject *BlobTable_runs(BlobTableObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint32_t start, stop;
    const struct table *t = &self->table;
    if (!check_arguments("runs", count, 2, 2) || !parse_range(t, args, &start, &stop))
        return NULL;
    size_t runs = 0;
    for (uint32_t number = start; number < stop; number++)
        runs += begins_run(t, start, number);
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(runs * 12));
    if (!result)
        return NULL;
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(result);
    for (uint32_t number = start, first = start; number < stop; number++)
        if (number + 1 == stop || begins_run(t, start, number + 1)) {
            write_u32(at, row_pack(row_at(t, number)));
            write_u32(at + 4, first);
            write_u32(at + 8, number + 1 - first);
            at += 12;
            first = number + 1;
        }
    return result;
}

static PyObject *BlobTable_repeats(BlobTableObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint32_t start, stop;
    const struct table *t = &self->table;
    if (!check_arguments("repeats", count, 2, 2) || !parse_range(t, args, &start, &stop))
        return NULL;
    /* Rows are never taken out, so those of the range that repeat a key are as many now as later. */
    size_t most = t->rows - t->keys < stop - start ? t->rows - t->keys : stop - start;
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(most * 8));
    if (!result)
        return NULL;
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(result);
    for (uint32_t number = start; number < stop && most; number++) {
        const struct row *r = row_at(t, number);
        int32_t first = find_row(t, hash_key(t, row_type(r), r->id), row_type(r), r->id);
        if ((uint32_t)first != number) {
            write_u32(at, number);
            write_u32(at + 4, (uint32_t)first);
            at += 8;
            most--;
        }
        if (number % SLICE_KEYS == 0)
            breathe();
    }
    /* On failure this sets `result` to NULL and the exception. */
    _PyBytes_Resize(&result, at - (uint8_t *)PyBytes_AS_STRING(result));
    return result;
}

/* ---- 6. Python: sizes and the type ----------------------------------------------------------- */

static PyObject *BlobTable_get_keys(BlobTableObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(self->table.keys);
}

static PyObject *BlobTable_get_duplicates(BlobTableObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->table.duplicates);
}

static PyObject *BlobTable_get_nbytes(BlobTableObject *self, void *Py_UNUSED(closure))
{
    const struct table *t = &self->table;
    return PyLong_FromSize_t(sizeof *self + t->chunk_room * sizeof *t->chunks +
                             t->chunk_count * CHUNK_ROWS * sizeof **t->chunks +
                             t->capacity * sizeof *t->slots);
}

#define METHOD(name, arguments, text)                                                               \
    {#name, (PyCFunction)(void (*)(void))BlobTable_##name, METH_FASTCALL,                            \
     #name "($self, " arguments ", /)\n--\n\n" text}

static PyMethodDef BlobTable_methods[] = {
    METHOD(add, "type, id, pack, offset, length, plain", "Add a row; False if its key was known."),
    METHOD(add_rows, "records, numbers=None", "Add packed records; how many rows were added."),
    METHOD(find, "type, id", "The first row of a key, or -1."),
    {"get", (PyCFunction)BlobTable_get, METH_O,
     "get($self, row, /)\n--\n\nType, ID, pack, offset, length and plain length of a row."},
    METHOD(find_many, "type, ids", "The first row of each ID, or -1, as native int32."),
    METHOD(mark, "type, ids, flags, value=1", "Set bits in the flags of rows; the missing IDs."),
    METHOD(locate, "type, ids", "Records ascending by pack and offset, and the missing IDs."),
    METHOD(totals, "flags, packs, mask=255, plain_extra=0, compressed_extra=0",
           "Packed totals of each pack."),
    METHOD(records, "start, stop", "A range of rows as packed records."),
    METHOD(runs, "start, stop", "Packed runs of rows of one pack in a range."),
    METHOD(repeats, "start, stop", "Packed pairs: a row that repeats a key, and the key's first row."),
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef BlobTable_getset[] = {
    {"keys", (getter)BlobTable_get_keys, NULL, "Different keys among the rows.", NULL},
    {"duplicates", (getter)BlobTable_get_duplicates, NULL, "Whether further rows of a key are kept.",
     NULL},
    {"nbytes", (getter)BlobTable_get_nbytes, NULL, "Bytes of memory that the table takes.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot BlobTable_slots[] = {
    {Py_tp_doc, "BlobTable(duplicates=False)\n--\n\n"
                "Where blobs are, found by type and ID; see blob_table.BlobTable."},
    {Py_tp_new, BlobTable_new},
    {Py_tp_dealloc, BlobTable_dealloc},
    {Py_tp_methods, BlobTable_methods},
    {Py_tp_getset, BlobTable_getset},
    {Py_sq_length, BlobTable_len},
    {0, NULL},
};

static PyType_Spec BlobTable_spec = {
    .name = "cdr_plugin.kernel._kernel.BlobTable",
    .basicsize = sizeof(BlobTableObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = BlobTable_slots,
};

int add_blob_table(PyObject *module)
{
    return add_type(module, &BlobTable_spec);
}

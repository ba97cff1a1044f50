/* Index files of a repository, in the exact layout that restic writes, into packed records.
 *
 * index_scan.py has the grammar as regular expressions and is the oracle of this file. Whatever is not
 * that layout is left to a JSON parser, which also finds the words for what is wrong: this scanner only
 * knows yes and no. It reads untrusted bytes: every step is bounded by `end`, and the output by the
 * length of the input, because even the shortest pack and blob are longer than their records.
 */
#include <string.h>

#include "kernel.h"

/* ---- 1. Steps: each moves the cursor behind what it expects, or says no ---------------------- */

struct cursor {
    const uint8_t *at, *end;
};

static inline bool skip(struct cursor *c, const char *text, size_t length)
{
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, text, length) != 0)
        return false;
    c->at += length;
    return true;
}

#define SKIP(cursor, text) skip(cursor, text, sizeof text - 1)

/* Digits in lower case only, as restic and CDR write them; 0xff for all else. */
static uint8_t digit_values[256];

static void make_digit_values(void)
{
    memset(digit_values, 0xff, sizeof digit_values);
    for (int i = 0; i < 16; i++)
        digit_values[(uint8_t)"0123456789abcdef"[i]] = (uint8_t)i;
}

static inline bool read_id(struct cursor *c, uint8_t *id)
{
    if (c->end - c->at < 2 * ID_BYTES)
        return false;
    unsigned seen = 0;
    for (int i = 0; i < ID_BYTES; i++) {
        unsigned high = digit_values[c->at[2 * i]], low = digit_values[c->at[2 * i + 1]];
        seen |= high | low;
        id[i] = (uint8_t)(high << 4 | low);
    }
    c->at += 2 * ID_BYTES;
    return seen < 16;
}

/* A JSON integer below 2^32: no sign, no fraction, no needless zero in front. */
static inline bool read_number(struct cursor *c, uint32_t *number)
{
    const uint8_t *first = c->at;
    uint64_t value = 0;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9' && c->at - first < 10)
        value = value * 10 + (uint64_t)(*c->at++ - '0');
    *number = (uint32_t)value;
    return c->at > first && value <= UINT32_MAX && (*first != '0' || c->at - first == 1);
}

/* ---- 2. The grammar -------------------------------------------------------------------------- */

struct scan {
    struct cursor cursor;
    uint32_t least_length, most_plain;
    uint8_t *packs, *blobs;             /* where the next record goes */
    uint32_t pack_count;
};

static bool scan_blob(struct scan *s)
{
    struct cursor *c = &s->cursor;
    uint8_t id[ID_BYTES];
    struct blob b = {.id = id, .pack = s->pack_count};
    if (!SKIP(c, "{\"id\":\"") || !read_id(c, id) || !SKIP(c, "\",\"type\":\""))
        return false;
    if (SKIP(c, "tree"))
        b.type = 1;
    else if (!SKIP(c, "data"))
        return false;
    if (!SKIP(c, "\",\"offset\":") || !read_number(c, &b.offset) || !SKIP(c, ",\"length\":") ||
        !read_number(c, &b.length))
        return false;
    if (SKIP(c, ",\"uncompressed_length\":") && !read_number(c, &b.plain))
        return false;
    if (!SKIP(c, "}") || b.length < s->least_length || b.plain > s->most_plain ||
        (uint64_t)b.offset + b.length > UINT32_MAX)
        return false;
    write_blob(s->blobs, &b);
    s->blobs += BLOB_RECORD_BYTES;
    return true;
}

static bool scan_pack(struct scan *s)
{
    struct cursor *c = &s->cursor;
    uint8_t id[ID_BYTES];
    uint32_t count = 0;
    if (!SKIP(c, "{\"id\":\"") || !read_id(c, id) || !SKIP(c, "\",\"blobs\":["))
        return false;
    if (!SKIP(c, "]}")) {
        do {
            if (!scan_blob(s))
                return false;
            count++;
        } while (SKIP(c, ","));
        if (!SKIP(c, "]}"))
            return false;
    }
    /* Only a whole pack has a record for sure: see LEAST_PACK. */
    memcpy(s->packs, id, ID_BYTES);
    write_u32(s->packs + ID_BYTES, count);
    s->packs += LISTED_RECORD_BYTES;
    s->pack_count++;
    return true;
}

/* Names of indexes that this one replaced, which nobody acts on. */
static bool scan_superseded(struct cursor *c)
{
    uint8_t id[ID_BYTES];
    if (!SKIP(c, "\"supersedes\":["))
        return true;
    if (SKIP(c, "],"))
        return true;
    do {
        if (!SKIP(c, "\"") || !read_id(c, id) || !SKIP(c, "\""))
            return false;
    } while (SKIP(c, ","));
    return SKIP(c, "],");
}

static bool scan_file(struct scan *s)
{
    struct cursor *c = &s->cursor;
    if (!SKIP(c, "{") || !scan_superseded(c) || !SKIP(c, "\"packs\":["))
        return false;
    if (!SKIP(c, "]}")) {
        do {
            if (!scan_pack(s))
                return false;
        } while (SKIP(c, ","));
        if (!SKIP(c, "]}"))
            return false;
    }
    (void)SKIP(c, "\n");
    return c->at == c->end;
}

/* ---- 3. Python ------------------------------------------------------------------------------- */

/* The shortest pack has no blobs, the shortest blob one digit in each number. */
#define LEAST_PACK (sizeof "{\"id\":\"\",\"blobs\":[]}" - 1 + 2 * ID_BYTES)
#define LEAST_BLOB (sizeof "{\"id\":\"\",\"type\":\"data\",\"offset\":0,\"length\":0}" - 1 + 2 * ID_BYTES)

static PyObject *scan_buffer(const Py_buffer *data, uint32_t least_length, bool compressed)
{
    size_t size = (size_t)data->len;
    PyObject *packs = PyBytes_FromStringAndSize(
        NULL, (Py_ssize_t)(size / LEAST_PACK * LISTED_RECORD_BYTES));
    PyObject *blobs = PyBytes_FromStringAndSize(
        NULL, (Py_ssize_t)(size / LEAST_BLOB * BLOB_RECORD_BYTES));
    if (!packs || !blobs) {
        Py_XDECREF(packs);
        Py_XDECREF(blobs);
        return NULL;
    }
    uint8_t *first_pack = (uint8_t *)PyBytes_AS_STRING(packs);
    uint8_t *first_blob = (uint8_t *)PyBytes_AS_STRING(blobs);
    struct scan s = {.cursor = {data->buf, (const uint8_t *)data->buf + size},
                     .least_length = least_length, .most_plain = compressed ? UINT32_MAX : 0,
                     .packs = first_pack, .blobs = first_blob};
    bool usual;
    Py_BEGIN_ALLOW_THREADS
    usual = scan_file(&s);
    Py_END_ALLOW_THREADS
    if (!usual) {
        Py_DECREF(packs);
        Py_DECREF(blobs);
        Py_RETURN_NONE;
    }
    /* On failure _PyBytes_Resize sets the pointer to NULL and the exception. */
    if (_PyBytes_Resize(&packs, s.packs - first_pack) < 0 ||
        _PyBytes_Resize(&blobs, s.blobs - first_blob) < 0) {
        Py_XDECREF(packs);
        Py_XDECREF(blobs);
        return NULL;
    }
    return Py_BuildValue("(NN)", packs, blobs);
}

PyObject *kernel_scan_index(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    uint64_t least_length;
    Py_buffer data;
    if (!check_arguments("scan_index", count, 3, 3) ||
        !parse_bounded(args[1], "least_length", 0, UINT32_MAX, &least_length))
        return NULL;
    int compressed = PyObject_IsTrue(args[2]);
    if (compressed < 0 || PyObject_GetBuffer(args[0], &data, PyBUF_SIMPLE) < 0)
        return NULL;
    if (!digit_values['g'])
        make_digit_values();
    PyObject *result = scan_buffer(&data, (uint32_t)least_length, compressed);
    PyBuffer_Release(&data);
    return result;
}

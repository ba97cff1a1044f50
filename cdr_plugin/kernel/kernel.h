/* What the files of the kernel share. */
#ifndef CDR_KERNEL_H
#define CDR_KERNEL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HOT __attribute__((noinline))
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define UNLIKELY(x) (x)
#define HOT
#define PREFETCH(address) ((void)(address))
#endif

#define ID_BYTES 32
#define BLOB_RECORD_BYTES 49    /* blob_records.BLOB_RECORD, <B32sIIII */
#define LISTED_RECORD_BYTES 36  /* blob_records.LISTED_RECORD, <32sI */

/* One blob as records tell it. */
struct blob {
    uint8_t type;
    const uint8_t *id;
    uint32_t pack, offset, length, plain;
};

static inline void write_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static inline uint32_t read_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void write_u64(uint8_t *at, uint64_t value)
{
    write_u32(at, (uint32_t)value);
    write_u32(at + 4, (uint32_t)(value >> 32));
}

static inline uint64_t read_u64(const uint8_t *at)
{
    return read_u32(at) | (uint64_t)read_u32(at + 4) << 32;
}

static inline void write_blob(uint8_t *at, const struct blob *b)
{
    at[0] = b->type;
    memcpy(at + 1, b->id, ID_BYTES);
    write_u32(at + 33, b->pack);
    write_u32(at + 37, b->offset);
    write_u32(at + 41, b->length);
    write_u32(at + 45, b->plain);
}

/* `id` points into the record. */
static inline struct blob read_blob(const uint8_t *at)
{
    return (struct blob){.type = at[0], .id = at + 1, .pack = read_u32(at + 33),
                         .offset = read_u32(at + 37), .length = read_u32(at + 41),
                         .plain = read_u32(at + 45)};
}

/* An integer argument; false with TypeError or ValueError set. */
bool parse_bounded(PyObject *object, const char *name, uint64_t low, uint64_t high, uint64_t *value);

/* How many positional arguments there are; false with TypeError set if they are too few or too many. */
bool check_arguments(const char *function, Py_ssize_t given, Py_ssize_t least, Py_ssize_t most);

/* The C string of a bytes object (borrowed) that names a file in a directory; NULL with TypeError or ValueError set. */
const char *name_string(PyObject *name);

/* -1 with an exception set when it fails. */
int add_blob_table(PyObject *module);
int add_block_match(PyObject *module);
int add_block_sample(PyObject *module);

/* Makes a type of `spec` and adds it. */
int add_type(PyObject *module, PyType_Spec *spec);

PyObject *kernel_make_files(PyObject *module, PyObject *const *args, Py_ssize_t count);

PyObject *kernel_scan_index(PyObject *module, PyObject *const *args, Py_ssize_t count);

#endif

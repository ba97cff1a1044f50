/* The hot kernels: Rabin cut points, directory scans, batches of small files; and the module, of which
 * blob_table.c, block_match.c, index_scan.c and make_files.c are the other parts.
 *
 * reference.py has the same interface in plain Python and is the oracle of this file.
 * Sections:
 *   1. Rabin fingerprint: algebra, tables, plain scan, four-lane scan
 *   2. Chunker state (no Python objects)
 *   3. Stat records
 *   4. Directory listing (no Python objects)
 *   5. Reading small files (no Python objects)
 *   6. Self test
 *   7. Python: Chunker
 *   8. Python: scan_directory, read_files
 *   9. Module
 */
#define _GNU_SOURCE
#include "kernel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#ifndef O_NOATIME
#define O_NOATIME 0
#endif

#if defined(__GNUC__)
/* Keeps the compiler from folding a value into the chain of its user, where its latency would count. */
#define KEEP_APART(x) __asm__("" : "+r"(x))
#else
#define KEEP_APART(x) ((void)0)
#endif

/* ---- 1. Rabin fingerprint ------------------------------------------------------------------
 *
 * The fingerprint of a window w[0..63] is  sum w[i] * x^(8*(63-i))  mod P  over GF(2), deg P = 53.
 * Moving the window by one byte (o leaves, b enters):
 *
 *     F' = F*x^8 + b - o*x^512   mod P
 *
 * F*x^8 mod P is (F << 8) ^ mod[F >> 45], where mod[t] = (t*x^53 mod P) ^ t*x^53 also clears the
 * bits above 52. out[o] = o*x^512 mod P. restic subtracts o*x^504 before shifting, which is the
 * same algebra; subtracting afterwards keeps the second table off the critical path.
 *
 * restic starts every chunk with the byte 1 in the window and feeds bytes from min_size-64 on. The
 * first cut it may make is at min_size, when exactly those 64 bytes have pushed the 1 out. Hence at
 * every position where a cut is possible, F depends on the last 64 bytes of the chunk and on nothing
 * else: positions may be examined in any order, and no fingerprint needs to be carried between
 * buffers, only 64 bytes.
 */
enum { WINDOW = 64, DEGREE = 53, TOP_SHIFT = DEGREE - 8 };

struct rabin {
    uint64_t mod[256];
    uint64_t out[256];
    uint64_t mask;
};

/* value * x mod P, for a value of degree below 53. */
static uint64_t times_x(uint64_t value, uint64_t polynomial)
{
    value <<= 1;
    return value >> DEGREE & 1 ? value ^ polynomial : value;
}

/* table[t] = t * factor mod P for all bytes t, from factor = x^n mod P. */
static void fill_multiples(uint64_t table[256], uint64_t factor, uint64_t polynomial)
{
    table[0] = 0;
    for (unsigned bit = 1; bit < 256; bit <<= 1) {
        for (unsigned low = 0; low < bit; low++)
            table[bit | low] = table[low] ^ factor;
        factor = times_x(factor, polynomial);
    }
}

static void rabin_init(struct rabin *r, uint64_t polynomial, unsigned average_bits)
{
    uint64_t power = 1;
    for (int i = 0; i < 8 * WINDOW; i++)
        power = times_x(power, polynomial);
    fill_multiples(r->out, power, polynomial);
    fill_multiples(r->mod, polynomial ^ (uint64_t)1 << DEGREE, polynomial);
    for (uint64_t t = 0; t < 256; t++)
        r->mod[t] ^= t << DEGREE;
    r->mask = ((uint64_t)1 << average_bits) - 1;
}

static inline uint64_t push(const struct rabin *r, uint64_t f, uint8_t in)
{
    return (f << 8 | in) ^ r->mod[f >> TOP_SHIFT];
}

static inline uint64_t roll(const struct rabin *r, uint64_t f, uint8_t in, uint8_t out)
{
    uint64_t change = r->out[out] ^ in;
    KEEP_APART(change);         /* 10 to 20 % in both scans */
    return (f << 8) ^ r->mod[f >> TOP_SHIFT] ^ change;
}

static uint64_t fingerprint(const struct rabin *r, const uint8_t *window)
{
    uint64_t f = 0;
    for (int i = 0; i < WINDOW; i++)
        f = push(r, f, window[i]);
    return f;
}

/* A scan looks at every end e with lo <= e <= hi, in ascending order, and returns the first one
 * whose window base[e-64 .. e-1] has a fingerprint with all mask bits zero; 0 if there is none.
 * Requires lo >= 64. */
typedef size_t scan_fn(const struct rabin *r, const uint8_t *base, size_t lo, size_t hi);

/* The scalar reference. Each byte waits for the table lookup of the byte before, 7 cycles: 0.33 to
 * 0.40 GB/s on a 2.8 GHz Xeon, or 0.5 to 0.6 of a file's bytes with the default sizes, since a third
 * of them is never hashed. */
static HOT size_t scan_plain(const struct rabin *r, const uint8_t *base, size_t lo, size_t hi)
{
    if (lo > hi)
        return 0;
    uint64_t f = fingerprint(r, base + lo - WINDOW);
    for (size_t e = lo;;) {
        if (UNLIKELY((f & r->mask) == 0))
            return e;
        if (e == hi)
            return 0;
        f = roll(r, f, base[e], base[e - WINDOW]);
        e++;
    }
}

/* Four lanes hide the latency of each other's lookups: 1.0 to 1.3 GB/s, or 1.7 to 2.1 GB/s of a file's
 * bytes. Limits of one lane's stretch: a lane pays 64 bytes of warming up, and a cut wastes what the
 * higher lanes have done. Of 4, 8 and 16 KiB for LANE_MAX, 8 was fastest by a little. */
enum { LANES = 4, LANE_MIN = 256, LANE_MAX = 8192 };

/* Scan ends lo .. lo + 4*stride - 1 in four interleaved lanes, lane j taking the stretch that
 * begins at lo + j*stride. A hit in lane 0 is final; a hit in a higher lane is only remembered,
 * since a lower lane may still find an earlier end. */
static HOT size_t scan_block(const struct rabin *r, const uint8_t *base, size_t lo, size_t stride)
{
    const uint64_t mask = r->mask;
    const uint8_t *in0 = base + lo - WINDOW, *in1 = in0 + stride;
    const uint8_t *in2 = in1 + stride, *in3 = in2 + stride;
    uint64_t f0 = 0, f1 = 0, f2 = 0, f3 = 0;
    for (int i = 0; i < WINDOW; i++) {
        f0 = push(r, f0, in0[i]);
        f1 = push(r, f1, in1[i]);
        f2 = push(r, f2, in2[i]);
        f3 = push(r, f3, in3[i]);
    }
    size_t best = SIZE_MAX;
    for (size_t i = 0;;) {
        if (UNLIKELY((f0 & mask) == 0))
            return lo + i;
        if (UNLIKELY((f1 & mask) == 0) && lo + stride + i < best)
            best = lo + stride + i;
        if (UNLIKELY((f2 & mask) == 0) && lo + 2 * stride + i < best)
            best = lo + 2 * stride + i;
        if (UNLIKELY((f3 & mask) == 0) && lo + 3 * stride + i < best)
            best = lo + 3 * stride + i;
        if (i == stride - 1)
            break;
        f0 = roll(r, f0, in0[i + WINDOW], in0[i]);
        f1 = roll(r, f1, in1[i + WINDOW], in1[i]);
        f2 = roll(r, f2, in2[i + WINDOW], in2[i]);
        f3 = roll(r, f3, in3[i + WINDOW], in3[i]);
        i++;
    }
    return best == SIZE_MAX ? 0 : best;
}

static size_t scan_lanes(const struct rabin *r, const uint8_t *base, size_t lo, size_t hi)
{
    while (lo <= hi && hi - lo + 1 >= LANES * LANE_MIN) {
        size_t stride = (hi - lo + 1) / LANES;
        if (stride > LANE_MAX)
            stride = LANE_MAX;
        size_t end = scan_block(r, base, lo, stride);
        if (end)
            return end;
        lo += LANES * stride;
    }
    return scan_plain(r, base, lo, hi);
}

/* ---- 2. Chunker state ---------------------------------------------------------------------- */

struct chunker {
    struct rabin rabin;
    scan_fn *scan;
    size_t min_size, max_size;
    size_t length;          /* bytes of the current chunk so far; its end was examined already */
    uint8_t tail[WINDOW];   /* the last 64 bytes seen; meaningful as far as `length` reaches */
};

struct offsets {
    size_t *items;
    size_t count, capacity;
};

static bool offsets_append(struct offsets *o, size_t value)
{
    if (o->count == o->capacity) {
        size_t capacity = o->capacity ? 2 * o->capacity : 16;
        size_t *items = realloc(o->items, capacity * sizeof *items);
        if (!items)
            return false;
        o->items = items;
        o->capacity = capacity;
    }
    o->items[o->count++] = value;
    return true;
}

/* Scan over the seam between two buffers: windows of ends below 64 begin in the tail. */
static size_t scan_seam(const struct chunker *c, const uint8_t *data, size_t lo, size_t hi)
{
    if (lo >= WINDOW)
        return c->scan(&c->rabin, data, lo, hi);
    uint8_t seam[2 * WINDOW] = {0};
    size_t last = hi < WINDOW ? hi : WINDOW - 1;
    memcpy(seam, c->tail, WINDOW);
    memcpy(seam + WINDOW, data, last);
    size_t end = scan_plain(&c->rabin, seam, WINDOW + lo, WINDOW + last);
    if (end)
        return end - WINDOW;
    return c->scan(&c->rabin, data, WINDOW, hi);
}

/* The next cut after `from`, where the chunk is c->length long; 0 if it is not in this buffer. */
static size_t next_cut(const struct chunker *c, const uint8_t *data, size_t size, size_t from)
{
    size_t step = c->length < c->min_size ? c->min_size - c->length : 1;
    size_t forced = c->max_size - c->length;
    size_t room = size - from;
    if (step > room)
        return 0;
    size_t end = scan_seam(c, data, from + step, from + (forced < room ? forced : room));
    if (!end && forced <= room)
        return from + forced;
    return end;
}

static void remember_tail(struct chunker *c, const uint8_t *data, size_t size)
{
    if (size >= WINDOW) {
        memcpy(c->tail, data + size - WINDOW, WINDOW);
    } else if (size) {
        memmove(c->tail, c->tail + size, WINDOW - size);
        memcpy(c->tail + WINDOW - size, data, size);
    }
}

/* False when memory ran out; the state is then unchanged. */
static bool chunker_feed(struct chunker *c, const uint8_t *data, size_t size, struct offsets *cuts)
{
    size_t from = 0, before = c->length;
    for (size_t end; (end = next_cut(c, data, size, from)); from = end) {
        if (!offsets_append(cuts, end)) {
            c->length = before;
            return false;
        }
        c->length = 0;
    }
    c->length += size - from;
    remember_tail(c, data, size);
    return true;
}

/* ---- 3. Stat records -----------------------------------------------------------------------
 *
 * offset size  field (little-endian)      offset size  field
 *      0    4  mode                           32    8  rdev
 *      4    4  nlink, saturating              40    8  size, signed
 *      8    4  uid                            48    8  mtime seconds, signed
 *     12    4  gid                            56    8  ctime seconds, signed
 *     16    8  dev                            64    4  mtime nanoseconds
 *     24    8  ino                            68    4  ctime nanoseconds
 */
enum { RECORD = 72 };

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static void put64(uint8_t *p, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

#if defined(__APPLE__)
#define ST_MTIM st_mtimespec
#define ST_CTIM st_ctimespec
#else
#define ST_MTIM st_mtim
#define ST_CTIM st_ctim
#endif

static void put_record(uint8_t *p, const struct stat *st)
{
    put32(p + 0, (uint32_t)st->st_mode);
    put32(p + 4, (uint64_t)st->st_nlink > UINT32_MAX ? UINT32_MAX : (uint32_t)st->st_nlink);
    put32(p + 8, (uint32_t)st->st_uid);
    put32(p + 12, (uint32_t)st->st_gid);
    put64(p + 16, (uint64_t)st->st_dev);
    put64(p + 24, (uint64_t)st->st_ino);
    put64(p + 32, (uint64_t)st->st_rdev);
    put64(p + 40, (uint64_t)st->st_size);
    put64(p + 48, (uint64_t)st->ST_MTIM.tv_sec);
    put64(p + 56, (uint64_t)st->ST_CTIM.tv_sec);
    put32(p + 64, (uint32_t)st->ST_MTIM.tv_nsec);
    put32(p + 68, (uint32_t)st->ST_CTIM.tv_nsec);
}

/* ---- 4. Directory listing ------------------------------------------------------------------ */

struct entry {
    size_t offset;              /* into the arena, while it may still move */
    const char *name;
    size_t length;
    uint8_t record[RECORD];
};

struct listing {
    char *arena;                /* names, each with its NUL */
    size_t used, capacity;
    struct entry *entries;
    size_t count, slots;
};

static void listing_free(struct listing *l)
{
    free(l->arena);
    free(l->entries);
}

static bool grow(void **memory, size_t *capacity, size_t needed, size_t item, size_t first)
{
    if (needed <= *capacity)
        return true;
    size_t larger = *capacity ? 2 * *capacity : first;
    void *moved = realloc(*memory, (larger < needed ? needed : larger) * item);
    if (!moved)
        return false;
    *memory = moved;
    *capacity = larger < needed ? needed : larger;
    return true;
}

static bool listing_append(struct listing *l, const char *name)
{
    size_t length = strlen(name);
    if (!grow((void **)&l->arena, &l->capacity, l->used + length + 1, 1, 4096) ||
        !grow((void **)&l->entries, &l->slots, l->count + 1, sizeof *l->entries, 64))
        return false;
    memcpy(l->arena + l->used, name, length + 1);
    l->entries[l->count].offset = l->used;
    l->entries[l->count].length = length;
    l->used += length + 1;
    l->count++;
    return true;
}

static bool is_dots(const char *name)
{
    return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

static int open_directory(const char *path)
{
    int fd;
    do
        fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* All names of the stream in its own order; 0 or an errno. */
static int list_names(struct listing *l, DIR *stream)
{
    for (;;) {
        errno = 0;
        struct dirent *d = readdir(stream);
        if (!d)
            return errno;
        if (!is_dots(d->d_name) && !listing_append(l, d->d_name))
            return ENOMEM;
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

/* Sort by raw bytes (strcmp compares as unsigned char) and keep a name that was listed twice, as
 * happens when a directory changes while it is read, once. */
static void sort_names(struct listing *l)
{
    for (size_t i = 0; i < l->count; i++)
        l->entries[i].name = l->arena + l->entries[i].offset;
    if (l->count)
        qsort(l->entries, l->count, sizeof *l->entries, by_name);
    size_t kept = 0;
    for (size_t i = 0; i < l->count; i++)
        if (!kept || by_name(&l->entries[kept - 1], &l->entries[i]) != 0)
            l->entries[kept++] = l->entries[i];
    l->count = kept;
}

/* Fill in the records; drop what vanished since it was listed. */
static void stat_names(struct listing *l, int directory)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->count; i++) {
        struct entry *e = &l->entries[i];
        struct stat st;
        if (fstatat(directory, e->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            put_record(e->record, &st);
        else if (errno == ENOENT)
            continue;
        else
            memset(e->record, 0xff, RECORD);
        l->entries[kept++] = *e;
    }
    l->count = kept;
}

/* 0 or an errno. */
static int list_directory(struct listing *l, const char *path)
{
    int fd = open_directory(path);
    if (fd < 0)
        return errno;
    DIR *stream = fdopendir(fd);
    if (!stream) {
        int error = errno;
        close(fd);
        return error;
    }
    int error = list_names(l, stream);
    if (!error) {
        sort_names(l);
        stat_names(l, fd);
    }
    closedir(stream);
    return error;
}

/* ---- 5. Reading small files ----------------------------------------------------------------
 *
 * Files are read one behind the other into an arena without the GIL; when it is full, the bytes
 * objects are made with the GIL and the arena is used again. Reading straight into bytes objects would
 * save a copy, about 1.5 of the 8 microseconds that a file of 16 KiB takes, but needs the GIL, or as many
 * open files as there are names, between learning a size and reading.
 */
enum { ARENA = 1 << 20 };

struct slot {
    int error;                  /* errno, or 0 */
    bool has_record;
    size_t offset, length;      /* of the content in the arena */
    uint8_t record[RECORD];
};

struct reader {
    int directory;
    size_t limit;
    uint8_t *arena;
    size_t used, capacity;      /* capacity > limit, so that an empty arena holds any file */
};

static int open_file(int directory, const char *name)
{
    /* O_NONBLOCK: a name that became a fifo must not hang us. */
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, fd;
    do {
        fd = openat(directory, name, flags | O_NOATIME);
        if (fd < 0 && errno == EPERM)       /* O_NOATIME is the owner's privilege */
            fd = openat(directory, name, flags);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

/* Read until `want` bytes or the end; the count, or -1 with errno set. */
static ssize_t read_upto(int fd, uint8_t *to, size_t have, size_t want)
{
    while (have < want) {
        ssize_t n = read(fd, to + have, want - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    return (ssize_t)have;
}

enum outcome { DONE, NO_ROOM };

/* The content of an open file. One byte more than st_size is asked for, which tells the end of the
 * file without a second read(); a file that has grown (or lives in /proc, with st_size 0) is read
 * on up to limit + 1. */
static enum outcome read_content(struct reader *r, int fd, const struct stat *st, struct slot *slot)
{
    size_t most = r->limit + 1, room = r->capacity - r->used;
    size_t want = (uint64_t)st->st_size < r->limit ? (size_t)st->st_size + 1 : most;
    if (want > room)
        return NO_ROOM;
    uint8_t *to = r->arena + r->used;
    ssize_t n = read_upto(fd, to, 0, want);
    if (n >= 0 && (size_t)n == want && want < most) {
        if (most > room)
            return NO_ROOM;
        n = read_upto(fd, to, want, most);
    }
    if (n < 0) {
        slot->error = errno;
        return DONE;
    }
    slot->offset = r->used;
    slot->length = (size_t)n;
    r->used += (size_t)n;
    return DONE;
}

static enum outcome read_opened(struct reader *r, int fd, struct slot *slot)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        slot->error = errno;
        return DONE;
    }
    put_record(slot->record, &st);
    slot->has_record = true;
    if (!S_ISREG(st.st_mode)) {
        slot->error = ESTALE;
        return DONE;
    }
    return read_content(r, fd, &st, slot);
}

/* NO_ROOM: nothing was kept; call again for this name with an empty arena. */
static enum outcome read_one(struct reader *r, const char *name, struct slot *slot)
{
    memset(slot, 0, sizeof *slot);
    int fd = open_file(r->directory, name);
    if (fd < 0) {
        slot->error = errno;
        return DONE;
    }
    enum outcome outcome = read_opened(r, fd, slot);
    close(fd);
    return outcome;
}

/* Read names[0..count) until the arena is full; the number of slots filled. */
static size_t read_batch(struct reader *r, const char **names, size_t count, struct slot *slots)
{
    r->used = 0;
    for (size_t i = 0; i < count; i++)
        if (read_one(r, names[i], &slots[i]) == NO_ROOM)
            return i;
    return count;
}

/* ---- 6. Self test -------------------------------------------------------------------------- */

enum { TEST_SIZE = 4096 };
static const uint64_t TEST_POLYNOMIAL = 0x3da3358b4dc173;
static const unsigned TEST_BITS = 9;
/* The ends found in the data of test_data() by reference.py. */
static const uint16_t TEST_ENDS[] = {
    532, 1201, 1709, 1718, 1787, 1823, 1971, 2457, 2735, 2803, 3284, 3383, 3555,
};

static void test_data(uint8_t data[TEST_SIZE])
{
    uint32_t x = 2463534242u;       /* xorshift32, Marsaglia 2003 */
    for (int i = 0; i < TEST_SIZE; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        data[i] = (uint8_t)(x >> 24);
    }
}

/* Does this scan find the ends of the test vector, all of them and no others? */
static bool passes_test(scan_fn *scan)
{
    uint8_t data[TEST_SIZE];
    struct rabin r;
    test_data(data);
    rabin_init(&r, TEST_POLYNOMIAL, TEST_BITS);
    size_t lo = WINDOW;
    for (size_t i = 0; i < sizeof TEST_ENDS / sizeof *TEST_ENDS; i++) {
        if (scan(&r, data, lo, TEST_SIZE) != TEST_ENDS[i])
            return false;
        lo = (size_t)TEST_ENDS[i] + 1;
    }
    return scan(&r, data, lo, TEST_SIZE) == 0;
}

/* ---- 7. Python: Chunker -------------------------------------------------------------------- */

/* Below this a feed holds the GIL: handing it over can cost more than the 20 microseconds saved. */
enum { GIL_BYTES = 32768 };

static scan_fn *scan_in_use = scan_plain;

typedef struct {
    PyObject_HEAD
    uint64_t polynomial;
    unsigned average_bits;
    bool busy;                  /* read and written with the GIL held */
    struct chunker state;
} ChunkerObject;

bool parse_bounded(PyObject *object, const char *name, uint64_t low, uint64_t high,
                   uint64_t *value)
{
    PyObject *index = PyNumber_Index(object);
    if (!index)
        return false;
    *value = PyLong_AsUnsignedLongLong(index);
    bool overflow = PyErr_Occurred() != NULL;
    PyErr_Clear();
    if (overflow || *value < low || *value > high) {
        PyErr_Format(PyExc_ValueError, "%s must be between %llu and %llu, not %S", name,
                     (unsigned long long)low, (unsigned long long)high, index);
        Py_DECREF(index);
        return false;
    }
    Py_DECREF(index);
    return true;
}

bool check_arguments(const char *function, Py_ssize_t given, Py_ssize_t least, Py_ssize_t most)
{
    if (least <= given && given <= most)
        return true;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd to %zd arguments, not %zd", function, least, most,
                 given);
    return false;
}

static bool parse_polynomial(PyObject *object, uint64_t *value)
{
    PyObject *index = PyNumber_Index(object);
    if (!index)
        return false;
    *value = PyLong_AsUnsignedLongLong(index);
    PyErr_Clear();              /* an overflow gives all ones, refused below */
    if (*value >> DEGREE != 1) {
        PyErr_Format(PyExc_ValueError, "polynomial must have degree 53, which %S has not", index);
        Py_DECREF(index);
        return false;
    }
    Py_DECREF(index);
    return true;
}

static bool parse_or_keep(PyObject *object, const char *name, uint64_t low, uint64_t high,
                          uint64_t *value)
{
    return !object || parse_bounded(object, name, low, high, value);
}

static PyObject *Chunker_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"polynomial", "min_size", "max_size", "average_bits", NULL};
    PyObject *polynomial_arg, *min_arg = NULL, *max_arg = NULL, *bits_arg = NULL;
    uint64_t polynomial, min_size = 524288, max_size = 8388608, average_bits = 20;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOO:Chunker", keywords, &polynomial_arg,
                                     &min_arg, &max_arg, &bits_arg))
        return NULL;
    if (!parse_polynomial(polynomial_arg, &polynomial) ||
        !parse_or_keep(min_arg, "min_size", WINDOW, UINT32_MAX, &min_size))
        return NULL;
    if (!parse_or_keep(max_arg, "max_size", min_size, UINT32_MAX, &max_size) ||
        !parse_or_keep(bits_arg, "average_bits", 1, 32, &average_bits))
        return NULL;
    ChunkerObject *self = (ChunkerObject *)type->tp_alloc(type, 0);
    if (!self)
        return NULL;
    self->polynomial = polynomial;
    self->average_bits = (unsigned)average_bits;
    self->state.scan = scan_in_use;
    self->state.min_size = (size_t)min_size;
    self->state.max_size = (size_t)max_size;
    rabin_init(&self->state.rabin, polynomial, (unsigned)average_bits);
    return (PyObject *)self;
}

static void Chunker_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static bool check_idle(const ChunkerObject *self)
{
    if (self->busy)
        PyErr_SetString(PyExc_RuntimeError,
                        "this Chunker is in use by another thread; give each file its own");
    return !self->busy;
}

static PyObject *offsets_as_list(const struct offsets *o)
{
    PyObject *list = PyList_New((Py_ssize_t)o->count);
    for (size_t i = 0; list && i < o->count; i++) {
        PyObject *item = PyLong_FromSize_t(o->items[i]);
        if (!item) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return list;
}

static PyObject *Chunker_feed(ChunkerObject *self, PyObject *data)
{
    Py_buffer view;
    struct offsets cuts = {0};
    bool ok;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) != 0)
        return NULL;
    if (!check_idle(self)) {
        PyBuffer_Release(&view);
        return NULL;
    }
    if (view.len < GIL_BYTES) {
        ok = chunker_feed(&self->state, view.buf, (size_t)view.len, &cuts);
    } else {
        self->busy = true;
        Py_BEGIN_ALLOW_THREADS
        ok = chunker_feed(&self->state, view.buf, (size_t)view.len, &cuts);
        Py_END_ALLOW_THREADS
        self->busy = false;
    }
    PyBuffer_Release(&view);
    PyObject *list = ok ? offsets_as_list(&cuts) : PyErr_NoMemory();
    free(cuts.items);
    return list;
}

static PyObject *Chunker_reset(ChunkerObject *self, PyObject *Py_UNUSED(ignored))
{
    if (!check_idle(self))
        return NULL;
    self->state.length = 0;
    Py_RETURN_NONE;
}

static PyObject *Chunker_get_polynomial(ChunkerObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(self->polynomial);
}

static PyObject *Chunker_get_min_size(ChunkerObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->state.min_size);
}

static PyObject *Chunker_get_max_size(ChunkerObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->state.max_size);
}

static PyObject *Chunker_get_average_bits(ChunkerObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(self->average_bits);
}

static PyMethodDef Chunker_methods[] = {
    {"feed", (PyCFunction)Chunker_feed, METH_O,
     "feed($self, data, /)\n--\n\nOffsets in data just after which a blob ends, ascending."},
    {"reset", (PyCFunction)Chunker_reset, METH_NOARGS,
     "reset($self, /)\n--\n\nForget the current chunk: the next byte is the first of a file."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef Chunker_getset[] = {
    {"polynomial", (getter)Chunker_get_polynomial, NULL, "Bit i is the coefficient of x^i.", NULL},
    {"min_size", (getter)Chunker_get_min_size, NULL, "Smallest blob, in bytes.", NULL},
    {"max_size", (getter)Chunker_get_max_size, NULL, "Largest blob, in bytes.", NULL},
    {"average_bits", (getter)Chunker_get_average_bits, NULL,
     "A cut needs this many zero bits in the fingerprint.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot Chunker_slots[] = {
    {Py_tp_doc, "Chunker(polynomial, min_size=524288, max_size=8388608, average_bits=20)\n--\n\n"
                "Content-defined cut points by restic's rule; see reference.Chunker."},
    {Py_tp_new, Chunker_new},
    {Py_tp_dealloc, Chunker_dealloc},
    {Py_tp_methods, Chunker_methods},
    {Py_tp_getset, Chunker_getset},
    {0, NULL},
};

static PyType_Spec Chunker_spec = {
    .name = "cdr_plugin.kernel._kernel.Chunker",
    .basicsize = sizeof(ChunkerObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = Chunker_slots,
};

/* ---- 8. Python: scan_directory, read_files ------------------------------------------------- */

/* The C string of a bytes object (borrowed); NULL with TypeError or ValueError set. */
static const char *c_string(PyObject *object, const char *what)
{
    if (!PyBytes_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be bytes, not %.80s", what,
                     Py_TYPE(object)->tp_name);
        return NULL;
    }
    const char *text = PyBytes_AS_STRING(object);
    if (strlen(text) != (size_t)PyBytes_GET_SIZE(object)) {
        PyErr_Format(PyExc_ValueError, "%s contains a null byte: %R", what, object);
        return NULL;
    }
    return text;
}

const char *name_string(PyObject *name)
{
    const char *text = c_string(name, "name");
    /* A slash would have the kernel follow symbolic links in the middle of the name. */
    if (text && strchr(text, '/')) {
        PyErr_Format(PyExc_ValueError, "name contains a slash: %R", name);
        return NULL;
    }
    return text;
}

static PyObject *listing_as_tuple(const struct listing *l)
{
    PyObject *names = PyList_New((Py_ssize_t)l->count);
    PyObject *records = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(l->count * RECORD));
    for (size_t i = 0; names && records && i < l->count; i++) {
        const struct entry *e = &l->entries[i];
        PyObject *name = PyBytes_FromStringAndSize(e->name, (Py_ssize_t)e->length);
        if (!name) {
            Py_CLEAR(names);
            break;
        }
        PyList_SET_ITEM(names, (Py_ssize_t)i, name);
        memcpy(PyBytes_AS_STRING(records) + i * RECORD, e->record, RECORD);
    }
    if (names && records)
        return Py_BuildValue("(NN)", names, records);
    Py_XDECREF(names);
    Py_XDECREF(records);
    return NULL;
}

static PyObject *kernel_scan_directory(PyObject *Py_UNUSED(module), PyObject *path)
{
    const char *text = c_string(path, "path");
    if (!text)
        return NULL;
    struct listing listing = {0};
    PyObject *result = NULL;
    int error;
    Py_BEGIN_ALLOW_THREADS
    error = list_directory(&listing, text);
    Py_END_ALLOW_THREADS
    if (error) {
        errno = error;
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    } else {
        result = listing_as_tuple(&listing);
    }
    listing_free(&listing);
    return result;
}

/* C strings of a tuple of names (borrowed from it), to be freed; NULL with an exception set. */
static const char **name_strings(PyObject *names)
{
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    const char **strings = PyMem_New(const char *, count ? count : 1);
    if (!strings)
        return (void *)PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count; i++) {
        strings[i] = name_string(PyTuple_GET_ITEM(names, i));
        if (!strings[i]) {
            PyMem_Free(strings);
            return NULL;
        }
    }
    return strings;
}

static PyObject *slot_as_tuple(const struct reader *r, const struct slot *slot)
{
    PyObject *content = slot->error
        ? PyLong_FromLong(slot->error)
        : PyBytes_FromStringAndSize((const char *)r->arena + slot->offset,
                                    (Py_ssize_t)slot->length);
    PyObject *record = PyBytes_FromStringAndSize((const char *)slot->record,
                                                 slot->has_record ? RECORD : 0);
    if (content && record)
        return Py_BuildValue("(NN)", content, record);
    Py_XDECREF(content);
    Py_XDECREF(record);
    return NULL;
}

static PyObject *read_into_list(struct reader *r, const char **names, size_t count,
                                struct slot *slots)
{
    PyObject *results = PyList_New((Py_ssize_t)count);
    for (size_t done = 0; results && done < count;) {
        size_t filled;
        Py_BEGIN_ALLOW_THREADS
        filled = read_batch(r, names + done, count - done, slots);
        Py_END_ALLOW_THREADS
        for (size_t i = 0; results && i < filled; i++, done++) {
            PyObject *item = slot_as_tuple(r, &slots[i]);
            if (item)
                PyList_SET_ITEM(results, (Py_ssize_t)done, item);
            else
                Py_CLEAR(results);
        }
    }
    return results;
}

/* Open the directory, make the arena, read; everything acquired here is released here. */
static PyObject *read_from(PyObject *directory, const char *path, const char **names, size_t count,
                           size_t limit)
{
    struct reader r = {.limit = limit, .capacity = limit < ARENA ? ARENA : limit + 1};
    struct slot *slots = malloc((count ? count : 1) * sizeof *slots);
    PyObject *results = NULL;
    r.arena = malloc(r.capacity);
    if (!r.arena || !slots) {
        PyErr_NoMemory();
    } else if ((r.directory = open_directory(path)) < 0) {
        PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, directory);
    } else {
        results = read_into_list(&r, names, count, slots);
        close(r.directory);
    }
    free(r.arena);
    free(slots);
    return results;
}

static PyObject *kernel_read_files(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"directory", "names", "limit", NULL};
    PyObject *directory, *sequence, *limit_arg;
    uint64_t limit;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:read_files", keywords, &directory,
                                     &sequence, &limit_arg) ||
        !parse_bounded(limit_arg, "limit", 0, INT32_MAX, &limit))
        return NULL;
    const char *path = c_string(directory, "directory");
    /* A tuple of our own: another thread may change a list while the GIL is released. */
    PyObject *names = path ? PySequence_Tuple(sequence) : NULL;
    const char **strings = names ? name_strings(names) : NULL;
    PyObject *results = strings
        ? read_from(directory, path, strings, (size_t)PyTuple_GET_SIZE(names), (size_t)limit)
        : NULL;
    PyMem_Free(strings);
    Py_XDECREF(names);
    return results;
}

/* ---- 9. Module ----------------------------------------------------------------------------- */

static PyObject *kernel_use_fast_path(PyObject *Py_UNUSED(module), PyObject *flag)
{
    int wanted = PyObject_IsTrue(flag);
    if (wanted < 0)
        return NULL;
    if (wanted && !passes_test(scan_lanes)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the four-lane scan does not reproduce its test vector on this machine");
        return NULL;
    }
    bool before = scan_in_use == scan_lanes;
    scan_in_use = wanted ? scan_lanes : scan_plain;
    return PyBool_FromLong(before);
}

static PyMethodDef module_methods[] = {
    {"scan_directory", kernel_scan_directory, METH_O,
     "scan_directory($module, path, /)\n--\n\nSorted names and their 72-byte stat records."},
    {"read_files", (PyCFunction)(void (*)(void))kernel_read_files, METH_VARARGS | METH_KEYWORDS,
     "read_files($module, /, directory, names, limit)\n--\n\n"
     "For each name its content (or an errno) and its 72-byte stat record (or nothing)."},
    {"make_files", (PyCFunction)(void (*)(void))kernel_make_files, METH_FASTCALL,
     "make_files($module, files, sparse, /)\n--\n\n"
     "Make files under their final names; index, step and errno of each failure."},
    {"scan_index", (PyCFunction)(void (*)(void))kernel_scan_index, METH_FASTCALL,
     "scan_index($module, data, least_length, compressed, /)\n--\n\n"
     "Packed packs and blobs of an index file as restic writes them, or None."},
    {"use_fast_path", kernel_use_fast_path, METH_O,
     "use_fast_path($module, enabled, /)\n--\n\n"
     "Choose the scan of Chunkers made from now on; tells the earlier choice. For tests."},
    {NULL, NULL, 0, NULL},
};

int add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int failed = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    return failed;
}

/* A plain scan that misses the test vector means a broken build: better no C kernel than wrong cuts.
 * Lanes that miss it are merely not used. Both tests together take about 60 microseconds. */
static int module_exec(PyObject *module)
{
    if (!passes_test(scan_plain)) {
        PyErr_SetString(PyExc_ImportError, "the chunker does not reproduce its test vector");
        return -1;
    }
    scan_in_use = passes_test(scan_lanes) ? scan_lanes : scan_plain;
    if (add_type(module, &Chunker_spec) < 0 || add_blob_table(module) < 0 || add_block_match(module) < 0)
        return -1;
    return add_block_sample(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "cdr_plugin.kernel._kernel",
    .m_doc = "Rabin cut points, directory scans, batches of files to read and to make, blob tables, "
             "and block matching, in C.",
    .m_size = 0,
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__kernel(void)
{
    return PyModuleDef_Init(&module_definition);
}

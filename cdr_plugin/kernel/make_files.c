/* Whole files, from nothing to their final names: a batch of them without the GIL.
 *
 * file_making.py promises what this does and is its oracle. One system call after the other from Python gave
 * the GIL away 8 times per file; with readers at work on the other core, winning it back took longer than
 * all the calls together.
 */
#define _GNU_SOURCE
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

/* ---- 1. One file (no Python objects) --------------------------------------------------------- */

/* file_steps.Step */
enum step { NO_STEP, CREATE, WRITE, OWN, MODE, TIMES, CLOSE, LOOK, RENAME };
enum { HOLE_BYTES = 4096 };     /* shorter runs of zeros save no block on any usual file system */

struct file {
    int directory;
    const char *temporary, *name;
    const uint8_t *content;
    size_t size;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    int64_t atime_ns, mtime_ns;
    bool keep;
    enum step step;             /* the first that failed, or the one that ended the work */
    int error;                  /* its errno */
};

/* A step that failed and after which the work goes on. */
static void note(struct file *f, enum step step)
{
    if (f->step == NO_STEP) {
        f->step = step;
        f->error = errno;
    }
}

/* A step that ends the work. */
static bool fail(struct file *f, enum step step)
{
    f->step = step;
    f->error = errno;
    return false;
}

/* What everybody may read in the end, and only its owner write, need not be hidden until it is complete. */
static mode_t first_mode(mode_t mode)
{
    return (mode & 0644) == 0644 && !(mode & 07022) ? mode : 0600;
}

static int create(const struct file *f)
{
    int fd;
    do
        fd = openat(f->directory, f->temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                    first_mode(f->mode));
    while (fd < 0 && errno == EINTR);
    return fd;
}

static size_t zeros_in_front(const uint8_t *data, size_t size)
{
    size_t count = 0;
    while (count < size && !data[count])
        count++;
    return count;
}

static size_t zeros_behind(const uint8_t *data, size_t size)
{
    size_t count = 0;
    while (count < size && !data[size - 1 - count])
        count++;
    return count;
}

static bool write_range(int fd, const uint8_t *data, size_t start, size_t end)
{
    while (start < end) {
        ssize_t n = pwrite(fd, data + start, end - start, (off_t)start);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = EIO;
        if (n <= 0)
            return false;
        start += (size_t)n;
    }
    return true;
}

static bool write_content(int fd, const struct file *f, bool sparse)
{
    size_t start = 0, end = f->size;
    if (sparse && f->size >= HOLE_BYTES) {
        size_t front = zeros_in_front(f->content, f->size);
        size_t behind = zeros_behind(f->content, f->size);
        start = front >= HOLE_BYTES ? front : 0;
        end -= behind >= HOLE_BYTES ? behind : 0;
    }
    if (!write_range(fd, f->content, start, end))
        return false;
    int failed = 0;
    if (end < f->size)
        do
            failed = ftruncate(fd, (off_t)f->size);
        while (failed && errno == EINTR);
    return !failed;
}

static struct timespec timespec_of(int64_t ns)
{
    int64_t seconds = ns / 1000000000, rest = ns % 1000000000;
    if (rest < 0) {
        seconds--;
        rest += 1000000000;
    }
    return (struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)rest};
}

/* Owner before mode, since changing the owner clears setuid; where the owner may not be set, neither
 * setuid nor setgid is, or the file would run as somebody else. */
static void apply_metadata(int fd, struct file *f, const struct stat *now, bool root)
{
    bool owned = now->st_uid == f->uid && now->st_gid == f->gid;
    if (!owned && !(owned = fchown(fd, f->uid, f->gid) == 0) && (root || (errno != EPERM && errno != EACCES)))
        note(f, OWN);
    mode_t mode = owned ? f->mode : f->mode & ~(mode_t)(S_ISUID | S_ISGID);
    if ((now->st_mode & 07777) != mode && fchmod(fd, mode) != 0)
        note(f, MODE);
    struct timespec times[2] = {timespec_of(f->atime_ns), timespec_of(f->mtime_ns)};
    if (futimens(fd, times) != 0)
        note(f, TIMES);
}

static bool fill(int fd, struct file *f, bool sparse, bool root)
{
    struct stat now;
    bool written = write_content(fd, f, sparse) && fstat(fd, &now) == 0;
    if (!written)
        (void)fail(f, WRITE);
    else
        apply_metadata(fd, f, &now, root);
    if (close(fd) != 0 && errno != EINTR && written)
        return fail(f, CLOSE);
    return written;
}

static bool take_name(struct file *f)
{
    struct stat st;
    if (f->keep) {
        if (fstatat(f->directory, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            errno = EEXIST;
        if (errno != ENOENT)
            return fail(f, LOOK);
    }
    return renameat(f->directory, f->temporary, f->directory, f->name) == 0 || fail(f, RENAME);
}

static void make_file(struct file *f, bool sparse, bool root)
{
    int fd = create(f);
    if (fd < 0)
        (void)fail(f, CREATE);
    else if (!fill(fd, f, sparse, root) || !take_name(f))
        (void)unlinkat(f->directory, f->temporary, 0);
}

/* ---- 2. Python ------------------------------------------------------------------------------- */

enum { FIELDS = 10 };

static bool parse_time(PyObject *object, const char *what, int64_t *ns)
{
    int overflow;
    PyObject *index = PyNumber_Index(object);
    if (!index)
        return false;
    *ns = PyLong_AsLongLongAndOverflow(index, &overflow);
    if (overflow)
        PyErr_Format(PyExc_ValueError, "%s must be between %lld and %lld, not %S", what, LLONG_MIN, LLONG_MAX,
                     index);
    Py_DECREF(index);
    return !overflow;
}

/* Fill in a file from its tuple, from which it borrows; the buffer is the caller's to release. */
static bool parse_file(PyObject *item, struct file *f, Py_buffer *content)
{
    uint64_t directory, mode, uid, gid;
    if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != FIELDS) {
        PyErr_Format(PyExc_TypeError, "a file must be a tuple of %d fields", FIELDS);
        return false;
    }
    PyObject **fields = &PyTuple_GET_ITEM(item, 0);
    if (!parse_bounded(fields[0], "directory", 0, INT_MAX, &directory) ||
        !(f->temporary = name_string(fields[1])) || !(f->name = name_string(fields[2])) ||
        !parse_bounded(fields[4], "mode", 0, 07777, &mode) ||
        !parse_bounded(fields[5], "uid", 0, UINT32_MAX - 1, &uid) ||
        !parse_bounded(fields[6], "gid", 0, UINT32_MAX - 1, &gid) ||
        !parse_time(fields[7], "atime_ns", &f->atime_ns) || !parse_time(fields[8], "mtime_ns", &f->mtime_ns))
        return false;
    int keep = PyObject_IsTrue(fields[9]);
    if (keep < 0 || PyObject_GetBuffer(fields[3], content, PyBUF_SIMPLE) < 0)
        return false;
    f->directory = (int)directory;
    f->mode = (mode_t)mode;
    f->uid = (uid_t)uid;
    f->gid = (gid_t)gid;
    f->keep = keep;
    f->content = content->buf;
    f->size = (size_t)content->len;
    return true;
}

static PyObject *failures_as_list(const struct file *files, Py_ssize_t count)
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list && i < count; i++) {
        if (files[i].step == NO_STEP)
            continue;
        PyObject *failure = Py_BuildValue("(nii)", i, (int)files[i].step, files[i].error);
        if (!failure || PyList_Append(list, failure) < 0)
            Py_CLEAR(list);
        Py_XDECREF(failure);
    }
    return list;
}

static PyObject *make_parsed(PyObject *items, struct file *files, Py_buffer *contents, bool sparse)
{
    Py_ssize_t count = PyTuple_GET_SIZE(items), parsed = 0;
    PyObject *result = NULL;
    while (parsed < count && parse_file(PyTuple_GET_ITEM(items, parsed), &files[parsed], &contents[parsed]))
        parsed++;
    if (parsed == count) {
        Py_BEGIN_ALLOW_THREADS
        bool root = geteuid() == 0;
        for (Py_ssize_t i = 0; i < count; i++)
            make_file(&files[i], sparse, root);
        Py_END_ALLOW_THREADS
        result = failures_as_list(files, count);
    }
    for (Py_ssize_t i = 0; i < parsed; i++)
        PyBuffer_Release(&contents[i]);
    return result;
}

PyObject *kernel_make_files(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (!check_arguments("make_files", count, 2, 2))
        return NULL;
    int sparse = PyObject_IsTrue(args[1]);
    /* A tuple of our own: another thread may change a list while the GIL is released. */
    PyObject *items = sparse < 0 ? NULL : PySequence_Tuple(args[0]);
    if (!items)
        return NULL;
    size_t slots = PyTuple_GET_SIZE(items) ? (size_t)PyTuple_GET_SIZE(items) : 1;
    struct file *files = calloc(slots, sizeof *files);
    Py_buffer *contents = calloc(slots, sizeof *contents);
    PyObject *result = files && contents ? make_parsed(items, files, contents, sparse) : PyErr_NoMemory();
    free(files);
    free(contents);
    Py_DECREF(items);
    return result;
}

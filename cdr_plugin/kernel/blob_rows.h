/* Rows found by (type, ID): the table under BlobTable, without Python.
 *
 * Memory per blob: a row of 48 bytes, and 4 bytes for each slot of a hash table that is between 53 and 80
 * percent full: 5 to 7.5 bytes. Growing by half, it takes old and new slots at once, 12.5. So 60.5 at most,
 * and a chunk of rows.
 */
#ifndef CDR_BLOB_ROWS_H
#define CDR_BLOB_ROWS_H

#include <stdlib.h>
#include <string.h>

#include "kernel.h"

/* ---- 1. Rows ---------------------------------------------------------------------------------
 *
 * Chunks of equal size: a growing table copies no rows, and addresses last. 4096 rows are 192 KiB.
 */

#define CHUNK_ROWS 4096
#define MAX_ROWS INT32_MAX      /* -1 means none, and a slot holds row + 1 in at most 31 bits */
#define MAX_PACK INT32_MAX

struct row {
    uint8_t id[ID_BYTES];
    uint32_t pack_and_type;     /* type << 31 | pack */
    uint32_t offset, length, plain;
};

struct table {
    struct row **chunks;
    size_t chunk_count, chunk_room;
    uint32_t rows, keys;
    uint32_t *slots;
    uint32_t capacity, limit;   /* slots, and how many of them may be taken */
    unsigned row_bits;          /* of a slot; the others are a tag */
    uint64_t seed[5];
    bool duplicates;
};

static inline struct row *row_at(const struct table *t, uint32_t number)
{
    return &t->chunks[number / CHUNK_ROWS][number % CHUNK_ROWS];
}

static inline unsigned row_type(const struct row *r)
{
    return r->pack_and_type >> 31;
}

static inline uint32_t row_pack(const struct row *r)
{
    return r->pack_and_type & MAX_PACK;
}

static inline struct blob row_as_blob(const struct row *r)
{
    return (struct blob){.type = (uint8_t)row_type(r), .id = r->id, .pack = row_pack(r),
                         .offset = r->offset, .length = r->length, .plain = r->plain};
}

static bool add_chunk(struct table *t)
{
    if (t->chunk_count == t->chunk_room) {
        /* At most MAX_ROWS / CHUNK_ROWS chunks: no overflow. */
        size_t room = t->chunk_room ? 2 * t->chunk_room : 16;
        struct row **chunks = realloc(t->chunks, room * sizeof *chunks);
        if (!chunks)
            return false;
        t->chunks = chunks;
        t->chunk_room = room;
    }
    struct row *chunk = malloc(CHUNK_ROWS * sizeof *chunk);
    if (!chunk)
        return false;
    t->chunks[t->chunk_count++] = chunk;
    return true;
}

/* ---- 2. Hash ---------------------------------------------------------------------------------
 *
 * IDs are hashes already, but an index file may claim any. NH over the words of the ID, with a random key
 * for each table, has any two IDs collide with probability 2^-32 at most, whoever chose them; the mixing
 * after it (of MurmurHash3) loses nothing. The upper half gives the first slot, the lower half the tag.
 */

static inline uint64_t hash_key(const struct table *t, unsigned type, const uint8_t *id)
{
    uint64_t sum = type ? t->seed[4] : 0;
    for (int i = 0; i < 4; i++) {
        uint64_t word;
        memcpy(&word, id + 8 * i, sizeof word);
        sum += (uint64_t)((uint32_t)word + (uint32_t)t->seed[i]) *
               (uint32_t)((uint32_t)(word >> 32) + (uint32_t)(t->seed[i] >> 32));
    }
    sum = (sum ^ sum >> 33) * UINT64_C(0xff51afd7ed558ccd);
    sum = (sum ^ sum >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return sum ^ sum >> 33;
}

static inline uint32_t first_slot(const struct table *t, uint64_t hash)
{
    return (uint32_t)((hash >> 32) * t->capacity >> 32);
}

/* ---- 3. Slots --------------------------------------------------------------------------------
 *
 * Open addressing with linear probing. A slot is 0, or a row number plus 1 under a tag of the hash bits
 * that fit above it (8 of them for 10 million rows), which spares most looks at rows of other keys: each
 * would be a cache miss of about 100 ns.
 */

#define FIRST_CAPACITY 64
#define MAX_CAPACITY UINT32_MAX

static inline uint32_t make_tag(const struct table *t, uint64_t hash)
{
    return (uint32_t)hash << t->row_bits;
}

static inline uint32_t next_slot(const struct table *t, uint32_t slot)
{
    return slot + 1 == t->capacity ? 0 : slot + 1;
}

static inline uint32_t slot_row(const struct table *t, uint32_t value)
{
    return (value & ((UINT32_C(1) << t->row_bits) - 1)) - 1;
}

static inline bool same_tag(const struct table *t, uint32_t value, uint32_t tag)
{
    return (value ^ tag) >> t->row_bits == 0;
}

/* The slot of a key, or the free one where it belongs. The table must have slots. */
static inline uint32_t find_slot(const struct table *t, uint64_t hash, unsigned type,
                                 const uint8_t *id)
{
    uint32_t tag = make_tag(t, hash), slot = first_slot(t, hash);
    for (uint32_t value; (value = t->slots[slot]) != 0; slot = next_slot(t, slot)) {
        if (!same_tag(t, value, tag))
            continue;
        const struct row *r = row_at(t, slot_row(t, value));
        if (row_type(r) == type && memcmp(r->id, id, ID_BYTES) == 0)
            break;
    }
    return slot;
}

/* The first row of a key, or -1. */
static inline int32_t find_row(const struct table *t, uint64_t hash, unsigned type,
                               const uint8_t *id)
{
    if (!t->capacity)
        return -1;
    return (int32_t)slot_row(t, t->slots[find_slot(t, hash, type, id)]);
}

/* Work is done for this many keys or rows at a time, and memory asked for ahead: see section 4. */
#define WINDOW 32

/* Enter a row unless its key is there. Rows entered in order make the first row of each key win. */
static inline void enter_row(struct table *t, uint64_t hash, uint32_t number)
{
    uint32_t slot = first_slot(t, hash);
    if (t->duplicates) {
        const struct row *r = row_at(t, number);
        slot = find_slot(t, hash, row_type(r), r->id);
    } else {
        while (t->slots[slot])
            slot = next_slot(t, slot);
    }
    if (!t->slots[slot])
        t->slots[slot] = make_tag(t, hash) | (number + 1);
}

static void enter_rows(struct table *t, uint32_t first, uint32_t count)
{
    uint64_t hashes[WINDOW];
    for (uint32_t i = 0; i < count; i++) {
        const struct row *r = row_at(t, first + i);
        hashes[i] = hash_key(t, row_type(r), r->id);
        PREFETCH(&t->slots[first_slot(t, hashes[i])]);
    }
    for (uint32_t i = 0; i < count; i++)
        enter_row(t, hashes[i], first + i);
}

static unsigned bits_for(uint64_t number)
{
    unsigned bits = 1;
    while (number >> bits)
        bits++;
    return bits;
}

/* Rebuild with this many slots, from the rows: in order, which is kind to the cache. */
static HOT bool rebuild(struct table *t, uint32_t capacity)
{
    uint32_t *slots = calloc(capacity, sizeof *slots);
    if (!slots)
        return false;
    uint32_t limit = (uint32_t)((uint64_t)capacity * 4 / 5);
    /* With duplicates there may be many more rows than keys. */
    uint64_t most = t->duplicates && 2 * (uint64_t)t->rows > limit ? 2 * (uint64_t)t->rows : limit;
    free(t->slots);
    t->slots = slots;
    t->capacity = capacity;
    t->limit = limit;
    t->row_bits = bits_for(most < MAX_ROWS ? most : MAX_ROWS);
    for (uint32_t done = 0; done < t->rows; done += WINDOW)
        enter_rows(t, done, t->rows - done < WINDOW ? t->rows - done : WINDOW);
    return true;
}

/* Make room for one more row and key; false without memory. */
static inline bool reserve(struct table *t)
{
    if (t->rows == t->chunk_count * CHUNK_ROWS && !add_chunk(t))
        return false;
    if (UNLIKELY(t->keys == t->limit)) {
        uint64_t wanted = t->capacity ? (uint64_t)t->capacity + t->capacity / 2 : FIRST_CAPACITY;
        return rebuild(t, wanted < MAX_CAPACITY ? (uint32_t)wanted : MAX_CAPACITY);
    }
    if (UNLIKELY((t->rows + 1) >> t->row_bits))
        return rebuild(t, t->capacity);
    return true;
}

enum added { KNOWN, NEW, NO_MEMORY, TOO_MANY };

static inline enum added add_blob(struct table *t, uint64_t hash, const struct blob *b)
{
    uint32_t slot = 0;
    bool known = false;
    if (t->capacity) {
        slot = find_slot(t, hash, b->type, b->id);
        known = t->slots[slot] != 0;
        if (known && !t->duplicates)
            return KNOWN;
    }
    if (t->rows == MAX_ROWS)
        return TOO_MANY;
    uint32_t capacity = t->capacity;
    unsigned row_bits = t->row_bits;
    if (!reserve(t))
        return NO_MEMORY;
    if (capacity != t->capacity || row_bits != t->row_bits)
        slot = find_slot(t, hash, b->type, b->id);
    uint32_t number = t->rows++;
    struct row *r = row_at(t, number);
    memcpy(r->id, b->id, ID_BYTES);
    r->pack_and_type = (uint32_t)b->type << 31 | b->pack;
    r->offset = b->offset;
    r->length = b->length;
    r->plain = b->plain;
    if (known)
        return KNOWN;
    t->slots[slot] = make_tag(t, hash) | (number + 1);
    t->keys++;
    return NEW;
}

static void clear_table(struct table *t)
{
    for (size_t i = 0; i < t->chunk_count; i++)
        free(t->chunks[i]);
    free(t->chunks);
    free(t->slots);
}

/* ---- 4. Many keys at a time ------------------------------------------------------------------
 *
 * A lookup waits twice for memory, for the slot and for the row. Asking for WINDOW of them ahead overlaps
 * the waits: of 4 million rows, a miss took 100 ns instead of 140 with slots asked for, a hit 100 instead of
 * 125 with rows asked for, too.
 */

/* Ask for the row that most likely is the one: the first with the tag. */
static inline void prefetch_row(const struct table *t, uint64_t hash)
{
    uint32_t tag = make_tag(t, hash), slot = first_slot(t, hash);
    for (uint32_t value; (value = t->slots[slot]) != 0; slot = next_slot(t, slot))
        if (same_tag(t, value, tag)) {
            PREFETCH(row_at(t, slot_row(t, value)));
            return;
        }
}

/* The first rows of up to WINDOW keys. */
static void find_window(const struct table *t, unsigned type, const uint8_t *ids, size_t count,
                        int32_t *found)
{
    uint64_t hashes[WINDOW];
    if (!t->capacity) {
        memset(found, 0xff, count * sizeof *found);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        hashes[i] = hash_key(t, type, ids + i * ID_BYTES);
        PREFETCH(&t->slots[first_slot(t, hashes[i])]);
    }
    for (size_t i = 0; i < count; i++)
        prefetch_row(t, hashes[i]);
    for (size_t i = 0; i < count; i++)
        found[i] = find_row(t, hashes[i], type, ids + i * ID_BYTES);
}

#endif

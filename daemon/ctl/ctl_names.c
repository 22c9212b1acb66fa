/* ctl_names.c -- see ctl_names.h. Open addressing, at most half full. */
#include "daemon/ctl/ctl_names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/fnv.h"

struct entry {
    char *bytes;
    size_t len;
    uint32_t number;
};

struct ctl_names {
    struct entry *entries; /* (entries_len) in order of arrival, aliases among them */
    uint32_t entries_len, entries_max;
    uint32_t *slots; /* (slots_len) 1 + place in entries, 0: empty; a power of two */
    uint32_t slots_len;
    uint32_t *firsts; /* (len) place in entries of each number's first name */
    uint32_t len, firsts_max;
};

int ctl_names_open(struct ctl_names **ret_names)
{
    struct ctl_names *n = calloc(1, sizeof *n);

    if (n == NULL)
        return -ENOMEM;
    *ret_names = n;
    return 0;
}

void ctl_names_close(struct ctl_names *n)
{
    if (n == NULL)
        return;
    for (uint32_t i = 0; i < n->entries_len; i++)
        free(n->entries[i].bytes);
    free(n->entries);
    free(n->slots);
    free(n->firsts);
    free(n);
}

static uint32_t *slot_of(const struct ctl_names *n, const char *bytes, size_t len)
{
    for (uint64_t at = fnv_add(FNV_INIT, bytes, len);; at++) {
        uint32_t *slot = &n->slots[at & (n->slots_len - 1)];
        const struct entry *e = *slot > 0 ? &n->entries[*slot - 1] : NULL;

        if (e == NULL || (e->len == len && memcmp(e->bytes, bytes, len) == 0))
            return slot;
    }
}

uint32_t ctl_names_find(const struct ctl_names *n, const char *bytes, size_t len)
{
    const uint32_t *slot = n->slots_len > 0 ? slot_of(n, bytes, len) : NULL;

    return slot != NULL && *slot > 0 ? n->entries[*slot - 1].number : CTL_NAMES_NONE;
}

/* Room for one entry and one number more. */
static int grow(struct ctl_names *n)
{
    uint32_t max = n->entries_max * 2 + 16, slots = n->slots_len > 0 ? n->slots_len * 2 : 64;

    if (n->entries_len == n->entries_max) {
        struct entry *bigger = realloc(n->entries, max * sizeof *bigger);
        uint32_t *firsts = realloc(n->firsts, max * sizeof *firsts);

        n->entries = bigger != NULL ? bigger : n->entries;
        n->firsts = firsts != NULL ? firsts : n->firsts;
        if (bigger == NULL || firsts == NULL)
            return -ENOMEM;
        n->entries_max = n->firsts_max = max;
    }
    if ((n->entries_len + 1) * 2 > n->slots_len) {
        free(n->slots);
        n->slots_len = 0;
        n->slots = calloc(slots, sizeof *n->slots);
        if (n->slots == NULL)
            return -ENOMEM;
        n->slots_len = slots;
        for (uint32_t i = 0; i < n->entries_len; i++)
            *slot_of(n, n->entries[i].bytes, n->entries[i].len) = i + 1;
    }
    return 0;
}

/* A name that is not there yet. */
static int put(struct ctl_names *n, const char *bytes, size_t len, uint32_t number)
{
    int rc = grow(n);
    char *copy = rc == 0 ? malloc(len + 1) : NULL;

    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy, bytes, len);
    copy[len] = '\0';
    n->entries[n->entries_len] = (struct entry){copy, len, number};
    *slot_of(n, bytes, len) = ++n->entries_len;
    return 0;
}

int ctl_names_add(struct ctl_names *n, const char *bytes, size_t len, uint32_t *ret_number)
{
    uint32_t number = ctl_names_find(n, bytes, len);
    int rc;

    if (number == CTL_NAMES_NONE) {
        number = n->len;
        rc = put(n, bytes, len, number);
        if (rc != 0)
            return rc;
        n->firsts[n->len++] = n->entries_len - 1;
    }
    *ret_number = number;
    return 0;
}

int ctl_names_alias(struct ctl_names *n, const char *bytes, size_t len, uint32_t number)
{
    return ctl_names_find(n, bytes, len) == CTL_NAMES_NONE ? put(n, bytes, len, number) : 0;
}

uint32_t ctl_names_len(const struct ctl_names *n)
{
    return n->len;
}

struct ctl_name ctl_names_at(const struct ctl_names *n, uint32_t number)
{
    const struct entry *e = &n->entries[n->firsts[number]];

    return (struct ctl_name){e->bytes, e->len};
}

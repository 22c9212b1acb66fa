/* fault_alloc.c -- see fault_alloc.h. */
#include "tests/unit/fault_alloc.h"

#include <malloc.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proto/api_buffer.h"

/* The real ones, by the names that --wrap gives them. */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t len, size_t size);
void *__real_realloc(void *block, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
char *__real_strdup(const char *text);

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t len, size_t size);
void *__wrap_realloc(void *block, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
char *__wrap_strdup(const char *text);

static atomic_ullong left; /* until the one that fails; 0: disarmed */
static atomic_bool for_ever, failed;
static atomic_llong held;

static bool fails(void)
{
    unsigned long long n = atomic_load(&left);

    while (n > 0) {
        if (n == 1 && atomic_load(&for_ever))
            break;
        if (atomic_compare_exchange_weak(&left, &n, n - 1))
            break;
    }
    if (n != 1)
        return false;
    atomic_store(&failed, true);
    return true;
}

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t len, size_t size)
{
    return fails() ? NULL : __real_calloc(len, size);
}

void *__wrap_realloc(void *block, size_t bytes)
{
    return fails() ? NULL : __real_realloc(block, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, bytes);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}

/* ---- under SQLite and jansson ---------------------------------------------------------------- */

static void *block_new(size_t bytes)
{
    void *block = fails() ? NULL : __real_malloc(bytes);

    if (block != NULL)
        atomic_fetch_add(&held, 1);
    return block;
}

static void block_free(void *block)
{
    if (block != NULL)
        atomic_fetch_sub(&held, 1);
    free(block);
}

static void *lite_new(int bytes)
{
    return block_new((size_t)bytes);
}

static void *lite_resize(void *block, int bytes)
{
    return fails() ? NULL : __real_realloc(block, (size_t)bytes);
}

static int lite_size(void *block)
{
    return block != NULL ? (int)malloc_usable_size(block) : 0;
}

static int lite_round(int bytes)
{
    return (bytes + 7) & ~7;
}

static int lite_init(void *data)
{
    (void)data;
    return SQLITE_OK;
}

static void lite_done(void *data)
{
    (void)data;
}

void fault_alloc_install(void)
{
    static const sqlite3_mem_methods methods = {lite_new,   block_free, lite_resize, lite_size,
                                                lite_round, lite_init,  lite_done,   NULL};

    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK ||
        sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0) != SQLITE_OK ||
        sqlite3_initialize() != SQLITE_OK)
        abort();
    api_alloc_set(block_new, block_free);
}

void fault_alloc_arm(uint64_t n, bool on)
{
    atomic_store(&failed, false);
    atomic_store(&for_ever, on);
    atomic_store(&left, n);
}

bool fault_alloc_disarm(void)
{
    atomic_store(&left, 0);
    return atomic_exchange(&failed, false);
}

int64_t fault_alloc_held(void)
{
    return atomic_load(&held);
}

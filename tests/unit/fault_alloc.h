/* fault_alloc.h -- makes the n-th allocation of this program fail, and counts what is still
 * allocated.
 *
 * Included by one .c of a test program: it defines malloc and its kin over glibc's own, so that
 * every library under test allocates through here. Under a sanitizer, which has its own,
 * FAULT_ALLOC is 0 and tests that need it skip.
 */
#ifndef LEARND_FAULT_ALLOC_H
#define LEARND_FAULT_ALLOC_H

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define FAULT_ALLOC 0
static inline void fault_arm(long n)
{
    (void)n;
}
static inline void fault_only_own(int only)
{
    (void)only;
}
static inline long fault_live(void)
{
    return 0;
}
#else
#define FAULT_ALLOC 1

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t n, size_t bytes);
extern void *__libc_realloc(void *block, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *block);

extern char __executable_start, etext; /* the linker's: where this program's code lies */

static _Thread_local long fault_countdown = -1; /* under 0: nothing fails */
static int fault_own;
static atomic_long fault_blocks;

/* The n-th allocation from here on, counted from 0, fails on this thread, and so does every later
 * one; -1: none. */
static inline void fault_arm(long n)
{
    fault_countdown = n < 0 ? -1 : n + 1;
}

/* only: just what this program itself allocates fails, not its shared libraries (OpenBLAS uses what
 * malloc gives it unseen). */
static inline void fault_only_own(int only)
{
    fault_own = only;
}

/* Blocks allocated and not freed. */
static inline long fault_live(void)
{
    return fault_blocks;
}

static inline void *fault_keep(void *block)
{
    fault_blocks += block != NULL;
    return block;
}

static inline int fault_now(const void *caller)
{
    if (fault_countdown < 0)
        return 0;
    if (fault_own && ((const char *)caller < &__executable_start || (const char *)caller > &etext))
        return 0;
    if (fault_countdown > 0)
        fault_countdown--;
    if (fault_countdown == 0)
        errno = ENOMEM;
    return fault_countdown == 0;
}

void *malloc(size_t bytes)
{
    return fault_now(__builtin_return_address(0)) ? NULL : fault_keep(__libc_malloc(bytes));
}

void *calloc(size_t n, size_t bytes)
{
    return fault_now(__builtin_return_address(0)) ? NULL : fault_keep(__libc_calloc(n, bytes));
}

void *realloc(void *block, size_t bytes)
{
    void *moved = fault_now(__builtin_return_address(0)) ? NULL : __libc_realloc(block, bytes);

    fault_blocks += block == NULL && moved != NULL;
    return moved;
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return fault_now(__builtin_return_address(0)) ? NULL
                                                  : fault_keep(__libc_memalign(alignment, bytes));
}

int posix_memalign(void **ret_block, size_t alignment, size_t bytes)
{
    void *block = fault_now(__builtin_return_address(0))
                      ? NULL
                      : fault_keep(__libc_memalign(alignment, bytes));

    if (block == NULL)
        return ENOMEM;
    *ret_block = block;
    return 0;
}

void free(void *block)
{
    fault_blocks -= block != NULL;
    __libc_free(block);
}
#endif

#endif

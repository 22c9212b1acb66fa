/* fault_alloc.h -- an allocator that fails when told to: under our own code (the linker's --wrap),
 * under SQLite and under jansson. One count for all three, so that a test can fail allocation 1, 2,
 * 3 .. of a whole walk in turn:
 *
 *     for (n = 1; ; n++) {
 *         fault_alloc_arm(n, false);
 *         rc = walk();
 *         if (!fault_alloc_disarm())
 *             break;               -- the walk ended before allocation n: all were tried
 *         assert(rc is an error, nothing is lost, walk() now succeeds);
 *     }
 *
 * Threads: any; the count is atomic. Disarmed it costs one load a call.
 */
#ifndef LEARND_FAULT_ALLOC_H
#define LEARND_FAULT_ALLOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The longest walks fail every one in a plain build, and every so-manyth under a sanitizer, where
 * each costs ten times as much. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { FAULT_STRIDE = 7 };
#else
enum { FAULT_STRIDE = 1 };
#endif

/* Puts the allocator under SQLite (without its lookaside, which hides allocations) and jansson.
 * Before the first use of either. */
void fault_alloc_install(void);
/* Fails allocation n from now, counted from 1; with `on`, every later one too. */
void fault_alloc_arm(uint64_t n, bool on);
/* Fails nothing any more. Did an allocation fail since arm? */
bool fault_alloc_disarm(void);
/* Blocks that SQLite and jansson hold now: what a walk leaves behind. */
int64_t fault_alloc_held(void);

#endif

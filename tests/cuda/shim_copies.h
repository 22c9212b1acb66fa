/* shim_copies.h -- cp.async on the host: copies to shared memory that arrive as late as they may.
 * Tests only.
 *
 * Until its thread waits, the bytes a copy goes to are NaN, so that a kernel which reads what has
 * not come, or begins a copy over what others still read, computes nothing but that; and what it is
 * made of is read only then.
 */
#ifndef LEARND_SHIM_COPIES_H
#define LEARND_SHIM_COPIES_H

#include <stddef.h>
#include <stdint.h>

/* Of the running fiber. from NULL: zeros. */
void shim_copy_later(void *to, const void *from, size_t bytes);
void shim_copies_wait(void);
/* How many copies of a thread have been begun and not waited for. */
uint32_t shim_copies_left(uint32_t thread);

#endif

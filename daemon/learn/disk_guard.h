/* disk_guard.h -- is there room left on the disk of the state folder?
 *
 * Below a minimum, what makes the state grow is refused (507 disk_low), while there is still room
 * for what must go on: answers, erasures, withdrawals, a checkpoint, a clean stop. It ends by
 * itself when a quarter more than the minimum is free, so that it does not flicker.
 *
 * One thread looks; any may read the state.
 */
#ifndef LEARND_DISK_GUARD_H
#define LEARND_DISK_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct disk_guard {
    const char *folder; /* borrowed */
    uint64_t free_min;  /* bytes */
    int64_t looked_us;  /* monotonic */
    atomic_bool low;
    atomic_ullong free_bytes;
};

enum { DISK_LOOK_US = 1000000 };

struct disk_guard_state {
    bool low;
    uint64_t free_bytes, free_min;
};

/* Would it be low with so much free, if it is (low) or is not yet? */
bool disk_guard_judge(uint64_t free_bytes, uint64_t free_min, bool low);
/* Asks the file system, once in DISK_LOOK_US at most. True: `low` has changed. What cannot be asked
 * stays as it was. */
bool disk_guard_look(struct disk_guard *guard, int64_t now_us);
struct disk_guard_state disk_guard_state(const struct disk_guard *guard);

#endif

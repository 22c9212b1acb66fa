/* disk_guard.c -- see disk_guard.h. */
#include "daemon/learn/disk_guard.h"

#include <sys/statvfs.h>

bool disk_guard_judge(uint64_t free_bytes, uint64_t free_min, bool low)
{
    return free_bytes < (low ? free_min + free_min / 4 : free_min);
}

bool disk_guard_look(struct disk_guard *g, int64_t now_us)
{
    struct statvfs disk;
    bool was = atomic_load(&g->low), low;
    uint64_t free_bytes;

    if (g->looked_us != 0 && now_us - g->looked_us < DISK_LOOK_US)
        return false;
    g->looked_us = now_us;
    if (statvfs(g->folder, &disk) != 0)
        return false;
    free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    low = disk_guard_judge(free_bytes, g->free_min, was);
    atomic_store(&g->free_bytes, free_bytes);
    atomic_store(&g->low, low);
    return low != was;
}

struct disk_guard_state disk_guard_state(const struct disk_guard *g)
{
    return (struct disk_guard_state){atomic_load(&g->low), atomic_load(&g->free_bytes),
                                     g->free_min};
}

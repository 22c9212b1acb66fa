/* fault_vfs.c -- see fault_vfs.h. A file of ours is a header in front of the real file's own
 * structure. */
#include "tests/unit/fault_vfs.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

struct fault_file {
    sqlite3_file base; /* first */
    sqlite3_file *real;
};

static sqlite3_vfs *under;
static sqlite3_vfs shim;

static struct {
    enum fault_op op;
    uint64_t left; /* 0: disarmed */
    int code;
    bool on, failed;
} plan;

/* What this operation must answer: SQLITE_OK to go on. */
static int fault(enum fault_op op)
{
    if (plan.left == 0 || plan.op != op)
        return SQLITE_OK;
    if (plan.left > 1) {
        plan.left--;
        return SQLITE_OK;
    }
    if (!plan.on)
        plan.left = 0;
    plan.failed = true;
    return plan.code;
}

static sqlite3_file *real_of(sqlite3_file *file)
{
    return ((struct fault_file *)file)->real;
}

static int f_close(sqlite3_file *file)
{
    return real_of(file)->pMethods->xClose(real_of(file));
}

static int f_read(sqlite3_file *file, void *bytes, int len, sqlite3_int64 at)
{
    int rc = fault(FAULT_READ);

    return rc != SQLITE_OK ? rc : real_of(file)->pMethods->xRead(real_of(file), bytes, len, at);
}

static int f_write(sqlite3_file *file, const void *bytes, int len, sqlite3_int64 at)
{
    int rc = fault(FAULT_WRITE);

    return rc != SQLITE_OK ? rc : real_of(file)->pMethods->xWrite(real_of(file), bytes, len, at);
}

static int f_truncate(sqlite3_file *file, sqlite3_int64 len)
{
    int rc = fault(FAULT_TRUNCATE);

    return rc != SQLITE_OK ? rc : real_of(file)->pMethods->xTruncate(real_of(file), len);
}

static int f_sync(sqlite3_file *file, int flags)
{
    (void)file;
    (void)flags;
    return fault(FAULT_SYNC);
}

static int f_size(sqlite3_file *file, sqlite3_int64 *len)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), len);
}

static int f_lock(sqlite3_file *file, int lock)
{
    return real_of(file)->pMethods->xLock(real_of(file), lock);
}

static int f_unlock(sqlite3_file *file, int lock)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), lock);
}

static int f_reserved(sqlite3_file *file, int *out)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), out);
}

static int f_control(sqlite3_file *file, int op, void *arg)
{
    return real_of(file)->pMethods->xFileControl(real_of(file), op, arg);
}

static int f_sector(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int f_device(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int f_shm_map(sqlite3_file *file, int page, int len, int extend, void volatile **out)
{
    return real_of(file)->pMethods->xShmMap(real_of(file), page, len, extend, out);
}

static int f_shm_lock(sqlite3_file *file, int at, int n, int flags)
{
    return real_of(file)->pMethods->xShmLock(real_of(file), at, n, flags);
}

static void f_shm_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int f_shm_unmap(sqlite3_file *file, int erase)
{
    return real_of(file)->pMethods->xShmUnmap(real_of(file), erase);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2, /* no memory mapping, which would pass by */
    .xClose = f_close,
    .xRead = f_read,
    .xWrite = f_write,
    .xTruncate = f_truncate,
    .xSync = f_sync,
    .xFileSize = f_size,
    .xLock = f_lock,
    .xUnlock = f_unlock,
    .xCheckReservedLock = f_reserved,
    .xFileControl = f_control,
    .xSectorSize = f_sector,
    .xDeviceCharacteristics = f_device,
    .xShmMap = f_shm_map,
    .xShmLock = f_shm_lock,
    .xShmBarrier = f_shm_barrier,
    .xShmUnmap = f_shm_unmap,
};

static int f_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out)
{
    struct fault_file *f = (struct fault_file *)file;
    int rc = fault(FAULT_OPEN);

    (void)vfs;
    f->base.pMethods = NULL;
    f->real = (sqlite3_file *)(f + 1);
    if (rc == SQLITE_OK)
        rc = under->xOpen(under, name, f->real, flags, out);
    if (rc == SQLITE_OK)
        f->base.pMethods = &methods;
    return rc;
}

void fault_vfs_install(void)
{
    under = sqlite3_vfs_find(NULL);
    if (under == NULL)
        abort();
    shim = *under; /* its other functions look at pAppData at most, which is copied with them */
    shim.zName = "fault";
    shim.szOsFile = (int)sizeof(struct fault_file) + under->szOsFile;
    shim.xOpen = f_open;
    shim.pNext = NULL;
    if (sqlite3_vfs_register(&shim, 1) != SQLITE_OK)
        abort();
}

void fault_vfs_arm(enum fault_op op, uint64_t n, int code, bool on)
{
    plan.op = op;
    plan.left = n;
    plan.code = code;
    plan.on = on;
    plan.failed = false;
}

bool fault_vfs_disarm(void)
{
    bool failed = plan.failed;

    plan.left = 0;
    plan.failed = false;
    return failed;
}

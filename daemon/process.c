/* process.c -- see process.h. */
#include "daemon/process.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "daemon/clock.h"

/* Linux 6.2 has their number as the folder's size; before, each is a name to read. */
static double open_fds(void)
{
    struct stat st;
    DIR *folder;
    double n = 0;

    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
        return (double)st.st_size;
    folder = opendir("/proc/self/fd");
    if (folder == NULL)
        return NAN;
    while (readdir(folder) != NULL)
        n++;
    closedir(folder);
    return n - 3; /* ".", ".." and the one that looks */
}

static double seconds_of(clockid_t clock)
{
    struct timespec t;

    return clock_gettime(clock, &t) == 0 ? (double)t.tv_sec + (double)t.tv_nsec / 1e9 : NAN;
}

/* /proc/self/stat: what stands behind the name in brackets, which may hold anything. */
static void read_stat(struct process_figures *f)
{
    unsigned long long started, bytes;
    long threads, pages;
    char line[1024];
    const char *rest;
    FILE *file = fopen("/proc/self/stat", "r");
    size_t len = file != NULL ? fread(line, 1, sizeof line - 1, file) : 0;

    if (file != NULL)
        fclose(file);
    line[len] = '\0';
    rest = strrchr(line, ')');
    if (rest == NULL || sscanf(rest + 1,
                               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
                               "%*d %ld %*d %llu %llu %ld",
                               &threads, &started, &bytes, &pages) != 4)
        return;
    f->threads = (double)threads;
    f->virtual_bytes = (double)bytes;
    f->resident_bytes = (double)pages * (double)sysconf(_SC_PAGESIZE);
    f->start_unix_s = floor(seconds_of(CLOCK_REALTIME) - seconds_of(CLOCK_BOOTTIME) +
                            (double)started / (double)sysconf(_SC_CLK_TCK));
}

struct process_figures process_read(void)
{
    struct process_figures f = {NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    struct rlimit limit;

    f.cpu_s = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    f.fds = open_fds();
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        f.fds_max = (double)limit.rlim_cur;
    read_stat(&f);
    return f;
}

static double file_bytes(const char *folder, const char *name)
{
    char path[1200];
    struct stat st;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return stat(path, &st) == 0 ? (double)st.st_size : NAN;
}

struct state_figures process_state(const char *folder)
{
    struct state_figures f = {file_bytes(folder, "learnd.db"), file_bytes(folder, "learnd.db-wal"),
                              NAN, NAN};
    struct statvfs fs;

    if (statvfs(folder, &fs) == 0) {
        f.free_bytes = (double)fs.f_bavail * (double)fs.f_frsize;
        f.filesystem_bytes = (double)fs.f_blocks * (double)fs.f_frsize;
    }
    return f;
}

/* process.h -- what the system says about this process and its state folder, for the metrics page.
 * Any thread. Reads /proc: some ten microseconds. What cannot be read is NAN. */
#ifndef LEARND_PROCESS_H
#define LEARND_PROCESS_H

struct process_figures {
    double cpu_s, start_unix_s;
    double resident_bytes, virtual_bytes;
    double fds, fds_max, threads;
};
struct process_figures process_read(void);

struct state_figures {
    double journal_bytes, wal_bytes;     /* of learnd.db and learnd.db-wal */
    double free_bytes, filesystem_bytes; /* of the folder's file system, free for this user */
};
struct state_figures process_state(const char *folder);

#endif

/* page.h -- the files of the web page (daemon/console), built into the program. The table is made
 * by daemon/console/embed.sh when the program is. */
#ifndef LEARND_PAGE_H
#define LEARND_PAGE_H

#include <stddef.h>

struct page_file {
    const char *name, *type;
    const char *hash; /* 32 hex digits of the plain bytes' SHA-256 */
    const char *plain;
    size_t plain_bytes;
    const char *gzip;
    size_t gzip_bytes;
};

extern const struct page_file page_files[]; /* by path of the source, chart.js last */
extern const size_t page_files_len;

#endif

/* ctl_lines.c -- see ctl_lines.h. Not getline(3): it has no limit. */
#include "daemon/ctl/ctl_lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Room for one byte more and a NUL. */
static int grow(struct ctl_lines *l)
{
    size_t room = l->room * 2 + 256;
    char *bigger;

    if (l->len + 2 <= l->room)
        return 0;
    bigger = realloc(l->bytes, room);
    if (bigger == NULL)
        return -ENOMEM;
    l->bytes = bigger;
    l->room = room;
    return 0;
}

int ctl_lines_next(struct ctl_lines *l)
{
    bool any = false;
    int c;

    l->len = 0;
    l->too_long = false;
    if (grow(l) != 0)
        return -ENOMEM;
    while ((c = getc_unlocked(l->file)) != EOF) {
        any = true;
        if (c == '\n')
            break;
        if (l->len >= l->bytes_max)
            l->too_long = true;
        else if (grow(l) != 0)
            return -ENOMEM;
        else
            l->bytes[l->len++] = (char)c;
    }
    if (ferror(l->file))
        return errno > 0 ? -errno : -EIO;
    if (!any)
        return 0;
    if (++l->number == 1 && l->len >= 3 && memcmp(l->bytes, "\xef\xbb\xbf", 3) == 0)
        memmove(l->bytes, l->bytes + 3, l->len -= 3);
    if (l->len > 0 && l->bytes[l->len - 1] == '\r' && !l->too_long)
        l->len--;
    l->bytes[l->len] = '\0';
    return 1;
}

void ctl_lines_done(struct ctl_lines *l)
{
    free(l->bytes);
    *l = (struct ctl_lines){.file = l->file, .bytes_max = l->bytes_max};
}

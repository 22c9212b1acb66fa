/* descriptors.c -- see descriptors.h. The soft limit is 1,024 almost everywhere, for the sake of
 * programs that use select(); the hard one is meant to be used by those that do not. */
#include "daemon/descriptors.h"

#include <sys/resource.h>

#include "daemon/limits.h"

uint32_t descriptors_for(uint32_t connections)
{
    const rlim_t wanted = (rlim_t)connections + LIMIT_FILES;
    struct rlimit limit, raised;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return connections; /* a unit's filter may not even let it be set */
    raised = limit;
    raised.rlim_cur = wanted;
    if (raised.rlim_max < raised.rlim_cur)
        raised.rlim_max = raised.rlim_cur;
    if (setrlimit(RLIMIT_NOFILE, &raised) != 0) { /* root alone may go beyond the hard one */
        raised = limit;
        raised.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        if (raised.rlim_cur < limit.rlim_cur || setrlimit(RLIMIT_NOFILE, &raised) != 0)
            raised.rlim_cur = limit.rlim_cur;
    }
    if (raised.rlim_cur >= wanted)
        return connections;
    return raised.rlim_cur > LIMIT_FILES ? (uint32_t)(raised.rlim_cur - LIMIT_FILES) : 1;
}

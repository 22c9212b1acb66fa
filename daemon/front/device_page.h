/* device_page.h -- the device's part of the metrics page, so that an operator needs no other tool
 * to see what the GPU does.
 */
#ifndef LEARND_DEVICE_PAGE_H
#define LEARND_DEVICE_PAGE_H

#include "daemon/metrics.h"
#include "daemon/server.h"

void device_gauges(const struct server *server, metrics_write *write, void *ud);

#endif

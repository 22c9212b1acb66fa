/* device_page.c -- see device_page.h. What nobody counts has no row. */
#include "daemon/front/device_page.h"

#include <stdio.h>

#include "daemon/clock.h"

/* The name is a backend's own word. */
static void write_name(metrics_write *write, void *ud, const char *name)
{
    char line[96];
    int len = snprintf(line, sizeof line, "learnd_device{name=\"%.32s\"} 1\n", name);

    metrics_family(write, ud, "learnd_device", "The device that computes now.", "gauge");
    write(ud, line, (uint32_t)len);
}

void device_gauges(const struct server *s, metrics_write *write, void *ud)
{
    struct device_report d;
    int64_t p99 = recent_p99_us(s->recent, clock_us());

    device_read(s->device, &d);
    write_name(write, ud, d.name);
    metrics_value(write, ud, "learnd_device_degraded", "1 while not on the device it should be on.",
                  "gauge", d.degraded);
    metrics_value(write, ud, "learnd_device_failures_total", "Batches that the device failed.",
                  "counter", (double)d.failures);
    metrics_value(write, ud, "learnd_device_training_failures_total",
                  "Runs that the device failed.", "counter", (double)d.training_failures);
    metrics_value(write, ud, "learnd_device_losses_total", "Devices given up for the CPU.",
                  "counter", (double)d.losses);
    if (d.memory_total > 0) {
        metrics_value(write, ud, "learnd_device_memory_used_bytes", "Held by this process.",
                      "gauge", (double)d.memory_used);
        metrics_value(write, ud, "learnd_device_memory_bytes", "That the device has.", "gauge",
                      (double)d.memory_total);
        metrics_value(write, ud, "learnd_device_memory_requests_total",
                      "Times that the driver was asked for memory after the start.", "counter",
                      (double)d.memory_asked);
    }
    if (d.active) {
        metrics_value(write, ud, "learnd_device_busy_ratio",
                      "Of the last moments, by all processes.", "gauge", d.busy_percent / 100.0);
        metrics_value(write, ud, "learnd_device_clock_hertz", "Of its multiprocessors.", "gauge",
                      d.clock_mhz * 1e6);
    }
    if (p99 >= 0)
        metrics_value(write, ud, "learnd_recent_p99_seconds",
                      "Of texts in the last two seconds: what runs give way to.", "gauge",
                      (double)p99 / 1e6);
}

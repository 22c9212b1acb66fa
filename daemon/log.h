/* log.h -- structured lines on stderr: logfmt, one write a line, with journald's level prefix under
 * systemd.
 *
 *     log_info("front", "event", "listening", "address", addr, NULL);
 *     level=info at=front event=listening address=127.0.0.1:8080
 *
 * Keys and values alternate, NULL ends them; a pair whose value is NULL is left out. Values are
 * quoted and escaped as needed. Never a text that was sent. Any thread.
 */
#ifndef LEARND_LOG_H
#define LEARND_LOG_H

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

/* Before other threads exist. Default: info. */
void log_open(enum log_level least);
/* From now on. Any thread. */
void log_level_set(enum log_level least);
/* "debug", "info", "warn", "error". 0 or -EINVAL. */
int log_level_parse(const char *name, enum log_level *ret_level);

void log_debug(const char *at, ...) __attribute__((sentinel));
void log_info(const char *at, ...) __attribute__((sentinel));
void log_warn(const char *at, ...) __attribute__((sentinel));
void log_error(const char *at, ...) __attribute__((sentinel));

#endif

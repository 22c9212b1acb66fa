/* reload.c -- see reload.h. Which settings may change is a column of the table in settings.c; what
 * that means for a running part is said here, once, in apply. */
#include "daemon/reload.h"

#include <stdio.h>

#include "daemon/log.h"

struct counted {
    int changed, waiting;
};

static void take(void *ud, const char *name, bool reloads)
{
    struct counted *r = ud;

    if (reloads) {
        r->changed++;
        log_info("reload", "event", "changed", "setting", name, NULL);
    } else {
        r->waiting++;
        log_warn("reload", "event", "restart_needed", "setting", name, "text",
                 "this setting is read at the start only; what was in force stays", NULL);
    }
}

/* Hands what may change to the parts. */
static void apply(struct server *server)
{
    const struct settings *s = &server->settings;
    char why[512];

    if (access_reload(server->access, why, sizeof why) != 0)
        log_error("reload", "event", "refused", "why", why, "text",
                  "the key that was read before stays", NULL);
    log_level_set(s->log_level);
    loops_log_requests(server->loops, s->log_requests);
    trainer_yield_to(server->trainer, (int64_t)s->train_yield_ms * 1000);
    trainer_schedule(server->trainer, !s->train_manual, s->train_from, s->train_to, s->train_hours);
}

void reload(struct server *server, int argc, char **argv)
{
    struct counted r = {0};
    struct settings now;
    char why[512], changed[16], waiting[16];

    if (settings_read(argc, argv, why, sizeof why, &now) != 0) {
        log_error("reload", "event", "refused", "why", why, "text", "nothing has changed", NULL);
        return;
    }
    settings_reload(&server->settings, &now, take, &r);
    apply(server);
    snprintf(changed, sizeof changed, "%d", r.changed);
    snprintf(waiting, sizeof waiting, "%d", r.waiting);
    log_info("reload", "event", "done", "changed", changed, "restart_needed", waiting, NULL);
}

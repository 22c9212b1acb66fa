/* ctl_annotate.h -- annotate's screen; its lines are in ctl_annotate.c. */
#ifndef LEARND_CTL_ANNOTATE_H
#define LEARND_CTL_ANNOTATE_H

#include "daemon/ctl/ctl_queue.h"

/* Until the queue is empty or the annotator quits; the terminal is as it was, and nothing is said.
 */
enum ctl_exit ctl_annotate_screen(struct ctl_queue *queue);

#endif

/* test_serve_mailbox.c -- a full box is an answer, a closed one ends its readers, and no message is
 * lost or doubled when many threads post at once.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "daemon/serve/mailbox.h"

enum { POSTERS = 4, EACH = 5000 };

struct numbered {
    struct msg msg;
    uint32_t from, number;
};

static void test_full_and_closed(void **state)
{
    struct mailbox box;
    struct msg a, b, c;

    (void)state;
    assert_int_equal(mailbox_init(&box, 2), 0);
    assert_null(mailbox_take(&box));
    assert_int_equal(mailbox_post(&box, &a), 0);
    assert_int_equal(mailbox_post(&box, &b), 0);
    assert_int_equal(mailbox_post(&box, &c), -EAGAIN);
    assert_int_equal(mailbox_len(&box), 2);
    assert_ptr_equal(mailbox_take(&box), &a);
    assert_ptr_equal(a.next, &b);
    assert_null(b.next);
    assert_int_equal(mailbox_post(&box, &c), 0);
    mailbox_close(&box);
    assert_int_equal(mailbox_post(&box, &a), -ESHUTDOWN);
    assert_ptr_equal(mailbox_wait(&box, -1), &c); /* what is there is still read */
    assert_null(mailbox_wait(&box, -1));
    assert_true(mailbox_closed(&box));
    mailbox_done(&box);
}

static void test_wait_times_out(void **state)
{
    struct mailbox box;

    (void)state;
    assert_int_equal(mailbox_init(&box, 1), 0);
    assert_null(mailbox_wait(&box, 1000));
    assert_null(mailbox_wait(&box, 0));
    assert_false(mailbox_closed(&box));
    mailbox_done(&box);
}

struct poster {
    struct mailbox *box;
    uint32_t from;
};

static void *post_many(void *arg)
{
    struct poster *p = arg;

    for (uint32_t i = 0; i < EACH; i++) {
        struct numbered *m = malloc(sizeof *m);

        m->from = p->from;
        m->number = i;
        while (mailbox_post(p->box, &m->msg) == -EAGAIN)
            sched_yield();
    }
    return NULL;
}

static void test_many_posters_in_order(void **state)
{
    struct mailbox box;
    pthread_t threads[POSTERS];
    struct poster posters[POSTERS];
    uint32_t next[POSTERS] = {0}, seen = 0;

    (void)state;
    assert_int_equal(mailbox_init(&box, 64), 0);
    for (uint32_t i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){&box, i};
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
    }
    while (seen < POSTERS * EACH) {
        struct msg *list = mailbox_wait(&box, -1);

        while (list != NULL) {
            struct numbered *m = (struct numbered *)list;

            list = list->next;
            assert_int_equal(m->number, next[m->from]++); /* each poster's own order is kept */
            seen++;
            free(m);
        }
    }
    for (uint32_t i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    assert_null(mailbox_take(&box));
    mailbox_done(&box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_and_closed),
        cmocka_unit_test(test_wait_times_out),
        cmocka_unit_test(test_many_posters_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

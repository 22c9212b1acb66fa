/* shim_fibers.c -- see shim.h. A fiber is a stack and the registers that a function must keep; the
 * switch saves no signal mask, which is what would make it slow.
 */
#include "tests/cuda/shim.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cuda/shim_copies.h"

enum { STACK_BYTES = 128 << 10, NAN_BYTE = 0xff };

enum state { READY, AT_WARP, AT_BLOCK, DONE };

struct fiber {
    uint32_t thread;
    enum state state;
    void *registers; /* its stack pointer, while another runs */
    char *stack;
    void *fake_stack; /* AddressSanitizer's */
    uint32_t exchanges;
};

static struct {
    struct fiber fibers[SHIM_THREADS_MAX];
    uint8_t slots[SHIM_THREADS_MAX / SHIM_LANES][2][SHIM_LANES][SHIM_SLOT_BYTES];
    struct fiber *running;
    void *registers, *fake_stack; /* the scheduler's */
    const void *stack;
    size_t stack_bytes;
    int any_next, any; /* what the block's threads brought to the barrier */
    void (*body)(void *argument);
    void *argument;
    bool reversed;
} shim;

struct shim_place threadIdx, blockIdx, blockDim, gridDim;
void *shim_shared;

void shim_expect(int fine, const char *rule)
{
    if (fine)
        return;
    fprintf(stderr, "shim: block %u %u, thread %u: %s\n", blockIdx.x, blockIdx.y, threadIdx.x,
            rule);
    abort();
}

/* ---- switching --------------------------------------------------------------------------------
 */

void shim_switch(void **ret_from, void *to) __attribute__((visibility("hidden")));
__asm__(".text\n"
        ".hidden shim_switch\n"
        ".globl shim_switch\n"
        ".type shim_switch, @function\n"
        "shim_switch:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n"
        "    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n"
        "    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size shim_switch, . - shim_switch\n");

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#else
static void __sanitizer_start_switch_fiber(void **save, const void *stack, size_t bytes)
{
    (void)save;
    (void)stack;
    (void)bytes;
}

static void __sanitizer_finish_switch_fiber(void *saved, const void **stack, size_t *bytes)
{
    (void)saved;
    (void)stack;
    (void)bytes;
}
#endif

static void resume(struct fiber *f)
{
    shim.running = f;
    threadIdx.x = f->thread;
    __sanitizer_start_switch_fiber(&shim.fake_stack, f->stack, STACK_BYTES);
    shim_switch(&shim.registers, f->registers);
    __sanitizer_finish_switch_fiber(shim.fake_stack, NULL, NULL);
}

static void wait_as(enum state state)
{
    struct fiber *f = shim.running;

    f->state = state;
    __sanitizer_start_switch_fiber(state == DONE ? NULL : &f->fake_stack, shim.stack,
                                   shim.stack_bytes);
    shim_switch(&f->registers, shim.registers);
    __sanitizer_finish_switch_fiber(f->fake_stack, NULL, NULL);
}

static void fiber_main(void)
{
    __sanitizer_finish_switch_fiber(NULL, &shim.stack, &shim.stack_bytes);
    shim.body(shim.argument);
    shim_expect(shim_copies_left(shim.running->thread) == 0,
                "a thread that leaves before its copies have come");
    wait_as(DONE);
    abort();
}

/* As shim_switch leaves a stack: six registers, where to return to, and nothing above that. */
static void fiber_start(struct fiber *f)
{
    void **top;

    if (f->stack == NULL)
        f->stack = aligned_alloc(16, STACK_BYTES);
    assert(f->stack != NULL);
    top = (void **)(void *)(f->stack + STACK_BYTES);
    *--top = NULL;
    *--top = (void *)(uintptr_t)fiber_main;
    for (int i = 0; i < 6; i++)
        *--top = NULL;
    f->registers = top;
    f->state = READY;
    f->exchanges = 0;
}

/* ---- what fibers call -------------------------------------------------------------------------
 */

int shim_sync_block(int mine)
{
    shim.any_next |= mine;
    wait_as(AT_BLOCK);
    return shim.any;
}

/* Two sets of slots in turn: whoever writes the first again has seen everyone leave it. */
const void *shim_exchange(const void *mine, size_t bytes)
{
    struct fiber *f = shim.running;
    uint32_t thread = f->thread, set = f->exchanges++ % 2;
    uint8_t(*slots)[SHIM_SLOT_BYTES] = shim.slots[thread / SHIM_LANES][set];

    if (bytes > 0)
        memcpy(slots[thread % SHIM_LANES], mine, bytes);
    wait_as(AT_WARP);
    return slots;
}

/* ---- the scheduler ----------------------------------------------------------------------------
 */

static uint32_t turn(uint32_t i, uint32_t len)
{
    return shim.reversed ? len - 1 - i : i;
}

static uint32_t count(const struct fiber *fibers, uint32_t len, enum state state)
{
    uint32_t found = 0;

    for (uint32_t i = 0; i < len; i++)
        found += fibers[i].state == state;
    return found;
}

static void release(struct fiber *fibers, uint32_t len, enum state state)
{
    for (uint32_t i = 0; i < len; i++)
        if (fibers[i].state == state)
            fibers[i].state = READY;
}

/* Until every lane waits for the block or is done. */
static void run_warp(struct fiber *lanes, uint32_t len)
{
    for (;;) {
        uint32_t waiting;

        for (uint32_t i = 0; i < len; i++)
            if (lanes[turn(i, len)].state == READY)
                resume(&lanes[turn(i, len)]);
        waiting = count(lanes, len, AT_WARP);
        if (waiting == 0)
            return;
        shim_expect(waiting == SHIM_LANES, "an exchange to which not all lanes of the warp come");
        release(lanes, len, AT_WARP);
    }
}

static void run_block(uint32_t threads)
{
    uint32_t warps = (threads + SHIM_LANES - 1) / SHIM_LANES;

    do {
        release(shim.fibers, threads, AT_BLOCK);
        for (uint32_t i = 0; i < warps; i++) {
            uint32_t first = turn(i, warps) * SHIM_LANES;

            run_warp(shim.fibers + first,
                     threads - first < SHIM_LANES ? threads - first : SHIM_LANES);
        }
        shim.any = shim.any_next;
        shim.any_next = 0;
    } while (count(shim.fibers, threads, AT_BLOCK) > 0);
}

void shim_run(struct shim_place grid, struct shim_place block, size_t shared_bytes,
              void (*body)(void *argument), void *argument)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    char *shared = malloc(shared_bytes > 0 ? shared_bytes : 1);

    assert(shared != NULL && block.x <= SHIM_THREADS_MAX && block.y == 1 && block.z == 1);
    pthread_mutex_lock(&lock);
    shim.body = body;
    shim.argument = argument;
    blockDim = block;
    gridDim = grid;
    shim_shared = shared;
    shim.reversed = getenv("LEARND_SHIM_REVERSED") != NULL;
    for (uint32_t i = 0; i < grid.x * grid.y; i++) {
        uint32_t at = turn(i, grid.x * grid.y);

        blockIdx = (struct shim_place){at % grid.x, at / grid.x, 0};
        memset(shared, NAN_BYTE, shared_bytes);
        for (uint32_t t = 0; t < block.x; t++) {
            shim.fibers[t].thread = t;
            fiber_start(&shim.fibers[t]);
        }
        run_block(block.x);
    }
    pthread_mutex_unlock(&lock);
    free(shared);
}

/* ---- memory, and failures that are asked for --------------------------------------------------
 */

void *shim_malloc(size_t bytes)
{
    void *data;

    if (posix_memalign(&data, 256, bytes) != 0)
        return NULL;
    memset(data, NAN_BYTE, bytes);
    return data;
}

static struct {
    int left, code;
    bool stays;
} failure = {-1, 0, false};

void learnd_shim_fail(int calls, int code, int stays)
{
    failure.left = calls;
    failure.code = code;
    failure.stays = stays != 0;
}

int shim_call(void)
{
    if (failure.left > 0)
        failure.left--;
    else if (failure.left == 0) {
        failure.left = failure.stays ? 0 : -1;
        return failure.code;
    }
    return 0;
}

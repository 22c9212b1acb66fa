/* peak.h -- what oneDNN's own matmul does on this machine, as bare as its API allows: the yardstick
 * of the encoder.
 *
 * One object holds weights of several shapes, packed into the layout oneDNN asks for, `copies` of
 * each: with one copy they stay in the nearest cache, with one a layer they come from where an
 * encoder's weights come from. A run multiplies N rows by every matrix once, no bias, no
 * activation. Primitives are kept by N. It shares no line with kernels/cpu/cpu_linear.c.
 */
#ifndef LEARND_PEAK_H
#define LEARND_PEAK_H

#include <stdint.h>

#include "kernels/backend.h"

struct peak;

struct peak_shape {
    uint32_t K, M;
};

/* The calling thread's own; rows_max bounds N. Ends the process with a message on failure. */
struct peak *peak_open(const struct peak_shape *shapes, uint32_t shapes_len, uint32_t copies,
                       enum kdtype dtype, uint32_t rows_max);
void peak_close(struct peak *peak);
/* y(N,M) = x(N,K) w for each shape and copy. */
void peak_run(struct peak *peak, uint32_t N);
/* Floating point operations of one run. */
double peak_flops(const struct peak *peak, uint32_t N);

#endif

/* cuda_loss.cu -- the losses of a piece of a batch by a cosine head, and their slopes
 * (backend_training.h, struct kloss).
 *
 *   1. dots(B,L) = x . w, and inverse(L) = 1 / |w|                       thin_dots, inverses
 *   2. losses(B,3), and the slopes of the dots: slopes(B,L), times scale    text_losses
 *   3. dx(B,C) = slopes inverse w, and the feature's                          thin_outer
 *   4. along(L) = the sums of slopes cos, and dbias                           label_sums
 *   5. dw(L,C) += inverse (slopes^T x - inverse along w)                      thin_outer
 *
 * The second is in fp64, as on the CPU: a fitted text's slopes are the small differences of numbers
 * about 1. A label is one thread's there, from first to last, so that targets that name it twice
 * need no atomics. What is read many times over is brought to the device first.
 */
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_thin.h"

static constexpr uint32_t THREADS = 256, WARPS = THREADS / LANES;

/* What the kernels share, on the device. */
struct loss_tables {
    const struct kloss_target *targets;
    const float *teachers, *features;
    float *dots, *slopes;   /* (B,L) */
    float *inverse, *along; /* (L) */
};

/* ---- label vectors ----------------------------------------------------------------------------
 */

static __global__ void inverses(float *inverse, const float *w, uint32_t L, uint32_t C)
{
    const uint32_t c = blockIdx.x * WARPS + threadIdx.x / LANES;
    double sum = 0;

    if (c >= L)
        return;
    for (uint32_t i = threadIdx.x % LANES; i < C; i += LANES)
        sum += (double)w[(size_t)c * C + i] * w[(size_t)c * C + i];
    sum = warp_sum(sum);
    if (threadIdx.x % LANES == 0)
        inverse[c] = (float)(1 / sqrt(sum));
}

/* A label's row of w with a text's of x. */
struct to_dots {
    float *dots;
    uint32_t L;

    __device__ void operator()(uint32_t c, uint32_t b, float dot) const
    {
        dots[(size_t)b * L + c] = dot;
    }
};

/* ---- one text's losses ------------------------------------------------------------------------
 */

/* Over the block, in every thread; warp by warp. parts: (WARPS) shared. */
static __device__ double block_sum(double *parts, double x)
{
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % LANES == 0)
        parts[threadIdx.x / LANES] = x;
    __syncthreads();
    x = 0;
    for (uint32_t i = 0; i < WARPS; i++)
        x += parts[i];
    return x;
}

/* Of numbers; a NaN is left out. */
static __device__ double block_max(double *parts, double x)
{
    for (int step = LANES / 2; step > 0; step /= 2)
        x = fmax(x, __shfl_xor_sync(ALL_LANES, x, step));
    __syncthreads();
    if (threadIdx.x % LANES == 0)
        parts[threadIdx.x / LANES] = x;
    __syncthreads();
    for (uint32_t i = 0; i < WARPS; i++)
        x = fmax(x, parts[i]);
    return x;
}

static __device__ double sigmoid(double z)
{
    return z >= 0 ? 1 / (1 + exp(-z)) : exp(z) / (1 + exp(z));
}

static __device__ double softplus(double z)
{
    return (z > 0 ? z : 0) + log1p(exp(-fabs(z)));
}

/* 0 log 0 is 0; what is not a number stays so. */
static __device__ double p_log_p(double p)
{
    return p == 0 ? 0 : p * log(p);
}

/* A text, as the threads of its block see it. */
struct text {
    const struct kloss *l;
    struct kloss_text t;
    const struct kloss_target *targets; /* its own */
    const float *teacher, *dots, *inverse, *bias;
    double *parts;

    __device__ double z(uint32_t c) const
    {
        double cosine = (double)dots[c] * inverse[c];

        return l->scale * (cosine - (bias != NULL ? bias[c] : 0));
    }
};

/* softmax(z / temperature) over the first n labels is exp(z / temperature - log_sum). */
static __device__ double log_sum(const struct text &text, uint32_t n, double temperature)
{
    double most = -INFINITY, sum = 0;

    for (uint32_t c = threadIdx.x; c < n; c += THREADS)
        most = fmax(most, text.z(c));
    most = block_max(text.parts, most);
    for (uint32_t c = threadIdx.x; c < n; c += THREADS)
        sum += exp((text.z(c) - most) / temperature);
    return log(block_sum(text.parts, sum)) + most / temperature;
}

/* What all of a text's labels have in common. */
struct sums {
    double labels, taught, given, total; /* log sums at 1 and T; of p^(1/T); of the targets */
};

static __device__ struct sums sums_of(const struct text &text)
{
    const struct kloss *l = text.l;
    struct sums s = {0, 0, 0, 0};

    for (uint32_t i = 0; i < text.t.targets_len; i++)
        s.total += text.targets[i].value;
    if (l->sets)
        return s;
    s.labels = log_sum(text, l->L, 1);
    if (text.t.teacher_len == 0)
        return s;
    s.taught = log_sum(text, text.t.teacher_len, l->temperature);
    for (uint32_t c = threadIdx.x; c < text.t.teacher_len; c += THREADS)
        s.given += pow((double)text.teacher[c], 1.0 / l->temperature);
    s.given = block_sum(text.parts, s.given);
    return s;
}

/* Of the targets that name label c: adds to the loss, and returns the slope. */
static __device__ double target_slope(const struct text &text, const struct sums &s, uint32_t c,
                                      double z, double *loss)
{
    double slope = 0;

    for (uint32_t i = 0; i < text.t.targets_len; i++)
        if (text.targets[i].label == c) {
            *loss += text.targets[i].value * (s.labels - z);
            slope -= text.targets[i].value;
        }
    if (text.l->sets) {
        *loss += softplus(z);
        return slope + sigmoid(z);
    }
    return slope + s.total * exp(z - s.labels);
}

/* The same of KL / T. */
static __device__ double teacher_slope(const struct text &text, const struct sums &s, uint32_t c,
                                       double z, double *loss)
{
    const double T = text.l->temperature, least = 1e-7;
    double given = text.teacher[c], p;

    z /= T;
    if (text.l->sets) {
        given = given < least ? least : given > 1 - least ? 1 - least : given;
        p = sigmoid(log(given / (1 - given)) / T);
        *loss += p_log_p(p) + p_log_p(1 - p) + softplus(z) - p * z;
        return sigmoid(z) - p;
    }
    p = pow(given, 1 / T) / s.given;
    *loss += p_log_p(p) - p * (z - s.taught);
    return exp(z - s.taught) - p;
}

/* A block has a text. */
static __global__ void text_losses(double *losses, struct loss_tables at, const float *x,
                                   const float *bias, struct kloss l)
{
    const uint32_t b = blockIdx.x, L = l.L;
    const double T = l.temperature;
    const float *dots = at.dots + (size_t)b * L;
    float *slopes = at.slopes + (size_t)b * L;
    struct text text = {&l, l.texts[b], NULL, NULL, dots, at.inverse, bias, NULL};
    double labels = 0, teacher = 0, feature = 0;
    struct sums s;

    text.targets = at.targets + text.t.target;
    text.teacher = at.teachers + text.t.teacher;
    text.parts = reinterpret_cast<double *>(shared_memory());
    s = sums_of(text);
    for (uint32_t c = threadIdx.x; c < L; c += THREADS) {
        double z = text.z(c), slope = text.t.weight * target_slope(text, s, c, z, &labels);

        if (c < text.t.teacher_len)
            slope += l.share * l.distill * T * teacher_slope(text, s, c, z, &teacher);
        slopes[c] = (float)(l.scale * slope);
    }
    for (uint32_t i = threadIdx.x; i < l.C && text.t.featured; i += THREADS)
        feature += (double)x[(size_t)b * l.C + i] * at.features[(size_t)b * l.C + i];
    labels = block_sum(text.parts, labels);
    teacher = block_sum(text.parts, teacher);
    feature = block_sum(text.parts, feature);
    if (threadIdx.x > 0)
        return;
    losses += (size_t)b * K_LOSSES;
    losses[K_LOSS_LABELS] = labels;
    losses[K_LOSS_TEACHER] = T * T * teacher;
    losses[K_LOSS_FEATURE] = text.t.featured ? 1 - feature : 0;
}

/* ---- gradients --------------------------------------------------------------------------------
 */

/* Of label c in text b's dx. */
struct text_factor {
    const float *slopes, *inverse;
    uint32_t L;

    __device__ float operator()(uint32_t c, uint32_t b) const
    {
        return slopes[(size_t)b * L + c] * inverse[c];
    }
};

struct to_dx {
    float *dx;
    const struct kloss_text *texts;
    const float *features;
    float slope; /* of the feature loss */
    uint32_t C;

    __device__ void operator()(uint32_t b, uint32_t c, float sum) const
    {
        const size_t at = (size_t)b * C + c;

        dx[at] = features != NULL && texts[b].featured ? sum + slope * features[at] : sum;
    }
};

/* along(L) = the sums over texts of slopes cos; dbias(L) -= those of the slopes. */
static __global__ void label_sums(float *along, float *dbias, struct loss_tables at, uint32_t B,
                                  uint32_t L)
{
    const uint32_t c = blockIdx.x * THREADS + threadIdx.x;
    float sum = 0, with = 0;

    if (c >= L)
        return;
    for (uint32_t b = 0; b < B; b++) {
        float slope = at.slopes[(size_t)b * L + c];

        sum += slope;
        with += slope * at.dots[(size_t)b * L + c] * at.inverse[c];
    }
    along[c] = with;
    if (dbias != NULL)
        dbias[c] -= sum;
}

/* Of text b in label c's dw. */
struct label_factor {
    const float *slopes;
    uint32_t L;

    __device__ float operator()(uint32_t b, uint32_t c) const
    {
        return slopes[(size_t)b * L + c];
    }
};

struct to_dw {
    float *dw;
    const float *w, *inverse, *along;
    uint32_t C;

    __device__ void operator()(uint32_t label, uint32_t c, float sum) const
    {
        const size_t at = (size_t)label * C + c;
        const float scale = inverse[label];

        dw[at] += scale * (sum - scale * along[label] * w[at]);
    }
};

/* ---- the operation ----------------------------------------------------------------------------
 */

/* Places in scratch, one behind the other. */
struct places {
    char *base; /* NULL: only to measure */
    size_t bytes;

    void *next(size_t len)
    {
        void *place = base != NULL ? base + bytes : NULL;

        bytes += (len + 255) / 256 * 256;
        return place;
    }
};

static size_t lay_out(struct loss_tables *at, void **parts, char *base, const struct kloss *l)
{
    struct places p = {base, 0};
    const size_t table = (size_t)l->B * l->L * sizeof(float), features = (size_t)l->B * l->C;
    const size_t dx_parts = outer_bytes(l->L, l->B, l->C), dw_parts = outer_bytes(l->B, l->L, l->C);

    at->targets = static_cast<struct kloss_target *>(p.next(l->targets_len * sizeof *at->targets));
    at->teachers = static_cast<float *>(p.next(l->teachers_len * sizeof(float)));
    at->features = static_cast<float *>(p.next(features * sizeof(float)));
    at->dots = static_cast<float *>(p.next(table));
    at->slopes = static_cast<float *>(p.next(table));
    at->inverse = static_cast<float *>(p.next(l->L * sizeof(float)));
    at->along = static_cast<float *>(p.next(l->L * sizeof(float)));
    *parts = p.next(dx_parts > dw_parts ? dx_parts : dw_parts);
    return p.bytes;
}

size_t cuda_loss_bytes(const struct kloss *most)
{
    struct loss_tables at;
    void *parts;

    return lay_out(&at, &parts, NULL, most);
}

static void bring(struct kctx *k, const void *to, const void *from, size_t bytes)
{
    if (bytes > 0)
        cuda_check(
            k, cudaMemcpyAsync(const_cast<void *>(to), from, bytes, cudaMemcpyDefault, k->stream));
}

void cuda_loss(struct kctx *k, double *losses, float *dx, float *dw, float *dbias, const float *x,
               const float *w, const float *bias, const struct kloss *l)
{
    const uint32_t B = l->B, C = l->C, L = l->L;
    const size_t features = l->features != NULL ? (size_t)B * C * sizeof *l->features : 0;
    struct loss_tables at;
    void *parts;

    (void)lay_out(&at, &parts, static_cast<char *>(l->scratch), l);
    cuda_here();
    bring(k, at.targets, l->targets, l->targets_len * sizeof *l->targets);
    bring(k, at.teachers, l->teachers, l->teachers_len * sizeof *l->teachers);
    bring(k, at.features, l->features, features);
    launch(k, (L + WARPS - 1) / WARPS, THREADS, 0, inverses, at.inverse, w, L, C);
    launch_dots(k, to_dots{at.dots, L}, w, x, L, B, C);
    launch(k, B, THREADS, WARPS * sizeof(double), text_losses, losses, at, x, bias, *l);
    launch_outer(k, parts, text_factor{at.slopes, at.inverse, L},
                 to_dx{dx, l->texts, at.features, (float)(-l->share * l->feature), C}, w, L, B, C);
    launch(k, (L + THREADS - 1) / THREADS, THREADS, 0, label_sums, at.along, dbias, at, B, L);
    launch_outer(k, parts, label_factor{at.slopes, L}, to_dw{dw, w, at.inverse, at.along, C}, x, B,
                 L, C);
}

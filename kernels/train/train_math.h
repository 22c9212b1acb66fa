/* train_math.h -- small arithmetic that the files of kernels/train share. */
#ifndef LEARND_TRAIN_MATH_H
#define LEARND_TRAIN_MATH_H

#include <math.h>
#include <stdint.h>

/* A good mixing of 64 bits (Steele, Lea, Flood 2014: the end of SplitMix64). */
static inline uint64_t train_mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

/* Number n of a stream: normal with mean 0 and deviation 1 (Box and Muller, 1958). */
static inline float train_normal(uint64_t stream, uint64_t n)
{
    uint64_t bits = train_mix(train_mix(stream + 0x9e3779b97f4a7c15) ^ n);
    double u = ((double)(bits >> 40) + 0.5) * 0x1p-24;
    double angle = (double)(bits & 0xffffff) * 0x1p-24 * 6.283185307179586;

    return (float)(sqrt(-2 * log(u)) * cos(angle));
}

#endif

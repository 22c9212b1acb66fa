/* version.h -- of the programs: learnd and learnctl are built and released together. */
#ifndef LEARND_VERSION_H
#define LEARND_VERSION_H

#define LEARND_VERSION "0.1.0"

#endif

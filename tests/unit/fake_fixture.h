/* fake_fixture.h -- the fake device (tests/device) in a unit test. */
#ifndef LEARND_FAKE_FIXTURE_H
#define LEARND_FAKE_FIXTURE_H

#include "kernels/backend.h"

/* The path of fake_device.so of this build; borrowed. */
const char *fake_fixture_path(void);
/* The first fake device; fails the test where there is none. */
const struct backend *fake_fixture_open(void);
/* What the control file says from now on ("" all is well). See fake_memory.h. */
void fake_fixture_tell(const char *text);
/* Bytes of device memory in use. */
uint64_t fake_fixture_used(void);

#endif

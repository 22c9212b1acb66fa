# learnd -- targets:
#   make run      install what is missing, fetch the model, build, start the daemon
#   make test     the same set-up, then every test
#   make all      build/learnd and build/learnctl           make check    tidy + test + asan + tsan
#   make tidy     house rules (tests/tidy.sh)               make asan     tests under ASan and UBSan
#   make bench    benchmarks, as a table and CSV            make tsan     tests under TSan
#   make fuzz     fuzz for FUZZ_SECONDS a target            make format   clang-format in place
#   make install  to DESTDIR and PREFIX                     make clean    remove build/
#   make deb      a Debian package in build/                make gpu-check, gpu-bench   on a machine with a GPU
# Variables: BUILD (build), SAN (address, thread), CUDA=1 (build/learnd-cuda.so too), CC, PREFIX, SYSCONFDIR, DESTDIR, ARGS (for run), V=1 (show commands).

MAKEFLAGS += --no-builtin-rules
SHELL   := /bin/bash
.SUFFIXES:
CC      ?= cc
BUILD   ?= build
PREFIX  ?= /usr/local
SYSCONFDIR ?= /etc
SAN     ?=
V       ?=
Q        = $(if $(V),,@)$(if $(V),,echo '  $(1)  $@';)
FUZZ_SECONDS ?= 60

LLHTTP_INC := $(firstword $(wildcard /usr/include/llhttp.h /usr/share/include/llhttp/llhttp.h))
LLHTTP_SRC := $(if $(wildcard /usr/include/llhttp.h),,$(wildcard /usr/share/llhttp/*.c))

CPPFLAGS = -I. -D_GNU_SOURCE -I$(dir $(LLHTTP_INC)) -MMD -MP
CFLAGS   ?= -O3 -g
CFLAGS   += -std=c11 -Wall -Wextra -Wshadow -Wvla -Werror -fno-strict-aliasing -pthread
LDFLAGS  += -pthread -Wl,--export-dynamic-symbol=backend_cpu # a loadable backend may wrap the CPU's
LDLIBS   = -luv -ljansson -lsqlite3 -ldnnl -lopenblas -lutf8proc -lnettle -lm
ifeq ($(LLHTTP_SRC),)
LDLIBS  += -lllhttp
endif
ifeq ($(SAN),address)
BUILD    := build-asan
CFLAGS   := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined $(filter-out -O3 -g,$(CFLAGS))
LDFLAGS  += -fsanitize=address,undefined
endif
ifeq ($(SAN),thread)
BUILD    := build-tsan
CFLAGS   := -O1 -g -fno-omit-frame-pointer -fsanitize=thread $(filter-out -O3 -g,$(CFLAGS))
LDFLAGS  += -fsanitize=thread
endif

comma := ,
obj = $(patsubst %.c,$(BUILD)/%.o,$(1))
PROTO_OBJ   = $(call obj,$(wildcard proto/*.c)) $(patsubst /usr/share/llhttp/%.c,$(BUILD)/llhttp/%.o,$(LLHTTP_SRC))
# These are texts compiled for three machines; simd_pick.c chooses when first used.
SIMD_SRC    = kernels/cpu/simd.c kernels/cpu/simd_training.c
SIMD_OBJ    = $(foreach v,2 3 4,$(SIMD_SRC:%.c=$(BUILD)/%.v$(v).o))
# kernels/cuda is a library of its own; of the daemon's only what a unit test needs.
KERNELS_OBJ = $(call obj,$(filter-out $(SIMD_SRC) kernels/cuda/%,$(wildcard kernels/*.c kernels/*/*.c)) kernels/cuda/cuda_memory.c) $(SIMD_OBJ)
STORE_OBJ   = $(call obj,$(wildcard store/*.c))
DAEMON_OBJ  = $(call obj,$(filter-out daemon/main.c,$(wildcard daemon/*.c daemon/front/*.c daemon/serve/*.c daemon/learn/*.c)))
CTL_OBJ     = $(call obj,$(filter-out daemon/ctl/ctl_main.c,$(wildcard daemon/ctl/*.c)))
LIBS        = $(BUILD)/libdaemon.a $(BUILD)/libproto.a $(BUILD)/libkernels.a $(BUILD)/libstore.a
UNIT_BIN    = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))
UNIT_HELP_OBJ = $(call obj,$(filter-out tests/unit/test_%,$(wildcard tests/unit/*.c)))
UNIT_WRAP   = $(patsubst %,-Wl$(comma)--wrap=%,malloc calloc realloc strdup aligned_alloc)
OPS_BIN     = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/ops/ops.c))
FUZZ_BIN    = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
BENCH_BIN   = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/bench/bench_*.c))
GPU_MODEL   = $(BUILD)/tests/gpu/gpu_model
TRAIN_TOOLS = $(addprefix $(BUILD)/tests/,golden/train/dump_train quality/finetune_tool)
# Of kernels/cuda what runs on the host as well, with tests/cuda in place of the toolkit.
SHIM        = $(BUILD)/tests/cuda/shim-cuda.so
SHIM_OBJ    = $(patsubst %.cu,$(BUILD)/shim/%.o,$(wildcard kernels/cuda/*.cu)) $(patsubst %.c,$(BUILD)/shim/%.o,$(wildcard tests/cuda/*.c))
FAKE_DEVICE = $(BUILD)/tests/device/fake_device.so
BENCH_OBJ   = $(call obj,$(filter-out tests/bench/bench_%,$(wildcard tests/bench/*.c)))

all: $(BUILD)/learnd $(if $(CTL_OBJ),$(BUILD)/learnctl) $(if $(CUDA),$(BUILD)/learnd-cuda.so)

# A fresh machine lacks what the top of this file looks for, so set-up comes first and the build is a make of its own.
run:
	deploy/deps.sh run
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@LEARND_ENCODER=$$(deploy/model.sh) && export LEARND_ENCODER && exec ./build/learnd $(ARGS)
test:
	deploy/deps.sh test
	@deploy/model.sh >/dev/null
	@$(MAKE) --no-print-directory -j$$(nproc) tests
	@tests/run.sh build
asan tsan: sanitizer = $(if $(filter asan,$@),address,thread)
asan tsan:
	deploy/deps.sh test
	@$(MAKE) --no-print-directory -j$$(nproc) SAN=$(sanitizer) tests
	@tests/run.sh build-$@
check:
	deploy/deps.sh test
	@$(MAKE) --no-print-directory tidy
	@$(MAKE) --no-print-directory asan
	@$(MAKE) --no-print-directory tsan
	@$(MAKE) --no-print-directory test
bench:
	deploy/deps.sh test
	@deploy/model.sh >/dev/null
	@$(MAKE) --no-print-directory -j$$(nproc) all $(BENCH_BIN)
	@tests/bench/bench.sh $(BUILD)
# On a machine with an NVIDIA GPU; on another one line, and 2.
gpu-check:
	@tests/gpu/gpu_check.sh
gpu-bench:
	@compgen -G '/dev/nvidia[0-9]*' >/dev/null || exec tests/bench/gpu_bench.py; \
	    $(MAKE) --no-print-directory -j$$(nproc) CUDA=1 $(BUILD)/learnd-cuda.so $(GPU_MODEL) && tests/bench/gpu_bench.py
# Only what reads bytes from outside is built with clang, so libFuzzer sees every branch of it. New finds go to build-fuzz/finds/.
fuzz:
	deploy/deps.sh fuzz
	@$(MAKE) --no-print-directory -j$$(nproc) BUILD=build-fuzz CC=clang fuzz-build \
	    CFLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
	@set -o pipefail; bad=0; for t in $(notdir $(FUZZ_BIN)); do c=tests/fuzz/corpus/$${t#fuzz_}; mkdir -p build-fuzz/new/$$t build-fuzz/finds; \
	    echo "== $$t, $(FUZZ_SECONDS) s"; \
	    build-fuzz/$$t -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -artifact_prefix=build-fuzz/finds/ \
	        build-fuzz/new/$$t $$c 2>&1 | grep -E '^stat::number_of|ERROR|SUMMARY|Test unit' || bad=$$((bad + 1)); done; \
	    echo "$$(($(words $(FUZZ_BIN)) - bad)) passed, $$bad failed"; [ $$bad -eq 0 ]
fuzz-build: $(patsubst tests/fuzz/%.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
build-fuzz/fuzz_%: build-fuzz/tests/fuzz/fuzz_%.o $(PROTO_OBJ) \
    $(call obj,$(wildcard kernels/*.c kernels/text/*.c) kernels/encoder/safetensors.c)
	$(call Q,LD)$(CC) -fsanitize=fuzzer,address,undefined -o $@ $^ -ljansson -lutf8proc -lm $(if $(LLHTTP_SRC),,-lllhttp)
tidy:
	tests/tidy.sh
# A learnd.conf that is there stays. Manual pages and completions: whatever deploy/ has.
install: to = $(DESTDIR)$(PREFIX)
install: all
	install -d $(to)/bin $(to)/sbin $(addprefix $(to)/lib/,learnd systemd/system sysusers.d tmpfiles.d) $(DESTDIR)$(SYSCONFDIR)/learnd
	install -m 755 $(BUILD)/learnd $(BUILD)/learnctl $(to)/bin
	install -m 755 deploy/learnd-fetch-model $(to)/sbin
	$(if $(CUDA),install -m 755 $(BUILD)/learnd-cuda.so $(to)/lib/learnd)
	install -m 755 deploy/model.sh $(to)/lib/learnd
	sed 's,/usr/bin/,$(PREFIX)/bin/,; s,/etc/learnd/,$(SYSCONFDIR)/learnd/,' deploy/learnd.service >$(to)/lib/systemd/system/learnd.service
	install -m 644 deploy/learnd.socket $(to)/lib/systemd/system
	install -m 644 deploy/learnd.sysusers $(to)/lib/sysusers.d/learnd.conf
	install -m 644 deploy/learnd.tmpfiles $(to)/lib/tmpfiles.d/learnd.conf
	[ -e $(DESTDIR)$(SYSCONFDIR)/learnd/learnd.conf ] || install -m 644 deploy/learnd.conf $(DESTDIR)$(SYSCONFDIR)/learnd
	@$(foreach f,$(wildcard deploy/man/*.[1-8]),install -D -m 644 $(f) $(to)/share/man/man$(subst .,,$(suffix $(f)))/$(notdir $(f)) && )true
	@$(foreach f,$(wildcard deploy/completion/*.bash),install -D -m 644 $(f) $(to)/share/bash-completion/completions/$(basename $(notdir $(f))) && )true
	@$(foreach f,$(wildcard deploy/completion/_*),install -D -m 644 $(f) $(to)/share/zsh/vendor-completions/$(notdir $(f)) && )true
	@$(foreach f,$(wildcard deploy/completion/*.fish),install -D -m 644 $(f) $(to)/share/fish/vendor_completions.d/$(notdir $(f)) && )true
deb: all
	@deploy/deb.sh $(BUILD)
format:
	clang-format -i $$(git ls-files '*.c' '*.h' ':!kernels/text/unicode_tables.c')
tests: all $(FAKE_DEVICE) $(BUILD)/tests/sim/sim $(TRAIN_TOOLS) $(UNIT_BIN) $(OPS_BIN) $(SHIM) $(GPU_MODEL) $(FUZZ_BIN) $(BENCH_BIN)

$(BUILD)/learnd: $(call obj,daemon/main.c) $(LIBS)
	$(call Q,LD)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/learnctl: $(call obj,daemon/ctl/ctl_main.c) $(BUILD)/libctl.a $(LIBS)
	$(call Q,LD)$(CC) $(LDFLAGS) -o $@ $^ -lcurl $(LDLIBS)
$(BUILD)/libproto.a: $(PROTO_OBJ)
$(BUILD)/libkernels.a: $(KERNELS_OBJ)
$(BUILD)/libstore.a: $(STORE_OBJ)
$(BUILD)/libdaemon.a: $(DAEMON_OBJ) $(BUILD)/daemon/console/page_files.o
$(BUILD)/libctl.a: $(CTL_OBJ)
$(BUILD)/lib%.a:
	@rm -f $@
	$(call Q,AR)ar rcs $@ $^

$(BUILD)/proto/openapi.o: proto/openapi.json
# The web page and its charts: every file as it is and packed, in one table (daemon/front/page.h).
PAGE_SRC  = $(sort $(wildcard daemon/console/*.html daemon/console/*.css daemon/console/*.js daemon/console/*.svg))
CHART_JS := $(firstword $(wildcard /usr/share/javascript/chart.js/chart.min.js /usr/share/nodejs/chart.js/dist/chart.min.js))
$(BUILD)/daemon/console/page_files.c: daemon/console/embed.sh $(PAGE_SRC) $(CHART_JS)
	@mkdir -p $(@D)
	$(if $(CHART_JS),,@echo "chart.js is missing (libjs-chart.js): deploy/deps.sh run" >&2; exit 1)
	$(call Q,GEN)daemon/console/embed.sh $@ $(PAGE_SRC) $(CHART_JS)
$(BUILD)/daemon/console/page_files.o: $(BUILD)/daemon/console/page_files.c
	$(call Q,CC)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call Q,CC)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
$(BUILD)/llhttp/%.o: /usr/share/llhttp/%.c
	@mkdir -p $(@D)
	$(call Q,CC)$(CC) $(CPPFLAGS) -O2 -g -std=c11 -w -c -o $@ $<
$(BUILD)/kernels/cpu/%.o: CFLAGS += -fopenmp
LDFLAGS += -fopenmp
define simd_rule
$$(BUILD)/$(1).v%.o: $(1).c
	@mkdir -p $$(@D)
	$$(call Q,CC)$$(CC) $$(CPPFLAGS) $$(CFLAGS) -march=x86-64-v$$* -ffp-contract=fast -DSIMD_LEVEL=$$* -c -o $$@ $$<
endef
$(foreach s,$(SIMD_SRC:.c=),$(eval $(call simd_rule,$(s))))
# ---- the GPU: tests/cuda on any machine, learnd-cuda.so where CUDA=1 asks for it.
CXXFLAGS  = $(filter-out -std=c11,$(CFLAGS)) -std=c++20 -Wno-unknown-pragmas
$(SHIM): $(SHIM_OBJ)
	@mkdir -p $(@D)
	$(call Q,LD)$(CXX) -shared $(LDFLAGS) -o $@ $^ -lm
$(BUILD)/shim/%.o: CFLAGS := $(patsubst -O1,-O2,$(CFLAGS))
$(BUILD)/shim/%.o: %.cu
	@mkdir -p $(@D)
	$(call Q,CXX)$(CXX) -Itests/cuda/shim $(CPPFLAGS) -include tests/cuda/shim_ptx.h $(CXXFLAGS) -fPIC -x c++ -c -o $@ $<
$(BUILD)/shim/%.o: %.c
	@mkdir -p $(@D)
	$(call Q,CC)$(CC) $(CPPFLAGS) $(CFLAGS) -fPIC -c -o $@ $<
ifneq ($(CUDA),)
CUDA_DIR := $(shell deploy/cuda.sh)
$(if $(CUDA_DIR),,$(error CUDA=1 needs a toolkit: see above))
# Code for the A100, the H100 and the B200; PTX of the first and the last for what lies between them and what comes.
CUDA_CODE ?= arch=compute_80,code=[sm_80,compute_80] arch=compute_90a,code=sm_90a arch=compute_100,code=[sm_100,compute_100]
CUDA_OBJ  = $(patsubst kernels/cuda/%,$(BUILD)/cuda/%.o,$(wildcard kernels/cuda/*.cu kernels/cuda/*.c))
$(BUILD)/learnd-cuda.so: $(CUDA_OBJ)
	$(call Q,LD)$(CXX) -shared -o $@ $^ -L$(CUDA_DIR)/lib64 -lcudart_static -lpthread -ldl -lrt -Wl,-z,defs \
	    -Wl,--exclude-libs,ALL -Wl,-rpath,'$$ORIGIN:$(CUDA_DIR)/lib64'
$(BUILD)/cuda/%.cu.o: kernels/cuda/%.cu
	@mkdir -p $(@D)
	$(call Q,NVCC)$(CUDA_DIR)/bin/nvcc -ccbin $(CXX) -std=c++20 -O3 -I. -D_GNU_SOURCE -Werror all-warnings \
	    -Xcompiler -Wall,-Wextra,-Wshadow,-fPIC,-fvisibility=hidden $(addprefix -gencode ,$(CUDA_CODE)) -MMD -MP -MF $@.d -c -o $@ $<
$(BUILD)/cuda/%.c.o: kernels/cuda/%.c
	@mkdir -p $(@D)
	$(call Q,CC)$(CC) $(CPPFLAGS) -isystem $(CUDA_DIR)/include -isystem $(CUDA_DIR)/include/cccl $(CFLAGS) -fPIC -fvisibility=hidden -c -o $@ $<
# cuda_blas.c on the host, with loops behind cuBLASLt's interface.
$(BUILD)/lt/libcublasLt.so.13: tests/cuda/lt/fake_cublaslt.c
	@mkdir -p $(@D)
	$(call Q,CC)$(CC) $(CPPFLAGS) -isystem $(CUDA_DIR)/include -isystem $(CUDA_DIR)/include/cccl $(CFLAGS) -fPIC -shared -Wl,-soname,$(@F) -o $@ $<
$(BUILD)/lt/shim-lt.so: $(filter-out %/shim_blas.o,$(SHIM_OBJ)) $(BUILD)/cuda/cuda_blas.c.o $(BUILD)/lt/libcublasLt.so.13
	$(call Q,LD)$(CXX) -shared $(LDFLAGS) -o $@ $^ -lm -Wl,-rpath,'$$ORIGIN'
endif
# What is not a test itself helps every test; fault_alloc.c stands between our code and malloc.
$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(UNIT_HELP_OBJ) $(BUILD)/libctl.a $(LIBS)
	$(call Q,LD)$(CC) $(LDFLAGS) $(UNIT_WRAP) -o $@ $^ -lcmocka $(LDLIBS)
$(BUILD)/tests/sim/%: $(BUILD)/tests/sim/%.o $(UNIT_HELP_OBJ) $(LIBS)
	$(call Q,LD)$(CC) $(LDFLAGS) $(UNIT_WRAP) -o $@ $^ -lcmocka $(LDLIBS)
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/tests/fuzz/replay_main.o $(LIBS)
	$(call Q,LD)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/tests/ops/ops: $(call obj,$(wildcard tests/ops/*.c)) $(LIBS)
	$(call Q,LD)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(UNIT_BIN): | $(FAKE_DEVICE) $(SHIM)
$(FAKE_DEVICE): $(wildcard tests/device/*.c tests/device/*.h) kernels/backend.h kernels/backend_training.h kernels/backend_loss.h
	@mkdir -p $(@D)
	$(call Q,CC)$(CC) $(filter-out -MMD -MP,$(CPPFLAGS)) $(CFLAGS) -fPIC -shared -o $@ $(filter %.c,$^)
$(GPU_MODEL): $(BUILD)/%: $(BUILD)/%.o $(LIBS)
	$(call Q,LD)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(TRAIN_TOOLS): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/tests/unit/train_fixture.o $(LIBS)
	$(call Q,LD)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o $(BENCH_OBJ) $(LIBS)
	$(call Q,LD)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

clean:
	rm -rf build build-asan build-tsan build-fuzz build-cuda

.PHONY: all run test asan tsan check bench gpu-check gpu-bench fuzz fuzz-build tidy format install deb tests clean
.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

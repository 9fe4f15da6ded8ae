# Two commands on a fresh machine: `make all` and `make test`. Python 3.11, git and make are enough.
PYTHON ?= $(or $(shell command -v python3.11),python3)
VENV := .venv
INSTALLED := $(VENV)/.installed
NPU_LIBRARY := .venv-npu-library
NPU_COMPILER := .npu-compiler
TORCH := $(shell sed -n 's/^\(torch==[^ ]*\).*/\1/p' envs/main.lock)
# PyTorch's CPU wheel index: asked for torch and nothing else, and only if pip's own indexes lack it.
# TORCH_INDEX= (empty) switches it off.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

.PHONY: all status test lint lock slurm storage npu-library npu-compiler directml directml-lock intel-gpu intel-gpu-lock container clean clean-directml clean-intel-gpu verify.pyz

all: $(INSTALLED)
	$(VENV)/bin/snakemake --cores 4 all

# The table of the last run again, and its receipts as JUnit XML: what ci/ shows as tests.
status: $(INSTALLED)
	$(VENV)/bin/phiforge status --junit artifacts/status.xml

# Two workers share one run of the pipeline (tests/conftest.py).
test: $(INSTALLED)
	$(VENV)/bin/python -m pytest --numprocesses 2 --dist loadfile --durations 10

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/snakefmt --check --compact-diff Snakefile rules
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo --no-cache

# --no-deps: the lock is complete, and leaves out torchvision and openvino-telemetry on purpose
# (docs/toolchain.md). pip honours the proxies, CA bundles and indexes of the environment.
FROM_LOCK := $(VENV)/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r
$(INSTALLED): envs/main.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "error: $(PYTHON): expected Python 3.11, found $$($(PYTHON) -V 2>&1 | head -n 1). Remedy: install 3.11 in one of these ways: your distribution's package (apt install python3.11-venv, dnf install python3.11), 'pyenv install 3.11', 'uv python install 3.11', 'conda create -n py311 python=3.11'; then run make $(or $(MAKECMDGOALS),all) PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@sed -n '/^torch==/,/--hash=[^\\]*$$/p' envs/main.lock > $(VENV)/torch.lock
	@if [ -n "$(TORCH_INDEX)" ] && ! $(FROM_LOCK) $(VENV)/torch.lock > /dev/null 2>&1; then \
	  echo "$(TORCH) is on none of pip's indexes: taken from $(TORCH_INDEX)"; \
	  $(FROM_LOCK) $(VENV)/torch.lock --index-url $(TORCH_INDEX) || true; fi
	$(FROM_LOCK) envs/main.lock || { \
	  echo "error: the environment is not complete. If pip found no $(TORCH), which only PyTorch's CPU wheel index has: make $(or $(MAKECMDGOALS),all) TORCH_INDEX=<an index that has it> (docs/toolchain.md, 'Which torch')" >&2; exit 1; }
	$(VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	touch $(INSTALLED)

# One file that verifies a release folder; it needs Python and `cryptography`.
verify.pyz: $(INSTALLED)
	$(VENV)/bin/snakemake --cores 1 artifacts/phiforge-verify.pyz

# Optional: Snakemake with its plugins for profiles/slurm, or for profiles/storage (docs/cluster.md). The main
# environment is read from there and knows nothing of them: a broken plugin would break every Snakemake.
slurm: .venv-slurm/.installed
storage: .venv-storage/.installed

PACKAGES := lib/python3.11/site-packages
.venv-slurm/.installed .venv-storage/.installed: .venv-%/.installed: envs/%.lock $(INSTALLED)
	rm -rf .venv-$*
	$(VENV)/bin/python -m venv --without-pip .venv-$*
	echo "import site; site.addsitedir('$(abspath $(VENV)/$(PACKAGES))')" > .venv-$*/$(PACKAGES)/main.pth
	$(VENV)/bin/python -m pip --python .venv-$*/bin/python install --disable-pip-version-check --no-deps --require-hashes -r $<
	printf '#!/bin/sh\nexec "$$(dirname "$$0")/python" -m snakemake "$$@"\n' > .venv-$*/bin/snakemake
	chmod +x .venv-$*/bin/snakemake
	touch $@

# Optional: the environment of the variants npu-library-* (docs/npu-library.md). Needs cmake and a C++ compiler.
npu-library: $(NPU_LIBRARY)/.installed

$(NPU_LIBRARY)/.installed: envs/npu-library.lock envs/install.py envs/npu_library/build.py envs/npu_library/toolchain.cmake
	$(PYTHON) envs/npu_library/build.py $(NPU_LIBRARY)

# Optional: Intel's NPU compiler, for the variants npu-blob-* (docs/npu-blob.md). Needs wine and mingw-w64.
npu-compiler: $(NPU_COMPILER)/.installed

$(NPU_COMPILER)/.installed: envs/npu-compiler.lock envs/install.py envs/npu_compiler/build.py envs/npu_compiler/npu_compile.c
	$(PYTHON) envs/npu_compiler/build.py $(NPU_COMPILER)

# Optional: Microsoft's DirectML on this CPU, for the row dml-software (docs/without-the-hardware.md). Root, or
# user namespaces; 5 GB. `clean-directml` removes all of it.
directml: .directml/.installed

DEBIAN_TREE := $(addprefix envs/,debian.py enter.sh install.py)
.directml/.installed: envs/directml.lock $(DEBIAN_TREE) $(addprefix envs/directml/,build.py d3d12.c d3d12.spec dxcore.c packages.lock run.sh runner.cpp)
	$(PYTHON) envs/directml/build.py .directml

# The newest packages, and what DirectML makes of each form of each operator on them.
directml-lock: $(INSTALLED)
	$(PYTHON) envs/directml/lock.py
	$(MAKE) directml
	$(VENV)/bin/python benchmarks/directml_sweep/sweep.py

clean-directml:
	rm -rf .directml

# Optional: OpenVINO's GPU plugin on this CPU, for the row gpu-software (docs/without-the-hardware.md). Root, or
# user namespaces; 2 GB. `clean-intel-gpu` removes all of it.
intel-gpu: .intel-gpu/.installed

.intel-gpu/.installed: $(DEBIAN_TREE) $(addprefix envs/intel_gpu/,build.py identity.c layer.c layer.h packages.lock prelude.c prelude.cl watch.c)
	$(PYTHON) envs/intel_gpu/build.py .intel-gpu

intel-gpu-lock:
	$(PYTHON) envs/intel_gpu/lock.py

clean-intel-gpu:
	rm -rf .intel-gpu

# Optional: an image with this commit and the main environment (docs/container.md). Root, mmdebstrap and buildah.
# BUILDAH_OPTIONS is what pip needs to reach its index in there, such as --volume /etc/pip.conf:/etc/pip.conf:ro.
IMAGE ?= phiforge
BASE_PACKAGES := git,make,python3.11-venv
BUILDAH_OPTIONS ?=
container: .container/base.tar
	rm -rf .container/phiforge
	git clone --quiet --depth 1 file://$(CURDIR) .container/phiforge
	git -C .container/phiforge remote remove origin
	buildah build --isolation chroot --layers $(BUILDAH_OPTIONS) --file envs/container/Containerfile --tag $(IMAGE) .container

.container/base.tar:
	mkdir -p .container
	mmdebstrap --variant=minbase --include=$(BASE_PACKAGES) bookworm $(@D)/part.tar
	mv $(@D)/part.tar $@

# What of envs/slurm.lock and envs/storage.lock the main environment has.
IN_MAIN := argparse-dataclass boto3 botocore configargparse humanfriendly jmespath numpy packaging \
  python-dateutil pyyaml s3transfer six snakemake-interface-common snakemake-interface-executor-plugins \
  snakemake-interface-storage-plugins tenacity throttler urllib3 wrapt
# --unsafe-package is pip-tools' option for a package that it resolves but does not write.
lock:
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install pip-tools pyyaml
	$(VENV)-lock/bin/pip-compile --generate-hashes --strip-extras --no-header --resolver=backtracking \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  --unsafe-package torchvision --unsafe-package openvino-telemetry \
	  --output-file envs/main.lock pyproject.toml
	$(VENV)-lock/bin/pip-compile --generate-hashes --strip-extras --no-header --resolver=backtracking \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  --unsafe-package openvino-telemetry --unsafe-package pandas \
	  --unsafe-package python-dateutil --unsafe-package tzdata \
	  --output-file envs/npu-library.lock envs/npu_library/requirements.in
	for plugins in 'slurm snakemake-executor-plugin-slurm==2.8.0' \
	  'storage snakemake-executor-plugin-cluster-generic==1.0.9 snakemake-storage-plugin-s3==0.3.6'; do \
	  set -- $$plugins; lock=$$1; shift; printf '%s\n' "$$@" | \
	  $(VENV)-lock/bin/pip-compile --generate-hashes --strip-extras --no-header --resolver=backtracking \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
	  --constraint envs/main.lock $(patsubst %,--unsafe-package %,$(IN_MAIN)) --output-file envs/$$lock.lock - || exit; \
	done
	$(VENV)-lock/bin/python -m phiforge.settings.device_locks
	rm -r $(VENV)-lock

# What a run makes again goes. Never: versions.json and revocations.json, which say what a version
# means; a stable release, which needs its devices again; and what a courier brought.
KEPT := artifacts/README.md artifacts/inbox artifacts/release
clean:
	rm -rf .snakemake $(filter-out $(KEPT),$(wildcard artifacts/*))
	rm -f artifacts/release/index.html artifacts/release/*/index.html artifacts/release/*/index.json
	@for release in artifacts/release/*/*/; do \
	  if [ -e "$$release/evidence/promotion.dsse.json" ]; then echo "kept: $$release (stable)"; \
	  else rm -rf "$$release"; fi; done

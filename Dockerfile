# The package with FLARE, for a coordinator, a server or a hospital. It holds no data and no weights.
#
#     docker build --tag asyndgan .
#     docker build --tag asyndgan:cuda --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 .
#
# examples/containers/compose.yaml starts a federation of them.
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG BASE

# a CUDA base comes without Python
RUN command -v pip || (apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/asyndgan
ENV PATH=/opt/asyndgan/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# PyTorch as it is on PyPI brings gigabytes of CUDA, which only a CUDA base is for
COPY requirements.txt /src/
RUN case "$BASE" in \
    *cuda*) pip install "$(grep '^torch==' /src/requirements.txt)" ;; \
    *) pip install --index-url https://download.pytorch.org/whl/cpu "$(grep '^torch==' /src/requirements.txt)" ;; \
    esac

COPY pyproject.toml README.md LICENSE /src/
COPY bundle /src/bundle
COPY configs /src/configs
RUN pip install --constraint /src/requirements.txt '/src[federation]'

# volumes take their owner from these folders
RUN useradd --create-home --uid 10001 asyndgan && mkdir /own /post && chown asyndgan /own /post
USER asyndgan
WORKDIR /own
CMD ["asyndgan", "--help"]

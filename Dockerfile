# Three images from one source: `server` is small and has no torch; `worker` is built on the vLLM image, whose torch and
# CUDA it keeps; `worker-cpu` has the CPU's torch alone. All run as user 10001.
#
#   docker compose --profile gpu --profile cpu build

ARG PYTHON_IMAGE=python:3.12-slim
ARG VLLM_IMAGE=vllm/vllm-openai:v0.33.0

# --- the source, where Python is the image's ------------------------------------------------------
FROM ${PYTHON_IMAGE} AS source
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --uid 10001 --create-home natlab \
 && install -d -o natlab -g natlab -m 0750 /var/lib/natlab /var/cache/huggingface
ENV NATLAB_HOME=/var/lib/natlab HF_HOME=/var/cache/huggingface
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY scripts/with-redis-password.sh scripts/
COPY nat_core nat_core
COPY server server
COPY worker worker
COPY web web
COPY client client
ENTRYPOINT ["/app/scripts/with-redis-password.sh"]

# --- server ---------------------------------------------------------------------------------------
FROM source AS server
RUN pip install -c constraints.txt ".[server]"
USER 10001:10001
EXPOSE 8300
CMD ["python3", "-P", "-m", "server"]

# --- worker on a box without GPUs -----------------------------------------------------------------
FROM source AS worker-cpu
# Where torch has a build without CUDA, which is a tenth of the size.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --extra-index-url "$TORCH_INDEX" "$(grep '^torch==' constraints.txt)" \
 && pip install -c constraints.txt ".[trainer,worker]"
USER 10001:10001
CMD ["python3", "-P", "-m", "worker"]

# --- worker on the vLLM image ---------------------------------------------------------------------
FROM ${VLLM_IMAGE} AS worker
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_BREAK_SYSTEM_PACKAGES=1
USER root
RUN useradd --uid 10001 --create-home natlab \
 && install -d -o natlab -g natlab -m 0750 /var/lib/natlab /var/cache/huggingface
ENV NATLAB_HOME=/var/lib/natlab HF_HOME=/var/cache/huggingface
WORKDIR /app
COPY --from=source /app ./
# The image's own versions are the constraint: its kernels are built for them.
RUN python3 -m pip freeze | grep -E '^[A-Za-z0-9._-]+==' > /tmp/image.txt \
 && python3 -m pip install -c /tmp/image.txt ".[trainer,worker]" \
 && rm /tmp/image.txt
USER 10001:10001
ENTRYPOINT ["/app/scripts/with-redis-password.sh"]
CMD ["python3", "-P", "-m", "worker"]

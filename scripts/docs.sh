#!/usr/bin/env bash
# Builds the documentation as a static site: scripts/docs.sh [FOLDER], build/site unless given. A warning is an error.
# Sphinx has an environment of its own (NATLAB_DOCS_VENV, .venv-docs unless set), made when it is needed first.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${NATLAB_DOCS_VENV:-.venv-docs}
site=${1:-build/site}
read_extra='import sys, tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")'

# The newest Python that is at hand: the one of .venv was looked for already.
python=python3
if [ -x .venv/bin/python ]; then python=.venv/bin/python; fi
wanted=$("$python" -c "$read_extra")
if [ "$(cat "$venv/natlab-stamp" 2>/dev/null || true)" != "$wanted" ]; then
  echo "docs: making $venv"
  "$python" -m venv --clear "$venv"
  echo "$wanted" | "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --quiet -c constraints.txt -r /dev/stdin
  printf '%s\n' "$wanted" >"$venv/natlab-stamp"
fi
"$venv/bin/sphinx-build" --builder html --fail-on-warning --keep-going --quiet --fresh-env docs "$site"
rm -rf "$site/.doctrees" "$site/.buildinfo"
echo "docs: $site/index.html"
